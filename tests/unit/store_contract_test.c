/* What store/store.h promises, of every backend in the registry. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_world.h"
#include "wire/record.h"

#define NOTHING ((struct tp_slice){0})

static void with_every_backend(void (*sentence)(struct world *world))
{
    for (size_t nth = 0; tp_store_backends[nth] != NULL; nth++) {
        struct world world;
        world_open(&world, tp_store_backends[nth], TP_DURABILITY_DISK);
        sentence(&world);
        world_close(&world);
    }
}

#define SENTENCE(name)                     \
    static void name(struct world *world); \
    Test(store_contract, name)             \
    {                                      \
        with_every_backend(name);          \
    }                                      \
    static void name(struct world *world)

static bool row_is(const struct tp_store_op *op, size_t nth, struct tp_slice key,
                   struct tp_slice value)
{
    return nth < op->row_count && tp_slice_equal(op->rows[nth].key, key) &&
           tp_slice_equal(op->rows[nth].value, value);
}

/* The values of all rows, end to end. */
static struct tp_buffer joined(const struct tp_store_op *op)
{
    struct tp_buffer all = tp_buffer_growing(64 << 20);

    for (size_t nth = 0; nth < op->row_count; nth++)
        tp_buffer_append(&all, op->rows[nth].value.data, op->rows[nth].value.size);
    return all;
}

static void assert_log_is(struct world *world, uint64_t number, struct tp_slice expected)
{
    uint8_t range[32];
    struct tp_store_op read = log_op(range, number);

    world_do(world, &read, 1);
    cr_assert_eq(read.status, TP_OK);
    struct tp_buffer all = joined(&read);
    cr_assert(tp_slice_equal(tp_buffer_slice(&all), expected), "%s: \"%.*s\"", world->backend->name,
              (int)all.size, (const char *)all.data);
    tp_buffer_finish(&all);
    tp_store_op_finish(&read);
}

static void assert_value_is(struct world *world, enum tp_store_table table, struct tp_slice key,
                            struct tp_slice expected)
{
    struct tp_store_op read = get_op(table, key);

    world_do(world, &read, 1);
    cr_assert_eq(read.status, TP_OK);
    cr_assert_eq(read.row_count, expected.data != NULL, "%s: %.*s", world->backend->name,
                 (int)key.size, (const char *)key.data);
    if (expected.data != NULL)
        cr_assert(row_is(&read, 0, key, expected));
    tp_store_op_finish(&read);
}

Test(store_contract, is_found_by_name_alone)
{
    cr_assert_str_eq(tp_store_backend_find("memory")->name, "memory");
    cr_assert_str_eq(tp_store_backend_find("rocksdb")->name, "rocksdb");
    cr_assert_null(tp_store_backend_find("paper"));
}

SENTENCE(answers_a_read_of_an_absent_key_with_no_rows)
{
    struct tp_store_op read = get_op(TP_TABLE_NAMES, TP_SLICE("nobody"));

    world_do(world, &read, 1);

    cr_assert_eq(read.status, TP_OK);
    cr_assert_eq(read.row_count, 0);
    tp_store_op_finish(&read);
}

SENTENCE(reads_what_was_put_in_that_table_and_in_no_other)
{
    struct tp_store_op put = put_op(TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("value"));
    world_do(world, &put, 1);

    cr_assert_eq(put.status, TP_OK);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("value"));
    assert_value_is(world, TP_TABLE_FILES, TP_SLICE("k"), NOTHING);
}

SENTENCE(keeps_an_empty_value_apart_from_no_value)
{
    struct tp_store_op put = put_op(TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE(""));
    world_do(world, &put, 1);

    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE(""));
}

