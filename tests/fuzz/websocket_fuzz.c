/* WebSocket frames from a client. The first byte says how the rest is cut: cut or whole, the same
 * messages are read and the same is refused. */
#include <stdlib.h>

#include "base/random.h"
#include "fuzz/fuzz.h"
#include "wire/websocket.h"

#define MESSAGE_SIZE_MAX 300u

static void log_message(struct tp_buffer *log, uint8_t opcode, struct tp_slice bytes)
{
    tp_buffer_append(log, &opcode, 1);
    tp_buffer_append(log, &bytes.size, sizeof bytes.size);
    if (bytes.size > 0)
        tp_buffer_append(log, bytes.data, bytes.size);
}

/* Whole messages only: how much of a message that is refused later was handed out before depends on
 * the cuts. Returns false when the reader refused. */
static bool feed(struct tp_websocket_reader *reader, uint8_t *at, size_t size,
                 struct tp_buffer *message, struct tp_buffer *log)
{
    uint8_t *const end = at + size;
    struct tp_websocket_piece piece;
    enum tp_status status;

    while ((status = tp_websocket_read(reader, &at, end, &piece)) == TP_OK) {
        if (piece.opcode >= TP_WEBSOCKET_CLOSE) {
            uint16_t code;
            struct tp_slice reason;
            TP_ASSERT(piece.first && piece.last && piece.size <= TP_WEBSOCKET_CONTROL_SIZE_MAX);
            if (tp_websocket_close_decode(tp_slice_of(piece.data, piece.size), &code, &reason) ==
                TP_OK)
                TP_ASSERT(code == TP_WEBSOCKET_NO_CODE || tp_websocket_close_code_valid(code));
            log_message(log, (uint8_t)piece.opcode, tp_slice_of(piece.data, piece.size));
            continue;
        }
        TP_ASSERT(piece.opcode == TP_WEBSOCKET_TEXT || piece.opcode == TP_WEBSOCKET_BINARY);
        if (piece.first)
            message->size = 0;
        tp_buffer_append(message, piece.data, piece.size);
        TP_ASSERT(message->size <= piece.size_claimed && piece.size_claimed <= MESSAGE_SIZE_MAX);
        if (!piece.last)
            continue;
        TP_ASSERT(message->size == piece.size_claimed);
        TP_ASSERT(piece.opcode == TP_WEBSOCKET_BINARY || message->size == 0 ||
                  tp_utf8_valid(tp_buffer_slice(message)));
        log_message(log, (uint8_t)piece.opcode, tp_buffer_slice(message));
    }
    if (status == TP_MALFORMED) {
        TP_ASSERT(reader->close_code == 1002 || reader->close_code == 1007 ||
                  reader->close_code == 1009);
        tp_buffer_append(log, &reader->close_code, sizeof reader->close_code);
        return false;
    }
    TP_ASSERT(status == TP_MORE && at == end);
    return true;
}

static struct tp_buffer read_in_parts(struct tp_slice bytes, struct tp_random *random)
{
    struct tp_websocket_reader reader;
    struct tp_buffer log = fuzz_room(), message = fuzz_room();

    tp_websocket_reader_init(&reader, MESSAGE_SIZE_MAX);
    while (bytes.size > 0) {
        const uint64_t wanted = random == NULL ? bytes.size : 1 + tp_random_below(random, 20);
        const size_t size = tp_min(bytes.size, wanted);
        uint8_t *part = malloc(size); /* of its own, so that reading behind it is seen */
        memcpy(part, bytes.data, size);
        const bool goes_on = feed(&reader, part, size, &message, &log);
        free(part);
        if (!goes_on)
            break;
        bytes = tp_slice_of(bytes.data + size, bytes.size - size);
    }
    tp_buffer_finish(&message);
    return log;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct tp_random random = {data[0]};
    const struct tp_slice bytes = tp_slice_of(data + 1, size - 1);

    struct tp_buffer whole = read_in_parts(bytes, NULL);
    struct tp_buffer parts = read_in_parts(bytes, &random);
    fuzz_claim_equal(&whole, &parts);
    tp_buffer_finish(&whole);
    tp_buffer_finish(&parts);
    return 0;
}
