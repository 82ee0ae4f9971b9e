/* What store/table.h promises, held against a plain array. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "store/table.h"

Test(table, holds_the_same_rows_as_an_array_would_in_order)
{
    enum { KEY_COUNT = 500, STEP_COUNT = 20000 };
    struct tp_table table = {0};
    int32_t expected[KEY_COUNT]; /* -1: absent */
    uint64_t dice = 7;
    memset(expected, -1, sizeof expected);

    for (int32_t step = 0; step < STEP_COUNT; step++) {
        dice = dice * 6364136223846793005u + 1442695040888963407u;
        const uint32_t index = (uint32_t)(dice >> 33) % KEY_COUNT;
        const uint8_t key[2] = {(uint8_t)(index >> 8), (uint8_t)index};
        const struct tp_slice pieces[2] = {tp_slice_of(&step, 2),
                                           tp_slice_of((const uint8_t *)&step + 2, 2)};
        if ((dice >> 60) < 6) {
            tp_table_delete(&table, tp_slice_of(key, 2));
            expected[index] = -1;
        } else {
            tp_table_put(&table, tp_slice_of(key, 2), pieces, 2);
            expected[index] = step;
        }
    }

    const struct tp_table_row *row = tp_table_seek(&table, TP_SLICE(""));
    size_t count = 0;
    for (uint32_t index = 0; index < KEY_COUNT; index++) {
        const uint8_t key[2] = {(uint8_t)(index >> 8), (uint8_t)index};
        const struct tp_table_row *found = tp_table_find(&table, tp_slice_of(key, 2));
        if (expected[index] == -1) {
            cr_assert_null(found);
            continue;
        }
        cr_assert_eq(found, row);
        cr_assert(tp_slice_equal(tp_table_row_key(row), tp_slice_of(key, 2)));
        cr_assert(tp_slice_equal(tp_table_row_value(row), tp_slice_of(&expected[index], 4)));
        row = tp_table_next(row);
        count++;
    }
    cr_assert_null(row);
    cr_assert_eq(table.row_count, count);
    tp_table_finish(&table);
}

Test(table, orders_a_key_before_those_that_it_begins)
{
    struct tp_table table = {0};
    tp_table_put(&table, TP_SLICE("ab"), NULL, 0);
    tp_table_put(&table, TP_SLICE("a"), NULL, 0);

    const struct tp_table_row *row = tp_table_seek(&table, TP_SLICE("a"));

    cr_assert(tp_slice_equal(tp_table_row_key(row), TP_SLICE("a")));
    row = tp_table_next(row);
    cr_assert(tp_slice_equal(tp_table_row_key(row), TP_SLICE("ab")));
    cr_assert_null(tp_table_seek(&table, TP_SLICE("ac")));
    tp_table_finish(&table);
}
