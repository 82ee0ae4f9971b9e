/* crdt/update.h - Yjs document updates as bytes: check, merge, cut, convert, compact (spec 04).
 *
 * Nothing here builds a document. An update is a list of structs and a delete set; every function
 * is pure: bytes in, bytes out. Inputs are borrowed for the call. Output is appended to `out`
 * (base/buffer.h); when it becomes full the answer is TP_FULL and its tail is to be thrown away.
 *
 * Every input is treated as a stranger's: TP_MALFORMED for what spec 04 section 11 rejects, and
 * no allocation is larger than 64 bytes for each struct that is really there. Inputs need not be
 * normal (blocks out of order, overlong integers, ...): the meaning is kept, and the output is
 * normal. "Normal" and when bytes equal those of yjs 13.6: section 9. */
#pragma once

#include "base/base.h"
#include "base/buffer.h"

enum tp_update_encoding {
    TP_UPDATE_V1 = 1,
    TP_UPDATE_V2 = 2,
};

/* Named limits of one update (section 11). Past any of them: TP_MALFORMED, `error` says which. */
struct tp_update_limits {
    uint64_t update_size_max;    /* 64 MiB */
    uint64_t struct_count_max;   /* 16 Mi, run lengths expanded */
    uint64_t block_count_max;    /* 1 Mi */
    uint32_t any_depth_max;      /* 512 */
    uint32_t root_name_size_max; /* 64 KiB */
    bool placeholders; /* off. V2 only: takes subdocuments whose options are null for such with
                        * empty ones. The structure of an encrypted document has these, in place
                        * of the content (spec 02 section 17.1); yjs cannot read them */
};

extern const struct tp_update_limits tp_update_limits_default;

/* The clocks that an update holds of one client: [from, to), holes included; `gapless_to` is the
 * end of the part that starts at `from` and has no hole (a leading Skip counts as a hole). */
struct tp_update_range {
    uint64_t client;
    uint64_t from;
    uint64_t gapless_to;
    uint64_t to;
};

/* What tp_update_validate found. `error` is a fixed text, NULL when all is well. */
struct tp_update_info {
    const char *error;
    size_t error_at;       /* bytes from the start of the update (V1), of the column (V2) */
    uint64_t struct_count; /* Skips not counted */
    uint64_t delete_range_count;
    uint32_t range_count; /* clients with structs; more than were stored when above the room */
    bool empty;           /* no struct and no delete range */
    bool normal;          /* re-encoding gives the same bytes */
    bool relayable;   /* yjs reads from these bytes what we read: no block or range out of order,
                       * doubled or empty, nothing behind the end */
    bool has_v1_form; /* false: holds a value that V1 cannot say (section 8.3) */
};

/* Checks everything that section 11 demands, in one pass. `ranges` may be NULL; else up to
 * `range_room` ranges are stored, in the order of the update's blocks. `limits` may be NULL. */
TP_MUST_CHECK enum tp_status tp_update_validate(struct tp_slice update,
                                                enum tp_update_encoding encoding,
                                                const struct tp_update_limits *limits,
                                                struct tp_update_range *ranges, uint32_t range_room,
                                                struct tp_update_info *info);

/* The union of `count` updates of one encoding (section 7). 0 updates: the empty update. The result
 * is normal, also for one update. */
TP_MUST_CHECK enum tp_status tp_update_merge(const struct tp_slice *updates, size_t count,
                                             enum tp_update_encoding encoding,
                                             struct tp_buffer *out);

/* What a peer with state vector `sv` lacks, and the whole delete set (section 8.1). An empty slice
 * is an empty state vector. */
TP_MUST_CHECK enum tp_status tp_update_diff(struct tp_slice update,
                                            enum tp_update_encoding encoding, struct tp_slice sv,
                                            struct tp_buffer *out);

/* The state vector of an update (section 8.2); the same bytes for both encodings. */
TP_MUST_CHECK enum tp_status tp_update_state_vector(struct tp_slice update,
                                                    enum tp_update_encoding encoding,
                                                    struct tp_buffer *out);

