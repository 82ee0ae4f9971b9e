#include "wire/teleportal.h"

#include "wire/any.h"
#include "wire/container.h"

#define MAGIC TP_SLICE("YJS")
#define VERSION 1u
#define PRESENCE_ENTRY_SIZE_MIN 5u /* id, two empty texts, {} */

static bool starts_with(struct tp_slice bytes, struct tp_slice start)
{
    return bytes.size >= start.size && memcmp(bytes.data, start.data, start.size) == 0;
}

bool tp_teleportal_has_magic(struct tp_slice bytes)
{
    return starts_with(bytes, MAGIC);
}

bool tp_teleportal_is_ping(struct tp_slice bytes)
{
    return starts_with(bytes, TP_TELEPORTAL_PING);
}

bool tp_teleportal_is_pong(struct tp_slice bytes)
{
    return starts_with(bytes, TP_TELEPORTAL_PONG);
}

/* ---- ids --------------------------------------------------------------------------------------*/

/* Two lanes that look like FNV-1a; only the first one is. Each is a chain of multiplications, but
 * the two run side by side. */
uint64_t tp_teleportal_message_id(struct tp_slice frame)
{
    uint32_t a = 0x811c9dc5u, b = 0x01000193u;

    for (size_t i = 0; i < frame.size; i++) {
        a = (a ^ frame.data[i]) * 0x01000193u;
        b = (b ^ frame.data[i]) * 0x100001b3u;
    }
    return (uint64_t)a << 32 | b;
}

void tp_teleportal_id_format(uint64_t id, char out[TP_TELEPORTAL_ID_SIZE])
{
    for (unsigned i = 0; i < TP_TELEPORTAL_ID_SIZE; i++)
        out[i] = "0123456789abcdef"[id >> (60 - 4 * i) & 15];
}

enum tp_status tp_teleportal_id_parse(struct tp_slice text, uint64_t *id)
{
    uint64_t value = 0;

    if (text.size != TP_TELEPORTAL_ID_SIZE)
        return TP_MALFORMED;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return TP_MALFORMED;
    }
    *id = value;
    return TP_OK;
}

/* ---- decoding ---------------------------------------------------------------------------------*/

static struct tp_slice read_short_string(struct tp_reader *in, size_t size_max)
{
    const struct tp_slice text = tp_read_string(in);

    in->bad |= text.size > size_max;
    return text;
}

/* A flag byte, 0 or 1. */
static bool read_flag(struct tp_reader *in)
{
    const uint8_t byte = tp_read_u8(in);

    in->bad |= byte > 1;
    return byte == 1;
}

/* One `any`, as the bytes that it takes. */
static struct tp_slice read_any(struct tp_reader *in)
{
    const uint8_t *const from = in->at;

    if (in->bad || tp_any_skip(in, TP_TELEPORTAL_ANY_DEPTH_MAX) != TP_OK)
        return (struct tp_slice){.data = from};
    return (struct tp_slice){from, (size_t)(in->at - from)};
}

static void read_update(struct tp_reader *in, struct tp_message_update *out)
{
    out->version = tp_read_u8(in);
    const struct tp_slice container = tp_read_bytes(in);
    if (tp_container_decode(container, out) != TP_OK)
        TP_ASSERT(
            out->bad_container); /* a message all the same: the session refuses it by its id */
}

static void read_doc(struct tp_reader *in, struct tp_message *out)
{
    switch (tp_read_u8(in)) {
    case 0:
        out->kind = TP_MESSAGE_SYNC_STEP_1;
        out->state_vector = tp_read_bytes(in);
        break;
    case 1:
        out->kind = TP_MESSAGE_SYNC_STEP_2;
        read_update(in, &out->update);
        break;
    case 2:
        out->kind = TP_MESSAGE_UPDATE;
        read_update(in, &out->update);
        break;
    case 3:
        out->kind = TP_MESSAGE_SYNC_DONE;
        break;
    case 4:
        out->kind = TP_MESSAGE_AUTH;
        out->auth.allowed = tp_read_u8(in) != 0; /* any value but 0, as the reference reads it */
        out->auth.reason = tp_read_string(in);
        break;
    default:
        in->bad = true;
    }
}

static void read_awareness(struct tp_reader *in, struct tp_message *out)
{
    switch (tp_read_u8(in)) {
    case 0:
        out->kind = TP_MESSAGE_AWARENESS;
        out->awareness = tp_read_bytes(in);
        break;
    case 1:
        out->kind = TP_MESSAGE_AWARENESS_QUERY;
        break;
    default:
        in->bad = true;
    }
}

enum { ACK_RETRY = 1, ACK_ERROR = 2 }; /* flags; others are ignored */

