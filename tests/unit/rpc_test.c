/* What the desk of remote calls promises, whatever the method (spec 03 section 1). */
#include <criterion/criterion.h>

#include "crdt/update.h"
#include "rpc/call.h"
#include "session_driver.h"
#include "wire/any.h"

#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)

static struct test_world world;
static struct test_client ann;

static void begin(void)
{
    test_world_init(&world);
    test_world_open(&world, "doc");
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(rpc, .init = begin, .fini = finish);

static void call(struct test_client *client, const char *method, uint8_t type,
                 struct tp_slice payload)
{
    struct tp_message message = {.kind = TP_MESSAGE_RPC};

    message.rpc.method = tp_slice_of(method, strlen(method));
    message.rpc.type = type;
    message.rpc.request_id = TP_SLICE("stream");
    message.rpc.payload = payload;
    test_say(client, message);
}

Test(rpc, answers_an_unknown_method_as_the_reference_does)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    call(&ann, "fly", 0, TP_SLICE("\x7e"));

    HEARS(&ann, "rpc 501 Unknown RPC method: fly");
    HEARS(&ann, "ack 1");
}

Test(rpc, acks_what_nobody_waits_for_and_says_no_more)
{
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    call(&ann, "fly", 1, TP_SLICE("\x7e"));
    call(&ann, "fly", 2, TP_SLICE("\x7e"));
    test_say(&ann, (struct tp_message){.kind = TP_MESSAGE_RPC,
                                       .rpc = {.method = TP_SLICE("fly"), .failed = true}});

    HEARS(&ann, "ack 1");
    HEARS(&ann, "ack 2");
    HEARS(&ann, "ack 3");
    HEARS(&ann, "");
}

Test(rpc, refuses_who_may_not_read)
{
    test_join_with(&world, &ann, TP_DIALECT_TELEPORTAL, "ann", TP_MAY_WRITE);

    call(&ann, "fly", 0, TP_SLICE("\x7e"));

    HEARS(&ann, "rpc 403 Permission denied");
    HEARS(&ann, "ack 1");
}

/* ---- arguments ----------------------------------------------------------------------------------
 */

/* {"a": 7, "t": "text", "b": <01 02>, "l": ["x", "y"], "n": null, "u": undefined, "f": true,
 *  "o": {"a": "inner"}, "d": 0.5, "a": 8} */
#define EVERYTHING                    \
    "\x76\x0a\x01"                    \
    "a\x7d\x07\x01"                   \
    "t\x77\x04text\x01"               \
    "b\x74\x02\x01\x02\x01"           \
    "l\x75\x02\x77\x01x\x77\x01y\x01" \
    "n\x7e\x01"                       \
    "u\x7f\x01"                       \
    "f\x78\x01"                       \
    "o\x76\x01\x01"                   \
    "a\x77\x05inner\x01"              \
    "d\x7c\x3f\x00\x00\x00\x01"       \
    "a\x7d\x08"

static struct tp_rpc_args args;

static void read_everything(void)
{
    tp_rpc_args_read(&args, TP_SLICE(EVERYTHING));
    cr_assert_str_empty(args.wrong);
}

Test(rpc_args, finds_each_by_its_name_and_the_last_of_equal_ones)
{
    struct tp_rpc_args inner;
    uint64_t count;

    read_everything();
    cr_assert_eq(tp_rpc_whole(&args, "a", 100), 8);
    cr_assert(tp_slice_equal(tp_rpc_text(&args, "t", 4), TP_SLICE("text")));
    cr_assert(tp_slice_equal(tp_rpc_bytes(&args, "b", 2), TP_SLICE("\x01\x02")));
    cr_assert(tp_rpc_flag(&args, "f"));
    cr_assert_eq(tp_rpc_number(&args, "d"), 0.5);
    struct tp_reader in = tp_rpc_array(&args, "l", 2, &count);
    cr_assert_eq(count, 2);
    cr_assert(tp_slice_equal(tp_rpc_array_text(&args, "l", &in, 9), TP_SLICE("x")));
    cr_assert(tp_slice_equal(tp_rpc_array_text(&args, "l", &in, 9), TP_SLICE("y")));
    tp_rpc_object(&args, "o", &inner);
    cr_assert(tp_slice_equal(tp_rpc_text(&inner, "a", 5), TP_SLICE("inner")));
    cr_assert(tp_rpc_has(&args, "t"));
    cr_assert(!tp_rpc_has(&args, "n"));
    cr_assert(!tp_rpc_has(&args, "u"));
    cr_assert(!tp_rpc_has(&args, "other"));
    cr_assert_str_empty(args.wrong);
}

