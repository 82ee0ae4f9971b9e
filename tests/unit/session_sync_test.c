/* What a session promises about the document: sync, updates, acks (spec 02 section 5, 05 section
 * 4). */
#include <criterion/criterion.h>
#include <stdio.h>

#include "crdt/update.h"
#include "session_driver.h"
#include "wire/record.h"
#include "wire/writer.h"

#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)

static struct test_world world;
static struct test_client ann, bob, cid, dan;

static void begin(void)
{
    test_world_init(&world);
    test_world_open(&world, "doc");
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(session_sync, .init = begin, .fini = finish);

Test(session_sync, greets_a_ywebsocket_peer_of_an_empty_document_with_step_1_alone)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");

    HEARS(&ann, "step1");
    HEARS(&ann, "");
}

Test(session_sync, says_nothing_to_a_teleportal_peer_before_it_asks)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    HEARS(&ann, "");
}

Test(session_sync, answers_an_empty_document_with_an_empty_step_2)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_deaf(&ann);

    test_say_step1(&ann, (struct tp_slice){0});
    test_say_step1(&bob, (struct tp_slice){0});

    HEARS(&ann, "step2 -");
    HEARS(&bob, "step2 nothing");
    HEARS(&bob, "step1");
    HEARS(&bob, "ack 1");
}

Test(session_sync, says_nothing_about_content_before_the_store_has_answered)
{
    world.hold_store = true;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_say_step1(&ann, (struct tp_slice){0});
    HEARS(&ann, "");

    test_store_go(&world);

    HEARS(&ann, "step1");
    HEARS(&ann, "step2 -");
}

Test(session_sync, passes_an_update_on_at_once_and_acks_it_when_it_is_stored)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);
    world.hold_store = true;

    test_say_update(&ann, test_insert(1, 0, "abc"));

    HEARS(&bob, "update 1:0-3");
    HEARS(&ann, "");
    test_store_go(&world);
    HEARS(&ann, "ack 1");
    HEARS(&ann, "");
    cr_assert_eq(world.append_count, 1);
    cr_assert_eq(test_row_count(&world, TP_TABLE_NAMES), 1);
    cr_assert_eq(test_row_count(&world, TP_TABLE_METADATA), 1);
}

Test(session_sync, gives_peers_of_the_authors_dialect_the_authors_bytes)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_join(&world, &cid, TP_DIALECT_YWEBSOCKET, "cid");
    test_deaf(&cid);

    test_say_step2(&ann, test_insert(1, 0, "abc"));
    HEARS(&bob, "raw step2 1:0-3");
    HEARS(&cid, "update 1:0-3");
    HEARS(&ann, "done");
    HEARS(&ann, "ack 1");

    test_say_update(&cid, test_insert(2, 0, "x"));
    HEARS(&bob, "update 2:0-1");
    HEARS(&ann, "update 2:0-1");
    HEARS(&cid, "");
    cr_assert_eq(world.counters.conversions, 2);
}

Test(session_sync, makes_an_update_of_a_ywebsocket_step_2_for_the_others)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&ann);
    test_deaf(&bob);

    test_say_step2(&ann, test_insert(1, 0, "abc"));

    HEARS(&bob, "update 1:0-3");
    HEARS(&ann, "");
}

Test(session_sync, sends_what_is_missing_and_all_deletions)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&ann, test_insert(1, 3, "def"));
    test_say_update(&ann, test_delete(1, 1, 2));
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_deaf(&ann);

    test_say_step1(&bob, (struct tp_slice){0});
    test_say_step1(&bob, test_state_vector(1, 3));
    test_say_step1(&bob, test_state_vector(1, 6));
    test_say_step1(&ann, test_state_vector(1, 4));

    HEARS(&bob, "step2 1:0-6 d1");
    HEARS(&bob, "step1 1:6");
    HEARS(&bob, "ack 1");
    HEARS(&bob, "step2 1:3-6 d1");
    HEARS(&bob, "step1 1:6");
    HEARS(&bob, "ack 2");
    HEARS(&bob, "step2 d1");
    HEARS(&bob, "step1 1:6");
    HEARS(&bob, "ack 3");
    HEARS(&ann, "step2 1:4-6 d1");
}

Test(session_sync, shares_one_computation_among_all_who_join_at_once)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    world.hold_work = true;
    static struct test_client crowd[100];
    for (int i = 0; i < 100; i++) {
        test_join(&world, &crowd[i], TP_DIALECT_TELEPORTAL, "crowd");
        test_say_step1(&crowd[i], (struct tp_slice){0});
    }

    test_work_go(&world);

    for (int i = 0; i < 100; i++) {
        HEARS(&crowd[i], "step2 1:0-3");
        HEARS(&crowd[i], "step1 1:3");
        HEARS(&crowd[i], "ack 1");
        HEARS(&crowd[i], "");
    }
    cr_assert_eq(world.work_counts[TP_WORK_DIFF], 1);
    cr_assert_eq(world.work_counts[TP_WORK_MERGE], 1);
}

