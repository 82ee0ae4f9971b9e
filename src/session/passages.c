/* First syncs of large documents: cut into pieces once for all who start at the same place.
 *
 *     passage:  | 0 dropped | 1 | 2 | 3 | made ahead |  not made yet ...
 *                             ^ slowest   ^ fastest reader
 *
 * A passage is one state of the content, from one state vector on. Its pieces are made when the
 * fastest reader comes near, encoded once, and kept for those behind it and those who come later.
 * A reader takes the next piece whenever its last one has gone. At the end it asks for what was
 * added since the passage began, if it came later than that. Where pieces would take more than
 * passage_size_max the oldest are dropped, and a reader that still needs one of them goes on from
 * where it stands with a passage of its own, when it reads again: until then it costs its state
 * vector. */
#include "internal.h"

#define PIECES_AHEAD 2u   /* made before the fastest reader asks for them */
#define PIECES_AT_ONCE 6u /* by one operation, for many readers; else one */
#define PIECE_ROOM_FIRST 16u

struct piece {
    struct tp_frame *frame;  /* NULL: dropped */
    struct tp_buffer before; /* the state vector that it is for */
};

struct passage {
    struct tp_link link; /* session->passages */
    struct tp_link want; /* session->wanting: a piece is to be made */
    struct tp_link readers;
    struct tp_link waiting; /* readers that need a piece not made yet */
    struct blob *blob;
    struct tp_slice input;
    uint64_t version;     /* of the content */
    uint64_t added_size;  /* the session's, at that version */
    struct piece *pieces; /* from first_kept to count */
    uint32_t first_kept, count, room;
    uint32_t front;      /* the piece that the fastest reader needs next */
    struct tp_buffer at; /* the state vector behind the last piece */
    bool is_whole;       /* nothing follows `at` */
    uint32_t last_made;  /* pieces of the last operation */
    struct tp_work_op *op;
};

static size_t piece_size(const struct piece *piece)
{
    return sizeof(struct tp_frame) + piece->frame->room + piece->before.capacity;
}

static void drop_piece(struct tp_session *session, struct passage *passage)
{
    struct piece *piece = &passage->pieces[passage->first_kept++];

    session->passages_size -= piece_size(piece);
    tp_frame_unref(piece->frame);
    tp_buffer_finish(&piece->before);
    piece->frame = NULL;
}

static void end_passage(struct tp_session *session, struct passage *passage)
{
    TP_ASSERT(passage->op == NULL && tp_link_alone(&passage->readers));
    while (passage->first_kept < passage->count)
        drop_piece(session, passage);
    tp_link_remove(&passage->link);
    tp_link_remove(&passage->want);
    tp_blob_unref(passage->blob);
    tp_buffer_finish(&passage->at);
    tp_session_give(session, passage->pieces, passage->room * sizeof *passage->pieces);
    tp_session_give(session, passage, sizeof *passage);
}

static struct tp_slice start_of(const struct passage *passage)
{
    return tp_buffer_slice(passage->count > 0 ? &passage->pieces[0].before : &passage->at);
}

/* Worth joining: what has to follow it is small beside what it saves. */
static bool is_recent(const struct tp_session *session, const struct passage *passage)
{
    return session->added_size - passage->added_size <= passage->input.size / 4;
}

/* The first piece is there, and somebody may yet come who has nothing. */
static bool may_be_joined(const struct tp_session *session, const struct passage *passage)
{
    return passage->first_kept == 0 && start_of(passage).size <= 1 && is_recent(session, passage);
}

void tp_passages_forget_idle(struct tp_session *session, bool all)
{
    TP_LIST_EACH_SAFE(link, &session->passages)
    {
        struct passage *passage = TP_CONTAINER(link, struct passage, link);
        if (tp_link_alone(&passage->readers) && passage->op == NULL &&
            (all || !may_be_joined(session, passage)))
            end_passage(session, passage);
    }
}

