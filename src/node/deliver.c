/* Messages to frames, frames to connections. Each dialect's bytes are made once per message,
 * however many peers take them; peers of the sender's dialect get the sender's own bytes. */
#include "node/shard.h"

/* Awareness behind more than this would be old when it is read. */
#define AWARENESS_UNSENT_MAX ((size_t)64 << 10)

/* Bytes that surely hold `message` in any dialect: its parts, and what frames them. */
size_t tp_deliver_size_max(const struct tp_message *message, struct tp_slice document)
{
    size_t size = 256 + document.size;

    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        return size + message->state_vector.size;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        return size + tp_max(message->update.v1.size, message->update.v2.size) +
               message->update.sidecars.size;
    case TP_MESSAGE_AWARENESS:
        return size + message->awareness.size;
    case TP_MESSAGE_ACK:
        return size + message->ack.error.size;
    case TP_MESSAGE_AUTH:
        return size + message->auth.reason.size;
    case TP_MESSAGE_RPC:
        return size + message->rpc.method.size + message->rpc.request_id.size +
               message->rpc.details.size + message->rpc.payload.size;
    case TP_MESSAGE_ECHO:
        return size + message->echo.size;
    default:
        return size + message->presence.client_id.size + message->presence.user_id.size +
               message->presence.data.size + message->presence.entries.size;
    }
}

enum tp_outbox_class tp_deliver_class(enum tp_message_kind kind)
{
    switch (kind) {
    case TP_MESSAGE_UPDATE:
    case TP_MESSAGE_SYNC_STEP_2:
        return TP_OUTBOX_DOCUMENT;
    case TP_MESSAGE_AWARENESS:
    case TP_MESSAGE_AWARENESS_QUERY:
        return TP_OUTBOX_AWARENESS;
    default:
        return TP_OUTBOX_CONTROL;
    }
}

/* The message as one WebSocket frame of `dialect`, with one reference; NULL if it cannot be said
 * there. */
static struct tp_frame *encode(struct tp_shard *shard, const struct tp_message *message,
                               const struct tp_dialect *dialect, struct tp_slice document,
                               uint32_t variant)
{
    if (message->frame != NULL && message->dialect == dialect->id && message->raw.data != NULL &&
        dialect->relays_raw(message)) {
        tp_websocket_seal(message->frame, TP_WEBSOCKET_BINARY);
        return tp_frame_ref(message->frame);
    }

    const size_t size_max = tp_deliver_size_max(message, document);
    struct tp_frame *frame = tp_frame_alloc(&shard->pool, size_max);
    struct tp_buffer out = tp_buffer_fixed(frame->data + TP_FRAME_HEAD_SIZE, size_max);
    if (dialect->encode(message, document, variant, &out) != TP_OK) {
        tp_frame_unref(frame);
        return NULL;
    }
    TP_ASSERT(!out.full);
    frame->size = TP_FRAME_HEAD_SIZE + (uint32_t)out.size;
    tp_websocket_seal(frame, TP_WEBSOCKET_BINARY);
    return frame;
}

/* The session is to note what the peer has surely been sent: all before `mark`. */
static void tell_behind(struct tp_subscription *subscription, uint32_t mark)
{
    struct tp_document *document = subscription->document;
    struct tp_shard *shard = document->shard;
    struct tp_member *member = subscription->member;

    if (member != NULL) {
        member->fallen_mark = mark;
        tp_link_insert(&document->fallen, &member->in_fallen);
        return;
    }
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_BEHIND, 0);
    letter->subscription = subscription;
    letter->mark = mark;
    tp_post_send(shard->reactor, document->owner, &letter->letter);
    shard->counters.letters_sent++;
}

/* No more of this class for now: what is queued of it goes, and the newest follows once the
 * connection has drained. */
static void fall_behind(struct tp_subscription *subscription, enum tp_outbox_class class,
                        uint32_t mark)
{
    struct tp_connection *connection = subscription->channel->connection;

    tp_connection_drop(connection, (uint64_t)(uintptr_t)subscription, class, &mark);
    if (class == TP_OUTBOX_DOCUMENT) {
        subscription->behind = true;
        tell_behind(subscription, mark);
    } else {
        subscription->unaware = true;
    }
    tp_connection_notify(connection);
}

/* A frame for the subscription's connection. A connection that cannot take another update of a
 * document loses all that are queued of it, and gets what it missed once it has drained. The same
 * goes for awareness, whose states make each other obsolete: much less of it may wait. */
void tp_deliver_frame(struct tp_subscription *subscription, struct tp_frame *frame,
                      enum tp_outbox_class class, uint32_t mark)
{
    struct tp_channel *channel = subscription->channel;
    const uint64_t label = (uint64_t)(uintptr_t)subscription;

