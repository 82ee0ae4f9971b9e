/* Answers to step 1: what is missing, and the whole delete set (spec 02 section 5.1, 05 section 4).
 *
 * The answer holds at least what the document had when the question came; what came later was
 * broadcast to whoever asks, who is a peer. So many who ask at once share one computation, and two
 * kinds of answers are kept, encoded, for as long as the document does not change: that for who has
 * nothing, and that for who has everything. */
#include "internal.h"
#include "wire/container.h"
#include "wire/teleportal.h"
#include "wire/yprotocol.h"

#define HEAD_SIZE_MAX 64u /* of a frame, beside names and payload */

/* ---- bytes --------------------------------------------------------------------------------------
 */

static bool wants_v2(const struct tp_peer *peer)
{
    return peer->dialect == TP_DIALECT_TELEPORTAL;
}

static struct cache *cache_of(struct tp_session *session, const struct tp_peer *peer,
                              enum slot slot)
{
    return &session->caches[wants_v2(peer) ? 0 : 1][slot];
}

/* What is said of the content, before it has a form. */
struct words {
    enum tp_message_kind kind; /* SYNC_STEP_2 or UPDATE */
    bool encrypted;
    struct tp_slice bytes;    /* V2 for Teleportal, else V1 */
    struct tp_slice sidecars; /* as tp_message_update.sidecars */
};

/* An answer as the bytes of a dialect. */
static struct tp_frame *encode(struct tp_session *session, bool v2, const struct words *words)
{
    struct tp_message message = {.kind = words->kind, .encrypted = words->encrypted};
    const size_t size_max =
        session->document.size + HEAD_SIZE_MAX + words->bytes.size + words->sidecars.size;
    struct tp_frame *frame = tp_frame_alloc(session->env->pool, size_max);
    struct tp_buffer out = tp_buffer_fixed(frame->data + TP_FRAME_HEAD_SIZE, size_max);
    enum tp_status status;

    if (v2) {
        message.update = (struct tp_message_update){
            .version = 2, .v2 = words->bytes, .sidecars = words->sidecars};
        status = tp_teleportal_encode(&message, session->document, &out);
    } else {
        message.update.v1 = words->bytes;
        status = tp_yprotocol_write(&message, &out);
    }
    TP_ASSERT(status == TP_OK && !out.full);
    frame->size = TP_FRAME_HEAD_SIZE + (uint32_t)out.size;
    return frame;
}

/* The answer as an effect: an encoded frame, shared. Hocuspocus has addresses to write first, so
 * its peers get the message to encode. */
void tp_answers_send_encoded(struct tp_session *session, struct tp_peer *peer,
                             enum tp_message_kind kind, struct tp_frame *frame,
                             struct tp_effects *out)
{
    struct said *said = tp_session_say(session, kind);
    struct tp_message *message = &said->message;

    message->frame = tp_frame_ref(frame);
    message->raw = tp_frame_message(frame);
    message->dialect = wants_v2(peer) ? TP_DIALECT_TELEPORTAL : TP_DIALECT_YWEBSOCKET;
    message->ready = true;
    if (peer->dialect == TP_DIALECT_HOCUSPOCUS) {
        struct tp_reader in = tp_reader_of(message->raw);
        struct tp_message plain = {0};
        const enum tp_status status = tp_yprotocol_read(&in, &plain);
        TP_ASSERT(status == TP_OK);
        message->update = plain.update;
        message->dialect = TP_DIALECT_NONE;
        message->ready = false;
    }
    tp_session_send(out, peer, said);
}

/* ---- questions ----------------------------------------------------------------------------------
 */

static struct question *ask(struct tp_session *session, struct tp_peer *peer, struct tp_slice sv)
{
    struct question *question = tp_session_take(session, sizeof *question + sv.size);

    question->peer = peer;
    question->version = session->version;
    question->size = sv.size;
    if (sv.size > 0)
        memcpy(question->state_vector, sv.data, sv.size);
    tp_link_init(&question->link);
    tp_link_insert(&session->questions, &question->link);
    session->question_count++;
    return question;
}

static void drop(struct tp_session *session, struct question *question)
{
    tp_link_remove(&question->link);
    session->question_count--;
    tp_session_give(session, question, sizeof *question + question->size);
}

