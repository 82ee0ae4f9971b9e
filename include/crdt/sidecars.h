/* crdt/sidecars.h - what an encrypted document holds beside its structure (spec 02 section 17.4).
 *
 *     entry:   size, ciphertext | SHA-256 of it | count, count x (client, first clock, last clock)
 *     list:    entries end to end, in the order they came
 *     sealed:  size, structure as V1 | list         a whole document: bases, log entries of our own
 *
 * The structure is an update like any other, with placeholders for content; a sidecar holds, for
 * the clocks of its index, what they stand for. Without keys we can neither merge nor check one:
 * we keep it, send it to whoever is sent structs of its index, and let a compaction, which a client
 * made of several, take their place. */
#pragma once

#include "crdt/update.h"
#include "wire/container.h"

/* A compaction that names more sources or ranges than this is ignored: its update counts. */
#define TP_COMPACTION_SOURCE_COUNT_MAX 4096u
#define TP_COMPACTION_RANGE_COUNT_MAX 65536u

struct tp_sidecar {
    struct tp_slice bytes;
    struct tp_slice hash;           /* TP_SHA256_SIZE */
    struct tp_container_walk index; /* for tp_container_range_next; clocks inclusive */
    struct tp_slice entry;          /* all of it */
};

/* Takes one entry off the front of `rest`. TP_ABSENT: nothing is left. */
TP_MUST_CHECK enum tp_status tp_sidecars_next(struct tp_slice *rest, struct tp_sidecar *out);

/* Appends the digests of an update's sidecars, then that of its compaction if it has one. Apart
 * from folding, because it is most of the work: large updates are hashed off the shard. */
void tp_sidecars_hash(const struct tp_message_update *update, struct tp_buffer *digests);

/* Adds an update's sidecars to a list, whose entries are sound. `ranges` are the clocks of the
 * update's structure: the index of each sidecar; without any, there is nothing to keep.
 *
 * A compaction replaces those of its sources that are in the list, if at least one is, its digest
 * is what it claims, and its index covers theirs. Upstream demands every source; but a client also
 * names sidecars that no server keeps (those of structures without structs), and what another
 * client has compacted meanwhile. */
void tp_sidecars_fold(struct tp_buffer *list, const struct tp_message_update *update,
                      struct tp_slice digests, const struct tp_update_range *ranges,
                      size_t range_count);

/* Adds what `list` lacks of `more`, a list as well. */
void tp_sidecars_join(struct tp_buffer *list, struct tp_slice more);

/* Writes what a container has behind its structure (tp_message_update.sidecars): those of `list`
 * that say anything about the clocks in `ranges`. Returns their number. */
uint32_t tp_sidecars_select(struct tp_slice list, const struct tp_update_range *ranges,
                            size_t range_count, struct tp_buffer *out);

void tp_sealed_encode(struct tp_slice v1, struct tp_slice list, struct tp_buffer *out);
/* TP_MALFORMED also if one of the list's entries is not sound. The structure is not looked into. */
TP_MUST_CHECK enum tp_status tp_sealed_decode(struct tp_slice bytes, struct tp_slice *v1,
                                              struct tp_slice *list);
