/* What store/batch.h promises: no thread, no file. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "store/batch.h"
#include "store_world.h"

#define NOTHING ((struct tp_slice){0})

/* A sink that remembers what it was told, and knows one row. */
struct notebook {
    char text[4 * TP_BATCH_OP_COUNT_MAX];
    enum tp_status write_status, get_status;
    struct tp_slice value;
    uint32_t write_count;
};

static enum tp_status note_write(void *context, const struct tp_batch *batch)
{
    struct notebook *notebook = context;

    notebook->write_count++;
    tp_batch_check(batch);
    for (uint32_t nth = 0; nth < batch->row_count; nth++) {
        const struct tp_batch_row *row = &batch->rows[nth];
        struct tp_slice pieces[64];
        const uint32_t count = tp_batch_gather(batch, row, pieces, 64);

        strcat(notebook->text, row->is_delete ? "-" : "+");
        if (row->table != TP_TABLE_LOG)
            strncat(notebook->text, (const char *)row->key.data, row->key.size);
        for (uint32_t i = 0; i < count; i++)
            strncat(notebook->text, (const char *)pieces[i].data, pieces[i].size);
        strcat(notebook->text, " ");
    }
    return notebook->write_status;
}

static enum tp_status note_get(void *context, enum tp_store_table table, struct tp_slice key,
                               struct tp_slice *value)
{
    struct notebook *notebook = context;

    (void)table;
    (void)key;
    strcat(notebook->text, "? ");
    *value = notebook->value;
    return notebook->get_status;
}

static struct tp_batch_sink sink_of(struct notebook *notebook)
{
    return (struct tp_batch_sink){note_write, note_get, notebook};
}

static void take_all(struct notebook *notebook, struct tp_store_op *ops, size_t count)
{
    struct tp_batch *batch = tp_batch_create();
    const struct tp_batch_sink sink = sink_of(notebook);

    for (size_t nth = 0; nth < count; nth++) {
        ops[nth].status = tp_batch_take(batch, &ops[nth], &sink);
        tp_batch_check(batch);
    }
    cr_assert_eq(tp_batch_flush(batch, &sink), notebook->write_status);
    cr_assert_eq(batch->row_count, 0);
    tp_batch_destroy(batch);
}

Test(batch, joins_entries_of_a_document_under_the_first_key)
{
    struct notebook notebook = {0};
    uint8_t keys[5][16];
    struct tp_store_op ops[] = {
        append_op(keys[0], 1, 7, TP_SLICE("a")), append_op(keys[1], 2, 1, TP_SLICE("x")),
        append_op(keys[2], 1, 8, TP_SLICE("b")), append_op(keys[3], 2, 2, TP_SLICE("y")),
        append_op(keys[4], 1, 9, TP_SLICE("c")),
    };
    ops[4].value[1] = TP_SLICE("d");

    take_all(&notebook, ops, 5);

    cr_assert_str_eq(notebook.text, "+abcd +xy ");
    cr_assert_eq(notebook.write_count, 1);
}

Test(batch, writes_other_rows_where_they_stand)
{
    struct notebook notebook = {0};
    uint8_t keys[2][16];
    struct tp_store_op ops[] = {
        append_op(keys[0], 1, 1, TP_SLICE("a")),
        put_op(TP_TABLE_KEYS, TP_SLICE("k"), TP_SLICE("=v")),
        append_op(keys[1], 1, 2, TP_SLICE("b")),
    };
    add_part(&ops[1], TP_PART_DELETE, TP_TABLE_KEYS, TP_SLICE("l"), NOTHING);

    take_all(&notebook, ops, 3);

    cr_assert_str_eq(notebook.text, "+ab +k=v -l ");
}

Test(batch, does_not_join_across_a_change_of_the_log)
{
    struct notebook notebook = {0};
    uint8_t keys[3][16], other[16];
    struct tp_store_op ops[] = {
        append_op(keys[0], 1, 1, TP_SLICE("a")),
        {.verb = TP_STORE_WRITE},
        append_op(keys[1], 1, 2, TP_SLICE("b")),
        append_op(keys[2], 1, 3, TP_SLICE("c")),
    };
    (void)append_op(other, 5, 5, NOTHING);
    add_part(&ops[1], TP_PART_DELETE, TP_TABLE_LOG, tp_slice_of(other, 16), NOTHING);

    take_all(&notebook, ops, 4);

    cr_assert_str_eq(notebook.text, "+a - +bc ");
}

Test(batch, puts_an_append_behind_its_own_parts)
{
    struct notebook notebook = {0};
    uint8_t key[16];
    struct tp_store_op op = append_op(key, 1, 1, TP_SLICE("a"));
    add_part(&op, TP_PART_PUT, TP_TABLE_NAMES, TP_SLICE("n"), TP_SLICE("=1"));

    take_all(&notebook, &op, 1);

    cr_assert_str_eq(notebook.text, "+n=1 +a ");
}

