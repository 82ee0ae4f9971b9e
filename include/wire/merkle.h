/* wire/merkle.h - the tree of hashes that names a file (spec 03 section 2.3).
 *
 *     level 2                r
 *     level 1          ab        c          an odd last node moves up as it is
 *     level 0        a    b      c          a = H(00 chunk),  ab = H(01 a b)
 *
 * The root is the file's name. A proof is what a chunk's hash is joined with on its way up: a
 * reader who knows the name can tell that a chunk is part of the file without having the others.
 * Nodes are SHA-256 digests in one array, level by level from the leaves, the root last; a node
 * that moves up stands in both levels. */
#pragma once

#include "base/hash.h"

#define TP_MERKLE_LEVEL_COUNT_MAX 40u /* above that of 2^32 leaves */

void tp_merkle_leaf(struct tp_slice chunk, uint8_t out[TP_SHA256_SIZE]);

/* Nodes of a tree of `leaf_count` leaves, at least one. */
size_t tp_merkle_node_count(uint32_t leaf_count);

/* `nodes` has room for all of them and begins with the leaves; the rest is filled in. Returns the
 * root, which is the last one. */
const uint8_t *tp_merkle_build(uint8_t *nodes, uint32_t leaf_count);

/* The siblings of leaf `index` from the bottom up; pointers into `nodes`. Returns how many. */
uint32_t tp_merkle_proof(const uint8_t *nodes, uint32_t leaf_count, uint32_t index,
                         const uint8_t *siblings[TP_MERKLE_LEVEL_COUNT_MAX]);

/* True if `leaf` is leaf `index` of `leaf_count` under `root`. Digests of another size than a
 * SHA-256's prove nothing. */
bool tp_merkle_verify(const uint8_t leaf[TP_SHA256_SIZE], uint32_t index, uint32_t leaf_count,
                      const struct tp_slice *proof, size_t proof_count,
                      const uint8_t root[TP_SHA256_SIZE]);
