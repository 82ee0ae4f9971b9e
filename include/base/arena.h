/* base/arena.h - memory of one tick: taken piece by piece, given back all at once. */
#pragma once

#include "base/base.h"

struct tp_arena {
    uint8_t *base; /* aligned to 16 bytes */
    size_t used_size;
    size_t size;
};

/* Returns `size` bytes, aligned to 16, or NULL when the tick's budget is spent: TP_FULL. */
static inline void *tp_arena_take(struct tp_arena *arena, size_t size)
{
    const size_t at = (arena->used_size + 15) & ~(size_t)15;

    if (at > arena->size || size > arena->size - at)
        return NULL;
    arena->used_size = at + size;
    return arena->base + at;
}

static inline void tp_arena_reset(struct tp_arena *arena)
{
    arena->used_size = 0;
}
