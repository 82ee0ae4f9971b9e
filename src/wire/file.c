#include "wire/file.h"

/* ---- how a file is cut --------------------------------------------------------------------------
 */

static uint32_t piece_size(uint32_t chunk_size, bool encrypted)
{
    TP_ASSERT(chunk_size >= TP_FILE_CHUNK_SIZE_MIN);
    return encrypted ? chunk_size - TP_FILE_SEAL_SIZE : chunk_size;
}

uint64_t tp_file_size_max(uint32_t chunk_size, bool encrypted, uint64_t size_max)
{
    return tp_min(size_max, (uint64_t)TP_FILE_CHUNK_COUNT_MAX * piece_size(chunk_size, encrypted));
}

uint32_t tp_file_chunk_count(const struct tp_file_shape *shape)
{
    const uint32_t each = piece_size(shape->chunk_size, shape->encrypted);
    const uint64_t count = shape->size / each + (shape->size % each != 0);

    TP_ASSERT(count <= TP_FILE_CHUNK_COUNT_MAX);
    return count == 0 ? 1 : (uint32_t)count;
}

uint32_t tp_file_chunk_size(const struct tp_file_shape *shape, uint32_t index)
{
    const uint32_t each = piece_size(shape->chunk_size, shape->encrypted);
    const uint32_t count = tp_file_chunk_count(shape);

    TP_ASSERT(index < count);
    if (index + 1 < count)
        return shape->chunk_size;
    return (uint32_t)(shape->size - (uint64_t)each * index) +
           (shape->encrypted ? TP_FILE_SEAL_SIZE : 0);
}

/* ---- names --------------------------------------------------------------------------------------
 */

void tp_file_id_write(const uint8_t id[TP_FILE_ID_SIZE], uint8_t out[TP_FILE_ID_TEXT_SIZE])
{
    uint8_t room[TP_FILE_ID_TEXT_SIZE + 1]; /* and the encoder's NUL */
    struct tp_buffer text = tp_buffer_fixed(room, sizeof room);

    tp_base64_encode(tp_slice_of(id, TP_FILE_ID_SIZE), &text);
    TP_ASSERT(text.size == TP_FILE_ID_TEXT_SIZE);
    memcpy(out, room, TP_FILE_ID_TEXT_SIZE);
}

enum tp_status tp_file_id_parse(struct tp_slice text, uint8_t out[TP_FILE_ID_SIZE])
{
    uint8_t room[TP_FILE_ID_TEXT_SIZE], again[TP_FILE_ID_TEXT_SIZE];
    struct tp_buffer bytes = tp_buffer_fixed(room, sizeof room);

    if (text.size != TP_FILE_ID_TEXT_SIZE || tp_base64_decode(text, &bytes) != TP_OK ||
        bytes.size != TP_FILE_ID_SIZE)
        return TP_MALFORMED;
    /* The last letter has bits that mean nothing: one file must not have two names. */
    tp_file_id_write(room, again);
    if (memcmp(again, text.data, sizeof again) != 0)
        return TP_MALFORMED;
    memcpy(out, room, TP_FILE_ID_SIZE);
    return TP_OK;
}

/* ---- writing ------------------------------------------------------------------------------------
 */

static void write_string(struct tp_buffer *out, struct tp_slice key, struct tp_slice text)
{
    tp_write_bytes(out, key);
    tp_any_write_string(out, text);
}

static void write_number(struct tp_buffer *out, struct tp_slice key, double number)
{
    tp_write_bytes(out, key);
    tp_any_write_number(out, number);
}

static void write_bool(struct tp_buffer *out, struct tp_slice key, bool value)
{
    tp_write_bytes(out, key);
    tp_write_u8(out, value ? TP_ANY_TRUE : TP_ANY_FALSE);
}

static bool has(const uint8_t *bits, uint32_t index)
{
    return bits[index / 8] >> index % 8 & 1;
}

static uint32_t count_present(const struct tp_file_offer *offer)
{
    uint32_t count = 0;

    for (uint32_t index = 0; offer->present != NULL && index < offer->chunk_count; index++)
        count += has(offer->present, index);
    return count;
}

void tp_file_offer_write(const struct tp_file_offer *offer, struct tp_buffer *out)
{
    const uint32_t present_count = count_present(offer);

    tp_any_write_object(out, 3u + offer->mismatch + offer->exists + (present_count > 0));
    write_string(out, TP_SLICE("fileId"), offer->file_id);
    write_bool(out, TP_SLICE("allowed"), true);
    if (offer->exists)
        write_bool(out, TP_SLICE("alreadyExists"), true);
    if (present_count > 0) {
        tp_write_bytes(out, TP_SLICE("existingChunks"));
        tp_any_write_array(out, present_count);
        for (uint32_t index = 0; index < offer->chunk_count; index++)
            if (has(offer->present, index))
                tp_any_write_number(out, index);
    }
    write_number(out, TP_SLICE("chunkSize"), offer->chunk_size);
    if (offer->mismatch)
        write_bool(out, TP_SLICE("chunkSizeMismatch"), true);
}

size_t tp_file_piece_size(const struct tp_file_piece *piece)
{
    return 160 + piece->file_id.size + piece->bytes.size +
           (size_t)piece->sibling_count * (TP_SHA256_SIZE + 2);
}

void tp_file_piece_write(const struct tp_file_piece *piece, struct tp_buffer *out)
{
    tp_any_write_object(out, 7);
    write_string(out, TP_SLICE("fileId"), piece->file_id);
    write_number(out, TP_SLICE("chunkIndex"), piece->chunk_index);
    tp_write_bytes(out, TP_SLICE("chunkData"));
    tp_any_write_bytes(out, piece->bytes);
    tp_write_bytes(out, TP_SLICE("merkleProof"));
    tp_any_write_array(out, piece->sibling_count);
    for (uint32_t nth = 0; nth < piece->sibling_count; nth++)
        tp_any_write_bytes(out, tp_slice_of(piece->siblings[nth], TP_SHA256_SIZE));
    write_number(out, TP_SLICE("totalChunks"), piece->chunk_count);
    write_number(out, TP_SLICE("bytesUploaded"), (double)piece->sent_size);
    write_bool(out, TP_SLICE("encrypted"), piece->encrypted);
}

void tp_file_facts_write(const struct tp_file_facts *facts, struct tp_buffer *out)
{
    tp_any_write_object(out, 8);
    write_string(out, TP_SLICE("fileId"), facts->file_id);
    write_bool(out, TP_SLICE("allowed"), true);
    write_string(out, TP_SLICE("filename"), facts->name);
    write_number(out, TP_SLICE("size"), (double)facts->size);
    write_string(out, TP_SLICE("mimeType"), facts->type);
    write_number(out, TP_SLICE("lastModified"), (double)facts->modified_ms);
    write_bool(out, TP_SLICE("encrypted"), facts->encrypted);
    write_number(out, TP_SLICE("totalChunks"), facts->chunk_count);
}
