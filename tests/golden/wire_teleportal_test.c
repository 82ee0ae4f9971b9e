/* Teleportal's frames: what the reference wrote decodes to its fields, and we write the same bytes.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "golden/any_vectors.h"
#include "wire/container.h"
#include "wire/teleportal.h"

static const char *text_of_id(uint64_t id)
{
    static char text[TP_TELEPORTAL_ID_SIZE + 1];

    tp_teleportal_id_format(id, text);
    return text;
}

static void expect_encoding(const struct tp_message *message, struct tp_slice want,
                            const char *name)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);

    cr_assert_eq(tp_teleportal_encode(message, message->document, &out), TP_OK, "%s", name);
    vectors_expect(tp_buffer_slice(&out), want, "%s", name);
    tp_buffer_finish(&out);
}

/* The name of a kind in the vectors. */
static const char *kind_name(enum tp_message_kind kind)
{
    static const char *const names[TP_MESSAGE_COUNT] = {
        [TP_MESSAGE_SYNC_STEP_1] = "sync-step-1",
        [TP_MESSAGE_SYNC_STEP_2] = "sync-step-2",
        [TP_MESSAGE_UPDATE] = "update",
        [TP_MESSAGE_SYNC_DONE] = "sync-done",
        [TP_MESSAGE_AUTH] = "auth-message",
        [TP_MESSAGE_AWARENESS] = "awareness-update",
        [TP_MESSAGE_AWARENESS_QUERY] = "awareness-request",
        [TP_MESSAGE_ACK] = "ack",
        [TP_MESSAGE_PRESENCE_ANNOUNCE] = "presence-announce",
        [TP_MESSAGE_PRESENCE_UNANNOUNCE] = "presence-unannounce",
        [TP_MESSAGE_PRESENCE_JOIN] = "presence-join",
        [TP_MESSAGE_PRESENCE_LEAVE] = "presence-leave",
        [TP_MESSAGE_PRESENCE_HEARTBEAT] = "presence-heartbeat",
        [TP_MESSAGE_RPC] = "rpc",
    };
    return names[kind] != NULL ? names[kind] : "?";
}

static uint64_t number_of(const json_t *object, const char *name)
{
    const json_t *number = json_object_get(object, name);

    cr_assert(json_is_number(number), "no number \"%s\"", name);
    return (uint64_t)json_number_value(number);
}

static void expect_text_or_null(struct tp_slice got, const json_t *object, const char *field,
                                const char *name)
{
    if (json_is_null(json_object_get(object, field)))
        cr_assert_null(got.data, "%s: %s", name, field);
    else
        vectors_expect(got, vectors_string(object, field), "%s: %s", name, field);
}

static void expect_presence(const struct tp_message_presence *presence, const json_t *want,
                            const char *name)
{
    struct tp_reader data = tp_reader_of(presence->data);

    cr_assert_eq(presence->awareness_id, number_of(want, "awarenessId"), "%s", name);
    vectors_expect(presence->client_id, vectors_string(want, "clientId"), "%s: client", name);
    vectors_expect(presence->user_id, vectors_string(want, "userId"), "%s: user", name);
    any_vectors_expect(&data, json_object_get(want, "data"), name);
    cr_assert_eq(data.at, data.end, "%s", name);
}

static void expect_heartbeat(const struct tp_message_presence *heartbeat, const json_t *want,
                             const char *name)
{
    struct tp_slice entries = heartbeat->entries;
    struct tp_message_presence entry;
    const json_t *clients = json_object_get(want, "clients");
    size_t count = 0;

    cr_assert_eq(heartbeat->entry_count, json_array_size(clients), "%s", name);
    while (tp_teleportal_presence_next(&entries, &entry) == TP_OK)
        expect_presence(&entry, json_array_get(clients, count++), name);
    cr_assert_eq(count, json_array_size(clients), "%s", name);
}

