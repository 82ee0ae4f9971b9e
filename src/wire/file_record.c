#include "wire/file_record.h"

#include "wire/reader.h"
#include "wire/writer.h"

/* ---- keys ---------------------------------------------------------------------------------------
 */

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
    if (size > 0)
        memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_number(uint8_t *at, uint64_t number)
{
    number = __builtin_bswap64(number);
    return put(at, &number, sizeof number);
}

static void put_chunk_key(enum tp_file_key kind, uint64_t number, uint32_t index, uint8_t *out)
{
    *out = (uint8_t)kind;
    index = __builtin_bswap32(index);
    put(put_number(out + 1, number), &index, sizeof index);
}

void tp_file_owner(struct tp_slice room, struct tp_slice user, struct tp_slice document,
                   uint8_t out[TP_FILE_OWNER_SIZE])
{
    const struct tp_slice nul = {(const uint8_t *)"", 1};
    /* No room or user holds a NUL: a document without user is not like any user. */
    const struct tp_slice of_user[] = {room, nul, user};
    const struct tp_slice of_document[] = {room, nul, nul, document};
    uint8_t digest[TP_SHA256_SIZE];

    if (user.size > 0)
        tp_sha256_pieces(of_user, 3, digest);
    else
        tp_sha256_pieces(of_document, 4, digest);
    memcpy(out, digest, TP_FILE_OWNER_SIZE);
}

void tp_upload_key(const uint8_t owner[TP_FILE_OWNER_SIZE], const uint8_t file[TP_FILE_ID_SIZE],
                   uint8_t out[TP_UPLOAD_KEY_SIZE])
{
    *out = TP_KEY_UPLOAD;
    put(put(out + 1, owner, TP_FILE_OWNER_SIZE), file, TP_FILE_ID_SIZE);
}

void tp_leaf_key(uint64_t number, uint32_t index, uint8_t out[TP_CHUNK_KEY_SIZE])
{
    put_chunk_key(TP_KEY_LEAF, number, index, out);
}

void tp_chunk_key(uint64_t number, uint32_t index, uint8_t out[TP_CHUNK_KEY_SIZE])
{
    put_chunk_key(TP_KEY_CHUNK, number, index, out);
}

void tp_garbage_key(uint64_t number, uint8_t out[TP_GARBAGE_KEY_SIZE])
{
    *out = TP_KEY_GARBAGE;
    put_number(out + 1, number);
}

void tp_manifest_key(const uint8_t file[TP_FILE_ID_SIZE], uint8_t out[TP_MANIFEST_KEY_SIZE])
{
    *out = TP_KEY_MANIFEST;
    put(out + 1, file, TP_FILE_ID_SIZE);
}

struct tp_slice tp_listed_key(struct tp_slice name, const uint8_t *file, uint8_t *out)
{
    uint8_t *at = out;

    TP_ASSERT(name.size <= 2 * TP_RECORD_NAME_SIZE_MAX + 1);
    *at++ = TP_KEY_LISTED;
    at = put(at, name.data, name.size);
    *at++ = 0;
    if (file != NULL)
        at = put(at, file, TP_FILE_ID_SIZE);
    return tp_slice_of(out, (size_t)(at - out));
}

struct tp_slice tp_reference_key(const uint8_t file[TP_FILE_ID_SIZE], struct tp_slice name,
                                 uint8_t *out)
{
    uint8_t *at = out;

    TP_ASSERT(name.size <= 2 * TP_RECORD_NAME_SIZE_MAX + 1);
    *at++ = TP_KEY_REFERENCE;
    at = put(at, file, TP_FILE_ID_SIZE);
    at = put(at, name.data, name.size);
    return tp_slice_of(out, (size_t)(at - out));
}

enum tp_status tp_leaf_key_decode(struct tp_slice key, uint64_t *number, uint32_t *index)
{
    struct tp_reader in = tp_reader_of(key);

    if (key.size != TP_CHUNK_KEY_SIZE || tp_read_u8(&in) != TP_KEY_LEAF)
        return TP_MALFORMED;
    *number = tp_read_big_endian(&in, 8);
    *index = (uint32_t)tp_read_big_endian(&in, 4);
    return TP_OK;
}

enum tp_status tp_garbage_key_decode(struct tp_slice key, uint64_t *number)
{
    struct tp_reader in = tp_reader_of(key);

    if (key.size != TP_GARBAGE_KEY_SIZE || tp_read_u8(&in) != TP_KEY_GARBAGE)
        return TP_MALFORMED;
    *number = tp_read_big_endian(&in, 8);
    return TP_OK;
}