SENTENCE(scans_from_the_first_key_to_before_the_last_in_order)
{
    struct tp_store_op puts[] = {
        put_op(TP_TABLE_FILES, TP_SLICE("d"), TP_SLICE("4")),
        put_op(TP_TABLE_FILES, TP_SLICE("b"), TP_SLICE("2")),
        put_op(TP_TABLE_FILES, TP_SLICE("a"), TP_SLICE("1")),
        put_op(TP_TABLE_FILES, TP_SLICE("ba"), TP_SLICE("3")),
    };
    world_do(world, puts, 4);

    struct tp_store_op scan = scan_op(TP_TABLE_FILES, TP_SLICE("b"), TP_SLICE("d"));
    world_do(world, &scan, 1);
    cr_assert_eq(scan.row_count, 2);
    cr_assert(row_is(&scan, 0, TP_SLICE("b"), TP_SLICE("2")));
    cr_assert(row_is(&scan, 1, TP_SLICE("ba"), TP_SLICE("3")));
    tp_store_op_finish(&scan);

    scan = scan_op(TP_TABLE_FILES, TP_SLICE("a"), TP_SLICE("z"));
    scan.ranges[0].row_count_max = 3;
    scan.ranges[0].without_values = true;
    world_do(world, &scan, 1);
    cr_assert_eq(scan.row_count, 3);
    cr_assert(tp_slice_equal(scan.rows[2].key, TP_SLICE("ba")));
    cr_assert_null(scan.rows[2].value.data);
    cr_assert_eq(scan.rows[2].value.size, 1, "the size is told without the bytes");
    tp_store_op_finish(&scan);
}

SENTENCE(answers_several_ranges_in_their_order)
{
    uint8_t key[16], range[32];
    struct tp_store_op ops[] = {
        put_op(TP_TABLE_BASES, TP_SLICE("\0\0\0\0\0\0\0\x7"), TP_SLICE("base")),
        append_op(key, 7, 1, TP_SLICE("entry")),
    };
    world_do(world, ops, 2);

    struct tp_store_op read = log_op(range, 7);
    read.ranges[1] = read.ranges[0];
    read.ranges[0] =
        (struct tp_store_range){.table = TP_TABLE_BASES, .from = TP_SLICE("\0\0\0\0\0\0\0\x7")};
    read.range_count = 2;
    world_do(world, &read, 1);

    cr_assert_eq(read.row_count, 2);
    cr_assert_eq(read.rows[0].table, TP_TABLE_BASES);
    cr_assert(tp_slice_equal(read.rows[0].value, TP_SLICE("base")));
    cr_assert_eq(read.rows[1].table, TP_TABLE_LOG);
    cr_assert(row_is(&read, 1, tp_slice_of(key, 16), TP_SLICE("entry")));
    tp_store_op_finish(&read);
}

SENTENCE(gathers_an_entry_from_its_two_pieces)
{
    uint8_t key[16];
    struct tp_store_op append = append_op(key, 1, 1, TP_SLICE("head"));
    append.value[1] = TP_SLICE("update");

    world_do(world, &append, 1);

    cr_assert_eq(append.status, TP_OK);
    assert_log_is(world, 1, TP_SLICE("headupdate"));
}

SENTENCE(joins_entries_of_one_document_that_come_together)
{
    uint8_t keys[4][16], range[32];
    struct tp_store_op appends[] = {
        append_op(keys[0], 1, 10, TP_SLICE("a")),
        append_op(keys[1], 2, 1, TP_SLICE("x")),
        append_op(keys[2], 1, 11, TP_SLICE("b")),
        append_op(keys[3], 1, 12, TP_SLICE("c")),
    };
    world_do(world, appends, 4);

    struct tp_store_op read = log_op(range, 1);
    world_do(world, &read, 1);
    cr_assert_eq(read.row_count, 1);
    cr_assert(row_is(&read, 0, tp_slice_of(keys[0], 16), TP_SLICE("abc")));
    tp_store_op_finish(&read);
    assert_log_is(world, 2, TP_SLICE("x"));
}