static void expect_ack(const struct tp_message_ack *ack, const json_t *want, const char *name)
{
    const json_t *retry = json_object_get(want, "retryAfter");

    vectors_expect(ack->id_text, vectors_string(want, "messageId"), "%s: id", name);
    cr_assert_eq(ack->retry_ms, json_is_null(retry) ? 0 : number_of(want, "retryAfter"), "%s",
                 name);
    cr_assert_eq(ack->retry_at_once, json_is_number(retry) && ack->retry_ms == 0, "%s", name);
    expect_text_or_null(ack->error, want, "error", name);
}

static void expect_rpc(const struct tp_message_rpc *rpc, const json_t *fields, const char *name)
{
    static const char *const types[] = {"request", "stream", "response"};
    const json_t *want = json_object_get(fields, "payload");
    struct tp_reader payload = tp_reader_of(rpc->payload);

    vectors_expect(rpc->method, vectors_string(fields, "method"), "%s: method", name);
    cr_assert_str_eq(types[rpc->type], vectors_text(fields, "requestType"), "%s", name);
    expect_text_or_null(rpc->request_id, fields, "originalRequestId", name);
    cr_assert_eq(rpc->failed, strcmp(vectors_text(want, "result"), "error") == 0, "%s", name);
    if (rpc->failed) {
        cr_assert_eq(rpc->status, number_of(want, "statusCode"), "%s", name);
        vectors_expect(rpc->details, vectors_string(want, "details"), "%s: details", name);
        if (!json_is_true(json_object_get(want, "hasPayload"))) {
            cr_assert_eq(rpc->payload.size, 0, "%s", name);
            return;
        }
    } else if (json_object_get(want, "rawPayload") != NULL) {
        vectors_expect(rpc->payload, vectors_hex(want, "rawPayload"), "%s: payload", name);
        return;
    }
    any_vectors_expect(&payload, json_object_get(want, "value"), name);
}

static void expect_fields(const struct tp_message *message, const json_t *fields, const char *name)
{
    const json_t *payload = json_object_get(fields, "payload");
    const json_t *kind = json_object_get(payload, "kind");

    cr_assert_str_eq(kind_name(message->kind),
                     kind != NULL ? json_string_value(kind) : vectors_text(fields, "type"), "%s",
                     name);
    cr_assert_eq(message->encrypted, json_is_true(json_object_get(fields, "encrypted")), "%s",
                 name);
    expect_text_or_null(message->document, fields, "document", name);
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        vectors_expect(message->state_vector, vectors_hex(payload, "sv"), "%s: sv", name);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        cr_assert_eq(message->update.version, number_of(payload, "version"), "%s", name);
        vectors_expect(message->update.container, vectors_hex(payload, "update"), "%s", name);
        break;
    case TP_MESSAGE_AUTH:
        cr_assert_eq(message->auth.allowed,
                     strcmp(vectors_text(payload, "permission"), "allowed") == 0, "%s", name);
        vectors_expect(message->auth.reason, vectors_string(payload, "reason"), "%s", name);
        break;
    case TP_MESSAGE_AWARENESS:
        vectors_expect(message->awareness, vectors_hex(payload, "update"), "%s", name);
        break;
    case TP_MESSAGE_ACK:
        expect_ack(&message->ack, payload, name);
        break;
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
        cr_assert_eq(message->presence.awareness_id, number_of(payload, "awarenessId"), "%s", name);
        break;
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
        expect_presence(&message->presence, payload, name);
        break;
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        expect_heartbeat(&message->presence, payload, name);
        break;
    case TP_MESSAGE_RPC:
        expect_rpc(&message->rpc, fields, name);
        break;
    default:
        break;
    }
}

static void expect_same_bytes(const struct tp_message *message, struct tp_slice hex,
                              const char *name)
{
    const bool is_update =
        message->kind == TP_MESSAGE_UPDATE || message->kind == TP_MESSAGE_SYNC_STEP_2;
    struct tp_message as_received = *message;

    if (!is_update) {
        expect_encoding(message, hex, name);
        return;
    }
    as_received.update.v2 = (struct tp_slice){0};
    expect_encoding(&as_received, hex, name);
    if (!message->update.bad_container && message->update.version == 2)
        expect_encoding(message, hex, name);
}

