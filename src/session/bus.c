/* Other nodes with sessions of this document (spec 01 section 8).
 *
 * Updates go out once, numbered: `node/boot/sequence`, where boot is this opening of the document.
 * Numbers tell what came before and what is missing; what was heard is never published again. Loss
 * is made up for by an exchange of state vectors, in notes that only nodes of ours read:
 *
 *     ASK      I have this; and who is there?     when linked, at a gap, when digests differ
 *     GIVE     you lack this; and I have that     by whoever has more, the others then keep quiet
 *     DIGEST   what I have comes to this          when the document has come to rest
 *
 *     note:  01 | kind | 8 boot | varuint sequence | 8 digest |
 *            ASK:   flags | varbytes state vector
 *            GIVE:  8 boot of who asked | varbytes state vector | varbytes message, may be empty
 *
 * The digest is over the state vector and all deletions, of which state vectors say nothing. */
#include "base/hash.h"
#include "internal.h"
#include "wire/reader.h"
#include "wire/teleportal.h"

#define MS UINT64_C(1000000)
#define AWARENESS_NS (30 * MS)        /* cursors of this long go out as one message */
#define HEARTBEAT_NS (30 * SECOND_NS) /* spec 01 section 2.6 */
#define HEARTBEAT_NS_MIN (200 * MS)   /* between two, whoever asks */
#define GAP_NS (200 * MS)             /* what is missing may be late only */
#define ASK_NS_MIN (500 * MS)         /* between two asks; doubles while they bring nothing ... */
#define ASK_NS_MAX (60 * SECOND_NS)   /* ... up to this */
#define LINK_SPREAD_NS (200 * MS)     /* all documents are linked at once: they ask one by one */
#define GIVE_SPREAD_NS (40 * MS)      /* who asks is answered by one, if all goes well */
#define PATIENCE_NS (500 * MS)        /* a digest of a document that never rests is not awaited */
#define REST_NS (2 * SECOND_NS)       /* without a change: then digests are compared */
#define SOURCE_COUNT_MAX 64u  /* openings at other nodes; the one silent longest is forgotten */
#define INQUIRY_COUNT_MAX 16u /* asks that wait for an answer; more are not heard */
#define RECENT_COUNT 256u     /* messages of nodes that do not number (section 8.4) ... */
#define RECENT_NS (30 * SECOND_NS) /* ... heard before are dropped for this long */
#define NOTE_VERSION 1u
#define NOTE_HEAD_SIZE_MAX 64u

enum note_kind { NOTE_ASK = 1, NOTE_GIVE, NOTE_DIGEST };

#define ASK_WHO 1u /* flags of ASK: tell who is there, too */

/* One opening of the document at another node: what of its numbers has come. */
struct source {
    uint64_t node, boot;
    uint64_t last;
    uint64_t seen; /* bit n: last - n has come */
    uint64_t heard_ns;
};

/* Somebody asked and is not answered yet. */
struct inquiry {
    struct tp_link link;
    uint64_t boot, digest, at_ns;
    size_t size;
    uint8_t state_vector[];
};

struct recent {
    uint64_t id, heard_ns;
};

struct bus {
    uint64_t boot, sequence;
    bool linked, opened; /* `opened`: the session has been open since it asked first */
    bool mixed;          /* a node that does not number is among us */
    bool awareness;      /* guests are untold; ... */
    bool awareness_all;  /* ... all of ours, again */
    bool who;            /* the next ask wants to know who is there */
    uint64_t awareness_ns, heartbeat_ns, heartbeat_said_ns;
    uint64_t ask_ns, asked_ns, ask_pause_ns; /* ask_ns 0: nothing to ask */
    uint64_t rest_ns;                        /* jitter for REST_NS */
    uint64_t expire_ns;

    uint64_t digest, digest_version; /* of the content, when it had that version */
    uint64_t compared_version;       /* others were told of, or had, the digest of that */
    bool has_digest;
    struct tp_work_op *digest_op;
    uint64_t digest_op_version, digest_op_vector;
    uint64_t theirs; /* a digest to compare with, when ours is known; 0: none */

    struct source sources[SOURCE_COUNT_MAX];
    uint32_t source_count;
    struct tp_link inquiries;
    uint32_t inquiry_count;
    struct inquiry *giving; /* the one that is computed for; in no list */
    struct tp_work_op *give_op;
    struct recent *recent; /* a ring; NULL until the first node that does not number */
    uint32_t recent_at;
};