SENTENCE(leaves_alone_the_rows_of_earlier_commits)
{
    uint8_t keys[2][16], range[32];
    struct tp_store_op first = append_op(keys[0], 1, 1, TP_SLICE("a"));
    struct tp_store_op second = append_op(keys[1], 1, 2, TP_SLICE("b"));
    world_do(world, &first, 1);
    world_do(world, &second, 1);

    struct tp_store_op read = log_op(range, 1);
    world_do(world, &read, 1);
    cr_assert_eq(read.row_count, 2);
    cr_assert(row_is(&read, 0, tp_slice_of(keys[0], 16), TP_SLICE("a")));
    cr_assert(row_is(&read, 1, tp_slice_of(keys[1], 16), TP_SLICE("b")));
    tp_store_op_finish(&read);
}

SENTENCE(keeps_the_order_of_thousands_of_entries)
{
    enum { COUNT = 3000 };
    struct tp_store_op *ops = calloc(COUNT, sizeof *ops);
    uint8_t(*keys)[16] = calloc(COUNT, sizeof *keys);
    uint32_t *numbers = calloc(COUNT, sizeof *numbers);
    for (uint32_t nth = 0; nth < COUNT; nth++) {
        numbers[nth] = nth;
        ops[nth] =
            append_op(keys[nth], 1 + nth % 3, nth, tp_slice_of(&numbers[nth], sizeof numbers[nth]));
    }

    for (uint32_t nth = 0; nth < COUNT; nth += 100) /* many letters under way at once */
        world_submit(world, ops + nth, 100);
    world_wait(world, COUNT);

    for (uint32_t document = 0; document < 3; document++) {
        uint8_t range[32];
        struct tp_store_op read = log_op(range, 1 + document);
        world_do(world, &read, 1);
        struct tp_buffer all = joined(&read);
        cr_assert_eq(all.size, COUNT / 3 * sizeof *numbers);
        for (uint32_t nth = 0; nth < COUNT / 3; nth++) {
            uint32_t value;
            memcpy(&value, all.data + nth * sizeof value, sizeof value);
            cr_assert_eq(value, nth * 3 + document);
        }
        tp_buffer_finish(&all);
        tp_store_op_finish(&read);
    }
    free(ops);
    free(keys);
    free(numbers);
}

SENTENCE(does_all_of_a_write_or_nothing)
{
    struct tp_store_op put = put_op(TP_TABLE_KEYS, TP_SLICE("taken"), TP_SLICE("1"));
    world_do(world, &put, 1);

    struct tp_store_op write = put_op(TP_TABLE_KEYS, TP_SLICE("other"), TP_SLICE("2"));
    add_part(&write, TP_PART_DELETE, TP_TABLE_KEYS, TP_SLICE("taken"), NOTHING);
    add_part(&write, TP_PART_EXPECT_ABSENT, TP_TABLE_KEYS, TP_SLICE("taken"), NOTHING);
    world_do(world, &write, 1);

    cr_assert_eq(write.status, TP_DENIED);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("other"), NOTHING);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("taken"), TP_SLICE("1"));
}

SENTENCE(expects_a_value_by_what_it_starts_with)
{
    const struct {
        struct tp_slice expected;
        enum tp_status status;
    } cases[] = {
        {TP_SLICE("version 1"), TP_OK},
        {TP_SLICE("version 1, all"), TP_OK},
        {TP_SLICE("version 2"), TP_DENIED},
        {TP_SLICE("version 1, all of it"), TP_DENIED},
        {TP_SLICE(""), TP_OK},
    };

    for (size_t nth = 0; nth < sizeof cases / sizeof *cases; nth++) {
        struct tp_store_op put = put_op(TP_TABLE_BASES, TP_SLICE("b"), TP_SLICE("version 1, all"));
        world_do(world, &put, 1);
        struct tp_store_op write = put_op(TP_TABLE_BASES, TP_SLICE("b"), TP_SLICE("new"));
        add_part(&write, TP_PART_EXPECT_VALUE, TP_TABLE_BASES, TP_SLICE("b"), cases[nth].expected);
        world_do(world, &write, 1);
        cr_assert_eq(write.status, cases[nth].status, "%s, case %zu", world->backend->name, nth);
    }
    struct tp_store_op absent = put_op(TP_TABLE_BASES, TP_SLICE("c"), TP_SLICE("new"));
    add_part(&absent, TP_PART_EXPECT_VALUE, TP_TABLE_BASES, TP_SLICE("c"), TP_SLICE(""));
    world_do(world, &absent, 1);
    cr_assert_eq(absent.status, TP_DENIED, "an absent row has not even an empty value");
}

