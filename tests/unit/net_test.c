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
        server->last_send = tp_connection_send(connection, frame, 0, TP_OUTBOX_DOCUMENT, 0);
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

/* ---- HTTP
 * ------------------------------------------------------------------------------------------ */

#define REQUEST(line) line " HTTP/1.1\r\nHost: x\r\n\r\n"

/* Says something and returns what the server answers until it ends the connection. */
static struct inbox ask_until_end(struct server *server, struct tp_slice bytes)
{
    struct inbox inbox = inbox_of(connect_client(server));

    say(inbox.fd, bytes);
    UNTIL(server, ended(&inbox));
    cr_assert(!inbox.reset);
    return inbox;
}

static uint32_t occurrences(const struct inbox *inbox, const char *text)
{
    const uint8_t *at = inbox->bytes.data;
    const uint8_t *const end = at + inbox->bytes.size;
    uint32_t count = 0;

    while (inbox->bytes.size > 0 &&
           (at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
        count++;
        at += strlen(text);
    }
    return count;
}

Test(net, answers_pipelined_requests_in_order)
{
    struct server server = {0};
    start(&server);

    struct inbox inbox = ask_until_end(
        &server,
        TP_SLICE(REQUEST("GET /1") "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: "
                                   "3\r\n\r\nabc" REQUEST("HEAD /3") "GET /4 HTTP/1.0\r\n\r\n"));

    cr_assert(tp_slice_equal(tp_buffer_slice(&server.requests),
                             TP_SLICE("GET /1 \nPOST /2 abc\nHEAD /3 \nGET /4 \n")));
    cr_assert_eq(occurrences(&inbox, "HTTP/1.1 200 OK\r\n"), 4);
    cr_assert_eq(occurrences(&inbox, "Content-Length: 5\r\n"), 4);
    cr_assert_eq(occurrences(&inbox, "\r\n\r\nhello"), 3, "HEAD has no body");
    cr_assert_eq(occurrences(&inbox, "Date: "), 4);
    hang_up(&inbox);
    stop(&server);
}

Test(net, refuses_what_it_cannot_read_and_closes)
{
    static const struct {
        struct tp_slice bytes;
        const char *answer;
    } cases[] = {
        {TP_SLICE("hello\r\n\r\n"), "HTTP/1.1 400 "},
        {TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"), "HTTP/1.1 413 "},
        {TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nX: 0123456789012345678901234567890123456789012345"
                  "678901234567890123456789\r\n\r\n"),
         "HTTP/1.1 431 "},
        {TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
         "\r\nSec-WebSocket-Version: 13\r\n"},
    };
    struct server server = {.limits = tp_net_limits_default};
    server.limits.header_size_max = 90;
    server.limits.request_size_max = 98;
    start(&server);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct inbox inbox = ask_until_end(&server, cases[i].bytes);
        cr_assert(contains(&inbox, cases[i].answer), "case %zu: %.*s", i, (int)inbox.bytes.size,
                  (const char *)inbox.bytes.data);
        cr_assert(contains(&inbox, "Connection: close\r\n"));
        hang_up(&inbox);
    }

    cr_assert_eq(server.request_count, 0);
    cr_assert_eq(server.closed_count, 0, "the handler never heard of them");
    cr_assert_eq(tp_net_counts(server.net).protocol_errors, 4);
    stop(&server);
}

Test(net, says_continue_to_a_client_that_waits)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, TP_SLICE("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: "
                           "100-continue\r\n\r\n"));
    UNTIL(&server, comes(&inbox, "HTTP/1.1 100 Continue\r\n\r\n"));

    say(inbox.fd, TP_SLICE("ok"));
    UNTIL(&server, comes(&inbox, "hello"));

    cr_assert(tp_slice_equal(tp_buffer_slice(&server.requests), TP_SLICE("POST / ok\n")));
    hang_up(&inbox);
    stop(&server);
}

Test(net, gives_a_slow_head_a_408_and_a_silent_connection_nothing)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.header_time_ns = 40 * MS;
    start(&server);
    struct inbox silent = inbox_of(connect_client(&server));

    struct inbox slow = ask_until_end(&server, TP_SLICE("GET / HT"));
    UNTIL(&server, ended(&silent));

    cr_assert(contains(&slow, "HTTP/1.1 408 "));
    cr_assert_eq(silent.bytes.size, 0);
    hang_up(&slow);
    hang_up(&silent);
    stop(&server);
}

Test(net, closes_an_idle_connection)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.idle_time_ns = 40 * MS;
    start(&server);

    struct inbox inbox = ask_until_end(&server, TP_SLICE(REQUEST("GET /")));

    cr_assert(contains(&inbox, "Connection: keep-alive"));
    UNTIL(&server, server.closed_count == 1);
    hang_up(&inbox);
    stop(&server);
}

Test(net, reads_no_further_request_until_a_late_answer)
{
    struct server server = {.late = true};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, TP_SLICE(REQUEST("GET /1") REQUEST("GET /2")));
    UNTIL(&server, server.request_count == 1);
    for (int i = 0; i < 5; i++)
        turn(&server);
    cr_assert_eq(server.request_count, 1);

    server.late = false;
    tp_connection_respond(server.last, 202, NULL, TP_SLICE("X-Late: yes\r\n"), TP_SLICE("later"));
    UNTIL(&server, comes(&inbox, "hello"));

    cr_assert(contains(&inbox, "HTTP/1.1 202 Accepted\r\n"));
    cr_assert(contains(&inbox, "X-Late: yes\r\n"));
    cr_assert_eq(server.request_count, 2);
    hang_up(&inbox);
    stop(&server);
}

