/* work/work.h - computation off the shard: a small pool of threads (architecture.md, last section).
 *
 * Shards only do what is bounded; what may take longer than about a millisecond comes here as a
 * tp_work_op (seam/work_op.h). Jobs of one owner keep their order; each is answered exactly once.
 */
#pragma once

#include "reactor/post.h"
#include "seam/work_op.h"

/* Inputs up to this size are computed on the spot by the shard: about 100 us. */
#define TP_WORK_INLINE_SIZE_MAX ((size_t)64 << 10)

/* The computation itself: pure, fills the answer. */
void tp_work_run(struct tp_work_op *op);

/* Bytes of input, to decide where it runs. */
size_t tp_work_input_size(const struct tp_work_op *op);

struct tp_work_pool;
struct tp_work_port;
struct tp_reactor;

/* `thread_count` threads, each an endpoint of `post` from `first_endpoint` on. NULL: errno. */
struct tp_work_pool *tp_work_pool_create(struct tp_post *post, uint32_t first_endpoint,
                                         uint32_t thread_count);
void tp_work_pool_destroy(struct tp_work_pool *pool); /* after every job was answered */

struct tp_work_port *tp_work_attach(struct tp_work_pool *pool, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_work_op *op),
                                    void *context);
void tp_work_submit(struct tp_work_port *port, struct tp_work_op *op);
void tp_work_letter(struct tp_work_port *port, struct tp_letter *letter);
void tp_work_detach(struct tp_work_port *port);

/* A background job that may block (compaction): `run` is called on a worker, nobody is answered; it
 * frees itself. Runs when no tp_work_op waits. */
struct tp_work_job {
    struct tp_letter letter;
    void (*run)(struct tp_work_job *job);
};
void tp_work_submit_job(struct tp_work_port *port, struct tp_work_job *job, uint64_t order_key);