static void read_ack(struct tp_reader *in, struct tp_message_ack *out)
{
    out->id_text = read_short_string(in, TP_TELEPORTAL_ID_TEXT_SIZE_MAX);
    if (tp_teleportal_id_parse(out->id_text, &out->id) != TP_OK)
        out->id = 0;
    const uint8_t flags = tp_read_u8(in);
    if (flags & ACK_RETRY) {
        out->retry_ms = tp_read_varuint(in);
        out->retry_at_once = out->retry_ms == 0;
    }
    if (flags & ACK_ERROR)
        out->error = tp_read_string(in);
}

static void read_presence_entry(struct tp_reader *in, struct tp_message_presence *out)
{
    out->awareness_id = tp_read_varuint(in);
    out->client_id = tp_read_string(in);
    out->user_id = tp_read_string(in);
    in->bad |= in->at < in->end && *in->at != TP_ANY_OBJECT;
    out->data = read_any(in);
}

static void read_heartbeat(struct tp_reader *in, struct tp_message_presence *out)
{
    struct tp_message_presence entry;

    out->entry_count = tp_read_count(in, PRESENCE_ENTRY_SIZE_MIN);
    const uint8_t *const from = in->at;
    for (uint64_t i = 0; i < out->entry_count && !in->bad; i++)
        read_presence_entry(in, &entry);
    out->entries = (struct tp_slice){from, (size_t)(in->at - from)};
}

static void read_presence(struct tp_reader *in, struct tp_message *out)
{
    switch (tp_read_u8(in)) {
    case 0:
        out->kind = TP_MESSAGE_PRESENCE_ANNOUNCE;
        out->presence.awareness_id = tp_read_varuint(in);
        break;
    case 1:
        out->kind = TP_MESSAGE_PRESENCE_JOIN;
        read_presence_entry(in, &out->presence);
        break;
    case 2:
        out->kind = TP_MESSAGE_PRESENCE_LEAVE;
        read_presence_entry(in, &out->presence);
        break;
    case 3:
        out->kind = TP_MESSAGE_PRESENCE_HEARTBEAT;
        read_heartbeat(in, &out->presence);
        break;
    case 4:
        out->kind = TP_MESSAGE_PRESENCE_UNANNOUNCE;
        out->presence.awareness_id = tp_read_varuint(in);
        break;
    default:
        in->bad = true;
    }
}

enum { RPC_REQUEST = 0, RPC_STREAM = 1, RPC_RESPONSE = 2 };

/* A payload is a byte string that starts with one `any`; no method of the reference has a codec of
 * its own (spec 03 section 1). Responses come from servers, whose methods may have: not our
 * business. */
static struct tp_slice read_payload(struct tp_reader *in, uint8_t type)
{
    const struct tp_slice payload = tp_read_bytes(in);
    struct tp_reader inner = tp_reader_of(payload);

    if (!in->bad && type != RPC_RESPONSE &&
        tp_any_skip(&inner, TP_TELEPORTAL_ANY_DEPTH_MAX) != TP_OK) {
        in->bad = true;
        in->bad_text |= inner.bad_text;
    }
    return payload;
}

static void read_rpc(struct tp_reader *in, struct tp_message_rpc *out)
{
    out->method = read_short_string(in, TP_TELEPORTAL_METHOD_SIZE_MAX);
    out->type = tp_read_u8(in);
    in->bad |= out->type > RPC_RESPONSE;
    if (out->type != RPC_REQUEST) {
        out->request_id = read_short_string(in, TP_TELEPORTAL_ID_TEXT_SIZE_MAX);
        in->bad |= out->request_id.size == 0;
    }
    out->failed = read_flag(in);
    if (!out->failed) {
        out->payload = read_payload(in, out->type);
        return;
    }
    out->status = tp_read_varuint(in);
    out->details = tp_read_string(in);
    if (read_flag(in))
        out->payload = read_any(in);
}

enum tp_status tp_teleportal_decode(struct tp_slice frame, struct tp_message *out,
                                    enum tp_close_reason *reason)
{
    struct tp_reader in = tp_reader_of(frame);
    struct tp_message message = {.dialect = TP_DIALECT_TELEPORTAL, .raw = frame};

    if (!tp_teleportal_has_magic(frame)) {
        *reason = TP_CLOSE_UNSUPPORTED;
        return TP_MALFORMED;
    }
    in.at += MAGIC.size;
    in.bad |= tp_read_u8(&in) != VERSION;
    message.document = tp_read_string(&in);
    message.encrypted = read_flag(&in);
    switch (tp_read_u8(&in)) {
    case TP_TELEPORTAL_DOC:
        read_doc(&in, &message);
        break;
    case TP_TELEPORTAL_AWARENESS:
        read_awareness(&in, &message);
        break;
    case TP_TELEPORTAL_ACK:
        message.kind = TP_MESSAGE_ACK;
        message.document = (struct tp_slice){0}; /* whatever an ack has there means nothing */
        message.encrypted = false;
        read_ack(&in, &message.ack);
        break;
    case TP_TELEPORTAL_PRESENCE:
        message.encrypted = false; /* as above */
        read_presence(&in, &message);
        break;
    case TP_TELEPORTAL_RPC:
        message.kind = TP_MESSAGE_RPC;
        read_rpc(&in, &message.rpc);
        break;
    default:
        in.bad = true;
    }
    if (in.bad) {
        *reason = in.bad_text ? TP_CLOSE_BAD_UTF8 : TP_CLOSE_POLICY;
        return TP_MALFORMED;
    }
    message.id = tp_teleportal_message_id(frame);
    *out = message;
    return TP_OK;
}

