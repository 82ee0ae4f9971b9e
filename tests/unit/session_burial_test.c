/* What a session promises about deleted documents (architecture.md, "Keys and records"). */
#include <criterion/criterion.h>

#include <stdio.h>

#include "crdt/state_vector.h"
#include "session_driver.h"
#include "wire/record.h"

#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)

static struct test_world world;
static struct test_client ann, bob;

static void begin(void)
{
    test_world_init(&world);
    test_world_open(&world, "doc");
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(session_burial, .init = begin, .fini = finish);

Test(session_burial, does_not_let_a_deleted_document_rise_again)
{
    struct tp_buffer key = tp_buffer_growing(100), value = tp_buffer_growing(100);
    const struct tp_name_record record = {.number = 5,
                                          .epoch = 3,
                                          .mode = TP_MODE_PLAIN,
                                          .deleted = true,
                                          .state_vector = test_state_vector(1, 3)};
    cr_assert_eq(tp_record_name_key((struct tp_slice){0}, TP_SLICE("doc"), &key), TP_OK);
    tp_name_record_encode(&record, &value);
    test_put_row(&world, TP_TABLE_NAMES, tp_buffer_slice(&key), tp_buffer_slice(&value));
    tp_buffer_finish(&key);
    tp_buffer_finish(&value);
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");

    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&bob, test_insert(2, 0, "new"));

    HEARS(&ann, "step1");
    HEARS(&ann, "close 13");
    struct tp_name_record now;
    cr_assert_eq(tp_name_record_decode(test_row_value(&world, TP_TABLE_NAMES, 0), &now), TP_OK);
    cr_assert(!now.deleted);
    cr_assert_eq(now.epoch, 4);
    cr_assert_neq(now.number, 5);
    cr_assert_eq(test_row_count(&world, TP_TABLE_LOG), 1);
}

static void delete_document(void)
{
    test_event(&world, (struct tp_event){.kind = TP_EVENT_TOLD, .told = TP_TOLD_DELETE});
}

static void assert_tombstone(uint64_t epoch, const char *state_vector)
{
    struct tp_name_record record;
    struct tp_state_vector vector = {0};
    char text[64] = "";

    cr_assert_eq(test_row_count(&world, TP_TABLE_NAMES), 1);
    cr_assert_eq(tp_name_record_decode(test_row_value(&world, TP_TABLE_NAMES, 0), &record), TP_OK);
    cr_assert(record.deleted);
    cr_assert_eq(record.epoch, epoch);
    cr_assert_eq(tp_state_vector_decode(&vector, record.state_vector), TP_OK);
    for (uint32_t i = 0; i < vector.count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d:%d", i > 0 ? " " : "",
                 (int)vector.entries[i].client, (int)vector.entries[i].clock);
    cr_assert_str_eq(text, state_vector);
    tp_state_vector_finish(&vector);
    static const enum tp_store_table emptied[] = {TP_TABLE_METADATA, TP_TABLE_BASES,
                                                  TP_TABLE_LOG,      TP_TABLE_MILESTONES,
                                                  TP_TABLE_KEYS,     TP_TABLE_ATTRIBUTION};
    for (size_t i = 0; i < sizeof emptied / sizeof *emptied; i++)
        cr_assert_eq(test_row_count(&world, emptied[i]), 0, "table %d", emptied[i]);
}

Test(session_burial, deletes_a_document_with_all_its_rows_and_tells_who_has_it_open)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&bob, test_insert(2, 0, "de"));
    struct tp_name_record record;
    uint8_t key[TP_RECORD_NUMBER_KEY_SIZE + 2] = {0};
    cr_assert_eq(tp_name_record_decode(test_row_value(&world, TP_TABLE_NAMES, 0), &record), TP_OK);
    tp_record_number_key(record.number, key);
    test_put_row(&world, TP_TABLE_MILESTONES, tp_slice_of(key, sizeof key), TP_SLICE("row"));
    test_put_row(&world, TP_TABLE_ATTRIBUTION, tp_slice_of(key, sizeof key), TP_SLICE("row"));
    struct tp_buffer keys = tp_buffer_growing(100);
    tp_record_keys_key((struct tp_slice){0}, TP_SLICE("doc"), record.epoch, &keys);
    test_put_row(&world, TP_TABLE_KEYS, tp_buffer_slice(&keys), TP_SLICE("row"));
    tp_buffer_finish(&keys);
    test_deaf(&ann);
    test_deaf(&bob);

    delete_document();

    cr_assert_eq(world.deleted_count, 1);
    cr_assert_eq(world.deleted_status, TP_OK);
    HEARS(&ann, "close 12"); /* TP_CLOSE_DELETED */
    HEARS(&bob, "auth this document was deleted");
    assert_tombstone(0, "2:2 1:3");
}