void tp_bus_init(struct tp_session *session)
{
    struct bus *bus;

    if (session->env->node_id.size == 0)
        return;
    session->bus = bus = tp_session_take(session, sizeof *bus);
    bus->boot = tp_random_next(session->env->random);
    bus->ask_pause_ns = ASK_NS_MIN;
    bus->rest_ns = REST_NS + tp_random_below(session->env->random, SECOND_NS);
    tp_link_init(&bus->inquiries);
}

static void forget(struct tp_session *session, struct inquiry *inquiry)
{
    if (!tp_link_alone(&inquiry->link)) {
        tp_link_remove(&inquiry->link);
        session->bus->inquiry_count--;
    }
    tp_session_give(session, inquiry, sizeof *inquiry + inquiry->size);
}

void tp_bus_finish(struct tp_session *session)
{
    struct bus *bus = session->bus;

    if (bus == NULL)
        return;
    TP_ASSERT(bus->digest_op == NULL && bus->give_op == NULL);
    TP_LIST_EACH_SAFE(link, &bus->inquiries)
    forget(session, TP_CONTAINER(link, struct inquiry, link));
    tp_session_give(session, bus->recent, RECENT_COUNT * sizeof *bus->recent);
    tp_session_give(session, bus, sizeof *bus);
}

size_t tp_bus_memory(const struct tp_session *session)
{
    const struct bus *bus = session->bus;

    if (bus == NULL)
        return 0;
    return tp_pool_class_size(sizeof *bus) +
           (bus->recent == NULL ? 0 : tp_pool_class_size(RECENT_COUNT * sizeof *bus->recent));
}

/* ---- going out ----------------------------------------------------------------------------------
 */

static bool is_recent(struct tp_session *session, uint64_t id)
{
    struct bus *bus = session->bus;

    if (bus->recent == NULL)
        bus->recent = tp_session_take(session, RECENT_COUNT * sizeof *bus->recent);
    for (uint32_t i = 0; i < RECENT_COUNT; i++)
        if (bus->recent[i].id == id && bus->recent[i].heard_ns != 0 &&
            session->now_ns - bus->recent[i].heard_ns <= RECENT_NS)
            return true;
    bus->recent[bus->recent_at++ % RECENT_COUNT] = (struct recent){id, session->now_ns};
    return false;
}

static void publish(struct tp_session *session, struct said *said, uint64_t sequence,
                    struct tp_effects *out)
{
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_PUBLISH,
                                          .message = &said->message,
                                          .boot = sequence == 0 ? 0 : session->bus->boot,
                                          .sequence = sequence});
}

void tp_bus_publish(struct tp_session *session, struct said *said, struct tp_effects *out)
{
    if (session->bus == NULL)
        return;
    if (session->bus->mixed && said->message.id != 0)
        (void)is_recent(session, said->message.id); /* it will be published again by others */
    publish(session, said, ++session->bus->sequence, out);
}

void tp_bus_tell(struct tp_session *session, struct said *said, struct tp_effects *out)
{
    if (session->bus != NULL)
        publish(session, said, 0, out);
}

void tp_bus_guests_changed(struct tp_session *session)
{
    struct bus *bus = session->bus;

    if (bus->awareness)
        return;
    bus->awareness = true;
    if (bus->awareness_ns < session->now_ns)
        bus->awareness_ns = session->now_ns; /* the first of a while goes at once */
}

static struct tp_buffer note_begin(struct tp_session *session, struct said *said,
                                   enum note_kind kind, size_t size)
{
    const struct bus *bus = session->bus;
    const size_t size_max = NOTE_HEAD_SIZE_MAX + size;

    said->hold = tp_frame_alloc(session->env->pool, size_max);
    struct tp_buffer note = tp_buffer_fixed(said->hold->data + TP_FRAME_HEAD_SIZE, size_max);
    const uint64_t digest =
        bus->has_digest && bus->digest_version == session->version ? bus->digest : 0;
    tp_write_u8(&note, NOTE_VERSION);
    tp_write_u8(&note, (uint8_t)kind);
    tp_write_big_endian(&note, bus->boot, 8);
    tp_write_varuint(&note, bus->sequence);
    tp_write_big_endian(&note, digest, 8);
    return note;
}