Test(session_sync, answers_with_what_came_before_the_question)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_say_step1(&bob, (struct tp_slice){0});
    test_say_update(&ann, test_insert(1, 3, "d"));
    test_deaf(&bob);

    test_say_step1(&bob, (struct tp_slice){0});

    HEARS(&bob, "step2 1:0-4");
}

Test(session_sync, neither_stores_nor_passes_on_what_is_not_new)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&ann, test_delete(1, 0, 1));
    test_deaf(&bob);
    test_deaf(&ann);

    test_say_step2(&ann, test_insert(1, 0, "abc"));
    test_say_step2(&ann, TP_SLICE("\0\0"));
    test_say_update(&ann, test_delete(1, 0, 1));

    HEARS(&ann, "done");
    HEARS(&ann, "ack 3");
    HEARS(&ann, "done");
    HEARS(&ann, "ack 4");
    HEARS(&ann, "ack 2"); /* the same frame, the same id */
    HEARS(&ann, "");
    HEARS(&bob, "");
    cr_assert_eq(world.append_count, 2);
}

Test(session_sync, accepts_a_container_without_structure)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_SYNC_STEP_2,
                                       .update = {.version = 2, .v2 = TP_SLICE("")}});

    HEARS(&ann, "done");
    HEARS(&ann, "ack 1");
    cr_assert_eq(world.append_count, 0);
    cr_assert_eq(test_row_count(&world, TP_TABLE_NAMES), 0, "nothing was created");
}

Test(session_sync, does_not_ack_a_repeated_update_before_the_first_is_durable)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    world.hold_store = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    HEARS(&bob, "raw update 1:0-3");

    test_say_step2(&bob, test_insert(1, 0, "abc"));

    HEARS(&bob, "done");
    HEARS(&bob, "");
    test_store_go(&world);
    HEARS(&bob, "ack 1");
}

Test(session_sync, nacks_what_the_store_refused_and_stores_it_when_it_comes_again)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);
    world.store_status = TP_IO;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    HEARS(&ann, "nack 1 storage-failure");
    HEARS(&bob, "update 1:0-3");

    world.store_status = TP_OK;
    test_say_step2(&ann, test_insert(1, 0, "abc"));

    HEARS(&ann, "done");
    HEARS(&ann, "ack 2");
    cr_assert_eq(world.append_count, 1);
    cr_assert_eq(world.counters.store_failures, 1);
}

Test(session_sync, stores_all_it_holds_when_the_store_is_well_again)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    world.store_status = TP_IO;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_leave(&ann);
    test_pass(&world, 3 * TEST_SECOND);
    cr_assert_eq(world.append_count, 0);

    world.store_status = TP_OK;
    test_pass(&world, 3 * TEST_SECOND);

    cr_assert_eq(world.append_count, 1);
    test_world_reopen(&world);
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    HEARS(&ann, "step1 1:3");
    test_say_step2(&ann, test_insert(1, 0, "abc"));
    cr_assert_eq(world.append_count, 1, "it is known again");
}

Test(session_sync, closes_a_ywebsocket_author_whose_update_was_not_stored)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_deaf(&ann);
    world.store_status = TP_FULL;

    test_say_update(&ann, test_insert(1, 0, "abc"));

    cr_assert(ann.closed);
}

Test(session_sync, finds_again_what_it_has_stored)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&bob, test_insert(2, 0, "xyz"));
    test_say_update(&ann, test_delete(2, 0, 1));
    test_world_reopen(&world);

    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    HEARS(&ann, "step1 2:3 1:3");
    test_say_step1(&ann, (struct tp_slice){0});
    HEARS(&ann, "step2 2:0-3 1:0-3 d1");
    test_say_update(&ann, test_insert(1, 3, "d"));
    cr_assert_eq(test_row_count(&world, TP_TABLE_LOG), 4, "no entry was overwritten");
}

Test(session_sync, holds_updates_until_the_document_is_created)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    world.hold_store = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&ann, test_insert(1, 3, "d"));
    cr_assert(!tp_link_alone(&world.stored) && world.stored.next->next == &world.stored);

    test_store_go(&world);
    HEARS(&ann, "ack 1");
    HEARS(&ann, "");
    test_store_go(&world);
    HEARS(&ann, "ack 2");
}