void tp_answers_ask(struct tp_session *session, struct tp_peer *peer,
                    const struct tp_message *message, struct tp_effects *out)
{
    const struct tp_session_limits *limits = session->env->limits;
    struct tp_state_vector theirs = {0};

    if (!(peer->rights & TP_MAY_READ)) {
        if (peer->dialect == TP_DIALECT_TELEPORTAL) {
            tp_replies_deny(session, peer, message->encrypted,
                            TP_SLICE("Insufficient permissions to access document"), out);
            tp_replies_ack(session, peer, message->id, out);
        }
        return;
    }
    if (tp_state_vector_decode(&theirs, message->state_vector) != TP_OK) {
        if (peer->dialect == TP_DIALECT_TELEPORTAL)
            tp_replies_nack(session, peer, message->id, "invalid-state-vector", out);
        else
            tp_session_close(out, peer, TP_CLOSE_MALFORMED);
        return;
    }
    if (session->question_count >= 2 * limits->question_count_max) {
        tp_state_vector_finish(&theirs);
        tp_session_close(out, peer, TP_CLOSE_OVERLOAD);
        return;
    }

    enum slot slot = SLOT_OTHER;
    if (theirs.count == 0)
        slot = SLOT_FULL;
    else if (tp_state_vector_covers(&theirs, &session->state_vector))
        slot = SLOT_LEVEL;
    tp_state_vector_finish(&theirs);
    struct question *question =
        ask(session, peer, slot == SLOT_OTHER ? message->state_vector : (struct tp_slice){0});
    question->slot = slot;
    question->step = true;
    question->encrypted = message->encrypted;
    question->id = message->id;
    if (session->question_count >= limits->question_count_max)
        tp_session_pause(session, peer, out);
}

void tp_answers_catch_up(struct tp_session *session, struct tp_peer *peer)
{
    const bool knows = peer->checkpoint != NULL;
    struct question *question =
        ask(session, peer, knows ? tp_frame_message(peer->checkpoint) : (struct tp_slice){0});

    question->slot = knows ? SLOT_OTHER : SLOT_FULL;
    question->encrypted = session->mode == TP_MODE_ENCRYPTED;
    tp_checkpoint_forget(peer);
}

static enum tp_message_kind kind_of(const struct question *question)
{
    return question->step ? TP_MESSAGE_SYNC_STEP_2 : TP_MESSAGE_UPDATE;
}

/* Says the answer, and forgets the question. Three effects at most. */
static void answer(struct tp_session *session, struct question *question, struct tp_frame *frame,
                   struct tp_effects *out)
{
    struct tp_peer *peer = question->peer;

    tp_answers_send_encoded(session, peer, kind_of(question), frame, out);
    peer->synced = true;
    if (question->step && peer->dialect == TP_DIALECT_TELEPORTAL) {
        struct said *step = tp_session_say(session, TP_MESSAGE_SYNC_STEP_1);
        step->hold = tp_content_state_vector(session);
        step->message.state_vector = tp_frame_message(step->hold);
        step->message.encrypted = question->encrypted;
        tp_session_send(out, peer, step);
        tp_replies_ack(session, peer, question->id, out);
    }
    drop(session, question);
}

static void answer_bytes(struct tp_session *session, struct question *question,
                         struct tp_slice bytes, struct tp_effects *out)
{
    const struct words words = {
        .kind = kind_of(question), .encrypted = question->encrypted, .bytes = bytes};
    struct tp_frame *frame = encode(session, wants_v2(question->peer), &words);

    answer(session, question, frame, out);
    tp_frame_unref(frame); /* the effect has it */
}

/* ---- computing ----------------------------------------------------------------------------------
 */

/* What a DIFF looks at, in the operation's keeping. */
struct pinned {
    struct blob *blob;
    struct tp_slice input;
};

struct tp_work_op *tp_answers_diff(struct tp_session *session, uint32_t step, bool v2,
                                   struct tp_slice sv, struct tp_effects *out)
{
    struct tp_work_op *op = tp_session_work(session, TP_WORK_DIFF, step, out);
    const size_t size = sizeof(struct pinned) + sv.size;

    op->frame = tp_frame_alloc(session->env->pool, size);
    uint8_t *at = op->frame->data + TP_FRAME_HEAD_SIZE;
    struct pinned pinned = {.blob = tp_blob_ref(session->merged),
                            .input = tp_buffer_slice(&session->merged->bytes)};
    memcpy(at, &pinned, sizeof pinned);
    op->inputs = (const struct tp_slice *)(at + offsetof(struct pinned, input));
    op->input_count = 1;
    if (sv.size > 0)
        memcpy(at + sizeof pinned, sv.data, sv.size);
    op->sv_in = tp_slice_of(at + sizeof pinned, sv.size);
    op->want_v1 = !v2;
    op->want_v2 = v2;
    op->encrypted = session->mode == TP_MODE_ENCRYPTED;
    return op;
}

