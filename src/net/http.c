/* HTTP/1.1 on a connection: requests in, answers out. */
#include <stdio.h>

#include "internal.h"

#define HEAD_SIZE_MAX 512u /* of what we write ourselves into an answer's head */

static const char *date(struct tp_net *net)
{
    const uint64_t wall_ms = tp_reactor_wall_ms(net->reactor);

    if (wall_ms / 1000 != net->date_s) {
        net->date_s = wall_ms / 1000;
        tp_http_date(wall_ms, net->date);
    }
    return net->date;
}

static void queue_parts(struct tp_connection *connection, const struct tp_slice *parts,
                        size_t count)
{
    size_t size = 0;

    for (size_t i = 0; i < count; i++)
        size += parts[i].size;
    struct tp_frame *frame = tp_frame_alloc(connection->net->pool, size);
    uint8_t *at = frame->data + frame->start;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].size > 0)
            memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    tp_connection_queue(connection, frame, 0, TP_OUTBOX_CONTROL, 0);
    tp_frame_unref(frame);
}

/* The request has its answer: what follows may be read. */
static void answered(struct tp_connection *connection)
{
    connection->blocks &= (uint8_t)~BLOCK_ANSWER;
    connection->in_request = false;
    if (!connection->feeding) { /* a late answer: nobody looks at the request any more */
        connection->received_ns = tp_reactor_now_ns(connection->net->reactor);
        tp_http_parser_destroy(connection->http);
        connection->http = NULL;
        tp_connection_look(connection);
    }
}

static bool waits_for_answer(const struct tp_connection *connection)
{
    return connection->state == STATE_HTTP && (connection->blocks & BLOCK_ANSWER);
}

static void write_answer(struct tp_connection *connection, unsigned status, const char *type,
                         struct tp_slice head, struct tp_slice body)
{
    struct tp_net *net = connection->net;
    char text[HEAD_SIZE_MAX];
    const bool has_length = status >= 200 && status != 204 && status != 304;
    char length[48] = "";

    if (has_length)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", body.size);
    const int size = snprintf(
        text, sizeof text, "HTTP/1.1 %u %s\r\nDate: %s\r\n%s%s%s%sConnection: %s\r\n", status,
        tp_http_reason(status), date(net),
        type == NULL ? "" : "Content-Type: ", type == NULL ? "" : type, type == NULL ? "" : "\r\n",
        length, connection->keep_alive ? "keep-alive" : "close");
    TP_ASSERT(size > 0 && (size_t)size < sizeof text);
    if (!has_length || connection->answer_head)
        body.size = 0;
    queue_parts(
        connection,
        (const struct tp_slice[]){tp_slice_of(text, (size_t)size), head, TP_SLICE("\r\n"), body},
        4);
}

void tp_connection_respond(struct tp_connection *connection, unsigned status, const char *type,
                           struct tp_slice head, struct tp_slice body)
{
    struct tp_net *net = connection->net;

    if (!waits_for_answer(connection))
        return; /* aborted meanwhile */
    if (net->draining)
        connection->keep_alive = false;
    write_answer(connection, status, type, head, body);
    if (connection->outbox.unsent_size > net->limits.outbox_size_max)
        connection->blocks |= BLOCK_OUTPUT;
    answered(connection);
    if (!connection->keep_alive)
        tp_connection_leave(connection, TP_WEBSOCKET_NORMAL);
    else
        tp_timer_set(net->reactor, &connection->timer,
                     tp_reactor_now_ns(net->reactor) + net->limits.idle_time_ns);
}

void tp_connection_stream(struct tp_connection *connection, const char *type, struct tp_slice head)
{
    struct tp_net *net = connection->net;
    char text[HEAD_SIZE_MAX];

    if (!waits_for_answer(connection))
        return;
    /* No length and no chunks: the body ends with the connection (RFC 9112 section 6.3), which even
     * HTTP/1.0 proxies pass on at once. */
    const int size = snprintf(text, sizeof text,
                              "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\n"
                              "Connection: close\r\n",
                              date(net), type);
    TP_ASSERT(size > 0 && (size_t)size < sizeof text);
    queue_parts(connection,
                (const struct tp_slice[]){tp_slice_of(text, (size_t)size), head, TP_SLICE("\r\n")},
                3);
    connection->keep_alive = false;
    answered(connection);
    if (connection->answer_head) {
        tp_connection_leave(connection, TP_WEBSOCKET_NORMAL);
        return;
    }
    connection->state = STATE_STREAM;
    tp_timer_set(net->reactor, &connection->timer,
                 tp_reactor_now_ns(net->reactor) + net->limits.ping_time_ns);
}