enum tp_status tp_teleportal_presence_next(struct tp_slice *entries,
                                           struct tp_message_presence *out)
{
    struct tp_reader in = tp_reader_of(*entries);
    struct tp_message_presence entry = {0};

    if (entries->size == 0)
        return TP_ABSENT;
    read_presence_entry(&in, &entry);
    if (in.bad)
        return TP_MALFORMED;
    *entries = (struct tp_slice){in.at, tp_reader_left(&in)};
    *out = entry;
    return TP_OK;
}

/* ---- encoding ---------------------------------------------------------------------------------*/

static void write_head(struct tp_buffer *out, struct tp_slice document, bool encrypted,
                       enum tp_teleportal_type type)
{
    tp_write_raw(out, MAGIC);
    tp_write_u8(out, VERSION);
    tp_write_bytes(out, document);
    tp_write_u8(out, encrypted);
    tp_write_u8(out, type);
}

static void write_doc(struct tp_buffer *out, struct tp_slice document, bool encrypted,
                      uint8_t subtype)
{
    write_head(out, document, encrypted, TP_TELEPORTAL_DOC);
    tp_write_u8(out, subtype);
}

static void write_awareness(struct tp_buffer *out, struct tp_slice document, bool encrypted,
                            uint8_t subtype)
{
    write_head(out, document, encrypted, TP_TELEPORTAL_AWARENESS);
    tp_write_u8(out, subtype);
}

static void write_presence(struct tp_buffer *out, struct tp_slice document, uint8_t subtype)
{
    write_head(out, document, false, TP_TELEPORTAL_PRESENCE);
    tp_write_u8(out, subtype);
}

static void write_update(struct tp_buffer *out, const struct tp_message_update *update)
{
    if (update->v2.data == NULL) {
        TP_ASSERT(update->container.data != NULL); /* nobody turned V1 into what we need */
        tp_write_u8(out, update->version);
        tp_write_bytes(out, update->container);
        return;
    }
    tp_write_u8(out, 2);
    tp_write_varuint(out, tp_container_size(update));
    tp_container_encode(update, out);
}

static void write_ack(struct tp_buffer *out, const struct tp_message_ack *ack)
{
    char text[TP_TELEPORTAL_ID_SIZE];
    const bool has_retry = ack->retry_ms > 0 || ack->retry_at_once;
    const bool has_error = ack->error.data != NULL;

    write_head(out, (struct tp_slice){0}, false, TP_TELEPORTAL_ACK);
    tp_teleportal_id_format(ack->id, text);
    tp_write_bytes(out, ack->id_text.data != NULL ? ack->id_text : tp_slice_of(text, sizeof text));
    tp_write_u8(out, (uint8_t)((has_retry ? ACK_RETRY : 0) | (has_error ? ACK_ERROR : 0)));
    if (has_retry)
        tp_write_varuint(out, ack->retry_ms);
    if (has_error)
        tp_write_bytes(out, ack->error);
}

void tp_teleportal_presence_write(const struct tp_message_presence *presence, struct tp_buffer *out)
{
    tp_write_varuint(out, presence->awareness_id);
    tp_write_bytes(out, presence->client_id);
    tp_write_bytes(out, presence->user_id);
    if (presence->data.size > 0)
        tp_write_raw(out, presence->data);
    else
        tp_any_write_object(out, 0);
}

static void write_rpc(struct tp_buffer *out, const struct tp_message_rpc *rpc)
{
    tp_write_bytes(out, rpc->method);
    tp_write_u8(out, rpc->type);
    if (rpc->type != RPC_REQUEST) {
        TP_ASSERT(rpc->request_id.size > 0); /* what no reader accepts must not be written */
        tp_write_bytes(out, rpc->request_id);
    }
    tp_write_u8(out, rpc->failed);
    if (!rpc->failed) {
        tp_write_bytes(out, rpc->payload);
        return;
    }
    tp_write_varuint(out, rpc->status);
    tp_write_bytes(out, rpc->details);
    tp_write_u8(out, rpc->payload.size > 0);
    tp_write_raw(out, rpc->payload);
}