Test(teleportal, frames_are_the_references)
{
    json_t *root = vectors_load("wire/messages.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const struct tp_slice hex = vectors_hex(vector, "hex");
        struct tp_message message;
        enum tp_close_reason reason;

        cr_assert_eq(tp_teleportal_decode(hex, &message, &reason), TP_OK, "%s", name);
        expect_fields(&message, json_object_get(vector, "fields"), name);
        cr_assert_str_eq(text_of_id(message.id), vectors_text(vector, "id"), "%s", name);
        expect_same_bytes(&message, hex, name);
        if (message.kind == TP_MESSAGE_ACK && message.ack.id != 0) {
            message.ack.id_text = (struct tp_slice){0};
            expect_encoding(&message, hex, name);
        }
    }
}

Test(teleportal, ids_are_the_references)
{
    json_t *root = vectors_load("wire/message-ids.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        static uint8_t pattern[65536];
        struct tp_slice bytes = {pattern, sizeof pattern};
        if (json_object_get(vector, "canonicalHex") != NULL)
            bytes = vectors_hex(vector, "canonicalHex");
        else if (json_object_get(vector, "pattern") == NULL)
            bytes = vectors_hex(vector, "hex");
        else
            for (size_t i = 0; i < sizeof pattern; i++)
                pattern[i] = (uint8_t)(i * 7);
        const uint64_t id = tp_teleportal_message_id(bytes);
        uint64_t parsed;

        cr_assert_str_eq(text_of_id(id), vectors_text(vector, "id"), "%s",
                         vectors_text(vector, "name"));
        cr_assert_eq(tp_teleportal_id_parse(vectors_string(vector, "id"), &parsed), TP_OK);
        cr_assert_eq(parsed, id);
    }
}

Test(teleportal, what_the_reference_rejects_is_malformed_with_its_close_reason)
{
    json_t *root = vectors_load("wire/malformed.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const char *error = vectors_text(vector, "error");
        struct tp_message message;
        enum tp_close_reason reason = TP_CLOSE_NORMAL;

        cr_assert_eq(tp_teleportal_decode(hex, &message, &reason), TP_MALFORMED, "%s", name);
        const enum tp_close_reason want = strstr(error, "Invalid magic") ? TP_CLOSE_UNSUPPORTED
                                          : strstr(error, "utf-8")       ? TP_CLOSE_BAD_UTF8
                                                                         : TP_CLOSE_POLICY;
        cr_assert_eq(reason, want, "%s: %d", name, (int)reason);
    }
}

/* What the session must refuse with a NACK, seen from the frame alone. */
static bool deserves_a_nack(const struct tp_message *message)
{
    const bool is_update = message->kind == TP_MESSAGE_UPDATE;

    return message->document.size == 0 ||
           memchr(message->document.data, 0, message->document.size) != NULL ||
           (is_update && (message->update.bad_container || message->update.version < 1 ||
                          message->update.version > 2));
}

static const char *verdict_of(struct tp_slice frame, struct tp_message *message)
{
    enum tp_close_reason reason;

    if (tp_teleportal_decode(frame, message, &reason) != TP_OK)
        return "reject";
    return message->kind != TP_MESSAGE_ACK && deserves_a_nack(message) ? "nack" : "accept";
}

/* A request whose payload is undefined inside of `depth` arrays. */
static const char *verdict_of_depth(size_t depth)
{
    uint8_t payload[200];
    struct tp_buffer out = tp_buffer_growing(1000);
    struct tp_message message;

    for (size_t i = 0; i < depth; i++)
        memcpy(payload + 2 * i, "\x75\x01", 2);
    payload[2 * depth] = TP_ANY_UNDEFINED;
    tp_write_raw(&out, TP_SLICE("YJS\1\1d\0\4\1m\0\0"));
    tp_write_bytes(&out, tp_slice_of(payload, 2 * depth + 1));
    const char *verdict = verdict_of(tp_buffer_slice(&out), &message);
    tp_buffer_finish(&out);
    return verdict;
}