SENTENCE(lets_one_of_two_writers_win_though_both_come_at_once)
{
    struct tp_store_op writes[] = {
        put_op(TP_TABLE_NAMES, TP_SLICE("doc"), TP_SLICE("first")),
        put_op(TP_TABLE_NAMES, TP_SLICE("doc"), TP_SLICE("second")),
    };
    add_part(&writes[0], TP_PART_EXPECT_ABSENT, TP_TABLE_NAMES, TP_SLICE("doc"), NOTHING);
    add_part(&writes[1], TP_PART_EXPECT_ABSENT, TP_TABLE_NAMES, TP_SLICE("doc"), NOTHING);

    world_do(world, writes, 2);

    cr_assert_eq(writes[0].status, TP_OK);
    cr_assert_eq(writes[1].status, TP_DENIED);
    assert_value_is(world, TP_TABLE_NAMES, TP_SLICE("doc"), TP_SLICE("first"));
}

SENTENCE(puts_the_parts_of_an_append_with_it_or_refuses_both)
{
    uint8_t keys[2][16];
    struct tp_store_op appends[] = {append_op(keys[0], 5, 1, TP_SLICE("one")),
                                    append_op(keys[1], 5, 2, TP_SLICE("two"))};
    for (size_t nth = 0; nth < 2; nth++) {
        add_part(&appends[nth], TP_PART_EXPECT_ABSENT, TP_TABLE_NAMES, TP_SLICE("doc"), NOTHING);
        add_part(&appends[nth], TP_PART_PUT, TP_TABLE_NAMES, TP_SLICE("doc"), TP_SLICE("5"));
    }

    world_do(world, appends, 2);

    cr_assert_eq(appends[0].status, TP_OK);
    cr_assert_eq(appends[1].status, TP_DENIED);
    assert_value_is(world, TP_TABLE_NAMES, TP_SLICE("doc"), TP_SLICE("5"));
    assert_log_is(world, 5, TP_SLICE("one"));
}

SENTENCE(deletes_the_rows_of_a_range_and_no_others_all_or_nothing)
{
    static const char *const keys[] = {"a", "b", "b0", "bz", "c", "c0"};
    static const bool stay[] = {true, false, false, false, true, true};
    for (size_t nth = 0; nth < 6; nth++) {
        struct tp_store_op put =
            put_op(TP_TABLE_KEYS, tp_slice_of(keys[nth], strlen(keys[nth])), TP_SLICE("1"));
        world_do(world, &put, 1);
    }
    struct tp_store_op other = put_op(TP_TABLE_FILES, TP_SLICE("b"), TP_SLICE("1"));
    world_do(world, &other, 1);

    struct tp_store_op refused = put_op(TP_TABLE_NAMES, TP_SLICE("n"), TP_SLICE("1"));
    add_part(&refused, TP_PART_DELETE_RANGE, TP_TABLE_KEYS, TP_SLICE("b"), TP_SLICE("c"));
    add_part(&refused, TP_PART_EXPECT_ABSENT, TP_TABLE_KEYS, TP_SLICE("a"), NOTHING);
    world_do(world, &refused, 1);
    cr_assert_eq(refused.status, TP_DENIED);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("b"), TP_SLICE("1"));

    /* What the same commit puts into the range before it goes, what it puts behind it stays. */
    struct tp_store_op writes[] = {
        put_op(TP_TABLE_KEYS, TP_SLICE("b1"), TP_SLICE("1")),
        put_op(TP_TABLE_NAMES, TP_SLICE("n"), TP_SLICE("1")),
        put_op(TP_TABLE_KEYS, TP_SLICE("b2"), TP_SLICE("1")),
    };
    add_part(&writes[1], TP_PART_DELETE_RANGE, TP_TABLE_KEYS, TP_SLICE("b"), TP_SLICE("c"));
    world_do(world, writes, 3);

    for (size_t nth = 0; nth < 6; nth++)
        assert_value_is(world, TP_TABLE_KEYS, tp_slice_of(keys[nth], strlen(keys[nth])),
                        stay[nth] ? TP_SLICE("1") : NOTHING);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("b1"), NOTHING);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("b2"), TP_SLICE("1"));
    assert_value_is(world, TP_TABLE_FILES, TP_SLICE("b"), TP_SLICE("1"));
    assert_value_is(world, TP_TABLE_NAMES, TP_SLICE("n"), TP_SLICE("1"));
}