Test(session_sync, joins_what_another_node_has_created_meanwhile)
{
    static struct test_world other;
    static struct test_client eve;
    world.limits.checkpoint_size = 1;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);
    other = world; /* its rows are ours from now on */
    tp_link_init(&other.clients);
    tp_link_init(&other.stored);
    tp_link_init(&other.worked);
    other.env.pool = &world.pool;
    test_world_open(&other, "doc");
    test_join(&other, &eve, TP_DIALECT_YWEBSOCKET, "eve");
    other.random.state = 7;
    other.env.random = &other.random;
    test_say_update(&eve, test_insert(9, 0, "other"));
    test_leave(&eve);
    test_pass(&other, 100 * TEST_SECOND);
    tp_session_destroy(other.session);
    world.rows = other.rows;
    world.row_count = other.row_count;

    test_say_update(&ann, test_insert(1, 0, "abc"));

    HEARS(&ann, "update 9:0-5");
    HEARS(&ann, "ack 1");
    HEARS(&bob, "update 1:0-3");
    HEARS(&bob, "update 9:0-5");
    test_fall_behind(&bob, bob.mark); /* no, it does not */
    test_ready(&bob);
    HEARS(&bob, "update 9:0-5");
    cr_assert_eq(test_row_count(&world, TP_TABLE_NAMES), 1);
    cr_assert_eq(test_row_count(&world, TP_TABLE_LOG), 2);
    test_say_step1(&bob, (struct tp_slice){0});
    HEARS(&bob, "step2 9:0-5 1:0-3");
}

Test(session_sync, refuses_what_is_no_update_and_keeps_it_for_inspection)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);

    test_say(&bob, (struct tp_message){.kind = TP_MESSAGE_UPDATE,
                                       .update = {.v1 = TP_SLICE("\1\1\1\0\4")}});
    HEARS(&bob, "close 9");
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_UPDATE,
                                       .update = {.version = 2, .v2 = TP_SLICE("\0\0\1")}});
    HEARS(&ann, "nack 1 invalid-update");

    cr_assert_eq(world.quarantine_count, 1, "one row a second");
    cr_assert_eq(world.append_count, 0);
    cr_assert_eq(world.counters.updates_refused, 2);
}

Test(session_sync, reads_a_version_1_frame_as_v2_or_else_as_v1)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    struct tp_buffer container = tp_buffer_growing(1000);
    tp_buffer_append(&container, "\1", 1);
    const struct tp_slice v1 = test_insert(1, 0, "abc");
    const uint8_t size = (uint8_t)v1.size;
    tp_buffer_append(&container, &size, 1);
    tp_buffer_append(&container, v1.data, v1.size);
    tp_buffer_append(&container, "\0\0", 2);

    test_say(&ann, (struct tp_message){
                       .kind = TP_MESSAGE_UPDATE,
                       .update = {.version = 1, .container = tp_buffer_slice(&container)}});
    test_say(&ann, (struct tp_message){
                       .kind = TP_MESSAGE_UPDATE,
                       .update = {.version = 3, .container = tp_buffer_slice(&container)}});

    HEARS(&bob, "update 1:0-3"); /* not raw: everybody reads V2 */
    HEARS(&bob, "");
    HEARS(&ann, "ack 1");
    HEARS(&ann, "nack 2 invalid-update");
    tp_buffer_finish(&container);
}

Test(session_sync, delays_error_nacks_that_follow_one_another)
{
    const struct tp_message bad = {.kind = TP_MESSAGE_UPDATE,
                                   .update = {.version = 2, .v2 = TP_SLICE("\1")}};
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    test_say(&ann, bad);
    HEARS(&ann, "nack 1 invalid-update");
    test_say(&ann, bad);
    HEARS(&ann, "");
    test_pass(&world, TEST_SECOND);
    HEARS(&ann, "nack 1 invalid-update");
    test_say(&ann, bad);
    test_pass(&world, TEST_SECOND);
    HEARS(&ann, "");
    test_pass(&world, TEST_SECOND);
    HEARS(&ann, "nack 1 invalid-update");
    test_pass(&world, 61 * TEST_SECOND);
    test_say(&ann, bad);
    HEARS(&ann, "nack 1 invalid-update");
}

Test(session_sync, lets_a_reader_read_and_drops_what_it_writes)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    ann.peer.rights = TP_MAY_READ;

    test_say_update(&ann, test_insert(1, 0, "a"));
    test_say_update(&ann, test_insert(1, 0, "b"));
    test_say_step2(&ann, test_insert(1, 0, "c"));

    HEARS(&ann, "auth Insufficient permissions to access document");
    HEARS(&ann, "ack 1");
    HEARS(&ann, "ack 2");
    HEARS(&ann, "done");
    HEARS(&ann, "ack 3");
    cr_assert_eq(world.append_count, 0);
}

/* ---- encrypted documents ------------------------------------------------------------------------
 */

/* An update of an encrypted document: structure, and a sidecar unless it is empty. */
static void say_structure(struct test_client *client, enum tp_message_kind kind, struct tp_slice v2,
                          struct tp_slice sidecar)
{
    struct tp_buffer sidecars = tp_buffer_growing(1 << 20);
    struct tp_message message = {
        .kind = kind, .encrypted = true, .update = {.version = 2, .v2 = v2}};

    tp_write_varuint(&sidecars, 1);
    tp_write_bytes(&sidecars, sidecar);
    tp_write_u8(&sidecars, 0);
    if (sidecar.size > 0)
        message.update.sidecars = tp_buffer_slice(&sidecars);
    test_say(client, message);
    tp_buffer_finish(&sidecars);
}

