/* No bytes make a record's decoder crash, overrun or loop; and what one accepts, the encoder writes
 * again as the same bytes. */
#include "wire/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(struct tp_buffer *again, struct tp_slice bytes)
{
    TP_ASSERT(tp_slice_equal(tp_buffer_slice(again), bytes));
    again->size = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tp_slice bytes = {data, size};
    struct tp_buffer again = tp_buffer_growing(size + 64);
    struct tp_slice room, document, rest = bytes;
    struct tp_name_record name;
    struct tp_metadata_record metadata;
    struct tp_base_record base;
    struct tp_log_entry entry;

    if (tp_name_record_decode(bytes, &name) == TP_OK) {
        tp_name_record_encode(&name, &again);
        same(&again, bytes);
    }
    if (tp_metadata_record_decode(bytes, &metadata) == TP_OK) {
        tp_metadata_record_encode(&metadata, &again);
        same(&again, bytes);
    }
    if (tp_base_record_decode(bytes, &base) == TP_OK) {
        tp_base_record_head_encode(&base, &again);
        tp_buffer_append(&again, base.update.data, base.update.size);
        same(&again, bytes);
    }
    while (tp_log_entry_next(&rest, &entry) == TP_OK) {
        tp_log_entry_head_encode(&entry, &again);
        tp_buffer_append(&again, entry.update.data, entry.update.size);
    }
    same(&again, tp_slice_of(data, size - rest.size));
    if (tp_record_name_key_decode(bytes, &room, &document) == TP_OK) {
        TP_ASSERT(tp_record_name_key(room, document, &again) == TP_OK);
        same(&again, bytes);
    }
    tp_buffer_finish(&again);
    return 0;
}