Test(teleportal, where_the_reference_is_lenient_the_verdict_is_ours)
{
    json_t *root = vectors_load("wire/lenient.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const char *want = vectors_text(vector, "serverShould");
        struct tp_message message;

        if (strcmp(want, "reject above depth 64") == 0) {
            cr_assert_str_eq(verdict_of_depth(64), "accept");
            cr_assert_str_eq(verdict_of_depth(65), "reject");
            continue;
        }
        const char *verdict = verdict_of(vectors_hex(vector, "hex"), &message);
        if (strcmp(name, "trailing bytes after update") == 0) {
            /* the container in it is none: nothing in the frame, but the update is refused */
            cr_assert_str_eq(verdict, "nack");
            cr_assert(message.update.bad_container);
            verdict = want;
        }
        cr_assert_str_eq(verdict, want, "%s", name);
        if (strcmp(verdict, "reject") == 0)
            continue;
        if (strstr(name, "duplicate key") ==
            NULL) /* which of them wins is for who reads the value */
            expect_fields(&message, json_object_get(vector, "fields"), name);
        if (message.kind == TP_MESSAGE_ACK) { /* the reference counts an ack as it would write it */
            struct tp_buffer out = tp_buffer_growing(1000);
            cr_assert_eq(tp_teleportal_encode(&message, message.document, &out), TP_OK);
            message.id = tp_teleportal_message_id(tp_buffer_slice(&out));
            tp_buffer_finish(&out);
        }
        cr_assert_str_eq(text_of_id(message.id), vectors_text(vector, "id"), "%s", name);
    }
}

Test(teleportal, pings_and_pongs_are_told_from_frames_as_by_the_reference)
{
    json_t *root = vectors_load("wire/ping-pong.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const char *name = vectors_text(vector, "name");

        cr_assert_eq(tp_teleportal_has_magic(hex),
                     json_is_true(json_object_get(vector, "isBinaryMessage")), "%s", name);
        cr_assert_eq(tp_teleportal_is_ping(hex), json_is_true(json_object_get(vector, "isPing")),
                     "%s", name);
        cr_assert_eq(tp_teleportal_is_pong(hex), json_is_true(json_object_get(vector, "isPong")),
                     "%s", name);
    }
}

/* Splits and decodes a whole array; TP_OK with the number of frames, as long as all are good. */
static enum tp_status split_array(struct tp_slice body, struct tp_slice *frames, size_t *count)
{
    struct tp_message message;
    enum tp_close_reason reason;

    for (*count = 0;; ++*count) {
        const enum tp_status status = tp_teleportal_array_next(&body, &frames[*count]);
        if (status != TP_OK)
            return status == TP_ABSENT ? TP_OK : status;
        if (tp_teleportal_decode(frames[*count], &message, &reason) != TP_OK)
            return TP_MALFORMED;
    }
}

Test(teleportal, message_arrays_split_and_join_as_the_references)
{
    json_t *root = vectors_load("wire/message-arrays.json");
    struct tp_slice frames[100];
    size_t count;

    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const json_t *elements = json_object_get(vector, "elements");
        struct tp_buffer out = tp_buffer_growing(1 << 20);

        cr_assert_eq(split_array(hex, frames, &count), TP_OK, "%s", name);
        cr_assert_eq(count, json_array_size(elements), "%s", name);
        for (size_t i = 0; i < count; i++) {
            const json_t *id = json_array_get(json_object_get(vector, "ids"), i);
            vectors_expect(frames[i], vectors_unhex(json_array_get(elements, i)), "%s", name);
            cr_assert_str_eq(text_of_id(tp_teleportal_message_id(frames[i])), json_string_value(id),
                             "%s", name);
            tp_teleportal_array_write(frames[i], &out);
        }
        vectors_expect(tp_buffer_slice(&out), hex, "%s", name);
        tp_buffer_finish(&out);
    }
    VECTORS_EACH(root, "invalid", bad)
    {
        cr_assert_eq(split_array(vectors_hex(bad, "hex"), frames, &count), TP_MALFORMED, "%s",
                     vectors_text(bad, "name"));
    }
}

