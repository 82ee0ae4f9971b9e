/* crdt/merge.h - the union of updates in V1 form (spec 04 section 7).
 *
 * Two ways to one result. Gathering appends each update's structs behind those it has, per client;
 * that is all there is to do when updates come in the order they were made, and it needs no memory
 * but the output. As soon as one starts before what is there ends, or more clients than lanes take
 * part, gathering only checks the rest, and the exact algorithm (a heap of cursors) does the work.
 * What gathering writes is what the heap would write. */
#pragma once

#include "crdt/deletes.h"
#include "crdt/emit.h"

#define TP_LANE_COUNT_MAX 12u
#define TP_LANE_INLINE 384u
#define TP_AHEAD                                                                    \
    12u /* updates: far enough for memory to answer, near enough to stay in a cache \
         */

struct tp_lane { /* the structs of one client */
    uint64_t client;
    uint64_t first; /* clock */
    uint64_t end;   /* clock */
    uint64_t struct_count;
    size_t gc_at;      /* where in `body` the last struct begins if it is a GC, else NO_GC */
    uint64_t gc_clock; /* where it starts */
    bool gc_joined;    /* it was joined from two inputs: the next GC of the same input joins too */
    struct tp_buffer body;
};

struct tp_gather {
    bool appending;     /* every struct so far could be appended */
    bool normal;        /* every update so far was in normal form */
    size_t split_count; /* blocks out of order: each is treated as an update of its own */
    size_t add_count;   /* updates */
    uint32_t lane_count;
    const char *error;
    struct tp_ranges starts; /* of updates from `starts_from` on: first client and clock, number */
    size_t starts_from;
    struct tp_ranges deletes;
    struct tp_lane lanes[TP_LANE_COUNT_MAX];
    uint8_t inline_body[TP_LANE_INLINE]; /* of the first lane */
};

void tp_gather_init(struct tp_gather *gather);
void tp_gather_finish(struct tp_gather *gather);

/* Checks one update and takes what is in it; nothing of it is needed afterwards. */
TP_MUST_CHECK enum tp_status tp_gather_add(struct tp_gather *gather, struct tp_slice update,
                                           enum tp_dialect_form form);

/* While `appending`: writes the whole result, in the form that the inputs had. */
void tp_gather_write(struct tp_gather *gather, struct tp_buffer *out);

/* The exact algorithm, on the updates that were added and their delete sets. */
TP_MUST_CHECK enum tp_status tp_gather_merge(struct tp_gather *gather,
                                             const struct tp_slice *updates, size_t count,
                                             enum tp_dialect_form form, struct tp_buffer *out);

/* All of the above, for updates in V1 form. */
TP_MUST_CHECK enum tp_status tp_merge(const struct tp_slice *updates, size_t count,
                                      enum tp_dialect_form form, struct tp_buffer *out);
