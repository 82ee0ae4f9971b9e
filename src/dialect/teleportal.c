/* Teleportal: the frames of spec 01 section 2 over WebSocket (section 4). */
#include "dialect/dialect.h"

/* The client wants a frame every 30 s; its own acks and renewals usually see to that. */
#define KEEPALIVE_NS (UINT64_C(14) * 1000 * 1000 * 1000)

static bool claims(struct tp_slice first)
{
    return tp_teleportal_has_magic(first);
}

static enum tp_status decode(const struct tp_dialect_state *state, struct tp_slice bytes,
                             struct tp_message_sink sink, enum tp_close_reason *reason)
{
    struct tp_message message = {
        .kind = TP_MESSAGE_PING, .dialect = TP_DIALECT_TELEPORTAL, .raw = bytes};

    (void)state; /* every frame names its document */
    if (!tp_teleportal_is_ping(bytes)) {
        const enum tp_status status = tp_teleportal_decode(bytes, &message, reason);
        if (status != TP_OK)
            return status; /* a pong too: a client has no ping to answer (section 4.4) */
    }
    sink.take(sink.context, &message);
    return TP_OK;
}

static enum tp_status encode(const struct tp_message *message, struct tp_slice document,
                             uint32_t variant, struct tp_buffer *out)
{
    (void)variant;
    if (message->kind == TP_MESSAGE_PONG) {
        tp_buffer_append(out, TP_TELEPORTAL_PONG.data, TP_TELEPORTAL_PONG.size);
        return out->full ? TP_FULL : TP_OK;
    }
    if (message->kind == TP_MESSAGE_SYNC_STEP_2 && message->dialect != TP_DIALECT_NONE) {
        struct tp_message news = *message;
        news.kind = TP_MESSAGE_UPDATE;
        return tp_teleportal_encode(&news, document, out);
    }
    return tp_teleportal_encode(message, document, out); /* a PING too: never on a WebSocket */
}

static bool relays_raw(const struct tp_message *message)
{
    if (message->dialect != TP_DIALECT_TELEPORTAL || message->raw.data == NULL)
        return false;
    if (message->ready)
        return true;
    switch (message->kind) {
    case TP_MESSAGE_UPDATE:
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_AWARENESS:
    case TP_MESSAGE_AWARENESS_QUERY:
        return true;
    default: /* between one client and the server, or the server's alone to say (section 9.4) */
        return false;
    }
}

/* Spec 01 section 4.7; any code makes the client come back, so they are for people who look. */
static uint16_t close_code(enum tp_close_reason reason)
{
    switch (reason) {
    case TP_CLOSE_NORMAL:
        return 1000;
    case TP_CLOSE_GOING_AWAY:
        return 1001;
    case TP_CLOSE_UNSUPPORTED:
        return 1003;
    case TP_CLOSE_BAD_UTF8:
        return 1007;
    case TP_CLOSE_POLICY:
    case TP_CLOSE_MALFORMED:
        return 1008;
    case TP_CLOSE_TOO_BIG:
        return 1009;
    case TP_CLOSE_INTERNAL:
        return 1011;
    case TP_CLOSE_RESTARTING:
        return 1012;
    case TP_CLOSE_OVERLOAD:
        return 1013;
    case TP_CLOSE_UNAUTHORIZED:
        return 4401;
    case TP_CLOSE_FORBIDDEN:
        return 4403;
    case TP_CLOSE_DELETED:
        return 4404;
    case TP_CLOSE_STALE_EPOCH:
        return 4409;
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

extern const struct tp_dialect tp_dialect_teleportal;
const struct tp_dialect tp_dialect_teleportal = {
    .name = "teleportal",
    .id = TP_DIALECT_TELEPORTAL,
    .claims = claims,
    .decode = decode,
    .encode = encode,
    .relays_raw = relays_raw,
    .update_encoding = 2,
    .keepalive = {(const uint8_t *)"YJSpong", 7},
    .keepalive_ns = KEEPALIVE_NS,
    .close_code = close_code,
};
