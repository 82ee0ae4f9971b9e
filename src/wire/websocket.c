#include "wire/websocket.h"

#include "base/hash.h"
#include "wire/reader.h"

#define FIN 0x80u
#define RESERVED 0x70u
#define OPCODE 0x0fu
#define MASKED 0x80u
#define SIZE_16 126u /* the size follows in two bytes */
#define SIZE_64 127u /* in eight */

void tp_websocket_reader_init(struct tp_websocket_reader *reader, uint64_t message_size_max)
{
    *reader = (struct tp_websocket_reader){.message_size_max = message_size_max};
}

static bool is_control(uint8_t opcode)
{
    return (opcode & 0x08) != 0;
}

/* Bytes of the whole header, as far as the first `have` of them tell. */
static uint8_t head_size_wanted(const uint8_t *head, uint8_t have)
{
    if (have < 2)
        return 2;
    const uint8_t size = head[1] & 0x7f;
    return (uint8_t)(2 +
                     (size == SIZE_16   ? 2
                      : size == SIZE_64 ? 8
                                        : 0) +
                     ((head[1] & MASKED) ? 4 : 0));
}

static enum tp_status fail(struct tp_websocket_reader *reader, uint16_t code)
{
    reader->close_code = code;
    return TP_MALFORMED;
}

/* What the first two bytes alone can be refused for, before anything else is waited for. */
static bool first_bytes_allowed(const struct tp_websocket_reader *reader, const uint8_t *head)
{
    const uint8_t opcode = head[0] & OPCODE;
    const bool final = (head[0] & FIN) != 0;

    if ((head[0] & RESERVED) != 0) /* no extension was agreed on: section 5.2 */
        return false;
    if ((head[1] & MASKED) == 0) /* section 5.1 */
        return false;
    switch (opcode) {
    case TP_WEBSOCKET_CONTINUATION: /* section 5.4 */
        return reader->message_opcode != 0;
    case TP_WEBSOCKET_TEXT:
    case TP_WEBSOCKET_BINARY:
        return reader->message_opcode == 0;
    case TP_WEBSOCKET_CLOSE:
    case TP_WEBSOCKET_PING:
    case TP_WEBSOCKET_PONG: /* section 5.5 */
        return final && (head[1] & 0x7f) <= TP_WEBSOCKET_CONTROL_SIZE_MAX;
    default:
        return false;
    }
}

/* `head` is a whole header, in the input or gathered in reader->head. */
static enum tp_status begin_frame(struct tp_websocket_reader *reader, const uint8_t *head,
                                  size_t size)
{
    const uint8_t short_size = head[1] & 0x7f;
    struct tp_reader in = {.at = head + 2, .end = head + size};

    reader->opcode = head[0] & OPCODE;
    reader->final = (head[0] & FIN) != 0;
    reader->frame_offset = 0;
    reader->frame_size = short_size == SIZE_16   ? tp_read_big_endian(&in, 2)
                         : short_size == SIZE_64 ? tp_read_big_endian(&in, 8)
                                                 : short_size;
    memcpy(reader->mask, in.at, sizeof reader->mask);
    reader->head_size = 0;
    reader->in_payload = true;
    if (is_control(reader->opcode))
        return TP_OK;

    if (reader->frame_size >> 63 != 0) /* "the most significant bit MUST be 0": section 5.2 */
        return fail(reader, TP_WEBSOCKET_PROTOCOL_ERROR);
    if (reader->opcode != TP_WEBSOCKET_CONTINUATION) {
        reader->message_opcode = reader->opcode;
        reader->message_size = 0;
        reader->message_begun = false;
        reader->utf8 = (struct tp_utf8){0};
    }
    if (reader->frame_size > reader->message_size_max ||
        reader->message_size > reader->message_size_max - reader->frame_size)
        return fail(reader, TP_WEBSOCKET_TOO_BIG);
    reader->message_size += reader->frame_size;
    return TP_OK;
}

