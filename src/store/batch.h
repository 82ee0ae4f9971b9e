/* store/batch.h - what one commit writes: decided here, done by the backend.
 *
 *     ops (in order)                rows
 *     APPEND d1,5  "a"  ──┐
 *     APPEND d2,9  "b"  ──┼──────►  put  log  d1,5  "a" "c"      two entries joined into one row
 *     APPEND d1,6  "c"  ──┘         put  log  d2,9  "b"
 *     WRITE  put k "v"  ─────────►  put  ...  k     "v"
 *
 * Pure: no thread, no file. Appends whose keys share the prefix (all but the last 8 bytes) become
 * one row under the first one's key, as long as the row stays within TP_BATCH_ROW_SIZE_MAX. A
 * change of the log by parts is a barrier: nothing behind it joins a row from before it, since rows
 * are written in this order. Everything borrows from the operations until the batch is reset. */
#pragma once

#include "seam/store_op.h"

#define TP_BATCH_OP_COUNT_MAX 4096u             /* a commit takes no further parcel above this */
#define TP_BATCH_SIZE_MAX ((size_t)4 << 20)     /* or above this many bytes of keys and values */
#define TP_BATCH_ROW_SIZE_MAX ((size_t)1 << 20) /* a joined row; one larger value stays alone */
#define TP_BATCH_JOIN_COUNT_MAX 16384u          /* slots of the table of joinable rows */
static_assert((TP_BATCH_JOIN_COUNT_MAX & (TP_BATCH_JOIN_COUNT_MAX - 1)) == 0, "masked");
static_assert(TP_BATCH_JOIN_COUNT_MAX > 2 * TP_BATCH_OP_COUNT_MAX, "a free slot is always near");

struct tp_batch_row {
    enum tp_store_table table;
    bool is_delete;
    struct tp_slice key;
    struct tp_slice to; /* deletes all rows from `key` on and below this; empty: only `key` */
    size_t size;        /* of all pieces, bytes */
    uint32_t first_piece, piece_count; /* a chain in pieces[] */
    uint32_t last_piece;
};

struct tp_batch_piece {
    struct tp_slice bytes;
    uint32_t next; /* in its row; UINT32_MAX: none */
};

struct tp_batch {
    struct tp_batch_row *rows;
    struct tp_batch_piece *pieces;
    uint32_t row_count, row_room;
    uint32_t piece_count, piece_room;
    uint32_t joinable_from; /* rows before this one stay as they are */
    uint32_t op_count;
    size_t size; /* keys and values, bytes */
    uint64_t joined_count;
    uint32_t round;                               /* a slot of another round is empty */
    uint32_t slot_round[TP_BATCH_JOIN_COUNT_MAX]; /* row of a prefix, by hash */
    uint32_t slot_row[TP_BATCH_JOIN_COUNT_MAX];
};

/* About 130 KiB, reused for every commit. */
struct tp_batch *tp_batch_create(void);
void tp_batch_destroy(struct tp_batch *batch); /* NULL is allowed */

/* Empty again, its memory kept. */
void tp_batch_reset(struct tp_batch *batch);

/* Adds what `op`, an APPEND or WRITE, puts and deletes. Expectations are not looked at. */
void tp_batch_add(struct tp_batch *batch, const struct tp_store_op *op);

/* True when the commit is large enough to be written. */
bool tp_batch_is_full(const struct tp_batch *batch);

/* Points `out` at the row's value, in order; `out_max` is at least its piece_count. */
uint32_t tp_batch_gather(const struct tp_batch *batch, const struct tp_batch_row *row,
                         struct tp_slice *out, uint32_t out_max);

/* Walks the invariants. */
void tp_batch_check(const struct tp_batch *batch);

/* ---- a commit: expectations are met, or the operation adds nothing -----------------------------
 */

/* What stands behind a batch. */
struct tp_batch_sink {
    /* Writes every row, all or nothing. They need not be durable, but `get` sees them. */
    enum tp_status (*write)(void *context, const struct tp_batch *batch);
    /* TP_OK and the row's value, valid until the next call; TP_ABSENT; or a failure. */
    enum tp_status (*get)(void *context, enum tp_store_table table, struct tp_slice key,
                          struct tp_slice *value);
    void *context;
};

/* Takes one operation into the commit. What waits is written first when it is full, or when `op`
 * expects something or deletes a range: it must see what came before it, and `sink` knows only what
 * was written.
 * TP_DENIED: what is stored is not what `op` expects; nothing of it was added. Anything else comes
 * from the sink. */
TP_MUST_CHECK enum tp_status tp_batch_take(struct tp_batch *batch, const struct tp_store_op *op,
                                           const struct tp_batch_sink *sink);

/* Writes what waits, if anything, and resets. */
TP_MUST_CHECK enum tp_status tp_batch_flush(struct tp_batch *batch,
                                            const struct tp_batch_sink *sink);

/* Bytes of keys and values of one operation; 0 for a READ. */
size_t tp_store_op_size(const struct tp_store_op *op);
