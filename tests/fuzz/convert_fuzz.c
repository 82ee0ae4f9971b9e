/* flags, update. Converting is lossless once JSON texts and `any` values have become what the
 * other encoding can say: there and back gives the same bytes from then on. */
#include "fuzz/fuzz.h"
#include "fuzz/ways.h"

#define TRIP_COUNT 5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    enum tp_update_encoding encoding = fuzz_encoding(&in);
    const struct tp_slice update = fuzz_rest(&in);
    struct tp_buffer forms[TRIP_COUNT + 1];
    struct tp_update_info info;

    if (!fuzz_is_small(update, encoding))
        return 0;
    TP_ASSERT(ways_agree_on_conversion(update, encoding));
    if (!fuzz_is_valid(update, encoding))
        return 0;
    TP_ASSERT(tp_update_validate(update, encoding, NULL, NULL, 0, &info) == TP_OK);
    forms[0] = fuzz_normal(update, encoding);
    int count = 1;
    for (; count <= TRIP_COUNT; count++, encoding = fuzz_other(encoding)) {
        forms[count] = fuzz_room();
        const enum tp_status status = tp_update_convert(
            tp_buffer_slice(&forms[count - 1]), encoding, fuzz_other(encoding), &forms[count]);
        if (count == 1)
            TP_ASSERT(info.has_v1_form == (status == TP_OK));
        if (status != TP_OK) {
            TP_ASSERT(status == TP_DENIED && count == 1 && encoding == TP_UPDATE_V2);
            tp_buffer_finish(&forms[count]);
            break;
        }
        fuzz_claim_normal(&forms[count], fuzz_other(encoding));
    }
    if (count > TRIP_COUNT)
        fuzz_claim_equal(&forms[TRIP_COUNT - 2], &forms[TRIP_COUNT]);
    while (count > 0)
        tp_buffer_finish(&forms[--count]);
    return 0;
}
