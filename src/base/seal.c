#include "base/seal.h"

#include <wolfssl/options.h>
/* options.h first */
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>
#include <wolfssl/wolfcrypt/hmac.h>

static_assert(TP_SEAL_KEY_SIZE == CHACHA20_POLY1305_AEAD_KEYSIZE, "the library's");
static_assert(TP_SEAL_NONCE_SIZE == CHACHA20_POLY1305_AEAD_IV_SIZE, "the library's");
static_assert(TP_SEAL_TAG_SIZE == CHACHA20_POLY1305_AEAD_AUTHTAG_SIZE, "the library's");

void tp_seal_key(struct tp_slice secret, struct tp_slice salt, struct tp_slice purpose,
                 uint8_t key[TP_SEAL_KEY_SIZE])
{
    TP_ASSERT(wc_HKDF(WC_SHA256, secret.data, (word32)secret.size, salt.data, (word32)salt.size,
                      purpose.data, (word32)purpose.size, key, TP_SEAL_KEY_SIZE) == 0);
}

void tp_seal(const uint8_t key[TP_SEAL_KEY_SIZE], const uint8_t nonce[TP_SEAL_NONCE_SIZE],
             struct tp_slice head, struct tp_slice plain, uint8_t *out)
{
    static const uint8_t nothing[1];
    const uint8_t *const data = plain.size > 0 ? plain.data : nothing; /* never NULL there */

    TP_ASSERT(wc_ChaCha20Poly1305_Encrypt(key, nonce, head.data, (word32)head.size, data,
                                          (word32)plain.size, out, out + plain.size) == 0);
}

enum tp_status tp_unseal(const uint8_t key[TP_SEAL_KEY_SIZE],
                         const uint8_t nonce[TP_SEAL_NONCE_SIZE], struct tp_slice head,
                         struct tp_slice sealed, uint8_t *out)
{
    if (sealed.size < TP_SEAL_TAG_SIZE)
        return TP_MALFORMED;
    const size_t size = sealed.size - TP_SEAL_TAG_SIZE;
    return wc_ChaCha20Poly1305_Decrypt(key, nonce, head.data, (word32)head.size, sealed.data,
                                       (word32)size, sealed.data + size, out) == 0
               ? TP_OK
               : TP_MALFORMED;
}
