/* No bytes make the y-websocket dialect crash, overrun or loop; and what it takes and we write
 * reads back as the same message. */
#include "dialect/dialect.h"
#include "wire/yprotocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* At most one message a time comes out of bytes that live as long as it does. */
static void keep(void *context, struct tp_message *message)
{
    struct tp_message *kept = context;

    TP_ASSERT(kept->raw.data == NULL && message->raw.data != NULL);
    *kept = *message;
}

static enum tp_status decode(struct tp_slice bytes, struct tp_message *out)
{
    const struct tp_dialect_state state = {.document = TP_SLICE("d")};
    enum tp_close_reason reason = TP_CLOSE_NORMAL;

    *out = (struct tp_message){0};
    const enum tp_status status =
        tp_dialect_get(TP_DIALECT_YWEBSOCKET)
            ->decode(&state, bytes, (struct tp_message_sink){keep, out}, &reason);
    TP_ASSERT((status == TP_OK) == (reason == TP_CLOSE_NORMAL));
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tp_slice bytes = {data, size};
    struct tp_buffer once = tp_buffer_growing(size + 64), twice = tp_buffer_growing(size + 64);
    struct tp_message message, again;

    const bool is_claimed = tp_dialect_get(TP_DIALECT_YWEBSOCKET)->claims(bytes);
    const enum tp_status status = decode(bytes, &message);
    TP_ASSERT(!is_claimed || (message.raw.data == data && message.raw.size == size));
    if (status != TP_OK || message.raw.data == NULL)
        return 0;

    TP_ASSERT(tp_yprotocol_write(&message, &once) == TP_OK);
    TP_ASSERT(decode(tp_buffer_slice(&once), &again) == TP_OK);
    TP_ASSERT(again.kind == message.kind && again.raw.size == once.size);
    TP_ASSERT(tp_yprotocol_write(&again, &twice) == TP_OK);
    TP_ASSERT(tp_slice_equal(tp_buffer_slice(&once), tp_buffer_slice(&twice)));
    tp_buffer_finish(&once);
    tp_buffer_finish(&twice);
    return 0;
}
