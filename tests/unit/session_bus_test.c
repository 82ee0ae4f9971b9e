/* What sessions of one document on several nodes promise each other (spec 01 section 8): worlds
 * with a clock in common, and between them a bus that loses, repeats and turns round what it
 * carries, as the test says. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "crdt/update.h"
#include "session_driver.h"
#include "wire/record.h"
#include "wire/teleportal.h"

#define NODE_COUNT 3u
#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)

struct parcel {
    struct tp_link link;
    uint32_t from;
    bool is_note;
    uint64_t boot, sequence;
    size_t size;
    uint8_t bytes[];
};

static struct test_world nodes[NODE_COUNT];
static const char *const names[NODE_COUNT] = {"one", "two", "three"};
static struct test_client ann, bob, cid;
static struct tp_link queue;
static uint32_t lose; /* messages still to lose */
static bool lose_notes, twice, backwards, down;
static uint32_t numbered, plain; /* published so far */

static void publish(struct test_world *world, const struct tp_effect *effect)
{
    const bool is_note = effect->kind == TP_EFFECT_NOTE;
    struct tp_buffer out = tp_buffer_growing(1 << 20);

    if (is_note) {
        tp_buffer_append(&out, effect->note.data, effect->note.size);
    } else if (effect->message->raw.data != NULL &&
               tp_dialect_get(TP_DIALECT_TELEPORTAL)->relays_raw(effect->message)) {
        tp_buffer_append(&out, effect->message->raw.data, effect->message->raw.size);
    } else {
        cr_assert_eq(tp_teleportal_encode(effect->message, TP_SLICE("doc"), &out), TP_OK);
    }
    struct parcel *parcel = malloc(sizeof *parcel + out.size);
    *parcel = (struct parcel){.from = (uint32_t)(world - nodes),
                              .is_note = is_note,
                              .boot = effect->boot,
                              .sequence = effect->sequence,
                              .size = out.size};
    memcpy(parcel->bytes, out.data, out.size);
    tp_buffer_finish(&out);
    numbered += effect->sequence != 0;
    plain += !is_note && effect->sequence == 0;
    tp_link_init(&parcel->link);
    tp_link_insert(&queue, &parcel->link);
}

static void hear(uint32_t to, const char *from, uint64_t boot, uint64_t sequence, bool is_note,
                 struct tp_slice bytes)
{
    char source[64];
    struct tp_heard heard = {
        .node = tp_slice_of(from, strlen(from)), .boot = boot, .sequence = sequence};
    struct tp_message message;
    enum tp_close_reason reason;
    uint8_t *copy = malloc(bytes.size); /* who looks at them later is found out */

    memcpy(copy, bytes.data, bytes.size);
    snprintf(source, sizeof source, "%s/%016llx/%llu", from, (unsigned long long)boot,
             (unsigned long long)sequence);
    heard.source = sequence == 0 ? heard.node : tp_slice_of(source, strlen(source));
    if (is_note) {
        heard.note = tp_slice_of(copy, bytes.size);
    } else {
        cr_assert_eq(tp_teleportal_decode(tp_slice_of(copy, bytes.size), &message, &reason), TP_OK);
        heard.message = &message;
    }
    if (nodes[to].session != NULL)
        test_event(&nodes[to], (struct tp_event){.kind = TP_EVENT_HEARD, .heard = &heard});
    free(copy);
}

/* Carries everything that was said, and what is said because of it. */
static void carry(void)
{
    while (!tp_link_alone(&queue)) {
        struct tp_link *link = backwards ? queue.prev : queue.next;
        struct parcel *parcel = TP_CONTAINER(link, struct parcel, link);
        const bool lost = down || (parcel->is_note ? lose_notes : lose > 0);
        tp_link_remove(link);
        lose -= lost && !down && !parcel->is_note;
        for (uint32_t to = 0; to < NODE_COUNT && !lost; to++)
            for (int times = twice ? 2 : 1; times > 0 && to != parcel->from; times--)
                hear(to, names[parcel->from], parcel->boot, parcel->sequence, parcel->is_note,
                     tp_slice_of(parcel->bytes, parcel->size));
        free(parcel);
    }
}

static void pass(uint64_t ns)
{
    for (uint64_t step = TEST_MILLISECOND; ns >= step; ns -= step) {
        for (uint32_t i = 0; i < NODE_COUNT; i++) {
            if (nodes[i].session != NULL)
                test_pass(&nodes[i], step);
            else
                nodes[i].now_ns += step;
        }
        carry();
    }
}

