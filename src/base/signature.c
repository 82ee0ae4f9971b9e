#include "base/signature.h"

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/ed25519.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/rsa.h>

#include "base/hash.h"

#define COORDINATE_SIZE 32u
#define ED25519_SIZE 32u
#define ED25519_SIGNATURE_SIZE 64u

/* The head of a DigestInfo for SHA-256 (RFC 8017 section 9.2, note 1); the digest follows. */
static const uint8_t digest_info[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                      0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};

bool tp_verify_fits(const struct tp_verify_key *key, enum tp_signature_algorithm algorithm)
{
    switch (algorithm) {
    case TP_SIGNATURE_HS256:
    case TP_SIGNATURE_HS384:
    case TP_SIGNATURE_HS512:
        return key->kind == TP_VERIFY_SECRET;
    case TP_SIGNATURE_RS256:
    case TP_SIGNATURE_PS256:
        return key->kind == TP_VERIFY_RSA;
    case TP_SIGNATURE_ES256:
        return key->kind == TP_VERIFY_P256;
    case TP_SIGNATURE_EDDSA:
        return key->kind == TP_VERIFY_ED25519;
    case TP_SIGNATURE_COUNT:
        break;
    }
    return false;
}

/* ---- shared secrets -----------------------------------------------------------------------------
 */

static bool equal_in_constant_time(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint8_t differs = 0;

    for (size_t i = 0; i < size; i++)
        differs |= a[i] ^ b[i];
    return differs == 0;
}

static bool verify_hmac(const struct tp_verify_key *key, int type, size_t size,
                        struct tp_slice message, struct tp_slice signature)
{
    uint8_t digest[TP_SHA512_SIZE];
    Hmac hmac;

    if (signature.size != size || wc_HmacInit(&hmac, NULL, INVALID_DEVID) != 0)
        return false;
    const bool done = wc_HmacSetKey(&hmac, type, key->bytes, key->size) == 0 &&
                      wc_HmacUpdate(&hmac, message.data, (word32)message.size) == 0 &&
                      wc_HmacFinal(&hmac, digest) == 0;
    wc_HmacFree(&hmac);
    return done && equal_in_constant_time(digest, signature.data, size);
}

/* ---- RSA ----------------------------------------------------------------------------------------
 */

static bool rsa_open(const struct tp_verify_key *key, RsaKey *rsa)
{
    if (wc_InitRsaKey(rsa, NULL) != 0)
        return false;
    if (wc_RsaPublicKeyDecodeRaw(key->bytes, key->size, key->exponent, key->exponent_size, rsa) ==
            0 &&
        wc_RsaEncryptSize(rsa) == (int)key->size)
        return true;
    wc_FreeRsaKey(rsa);
    return false;
}

static bool verify_rsa(const struct tp_verify_key *key, enum tp_signature_algorithm algorithm,
                       struct tp_slice message, struct tp_slice signature)
{
    uint8_t digest[TP_SHA256_SIZE];
    uint8_t plain[TP_VERIFY_RSA_SIZE_MAX];
    RsaKey rsa;
    bool good = false;

    if (signature.size != key->size || !rsa_open(key, &rsa))
        return false;
    tp_sha256(message, digest);
    if (algorithm == TP_SIGNATURE_RS256) {
        const int size =
            wc_RsaSSL_Verify(signature.data, (word32)signature.size, plain, sizeof plain, &rsa);
        good = size == (int)(sizeof digest_info + sizeof digest) &&
               memcmp(plain, digest_info, sizeof digest_info) == 0 &&
               memcmp(plain + sizeof digest_info, digest, sizeof digest) == 0;
    } else {
        /* The salt is as long as the digest (RFC 7518 section 3.5), which is the default here. */
        const int size = wc_RsaPSS_Verify((uint8_t *)signature.data, (word32)signature.size, plain,
                                          sizeof plain, WC_HASH_TYPE_SHA256, WC_MGF1SHA256, &rsa);
        good = size > 0 && wc_RsaPSS_CheckPadding(digest, sizeof digest, plain, (word32)size,
                                                  WC_HASH_TYPE_SHA256) == 0;
    }
    wc_FreeRsaKey(&rsa);
    return good;
}

/* ---- curves -------------------------------------------------------------------------------------
 */