static void note_end(struct tp_buffer *note, struct tp_effects *out)
{
    TP_ASSERT(!note->full);
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_NOTE, .note = tp_buffer_slice(note)});
}

static void ask(struct tp_session *session, struct tp_effects *out)
{
    struct bus *bus = session->bus;
    struct tp_frame *frame = tp_content_state_vector(session);
    const struct tp_slice vector = tp_frame_message(frame);
    struct tp_buffer note =
        note_begin(session, tp_session_say(session, TP_MESSAGE_PING), NOTE_ASK, vector.size);

    tp_write_u8(&note, bus->who ? ASK_WHO : 0);
    tp_write_bytes(&note, vector);
    note_end(&note, out);
    tp_frame_unref(frame);
    session->env->counters->bridge_asks++;
    bus->who = false;
    bus->ask_ns = 0;
    bus->asked_ns = session->now_ns;
    bus->ask_pause_ns = tp_min(2 * bus->ask_pause_ns, ASK_NS_MAX);
}

/* Asks at `at_ns`, or when enough time has passed since the last time. */
static void ask_at(struct tp_session *session, uint64_t at_ns)
{
    struct bus *bus = session->bus;

    if (bus->asked_ns != 0 && at_ns < bus->asked_ns + bus->ask_pause_ns)
        at_ns = bus->asked_ns + bus->ask_pause_ns;
    if (bus->ask_ns == 0 || at_ns < bus->ask_ns)
        bus->ask_ns = at_ns;
}

void tp_bus_missed(struct tp_session *session)
{
    session->bus->ask_pause_ns = ASK_NS_MIN;
    ask_at(session, session->now_ns + GAP_NS);
}

void tp_bus_linked(struct tp_session *session)
{
    struct bus *bus = session->bus;

    if (bus == NULL)
        return;
    bus->linked = true;
    bus->who = true;
    bus->ask_pause_ns = ASK_NS_MIN;
    ask_at(session,
           session->now_ns +
               (bus->asked_ns == 0 ? 0 : tp_random_below(session->env->random, LINK_SPREAD_NS)));
    bus->heartbeat_ns = session->now_ns;
    bus->awareness_all = true; /* the others may have missed it */
    tp_bus_guests_changed(session);
}

void tp_bus_shut(struct tp_session *session)
{
    session->bus->opened = false;
}

/* ---- coming in ----------------------------------------------------------------------------------
 */

static struct source *find_source(struct bus *bus, uint64_t node, uint64_t boot)
{
    for (uint32_t i = 0; i < bus->source_count; i++)
        if (bus->sources[i].boot == boot && bus->sources[i].node == node)
            return &bus->sources[i];
    return NULL;
}

/* Whose numbers up to `last` need not come any more. */
static struct source *meet_source(struct tp_session *session, uint64_t node, uint64_t boot,
                                  uint64_t last)
{
    struct bus *bus = session->bus;
    struct source *source = &bus->sources[0];

    if (bus->source_count < SOURCE_COUNT_MAX)
        source = &bus->sources[bus->source_count++];
    else
        for (uint32_t i = 1; i < SOURCE_COUNT_MAX; i++)
            if (bus->sources[i].heard_ns < source->heard_ns)
                source = &bus->sources[i];
    *source = (struct source){
        .node = node, .boot = boot, .last = last, .seen = UINT64_MAX, .heard_ns = session->now_ns};
    return source;
}

/* True if this number comes for the first time. Finds out what is missing before it. */
static bool is_first(struct tp_session *session, const struct tp_heard *heard)
{
    struct bus *bus = session->bus;
    const uint64_t node = tp_hash64(heard->node), sequence = heard->sequence;
    struct source *source = find_source(bus, node, heard->boot);
    bool missed = false;

    if (source == NULL) {
        /* Opened while we listened, it begins with 1; else what it had said before came, or comes,
         * with the answer to what we asked when we were linked. */
        missed = sequence > 1 && session->now_ns - bus->asked_ns > SECOND_NS;
        session->env->counters->bridge_gaps += missed;
        source = meet_source(session, node, heard->boot, sequence);
    } else if (sequence > source->last) {
        const uint64_t step = sequence - source->last;
        missed = step > 1;
        session->env->counters->bridge_gaps += step - 1;
        source->seen = (step < 64 ? source->seen << step : 0) | 1;
        source->last = sequence;
    } else {
        const uint64_t back = source->last - sequence;
        if (back >= 64 || (source->seen >> back & 1) != 0) {
            session->env->counters->bridge_duplicates++;
            return false;
        }
        source->seen |= UINT64_C(1) << back; /* late */
    }
    source->heard_ns = session->now_ns;
    if (missed)
        tp_bus_missed(session);
    return true;
}

