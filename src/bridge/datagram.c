#include "bridge/datagram.h"

#include "base/hash.h"

static const uint8_t magic[4] = "TPM1";
#define CHECKSUM_AT 56u

static void put(uint8_t *out, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

void tp_datagram_key(struct tp_slice secret, const uint8_t sender[TP_DATAGRAM_SENDER_SIZE],
                     uint8_t key[TP_SEAL_KEY_SIZE])
{
    tp_seal_key(secret, tp_slice_of(sender, TP_DATAGRAM_SENDER_SIZE),
                TP_SLICE("teleportald multicast 1"), key);
}

/* No stamp comes twice from one sender, and every sender has a key of its own. */
static void nonce_of(uint64_t stamp, uint8_t nonce[TP_SEAL_NONCE_SIZE])
{
    memset(nonce, 0, TP_SEAL_NONCE_SIZE);
    put(nonce, stamp, 8);
}

void tp_datagram_write(const struct tp_datagram *datagram, const uint8_t *key, uint8_t *out)
{
    uint8_t nonce[TP_SEAL_NONCE_SIZE];
    const struct tp_slice body = datagram->body;

    memset(out, 0, TP_DATAGRAM_HEAD_SIZE);
    memcpy(out, magic, sizeof magic);
    out[4] = (uint8_t)datagram->kind;
    out[5] = key != NULL;
    put(out + 6, datagram->fragment_size, 2);
    memcpy(out + 8, datagram->sender, TP_DATAGRAM_SENDER_SIZE);
    put(out + 24, datagram->stamp, 8);
    put(out + 32, datagram->sequence, 8);
    put(out + 40, datagram->index, 4);
    put(out + 44, datagram->count, 4);
    memcpy(out + 48, &datagram->answer_address, 4);
    memcpy(out + 52, &datagram->answer_port, 2);
    if (key != NULL) {
        nonce_of(datagram->stamp, nonce);
        tp_seal(key, nonce, tp_slice_of(out, TP_DATAGRAM_HEAD_SIZE), body,
                out + TP_DATAGRAM_HEAD_SIZE);
        return;
    }
    if (body.size > 0)
        memcpy(out + TP_DATAGRAM_HEAD_SIZE, body.data, body.size);
    put(out + CHECKSUM_AT, tp_hash64(tp_slice_of(out, TP_DATAGRAM_HEAD_SIZE + body.size)), 8);
}

/* What the fields may be, whoever wrote them. */
static bool is_sound(const struct tp_datagram *datagram)
{
    switch (datagram->kind) {
    case TP_DATAGRAM_DATA:
        return datagram->count >= 1 && datagram->count <= TP_DATAGRAM_FRAGMENT_COUNT_MAX &&
               datagram->index < datagram->count && datagram->sequence >= datagram->index &&
               (datagram->count == 1 || datagram->fragment_size > 0);
    case TP_DATAGRAM_BEAT:
    case TP_DATAGRAM_WANT:
    case TP_DATAGRAM_GONE:
        return datagram->index == 0 && datagram->count == 0;
    }
    return false;
}

enum tp_status tp_datagram_peek(struct tp_slice bytes, bool sealed, struct tp_datagram *out)
{
    const uint8_t *in = bytes.data;

    if (bytes.size < tp_datagram_size(0, sealed) || bytes.size > TP_DATAGRAM_SIZE_MAX ||
        memcmp(in, magic, sizeof magic) != 0 || in[5] != sealed)
        return TP_MALFORMED;
    *out = (struct tp_datagram){
        .kind = (enum tp_datagram_kind)in[4],
        .fragment_size = (uint16_t)get(in + 6, 2),
        .stamp = get(in + 24, 8),
        .sequence = get(in + 32, 8),
        .index = (uint32_t)get(in + 40, 4),
        .count = (uint32_t)get(in + 44, 4),
        .body = {in + TP_DATAGRAM_HEAD_SIZE, bytes.size - TP_DATAGRAM_HEAD_SIZE},
    };
    memcpy(out->sender, in + 8, TP_DATAGRAM_SENDER_SIZE);
    memcpy(&out->answer_address, in + 48, 4);
    memcpy(&out->answer_port, in + 52, 2);
    return is_sound(out) ? TP_OK : TP_MALFORMED;
}

enum tp_status tp_datagram_open(struct tp_datagram *datagram, struct tp_slice bytes,
                                const uint8_t *key)
{
    uint8_t *in = (uint8_t *)bytes.data;
    uint8_t nonce[TP_SEAL_NONCE_SIZE];

    if (key != NULL) {
        nonce_of(datagram->stamp, nonce);
        const enum tp_status status = tp_unseal(key, nonce, tp_slice_of(in, TP_DATAGRAM_HEAD_SIZE),
                                                datagram->body, in + TP_DATAGRAM_HEAD_SIZE);
        datagram->body.size -= status == TP_OK ? TP_SEAL_TAG_SIZE : 0;
        return status;
    }
    const uint64_t said = get(in + CHECKSUM_AT, 8);
    memset(in + CHECKSUM_AT, 0, 8);
    const uint64_t is = tp_hash64(bytes);
    put(in + CHECKSUM_AT, said, 8);
    return said == is ? TP_OK : TP_MALFORMED;
}

void tp_datagram_message_head(size_t topic_size, size_t payload_size,
                              uint8_t out[TP_DATAGRAM_MESSAGE_HEAD_SIZE])
{
    put(out, topic_size, 2);
    put(out + 2, payload_size, 4);
}

bool tp_datagram_message(struct tp_slice *body, struct tp_slice *topic, struct tp_slice *payload)
{
    if (body->size < TP_DATAGRAM_MESSAGE_HEAD_SIZE)
        return false;
    const size_t topic_size = (size_t)get(body->data, 2);
    const size_t payload_size = (size_t)get(body->data + 2, 4);
    const size_t left = body->size - TP_DATAGRAM_MESSAGE_HEAD_SIZE;
    if (topic_size > left || payload_size > left - topic_size)
        return false;
    *topic = tp_slice_of(body->data + TP_DATAGRAM_MESSAGE_HEAD_SIZE, topic_size);
    *payload = tp_slice_of(topic->data + topic_size, payload_size);
    *body = tp_slice_of(payload->data + payload_size, left - topic_size - payload_size);
    return true;
}

bool tp_datagram_span(struct tp_slice *body, struct tp_span *span)
{
    if (body->size < TP_DATAGRAM_SPAN_SIZE)
        return false;
    *span = (struct tp_span){get(body->data, 8), (uint32_t)get(body->data + 8, 4)};
    *body = tp_slice_of(body->data + TP_DATAGRAM_SPAN_SIZE, body->size - TP_DATAGRAM_SPAN_SIZE);
    return true;
}

void tp_datagram_span_write(struct tp_span span, uint8_t out[TP_DATAGRAM_SPAN_SIZE])
{
    put(out, span.first, 8);
    put(out + 8, span.count, 4);
}
