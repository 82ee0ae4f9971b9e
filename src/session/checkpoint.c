/* What a peer that falls behind has surely been sent.
 *
 *     updates   . . . . | . . . . . | . . x x | x . .        x: queued to one peer, and dropped
 *     marks       1          2          3        4
 *                                     ^ what the document held here is the peer's checkpoint
 *
 * Every update that is broadcast carries the mark of its part of the history; a part has about
 * checkpoint_size bytes, and what the document held when it began is kept as a state vector, of the
 * last CHECKPOINT_COUNT parts. A connection that must drop updates says the lowest mark among
 * them: all before was sent. So once it has read the rest it gets the difference to that state
 * vector: what it missed, and a part more at most. That this is less than was known is harmless: a
 * peer takes twice what it has. */
#include "internal.h"

#define CHECKPOINT_COUNT 64u
#define ROOM_FIRST 4u /* most documents are small */
/* A part is worth so many times its state vector, so that state vectors stay a small matter. */
#define PART_FACTOR 4u

static struct tp_frame **place(struct tp_session *session, uint32_t mark)
{
    return &session->checkpoints[mark % session->checkpoint_room];
}

static void grow(struct tp_session *session)
{
    struct tp_frame **const old = session->checkpoints;
    const uint32_t old_room = session->checkpoint_room;

    session->checkpoint_room = old_room == 0 ? ROOM_FIRST : 2 * old_room;
    session->checkpoints =
        tp_session_take(session, session->checkpoint_room * sizeof *session->checkpoints);
    for (uint32_t i = 0; i < old_room; i++) /* those of the marks up to this one */
        *place(session, session->mark - i) = old[(session->mark - i) % old_room];
    tp_session_give(session, old, old_room * sizeof *old);
}

static void begin_part(struct tp_session *session)
{
    const uint32_t next = session->mark + 1;

    if (session->checkpoint_room == 0 ||
        (session->checkpoint_room < CHECKPOINT_COUNT && *place(session, next) != NULL))
        grow(session);
    session->mark = next;
    struct tp_frame **frame = place(session, next);
    if (*frame != NULL)
        session->checkpoints_size -= (*frame)->room;
    tp_frame_unref(*frame);
    *frame = tp_content_state_vector(session);
    session->checkpoints_size += (*frame)->room;
    session->part_left = tp_max(session->env->limits->checkpoint_size,
                                (uint64_t)PART_FACTOR * tp_frame_message(*frame).size);
}

/* The state vector must not know the update yet. */
void tp_checkpoint_before(struct tp_session *session, size_t update_size)
{
    if (session->part_left == 0)
        begin_part(session);
    session->part_left -= tp_min(session->part_left, (uint64_t)update_size);
}

void tp_checkpoint_behind(struct tp_session *session, struct tp_peer *peer, uint32_t mark)
{
    if (peer->checkpoint != NULL || peer->lost)
        return; /* it has been since before */
    /* Those from before the document was deleted are gone. */
    const bool is_kept = session->checkpoints != NULL &&
                         session->mark - mark < session->checkpoint_room &&
                         *place(session, mark) != NULL;
    peer->lost = !is_kept;
    if (is_kept)
        peer->checkpoint = tp_frame_ref(*place(session, mark));
}

void tp_checkpoint_forget(struct tp_peer *peer)
{
    tp_frame_unref(peer->checkpoint);
    peer->checkpoint = NULL;
    peer->lost = false;
}

size_t tp_checkpoint_memory(const struct tp_session *session)
{
    return session->checkpoints_size + session->checkpoint_room * sizeof *session->checkpoints;
}

void tp_checkpoint_finish(struct tp_session *session)
{
    for (uint32_t i = 0; i < session->checkpoint_room; i++)
        tp_frame_unref(session->checkpoints[i]);
    tp_session_give(session, session->checkpoints,
                    session->checkpoint_room * sizeof *session->checkpoints);
    session->checkpoints = NULL;
    session->checkpoint_room = 0;
    session->checkpoints_size = 0;
    session->part_left = 0;
}
