/* wire/container.h - what Teleportal carries as a document's content (spec 01 section 2.3).
 *
 *     01 | structure | sidecar count, sidecars | compaction
 *          Yjs V2      encrypted documents: ciphertext
 *
 * The structure of a plain document is its content. That of an encrypted one has placeholders; the
 * sidecars hold what they stand for, and a compaction folds older sidecars into one. Without keys
 * nobody can check more of them than their sizes. */
#pragma once

#include "base/buffer.h"
#include "seam/message.h"

#define TP_CONTAINER_VERSION 1u

/* Fills v2, sidecars, sidecar_count, compaction, container and bad_container of `out` from a whole
 * container; what lies behind its last field is ignored. TP_MALFORMED: v2 and sidecars have no data
 * then, and bad_container is set. The structure is not looked into. */
TP_MUST_CHECK enum tp_status tp_container_decode(struct tp_slice container,
                                                 struct tp_message_update *out);

/* Writes a container of v2 and sidecars. */
void tp_container_encode(const struct tp_message_update *update, struct tp_buffer *out);

/* How many bytes tp_container_encode writes. */
size_t tp_container_size(const struct tp_message_update *update);

struct tp_container_range {
    uint64_t client, min_clock, max_clock;
};

/* A walk over the sidecars of a decoded update, in order. */
struct tp_container_walk {
    struct tp_slice rest;
    uint64_t left; /* sidecars, then index ranges, then source hashes */
};

/* The compaction of a decoded update that has one. */
struct tp_container_compaction {
    struct tp_slice sidecar;
    struct tp_container_walk index; /* for tp_container_range_next */
    struct tp_slice hash;
    struct tp_container_walk sources; /* for tp_container_bytes_next */
};

struct tp_container_walk tp_container_sidecars(const struct tp_message_update *update);

/* The next sidecar or source hash. False: that was all. */
bool tp_container_bytes_next(struct tp_container_walk *walk, struct tp_slice *out);
bool tp_container_range_next(struct tp_container_walk *walk, struct tp_container_range *out);

/* `update->compaction` is set. */
struct tp_container_compaction tp_container_compaction(const struct tp_message_update *update);