/* TP_OK: a header was read, and what it says is in `reader`. */
static enum tp_status read_head(struct tp_websocket_reader *reader, uint8_t **at, uint8_t *end)
{
    /* Mostly all of it is there: read it where it lies. */
    if (reader->head_size == 0 && end - *at >= 2) {
        const uint8_t *const head = *at;
        const size_t size = head_size_wanted(head, 2);
        if ((size_t)(end - head) >= size) {
            if (!first_bytes_allowed(reader, head))
                return fail(reader, TP_WEBSOCKET_PROTOCOL_ERROR);
            *at += size;
            return begin_frame(reader, head, size);
        }
    }
    for (uint8_t wanted;
         reader->head_size < (wanted = head_size_wanted(reader->head, reader->head_size));) {
        const size_t size = tp_min((size_t)(end - *at), wanted - reader->head_size);
        if (size == 0)
            return TP_MORE;
        memcpy(reader->head + reader->head_size, *at, size);
        reader->head_size += (uint8_t)size;
        *at += size;
        if (reader->head_size == 2 && !first_bytes_allowed(reader, reader->head))
            return fail(reader, TP_WEBSOCKET_PROTOCOL_ERROR);
    }
    return begin_frame(reader, reader->head, reader->head_size);
}

/* A control frame's payload is gathered, so that it is always handed out whole. */
static enum tp_status read_control(struct tp_websocket_reader *reader, uint8_t *data, size_t size,
                                   struct tp_websocket_piece *out)
{
    const bool last = reader->frame_offset == reader->frame_size;

    if (size != reader->frame_size) {
        memcpy(reader->head + reader->head_size, data, size);
        reader->head_size += (uint8_t)size;
        if (!last)
            return TP_MORE;
        data = reader->head;
    }
    *out = (struct tp_websocket_piece){
        .opcode = (enum tp_websocket_opcode)reader->opcode,
        .data = data,
        .size = (size_t)reader->frame_size,
        .first = true,
        .last = true,
        .size_claimed = reader->frame_size,
    };
    reader->in_payload = false;
    reader->head_size = 0;
    return TP_OK;
}

static enum tp_status read_data(struct tp_websocket_reader *reader, uint8_t *data, size_t size,
                                struct tp_websocket_piece *out)
{
    const bool frame_ends = reader->frame_offset == reader->frame_size;
    const bool last = frame_ends && reader->final;

    if (reader->message_opcode == TP_WEBSOCKET_TEXT) { /* section 8.1 */
        if (!tp_utf8_feed(&reader->utf8, tp_slice_of(data, size)) ||
            (last && !tp_utf8_whole(&reader->utf8)))
            return fail(reader, TP_WEBSOCKET_NOT_UTF8);
    }
    *out = (struct tp_websocket_piece){
        .opcode = (enum tp_websocket_opcode)reader->message_opcode,
        .data = data,
        .size = size,
        .first = !reader->message_begun,
        .last = last,
        .size_claimed = reader->message_size,
    };
    reader->message_begun = true;
    reader->in_payload = !frame_ends;
    if (last)
        reader->message_opcode = 0;
    return TP_OK;
}

enum tp_status tp_websocket_read(struct tp_websocket_reader *reader, uint8_t **at, uint8_t *end,
                                 struct tp_websocket_piece *out)
{
    if (reader->close_code != 0)
        return TP_MALFORMED;

    for (;;) {
        if (!reader->in_payload) {
            const enum tp_status status = read_head(reader, at, end);
            if (status != TP_OK)
                return status;
        } else if (*at == end) {
            return TP_MORE;
        }

        uint8_t *const data = *at;
        const size_t size =
            (size_t)tp_min((size_t)(end - data), reader->frame_size - reader->frame_offset);
        if (size == 0 && reader->frame_size > 0)
            return TP_MORE;
        tp_websocket_unmask(data, size, reader->mask, reader->frame_offset);
        reader->frame_offset += size;
        *at += size;
        if (!is_control(reader->opcode))
            return read_data(reader, data, size, out);
        if (read_control(reader, data, size, out) == TP_OK)
            return TP_OK;
    }
}

enum tp_status tp_websocket_close_decode(struct tp_slice payload, uint16_t *code,
                                         struct tp_slice *reason)
{
    struct tp_reader in = tp_reader_of(payload);

    *code = TP_WEBSOCKET_NO_CODE;
    *reason = (struct tp_slice){0};
    if (payload.size == 0)
        return TP_OK;
    const uint16_t sent = (uint16_t)tp_read_big_endian(&in, 2);
    if (in.bad || !tp_websocket_close_code_valid(sent)) { /* one byte is no code */
        *code = TP_WEBSOCKET_PROTOCOL_ERROR;
        return TP_MALFORMED;
    }
    const struct tp_slice text = tp_slice_of(payload.data + 2, payload.size - 2);
    if (!tp_utf8_valid(text)) {
        *code = TP_WEBSOCKET_NOT_UTF8;
        return TP_MALFORMED;
    }
    *code = sent;
    *reason = text;
    return TP_OK;
}

