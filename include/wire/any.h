/* wire/any.h - lib0's `any`: one tag byte, then the value (spec 01 section 1.3).
 *
 *     76 02  01 61 7d 01  01 62 75 02 78 7e        {"a": 1, "b": [true, null]}
 *     |  |   |     |            |  |  `- null
 *     |  |   key   integer 1    |  `- true
 *     |  members                array of 2
 *     object
 *
 * Reading borrows from the input and recurses nowhere. Depth counts open arrays and objects: a
 * number has 0, [] has 1; what nests deeper than a reader allows is malformed, and nothing may nest
 * deeper than TP_ANY_DEPTH_MAX. */
#pragma once

#include "wire/reader.h"
#include "wire/writer.h"

enum {
    TP_ANY_BYTES = 116,  /* varuint size, bytes */
    TP_ANY_ARRAY = 117,  /* varuint count, values */
    TP_ANY_OBJECT = 118, /* varuint count, keys and values by turns */
    TP_ANY_STRING = 119,
    TP_ANY_TRUE = 120,
    TP_ANY_FALSE = 121,
    TP_ANY_BIGINT = 122, /* 8 bytes, big endian */
    TP_ANY_F64 = 123,    /* 8 bytes, big endian */
    TP_ANY_F32 = 124,    /* 4 bytes, big endian */
    TP_ANY_INTEGER = 125,
    TP_ANY_NULL = 126,
    TP_ANY_UNDEFINED = 127,
};

/* lib0 writes integers above this, and below its negative, as floats. */
#define TP_ANY_INTEGER_MAX 0x7fffffff

#define TP_ANY_DEPTH_MAX 512u

struct tp_any {
    uint8_t tag;
    union {
        double number;         /* INTEGER, F32, F64 */
        int64_t bigint;        /* BIGINT */
        struct tp_slice bytes; /* STRING, BYTES */
        uint64_t count;        /* ARRAY: so many values follow; OBJECT: so many (string, value) */
    };
};

/* Reads one value; of an array or object only the head. TP_MALFORMED leaves `in` bad. */
TP_MUST_CHECK enum tp_status tp_any_read(struct tp_reader *in, struct tp_any *out);

/* Checks one value with all that is in it, and passes it. TP_MALFORMED leaves `in` bad. */
TP_MUST_CHECK enum tp_status tp_any_skip(struct tp_reader *in, uint32_t depth_max);

/* The count of things that take `size_min` bytes each at the least: more than there can be is bad.
 */
static inline uint64_t tp_read_count(struct tp_reader *in, size_t size_min)
{
    const uint64_t count = tp_read_varuint(in);

    in->bad |= count > tp_reader_left(in) / size_min;
    return in->bad ? 0 : count;
}

/* Number, with the tag that lib0 chooses: bytes are compared and hashed. */
void tp_any_write_number(struct tp_buffer *out, double value);
void tp_any_write_bigint(struct tp_buffer *out, int64_t value);
void tp_any_write_string(struct tp_buffer *out, struct tp_slice text);
void tp_any_write_bytes(struct tp_buffer *out, struct tp_slice bytes);

/* The heads: `count` values, or `count` times tp_write_bytes(key) and a value, are to follow. What
 * has no value (undefined, null, true, false) is its tag: tp_write_u8(out, TP_ANY_NULL). */
void tp_any_write_array(struct tp_buffer *out, uint64_t count);
void tp_any_write_object(struct tp_buffer *out, uint64_t count);
