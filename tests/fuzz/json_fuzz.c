/* JSON text. What is accepted has an `any` form, and after two trips there and back it is
 * stable: keys that differ in half surrogates only are equal after the first. */
#include "crdt/json.h"
#include "fuzz/fuzz.h"
#include "wire/any.h"

static struct tp_buffer to_json(const struct tp_buffer *any)
{
    struct tp_reader in = tp_reader_of(tp_buffer_slice(any));
    struct tp_buffer json = fuzz_room();

    TP_ASSERT(tp_any_to_json(&in, TP_ANY_DEPTH_MAX, &json) == TP_OK);
    TP_ASSERT(in.at == in.end);
    return json;
}

static struct tp_buffer to_any(struct tp_slice json)
{
    struct tp_buffer any = fuzz_room();

    TP_ASSERT(tp_json_to_any(json, TP_ANY_DEPTH_MAX, &any) == TP_OK);
    struct tp_reader in = tp_reader_of(tp_buffer_slice(&any));
    TP_ASSERT(tp_any_skip(&in, TP_ANY_DEPTH_MAX) == TP_OK);
    TP_ASSERT(in.at == in.end);
    return any;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tp_slice text = tp_slice_of(data, size);

    if (tp_json_check(text, TP_ANY_DEPTH_MAX) != TP_OK) {
        struct tp_buffer none = fuzz_room();
        TP_ASSERT(tp_json_to_any(text, TP_ANY_DEPTH_MAX, &none) == TP_MALFORMED);
        TP_ASSERT(none.size == 0);
        tp_buffer_finish(&none);
        return 0;
    }
    struct tp_buffer forms[3];
    struct tp_slice json = text;
    for (int i = 0; i < 3; i++) {
        struct tp_buffer any = to_any(json);
        forms[i] = to_json(&any);
        json = tp_buffer_slice(&forms[i]);
        tp_buffer_finish(&any);
    }
    fuzz_claim_equal(&forms[1], &forms[2]);
    for (int i = 0; i < 3; i++)
        tp_buffer_finish(&forms[i]);
    return 0;
}
