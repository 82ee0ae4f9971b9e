/* Presence: who has announced which awareness id (spec 01 section 2.6, 02 section 7).
 *
 * The roster keeps the order of clients, and of each client's ids. Reading it to a newcomer and
 * telling of many who left may take several events: cursors remember where they are. */
#include "internal.h"

static size_t size_of(const struct attendee *attendee)
{
    return sizeof *attendee + attendee->user_size;
}

static void describe(const struct attendee *attendee, struct tp_message_presence *presence)
{
    *presence = (struct tp_message_presence){
        .awareness_id = attendee->awareness_id,
        .client_id = tp_slice_of(attendee->client_id, TP_UUID_SIZE),
        .user_id = tp_slice_of(attendee->user_id, attendee->user_size),
    };
}

static struct attendee *find(const struct tp_session *session, uint64_t awareness_id)
{
    TP_LIST_EACH(link, &session->roster)
    {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->awareness_id == awareness_id)
            return attendee;
    }
    return NULL;
}

bool tp_roster_has(const struct tp_session *session, const struct tp_peer *peer,
                   uint64_t awareness_id)
{
    const struct attendee *attendee =
        peer->announced_count == 0 ? NULL : find(session, awareness_id);

    return attendee != NULL && attendee->peer == peer;
}

/* Takes it off the roster, and off the peer's count. */
static void take_off(struct tp_session *session, struct attendee *attendee)
{
    struct tp_peer *peer = attendee->peer;

    TP_LIST_EACH(link, &session->readings)
    {
        struct reading *reading = TP_CONTAINER(link, struct reading, link);
        if (reading->at == &attendee->link)
            reading->at = attendee->link.next;
    }
    tp_link_remove(&attendee->link);
    if (--peer->announced_count == 0 && peer->audience == TP_AUDIENCE_ANNOUNCED)
        peer->audience = TP_AUDIENCE_SILENT;
}

static void free_attendee(struct tp_session *session, struct attendee *attendee)
{
    session->attendee_count--;
    tp_session_give(session, attendee, size_of(attendee));
}

/* Behind the peer's last id; at the end for a new client. */
static void put_on(struct tp_session *session, struct tp_peer *peer, uint64_t awareness_id)
{
    struct attendee *attendee = tp_session_take(session, sizeof *attendee + peer->user_id.size);
    struct tp_link *at = &session->roster;

    attendee->peer = peer;
    attendee->awareness_id = awareness_id;
    memcpy(attendee->client_id, peer->client_id, TP_UUID_SIZE);
    attendee->user_size = (uint32_t)peer->user_id.size;
    if (attendee->user_size > 0)
        memcpy(attendee->user_id, peer->user_id.data, attendee->user_size);
    if (peer->announced_count > 0) {
        TP_LIST_EACH(link, &session->roster)
        {
            if (TP_CONTAINER(link, struct attendee, link)->peer == peer)
                at = link->next;
        }
    }
    tp_link_init(&attendee->link);
    tp_link_insert(at, &attendee->link);
    session->attendee_count++;
    peer->announced_count++;
    peer->audience = TP_AUDIENCE_ANNOUNCED;
}

