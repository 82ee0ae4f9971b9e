/* wire/reader.h - a cursor over bytes nobody vouches for. Wrong once, wrong for good.
 *
 * The integers and byte strings of lib0 (spec 01 section 1, spec 04 section 2). Nothing is copied:
 * what is read borrows from the input. After a wrong read everything answers zero or empty; code
 * reads straight down like the table in the specification and asks `bad` once, at the end. */
#pragma once

#include "base/base.h"

#define TP_VARUINT_MAX ((UINT64_C(1) << 53) - 1) /* what a JavaScript number holds exactly */

struct tp_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
    bool bad_text; /* what made it bad is text that is no UTF-8: it has a close code of its own */
};

static inline struct tp_reader tp_reader_of(struct tp_slice bytes)
{
    /* an empty slice may have no data, and NULL + 0 is undefined */
    return (struct tp_reader){.at = bytes.data,
                              .end = bytes.size > 0 ? bytes.data + bytes.size : bytes.data};
}

static inline size_t tp_reader_left(const struct tp_reader *in)
{
    return (size_t)(in->end - in->at);
}

static inline uint8_t tp_read_u8(struct tp_reader *in)
{
    in->bad |= in->at == in->end;
    return in->bad ? 0 : *in->at++;
}

/* lib0 varUint: seven bits a byte, lowest first. Looks at eight bytes at most. */
static inline uint64_t tp_read_varuint(struct tp_reader *in)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 56; shift += 7) {
        const uint8_t byte = tp_read_u8(in);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80 && value <= TP_VARUINT_MAX)
            return value;
    }
    in->bad = true;
    return 0;
}

/* lib0 varInt: in the first byte bit 6 is the sign, and six bits are value. Returns the magnitude;
 * -0 has a form of its own. */
static inline uint64_t tp_read_varint(struct tp_reader *in, bool *negative)
{
    uint8_t byte = tp_read_u8(in);
    uint64_t magnitude = byte & 0x3f;

    *negative = (byte & 0x40) != 0;
    for (unsigned shift = 6; byte >= 0x80 && shift < 55; shift += 7) {
        byte = tp_read_u8(in);
        magnitude |= (uint64_t)(byte & 0x7f) << shift;
    }
    in->bad |= byte >= 0x80 || magnitude > TP_VARUINT_MAX; /* eight bytes, and it goes on */
    return in->bad ? 0 : magnitude;
}

/* `size` raw bytes. */
static inline struct tp_slice tp_read_raw(struct tp_reader *in, uint64_t size)
{
    in->bad |= size > (size_t)(in->end - in->at);
    if (in->bad)
        return (struct tp_slice){.data =
                                     in->end}; /* empty, but never NULL: NULL + 0 is undefined */
    in->at += size;
    return (struct tp_slice){in->at - size, (size_t)size};
}

/* An unsigned number of `size` bytes, at most eight, the highest first. */
static inline uint64_t tp_read_big_endian(struct tp_reader *in, size_t size)
{
    const struct tp_slice bytes = tp_read_raw(in, size);
    uint64_t value = 0;

    for (size_t i = 0; i < bytes.size; i++)
        value = value << 8 | bytes.data[i];
    return value;
}

/* lib0 varUint8Array: a length, then that many bytes. Borrows from the input. */
static inline struct tp_slice tp_read_bytes(struct tp_reader *in)
{
    const uint64_t size = tp_read_varuint(in);

    return tp_read_raw(in, size);
}

/* True for strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF, no truncation.
 */
bool tp_utf8_valid(struct tp_slice text);

/* lib0 varString: varUint8Array of strict UTF-8. */
static inline struct tp_slice tp_read_string(struct tp_reader *in)
{
    const struct tp_slice text = tp_read_bytes(in);

    if (!in->bad && !tp_utf8_valid(text))
        in->bad = in->bad_text = true;
    return text;
}