Test(teleportal, envelopes_between_nodes_are_the_references)
{
    json_t *root = vectors_load("wire/pubsub.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const struct tp_slice hex = vectors_hex(vector, "hex");
        struct tp_buffer out = tp_buffer_growing(1 << 20);
        struct tp_slice source, frame;

        cr_assert_eq(tp_teleportal_envelope_decode(hex, &source, &frame), TP_OK, "%s", name);
        vectors_expect(source, vectors_string(vector, "sourceId"), "%s: source", name);
        vectors_expect(frame, vectors_hex(vector, "message"), "%s: frame", name);
        if (json_is_string(json_object_get(vector, "id"))) /* some hold no frame */
            cr_assert_str_eq(text_of_id(tp_teleportal_message_id(frame)),
                             vectors_text(vector, "id"), "%s", name);
        tp_teleportal_envelope_encode(source, frame, &out);
        vectors_expect(tp_buffer_slice(&out), hex, "%s", name);
        tp_buffer_finish(&out);
    }
}

static void expect_compaction(const struct tp_message_update *update, const json_t *want,
                              const char *name)
{
    struct tp_container_compaction got = tp_container_compaction(update);
    const json_t *index = json_object_get(want, "index");
    const json_t *sources = json_object_get(want, "sourceHashes");
    struct tp_container_range range;
    struct tp_slice source;
    size_t i = 0;

    vectors_expect(got.sidecar, vectors_hex(want, "sidecar"), "%s: sidecar", name);
    for (i = 0; tp_container_range_next(&got.index, &range); i++) {
        const json_t *entry = json_array_get(index, i);
        cr_assert_eq(range.client, number_of(entry, "clientId"), "%s", name);
        cr_assert_eq(range.min_clock, number_of(entry, "minClock"), "%s", name);
        cr_assert_eq(range.max_clock, number_of(entry, "maxClock"), "%s", name);
    }
    cr_assert_eq(i, json_array_size(index), "%s", name);
    vectors_expect(got.hash, vectors_hex(want, "hash"), "%s: hash", name);
    for (i = 0; tp_container_bytes_next(&got.sources, &source); i++)
        vectors_expect(source, vectors_unhex(json_array_get(sources, i)), "%s", name);
    cr_assert_eq(i, json_array_size(sources), "%s", name);
}

Test(container, contents_are_the_references)
{
    json_t *root = vectors_load("wire/content-envelope.json");
    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const json_t *fields = json_object_get(vector, "fields");
        const json_t *sidecars = json_object_get(fields, "sidecars");
        const json_t *compaction = json_object_get(fields, "compaction");
        struct tp_message_update update = {0};
        struct tp_buffer out = tp_buffer_growing(1 << 20);
        struct tp_slice sidecar;
        size_t count = 0;

        cr_assert_eq(tp_container_decode(hex, &update), TP_OK, "%s", name);
        vectors_expect(update.v2, vectors_hex(fields, "structureUpdate"), "%s", name);
        cr_assert_eq(update.sidecar_count, json_array_size(sidecars), "%s", name);
        struct tp_container_walk walk = tp_container_sidecars(&update);
        while (tp_container_bytes_next(&walk, &sidecar))
            vectors_expect(sidecar, vectors_unhex(json_array_get(sidecars, count++)), "%s", name);
        cr_assert_eq(count, update.sidecar_count, "%s", name);
        cr_assert_eq(update.compaction, !json_is_null(compaction), "%s", name);
        if (update.compaction)
            expect_compaction(&update, compaction, name);

        tp_container_encode(&update, &out);
        cr_assert_eq(out.size, tp_container_size(&update), "%s", name);
        if (strstr(name, "absent") == NULL)
            vectors_expect(tp_buffer_slice(&out), hex, "%s", name);
        else
            cr_assert_eq(out.size, hex.size + 1, "%s: we write the flag", name);
        tp_buffer_finish(&out);
    }
    VECTORS_EACH(root, "invalid", bad)
    {
        struct tp_message_update update = {0};
        cr_assert_eq(tp_container_decode(vectors_hex(bad, "hex"), &update), TP_MALFORMED, "%s",
                     vectors_text(bad, "name"));
        cr_assert(update.bad_container && update.v2.data == NULL);
    }
}