bool tp_passages_are_idle(const struct tp_session *session)
{
    TP_LIST_EACH(link, &session->passages)
    {
        if (tp_link_alone(&TP_CONTAINER(link, struct passage, link)->readers))
            return true;
    }
    return false;
}

static struct passage *begin_passage(struct tp_session *session, struct tp_slice sv)
{
    struct passage *passage = tp_session_take(session, sizeof *passage);

    tp_passages_forget_idle(session, false);
    tp_link_init(&passage->link);
    tp_link_init(&passage->want);
    tp_link_init(&passage->readers);
    tp_link_init(&passage->waiting);
    passage->blob = tp_blob_ref(session->merged);
    passage->input = tp_buffer_slice(&session->merged->bytes);
    passage->version = session->merged_version;
    passage->added_size = session->added_size - session->tail_size;
    passage->at = tp_buffer_growing(UINT32_MAX);
    tp_buffer_append(&passage->at, sv.data, sv.size);
    tp_link_insert(&session->passages, &passage->link);
    return passage;
}

static struct passage *find(struct tp_session *session, struct tp_slice sv, uint64_t version,
                            bool exact)
{
    TP_LIST_EACH(link, &session->passages)
    {
        struct passage *passage = TP_CONTAINER(link, struct passage, link);
        if (passage->first_kept == 0 && tp_slice_equal(start_of(passage), sv) &&
            (passage->version >= version || (!exact && is_recent(session, passage))))
            return passage;
    }
    return NULL;
}

/* ---- readers ------------------------------------------------------------------------------------
 */

static void put_on(struct passage *passage, struct tp_piecewise *reader)
{
    reader->passage = passage;
    reader->next = 0;
    tp_link_insert(&passage->readers, &reader->link);
}

static void free_reader(struct tp_session *session, struct tp_piecewise *reader)
{
    struct passage *passage = reader->passage;

    reader->peer->piecewise = NULL;
    tp_link_remove(&reader->link);
    tp_link_remove(&reader->turn);
    tp_buffer_finish(&reader->at);
    tp_session_give(session, reader, sizeof *reader);
    session->passed_ns = session->now_ns; /* its passage is kept for a while from now */
    if (passage != NULL && passage->op == NULL && tp_link_alone(&passage->readers) &&
        !may_be_joined(session, passage))
        end_passage(session, passage);
}

bool tp_passages_join(struct tp_session *session, struct tp_peer *peer, struct tp_slice sv,
                      const struct tp_passage_wish *wish, bool begin)
{
    struct passage *passage = find(session, sv, wish->version, wish->exact);

    if (passage == NULL && !begin)
        return false;
    if (passage == NULL)
        passage = begin_passage(session, sv);
    struct tp_piecewise *reader = tp_session_take(session, sizeof *reader);
    reader->peer = peer;
    reader->step = wish->step;
    reader->version = wish->version;
    tp_link_init(&reader->link);
    tp_link_init(&reader->turn);
    peer->piecewise = reader;
    put_on(passage, reader);
    tp_link_insert(&session->turns, &reader->turn);
    return true;
}

/* Its next piece is about to go: it will find another way when it reads again. */
static void leave_behind(struct passage *passage, struct tp_piecewise *reader)
{
    const struct tp_slice at = tp_buffer_slice(&passage->pieces[reader->next].before);

    tp_link_remove(&reader->link);
    reader->passage = NULL;
    reader->at = tp_buffer_growing(UINT32_MAX);
    tp_buffer_append(&reader->at, at.data, at.size);
}

/* Drops the oldest pieces of `passage` but those just made: so every reader comes on. */
static void shed(struct tp_session *session, struct passage *passage)
{
    while (session->passages_size > session->env->limits->passage_size_max &&
           passage->first_kept + passage->last_made < passage->count) {
        TP_LIST_EACH_SAFE(link, &passage->readers)
        {
            struct tp_piecewise *reader = TP_CONTAINER(link, struct tp_piecewise, link);
            if (reader->next == passage->first_kept)
                leave_behind(passage, reader);
        }
        drop_piece(session, passage);
    }
}

