/* wire/utf8.h - is this text well formed, although it comes in pieces?
 *
 * What is wrong is found at the first byte that no text could go on with, not at the end of the
 * text (RFC 6455 section 8.1; wire/reader.h has tp_utf8_valid for text in one piece). */
#pragma once

#include "base/base.h"

/* Zeroed: before the first byte, or after a whole character. */
struct tp_utf8 {
    uint8_t left;      /* bytes that the character still needs */
    uint8_t low, high; /* what the next one must lie between */
};

/* Goes on with `bytes`. False: never UTF-8, whatever follows. */
TP_MUST_CHECK bool tp_utf8_feed(struct tp_utf8 *state, struct tp_slice bytes);

/* Bytes at the start that are ASCII: all of them, or fewer, in blocks of 32. Most text is. */
static inline size_t tp_utf8_ascii(const uint8_t *data, size_t size)
{
    uint64_t words[4];
    size_t at = 0;

    for (; size - at >= sizeof words; at += sizeof words) {
        memcpy(words, data + at, sizeof words);
        if (((words[0] | words[1] | words[2] | words[3]) & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    return at;
}

/* Does the text end at a character's end? */
static inline bool tp_utf8_whole(const struct tp_utf8 *state)
{
    return state->left == 0;
}
