/* work/work.h - computation off the shard: a small pool of threads (architecture.md, last section).
 *
 * Shards only do what is bounded; what may take longer than about a millisecond comes here as a
 * tp_work_op (seam/work_op.h). Operations of one route (a document's) keep their order; each is
 * answered exactly once. */
#pragma once

#include "reactor/post.h"
#include "seam/work_op.h"

/* Inputs up to this size are computed on the spot by the shard: about 100 us. */
#define TP_WORK_INLINE_SIZE_MAX ((size_t)64 << 10)

/* The computation itself: pure, fills the answer. When the status is not TP_OK, there is no output.
 * VALIDATE answers TP_MALFORMED for what is no update and for what has no V1 form. LOAD takes the
 * base's value as inputs[0], empty when there is none, and log rows behind it; one damaged record
 * fails it (TP_MALFORMED), and so does one of the other mode than `encrypted` says. */
void tp_work_run(struct tp_work_op *op);

/* Frees what an answered operation holds. Harmless when the asker took the buffers and zeroed them.
 */
void tp_work_op_finish(struct tp_work_op *op);

/* Bytes of input, to decide where it runs. */
size_t tp_work_input_size(const struct tp_work_op *op);

struct tp_work_pool;
struct tp_work_port;
struct tp_reactor;

/* `thread_count` threads, each an endpoint of `post` from `first_endpoint` on; the endpoint behind
 * them is used only by tp_work_pool_destroy. NULL: errno. */
struct tp_work_pool *tp_work_pool_create(struct tp_post *post, uint32_t first_endpoint,
                                         uint32_t thread_count);
/* After every operation was answered and every port detached. Background jobs that still wait are
 * cancelled; one that runs is waited for. */
void tp_work_pool_destroy(struct tp_work_pool *pool);

struct tp_work_port *tp_work_attach(struct tp_work_pool *pool, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_work_op *op),
                                    void *context);
void tp_work_submit(struct tp_work_port *port, struct tp_work_op *op);
void tp_work_letter(struct tp_work_port *port, struct tp_letter *letter);
void tp_work_detach(struct tp_work_port *port);

/* A background job that may block (compaction): `run` is called on a worker, nobody is answered; it
 * frees itself. Jobs of one order key keep their order. They do not hold up any tp_work_op, unless
 * there is one thread only: then for the length of one job. */
struct tp_work_job {
    struct tp_letter letter;
    void (*run)(struct tp_work_job *job);
    bool cancelled; /* the pool ends: only free yourself */
};
void tp_work_submit_job(struct tp_work_port *port, struct tp_work_job *job, uint64_t order_key);
