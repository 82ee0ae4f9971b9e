/* What the document holds: one merged V1 update, and a tail of updates not yet merged into it. */
#include "internal.h"

#define TAIL_ROOM_FIRST 4u
#define TAIL_ENTRY_SIZE 96u /* memory of an entry and its frame, without the update, about */

bool tp_content_is_empty(const struct tp_session *session)
{
    return session->merged == NULL && session->tail_count == 0;
}

void tp_content_add(struct tp_session *session, struct tp_frame *frame, struct tp_slice v1,
                    const struct tp_update_range *ranges, uint32_t range_count)
{
    tp_checkpoint_before(session, v1.size);
    if (session->tail_count == session->tail_room) {
        const uint32_t room = session->tail_room == 0 ? TAIL_ROOM_FIRST : 2 * session->tail_room;
        struct tail_entry *tail = tp_session_take(session, room * sizeof *tail);
        if (session->tail_count > 0)
            memcpy(tail, session->tail, session->tail_count * sizeof *tail);
        tp_session_give(session, session->tail, session->tail_room * sizeof *tail);
        session->tail = tail;
        session->tail_room = room;
    }
    session->tail[session->tail_count++] = (struct tail_entry){tp_frame_ref(frame), v1};
    session->tail_size += v1.size;
    session->added_size += v1.size;
    session->version++;
    session->changed_ns = session->now_ns;

    for (uint32_t i = 0; i < range_count; i++) {
        const struct tp_update_range *range = &ranges[i];
        if (range->from <= tp_state_vector_get(&session->state_vector, range->client))
            tp_state_vector_raise(&session->state_vector, range->client, range->gapless_to);
    }
}

static void start_fold(struct tp_session *session, struct tp_effects *out)
{
    struct fold *fold = &session->fold;
    size_t count = 0;

    fold->tail_count = session->tail_count;
    fold->version = session->version;
    fold->inputs = tp_session_take(session, (fold->tail_count + 1) * sizeof(struct tp_slice));
    if (session->merged != NULL)
        fold->inputs[count++] = tp_buffer_slice(&session->merged->bytes);
    for (uint32_t i = 0; i < fold->tail_count; i++)
        fold->inputs[count++] = session->tail[i].v1;
    fold->op = tp_session_work(session, TP_WORK_MERGE, STEP_FOLD, out);
    fold->op->inputs = fold->inputs;
    fold->op->input_count = count;
}

bool tp_content_folded(struct tp_session *session, uint64_t version, struct tp_effects *out)
{
    if (session->merged_version >= version && session->merged != NULL)
        return true;
    if (session->fold.op == NULL && tp_session_has_room(out, 1))
        start_fold(session, out);
    return false;
}

bool tp_content_tail_is_long(const struct tp_session *session, bool at_rest)
{
    const struct tp_session_limits *limits = session->env->limits;
    const size_t merged_size = session->merged == NULL ? 0 : session->merged->bytes.size;
    const size_t size = session->tail_size + session->tail_count * TAIL_ENTRY_SIZE;

    if (tp_size_wants_merge(session))
        return true;
    if (at_rest && merged_size <= limits->whole_size_max)
        return session->tail_count > 0;
    /* A merge reads and writes all of it, so one is due when the document has grown by a half: then
     * every update is read two or three times, however many there are. */
    return size > tp_max(limits->tail_size_max, merged_size / 2) / (at_rest ? 8 : 1);
}

void tp_content_worked(struct tp_session *session, struct tp_work_op *op)
{
    struct fold *fold = &session->fold;
    struct tp_state_vector known = {0};

    TP_ASSERT(op == fold->op);
    /* Every part was checked before it was taken in, so a failure is our own mistake. */
    TP_ASSERT(op->status == TP_OK);
    const enum tp_status status = tp_state_vector_decode(&known, tp_buffer_slice(&op->sv));
    TP_ASSERT(status == TP_OK);

    for (uint32_t i = 0; i < known.count; i++)
        tp_state_vector_raise(&session->state_vector, known.entries[i].client,
                              known.entries[i].clock);
    tp_state_vector_finish(&known);
    for (uint32_t i = 0; i < fold->tail_count; i++) {
        session->tail_size -= session->tail[i].v1.size;
        tp_frame_unref(session->tail[i].frame);
    }
    session->tail_count -= fold->tail_count;
    memmove(session->tail, session->tail + fold->tail_count,
            session->tail_count * sizeof *session->tail);
    if (session->tail_count == 0) {
        tp_session_give(session, session->tail, session->tail_room * sizeof *session->tail);
        session->tail = NULL;
        session->tail_room = 0;
    }
    tp_blob_unref(session->merged);
    session->merged = tp_blob_create(&op->v1);
    session->merged_version = fold->version;
    tp_session_give(session, fold->inputs, (fold->tail_count + 1) * sizeof(struct tp_slice));
    *fold = (struct fold){0};
    tp_session_work_free(session, op);
}

struct tp_frame *tp_content_state_vector(struct tp_session *session)
{
    const struct tp_state_vector *vector = &session->state_vector;
    const size_t size_max = (1 + 2 * (size_t)vector->count) * TP_VARUINT_SIZE_MAX;
    struct tp_frame *frame = tp_frame_alloc(session->env->pool, size_max);
    struct tp_buffer out = tp_buffer_fixed(frame->data + TP_FRAME_HEAD_SIZE, size_max);

    tp_state_vector_encode(vector, &out);
    frame->size = TP_FRAME_HEAD_SIZE + (uint32_t)out.size;
    return frame;
}

void tp_content_forget_caches(struct tp_session *session)
{
    for (unsigned i = 0; i < 2; i++)
        for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
            tp_frame_unref(session->caches[i][slot].frame);
            session->caches[i][slot].frame = NULL;
        }
    tp_passages_forget_idle(session, true);
}

void tp_content_finish(struct tp_session *session)
{
    TP_ASSERT(session->fold.op == NULL);
    tp_checkpoint_finish(session);
    tp_content_forget_caches(session);
    for (uint32_t i = 0; i < session->tail_count; i++)
        tp_frame_unref(session->tail[i].frame);
    tp_session_give(session, session->tail, session->tail_room * sizeof *session->tail);
    tp_blob_unref(session->merged);
    tp_buffer_finish(&session->sidecars);
    tp_state_vector_finish(&session->state_vector);
}

/* ---- for others ---------------------------------------------------------------------------------
 */

enum tp_status tp_session_content(struct tp_session *session, struct tp_session_content *out,
                                  struct tp_effects *effects)
{
    if (session->stage != STAGE_OPEN)
        return TP_ABSENT;
    if (!tp_content_folded(session, session->version, effects))
        return TP_MORE;
    out->hold = tp_blob_ref(session->merged);
    out->v1 = tp_buffer_slice(&session->merged->bytes);
    out->sidecars = tp_buffer_growing(SIZE_MAX);
    tp_buffer_append(&out->sidecars, session->sidecars.data, session->sidecars.size);
    return TP_OK;
}

void tp_session_content_drop(struct tp_session_content *content)
{
    tp_blob_unref(content->hold);
    tp_buffer_finish(&content->sidecars);
    *content = (struct tp_session_content){0};
}
