#include "store/batch.h"

#include <stdlib.h>

#include "base/hash.h"

#define SEQUENCE_SIZE 8u /* the end of an APPEND's key: what tells entries of one log apart */
#define FIRST_ROOM 256u
#define NONE UINT32_MAX

/* ---- expectations and sizes -------------------------------------------------------------------
 */

static size_t part_count(const struct tp_store_op *op)
{
    return op->part_count + op->more_part_count;
}

static const struct tp_store_part *nth_part(const struct tp_store_op *op, size_t nth)
{
    return nth < op->part_count ? &op->parts[nth] : &op->more_parts[nth - op->part_count];
}

static bool changes(const struct tp_store_part *part)
{
    return part->kind == TP_PART_PUT || part->kind == TP_PART_DELETE ||
           part->kind == TP_PART_DELETE_RANGE;
}

/* What it does depends on what is there. */
static bool looks(const struct tp_store_op *op)
{
    for (size_t nth = 0; nth < part_count(op); nth++)
        if (!changes(nth_part(op, nth)) || nth_part(op, nth)->kind == TP_PART_DELETE_RANGE)
            return true;
    return false;
}

static enum tp_status expected(const struct tp_store_op *op, const struct tp_batch_sink *sink)
{
    for (size_t nth = 0; nth < part_count(op); nth++) {
        const struct tp_store_part *part = nth_part(op, nth);
        struct tp_slice value = {0};

        if (changes(part))
            continue;
        const enum tp_status found = sink->get(sink->context, part->table, part->key, &value);
        if (found != TP_OK && found != TP_ABSENT)
            return found;
        if (part->kind == TP_PART_EXPECT_ABSENT && found == TP_OK)
            return TP_DENIED;
        if (part->kind == TP_PART_EXPECT_VALUE &&
            (found == TP_ABSENT || value.size < part->value.size ||
             !tp_slice_equal(tp_slice_of(value.data, part->value.size), part->value)))
            return TP_DENIED;
    }
    return TP_OK;
}

size_t tp_store_op_size(const struct tp_store_op *op)
{
    size_t size = 0;

    if (op->verb == TP_STORE_READ)
        return 0;
    if (op->verb == TP_STORE_APPEND)
        size = op->key.size + op->value[0].size + op->value[1].size;
    for (size_t nth = 0; nth < part_count(op); nth++)
        size += nth_part(op, nth)->key.size + nth_part(op, nth)->value.size;
    return size;
}

/* ---- rows -------------------------------------------------------------------------------------
 */

static void *grown(void *array, uint32_t *room, uint32_t count, size_t each)
{
    if (count < *room)
        return array;
    *room = *room == 0 ? FIRST_ROOM : *room * 2;
    array = realloc(array, *room * each);
    TP_ASSERT(array != NULL);
    return array;
}

static struct tp_batch_row *add_row(struct tp_batch *batch, enum tp_store_table table,
                                    struct tp_slice key, bool is_delete)
{
    TP_ASSERT(table < TP_TABLE_COUNT);
    TP_ASSERT(key.size > 0 && key.size <= TP_STORE_KEY_SIZE_MAX);
    batch->rows = grown(batch->rows, &batch->row_room, batch->row_count, sizeof *batch->rows);
    batch->rows[batch->row_count] = (struct tp_batch_row){.table = table,
                                                          .key = key,
                                                          .is_delete = is_delete,
                                                          .first_piece = NONE,
                                                          .last_piece = NONE};
    batch->size += key.size;
    return &batch->rows[batch->row_count++];
}

static void set_range(struct tp_batch *batch, struct tp_batch_row *row, struct tp_slice to)
{
    TP_ASSERT(to.size > 0 && to.size <= TP_STORE_KEY_SIZE_MAX);
    row->to = to;
    batch->size += to.size;
}

static void add_piece(struct tp_batch *batch, struct tp_batch_row *row, struct tp_slice bytes)
{
    if (bytes.size == 0)
        return;
    batch->pieces =
        grown(batch->pieces, &batch->piece_room, batch->piece_count, sizeof *batch->pieces);
    batch->pieces[batch->piece_count] = (struct tp_batch_piece){.bytes = bytes, .next = NONE};
    if (row->piece_count == 0)
        row->first_piece = batch->piece_count;
    else
        batch->pieces[row->last_piece].next = batch->piece_count;
    row->last_piece = batch->piece_count++;
    row->piece_count++;
    row->size += bytes.size;
    batch->size += bytes.size;
}

static struct tp_slice prefix_of(struct tp_slice key)
{
    return tp_slice_of(key.data, key.size - SEQUENCE_SIZE);
}

/* The slot of `key`'s prefix: taken by its last row, or free; NONE when the table is crowded (a
 * round longer than a commit's usual), which only costs the joining. */
static uint32_t find_slot(const struct tp_batch *batch, struct tp_slice key)
{
    const struct tp_slice prefix = prefix_of(key);
    const uint32_t start = (uint32_t)tp_hash64(prefix);

    for (uint32_t step = 0; step < 64; step++) {
        const uint32_t slot = (start + step) & (TP_BATCH_JOIN_COUNT_MAX - 1);
        if (batch->slot_round[slot] != batch->round)
            return slot;
        if (tp_slice_equal(prefix_of(batch->rows[batch->slot_row[slot]].key), prefix))
            return slot;
    }
    return NONE;
}

