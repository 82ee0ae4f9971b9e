/* store/store.h - durable bytes by key, asynchronously.
 *
 *     shard 0 ─┐ submit (one list per tick)            ┌─ reader threads: READ
 *     shard 1 ─┼────── letters ──────► the store ──────┤
 *     ...     ─┘ ◄───── answers ──────                 └─ committer: joins what all shards
 *                                                         submitted into one batch and one sync
 *
 * A backend knows keys and bytes (seam/store_op.h); documents, milestones and keys are encoded
 * above it. */
#pragma once

#include "reactor/post.h"
#include "seam/store_op.h"

struct tp_reactor;
struct tp_store;      /* the process's part, opaque: a database handle, threads */
struct tp_store_port; /* one shard's part */

/* When an APPEND or WRITE is answered (architecture.md, promise 1). */
enum tp_durability {
    TP_DURABILITY_MEMORY, /* taken */
    TP_DURABILITY_OS,     /* the kernel has it: survives kill -9 */
    TP_DURABILITY_DISK,   /* fsynced: survives power loss */
};

struct tp_store_config {
    const char *location; /* a directory, for backends that have one */
    enum tp_durability durability;
    struct tp_post *post;
    uint32_t first_endpoint; /* [first, first + tp_store_backend.endpoint_count) are its own */
    uint64_t memory_size;    /* budget of the backend's caches and buffers, bytes; 0: 128 MiB */
    bool salvage;            /* open what is damaged as far as it is readable */
};

/* Counts since the start, and levels now, for metrics. Readable from any thread. */
struct tp_store_counts {
    uint64_t appends, writes, reads, commits, syncs, bytes_written, failures;
    uint64_t commit_ns_total, commit_ns_max;
    uint64_t queued; /* operations submitted and not answered */
};

/* How a store is doing. From TP_STORE_RESERVED on it refuses writes; stalled, they wait. */
enum tp_store_state {
    TP_STORE_OK,
    TP_STORE_CORRUPT,   /* serves; something on the disk is damaged, and what needs it is refused */
    TP_STORE_STALLED,   /* a commit has been under way for longer than TP_STORE_STALL_NS */
    TP_STORE_RESERVED,  /* told by `hold` that free space is below the reserve */
    TP_STORE_FULL,      /* the disk or the quota */
    TP_STORE_READ_ONLY, /* the file system */
    TP_STORE_FAILED,    /* an I/O error, or anything else */
    TP_STORE_STATE_COUNT
};
#define TP_STORE_STALL_NS UINT64_C(2000000000)
#define TP_STORE_DETAIL_SIZE 256u

struct tp_store_health {
    enum tp_store_state state;
    uint64_t stop_count;   /* times that writing stopped */
    uint64_t damage_count; /* reads that found damage */
};

/* In words for people: "ok", "disk full", "I/O error". */
const char *tp_store_state_name(enum tp_store_state state);

struct tp_store_backend {
    const char *name; /* as in the config: `store.documents = rocksdb` */
    uint32_t
        endpoint_count; /* of the post office: one for each thread it runs, one to close from */
    /* Once, before the shards. NULL: `error` (of `error_size` bytes) says why in a sentence. Else a
     * sentence there, which is empty before, tells what was lost. */
    struct tp_store *(*open)(const struct tp_store_config *config, char *error, size_t error_size);
    struct tp_store_port *(*attach)(struct tp_store *store, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_store_op *op),
                                    void *context);
    /* Takes a list of operations (op->link). Operations on one document keep their order as far as
     * APPEND and WRITE go; a READ sees every APPEND and WRITE answered before it was submitted.
     * Never blocks. Each is answered exactly once, by `answered`, on the port's thread, never
     * inside submit. */
    void (*submit)(struct tp_store_port *port, struct tp_link *ops);
    /* The shard passes on what the post brings it from this store's endpoints. */
    void (*letter)(struct tp_store_port *port, struct tp_letter *letter);
    void (*detach)(struct tp_store_port *port); /* after every operation was answered */
    void (*counts)(struct tp_store *store, struct tp_store_counts *out);
    /* From any thread, without a lock. It becomes well again by itself, when the disk is. */
    void (*health)(struct tp_store *store, struct tp_store_health *out);
    /* What went wrong last, for the log; empty: nothing did. Takes a lock: not for shards. */
    void (*explain)(struct tp_store *store, char detail[TP_STORE_DETAIL_SIZE]);
    /* From now on every write is refused with TP_FULL (true), or taken again (false). Any thread.
     */
    void (*hold)(struct tp_store *store, bool on);
    /* Blocking, for workers and tools only (compaction): answers `op` before it returns, from any
     * thread. Appends and writes join the commits of the shards and are as durable as theirs; they
     * have no order with what is submitted meanwhile, hence expectations. */
    void (*run)(struct tp_store *store, struct tp_store_op *op);
    void (*close)(struct tp_store *store); /* after every port is detached */
};

/* All of them, ended by NULL. */
extern const struct tp_store_backend *const tp_store_backends[];

/* NULL if there is none of that name. */
const struct tp_store_backend *tp_store_backend_find(const char *name);

/* Frees an answered READ's rows. */
void tp_store_op_finish(struct tp_store_op *op);
