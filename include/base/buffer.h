/* base/buffer.h - bytes being written; wrong once, wrong for good.
 *
 * Three kinds behave alike: a growing buffer owns heap memory and doubles it; a fixed one borrows
 * the caller's (a stack array, an arena's piece) and never grows; a starting one begins in the
 * caller's memory and moves to the heap when that is used up. Passing the limit sets `full`, and
 * nothing is written from then on: ask once, at the end. */
#pragma once

#include <stdlib.h>

#include "base/base.h"

struct tp_buffer {
    uint8_t *data;
    size_t size;     /* bytes written */
    size_t capacity; /* bytes that `data` has room for */
    size_t size_max; /* a growing buffer becomes full above this */
    bool fixed;
    bool starting; /* still in the caller's memory; the next growth moves to the heap */
    bool full;
};

/* Grows on the heap up to `size_max` bytes. Starts without memory. */
static inline struct tp_buffer tp_buffer_growing(size_t size_max)
{
    return (struct tp_buffer){.size_max = size_max};
}

static inline struct tp_buffer tp_buffer_fixed(void *memory, size_t capacity)
{
    return (struct tp_buffer){
        .data = memory, .capacity = capacity, .size_max = capacity, .fixed = true};
}

/* Small results stay in `memory`, which must outlive the buffer; larger ones go to the heap. */
static inline struct tp_buffer tp_buffer_starting(void *memory, size_t capacity, size_t size_max)
{
    return (struct tp_buffer){
        .data = memory, .capacity = capacity, .size_max = size_max, .starting = true};
}

/* Frees a growing buffer's memory. A zeroed buffer is fine. */
static inline void tp_buffer_finish(struct tp_buffer *buffer)
{
    if (!buffer->fixed && !buffer->starting)
        free(buffer->data);
    *buffer = (struct tp_buffer){0};
}

static inline struct tp_slice tp_buffer_slice(const struct tp_buffer *buffer)
{
    return (struct tp_slice){buffer->data, buffer->size};
}

/* For tp_buffer_reserve alone, and out of its way: most calls find room. (Inlined by LTO it also
 * makes gcc 12 see a realloc of stack memory that `fixed` rules out.) */
__attribute__((cold, noinline)) bool tp_buffer_grow(struct tp_buffer *buffer, size_t size);

/* Room for `size` more bytes at data + size, or false: the buffer is full. */
static inline bool tp_buffer_reserve(struct tp_buffer *buffer, size_t size)
{
    if (__builtin_expect(buffer->capacity - buffer->size >= size && !buffer->full, 1))
        return true;
    return tp_buffer_grow(buffer, size);
}

static inline void tp_buffer_append(struct tp_buffer *buffer, const void *data, size_t size)
{
    if (!tp_buffer_reserve(buffer, size) || size == 0)
        return;
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}
