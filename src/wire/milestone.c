#include "wire/milestone.h"

#include "wire/reader.h"
#include "wire/writer.h"

#define MAGIC TP_SLICE("YJS\x01")

static double read_f64(struct tp_reader *in)
{
    const uint64_t bits = tp_read_big_endian(in, 8);
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static void write_f64(struct tp_buffer *out, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    tp_write_big_endian(out, bits, 8);
}

bool tp_milestone_is_deleted(const struct tp_milestone *milestone)
{
    return (milestone->fields & TP_MILESTONE_STATE) != 0 &&
           tp_slice_equal(milestone->state, TP_SLICE("deleted"));
}

void tp_milestone_encode(const struct tp_milestone *milestone, struct tp_buffer *out)
{
    TP_ASSERT((milestone->fields & ~TP_MILESTONE_FIELDS) == 0);
    tp_write_raw(out, MAGIC);
    tp_write_bytes(out, milestone->document_id);
    tp_write_bytes(out, milestone->id);
    tp_write_bytes(out, milestone->name);
    write_f64(out, milestone->created_ms);
    tp_write_u8(out, milestone->fields);
    if (milestone->fields & TP_MILESTONE_DELETED_AT)
        write_f64(out, milestone->deleted_ms);
    if (milestone->fields & TP_MILESTONE_DELETED_BY)
        tp_write_bytes(out, milestone->deleted_by);
    if (milestone->fields & TP_MILESTONE_STATE)
        tp_write_bytes(out, milestone->state);
    if (milestone->fields & TP_MILESTONE_RETENTION)
        tp_write_bytes(out, milestone->retention_policy);
    if (milestone->fields & TP_MILESTONE_EXPIRES)
        write_f64(out, milestone->expires_ms);
    tp_write_u8(out, milestone->by_user);
    tp_write_bytes(out, milestone->creator);
}

enum tp_status tp_milestone_next(struct tp_slice *rest, struct tp_milestone *out)
{
    struct tp_reader in = tp_reader_of(*rest);
    struct tp_milestone read = {0};

    if (rest->size == 0)
        return TP_ABSENT;
    in.bad |= !tp_slice_equal(tp_read_raw(&in, MAGIC.size), MAGIC);
    read.document_id = tp_read_string(&in);
    read.id = tp_read_string(&in);
    read.name = tp_read_string(&in);
    read.created_ms = read_f64(&in);
    read.fields = tp_read_u8(&in);
    if (read.fields & TP_MILESTONE_DELETED_AT)
        read.deleted_ms = read_f64(&in);
    if (read.fields & TP_MILESTONE_DELETED_BY)
        read.deleted_by = tp_read_string(&in);
    if (read.fields & TP_MILESTONE_STATE)
        read.state = tp_read_string(&in);
    if (read.fields & TP_MILESTONE_RETENTION)
        read.retention_policy = tp_read_string(&in);
    if (read.fields & TP_MILESTONE_EXPIRES)
        read.expires_ms = read_f64(&in);
    const uint8_t kind = tp_read_u8(&in);
    read.by_user = kind == 1;
    read.creator = tp_read_string(&in);
    if (in.bad || kind > 1 || (read.fields & ~TP_MILESTONE_FIELDS) != 0)
        return TP_MALFORMED;
    *out = read;
    *rest = tp_slice_of(in.at, tp_reader_left(&in));
    return TP_OK;
}