/* A note tells how far its writer has counted. True if something before that has not come. */
static bool is_behind(struct tp_session *session, uint64_t boot, uint64_t sequence)
{
    const uint64_t node = tp_hash64(session->hearing->node);
    const struct source *source = find_source(session->bus, node, boot);

    if (source == NULL)
        (void)meet_source(session, node, boot, sequence);
    return source != NULL && source->last < sequence;
}

static void inquire(struct tp_session *session, uint64_t boot, uint64_t digest,
                    struct tp_slice vector, uint64_t at_ns)
{
    struct bus *bus = session->bus;

    TP_LIST_EACH_SAFE(link, &bus->inquiries)
    {
        struct inquiry *old = TP_CONTAINER(link, struct inquiry, link);
        if (old->boot == boot)
            forget(session, old);
    }
    if (bus->inquiry_count >= INQUIRY_COUNT_MAX)
        return; /* it asks again */
    struct inquiry *inquiry = tp_session_take(session, sizeof *inquiry + vector.size);
    *inquiry =
        (struct inquiry){.boot = boot, .digest = digest, .at_ns = at_ns, .size = vector.size};
    if (vector.size > 0)
        memcpy(inquiry->state_vector, vector.data, vector.size);
    tp_link_init(&inquiry->link);
    tp_link_insert(&bus->inquiries, &inquiry->link);
    bus->inquiry_count++;
}

/* True if `theirs` lacks something of ours. False for what is no state vector. */
static bool lacks(const struct tp_session *session, struct tp_slice theirs)
{
    struct tp_state_vector vector = {0};

    if (tp_state_vector_decode(&vector, theirs) != TP_OK)
        return false;
    const bool covers = tp_state_vector_covers(&vector, &session->state_vector);
    tp_state_vector_finish(&vector);
    return !covers;
}

/* What another node gives us, as if a client of its own had said it. */
static void take(struct tp_session *session, struct tp_slice frame, struct tp_effects *out)
{
    struct tp_message message;
    enum tp_close_reason reason;
    const uint64_t version = session->version;

    if (frame.size == 0)
        return;
    if (tp_teleportal_decode(frame, &message, &reason) != TP_OK ||
        message.kind != TP_MESSAGE_UPDATE || message.document.size != session->document.size ||
        memcmp(message.document.data, session->document.data, session->document.size) != 0) {
        session->env->counters->bridge_refused++;
        return;
    }
    tp_saving_heard(session, &message, out);
    if (message.frame != NULL)
        tp_session_say(session, TP_MESSAGE_PING)->hold = message.frame;
    if (session->version != version)
        session->bus->ask_pause_ns = ASK_NS_MIN; /* it was worth asking */
}

static void given(struct tp_session *session, uint64_t boot, uint64_t sequence, uint64_t digest,
                  struct tp_reader *in, struct tp_effects *out)
{
    struct bus *bus = session->bus;
    const uint64_t to = tp_read_big_endian(in, 8);
    const struct tp_slice vector = tp_read_bytes(in), frame = tp_read_bytes(in);

    if (in->bad)
        return;
    if (to == bus->boot) {
        struct source *source = find_source(bus, tp_hash64(session->hearing->node), boot);
        if (source != NULL && source->last < sequence) { /* what it gives has all up to there */
            source->last = sequence;
            source->seen = UINT64_MAX;
        }
        take(session, frame, out);
        if (lacks(session, vector))
            inquire(session, boot, digest, vector, session->now_ns);
        return;
    }
    if (lacks(session, vector))
        return;
    TP_LIST_EACH_SAFE(link, &bus->inquiries)
    {
        struct inquiry *inquiry = TP_CONTAINER(link, struct inquiry, link);
        if (inquiry->boot == to)
            forget(session, inquiry); /* it has all that we could give */
    }
}

