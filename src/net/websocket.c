/* WebSocket on a connection: pieces become messages, control frames are answered. */
#include <stdlib.h>

#include "internal.h"

void tp_connection_drop_message(struct tp_connection *connection)
{
    if (connection->message == NULL)
        return;
    connection->net->joined_size -= connection->message->capacity;
    free(connection->message);
    connection->message = NULL;
}

void tp_connection_send_control(struct tp_connection *connection, enum tp_websocket_opcode opcode,
                                struct tp_slice payload)
{
    struct tp_frame *frame = tp_frame_create(connection->net->pool, payload);

    tp_websocket_seal(frame, opcode);
    tp_connection_queue(connection, frame, 0, TP_OUTBOX_CONTROL, 0);
    tp_frame_unref(frame);
}

void tp_connection_send_close(struct tp_connection *connection, uint16_t code,
                              struct tp_slice reason)
{
    uint8_t payload[TP_WEBSOCKET_CONTROL_SIZE_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t size = tp_min(reason.size, sizeof payload - 2);

    if (code == TP_WEBSOCKET_NO_CODE) {
        tp_connection_send_control(connection, TP_WEBSOCKET_CLOSE, (struct tp_slice){0});
        return;
    }
    while (size < reason.size && size > 0 && (reason.data[size] & 0xc0) == 0x80)
        size--; /* no half characters */
    if (size > 0)
        memcpy(payload + 2, reason.data, size);
    tp_connection_send_control(connection, TP_WEBSOCKET_CLOSE, tp_slice_of(payload, 2 + size));
}

/* The connection cannot go on (RFC 6455 section 7.1.7). */
static void fail(struct tp_connection *connection, uint16_t code)
{
    connection->net->counts.protocol_errors++;
    if (connection->state == STATE_WEBSOCKET)
        tp_connection_send_close(connection, code, TP_SLICE(""));
    tp_connection_leave(connection, code);
}

static void deliver(struct tp_connection *connection, struct tp_slice bytes, bool text)
{
    struct tp_net *net = connection->net;

    net->counts.messages_in++;
    net->handler.message(net->context, connection, bytes, text);
}

static bool grow_message(struct tp_connection *connection, const struct tp_websocket_piece *piece)
{
    struct tp_net *net = connection->net;
    const size_t before = connection->message == NULL ? 0 : connection->message->capacity;
    /* The first piece knows what is to come; how much of that is believed is bounded. */
    const size_t hint = before == 0 ? tp_min(piece->size_claimed, JOIN_STEP) : 0;

    tp_bytes_reserve(&connection->message, tp_max(piece->size, hint));
    net->joined_size += connection->message->capacity - before;
    return net->joined_size <= net->limits.joined_size_max;
}

static void join(struct tp_connection *connection, const struct tp_websocket_piece *piece)
{
    struct tp_net *net = connection->net;

    if (!grow_message(connection, piece)) {
        net->counts.join_failures++;
        fail(connection, TP_WEBSOCKET_TRY_LATER);
        return;
    }
    tp_bytes_append(&connection->message, piece->data, piece->size);
    if (!piece->last)
        return;
    struct tp_bytes *whole = connection->message;
    connection->message = NULL;
    net->joined_size -= whole->capacity;
    deliver(connection, tp_slice_of(whole->data, whole->size), piece->opcode == TP_WEBSOCKET_TEXT);
    free(whole);
}

static void handle_close(struct tp_connection *connection, struct tp_slice payload)
{
    struct tp_slice reason;
    uint16_t code;

    if (tp_websocket_close_decode(payload, &code, &reason) != TP_OK) {
        fail(connection, code);
        return;
    }
    if (connection->state == STATE_WEBSOCKET)
        tp_connection_send_close(connection, code, TP_SLICE(""));
    tp_connection_leave(connection, code);
}

static void handle(struct tp_connection *connection, const struct tp_websocket_piece *piece)
{
    const struct tp_slice bytes = tp_slice_of(piece->data, piece->size);

    switch (piece->opcode) {
    case TP_WEBSOCKET_TEXT:
    case TP_WEBSOCKET_BINARY:
        if (connection->state == STATE_CLOSING)
            return; /* we have said goodbye */
        if (piece->first && piece->last)
            deliver(connection, bytes, piece->opcode == TP_WEBSOCKET_TEXT);
        else
            join(connection, piece);
        return;
    case TP_WEBSOCKET_CLOSE:
        handle_close(connection, bytes);
        return;
    case TP_WEBSOCKET_PING:
        /* One who pings and does not read gets no pongs: they need not all be answered
         * (section 5.5.3). */
        if (connection->state == STATE_WEBSOCKET &&
            connection->outbox.unsent_size < connection->net->limits.outbox_size_max)
            tp_connection_send_control(connection, TP_WEBSOCKET_PONG, bytes);
        return;
    default:
        return; /* a pong was noted as a sign of life when it was received */
    }
}

size_t tp_connection_feed_websocket(struct tp_connection *connection, uint8_t *data, size_t size)
{
    uint8_t *at = data;

    while (connection->blocks == 0 &&
           (connection->state == STATE_WEBSOCKET || connection->state == STATE_CLOSING)) {
        struct tp_websocket_piece piece;
        const enum tp_status status =
            tp_websocket_read(&connection->reader, &at, data + size, &piece);
        if (status == TP_MORE)
            return size;
        if (status == TP_OK) {
            handle(connection, &piece);
        } else {
            fail(connection, connection->reader.close_code);
            return size;
        }
    }
    return (size_t)(at - data);
}
