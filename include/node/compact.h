/* node/compact.h - folds a document's log into its base, beside everything else that happens to it.
 *
 *     read, as of one moment           compute               write, all or nothing
 *     base 3, rows 5 6 7, metadata ──► base 4 = 3+5+6+7 ──►  expect base 3, row 5, metadata as read
 *                                                            put base 4, metadata
 *                                                            delete rows 5 6 7
 *
 * No lock and no knowledge of sessions: rows never change once they are written, so those that were
 * read can be deleted by key, and what arrives meanwhile survives. Two that fold the same document,
 * or one whose document is deleted meanwhile, fail at the expectations; then it is read again.
 * Of encrypted documents only the structure is merged, and nothing is dropped: what the sidecars
 * hold we cannot read.
 *
 * Everything here blocks, on a worker, where it takes one core at most and no shard waits for it.
 */
#pragma once

#include <stdatomic.h>

#include "store/store.h"
#include "work/work.h"

/* What one pass reads at most. A longer log is folded in several passes, oldest rows first. */
#define TP_COMPACT_ROW_COUNT_MAX 4096u
#define TP_COMPACT_SIZE_MAX ((size_t)64 << 20)

#define TP_COMPACT_TRY_COUNT_MAX 4u /* passes that fail at their expectations, in a row */
#define TP_COMPACT_SWEEP_ROW_COUNT_MAX \
    1024u /* rows of the log that one step of the sweep looks at */

/* One for the process; outlives the worker pool. */
struct tp_compact {
    const struct tp_store_backend *backend;
    struct tp_store *store;
    bool keep_deleted; /* no garbage collection at rest: deleted content stays readable */

    /* the sweep's: a document with so many rows, or bytes, of log is folded */
    uint32_t sweep_row_count;
    size_t sweep_size;
    struct tp_compact_cursor {
        uint64_t number, sequence; /* where the next step begins */
        uint64_t row_count;        /* of the document `number`, seen by earlier steps */
        size_t size;
    } cursor;
    _Atomic bool sweeping; /* a step is submitted and not done */

    /* for metrics, since the start */
    _Atomic uint64_t folded_count;   /* passes that wrote a base */
    _Atomic uint64_t entry_count;    /* log entries that went into bases */
    _Atomic uint64_t conflict_count; /* passes that somebody else was faster than */
    _Atomic uint64_t failed_count;   /* documents left as they were: damaged, or the store failed */
    _Atomic uint64_t sweep_count;    /* times that the sweep came to the end of the log */
};

/* TP_OK: the log as it was when this began is in the base. TP_ABSENT: there is nothing to fold.
 * TP_DENIED: others were faster every time. TP_MALFORMED: a record is damaged; the document stays
 * as it is. TP_FULL, TP_IO: the store's. */
enum tp_status tp_compact_document(struct tp_compact *compact, uint64_t number);

/* One step through everybody's log: finds documents whose log is long although nobody has them
 * open, and folds at most one. True: it came to the end, and the next step begins anew. One thread
 * at a time.
 */
bool tp_compact_sweep(struct tp_compact *compact);

/* The same two as background jobs. Jobs of one document keep their order. How often the sweep is
 * asked for is its rate; while a step is under way, asking again does nothing. */
void tp_compact_submit(struct tp_compact *compact, struct tp_work_port *port, uint64_t number);
void tp_compact_sweep_submit(struct tp_compact *compact, struct tp_work_port *port);
