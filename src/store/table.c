#include "store/table.h"

#include <stdlib.h>

/* Where a row is linked from: the links that lead to the first row not below a key. */
struct path {
    struct tp_table_row **links[TP_TABLE_LEVEL_COUNT];
};

static int compare(struct tp_slice a, struct tp_slice b)
{
    const size_t size = tp_min(a.size, b.size);
    const int order = size == 0 ? 0 : memcmp(a.data, b.data, size);

    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

struct tp_slice tp_table_row_key(const struct tp_table_row *row)
{
    return tp_slice_of(row->next + row->level_count, row->key_size);
}

struct tp_slice tp_table_row_value(const struct tp_table_row *row)
{
    return tp_slice_of(row->value, row->value_size);
}

/* Links of a level lead to rows that are on that level, so the way down never leaves a row's array.
 */
static struct path find_path(struct tp_table *table, struct tp_slice key)
{
    struct tp_table_row **links = table->heads;
    struct path path;

    for (uint32_t level = TP_TABLE_LEVEL_COUNT; level-- > 0;) {
        while (links[level] != NULL && compare(tp_table_row_key(links[level]), key) < 0)
            links = links[level]->next;
        path.links[level] = &links[level];
    }
    return path;
}

static uint32_t draw_level_count(struct tp_table *table)
{
    uint32_t count = 1;

    /* A full-period generator; the upper bits are the good ones. */
    table->dice = table->dice * 6364136223846793005u + 1442695040888963407u;
    for (uint64_t bits = table->dice >> 32; (bits & 3) == 0 && count < TP_TABLE_LEVEL_COUNT;
         bits >>= 2)
        count++;
    return count;
}

static struct tp_table_row *make_row(struct tp_table *table, const struct path *path,
                                     struct tp_slice key)
{
    const uint32_t level_count = draw_level_count(table);
    struct tp_table_row *row =
        malloc(sizeof *row + level_count * sizeof(struct tp_table_row *) + key.size);

    TP_ASSERT(row != NULL);
    *row = (struct tp_table_row){.key_size = (uint32_t)key.size, .level_count = level_count};
    memcpy(row->next + level_count, key.data, key.size);
    TP_ASSERT(level_count > 0);
    for (uint32_t level = 0; level < level_count; level++) {
        row->next[level] = *path->links[level];
        *path->links[level] = row;
    }
    table->row_count++;
    return row;
}

static void free_row(struct tp_table_row *row)
{
    free(row->value);
    free(row);
}

void tp_table_finish(struct tp_table *table)
{
    for (struct tp_table_row *row = table->heads[0], *next; row != NULL; row = next) {
        next = row->next[0];
        free_row(row);
    }
    *table = (struct tp_table){0};
}

void tp_table_put(struct tp_table *table, struct tp_slice key, const struct tp_slice *pieces,
                  size_t piece_count)
{
    const struct path path = find_path(table, key);
    struct tp_table_row *row = *path.links[0];
    size_t size = 0;

    if (row == NULL || compare(tp_table_row_key(row), key) != 0)
        row = make_row(table, &path, key);
    for (size_t nth = 0; nth < piece_count; nth++)
        size += pieces[nth].size;
    free(row->value);
    row->value = malloc(tp_max(size, 1)); /* never NULL, so that an empty value is one */
    TP_ASSERT(row->value != NULL);
    row->value_size = 0;
    for (size_t nth = 0; nth < piece_count; nth++) {
        if (pieces[nth].size > 0)
            memcpy(row->value + row->value_size, pieces[nth].data, pieces[nth].size);
        row->value_size += pieces[nth].size;
    }
}

void tp_table_delete(struct tp_table *table, struct tp_slice key)
{
    const struct path path = find_path(table, key);
    struct tp_table_row *row = *path.links[0];

    if (row == NULL || compare(tp_table_row_key(row), key) != 0)
        return;
    for (uint32_t level = 0; level < row->level_count; level++)
        *path.links[level] = row->next[level];
    free_row(row);
    table->row_count--;
}

const struct tp_table_row *tp_table_seek(const struct tp_table *table, struct tp_slice key)
{
    return *find_path((struct tp_table *)table, key).links[0]; /* looked at, not changed */
}

const struct tp_table_row *tp_table_next(const struct tp_table_row *row)
{
    return row->next[0];
}

const struct tp_table_row *tp_table_find(const struct tp_table *table, struct tp_slice key)
{
    const struct tp_table_row *row = tp_table_seek(table, key);

    return row != NULL && compare(tp_table_row_key(row), key) == 0 ? row : NULL;
}
