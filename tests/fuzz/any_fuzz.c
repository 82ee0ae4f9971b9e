/* One `any`. Passing it and printing it agree; what is printed is strict JSON. */
#include "crdt/json.h"
#include "fuzz/fuzz.h"
#include "wire/any.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader skipper = tp_reader_of(tp_slice_of(data, size)), printer = skipper;
    struct tp_buffer json = fuzz_room();
    const enum tp_status skipped = tp_any_skip(&skipper, TP_ANY_DEPTH_MAX);
    const enum tp_status printed = tp_any_to_json(&printer, TP_ANY_DEPTH_MAX, &json);

    TP_ASSERT((skipped == TP_OK) == !skipper.bad);
    if (skipped == TP_OK) {
        TP_ASSERT(printed == TP_OK || printed == TP_DENIED);
    } else {
        TP_ASSERT(printed != TP_OK); /* denied, where a bigint comes before what is wrong */
    }
    if (printed == TP_OK) {
        TP_ASSERT(printer.at == skipper.at);
        TP_ASSERT(tp_json_check(tp_buffer_slice(&json), TP_ANY_DEPTH_MAX) == TP_OK);
    }
    tp_buffer_finish(&json);
    return 0;
}