static void link_up(uint32_t i)
{
    test_event(&nodes[i], (struct tp_event){.kind = TP_EVENT_LINKED});
}

static void open_node(uint32_t i)
{
    const uint64_t now_ns = nodes[0].now_ns;

    test_world_init(&nodes[i]);
    nodes[i].random.state = 1000 + i;
    nodes[i].now_ns = now_ns > nodes[i].now_ns ? now_ns : nodes[i].now_ns;
    nodes[i].node_id = names[i];
    nodes[i].publish = publish;
    test_world_open(&nodes[i], "doc");
}

/* ann speaks y-websocket on one, bob Teleportal on two, cid y-websocket on three. */
static void begin(void)
{
    tp_link_init(&queue);
    for (uint32_t i = 0; i < NODE_COUNT; i++)
        open_node(i);
    test_join(&nodes[0], &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&nodes[1], &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_join(&nodes[2], &cid, TP_DIALECT_YWEBSOCKET, "cid");
    for (uint32_t i = 0; i < NODE_COUNT; i++)
        link_up(i);
    pass(2 * TEST_SECOND);
    test_deaf(&ann);
    test_deaf(&bob);
    test_deaf(&cid);
    numbered = plain = 0;
}

static void finish(void)
{
    down = true; /* nobody hears the leaves */
    for (uint32_t i = 0; i < NODE_COUNT; i++)
        if (nodes[i].session != NULL)
            test_world_finish(&nodes[i]);
    carry();
}

TestSuite(session_bus, .init = begin, .fini = finish);

static uint64_t sum(size_t offset)
{
    uint64_t all = 0;

    for (uint32_t i = 0; i < NODE_COUNT; i++)
        all += *(uint64_t *)((char *)&nodes[i].counters + offset);
    return all;
}
#define SUM(counter) sum(offsetof(struct tp_counters, counter))

/* ---- updates ------------------------------------------------------------------------------------
 */

Test(session_bus, says_an_update_once_however_many_nodes_and_never_what_it_heard)
{
    test_say_update(&ann, test_insert(1, 0, "abc"));
    carry();

    HEARS(&bob, "raw update 1:0-3");
    HEARS(&cid, "update 1:0-3");
    pass(10 * TEST_SECOND);
    cr_assert_eq(numbered, 1);
    cr_assert_eq(SUM(bridge_updates), 2);
    cr_assert_eq(SUM(bridge_gives), 0);
}

Test(session_bus, stores_what_it_heard_with_where_it_came_from)
{
    test_say_update(&bob, test_insert(1, 0, "abc"));
    carry();

    for (uint32_t i = 0; i < NODE_COUNT; i++) {
        cr_assert_eq(test_row_count(&nodes[i], TP_TABLE_LOG), 1, "node %u", i);
        struct tp_slice rest = test_row_value(&nodes[i], TP_TABLE_LOG, 0);
        struct tp_log_entry entry;
        cr_assert_eq(tp_log_entry_next(&rest, &entry), TP_OK);
        cr_assert_eq(entry.origin.size > 4 && memcmp(entry.origin.data, "two/", 4) == 0, i != 1);
    }
}

Test(session_bus, drops_what_comes_twice_by_its_number)
{
    twice = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    carry();

    HEARS(&bob, "raw update 1:0-3");
    HEARS(&bob, "");
    cr_assert_eq(SUM(bridge_duplicates), 2);
}

Test(session_bus, takes_what_comes_late)
{
    backwards = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&ann, test_insert(1, 3, "d"));
    carry();
    backwards = false;
    pass(5 * TEST_SECOND);

    HEARS(&cid, "update 1:3-4");
    HEARS(&cid, "update 1:0-3");
    HEARS(&cid, "");
    cr_assert_eq(SUM(bridge_duplicates), 0);
    cr_assert_eq(SUM(bridge_gives), 0);
}

Test(session_bus, asks_for_what_was_lost_when_the_next_number_comes)
{
    test_say_update(&bob, test_insert(1, 0, "a"));
    carry();
    lose = 1;
    test_say_update(&bob, test_insert(1, 1, "b"));
    test_say_update(&bob, test_insert(1, 2, "c"));
    carry();
    cr_assert_eq(SUM(bridge_gaps), 2);

    pass(TEST_SECOND);

    HEARS(&cid, "update 1:0-1");
    HEARS(&cid, "update 1:2-3");
    HEARS(&cid, "update 1:1-3");
    cr_assert_eq(SUM(bridge_repairs), 2);
    cr_assert_eq(numbered, 3);
}

