/* flags, a state vector after its size, update. A diff is a valid part of the update: cut again it
 * stays as it is, and merged into the update it brings nothing. */
#include "crdt/state_vector.h"
#include "fuzz/fuzz.h"
#include "fuzz/ways.h"

static void claim_part(struct tp_slice update, enum tp_update_encoding encoding, struct tp_slice sv,
                       const struct tp_buffer *diff)
{
    struct tp_buffer again = fuzz_room();
    struct tp_buffer merged = fuzz_merge_two(update, tp_buffer_slice(diff), encoding);
    struct tp_buffer before = fuzz_compact(update, encoding);
    struct tp_buffer after = fuzz_compact(tp_buffer_slice(&merged), encoding);

    TP_ASSERT(tp_update_diff(tp_buffer_slice(diff), encoding, sv, &again) == TP_OK);
    fuzz_claim_same(&again, diff, encoding);
    fuzz_claim_same(&before, &after, encoding);
    tp_buffer_finish(&again);
    tp_buffer_finish(&merged);
    tp_buffer_finish(&before);
    tp_buffer_finish(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const enum tp_update_encoding encoding = fuzz_encoding(&in);
    const struct tp_slice sv = tp_read_bytes(&in), update = fuzz_rest(&in);
    struct tp_state_vector vector = {0};
    struct tp_buffer diff = fuzz_room();

    if (in.bad || !fuzz_is_small(update, encoding))
        return 0;
    if (encoding == TP_UPDATE_V2)
        TP_ASSERT(ways_agree_on_diff(update, sv) && ways_agree_on_state_vector(update));
    const bool all_valid =
        fuzz_is_valid(update, encoding) && tp_state_vector_decode(&vector, sv) == TP_OK;
    TP_ASSERT(tp_update_diff(update, encoding, sv, &diff) == (all_valid ? TP_OK : TP_MALFORMED));
    if (all_valid) {
        fuzz_claim_valid(&diff, encoding);
        claim_part(update, encoding, sv, &diff);
    }
    tp_state_vector_finish(&vector);
    tp_buffer_finish(&diff);
    return 0;
}