Test(batch, begins_another_row_at_the_limit_of_one)
{
    static uint8_t bytes[TP_BATCH_ROW_SIZE_MAX + 1];
    const struct {
        size_t first, second;
        uint32_t row_count;
    } cases[] = {
        {TP_BATCH_ROW_SIZE_MAX - 1, 1, 1}, {TP_BATCH_ROW_SIZE_MAX, 1, 2},
        {TP_BATCH_ROW_SIZE_MAX, 0, 1},     {TP_BATCH_ROW_SIZE_MAX + 1, 1, 2},
        {1, TP_BATCH_ROW_SIZE_MAX, 2},
    };

    for (size_t nth = 0; nth < sizeof cases / sizeof *cases; nth++) {
        struct tp_batch *batch = tp_batch_create();
        uint8_t keys[3][16];
        struct tp_store_op ops[] = {
            append_op(keys[0], 1, 1, tp_slice_of(bytes, cases[nth].first)),
            append_op(keys[1], 1, 2, tp_slice_of(bytes, cases[nth].second)),
            append_op(keys[2], 1, 3, NOTHING),
        };
        for (size_t i = 0; i < 3; i++)
            tp_batch_add(batch, &ops[i]);
        tp_batch_check(batch);
        cr_assert_eq(batch->row_count, cases[nth].row_count, "case %zu", nth);
        tp_batch_destroy(batch);
    }
}

Test(batch, writes_what_waits_before_it_asks_what_is_stored)
{
    struct notebook notebook = {.get_status = TP_ABSENT};
    struct tp_store_op ops[] = {put_op(TP_TABLE_KEYS, TP_SLICE("a"), NOTHING),
                                put_op(TP_TABLE_KEYS, TP_SLICE("b"), NOTHING),
                                put_op(TP_TABLE_KEYS, TP_SLICE("c"), NOTHING)};
    add_part(&ops[1], TP_PART_EXPECT_ABSENT, TP_TABLE_KEYS, TP_SLICE("b"), NOTHING);

    take_all(&notebook, ops, 3);

    cr_assert_str_eq(notebook.text, "+a ? +b +c ");
    cr_assert_eq(ops[1].status, TP_OK);
}

Test(batch, adds_nothing_of_an_operation_whose_expectation_fails)
{
    struct notebook notebook = {.get_status = TP_OK, .value = TP_SLICE("there")};
    struct tp_store_op ops[] = {put_op(TP_TABLE_KEYS, TP_SLICE("a"), NOTHING),
                                put_op(TP_TABLE_KEYS, TP_SLICE("b"), NOTHING)};
    add_part(&ops[0], TP_PART_EXPECT_ABSENT, TP_TABLE_KEYS, TP_SLICE("a"), NOTHING);

    take_all(&notebook, ops, 2);

    cr_assert_str_eq(notebook.text, "? +b ");
    cr_assert_eq(ops[0].status, TP_DENIED);
    cr_assert_eq(ops[1].status, TP_OK);
}

Test(batch, passes_on_that_the_store_cannot_be_read_or_written)
{
    struct notebook notebook = {.get_status = TP_IO};
    struct tp_store_op op = put_op(TP_TABLE_KEYS, TP_SLICE("a"), NOTHING);
    add_part(&op, TP_PART_EXPECT_ABSENT, TP_TABLE_KEYS, TP_SLICE("a"), NOTHING);

    take_all(&notebook, &op, 1);
    cr_assert_eq(op.status, TP_IO);

    struct tp_batch *batch = tp_batch_create();
    const struct tp_batch_sink sink = sink_of(&notebook);
    notebook.write_status = TP_FULL;
    op.part_count = 1;
    cr_assert_eq(tp_batch_take(batch, &op, &sink), TP_OK);
    cr_assert_eq(tp_batch_flush(batch, &sink), TP_FULL);
    cr_assert_eq(batch->row_count, 0, "what failed does not wait for the next commit");
    tp_batch_destroy(batch);
}

Test(batch, is_written_when_it_is_full)
{
    struct notebook notebook = {0};
    struct tp_batch *batch = tp_batch_create();
    const struct tp_batch_sink sink = sink_of(&notebook);
    uint8_t(*keys)[16] = calloc(TP_BATCH_OP_COUNT_MAX + 1, sizeof *keys);

    for (uint32_t nth = 0; nth <= TP_BATCH_OP_COUNT_MAX; nth++) {
        cr_assert_eq(notebook.write_count, 0);
        struct tp_store_op op = append_op(keys[nth], nth + 1, 1, NOTHING);
        cr_assert_eq(tp_batch_take(batch, &op, &sink), TP_OK);
        if (nth == TP_BATCH_OP_COUNT_MAX)
            break;
        cr_assert_eq(tp_batch_is_full(batch), nth + 1 == TP_BATCH_OP_COUNT_MAX);
    }

    cr_assert_eq(notebook.write_count, 1);
    cr_assert_eq(batch->row_count, 1);
    free(keys);
    tp_batch_destroy(batch);
}

Test(batch, forgets_what_could_be_joined_with_each_reset)
{
    struct tp_batch *batch = tp_batch_create();
    uint8_t keys[2][16];
    struct tp_store_op first = append_op(keys[0], 1, 1, TP_SLICE("a"));
    struct tp_store_op second = append_op(keys[1], 1, 2, TP_SLICE("b"));

    tp_batch_add(batch, &first);
    tp_batch_reset(batch);
    tp_batch_add(batch, &second);

    cr_assert_eq(batch->row_count, 1);
    cr_assert_eq(batch->rows[0].key.data, keys[1]);
    cr_assert_eq(batch->joined_count, 0);
    tp_batch_destroy(batch);
}
