/* What a connection may, and until when: the grant of its token on the way of its messages. */
#include <stdio.h>
#include <stdlib.h>

#include "node/server.h"
#include "node/shard.h"

/* The end of a token is told by the wall clock, which may be set: looked at again this often. */
#define LOOK_AGAIN_MS UINT64_C(60000)
#define MS_NS UINT64_C(1000000)

#define REFUSAL_COUNT 256u /* a power of two; what has the same place replaces */
#define REFUSAL_TIME_NS UINT64_C(60000000000)

struct tp_refusals {
    struct {
        uint64_t hash;
        uint64_t until_ns;
    } places[REFUSAL_COUNT];
};

/* ---- the pass -----------------------------------------------------------------------------------
 */

struct tp_slice tp_channel_room(const struct tp_channel *channel)
{
    return channel->pass == NULL ? (struct tp_slice){0} : channel->pass->grant->room;
}

struct tp_slice tp_channel_user(const struct tp_channel *channel)
{
    return channel->pass == NULL ? (struct tp_slice){0} : channel->pass->grant->user;
}

uint8_t tp_channel_rights(const struct tp_channel *channel, struct tp_slice document)
{
    if (channel->pass == NULL)
        return TP_MAY_ALL;
    return channel->pass->ended ? 0 : tp_grant_rights(channel->pass->grant, document);
}

/* y-websocket's client only logs it. Teleportal's takes it for the end of the document, asks for a
 * new token if it knows how, and else shows the reason. */
static void tell(struct tp_channel *channel, struct tp_slice document, bool encrypted,
                 struct tp_slice reason)
{
    tp_deliver_to_channel(channel, &(struct tp_message){.kind = TP_MESSAGE_AUTH,
                                                        .document = document,
                                                        .encrypted = encrypted,
                                                        .auth = {.reason = reason}});
}

static struct tp_slice name_of(const struct tp_document *document)
{
    return tp_slice_of(document->key + document->room_size + 1, document->name_size);
}

static void end_rights(struct tp_channel *channel)
{
    const bool teleportal = tp_client_dialect(&channel->client) != NULL &&
                            tp_client_dialect(&channel->client)->id == TP_DIALECT_TELEPORTAL;

    channel->pass->ended = true;
    if (!teleportal)
        tell(channel, (struct tp_slice){0}, false, TP_SLICE("token expired"));
    TP_LIST_EACH_SAFE(link, &channel->subscriptions)
    {
        struct tp_subscription *subscription =
            TP_CONTAINER(link, struct tp_subscription, in_channel);
        if (teleportal)
            tell(channel, name_of(subscription->document), false, TP_SLICE("token expired"));
        subscription->told_denied = true;
        tp_subscription_set_rights(subscription, subscription->rights & TP_MAY_READ);
    }
}

static void ended(struct tp_channel *channel)
{
    struct tp_shard *shard = channel->shard;

    shard->counters.tokens_ended++;
    if (shard->config->token_expiry == TP_CONFIG_EXPIRY_READ_ONLY) {
        end_rights(channel);
        return;
    }
    tp_channel_close(channel, TP_CLOSE_EXPIRED);
}

static void look(struct tp_timer *timer)
{
    struct tp_pass *pass = TP_CONTAINER(timer, struct tp_pass, expiry);
    struct tp_channel *channel = pass->channel;

    if (channel->closing || pass->ended)
        return;
    if (tp_grant_expired(pass->grant, tp_reactor_wall_ms(channel->shard->reactor)))
        ended(channel);
    else
        tp_pass_watch(channel);
}

void tp_pass_give(struct tp_channel *channel, struct tp_grant *grant)
{
    TP_ASSERT(channel->pass == NULL);
    if (grant == NULL)
        return;
    channel->pass = calloc(1, sizeof *channel->pass);
    TP_ASSERT(channel->pass != NULL);
    channel->pass->channel = channel;
    channel->pass->grant = grant;
    tp_timer_init(&channel->pass->expiry, look);
}

void tp_pass_watch(struct tp_channel *channel)
{
    struct tp_reactor *reactor = channel->shard->reactor;
    struct tp_pass *pass = channel->pass;

    if (pass == NULL || pass->ended || pass->grant->expires_ms == 0)
        return;
    const uint64_t now_ms = tp_reactor_wall_ms(reactor);
    const uint64_t left_ms =
        pass->grant->expires_ms > now_ms ? pass->grant->expires_ms - now_ms : 0;
    tp_timer_set(reactor, &pass->expiry,
                 tp_reactor_now_ns(reactor) + tp_min(left_ms, LOOK_AGAIN_MS) * MS_NS);
}

void tp_pass_rest(struct tp_channel *channel)
{
    if (channel->pass != NULL)
        tp_timer_stop(channel->shard->reactor, &channel->pass->expiry);
}

void tp_pass_finish(struct tp_channel *channel)
{
    if (channel->pass == NULL)
        return;
    tp_pass_rest(channel);
    tp_grant_destroy(channel->pass->grant);
    free(channel->pass);
    channel->pass = NULL;
}