enum tp_status tp_manifest_key_decode(struct tp_slice key, const uint8_t **file)
{
    if (key.size != TP_MANIFEST_KEY_SIZE || key.data[0] != TP_KEY_MANIFEST)
        return TP_MALFORMED;
    *file = key.data + 1;
    return TP_OK;
}

enum tp_status tp_reference_key_decode(struct tp_slice key, const uint8_t **file,
                                       struct tp_slice *name)
{
    const size_t head_size = 1 + TP_FILE_ID_SIZE;
    struct tp_slice room, document;

    if (key.size <= head_size || key.data[0] != TP_KEY_REFERENCE)
        return TP_MALFORMED;
    const struct tp_slice rest = {key.data + head_size, key.size - head_size};
    if (tp_record_name_key_decode(rest, &room, &document) != TP_OK)
        return TP_MALFORMED;
    *file = key.data + 1;
    *name = rest;
    return TP_OK;
}

/* ---- fields -------------------------------------------------------------------------------------
 */

/* A varuint in its shortest form. One value must have one form: records are compared as bytes. */
static uint64_t read_number(struct tp_reader *in)
{
    const uint8_t *const start = in->at;
    const uint64_t value = tp_read_varuint(in);

    in->bad |= !in->bad && (size_t)(in->at - start) != tp_varuint_size(value);
    return in->bad ? 0 : value;
}

static uint32_t read_small(struct tp_reader *in)
{
    const uint64_t value = read_number(in);

    in->bad |= value > UINT32_MAX;
    return in->bad ? 0 : (uint32_t)value;
}

static struct tp_slice read_text(struct tp_reader *in, size_t size_max)
{
    const struct tp_slice text = tp_read_raw(in, read_number(in));

    in->bad |= text.size > size_max;
    return text;
}

static void read_format(struct tp_reader *in, uint8_t format)
{
    in->bad |= tp_read_u8(in) != format;
}

static void read_shape(struct tp_reader *in, struct tp_file_shape *out)
{
    out->size = read_number(in);
    out->chunk_size = read_small(in);
    const uint8_t encrypted = tp_read_u8(in);
    out->encrypted = encrypted == 1;
    in->bad |= encrypted > 1 || out->chunk_size < TP_FILE_CHUNK_SIZE_MIN;
    if (!in->bad)
        in->bad |= out->size > tp_file_size_max(out->chunk_size, out->encrypted, UINT64_MAX);
}

static void write_shape(const struct tp_file_shape *shape, struct tp_buffer *out)
{
    tp_write_varuint(out, shape->size);
    tp_write_varuint(out, shape->chunk_size);
    tp_write_u8(out, shape->encrypted);
}

static enum tp_status end(const struct tp_reader *in)
{
    return in->bad || tp_reader_left(in) != 0 ? TP_MALFORMED : TP_OK;
}

/* ---- uploads ------------------------------------------------------------------------------------
 */

void tp_upload_record_number_encode(uint64_t number, struct tp_buffer *out)
{
    TP_ASSERT(number != 0);
    tp_write_u8(out, TP_RECORD_UPLOAD);
    tp_write_big_endian(out, number, 8);
}

void tp_upload_record_encode(const struct tp_upload_record *record, struct tp_buffer *out)
{
    TP_ASSERT(record->document_count > 0);
    TP_ASSERT(record->document_count <= TP_UPLOAD_DOCUMENT_COUNT_MAX);
    tp_upload_record_number_encode(record->number, out);
    write_shape(&record->shape, out);
    tp_write_varuint(out, record->begun_ms);
    tp_write_bytes(out, record->name);
    tp_write_bytes(out, record->type);
    tp_write_varuint(out, record->document_count);
    for (uint32_t nth = 0; nth < record->document_count; nth++) {
        tp_write_bytes(out, record->documents[nth].name);
        tp_write_varuint(out, record->documents[nth].epoch);
    }
}

