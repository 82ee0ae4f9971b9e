/* The bytes on a broker's connections: we write what the reference writes, and read what a real
 * broker answers it. */
#include <criterion/criterion.h>

#include "bridge/nats_text.h"
#include "bridge/resp.h"
#include "golden/vectors.h"
#include "wire/teleportal.h"

#define DOC "document/room/doc"
#define BLANK "document/ключ with space/"

static const char frame[] = "YJS\x01\x03"
                            "doc\x00\x00\x03"; /* sync-done, of all messages */

static bool is(const json_t *vector, const char *bus, const char *direction)
{
    return strcmp(vectors_text(vector, "bus"), bus) == 0 &&
           strcmp(vectors_text(vector, "dir"), direction) == 0;
}

static struct tp_slice text(const char *c)
{
    return tp_slice_of(c, strlen(c));
}

Test(bus, writes_redis_commands_as_the_reference_does)
{
    static const char *const commands[][2] = {
        {"subscribe", DOC},     {"subscribe", DOC},     {"subscribe", BLANK "*"}, {"publish", DOC},
        {"publish", BLANK "*"}, {"publish", BLANK "x"}, {"unsubscribe", DOC}};
    json_t *file = vectors_load("wire/bus-bytes.json");
    unsigned count = 0;

    VECTORS_EACH(file, "vectors", vector)
    {
        if (!is(vector, "redis", "to-bus"))
            continue;
        cr_assert_lt(count, sizeof commands / sizeof *commands);
        const bool publishes = strcmp(commands[count][0], "publish") == 0;
        struct tp_buffer envelope = tp_buffer_growing(1000), out = tp_buffer_growing(1000);
        tp_teleportal_envelope_encode(TP_SLICE("node-1"), tp_slice_of(frame, sizeof frame - 1),
                                      &envelope);
        tp_resp_write_command(&out, publishes ? 3 : 2);
        tp_resp_write_word(&out, text(commands[count][0]));
        tp_resp_write_word(&out, text(commands[count][1]));
        if (publishes)
            tp_resp_write_word(&out, tp_buffer_slice(&envelope));
        vectors_expect(tp_buffer_slice(&out), vectors_hex(vector, "hex"), "command %u", count);
        tp_buffer_finish(&envelope);
        tp_buffer_finish(&out);
        count++;
    }
    cr_assert_eq(count, sizeof commands / sizeof *commands);
}

/* What a broker has said: words and topics, and of messages who sent them. */
static void note(void *context, const struct tp_resp_reply *reply)
{
    struct tp_buffer *out = context;
    struct tp_slice source, inner;

    cr_assert_eq(reply->kind, TP_RESP_PUSH);
    tp_buffer_append(out, reply->word.data, reply->word.size);
    tp_buffer_append(out, " ", 1);
    tp_buffer_append(out, reply->topic.data, reply->topic.size);
    if (reply->payload.size > 0) {
        cr_assert_eq(tp_teleportal_envelope_decode(reply->payload, &source, &inner), TP_OK);
        vectors_expect(inner, tp_slice_of(frame, sizeof frame - 1), "the frame");
        tp_buffer_append(out, " ", 1);
        tp_buffer_append(out, source.data, source.size);
    }
    tp_buffer_append(out, "\n", 1);
}

Test(bus, reads_what_a_redis_broker_says_however_it_is_cut)
{
    json_t *file = vectors_load("wire/bus-bytes.json");
    struct tp_buffer stream = tp_buffer_growing(1 << 16);
    struct tp_resp resp;

    VECTORS_EACH(file, "vectors", vector)
    {
        const struct tp_slice bytes = vectors_hex(vector, "hex");
        if (is(vector, "redis", "from-bus") &&
            strcmp(vectors_text(vector, "conn"), "subscriber") == 0)
            tp_buffer_append(&stream, bytes.data, bytes.size);
    }
    for (size_t cut = 1; cut <= stream.size; cut++) {
        struct tp_buffer said = tp_buffer_growing(1 << 16);
        tp_resp_init(&resp, note, &said);
        for (size_t at = 0; at < stream.size; at += cut)
            cr_assert(
                tp_resp_feed(&resp, tp_slice_of(stream.data + at, tp_min(cut, stream.size - at))));
        vectors_expect(tp_buffer_slice(&said),
                       TP_SLICE("subscribe " DOC "\nsubscribe " DOC "\nsubscribe " BLANK
                                "*\nmessage " DOC " node-1\nmessage " BLANK
                                "* node-1\nunsubscribe " DOC "\n"),
                       "pieces of %zu bytes", cut);
        tp_resp_finish(&resp);
        tp_buffer_finish(&said);
    }
    tp_buffer_finish(&stream);
}

