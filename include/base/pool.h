/* base/pool.h - one core's memory for small things, by size class.
 *
 *     take(100) -> class of 128 bytes -> its free list, else a chunk with pieces of 128 bytes
 *     give      -> the free list again, up to TP_POOL_KEPT_SIZE_MAX bytes a class, else the chunk
 *
 * Pieces up to 4 KiB are cut from chunks of 64 KiB, which are given back when no piece of theirs is
 * out: in steady state nothing reaches malloc, and a pool that grows asks it once for many pieces.
 * Larger pieces come from malloc, those above the largest class go back to it directly. One pool
 * belongs to one thread; what it gave out goes back to it alone. */
#pragma once

#include "base/list.h"

#define TP_POOL_CLASS_COUNT 24u                   /* 32, 48, 64, 96, 128, 192 ... 96 KiB */
#define TP_POOL_KEPT_SIZE_MAX ((size_t)512 << 10) /* bytes kept on a class's free list */

struct tp_pool_piece;

struct tp_pool {
    struct tp_pool_piece *kept[TP_POOL_CLASS_COUNT];
    uint32_t kept_count[TP_POOL_CLASS_COUNT];
    struct tp_link chunks[TP_POOL_CLASS_COUNT]; /* those with a piece to give */
    size_t used_size;                           /* bytes given out, by class size */
    uint64_t malloc_count;                      /* how often a take had to ask the heap */
};

void tp_pool_init(struct tp_pool *pool);
void tp_pool_finish(struct tp_pool *pool); /* frees what is kept */

/* Never NULL: the process stops when the heap is empty. Aligned to 16 bytes. */
void *tp_pool_take(struct tp_pool *pool, size_t size);
void *tp_pool_take_zeroed(struct tp_pool *pool, size_t size);

/* `size` as it was asked for. NULL is allowed and does nothing. */
void tp_pool_give(struct tp_pool *pool, void *piece, size_t size);

/* What the pool really sets aside for `size` bytes: for budgets. */
size_t tp_pool_class_size(size_t size);