static void say_sealed(struct test_client *client, enum tp_message_kind kind, struct tp_slice v1,
                       struct tp_slice sidecar)
{
    struct tp_buffer v2 = tp_buffer_growing(1 << 20);

    cr_assert_eq(tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    say_structure(client, kind, tp_buffer_slice(&v2), sidecar);
    tp_buffer_finish(&v2);
}

static void ask_sealed(struct test_client *client, struct tp_slice state_vector)
{
    test_say(client, (struct tp_message){.kind = TP_MESSAGE_SYNC_STEP_1,
                                         .encrypted = true,
                                         .state_vector = state_vector});
}

Test(session_sync, keeps_sidecars_and_sends_those_of_the_structs_that_are_missing)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    ask_sealed(&ann, (struct tp_slice){0});
    HEARS(&ann, "sealed step2 nothing");
    HEARS(&ann, "sealed step1");
    HEARS(&ann, "ack 1");

    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 0, "abc"), TP_SLICE("one"));
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 3, "de"), TP_SLICE("two"));

    HEARS(&ann, "ack 2");
    HEARS(&ann, "ack 3");
    HEARS(&bob, "sealed raw update 1:0-3 [one]");
    HEARS(&bob, "sealed raw update 1:3-5 [two]");
    ask_sealed(&bob, TP_SLICE("\1\1\3"));
    HEARS(&bob, "sealed step2 1:3-5 [two]");
    HEARS(&bob, "sealed step1 1:5");
    HEARS(&bob, "ack 1");

    test_world_reopen(&world);
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    ask_sealed(&bob, (struct tp_slice){0});
    HEARS(&bob, "sealed step2 1:0-5 [one] [two]");
}

/* A subdocument below the root "m" of client 9, whose options are `null`. */
#define SUBDOCUMENT_NULL TP_SLICE("\0\0\1\11\0\0\1\51\13\7msubg-1\1\x43\0\1\1\0\0\1\1\0\x7e\0")

Test(session_sync, keeps_subdocuments_of_an_encrypted_document)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");

    say_structure(&ann, TP_MESSAGE_UPDATE, SUBDOCUMENT_NULL, TP_SLICE("one"));
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 0, "abc"), TP_SLICE("two"));

    HEARS(&ann, "ack 1");
    HEARS(&ann, "ack 2");
    HEARS(&bob, "sealed raw update 9:0-1 [one]");
    HEARS(&bob, "sealed raw update 1:0-3 [two]");
    ask_sealed(&bob, (struct tp_slice){0});
    HEARS(&bob, "sealed step2 9:0-1 1:0-3 [one] [two]");

    test_world_reopen(&world);
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    ask_sealed(&bob, TP_SLICE("\1\1\3"));
    HEARS(&bob, "sealed step2 9:0-1 [one]");
}

Test(session_sync, takes_a_large_structure_with_a_subdocument)
{
    static uint8_t sidecar[100000];
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    say_structure(&ann, TP_MESSAGE_UPDATE, SUBDOCUMENT_NULL, tp_slice_of(sidecar, sizeof sidecar));

    HEARS(&ann, "ack 1");
    cr_assert_eq(world.work_counts[TP_WORK_VALIDATE], 1);
}

Test(session_sync, refuses_a_subdocument_without_options_in_a_plain_document)
{
    const struct tp_message message = {.kind = TP_MESSAGE_UPDATE,
                                       .update = {.version = 2, .v2 = SUBDOCUMENT_NULL}};
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    test_say(&ann, message);

    HEARS(&ann, "nack 1 invalid-update");
}

Test(session_sync, refuses_who_takes_it_for_of_the_other_mode_in_the_way_a_client_comes_to_rest_on)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_join(&world, &dan, TP_DIALECT_YWEBSOCKET, "dan");
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 0, "abc"), TP_SLICE("one"));
    HEARS(&ann, "ack 1");
    HEARS(&bob, "sealed raw update 1:0-3 [one]");
    test_deaf(&dan);
    cr_assert(dan.closed, "it could read nothing of it");

    test_say_step1(&bob, (struct tp_slice){0});
    test_say_update(&bob, test_insert(2, 0, "x"));

    HEARS(&bob, "auth Encryption state mismatch: this document is encrypted");
    HEARS(&bob, "ack 1");
    HEARS(&bob, "auth Encryption state mismatch: this document is encrypted");
    HEARS(&bob, "ack 2");
    HEARS(&ann, "");

    test_world_reopen(&world);
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_update(&bob, test_insert(2, 0, "x"));
    HEARS(&bob, "auth Encryption state mismatch: this document is encrypted");
}

Test(session_sync, relays_encrypted_awareness_to_those_who_may_have_the_key)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");

    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_AWARENESS,
                                       .encrypted = true,
                                       .awareness = TP_SLICE("x")});

    HEARS(&ann, "ack 1");
    HEARS(&bob, "sealed raw awareness x");
}

