/* What a session promises about awareness (spec 05 section 5, architecture.md "Across dialects").
 */
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
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_join(&world, &cid, TP_DIALECT_TELEPORTAL, "cid");
    test_deaf(&ann);
    test_deaf(&bob);
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(session_awareness, .init = begin, .fini = finish);

Test(session_awareness, passes_a_state_on_in_the_authors_bytes_and_not_back)
{
    test_say_awareness(&ann, "7:1:{\"a\":1}");

    HEARS(&bob, "raw awareness 7:1:{\"a\":1}");
    HEARS(&cid, "awareness 7:1:{\"a\":1}");
    HEARS(&ann, "");
}

Test(session_awareness, is_always_acked_to_teleportal_peers)
{
    test_say_awareness(&cid, "7:1:{}");
    test_say_awareness(&cid, "7:0:{}");
    test_say(&cid, (struct tp_message){.kind = TP_MESSAGE_AWARENESS, .awareness = TP_SLICE("\5")});

    HEARS(&cid, "ack 1");
    HEARS(&cid, "ack 2");
    HEARS(&cid, "ack 3");
    HEARS(&ann, "awareness 7:1:{}");
    HEARS(&ann, "");
}

Test(session_awareness, greets_a_newcomer_with_all_states_in_one_message)
{
    static struct test_client dan;
    test_say_awareness(&ann, "7:1:{}");
    test_say_awareness(&cid, "9:4:{\"c\":0}");

    test_join(&world, &dan, TP_DIALECT_YWEBSOCKET, "dan");

    HEARS(&dan, "step1");
    HEARS(&dan, "awareness 7:1:{} 9:4:{\"c\":0}");
    HEARS(&dan, "");
}

Test(session_awareness, ignores_old_clocks_first_clock_0_and_echoes)
{
    test_say_awareness(&ann, "7:0:{}");
    HEARS(&bob, "");
    test_say_awareness(&ann, "7:3:{}");
    HEARS(&bob, "raw awareness 7:3:{}");

    test_say_awareness(&ann, "7:2:{}");
    test_say_awareness(&bob, "7:3:{}");
    test_say_awareness(&bob, "7:3:null");

    HEARS(&ann, "");
    HEARS(&bob, "");
    cr_assert_eq(world.counters.awareness_ignored, 0, "an echo is ordinary");
}

Test(session_awareness, ignores_news_about_a_client_of_another_connection)
{
    test_say_awareness(&ann, "7:3:{}");
    test_deaf(&cid);

    test_say_awareness(&bob, "7:9:{\"evil\":1} 8:1:{}");
    test_say_awareness(&cid, "7:10:null");

    HEARS(&ann, "awareness 8:1:{}"); /* anew: only what was accepted */
    HEARS(&ann, "");
    HEARS(&cid, "awareness 8:1:{}");
    HEARS(&cid, "ack 1");
    cr_assert_eq(world.counters.awareness_ignored, 2);
}

Test(session_awareness, relays_renewals)
{
    test_say_awareness(&ann, "7:1:{}");
    test_say_awareness(&ann, "7:2:{}");

    HEARS(&bob, "raw awareness 7:1:{}");
    HEARS(&bob, "raw awareness 7:2:{}");
}

Test(session_awareness, relays_an_orderly_leave_with_the_same_clock)
{
    static struct test_client dan;
    test_say_awareness(&ann, "7:1:{}");
    test_say_awareness(&ann, "7:1:null");
    test_leave(&ann);

    HEARS(&bob, "raw awareness 7:1:{}");
    HEARS(&bob, "raw awareness 7:1:null");
    HEARS(&bob, "");
    test_join(&world, &dan, TP_DIALECT_YWEBSOCKET, "dan");
    HEARS(&dan, "step1");
    HEARS(&dan, "");
}

Test(session_awareness, takes_back_the_states_of_who_leaves_one_clock_higher_in_one_message)
{
    test_say_awareness(&ann, "7:1:{} 8:5:{}");
    test_deaf(&bob);
    test_deaf(&cid);

    test_leave(&ann);

    HEARS(&bob, "awareness 7:2:null 8:6:null");
    HEARS(&cid, "awareness 7:2:null 8:6:null");
}

Test(session_awareness, shows_a_client_that_returns_unclean_at_once_and_tells_it_its_clock)
{
    test_say_awareness(&ann, "7:3:{\"a\":1}");
    test_leave(&ann);
    test_pass(&world, TEST_SECOND);
    test_deaf(&bob);
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    HEARS(&ann, "step1");

    test_say_awareness(&ann, "7:3:{\"a\":1}");

    HEARS(&bob, "awareness 7:5:{\"a\":1}");
    HEARS(&ann, "awareness 7:5:{\"a\":1}");
    test_say_awareness(&ann, "7:6:{\"a\":2}");
    HEARS(&bob, "raw awareness 7:6:{\"a\":2}");
}