Test(session_bus, finds_the_last_update_missing_when_the_document_is_at_rest)
{
    test_say_update(&ann, test_insert(1, 0, "a"));
    carry();
    test_deaf(&cid);
    lose = 1;
    test_say_update(&ann, test_insert(1, 1, "b"));

    pass(10 * TEST_SECOND);

    HEARS(&cid, "update 1:1-2");
    cr_assert_eq(SUM(bridge_repairs), 2);
}

Test(session_bus, finds_a_missing_deletion_of_which_state_vectors_say_nothing)
{
    test_say_update(&ann, test_insert(1, 0, "abc"));
    carry();
    test_deaf(&cid);
    lose = 1;
    test_say_update(&ann, test_delete(1, 1, 1));

    pass(10 * TEST_SECOND);

    HEARS(&cid, "update d1");
}

Test(session_bus, is_quiet_when_all_agree)
{
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&cid, test_delete(1, 1, 1));
    pass(10 * TEST_SECOND);
    const uint64_t asks = SUM(bridge_asks);
    numbered = plain = 0;

    pass(60 * TEST_SECOND);

    cr_assert_eq(SUM(bridge_asks), asks);
    cr_assert(numbered == 0 && plain == 0);
}

Test(session_bus, exchanges_in_both_directions_after_an_outage)
{
    down = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&bob, test_insert(2, 0, "xy"));
    pass(20 * TEST_SECOND);
    down = false;
    for (uint32_t i = 0; i < NODE_COUNT; i++)
        link_up(i);

    pass(2 * TEST_SECOND);

    HEARS(&ann, "update 2:0-2");
    HEARS(&bob, "ack 1");
    HEARS(&bob, "raw update 1:0-3");
    cr_assert_str_neq(test_hears(&cid), "");
    cr_assert_leq(SUM(bridge_gives), 8);
}

Test(session_bus, gives_a_newcomer_everything_and_one_node_does_it)
{
    test_say_update(&ann, test_insert(1, 0, "abc"));
    carry();
    test_leave(&cid);
    pass(4 * TEST_SECOND);
    test_world_finish(&nodes[2]);
    open_node(2);
    const uint64_t gives = SUM(bridge_gives);
    test_join(&nodes[2], &cid, TP_DIALECT_YWEBSOCKET, "cid");
    test_deaf(&cid);

    link_up(2);
    pass(TEST_SECOND);

    HEARS(&cid, "update 1:0-3");
    HEARS(&cid, "");
    cr_assert_eq(SUM(bridge_gives), gives + 1);
}

Test(session_bus, asks_when_it_has_read_the_store_for_what_came_meanwhile)
{
    test_say_update(&ann, test_insert(1, 0, "abc"));
    carry();
    test_leave(&cid);
    pass(4 * TEST_SECOND);
    test_world_reopen(&nodes[2]);
    nodes[2].hold_store = true;
    test_join(&nodes[2], &cid, TP_DIALECT_YWEBSOCKET, "cid");
    link_up(2);
    test_say_update(&ann, test_insert(1, 3, "d"));
    carry();

    nodes[2].hold_store = false;
    test_store_go(&nodes[2]);
    test_deaf(&cid);
    pass(TEST_SECOND);

    HEARS(&cid, "update 1:3-4");
}

/* ---- nodes that do not number -------------------------------------------------------------------
 */

static struct tp_slice frame_of(const struct tp_message *message)
{
    static uint8_t bytes[4096];
    struct tp_buffer out = tp_buffer_fixed(bytes, sizeof bytes);

    cr_assert_eq(tp_teleportal_encode(message, TP_SLICE("doc"), &out), TP_OK);
    return tp_buffer_slice(&out);
}

static struct tp_slice update_frame(struct tp_slice v1)
{
    static uint8_t bytes[4096];
    struct tp_buffer v2 = tp_buffer_growing(4096);
    struct tp_buffer kept = tp_buffer_fixed(bytes, sizeof bytes);

