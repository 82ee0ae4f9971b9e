#include "crdt/state_vector.h"

#include "wire/reader.h"
#include "wire/writer.h"

#define ENTRY_SIZE_MIN 2u /* bytes */

void tp_state_vector_finish(struct tp_state_vector *vector)
{
    free(vector->entries);
    *vector = (struct tp_state_vector){0};
}

/* The first entry whose client is not above `client`. */
static uint32_t find(const struct tp_state_vector *vector, uint64_t client)
{
    uint32_t low = 0;
    uint32_t high = vector->count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (vector->entries[middle].client > client)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A stable merge sort: of equal clients the last to come must stay the last. */
static void sort(struct tp_state_vector_entry *entries, uint32_t count)
{
    struct tp_state_vector_entry *const spare = malloc(count * sizeof *spare);
    TP_ASSERT(spare != NULL);

    struct tp_state_vector_entry *from = entries;
    struct tp_state_vector_entry *to = spare;
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t start = 0; start < count; start += 2 * width) {
            const uint64_t middle = tp_min(start + width, count);
            const uint64_t end = tp_min(start + 2 * width, count);
            uint64_t left = start, right = middle;
            for (uint64_t at = start; at < end; at++) {
                const bool take_left =
                    right == end || (left < middle && from[left].client >= from[right].client);
                to[at] = take_left ? from[left++] : from[right++];
            }
        }
        struct tp_state_vector_entry *const swap = from;
        from = to;
        to = swap;
    }
    if (from != entries)
        memcpy(entries, from, count * sizeof *entries);
    free(spare);
}

enum tp_status tp_state_vector_decode(struct tp_state_vector *vector, struct tp_slice bytes)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_state_vector result = {0};

    if (bytes.size > 0) {
        const uint64_t count = tp_read_varuint(&in);
        if (in.bad || count > tp_reader_left(&in) / ENTRY_SIZE_MIN || count > UINT32_MAX)
            return TP_MALFORMED;
        if (count > 0) {
            result.entries = malloc(count * sizeof *result.entries);
            TP_ASSERT(result.entries != NULL);
            result.room = (uint32_t)count;
        }
        bool descending = true;
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t client = tp_read_varuint(&in);
            const uint64_t clock = tp_read_varuint(&in);
            descending &= i == 0 || client < result.entries[i - 1].client;
            result.entries[i] = (struct tp_state_vector_entry){client, clock};
        }
        if (in.bad) {
            tp_state_vector_finish(&result);
            return TP_MALFORMED;
        }
        if (!descending)
            sort(result.entries, (uint32_t)count);
        for (uint64_t i = 0; i < count; i++) {
            const struct tp_state_vector_entry entry = result.entries[i];
            const bool last = i + 1 == count || result.entries[i + 1].client != entry.client;
            if (last && entry.clock > 0)
                result.entries[result.count++] = entry;
        }
    }
    tp_state_vector_finish(vector);
    *vector = result;
    return TP_OK;
}

void tp_state_vector_encode(const struct tp_state_vector *vector, struct tp_buffer *out)
{
    tp_write_varuint(out, vector->count);
    for (uint32_t i = 0; i < vector->count; i++) {
        tp_write_varuint(out, vector->entries[i].client);
        tp_write_varuint(out, vector->entries[i].clock);
    }
}

uint64_t tp_state_vector_get(const struct tp_state_vector *vector, uint64_t client)
{
    const uint32_t at = find(vector, client);

    if (at == vector->count || vector->entries[at].client != client)
        return 0;
    return vector->entries[at].clock;
}

void tp_state_vector_raise(struct tp_state_vector *vector, uint64_t client, uint64_t clock)
{
    const uint32_t at = find(vector, client);

    if (at < vector->count && vector->entries[at].client == client) {
        if (vector->entries[at].clock < clock)
            vector->entries[at].clock = clock;
        return;
    }
    if (clock == 0)
        return;
    if (vector->count == vector->room) {
        TP_ASSERT(vector->room <= UINT32_MAX / 2);
        vector->room = vector->room == 0 ? 4 : vector->room * 2;
        vector->entries = realloc(vector->entries, vector->room * sizeof *vector->entries);
        TP_ASSERT(vector->entries != NULL);
    }
    memmove(&vector->entries[at + 1], &vector->entries[at],
            (vector->count - at) * sizeof *vector->entries);
    vector->entries[at] = (struct tp_state_vector_entry){client, clock};
    vector->count++;
}

bool tp_state_vector_covers(const struct tp_state_vector *vector,
                            const struct tp_state_vector *other)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < other->count; i++) {
        const struct tp_state_vector_entry *const wanted = &other->entries[i];
        while (at < vector->count && vector->entries[at].client > wanted->client)
            at++;
        if (at == vector->count || vector->entries[at].client != wanted->client ||
            vector->entries[at].clock < wanted->clock)
            return false;
    }
    return true;
}