static void asked(struct tp_session *session, uint64_t boot, uint64_t digest, struct tp_reader *in)
{
    struct bus *bus = session->bus;
    const uint8_t flags = tp_read_u8(in);
    const struct tp_slice vector = tp_read_bytes(in);

    if (in->bad)
        return;
    inquire(session, boot, digest, vector, session->now_ns + (boot ^ bus->boot) % GIVE_SPREAD_NS);
    if (!(flags & ASK_WHO))
        return;
    bus->heartbeat_ns = tp_max(session->now_ns, bus->heartbeat_said_ns + HEARTBEAT_NS_MIN);
    bus->awareness_all = true;
    tp_bus_guests_changed(session);
}

static void read_note(struct tp_session *session, struct tp_slice note, struct tp_effects *out)
{
    struct bus *bus = session->bus;
    struct tp_reader in = tp_reader_of(note);
    const uint8_t version = tp_read_u8(&in), kind = tp_read_u8(&in);
    const uint64_t boot = tp_read_big_endian(&in, 8);
    const uint64_t sequence = tp_read_varuint(&in);
    const uint64_t digest = tp_read_big_endian(&in, 8);

    if (in.bad || version != NOTE_VERSION || boot == bus->boot) {
        session->env->counters->bridge_refused++;
        return;
    }
    const bool behind = is_behind(session, boot, sequence);
    switch (kind) {
    case NOTE_ASK:
        asked(session, boot, digest, &in);
        break;
    case NOTE_GIVE:
        given(session, boot, sequence, digest, &in, out);
        break;
    case NOTE_DIGEST:
        bus->theirs = digest;
        break;
    default: /* of a later version of ours */
        break;
    }
    session->env->counters->bridge_refused += in.bad;
    if (behind && kind != NOTE_GIVE)
        tp_bus_missed(session);
}

static void read_message(struct tp_session *session, struct tp_message *message,
                         struct tp_effects *out)
{
    const struct tp_heard *heard = session->hearing;
    struct bus *bus = session->bus;
    struct said *news;

    switch (message->kind) {
    case TP_MESSAGE_UPDATE:
    case TP_MESSAGE_SYNC_STEP_2:
        bus->mixed |= heard->sequence == 0;
        if (heard->sequence != 0 ? !is_first(session, heard) : is_recent(session, message->id)) {
            session->env->counters->bridge_duplicates += heard->sequence == 0;
            return;
        }
        tp_saving_heard(session, message, out);
        break;
    case TP_MESSAGE_AWARENESS:
        if (!message->encrypted) {
            tp_guests_heard(session, message, out);
        } else if (tp_session_takes(session, true) &&
                   !(bus->mixed && is_recent(session, message->id))) {
            tp_message_keep(message, session->env->pool);
            news = tp_session_say_again(session, message);
            tp_session_broadcast(out, NULL, TP_AUDIENCE_TELEPORTAL, news);
        }
        break;
    case TP_MESSAGE_AWARENESS_QUERY:
        bus->awareness_all = true;
        tp_bus_guests_changed(session);
        break;
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        tp_roster_heard(session, message, out);
        break;
    default: /* ignored (spec 01 section 8.3) */
        break;
    }
}

void tp_bus_heard(struct tp_session *session, const struct tp_heard *heard, struct tp_effects *out)
{
    /* While it is read from the store nothing is taken in: it asks as soon as it is open. */
    if (session->bus == NULL || session->stage != STAGE_OPEN)
        return;
    if (session->deletion != DELETION_NONE) { /* what is new then is asked for, too */
        tp_bus_missed(session);
        return;
    }
    session->hearing = heard;
    if (heard->message == NULL) {
        read_note(session, heard->note, out);
    } else {
        read_message(session, heard->message, out);
        if (heard->message->frame != NULL) /* effects point to it */
            tp_session_say(session, TP_MESSAGE_PING)->hold = heard->message->frame;
        heard->message->frame = NULL;
    }
    session->hearing = NULL;
}

/* ---- digests and differences --------------------------------------------------------------------
 */

static bool knows_digest(const struct tp_session *session)
{
    return session->bus->has_digest && session->bus->digest_version == session->version;
}

static void set_digest(struct bus *bus, uint64_t digest, uint64_t version)
{
    bus->digest = digest | 1; /* 0 stands for unknown */
    bus->digest_version = version;
    bus->has_digest = true;
}

