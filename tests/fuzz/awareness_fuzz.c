/* No bytes make the awareness walk crash, overrun or loop; and what it accepts and we write walks
 * the same. */
#include "wire/awareness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(struct tp_slice update, struct tp_buffer *out)
{
    struct tp_awareness_walk walk;
    struct tp_awareness_entry entry;
    enum tp_status status = tp_awareness_walk(update, &walk);

    TP_ASSERT(status == TP_OK);
    tp_awareness_write_count(out, walk.left);
    while ((status = tp_awareness_next(&walk, &entry)) == TP_OK) {
        const size_t before = out->size;
        tp_awareness_write_entry(out, &entry);
        TP_ASSERT(out->size - before == tp_awareness_entry_size(&entry));
    }
    TP_ASSERT(status == TP_ABSENT && !out->full);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tp_slice update = {data, size};
    struct tp_buffer once = tp_buffer_growing(size + 64), twice = tp_buffer_growing(size + 64);

    if (!tp_awareness_valid(update))
        return 0;
    rewrite(update, &once);
    TP_ASSERT(tp_awareness_valid(tp_buffer_slice(&once)));
    rewrite(tp_buffer_slice(&once), &twice);
    TP_ASSERT(tp_slice_equal(tp_buffer_slice(&once), tp_buffer_slice(&twice)));
    tp_buffer_finish(&once);
    tp_buffer_finish(&twice);
    return 0;
}