/* The difference that was computed, with the sidecars for it, as bytes of a dialect. */
struct tp_frame *tp_answers_encode(struct tp_session *session, const struct tp_work_op *op,
                                   enum tp_message_kind kind)
{
    struct words words = {.kind = kind,
                          .encrypted = op->encrypted,
                          .bytes = tp_buffer_slice(op->want_v2 ? &op->v2 : &op->v1)};
    struct tp_buffer sidecars = tp_buffer_growing(UINT32_MAX / 2);

    if (op->encrypted) {
        tp_sidecars_select(tp_buffer_slice(&session->sidecars),
                           (const struct tp_update_range *)op->ranges.data,
                           op->ranges.size / sizeof(struct tp_update_range), &sidecars);
        words.sidecars = tp_buffer_slice(&sidecars);
    }
    struct tp_frame *frame = encode(session, op->want_v2, &words);
    tp_buffer_finish(&sidecars);
    return frame;
}

void tp_answers_diff_free(struct tp_session *session, struct tp_work_op *op)
{
    struct pinned pinned;

    memcpy(&pinned, op->frame->data + TP_FRAME_HEAD_SIZE, sizeof pinned);
    tp_blob_unref(pinned.blob);
    tp_frame_unref(op->frame);
    op->frame = NULL;
    tp_session_work_free(session, op);
}

/* ---- pieces -------------------------------------------------------------------------------------
 */

struct tp_frame *tp_answers_encode_update(struct tp_session *session, struct tp_slice v1)
{
    return encode(session, false, &(struct words){.kind = TP_MESSAGE_UPDATE, .bytes = v1});
}

void tp_answers_ask_rest(struct tp_session *session, struct tp_peer *peer, struct tp_slice sv,
                         const struct tp_passage_wish *wish)
{
    struct question *question = ask(session, peer, sv);

    question->slot = SLOT_OTHER;
    question->step = wish->step;
    question->version = wish->version;
    question->rest = true;
}

void tp_answers_end_pieces(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    const struct words words = {.kind = TP_MESSAGE_SYNC_STEP_2,
                                .bytes = tp_update_empty(TP_UPDATE_V1)};
    struct tp_frame *frame = encode(session, false, &words);

    tp_answers_send_encoded(session, peer, TP_MESSAGE_SYNC_STEP_2, frame, out);
    tp_frame_unref(frame); /* the effect has it */
}

/* A sync in pieces in place of the question: on a passage that is there, or on a new one. */
static bool start_pieces(struct tp_session *session, struct question *question, bool begin)
{
    const struct tp_passage_wish wish = {
        .step = question->step, .version = question->version, .exact = question->rest};
    struct tp_frame *level = question->slot == SLOT_LEVEL ? tp_content_state_vector(session) : NULL;
    const struct tp_slice sv = level != NULL ? tp_frame_message(level)
                                             : tp_slice_of(question->state_vector, question->size);
    const bool started = tp_passages_join(session, question->peer, sv, &wish, begin);

    tp_frame_unref(level);
    if (started)
        drop(session, question);
    return started;
}

void tp_answers_ready(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    if (peer->stale) {
        peer->behind = peer->unaware = false; /* what it missed is not there any more */
        tp_checkpoint_forget(peer);
    }
    if (peer->behind && peer->piecewise != NULL) {
        peer->piecewise->version = session->version; /* what was lost comes behind the pieces */
        tp_checkpoint_forget(peer);
    } else if (peer->behind) {
        tp_answers_catch_up(session, peer);
    }
    peer->behind = false;
    if (peer->unaware && session->mode != TP_MODE_ENCRYPTED) /* else renewals bring them */
        tp_guests_send_all(session, peer, true, out);
    peer->unaware = false;
    tp_passages_ready(session, peer);
}

/* ---- the pump -----------------------------------------------------------------------------------
 */

static bool is_piecewise(const struct tp_session *session, const struct tp_peer *peer)
{
    return !wants_v2(peer) && session->merged != NULL &&
           session->merged->bytes.size > session->env->limits->whole_size_max;
}

