/* Presence: who has announced which awareness id (spec 01 section 2.6, 02 section 7).
 *
 * The roster keeps the order of clients, and of each client's ids. Reading it to a newcomer and
 * telling of many who left may take several events: cursors remember where they are. */
#include "internal.h"
#include "wire/teleportal.h"

#define OUTSIDE_COUNT_MAX 4096u /* people at other nodes; more are not shown, counted */
#define OUTSIDE_SIZE_MAX                                                                     \
    ((size_t)16 << 10)                  /* names and data of one; larger: not shown, counted \
                                         */
#define OUTSIDE_TTL_NS (90 * SECOND_NS) /* of a node that says nothing (spec 01 section 2.6) */

static size_t size_of(const struct attendee *attendee)
{
    return sizeof *attendee + attendee->client_size + attendee->user_size + attendee->data_size;
}

static void describe(const struct attendee *attendee, struct tp_message_presence *presence)
{
    const uint8_t *user = attendee->bytes + attendee->client_size;

    *presence = (struct tp_message_presence){
        .awareness_id = attendee->awareness_id,
        .client_id = tp_slice_of(attendee->bytes, attendee->client_size),
        .user_id = tp_slice_of(user, attendee->user_size),
        .data = tp_slice_of(user + attendee->user_size, attendee->data_size),
    };
}

