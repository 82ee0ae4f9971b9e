#include "load/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_CONNECT = 1, REQUEST_SEND, REQUEST_RECEIVE };
#define TAG(client, request) ((uint64_t)(uintptr_t)(client) | (request))
#define MESSAGE_SIZE_MAX ((size_t)256 << 20)

uint64_t load_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static _Noreturn void die(const char *what, int code)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(code));
    exit(1);
}

static struct io_uring_sqe *request(struct load *load)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&load->ring);

    if (sqe == NULL) {
        io_uring_submit(&load->ring);
        sqe = io_uring_get_sqe(&load->ring);
    }
    return sqe;
}

static void give_buffer(struct load *load, uint16_t id)
{
    io_uring_buf_ring_add(load->buffers, load->buffer_memory + (size_t)id * load->buffer_size,
                          load->buffer_size, id, io_uring_buf_ring_mask(load->buffer_count), 0);
    io_uring_buf_ring_advance(load->buffers, 1);
}

void load_open(struct load *load, const char *host, uint16_t port)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                     .cq_entries = 65536};
    struct rlimit files;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int code = io_uring_queue_init_params(4096, &load->ring, &params);
    if (code < 0)
        die("io_uring", -code);
    io_uring_register_ring_fd(&load->ring);

    if (load->buffer_size == 0) {
        load->buffer_size = LOAD_BUFFER_SIZE;
        load->buffer_count = LOAD_BUFFER_COUNT;
    }
    const size_t ring_size = load->buffer_count * sizeof(struct io_uring_buf);
    load->buffers = aligned_alloc(4096, tp_max(ring_size, 4096));
    load->buffer_memory = aligned_alloc(4096, (size_t)load->buffer_count * load->buffer_size);
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)load->buffers,
                                            .ring_entries = load->buffer_count};
    io_uring_buf_ring_init(load->buffers);
    code = io_uring_register_buf_ring(&load->ring, &registration, 0);
    if (code < 0)
        die("buffer ring", -code);
    for (uint32_t id = 0; id < load->buffer_count; id++)
        give_buffer(load, (uint16_t)id);
    tp_link_init(&load->dirty);

    load->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &load->address.sin_addr) != 1)
        die(host, EINVAL);
    for (uint32_t i = 0; i < load->client_count; i++) {
        struct load_client *client = &load->clients[i];
        *client = (struct load_client){.load = load, .fd = -1, .index = i, .document_count = 1};
        tp_link_init(&client->dirty);
        client->in = tp_buffer_growing(MESSAGE_SIZE_MAX);
        client->out[0] = client->out[1] = client->unsaid = tp_buffer_growing(MESSAGE_SIZE_MAX);
    }
}

void load_close(struct load *load)
{
    for (uint32_t i = 0; i < load->client_count; i++) {
        struct load_client *client = &load->clients[i];
        if (client->fd >= 0)
            close(client->fd);
        tp_buffer_finish(&client->in);
        tp_buffer_finish(&client->out[0]);
        tp_buffer_finish(&client->out[1]);
        tp_buffer_finish(&client->unsaid);
        tp_tls_destroy(client->tls);
        free(client->received);
        free(client->promises);
    }
    while (load->references != NULL) {
        struct load_reference *reference = load->references;
        load->references = reference->next;
        free((void *)(uintptr_t)reference->payload.data);
        free(reference);
    }
    io_uring_queue_exit(&load->ring);
    tp_tls_context_destroy(load->tls);
    free(load->buffers);
    free(load->buffer_memory);
}

static void make_dirty(struct load_client *client)
{
    if (tp_link_alone(&client->dirty))
        tp_link_insert(&client->load->dirty, &client->dirty);
}

void load_connect(struct load_client *client)
{
    struct load *load = client->load;
    const int on = 1;

    TP_ASSERT(client->fd < 0);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        die("socket", errno);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (load->source_count > 1) { /* more connections than one address has ports */
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + client->index % load->source_count);
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(client->fd, (struct sockaddr *)&source, sizeof source) != 0)
            die("bind", errno);
    }
    client->phase = LOAD_CONNECTING;
    client->started_ns = load_clock_ns();
    client->in.size = client->out[0].size = client->out[1].size = client->out_sent = 0;
    client->unsaid.size = 0;
    tp_tls_destroy(client->tls);
    client->tls = NULL;
    client->matching = client->matched = NULL;
    client->synced_count = 0;
    client->promise_first = client->promise_end = 0;
    struct io_uring_sqe *sqe = request(load);
    io_uring_prep_connect(sqe, client->fd, (struct sockaddr *)&load->address, sizeof load->address);
    io_uring_sqe_set_data64(sqe, TAG(client, REQUEST_CONNECT));
}