enum tp_status tp_upload_record_decode(struct tp_slice bytes, struct tp_upload_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_upload_record record = {0};
    struct tp_slice room, document;

    read_format(&in, TP_RECORD_UPLOAD);
    record.number = tp_read_big_endian(&in, 8);
    read_shape(&in, &record.shape);
    record.begun_ms = read_number(&in);
    record.name = read_text(&in, TP_FILE_NAME_SIZE_MAX);
    record.type = read_text(&in, TP_FILE_TYPE_SIZE_MAX);
    record.document_count = read_small(&in);
    in.bad |= record.number == 0 || record.document_count == 0 ||
              record.document_count > TP_UPLOAD_DOCUMENT_COUNT_MAX;
    for (uint32_t nth = 0; !in.bad && nth < record.document_count; nth++) {
        struct tp_slice *name = &record.documents[nth].name;

        *name = tp_read_raw(&in, read_number(&in));
        in.bad |= tp_record_name_key_decode(*name, &room, &document) != TP_OK;
        record.documents[nth].epoch = read_number(&in);
    }
    if (end(&in) != TP_OK)
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}

void tp_leaf_record_encode(const struct tp_leaf_record *record, struct tp_buffer *out)
{
    tp_write_u8(out, TP_RECORD_LEAF);
    tp_buffer_append(out, record->hash, TP_SHA256_SIZE);
    tp_write_varuint(out, record->stored_ms);
}

enum tp_status tp_leaf_record_decode(struct tp_slice bytes, struct tp_leaf_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_leaf_record record;

    read_format(&in, TP_RECORD_LEAF);
    record.hash = tp_read_raw(&in, TP_SHA256_SIZE).data;
    record.stored_ms = read_number(&in);
    if (end(&in) != TP_OK)
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}

void tp_garbage_record_encode(uint32_t chunk_count, struct tp_buffer *out)
{
    tp_write_u8(out, TP_RECORD_GARBAGE);
    tp_write_varuint(out, chunk_count);
}

enum tp_status tp_garbage_record_decode(struct tp_slice bytes, uint32_t *chunk_count)
{
    struct tp_reader in = tp_reader_of(bytes);

    read_format(&in, TP_RECORD_GARBAGE);
    const uint32_t count = read_small(&in);
    if (end(&in) != TP_OK || count > TP_FILE_CHUNK_COUNT_MAX)
        return TP_MALFORMED;
    *chunk_count = count;
    return TP_OK;
}

/* ---- files --------------------------------------------------------------------------------------
 */

void tp_manifest_record_encode(const struct tp_manifest_record *record, struct tp_buffer *out)
{
    TP_ASSERT(record->generation != 0 && record->number != 0 && record->chunk_count != 0);
    tp_write_u8(out, TP_RECORD_MANIFEST);
    tp_write_varuint(out, record->generation);
    tp_write_big_endian(out, record->number, 8);
    tp_write_varuint(out, record->chunk_count);
}

enum tp_status tp_manifest_record_decode(struct tp_slice bytes, struct tp_manifest_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_manifest_record record;

    read_format(&in, TP_RECORD_MANIFEST);
    record.generation = read_number(&in);
    record.number = tp_read_big_endian(&in, 8);
    record.chunk_count = read_small(&in);
    if (end(&in) != TP_OK || record.generation == 0 || record.number == 0 ||
        record.chunk_count == 0 || record.chunk_count > TP_FILE_CHUNK_COUNT_MAX)
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}

void tp_listed_record_encode(const struct tp_listed_record *record, struct tp_buffer *out)
{
    tp_write_u8(out, TP_RECORD_LISTED);
    tp_write_varuint(out, record->epoch);
    write_shape(&record->shape, out);
    tp_write_varuint(out, record->stored_ms);
    tp_write_bytes(out, record->name);
    tp_write_bytes(out, record->type);
}

enum tp_status tp_listed_record_decode(struct tp_slice bytes, struct tp_listed_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_listed_record record;

    read_format(&in, TP_RECORD_LISTED);
    record.epoch = read_number(&in);
    read_shape(&in, &record.shape);
    record.stored_ms = read_number(&in);
    record.name = read_text(&in, TP_FILE_NAME_SIZE_MAX);
    record.type = read_text(&in, TP_FILE_TYPE_SIZE_MAX);
    if (end(&in) != TP_OK)
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}

void tp_reference_record_encode(uint64_t epoch, struct tp_buffer *out)
{
    tp_write_u8(out, TP_RECORD_REFERENCE);
    tp_write_varuint(out, epoch);
}

enum tp_status tp_reference_record_decode(struct tp_slice bytes, uint64_t *epoch)
{
    struct tp_reader in = tp_reader_of(bytes);

    read_format(&in, TP_RECORD_REFERENCE);
    const uint64_t value = read_number(&in);
    if (end(&in) != TP_OK)
        return TP_MALFORMED;
    *epoch = value;
    return TP_OK;
}