Test(net, may_upgrade_late)
{
    struct server server = {.late = true, .echo = true};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, tp_slice_of(handshake, sizeof handshake - 1));
    say_frame(inbox.fd, 0x81, TP_SLICE("early"));
    UNTIL(&server, server.request_count == 1);

    tp_connection_upgrade(server.last, TP_SLICE("proto"), TP_SLICE("X-A: b\r\n"));
    UNTIL(&server, comes(&inbox, "\x81\x05"
                                 "early"));

    cr_assert(contains(&inbox, "Sec-WebSocket-Protocol: proto\r\nX-A: b\r\n\r\n"));
    hang_up(&inbox);
    stop(&server);
}

Test(net, answers_a_client_that_has_closed_its_half)
{
    struct server server = {.late = true};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, TP_SLICE(REQUEST("GET /")));
    shutdown(inbox.fd, SHUT_WR);
    UNTIL(&server, server.request_count == 1);
    for (int i = 0; i < 5; i++)
        turn(&server);

    tp_connection_respond(server.last, 200, NULL, TP_SLICE(""), TP_SLICE("hello"));
    UNTIL(&server, ended(&inbox));

    cr_assert(contains(&inbox, "hello"));
    hang_up(&inbox);
    stop(&server);
}

Test(net, sends_a_large_answer_whole)
{
    enum { SIZE = 8 << 20 };
    struct server server = {.late = true};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    uint8_t *body = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        body[i] = (uint8_t)(i * 7 >> 3);
    say(inbox.fd, TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    UNTIL(&server, server.request_count == 1);

    tp_connection_respond(server.last, 200, NULL, TP_SLICE(""), tp_slice_of(body, SIZE));
    UNTIL(&server, ended(&inbox));

    cr_assert_geq(inbox.bytes.size, SIZE);
    cr_assert_arr_eq(inbox.bytes.data + inbox.bytes.size - SIZE, body, SIZE);
    free(body);
    hang_up(&inbox);
    stop(&server);
}

Test(net, streams_until_it_is_closed)
{
    struct server server = {.late = true};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, TP_SLICE(REQUEST("GET /events")));
    UNTIL(&server, server.request_count == 1);

    tp_connection_stream(server.last, "text/event-stream", TP_SLICE("X-Accel-Buffering: no\r\n"));
    UNTIL(&server, comes(&inbox, "\r\n\r\n"));
    struct tp_frame *event = tp_frame_create(&server.pool, TP_SLICE("data: 1\n\n"));
    cr_assert_eq(tp_connection_send(server.last, event, 0, TP_OUTBOX_DOCUMENT, 0), TP_OK);
    tp_frame_unref(event);
    UNTIL(&server, comes(&inbox, "data: 1\n\n"));
    tp_connection_close(server.last, 1001, TP_SLICE(""));
    UNTIL(&server, ended(&inbox));

    cr_assert(contains(&inbox, "Content-Type: text/event-stream\r\n"));
    cr_assert_eq(server.closed_count, 1);
    hang_up(&inbox);
    stop(&server);
}

Test(net, hears_of_it_when_a_streams_reader_goes)
{
    struct server server = {.late = true};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, TP_SLICE(REQUEST("GET /events")));
    UNTIL(&server, server.request_count == 1);
    tp_connection_stream(server.last, "text/event-stream", TP_SLICE(""));
    UNTIL(&server, comes(&inbox, "\r\n\r\n"));

    hang_up(&inbox);

    UNTIL(&server, server.closed_count == 1);
    stop(&server);
}

Test(net, tells_those_who_are_too_many_to_come_back)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.connection_count_max = 1;
    start(&server);
    struct inbox first = open_websocket(&server);

    struct inbox second = ask_until_end(&server, tp_slice_of(handshake, sizeof handshake - 1));

    cr_assert(contains(&second, "HTTP/1.1 503 "));
    cr_assert(contains(&second, "Retry-After: "));
    cr_assert_eq(server.request_count, 1);
    cr_assert_eq(tp_net_counts(server.net).refused, 1);
    hang_up(&first);
    hang_up(&second);
    UNTIL(&server, tp_net_connection_count(server.net) == 0);
    struct inbox third = open_websocket(&server);
    hang_up(&third);
    stop(&server);
}

Test(net, keeps_a_door_free_of_those_who_are_too_many)
{
    struct server server = {.limits = tp_net_limits_default};
    uint16_t door_port = 0, again = 0;
    char address[32];
    server.limits.connection_count_max = 1;
    start(&server);
    cr_assert_eq(tp_net_listen_alone(server.net, "127.0.0.1:0", 1, &door_port), TP_OK);
    snprintf(address, sizeof address, "127.0.0.1:%u", door_port);
    cr_assert_eq(tp_net_listen_alone(server.net, address, 1, &again), TP_IO, "it is taken");
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert_eq(tp_net_listen(server.net, address, &again), TP_IO, "and not shared");
    struct inbox client = open_websocket(&server);
    const uint16_t public_port = server.port;
    server.port = door_port;

    struct inbox staff = inbox_of(connect_client(&server));
    say(staff.fd, TP_SLICE(REQUEST("GET /")));
    UNTIL(&server, comes(&staff, "hello"));

    server.port = public_port;
    struct inbox third =
        ask_until_end(&server, TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    cr_assert(contains(&third, "HTTP/1.1 503 "), "the operator takes nobody's place");
    hang_up(&staff);
    hang_up(&client);
    hang_up(&third);
    UNTIL(&server, tp_net_connection_count(server.net) == 0);
    struct inbox fourth =
        ask_until_end(&server, TP_SLICE("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    cr_assert(contains(&fourth, "hello"), "places are given back");
    hang_up(&fourth);
    stop(&server);
}

Test(net, says_close_when_it_stops_listening)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server));
    say(inbox.fd, TP_SLICE(REQUEST("GET /")));
    UNTIL(&server, comes(&inbox, "hello"));

    tp_net_stop_listening(server.net);
    say(inbox.fd, TP_SLICE(REQUEST("GET /")));
    UNTIL(&server, ended(&inbox));

    cr_assert(contains(&inbox, "Connection: close\r\n"));
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(server.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), -1);
    close(fd);
    hang_up(&inbox);
    stop(&server);
}

