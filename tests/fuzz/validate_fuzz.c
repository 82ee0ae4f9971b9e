/* flags, update. Validation and re-encoding agree on what is valid and what is normal. */
#include "fuzz/fuzz.h"

#define RANGE_ROOM 64u

static void claim_ranges(const struct tp_update_range *ranges, uint32_t count)
{
    for (uint32_t i = 0; i < count && i < RANGE_ROOM; i++) {
        TP_ASSERT(ranges[i].client <= TP_VARUINT_MAX && ranges[i].to <= TP_VARUINT_MAX);
        TP_ASSERT(ranges[i].from <= ranges[i].gapless_to);
        TP_ASSERT(ranges[i].gapless_to <= ranges[i].to && ranges[i].from < ranges[i].to);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const enum tp_update_encoding encoding = fuzz_encoding(&in);
    const struct tp_slice update = fuzz_rest(&in);
    struct tp_update_range ranges[RANGE_ROOM];
    struct tp_update_info info;
    struct tp_buffer normal = fuzz_room();

    if (!fuzz_is_small(update, encoding))
        return 0;
    const enum tp_status status =
        tp_update_validate(update, encoding, NULL, ranges, RANGE_ROOM, &info);
    TP_ASSERT((status == TP_OK) == (info.error == NULL));
    TP_ASSERT(tp_update_convert(update, encoding, encoding, &normal) == status);
    if (status == TP_OK) {
        claim_ranges(ranges, info.range_count);
        fuzz_claim_normal(&normal, encoding);
        TP_ASSERT(info.normal == tp_slice_equal(update, tp_buffer_slice(&normal)));
        TP_ASSERT(info.empty ==
                  tp_slice_equal(tp_buffer_slice(&normal), tp_update_empty(encoding)));
    }
    tp_buffer_finish(&normal);
    return 0;
}
