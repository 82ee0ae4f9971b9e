/* What a session promises about the size of its document: a warning, and a limit that holds. */
#include <criterion/criterion.h>

#include "session_driver.h"

#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)

static struct test_world world;
static struct test_client ann, bob;

static void begin(void)
{
    test_world_init(&world);
    world.limits.size_warning = 300;
    world.limits.size_limit = 400;
    test_world_open(&world, "doc");
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(session_size, .init = begin, .fini = finish);

/* An update of about 110 bytes. */
static struct tp_slice hundred(uint64_t client)
{
    return test_insert(client, 0,
                       "................................................................"
                       "................................");
}

Test(session_size, warns_once_and_again_after_it_was_smaller)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, hundred(1));
    test_say_update(&ann, hundred(2));
    cr_assert_eq(world.news_counts[TP_NEWS_SIZE_WARNING], 0);

    test_say_update(&ann, hundred(3));

    cr_assert_eq(world.news_counts[TP_NEWS_SIZE_WARNING], 1);
    cr_assert_eq(world.counters.documents_over_warning, 1);
    cr_assert_eq(world.news_counts[TP_NEWS_CREATED], 1);
    test_say_update(&ann, test_insert(4, 0, "more"));
    test_pass(&world, 10 * TEST_SECOND);
    cr_assert_eq(world.news_counts[TP_NEWS_SIZE_WARNING], 1);
    test_world_reopen(&world);
    cr_assert_eq(world.counters.documents_over_warning, 0);
    cr_assert_eq(world.counters.document_bytes, 0);
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    cr_assert_eq(world.news_counts[TP_NEWS_LOADED], 1);
    cr_assert_eq(world.news_counts[TP_NEWS_SIZE_WARNING], 2, "also when it is opened");
}

Test(session_size, refuses_what_is_above_the_limit_each_in_its_dialect)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    for (uint64_t client = 1; client <= 3; client++)
        test_say_update(&ann, hundred(client));
    test_deaf(&ann);
    test_deaf(&bob);

    test_say_update(&ann, hundred(4));
    HEARS(&ann, "nack 4 document-too-large");
    test_say_update(&bob, hundred(5));
    HEARS(&bob, "close 14"); /* TP_CLOSE_DOCUMENT_TOO_BIG */

    cr_assert_eq(world.news_counts[TP_NEWS_SIZE_LIMIT], 1, "told once");
    cr_assert_eq(world.counters.documents_over_limit, 1);
    test_say_update(&ann, test_insert(6, 0, "fits"));
    HEARS(&ann, "ack 5");
    cr_assert_eq(world.counters.documents_over_limit, 0);
}

Test(session_size, takes_deletions_and_what_it_has_whatever_the_size)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    for (uint64_t client = 1; client <= 3; client++)
        test_say_update(&ann, hundred(client));
    world.limits.size_limit = 50;
    test_deaf(&ann);

    test_say_step2(&ann, hundred(1));
    HEARS(&ann, "done");
    HEARS(&ann, "ack 4");
    test_say_update(&ann, test_delete(1, 0, 50));
    HEARS(&ann, "ack 5");
    test_say_update(&ann, test_insert(9, 0, "x"));
    HEARS(&ann, "nack 6 document-too-large");
}

Test(session_size, merges_before_it_refuses_and_keeps_the_order_of_what_waits)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    world.limits.size_warning = world.limits.size_limit = 0;
    world.limits.tail_size_max = 1 << 20;
    /* One letter at a time: merged they are one struct, beside each other they are many. */
    for (uint64_t clock = 0; clock < 40; clock++)
        test_say_update(&ann, test_insert(1, clock, "."));
    test_deaf(&ann);
    world.limits.size_limit = 400;
    world.hold_work = true;
    test_say_update(&ann, hundred(2));
    test_say_update(&ann, test_insert(3, 0, "after"));
    cr_assert_str_eq(test_hears(&ann), "", "held");
    world.hold_work = false;
    test_work_go(&world);

    HEARS(&ann, "ack 41");
    HEARS(&ann, "ack 42");
    cr_assert_eq(world.news_counts[TP_NEWS_SIZE_LIMIT], 0);
    cr_assert_eq(world.counters.updates_refused, 0);
}
