#include "load/dialect.h"

#include "crdt/update.h"
#include "wire/reader.h"
#include "wire/writer.h"

static enum tp_status decode_yprotocol(struct tp_reader in, struct load_message *out)
{
    const uint64_t type = tp_read_varuint(&in);

    if (type == 0) {
        const uint64_t sub = tp_read_varuint(&in);
        out->kind = sub == 0 ? LOAD_STEP_1 : sub == 1 ? LOAD_STEP_2 : LOAD_UPDATE;
        out->bytes = tp_read_bytes(&in);
    } else if (type == 1) {
        out->kind = LOAD_AWARENESS;
        out->bytes = tp_read_bytes(&in);
    } else if (type == 8) {
        out->kind = tp_read_varuint(&in) == 1 ? LOAD_ACK : LOAD_REFUSED;
    }
    return in.bad ? TP_MALFORMED : TP_OK;
}

static enum tp_status decode_teleportal(struct tp_reader in, struct load_message *out)
{
    const struct tp_slice magic = tp_read_raw(&in, 3);

    if (in.bad || memcmp(magic.data, "YJS", 3) != 0)
        return TP_MALFORMED;
    if (*in.at != 1) /* a pong */
        return TP_OK;
    tp_read_u8(&in);
    tp_read_bytes(&in);
    tp_read_u8(&in);
    const uint8_t type = tp_read_u8(&in);
    const uint8_t sub = type < 2 ? tp_read_u8(&in) : 0;
    if (type == 0 && sub == 0) {
        out->kind = LOAD_STEP_1;
        out->bytes = tp_read_bytes(&in);
    } else if (type == 0 && sub <= 2) {
        tp_read_u8(&in);
        struct tp_reader container = tp_reader_of(tp_read_bytes(&in));
        tp_read_varuint(&container);
        out->kind = sub == 1 ? LOAD_STEP_2 : LOAD_UPDATE;
        out->bytes = tp_read_bytes(&container);
        in.bad |= container.bad;
    } else if (type == 1 && sub == 0) {
        out->kind = LOAD_AWARENESS;
        out->bytes = tp_read_bytes(&in);
    } else if (type == 2) {
        tp_read_bytes(&in);
        out->kind = tp_read_u8(&in) == 0 ? LOAD_ACK : LOAD_REFUSED;
    }
    return in.bad ? TP_MALFORMED : TP_OK;
}

enum tp_status load_decode(enum load_dialect dialect, struct tp_slice payload,
                           struct load_message *out)
{
    struct tp_reader in = tp_reader_of(payload);

    *out = (struct load_message){.kind = LOAD_OTHER};
    if (dialect == LOAD_TELEPORTAL)
        return decode_teleportal(in, out);
    if (dialect == LOAD_HOCUSPOCUS)
        tp_read_bytes(&in);
    return decode_yprotocol(in, out);
}

static void encode_teleportal(struct tp_slice document, enum load_kind kind, struct tp_slice bytes,
                              struct tp_buffer *out)
{
    const size_t container_size = 1 + tp_varuint_size(bytes.size) + bytes.size + 2;

    tp_buffer_append(out, "YJS\1", 4);
    tp_write_bytes(out, document);
    tp_write_u8(out, 0);
    tp_write_u8(out, kind == LOAD_AWARENESS ? 1 : 0);
    tp_write_u8(out, kind == LOAD_STEP_2 ? 1 : kind == LOAD_UPDATE ? 2 : 0);
    if (kind == LOAD_STEP_1 || kind == LOAD_AWARENESS) {
        tp_write_bytes(out, bytes);
        return;
    }
    tp_write_u8(out, 2);
    tp_write_varuint(out, container_size);
    tp_write_u8(out, 1);
    tp_write_bytes(out, bytes);
    tp_buffer_append(out, "\0\0", 2);
}

void load_encode(enum load_dialect dialect, struct tp_slice document, enum load_kind kind,
                 struct tp_slice bytes, struct tp_buffer *out)
{
    if (dialect == LOAD_TELEPORTAL) {
        encode_teleportal(document, kind, bytes, out);
        return;
    }
    if (dialect == LOAD_HOCUSPOCUS)
        tp_write_bytes(out, document);
    tp_write_u8(out, kind == LOAD_AWARENESS ? 1 : 0);
    if (kind != LOAD_AWARENESS)
        tp_write_u8(out, kind == LOAD_STEP_2 ? 1 : kind == LOAD_UPDATE ? 2 : 0);
    tp_write_bytes(out, bytes);
}

void load_greeting(enum load_dialect dialect, struct tp_slice document, struct tp_buffer *out)
{
    if (dialect != LOAD_HOCUSPOCUS)
        return;
    tp_write_bytes(out, document);
    tp_buffer_append(out, "\2\0\0", 3); /* Auth, token, "" */
}

void load_typing_update(enum load_dialect dialect, uint64_t client, uint64_t number, uint32_t size,
                        struct tp_buffer *out)
{
    uint8_t memory[4096];
    struct tp_buffer v1 = tp_buffer_fixed(memory, sizeof memory);
    const uint64_t clock = number * size;

    tp_buffer_append(&v1, "\1\1", 2);
    tp_write_varuint(&v1, client);
    tp_write_varuint(&v1, clock);
    if (clock == 0) {
        tp_buffer_append(&v1, "\4\1\1t", 4); /* a string whose parent is root "t" */
    } else {
        tp_write_u8(&v1, 0x84); /* a string with an origin: the character before */
        tp_write_varuint(&v1, client);
        tp_write_varuint(&v1, clock - 1);
    }
    tp_write_varuint(&v1, size);
    for (uint32_t i = 0; i < size; i++)
        tp_write_u8(&v1, (uint8_t)('a' + (clock + i) % 26));
    tp_write_u8(&v1, 0);
    TP_ASSERT(!v1.full);
    if (dialect != LOAD_TELEPORTAL)
        tp_write_raw(out, tp_buffer_slice(&v1));
    else
        TP_ASSERT(tp_update_convert(tp_buffer_slice(&v1), TP_UPDATE_V1, TP_UPDATE_V2, out) ==
                  TP_OK);
}
