/* What a WebSocket message costs: unmasking, reading a frame, and the whole way from one side of a
 * loopback socket through net to the other. And what an idle connection holds.
 *
 *     make build/release/bench/websocket_bench && build/release/bench/websocket_bench */
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "net/net.h"
#include "reactor/reactor.h"

#define MESSAGE_SIZE 100u
#define BATCH 1000u /* messages in one write: about 100 KB */
#define ROUND_COUNT 1000u
#define IDLE_COUNT 2000u

/* Processor time of this thread, the kernel's part included: other load does not count. */
static double now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void report(const char *what, double value, const char *unit)
{
    printf("%-44s %10.1f %s\n", what, value, unit);
}

static void bench_unmask(void)
{
    static uint8_t bytes[1000];
    static const uint8_t mask[4] = {1, 2, 3, 4};
    const unsigned rounds = 2000000;

    const double start = now_ns();
    for (unsigned i = 0; i < rounds; i++) {
        tp_websocket_unmask(bytes, sizeof bytes, mask, i);
        __asm__ volatile("" : : "r"(bytes) : "memory");
    }
    report("unmask 1000 B", (now_ns() - start) / rounds, "ns");
}

static struct tp_buffer batch_of(uint8_t first, size_t count)
{
    static uint8_t payload[MESSAGE_SIZE];
    struct tp_buffer out = tp_buffer_growing(64 << 20);
    uint8_t head[TP_WEBSOCKET_HEAD_SIZE_MAX];

    memset(payload, 'a', sizeof payload);
    const size_t size = tp_websocket_head(head, TP_WEBSOCKET_BINARY, MESSAGE_SIZE);
    head[0] = first;
    head[1] |= 0x80;
    for (size_t i = 0; i < count; i++) {
        tp_buffer_append(&out, head, size);
        tp_buffer_append(&out, "\0\0\0\0", 4); /* a mask of zeros: any reading works, any time */
        tp_buffer_append(&out, payload, sizeof payload);
    }
    return out;
}

static void bench_read(uint8_t first, const char *what)
{
    struct tp_websocket_reader reader;
    struct tp_websocket_piece piece;
    struct tp_buffer input = batch_of(first, BATCH);
    unsigned count = 0;

    tp_websocket_reader_init(&reader, 1 << 20);
    const double start = now_ns();
    for (unsigned round = 0; round < ROUND_COUNT; round++) {
        uint8_t *at = input.data;
        while (tp_websocket_read(&reader, &at, input.data + input.size, &piece) == TP_OK)
            count += piece.last;
    }
    report(what, (now_ns() - start) / count, "ns");
    tp_buffer_finish(&input);
}

/* ---- through net
 * ----------------------------------------------------------------------------------- */

struct server {
    struct tp_reactor *reactor;
    struct tp_pool pool;
    struct tp_net *net;
    uint32_t upgraded, message_count;
    struct tp_connection *last;
    bool echo;
};

static void on_request(void *context, struct tp_connection *connection,
                       const struct tp_http_request *request)
{
    struct server *server = context;

    (void)request;
    server->last = connection;
    server->upgraded++;
    tp_connection_upgrade(connection, TP_SLICE(""), TP_SLICE(""));
}

static void on_message(void *context, struct tp_connection *connection, struct tp_slice bytes,
                       bool text)
{
    struct server *server = context;

    (void)text;
    server->message_count++;
    if (!server->echo)
        return;
    struct tp_frame *frame = tp_frame_create(&server->pool, bytes);
    tp_websocket_seal(frame, TP_WEBSOCKET_BINARY);
    if (tp_connection_send(connection, frame, 0, TP_OUTBOX_DOCUMENT, 0) != TP_OK)
        abort();
    tp_frame_unref(frame);
}

static void on_nothing(void *context, struct tp_connection *connection)
{
    (void)context;
    (void)connection;
}

static void on_closed(void *context, struct tp_connection *connection, uint16_t code)
{
    (void)context;
    (void)connection;
    (void)code;
}

static void turn(struct server *server)
{
    tp_net_flush(server->net);
    tp_reactor_stay_awake(server->reactor);
    tp_reactor_wait(server->reactor);
    tp_reactor_poll(server->reactor);
}

