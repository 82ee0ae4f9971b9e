/* crdt/state_vector.h - which clocks are known of each client (spec 04 section 6).
 *
 * Encoded: varuint n, n x (varuint client, varuint clock). We write clients descending, readers
 * accept any order, and the last entry of a client wins. In memory: sorted entries, so that a
 * look-up is a binary search and most documents need a few dozen bytes. */
#pragma once

#include "base/base.h"
#include "base/buffer.h"

struct tp_state_vector_entry {
    uint64_t client;
    uint64_t clock; /* all clocks below are known; never 0 */
};

struct tp_state_vector {
    struct tp_state_vector_entry *entries; /* by client, descending; on the heap */
    uint32_t count;
    uint32_t room;
};

void tp_state_vector_finish(struct tp_state_vector *vector); /* a zeroed one is fine */

/* Replaces what `vector` held. An empty slice is an empty vector. TP_MALFORMED leaves it as it was.
 */
TP_MUST_CHECK enum tp_status tp_state_vector_decode(struct tp_state_vector *vector,
                                                    struct tp_slice bytes);
void tp_state_vector_encode(const struct tp_state_vector *vector, struct tp_buffer *out);

/* 0 for an unknown client. */
uint64_t tp_state_vector_get(const struct tp_state_vector *vector, uint64_t client);

/* Raises the clock of `client`; a lower one changes nothing. */
void tp_state_vector_raise(struct tp_state_vector *vector, uint64_t client, uint64_t clock);

/* True if `vector` knows everything that `other` knows. */
bool tp_state_vector_covers(const struct tp_state_vector *vector,
                            const struct tp_state_vector *other);