/* Rewrites from one encoding into the other (section 8.3); from = to gives the normal form.
 * TP_DENIED: the update holds a value that V1 cannot say. */
TP_MUST_CHECK enum tp_status tp_update_convert(struct tp_slice update, enum tp_update_encoding from,
                                               enum tp_update_encoding to, struct tp_buffer *out);

/* As tp_update_convert, from V2 to V1, for the structure of an encrypted document: its placeholders
 * (see tp_update_limits) come out as what every reader takes. */
TP_MUST_CHECK enum tp_status tp_update_convert_structure(struct tp_slice structure,
                                                         struct tp_buffer *out);

/* Garbage collection at rest: K of section 10.1. `was_guarded` (may be NULL): step 6 held back. */
TP_MUST_CHECK enum tp_status tp_update_compact(struct tp_slice update,
                                               enum tp_update_encoding encoding,
                                               struct tp_buffer *out, bool *was_guarded);

/* Content ids for attribution (section 6): inserts without GC and Skip, then deletes. */
TP_MUST_CHECK enum tp_status tp_update_content_ids(struct tp_slice update,
                                                   enum tp_update_encoding encoding,
                                                   struct tp_buffer *out);

/* The snapshot of an update (section 6), its delete set in `encoding`. */
TP_MUST_CHECK enum tp_status
tp_update_snapshot(struct tp_slice update, enum tp_update_encoding encoding, struct tp_buffer *out);

/* Pieces for a peer that is sent a large update piecewise. */
struct tp_update_pieces {
    struct tp_buffer updates;       /* one behind the other */
    struct tp_buffer state_vectors; /* the peer's after each of them, one behind the other */
    struct tp_buffer ends;          /* struct tp_update_piece_end, one for each */
    bool is_last;                   /* nothing is left behind the last of them */
};

struct tp_update_piece_end {
    size_t update, state_vector; /* bytes up to its end */
};

/* The next pieces, at most `count_max` (at least 1): from `update` (V1, valid), what is above `sv`,
 * about `size_max` bytes each, in an order in which every struct follows what it depends on
 * wherever the update allows it. The delete set comes with the last piece of all. Each call walks
 * the update a few times, however many pieces it makes. */
TP_MUST_CHECK enum tp_status tp_update_cut(struct tp_slice update, struct tp_slice sv,
                                           size_t size_max, uint32_t count_max,
                                           struct tp_update_pieces *pieces);

/* One piece: to `out`, the peer's state vector after it to `sv_out`. */
TP_MUST_CHECK enum tp_status tp_update_piece(struct tp_slice update, struct tp_slice sv,
                                             size_t size_max, struct tp_buffer *out,
                                             struct tp_buffer *sv_out, bool *is_last);

/* The empty update of each encoding. */
struct tp_slice tp_update_empty(enum tp_update_encoding encoding);

/* The integrity report of section 10.4: for tools, not for hot paths. */
struct tp_update_report {
    uint64_t struct_count, item_count, gc_count, skip_count;
    uint64_t client_count;
    uint64_t gap_count; /* holes between structs of a client, or before its first */
    uint64_t
        pending_link_count; /* origins, right origins and parents that the update does not hold */
    uint64_t bad_parent_count;     /* parents that are not types */
    uint64_t cycle_client_count;   /* clients that take part in a dependency cycle */
    uint64_t pending_delete_count; /* delete ranges beyond the known clocks */
    uint64_t dead_size;            /* bytes of deleted content */
    uint64_t hash; /* XXH3-64 of the normal form in V1 (in V2 if it has no V1 form) */
    bool complete; /* no gap, no pending link */
};

TP_MUST_CHECK enum tp_status tp_update_inspect(struct tp_slice update,
                                               enum tp_update_encoding encoding,
                                               struct tp_update_report *report);

/* The holes of an update: calls `each` with client and [from, to), in block order. */
TP_MUST_CHECK enum tp_status
tp_update_gaps(struct tp_slice update, enum tp_update_encoding encoding,
               void (*each)(void *context, uint64_t client, uint64_t from, uint64_t to),
               void *context);
