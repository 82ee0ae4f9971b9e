#include "base/hash.h"

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/coding.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/sha.h>
#include <wolfssl/wolfcrypt/sha256.h>
#include <xxhash.h>

uint64_t tp_hash64(struct tp_slice bytes)
{
    return XXH3_64bits(bytes.data, bytes.size);
}

uint64_t tp_hash64_seeded(struct tp_slice bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, seed);
}

void tp_sha1(struct tp_slice bytes, uint8_t digest[TP_SHA1_SIZE])
{
    TP_ASSERT(wc_ShaHash(bytes.data, (word32)bytes.size, digest) == 0);
}

void tp_sha256(struct tp_slice bytes, uint8_t digest[TP_SHA256_SIZE])
{
    TP_ASSERT(wc_Sha256Hash(bytes.data, (word32)bytes.size, digest) == 0);
}

void tp_sha256_pieces(const struct tp_slice *pieces, size_t count, uint8_t digest[TP_SHA256_SIZE])
{
    wc_Sha256 state;

    TP_ASSERT(wc_InitSha256(&state) == 0);
    for (size_t nth = 0; nth < count; nth++)
        TP_ASSERT(pieces[nth].size == 0 ||
                  wc_Sha256Update(&state, pieces[nth].data, (word32)pieces[nth].size) == 0);
    TP_ASSERT(wc_Sha256Final(&state, digest) == 0);
    wc_Sha256Free(&state);
}

void tp_hmac_sha256(struct tp_slice key, const struct tp_slice *pieces, size_t count,
                    uint8_t digest[TP_SHA256_SIZE])
{
    Hmac hmac;

    TP_ASSERT(wc_HmacInit(&hmac, NULL, INVALID_DEVID) == 0);
    TP_ASSERT(wc_HmacSetKey(&hmac, WC_SHA256, key.data, (word32)key.size) == 0);
    for (size_t nth = 0; nth < count; nth++)
        TP_ASSERT(wc_HmacUpdate(&hmac, pieces[nth].data, (word32)pieces[nth].size) == 0);
    TP_ASSERT(wc_HmacFinal(&hmac, digest) == 0);
    wc_HmacFree(&hmac);
}

void tp_base64_encode(struct tp_slice bytes, struct tp_buffer *out)
{
    const size_t text_size = (bytes.size + 2) / 3 * 4;
    word32 written = (word32)text_size + 1; /* the library insists on room for a NUL */

    if (bytes.size == 0 || !tp_buffer_reserve(out, text_size + 1))
        return;
    TP_ASSERT(Base64_Encode_NoNl(bytes.data, (word32)bytes.size, out->data + out->size, &written) ==
              0);
    out->size += text_size;
}

/* wolfCrypt's decoder forgives blanks and missing padding, so the shape is checked here. */
static bool base64_shape(struct tp_slice text)
{
    size_t padding = 0;

    if (text.size % 4 != 0)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                            (c >= '0' && c <= '9') || c == '+' || c == '/';
        padding += c == '=';
        if ((!letter && c != '=') || (letter && padding > 0) || padding > 2)
            return false;
    }
    return true;
}

enum tp_status tp_base64_decode(struct tp_slice text, struct tp_buffer *out)
{
    word32 written = (word32)(text.size / 4 * 3);

    if (!base64_shape(text))
        return TP_MALFORMED;
    if (text.size == 0)
        return TP_OK;
    if (!tp_buffer_reserve(out, written))
        return TP_FULL;
    if (Base64_Decode(text.data, (word32)text.size, out->data + out->size, &written) != 0)
        return TP_MALFORMED;
    out->size += written;
    return TP_OK;
}