void tp_connection_upgrade(struct tp_connection *connection, struct tp_slice protocol,
                           struct tp_slice head)
{
    struct tp_net *net = connection->net;
    char accept[28];

    if (!waits_for_answer(connection))
        return;
    const struct tp_http_request *request = tp_http_parser_request(connection->http);
    TP_ASSERT(request->upgrade);
    tp_websocket_accept(request->key, accept);
    const struct tp_slice none = {0};
    queue_parts(connection,
                (const struct tp_slice[]){
                    TP_SLICE("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Accept: "),
                    tp_slice_of(accept, sizeof accept), TP_SLICE("\r\n"),
                    protocol.size > 0 ? TP_SLICE("Sec-WebSocket-Protocol: ") : none, protocol,
                    protocol.size > 0 ? TP_SLICE("\r\n") : none, head, TP_SLICE("\r\n")},
                8);
    net->counts.upgraded++;
    answered(connection);
    connection->state = STATE_WEBSOCKET;
    tp_websocket_reader_init(&connection->reader, net->limits.message_size_max);
    tp_timer_set(net->reactor, &connection->timer,
                 tp_reactor_now_ns(net->reactor) + net->limits.ping_time_ns);
}

void tp_connection_refuse(struct tp_connection *connection, unsigned status)
{
    const char *const reason = tp_http_reason(status);
    const struct tp_slice none = {0};

    connection->keep_alive = false;
    connection->answer_head = false;
    connection->net->counts.protocol_errors++;
    write_answer(connection, status, "text/plain",
                 status == 426 ? TP_SLICE("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
                               : none,
                 tp_slice_of(reason, strlen(reason)));
    tp_connection_leave(connection, TP_WEBSOCKET_NORMAL);
}

static void handle_request(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;
    const struct tp_http_request *request = tp_http_parser_request(connection->http);

    net->counts.requests++;
    connection->answer_head = request->head;
    connection->keep_alive = request->keep_alive;
    connection->blocks |= BLOCK_ANSWER;
    if (connection->refused) {
        connection->keep_alive = false;
        tp_connection_respond(connection, 503, "text/plain", TP_SLICE("Retry-After: 2\r\n"),
                              TP_SLICE("too many connections\n"));
        return;
    }
    connection->heard = true;
    net->handler.request(net->context, connection, request);
}

size_t tp_connection_feed_http(struct tp_connection *connection, uint8_t *data, size_t size)
{
    struct tp_net *net = connection->net;
    size_t taken = 0;

    if (connection->http == NULL)
        connection->http =
            tp_http_parser_create(net->limits.header_size_max, net->limits.request_size_max);
    const enum tp_status status =
        tp_http_parser_feed(connection->http, tp_slice_of(data, size), &taken);
    switch (status) {
    case TP_MORE:
        if (!connection->in_request && !tp_http_parser_idle(connection->http)) {
            connection->in_request = true;
            connection->received_ns = connection->request_ns = tp_reactor_now_ns(net->reactor);
            tp_timer_set(net->reactor, &connection->timer,
                         connection->received_ns + net->limits.header_time_ns);
        }
        if (tp_http_parser_continue(connection->http))
            queue_parts(connection,
                        (const struct tp_slice[]){TP_SLICE("HTTP/1.1 100 Continue\r\n\r\n")}, 1);
        return size;
    case TP_OK:
        handle_request(connection);
        /* What the handler saw of the request may go now: a body need not wait for the answer with
         * its sender. An upgrade that is still to be answered needs the handshake's key. */
        if (connection->blocks & BLOCK_ANSWER ? !tp_http_parser_request(connection->http)->upgrade
                                              : connection->state != STATE_HTTP || taken == size) {
            tp_http_parser_destroy(connection->http);
            connection->http = NULL;
        }
        return taken;
    default:
        tp_connection_refuse(connection, tp_http_parser_refusal(connection->http));
        return size;
    }
}