Test(rpc_args, says_which_is_missing_of_another_type_or_too_long)
{
    uint64_t count;

    read_everything();
    tp_rpc_text(&args, "other", 100);
    cr_assert_str_eq(args.wrong, "Invalid request: other is missing");
    read_everything();
    tp_rpc_text(&args, "u", 100);
    cr_assert_str_eq(args.wrong, "Invalid request: u is missing");
    read_everything();
    tp_rpc_text(&args, "b", 100);
    cr_assert_str_eq(args.wrong, "Invalid request: b must be a text");
    read_everything();
    tp_rpc_bytes(&args, "t", 100);
    cr_assert_str_eq(args.wrong, "Invalid request: t must be bytes");
    read_everything();
    tp_rpc_text(&args, "t", 3);
    cr_assert_str_eq(args.wrong, "Invalid request: t is too long");
    read_everything();
    tp_rpc_number(&args, "t");
    cr_assert_str_eq(args.wrong, "Invalid request: t must be a number");
    read_everything();
    tp_rpc_whole(&args, "d", 100);
    cr_assert_str_eq(args.wrong, "Invalid request: d must be a whole number in its range");
    read_everything();
    tp_rpc_whole(&args, "a", 7);
    cr_assert_str_eq(args.wrong, "Invalid request: a must be a whole number in its range");
    read_everything();
    tp_rpc_flag(&args, "a");
    cr_assert_str_eq(args.wrong, "Invalid request: a must be true or false");
    read_everything();
    tp_rpc_array(&args, "l", 1, &count);
    cr_assert_str_eq(args.wrong, "Invalid request: l has too many entries");
    read_everything();
    struct tp_reader in = tp_rpc_array(&args, "l", 2, &count);
    struct tp_rpc_args inner;
    tp_rpc_array_object(&args, "l", &in, &inner);
    cr_assert_str_eq(args.wrong, "Invalid request: l must hold objects");
}

Test(rpc_args, keeps_to_the_first_complaint)
{
    read_everything();
    tp_rpc_text(&args, "first", 100);
    tp_rpc_text(&args, "second", 100);
    cr_assert_str_eq(args.wrong, "Invalid request: first is missing");
    cr_assert_eq(tp_rpc_whole(&args, "a", 100), 0, "nothing is read any more");
}

Test(rpc_args, wants_an_object_of_a_bounded_number_of_members)
{
    struct tp_buffer many = tp_buffer_growing(1000);

    tp_rpc_args_read(&args, TP_SLICE("\x7e"));
    cr_assert_str_eq(args.wrong, "Invalid request: payload must be an object");
    for (unsigned count = TP_RPC_MEMBER_COUNT_MAX; count < TP_RPC_MEMBER_COUNT_MAX + 2; count++) {
        many.size = 0;
        tp_any_write_object(&many, count);
        for (unsigned i = 0; i < count; i++) {
            tp_write_bytes(&many, TP_SLICE("k"));
            tp_write_u8(&many, TP_ANY_NULL);
        }
        tp_rpc_args_read(&args, tp_buffer_slice(&many));
        cr_assert_str_eq(args.wrong, count == TP_RPC_MEMBER_COUNT_MAX
                                         ? ""
                                         : "Invalid request: payload has too many members");
    }
    tp_buffer_finish(&many);
}