SENTENCE(deletes_a_range_of_the_log_with_what_was_joined_in_it)
{
    uint8_t keys[4][16], from[16] = {0}, to[16] = {0};
    struct tp_store_op ops[] = {append_op(keys[0], 5, 1, TP_SLICE("a")),
                                append_op(keys[1], 6, 1, TP_SLICE("b")),
                                {.verb = TP_STORE_WRITE},
                                append_op(keys[2], 6, 2, TP_SLICE("c")),
                                append_op(keys[3], 5, 2, TP_SLICE("d"))};
    from[7] = 6;
    to[7] = 7;
    add_part(&ops[2], TP_PART_DELETE_RANGE, TP_TABLE_LOG, tp_slice_of(from, 8), tp_slice_of(to, 8));
    tp_link_init(&ops[2].link);

    world_do(world, ops, 5);

    assert_log_is(world, 6, TP_SLICE("c"));
    assert_log_is(world, 5, TP_SLICE("ad"));
}

SENTENCE(takes_more_parts_than_fit_into_the_operation)
{
    enum { COUNT = 500 };
    struct tp_store_part *parts = calloc(COUNT, sizeof *parts);
    uint8_t(*keys)[16] = calloc(COUNT, sizeof *keys), range[32];
    for (uint32_t nth = 0; nth < COUNT; nth++) {
        struct tp_store_op append = append_op(keys[nth], 3, nth, TP_SLICE("e"));
        world_submit(world, &append, 1);
        world_wait(world, nth + 1);
        parts[nth] = (struct tp_store_part){
            .kind = TP_PART_DELETE, .table = TP_TABLE_LOG, .key = tp_slice_of(keys[nth], 16)};
    }

    struct tp_store_op write = put_op(TP_TABLE_BASES, TP_SLICE("3"), TP_SLICE("all"));
    write.more_parts = parts;
    write.more_part_count = COUNT - 1;
    world_do(world, &write, 1);

    cr_assert_eq(write.status, TP_OK);
    struct tp_store_op read = log_op(range, 3);
    world_do(world, &read, 1);
    cr_assert_eq(read.row_count, 1, "the one that was not deleted");
    tp_store_op_finish(&read);
    free(parts);
    free(keys);
}

SENTENCE(does_not_join_an_entry_to_a_row_that_a_later_write_deletes)
{
    uint8_t keys[3][16];
    struct tp_store_op ops[] = {
        append_op(keys[0], 1, 1, TP_SLICE("old")),
        {.verb = TP_STORE_WRITE},
        append_op(keys[2], 1, 2, TP_SLICE("new")),
    };
    add_part(&ops[1], TP_PART_DELETE, TP_TABLE_LOG, tp_slice_of(keys[0], 16), NOTHING);

    world_do(world, ops, 3);

    assert_log_is(world, 1, TP_SLICE("new"));
}