static int connect_client(struct server *server, uint16_t port)
{
    static const char handshake[] =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const uint32_t upgraded = server->upgraded;
    char room[512];

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(fd, handshake, sizeof handshake - 1, 0) < 0) {
        perror("websocket_bench");
        exit(1);
    }
    while (server->upgraded == upgraded)
        turn(server);
    while (recv(fd, room, sizeof room, MSG_DONTWAIT) <= 0)
        turn(server);
    return fd;
}

/* The client's own system calls are left out: only the server's turns are timed. */
static void bench_messages(struct server *server, int fd)
{
    struct tp_buffer input = batch_of(0x82, BATCH);
    static uint8_t room[1 << 18];
    double spent_ns = 0;

    server->message_count = 0;
    for (unsigned round = 1; round <= ROUND_COUNT; round++) {
        if (send(fd, input.data, input.size, 0) != (ssize_t)input.size)
            exit(1);
        const double start = now_ns();
        while (server->message_count < round * BATCH)
            turn(server);
        tp_net_flush(server->net);
        spent_ns += now_ns() - start;
        for (size_t got = 0; server->echo && got < BATCH * (2 + MESSAGE_SIZE);) {
            const ssize_t size = recv(fd, room, sizeof room, MSG_DONTWAIT);
            if (size > 0) {
                got += (size_t)size;
                continue;
            }
            const double again = now_ns();
            turn(server);
            spent_ns += now_ns() - again;
        }
    }
    report(server->echo ? "through net: receive and echo 100 B, batched"
                        : "through net: receive 100 B, batched",
           spent_ns / (ROUND_COUNT * BATCH), "ns");
    tp_buffer_finish(&input);
}

/* One message at a time: a whole turn of the loop each, system calls of both sides included. */
static void bench_ping_pong(struct server *server, int fd)
{
    struct tp_buffer input = batch_of(0x82, 1);
    uint8_t room[512];
    const unsigned rounds = 50000;

    const double start = now_ns();
    for (unsigned i = 0; i < rounds; i++) {
        if (send(fd, input.data, input.size, 0) != (ssize_t)input.size)
            exit(1);
        while (recv(fd, room, sizeof room, MSG_DONTWAIT) <= 0)
            turn(server);
    }
    report("through net: echo 100 B, one at a time", (now_ns() - start) / rounds, "ns");
    tp_buffer_finish(&input);
}

static void bench_idle(struct server *server, uint16_t port)
{
    static int fds[IDLE_COUNT];
    const size_t before = mallinfo2().uordblks;

    for (unsigned i = 0; i < IDLE_COUNT; i++)
        fds[i] = connect_client(server, port);
    turn(server);
    report("idle connection: by its own account", (double)tp_connection_memory_size(server->last),
           "B");
    report("idle connection: by the heap's", (double)(mallinfo2().uordblks - before) / IDLE_COUNT,
           "B");
    for (unsigned i = 0; i < IDLE_COUNT; i++)
        close(fds[i]);
}

int main(void)
{
    static struct server server;
    static const struct tp_net_handler handler = {.request = on_request,
                                                  .message = on_message,
                                                  .drained = on_nothing,
                                                  .detached = on_nothing,
                                                  .closed = on_closed};
    const struct tp_reactor_config config = {.entry_count = TP_REACTOR_ENTRY_COUNT,
                                             .buffer_count = TP_REACTOR_BUFFER_COUNT,
                                             .buffer_size = TP_REACTOR_BUFFER_SIZE,
                                             .cpu = -1};
    uint16_t port = 0;

    bench_unmask();
    bench_read(0x82, "read a binary frame of 100 B");
    bench_read(0x81, "read a text frame of 100 B");

    tp_pool_init(&server.pool);
    server.reactor = tp_reactor_create(&config);
    if (server.reactor == NULL) {
        perror("websocket_bench");
        return 1;
    }
    server.net =
        tp_net_create(server.reactor, &server.pool, &tp_net_limits_default, &handler, &server);
    if (tp_net_listen(server.net, "127.0.0.1:0", &port) != TP_OK) {
        perror("websocket_bench");
        return 1;
    }
    const int fd = connect_client(&server, port);
    bench_messages(&server, fd);
    server.echo = true;
    bench_messages(&server, fd);
    bench_ping_pong(&server, fd);
    bench_idle(&server, port);
    close(fd);
    tp_net_destroy(server.net);
    tp_reactor_destroy(server.reactor);
    tp_pool_finish(&server.pool);
    return 0;
}
