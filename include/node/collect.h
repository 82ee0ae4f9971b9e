/* node/collect.h - gives back what no document and no upload needs any more (wire/file_record.h).
 *
 *     uploads that nobody has touched for `expiry_ms` ──┐
 *     files whose last document is deleted ─────────────┴──► garbage ──► chunks deleted
 *
 * A sweep in small steps, as of compaction: each looks at so many rows, and one after the other
 * they go through uploads, files and garbage, then begin anew. Deciding is one write that expects
 * what was read, and leaves a garbage row in the place of what it takes away; only then chunks are
 * deleted. So nobody can come to own what is being deleted, and a crash in between loses nothing
 * but time.
 *
 * Everything here blocks, on a worker. */
#pragma once

#include <stdatomic.h>

#include "store/store.h"
#include "wire/file_record.h"
#include "work/work.h"

#define TP_COLLECT_ROW_COUNT_MAX 32u       /* uploads, or files, that one step looks at */
#define TP_COLLECT_REFERENCE_COUNT_MAX 64u /* of a file; dead ones beyond these go next time */
#define TP_COLLECT_DELETE_COUNT_MAX 512u   /* chunks that one write deletes */

enum tp_collect_stage {
    TP_COLLECT_UPLOADS,
    TP_COLLECT_FILES,
    TP_COLLECT_GARBAGE,
    TP_COLLECT_STAGE_COUNT,
};

/* One for the process; outlives the worker pool. */
struct tp_collect {
    const struct tp_store_backend *backend;
    struct tp_store *store;
    uint64_t expiry_ms;
    uint64_t (*wall_ms)(void);

    enum tp_collect_stage stage;
    uint8_t cursor[TP_UPLOAD_KEY_SIZE + 1]; /* the first key of the next step */
    size_t cursor_size;                     /* 0: at the first of the stage */
    _Atomic bool sweeping;                  /* a step is submitted and not done */

    /* for metrics, since the start */
    _Atomic uint64_t expired_count;   /* uploads */
    _Atomic uint64_t file_count;      /* without reference */
    _Atomic uint64_t reference_count; /* of deleted documents */
    _Atomic uint64_t chunk_count;     /* deleted */
    _Atomic uint64_t sweep_count;     /* times that the sweep came to its end */
};

/* One step. True: it was the last of a sweep, and the next one begins anew. One thread at a time.
 */
bool tp_collect_step(struct tp_collect *collect);

/* The same as a background job; while one is under way, asking again does nothing. */
void tp_collect_submit(struct tp_collect *collect, struct tp_work_port *port);
