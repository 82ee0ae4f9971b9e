/* crdt/deletes.h - delete sets: ranges of ids, brought to normal form (spec 04 section 6).
 *
 * Ranges are collected in any order, then sorted and joined once. What comes in order, or next to
 * the range before it (typing and deleting do), costs no sorting. */
#pragma once

#include "base/buffer.h"
#include "crdt/walk.h"

struct tp_range {
    uint64_t client;
    uint64_t from;
    uint64_t to;
};

#define TP_RANGES_INLINE 8u

struct tp_ranges {
    struct tp_range *items; /* `inline_items` until they are used up */
    size_t count;
    size_t room;
    bool sorted; /* clients descending, ranges ascending, none touching another */
    struct tp_range inline_items[TP_RANGES_INLINE];
};

static inline void tp_ranges_init(struct tp_ranges *ranges)
{
    ranges->items = ranges->inline_items;
    ranges->count = 0;
    ranges->room = TP_RANGES_INLINE;
    ranges->sorted = true;
}

void tp_ranges_finish(struct tp_ranges *ranges);

/* Puts it behind the others as it is: for lists that are to be ordered, not joined. */
void tp_ranges_push(struct tp_ranges *ranges, uint64_t client, uint64_t from, uint64_t to);

void tp_ranges_add(struct tp_ranges *ranges, uint64_t client, uint64_t from, uint64_t to);

/* Brings the items in order, clients descending and `from` ascending, equal ones as they came, and
 * leaves them apart: for lists of other things that have a client and a clock. */
void tp_ranges_order(struct tp_ranges *ranges);

/* Normal form: clients descending, ranges ascending, touching ones joined, none empty. */
void tp_ranges_sort(struct tp_ranges *ranges);

/* Of sorted ranges: the index of the first that ends above `clock` in `client`, or of what follows.
 */
size_t tp_ranges_find(const struct tp_ranges *ranges, uint64_t client, uint64_t clock);

/* Write sorted ranges: as a V1 delete set; as a V2 one, which is also the form of an IdSet. */
void tp_ranges_write_v1(const struct tp_ranges *ranges, struct tp_buffer *out);
void tp_ranges_write_v2(const struct tp_ranges *ranges, struct tp_buffer *out);

struct tp_deletes_info {
    uint64_t range_count; /* that are not empty */
    bool normal;          /* in normal form, minimal integers, and the last thing in the update */
};

/* Reads the delete set at walk->at (all structs are read). `ranges` may be NULL: checked only. */
TP_MUST_CHECK bool tp_walk_deletes(struct tp_walk *walk, struct tp_ranges *ranges,
                                   struct tp_deletes_info *info);
