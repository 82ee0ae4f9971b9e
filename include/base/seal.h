/* base/seal.h - authenticated encryption with a shared key: ChaCha20-Poly1305 (RFC 8439), keys
 * derived by HKDF-SHA256 (RFC 5869). A nonce must not be used twice with one key. */
#pragma once

#include "base/base.h"

#define TP_SEAL_KEY_SIZE 32u
#define TP_SEAL_NONCE_SIZE 12u
#define TP_SEAL_TAG_SIZE 16u

void tp_seal_key(struct tp_slice secret, struct tp_slice salt, struct tp_slice purpose,
                 uint8_t key[TP_SEAL_KEY_SIZE]);

/* Writes plain.size bytes and the tag to `out`. `head` is authenticated, too, and not encrypted. */
void tp_seal(const uint8_t key[TP_SEAL_KEY_SIZE], const uint8_t nonce[TP_SEAL_NONCE_SIZE],
             struct tp_slice head, struct tp_slice plain, uint8_t *out);

/* The opposite: `sealed` ends with the tag; writes the rest's size to `out`, which may be where it
 * lies. TP_MALFORMED: not sealed with this key, nonce and head, or changed since. */
TP_MUST_CHECK enum tp_status tp_unseal(const uint8_t key[TP_SEAL_KEY_SIZE],
                                       const uint8_t nonce[TP_SEAL_NONCE_SIZE],
                                       struct tp_slice head, struct tp_slice sealed, uint8_t *out);