size_t tp_websocket_head(uint8_t out[TP_WEBSOCKET_HEAD_SIZE_MAX], enum tp_websocket_opcode opcode,
                         uint64_t payload_size)
{
    size_t bytes = 0; /* of the extended size */

    out[0] = (uint8_t)(FIN | opcode);
    if (payload_size < SIZE_16) {
        out[1] = (uint8_t)payload_size;
    } else if (payload_size <= UINT16_MAX) {
        out[1] = SIZE_16;
        bytes = 2;
    } else {
        out[1] = SIZE_64;
        bytes = 8;
    }
    for (size_t i = 0; i < bytes; i++)
        out[2 + i] = (uint8_t)(payload_size >> (8 * (bytes - 1 - i)));
    return 2 + bytes;
}

void tp_websocket_seal(struct tp_frame *frame, enum tp_websocket_opcode opcode)
{
    uint8_t head[TP_WEBSOCKET_HEAD_SIZE_MAX];

    if (frame->start != TP_FRAME_HEAD_SIZE)
        return;
    const size_t size = tp_websocket_head(head, opcode, tp_frame_message(frame).size);
    frame->start -= (uint32_t)size;
    memcpy(frame->data + frame->start, head, size);
}

void tp_websocket_unmask(uint8_t *bytes, size_t size, const uint8_t mask[4], uint64_t phase)
{
    /* 64 bytes a step in vectors of 16, which every x86-64 and arm64 has (wider ones the compiler
     * would take apart through memory). The mask repeats every four bytes, so it is the same for
     * every step. */
    typedef uint32_t words __attribute__((vector_size(16)));
    uint8_t turned[4];
    uint32_t word;
    size_t i = 0;

    for (size_t n = 0; n < 4; n++)
        turned[n] = mask[(phase + n) & 3];
    memcpy(&word, turned, 4);
    const words repeated = {word, word, word, word};
    for (words chunk[4]; size - i >= sizeof chunk; i += sizeof chunk) {
        memcpy(chunk, bytes + i, sizeof chunk);
        chunk[0] ^= repeated;
        chunk[1] ^= repeated;
        chunk[2] ^= repeated;
        chunk[3] ^= repeated;
        memcpy(bytes + i, chunk, sizeof chunk);
    }
    for (words chunk; size - i >= sizeof chunk; i += sizeof chunk) {
        memcpy(&chunk, bytes + i, sizeof chunk);
        chunk ^= repeated;
        memcpy(bytes + i, &chunk, sizeof chunk);
    }
    for (; size - i >= 4; i += 4) {
        uint32_t chunk;
        memcpy(&chunk, bytes + i, 4);
        chunk ^= word;
        memcpy(bytes + i, &chunk, 4);
    }
    for (; i < size; i++)
        bytes[i] ^= turned[i & 3];
}

bool tp_websocket_key_valid(struct tp_slice key)
{
    uint8_t room[TP_WEBSOCKET_KEY_SIZE];
    struct tp_buffer bytes = tp_buffer_fixed(room, sizeof room);

    return key.size == TP_WEBSOCKET_KEY_SIZE && tp_base64_decode(key, &bytes) == TP_OK &&
           bytes.size == 16;
}

void tp_websocket_accept(struct tp_slice key, char out[28])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* section 1.3 */
    uint8_t text[TP_WEBSOCKET_KEY_SIZE + sizeof guid - 1];
    uint8_t digest[TP_SHA1_SIZE];
    uint8_t room[32];
    struct tp_buffer encoded = tp_buffer_fixed(room, sizeof room);

    TP_ASSERT(key.size == TP_WEBSOCKET_KEY_SIZE);
    memcpy(text, key.data, key.size);
    memcpy(text + key.size, guid, sizeof guid - 1);
    tp_sha1(tp_slice_of(text, sizeof text), digest);
    tp_base64_encode(tp_slice_of(digest, sizeof digest), &encoded);
    TP_ASSERT(encoded.size == 28);
    memcpy(out, encoded.data, 28);
}

bool tp_websocket_close_code_valid(uint16_t code)
{
    if (code >= 3000 && code <= 4999) /* registered, and private: section 7.4.2 */
        return true;
    /* 1004 to 1006 and 1015 are never sent; up to 1014 the registry has names for the rest. */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}