void tp_roster_announce(struct tp_session *session, struct tp_peer *peer,
                        const struct tp_message *message, struct tp_effects *out)
{
    const uint64_t id = message->presence.awareness_id;

    if (peer->dialect != TP_DIALECT_TELEPORTAL)
        return;
    struct attendee *known = find(session, id);
    if ((known == NULL || known->peer != peer) &&
        peer->announced_count >= session->env->limits->presence_per_peer_max) {
        tp_replies_ack(session, peer, message->id, out);
        return;
    }
    if (known != NULL && known->peer != peer) { /* the same client-side document, reconnected */
        take_off(session, known);
        free_attendee(session, known);
        known = NULL;
    }
    if (known == NULL)
        put_on(session, peer, id);
    tp_guests_hand_over(session, id, peer);

    struct said *news = tp_session_say(session, TP_MESSAGE_PRESENCE_JOIN);
    const size_t user_size = peer->user_id.size;
    news->hold = tp_frame_alloc(session->env->pool, TP_UUID_SIZE + user_size);
    uint8_t *at = news->hold->data + TP_FRAME_HEAD_SIZE;
    memcpy(at, peer->client_id, TP_UUID_SIZE);
    if (user_size > 0)
        memcpy(at + TP_UUID_SIZE, peer->user_id.data, user_size);
    news->message.presence =
        (struct tp_message_presence){.awareness_id = id,
                                     .client_id = tp_slice_of(at, TP_UUID_SIZE),
                                     .user_id = tp_slice_of(at + TP_UUID_SIZE, user_size)};
    tp_session_broadcast(out, peer, TP_AUDIENCE_ANNOUNCED, news);

    struct reading *reading = tp_session_take(session, sizeof *reading);
    reading->peer = peer;
    reading->id = message->id;
    reading->at = session->roster.next;
    tp_link_init(&reading->link);
    tp_link_insert(&session->readings, &reading->link);
}

static void say_leave(struct tp_session *session, struct attendee *attendee, struct tp_effects *out)
{
    struct said *news = tp_session_say(session, TP_MESSAGE_PRESENCE_LEAVE);

    describe(attendee, &news->message.presence);
    news->piece = attendee; /* freed with it */
    news->piece_size = size_of(attendee);
    session->attendee_count--;
    tp_session_broadcast(out, NULL, TP_AUDIENCE_TELEPORTAL, news);
}

void tp_roster_unannounce(struct tp_session *session, struct tp_peer *peer,
                          const struct tp_message *message, struct tp_effects *out)
{
    if (tp_roster_has(session, peer, message->presence.awareness_id)) {
        struct attendee *attendee = find(session, message->presence.awareness_id);
        take_off(session, attendee);
        say_leave(session, attendee, out);
    }
    tp_replies_ack(session, peer, message->id, out);
}

void tp_roster_left(struct tp_session *session, struct tp_peer *peer)
{
    TP_LIST_EACH_SAFE(link, &session->readings)
    {
        struct reading *reading = TP_CONTAINER(link, struct reading, link);
        if (reading->peer != peer)
            continue;
        tp_link_remove(&reading->link);
        tp_session_give(session, reading, sizeof *reading);
    }
    if (peer->announced_count == 0)
        return;
    TP_LIST_EACH_SAFE(link, &session->roster)
    {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->peer != peer)
            continue;
        take_off(session, attendee);
        attendee->peer = NULL;
        tp_link_insert(&session->leaving, &attendee->link);
    }
}

bool tp_roster_pump(struct tp_session *session, struct tp_effects *out)
{
    while (!tp_link_alone(&session->leaving)) {
        if (!tp_session_has_room(out, 1))
            return false;
        struct tp_link *link = tp_list_pop(&session->leaving);
        say_leave(session, TP_CONTAINER(link, struct attendee, link), out);
    }
    while (!tp_link_alone(&session->readings)) {
        struct reading *reading = TP_CONTAINER(session->readings.next, struct reading, link);
        while (reading->at != &session->roster) {
            if (!tp_session_has_room(out, 1))
                return false;
            struct said *said = tp_session_say(session, TP_MESSAGE_PRESENCE_JOIN);
            const struct attendee *attendee = TP_CONTAINER(reading->at, struct attendee, link);
            describe(attendee, &said->message.presence);
            reading->at = reading->at->next;
            tp_session_send(out, reading->peer, said);
        }
        if (!tp_session_has_room(out, 1))
            return false;
        tp_replies_ack(session, reading->peer, reading->id, out);
        tp_link_remove(&reading->link);
        tp_session_give(session, reading, sizeof *reading);
    }
    return true;
}

void tp_roster_finish(struct tp_session *session)
{
    TP_LIST_EACH_SAFE(link, &session->leaving)
    {
        tp_link_remove(link);
        free_attendee(session, TP_CONTAINER(link, struct attendee, link));
    }
    TP_ASSERT(tp_link_alone(&session->roster));
    TP_ASSERT(tp_link_alone(&session->readings));
}
