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
    io_uring_buf_ring_add(load->buffers, load->buffer_memory + (size_t)id * LOAD_BUFFER_SIZE,
                          LOAD_BUFFER_SIZE, id, io_uring_buf_ring_mask(LOAD_BUFFER_COUNT), 0);
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

    const size_t ring_size = LOAD_BUFFER_COUNT * sizeof(struct io_uring_buf);
    load->buffers = aligned_alloc(4096, ring_size);
    load->buffer_memory = aligned_alloc(4096, (size_t)LOAD_BUFFER_COUNT * LOAD_BUFFER_SIZE);
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)load->buffers,
                                            .ring_entries = LOAD_BUFFER_COUNT};
    io_uring_buf_ring_init(load->buffers);
    code = io_uring_register_buf_ring(&load->ring, &registration, 0);
    if (code < 0)
        die("buffer ring", -code);
    for (uint32_t id = 0; id < LOAD_BUFFER_COUNT; id++)
        give_buffer(load, (uint16_t)id);

    load->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &load->address.sin_addr) != 1)
        die(host, EINVAL);
    for (uint32_t i = 0; i < load->client_count; i++) {
        struct load_client *client = &load->clients[i];
        *client = (struct load_client){.load = load, .fd = -1, .index = i};
        client->in = tp_buffer_growing(MESSAGE_SIZE_MAX);
        client->out[0] = client->out[1] = tp_buffer_growing(MESSAGE_SIZE_MAX);
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
    }
    io_uring_queue_exit(&load->ring);
    free(load->buffers);
    free(load->buffer_memory);
}

void load_connect(struct load_client *client)
{
    struct load *load = client->load;
    const int on = 1;

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

void load_resume(struct load_client *client)
{
    client->stuck = false;
    receive(client);
}

static void flush(struct load_client *client)
{
    struct tp_buffer *out = &client->out[client->filling];
    struct io_uring_sqe *sqe;

    if (client->sending || out->size == 0 || client->phase == LOAD_CLOSED)
        return;
    client->sending = true;
    client->filling ^= 1;
    client->out_sent = 0;
    sqe = request(client->load);
    io_uring_prep_send(sqe, client->fd, out->data, out->size, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, TAG(client, REQUEST_SEND));
}

void load_send(struct load_client *client, struct tp_slice message)
{
    struct tp_buffer *out = &client->out[client->filling];
    uint8_t head[14] = {0x82};
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
    flush(client);
}

static void closed(struct load_client *client)
{
    struct load *load = client->load;

    if (client->phase == LOAD_CLOSED)
        return;
    if (client->phase >= LOAD_OPEN)
        load->open_count--;
    client->phase = LOAD_CLOSED;
    if (load->workload->closed != NULL)
        load->workload->closed(client);
}

void load_disconnect(struct load_client *client)
{
    if (client->fd < 0)
        return;
    shutdown(client->fd, SHUT_RDWR);
    closed(client);
}

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
    tp_buffer_append(&client->out[client->filling], request_text, (size_t)size);
    flush(client);
    receive(client);
}

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
        if (bytes.size - at - head_size < size)
            break;
        client->received_bytes += size;
        client->load->workload->message(client, tp_slice_of(head + head_size, size),
                                        head[0] & 0x0f);
        at += head_size + size;
    }
    return at;
}

static void bytes_came(struct load_client *client, struct tp_slice bytes)
{
    if (client->in.size > 0 || client->phase == LOAD_UPGRADING) {
        tp_buffer_append(&client->in, bytes.data, bytes.size);
        bytes = tp_buffer_slice(&client->in);
    }
    size_t used = 0;
    if (client->phase == LOAD_UPGRADING) {
        const uint8_t *end = memmem(bytes.data, bytes.size, "\r\n\r\n", 4);
        if (end == NULL)
            return;
        if (bytes.size < 12 || memcmp(bytes.data + 9, "101", 3) != 0) {
            load_disconnect(client);
            return;
        }
        used = (size_t)(end + 4 - bytes.data);
        client->phase = LOAD_OPEN;
        client->load->open_count++;
        client->load->workload->opened(client);
    }
    used += take_frames(client, tp_slice_of(bytes.data + used, bytes.size - used));
    const size_t left = bytes.size - used;
    if (bytes.data == client->in.data) {
        memmove(client->in.data, client->in.data + used, left);
        client->in.size = left;
        if (left == 0 && client->in.capacity > ((size_t)1 << 20)) {
            tp_buffer_finish(&client->in);
            client->in = tp_buffer_growing(MESSAGE_SIZE_MAX);
        }
    } else if (left > 0) {
        tp_buffer_append(&client->in, bytes.data + used, left);
    }
}

static void completed(struct load *load, struct io_uring_cqe *cqe)
{
    struct load_client *client = (struct load_client *)(uintptr_t)(cqe->user_data & ~UINT64_C(7));

    switch (cqe->user_data & 7) {
    case REQUEST_CONNECT:
        if (cqe->res < 0) {
            fprintf(stderr, "load: connect: %s\n", strerror(-cqe->res));
            closed(client);
        } else {
            connected(client);
        }
        break;
    case REQUEST_SEND: {
        struct tp_buffer *out = &client->out[client->filling ^ 1];
        if (cqe->res < 0) {
            client->sending = false;
            closed(client);
            break;
        }
        client->out_sent += (size_t)cqe->res;
        if (client->out_sent < out->size) {
            struct io_uring_sqe *sqe = request(load);
            io_uring_prep_send(sqe, client->fd, out->data + client->out_sent,
                               out->size - client->out_sent, MSG_NOSIGNAL);
            io_uring_sqe_set_data64(sqe, TAG(client, REQUEST_SEND));
            break;
        }
        out->size = 0;
        client->sending = false;
        flush(client);
        break;
    }
    case REQUEST_RECEIVE:
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            client->receiving = false;
        if (cqe->res > 0) {
            const uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
            bytes_came(client, tp_slice_of(load->buffer_memory + (size_t)id * LOAD_BUFFER_SIZE,
                                           (size_t)cqe->res));
            give_buffer(load, id);
        } else if (cqe->res == 0 || cqe->res != -ENOBUFS) {
            closed(client);
            break;
        }
        receive(client);
        break;
    }
}

void load_turn(struct load *load, uint64_t wait_ns)
{
    struct __kernel_timespec time = {(long long)(wait_ns / 1000000000),
                                     (long long)(wait_ns % 1000000000)};
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_submit_and_wait_timeout(&load->ring, &cqe, wait_ns == 0 ? 0 : 1, &time, NULL);
    io_uring_get_events(&load->ring);
    load->now_ns = load_clock_ns();
    io_uring_for_each_cqe(&load->ring, head, cqe)
    {
        completed(load, cqe);
        count++;
    }
    io_uring_cq_advance(&load->ring, count);
}
