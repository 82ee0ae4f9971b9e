#include "base/pool.h"

#include <stdlib.h>

/* Classes go up in steps of one half: 32, 48, 64, 96, ... so at most a third is wasted. */
#define SMALLEST_SHIFT 5u
#define LARGEST_SIZE ((size_t)96 << 10)

struct tp_pool_piece {
    struct tp_pool_piece *next;
};

static size_t class_size(uint32_t class)
{
    const size_t whole = (size_t)1 << (SMALLEST_SHIFT + class / 2);
    return class % 2 == 0 ? whole : whole + whole / 2;
}

static uint32_t class_of(size_t size)
{
    if (size <= 32)
        return 0;
    const uint32_t shift =
        63u - (uint32_t)__builtin_clzll(size - 1); /* 2^shift < size <= 2^(shift+1) */
    const size_t half_step = ((size_t)1 << shift) + ((size_t)1 << (shift - 1));
    const uint32_t base = (shift - SMALLEST_SHIFT) * 2;
    return size <= half_step ? base + 1 : base + 2;
}

static void *from_heap(struct tp_pool *pool, size_t size)
{
    void *piece = malloc(size);

    TP_ASSERT(piece != NULL);
    pool->malloc_count++;
    return piece;
}

void tp_pool_init(struct tp_pool *pool)
{
    *pool = (struct tp_pool){0};
    TP_ASSERT(class_size(TP_POOL_CLASS_COUNT - 1) == LARGEST_SIZE);
}

void tp_pool_finish(struct tp_pool *pool)
{
    for (uint32_t class = 0; class < TP_POOL_CLASS_COUNT; class ++)
        while (pool->kept[class] != NULL) {
            struct tp_pool_piece *piece = pool->kept[class];
            pool->kept[class] = piece->next;
            free(piece);
        }
    memset(pool->kept_count, 0, sizeof pool->kept_count);
}

void *tp_pool_take(struct tp_pool *pool, size_t size)
{
    pool->used_size += tp_pool_class_size(size);
    if (size > LARGEST_SIZE)
        return from_heap(pool, size);

    const uint32_t class = class_of(size);
    struct tp_pool_piece *piece = pool->kept[class];
    if (piece == NULL)
        return from_heap(pool, class_size(class));
    pool->kept[class] = piece->next;
    pool->kept_count[class]--;
    return piece;
}

void *tp_pool_take_zeroed(struct tp_pool *pool, size_t size)
{
    return memset(tp_pool_take(pool, size), 0, size);
}

void tp_pool_give(struct tp_pool *pool, void *piece, size_t size)
{
    if (piece == NULL)
        return;
    TP_ASSERT_HOT(pool->used_size >= tp_pool_class_size(size));
    pool->used_size -= tp_pool_class_size(size);
    if (size > LARGEST_SIZE) {
        free(piece);
        return;
    }

    const uint32_t class = class_of(size);
    if ((pool->kept_count[class] + 1) * class_size(class) > TP_POOL_KEPT_SIZE_MAX) {
        free(piece);
        return;
    }
    struct tp_pool_piece *kept = piece;
    kept->next = pool->kept[class];
    pool->kept[class] = kept;
    pool->kept_count[class]++;
}

size_t tp_pool_class_size(size_t size)
{
    return size > LARGEST_SIZE ? size : class_size(class_of(size));
}