static void receive(struct load_client *client)
{
    struct io_uring_sqe *sqe;

    if (client->receiving || client->stuck || client->phase == LOAD_CLOSED)
        return;
    client->receiving = true;
    sqe = request(client->load);
    io_uring_prep_recv_multishot(sqe, client->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    io_uring_sqe_set_data64(sqe, TAG(client, REQUEST_RECEIVE));
}

void load_stall(struct load_client *client)
{
    client->stuck = true;
    if (!client->receiving)
        return;
    struct io_uring_sqe *sqe = request(client->load);
    io_uring_prep_cancel64(sqe, TAG(client, REQUEST_RECEIVE), 0);
    io_uring_sqe_set_data64(sqe, 0);
}

void load_resume(struct load_client *client)
{
    client->stuck = false;
    receive(client);
}

/* ---- TLS, if asked for ---- */

static void seal(void *user, struct tp_slice bytes)
{
    struct load_client *client = user;

    tp_buffer_append(&client->out[client->filling], bytes.data, bytes.size);
    make_dirty(client);
}

/* Where plain bytes wait until the next flush. */
static struct tp_buffer *outgoing(struct load_client *client)
{
    return client->tls != NULL ? &client->unsaid : &client->out[client->filling];
}

static void encrypt(struct load_client *client)
{
    if (client->tls == NULL || client->unsaid.size == 0 || !tp_tls_is_open(client->tls))
        return;
    const struct tp_slice bytes = tp_buffer_slice(&client->unsaid);
    if (tp_tls_write(client->tls, bytes) != TP_OK)
        shutdown(client->fd, SHUT_RDWR);
    client->unsaid.size = 0;
}

static void flush(struct load_client *client)
{
    struct io_uring_sqe *sqe;

    encrypt(client);
    struct tp_buffer *out = &client->out[client->filling];
    if (client->sending || out->size == 0 || client->phase == LOAD_CLOSED)
        return;
    client->sending = true;
    client->filling ^= 1;
    client->out_sent = 0;
    sqe = request(client->load);
    io_uring_prep_send(sqe, client->fd, out->data, out->size, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, TAG(client, REQUEST_SEND));
}

static void send_frame(struct load_client *client, uint8_t opcode, struct tp_slice message)
{
    struct tp_buffer *out = outgoing(client);
    uint8_t head[14] = {0x80 | opcode};
    size_t size = 2;

    if (message.size < 126) {
        head[1] = 0x80 | (uint8_t)message.size;
    } else if (message.size < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(message.size >> 8);
        head[3] = (uint8_t)message.size;
        size = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)message.size >> (56 - 8 * i));
        size = 10;
    }
    tp_buffer_append(out, head, size + 4); /* the mask is zero */
    tp_buffer_append(out, message.data, message.size);
    make_dirty(client);
}

void load_send(struct load_client *client, struct tp_slice message)
{
    send_frame(client, 2, message);
}

/* A descriptor is closed when no request uses it any more. */
static void let_go(struct load_client *client)
{
    if (client->phase != LOAD_CLOSED || client->receiving || client->sending || client->fd < 0)
        return;
    close(client->fd);
    client->fd = -1;
}

static void closed(struct load_client *client, const char *why)
{
    struct load *load = client->load;

    if (client->phase == LOAD_CLOSED)
        return;
    if (client->phase >= LOAD_OPEN)
        load->open_count--;
    client->phase = LOAD_CLOSED;
    make_dirty(client);
    if (load->workload->closed != NULL)
        load->workload->closed(client, why);
}

void load_disconnect(struct load_client *client)
{
    if (client->fd < 0)
        return;
    shutdown(client->fd, SHUT_RDWR);
    closed(client, NULL);
}

static bool tls_read(struct load_client *client, struct tp_slice bytes);

static void connected(struct load_client *client)
{
    struct load *load = client->load;
    char request_text[512], name[64];
    const struct tp_slice document = load->document_name(client->document, name);
    const int size = snprintf(request_text, sizeof request_text,
                              "GET %s%.*s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                              load->path, load->dialect == LOAD_YWEBSOCKET ? (int)document.size : 0,
                              (const char *)document.data);

    client->phase = LOAD_UPGRADING;
    if (load->tls != NULL) {
        client->tls = tp_tls_create_client(load->tls, NULL, seal, client);
        TP_ASSERT(client->tls != NULL && tls_read(client, (struct tp_slice){0}));
    }
    tp_buffer_append(outgoing(client), request_text, (size_t)size);
    make_dirty(client);
    receive(client);
}

/* ---- large messages that are known ---- */

void load_remember(struct load *load, struct tp_slice payload, uint64_t from, uint64_t to)
{
    struct load_reference *reference = calloc(1, sizeof *reference);
    uint8_t *copy = malloc(payload.size);

    TP_ASSERT(reference != NULL && copy != NULL);
    memcpy(copy, payload.data, payload.size);
    *reference = (struct load_reference){tp_slice_of(copy, payload.size), from, to, NULL};
    if (load->last_reference != NULL)
        load->last_reference->next = reference;
    else
        load->references = reference;
    load->last_reference = reference;
}