static struct attendee *create(struct tp_session *session,
                               const struct tp_message_presence *presence)
{
    const struct tp_slice parts[] = {presence->client_id, presence->user_id, presence->data};
    struct attendee *attendee =
        tp_session_take(session, sizeof *attendee + parts[0].size + parts[1].size + parts[2].size);
    uint8_t *at = attendee->bytes;

    attendee->awareness_id = presence->awareness_id;
    attendee->client_size = (uint32_t)parts[0].size;
    attendee->user_size = (uint32_t)parts[1].size;
    attendee->data_size = (uint32_t)parts[2].size;
    for (unsigned i = 0; i < 3; i++) {
        if (parts[i].size > 0)
            memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    tp_link_init(&attendee->link);
    session->attendee_count++;
    return attendee;
}

static struct attendee *find(const struct tp_session *session, uint64_t awareness_id)
{
    TP_LIST_EACH(link, &session->roster)
    {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->awareness_id == awareness_id && attendee->node == NULL)
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
    struct outside_node *node = attendee->node;

    TP_LIST_EACH(link, &session->readings)
    {
        struct reading *reading = TP_CONTAINER(link, struct reading, link);
        if (reading->at == &attendee->link)
            reading->at = attendee->link.next;
    }
    tp_link_remove(&attendee->link);
    if (node != NULL) {
        session->untold_count -= attendee->untold;
        session->outside_count--;
        node->attendee_count--;
        return;
    }
    if (--peer->announced_count == 0 && peer->audience == TP_AUDIENCE_ANNOUNCED)
        peer->audience = TP_AUDIENCE_SILENT;
}

static void free_attendee(struct tp_session *session, struct attendee *attendee)
{
    session->attendee_count--;
    tp_session_give(session, attendee, size_of(attendee));
}

/* Behind the peer's last id; behind our last client for a new one. */
static void put_on(struct tp_session *session, struct tp_peer *peer, uint64_t awareness_id)
{
    const struct tp_message_presence presence = {.awareness_id = awareness_id,
                                                 .client_id =
                                                     tp_slice_of(peer->client_id, TP_UUID_SIZE),
                                                 .user_id = peer->user_id};
    struct attendee *attendee = create(session, &presence);
    struct tp_link *at = &session->roster;

    attendee->peer = peer;
    TP_LIST_EACH(link, &session->roster)
    {
        const struct attendee *other = TP_CONTAINER(link, struct attendee, link);
        if (other->node != NULL) {
            at = peer->announced_count > 0 ? at : link;
            break;
        }
        if (other->peer == peer)
            at = link->next;
    }
    tp_link_insert(at, &attendee->link);
    peer->announced_count++;
    peer->audience = TP_AUDIENCE_ANNOUNCED;
}

/* The attendee may go before the effect is through: the message gets a copy. */
static void hold_description(struct tp_session *session, const struct attendee *attendee,
                             struct said *news)
{
    const size_t size = size_of(attendee) - sizeof *attendee;

    describe(attendee, &news->message.presence);
    news->hold = tp_frame_create(session->env->pool, tp_slice_of(attendee->bytes, size));
    const uint8_t *at = news->hold->data + TP_FRAME_HEAD_SIZE;
    news->message.presence.client_id.data = at;
    news->message.presence.user_id.data = at + attendee->client_size;
    news->message.presence.data.data = at + attendee->client_size + attendee->user_size;
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
    hold_description(session, find(session, id), news);
    tp_session_broadcast(out, peer, TP_AUDIENCE_ANNOUNCED, news);
    tp_bus_tell(session, news, out);

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
    if (attendee->node == NULL)
        tp_bus_tell(session, news, out);
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

/* Of people at other nodes, those whose join is not said yet. They are at the end. */
static bool say_joins(struct tp_session *session, struct tp_effects *out)
{
    for (struct tp_link *link = session->roster.next; session->untold_count > 0;
         link = link->next) {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (!attendee->untold)
            continue;
        if (!tp_session_has_room(out, 1))
            return false;
        attendee->untold = false;
        session->untold_count--;
        struct said *news = tp_session_say(session, TP_MESSAGE_PRESENCE_JOIN);
        hold_description(session, attendee, news);
        tp_session_broadcast(out, NULL, TP_AUDIENCE_ANNOUNCED, news);
    }
    return true;
}

bool tp_roster_pump(struct tp_session *session, struct tp_effects *out)
{
    if (!say_joins(session, out))
        return false;
    while (!tp_link_alone(&session->leaving)) {
        if (!tp_session_has_room(out, 2))
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

/* ---- people at other nodes ---------------------------------------------------------------------
 */

static struct outside_node *find_node(struct tp_session *session, struct tp_slice name)
{
    TP_LIST_EACH(link, &session->outside)
    {
        struct outside_node *node = TP_CONTAINER(link, struct outside_node, link);
        if (node->name_size == name.size && memcmp(node->name, name.data, name.size) == 0)
            return node;
    }
    return NULL;
}

static struct outside_node *meet_node(struct tp_session *session, struct tp_slice name)
{
    struct outside_node *node = find_node(session, name);

    if (node == NULL) {
        node = tp_session_take(session, sizeof *node + name.size);
        node->name_size = (uint32_t)name.size;
        memcpy(node->name, name.data, name.size);
        tp_link_init(&node->link);
        tp_link_insert(&session->outside, &node->link);
    }
    node->heard_ns = session->now_ns;
    return node;
}

static void forget_node(struct tp_session *session, struct outside_node *node)
{
    TP_ASSERT(node->attendee_count == 0);
    tp_link_remove(&node->link);
    tp_session_give(session, node, sizeof *node + node->name_size);
}

static struct attendee *find_outside(const struct tp_session *session,
                                     const struct outside_node *node,
                                     const struct tp_message_presence *presence)
{
    for (struct tp_link *link = session->roster.prev; link != &session->roster; link = link->prev) {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->node == NULL)
            break;
        if (attendee->node == node && attendee->awareness_id == presence->awareness_id &&
            attendee->client_size == presence->client_id.size &&
            memcmp(attendee->bytes, presence->client_id.data, attendee->client_size) == 0)
            return attendee;
    }
    return NULL;
}

/* Somebody is there, says its node. Our announced peers hear of it in the pump. */
static void arrive(struct tp_session *session, struct outside_node *node,
                   const struct tp_message_presence *presence, bool again)
{
    struct attendee *attendee = find_outside(session, node, presence);

    if (attendee == NULL) {
        if (session->outside_count >= OUTSIDE_COUNT_MAX ||
            presence->client_id.size + presence->user_id.size + presence->data.size >
                OUTSIDE_SIZE_MAX) {
            session->env->counters->bridge_refused++;
            return;
        }
        attendee = create(session, presence);
        attendee->node = node;
        node->attendee_count++;
        session->outside_count++;
        tp_link_insert(&session->roster, &attendee->link);
        again = true;
    }
    attendee->seen = true;
    if (again && !attendee->untold) {
        attendee->untold = true;
        session->untold_count++;
    }
}

/* Its leave is said in the pump. */
static void depart(struct tp_session *session, struct attendee *attendee)
{
    const bool was_told = !attendee->untold;

    take_off(session, attendee);
    attendee->untold = false;
    if (was_told)
        tp_link_insert(&session->leaving, &attendee->link);
    else
        free_attendee(session, attendee);
}

static void depart_unseen(struct tp_session *session, const struct outside_node *node)
{
    TP_LIST_EACH_SAFE(link, &session->roster)
    {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->node == node && !attendee->seen)
            depart(session, attendee);
    }
}

static void read_heartbeat(struct tp_session *session, struct outside_node *node,
                           const struct tp_message_presence *heartbeat)
{
    struct tp_slice entries = heartbeat->entries;
    struct tp_message_presence entry;

    TP_LIST_EACH(link, &session->roster)
    TP_CONTAINER(link, struct attendee, link)->seen = false;
    while (tp_teleportal_presence_next(&entries, &entry) == TP_OK)
        arrive(session, node, &entry, false);
    depart_unseen(session, node);
}

void tp_roster_heard(struct tp_session *session, const struct tp_message *message,
                     struct tp_effects *out)
{
    const struct tp_slice name = session->hearing->node;
    struct outside_node *node;
    struct attendee *attendee;

    (void)out; /* all of it is said in the pump */
    switch (message->kind) {
    case TP_MESSAGE_PRESENCE_JOIN:
        arrive(session, meet_node(session, name), &message->presence, true);
        break;
    case TP_MESSAGE_PRESENCE_LEAVE:
        node = find_node(session, name);
        attendee = node == NULL ? NULL : find_outside(session, node, &message->presence);
        if (attendee != NULL)
            depart(session, attendee);
        break;
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        read_heartbeat(session, meet_node(session, name), &message->presence);
        break;
    default:
        break; /* between a client and its server (spec 02 section 7.6) */
    }
    node = find_node(session, name);
    if (node != NULL && node->attendee_count == 0)
        forget_node(session, node);
}

uint64_t tp_roster_expire(struct tp_session *session)
{
    uint64_t due_ns = 0;

    TP_LIST_EACH_SAFE(link, &session->outside)
    {
        struct outside_node *node = TP_CONTAINER(link, struct outside_node, link);
        const uint64_t end_ns = node->heard_ns + OUTSIDE_TTL_NS + 1;
        if (session->now_ns < end_ns) {
            due_ns = due_ns == 0 || end_ns < due_ns ? end_ns : due_ns;
            continue;
        }
        TP_LIST_EACH(other, &session->roster)
        TP_CONTAINER(other, struct attendee, link)->seen = false;
        depart_unseen(session, node);
        forget_node(session, node);
    }
    return due_ns;
}

struct said *tp_roster_heartbeat(struct tp_session *session)
{
    struct tp_message_presence presence;
    size_t size = 0;
    uint64_t count = 0;

    TP_LIST_EACH(link, &session->roster)
    {
        const struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->node != NULL)
            break;
        size += size_of(attendee) + 8 * TP_VARUINT_SIZE_MAX;
        count++;
    }
    if (count == 0)
        return NULL;
    struct said *said = tp_session_say(session, TP_MESSAGE_PRESENCE_HEARTBEAT);
    said->hold = tp_frame_alloc(session->env->pool, size);
    struct tp_buffer entries = tp_buffer_fixed(said->hold->data + TP_FRAME_HEAD_SIZE, size);
    TP_LIST_EACH(link, &session->roster)
    {
        const struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        if (attendee->node != NULL)
            break;
        describe(attendee, &presence);
        tp_teleportal_presence_write(&presence, &entries);
    }
    TP_ASSERT(!entries.full);
    said->message.presence.entry_count = count;
    said->message.presence.entries = tp_buffer_slice(&entries);
    return said;
}

void tp_roster_finish(struct tp_session *session)
{
    TP_LIST_EACH_SAFE(link, &session->leaving)
    {
        tp_link_remove(link);
        free_attendee(session, TP_CONTAINER(link, struct attendee, link));
    }
    TP_LIST_EACH_SAFE(link, &session->roster)
    {
        struct attendee *attendee = TP_CONTAINER(link, struct attendee, link);
        TP_ASSERT(attendee->node != NULL);
        take_off(session, attendee);
        free_attendee(session, attendee);
    }
    TP_LIST_EACH_SAFE(link, &session->outside)
    forget_node(session, TP_CONTAINER(link, struct outside_node, link));
    TP_ASSERT(tp_link_alone(&session->readings));
}
