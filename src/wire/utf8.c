#include "wire/utf8.h"
#include "wire/reader.h"

/* One character above U+007F at `at`: its size in bytes, or 0 if it is not well formed. */
static size_t wide_character(const uint8_t *at, size_t left)
{
    const uint8_t lead = at[0];

    if (lead >= 0xc2 && lead <= 0xdf)
        return left >= 2 && (at[1] & 0xc0) == 0x80 ? 2 : 0;
    if (lead >= 0xe0 && lead <= 0xef) {
        const uint8_t low = lead == 0xe0 ? 0xa0 : 0x80;  /* no overlong forms */
        const uint8_t high = lead == 0xed ? 0x9f : 0xbf; /* no surrogates */
        return left >= 3 && at[1] >= low && at[1] <= high && (at[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (lead >= 0xf0 && lead <= 0xf4) {
        const uint8_t low = lead == 0xf0 ? 0x90 : 0x80;
        const uint8_t high = lead == 0xf4 ? 0x8f : 0xbf; /* nothing above U+10FFFF */
        return left >= 4 && at[1] >= low && at[1] <= high && (at[2] & 0xc0) == 0x80 &&
                       (at[3] & 0xc0) == 0x80
                   ? 4
                   : 0;
    }
    return 0;
}

bool tp_utf8_valid(struct tp_slice text)
{
    const uint8_t *at = text.data;
    const uint8_t *const end = text.data + text.size;

    while (at < end) {
        uint64_t word;
        if (end - at >= 8) {
            memcpy(&word, at, 8);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                at += tp_utf8_ascii(at, (size_t)(end - at));
                continue;
            }
        }
        if (*at < 0x80) {
            at++;
            continue;
        }
        const size_t size = wide_character(at, (size_t)(end - at));
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}
