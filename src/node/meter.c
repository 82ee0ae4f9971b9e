/* Who says too much is held up, and then told to come again (spec 01 section 7).
 *
 *     message ── a token? ──► on ──► may it? ──► the document's token? ──► session
 *                   │ no                              │ no
 *                   └── held, the connection is not read ──┘── for too long: NACK, with a time
 *
 * Dialects that know no retry are only slowed down: nothing of theirs is dropped. */
#include <stdlib.h>

#include "node/server.h"
#include "node/shard.h"

#define MS_NS UINT64_C(1000000)

struct tp_hold {
    struct tp_timer timer;
    struct tp_channel *channel;
    uint64_t since_ns;
    size_t size;
    uint8_t bytes[];
};

static void count(struct tp_counters *counters, enum tp_rate_track track)
{
    switch (track) {
    case TP_RATE_TRANSPORT:
        counters->rate_exceeded_transport++;
        break;
    case TP_RATE_USER:
        counters->rate_exceeded_user++;
        break;
    case TP_RATE_DOCUMENT:
        counters->rate_exceeded_document++;
        break;
    case TP_RATE_USER_DOCUMENT:
        counters->rate_exceeded_user_document++;
        break;
    case TP_RATE_TRACK_COUNT:
        break;
    }
}

static void nack(struct tp_channel *channel, const struct tp_message *message, uint64_t wait_ns)
{
    struct tp_message nack = {.kind = TP_MESSAGE_ACK};

    nack.ack.id = message->id;
    nack.ack.retry_ms = (wait_ns + MS_NS - 1) / MS_NS;
    channel->shard->counters.nacks_sent++;
    tp_deliver_to_channel(channel, &nack);
}

/* The message is said again when there may be a token. */
static void try_again(struct tp_timer *timer)
{
    struct tp_hold *hold = TP_CONTAINER(timer, struct tp_hold, timer);
    struct tp_channel *channel = hold->channel;
    struct tp_shard *shard = channel->shard;

    channel->hold = NULL;
    channel->held_since_ns = hold->since_ns;
    if (!channel->closing)
        tp_channel_said(channel, tp_slice_of(hold->bytes, hold->size));
    if (channel->hold == NULL) {
        shard->counters.rate_delay += (tp_reactor_now_ns(shard->reactor) - hold->since_ns) / MS_NS;
        channel->held_since_ns = 0;
        channel->held_back = false;
        if (--channel->pauses == 0)
            tp_channel_resume(channel);
    }
    free(hold);
}

static void hold_back(struct tp_channel *channel, struct tp_slice bytes, uint64_t wait_ns)
{
    struct tp_reactor *reactor = channel->shard->reactor;
    struct tp_hold *hold = malloc(sizeof *hold + bytes.size);

    TP_ASSERT(hold != NULL && channel->hold == NULL);
    *hold = (struct tp_hold){.channel = channel, .size = bytes.size};
    memcpy(hold->bytes, bytes.data, bytes.size);
    hold->since_ns =
        channel->held_since_ns != 0 ? channel->held_since_ns : tp_reactor_now_ns(reactor);
    tp_timer_init(&hold->timer, try_again);
    tp_timer_set(reactor, &hold->timer, tp_reactor_now_ns(reactor) + wait_ns);
    channel->hold = hold;
    if (channel->held_back)
        return;
    channel->held_back = true;
    channel->shard->counters.rate_delayed++;
    if (channel->pauses++ == 0)
        tp_channel_pause(channel);
}

void tp_meter_finish(struct tp_channel *channel)
{
    if (channel->hold == NULL)
        return;
    tp_timer_stop(channel->shard->reactor, &channel->hold->timer);
    free(channel->hold);
    channel->hold = NULL;
}

/* Rooms and users, rooms and documents, in one hash each. */
static uint64_t hash_of(struct tp_slice room, struct tp_slice name)
{
    return tp_hash64_seeded(name, tp_hash64_seeded(room, 1)) | 1;
}

static struct tp_rate_who who_says(const struct tp_channel *channel,
                                   const struct tp_message *message, enum tp_rate_phase phase)
{
    struct tp_rate_who who = {.connection = channel->number + 1};

    if (channel->pass != NULL)
        who.user = hash_of(tp_channel_room(channel), tp_channel_user(channel));
    if (phase == TP_RATE_OF_DOCUMENT)
        who.document = hash_of(tp_channel_room(channel), message->document);
    return who;
}

bool tp_meter_admit(struct tp_channel *channel, const struct tp_message *message,
                    enum tp_rate_phase phase)
{
    struct tp_shard *shard = channel->shard;
    const uint64_t now_ns = tp_reactor_now_ns(shard->reactor);
    const enum tp_rate_class class = tp_rate_class_of(message);
    enum tp_rate_track track = TP_RATE_USER;

    if (shard->rate == NULL || class == TP_RATE_NOTHING ||
        (channel->pass != NULL && channel->pass->grant->unlimited))
        return true;
    const struct tp_rate_who who = who_says(channel, message, phase);
    const uint64_t wait_ns = tp_rate_take(shard->rate, phase, class, &who, now_ns, &track);
    if (wait_ns == 0)
        return true;

    if (phase == TP_RATE_OF_DOCUMENT) {
        const struct tp_rate_who sender = who_says(channel, message, TP_RATE_OF_SENDER);
        tp_rate_give_back(shard->rate, TP_RATE_OF_SENDER, class, &sender, now_ns);
    }
    const uint64_t since_ns = channel->held_since_ns != 0 ? channel->held_since_ns : now_ns;
    const uint64_t until_ns = since_ns + shard->config->rate_max_delay_ms * MS_NS;
    if (message->dialect != TP_DIALECT_TELEPORTAL || now_ns + wait_ns <= until_ns) {
        hold_back(channel, message->raw, wait_ns);
        return false;
    }
    count(&shard->counters, track);
    nack(channel, message, wait_ns);
    return false;
}
