/* What net/ promises, on real loopback sockets: the server's reactor and the clients share the
 * test's thread, so every step is taken on purpose and nothing sleeps for longer than it must. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "net/net.h"
#include "reactor/reactor.h"

#define MS UINT64_C(1000000)
#define TURN_COUNT_MAX 2000 /* of at most 5 ms each */

struct server {
    struct tp_reactor *reactor;
    struct tp_timer tick; /* so that no wait lasts longer */
    struct tp_pool pool;
    struct tp_net *net;
    struct tp_net_limits limits;
    uint16_t port;
    /* What the handler heard. */
    struct tp_buffer requests; /* "METHOD target body\n" each */
    struct tp_buffer messages; /* "t:..." or "b:..." and a line's end each */
    uint32_t request_count, message_count, drained_count, detached_count, closed_count;
    uint16_t closed_code;
    struct tp_connection *last;
    enum tp_status last_send;
    /* What it shall do. */
    bool echo;       /* send every message back */
    bool late;       /* do not answer at once */
    bool pause_once; /* after a message */
    bool detach_once;
};

static void set_tick(struct server *server)
{
    tp_timer_set(server->reactor, &server->tick, tp_reactor_now_ns(server->reactor) + 5 * MS);
}

static void tick(struct tp_timer *timer)
{
    set_tick(TP_CONTAINER(timer, struct server, tick));
}

static void note(struct tp_buffer *buffer, struct tp_slice text)
{
    tp_buffer_append(buffer, text.data, text.size);
}

static void on_request(void *context, struct tp_connection *connection,
                       const struct tp_http_request *request)
{
    struct server *server = context;

    server->request_count++;
    server->last = connection;
    note(&server->requests, request->method);
    note(&server->requests, TP_SLICE(" "));
    note(&server->requests, request->target);
    note(&server->requests, TP_SLICE(" "));
    note(&server->requests, request->body);
    note(&server->requests, TP_SLICE("\n"));
    if (server->late)
        return;
    if (request->upgrade)
        tp_connection_upgrade(connection, (struct tp_slice){0}, (struct tp_slice){0});
    else
        tp_connection_respond(connection, 200, "text/plain", (struct tp_slice){0},
                              TP_SLICE("hello"));
}

static void on_message(void *context, struct tp_connection *connection, struct tp_slice bytes,
                       bool text)
{
    struct server *server = context;

    server->message_count++;
    server->last = connection;
    note(&server->messages, text ? TP_SLICE("t:") : TP_SLICE("b:"));
    note(&server->messages, bytes);
    note(&server->messages, TP_SLICE("\n"));
    if (server->echo) {
        struct tp_frame *frame = tp_frame_create(&server->pool, bytes);
        tp_websocket_seal(frame, text ? TP_WEBSOCKET_TEXT : TP_WEBSOCKET_BINARY);
        server->last_send = tp_connection_send(connection, frame, 0, TP_OUTBOX_DOCUMENT);
        tp_frame_unref(frame);
    }
    if (server->pause_once)
        tp_connection_pause(connection);
    if (server->detach_once)
        tp_connection_detach(connection);
    server->pause_once = server->detach_once = false;
}

static void on_drained(void *context, struct tp_connection *connection)
{
    (void)connection;
    ((struct server *)context)->drained_count++;
}

static void on_detached(void *context, struct tp_connection *connection)
{
    (void)connection;
    ((struct server *)context)->detached_count++;
}

static void on_closed(void *context, struct tp_connection *connection, uint16_t code)
{
    struct server *server = context;

    (void)connection;
    server->closed_count++;
    server->closed_code = code;
}

static const struct tp_net_handler handler = {
    .request = on_request,
    .message = on_message,
    .drained = on_drained,
    .detached = on_detached,
    .closed = on_closed,
};

/* `server` is zeroed, but for what the handler shall do and the limits that differ. */
static void start(struct server *server)
{
    const struct tp_reactor_config config = {
        .entry_count = 64, .buffer_count = 8, .buffer_size = 4096, .cpu = -1};

    if (server->limits.message_size_max == 0)
        server->limits = tp_net_limits_default;
    server->requests = tp_buffer_growing(64 << 20);
    server->messages = tp_buffer_growing(64 << 20);
    tp_pool_init(&server->pool);
    server->reactor = tp_reactor_create(&config);
    cr_assert_not_null(server->reactor, "%s", strerror(errno));
    server->net = tp_net_create(server->reactor, &server->pool, &server->limits, &handler, server);
    cr_assert_eq(tp_net_listen(server->net, "127.0.0.1:0", &server->port), TP_OK);
    tp_timer_init(&server->tick, tick);
    set_tick(server);
}

static void stop(struct server *server)
{
    tp_net_destroy(server->net);
    tp_reactor_destroy(server->reactor);
    cr_assert_eq(server->pool.used_size, 0, "%zu bytes of the pool are still out",
                 server->pool.used_size);
    tp_pool_finish(&server->pool);
    tp_buffer_finish(&server->requests);
    tp_buffer_finish(&server->messages);
}

static void turn(struct server *server)
{
    tp_net_flush(server->net);
    tp_reactor_wait(server->reactor);
    tp_reactor_poll(server->reactor);
}

