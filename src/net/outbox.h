/* net/outbox.h - frames on their way out to one connection.
 *
 *     push -> [frame][frame][frame][frame] -> gather -> kernel -> consume
 *                      offered ^     ^ head; `head_sent` bytes of it are already gone
 *
 * Frames are whole messages, but the kernel takes any number of bytes: the outbox keeps the two
 * apart. The entries lie in a ring from the shard's pool, taken with the first push and given back
 * when the last frame is through, so an idle connection holds none. How much is too much is the
 * caller's to say. */
#pragma once

#include <sys/uio.h>

#include "base/frame.h"

struct tp_outbox_entry {
    struct tp_frame *frame;
    uint64_t document;
    uint32_t class;
    uint32_t mark;
};

struct tp_outbox { /* zeroed: empty */
    struct tp_outbox_entry *entries;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t head;     /* position of the oldest entry; only ever grows, masked on use */
    uint32_t count;
    uint32_t offered_count; /* the oldest ones, which the kernel looks at just now */
    size_t head_sent;       /* bytes of the oldest frame that the kernel already took */
    size_t unsent_size;     /* bytes held that the kernel did not take yet */
};

/* Shares `frame`, which is not empty. */
void tp_outbox_push(struct tp_outbox *box, struct tp_pool *pool, struct tp_frame *frame,
                    uint64_t document, uint32_t class, uint32_t mark);

/* Points up to `iov_count_max` vectors at unsent bytes, oldest first; returns how many. They, and
 * the frames behind them, stay until the next consume. */
size_t tp_outbox_gather(struct tp_outbox *box, struct iovec *iov, size_t iov_count_max);

/* The kernel took `sent` of the bytes gathered, maybe none, and looks at none any more. */
void tp_outbox_consume(struct tp_outbox *box, struct tp_pool *pool, size_t sent);

/* Drops the entries of that label that the kernel has not been offered; returns how many, and
 * lowers `mark` to the lowest of theirs. */
uint32_t tp_outbox_drop(struct tp_outbox *box, struct tp_pool *pool, uint64_t document,
                        uint32_t class, uint32_t *mark);

/* Drops everything. The kernel must not be looking. */
void tp_outbox_finish(struct tp_outbox *box, struct tp_pool *pool);
