/* No bytes make Teleportal's decoders crash, overrun or loop; and what one accepts and we write
 * reads back as the same message. */
#include "dialect/dialect.h"
#include "wire/container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_container(const struct tp_message_update *update)
{
    struct tp_container_walk walk = tp_container_sidecars(update);
    struct tp_slice bytes;
    struct tp_container_range range;
    uint32_t count = 0;

    while (tp_container_bytes_next(&walk, &bytes))
        count++;
    TP_ASSERT(count == update->sidecar_count);
    if (!update->compaction)
        return;
    struct tp_container_compaction compaction = tp_container_compaction(update);
    while (tp_container_range_next(&compaction.index, &range))
        TP_ASSERT(range.client <= UINT64_C(1) << 53);
    while (tp_container_bytes_next(&compaction.sources, &bytes))
        TP_ASSERT(bytes.data != NULL);
}

static void walk_heartbeat(const struct tp_message_presence *heartbeat)
{
    struct tp_slice entries = heartbeat->entries;
    struct tp_message_presence entry;
    uint64_t count = 0;

    while (tp_teleportal_presence_next(&entries, &entry) == TP_OK)
        count++;
    TP_ASSERT(entries.size == 0 && count == heartbeat->entry_count);
}

static void look_closer(const struct tp_message *message)
{
    if (message->kind == TP_MESSAGE_UPDATE || message->kind == TP_MESSAGE_SYNC_STEP_2) {
        TP_ASSERT(message->update.bad_container == (message->update.v2.data == NULL));
        if (!message->update.bad_container)
            walk_container(&message->update);
    }
    if (message->kind == TP_MESSAGE_PRESENCE_HEARTBEAT)
        walk_heartbeat(&message->presence);
}

static void decode_and_write(struct tp_slice frame)
{
    struct tp_buffer once = tp_buffer_growing(2 * frame.size + 64);
    struct tp_buffer twice = tp_buffer_growing(2 * frame.size + 64);
    struct tp_message message, again;
    enum tp_close_reason reason;

    if (tp_teleportal_decode(frame, &message, &reason) != TP_OK)
        return;
    look_closer(&message);
    TP_ASSERT(tp_teleportal_encode(&message, message.document, &once) == TP_OK);
    TP_ASSERT(tp_teleportal_decode(tp_buffer_slice(&once), &again, &reason) == TP_OK);
    TP_ASSERT(again.kind == message.kind && again.encrypted == message.encrypted);
    TP_ASSERT(tp_slice_equal(again.document, message.document));
    TP_ASSERT(tp_teleportal_encode(&again, again.document, &twice) == TP_OK);
    TP_ASSERT(tp_slice_equal(tp_buffer_slice(&once), tp_buffer_slice(&twice)));
    tp_buffer_finish(&once);
    tp_buffer_finish(&twice);
}

static void count(void *context, struct tp_message *message)
{
    TP_ASSERT(message->raw.data != NULL);
    ++*(unsigned *)context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tp_slice bytes = {data, size};
    const struct tp_dialect *dialect = tp_dialect_get(TP_DIALECT_TELEPORTAL);
    struct tp_slice rest = bytes, frame, source;
    enum tp_close_reason reason;
    unsigned taken = 0;

    const bool is_decoded =
        dialect->decode(&(struct tp_dialect_state){0}, bytes,
                        (struct tp_message_sink){count, &taken}, &reason) == TP_OK;
    TP_ASSERT(taken == is_decoded);
    decode_and_write(bytes);
    while (tp_teleportal_array_next(&rest, &frame) == TP_OK)
        decode_and_write(frame);
    if (tp_teleportal_envelope_decode(bytes, &source, &frame) == TP_OK)
        decode_and_write(frame);
    return 0;
}