/* ---- calls under way ----------------------------------------------------------------------------
 */

#define LIST "\x76\x00"
#define GET "\x76\x01\x0bmilestoneId\x77\x01x"
/* {snapshot: the V2 update of client 1's "a"} */
static struct tp_slice create_payload(void)
{
    static struct tp_buffer out;
    struct tp_buffer v2 = tp_buffer_growing(1000);

    cr_assert_eq(tp_update_convert(test_insert(1, 0, "a"), TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    out = tp_buffer_growing(1000);
    tp_any_write_object(&out, 1);
    tp_write_bytes(&out, TP_SLICE("snapshot"));
    tp_any_write_bytes(&out, tp_buffer_slice(&v2));
    tp_buffer_finish(&v2);
    return tp_buffer_slice(&out);
}

Test(rpc, answers_calls_that_came_while_the_document_was_read_when_it_is_open)
{
    world.hold_store = true;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    call(&ann, "milestoneList", 0, TP_SLICE(LIST));
    HEARS(&ann, "");

    world.hold_store = false;
    test_store_go(&world);

    HEARS(&ann, "rpc 0 ");
    HEARS(&ann, "ack 1");
}

Test(rpc, forgets_calls_whose_peer_leaves_before_they_begin)
{
    world.hold_store = true;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    call(&ann, "milestoneList", 0, TP_SLICE(LIST));

    test_leave(&ann);

    world.hold_store = false;
    test_store_go(&world);
    cr_assert(!tp_rpc_is_busy(world.rpc));
}

Test(rpc, writes_what_was_begun_although_its_peer_has_left)
{
    const struct tp_slice payload = create_payload();
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    world.hold_store = true;
    call(&ann, "milestoneCreate", 0, payload);

    test_leave(&ann);
    cr_assert_eq(test_row_count(&world, TP_TABLE_MILESTONES), 0);
    world.hold_store = false;
    test_store_go(&world);

    cr_assert_eq(test_row_count(&world, TP_TABLE_MILESTONES), 2);
    free((void *)payload.data);
}

Test(rpc, does_not_hold_up_edits_of_the_same_document)
{
    const struct tp_slice payload = create_payload();
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    test_deaf(&ann);
    world.hold_work = true;
    call(&ann, "milestoneCreate", 0, payload); /* its snapshot is being checked */

    test_say_update(&ann, test_insert(1, 1, "b"));

    HEARS(&ann, "ack 3");
    world.hold_work = false;
    test_work_go(&world);
    HEARS(&ann, "rpc 0 ");
    HEARS(&ann, "ack 2");
    free((void *)payload.data);
}

Test(rpc, refuses_a_call_when_a_peer_has_too_many_under_way)
{
    world.rpc_limits.call_per_peer_max = 2;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    test_deaf(&ann);
    world.hold_store = true;
    call(&ann, "milestoneList", 0, TP_SLICE(LIST));
    call(&ann, "milestoneList", 0, TP_SLICE(LIST));

    call(&ann, "milestoneList", 0, TP_SLICE(LIST));

    HEARS(&ann, "rpc 429 Too many calls at once");
    world.hold_store = false;
    test_store_go(&world);
}

Test(rpc, says_so_when_the_store_fails)
{
    const struct tp_slice payload = create_payload();
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    test_deaf(&ann);
    world.store_status = TP_IO;

    call(&ann, "milestoneCreate", 0, payload);

    HEARS(&ann, "rpc 503 The store cannot be reached");
    HEARS(&ann, "ack 2");
    world.store_status = TP_OK;
    free((void *)payload.data);
}

Test(rpc, checks_the_right_when_the_call_begins)
{
    const struct tp_slice payload = create_payload();
    world.hold_store = true;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    call(&ann, "milestoneCreate", 0, payload);
    ann.peer.rights = TP_MAY_READ;

    world.hold_store = false;
    test_store_go(&world);

    HEARS(&ann, "rpc 403 Permission denied");
    free((void *)payload.data);
}

Test(rpc, a_document_that_cannot_be_loaded_answers_calls_all_the_same)
{
    world.read_status = TP_IO;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");

    call(&ann, "milestoneGet", 0, TP_SLICE(GET));

    HEARS(&ann, "rpc 503 The document cannot be loaded");
    HEARS(&ann, "ack 1");
    world.read_status = TP_OK;
}

static void automatic(uint64_t update_count, uint64_t interval_ms)
{
    world.rpc_env.milestones.update_count = update_count;
    world.rpc_env.milestones.interval_ms = interval_ms;
    world.rpc = tp_rpc_create(&world.rpc_env, world.session);
}

Test(rpc, makes_milestones_by_count_and_by_time_and_none_at_rest)
{
    automatic(3, 60000);
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_step2(&ann, test_insert(2, 0, "first syncs do not count"));
    test_say_update(&ann, test_insert(1, 0, "a"));
    test_say_update(&ann, test_insert(1, 1, "b"));
    cr_assert_eq(test_row_count(&world, TP_TABLE_MILESTONES), 0);
    test_say_update(&ann, test_insert(1, 2, "c"));
    cr_assert_eq(world.counters.milestones_created, 1);

    test_pass(&world, 61 * TEST_SECOND);
    cr_assert_eq(world.counters.milestones_created, 1, "at rest there is none");
    test_say_update(&ann, test_insert(1, 3, "d"));
    cr_assert_eq(world.counters.milestones_created, 2);
    cr_assert_eq(test_row_count(&world, TP_TABLE_MILESTONES), 4);
}

Test(rpc, an_automatic_milestone_that_the_store_refuses_is_not_the_last)
{
    automatic(1, 0);
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    cr_assert_eq(world.counters.milestones_created, 1);
    world.read_status = TP_IO;
    test_say_update(&ann, test_insert(1, 1, "b"));
    cr_assert_eq(world.counters.milestones_created, 1);
    world.read_status = TP_OK;
    test_say_update(&ann, test_insert(1, 2, "c"));
    cr_assert_eq(world.counters.milestones_created, 2);
}

Test(rpc, a_milestone_waits_for_the_first_update_of_a_document_but_not_for_long)
{
    const struct tp_slice payload = create_payload();
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    call(&ann, "milestoneCreate", 0, payload);
    HEARS(&ann, "");

    test_say_update(&ann, test_insert(1, 0, "a"));
    HEARS(&ann, "ack 2");
    HEARS(&ann, "rpc 0 ");
    HEARS(&ann, "ack 1");

    test_world_reopen(&world);
    test_world_finish(&world);
    begin(); /* another document, of which nothing comes */
    const struct tp_slice again = create_payload();
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    call(&ann, "milestoneCreate", 0, again);
    test_pass(&world, 1900 * TEST_MILLISECOND);
    HEARS(&ann, "");
    test_pass(&world, 200 * TEST_MILLISECOND);
    HEARS(&ann, "rpc 409 The document is empty");
    HEARS(&ann, "ack 1");
    free((void *)payload.data);
    free((void *)again.data);
}

Test(rpc, tells_the_others_who_made_an_update_where_the_operator_wants_it)
{
    static struct test_client bob;
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    ann.peer.user_id = TP_SLICE("ann");
    test_say_update(&ann, test_insert(1, 0, "a"));
    HEARS(&ann, "ack 1");
    HEARS(&bob, "raw update 1:0-1");
    HEARS(&bob, "");

    world.limits.attribution_push = true;
    test_say_update(&ann, test_insert(1, 1, "b"));
    test_say_update(&bob, test_insert(2, 0, "of a user that is not known"));
    test_say_step2(&ann, test_insert(1, 2, "c"));

    HEARS(&bob, "raw update 1:1-2");
    HEARS(&bob, "rpc 0 ");
    HEARS(&bob, "ack 1");
    HEARS(&bob, "raw step2 1:2-3");
    HEARS(&bob, "");
    test_leave(&bob);
}