Test(session_sync, stores_all_of_an_encrypted_document_when_the_store_takes_writes_again)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 0, "abc"), TP_SLICE("one"));
    HEARS(&ann, "ack 1");
    world.store_status = TP_IO;
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 3, "de"), TP_SLICE("two"));
    HEARS(&ann, "nack 2 storage-failure");

    world.store_status = TP_OK;
    test_pass(&world, 10 * TEST_SECOND);

    test_world_reopen(&world);
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    ask_sealed(&bob, (struct tp_slice){0});
    HEARS(&bob, "sealed step2 1:0-5 [one] [two]");
}

Test(session_sync, echoes_when_all_before_it_is_durable)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_deaf(&ann);
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_ECHO, .echo = TP_SLICE("one")});
    HEARS(&ann, "echo one");
    world.hold_store = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));

    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_ECHO, .echo = TP_SLICE("two")});

    HEARS(&ann, "");
    test_store_go(&world);
    HEARS(&ann, "echo two");
}

Test(session_sync, closes_when_the_document_cannot_be_read_and_tries_again_later)
{
    world.read_status = TP_IO;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    HEARS(&ann, "close 15");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    test_say_step1(&bob, (struct tp_slice){0});
    HEARS(&bob, "nack 1 storage-failure");
    test_leave(&ann);
    world.read_status = TP_OK;
    test_pass(&world, 2 * TEST_SECOND);

    test_say_step1(&bob, test_state_vector(1, 1));

    HEARS(&bob, "step2 nothing");
    HEARS(&bob, "step1");
    HEARS(&bob, "ack 2");
}

Test(session_sync, closes_who_comes_before_the_next_try)
{
    world.read_status = TP_IO;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_leave(&ann);
    world.read_status = TP_OK;

    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");

    HEARS(&bob, "close 15");
}

Test(session_sync, pauses_who_says_too_much_while_it_loads)
{
    world.limits.queue_count_max = 3;
    world.hold_store = true;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_step1(&ann, (struct tp_slice){0});
    test_say_step1(&ann, (struct tp_slice){0});
    cr_assert(!ann.paused);

    test_say_step1(&ann, (struct tp_slice){0});
    cr_assert(ann.paused);

    test_store_go(&world);
    cr_assert(!ann.paused);
}

Test(session_sync, pauses_who_writes_faster_than_the_store)
{
    world.limits.store_count_max = 4;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    world.hold_store = true;
    for (uint64_t i = 1; i < 5; i++)
        test_say_update(&ann, test_insert(1, i, "a"));
    cr_assert(ann.paused);

    test_store_go(&world);

    cr_assert(!ann.paused);
    cr_assert(!ann.closed);
}

Test(session_sync, ends_after_the_grace_time_and_not_before)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_leave(&ann);
    test_pass(&world, 59 * TEST_SECOND);
    cr_assert(!world.ended);

    test_pass(&world, 2 * TEST_SECOND);

    cr_assert(world.ended);
}

Test(session_sync, asks_for_compaction_of_a_long_log)
{
    world.limits.compact_count = 8;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    for (uint64_t i = 0; i < 7; i++)
        test_say_update(&ann, test_insert(1, i, "a"));
    cr_assert_eq(world.compact_count, 0);

    test_say_update(&ann, test_insert(1, 7, "a"));

    cr_assert_eq(world.compact_count, 1);
}

Test(session_sync, a_small_open_document_at_rest_takes_less_than_two_kibibytes)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    for (uint64_t i = 0; i < 50; i++)
        test_say_update(&ann, test_insert(1, i, "a"));
    test_say_step1(&ann, (struct tp_slice){0});

    test_pass(&world, 10 * TEST_SECOND);

    cr_assert_leq(tp_session_memory(world.session), 2048, "%zu bytes",
                  tp_session_memory(world.session));
    cr_assert_leq(world.pool.used_size, 2048, "%zu bytes", world.pool.used_size);
}

/* More than is looked at on the spot: a worker checks it. */
static struct tp_slice large_insert(uint64_t client)
{
    static char text[100000];

    memset(text, 'x', sizeof text - 1);
    return test_insert(client, 0, text);
}

Test(session_sync, checks_a_large_update_elsewhere_and_what_its_author_says_next_waits)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);
    world.hold_work = true;
    test_say_update(&ann, large_insert(1));
    test_say_update(&ann, test_insert(1, 99999, "y"));
    test_say_step1(&ann, (struct tp_slice){0});
    HEARS(&bob, "");
    HEARS(&ann, "");

    world.hold_work = false;
    test_work_go(&world);

    HEARS(&bob, "update 1:0-99999");
    HEARS(&bob, "update 1:99999-100000");
    HEARS(&ann, "step2 1:0-100000");
    HEARS(&ann, "step1 1:100000");
    HEARS(&ann, "ack 3");
    HEARS(&ann, "ack 1");
    HEARS(&ann, "ack 2");
    HEARS(&ann, "");
}