    cr_assert_eq(tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    tp_buffer_append(&kept, v2.data, v2.size);
    tp_buffer_finish(&v2);
    const struct tp_message message = {.kind = TP_MESSAGE_UPDATE,
                                       .update = {.version = 2, .v2 = tp_buffer_slice(&kept)}};
    return frame_of(&message);
}

Test(session_bus, drops_a_reference_nodes_echo_by_its_bytes_for_thirty_seconds)
{
    hear(2, "node-1", 0, 0, false, update_frame(test_delete(1, 0, 1)));
    HEARS(&cid, "update d1");
    for (uint64_t client = 10; client < 16; client++) /* forgotten as a known deletion by then */
        hear(2, "node-1", 0, 0, false, update_frame(test_delete(client, 0, 1)));
    test_deaf(&cid);

    hear(2, "node-2", 0, 0, false, update_frame(test_delete(1, 0, 1)));

    HEARS(&cid, "");
    cr_assert_eq(nodes[2].counters.bridge_duplicates, 1);
    pass(31 * TEST_SECOND);
    test_deaf(&cid);
    hear(2, "node-2", 0, 0, false, update_frame(test_delete(1, 0, 1)));
    cr_assert_eq(nodes[2].counters.bridge_duplicates, 1);
}

Test(session_bus, knows_its_own_message_when_a_reference_node_says_it_again)
{
    hear(1, "node-9", 0, 0, false, update_frame(test_insert(9, 0, "z"))); /* one is among us */
    test_deaf(&bob);
    test_say_update(&bob, test_delete(9, 0, 1));
    const struct parcel *parcel = TP_CONTAINER(queue.prev, struct parcel, link);
    const struct tp_slice own = tp_slice_of(parcel->bytes, parcel->size);

    hear(1, "node-9", 0, 0, false, own);

    HEARS(&bob, "ack 1");
    HEARS(&bob, "");
    cr_assert_eq(nodes[1].counters.bridge_duplicates, 1);
}

Test(session_bus, counts_what_cannot_be_taken_and_goes_on)
{
    static const uint8_t junk[] = {1, 2, 3}, version[] = {9};

    hear(1, "evil", 0, 0, true, tp_slice_of(junk, sizeof junk));
    hear(1, "evil", 0, 0, true, tp_slice_of(version, sizeof version));
    hear(1, "evil", 0, 0, false,
         frame_of(&(struct tp_message){.kind = TP_MESSAGE_UPDATE,
                                       .update = {.version = 2, .v2 = TP_SLICE("\xff\xff\xff")}}));

    HEARS(&bob, "");
    cr_assert_geq(nodes[1].counters.bridge_refused, 2);
    test_say_update(&ann, test_insert(1, 0, "abc"));
    carry();
    HEARS(&bob, "raw update 1:0-3");
}

/* ---- who is there -------------------------------------------------------------------------------
 */

static void announce(struct test_client *client, uint64_t id)
{
    test_say_presence(client, TP_MESSAGE_PRESENCE_ANNOUNCE, id);
    carry();
}

static struct tp_slice presence_frame(enum tp_message_kind kind, uint64_t id)
{
    struct tp_message message = {
        .kind = kind,
        .presence = {.awareness_id = id, .client_id = TP_SLICE("far"), .user_id = TP_SLICE("u")}};
    uint8_t bytes[256];
    struct tp_buffer entries = tp_buffer_fixed(bytes, sizeof bytes);