SENTENCE(takes_values_far_larger_than_a_commit)
{
    const size_t size = 9 << 20;
    uint8_t key[16], *bytes = malloc(size), range[32];
    for (size_t at = 0; at < size; at++)
        bytes[at] = (uint8_t)(at * 31 >> 3);
    struct tp_store_op ops[] = {append_op(key, 1, 1, tp_slice_of(bytes, size)),
                                put_op(TP_TABLE_BASES, TP_SLICE("b"), tp_slice_of(bytes, size))};

    world_do(world, ops, 2);

    struct tp_store_op read = log_op(range, 1);
    world_do(world, &read, 1);
    cr_assert_eq(read.row_count, 1);
    cr_assert(tp_slice_equal(read.rows[0].value, tp_slice_of(bytes, size)));
    tp_store_op_finish(&read);
    assert_value_is(world, TP_TABLE_BASES, TP_SLICE("b"), tp_slice_of(bytes, size));
    free(bytes);
}

SENTENCE(runs_on_another_thread_what_may_block)
{
    uint8_t range[32], key[16];
    struct tp_store_op append = append_op(key, 1, 1, TP_SLICE("entry"));
    world->backend->run(world->store, &append);
    cr_assert_eq(append.status, TP_OK);
    struct tp_store_op read = log_op(range, 1);
    world->backend->run(world->store, &read);

    cr_assert_eq(read.row_count, 1);
    cr_assert(tp_slice_equal(read.rows[0].value, TP_SLICE("entry")));
    tp_store_op_finish(&read);
}

struct counting {
    struct world *world;
    uint32_t won;
};

#define STEP_COUNT 50u

/* Counts up by compare-and-set: reads, expects what it read, tries again when another was faster.
 */
static void *count_up(void *context)
{
    struct counting *counting = context;
    struct world *world = counting->world;

    while (counting->won < STEP_COUNT) {
        struct tp_store_op read = get_op(TP_TABLE_RATES, TP_SLICE("count"));
        uint32_t old, new;
        world->backend->run(world->store, &read);
        memcpy(&old, read.rows[0].value.data, sizeof old);
        tp_store_op_finish(&read);
        new = old + 1;
        struct tp_store_op write =
            put_op(TP_TABLE_RATES, TP_SLICE("count"), tp_slice_of(&new, sizeof new));
        add_part(&write, TP_PART_EXPECT_VALUE, TP_TABLE_RATES, TP_SLICE("count"),
                 tp_slice_of(&old, sizeof old));
        world->backend->run(world->store, &write);
        counting->won += write.status == TP_OK;
    }
    return NULL;
}

SENTENCE(loses_no_step_between_threads_that_compare_and_set)
{
    enum { THREAD_COUNT = 3 };
    struct counting countings[THREAD_COUNT];
    pthread_t threads[THREAD_COUNT];
    uint32_t count = 0;
    uint8_t keys[200][16];
    struct tp_store_op start = put_op(TP_TABLE_RATES, TP_SLICE("count"), tp_slice_of(&count, 4));
    world_do(world, &start, 1);

    for (size_t nth = 0; nth < THREAD_COUNT; nth++) {
        countings[nth] = (struct counting){.world = world};
        pthread_create(&threads[nth], NULL, count_up, &countings[nth]);
    }
    for (uint32_t nth = 0; nth < 200; nth++) { /* the shards go on meanwhile */
        struct tp_store_op append = append_op(keys[nth], 9, nth, TP_SLICE("."));
        world_do(world, &append, 1);
        cr_assert_eq(append.status, TP_OK);
    }
    for (size_t nth = 0; nth < THREAD_COUNT; nth++)
        pthread_join(threads[nth], NULL);

    count = THREAD_COUNT * STEP_COUNT;
    assert_value_is(world, TP_TABLE_RATES, TP_SLICE("count"), tp_slice_of(&count, 4));
}

