/* base/hash.h - hashes, digests and base64: pure functions of libraries, wrapped once. */
#pragma once

#include "base/base.h"
#include "base/buffer.h"

#define TP_SHA1_SIZE 20u
#define TP_SHA256_SIZE 32u

/* XXH3, 64 bits: for tables, shards and content fingerprints. Not for secrets. */
uint64_t tp_hash64(struct tp_slice bytes);
uint64_t tp_hash64_seeded(struct tp_slice bytes, uint64_t seed);

void tp_sha1(struct tp_slice bytes, uint8_t digest[TP_SHA1_SIZE]);
void tp_sha256(struct tp_slice bytes, uint8_t digest[TP_SHA256_SIZE]);
/* Of all pieces, end to end. */
void tp_hmac_sha256(struct tp_slice key, const struct tp_slice *pieces, size_t count,
                    uint8_t digest[TP_SHA256_SIZE]);
void tp_sha256_pieces(const struct tp_slice *pieces, size_t count, uint8_t digest[TP_SHA256_SIZE]);

/* Standard alphabet with padding, no line breaks. */
void tp_base64_encode(struct tp_slice bytes, struct tp_buffer *out);

/* Strict: the standard alphabet, padding as needed, nothing else. */
TP_MUST_CHECK enum tp_status tp_base64_decode(struct tp_slice text, struct tp_buffer *out);