enum tp_status tp_teleportal_encode(const struct tp_message *message, struct tp_slice document,
                                    struct tp_buffer *out)
{
    const bool encrypted = message->encrypted;

    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        write_doc(out, document, encrypted, 0);
        tp_write_bytes(out, message->state_vector);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
        write_doc(out, document, encrypted, 1);
        write_update(out, &message->update);
        break;
    case TP_MESSAGE_UPDATE:
        write_doc(out, document, encrypted, 2);
        write_update(out, &message->update);
        break;
    case TP_MESSAGE_SYNC_DONE:
        write_doc(out, document, encrypted, 3);
        break;
    case TP_MESSAGE_AUTH:
        write_doc(out, document, encrypted, 4);
        tp_write_u8(out, message->auth.allowed);
        tp_write_bytes(out, message->auth.reason);
        break;
    case TP_MESSAGE_AWARENESS:
        write_awareness(out, document, encrypted, 0);
        tp_write_bytes(out, message->awareness);
        break;
    case TP_MESSAGE_AWARENESS_QUERY:
        write_awareness(out, document, encrypted, 1);
        break;
    case TP_MESSAGE_ACK:
        write_ack(out, &message->ack);
        break;
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
        write_presence(out, document, 0);
        tp_write_varuint(out, message->presence.awareness_id);
        break;
    case TP_MESSAGE_PRESENCE_JOIN:
        write_presence(out, document, 1);
        tp_teleportal_presence_write(&message->presence, out);
        break;
    case TP_MESSAGE_PRESENCE_LEAVE:
        write_presence(out, document, 2);
        tp_teleportal_presence_write(&message->presence, out);
        break;
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        write_presence(out, document, 3);
        tp_write_varuint(out, message->presence.entry_count);
        tp_write_raw(out, message->presence.entries);
        break;
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
        write_presence(out, document, 4);
        tp_write_varuint(out, message->presence.awareness_id);
        break;
    case TP_MESSAGE_RPC:
        write_head(out, document, encrypted, TP_TELEPORTAL_RPC);
        write_rpc(out, &message->rpc);
        break;
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG: /* no frames; which may be said depends on the transport */
    case TP_MESSAGE_ECHO:
    case TP_MESSAGE_COUNT:
        return TP_ABSENT;
    }
    return out->full ? TP_FULL : TP_OK;
}

/* ---- what holds frames ------------------------------------------------------------------------*/

enum tp_status tp_teleportal_array_next(struct tp_slice *rest, struct tp_slice *frame)
{
    struct tp_reader in = tp_reader_of(*rest);

    if (rest->size == 0)
        return TP_ABSENT;
    const struct tp_slice bytes = tp_read_bytes(&in);
    if (in.bad)
        return TP_MALFORMED;
    *frame = bytes;
    *rest = (struct tp_slice){in.at, tp_reader_left(&in)};
    return TP_OK;
}

void tp_teleportal_array_write(struct tp_slice frame, struct tp_buffer *out)
{
    tp_write_bytes(out, frame);
}

enum tp_status tp_teleportal_array_check(struct tp_slice array, size_t count_max)
{
    struct tp_slice frame;
    size_t count = 0;

    for (;;) {
        struct tp_message message;
        enum tp_close_reason reason;
        enum tp_status status = tp_teleportal_array_next(&array, &frame);
        if (status == TP_ABSENT)
            return TP_OK;
        if (status == TP_OK)
            status = tp_teleportal_decode(frame, &message, &reason);
        if (status != TP_OK)
            return status;
        if (count++ == count_max)
            return TP_FULL;
    }
}

bool tp_teleportal_is_ack(struct tp_slice frame, uint64_t *id)
{
    static const uint8_t head[] = {
        'Y', 'J', 'S', 1, 0, 0, TP_TELEPORTAL_ACK, TP_TELEPORTAL_ID_SIZE};

    return frame.size > sizeof head + TP_TELEPORTAL_ID_SIZE &&
           memcmp(frame.data, head, sizeof head) == 0 &&
           tp_teleportal_id_parse(tp_slice_of(frame.data + sizeof head, TP_TELEPORTAL_ID_SIZE),
                                  id) == TP_OK;
}

enum tp_status tp_teleportal_envelope_decode(struct tp_slice envelope, struct tp_slice *source,
                                             struct tp_slice *frame)
{
    struct tp_reader in = tp_reader_of(envelope);
    const struct tp_slice who = tp_read_string(&in);

    if (in.bad)
        return TP_MALFORMED;
    *source = who;
    *frame = (struct tp_slice){in.at, tp_reader_left(&in)};
    return TP_OK;
}

void tp_teleportal_envelope_encode(struct tp_slice source, struct tp_slice frame,
                                   struct tp_buffer *out)
{
    tp_write_bytes(out, source);
    tp_write_raw(out, frame);
}