static void add_entry(struct tp_batch *batch, const struct tp_store_op *op)
{
    const size_t size = op->value[0].size + op->value[1].size;
    struct tp_batch_row *row = NULL;

    TP_ASSERT(op->key.size > SEQUENCE_SIZE);
    const uint32_t slot = find_slot(batch, op->key);
    if (slot != NONE && batch->slot_round[slot] == batch->round) {
        row = &batch->rows[batch->slot_row[slot]];
        if (batch->slot_row[slot] < batch->joinable_from ||
            row->size + size > TP_BATCH_ROW_SIZE_MAX)
            row = NULL;
        else
            batch->joined_count++;
    }
    if (row == NULL) {
        row = add_row(batch, TP_TABLE_LOG, op->key, false);
        if (slot != NONE) {
            batch->slot_round[slot] = batch->round;
            batch->slot_row[slot] = batch->row_count - 1;
        }
    }
    add_piece(batch, row, op->value[0]);
    add_piece(batch, row, op->value[1]);
}

struct tp_batch *tp_batch_create(void)
{
    struct tp_batch *batch = calloc(1, sizeof *batch);

    TP_ASSERT(batch != NULL);
    batch->round = 1;
    return batch;
}

void tp_batch_destroy(struct tp_batch *batch)
{
    if (batch == NULL)
        return;
    free(batch->rows);
    free(batch->pieces);
    free(batch);
}

void tp_batch_reset(struct tp_batch *batch)
{
    batch->row_count = 0;
    batch->piece_count = 0;
    batch->joinable_from = 0;
    batch->op_count = 0;
    batch->size = 0;
    if (++batch->round == 0) { /* after 2^32 commits: slots of the first rounds would look taken */
        memset(batch->slot_round, 0, sizeof batch->slot_round);
        batch->round = 1;
    }
}

void tp_batch_add(struct tp_batch *batch, const struct tp_store_op *op)
{
    bool touches_log = false;

    TP_ASSERT(op->verb == TP_STORE_APPEND || op->verb == TP_STORE_WRITE);
    batch->op_count++;
    for (size_t nth = 0; nth < part_count(op); nth++) {
        const struct tp_store_part *part = nth_part(op, nth);

        if (!changes(part))
            continue;
        struct tp_batch_row *row =
            add_row(batch, part->table, part->key, part->kind != TP_PART_PUT);
        if (part->kind == TP_PART_PUT)
            add_piece(batch, row, part->value);
        else if (part->kind == TP_PART_DELETE_RANGE)
            set_range(batch, row, part->value);
        touches_log |= part->table == TP_TABLE_LOG;
    }
    if (touches_log)
        batch->joinable_from = batch->row_count;
    if (op->verb == TP_STORE_APPEND)
        add_entry(batch, op);
}

enum tp_status tp_batch_flush(struct tp_batch *batch, const struct tp_batch_sink *sink)
{
    enum tp_status status = TP_OK;

    if (batch->row_count > 0)
        status = sink->write(sink->context, batch);
    tp_batch_reset(batch);
    return status;
}

enum tp_status tp_batch_take(struct tp_batch *batch, const struct tp_store_op *op,
                             const struct tp_batch_sink *sink)
{
    const bool conditional = looks(op);
    enum tp_status status = TP_OK;

    if (conditional || tp_batch_is_full(batch))
        status = tp_batch_flush(batch, sink);
    if (status == TP_OK && conditional)
        status = expected(op, sink);
    if (status == TP_OK)
        tp_batch_add(batch, op);
    return status;
}

bool tp_batch_is_full(const struct tp_batch *batch)
{
    return batch->op_count >= TP_BATCH_OP_COUNT_MAX || batch->size >= TP_BATCH_SIZE_MAX;
}

uint32_t tp_batch_gather(const struct tp_batch *batch, const struct tp_batch_row *row,
                         struct tp_slice *out, uint32_t out_max)
{
    uint32_t count = 0;

    TP_ASSERT(row->piece_count <= out_max);
    for (uint32_t piece = row->first_piece; piece != NONE; piece = batch->pieces[piece].next)
        out[count++] = batch->pieces[piece].bytes;
    return count;
}

void tp_batch_check(const struct tp_batch *batch)
{
    size_t size = 0, piece_total = 0;

    TP_ASSERT(batch->joinable_from <= batch->row_count);
    for (uint32_t nth = 0; nth < batch->row_count; nth++) {
        const struct tp_batch_row *row = &batch->rows[nth];
        size_t row_size = 0;
        uint32_t count = 0;

        for (uint32_t piece = row->first_piece; piece != NONE; piece = batch->pieces[piece].next) {
            row_size += batch->pieces[piece].bytes.size;
            count++;
        }
        TP_ASSERT(count == row->piece_count);
        TP_ASSERT(row_size == row->size);
        TP_ASSERT(!row->is_delete || count == 0);
        piece_total += count;
        TP_ASSERT(row->is_delete || row->to.size == 0);
        size += row->key.size + row->to.size + row->size;
    }
    TP_ASSERT(piece_total == batch->piece_count);
    TP_ASSERT(size == batch->size);
}
