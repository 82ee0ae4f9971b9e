/* guard/keys.h - the keys that tokens may be signed with.
 *
 *     secret files, one secret each  ──►  [ HS256 ]
 *     JWKS file (RFC 7517)           ──►  [ kid, algorithms, key ] ...
 *
 * What a key may verify is decided when it is read, never by a token: a bare secret verifies HS256,
 * a JWK what its `alg` says, or, without one, what is usual for its type (RSA: RS256 and PS256). A
 * set never changes: a reload makes another. */
#pragma once

#include "wire/jwt.h"

#define TP_KEYS_COUNT_MAX 32u

struct tp_key {
    uint32_t algorithms;  /* bits: 1 << enum tp_signature_algorithm */
    uint64_t fingerprint; /* of the key's material: the same in a later set if the key stayed */
    size_t kid_size;      /* 0: none; such a key is tried whatever a token's kid says */
    char kid[TP_JWT_KID_SIZE_MAX];
    struct tp_verify_key key;
};

struct tp_keys {
    uint32_t count;
    uint32_t skipped; /* JWKs of a type or use that is not ours */
    struct tp_key keys[TP_KEYS_COUNT_MAX];
};

/* Adds; `error` has room for a sentence, without the secret itself. False: nothing was added. */
bool tp_keys_add_secret(struct tp_keys *keys, struct tp_slice secret, char *error, size_t size);
/* `text` is a key set, or one key. Keys that are for encryption or of a type that we do not know
 * are skipped, as RFC 7517 section 5 wants; one of our type that is broken refuses the file, and so
 * does a set without any key that can be used. */
bool tp_keys_add_jwks(struct tp_keys *keys, struct tp_slice text, char *error, size_t size);

/* The keys that a token with this algorithm and kid may have been signed with, into `found` (room
 * for TP_KEYS_COUNT_MAX); returns how many. */
uint32_t tp_keys_find(const struct tp_keys *keys, enum tp_signature_algorithm algorithm,
                      struct tp_slice kid, const struct tp_key *found[]);

bool tp_keys_have(const struct tp_keys *keys, uint64_t fingerprint);
