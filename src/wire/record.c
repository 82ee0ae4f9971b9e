#include "wire/record.h"

#include "wire/reader.h"
#include "wire/writer.h"

/* The flags byte of a log entry: dialect, encoding, and which of the rare fields are there. */
#define DIALECT_MASK 0x03u
#define IS_FIRST_SYNC 0x04u
#define ENCODING_SHIFT 3u
#define ENCODING_MASK 0x03u
#define HAS_USER 0x20u
#define HAS_CLIENT 0x40u
#define HAS_ORIGIN 0x80u

#define MODE_MASK 0x03u
#define IS_DELETED 0x04u
#define HAS_VECTOR 0x08u /* of earlier epochs; a tombstone has one always */

static void put_big_endian(uint8_t *out, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(out, &value, sizeof value);
}

static uint64_t get_big_endian(const uint8_t *in)
{
    uint64_t value;

    memcpy(&value, in, sizeof value);
    return __builtin_bswap64(value);
}

/* A varuint in its shortest form. One value must have one form: records are compared as bytes. */
static uint64_t read_number(struct tp_reader *in)
{
    const uint8_t *const start = in->at;
    const uint64_t value = tp_read_varuint(in);

    if (!in->bad && (size_t)(in->at - start) != tp_varuint_size(value))
        in->bad = true;
    return in->bad ? 0 : value;
}

static void write_number(struct tp_buffer *out, uint64_t value)
{
    TP_ASSERT(value <= TP_VARUINT_MAX);
    tp_write_varuint(out, value);
}

static struct tp_slice read_slice(struct tp_reader *in)
{
    return tp_read_raw(in, read_number(in));
}

static void read_format(struct tp_reader *in, enum tp_record_format format)
{
    if (tp_read_u8(in) != format)
        in->bad = true;
}

/* A field that its flag announces, and that is then not empty. */
static struct tp_slice read_optional(struct tp_reader *in, bool present)
{
    if (!present)
        return (struct tp_slice){0};

    const struct tp_slice slice = read_slice(in);
    in->bad |= slice.size == 0;
    return slice;
}

static bool is_mode(uint8_t mode)
{
    return mode == TP_MODE_PLAIN || mode == TP_MODE_ENCRYPTED;
}

static bool is_name(struct tp_slice name)
{
    return name.size <= TP_RECORD_NAME_SIZE_MAX &&
           (name.size == 0 || memchr(name.data, 0, name.size) == NULL);
}

enum tp_status tp_record_name_key(struct tp_slice room, struct tp_slice document,
                                  struct tp_buffer *out)
{
    if (document.size == 0 || !is_name(room) || !is_name(document))
        return TP_DENIED;
    tp_write_raw(out, room);
    tp_write_u8(out, 0);
    tp_write_raw(out, document);
    return out->full ? TP_FULL : TP_OK;
}

void tp_record_keys_key(struct tp_slice room, struct tp_slice document, uint64_t epoch,
                        struct tp_buffer *out)
{
    const enum tp_status status = tp_record_name_key(room, document, out);

    TP_ASSERT(status == TP_OK);
    tp_write_u8(out, 0);
    tp_write_big_endian(out, epoch, 8);
    TP_ASSERT(!out->full);
}

enum tp_status tp_record_name_key_decode(struct tp_slice key, struct tp_slice *room,
                                         struct tp_slice *document)
{
    const uint8_t *const nul = key.size == 0 ? NULL : memchr(key.data, 0, key.size);

    if (nul == NULL)
        return TP_MALFORMED;
    const struct tp_slice head = {key.data, (size_t)(nul - key.data)};
    const struct tp_slice tail = {nul + 1, key.size - head.size - 1};
    if (tail.size == 0 || !is_name(head) || !is_name(tail))
        return TP_MALFORMED;
    *room = head;
    *document = tail;
    return TP_OK;
}