Test(net, accepts_again_when_file_descriptors_are_back)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = inbox_of(connect_client(&server)); /* the kernel takes it in */
    struct rlimit limit, none;
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = (rlim_t)inbox.fd; /* what is open stays open */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    say(inbox.fd, TP_SLICE(REQUEST("GET /")));
    struct inbox other = {.fd = -1};
    UNTIL(&server, tp_net_counts(server.net).accept_failures > 0 || comes(&inbox, "hello"));

    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    UNTIL(&server, comes(&inbox, "hello"));

    cr_assert_geq(tp_net_counts(server.net).accept_failures, 1);
    cr_assert_leq(tp_net_counts(server.net).accept_failures, 3, "it waits between two tries");
    hang_up(&other);
    hang_up(&inbox);
    stop(&server);
}

Test(net, understands_addresses)
{
    struct server server = {0};
    uint16_t port = 0;
    start(&server);

    cr_assert_eq(tp_net_listen(server.net, "localhost", &port), TP_MALFORMED);
    cr_assert_eq(tp_net_listen(server.net, "127.0.0.1:", &port), TP_MALFORMED);
    cr_assert_eq(tp_net_listen(server.net, "127.0.0.1:65536", &port), TP_MALFORMED);
    cr_assert_eq(tp_net_listen(server.net, "127.0.0.1:http", &port), TP_MALFORMED);
    cr_assert_eq(tp_net_listen(server.net, "::1:80", &port), TP_MALFORMED);
    cr_assert_eq(tp_net_listen(server.net, "192.0.2.1:0", &port), TP_IO, "not ours");
    cr_assert_eq(tp_net_listen(server.net, "127.0.0.1:0", &port), TP_OK);
    cr_assert_neq(port, 0);
    cr_assert_neq(port, server.port);
    stop(&server);
}

/* ---- WebSocket: what the conformance suite asks of a connection
 * ---------------------------------------- */

/* Says `bytes` in one go and expects `answer`, and nothing more, before the connection ends. */
static void expect_end(struct tp_slice bytes, struct tp_slice answer, uint16_t code)
{
    struct server server = {.echo = true};
    start(&server);
    struct inbox inbox = open_websocket(&server);

    say(inbox.fd, bytes);
    UNTIL(&server, ended(&inbox));

    cr_assert(!inbox.reset);
    cr_assert(tp_slice_equal(tp_buffer_slice(&inbox.bytes), answer), "%zu bytes, code %u",
              inbox.bytes.size, server.closed_code);
    cr_assert_eq(server.closed_count, 1);
    cr_assert_eq(server.closed_code, code, "%u", server.closed_code);
    hang_up(&inbox);
    stop(&server);
}

struct part {
    uint8_t first;
    struct tp_slice payload;
};

#define FRAME(first, literal) ((struct part){first, TP_SLICE(literal)})
#define EXPECT_END(answer, code, ...)                                      \
    do {                                                                   \
        const struct part parts[] = {__VA_ARGS__};                         \
        struct tp_buffer said = tp_buffer_growing(64 << 20);               \
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) \
            add_frame(&said, parts[part].first, parts[part].payload);      \
        expect_end(tp_buffer_slice(&said), TP_SLICE(answer), code);        \
        tp_buffer_finish(&said);                                           \
    } while (0)

#define CLOSE_1002 "\x88\x02\x03\xea"
#define CLOSE_1007 "\x88\x02\x03\xef"

Test(net, answers_pings_before_the_message_that_they_interrupt) /* RFC 6455 section 5.4 */
{
    EXPECT_END("\x8a\x04ping\x81\x02"
               "ab\x88\x02\x03\xe8",
               1000, FRAME(0x01, "a"), FRAME(0x89, "ping"), FRAME(0x8a, "unasked"),
               FRAME(0x80, "b"), FRAME(0x88, "\x03\xe8"));
}

Test(net, echoes_the_close_code_and_ends) /* section 5.5.1 */
{
    EXPECT_END("\x88\x00", 1005, FRAME(0x88, ""));
    EXPECT_END("\x88\x02\x03\xe8", 1000, FRAME(0x88, "\x03\xe8"));
    EXPECT_END("\x88\x02\x0f\xa1", 4001, FRAME(0x88, "\x0f\xa1 reason"));
}

Test(net, ignores_everything_after_a_close) /* section 5.5.1 */
{
    EXPECT_END("\x81\x01"
               "a\x88\x02\x03\xe8",
               1000, FRAME(0x81, "a"), FRAME(0x88, "\x03\xe8"), FRAME(0x81, "b"), FRAME(0x89, "c"));
}

