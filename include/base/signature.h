/* base/signature.h - is this signature of that key? The library's verification, wrapped once.
 *
 * A key knows of which kind it is, and an algorithm of which kind it wants: one that does not fit
 * verifies nothing. So a public key is never taken for a shared secret, whatever a token says about
 * its own algorithm. Nothing here signs. */
#pragma once

#include "base/base.h"

#define TP_SHA512_SIZE 64u

enum tp_signature_algorithm { /* RFC 7518 section 3.1, RFC 8037 */
                              TP_SIGNATURE_HS256,
                              TP_SIGNATURE_HS384,
                              TP_SIGNATURE_HS512,
                              TP_SIGNATURE_RS256,
                              TP_SIGNATURE_PS256,
                              TP_SIGNATURE_ES256,
                              TP_SIGNATURE_EDDSA,
                              TP_SIGNATURE_COUNT,
};

enum tp_verify_kind {
    TP_VERIFY_SECRET,  /* bytes: the shared secret */
    TP_VERIFY_RSA,     /* bytes: modulus; exponent */
    TP_VERIFY_P256,    /* bytes: x, y of 32 bytes each */
    TP_VERIFY_ED25519, /* bytes: 32 */
};

#define TP_VERIFY_SIZE_MAX 1024u
#define TP_VERIFY_RSA_SIZE_MIN 256u /* bytes of the modulus: 2048 bits */
#define TP_VERIFY_RSA_SIZE_MAX 512u /* the library's limit */

/* Plain: copy it, free nothing. */
struct tp_verify_key {
    enum tp_verify_kind kind;
    uint32_t size;
    uint32_t exponent_size;
    uint8_t exponent[8];
    uint8_t bytes[TP_VERIFY_SIZE_MAX];
};

/* The bytes can be a key of that kind: an RSA modulus is long enough, a point is on its curve.
 * Costs as much as a verification. */
bool tp_verify_key_valid(const struct tp_verify_key *key);

bool tp_verify_fits(const struct tp_verify_key *key, enum tp_signature_algorithm algorithm);

/* Constant in time as far as secrets are concerned. A shared secret takes a few microseconds, the
 * others up to a millisecond: ask a worker. An ES256 signature is r and s of 32 bytes each. */
bool tp_verify(const struct tp_verify_key *key, enum tp_signature_algorithm algorithm,
               struct tp_slice message, struct tp_slice signature);

/* The library keeps what it has worked out about points of curves per thread, and is 50 times
 * faster for it: up to 6 MB. To be called by a thread that ends. */
void tp_verify_forget(void);
