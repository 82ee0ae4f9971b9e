#include "base/pool.h"

#include <stdlib.h>

/* Classes go up in steps of one half: 32, 48, 64, 96, ... so at most a third is wasted. */
#define SMALLEST_SHIFT 5u
#define LARGEST_SIZE ((size_t)96 << 10)

#define CHUNK_SIZE                                                                 \
    ((size_t)64 << 10) /* and what it is aligned to: a piece finds its chunk by it \
                        */
#define CHUNKED_SIZE_MAX ((size_t)4 << 10)

struct tp_pool_piece {
    struct tp_pool_piece *next;
};

/* Pieces of one class, cut off one after the other as they are needed. */
struct tp_pool_chunk {
    struct tp_link link; /* pool->chunks of its class while it has a piece to give */
    struct tp_pool_piece *free;
    uint32_t used_count; /* pieces given out, or on the class's free list */
    uint32_t cut_size;   /* bytes at the front that are this head or have been pieces */
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

static bool is_chunked(size_t size)
{
    return size <= CHUNKED_SIZE_MAX;
}

static bool is_spent(const struct tp_pool_chunk *chunk, size_t size)
{
    return chunk->free == NULL && CHUNK_SIZE - chunk->cut_size < size;
}

static void *from_heap(struct tp_pool *pool, size_t size)
{
    void *piece = malloc(size);

    TP_ASSERT(piece != NULL);
    pool->malloc_count++;
    return piece;
}

static struct tp_pool_chunk *make_chunk(struct tp_pool *pool, uint32_t class)
{
    struct tp_pool_chunk *chunk = aligned_alloc(CHUNK_SIZE, CHUNK_SIZE);

    TP_ASSERT(chunk != NULL);
    pool->malloc_count++;
    *chunk = (struct tp_pool_chunk){.cut_size = (uint32_t)((sizeof *chunk + 15) & ~(size_t)15)};
    tp_link_init(&chunk->link);
    tp_link_insert(&pool->chunks[class], &chunk->link);
    return chunk;
}

static void *from_chunk(struct tp_pool *pool, uint32_t class)
{
    const size_t size = class_size(class);
    struct tp_pool_chunk *chunk =
        tp_link_alone(&pool->chunks[class])
            ? make_chunk(pool, class)
            : TP_CONTAINER(pool->chunks[class].next, struct tp_pool_chunk, link);
    struct tp_pool_piece *piece = chunk->free;

    if (piece != NULL) {
        chunk->free = piece->next;
    } else {
        piece = (struct tp_pool_piece *)((uint8_t *)chunk + chunk->cut_size);
        chunk->cut_size += (uint32_t)size;
    }
    chunk->used_count++;
    if (is_spent(chunk, size))
        tp_link_remove(&chunk->link);
    return piece;
}

/* A chunk that nobody uses goes, so that what one class needed once another may need next. */
static void to_chunk(struct tp_pool *pool, struct tp_pool_piece *piece, uint32_t class)
{
    struct tp_pool_chunk *chunk =
        (struct tp_pool_chunk *)((uintptr_t)piece & ~(uintptr_t)(CHUNK_SIZE - 1));

    piece->next = chunk->free;
    chunk->free = piece;
    if (--chunk->used_count == 0) {
        tp_link_remove(&chunk->link);
        free(chunk);
    } else if (tp_link_alone(&chunk->link)) {
        tp_link_insert(&pool->chunks[class], &chunk->link);
    }
}

static void give_up(struct tp_pool *pool, struct tp_pool_piece *piece, uint32_t class)
{
    if (is_chunked(class_size(class)))
        to_chunk(pool, piece, class);
    else
        free(piece);
}

void tp_pool_init(struct tp_pool *pool)
{
    *pool = (struct tp_pool){0};
    for (uint32_t class = 0; class < TP_POOL_CLASS_COUNT; class ++)
        tp_link_init(&pool->chunks[class]);
    TP_ASSERT(class_size(TP_POOL_CLASS_COUNT - 1) == LARGEST_SIZE);
}

void tp_pool_finish(struct tp_pool *pool)
{
    for (uint32_t class = 0; class < TP_POOL_CLASS_COUNT; class ++)
        while (pool->kept[class] != NULL) {
            struct tp_pool_piece *piece = pool->kept[class];
            pool->kept[class] = piece->next;
            give_up(pool, piece, class);
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
        return is_chunked(class_size(class)) ? from_chunk(pool, class)
                                             : from_heap(pool, class_size(class));
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
        give_up(pool, piece, class);
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
