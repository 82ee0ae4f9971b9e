#include "seam/message.h"

static void move(struct tp_slice *slice, struct tp_slice from, const uint8_t *to)
{
    if (slice->data >= from.data && slice->data <= from.data + from.size && slice->data != NULL)
        slice->data = to + (slice->data - from.data);
}

void tp_message_keep(struct tp_message *message, struct tp_pool *pool)
{
    if (message->frame != NULL || message->raw.data == NULL)
        return;
    message->frame = tp_frame_create(pool, message->raw);
    tp_message_rebase(message, tp_frame_message(message->frame).data);
}

void tp_message_rebase(struct tp_message *message, const uint8_t *to)
{
    const struct tp_slice from = message->raw;

    message->raw.data = to;
    move(&message->document, from, to);
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        move(&message->state_vector, from, to);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        move(&message->update.v1, from, to);
        move(&message->update.v2, from, to);
        move(&message->update.sidecars, from, to);
        move(&message->update.container, from, to);
        break;
    case TP_MESSAGE_AWARENESS:
        move(&message->awareness, from, to);
        break;
    case TP_MESSAGE_ACK:
        move(&message->ack.id_text, from, to);
        move(&message->ack.error, from, to);
        break;
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        move(&message->presence.client_id, from, to);
        move(&message->presence.user_id, from, to);
        move(&message->presence.data, from, to);
        move(&message->presence.entries, from, to);
        break;
    case TP_MESSAGE_AUTH:
        move(&message->auth.reason, from, to);
        break;
    case TP_MESSAGE_RPC:
        move(&message->rpc.method, from, to);
        move(&message->rpc.request_id, from, to);
        move(&message->rpc.details, from, to);
        move(&message->rpc.payload, from, to);
        break;
    case TP_MESSAGE_ECHO:
        move(&message->echo, from, to);
        break;
    case TP_MESSAGE_SYNC_DONE:
    case TP_MESSAGE_AWARENESS_QUERY:
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG:
    case TP_MESSAGE_COUNT:
        break;
    }
}

void tp_message_drop(struct tp_message *message)
{
    tp_frame_unref(message->frame);
    message->frame = NULL;
}