/* ---- NATS ---------------------------------------------------------------------------------------
 */

static void note_nats(void *context, const struct tp_nats_said *said)
{
    struct tp_buffer *out = context;
    struct tp_slice source, inner;

    cr_assert_eq(said->kind, TP_NATS_MESSAGE);
    cr_assert_eq(tp_nats_subject_read(said->subject, out), TP_OK);
    cr_assert_eq(tp_teleportal_envelope_decode(said->payload, &source, &inner), TP_OK);
    vectors_expect(inner, tp_slice_of(frame, sizeof frame - 1), "the frame");
    tp_buffer_append(out, " ", 1);
    tp_buffer_append(out, source.data, source.size);
    tp_buffer_append(out, "\n", 1);
}

Test(bus, reads_what_a_nats_broker_says_however_it_is_cut)
{
    json_t *file = vectors_load("wire/bus-bytes.json");
    struct tp_buffer stream = tp_buffer_growing(1 << 16);
    struct tp_nats_reader reader;
    size_t count = 0;

    VECTORS_EACH(file, "vectors", vector)
    {
        const struct tp_slice bytes = vectors_hex(vector, "hex");
        if (!is(vector, "nats", "from-bus") || bytes.data[0] == '-')
            continue;
        tp_buffer_append(&stream, bytes.data, bytes.size);
    }
    for (const char *at = (const char *)stream.data, *end = at + stream.size;
         (at = memmem(at, (size_t)(end - at), "MSG ", 4)) != NULL; at++)
        count++;
    cr_assert_geq(count, 7);
    for (size_t cut = 1; cut <= stream.size; cut++) {
        struct tp_buffer said = tp_buffer_growing(1 << 16);
        tp_nats_reader_init(&reader, note_nats, &said);
        for (size_t at = 0; at < stream.size; at += cut)
            cr_assert(tp_nats_read(&reader,
                                   tp_slice_of(stream.data + at, tp_min(cut, stream.size - at))));
        size_t lines = 0;
        for (size_t i = 0; i < said.size; i++)
            lines += said.data[i] == '\n';
        cr_assert_eq(lines, count, "pieces of %zu bytes", cut);
        static const char first[] = DOC " pub:" DOC "\ndocument/room/x.secret pub:";
        vectors_expect(tp_slice_of(said.data, sizeof first - 1),
                       tp_slice_of(first, sizeof first - 1), "pieces of %zu bytes", cut);
        tp_nats_reader_finish(&reader);
        tp_buffer_finish(&said);
    }
    tp_buffer_finish(&stream);
}

/* Topics, and what stands for them where a broker would take them for something else. */
Test(bus, writes_a_subject_that_means_its_topic_alone)
{
    static const char *const pairs[][2] = {
        {DOC, DOC},
        {"document/room/report.txt", "document/room/report.txt"},
        {"document/room/документ", "document/room/документ"},
        {"document/room/x.>", "document/room/x.%3E"},
        {"document/room/x.*.y", "document/room/x.%2A.y"},
        {"document/room/>", "document/room/>"}, /* no token of its own */
        {"document/room/a..b", "document/room/a.%2Eb"},
        {"document/room/a.", "document/room/a%2E"},
        {"document/a b\t%", "document/a%20b%09%25"},
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct tp_buffer subject = tp_buffer_growing(1000), topic = tp_buffer_growing(1000);
        cr_assert_eq(tp_nats_subject_write(text(pairs[i][0]), &subject), TP_OK);
        vectors_expect(tp_buffer_slice(&subject), text(pairs[i][1]), "of %s", pairs[i][0]);
        cr_assert_eq(tp_nats_subject_read(tp_buffer_slice(&subject), &topic), TP_OK);
        vectors_expect(tp_buffer_slice(&topic), text(pairs[i][0]), "from %s", pairs[i][1]);
        tp_buffer_finish(&subject);
        tp_buffer_finish(&topic);
    }
}