Test(session_awareness, does_not_take_a_late_echo_for_a_return)
{
    test_say_awareness(&ann, "7:3:{\"a\":1}");
    test_pass(&world, TEST_SECOND);
    test_leave(&ann);
    test_deaf(&bob);
    test_deaf(&cid);

    test_say_awareness(&bob, "7:3:{\"a\":1}");
    test_say_awareness(&bob, "7:4:null");

    HEARS(&cid, "");
    HEARS(&bob, "");
}

Test(session_awareness, ends_a_state_that_nobody_renews_and_takes_the_next_renewal)
{
    test_say_awareness(&ann, "7:3:{}");
    test_deaf(&bob);
    test_pass(&world, 29 * TEST_SECOND);
    HEARS(&bob, "");

    test_pass(&world, 2 * TEST_SECOND);
    HEARS(&bob, "awareness 7:3:null");
    cr_assert_eq(world.counters.awareness_expired, 1);

    test_say_awareness(&ann, "7:4:{}");
    HEARS(&bob, "raw awareness 7:4:{}");
}

Test(session_awareness, keeps_a_state_that_is_renewed)
{
    for (int i = 1; i < 10; i++) {
        char entry[20];
        sprintf(entry, "7:%d:{}", i);
        test_say_awareness(&ann, entry);
        test_pass(&world, 15 * TEST_SECOND);
    }

    cr_assert_eq(world.counters.awareness_expired, 0);
}

Test(session_awareness, forgets_the_clocks_of_who_is_gone_after_a_while)
{
    test_say_awareness(&ann, "7:3:{}");
    test_leave(&ann);
    test_pass(&world, 301 * TEST_SECOND);
    test_deaf(&bob);

    test_say_awareness(&bob, "7:1:{}");

    HEARS(&cid, "awareness 7:3:{}");
    HEARS(&cid, "awareness 7:4:null");
    HEARS(&cid, "awareness 7:1:{}");
}

Test(session_awareness, answers_a_query_with_all_states)
{
    test_say_awareness(&ann, "7:3:{}");
    test_deaf(&bob);
    test_deaf(&cid);
    static struct test_client dan;
    test_join(&world, &dan, TP_DIALECT_TELEPORTAL, "dan");

    test_say(&bob, (struct tp_message){.kind = TP_MESSAGE_AWARENESS_QUERY});
    test_say(&cid, (struct tp_message){.kind = TP_MESSAGE_AWARENESS_QUERY});

    HEARS(&bob, "awareness 7:3:{}");
    HEARS(&bob, "");
    HEARS(&cid, "awareness 7:3:{}");
    HEARS(&cid, "ack 1");
    HEARS(&dan, "raw query");
}

Test(session_awareness, ignores_and_counts_what_is_over_a_limit)
{
    world.limits.awareness_per_peer_max = 2;
    world.limits.awareness_count_max = 3;
    world.limits.awareness_size_max = 4;

    test_say_awareness(&ann, "1:1:{} 2:1:{} 3:1:{}");
    test_say_awareness(&bob, "4:1:{\"x\":1} 5:1:{}");
    test_say_awareness(&cid, "6:1:{}");

    HEARS(&bob, "awareness 1:1:{} 2:1:{}");
    HEARS(&ann, "awareness 5:1:{}");
    HEARS(&ann, "");
    cr_assert_eq(world.counters.awareness_ignored, 3);
}

Test(session_awareness, closes_a_ywebsocket_peer_whose_update_is_malformed)
{
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_AWARENESS, .awareness = TP_SLICE("\5")});

    HEARS(&ann, "close 9");
}

Test(session_awareness, tells_the_gone_to_who_announced_presence_by_a_leave_alone)
{
    static struct test_client dan;
    test_join(&world, &dan, TP_DIALECT_TELEPORTAL, "dan");
    test_say_presence(&dan, TP_MESSAGE_PRESENCE_ANNOUNCE, 9);
    test_say_awareness(&dan, "9:2:{}");
    static struct test_client eve;
    test_join(&world, &eve, TP_DIALECT_TELEPORTAL, "eve");
    test_say_presence(&eve, TP_MESSAGE_PRESENCE_ANNOUNCE, 10);
    test_deaf(&ann);
    test_deaf(&cid);
    test_deaf(&eve);

    test_leave(&dan);

    HEARS(&eve, "leave 9 of d");
    HEARS(&eve, "");
    HEARS(&ann, "awareness 9:3:null");
    HEARS(&cid, "awareness 9:3:null");
    HEARS(&cid, "leave 9 of d");
}

Test(session_awareness, sends_the_newest_states_and_who_went_to_a_peer_that_lost_some)
{
    test_say_awareness(&ann, "7:1:{\"a\":1}");
    test_say_awareness(&ann, "7:2:{\"a\":2}");
    test_say_awareness(&cid, "9:1:{}");
    test_say_awareness(&cid, "9:2:null");
    test_deaf(&bob);
    bob.peer.unaware = true;

    test_ready(&bob);

    HEARS(&bob, "awareness 7:2:{\"a\":2} 9:2:null");
    HEARS(&bob, "");
    test_ready(&bob);
    HEARS(&bob, "");
}
