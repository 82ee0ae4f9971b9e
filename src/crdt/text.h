/* crdt/text.h - strings whose length is counted in UTF-16 code units (spec 04 sections 1 and 5).
 *
 * The bytes are UTF-8, or WTF-8 where a V2 column was cut inside a surrogate pair: then a lone
 * half stands alone as ED A0..BF xx, one unit in three bytes. */
#pragma once

#include "base/base.h"

/* Counts units of text that is known to be well formed (also WTF-8). */
uint64_t tp_text_units(const uint8_t *data, size_t size);

/* The same for a stranger's bytes; false if they are not strict UTF-8. */
bool tp_text_units_checked(const uint8_t *data, size_t size, uint64_t *units);

/* Where `units` units from the start end: a byte offset. `inside`: the cut is in the middle of the
 * four-byte character that starts at that offset. */
size_t tp_text_seek(const uint8_t *data, size_t size, uint64_t units, bool *inside);

/* The halves of a four-byte character. */
static inline uint32_t tp_text_wide(const uint8_t *at)
{
    return (uint32_t)(at[0] & 0x07) << 18 | (uint32_t)(at[1] & 0x3f) << 12 |
           (uint32_t)(at[2] & 0x3f) << 6 | (uint32_t)(at[3] & 0x3f);
}

static inline uint32_t tp_text_high_half(const uint8_t *at)
{
    return 0xd800 + ((tp_text_wide(at) - 0x10000) >> 10);
}

static inline uint32_t tp_text_low_half(const uint8_t *at)
{
    return 0xdc00 + ((tp_text_wide(at) - 0x10000) & 0x3ff);
}

/* Any unit from U+0800 up, surrogate halves included, as three bytes. */
static inline void tp_text_put3(uint8_t *at, uint32_t unit)
{
    at[0] = (uint8_t)(0xe0 | unit >> 12);
    at[1] = (uint8_t)(0x80 | (unit >> 6 & 0x3f));
    at[2] = (uint8_t)(0x80 | (unit & 0x3f));
}

static inline void tp_text_put4(uint8_t *at, uint32_t high, uint32_t low)
{
    const uint32_t wide = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    at[0] = (uint8_t)(0xf0 | wide >> 18);
    at[1] = (uint8_t)(0x80 | (wide >> 12 & 0x3f));
    at[2] = (uint8_t)(0x80 | (wide >> 6 & 0x3f));
    at[3] = (uint8_t)(0x80 | (wide & 0x3f));
}

static inline bool tp_text_is_half(const uint8_t *at, size_t left)
{
    return left >= 3 && at[0] == 0xed && at[1] >= 0xa0;
}

static inline uint32_t tp_text_half(const uint8_t *at)
{
    return 0xd000 | (uint32_t)(at[1] & 0x3f) << 6 | (at[2] & 0x3f);
}

#define TP_TEXT_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD, what yjs makes of a lone half */
