#include <stdlib.h>

#include "internal.h"

void tp_bytes_reserve(struct tp_bytes **bytes, size_t size)
{
    const size_t capacity = *bytes == NULL ? 0 : (*bytes)->capacity;
    const size_t used = *bytes == NULL ? 0 : (*bytes)->size;

    if (*bytes != NULL && capacity - used >= size)
        return;
    const size_t wanted = tp_max(used + size, capacity * 2);
    struct tp_bytes *larger = realloc(*bytes, sizeof *larger + wanted);
    TP_ASSERT(larger != NULL);
    larger->size = used;
    larger->capacity = wanted;
    *bytes = larger;
}

void tp_bytes_append(struct tp_bytes **bytes, const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    tp_bytes_reserve(bytes, size);
    memcpy((*bytes)->data + (*bytes)->size, data, size);
    (*bytes)->size += size;
}
