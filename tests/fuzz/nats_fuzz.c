/* What a NATS broker may say, in pieces whose size the first byte tells; and subjects. No answer
 * reaches out of what was fed, and the same bytes in other pieces mean the same. */
#include "base/hash.h"
#include "bridge/nats_text.h"
#include "fuzz/fuzz.h"

struct story {
    uint64_t hash;
    size_t count;
};

static void note(void *context, const struct tp_nats_said *said)
{
    struct story *story = context;

    story->hash = tp_hash64_seeded(said->payload, story->hash + said->kind);
    story->hash = tp_hash64_seeded(said->subject, story->hash);
    story->hash = tp_hash64_seeded(said->text, story->hash);
    (void)tp_nats_info_number(said->text, "max_payload");
    story->count++;
}

static bool tell(struct tp_slice input, size_t piece, struct story *story)
{
    struct tp_nats_reader reader;
    bool good = true;

    *story = (struct story){0};
    tp_nats_reader_init(&reader, note, story);
    for (size_t at = 0; at < input.size && good; at += piece)
        good = tp_nats_read(&reader, tp_slice_of(input.data + at, tp_min(piece, input.size - at)));
    tp_nats_reader_finish(&reader);
    return good;
}

/* Written and read again a topic is the same, and its subject is one that a broker takes. */
static void subject(struct tp_slice topic)
{
    struct tp_buffer out = fuzz_room(), back = fuzz_room();

    if (tp_nats_subject_write(topic, &out) == TP_OK) {
        TP_ASSERT(tp_nats_subject_read(tp_buffer_slice(&out), &back) == TP_OK);
        TP_ASSERT(back.size == topic.size && memcmp(back.data, topic.data, back.size) == 0);
        for (size_t i = 0; i < out.size; i++) {
            TP_ASSERT(out.data[i] > ' ' && out.data[i] != 0x7f);
            const bool begins = i == 0 || out.data[i - 1] == '.';
            const bool ends = i + 1 == out.size || out.data[i + 1] == '.';
            TP_ASSERT(!begins || out.data[i] != '.');
            TP_ASSERT(!begins || !ends || (out.data[i] != '*' && out.data[i] != '>'));
        }
        TP_ASSERT(out.data[out.size - 1] != '.');
    }
    tp_buffer_finish(&out);
    tp_buffer_finish(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story whole, pieces;

    if (size < 2)
        return 0;
    const struct tp_slice input = tp_slice_of(data + 1, size - 1);
    const bool good = tell(input, input.size, &whole);
    const bool again = tell(input, 1 + data[0] % 64, &pieces);
    TP_ASSERT(!good || (again && whole.count == pieces.count && whole.hash == pieces.hash));
    subject(input);
    return 0;
}
