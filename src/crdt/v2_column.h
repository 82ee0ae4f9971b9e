/* crdt/v2_column.h - the run-length codecs of V2's columns (spec 04 section 2).
 *
 *     column := run*      RleU8: value, length      UintOptRle, IntDiffOptRle: value, length if > 1
 *
 * A reader stands in a run and knows how many of its values are left, so that whoever takes many
 * alike takes them at once. tp_column_load_* enters the next run; tp_column_take_* takes one value
 * and enters a run when it must. Both answer a fixed text when the column is malformed, else NULL.
 *
 * A writer holds its last run back until another value comes, and takes runs as well as values. */
#pragma once

#include "base/buffer.h"
#include "crdt/walk.h"
#include "wire/writer.h"

/* ---- reading ----------------------------------------------------------------------------------*/

struct tp_column {
    const uint8_t *at; /* behind the run */
    const uint8_t *end;
    const uint8_t *start;
    const uint8_t *run_at; /* where the run begins; NULL before the first */
    uint64_t left;         /* values of the run that are not taken */
    uint64_t value;        /* of the run; IntDiffOptRle: the last value taken */
    int64_t diff;          /* IntDiffOptRle: of the run */
    bool overlong;         /* not what a writer makes: an integer in more bytes than it needs, or
                            * two runs that are one */
};

/* Field by field: a struct put together first and then copied makes small updates slow. */
static inline void tp_column_open(struct tp_column *column, const uint8_t *start,
                                  const uint8_t *end)
{
    column->at = column->start = start;
    column->end = end;
    column->run_at = NULL;
    column->left = column->value = 0;
    column->diff = 0;
    column->overlong = false;
}

#define TP_COLUMN_SHORT "a column is shorter than what is read from it"

/* lib0 varInt. NULL: malformed. The magnitude has up to 55 bits, since differences are doubled. */
static inline const uint8_t *tp_varint_take(const uint8_t *at, const uint8_t *end, bool *negative,
                                            uint64_t *magnitude, bool *overlong)
{
    if (unlikely(at == end))
        return NULL;
    uint8_t byte = *at++;
    uint64_t value = byte & 0x3f;
    *negative = byte & 0x40;
    for (unsigned shift = 6; byte >= 0x80; shift += 7) {
        if (unlikely(at == end || shift > 54))
            return NULL;
        byte = *at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (unlikely(byte == 0))
            *overlong = true;
    }
    *magnitude = value;
    return at;
}

/* The length of a run, of which `least` are left out. */
static inline const char *tp_column_load_count(struct tp_column *column, const uint8_t *at,
                                               uint64_t least)
{
    bool minimal = true;
    uint64_t count;

    at = tp_varuint_take(at, column->end, &count, &minimal);
    if (unlikely(at == NULL))
        return "the length of a run is missing";
    column->overlong |= !minimal;
    column->at = at;
    column->left = count + least;
    return NULL;
}

static inline const char *tp_column_load_rle(struct tp_column *column)
{
    const uint8_t *const at = column->at;

    if (unlikely(at == column->end))
        return TP_COLUMN_SHORT;
    column->overlong |= column->run_at != NULL && *at == column->value;
    column->run_at = at;
    column->value = *at;
    if (likely(at + 1 != column->end))
        return tp_column_load_count(column, at + 1, 1);
    column->at = at + 1;
    column->left = UINT64_MAX; /* the last run has no end */
    return NULL;
}

static inline const char *tp_column_load_uint(struct tp_column *column)
{
    bool repeated;
    uint64_t value;
    const uint8_t *const at =
        tp_varint_take(column->at, column->end, &repeated, &value, &column->overlong);

    if (unlikely(at == NULL || value > TP_VARUINT_MAX))
        return TP_COLUMN_SHORT;
    column->overlong |= column->run_at != NULL && value == column->value;
    column->run_at = column->at;
    column->value = value;
    if (repeated)
        return tp_column_load_count(column, at, 2);
    column->at = at;
    column->left = 1;
    return NULL;
}

static inline const char *tp_column_load_diff(struct tp_column *column)
{
    bool negative;
    uint64_t magnitude;
    const uint8_t *const at =
        tp_varint_take(column->at, column->end, &negative, &magnitude, &column->overlong);

    if (unlikely(at == NULL))
        return TP_COLUMN_SHORT;
    const int64_t coded = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    const int64_t diff = coded >> 1; /* towards minus infinity */
    column->overlong |=
        (column->run_at != NULL && diff == column->diff) || (negative && magnitude == 0);
    column->run_at = column->at;
    column->diff = diff;
    if (coded & 1)
        return tp_column_load_count(column, at, 2);
    column->at = at;
    column->left = 1;
    return NULL;
}