SENTENCE(reads_all_ranges_as_of_one_moment)
{
    /* A writer moves one mark between two tables; a reader always sees exactly one. */
    struct tp_store_op put = put_op(TP_TABLE_FILES, TP_SLICE("mark"), TP_SLICE("m"));
    world_do(world, &put, 1);

    for (uint32_t nth = 0; nth < 200; nth++) {
        const bool forth = nth % 2 == 0;
        struct tp_store_op ops[] = {
            put_op(forth ? TP_TABLE_UPLOADS : TP_TABLE_FILES, TP_SLICE("mark"), TP_SLICE("m")),
            get_op(TP_TABLE_FILES, TP_SLICE("mark")),
        };
        add_part(&ops[0], TP_PART_DELETE, forth ? TP_TABLE_FILES : TP_TABLE_UPLOADS,
                 TP_SLICE("mark"), NOTHING);
        ops[1].ranges[1] =
            (struct tp_store_range){.table = TP_TABLE_UPLOADS, .from = TP_SLICE("mark")};
        ops[1].range_count = 2;
        world_do(world, ops, 2);
        cr_assert_eq(ops[1].row_count, 1, "%s, round %u", world->backend->name, nth);
        tp_store_op_finish(&ops[1]);
    }
}

SENTENCE(handles_a_hundred_thousand_rows)
{
    enum { COUNT = 100000, STEP = 1000 };
    struct tp_store_op *ops = calloc(STEP, sizeof *ops);
    uint8_t(*keys)[16] = calloc(STEP, sizeof *keys);
    for (uint32_t nth = 0; nth < COUNT; nth += STEP) {
        for (uint32_t i = 0; i < STEP; i++) {
            /* number by number in an order that looks random: 7919 is prime to the count */
            const uint64_t number = (uint64_t)(nth + i) * 7919 % COUNT;
            ops[i] = append_op(keys[i], number + 1, 1, TP_SLICE("entry"));
        }
        world_do(world, ops, STEP);
    }

    uint8_t from[16], to[16];
    tp_record_log_key(0, 0, from);
    tp_record_log_key(COUNT + 1, 0, to);
    struct tp_store_op read = scan_op(TP_TABLE_LOG, tp_slice_of(from, 16), tp_slice_of(to, 16));
    world_do(world, &read, 1);
    cr_assert_eq(read.row_count, COUNT);
    for (uint32_t nth = 0; nth < COUNT; nth++) {
        uint64_t number, sequence;
        cr_assert_eq(tp_record_log_key_decode(read.rows[nth].key, &number, &sequence), TP_OK);
        cr_assert_eq(number, nth + 1);
    }
    tp_store_op_finish(&read);
    free(ops);
    free(keys);
}

SENTENCE(refuses_writes_while_it_is_held_and_reads_on)
{
    struct tp_store_op before = put_op(TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("before")),
                       during = put_op(TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("during")),
                       after = put_op(TP_TABLE_KEYS, TP_SLICE("l"), TP_SLICE("after"));
    struct tp_store_health health;
    world_do(world, &before, 1);

    world->backend->hold(world->store, true);
    world_do(world, &during, 1);

    cr_assert_eq(during.status, TP_FULL);
    world->backend->health(world->store, &health);
    cr_assert_eq(health.state, TP_STORE_RESERVED);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("before"));

    world->backend->hold(world->store, false);
    world_do(world, &after, 1);
    cr_assert_eq(after.status, TP_OK);
    world->backend->health(world->store, &health);
    cr_assert_eq(health.state, TP_STORE_OK);
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("before"));
    assert_value_is(world, TP_TABLE_KEYS, TP_SLICE("l"), TP_SLICE("after"));
}

SENTENCE(counts_what_it_does)
{
    uint8_t keys[2][16];
    struct tp_store_op ops[] = {append_op(keys[0], 1, 1, TP_SLICE("ab")),
                                put_op(TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("v")),
                                get_op(TP_TABLE_KEYS, TP_SLICE("k"))};
    struct tp_store_counts counts;
    world_do(world, ops, 3);

    world->backend->counts(world->store, &counts);
    cr_assert_eq(counts.appends, 1);
    cr_assert_eq(counts.writes, 1);
    cr_assert_eq(counts.reads, 1);
    cr_assert_eq(counts.bytes_written, 16 + 2 + 1 + 1);
    cr_assert_eq(counts.failures, 0);
    cr_assert_eq(counts.queued, 0);
    struct tp_store_health health;
    world->backend->health(world->store, &health);
    cr_assert_eq(health.state, TP_STORE_OK);
    tp_store_op_finish(&ops[2]);
}

