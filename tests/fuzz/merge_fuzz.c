/* flags, then updates, each after its size. Merging is idempotent, and its state vector does not
 * depend on the order. */
#include "fuzz/fuzz.h"

#define UPDATE_ROOM 16u

static void reverse(struct tp_slice *updates, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        const struct tp_slice held = updates[i];
        updates[i] = updates[count - 1 - i];
        updates[count - 1 - i] = held;
    }
}

static void claim_merged(struct tp_slice *updates, size_t count, enum tp_update_encoding encoding,
                         struct tp_slice merged)
{
    struct tp_buffer normal = fuzz_normal(merged, encoding);
    struct tp_buffer backwards = fuzz_room();
    struct tp_buffer twice = fuzz_merge_two(merged, merged, encoding);
    struct tp_buffer sv = fuzz_state_vector(merged, encoding);

    fuzz_claim_equal(&normal, &twice);
    reverse(updates, count);
    TP_ASSERT(tp_update_merge(updates, count, encoding, &backwards) == TP_OK);
    fuzz_claim_valid(&backwards, encoding);
    struct tp_buffer sv_backwards = fuzz_state_vector(tp_buffer_slice(&backwards), encoding);
    fuzz_claim_equal(&sv, &sv_backwards);
    tp_buffer_finish(&normal);
    tp_buffer_finish(&backwards);
    tp_buffer_finish(&twice);
    tp_buffer_finish(&sv);
    tp_buffer_finish(&sv_backwards);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const enum tp_update_encoding encoding = fuzz_encoding(&in);
    struct tp_slice updates[UPDATE_ROOM];
    struct tp_buffer merged = fuzz_room();
    bool all_valid = true;
    size_t count = 0;

    while (count < UPDATE_ROOM && in.at < in.end && !in.bad) {
        updates[count] = tp_read_bytes(&in);
        if (!fuzz_is_small(updates[count], encoding))
            return 0;
        all_valid &= fuzz_is_valid(updates[count], encoding);
        count++;
    }
    if (in.bad)
        return 0;
    TP_ASSERT(tp_update_merge(updates, count, encoding, &merged) ==
              (all_valid ? TP_OK : TP_MALFORMED));
    if (all_valid) {
        fuzz_claim_valid(&merged, encoding);
        claim_merged(updates, count, encoding, tp_buffer_slice(&merged));
    }
    tp_buffer_finish(&merged);
    return 0;
}
