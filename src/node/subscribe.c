/* From a channel's message to the document's session, and back: by a call when the document is
 * owned by the connection's shard, by letter when it is not. */
#include <stdlib.h>

#include "node/admin.h"
#include "node/server.h"
#include "node/stream.h"

/* ---- letters ------------------------------------------------------------------------------------
 */

struct tp_shard_letter *tp_shard_letter_create(struct tp_shard *shard, enum tp_letter_kind kind,
                                               size_t bytes_size)
{
    const size_t block_size = sizeof(struct tp_shard_letter) + bytes_size;
    struct tp_shard_letter *letter = tp_pool_take(&shard->pool, block_size);

    TP_ASSERT(block_size <= UINT32_MAX);
    *letter = (struct tp_shard_letter){.letter.kind = kind,
                                       .home = shard->index,
                                       .block_size = (uint32_t)block_size,
                                       .bytes_size = (uint32_t)bytes_size};
    tp_link_init(&letter->letter.link);
    return letter;
}

static void send_letter(struct tp_shard *shard, uint32_t to, struct tp_shard_letter *letter)
{
    shard->counters.letters_sent++;
    tp_post_send(shard->reactor, to, &letter->letter);
}

/* A letter without bytes about one subscription. */
static void send_note(struct tp_shard *shard, uint32_t to, enum tp_letter_kind kind,
                      struct tp_subscription *subscription)
{
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, kind, 0);

    letter->subscription = subscription;
    send_letter(shard, to, letter);
}

/* ---- the connection's side ----------------------------------------------------------------------
 */

static struct tp_subscription *find(struct tp_channel *channel, struct tp_document *document)
{
    const struct tp_subscription_key key = {channel, document};
    struct tp_subscription *found = channel->last;

    if (found != NULL && found->document == document)
        return found;
    HASH_FIND(hh, channel->shard->subscriptions, &key, sizeof key, found);
    return found;
}

/* What a peer is, whoever owns the document. */
static struct tp_peer describe(const struct tp_channel *channel, uint8_t rights)
{
    const struct tp_dialect *dialect = tp_client_dialect(&channel->client);
    struct tp_peer peer = {.dialect = dialect->id, .rights = rights, .connection = channel->number};

    memcpy(peer.client_id, channel->client_id, sizeof peer.client_id);
    return peer;
}

struct tp_subscription *tp_channel_subscribe(struct tp_channel *channel, struct tp_slice name)
{
    struct tp_shard *shard = channel->shard;
    const struct tp_slice room = tp_channel_room(channel), user = tp_channel_user(channel);
    struct tp_document *document = tp_document_find(shard, room, name);
    struct tp_subscription *subscription = document == NULL ? NULL : find(channel, document);

    if (subscription != NULL) {
        channel->last = subscription;
        return subscription;
    }
    const uint8_t rights = tp_channel_rights(channel, name);
    if (rights == 0) /* not even opened: it is nobody's business whether the document exists */
        return NULL;
    if (document == NULL)
        document = tp_document_open(shard, room, name);

    subscription = tp_pool_take_zeroed(&shard->pool, sizeof *subscription);
    subscription->channel = channel;
    subscription->document = document;
    subscription->rights = rights;
    subscription->key = (struct tp_subscription_key){channel, document};
    tp_link_init(&subscription->in_channel);
    tp_link_init(&subscription->in_document);
    tp_link_insert(&channel->subscriptions, &subscription->in_channel);
    tp_link_insert(&document->subscriptions, &subscription->in_document);
    document->subscription_count++;
    HASH_ADD(hh, shard->subscriptions, key, sizeof subscription->key, subscription);
    channel->last = subscription;
    shard->counters.peers_active++;

    const struct tp_peer like = describe(channel, rights);
    if (document->session != NULL) {
        subscription->member = tp_member_create(document, subscription, shard->index, &like, user);
        tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_JOINED,
                                                       .peer = &subscription->member->peer});
        return subscription;
    }

    const size_t key_size = document->room_size + 1 + document->name_size;
    struct tp_shard_letter *letter =
        tp_shard_letter_create(shard, TP_LETTER_JOIN, key_size + user.size);
    memcpy(letter->bytes, document->key, key_size);
    if (user.size > 0)
        memcpy(letter->bytes + key_size, user.data, user.size);
    letter->key_size = (uint32_t)key_size;
    letter->subscription = subscription;
    letter->outpost = document;
    letter->peer = like;
    send_letter(shard, document->owner, letter);
    return subscription;
}

