/* bench/load/floor.c - the floor: what the kernel alone charges for receiving and sending these
 * bytes.
 *
 *     floor PORT [BYTES]
 *
 * A bare io_uring program that takes WebSocket upgrades, answers a sync step 1 with an empty step
 * 2, and passes every other message on to all other connections of the same path, unread: no
 * document, no check, no disk. With BYTES, that step 2 holds as many, sent from where they lie: a
 * bare transfer to hold the opening of large documents against. One thread, multishot receive, one
 * send per connection and turn. It trusts its clients (zero masks, whole frames at buffer starts)
 * and is good for nothing else. */
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/list.h"
#include "wire/writer.h"

#define CONNECTION_COUNT_MAX 20000
#define BUFFER_SIZE 4096u
#define BUFFER_COUNT 1024u

enum { ACCEPT = 1, RECEIVE, SEND };

struct room {
    struct tp_link members, link;
    char path[128];
};

struct connection {
    struct tp_link in_room, dirty;
    struct room *room; /* NULL: not upgraded yet */
    int fd;
    bool sending, closed, answering; /* answering: what is being sent is of the answer */
    size_t answer_left;
    struct tp_buffer in, out[2];
    uint32_t filling;
    size_t sent;
};

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static uint8_t *memory;
static struct tp_link rooms = {&rooms, &rooms}, dirty = {&dirty, &dirty};
static int listener;
static struct tp_buffer answer; /* one frame: step 2 */

static struct io_uring_sqe *request(void *pointer, unsigned kind)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

    if (sqe == NULL) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    sqe->user_data = (uint64_t)(uintptr_t)pointer | kind;
    return sqe;
}

static void give(uint16_t id)
{
    io_uring_buf_ring_add(buffers, memory + (size_t)id * BUFFER_SIZE, BUFFER_SIZE, id,
                          io_uring_buf_ring_mask(BUFFER_COUNT), 0);
    io_uring_buf_ring_advance(buffers, 1);
}

static void accept_more(void)
{
    struct io_uring_sqe *sqe = request(NULL, ACCEPT);
    const uint64_t tag = sqe->user_data;

    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, 0);
    sqe->user_data = tag;
}

static void receive(struct connection *connection)
{
    struct io_uring_sqe *sqe = request(connection, RECEIVE);
    const uint64_t tag = sqe->user_data;

    io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->user_data = tag;
}

static void queue(struct connection *connection, const void *bytes, size_t size)
{
    tp_buffer_append(&connection->out[connection->filling], bytes, size);
    if (tp_link_alone(&connection->dirty))
        tp_link_insert(&dirty, &connection->dirty);
}

static void flush(struct connection *connection)
{
    struct tp_buffer *out = &connection->out[connection->filling];

    if (connection->sending || connection->closed)
        return;
    if (out->size == 0 && connection->answer_left > 0) {
        struct io_uring_sqe *sqe = request(connection, SEND);
        const uint64_t tag = sqe->user_data;
        connection->sending = connection->answering = true;
        io_uring_prep_send(sqe, connection->fd, answer.data + answer.size - connection->answer_left,
                           connection->answer_left, MSG_NOSIGNAL);
        sqe->user_data = tag;
        return;
    }
    if (out->size == 0)
        return;
    connection->sending = true;
    connection->filling ^= 1;
    connection->sent = 0;
    struct io_uring_sqe *sqe = request(connection, SEND);
    const uint64_t tag = sqe->user_data;
    io_uring_prep_send(sqe, connection->fd, out->data, out->size, MSG_NOSIGNAL);
    sqe->user_data = tag;
}