void tp_record_number_key(uint64_t number, uint8_t out[TP_RECORD_NUMBER_KEY_SIZE])
{
    put_big_endian(out, number);
}

void tp_record_log_key(uint64_t number, uint64_t sequence, uint8_t out[TP_RECORD_LOG_KEY_SIZE])
{
    put_big_endian(out, number);
    put_big_endian(out + 8, sequence);
}

enum tp_status tp_record_log_key_decode(struct tp_slice key, uint64_t *number, uint64_t *sequence)
{
    if (key.size != TP_RECORD_LOG_KEY_SIZE)
        return TP_MALFORMED;
    *number = get_big_endian(key.data);
    *sequence = get_big_endian(key.data + 8);
    return TP_OK;
}

/* ---- names ------------------------------------------------------------------------------------
 */

void tp_name_record_encode(const struct tp_name_record *record, struct tp_buffer *out)
{
    uint8_t number[TP_RECORD_NUMBER_KEY_SIZE];

    TP_ASSERT(record->number != 0);
    TP_ASSERT(is_mode(record->mode));
    const bool has_vector = record->state_vector.size > 0 && !record->deleted;

    tp_record_number_key(record->number, number);
    tp_write_u8(out, TP_RECORD_NAME);
    tp_write_u8(out, (uint8_t)(record->mode | (record->deleted ? IS_DELETED : 0) |
                               (has_vector ? HAS_VECTOR : 0)));
    tp_buffer_append(out, number, sizeof number);
    write_number(out, record->epoch);
    write_number(out, record->created_ms);
    if (record->deleted || has_vector)
        tp_write_bytes(out, record->state_vector);
}

enum tp_status tp_name_record_decode(struct tp_slice bytes, struct tp_name_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_name_record record = {0};

    read_format(&in, TP_RECORD_NAME);
    const uint8_t flags = tp_read_u8(&in);
    const struct tp_slice number = tp_read_raw(&in, TP_RECORD_NUMBER_KEY_SIZE);
    record.epoch = read_number(&in);
    record.created_ms = read_number(&in);
    record.mode = flags & MODE_MASK;
    record.deleted = flags & IS_DELETED;
    if (record.deleted)
        record.state_vector = read_slice(&in);
    else
        record.state_vector = read_optional(&in, flags & HAS_VECTOR);
    if (in.bad || tp_reader_left(&in) != 0 ||
        (flags & ~(MODE_MASK | IS_DELETED | HAS_VECTOR)) != 0 ||
        (record.deleted && (flags & HAS_VECTOR)))
        return TP_MALFORMED;
    record.number = get_big_endian(number.data);
    if (record.number == 0 || !is_mode((uint8_t)record.mode))
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}

/* ---- metadata ---------------------------------------------------------------------------------
 */

void tp_metadata_record_encode(const struct tp_metadata_record *record, struct tp_buffer *out)
{
    TP_ASSERT(is_mode(record->mode));
    tp_write_u8(out, TP_RECORD_METADATA);
    tp_write_u8(out, (uint8_t)record->mode);
    tp_write_bytes(out, record->name);
    write_number(out, record->epoch);
    write_number(out, record->created_ms);
    write_number(out, record->updated_ms);
    write_number(out, record->update_size);
    write_number(out, record->entry_count);
    tp_write_bytes(out, record->state_vector);
    tp_write_bytes(out, record->extra); /* with its size: no record begins another */
}

enum tp_status tp_metadata_record_decode(struct tp_slice bytes, struct tp_metadata_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_metadata_record record = {0};
    struct tp_slice room, document;

    read_format(&in, TP_RECORD_METADATA);
    const uint8_t mode = tp_read_u8(&in);
    record.name = read_slice(&in);
    record.epoch = read_number(&in);
    record.created_ms = read_number(&in);
    record.updated_ms = read_number(&in);
    record.update_size = read_number(&in);
    record.entry_count = read_number(&in);
    record.state_vector = read_slice(&in);
    record.extra = read_slice(&in);
    record.mode = mode;
    if (in.bad || tp_reader_left(&in) != 0 || !is_mode(mode) ||
        tp_record_name_key_decode(record.name, &room, &document) != TP_OK)
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}

