#include "wire/yprotocol.h"

#include "wire/writer.h"

enum { SYNC_STEP_1 = 0, SYNC_STEP_2 = 1, SYNC_UPDATE = 2 };
enum { AUTH_DENIED = 0 };

/* False: a subtype that nobody knows. */
static bool read_sync(struct tp_reader *in, struct tp_message *out)
{
    switch (tp_read_varuint(in)) {
    case SYNC_STEP_1:
        out->kind = TP_MESSAGE_SYNC_STEP_1;
        out->state_vector = tp_read_bytes(in);
        return true;
    case SYNC_STEP_2:
        out->kind = TP_MESSAGE_SYNC_STEP_2;
        out->update = (struct tp_message_update){.v1 = tp_read_bytes(in)};
        return true;
    case SYNC_UPDATE:
        out->kind = TP_MESSAGE_UPDATE;
        out->update = (struct tp_message_update){.v1 = tp_read_bytes(in)};
        return true;
    default:
        return false;
    }
}

static bool read_auth(struct tp_reader *in, struct tp_message *out)
{
    if (tp_read_varuint(in) != AUTH_DENIED)
        return false;
    out->kind = TP_MESSAGE_AUTH;
    out->auth = (struct tp_message_auth){.allowed = false, .reason = tp_read_string(in)};
    return true;
}

enum tp_status tp_yprotocol_read(struct tp_reader *in, struct tp_message *out)
{
    struct tp_message message = *out;
    bool known = true;

    switch (tp_read_varuint(in)) {
    case TP_YPROTOCOL_SYNC:
        known = read_sync(in, &message);
        break;
    case TP_YPROTOCOL_AWARENESS:
        message.kind = TP_MESSAGE_AWARENESS;
        message.awareness = tp_read_bytes(in);
        break;
    case TP_YPROTOCOL_AUTH:
        known = read_auth(in, &message);
        break;
    case TP_YPROTOCOL_AWARENESS_QUERY:
        message.kind = TP_MESSAGE_AWARENESS_QUERY;
        break;
    case TP_YPROTOCOL_ECHO:
        message.kind = TP_MESSAGE_ECHO;
        message.echo = tp_read_bytes(in);
        break;
    default:
        known = false;
    }
    if (in->bad)
        return TP_MALFORMED;
    if (!known)
        return TP_ABSENT;
    *out = message;
    return TP_OK;
}

static void write_sync(struct tp_buffer *out, uint8_t subtype, struct tp_slice payload)
{
    tp_write_u8(out, TP_YPROTOCOL_SYNC);
    tp_write_u8(out, subtype);
    tp_write_bytes(out, payload);
}

static void write_update(struct tp_buffer *out, uint8_t subtype,
                         const struct tp_message_update *update)
{
    TP_ASSERT(update->v1.data != NULL); /* nobody turned V2 into what we need */
    write_sync(out, subtype, update->v1);
}

enum tp_status tp_yprotocol_write(const struct tp_message *message, struct tp_buffer *out)
{
    if (message->encrypted)
        return TP_ABSENT; /* nobody here could read it */

    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        write_sync(out, SYNC_STEP_1, message->state_vector);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
        write_update(out, SYNC_STEP_2, &message->update);
        break;
    case TP_MESSAGE_UPDATE:
        write_update(out, SYNC_UPDATE, &message->update);
        break;
    case TP_MESSAGE_AWARENESS:
        tp_write_u8(out, TP_YPROTOCOL_AWARENESS);
        tp_write_bytes(out, message->awareness);
        break;
    case TP_MESSAGE_AWARENESS_QUERY:
        tp_write_u8(out, TP_YPROTOCOL_AWARENESS_QUERY);
        break;
    case TP_MESSAGE_AUTH:
        if (message->auth.allowed)
            return TP_ABSENT; /* only the refusal has a form */
        tp_write_u8(out, TP_YPROTOCOL_AUTH);
        tp_write_u8(out, AUTH_DENIED);
        tp_write_bytes(out, message->auth.reason);
        break;
    case TP_MESSAGE_ECHO:
        tp_write_u8(out, TP_YPROTOCOL_ECHO);
        tp_write_bytes(out, message->echo);
        break;
    case TP_MESSAGE_SYNC_DONE: /* none of these has a counterpart: no acknowledgements, no */
    case TP_MESSAGE_ACK:       /* presence but awareness, no calls, no pings                */
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
    case TP_MESSAGE_RPC:
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG:
    case TP_MESSAGE_COUNT:
        return TP_ABSENT;
    }
    return out->full ? TP_FULL : TP_OK;
}