/* ---- making pieces ------------------------------------------------------------------------------
 */

static void want_piece(struct tp_session *session, struct passage *passage)
{
    if (!passage->is_whole && passage->op == NULL && tp_link_alone(&passage->want) &&
        !tp_link_alone(&passage->readers) && passage->count <= passage->front + PIECES_AHEAD)
        tp_link_insert(&session->wanting, &passage->want);
}

static void make_piece(struct tp_session *session, struct passage *passage, struct tp_effects *out)
{
    struct tp_work_op *op = tp_session_work(session, TP_WORK_PIECE, STEP_PIECE, out);

    op->inputs = &passage->input;
    op->input_count = 1;
    op->sv_in = tp_buffer_slice(&passage->at);
    op->size_max = session->env->limits->piece_size;
    op->count_max = start_of(passage).size <= 1 ? PIECES_AT_ONCE : 1;
    op->owner = passage;
    passage->op = op;
}

/* `before` is the state vector that it is for. Takes it. */
static void add_piece(struct tp_session *session, struct passage *passage, struct tp_slice v1,
                      struct tp_buffer before)
{
    if (passage->count == passage->room) {
        const uint32_t room = passage->room == 0 ? PIECE_ROOM_FIRST : 2 * passage->room;
        struct piece *pieces = tp_session_take(session, room * sizeof *pieces);
        if (passage->count > 0)
            memcpy(pieces, passage->pieces, passage->count * sizeof *pieces);
        tp_session_give(session, passage->pieces, passage->room * sizeof *passage->pieces);
        passage->pieces = pieces;
        passage->room = room;
    }
    struct piece *piece = &passage->pieces[passage->count++];
    piece->frame = tp_answers_encode_update(session, v1);
    piece->before = before;
    session->passages_size += piece_size(piece);
}

static void add_pieces(struct tp_session *session, struct passage *passage,
                       const struct tp_work_op *op)
{
    const struct tp_update_piece_end *ends = (const struct tp_update_piece_end *)op->ends.data;
    struct tp_update_piece_end from = {0};

    passage->last_made = (uint32_t)(op->ends.size / sizeof *ends);
    for (uint32_t i = 0; i < passage->last_made; i++) {
        add_piece(session, passage,
                  tp_slice_of(op->v1.data + from.update, ends[i].update - from.update),
                  passage->at);
        passage->at = tp_buffer_growing(UINT32_MAX);
        tp_buffer_append(&passage->at, op->sv.data + from.state_vector,
                         ends[i].state_vector - from.state_vector);
        from = ends[i];
    }
    passage->is_whole = op->is_last;
}

void tp_passages_worked(struct tp_session *session, struct tp_work_op *op)
{
    struct passage *passage = op->owner;

    TP_ASSERT(op->status == TP_OK); /* all parts were checked: a failure is our own mistake */
    passage->op = NULL;
    add_pieces(session, passage, op);
    tp_session_work_free(session, op);
    tp_list_splice(&session->turns, &passage->waiting);
    shed(session, passage);
    if (tp_link_alone(&passage->readers) && !may_be_joined(session, passage))
        end_passage(session, passage);
    else
        want_piece(session, passage);
}

/* ---- the pump -----------------------------------------------------------------------------------
 */

/* The last piece has gone out. */
static void arrive(struct tp_session *session, struct tp_piecewise *reader, struct tp_effects *out)
{
    struct passage *passage = reader->passage;
    struct tp_peer *peer = reader->peer;

    if (passage->version < reader->version) {
        const struct tp_passage_wish wish = {
            .step = reader->step, .version = reader->version, .exact = true};
        tp_answers_ask_rest(session, peer, tp_buffer_slice(&passage->at), &wish);
    } else {
        if (reader->step)
            tp_answers_end_pieces(session, peer, out);
        peer->synced = true;
    }
    free_reader(session, reader);
}

