/* Events as the reference writes them, and `?documents=` as it reads them. */
#include <criterion/criterion.h>

#include "golden/vectors.h"
#include "wire/sse.h"
#include "wire/teleportal.h"

static struct tp_slice event_of(const json_t *vector)
{
    static uint8_t out[4096];
    const char *event = vectors_text(vector, "event");

    if (strcmp(event, "ping") == 0)
        return TP_SSE_PING;
    if (strcmp(event, "client-id") == 0) {
        const char *text = strstr(vectors_text(vector, "text"), "data: ") + strlen("data: ");
        const struct tp_slice id = tp_slice_of(text, strcspn(text, "\n"));
        tp_sse_client_id_write(id, out);
        return tp_slice_of(out, tp_sse_client_id_size(id.size));
    }
    const struct tp_slice frame = vectors_hex(vector, "messageHex");
    cr_assert_leq(tp_sse_message_size(frame.size), sizeof out);
    tp_sse_message_write(frame, tp_teleportal_message_id(frame), out);
    return tp_slice_of(out, tp_sse_message_size(frame.size));
}

Test(wire_sse, writes_the_events_of_the_reference_byte_for_byte)
{
    json_t *file = vectors_load("wire/sse-frames.json");

    VECTORS_EACH(file, "vectors", vector)
    {
        vectors_expect(event_of(vector), vectors_string(vector, "text"), "%s",
                       vectors_text(vector, "name"));
    }
}

Test(wire_sse, pads_base64_for_every_remainder)
{
    static const char *const data[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="};
    uint8_t out[128];

    for (size_t size = 0; size < sizeof data / sizeof *data; size++) {
        tp_sse_message_write(tp_slice_of("foob", size), 0, out);
        char want[128];
        const int want_size = snprintf(
            want, sizeof want, "event:message\nid:0000000000000000\ndata: %s\n\n", data[size]);
        vectors_expect(tp_slice_of(out, tp_sse_message_size(size)),
                       tp_slice_of(want, (size_t)want_size), "%zu bytes", size);
    }
}

Test(wire_sse, reads_the_documents_of_the_query_as_the_reference_does)
{
    json_t *file = vectors_load("wire/sse-documents-query.json");

    VECTORS_EACH(file, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        struct tp_slice query = vectors_string(vector, "query");
        const json_t *want = json_object_get(vector, "documents");
        struct tp_sse_document got[16];
        uint8_t memory[256];
        size_t count = 0;

        if (query.size > 0)
            query = tp_slice_of(query.data + 1, query.size - 1); /* the mark */
        cr_assert_eq(tp_sse_documents(query, memory, got, 16, &count), TP_OK, "%s", name);
        cr_assert_eq(count, json_array_size(want), "%s: %zu", name, count);
        for (size_t i = 0; i < count; i++) {
            const json_t *document = json_array_get(want, i);
            vectors_expect(got[i].name, vectors_string(document, "document"), "%s", name);
            cr_assert_eq(got[i].encrypted, json_is_true(json_object_get(document, "encrypted")),
                         "%s", name);
        }
    }
}

Test(wire_sse, refuses_more_documents_than_there_is_room_for_and_a_bad_escape)
{
    struct tp_sse_document got[2];
    uint8_t memory[64];
    size_t count;

    cr_assert_eq(tp_sse_documents(TP_SLICE("documents=a,b"), memory, got, 2, &count), TP_OK);
    cr_assert_eq(tp_sse_documents(TP_SLICE("documents=a,b,a:plaintext"), memory, got, 2, &count),
                 TP_OK, "a repetition takes no room");
    cr_assert_eq(tp_sse_documents(TP_SLICE("documents=a,b,c"), memory, got, 2, &count), TP_FULL);
    cr_assert_eq(tp_sse_documents(TP_SLICE("documents=a%2"), memory, got, 2, &count), TP_MALFORMED);
    cr_assert_eq(tp_sse_documents(TP_SLICE("documents=a+b%2Bc"), memory, got, 2, &count), TP_OK);
    vectors_expect(got[0].name, TP_SLICE("a b+c"), "a plus is a blank, unless it is escaped");
}

/* ---- what posts need of Teleportal's frames ---------------------------------------------------*/

Test(wire_sse, tells_acks_and_nacks_from_all_other_frames)
{
    json_t *file = vectors_load("wire/messages.json");

    VECTORS_EACH(file, "vectors", vector)
    {
        const struct tp_slice frame = vectors_hex(vector, "hex");
        struct tp_message message;
        enum tp_close_reason reason;
        uint64_t id = 0;

        cr_assert_eq(tp_teleportal_decode(frame, &message, &reason), TP_OK);
        const bool is_ack = message.kind == TP_MESSAGE_ACK && message.ack.id != 0;
        cr_assert_eq(tp_teleportal_is_ack(frame, &id), is_ack, "%s", vectors_text(vector, "name"));
        if (is_ack)
            cr_assert_eq(id, message.ack.id);
    }
}

Test(wire_sse, checks_an_array_to_its_last_frame)
{
    struct tp_buffer array = tp_buffer_growing(1000);
    const struct tp_slice frame = TP_SLICE("YJS\1\3doc\0\0\3");

    cr_assert_eq(tp_teleportal_array_check((struct tp_slice){0}, 0), TP_OK, "nothing is an array");
    tp_teleportal_array_write(frame, &array);
    tp_teleportal_array_write(frame, &array);
    cr_assert_eq(tp_teleportal_array_check(tp_buffer_slice(&array), 2), TP_OK);
    cr_assert_eq(tp_teleportal_array_check(tp_buffer_slice(&array), 1), TP_FULL);
    for (size_t size = 1; size < array.size; size++)
        cr_assert_eq(tp_teleportal_array_check(tp_slice_of(array.data, size), 2),
                     size == array.size / 2 ? TP_OK : TP_MALFORMED, "%zu bytes", size);
    tp_teleportal_array_write(TP_TELEPORTAL_PING, &array);
    cr_assert_eq(tp_teleportal_array_check(tp_buffer_slice(&array), 9), TP_MALFORMED,
                 "a ping is no message");
    tp_buffer_finish(&array);
}
