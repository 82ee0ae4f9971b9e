/* flags, update. Compaction is idempotent, keeps the state vector, and does not care whether its
 * input is normal. */
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const enum tp_update_encoding encoding = fuzz_encoding(&in);
    const struct tp_slice update = fuzz_rest(&in);
    struct tp_buffer out = fuzz_room();

    if (!fuzz_is_small(update, encoding))
        return 0;
    if (!fuzz_is_valid(update, encoding)) {
        TP_ASSERT(tp_update_compact(update, encoding, &out, NULL) == TP_MALFORMED);
        tp_buffer_finish(&out);
        return 0;
    }
    struct tp_buffer normal = fuzz_normal(update, encoding);
    struct tp_buffer compact = fuzz_compact(update, encoding);
    struct tp_buffer of_normal = fuzz_compact(tp_buffer_slice(&normal), encoding);
    struct tp_buffer normal_compact = fuzz_normal(tp_buffer_slice(&compact), encoding);
    struct tp_buffer of_compact = fuzz_compact(tp_buffer_slice(&compact), encoding);
    struct tp_buffer sv = fuzz_state_vector(tp_buffer_slice(&normal), encoding);
    struct tp_buffer sv_compact = fuzz_state_vector(tp_buffer_slice(&compact), encoding);

    fuzz_claim_equal(&compact, &of_normal);
    fuzz_claim_equal(&normal_compact, &of_compact);
    fuzz_claim_equal(&sv, &sv_compact);
    tp_buffer_finish(&normal);
    tp_buffer_finish(&compact);
    tp_buffer_finish(&of_normal);
    tp_buffer_finish(&normal_compact);
    tp_buffer_finish(&of_compact);
    tp_buffer_finish(&sv);
    tp_buffer_finish(&sv_compact);
    return 0;
}