Test(session_sync, does_not_let_others_wait_for_an_author_of_a_large_update)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    world.hold_work = true;
    test_say_update(&ann, large_insert(1));

    test_say_update(&bob, test_insert(2, 0, "b"));
    test_say_presence(&ann, TP_MESSAGE_PRESENCE_ANNOUNCE, 7);

    HEARS(&ann, "raw update 2:0-1");
    HEARS(&ann, "join 7 of a");
    HEARS(&ann, "ack 2");
}

Test(session_sync, has_the_large_updates_of_one_author_checked_at_a_time)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);
    world.hold_work = true;

    test_say_update(&ann, large_insert(1));
    test_say_update(&ann, large_insert(2));
    uint32_t checks = 0;
    TP_LIST_EACH(link, &world.worked)
    checks++;
    cr_assert_eq(checks, 2);
    test_say_update(&ann, test_insert(3, 0, "c"));
    test_say_update(&ann, large_insert(4)); /* does not overtake */

    test_work_go(&world);
    HEARS(&bob, "update 1:0-99999");
    HEARS(&bob, "update 2:0-99999");
    HEARS(&bob, "update 3:0-1");
    HEARS(&bob, "update 4:0-99999");
    HEARS(&bob, "");
}

Test(session_sync, echoes_behind_what_waits_for_a_large_update)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&ann);
    test_deaf(&bob);
    world.hold_work = world.hold_store = true;
    test_say_update(&ann, large_insert(1));
    test_say_update(&ann, test_insert(1, 99999, "y"));
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_ECHO, .echo = TP_SLICE("x")});

    test_work_go(&world);
    HEARS(&bob, "raw update 1:0-99999");
    HEARS(&bob, "raw update 1:99999-100000");
    HEARS(&ann, "");
    test_store_go(&world);
    test_store_go(&world);

    HEARS(&ann, "echo x");
    cr_assert_eq(world.append_count, 2);
}

Test(session_sync, keeps_what_an_author_said_behind_a_large_update_when_it_leaves)
{
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_deaf(&bob);
    world.hold_work = true;
    test_say_update(&ann, large_insert(1));
    for (uint64_t i = 0; i < 20; i++)
        test_say_update(&ann, test_insert(2, i, "y"));
    test_say_step1(&ann, (struct tp_slice){0});
    test_say_update(&ann, TP_SLICE("no update"));
    test_leave(&ann);

    world.hold_work = false;
    test_work_go(&world);

    cr_assert_eq(world.append_count, 21);
    uint32_t count = 0;
    while (*test_hears(&bob) != 0)
        count++;
    cr_assert_eq(count, 21);
}

Test(session_sync, pauses_who_says_too_much_behind_a_large_update)
{
    world.limits.queue_count_max = 3;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    world.hold_work = true;
    test_say_update(&ann, large_insert(1));
    for (uint64_t i = 0; i < 3; i++)
        test_say_update(&ann, test_insert(2, i, "y"));
    cr_assert(ann.paused);

    world.hold_work = false;
    test_work_go(&world);

    cr_assert(!ann.paused);
    for (uint32_t i = 1; i <= 4; i++)
        HEARS(&ann, i == 1 ? "ack 1" : i == 2 ? "ack 2" : i == 3 ? "ack 3" : "ack 4");
}

Test(session_sync, forgets_whose_update_it_was_when_the_author_has_left)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    world.hold_store = true;
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_step1(&ann, (struct tp_slice){0});
    test_leave(&ann);

    test_store_go(&world);

    cr_assert_eq(world.append_count, 1);
}

Test(session_sync, sends_the_whole_state_to_a_peer_that_lost_frames)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_deaf(&ann);
    test_deaf(&bob);
    ann.peer.behind = bob.peer.behind = true;

    test_ready(&ann);
    test_ready(&bob);

    HEARS(&ann, "update 1:0-3");
    HEARS(&bob, "update 1:0-3");
    HEARS(&ann, "");
    HEARS(&bob, "");
}

Test(session_sync, sends_what_it_missed_to_a_peer_that_fell_behind)
{
    world.limits.checkpoint_size = 1;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_join(&world, &cid, TP_DIALECT_TELEPORTAL, "cid");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_say_update(&ann, test_insert(1, 3, "def"));
    const uint32_t missed = bob.mark;
    test_say_update(&ann, test_insert(1, 6, "g"));
    test_fall_behind(&bob, missed);
    test_fall_behind(&cid, cid.mark);
    test_say_update(&ann, test_insert(1, 7, "h"));
    test_fall_behind(&bob, bob.mark);
    test_deaf(&bob);
    test_deaf(&cid);

    test_ready(&bob);
    test_ready(&cid);

    HEARS(&bob, "update 1:3-8");
    HEARS(&bob, "");
    HEARS(&cid, "update 1:6-8");
    HEARS(&cid, "");

    test_say_update(&ann, test_insert(1, 8, "i"));
    test_fall_behind(&bob, bob.mark);
    test_deaf(&bob);
    test_ready(&bob);
    HEARS(&bob, "update 1:8-9");
    HEARS(&bob, "");
}