Test(net, refuses_bad_closes)
{
    EXPECT_END(CLOSE_1002, 1002, FRAME(0x88, "\x03"));
    EXPECT_END(CLOSE_1002, 1002, FRAME(0x88, "\x03\xed"));
    EXPECT_END(CLOSE_1007, 1007, FRAME(0x88, "\x03\xe8\xff"));
}

Test(net, ends_with_1002_what_breaks_the_framing)
{
    EXPECT_END("\x81\x02ok" CLOSE_1002, 1002, FRAME(0x81, "ok"), FRAME(0xc1, "rsv"));
    EXPECT_END(CLOSE_1002, 1002, FRAME(0x83, ""));
    EXPECT_END(CLOSE_1002, 1002, FRAME(0x80, "continues nothing"));
    EXPECT_END(CLOSE_1002, 1002, FRAME(0x01, "a"), FRAME(0x81, "b"));
    EXPECT_END(CLOSE_1002, 1002, FRAME(0x09, "half a ping"));
    expect_end(TP_SLICE("\x81\x02no mask"), TP_SLICE(CLOSE_1002), 1002);
}

Test(net, ends_with_1007_what_is_no_text)
{
    EXPECT_END(CLOSE_1007, 1007, FRAME(0x81, "\xed\xa0\x80"));
    EXPECT_END(CLOSE_1007, 1007,
               FRAME(0x01, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90"),
               FRAME(0x80, "\x80\x80"));
    EXPECT_END(CLOSE_1007, 1007, FRAME(0x01, "\xc2"), FRAME(0x80, ""));
}

Test(net, ends_with_1009_what_is_too_big)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.message_size_max = 10;
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x82, TP_SLICE("0123456789"));
    say_frame(inbox.fd, 0x02, TP_SLICE("01234"));
    say_frame(inbox.fd, 0x80, TP_SLICE("567890"));

    UNTIL(&server, ended(&inbox));

    cr_assert(tp_slice_equal(tp_buffer_slice(&inbox.bytes), TP_SLICE("\x88\x02\x03\xf1")));
    cr_assert_eq(server.message_count, 1);
    cr_assert_eq(server.closed_code, 1009);
    hang_up(&inbox);
    stop(&server);
}

Test(net, ends_with_1013_when_half_messages_fill_the_memory)
{
    static uint8_t part[5000];
    struct server server = {.limits = tp_net_limits_default};
    server.limits.joined_size_max = 7000;
    start(&server);
    struct inbox first = open_websocket(&server), second = open_websocket(&server);
    say_frame(first.fd, 0x02, tp_slice_of(part, 3000));
    UNTIL(&server, tp_net_counts(server.net).bytes_in > 3300);

    say_frame(second.fd, 0x02, tp_slice_of(part, sizeof part));
    UNTIL(&server, ended(&second));

    cr_assert(tp_slice_equal(tp_buffer_slice(&second.bytes), TP_SLICE("\x88\x02\x03\xf5")));
    say_frame(first.fd, 0x80, TP_SLICE("end"));
    UNTIL(&server, server.message_count == 1);
    hang_up(&first);
    hang_up(&second);
    stop(&server);
}

static void expect_echo(size_t size, size_t fragment_size, size_t step)
{
    struct server server = {.echo = true};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    struct tp_buffer said = tp_buffer_growing(64 << 20);
    uint8_t *payload = malloc(size + 1), head[TP_WEBSOCKET_HEAD_SIZE_MAX];
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(i ^ i >> 8);
    for (size_t at = 0; at == 0 || at < size; at += fragment_size) {
        const size_t part = tp_min(fragment_size, size - at);
        add_frame(&said, (at == 0 ? 0x02 : 0) | (at + part == size ? 0x80 : 0),
                  tp_slice_of(payload + at, part));
    }
    const size_t head_size = tp_websocket_head(head, TP_WEBSOCKET_BINARY, size);

    for (size_t at = 0; at < said.size; at += step) {
        say(inbox.fd, tp_slice_of(said.data + at, tp_min(step, said.size - at)));
        turn(&server);
        receive(&inbox);
    }
    UNTIL(&server, has(&inbox, head_size + size));

    cr_assert_arr_eq(inbox.bytes.data, head, head_size);
    cr_assert_arr_eq(inbox.bytes.data + head_size, payload, size);
    cr_assert_eq(server.message_count, 1);
    free(payload);
    tp_buffer_finish(&said);
    hang_up(&inbox);
    stop(&server);
}

Test(net, echoes_messages_of_every_size_however_they_are_cut)
{
    expect_echo(0, 1, 1);
    expect_echo(125, 125, 1);
    expect_echo(126, 126, 1);
    expect_echo(127, 10, 3);
    expect_echo(4086, 4086, 5000); /* about one receive buffer */
    expect_echo(4090, 4090, 5000);
    expect_echo(5000, 5000, 997);
    expect_echo(65535, 65535, 65536);
    expect_echo(65536, 65536, 65536);
    expect_echo(65536, 1300, 65536); /* the suite's section 10: fragments of 1300 bytes */
    expect_echo(65536, 997, 997);
    expect_echo(1 << 20, 1 << 20, 1 << 18); /* far more than the pool of 8 buffers holds */
}

