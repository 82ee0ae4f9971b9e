/* What a session promises about presence (spec 01 section 2.6, 02 section 7). */
#include <criterion/criterion.h>
#include <stdio.h>

#include "session_driver.h"

#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)

static struct test_world world;
static struct test_client ann, bob, cid;

static void begin(void)
{
    test_world_init(&world);
    test_world_open(&world, "doc");
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_join(&world, &cid, TP_DIALECT_TELEPORTAL, "cid");
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(session_presence, .init = begin, .fini = finish);

static void announce(struct test_client *client, uint64_t id)
{
    test_say_presence(client, TP_MESSAGE_PRESENCE_ANNOUNCE, id);
}

Test(session_presence, reads_the_roster_to_who_announces_and_tells_who_has_announced)
{
    announce(&ann, 1);
    HEARS(&ann, "join 1 of a");
    HEARS(&ann, "ack 1");

    announce(&bob, 2);

    HEARS(&bob, "join 1 of a");
    HEARS(&bob, "join 2 of b");
    HEARS(&bob, "ack 1");
    HEARS(&ann, "join 2 of b");
    HEARS(&cid, "");
}

Test(session_presence, lists_clients_in_order_and_the_ids_of_each_together)
{
    announce(&ann, 1);
    announce(&bob, 2);
    announce(&ann, 3);
    test_deaf(&bob);

    announce(&bob, 2);

    HEARS(&bob, "join 1 of a");
    HEARS(&bob, "join 3 of a");
    HEARS(&bob, "join 2 of b");
    HEARS(&bob, "ack 1");
}

Test(session_presence, names_the_user)
{
    static struct test_client dan;
    test_join(&world, &dan, TP_DIALECT_TELEPORTAL, "dan");
    dan.peer.user_id = TP_SLICE("Daniel");

    announce(&dan, 4);

    HEARS(&dan, "join 4 of d Daniel");
}

Test(session_presence, moves_an_id_to_the_connection_that_announces_it_last_silently)
{
    announce(&ann, 1);
    announce(&bob, 1);
    test_deaf(&ann);
    test_deaf(&bob);

    test_leave(&ann);
    HEARS(&bob, "");
    test_leave(&bob);

    HEARS(&cid, "leave 1 of b");
    HEARS(&cid, "");
}

Test(session_presence, moves_the_awareness_state_with_the_id)
{
    announce(&ann, 1);
    test_say_awareness(&ann, "1:1:{}");
    announce(&bob, 1);
    test_deaf(&cid);

    test_say_awareness(&bob, "1:2:{}");
    test_leave(&ann);

    HEARS(&cid, "raw awareness 1:2:{}");
    HEARS(&cid, "");
}

Test(session_presence, tells_everybody_of_an_unannounce_the_sender_too)
{
    announce(&ann, 1);
    announce(&bob, 2);
    test_deaf(&ann);
    test_deaf(&bob);

    test_say_presence(&ann, TP_MESSAGE_PRESENCE_UNANNOUNCE, 1);
    test_say_presence(&ann, TP_MESSAGE_PRESENCE_UNANNOUNCE, 2);

    HEARS(&ann, "leave 1 of a");
    HEARS(&ann, "ack 2");
    HEARS(&ann, "ack 3");
    HEARS(&bob, "leave 1 of a");
    HEARS(&cid, "leave 1 of a");
    HEARS(&cid, "");
}

Test(session_presence, hears_no_joins_after_the_last_id_is_taken_back)
{
    announce(&ann, 1);
    test_say_presence(&ann, TP_MESSAGE_PRESENCE_UNANNOUNCE, 1);
    test_deaf(&ann);

    announce(&bob, 2);

    HEARS(&ann, "");
}

Test(session_presence, reads_a_roster_that_is_longer_than_one_events_effects)
{
    for (uint64_t id = 1; id <= 50; id++) {
        announce(&ann, id);
        test_deaf(&ann);
    }

    announce(&bob, 99);

    for (int id = 1; id <= 50; id++) {
        char line[40];
        sprintf(line, "join %d of a", id);
        HEARS(&bob, line);
    }
    HEARS(&bob, "join 99 of b");
    HEARS(&bob, "ack 1");
    HEARS(&ann, "join 99 of b");

    test_leave(&ann);
    for (int id = 1; id <= 50; id++) {
        char line[40];
        sprintf(line, "leave %d of a", id);
        HEARS(&bob, line);
    }
    HEARS(&bob, "");
}

Test(session_presence, acks_and_forgets_ids_past_the_limit)
{
    world.limits.presence_per_peer_max = 2;
    announce(&ann, 1);
    announce(&ann, 2);
    test_deaf(&ann);

    announce(&ann, 3);
    HEARS(&ann, "ack 3");
    HEARS(&ann, "");
    announce(&ann, 2);
    HEARS(&ann, "join 1 of a");
}

Test(session_presence, acks_and_ignores_what_is_the_servers_to_say)
{
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_PRESENCE_JOIN,
                                       .presence = {.awareness_id = 5,
                                                    .client_id = TP_SLICE("x"),
                                                    .user_id = TP_SLICE("")}});
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_SYNC_DONE});

    HEARS(&ann, "ack 1");
    HEARS(&ann, "ack 2");
    HEARS(&bob, "");
}
