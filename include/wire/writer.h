/* wire/writer.h - lib0's integers and byte strings, written to a tp_buffer (spec 01 section 1).
 * A full buffer takes nothing more; the caller asks `full` once, at the end. */
#pragma once

#include "base/buffer.h"

#define TP_VARUINT_SIZE_MAX 10u

static inline void tp_write_u8(struct tp_buffer *out, uint8_t byte)
{
    if (tp_buffer_reserve(out, 1))
        out->data[out->size++] = byte;
}

static inline size_t tp_varuint_size(uint64_t value)
{
    size_t size = 1;

    for (; value > 0x7f; value >>= 7)
        size++;
    return size;
}

static inline void tp_write_varuint(struct tp_buffer *out, uint64_t value)
{
    const size_t size = tp_varuint_size(value); /* exact: a fixed buffer may have just that left */

    if (!tp_buffer_reserve(out, size))
        return;
    uint8_t *at = out->data + out->size;
    for (; value > 0x7f; value >>= 7)
        *at++ = (uint8_t)value | 0x80;
    *at = (uint8_t)value;
    out->size += size;
}

/* lib0 varInt: sign and magnitude; -0 has a form of its own. */
static inline void tp_write_varint(struct tp_buffer *out, bool negative, uint64_t magnitude)
{
    const bool more = magnitude > 0x3f;

    tp_write_u8(out, (uint8_t)((more ? 0x80 : 0) | (negative ? 0x40 : 0) | (magnitude & 0x3f)));
    if (more)
        tp_write_varuint(out, magnitude >> 6);
}

static inline void tp_write_big_endian(struct tp_buffer *out, uint64_t value, unsigned size)
{
    while (size-- > 0)
        tp_write_u8(out, (uint8_t)(value >> (8 * size)));
}

static inline void tp_write_raw(struct tp_buffer *out, struct tp_slice bytes)
{
    tp_buffer_append(out, bytes.data, bytes.size);
}

/* lib0 varUint8Array, and varString: a length, then the bytes. */
static inline void tp_write_bytes(struct tp_buffer *out, struct tp_slice bytes)
{
    tp_write_varuint(out, bytes.size);
    tp_buffer_append(out, bytes.data, bytes.size);
}