static uint8_t needs_of(const struct tp_message *message)
{
    if (message->kind == TP_MESSAGE_RPC)
        return tp_rpc_needs(message->rpc.method);
    return tp_message_needs(message);
}

void tp_subscription_said(struct tp_channel *channel, struct tp_message *message)
{
    struct tp_shard *shard = channel->shard;
    struct tp_subscription *subscription = tp_channel_subscribe(channel, message->document);
    const uint8_t needs = needs_of(message);

    if (channel->closing)
        return;
    if (subscription == NULL || (subscription->rights & needs) != needs) {
        tp_channel_deny(channel, subscription, message);
        return;
    }
    if (!tp_meter_admit(channel, message, TP_RATE_OF_DOCUMENT))
        return;
    struct tp_document *document = subscription->document;
    if (subscription->member != NULL) {
        tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_SAID,
                                                       .peer = &subscription->member->peer,
                                                       .message = message});
        return;
    }

    struct tp_shard_letter *letter =
        tp_shard_letter_create(shard, TP_LETTER_SAID, message->raw.size);
    memcpy(letter->bytes, message->raw.data, message->raw.size);
    letter->subscription = subscription;
    letter->message = *message;
    tp_message_rebase(&letter->message, letter->bytes);
    letter->message.document = (struct tp_slice){0}; /* the owner knows it */
    send_letter(shard, document->owner, letter);
}

void tp_subscription_set_rights(struct tp_subscription *subscription, uint8_t rights)
{
    struct tp_document *document = subscription->document;
    struct tp_shard *shard = document->shard;

    subscription->rights = rights;
    if (subscription->member != NULL) {
        subscription->member->peer.rights = rights;
        tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_RIGHTS,
                                                       .peer = &subscription->member->peer});
        return;
    }
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_RIGHTS, 0);
    letter->subscription = subscription;
    letter->rights = rights;
    send_letter(shard, document->owner, letter);
}

/* The connection is gone, or going. */
void tp_subscription_end(struct tp_subscription *subscription)
{
    struct tp_document *document = subscription->document;
    struct tp_channel *channel = subscription->channel;
    struct tp_shard *shard = channel->shard;

    tp_link_remove(&subscription->in_channel);
    tp_link_remove(&subscription->in_document);
    HASH_DEL(shard->subscriptions, subscription);
    if (channel->last == subscription)
        channel->last = NULL;
    subscription->channel = NULL;
    shard->counters.peers_active--;

    if (subscription->member == NULL) {
        send_note(shard, document->owner, TP_LETTER_LEAVE, subscription); /* LEFT comes back */
        return;
    }
    struct tp_member *member = subscription->member;
    document->subscription_count--;
    tp_pool_give(&shard->pool, subscription, sizeof *subscription);
    tp_member_leave(member);
}

/* Nothing is left to send on the subscription's connection. */
void tp_subscription_ready(struct tp_subscription *subscription)
{
    struct tp_document *document = subscription->document;
    struct tp_shard *shard = document->shard;
    const bool behind = subscription->behind, unaware = subscription->unaware;

    if (!subscription->notify && !behind && !unaware)
        return;
    subscription->notify = subscription->behind = subscription->unaware = false;
    if (subscription->member != NULL) {
        subscription->member->peer.behind |= behind;
        subscription->member->peer.unaware |= unaware;
        tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_READY,
                                                       .peer = &subscription->member->peer});
        return;
    }
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_READY, 0);
    letter->subscription = subscription;
    letter->behind = behind;
    letter->unaware = unaware;
    send_letter(shard, document->owner, letter);
}