Test(net, closes_with_code_and_reason_and_hears_the_answer)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);

    tp_connection_close(server.last, 1012, TP_SLICE("restart"));
    UNTIL(&server, has(&inbox, 11));
    cr_assert(tp_slice_equal(tp_buffer_slice(&inbox.bytes), TP_SLICE("\x88\x09\x03\xf4restart")));
    cr_assert_eq(server.closed_count, 0, "the other side has not answered");
    say_frame(inbox.fd, 0x81, TP_SLICE("too late"));
    say_frame(inbox.fd, 0x88, TP_SLICE("\x03\xf4"));
    UNTIL(&server, ended(&inbox));

    cr_assert_eq(server.closed_count, 1);
    cr_assert_eq(server.closed_code, 1012);
    cr_assert_eq(server.message_count, 1);
    hang_up(&inbox);
    stop(&server);
}

Test(net, waits_for_an_answer_to_its_close_only_so_long)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.close_time_ns = 40 * MS;
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);

    tp_connection_close(server.last, 1001, TP_SLICE(""));
    UNTIL(&server, tp_net_connection_count(server.net) == 0);

    cr_assert_eq(server.closed_code, 1001);
    hang_up(&inbox);
    stop(&server);
}

Test(net, cuts_a_long_reason_between_characters)
{
    struct server server = {0};
    char reason[130];
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);
    for (size_t i = 0; i < sizeof reason; i += 2)
        memcpy(reason + i, "\xc3\xa4", 2);

    tp_connection_close(server.last, 4000, tp_slice_of(reason, sizeof reason));
    UNTIL(&server, has(&inbox, 4 + 122));

    cr_assert_eq(inbox.bytes.data[1], 2 + 122, "123 would cut the last one in half");
    hang_up(&inbox);
    stop(&server);
}

Test(net, pings_a_silent_client_and_drops_a_dead_one)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.ping_time_ns = 30 * MS;
    server.limits.dead_time_ns = 900 * MS;
    start(&server);
    struct inbox inbox = open_websocket(&server);

    for (int round = 0; round < 3; round++) { /* one that answers lives */
        UNTIL(&server, comes(&inbox, "\x89"));
        cr_assert_eq(server.closed_count, 0);
        inbox.bytes.size = 0;
        say_frame(inbox.fd, 0x8a, TP_SLICE(""));
        turn(&server);
    }
    UNTIL(&server, server.closed_count == 1);

    cr_assert_eq(server.closed_code, 1006);
    UNTIL(&server, ended(&inbox));
    cr_assert_eq(inbox.bytes.size, 2, "one ping, and no second while it waits");
    hang_up(&inbox);
    stop(&server);
}

Test(net, drops_on_abort_without_a_word)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);

    tp_connection_abort(server.last);
    cr_assert_eq(server.closed_count, 0, "not inside the call");
    UNTIL(&server, server.closed_count == 1 && ended(&inbox));

    cr_assert_eq(server.closed_code, 1006);
    cr_assert_eq(inbox.bytes.size, 0);
    hang_up(&inbox);
    stop(&server);
}

/* ---- output
 * ---------------------------------------------------------------------------------------------- */

static struct tp_frame *sealed(struct server *server, uint8_t fill, size_t size)
{
    struct tp_frame *frame = tp_frame_alloc(&server->pool, size);

    memset(frame->data + frame->start, fill, size);
    tp_websocket_seal(frame, TP_WEBSOCKET_BINARY);
    return frame;
}

Test(net, refuses_frames_past_the_limit_drops_by_label_and_says_when_it_has_drained)
{
    enum { SIZE = 100000 };
    struct server server = {.limits = tp_net_limits_default};
    server.limits.outbox_size_max = 12 * SIZE;
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);
    struct tp_frame *one = sealed(&server, 1, SIZE), *two = sealed(&server, 2, SIZE);

    /* The client does not read: the kernel takes some, the rest stays here. */
    uint32_t sent = 0;
    for (int rounds = 0; rounds < 1000; rounds++) {
        const uint64_t document = sent % 2 + 1;
        const enum tp_status status = tp_connection_send(server.last, document == 1 ? one : two,
                                                         document, TP_OUTBOX_DOCUMENT, 0);
        turn(&server);
        if (status == TP_FULL)
            break;
        cr_assert_eq(status, TP_OK);
        sent++;
    }
    cr_assert_leq(tp_connection_unsent_size(server.last), 12 * SIZE);
    cr_assert_geq(tp_connection_unsent_size(server.last), 11 * SIZE);
    /* One send is under way with what it was offered: at most all of it was offered. */
    const uint32_t dropped = tp_connection_drop(server.last, 1, TP_OUTBOX_DOCUMENT, &(uint32_t){0});
    cr_assert_eq(tp_connection_drop(server.last, 1, TP_OUTBOX_DOCUMENT, &(uint32_t){0}), 0);
    cr_assert_eq(tp_connection_drop(server.last, 2, TP_OUTBOX_AWARENESS, &(uint32_t){0}), 0);
    cr_assert_gt(dropped, 0);
    tp_connection_notify(server.last);

    const size_t head_size = 10;
    UNTIL(&server, (receive(&inbox), server.drained_count == 1));
    UNTIL(&server, has(&inbox, (sent - dropped) * (SIZE + head_size)));
    turn(&server);
    receive(&inbox);
    cr_assert_eq(inbox.bytes.size, (sent - dropped) * (SIZE + head_size));
    for (size_t at = 0; at < inbox.bytes.size; at += SIZE + head_size) {
        const uint8_t fill = inbox.bytes.data[at + head_size];
        cr_assert_arr_eq(inbox.bytes.data + at, "\x82\x7f\0\0\0\0\0\x01\x86\xa0", head_size);
        cr_assert(fill == 1 || fill == 2);
        cr_assert_eq(inbox.bytes.data[at + head_size + SIZE - 1], fill, "no frame was torn");
    }
    tp_frame_unref(one);
    tp_frame_unref(two);
    hang_up(&inbox);
    stop(&server);
}

