/* y-websocket: y-protocols' messages as they are, one document a connection (spec 05). */
#include "dialect/dialect.h"
#include "wire/awareness.h"
#include "wire/yprotocol.h"

/* The client leaves after 30 s without a message, and looks every 3 s. An awareness update about
 * nobody costs it nothing (spec 05 section 6). */
#define KEEPALIVE_NS (UINT64_C(14) * 1000 * 1000 * 1000)
static const uint8_t keepalive[] = {TP_YPROTOCOL_AWARENESS, 1, 0};

/* Stricter than decode: one known message with nothing behind it. */
static bool claims(struct tp_slice first)
{
    struct tp_reader in = tp_reader_of(first);
    struct tp_message message = {0};

    if (tp_yprotocol_read(&in, &message) != TP_OK || in.at != in.end)
        return false;
    return message.kind != TP_MESSAGE_AWARENESS || tp_awareness_valid(message.awareness);
}

static enum tp_status decode(const struct tp_dialect_state *state, struct tp_slice bytes,
                             struct tp_message_sink sink, enum tp_close_reason *reason)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_message message = {.dialect = TP_DIALECT_YWEBSOCKET, .document = state->document};

    switch (tp_yprotocol_read(&in, &message)) {
    case TP_OK:
        break;
    case TP_ABSENT: /* not known here: the reference ignores it too */
        return TP_OK;
    default:
        *reason = TP_CLOSE_MALFORMED;
        return TP_MALFORMED;
    }
    message.raw =
        tp_slice_of(bytes.data, (size_t)(in.at - bytes.data)); /* without what follows it */
    sink.take(sink.context, &message);
    return TP_OK;
}

static enum tp_status encode(const struct tp_message *message, struct tp_slice document,
                             uint32_t variant, struct tp_buffer *out)
{
    (void)document; /* the connection says which */
    (void)variant;
    if (message->kind == TP_MESSAGE_SYNC_STEP_2 && message->dialect != TP_DIALECT_NONE) {
        struct tp_message news = *message;
        news.kind = TP_MESSAGE_UPDATE;
        return tp_yprotocol_write(&news, out);
    }
    return tp_yprotocol_write(message, out);
}

static bool relays_raw(const struct tp_message *message)
{
    if (message->dialect != TP_DIALECT_YWEBSOCKET || message->raw.data == NULL)
        return false;
    if (message->ready)
        return true;
    /* not a step 2: for the others it is an update */
    return message->kind == TP_MESSAGE_UPDATE || message->kind == TP_MESSAGE_AWARENESS ||
           message->kind == TP_MESSAGE_AWARENESS_QUERY;
}

/* Spec 05 section 7: 44xx makes a client of version 3 stop, anything else makes it come back. */
static uint16_t close_code(enum tp_close_reason reason)
{
    switch (reason) {
    case TP_CLOSE_NORMAL:
        return 1000;
    case TP_CLOSE_GOING_AWAY:
        return 1001;
    case TP_CLOSE_INTERNAL:
        return 1011;
    case TP_CLOSE_RESTARTING:
        return 1012;
    case TP_CLOSE_OVERLOAD:
        return 1013;
    case TP_CLOSE_UNSUPPORTED:
    case TP_CLOSE_BAD_UTF8:
    case TP_CLOSE_POLICY:
    case TP_CLOSE_MALFORMED:
        return 4400;
    case TP_CLOSE_UNAUTHORIZED:
        return 4401;
    case TP_CLOSE_FORBIDDEN:
        return 4403;
    case TP_CLOSE_DELETED:
        return 4404;
    case TP_CLOSE_STALE_EPOCH:
        return 4409;
    case TP_CLOSE_TOO_BIG:
    case TP_CLOSE_DOCUMENT_TOO_BIG:
        return 4413;
    case TP_CLOSE_LOAD_FAILED:
    case TP_CLOSE_EXPIRED:
        return 4503;
    case TP_CLOSE_RATE:
        return 4529;
    }
    return 1011;
}

extern const struct tp_dialect tp_dialect_ywebsocket;
const struct tp_dialect tp_dialect_ywebsocket = {
    .name = "y-websocket",
    .id = TP_DIALECT_YWEBSOCKET,
    .claims = claims,
    .decode = decode,
    .encode = encode,
    .relays_raw = relays_raw,
    .update_encoding = 1,
    .keepalive = {keepalive, sizeof keepalive},
    .keepalive_ns = KEEPALIVE_NS,
    .close_code = close_code,
};