Test(session_sync, sends_a_peer_that_fell_behind_a_part_of_the_history_more_at_most)
{
    world.limits.checkpoint_size = 30; /* two such updates */
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    for (uint64_t i = 0; i < 10; i++)
        test_say_update(&ann, test_insert(1, 10 * i, "0123456789"));
    test_fall_behind(&bob, bob.mark);
    test_deaf(&bob);

    test_ready(&bob);

    HEARS(&bob, "update 1:80-100");
}

Test(session_sync, sends_all_there_is_to_a_peer_that_fell_behind_too_long_ago)
{
    world.limits.checkpoint_size = 1;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_join(&world, &cid, TP_DIALECT_YWEBSOCKET, "cid");
    test_say_update(&ann, test_insert(1, 0, "0123456789"));
    test_say_update(&ann, test_insert(1, 10, "0123456789"));
    const uint32_t early = bob.mark;
    for (uint64_t clock = 20; clock < 650; clock += 10) {
        test_say_update(&ann, test_insert(1, clock, "0123456789"));
        test_deaf(&ann);
        test_deaf(&bob);
        test_deaf(&cid);
    }
    test_fall_behind(&bob, early);
    test_say_update(&ann, test_insert(1, 650, "0123456789"));
    test_fall_behind(&cid, early);
    test_deaf(&bob);
    test_deaf(&cid);

    test_ready(&bob);
    test_ready(&cid);

    HEARS(&bob, "update 1:10-660");
    HEARS(&cid, "update 1:0-660");
}

Test(session_sync, forgets_that_a_peer_was_behind_when_it_leaves)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    test_say_update(&ann, test_insert(1, 0, "abc"));
    test_fall_behind(&bob, bob.mark);
    test_leave(&bob); /* the world's end looks for what was left */
}

Test(session_sync, sends_what_it_missed_of_an_encrypted_document_with_its_sidecars_alone)
{
    world.limits.checkpoint_size = 1;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 0, "abc"), TP_SLICE("one"));
    say_sealed(&ann, TP_MESSAGE_UPDATE, test_insert(1, 3, "de"), TP_SLICE("two"));
    test_fall_behind(&bob, bob.mark);
    test_deaf(&bob);

    test_ready(&bob);

    HEARS(&bob, "sealed update 1:3-5 [two]");
    HEARS(&bob, "");
}

Test(session_sync, sends_a_large_document_to_a_ywebsocket_peer_in_pieces)
{
    world.limits.whole_size_max = 100;
    world.limits.piece_size = 60;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    for (uint64_t client = 1; client < 20; client++)
        test_say_update(&ann, test_insert(client, 0, "some text of a client"));
    test_join(&world, &bob, TP_DIALECT_YWEBSOCKET, "bob");
    HEARS(&bob, "step1 19:21 18:21 17:21 16:21 15:21 14:21 13:21 12:21 11:21 10:21 9:21 8:21 7:21 "
                "6:21 5:21 4:21 3:21 2:21 1:21");

    test_say_step1(&bob, (struct tp_slice){0});

    uint32_t turns = 0;
    while (bob.wants_ready && turns++ < 100)
        test_ready(&bob);
    uint32_t steps = 0, updates = 0;
    for (const char *line; *(line = test_hears(&bob)) != 0;) {
        cr_assert_eq(steps, 0, "nothing follows the step 2: %s", line);
        steps += strncmp(line, "step2", 5) == 0;
        updates += strncmp(line, "update", 6) == 0;
    }
    cr_assert_eq(steps, 1);
    cr_assert_eq(updates, turns + 1, "one piece whenever the last has gone");
    cr_assert_geq(updates, 5);
}

/* A document of some pieces, and nobody but ann who has it. */
static void write_pieces(void)
{
    world.limits.whole_size_max = 100;
    world.limits.piece_size = 60;
    test_join(&world, &ann, TP_DIALECT_YWEBSOCKET, "ann");
    for (uint64_t client = 1; client < 20; client++)
        test_say_update(&ann, test_insert(client, 0, "some text of a client"));
}

static void ask_for_all(struct test_client *client, const char *name)
{
    test_join(&world, client, TP_DIALECT_YWEBSOCKET, name);
    test_deaf(client);
    test_say_step1(client, (struct tp_slice){0});
}

static void read_on(struct test_client *client)
{
    for (uint32_t turns = 0; client->wants_ready; turns++) {
        cr_assert_lt(turns, 100);
        test_ready(client);
    }
}

/* Marks the clients up to 19 whose text came, asserts that none came twice and that the last line
 * is `last`; tells how many came. */
static uint32_t texts_heard(struct test_client *client, const char *last)
{
    bool heard[20] = {false};
    uint32_t count = 0;
    const char *line, *end = "";

    while (*(line = test_hears(client)) != 0) {
        for (const char *at = strchr(line, ' '); at != NULL; at = strchr(at + 1, ' ')) {
            unsigned author, from;
            if (sscanf(at, " %u:%u", &author, &from) != 2 || author >= 20 || from > 0)
                continue;
            cr_assert(!heard[author], "%u twice", author);
            heard[author] = true;
            count++;
        }
        end = line;
    }
    cr_assert_str_eq(end, last);
    return count;
}

