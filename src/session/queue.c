/* Messages that cannot be handled yet.
 *
 *     held:       came before the document was open
 *     following:  about content, from the author of a large update that a worker still checks: what
 *                 it says next may build on that, ask for it, or ask whether it is durable
 *
 * Both are handled in the order in which they came, of each peer. Checks keep their order anyway:
 * large updates alone do not wait for one another. */
#include "internal.h"

#define ROOM_FACTOR 2u /* who says more in spite of PAUSE is closed at twice the bound */

static bool is_update(const struct tp_message *message)
{
    return message->kind == TP_MESSAGE_SYNC_STEP_2 || message->kind == TP_MESSAGE_UPDATE;
}

static bool is_about_content(const struct tp_message *message)
{
    return is_update(message) || message->kind == TP_MESSAGE_SYNC_STEP_1 ||
           message->kind == TP_MESSAGE_ECHO;
}

bool tp_queue_follows(const struct tp_peer *peer, const struct tp_message *message)
{
    if (peer->checked_count + peer->following_count == 0 || !is_about_content(message))
        return false;
    return peer->following_count > 0 || !is_update(message) ||
           !tp_saving_is_large(&message->update);
}

void tp_queue_put(struct tp_session *session, struct tp_link *list, struct tp_peer *peer,
                  struct tp_message *message, struct tp_effects *out)
{
    const struct tp_session_limits *limits = session->env->limits;

    if (session->held_count >= ROOM_FACTOR * limits->queue_count_max ||
        session->held_size >= ROOM_FACTOR * limits->queue_size_max) {
        tp_session_close(out, peer, TP_CLOSE_OVERLOAD);
        return;
    }
    struct held *held = tp_session_take(session, sizeof *held);
    held->peer = peer;
    tp_message_keep(message, session->env->pool);
    held->message = *message;
    held->follows = list == &session->following;
    peer->following_count += held->follows;
    message->frame = NULL; /* moved */
    tp_link_init(&held->link);
    tp_link_insert(list, &held->link);
    session->held_count++;
    session->held_size += held->message.raw.size;
    if (session->held_count >= limits->queue_count_max ||
        session->held_size >= limits->queue_size_max)
        tp_session_pause(session, peer, out);
}

void tp_queue_drop(struct tp_session *session, struct held *held)
{
    if (held->peer != NULL)
        held->peer->following_count -= held->follows;
    tp_link_remove(&held->link);
    session->held_count--;
    session->held_size -= held->message.raw.size;
    tp_message_drop(&held->message);
    tp_session_give(session, held, sizeof *held);
}

/* Takes the message out, with its frame. */
static struct tp_message take(struct tp_session *session, struct held *held)
{
    const struct tp_message message = held->message;

    held->message.frame = NULL; /* moved */
    tp_queue_drop(session, held);
    return message;
}

static void handle_held(struct tp_session *session, struct held *held, struct tp_effects *out)
{
    struct tp_peer *peer = held->peer;
    struct tp_message message = take(session, held);

    if (peer != NULL && tp_queue_follows(peer, &message))
        tp_queue_put(session, &session->following, peer, &message, out);
    else
        tp_session_hear(session, peer, &message, out);
}

bool tp_queue_pump(struct tp_session *session, struct tp_effects *out)
{
    while (!tp_link_alone(&session->held) && session->stage == STAGE_OPEN) {
        if (!tp_session_has_room(out, SAY_COUNT_MAX))
            return false;
        handle_held(session, TP_CONTAINER(session->held.next, struct held, link), out);
        if (session->measuring) { /* it is held again, and stays the first */
            struct tp_link *last = session->held.prev;
            TP_ASSERT(!tp_link_alone(&session->held)); /* there was room: it had left just now */
            tp_link_remove(last);
            tp_link_insert(session->held.next, last);
            return true;
        }
    }
    TP_LIST_EACH_SAFE(link, &session->following)
    {
        struct held *held = TP_CONTAINER(link, struct held, link);
        if (session->stage != STAGE_OPEN || session->measuring)
            break;
        if (held->peer != NULL && held->peer->checked_count > 0)
            continue;
        if (!tp_session_has_room(out, SAY_COUNT_MAX))
            return false;
        struct tp_peer *peer = held->peer;
        struct tp_message message = take(session, held);
        tp_session_hear(session, peer, &message, out);
    }
    return true;
}

static bool refuse_all(struct tp_session *session, struct tp_link *list, struct tp_effects *out)
{
    while (!tp_link_alone(list)) {
        if (!tp_session_has_room(out, 2))
            return false;
        struct held *held = TP_CONTAINER(list->next, struct held, link);
        if (held->peer != NULL && held->peer->dialect == TP_DIALECT_TELEPORTAL)
            tp_replies_nack(session, held->peer, held->message.id, "storage-failure", out);
        tp_queue_drop(session, held);
    }
    return true;
}

bool tp_queue_refuse(struct tp_session *session, struct tp_effects *out)
{
    return refuse_all(session, &session->following, out) &&
           refuse_all(session, &session->held, out);
}

/* What it has written is taken in all the same: it may be the last word of who closes its window.
 */
static void leave(struct tp_session *session, struct tp_link *list, const struct tp_peer *peer)
{
    TP_LIST_EACH_SAFE(link, list)
    {
        struct held *held = TP_CONTAINER(link, struct held, link);
        if (held->peer != peer)
            continue;
        if (is_update(&held->message) && (peer->rights & TP_MAY_WRITE))
            held->peer = NULL;
        else
            tp_queue_drop(session, held);
    }
}

void tp_queue_forget(struct tp_session *session, struct tp_peer *peer)
{
    leave(session, &session->held, peer);
    leave(session, &session->following, peer);
    peer->following_count = 0;
}

bool tp_queue_is_empty(const struct tp_session *session)
{
    return tp_link_alone(&session->held) && tp_link_alone(&session->following);
}

void tp_queue_check(const struct tp_session *session)
{
    const struct tp_link *lists[2] = {&session->held, &session->following};
    uint32_t count = 0;
    size_t size = 0;

    for (unsigned i = 0; i < 2; i++)
        TP_LIST_EACH(link, lists[i])
        {
            const struct held *held = TP_CONTAINER(link, struct held, link);
            TP_ASSERT(held->peer == NULL || !held->follows || held->peer->following_count > 0);
            count++;
            size += held->message.raw.size;
        }
    TP_ASSERT(count == session->held_count && size == session->held_size);
}

void tp_queue_finish(struct tp_session *session)
{
    while (!tp_link_alone(&session->held))
        tp_queue_drop(session, TP_CONTAINER(session->held.next, struct held, link));
    while (!tp_link_alone(&session->following))
        tp_queue_drop(session, TP_CONTAINER(session->following.next, struct held, link));
}
