#include "wire/utf8.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* What may follow a lead byte (Unicode, table 3-7: no overlong forms, no surrogates, nothing above
 * U+10FFFF). False: no character begins like this. */
static bool begin(struct tp_utf8 *state, uint8_t lead)
{
    *state = (struct tp_utf8){.low = 0x80, .high = 0xbf};
    if (lead >= 0xc2 && lead <= 0xdf) {
        state->left = 1;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        state->left = 2;
        if (lead == 0xe0)
            state->low = 0xa0;
        if (lead == 0xed)
            state->high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        state->left = 3;
        if (lead == 0xf0)
            state->low = 0x90;
        if (lead == 0xf4)
            state->high = 0x8f;
    } else {
        return false;
    }
    return true;
}

bool tp_utf8_feed(struct tp_utf8 *state, struct tp_slice bytes)
{
    const uint8_t *at = bytes.data;
    const uint8_t *const end = bytes.data + bytes.size;

    while (at < end) {
        if (state->left > 0) {
            if (*at < state->low || *at > state->high)
                return false;
            *state = (struct tp_utf8){.left = state->left - 1, .low = 0x80, .high = 0xbf};
            at++;
            continue;
        }
        for (uint64_t word; end - at >= 8; at += 8) { /* eight ASCII bytes at once */
            memcpy(&word, at, 8);
            if ((word & HIGH_BITS) != 0)
                break;
        }
        while (at < end && *at < 0x80)
            at++;
        if (at < end && !begin(state, *at++))
            return false;
    }
    return true;
}