static bool p256_open(const struct tp_verify_key *key, ecc_key *point)
{
    if (key->size != 2 * COORDINATE_SIZE || wc_ecc_init(point) != 0)
        return false;
    if (wc_ecc_import_unsigned(point, key->bytes, key->bytes + COORDINATE_SIZE, NULL,
                               ECC_SECP256R1) == 0)
        return true;
    wc_ecc_free(point);
    return false;
}

static bool verify_p256(const struct tp_verify_key *key, struct tp_slice message,
                        struct tp_slice signature)
{
    uint8_t digest[TP_SHA256_SIZE];
    uint8_t der[2 * COORDINATE_SIZE + 16];
    word32 der_size = sizeof der;
    ecc_key point;
    int good = 0;

    if (signature.size != 2 * COORDINATE_SIZE || !p256_open(key, &point))
        return false;
    tp_sha256(message, digest);
    if (wc_ecc_rs_raw_to_sig(signature.data, COORDINATE_SIZE, signature.data + COORDINATE_SIZE,
                             COORDINATE_SIZE, der, &der_size) != 0 ||
        wc_ecc_verify_hash(der, der_size, digest, sizeof digest, &good, &point) != 0)
        good = 0;
    wc_ecc_free(&point);
    return good == 1;
}

static bool ed25519_open(const struct tp_verify_key *key, ed25519_key *point)
{
    if (key->size != ED25519_SIZE || wc_ed25519_init(point) != 0)
        return false;
    if (wc_ed25519_import_public(key->bytes, key->size, point) == 0)
        return true;
    wc_ed25519_free(point);
    return false;
}

static bool verify_ed25519(const struct tp_verify_key *key, struct tp_slice message,
                           struct tp_slice signature)
{
    ed25519_key point;
    int good = 0;

    if (signature.size != ED25519_SIGNATURE_SIZE || !ed25519_open(key, &point))
        return false;
    if (wc_ed25519_verify_msg(signature.data, (word32)signature.size, message.data,
                              (word32)message.size, &good, &point) != 0)
        good = 0;
    wc_ed25519_free(&point);
    return good == 1;
}

/* ---- all ----------------------------------------------------------------------------------------
 */

bool tp_verify_key_valid(const struct tp_verify_key *key)
{
    switch (key->kind) {
    case TP_VERIFY_SECRET:
        return key->size > 0 && key->size <= TP_VERIFY_SIZE_MAX;
    case TP_VERIFY_RSA: {
        RsaKey rsa;
        const bool odd = key->exponent_size > 0 && (key->exponent[key->exponent_size - 1] & 1) &&
                         (key->exponent_size > 1 || key->exponent[0] > 1);
        if (!odd || key->size < TP_VERIFY_RSA_SIZE_MIN || key->size > TP_VERIFY_RSA_SIZE_MAX ||
            key->bytes[0] == 0 || !rsa_open(key, &rsa))
            return false;
        wc_FreeRsaKey(&rsa);
        return true;
    }
    case TP_VERIFY_P256: {
        ecc_key point;
        if (!p256_open(key, &point))
            return false;
        const bool good = wc_ecc_check_key(&point) == 0;
        wc_ecc_free(&point);
        return good;
    }
    case TP_VERIFY_ED25519: {
        ed25519_key point;
        if (!ed25519_open(key, &point))
            return false;
        wc_ed25519_free(&point);
        return true;
    }
    }
    return false;
}

bool tp_verify(const struct tp_verify_key *key, enum tp_signature_algorithm algorithm,
               struct tp_slice message, struct tp_slice signature)
{
    if (!tp_verify_fits(key, algorithm))
        return false;
    switch (algorithm) {
    case TP_SIGNATURE_HS256:
        return verify_hmac(key, WC_SHA256, TP_SHA256_SIZE, message, signature);
    case TP_SIGNATURE_HS384:
        return verify_hmac(key, WC_SHA384, WC_SHA384_DIGEST_SIZE, message, signature);
    case TP_SIGNATURE_HS512:
        return verify_hmac(key, WC_SHA512, TP_SHA512_SIZE, message, signature);
    case TP_SIGNATURE_RS256:
    case TP_SIGNATURE_PS256:
        return verify_rsa(key, algorithm, message, signature);
    case TP_SIGNATURE_ES256:
        return verify_p256(key, message, signature);
    case TP_SIGNATURE_EDDSA:
        return verify_ed25519(key, message, signature);
    case TP_SIGNATURE_COUNT:
        break;
    }
    return false;
}

void tp_verify_forget(void)
{
    wc_ecc_fp_free();
}
