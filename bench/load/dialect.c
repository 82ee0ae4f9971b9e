#include "load/dialect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "crdt/update.h"
#include "wire/reader.h"
#include "wire/teleportal.h"
#include "wire/writer.h"

static enum tp_status decode_yprotocol(struct tp_reader in, uint64_t denied,
                                       struct load_message *out)
{
    const uint64_t type = tp_read_varuint(&in);

    if (type == 0) {
        const uint64_t sub = tp_read_varuint(&in);
        out->kind = sub == 0 ? LOAD_STEP_1 : sub == 1 ? LOAD_STEP_2 : LOAD_UPDATE;
        out->bytes = tp_read_bytes(&in);
    } else if (type == 1) {
        out->kind = LOAD_AWARENESS;
        out->bytes = tp_read_bytes(&in);
    } else if (type == 2) {
        out->kind = tp_read_varuint(&in) == denied ? LOAD_REFUSED : LOAD_OTHER;
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
    out->document = tp_read_bytes(&in);
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
    } else if (type == 0 && sub == 4) {
        out->kind = tp_read_u8(&in) == 0 ? LOAD_REFUSED : LOAD_OTHER;
    } else if (type == 2) {
        in.bad |= tp_teleportal_id_parse(tp_read_bytes(&in), &out->id) != TP_OK;
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
    if (dialect == LOAD_HOCUSPOCUS) {
        if (payload.size == 1) /* a ping of the connection */
            return TP_OK;
        out->document = tp_read_bytes(&in);
    }
    /* Auth: y-websocket only denies (0); Hocuspocus asks for a token (0), denies, or lets in */
    return decode_yprotocol(in, dialect == LOAD_HOCUSPOCUS ? 1 : 0, out);
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

void load_inserts(enum load_dialect dialect, uint64_t client, uint64_t clock, uint32_t size,
                  uint32_t count, bool apart, struct tp_buffer *out)
{
    struct tp_buffer v1 = tp_buffer_growing((size_t)64 << 20);

    tp_buffer_append(&v1, "\1", 1);
    tp_write_varuint(&v1, count);
    tp_write_varuint(&v1, client);
    tp_write_varuint(&v1, clock);
    for (uint32_t n = 0; n < count; n++, clock += size) {
        if (clock == 0) {
            tp_buffer_append(&v1, "\4\1\1t", 4); /* a string whose parent is root "t" */
        } else {
            /* a string with an origin, the character before it; or with a right origin, the first
             * character of what was written last */
            tp_write_u8(&v1, apart ? 0x44 : 0x84);
            tp_write_varuint(&v1, client);
            tp_write_varuint(&v1, apart ? clock - size : clock - 1);
        }
        tp_write_varuint(&v1, size);
        for (uint32_t i = 0; i < size; i++)
            tp_write_u8(&v1, (uint8_t)('a' + (clock + i) % 26));
    }
    tp_write_u8(&v1, 0);
    TP_ASSERT(!v1.full);
    if (dialect != LOAD_TELEPORTAL)
        tp_write_raw(out, tp_buffer_slice(&v1));
    else
        TP_ASSERT(tp_update_convert(tp_buffer_slice(&v1), TP_UPDATE_V1, TP_UPDATE_V2, out) ==
                  TP_OK);
    tp_buffer_finish(&v1);
}

void load_cursor(uint64_t client, uint64_t number, struct tp_buffer *out)
{
    char state[64];
    const int size = snprintf(state, sizeof state, "{\"cursor\":%" PRIu64 "}", number);

    tp_write_u8(out, 1);
    tp_write_varuint(out, client);
    tp_write_varuint(out, number + 1); /* a first state with clock 0 is ignored by every peer */
    tp_write_bytes(out, tp_slice_of(state, (size_t)size));
}

bool load_cursor_next(struct tp_slice *entries, uint64_t *client, uint64_t *number)
{
    struct tp_reader in = tp_reader_of(*entries);
    char text[24] = "";

    while (tp_reader_left(&in) > 0) {
        *client = tp_read_varuint(&in);
        tp_read_varuint(&in);
        const struct tp_slice state = tp_read_bytes(&in);
        if (in.bad)
            return false;
        if (state.size < 11 || memcmp(state.data, "{\"cursor\":", 10) != 0)
            continue;
        memcpy(text, state.data + 10, tp_min(state.size - 10, sizeof text - 1));
        *number = strtoull(text, NULL, 10);
        *entries = tp_slice_of(in.at, tp_reader_left(&in));
        return true;
    }
    return false;
}