/* One step for one question. False: no room. The question may be gone afterwards. */
static bool go_on(struct tp_session *session, struct question *question, struct tp_effects *out)
{
    struct tp_peer *peer = question->peer;

    if (question->op != NULL)
        return true;
    if (!tp_session_has_room(out, 3))
        return false;
    if (tp_content_is_empty(session)) {
        answer_bytes(session, question,
                     wants_v2(peer) ? tp_slice_of("", 0) : tp_update_empty(TP_UPDATE_V1), out);
        return true;
    }
    if (!tp_session_takes(session, question->encrypted)) { /* decided since it asked */
        if (peer->dialect == TP_DIALECT_TELEPORTAL)
            tp_replies_mismatch(session, peer, question->encrypted, question->id, out);
        drop(session, question);
        return true;
    }
    if (question->slot != SLOT_OTHER) {
        const struct cache *cache = cache_of(session, peer, question->slot);
        if (cache->frame != NULL && cache->version >= question->version && question->step) {
            answer(session, question, cache->frame, out);
            return true;
        }
    }
    if (is_piecewise(session, peer) && (peer->piecewise != NULL || /* then when that is through */
                                        start_pieces(session, question, false)))
        return true;
    if (!tp_content_folded(session, question->version, out))
        return session->fold.op != NULL;
    if (is_piecewise(session, peer)) {
        start_pieces(session, question, true);
        return true;
    }
    if (question->slot == SLOT_FULL && !wants_v2(peer) && !question->step) {
        answer_bytes(session, question, tp_buffer_slice(&session->merged->bytes), out);
        return true;
    }
    if (question->slot == SLOT_OTHER || !question->step) {
        question->op = tp_answers_diff(session, STEP_QUESTION, wants_v2(peer),
                                       tp_slice_of(question->state_vector, question->size), out);
        question->op->owner = question;
        return true;
    }

    struct cache *cache = cache_of(session, peer, question->slot);
    if (cache->op != NULL)
        return true;
    if (question->slot == SLOT_FULL && !wants_v2(peer)) {
        tp_frame_unref(cache->frame);
        cache->frame = encode(session, false,
                              &(struct words){.kind = TP_MESSAGE_SYNC_STEP_2,
                                              .bytes = tp_buffer_slice(&session->merged->bytes)});
        cache->version = session->merged_version;
        session->changed_ns = session->now_ns;
        answer(session, question, cache->frame, out);
        return true;
    }
    struct tp_frame *level = question->slot == SLOT_LEVEL ? tp_content_state_vector(session) : NULL;
    cache->op =
        tp_answers_diff(session, STEP_CACHE, wants_v2(peer),
                        level == NULL ? (struct tp_slice){0} : tp_frame_message(level), out);
    cache->op->owner = cache;
    cache->op_version = session->merged_version;
    tp_frame_unref(level);
    return true;
}

bool tp_answers_pump(struct tp_session *session, struct tp_effects *out)
{
    uint32_t question_count;

    do {
        TP_LIST_EACH_SAFE(link, &session->questions)
        {
            if (!go_on(session, TP_CONTAINER(link, struct question, link), out))
                return false;
        }
        question_count = session->question_count;
        if (!tp_passages_pump(session, out))
            return false;
    } while (session->question_count != question_count); /* somebody asked for the rest */
    return true;
}

static void cache_done(struct tp_session *session, struct tp_work_op *op)
{
    struct cache *cache = op->owner;
    TP_ASSERT(op->status == TP_OK); /* all parts were checked: a failure is our own mistake */
    cache->op = NULL;
    tp_frame_unref(cache->frame);
    cache->frame = tp_answers_encode(session, op, TP_MESSAGE_SYNC_STEP_2);
    cache->version = cache->op_version;
    session->changed_ns = session->now_ns;
    tp_answers_diff_free(session, op);
}

static void question_done(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out)
{
    struct question *question = op->owner;

    question->op = NULL;
    if (question->peer == NULL) {
        drop(session, question);
    } else if (op->status == TP_OK) {
        struct tp_frame *frame = tp_answers_encode(session, op, kind_of(question));
        answer(session, question, frame, out);
        tp_frame_unref(frame); /* the effect has it */
    } else {
        tp_session_close(out, question->peer, TP_CLOSE_INTERNAL);
        drop(session, question);
    }
    tp_answers_diff_free(session, op);
}

void tp_answers_worked(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out)
{
    switch ((enum step)op->step) {
    case STEP_CACHE:
        cache_done(session, op);
        break;
    case STEP_QUESTION:
        question_done(session, op, out);
        break;
    case STEP_PIECE:
        tp_passages_worked(session, op);
        break;
    default:
        TP_ASSERT(!"an answer to what nobody asked");
    }
}

void tp_answers_forget(struct tp_session *session, struct tp_peer *peer)
{
    TP_LIST_EACH_SAFE(link, &session->questions)
    {
        struct question *question = TP_CONTAINER(link, struct question, link);
        if (question->peer != peer)
            continue;
        if (question->op == NULL)
            drop(session, question);
        else
            question->peer = NULL;
    }
    tp_checkpoint_forget(peer);
    tp_passages_forget(session, peer);
}

void tp_answers_finish(struct tp_session *session)
{
    TP_ASSERT(tp_link_alone(&session->questions));
}