/* ---- backends that keep a directory -----------------------------------------------------------
 */

static const struct tp_store_backend *embedded(void)
{
    return tp_store_backend_find("rocksdb");
}

Test(store_contract, finds_everything_again_when_opened_again)
{
    const enum tp_durability levels[] = {TP_DURABILITY_MEMORY, TP_DURABILITY_OS,
                                         TP_DURABILITY_DISK};

    for (size_t nth = 0; nth < 3; nth++) {
        struct world world;
        uint8_t key[16];
        char error[256] = "";
        world_open(&world, embedded(), levels[nth]);
        struct tp_store_op ops[] = {append_op(key, 1, 1, TP_SLICE("entry")),
                                    put_op(TP_TABLE_NAMES, TP_SLICE("n"), TP_SLICE("1"))};
        world_do(&world, ops, 2);

        world_close_store(&world);
        cr_assert(world_open_store(&world, error, sizeof error), "%s", error);

        assert_log_is(&world, 1, TP_SLICE("entry"));
        assert_value_is(&world, TP_TABLE_NAMES, TP_SLICE("n"), TP_SLICE("1"));
        world_close(&world);
    }
}

/* The child opens, writes and dies; no thread of a store is alive when it is forked. */
Test(store_contract, keeps_what_it_answered_though_the_process_is_killed)
{
    struct world world;
    char directory[] = "/dev/shm/tp-store-XXXXXX";
    int status = -1;
    cr_assert_not_null(mkdtemp(directory));

    const pid_t child = fork();
    if (child == 0) {
        uint8_t key[16];
        if (!world_open_at(&world, embedded(), TP_DURABILITY_OS, directory))
            _exit(1);
        struct tp_store_op append = append_op(key, 1, 1, TP_SLICE("entry"));
        world_do(&world, &append, 1);
        _exit(append.status == TP_OK ? 0 : 1); /* nothing is closed */
    }
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);

    cr_assert(world_open_at(&world, embedded(), TP_DURABILITY_OS, directory));
    assert_log_is(&world, 1, TP_SLICE("entry"));
    world_close(&world);
}

Test(store_contract, says_so_when_another_has_the_directory)
{
    struct world world;
    char error[256] = "";
    world_open(&world, embedded(), TP_DURABILITY_DISK);
    struct tp_store *first = world.store;
    struct tp_store_port *first_port = world.port;

    cr_assert_not(world_open_store(&world, error, sizeof error));

    cr_assert_not_null(strstr(error, "is in use by another process"), "%s", error);
    world.store = first;
    world.port = first_port;
    world_close(&world);
}

Test(store_contract, makes_the_directory_and_those_above_it)
{
    struct world world;
    char error[256] = "";
    world_open(&world, embedded(), TP_DURABILITY_DISK);
    world_close_store(&world);
    char inner[sizeof world.directory + 16];
    snprintf(inner, sizeof inner, "%s/a/b/c", world.directory);
    struct tp_store_config config = {
        .location = inner, .post = world.post, .first_endpoint = 1, .memory_size = 1};

    struct tp_store *store = embedded()->open(&config, error, sizeof error);

    cr_assert_not_null(store, "%s", error);
    embedded()->close(store);
    config.location = "/proc/nowhere/store";
    cr_assert_null(embedded()->open(&config, error, sizeof error));
    cr_assert_not_null(strstr(error, "/proc/nowhere/store cannot be made"), "%s", error);
    cr_assert(world_open_store(&world, error, sizeof error));
    world_close(&world);
}