static void upgrade(struct connection *connection)
{
    static const char welcome[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\n"
                                  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char path[128] = "";

    if (sscanf((const char *)connection->in.data, "GET %127s", path) != 1)
        path[0] = 0;
    TP_LIST_EACH(link, &rooms)
    {
        struct room *room = TP_CONTAINER(link, struct room, link);
        if (strcmp(room->path, path) == 0)
            connection->room = room;
    }
    if (connection->room == NULL) {
        connection->room = calloc(1, sizeof *connection->room);
        tp_link_init(&connection->room->members);
        tp_link_insert(&rooms, &connection->room->link);
        memcpy(connection->room->path, path, sizeof path);
    }
    tp_link_insert(&connection->room->members, &connection->in_room);
    queue(connection, welcome, sizeof welcome - 1);
}

/* One whole frame with a zero mask. */
static void frame(struct connection *connection, const uint8_t *payload, size_t size)
{
    static const uint8_t empty_step_2[] = {0x82, 5, 0, 1, 2, 0, 0};
    uint8_t head[4] = {0x82, (uint8_t)size};
    size_t head_size = 2;

    if (size >= 2 && payload[0] == 0 && payload[1] == 0 && answer.size > 0) {
        connection->answer_left = answer.size;
        queue(connection, NULL, 0);
        return;
    }
    if (size >= 2 && payload[0] == 0 && payload[1] == 0) {
        queue(connection, empty_step_2, sizeof empty_step_2);
        return;
    }
    if (size >= 126) {
        head[1] = 126;
        head[2] = (uint8_t)(size >> 8);
        head[3] = (uint8_t)size;
        head_size = 4;
    }
    TP_LIST_EACH(link, &connection->room->members)
    {
        struct connection *other = TP_CONTAINER(link, struct connection, in_room);
        if (other == connection)
            continue;
        queue(other, head, head_size);
        queue(other, payload, size);
    }
}

static void came(struct connection *connection, const uint8_t *bytes, size_t size)
{
    struct tp_buffer *in = &connection->in;
    size_t at = 0;

    tp_buffer_append(in, bytes, size);
    if (connection->room == NULL) {
        const uint8_t *end = memmem(in->data, in->size, "\r\n\r\n", 4);
        if (end == NULL)
            return;
        at = (size_t)(end + 4 - in->data);
        upgrade(connection);
    }
    while (in->size - at >= 6) {
        size_t payload = in->data[at + 1] & 0x7f, head = 6;
        if (payload == 126) {
            payload = (size_t)in->data[at + 2] << 8 | in->data[at + 3];
            head = 8;
        }
        if (in->size - at < head + payload)
            break;
        frame(connection, in->data + at + head, payload);
        at += head + payload;
    }
    memmove(in->data, in->data + at, in->size - at);
    in->size -= at;
}

static void end(struct connection *connection)
{
    if (connection->closed)
        return;
    connection->closed = true;
    tp_link_remove(&connection->in_room);
    close(connection->fd);
}

static void completed(const struct io_uring_cqe *cqe)
{
    struct connection *connection = (struct connection *)(uintptr_t)(cqe->user_data & ~UINT64_C(7));
    const int on = 1;

    switch (cqe->user_data & 7) {
    case ACCEPT:
        if (cqe->res >= 0) {
            connection = calloc(1, sizeof *connection);
            tp_link_init(&connection->in_room);
            tp_link_init(&connection->dirty);
            connection->fd = cqe->res;
            connection->in = connection->out[0] = connection->out[1] =
                tp_buffer_growing((size_t)1 << 26);
            setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            receive(connection);
        }
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            accept_more();
        break;
    case RECEIVE:
        if (cqe->res > 0) {
            const uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
            came(connection, memory + (size_t)id * BUFFER_SIZE, (size_t)cqe->res);
            give(id);
        } else if (cqe->res != -ENOBUFS) {
            end(connection);
            break;
        }
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            receive(connection);
        break;
    case SEND: {
        struct tp_buffer *out = &connection->out[connection->filling ^ 1];
        connection->sending = false;
        if (cqe->res < 0)
            break;
        if (connection->answering) {
            connection->answering = false;
            connection->answer_left -= (size_t)cqe->res;
            if (tp_link_alone(&connection->dirty))
                tp_link_insert(&dirty, &connection->dirty);
            break;
        }
        if ((size_t)cqe->res < out->size) { /* keep what is left in front of what came meanwhile */
            struct tp_buffer *next = &connection->out[connection->filling];
            memmove(out->data, out->data + cqe->res, out->size - (size_t)cqe->res);
            out->size -= (size_t)cqe->res;
            tp_buffer_append(out, next->data, next->size);
            next->size = 0;
            connection->filling ^= 1;
        } else {
            out->size = 0;
        }
        if (connection->out[connection->filling].size > 0 && tp_link_alone(&connection->dirty))
            tp_link_insert(&dirty, &connection->dirty);
        break;
    }
    }
}

static void make_answer(uint64_t size)
{
    struct tp_buffer message = tp_buffer_growing(SIZE_MAX / 2);
    uint8_t head[10] = {0x82, 127};

    tp_buffer_append(&message, "\0\1", 2);
    tp_write_varuint(&message, size);
    TP_ASSERT(tp_buffer_reserve(&message, size));
    memset(message.data + message.size, 'x', size);
    message.size += size;
    for (int i = 0; i < 8; i++)
        head[2 + i] = (uint8_t)((uint64_t)message.size >> (56 - 8 * i));
    answer = tp_buffer_growing(SIZE_MAX / 2);
    tp_buffer_append(&answer, head, sizeof head);
    tp_buffer_append(&answer, message.data, message.size);
    tp_buffer_finish(&message);
}

int main(int argc, char *argv[])
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                     .cq_entries = 65536};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct rlimit files;
    const int on = 1;

    if (argc != 2 && argc != 3) {
        fprintf(stderr, "floor PORT [BYTES]\n");
        return 2;
    }
    if (argc == 3)
        make_answer(strtoull(argv[2], NULL, 10));
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 4096) != 0 || io_uring_queue_init_params(4096, &ring, &params) < 0) {
        perror("floor");
        return 1;
    }
    buffers = aligned_alloc(4096, BUFFER_COUNT * sizeof(struct io_uring_buf));
    memory = aligned_alloc(4096, (size_t)BUFFER_COUNT * BUFFER_SIZE);
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)buffers,
                                            .ring_entries = BUFFER_COUNT};
    io_uring_buf_ring_init(buffers);
    io_uring_register_buf_ring(&ring, &registration, 0);
    io_uring_register_ring_fd(&ring);
    for (uint32_t id = 0; id < BUFFER_COUNT; id++)
        give((uint16_t)id);
    accept_more();
    fprintf(stderr, "floor is ready on 127.0.0.1:%s\n", argv[1]);
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;

        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            completed(cqe);
            count++;
        }
        io_uring_cq_advance(&ring, count);
        struct tp_link *link;
        while ((link = tp_list_pop(&dirty)) != NULL)
            flush(TP_CONTAINER(link, struct connection, dirty));
    }
}