const struct load_reference *load_reference_of(const struct load *load, struct tp_slice payload)
{
    for (const struct load_reference *at = load->references; at != NULL; at = at->next)
        if (at->payload.data == payload.data)
            return at;
    return NULL;
}

/* A reference of that size that begins with these bytes. They mostly come in the order in which
 * they were remembered. */
static const struct load_reference *find_reference(const struct load_client *client, size_t size,
                                                   struct tp_slice start)
{
    const struct load_reference *first =
        client->matched != NULL ? client->matched->next : client->load->references;

    for (int round = 0; round < 2; round++, first = client->load->references)
        for (const struct load_reference *at = first; at != NULL; at = at->next)
            if (at->payload.size == size && memcmp(at->payload.data, start.data, start.size) == 0)
                return at;
    return NULL;
}

static size_t frame_head(uint8_t opcode, size_t size, uint8_t out[10])
{
    out[0] = 0x80 | opcode;
    out[1] = 127;
    for (int i = 0; i < 8; i++)
        out[2 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
    return 10;
}

/* More of a message that was as known so far. Returns how many bytes it took. */
static size_t match_more(struct load_client *client, struct tp_slice bytes)
{
    const struct tp_slice known = client->matching->payload;
    const size_t size = tp_min(bytes.size, known.size - client->matched_size);
    uint8_t head[10];

    if (memcmp(known.data + client->matched_size, bytes.data, size) != 0) {
        /* It is another one: from here on it is gathered like any message. */
        tp_buffer_append(&client->in, head, frame_head(client->matched_opcode, known.size, head));
        tp_buffer_append(&client->in, known.data, client->matched_size);
        client->matching = NULL;
        return 0;
    }
    client->matched_size += size;
    if (client->matched_size == known.size) {
        client->matched = client->matching;
        client->matching = NULL;
        client->received_bytes += known.size;
        client->load->workload->message(client, known, client->matched_opcode);
    }
    return size;
}

/* ---- what comes ---- */

/* Takes whole frames off the front of `bytes`; returns how many bytes they were. */
static size_t take_frames(struct load_client *client, struct tp_slice bytes)
{
    size_t at = 0;

    while (bytes.size - at >= 2 && client->phase != LOAD_CLOSED) {
        const uint8_t *head = bytes.data + at;
        uint64_t size = head[1] & 0x7f;
        size_t head_size = 2;
        if (size == 126) {
            head_size = 4;
            if (bytes.size - at < head_size)
                break;
            size = (uint64_t)head[2] << 8 | head[3];
        } else if (size == 127) {
            head_size = 10;
            if (bytes.size - at < head_size)
                break;
            size = 0;
            for (int i = 2; i < 10; i++)
                size = size << 8 | head[i];
        }
        const size_t here = bytes.size - at - head_size;
        if (size >= LOAD_BIG_SIZE && here >= 64) {
            const struct tp_slice start = tp_slice_of(head + head_size, (size_t)tp_min(here, size));
            client->matching = find_reference(client, (size_t)size, start);
            if (client->matching != NULL) {
                client->matched_size = 0;
                client->matched_opcode = head[0] & 0x0f;
                at += head_size + match_more(client, start);
                continue;
            }
        }
        if (here < size)
            break;
        const struct tp_slice payload = tp_slice_of(head + head_size, (size_t)size);
        client->received_bytes += size;
        if ((head[0] & 0x0f) == 9)
            send_frame(client, 10, payload); /* or the server thinks that nobody is there */
        else
            client->load->workload->message(client, payload, head[0] & 0x0f);
        at += head_size + size;
    }
    return at;
}

static bool take_upgrade(struct load_client *client, struct tp_slice *bytes)
{
    static char why[64];
    const uint8_t *end = memmem(bytes->data, bytes->size, "\r\n\r\n", 4);

    if (end == NULL)
        return false;
    if (bytes->size < 12 || memcmp(bytes->data + 9, "101", 3) != 0) {
        snprintf(why, sizeof why, "the server refused a connection: %.3s", bytes->data + 9);
        shutdown(client->fd, SHUT_RDWR);
        closed(client, why);
        return false;
    }
    *bytes = tp_slice_of(end + 4, (size_t)(bytes->data + bytes->size - end - 4));
    client->phase = LOAD_OPEN;
    client->load->open_count++;
    client->load->workload->opened(client);
    return true;
}

static void bytes_came(struct load_client *client, struct tp_slice bytes)
{
    if (client->phase == LOAD_CLOSED)
        return;
    while (client->matching != NULL && bytes.size > 0) {
        const size_t took = match_more(client, bytes);
        bytes = tp_slice_of(bytes.data + took, bytes.size - took);
    }
    if (bytes.size == 0)
        return;
    const bool gathered = client->in.size > 0 || client->phase == LOAD_UPGRADING;
    if (gathered) {
        tp_buffer_append(&client->in, bytes.data, bytes.size);
        bytes = tp_buffer_slice(&client->in);
        TP_ASSERT(!client->in.full);
    }
    if (client->phase == LOAD_UPGRADING && !take_upgrade(client, &bytes))
        return;
    const size_t used = take_frames(client, bytes);
    const size_t left = bytes.size - used;
    if (gathered) {
        memmove(client->in.data, bytes.data + used, left);
        client->in.size = left;
        if (left == 0 && client->in.capacity > ((size_t)1 << 18)) {
            tp_buffer_finish(&client->in);
            client->in = tp_buffer_growing(MESSAGE_SIZE_MAX);
        }
    } else if (left > 0) {
        tp_buffer_append(&client->in, bytes.data + used, left);
    }
}

/* False: the connection is over. */
static bool tls_read(struct load_client *client, struct tp_slice bytes)
{
    uint8_t plain[TP_TLS_RECORD_SIZE_MAX];
    enum tp_status status;
    size_t size;

    tp_tls_feed(client->tls, bytes);
    while ((status = tp_tls_read(client->tls, plain, sizeof plain, &size)) == TP_OK)
        bytes_came(client, tp_slice_of(plain, size));
    make_dirty(client); /* the handshake may have come to its end */
    return status == TP_MORE;
}

static void received(struct load *load, struct load_client *client, struct io_uring_cqe *cqe)
{
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        client->receiving = false;
    if (cqe->res > 0) {
        const uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        const struct tp_slice bytes =
            tp_slice_of(load->buffer_memory + (size_t)id * load->buffer_size, (size_t)cqe->res);
        if (client->tls == NULL)
            bytes_came(client, bytes);
        else if (!tls_read(client, bytes))
            closed(client, "the server ended a connection, or TLS with it");
        give_buffer(load, id);
    } else if (cqe->res != -ENOBUFS && cqe->res != -ECANCELED) { /* canceled: load_stall */
        closed(client, "the server closed a connection");
    }
    receive(client);
}

static void sent(struct load *load, struct load_client *client, int result)
{
    struct tp_buffer *out = &client->out[client->filling ^ 1];

    client->sending = false;
    if (result < 0 || client->phase == LOAD_CLOSED) {
        closed(client, "the server closed a connection");
        return;
    }
    client->out_sent += (size_t)result;
    if (client->out_sent < out->size) {
        struct io_uring_sqe *sqe = request(load);
        io_uring_prep_send(sqe, client->fd, out->data + client->out_sent,
                           out->size - client->out_sent, MSG_NOSIGNAL);
        io_uring_sqe_set_data64(sqe, TAG(client, REQUEST_SEND));
        client->sending = true;
        return;
    }
    out->size = 0;
    flush(client);
}

static void completed(struct load *load, struct io_uring_cqe *cqe)
{
    struct load_client *client = (struct load_client *)(uintptr_t)(cqe->user_data & ~UINT64_C(7));

    switch (cqe->user_data & 7) {
    case REQUEST_CONNECT:
        if (cqe->res < 0)
            closed(client, "connect failed");
        else if (client->phase == LOAD_CONNECTING)
            connected(client);
        break;
    case REQUEST_SEND:
        sent(load, client, cqe->res);
        break;
    case REQUEST_RECEIVE:
        received(load, client, cqe);
        break;
    default: /* the answer to a cancellation */
        return;
    }
    if (client->phase == LOAD_CLOSED)
        let_go(client);
}

void load_turn(struct load *load, uint64_t wait_ns)
{
    struct __kernel_timespec time = {(long long)(wait_ns / 1000000000),
                                     (long long)(wait_ns % 1000000000)};
    struct io_uring_cqe *cqe;
    struct tp_link *link;
    unsigned head, count = 0;

    while ((link = tp_list_pop(&load->dirty)) != NULL) {
        struct load_client *client = TP_CONTAINER(link, struct load_client, dirty);
        let_go(client);
        flush(client);
    }
    io_uring_submit_and_wait_timeout(&load->ring, &cqe, wait_ns == 0 ? 0 : 1, &time, NULL);
    io_uring_get_events(&load->ring);
    io_uring_for_each_cqe(&load->ring, head, cqe)
    {
        if (count++ % 64 == 0) /* a turn may be long: latencies are of now, not of its start */
            load->now_ns = load_clock_ns();
        completed(load, cqe);
    }
    io_uring_cq_advance(&load->ring, count);
    load->now_ns = load_clock_ns();
}
