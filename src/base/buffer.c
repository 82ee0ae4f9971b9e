#include "base/buffer.h"

#define FIRST_CAPACITY 256u

bool tp_buffer_grow(struct tp_buffer *buffer, size_t size)
{
    if (buffer->full || buffer->fixed || buffer->size > buffer->size_max ||
        size > buffer->size_max - buffer->size) {
        buffer->full = true;
        return false;
    }

    size_t capacity = tp_max(buffer->capacity, FIRST_CAPACITY);
    while (capacity < buffer->size + size)
        capacity *= 2;
    capacity = tp_min(capacity, buffer->size_max);
    if (buffer->starting) {
        uint8_t *const moved = malloc(capacity);
        TP_ASSERT(moved != NULL);
        memcpy(moved, buffer->data, buffer->size);
        buffer->data = moved;
        buffer->starting = false;
    } else {
        buffer->data = realloc(buffer->data, capacity);
        TP_ASSERT(buffer->data != NULL);
    }
    buffer->capacity = capacity;
    return true;
}