Test(net, takes_one_frame_of_any_size_when_nothing_is_queued)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.outbox_size_max = 100;
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);
    struct tp_frame *large = sealed(&server, 7, 1000), *small = sealed(&server, 8, 1);

    cr_assert_eq(tp_connection_send(server.last, large, 0, TP_OUTBOX_DOCUMENT, 0), TP_OK);
    cr_assert_eq(tp_connection_send(server.last, small, 0, TP_OUTBOX_DOCUMENT, 0), TP_FULL);
    UNTIL(&server, has(&inbox, 1004));
    cr_assert_eq(tp_connection_send(server.last, small, 0, TP_OUTBOX_DOCUMENT, 0), TP_OK);
    UNTIL(&server, has(&inbox, 1007));

    tp_frame_unref(large);
    tp_frame_unref(small);
    hang_up(&inbox);
    stop(&server);
}

Test(net, sends_hundreds_of_frames_of_one_tick_in_order_and_few_calls)
{
    enum { COUNT = 500 };
    struct server server = {0};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);
    const uint64_t sends = tp_net_counts(server.net).sends;

    for (int i = 0; i < COUNT; i++) {
        struct tp_frame *frame = sealed(&server, (uint8_t)i, 1);
        cr_assert_eq(tp_connection_send(server.last, frame, 0, TP_OUTBOX_DOCUMENT, 0), TP_OK);
        tp_frame_unref(frame);
    }
    UNTIL(&server, has(&inbox, COUNT * 3));

    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(inbox.bytes.data[i * 3 + 2], (uint8_t)i);
    cr_assert_leq(tp_net_counts(server.net).sends - sends, COUNT / 64 + 1);
    hang_up(&inbox);
    stop(&server);
}

Test(net, asks_the_heap_for_nothing_in_steady_state)
{
    struct server server = {.echo = true};
    start(&server);
    struct inbox inbox = open_websocket(&server);

    uint64_t malloc_count = 0;
    for (int i = 0; i < 300; i++) {
        if (i == 100)
            malloc_count = server.pool.malloc_count;
        say_frame(inbox.fd, 0x82, TP_SLICE("a small message"));
        inbox.bytes.size = 0;
        UNTIL(&server, has(&inbox, 17));
    }

    cr_assert_eq(server.pool.malloc_count, malloc_count);
    hang_up(&inbox);
    stop(&server);
}

Test(net, holds_little_for_a_connection_that_is_idle)
{
    struct server server = {.echo = true};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x02, TP_SLICE("in "));
    say_frame(inbox.fd, 0x80, TP_SLICE("parts"));
    UNTIL(&server, has(&inbox, 10));
    turn(&server);

    const size_t size = tp_connection_memory_size(server.last);

    cr_assert_leq(size, 512, "%zu bytes", size);
    hang_up(&inbox);
    stop(&server);
}

/* ---- pausing and moving
 * ------------------------------------------------------------------------------------- */

Test(net, hands_up_nothing_while_paused_and_loses_nothing)
{
    struct server server = {.pause_once = true};
    struct tp_buffer said = tp_buffer_growing(1000);
    start(&server);
    struct inbox inbox = open_websocket(&server);
    add_frame(&said, 0x81, TP_SLICE("one"));
    add_frame(&said, 0x81, TP_SLICE("two"));
    say(inbox.fd, tp_buffer_slice(&said));
    UNTIL(&server, server.message_count == 1);
    say_frame(inbox.fd, 0x81, TP_SLICE("three"));
    for (int i = 0; i < 10; i++)
        turn(&server);
    cr_assert_eq(server.message_count, 1, "the second came in the same bytes as the first");

    tp_connection_resume(server.last);
    UNTIL(&server, server.message_count == 3);

    cr_assert(
        tp_slice_equal(tp_buffer_slice(&server.messages), TP_SLICE("t:one\nt:two\nt:three\n")));
    cr_assert_eq(tp_net_counts(server.net).pauses, 1);
    tp_buffer_finish(&said);
    hang_up(&inbox);
    UNTIL(&server, server.closed_count == 1);
    stop(&server);
}

Test(net, delivers_what_came_before_a_sudden_end_even_when_it_was_paused)
{
    struct server server = {.pause_once = true};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("one"));
    UNTIL(&server, server.message_count == 1);
    say_frame(inbox.fd, 0x81, TP_SLICE("two"));
    hang_up(&inbox);
    for (int i = 0; i < 10; i++)
        turn(&server);
    cr_assert_eq(server.closed_count, 0);

    tp_connection_resume(server.last);
    UNTIL(&server, server.closed_count == 1);

    cr_assert_eq(server.message_count, 2);
    stop(&server);
}

/* A second server in the same thread plays the other shard. */
static void move(struct server *from, struct server *to)
{
    UNTIL(from, from->detached_count == 1);
    cr_assert_eq(tp_net_connection_count(from->net), 0);
    tp_net_attach(to->net, from->last);
}