Test(session_sync, cuts_a_large_document_once_for_all_who_open_it)
{
    write_pieces();
    world.hold_work = true;
    ask_for_all(&bob, "bob");
    ask_for_all(&cid, "cid");
    world.hold_work = false;
    test_work_go(&world);
    read_on(&bob);
    const uint32_t piece_count = world.work_counts[TP_WORK_PIECE];

    read_on(&cid);
    ask_for_all(&dan, "dan");
    read_on(&dan);

    cr_assert_geq(piece_count, 2);
    cr_assert_eq(world.work_counts[TP_WORK_PIECE], piece_count, "none is made again");
    cr_assert_eq(texts_heard(&bob, "step2 -"), 19);
    cr_assert_eq(texts_heard(&cid, "step2 -"), 19);
    cr_assert_eq(texts_heard(&dan, "step2 -"), 19);
}

Test(session_sync, sends_what_was_added_behind_pieces_that_are_older)
{
    write_pieces();
    ask_for_all(&bob, "bob");
    read_on(&bob);
    const uint32_t piece_count = world.work_counts[TP_WORK_PIECE];
    test_say_update(&ann, test_insert(1, 21, "more"));
    test_say_update(&ann, test_delete(2, 0, 1));

    ask_for_all(&cid, "cid");
    read_on(&cid);

    cr_assert_eq(world.work_counts[TP_WORK_PIECE], piece_count + 1, "one for what was added");
    uint32_t added = 0;
    for (uint32_t i = 0; i < cid.line_count; i++)
        added += strcmp(cid.lines[i], "update 1:21-25 d1") == 0;
    cr_assert_eq(added, 1);
    cr_assert_eq(texts_heard(&cid, "step2 -"), 19);
}

Test(session_sync, begins_anew_when_much_was_added_since_the_pieces_were_made)
{
    write_pieces();
    ask_for_all(&bob, "bob");
    read_on(&bob);
    const uint32_t piece_count = world.work_counts[TP_WORK_PIECE];
    for (uint64_t i = 0; i < 20; i++)
        test_say_update(&ann, test_insert(21, i, "y"));

    ask_for_all(&cid, "cid");
    read_on(&cid);

    cr_assert_geq(world.work_counts[TP_WORK_PIECE], piece_count + 2);
    cr_assert_eq(texts_heard(&cid, "step2 -"), 19);
}

Test(session_sync, sends_a_reader_of_pieces_what_it_has_lost_behind_them)
{
    write_pieces();
    ask_for_all(&bob, "bob");
    test_say_update(&ann, test_insert(1, 21, "more"));
    test_deaf(&bob);
    bob.peer.behind = true;

    read_on(&bob);

    uint32_t added = 0;
    for (uint32_t i = 0; i < bob.line_count; i++)
        added += strcmp(bob.lines[i], "update 1:21-25") == 0;
    cr_assert_eq(added, 1);
    cr_assert_lt(texts_heard(&bob, "step2 -"), 19, "the first piece is not sent again");
}

Test(session_sync, lets_no_slow_reader_keep_pieces_past_their_limit)
{
    write_pieces();
    world.limits.passage_size_max = 800;
    ask_for_all(&bob, "bob"); /* takes the first piece, and no more */
    const size_t before = tp_session_memory(world.session);

    ask_for_all(&cid, "cid");
    read_on(&cid);
    cr_assert_leq(tp_session_memory(world.session), before + 800);
    const uint32_t piece_count = world.work_counts[TP_WORK_PIECE];
    read_on(&bob);

    cr_assert_gt(world.work_counts[TP_WORK_PIECE], piece_count, "it came to the limit");
    cr_assert_eq(texts_heard(&cid, "step2 -"), 19, "the slow one held nobody up");
    cr_assert_eq(texts_heard(&bob, "step2 -"), 19, "and has all in the end");
}

Test(session_sync, forgets_pieces_at_rest_and_readers_that_leave)
{
    write_pieces();
    const size_t before = tp_session_memory(world.session);
    world.hold_work = true;
    ask_for_all(&bob, "bob");
    test_leave(&bob); /* while its piece is made */
    world.hold_work = false;
    test_work_go(&world);
    ask_for_all(&cid, "cid");
    read_on(&cid);
    cr_assert_gt(tp_session_memory(world.session), before + 500);
    test_leave(&cid);

    for (uint64_t i = 0; i < 12; i++) { /* also when somebody writes all the while */
        test_say_update(&ann, test_insert(20, i, "z"));
        test_pass(&world, TEST_SECOND / 2);
    }

    test_pass(&world, 10 * TEST_SECOND);
    cr_assert_leq(tp_session_memory(world.session), before + 200);
}
