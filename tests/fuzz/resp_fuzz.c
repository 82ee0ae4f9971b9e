/* What a Redis broker may say, in pieces whose size the first byte tells. No answer reaches out of
 * what was fed, and the same bytes in other pieces mean the same. */
#include "base/hash.h"
#include "bridge/resp.h"
#include "fuzz/fuzz.h"

struct story {
    uint64_t hash;
    size_t count;
};

static void note(void *context, const struct tp_resp_reply *reply)
{
    struct story *story = context;

    TP_ASSERT(reply->topic.size <= TP_BRIDGE_TOPIC_SIZE_MAX);
    TP_ASSERT(reply->word.size <= TP_RESP_WORD_SIZE_MAX);
    TP_ASSERT(reply->kind == TP_RESP_PUSH || (reply->word.size == 0 && reply->topic.size == 0));
    story->hash = tp_hash64_seeded(reply->payload, story->hash + reply->kind);
    story->hash = tp_hash64_seeded(reply->topic, story->hash);
    story->hash = tp_hash64_seeded(reply->word, story->hash);
    story->count++;
}

static bool tell(struct tp_slice input, size_t piece, struct story *story)
{
    struct tp_resp resp;
    bool good = true;

    *story = (struct story){0};
    tp_resp_init(&resp, note, story);
    for (size_t at = 0; at < input.size && good; at += piece)
        good = tp_resp_feed(&resp, tp_slice_of(input.data + at, tp_min(piece, input.size - at)));
    tp_resp_finish(&resp);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story whole, pieces;

    if (size < 2)
        return 0;
    const struct tp_slice input = tp_slice_of(data + 1, size - 1);
    const bool good = tell(input, input.size, &whole);
    const bool again = tell(input, 1 + data[0] % 64, &pieces);
    TP_ASSERT(good == again && whole.count == pieces.count && whole.hash == pieces.hash);
    return 0;
}