/* ---- log --------------------------------------------------------------------------------------
 */

static void write_optional(struct tp_buffer *out, struct tp_slice slice)
{
    if (slice.size > 0)
        tp_write_bytes(out, slice);
}

void tp_log_entry_head_encode(const struct tp_log_entry *entry, struct tp_buffer *out)
{
    TP_ASSERT(entry->dialect <= DIALECT_MASK);
    TP_ASSERT(entry->encoding >= TP_RECORD_V1 && entry->encoding <= TP_RECORD_CONTAINER);

    tp_write_u8(out, TP_RECORD_LOG_ENTRY);
    tp_write_u8(out, (uint8_t)(entry->dialect | (entry->is_first_sync ? IS_FIRST_SYNC : 0) |
                               entry->encoding << ENCODING_SHIFT |
                               (entry->user.size > 0 ? HAS_USER : 0) |
                               (entry->client.size > 0 ? HAS_CLIENT : 0) |
                               (entry->origin.size > 0 ? HAS_ORIGIN : 0)));
    write_number(out, entry->sequence);
    write_number(out, entry->wall_ms);
    write_optional(out, entry->user);
    write_optional(out, entry->client);
    write_optional(out, entry->origin);
    write_number(out, entry->update.size);
}

enum tp_status tp_log_entry_next(struct tp_slice *rest, struct tp_log_entry *out)
{
    struct tp_reader in = tp_reader_of(*rest);
    struct tp_log_entry entry = {0};

    if (rest->size == 0)
        return TP_ABSENT;
    read_format(&in, TP_RECORD_LOG_ENTRY);
    const uint8_t flags = tp_read_u8(&in);
    entry.dialect = flags & DIALECT_MASK;
    entry.is_first_sync = (flags & IS_FIRST_SYNC) != 0;
    entry.encoding = flags >> ENCODING_SHIFT & ENCODING_MASK;
    entry.sequence = read_number(&in);
    entry.wall_ms = read_number(&in);
    entry.user = read_optional(&in, flags & HAS_USER);
    entry.client = read_optional(&in, flags & HAS_CLIENT);
    entry.origin = read_optional(&in, flags & HAS_ORIGIN);
    entry.update = read_slice(&in);
    if (in.bad || entry.encoding == 0)
        return TP_MALFORMED;
    *out = entry;
    *rest = (struct tp_slice){in.at, tp_reader_left(&in)};
    return TP_OK;
}

/* ---- bases ------------------------------------------------------------------------------------
 */

void tp_base_record_version_encode(uint64_t version, struct tp_buffer *out)
{
    TP_ASSERT(version != 0);
    tp_write_u8(out, TP_RECORD_BASE);
    write_number(out, version);
}

void tp_base_record_head_encode(const struct tp_base_record *record, struct tp_buffer *out)
{
    TP_ASSERT(record->encoding == TP_RECORD_V1 || record->encoding == TP_RECORD_CONTAINER);
    tp_base_record_version_encode(record->version, out);
    write_number(out, record->sequence);
    tp_write_u8(out, record->encoding);
}

enum tp_status tp_base_record_decode(struct tp_slice bytes, struct tp_base_record *out)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_base_record record = {0};

    read_format(&in, TP_RECORD_BASE);
    record.version = read_number(&in);
    record.sequence = read_number(&in);
    record.encoding = tp_read_u8(&in);
    record.update = tp_read_raw(&in, tp_reader_left(&in));
    if (in.bad || record.version == 0 ||
        (record.encoding != TP_RECORD_V1 && record.encoding != TP_RECORD_CONTAINER))
        return TP_MALFORMED;
    *out = record;
    return TP_OK;
}