/* A connection is read from again when none of its documents objects. */
void tp_subscription_pause(struct tp_subscription *subscription, bool pause)
{
    struct tp_channel *channel = subscription->channel;

    if (channel == NULL || subscription->paused == pause)
        return;
    subscription->paused = pause;
    channel->pauses += pause ? 1 : -1;
    if (pause && channel->pauses == 1)
        tp_channel_pause(channel);
    if (!pause && channel->pauses == 0)
        tp_channel_resume(channel);
}

/* ---- reading letters ----------------------------------------------------------------------------
 */

static struct tp_member *remote_member(struct tp_shard *shard, const struct tp_shard_letter *letter)
{
    const struct tp_member_key key = {letter->subscription, letter->letter.from};
    struct tp_member *member = NULL;

    HASH_FIND(hh, shard->remote_members, &key, sizeof key, member);
    return member;
}

static void joined(struct tp_shard *shard, struct tp_shard_letter *letter)
{
    const struct tp_slice key = {letter->bytes, letter->key_size};
    const uint8_t *nul = memchr(key.data, 0, key.size);
    const struct tp_slice room = {key.data, (size_t)(nul - key.data)};
    const struct tp_slice name = {nul + 1, key.size - room.size - 1};
    struct tp_document *document = tp_document_open(shard, room, name);

    TP_ASSERT(document->session != NULL);
    const struct tp_slice user =
        tp_slice_of(letter->bytes + letter->key_size, letter->bytes_size - letter->key_size);
    struct tp_member *member =
        tp_member_create(document, letter->subscription, letter->letter.from, &letter->peer, user);
    if (document->remote_counts == NULL) {
        const uint32_t count = shard->count;
        document->remote_counts =
            tp_pool_take_zeroed(&shard->pool, count * TP_DIALECT_COUNT * sizeof(uint32_t));
        document->outposts =
            tp_pool_take_zeroed(&shard->pool, count * sizeof(struct tp_document *));
    }
    document->remote_counts[member->home * TP_DIALECT_COUNT + member->peer.dialect]++;
    document->outposts[member->home] = letter->outpost;
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_JOINED, .peer = &member->peer});
}

static void broadcast_here(struct tp_shard *shard, const struct tp_shard_letter *letter)
{
    struct tp_frame *frame =
        tp_frame_create(&shard->pool, (struct tp_slice){letter->bytes, letter->bytes_size});

    tp_websocket_seal(frame, TP_WEBSOCKET_BINARY);
    TP_LIST_EACH_SAFE(link, &letter->outpost->subscriptions)
    {
        struct tp_subscription *subscription =
            TP_CONTAINER(link, struct tp_subscription, in_document);
        if (subscription != letter->subscription && (subscription->audience & letter->audience) &&
            tp_client_dialect(&subscription->channel->client)->id == letter->dialect)
            tp_deliver_frame(subscription, frame, letter->class, letter->mark);
    }
    tp_frame_unref(frame);
}

static void sent_here(struct tp_shard *shard, const struct tp_shard_letter *letter)
{
    struct tp_frame *frame =
        tp_frame_create(&shard->pool, (struct tp_slice){letter->bytes, letter->bytes_size});

    tp_websocket_seal(frame, TP_WEBSOCKET_BINARY);
    tp_deliver_frame(letter->subscription, frame, letter->class, 0);
    tp_frame_unref(frame);
}

static void left(struct tp_shard *shard, struct tp_subscription *subscription)
{
    struct tp_document *document = subscription->document;

    document->subscription_count--;
    tp_pool_give(&shard->pool, subscription, sizeof *subscription);
    tp_document_release(document);
}

static void resume_all(struct tp_document *document)
{
    TP_LIST_EACH(link, &document->subscriptions)
    tp_subscription_pause(TP_CONTAINER(link, struct tp_subscription, in_document), false);
}

void tp_document_resume_here(struct tp_document *document)
{
    resume_all(document);
}