    if (channel == NULL || channel->closing)
        return;
    struct tp_shard *shard = channel->shard;
    if ((class == TP_OUTBOX_DOCUMENT && subscription->behind) ||
        (class == TP_OUTBOX_AWARENESS && subscription->unaware))
        return;
    const bool is_stale = class == TP_OUTBOX_AWARENESS &&
                          tp_connection_unsent_size(channel->connection) > AWARENESS_UNSENT_MAX;
    const enum tp_status status =
        is_stale ? TP_FULL : tp_channel_send(channel, frame, label, class, mark);
    if (status == TP_OK) {
        tp_client_sent(&channel->client);
        shard->counters.deliveries++;
    }
    if (status != TP_FULL)
        return;

    shard->counters.outbox_full++;
    if (class == TP_OUTBOX_CONTROL)
        tp_channel_close(channel, TP_CLOSE_OVERLOAD); /* answers are never dropped */
    else
        fall_behind(subscription, class, mark);
}

/* One letter to the shard where a remote member's connection lives. */
static struct tp_shard_letter *letter_with(struct tp_shard *shard, enum tp_letter_kind kind,
                                           struct tp_slice bytes)
{
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, kind, bytes.size);

    memcpy(letter->bytes, bytes.data, bytes.size);
    return letter;
}

void tp_deliver_send(struct tp_member *member, struct tp_message *message)
{
    struct tp_document *document = member->document;
    struct tp_shard *shard = document->shard;
    const struct tp_peer *peer = &member->peer;
    struct tp_frame *frame =
        encode(shard, message, tp_dialect_get(peer->dialect), peer->document_name, peer->variant);

    if (frame == NULL)
        return;
    /* An answer belongs to its question, also when it is a document's content: only broadcasts may
     * be dropped for a diff. */
    const enum tp_outbox_class class =
        message->kind == TP_MESSAGE_AWARENESS ? TP_OUTBOX_AWARENESS : TP_OUTBOX_CONTROL;
    if (message->kind == TP_MESSAGE_ACK)
        shard->counters.acks_sent++;
    if (member->home == shard->index) {
        tp_deliver_frame(member->subscription, frame, class, 0);
    } else {
        struct tp_shard_letter *letter =
            letter_with(shard, TP_LETTER_SEND, tp_frame_message(frame));
        letter->subscription = member->subscription;
        letter->class = class;
        tp_post_send(shard->reactor, member->home, &letter->letter);
    }
    tp_frame_unref(frame);
}

void tp_deliver_broadcast(struct tp_document *document, struct tp_message *message,
                          uint32_t audience, const struct tp_member *except)
{
    struct tp_shard *shard = document->shard;
    struct tp_frame *frames[TP_DIALECT_COUNT] = {NULL};
    bool tried[TP_DIALECT_COUNT] = {false};
    const struct tp_slice name = tp_session_document(document->session);
    const enum tp_outbox_class class = tp_deliver_class(message->kind);

    TP_LIST_EACH_SAFE(link, &document->subscriptions)
    {
        struct tp_subscription *subscription =
            TP_CONTAINER(link, struct tp_subscription, in_document);
        struct tp_member *member = subscription->member;
        if (member == NULL || member == except || (member->peer.audience & audience) == 0)
            continue;
        const enum tp_dialect_id id = member->peer.dialect;
        if (!tried[id]) {
            tried[id] = true;
            frames[id] = encode(shard, message, tp_dialect_get(id), name, 0);
        }
        if (frames[id] != NULL)
            tp_deliver_frame(subscription, frames[id], class, message->mark);
    }

    for (uint32_t home = 0; document->remote_counts != NULL && home < shard->count; home++) {
        for (uint32_t id = 1; id < TP_DIALECT_COUNT; id++) {
            if (document->remote_counts[home * TP_DIALECT_COUNT + id] == 0)
                continue;
            if (!tried[id]) {
                tried[id] = true;
                frames[id] = encode(shard, message, tp_dialect_get(id), name, 0);
            }
            if (frames[id] == NULL)
                continue;
            struct tp_shard_letter *letter =
                letter_with(shard, TP_LETTER_BROADCAST, tp_frame_message(frames[id]));
            letter->outpost = document->outposts[home];
            letter->subscription =
                except != NULL && except->home == home ? except->subscription : NULL;
            letter->audience = audience;
            letter->class = class;
            letter->dialect = id;
            letter->mark = message->mark;
            tp_post_send(shard->reactor, home, &letter->letter);
            shard->counters.letters_sent++;
        }
    }

    for (uint32_t id = 0; id < TP_DIALECT_COUNT; id++)
        tp_frame_unref(frames[id]);
}

void tp_deliver_to_channel(struct tp_channel *channel, struct tp_message *message)
{
    const struct tp_dialect *dialect = tp_client_dialect(&channel->client);
    struct tp_frame *frame =
        dialect == NULL ? NULL : encode(channel->shard, message, dialect, message->document, 0);

    if (frame == NULL)
        return;
    const enum tp_status status = tp_channel_send(channel, frame, 0, TP_OUTBOX_CONTROL, 0);
    if (status == TP_OK)
        tp_client_sent(&channel->client);
    else if (status == TP_FULL)
        tp_channel_close(channel, TP_CLOSE_OVERLOAD);
    tp_frame_unref(frame);
}
