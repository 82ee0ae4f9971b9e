#include "crdt/text.h"

#include "wire/reader.h"
#include "wire/utf8.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)

static uint64_t load64(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

/* How many bytes of the word have their high bit. */
static uint64_t count_bytes(uint64_t word)
{
    return ((word & HIGH_BITS) >> 7) * UINT64_C(0x0101010101010101) >> 56;
}

/* One unit for each byte that starts a character, one more for each four-byte character. */
static inline unsigned units_of_byte(uint8_t byte)
{
    return (unsigned)((byte & 0xc0) != 0x80) + (unsigned)(byte >= 0xf0);
}

uint64_t tp_text_units(const uint8_t *data, size_t size)
{
    size_t at = tp_utf8_ascii(data, size);
    uint64_t units = at;

    for (; size - at >= 8; at += 8) {
        const uint64_t word = load64(data + at);
        if ((word & HIGH_BITS) == 0) {
            const size_t more = tp_utf8_ascii(data + at + 8, size - at - 8);
            at += more;
            units += 8 + more;
            continue;
        }
        units += 8 + count_bytes(word & word << 1 & word << 2 & word << 3) -
                 count_bytes(word & ~(word << 1));
    }
    for (; at < size; at++)
        units += units_of_byte(data[at]);
    return units;
}

bool tp_text_units_checked(const uint8_t *data, size_t size, uint64_t *units)
{
    if (size == 1) { /* a keystroke */
        *units = 1;
        return data[0] < 0x80;
    }
    if (!tp_utf8_valid((struct tp_slice){data, size}))
        return false;
    *units = tp_text_units(data, size);
    return true;
}

size_t tp_text_seek(const uint8_t *data, size_t size, uint64_t units, bool *inside)
{
    size_t at = 0;

    *inside = false;
    while (units > 0 && at < size) {
        if (units >= 8 && size - at >= 8 && (load64(data + at) & HIGH_BITS) == 0) {
            at += 8;
            units -= 8;
            continue;
        }
        const uint8_t lead = data[at];
        if (lead < 0x80) {
            at++;
        } else if (lead < 0xe0) {
            at += 2;
        } else if (lead < 0xf0) {
            at += 3;
        } else {
            if (units == 1) {
                *inside = true;
                return at;
            }
            at += 4;
            units--;
        }
        units--;
    }
    TP_ASSERT_HOT(at <= size);
    return at;
}