/* What is to become the digest of the content as it is now, if it is not known. False: no room. */
static bool start_digest(struct tp_session *session, struct tp_effects *out)
{
    struct bus *bus = session->bus;

    if (knows_digest(session) || bus->digest_op != NULL)
        return true;
    if (tp_content_is_empty(session)) {
        set_digest(bus, 0, session->version);
        return true;
    }
    if (!tp_session_has_room(out, 2))
        return false;
    if (!tp_content_folded(session, session->version, out))
        return true;
    struct tp_frame *frame = tp_content_state_vector(session);
    const struct tp_slice vector = tp_frame_message(frame);
    bus->digest_op_vector = tp_hash64(vector);
    bus->digest_op_version = session->merged_version;
    bus->digest_op = tp_answers_diff(session, STEP_DIGEST, false, vector, out);
    tp_frame_unref(frame);
    return true;
}

/* The answer to `giving`; no frame: we have nothing at all, but want what it has. */
static void give(struct tp_session *session, const struct tp_frame *frame, struct tp_effects *out)
{
    struct bus *bus = session->bus;
    struct tp_frame *vector_frame = tp_content_state_vector(session);
    const struct tp_slice vector = tp_frame_message(vector_frame);
    const struct tp_slice bytes = frame == NULL ? (struct tp_slice){0} : tp_frame_message(frame);
    struct tp_buffer note = note_begin(session, tp_session_say(session, TP_MESSAGE_PING), NOTE_GIVE,
                                       vector.size + bytes.size);

    tp_write_big_endian(&note, bus->giving->boot, 8);
    tp_write_bytes(&note, vector);
    tp_write_bytes(&note, bytes);
    note_end(&note, out);
    tp_frame_unref(vector_frame);
    session->env->counters->bridge_gives++;
    forget(session, bus->giving);
    bus->giving = NULL;
}

/* One step for one who asked. False: no room. */
static bool answer(struct tp_session *session, struct inquiry *inquiry, struct tp_effects *out)
{
    struct bus *bus = session->bus;

    if (!knows_digest(session) && session->now_ns < inquiry->at_ns + PATIENCE_NS)
        return true;
    if (knows_digest(session) && bus->digest == inquiry->digest) {
        bus->compared_version = session->version;
        forget(session, inquiry);
        return true;
    }
    if (!tp_session_has_room(out, 2))
        return false;
    if (!tp_content_is_empty(session) &&
        (bus->giving != NULL || !tp_content_folded(session, session->version, out)))
        return true;
    tp_link_remove(&inquiry->link);
    bus->inquiry_count--;
    bus->giving = inquiry;
    if (tp_content_is_empty(session))
        give(session, NULL, out);
    else
        bus->give_op = tp_answers_diff(session, STEP_GIVE, true,
                                       tp_slice_of(inquiry->state_vector, inquiry->size), out);
    return true;
}

void tp_bus_worked(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out)
{
    struct bus *bus = session->bus;

    if (op == bus->digest_op) {
        TP_ASSERT(op->status == TP_OK); /* all parts were checked */
        bus->digest_op = NULL;
        set_digest(bus, tp_hash64_seeded(tp_buffer_slice(&op->v1), bus->digest_op_vector),
                   bus->digest_op_version);
    } else {
        TP_ASSERT(op == bus->give_op);
        bus->give_op = NULL;
        if (op->status == TP_OK) {
            struct tp_frame *frame = tp_answers_encode(session, op, TP_MESSAGE_UPDATE);
            give(session, frame, out);
            tp_frame_unref(frame);
        } else { /* not a state vector that one can answer */
            session->env->counters->bridge_refused++;
            forget(session, bus->giving);
            bus->giving = NULL;
        }
    }
    tp_answers_diff_free(session, op);
}

/* ---- the pump -----------------------------------------------------------------------------------
 */

