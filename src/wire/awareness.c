#include "wire/awareness.h"

#include "wire/writer.h"

#define ENTRY_SIZE_MIN 3u /* client, clock, empty text: one byte each */

enum tp_status tp_awareness_walk(struct tp_slice update, struct tp_awareness_walk *out)
{
    struct tp_reader in = tp_reader_of(update);
    const uint64_t count = tp_read_varuint(&in);

    in.bad |= count > TP_AWARENESS_ENTRY_COUNT_MAX || count > tp_reader_left(&in) / ENTRY_SIZE_MIN;
    if (in.bad)
        return TP_MALFORMED;
    *out = (struct tp_awareness_walk){.in = in, .left = count};
    return TP_OK;
}

enum tp_status tp_awareness_next(struct tp_awareness_walk *walk, struct tp_awareness_entry *out)
{
    struct tp_awareness_entry entry;

    if (walk->left == 0)
        return TP_ABSENT;
    entry.client = tp_read_varuint(&walk->in);
    entry.clock = tp_read_varuint(&walk->in);
    entry.state = tp_read_string(&walk->in);
    walk->in.bad |= entry.state.size > TP_AWARENESS_STATE_SIZE_MAX;
    if (walk->in.bad)
        return TP_MALFORMED;
    walk->left--;
    *out = entry;
    return TP_OK;
}

bool tp_awareness_valid(struct tp_slice update)
{
    struct tp_awareness_walk walk;
    struct tp_awareness_entry entry;
    enum tp_status status = tp_awareness_walk(update, &walk);

    while (status == TP_OK)
        status = tp_awareness_next(&walk, &entry);
    return status == TP_ABSENT;
}

bool tp_awareness_is_gone(const struct tp_awareness_entry *entry)
{
    return tp_slice_equal(entry->state, TP_SLICE("null"));
}

void tp_awareness_write_count(struct tp_buffer *out, uint64_t entry_count)
{
    tp_write_varuint(out, entry_count);
}

void tp_awareness_write_entry(struct tp_buffer *out, const struct tp_awareness_entry *entry)
{
    tp_write_varuint(out, entry->client);
    tp_write_varuint(out, entry->clock);
    tp_write_bytes(out, entry->state);
}

size_t tp_awareness_entry_size(const struct tp_awareness_entry *entry)
{
    return tp_varuint_size(entry->client) + tp_varuint_size(entry->clock) +
           tp_varuint_size(entry->state.size) + entry->state.size;
}
