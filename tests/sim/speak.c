#include "sim/speak.h"

#include <wolfssl/options.h>

#include <stdio.h>
#include <stdlib.h>
#include <wolfssl/wolfcrypt/hmac.h>

#include "base/hash.h"
#include "wire/teleportal.h"
#include "wire/websocket.h"
#include "wire/writer.h"
#include "wire/yprotocol.h"

#define SECRET "a secret that only the simulator knows"

/* ---- the way in ---------------------------------------------------------------------------------
 */

static void write_base64url(struct tp_slice bytes, struct tp_buffer *out)
{
    const size_t start = out->size;

    tp_base64_encode(bytes, out);
    while (out->size > start && out->data[out->size - 1] == '=')
        out->size--;
    for (size_t i = start; i < out->size; i++)
        out->data[i] = out->data[i] == '+' ? '-' : out->data[i] == '/' ? '_' : out->data[i];
}

static int write_claims(const struct sim_client *client, char *out, size_t size)
{
    const uint64_t now_s = (WALL_START_MS + sim.now_ns / MS) / 1000;
    const uint64_t life_s = sim.calm || sim_chance(800) ? 100000 : 3 + sim_below(20);
    int at = snprintf(out, size,
                      "{\"iss\":\"teleportal\",\"aud\":\"teleportal\",\"userId\":\"u%u\","
                      "\"room\":\"r\",\"exp\":%lu,\"documentAccess\":[",
                      client->index, now_s + life_s);

    for (uint32_t i = 0, count = 0; i < world.document_count; i++) {
        const struct sim_replica *replica = &client->replicas[i];
        if (replica->may_read)
            at += snprintf(out + at, size - (size_t)at,
                           "%s{\"pattern\":\"doc-%u\",\"permissions\":[\"read\"%s]}",
                           count++ == 0 ? "" : ",", i, replica->may_write ? ",\"write\"" : "");
    }
    return at + snprintf(out + at, size - (size_t)at, "]}");
}

static void write_token(const struct sim_client *client, struct tp_buffer *out)
{
    char claims[1024];
    uint8_t digest[32];
    const size_t start = out->size;
    Hmac hmac;

    const int size = write_claims(client, claims, sizeof claims);
    write_base64url(TP_SLICE("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"), out);
    tp_write_u8(out, '.');
    write_base64url(tp_slice_of(claims, (size_t)size), out);
    TP_ASSERT(wc_HmacInit(&hmac, NULL, INVALID_DEVID) == 0);
    TP_ASSERT(wc_HmacSetKey(&hmac, WC_SHA256, (const uint8_t *)SECRET, strlen(SECRET)) == 0);
    TP_ASSERT(wc_HmacUpdate(&hmac, out->data + start, (word32)(out->size - start)) == 0);
    TP_ASSERT(wc_HmacFinal(&hmac, digest) == 0);
    wc_HmacFree(&hmac);
    tp_write_u8(out, '.');
    write_base64url(tp_slice_of(digest, sizeof digest), out);
}

void speak_upgrade(struct sim_client *client)
{
    static const char rest[] = " HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);
    char path[64];

    int size = snprintf(path, sizeof path, "GET /teleportal");
    if (client->dialect == SIM_YWEBSOCKET)
        size = snprintf(path, sizeof path, "GET /yjs/doc-%u", speak_document(NULL, client));
    tp_buffer_append(&out, path, (size_t)size);
    if (world.jwt) {
        tp_buffer_append(&out, "?token=", 7);
        write_token(client, &out);
    }
    tp_buffer_append(&out, rest, sizeof rest - 1);
    sim_socket_write(client->socket, tp_buffer_slice(&out));
    tp_buffer_finish(&out);
}

/* ---- frames -------------------------------------------------------------------------------------
 */

void speak_websocket(struct sim_socket *socket, uint8_t opcode, struct tp_slice payload)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);
    uint8_t mask[4];

    for (int i = 0; i < 4; i++)
        mask[i] = (uint8_t)sim_below(256);
    tp_write_u8(&out, 0x80 | opcode);
    if (payload.size < 126) {
        tp_write_u8(&out, 0x80 | (uint8_t)payload.size);
    } else if (payload.size < 65536) {
        tp_write_u8(&out, 0x80 | 126);
        tp_write_big_endian(&out, payload.size, 2);
    } else {
        tp_write_u8(&out, 0x80 | 127);
        tp_write_big_endian(&out, payload.size, 8);
    }
    tp_buffer_append(&out, mask, 4);
    const size_t start = out.size;
    tp_buffer_append(&out, payload.data, payload.size);
    tp_websocket_unmask(out.data + start, payload.size, mask, 0);
    sim_socket_write(socket, tp_buffer_slice(&out));
    tp_buffer_finish(&out);
}

size_t speak_frame(struct tp_slice in, uint8_t *opcode, struct tp_slice *payload)
{
    size_t head_size = 2, size;

    if (in.size < 2)
        return 0;
    size = in.data[1];
    const size_t size_bytes = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (size > 127)
        sim_fail("the server masks its frames");
    if (in.size < 2 + size_bytes)
        return 0;
    if (size_bytes > 0)
        size = 0;
    for (; head_size < 2 + size_bytes; head_size++)
        size = size << 8 | in.data[head_size];
    if (in.size - head_size < size)
        return 0;
    *opcode = in.data[0] & 0x0f;
    *payload = tp_slice_of(in.data + head_size, size);
    return head_size + size;
}

/* ---- messages -----------------------------------------------------------------------------------
 */

void speak_encode(enum sim_dialect dialect, uint32_t document, struct tp_message *message,
                  struct tp_buffer *out)
{
    char name[16];

    sim_document_name(document, name);
    const enum tp_status status =
        dialect == SIM_TELEPORTAL
            ? tp_teleportal_encode(message, tp_slice_of(name, strlen(name)), out)
            : tp_yprotocol_write(message, out);
    TP_ASSERT(status == TP_OK);
}

bool speak_decode(struct sim_client *client, struct tp_slice payload,
                  void (*hear)(void *client, struct tp_message *message))
{
    struct tp_message message = {0};
    enum tp_close_reason reason;

    if (client->dialect == SIM_TELEPORTAL) {
        if (tp_teleportal_is_pong(payload) || tp_teleportal_is_ping(payload))
            return true;
        if (tp_teleportal_decode(payload, &message, &reason) != TP_OK)
            return false;
        message.raw = payload;
        hear(client, &message);
        return true;
    }
    struct tp_reader in = tp_reader_of(payload);
    while (tp_reader_left(&in) > 0) {
        const enum tp_status status = tp_yprotocol_read(&in, &message);
        if (status == TP_ABSENT)
            return true;
        if (status != TP_OK)
            return false;
        hear(client, &message);
    }
    return true;
}

uint32_t speak_document(const struct tp_message *message, const struct sim_client *client)
{
    char name[16];

    for (uint32_t i = 0; i < world.document_count; i++) {
        sim_document_name(i, name);
        if (client->dialect == SIM_YWEBSOCKET
                ? client->replicas[i].wanted
                : tp_slice_equal(message->document, tp_slice_of(name, strlen(name))))
            return i;
    }
    if (message != NULL && message->kind == TP_MESSAGE_ACK)
        return 0;
    sim_fail("client %u gets a message about no document", client->index);
}

void speak_awareness(uint64_t author, uint64_t clock, struct tp_buffer *out)
{
    tp_write_u8(out, 1);
    tp_write_varuint(out, author);
    tp_write_varuint(out, clock);
    tp_write_bytes(out, TP_SLICE("{\"at\":1}"));
}