/* Moves `count` differences on, which the run must have left. |diff| < 2^55. */
static inline const char *tp_column_advance_diff(struct tp_column *column, uint64_t count)
{
    int64_t distance;

    if (unlikely(__builtin_mul_overflow(column->diff, (int64_t)count, &distance) ||
                 column->value + (uint64_t)distance > TP_VARUINT_MAX))
        return "a clock is negative or above 2^53-1";
    column->value += (uint64_t)distance;
    column->left -= count;
    return NULL;
}

static inline const char *tp_column_take_rle(struct tp_column *column, uint8_t *value)
{
    if (unlikely(column->left == 0)) {
        const char *const error = tp_column_load_rle(column);
        if (unlikely(error != NULL))
            return error;
    }
    column->left--;
    *value = (uint8_t)column->value;
    return NULL;
}

static inline const char *tp_column_take_uint(struct tp_column *column, uint64_t *value)
{
    if (column->left == 0) {
        const char *const error = tp_column_load_uint(column);
        if (unlikely(error != NULL))
            return error;
    }
    column->left--;
    *value = column->value;
    return NULL;
}

static inline const char *tp_column_take_diff(struct tp_column *column, uint64_t *value)
{
    const char *error = NULL;

    if (column->left == 0)
        error = tp_column_load_diff(column);
    if (likely(error == NULL))
        error = tp_column_advance_diff(column, 1);
    *value = column->value;
    return error;
}

/* Passes `count` values. */
static inline const char *tp_column_pass_uint(struct tp_column *column, uint64_t count)
{
    while (count > column->left) {
        count -= column->left;
        const char *const error = tp_column_load_uint(column);
        if (unlikely(error != NULL))
            return error;
    }
    column->left -= count;
    return NULL;
}

/* ---- writing ----------------------------------------------------------------------------------*/

struct tp_column_writer {
    struct tp_buffer bytes;
    uint64_t value; /* of the run held back; IntDiffOptRle: the last value written */
    uint64_t count; /* of the run held back */
    int64_t diff;   /* IntDiffOptRle: of the run held back */
};

static inline void tp_column_end_rle(struct tp_column_writer *column)
{
    if (column->count > 0)
        tp_write_varuint(&column->bytes, column->count - 1);
    column->count = 0;
}

/* `count` times the same, as all of these. The last run of this column stays without its length:
 * there is nothing to do at its end. */
static inline void tp_column_write_rle(struct tp_column_writer *column, uint8_t value,
                                       uint64_t count)
{
    if (likely(column->count > 0 && column->value == value)) {
        column->count += count;
        return;
    }
    if (unlikely(count == 0))
        return;
    tp_column_end_rle(column);
    tp_write_u8(&column->bytes, value);
    column->value = value;
    column->count = count;
}

static inline void tp_column_end_uint(struct tp_column_writer *column)
{
    if (column->count == 0)
        return;
    tp_write_varint(&column->bytes, column->count > 1, column->value);
    if (column->count > 1)
        tp_write_varuint(&column->bytes, column->count - 2);
    column->count = 0;
}

static inline void tp_column_write_uint(struct tp_column_writer *column, uint64_t value,
                                        uint64_t count)
{
    if (column->value == value) {
        column->count += count;
        return;
    }
    if (unlikely(count == 0))
        return;
    tp_column_end_uint(column);
    column->value = value;
    column->count = count;
}

static inline void tp_column_end_diff(struct tp_column_writer *column)
{
    if (column->count == 0)
        return;
    const int64_t coded = column->diff * 2 + (column->count > 1);
    tp_write_varint(&column->bytes, coded < 0, coded < 0 ? -(uint64_t)coded : (uint64_t)coded);
    if (column->count > 1)
        tp_write_varuint(&column->bytes, column->count - 2);
    column->count = 0;
}

/* The values value + diff, value + 2 * diff ... where `value` is the last one written. */
static inline void tp_column_write_diffs(struct tp_column_writer *column, int64_t diff,
                                         uint64_t count)
{
    if (diff != column->diff && count > 0) {
        tp_column_end_diff(column);
        column->diff = diff;
    }
    column->value += (uint64_t)diff * count;
    column->count += count;
}

static inline void tp_column_write_diff(struct tp_column_writer *column, uint64_t value)
{
    tp_column_write_diffs(column, (int64_t)(value - column->value), 1);
}