/* The next piece, if it is there. Two effects at most. */
static void take_turn(struct tp_session *session, struct tp_piecewise *reader,
                      struct tp_effects *out)
{
    tp_link_remove(&reader->turn);
    if (reader->passage == NULL) {
        const struct tp_slice at = tp_buffer_slice(&reader->at);
        struct passage *passage = find(session, at, reader->version, false);
        put_on(passage != NULL ? passage : begin_passage(session, at), reader);
        tp_buffer_finish(&reader->at);
    }
    struct passage *passage = reader->passage;
    if (reader->next == passage->count) {
        passage->front = tp_max(passage->front, reader->next);
        tp_link_insert(&passage->waiting, &reader->turn);
        want_piece(session, passage);
        return;
    }
    tp_answers_send_encoded(session, reader->peer, TP_MESSAGE_UPDATE,
                            passage->pieces[reader->next++].frame, out);
    if (reader->next > passage->front) {
        passage->front = reader->next;
        want_piece(session, passage);
    }
    if (passage->is_whole && reader->next == passage->count) {
        arrive(session, reader, out);
        return;
    }
    reader->waits = true;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_NOTIFY, .peer = reader->peer});
}

bool tp_passages_pump(struct tp_session *session, struct tp_effects *out)
{
    while (!tp_link_alone(&session->turns)) {
        if (!tp_session_has_room(out, 2))
            return false;
        take_turn(session, TP_CONTAINER(session->turns.next, struct tp_piecewise, turn), out);
    }
    while (!tp_link_alone(&session->wanting)) {
        if (!tp_session_has_room(out, 1))
            return false;
        struct tp_link *link = tp_list_pop(&session->wanting);
        make_piece(session, TP_CONTAINER(link, struct passage, want), out);
    }
    return true;
}

void tp_passages_ready(struct tp_session *session, struct tp_peer *peer)
{
    struct tp_piecewise *reader = peer->piecewise;

    if (reader == NULL || !reader->waits)
        return;
    reader->waits = false;
    tp_link_insert(&session->turns, &reader->turn);
}

void tp_passages_forget(struct tp_session *session, struct tp_peer *peer)
{
    if (peer->piecewise != NULL)
        free_reader(session, peer->piecewise);
}

size_t tp_passages_memory(const struct tp_session *session)
{
    const struct blob *last = session->merged;
    size_t size = session->passages_size;

    TP_LIST_EACH(link, &session->passages)
    {
        const struct passage *passage = TP_CONTAINER(link, struct passage, link);
        size += sizeof *passage + passage->room * sizeof *passage->pieces + passage->at.capacity;
        size += passage->blob == last ? 0 : passage->blob->bytes.capacity; /* neighbours share it */
        last = passage->blob == last ? last : passage->blob;
    }
    return size;
}

void tp_passages_check(const struct tp_session *session)
{
    size_t size = 0;

    TP_LIST_EACH(link, &session->passages)
    {
        const struct passage *passage = TP_CONTAINER(link, struct passage, link);
        TP_ASSERT(passage->first_kept <= passage->count && passage->front <= passage->count);
        TP_ASSERT(passage->op == NULL || tp_link_alone(&passage->want));
        for (uint32_t i = passage->first_kept; i < passage->count; i++)
            size += piece_size(&passage->pieces[i]);
        TP_LIST_EACH(at, &passage->readers)
        {
            const struct tp_piecewise *reader = TP_CONTAINER(at, struct tp_piecewise, link);
            TP_ASSERT(reader->passage == passage && reader->peer->piecewise == reader);
            TP_ASSERT(reader->next >= passage->first_kept && reader->next <= passage->count);
            TP_ASSERT(reader->waits == tp_link_alone(&reader->turn));
        }
    }
    TP_ASSERT(size == session->passages_size);
}

void tp_passages_finish(struct tp_session *session)
{
    tp_passages_forget_idle(session, true);
    TP_ASSERT(tp_link_alone(&session->passages) && tp_link_alone(&session->turns));
}