/* Turns the server until `condition` holds; fails the test when it never does. */
#define UNTIL(server, condition)                                     \
    do {                                                             \
        int turns_left = TURN_COUNT_MAX;                             \
        while (!(condition) && --turns_left > 0)                     \
            turn(server);                                            \
        cr_assert(turns_left > 0, "never happened: %s", #condition); \
    } while (0)

static int connect_client(const struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(server->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, struct tp_slice bytes)
{
    cr_assert_eq(send(fd, bytes.data, bytes.size, MSG_NOSIGNAL), (ssize_t)bytes.size);
}

/* What the client has received so far; `ended` when the server closed. */
struct inbox {
    int fd;
    bool ended, reset;
    struct tp_buffer bytes;
};

static bool receive(struct inbox *inbox)
{
    static uint8_t room[1 << 16];
    const ssize_t size = recv(inbox->fd, room, sizeof room, MSG_DONTWAIT);

    if (size > 0)
        tp_buffer_append(&inbox->bytes, room, (size_t)size);
    else if (size == 0)
        inbox->ended = true;
    else if (errno != EAGAIN)
        inbox->ended = inbox->reset = true;
    return size > 0;
}

static bool has(struct inbox *inbox, size_t size)
{
    receive(inbox);
    return inbox->bytes.size >= size;
}

static bool ended(struct inbox *inbox)
{
    while (receive(inbox))
        ;
    return inbox->ended;
}

static bool contains(const struct inbox *inbox, const char *text)
{
    return inbox->bytes.size > 0 &&
           memmem(inbox->bytes.data, inbox->bytes.size, text, strlen(text)) != NULL;
}

static bool comes(struct inbox *inbox, const char *text)
{
    receive(inbox);
    return contains(inbox, text);
}

static struct inbox inbox_of(int fd)
{
    return (struct inbox){.fd = fd, .bytes = tp_buffer_growing(64 << 20)};
}

static void hang_up(struct inbox *inbox)
{
    if (inbox->fd >= 0)
        close(inbox->fd);
    tp_buffer_finish(&inbox->bytes);
}

static const char handshake[] = "GET /doc HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                                "Connection: keep-alive, Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                "Sec-WebSocket-Version: 13\r\n\r\n";

static struct inbox open_websocket(struct server *server)
{
    struct inbox inbox = inbox_of(connect_client(server));

    say(inbox.fd, tp_slice_of(handshake, sizeof handshake - 1));
    UNTIL(server, comes(&inbox, "\r\n\r\n"));
    cr_assert(contains(&inbox, "HTTP/1.1 101 "));
    /* The example of RFC 6455 section 1.3. */
    cr_assert(contains(&inbox, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    inbox.bytes.size = 0;
    return inbox;
}

/* A client's frame: masked. `first` has FIN, RSV and opcode. */
static void add_frame(struct tp_buffer *out, uint8_t first, struct tp_slice payload)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t head[TP_WEBSOCKET_HEAD_SIZE_MAX];
    const size_t size = tp_websocket_head(head, TP_WEBSOCKET_TEXT, payload.size);

    head[0] = first;
    head[1] |= 0x80;
    tp_buffer_append(out, head, size);
    tp_buffer_append(out, mask, sizeof mask);
    for (size_t i = 0; i < payload.size; i++) {
        const uint8_t byte = payload.data[i] ^ mask[i % 4];
        tp_buffer_append(out, &byte, 1);
    }
}

static void say_frame(int fd, uint8_t first, struct tp_slice payload)
{
    struct tp_buffer out = tp_buffer_growing(64 << 20);

    add_frame(&out, first, payload);
    say(fd, tp_buffer_slice(&out));
    tp_buffer_finish(&out);
}

Test(net, answers_a_request_and_keeps_the_connection)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));

    for (int round = 0; round < 3; round++) {
        inbox.bytes.size = 0;
        say(inbox.fd, TP_SLICE("GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"));
        UNTIL(&server, comes(&inbox, "hello"));
        cr_assert(contains(&inbox, "HTTP/1.1 200 OK\r\n"));
        cr_assert(contains(&inbox, "Content-Length: 5\r\n"));
        cr_assert(contains(&inbox, "Connection: keep-alive\r\n"));
    }

    cr_assert(tp_slice_equal(tp_buffer_slice(&server.requests),
                             TP_SLICE("GET /a?b=c \nGET /a?b=c \nGET /a?b=c \n")));
    hang_up(&inbox);
    UNTIL(&server, server.closed_count == 1);
    cr_assert_eq(server.closed_code, 1000);
    stop(&server);
}

Test(net, upgrades_and_echoes_text_and_binary)
{
    struct server server = {.echo = true};
    start(&server);
    struct inbox inbox = open_websocket(&server);

    say_frame(inbox.fd, 0x81, TP_SLICE("hi"));
    say_frame(inbox.fd, 0x82, TP_SLICE("\x00\xff"));

    UNTIL(&server, has(&inbox, 8));
    cr_assert_arr_eq(inbox.bytes.data, "\x81\x02hi\x82\x02\x00\xff", 8);
    hang_up(&inbox);
    UNTIL(&server, server.closed_count == 1);
    cr_assert_eq(server.closed_code, 1006, "there was no close frame");
    stop(&server);
}

Test(net, sends_the_whole_answer_before_it_closes_as_asked)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));

    /* More follows, unread: a server that just closes would reset the connection and lose the
     * answer. */
    say(inbox.fd, TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /more"));
    UNTIL(&server, ended(&inbox));

    cr_assert(!inbox.reset);
    cr_assert(contains(&inbox, "Connection: close\r\n"));
    cr_assert(contains(&inbox, "hello"));
    cr_assert_eq(server.request_count, 1);
    hang_up(&inbox);
    UNTIL(&server, tp_net_connection_count(server.net) == 0);
    stop(&server);
}