static bool tell_who_is_here(struct tp_session *session, struct tp_effects *out)
{
    struct bus *bus = session->bus;
    struct said *said;

    if (bus->awareness && session->now_ns >= bus->awareness_ns) {
        if (!tp_session_has_room(out, 1))
            return false;
        said = tp_guests_untold(session, bus->awareness_all);
        bus->awareness = bus->awareness_all = false;
        bus->awareness_ns = session->now_ns + AWARENESS_NS;
        if (said != NULL)
            tp_bus_tell(session, said, out);
    }
    if (bus->heartbeat_ns == 0 && session->attendee_count > session->outside_count)
        bus->heartbeat_ns = session->now_ns + HEARTBEAT_NS;
    if (bus->heartbeat_ns != 0 && session->now_ns >= bus->heartbeat_ns) {
        if (!tp_session_has_room(out, 1))
            return false;
        said = tp_roster_heartbeat(session);
        bus->heartbeat_said_ns = session->now_ns;
        bus->heartbeat_ns = said == NULL ? 0 : session->now_ns + HEARTBEAT_NS;
        if (said != NULL)
            tp_bus_tell(session, said, out);
    }
    return true;
}

static bool is_at_rest(const struct tp_session *session)
{
    return session->now_ns >= session->changed_ns + session->bus->rest_ns;
}

static bool compare(struct tp_session *session, struct tp_effects *out)
{
    struct bus *bus = session->bus;
    const bool asks = bus->ask_ns != 0 && session->now_ns >= bus->ask_ns;
    const bool tells = session->version != bus->compared_version && is_at_rest(session);

    if ((asks || tells || bus->theirs != 0 || bus->inquiry_count > 0) &&
        !start_digest(session, out))
        return false;
    if (bus->theirs != 0 && knows_digest(session)) {
        if (bus->theirs == bus->digest)
            bus->compared_version = session->version;
        else if (session->now_ns >= session->changed_ns + SECOND_NS) /* else it is out of date */
            ask_at(session, session->now_ns + GAP_NS);
        bus->theirs = 0;
    }
    if (!tp_session_has_room(out, 2))
        return false;
    if (asks && (knows_digest(session) || session->now_ns >= bus->ask_ns + PATIENCE_NS))
        ask(session, out);
    if (tells && knows_digest(session) && session->version != bus->compared_version) {
        struct said *said = tp_session_say(session, TP_MESSAGE_PING);
        struct tp_buffer note = note_begin(session, said, NOTE_DIGEST, 0);
        note_end(&note, out);
        bus->compared_version = session->version;
    }
    return true;
}

bool tp_bus_pump(struct tp_session *session, struct tp_effects *out)
{
    struct bus *bus = session->bus;

    if (bus == NULL)
        return true;
    if (tp_link_alone(&session->outside))
        bus->expire_ns = 0;
    else if (session->now_ns >= bus->expire_ns)
        bus->expire_ns = tp_roster_expire(session);
    if (!tp_roster_pump(session, out))
        return false;
    if (!bus->linked)
        return true;
    if (!bus->opened) {
        bus->opened = bus->who = true;
        bus->ask_pause_ns = ASK_NS_MIN;
        ask_at(session, session->now_ns);
    }
    if (!tell_who_is_here(session, out) || !compare(session, out))
        return false;
    TP_LIST_EACH_SAFE(link, &bus->inquiries)
    {
        struct inquiry *inquiry = TP_CONTAINER(link, struct inquiry, link);
        if (session->now_ns >= inquiry->at_ns && !answer(session, inquiry, out))
            return false;
    }
    return true;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* What waits for a digest is awaited for a while only. */
static uint64_t patience(const struct tp_session *session, uint64_t at_ns)
{
    return at_ns > session->now_ns || at_ns == 0 ? at_ns : at_ns + PATIENCE_NS;
}

uint64_t tp_bus_due_ns(const struct tp_session *session)
{
    const struct bus *bus = session->bus;

    if (bus == NULL || session->stage != STAGE_OPEN)
        return 0;
    uint64_t at_ns = bus->expire_ns;
    if (!bus->linked)
        return at_ns;
    if (bus->awareness)
        at_ns = sooner(at_ns, bus->awareness_ns);
    at_ns = sooner(at_ns, bus->heartbeat_ns);
    at_ns = sooner(at_ns, patience(session, bus->ask_ns));
    if (session->version != bus->compared_version)
        at_ns = sooner(at_ns, session->changed_ns + bus->rest_ns);
    TP_LIST_EACH(link, &bus->inquiries)
    at_ns = sooner(at_ns, patience(session, TP_CONTAINER(link, struct inquiry, link)->at_ns));
    return at_ns;
}