/* A letter at the document's shard. A member that is no longer there has left: nothing to do. */
static void read_as_owner(struct tp_shard *shard, struct tp_shard_letter *letter)
{
    struct tp_member *member = remote_member(shard, letter);

    if (member == NULL)
        return;
    switch (letter->letter.kind) {
    case TP_LETTER_SAID:
        letter->message.document = member->peer.document_name;
        tp_document_event(member->document, &(struct tp_event){.kind = TP_EVENT_SAID,
                                                               .peer = &member->peer,
                                                               .message = &letter->message});
        break;
    case TP_LETTER_BEHIND:
        tp_document_event(member->document, &(struct tp_event){.kind = TP_EVENT_BEHIND,
                                                               .peer = &member->peer,
                                                               .mark = letter->mark});
        break;
    case TP_LETTER_READY:
        member->peer.behind |= letter->behind;
        member->peer.unaware |= letter->unaware;
        tp_document_event(member->document,
                          &(struct tp_event){.kind = TP_EVENT_READY, .peer = &member->peer});
        break;
    case TP_LETTER_RIGHTS:
        member->peer.rights = letter->rights;
        tp_document_event(member->document,
                          &(struct tp_event){.kind = TP_EVENT_RIGHTS, .peer = &member->peer});
        break;
    case TP_LETTER_LEAVE:
        tp_member_leave(member);
        send_note(shard, letter->letter.from, TP_LETTER_LEFT, letter->subscription);
        break;
    default:
        TP_ASSERT(!"a letter to an owner");
    }
}

/* What main has read again. */
static void read_keys(struct tp_shard *shard, struct tp_shard_letter *letter)
{
    if (letter->keys != NULL)
        tp_gate_replace_keys(&shard->gate, letter->keys);
    if (letter->admin_token != NULL)
        shard->admin_token = *letter->admin_token;
    free(letter->admin_token);
    free(letter);
}

void tp_shard_letter(void *context, struct tp_letter *base)
{
    struct tp_shard *shard = context;

    if (base->from >= shard->count && base->from != tp_server_endpoint(shard->server)) {
        tp_server_letter(shard, base); /* the store's, the workers' */
        return;
    }
    struct tp_shard_letter *letter = TP_CONTAINER(base, struct tp_shard_letter, letter);
    struct tp_subscription *subscription = letter->subscription;

    switch ((enum tp_letter_kind)base->kind) {
    case TP_LETTER_HOME:
        tp_pool_give(&shard->pool, letter, letter->block_size);
        return;
    case TP_LETTER_JOIN:
        joined(shard, letter);
        break;
    case TP_LETTER_SAID:
    case TP_LETTER_BEHIND:
    case TP_LETTER_READY:
    case TP_LETTER_RIGHTS:
    case TP_LETTER_LEAVE:
        read_as_owner(shard, letter);
        break;
    case TP_LETTER_LEFT:
        left(shard, subscription);
        break;
    case TP_LETTER_SEND:
        sent_here(shard, letter);
        break;
    case TP_LETTER_BROADCAST:
        broadcast_here(shard, letter);
        break;
    case TP_LETTER_AUDIENCE:
        subscription->audience = letter->audience;
        break;
    case TP_LETTER_CLOSE:
        if (subscription->channel != NULL)
            tp_channel_close(subscription->channel, letter->reason);
        break;
    case TP_LETTER_PAUSE:
        tp_subscription_pause(subscription, true);
        break;
    case TP_LETTER_RESUME:
        resume_all(letter->outpost);
        break;
    case TP_LETTER_NOTIFY:
        subscription->notify = true;
        if (subscription->channel != NULL)
            tp_connection_notify(subscription->channel->connection);
        break;
    case TP_LETTER_MOVE:
        tp_channel_arrived(shard, letter->channel);
        break;
    case TP_LETTER_KEYS:
        read_keys(shard, letter);
        return;
    case TP_LETTER_POST:
    case TP_LETTER_POSTED:
        tp_stream_letter(shard, letter);
        break;
    case TP_LETTER_ASK:
    case TP_LETTER_ANSWER:
        tp_admin_letter(shard, letter);
        break;
    case TP_LETTER_STOP:
        tp_shard_stop(shard);
        return; /* the server's own */
    case TP_LETTER_STOPPED:
        TP_ASSERT(!"a shard hears of no other's end");
    }
    base->kind = TP_LETTER_HOME;
    tp_post_send(shard->reactor, letter->home, base);
}