Test(net, moves_a_connection_with_what_it_had_begun_to_say)
{
    struct server here = {.detach_once = true, .echo = true}, there = {.echo = true};
    struct tp_buffer said = tp_buffer_growing(1000);
    start(&here);
    start(&there);
    struct inbox inbox = open_websocket(&here);
    /* Detached inside the first message; behind it a whole one, half a message and half a frame. */
    add_frame(&said, 0x81, TP_SLICE("one"));
    add_frame(&said, 0x81, TP_SLICE("two"));
    add_frame(&said, 0x01, TP_SLICE("th"));
    add_frame(&said, 0x80, TP_SLICE("ree"));
    say(inbox.fd, tp_slice_of(said.data, said.size - 5));
    UNTIL(&here, here.message_count == 1);
    cr_assert_eq(here.detached_count, 0, "not inside the call, and the echo has to go first");
    move(&here, &there);
    UNTIL(&there, there.message_count == 1);

    say(inbox.fd, tp_slice_of(said.data + said.size - 5, 5));
    say_frame(inbox.fd, 0x81, TP_SLICE("four"));
    UNTIL(&there, there.message_count == 3);

    cr_assert(tp_slice_equal(tp_buffer_slice(&here.messages), TP_SLICE("t:one\n")));
    cr_assert(
        tp_slice_equal(tp_buffer_slice(&there.messages), TP_SLICE("t:two\nt:three\nt:four\n")));
    UNTIL(&there, has(&inbox, 5 + 5 + 7 + 6));
    cr_assert_arr_eq(inbox.bytes.data,
                     "\x81\x03one\x81\x03two\x81\x05three\x81\x04"
                     "four",
                     23);
    hang_up(&inbox);
    UNTIL(&there, there.closed_count == 1);
    cr_assert_eq(here.closed_count, 0);
    tp_buffer_finish(&said);
    stop(&here);
    stop(&there);
}

Test(net, moves_a_connection_in_the_middle_of_a_message)
{
    struct server here = {.echo = true}, there = {.echo = true};
    start(&here);
    start(&there);
    struct inbox inbox = open_websocket(&here);
    say_frame(inbox.fd, 0x01, TP_SLICE("be"));
    UNTIL(&here, tp_net_counts(here.net).bytes_in > sizeof handshake);
    tp_connection_detach(here.last);
    move(&here, &there);

    say_frame(inbox.fd, 0x80, TP_SLICE("gun"));
    UNTIL(&there, there.message_count == 1);

    cr_assert(tp_slice_equal(tp_buffer_slice(&there.messages), TP_SLICE("t:begun\n")));
    hang_up(&inbox);
    stop(&here);
    stop(&there);
}

Test(net, moves_a_connection_whose_client_has_gone_with_its_last_words)
{
    struct server here = {.detach_once = true}, there = {0};
    struct tp_buffer said = tp_buffer_growing(1000);
    start(&here);
    start(&there);
    struct inbox inbox = open_websocket(&here);
    add_frame(&said, 0x81, TP_SLICE("one"));
    add_frame(&said, 0x81, TP_SLICE("two"));
    say(inbox.fd, tp_buffer_slice(&said));
    hang_up(&inbox);

    move(&here, &there);
    UNTIL(&there, there.closed_count == 1);

    cr_assert(tp_slice_equal(tp_buffer_slice(&there.messages), TP_SLICE("t:two\n")));
    cr_assert_eq(here.closed_count, 0);
    tp_buffer_finish(&said);
    stop(&here);
    stop(&there);
}

Test(net, closes_instead_of_moving_when_told_to)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);

    tp_connection_detach(server.last);
    tp_connection_abort(server.last);
    UNTIL(&server, server.closed_count == 1);

    cr_assert_eq(server.detached_count, 0);
    hang_up(&inbox);
    stop(&server);
}

Test(net, can_give_up_a_connection_that_nobody_wants)
{
    struct server server = {0};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x01, TP_SLICE("half"));
    UNTIL(&server, tp_net_counts(server.net).bytes_in > sizeof handshake);
    tp_connection_detach(server.last);
    UNTIL(&server, server.detached_count == 1);

    tp_connection_abandon(server.last);

    UNTIL(&server, ended(&inbox));
    cr_assert_eq(server.closed_count, 0);
    hang_up(&inbox);
    stop(&server);
}

static void count_each(void *context, struct tp_connection *connection)
{
    ++*(uint32_t *)context;
    tp_connection_close(connection, 1001, TP_SLICE(""));
}

Test(net, visits_every_connection_and_knows_their_addresses)
{
    struct server server = {0};
    uint32_t count = 0;
    char address[64], expected[64];
    struct sockaddr_in own;
    socklen_t size = sizeof own;
    start(&server);
    struct inbox first = open_websocket(&server), second = open_websocket(&server);
    cr_assert_eq(getsockname(second.fd, (struct sockaddr *)&own, &size), 0);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(own.sin_port));

    tp_connection_peer_address(server.last, address);
    cr_assert_str_eq(address, expected);
    tp_connection_set_user(server.last, &count);
    cr_assert_eq(tp_connection_user(server.last), &count);
    tp_net_each(server.net, count_each, &count);
    tp_net_each(server.net, count_each, &count);

    cr_assert_eq(count, 2, "one that is closing is not visited again");
    UNTIL(&server, comes(&first, "\x88\x02\x03\xe9") && comes(&second, "\x88\x02\x03\xe9"));
    hang_up(&first);
    hang_up(&second);
    stop(&server);
    cr_assert_eq(server.closed_count, 2);
}

/* ---- budgets
 * ---------------------------------------------------------------------------------------------- */