    if (kind == TP_MESSAGE_PRESENCE_HEARTBEAT) {
        for (uint64_t left = id; left > 0; left /= 10) {
            message.presence.awareness_id = left % 10;
            tp_teleportal_presence_write(&message.presence, &entries);
            message.presence.entry_count++;
        }
        message.presence.entries = tp_buffer_slice(&entries);
    }
    return frame_of(&message);
}

Test(session_bus, reads_people_of_other_nodes_to_who_announces_itself_behind_our_own)
{
    static struct test_client dan, eve;
    test_join(&nodes[2], &dan, TP_DIALECT_TELEPORTAL, "dan");
    test_join(&nodes[1], &eve, TP_DIALECT_TELEPORTAL, "eve");
    announce(&dan, 4);
    announce(&bob, 2);
    test_deaf(&bob);

    announce(&eve, 5);

    HEARS(&eve, "join 2 of b");
    HEARS(&eve, "join 5 of e");
    HEARS(&eve, "join 4 of d");
    HEARS(&eve, "ack 1");
    HEARS(&bob, "join 5 of e");
    test_leave(&dan);
    carry();
    HEARS(&bob, "leave 4 of d");
}

Test(session_bus, tells_a_newcomer_at_once_who_is_there)
{
    static struct test_client dan;
    announce(&bob, 2);
    test_leave(&cid);
    pass(4 * TEST_SECOND);
    test_world_reopen(&nodes[2]);
    test_join(&nodes[2], &dan, TP_DIALECT_TELEPORTAL, "dan");
    link_up(2);
    pass(300 * TEST_MILLISECOND);

    announce(&dan, 4);

    HEARS(&dan, "join 4 of d");
    HEARS(&dan, "join 2 of b");
    HEARS(&dan, "ack 1");
}

Test(session_bus, says_every_thirty_seconds_who_is_there_and_forgets_who_is_silent_for_ninety)
{
    announce(&bob, 2);
    test_deaf(&bob);
    plain = 0;
    pass(95 * TEST_SECOND);
    cr_assert_eq(plain, 3);

    hear(1, "far-away", 0, 0, false, presence_frame(TP_MESSAGE_PRESENCE_JOIN, 7));
    HEARS(&bob, "join 7 of f u");
    pass(89 * TEST_SECOND);
    HEARS(&bob, "");
    pass(2 * TEST_SECOND);

    HEARS(&bob, "leave 7 of f u");
}

Test(session_bus, takes_a_heartbeat_for_all_there_are)
{
    announce(&bob, 9);
    test_deaf(&bob);
    hear(1, "far", 0, 0, false, presence_frame(TP_MESSAGE_PRESENCE_HEARTBEAT, 21));
    HEARS(&bob, "join 1 of f u");
    HEARS(&bob, "join 2 of f u");

    hear(1, "far", 0, 0, false, presence_frame(TP_MESSAGE_PRESENCE_HEARTBEAT, 32));

    HEARS(&bob, "join 3 of f u");
    HEARS(&bob, "leave 1 of f u");
    HEARS(&bob, "");
}

Test(session_bus, shows_cursors_of_other_nodes_and_joins_those_of_a_moment)
{
    char state[64];
    plain = 0;
    for (int clock = 1; clock <= 20; clock++) {
        snprintf(state, sizeof state, "5:%d:{\"x\":%d}", clock, clock);
        test_say_awareness(&ann, state);
        pass(2 * TEST_MILLISECOND);
    }
    pass(100 * TEST_MILLISECOND);

    cr_assert_leq(plain, 4);
    const char *last = "", *next;
    while (*(next = test_hears(&cid)) != '\0')
        last = next;
    cr_assert_str_eq(last, "awareness 5:20:{\"x\":20}");
    test_leave(&ann);
    pass(100 * TEST_MILLISECOND);
    HEARS(&cid, "awareness 5:21:null");
}

Test(session_bus, does_not_take_who_repeats_what_others_show_for_the_one_who_shows_it)
{
    test_say_awareness(&ann, "5:3:{\"x\":1}");
    pass(100 * TEST_MILLISECOND);
    test_say_awareness(&cid, "6:0:{}");        /* y-websocket's first word ... */
    test_say_awareness(&cid, "5:3:{\"x\":1}"); /* ... and it repeats what it is told */
    test_deaf(&cid);

    test_say_awareness(&ann, "5:4:{\"x\":2}");
    pass(100 * TEST_MILLISECOND);
    test_leave(&ann);
    pass(100 * TEST_MILLISECOND);

    HEARS(&cid, "awareness 5:4:{\"x\":2}");
    HEARS(&cid, "awareness 5:5:null");
}

Test(session_bus, keeps_the_state_of_a_client_that_moves_to_another_node)
{
    static struct test_client again;
    test_say_awareness(&ann, "5:3:{\"x\":1}");
    pass(100 * TEST_MILLISECOND);
    test_join(&nodes[2], &again, TP_DIALECT_YWEBSOCKET, "again");
    test_say_awareness(&again, "5:3:{\"x\":1}"); /* before its old node knows that it is gone */
    test_deaf(&again);
    test_deaf(&cid);

    test_leave(&ann);
    pass(100 * TEST_MILLISECOND);

    HEARS(&again, "awareness 5:5:{\"x\":1}"); /* goes on from there */
    HEARS(&cid, "awareness 5:5:{\"x\":1}");
    HEARS(&cid, "");
}
