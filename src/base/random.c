#include "base/random.h"

#include <sys/random.h>

void tp_random_secret(void *bytes, size_t size)
{
    uint8_t *at = bytes;

    while (size > 0) {
        const ssize_t got = getrandom(at, size, 0);
        TP_ASSERT(got > 0);
        at += got;
        size -= (size_t)got;
    }
}

void tp_uuid_format(const uint8_t random[16], char out[TP_UUID_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    for (size_t i = 0; i < 16; i++) {
        uint8_t byte = random[i];
        if (i == 6)
            byte = (byte & 0x0f) | 0x40;
        if (i == 8)
            byte = (byte & 0x3f) | 0x80;
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out[at++] = '-';
        out[at++] = digits[byte >> 4];
        out[at++] = digits[byte & 15];
    }
}