Test(net, does_not_listen_to_who_asks_for_more_than_its_outbox_and_does_not_read)
{
    enum { SIZE = 100000 };
    struct server server = {.limits = tp_net_limits_default, .echo = true};
    server.limits.outbox_size_max = 2 * SIZE;
    start(&server);
    struct inbox inbox = open_websocket(&server);
    struct tp_frame *large = sealed(&server, 7, SIZE);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);

    size_t queued_count = 0; /* answers, which are not refused */
    while (tp_connection_unsent_size(server.last) <= 2 * SIZE) {
        cr_assert_eq(tp_connection_send(server.last, large, 0, TP_OUTBOX_CONTROL, 0), TP_OK);
        queued_count++;
        turn(&server);
    }
    cr_assert_eq(tp_net_unsent_size(server.net), tp_connection_unsent_size(server.last));
    say_frame(inbox.fd, 0x81, TP_SLICE("b"));
    for (int i = 0; i < 20; i++)
        turn(&server);
    cr_assert_eq(server.message_count, 1, "it is not heard");

    UNTIL(&server, (receive(&inbox), server.message_count == 2));
    UNTIL(&server, has(&inbox, 3 + queued_count * (SIZE + 10) + 3));
    cr_assert_eq(tp_net_unsent_size(server.net), 0);
    tp_frame_unref(large);
    hang_up(&inbox);
    stop(&server);
}

Test(net, drops_who_does_not_read_what_it_asked_for_and_who_is_not_heard_for_that)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.outbox_size_max = 1000;
    server.limits.ping_time_ns = 20 * MS;
    server.limits.dead_time_ns = 60 * MS;
    start(&server);
    struct inbox inbox = open_websocket(&server);
    struct tp_frame *large = sealed(&server, 7, 8 << 20); /* more than the kernel takes */
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);

    cr_assert_eq(tp_connection_send(server.last, large, 0, TP_OUTBOX_CONTROL, 0), TP_OK);

    UNTIL(&server, server.closed_count == 1);
    cr_assert_eq(tp_net_counts(server.net).slow_closed, 1);
    UNTIL(&server, tp_net_connection_count(server.net) == 0);
    cr_assert_eq(tp_net_unsent_size(server.net), 0);
    tp_frame_unref(large);
    hang_up(&inbox);
    stop(&server);
}

Test(net, gives_each_a_small_outbox_while_all_together_have_too_much)
{
    struct server server = {.limits = tp_net_limits_default};
    server.limits.outbox_size_max = 64 << 20;
    server.limits.output_size_max = 10 << 20;
    start(&server);
    struct inbox greedy = open_websocket(&server);
    say_frame(greedy.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);
    struct tp_connection *const first = server.last;
    struct inbox modest = open_websocket(&server);
    say_frame(modest.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 2);
    struct tp_frame *large = sealed(&server, 7, 6 << 20), *small = sealed(&server, 8, 60 << 10);

    cr_assert_eq(tp_connection_send(first, large, 1, TP_OUTBOX_DOCUMENT, 0), TP_OK);
    cr_assert_eq(tp_connection_send(first, large, 1, TP_OUTBOX_DOCUMENT, 0), TP_OK,
                 "it may have 64M");
    cr_assert_eq(tp_connection_send(first, small, 1, TP_OUTBOX_DOCUMENT, 0), TP_FULL);
    cr_assert_eq(tp_connection_send(server.last, small, 1, TP_OUTBOX_DOCUMENT, 0), TP_OK);
    cr_assert_eq(tp_connection_send(server.last, small, 1, TP_OUTBOX_DOCUMENT, 0), TP_FULL);

    cr_assert_gt(tp_connection_drop(first, 1, TP_OUTBOX_DOCUMENT, &(uint32_t){0}), 0);
    cr_assert_eq(tp_connection_send(server.last, small, 1, TP_OUTBOX_DOCUMENT, 0), TP_OK);
    tp_frame_unref(large);
    tp_frame_unref(small);
    hang_up(&greedy);
    hang_up(&modest);
    stop(&server);
}

Test(net, says_the_lowest_mark_of_what_it_drops)
{
    struct server server = {.limits = tp_net_limits_default};
    start(&server);
    struct inbox inbox = open_websocket(&server);
    say_frame(inbox.fd, 0x81, TP_SLICE("a"));
    UNTIL(&server, server.message_count == 1);
    struct tp_frame *frame = sealed(&server, 1, 10);
    uint32_t mark = 9;

    cr_assert_eq(tp_connection_send(server.last, frame, 1, TP_OUTBOX_DOCUMENT, 7), TP_OK);
    cr_assert_eq(tp_connection_send(server.last, frame, 1, TP_OUTBOX_DOCUMENT, 5), TP_OK);
    cr_assert_eq(tp_connection_send(server.last, frame, 2, TP_OUTBOX_DOCUMENT, 3), TP_OK);
    cr_assert_eq(tp_connection_send(server.last, frame, 1, TP_OUTBOX_AWARENESS, 2), TP_OK);

    cr_assert_eq(tp_connection_drop(server.last, 1, TP_OUTBOX_DOCUMENT, &mark), 2);
    cr_assert_eq(mark, 5);
    cr_assert_eq(tp_connection_drop(server.last, 1, TP_OUTBOX_DOCUMENT, &mark), 0);
    cr_assert_eq(mark, 5);
    tp_frame_unref(frame);
    hang_up(&inbox);
    stop(&server);
}