static void recheck_one(void *context, struct tp_connection *connection)
{
    struct tp_shard *shard = context;
    struct tp_channel *channel = tp_channel_of(connection);

    if (channel == NULL || channel->closing || channel->pass == NULL ||
        tp_gate_knows(&shard->gate, channel->pass->grant))
        return;
    shard->counters.tokens_ended++;
    tp_channel_close(channel, TP_CLOSE_UNAUTHORIZED);
}

uint64_t tp_passes_recheck(struct tp_shard *shard)
{
    const uint64_t before = shard->counters.tokens_ended;

    tp_net_each(shard->net, recheck_one, shard);
    return shard->counters.tokens_ended - before;
}

/* ---- refusing -----------------------------------------------------------------------------------
 */

/* Says the reason once per document and connection. */
static bool is_first(struct tp_channel *channel, struct tp_subscription *subscription,
                     struct tp_slice document)
{
    struct tp_pass *pass = channel->pass;

    if (subscription != NULL) {
        const bool first = !subscription->told_denied;
        subscription->told_denied = true;
        return first;
    }
    const uint64_t hash = tp_hash64(document);
    for (uint32_t i = 0; i < TP_PASS_TOLD_COUNT; i++)
        if (pass->told[i] == hash)
            return false;
    pass->told[pass->told_at++ % TP_PASS_TOLD_COUNT] = hash;
    return true;
}

static void tell_why(struct tp_channel *channel, const struct tp_message *message)
{
    char text[64 + TP_CLIENT_NAME_SIZE_MAX];
    const int size =
        channel->pass->ended
            ? snprintf(text, sizeof text, "token expired")
            : snprintf(text, sizeof text, "Insufficient permissions to access document %.*s",
                       (int)message->document.size, message->document.data);

    tell(channel, message->document, message->encrypted, tp_slice_of(text, (size_t)size));
}

static void answer_call(struct tp_channel *channel, const struct tp_message *message)
{
    char id[TP_TELEPORTAL_ID_SIZE];
    struct tp_message answer = {
        .kind = TP_MESSAGE_RPC, .document = message->document, .encrypted = message->encrypted};

    if (message->rpc.type == 2) /* an answer is not answered */
        return;
    tp_teleportal_id_format(message->id, id);
    answer.rpc = (struct tp_message_rpc){
        .method = message->rpc.method,
        .type = 2,
        .request_id = message->rpc.type == 0 ? tp_slice_of(id, sizeof id) : message->rpc.request_id,
        .failed = true,
        .status = 403,
        .details = TP_SLICE("Permission denied")};
    tp_deliver_to_channel(channel, &answer);
}

void tp_channel_deny(struct tp_channel *channel, struct tp_subscription *subscription,
                     const struct tp_message *message)
{
    struct tp_shard *shard = channel->shard;
    struct tp_message done = {.kind = TP_MESSAGE_SYNC_DONE,
                              .document = message->document,
                              .encrypted = message->encrypted};
    struct tp_message ack = {.kind = TP_MESSAGE_ACK, .ack.id = message->id};

    shard->counters.messages_denied++;
    if (message->dialect != TP_DIALECT_TELEPORTAL)
        return; /* it was told "read-only" when it came (spec 05 section 8) */
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        (void)is_first(channel, subscription, message->document);
        tell_why(channel, message);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
        tp_deliver_to_channel(channel, &done);
        break;
    case TP_MESSAGE_UPDATE:
        if (is_first(channel, subscription, message->document))
            tell_why(channel, message);
        break;
    case TP_MESSAGE_RPC:
        answer_call(channel, message);
        break;
    default: /* no effect */
        break;
    }
    shard->counters.acks_sent++;
    tp_deliver_to_channel(channel, &ack);
}

/* ---- refusals that come too late ----------------------------------------------------------------
 */

static uint64_t refusal_hash(const struct tp_channel *channel, struct tp_slice document)
{
    const uint64_t room = tp_hash64_seeded(tp_channel_room(channel), 1);

    return tp_hash64_seeded(document, tp_hash64_seeded(tp_channel_user(channel), room));
}

void tp_refusal_note(struct tp_channel *channel, struct tp_slice document)
{
    struct tp_shard *shard = channel->shard;
    const uint64_t hash = refusal_hash(channel, document);

    if (shard->refusals == NULL)
        shard->refusals = calloc(1, sizeof *shard->refusals);
    TP_ASSERT(shard->refusals != NULL);
    shard->refusals->places[hash % REFUSAL_COUNT].hash = hash;
    shard->refusals->places[hash % REFUSAL_COUNT].until_ns =
        tp_reactor_now_ns(shard->reactor) + REFUSAL_TIME_NS;
}

bool tp_refusal_noted(const struct tp_channel *channel, struct tp_slice document)
{
    const struct tp_shard *shard = channel->shard;

    if (shard->refusals == NULL || channel->pass == NULL)
        return false;
    const uint64_t hash = refusal_hash(channel, document);
    return shard->refusals->places[hash % REFUSAL_COUNT].hash == hash &&
           shard->refusals->places[hash % REFUSAL_COUNT].until_ns >
               tp_reactor_now_ns(shard->reactor);
}

void tp_refusals_finish(struct tp_shard *shard)
{
    free(shard->refusals);
    shard->refusals = NULL;
}
