/* Awareness of plain documents: the newest state of every client, and who owns it (spec 05
 * section 5, architecture.md "Across dialects").
 *
 *     unknown ── a state ──► present ── null, owner left, not renewed ──► gone
 *     unknown ◄── tombstone_ttl ────────────────────────────────────────── gone
 *     present ◄── a state: its clock is above, or the cure ─────────────── gone
 *
 * Clocks decide as in y-protocols, so that we accept exactly what the clients do. Two additions:
 * what another connection owns cannot be touched, and the cure: a client that comes back unclean
 * shows its state with the clock that its removal has already used, and all others would ignore it
 * until its next renewal. It is announced one clock higher, to its owner too, who goes on from
 * there. */
#include "internal.h"
#include "wire/awareness.h"

#define GUEST_ROOM_FIRST 4u

static size_t size_of(const struct guest *guest)
{
    return sizeof *guest + guest->state_size;
}

/* The first guest whose client is not below `client`. */
static uint32_t position(const struct tp_session *session, uint64_t client)
{
    uint32_t low = 0, high = session->guest_count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (session->guests[middle]->client < client)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct guest *find(const struct tp_session *session, uint64_t client)
{
    const uint32_t at = position(session, client);

    return at < session->guest_count && session->guests[at]->client == client ? session->guests[at]
                                                                              : NULL;
}

static void look_again(struct tp_session *session, uint64_t at_ns)
{
    if (session->guest_due_ns == 0 || at_ns < session->guest_due_ns)
        session->guest_due_ns = at_ns;
}

static uint64_t due_ns(const struct tp_session *session, const struct guest *guest)
{
    const struct tp_session_limits *limits = session->env->limits;

    return guest->renewed_ns +
           (guest->state_size > 0 ? limits->awareness_ttl_ns : limits->tombstone_ttl_ns);
}

static void own(struct guest *guest, struct tp_peer *peer)
{
    if (guest->owner == peer)
        return;
    if (guest->owner != NULL)
        guest->owner->owned_count--;
    guest->owner = peer;
    if (peer != NULL)
        peer->owned_count++;
}

/* Gives the guest of this client a state (empty: gone), clock and owner. */
static struct guest *put(struct tp_session *session, uint64_t client, uint64_t clock,
                         struct tp_slice state, struct tp_peer *owner)
{
    const uint32_t at = position(session, client);
    struct guest *guest = find(session, client);

    if (guest == NULL || guest->state_size != state.size) {
        struct guest *fresh = tp_session_take(session, sizeof *fresh + state.size);
        fresh->client = client;
        fresh->state_size = (uint32_t)state.size;
        session->guest_size += tp_pool_class_size(size_of(fresh));
        if (guest != NULL) {
            fresh->owner = guest->owner;
            session->guest_size -= tp_pool_class_size(size_of(guest));
            tp_session_give(session, guest, size_of(guest));
        } else {
            if (session->guest_count == session->guest_room) {
                const uint32_t room =
                    session->guest_room == 0 ? GUEST_ROOM_FIRST : 2 * session->guest_room;
                struct guest **guests = tp_session_take(session, room * sizeof *guests);
                if (session->guest_count > 0)
                    memcpy(guests, session->guests, session->guest_count * sizeof *guests);
                tp_session_give(session, session->guests, session->guest_room * sizeof *guests);
                session->guests = guests;
                session->guest_room = room;
            }
            memmove(session->guests + at + 1, session->guests + at,
                    (session->guest_count - at) * sizeof *session->guests);
            session->guest_count++;
        }
        session->guests[at] = guest = fresh;
    }
    if (state.size > 0)
        memcpy(guest->state, state.data, state.size);
    guest->clock = clock;
    guest->renewed_ns = session->now_ns;
    guest->raised = false;
    own(guest, owner);
    look_again(session, due_ns(session, guest));
    return guest;
}

static void remove_at(struct tp_session *session, uint32_t at)
{
    struct guest *guest = session->guests[at];

    own(guest, NULL);
    session->guest_size -= tp_pool_class_size(size_of(guest));
    tp_session_give(session, guest, size_of(guest));
    memmove(session->guests + at, session->guests + at + 1,
            (session->guest_count - at - 1) * sizeof *session->guests);
    session->guest_count--;
}

/* Other nodes are to hear what became of this guest. */
static void tell_nodes(struct tp_session *session, struct guest *guest)
{
    if (session->bus == NULL || guest->untold)
        return;
    guest->untold = true;
    tp_bus_guests_changed(session);
}

/* ---- saying -------------------------------------------------------------------------------------
 */

/* An awareness update of entries, in a frame that the effect holds. */
struct batch {
    struct tp_frame *frame;
    struct tp_buffer out;
};

static struct batch batch_begin(struct tp_session *session, uint64_t count, size_t size)
{
    const size_t size_max = size + TP_VARUINT_SIZE_MAX;
    struct batch batch = {.frame = tp_frame_alloc(session->env->pool, size_max)};

    batch.out = tp_buffer_fixed(batch.frame->data + TP_FRAME_HEAD_SIZE, size_max);
    tp_awareness_write_count(&batch.out, count);
    return batch;
}

static struct said *batch_end(struct tp_session *session, struct batch *batch)
{
    struct said *said = tp_session_say(session, TP_MESSAGE_AWARENESS);

    TP_ASSERT(!batch->out.full);
    said->hold = batch->frame;
    said->message.awareness = tp_buffer_slice(&batch->out);
    return said;
}

static struct tp_awareness_entry entry_of(const struct guest *guest)
{
    return (struct tp_awareness_entry){.client = guest->client,
                                       .clock = guest->clock,
                                       .state = guest->state_size > 0
                                                    ? tp_slice_of(guest->state, guest->state_size)
                                                    : TP_SLICE("null")};
}

void tp_guests_send_all(struct tp_session *session, struct tp_peer *peer, bool gone,
                        struct tp_effects *out)
{
    uint64_t count = 0;
    size_t size = 0;

    for (uint32_t i = 0; i < session->guest_count; i++) {
        if (session->guests[i]->state_size == 0 && !gone)
            continue;
        const struct tp_awareness_entry entry = entry_of(session->guests[i]);
        count++;
        size += tp_awareness_entry_size(&entry);
    }
    if (count == 0)
        return;
    struct batch batch = batch_begin(session, count, size);
    for (uint32_t i = 0; i < session->guest_count; i++) {
        const struct tp_awareness_entry entry = entry_of(session->guests[i]);
        if (session->guests[i]->state_size > 0 || gone)
            tp_awareness_write_entry(&batch.out, &entry);
    }
    tp_session_send(out, peer, batch_end(session, &batch));
}

struct said *tp_guests_untold(struct tp_session *session, bool all)
{
    uint64_t count = 0;
    size_t size = 0;

    for (uint32_t i = 0; i < session->guest_count; i++) {
        struct guest *guest = session->guests[i];
        guest->untold |= all && guest->owner != NULL;
        if (!guest->untold)
            continue;
        const struct tp_awareness_entry entry = entry_of(guest);
        count++;
        size += tp_awareness_entry_size(&entry);
    }
    if (count == 0)
        return NULL;
    struct batch batch = batch_begin(session, count, size);
    for (uint32_t i = 0; i < session->guest_count; i++) {
        const struct tp_awareness_entry entry = entry_of(session->guests[i]);
        if (session->guests[i]->untold)
            tp_awareness_write_entry(&batch.out, &entry);
        session->guests[i]->untold = false;
    }
    return batch_end(session, &batch);
}

void tp_guests_query(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                     struct tp_effects *out)
{
    if (peer->dialect == TP_DIALECT_TELEPORTAL) {
        tp_message_keep(message, session->env->pool);
        tp_session_broadcast(out, peer, TP_AUDIENCE_TELEPORTAL,
                             tp_session_say_again(session, message));
    }
    tp_guests_send_all(session, peer, false, out);
    tp_replies_ack(session, peer, message->id, out);
}

/* ---- hearing ------------------------------------------------------------------------------------
 */

enum verdict { IGNORED, ACCEPTED, CURED };

/* From another node `peer` is NULL, and the state nobody's. Who is ours and said to be gone there,
 * since it came from there to us, is cured, as its own client would. */
static enum verdict judge(struct tp_session *session, struct tp_peer *peer,
                          const struct tp_awareness_entry *entry, bool is_own)
{
    const struct tp_session_limits *limits = session->env->limits;
    struct guest *guest = find(session, entry->client);
    const bool gone = tp_awareness_is_gone(entry);
    const uint64_t clock = guest == NULL ? 0 : guest->clock;

    if (peer == NULL && guest != NULL && guest->owner != NULL && gone && entry->clock >= clock) {
        guest->clock = entry->clock + 1;
        tell_nodes(session, guest);
        return CURED;
    }
    if (guest != NULL && guest->owner != NULL && guest->owner != peer &&
        (peer != NULL || gone || entry->clock <= clock)) { /* a new state there: it went there */
        /* An echo of what we told it is ordinary; news about another is not (section 5, 3). */
        session->env->counters->awareness_ignored += entry->clock > clock;
        return IGNORED;
    }
    if (is_own && guest != NULL && guest->owner == NULL && guest->state_size > 0 && !gone &&
        entry->clock == clock) {
        own(guest, peer); /* came here from another node: everybody knows its state */
        return IGNORED;
    }
    const bool is_back = peer != NULL && guest != NULL && guest->state_size == 0 && !gone &&
                         peer->joined_ns >= guest->renewed_ns &&
                         (entry->clock == clock || (guest->raised && entry->clock + 1 == clock));
    const bool is_news = entry->clock > clock ||
                         (entry->clock == clock && gone && guest != NULL && guest->state_size > 0);
    if (!is_news && !is_back)
        return IGNORED;
    if (gone && guest == NULL)
        return IGNORED; /* nobody knows it: nothing to take back */

    if (!gone && (entry->state.size > limits->awareness_size_max ||
                  (peer != NULL && (guest == NULL || guest->owner != peer) &&
                   peer->owned_count >= limits->awareness_per_peer_max) ||
                  (guest == NULL && session->guest_count >= limits->awareness_count_max))) {
        session->env->counters->awareness_ignored++;
        return IGNORED;
    }
    if (gone)
        guest = put(session, entry->client, entry->clock, (struct tp_slice){0}, NULL);
    else
        guest = put(session, entry->client, is_news ? entry->clock : clock + 1, entry->state, peer);
    if (peer == NULL)
        guest->raised = gone;
    else
        tell_nodes(session, guest);
    return is_news ? ACCEPTED : CURED;
}

/* Some entries only: those that are marked, as they came or as the table has them now. */
static struct said *pick(struct tp_session *session, struct tp_slice update,
                         const uint8_t *verdicts, enum verdict wanted, uint64_t count, size_t size)
{
    struct batch batch = batch_begin(session, count, size);
    struct tp_awareness_walk walk;
    struct tp_awareness_entry entry;

    enum tp_status status = tp_awareness_walk(update, &walk);
    for (uint64_t i = 0; status == TP_OK && (status = tp_awareness_next(&walk, &entry)) == TP_OK;
         i++) {
        if (verdicts[i] != wanted)
            continue;
        if (wanted == CURED)
            entry = entry_of(find(session, entry.client));
        tp_awareness_write_entry(&batch.out, &entry);
    }
    return batch_end(session, &batch);
}

/* Takes in what is good of it, and tells our peers. False: it is no awareness update. */
static bool take_in(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                    struct tp_effects *out)
{
    const struct tp_slice update = message->awareness;
    struct tp_awareness_walk walk;
    struct tp_awareness_entry entry;
    uint64_t counts[3] = {0};
    size_t size = 0;

    if (!tp_awareness_valid(update) || tp_awareness_walk(update, &walk) != TP_OK) {
        session->env->counters->awareness_ignored++;
        return false;
    }

    const size_t entry_count = (size_t)walk.left;
    /* What a client says first, and of one, is its own state; later it may repeat what it was told.
     */
    const bool is_own = peer != NULL && !peer->said_awareness && entry_count == 1;
    uint8_t *verdicts = tp_session_take(session, entry_count + 1);
    if (peer != NULL)
        peer->said_awareness = true;
    for (uint64_t i = 0; tp_awareness_next(&walk, &entry) == TP_OK; i++) {
        verdicts[i] = (uint8_t)judge(session, peer, &entry, is_own);
        counts[verdicts[i]]++;
        size += tp_awareness_entry_size(&entry);
        if (verdicts[i] == CURED) /* its clock, and its state, may be longer */
            size += TP_VARUINT_SIZE_MAX + find(session, entry.client)->state_size;
    }

    if (counts[ACCEPTED] > 0 && counts[ACCEPTED] == entry_count) {
        tp_message_keep(message, session->env->pool);
        tp_session_broadcast(out, peer, TP_AUDIENCE_ALL, tp_session_say_again(session, message));
    } else if (counts[ACCEPTED] > 0) {
        tp_session_broadcast(out, peer, TP_AUDIENCE_ALL,
                             pick(session, update, verdicts, ACCEPTED, counts[ACCEPTED], size));
    }
    if (counts[CURED] > 0)
        tp_session_broadcast(out, NULL, TP_AUDIENCE_ALL,
                             pick(session, update, verdicts, CURED, counts[CURED], size));
    tp_session_give(session, verdicts, entry_count + 1);
    return true;
}

void tp_guests_awareness(struct tp_session *session, struct tp_peer *peer,
                         struct tp_message *message, struct tp_effects *out)
{
    if (take_in(session, peer, message, out) || peer->dialect == TP_DIALECT_TELEPORTAL)
        tp_replies_ack(session, peer, message->id, out);
    else
        tp_session_close(out, peer, TP_CLOSE_MALFORMED);
}

void tp_guests_heard(struct tp_session *session, struct tp_message *message, struct tp_effects *out)
{
    session->env->counters->bridge_refused += !take_in(session, NULL, message, out);
}

/* The id's presence was announced on another connection: its state goes with it. */
void tp_guests_hand_over(struct tp_session *session, uint64_t client, struct tp_peer *peer)
{
    struct guest *guest = find(session, client);

    if (guest != NULL && guest->owner != NULL)
        own(guest, peer);
}

/* ---- leaving ------------------------------------------------------------------------------------
 */

/* Who announced its presence is taken back by a leave, for those who announced theirs; everybody
 * else hears that the state is gone, one clock higher. */
void tp_guests_left(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    uint64_t counts[2] = {0};
    size_t sizes[2] = {0};
    struct batch batches[2] = {{0}};

    if (peer->owned_count == 0)
        return;
    for (uint32_t i = 0; i < session->guest_count; i++) {
        struct guest *guest = session->guests[i];
        if (guest->owner != peer)
            continue;
        const bool is_present = guest->state_size > 0;
        const uint64_t client = guest->client, clock = guest->clock;
        if (!is_present) {
            own(guest, NULL);
            continue;
        }
        guest = put(session, client, clock + 1, (struct tp_slice){0}, NULL);
        guest->raised = true;
        tell_nodes(session, guest);
        guest->owner = peer; /* marks it for the second walk; not counted */
        const struct tp_awareness_entry entry = entry_of(guest);
        const bool announced = tp_roster_has(session, peer, client);
        counts[announced]++;
        sizes[announced] += tp_awareness_entry_size(&entry);
    }
    for (unsigned i = 0; i < 2; i++)
        if (counts[i] > 0)
            batches[i] = batch_begin(session, counts[i], sizes[i]);
    for (uint32_t i = 0; i < session->guest_count; i++) {
        struct guest *guest = session->guests[i];
        if (guest->owner != peer)
            continue;
        guest->owner = NULL;
        const struct tp_awareness_entry entry = entry_of(guest);
        tp_awareness_write_entry(&batches[tp_roster_has(session, peer, guest->client)].out, &entry);
    }
    if (counts[0] > 0)
        tp_session_broadcast(out, NULL, TP_AUDIENCE_ALL, batch_end(session, &batches[0]));
    if (counts[1] > 0)
        tp_session_broadcast(out, NULL, TP_AUDIENCE_ALL & ~(uint32_t)TP_AUDIENCE_ANNOUNCED,
                             batch_end(session, &batches[1]));
}

void tp_guests_expire(struct tp_session *session, struct tp_effects *out)
{
    uint64_t count = 0;
    size_t size = 0;

    if (session->guest_due_ns == 0 || session->now_ns < session->guest_due_ns)
        return;
    for (uint32_t i = session->guest_count; i-- > 0;)
        if (session->guests[i]->state_size == 0 && session->guests[i]->owner == NULL &&
            due_ns(session, session->guests[i]) <= session->now_ns)
            remove_at(session, i);

    for (uint32_t i = 0; i < session->guest_count; i++) {
        const struct guest *guest = session->guests[i];
        if (guest->state_size == 0 || due_ns(session, guest) > session->now_ns)
            continue;
        count++;
        size += sizeof("null") + 2 * TP_VARUINT_SIZE_MAX;
    }
    if (count > 0) {
        struct batch batch = batch_begin(session, count, size);
        for (uint32_t i = 0; i < session->guest_count; i++) {
            struct guest *guest = session->guests[i];
            if (guest->state_size == 0 || due_ns(session, guest) > session->now_ns)
                continue;
            /* The clock stays: the next renewal of a client that still lives is above it. */
            guest = put(session, guest->client, guest->clock, (struct tp_slice){0}, NULL);
            const struct tp_awareness_entry entry = entry_of(guest);
            tp_awareness_write_entry(&batch.out, &entry);
            session->env->counters->awareness_expired++;
        }
        tp_session_broadcast(out, NULL, TP_AUDIENCE_ALL, batch_end(session, &batch));
    }

    session->guest_due_ns = 0;
    for (uint32_t i = 0; i < session->guest_count; i++)
        look_again(session, due_ns(session, session->guests[i]));
}

void tp_guests_check(const struct tp_session *session)
{
    size_t size = 0;

    for (uint32_t i = 0; i < session->guest_count; i++) {
        const struct guest *guest = session->guests[i];
        TP_ASSERT(i == 0 || session->guests[i - 1]->client < guest->client);
        TP_ASSERT(guest->owner == NULL || guest->owner->owned_count > 0);
        TP_ASSERT(guest->owner == NULL || guest->state_size > 0);
        size += tp_pool_class_size(size_of(guest));
    }
    TP_ASSERT(size == session->guest_size);
    TP_ASSERT(session->guest_count == 0 || session->guest_due_ns != 0);
}

void tp_guests_finish(struct tp_session *session)
{
    while (session->guest_count > 0) {
        session->guests[session->guest_count - 1]->owner = NULL;
        remove_at(session, session->guest_count - 1);
    }
    tp_session_give(session, session->guests, session->guest_room * sizeof *session->guests);
}