Test(session_burial, ends_that_somebody_was_behind)
{
    static struct test_client cid, dan;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_join(&world, &dan, TP_DIALECT_TELEPORTAL, "dan");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_fall_behind(&bob, bob.mark);
    delete_document();
    test_join(&world, &cid, TP_DIALECT_YWEBSOCKET, "cid");
    test_say_update(&cid, test_insert(7, 0, "new"));
    test_fall_behind(&dan, dan.mark); /* its connection had dropped something of the old one */
    test_deaf(&bob);
    test_deaf(&dan);

    test_ready(&bob);
    test_ready(&dan);

    HEARS(&bob, "");
    HEARS(&dan, "");
}

Test(session_burial, says_that_a_document_to_delete_is_not_there)
{
    delete_document();
    cr_assert_eq(world.deleted_count, 1);
    cr_assert_eq(world.deleted_status, TP_ABSENT);
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    HEARS(&ann, "ack 1");

    delete_document();
    delete_document();

    cr_assert_eq(world.deleted_count, 3);
    cr_assert_eq(world.deleted_status, TP_ABSENT, "once is enough");
}

Test(session_burial, takes_nothing_of_a_deleted_epoch_into_the_next_also_after_a_restart)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    delete_document();
    test_deaf(&ann);
    test_deaf(&bob);

    test_say_update(&ann, test_insert(1, 3, "d")); /* goes on typing */
    HEARS(&ann, "ack 2");
    test_say_step1(&bob, (struct tp_slice){0}); /* begins anew */
    HEARS(&bob, "step2 nothing");
    HEARS(&bob, "step1");
    HEARS(&bob, "ack 1");
    test_say_update(&bob, test_insert(2, 0, "new"));
    HEARS(&bob, "ack 2");
    cr_assert_str_eq(test_hears(&ann), "", "nothing of the new epoch");
    test_say_step1(&ann, test_state_vector(1, 3));
    HEARS(&ann, "auth this document was deleted");
    HEARS(&ann, "ack 3");

    test_world_reopen(&world);
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_say_step2(&ann, test_insert(1, 0, "abc"));
    HEARS(&ann, "step1 2:3");
    HEARS(&ann, "close 13"); /* TP_CLOSE_STALE_EPOCH */
    test_say_step1(&bob, test_state_vector(1, 3));
    HEARS(&bob, "step1 2:3");
    HEARS(&bob, "close 13");

    delete_document();
    assert_tombstone(1, "2:3 1:3");
}

Test(session_burial, lets_what_is_under_way_end_before_it_deletes_and_holds_what_comes_meanwhile)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    HEARS(&ann, "ack 1");
    world.hold_store = true;
    test_say_update(&ann, test_insert(1, 1, "b"));

    delete_document();
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_update(&bob, test_insert(2, 0, "new"));
    cr_assert_eq(world.deleted_count, 0);
    cr_assert_str_eq(test_hears(&bob), "");
    world.hold_store = false;
    test_store_go(&world);

    HEARS(&ann, "ack 2");
    HEARS(&ann, "auth this document was deleted");
    cr_assert_eq(world.deleted_status, TP_OK);
    HEARS(&bob, "ack 1");
    struct tp_name_record now;
    cr_assert_eq(tp_name_record_decode(test_row_value(&world, TP_TABLE_NAMES, 0), &now), TP_OK);
    cr_assert(!now.deleted);
    cr_assert_eq(now.epoch, 1);
    cr_assert_eq(test_row_count(&world, TP_TABLE_LOG), 1);
}

Test(session_burial, reads_again_what_is_there_when_the_store_does_not_say_whether_it_deleted)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_deaf(&ann);
    world.store_status = TP_IO;

    delete_document();

    cr_assert_eq(world.deleted_status, TP_IO);
    HEARS(&ann, "close 7"); /* TP_CLOSE_RESTARTING */
    world.store_status = TP_OK;
    test_leave(&ann);
    test_pass(&world, 2 * TEST_SECOND);
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_step1(&bob, (struct tp_slice){0});
    HEARS(&bob, "step2 1:0-3");
}
