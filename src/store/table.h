/* store/table.h - ordered rows in memory: a skip list.
 *
 *     level 2  ──────────────► d ─────────►
 *     level 1  ────► b ──────► d ─────────►      each row is on one level more with chance 1/4
 *     level 0  ► a ► b ► c ──► d ► e ► f ─►
 *
 * Keys order as bytes. Everything is copied in. One thread at a time. */
#pragma once

#include "base/base.h"

#define TP_TABLE_LEVEL_COUNT 16u /* 4^16 rows before searching degrades */

struct tp_table_row {
    uint8_t *value;
    size_t value_size;
    uint32_t key_size;
    uint32_t level_count;
    struct tp_table_row *next[]; /* level_count of them, then the key's bytes */
};

struct tp_table {
    struct tp_table_row *heads[TP_TABLE_LEVEL_COUNT];
    size_t row_count;
    uint64_t dice; /* a zeroed table is an empty one */
};

void tp_table_finish(struct tp_table *table);

struct tp_slice tp_table_row_key(const struct tp_table_row *row);
struct tp_slice tp_table_row_value(const struct tp_table_row *row);

/* Sets the row's value to `piece_count` pieces, end to end; makes the row if there is none. */
void tp_table_put(struct tp_table *table, struct tp_slice key, const struct tp_slice *pieces,
                  size_t piece_count);
void tp_table_delete(struct tp_table *table, struct tp_slice key); /* absent: nothing happens */

/* The first row whose key is not below `key`, and the one behind a row; NULL: none. */
const struct tp_table_row *tp_table_seek(const struct tp_table *table, struct tp_slice key);
const struct tp_table_row *tp_table_next(const struct tp_table_row *row);

/* The row of exactly this key; NULL: none. */
const struct tp_table_row *tp_table_find(const struct tp_table *table, struct tp_slice key);
