/* JSON and `any` as JavaScript reads and writes them. */
#include <criterion/criterion.h>

#include "crdt/json.h"
#include "golden/vectors.h"

#define DEPTH_MAX 512u

static struct tp_slice text_of(const json_t *string)
{
    return tp_slice_of(json_string_value(string), json_string_length(string));
}

static struct tp_buffer any_of(struct tp_slice text)
{
    struct tp_buffer any = tp_buffer_growing(1 << 20);
    cr_assert_eq(tp_json_to_any(text, DEPTH_MAX, &any), TP_OK, "%.*s", (int)text.size, text.data);
    return any;
}

static enum tp_status json_of(struct tp_slice any, struct tp_buffer *json)
{
    struct tp_reader in = tp_reader_of(any);
    *json = tp_buffer_growing(1 << 20);
    const enum tp_status status = tp_any_to_json(&in, DEPTH_MAX, json);
    if (status == TP_OK)
        cr_assert_eq(in.at, in.end, "it passes the value");
    return status;
}

Test(json, turns_into_the_any_that_lib0_writes)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "json_to_any", row)
    {
        const struct tp_slice text = vectors_base64(json_array_get(row, 0));
        struct tp_buffer any = any_of(text);
        vectors_expect(tp_buffer_slice(&any), vectors_base64(json_array_get(row, 1)), "%.*s",
                       (int)text.size, text.data);
        cr_assert_eq(tp_json_check(text, DEPTH_MAX), TP_OK);
        tp_buffer_finish(&any);
    }
}

Test(any, turns_into_the_text_that_json_stringify_writes)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "any_to_json", row)
    {
        const struct tp_slice any = vectors_base64(json_array_get(row, 0));
        const json_t *want = json_array_get(row, 1);
        struct tp_buffer json;
        const enum tp_status status = json_of(any, &json);
        cr_assert_eq(status, json_is_null(want) ? TP_DENIED : TP_OK);
        if (status == TP_OK)
            vectors_expect(tp_buffer_slice(&json), text_of(want), "%s", json_string_value(want));
        tp_buffer_finish(&json);
    }
}

Test(any, is_passed_whatever_it_holds_and_malformed_wherever_it_is_cut)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "any", row)
    {
        const struct tp_slice any = vectors_base64(json_array_get(row, 1));
        struct tp_reader in = tp_reader_of(any);
        cr_assert_eq(tp_any_skip(&in, DEPTH_MAX), TP_OK);
        cr_assert_eq(in.at, in.end);
        for (size_t size = 0; size < any.size; size++) {
            in = tp_reader_of(tp_slice_of(any.data, size));
            cr_assert_eq(tp_any_skip(&in, DEPTH_MAX), TP_MALFORMED);
            cr_assert(in.bad);
            struct tp_buffer json;
            cr_assert_eq(json_of(tp_slice_of(any.data, size), &json), TP_MALFORMED);
            tp_buffer_finish(&json);
        }
    }
}

Test(any, prints_numbers_as_javascript_does)
{
    json_t *root = vectors_load("json/javascript.json");
    VECTORS_EACH(root, "numbers", row)
    {
        const uint64_t bits = strtoull(json_string_value(json_array_get(row, 0)), NULL, 16);
        uint8_t any[9] = {123};
        for (int i = 0; i < 8; i++)
            any[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
        struct tp_buffer json;
        cr_assert_eq(json_of(tp_slice_of(any, 9), &json), TP_OK);
        vectors_expect(tp_buffer_slice(&json), text_of(json_array_get(row, 1)), "%s",
                       json_string_value(json_array_get(row, 1)));
        tp_buffer_finish(&json);
    }
}

Test(json, goes_to_any_and_back_as_through_javascript)
{
    json_t *root = vectors_load("json/javascript.json");
    VECTORS_EACH(root, "texts", row)
    {
        const struct tp_slice text = vectors_base64(json_array_get(row, 0));
        struct tp_buffer any = any_of(text), json;
        vectors_expect(tp_buffer_slice(&any), vectors_base64(json_array_get(row, 1)), "%.*s",
                       (int)text.size, text.data);
        cr_assert_eq(json_of(tp_buffer_slice(&any), &json), TP_OK);
        vectors_expect(tp_buffer_slice(&json), vectors_base64(json_array_get(row, 2)), "%.*s",
                       (int)text.size, text.data);
        tp_buffer_finish(&any);
        tp_buffer_finish(&json);
    }
}

Test(json, is_malformed_wherever_it_is_cut)
{
    json_t *root = vectors_load("json/javascript.json");
    VECTORS_EACH(root, "texts", row)
    {
        const struct tp_slice text = vectors_base64(json_array_get(row, 0));
        if (text.data[0] != '[' && text.data[0] != '{' && text.data[0] != '"')
            continue; /* a number, and white space, have prefixes that are JSON */
        size_t last = text.size;
        while (strchr(" \n\r\t", text.data[last - 1]) != NULL)
            last--;
        for (size_t size = 0; size < last; size++) {
            uint8_t *exact = malloc(size + 1); /* so that the sanitizer sees a byte read past it */
            memcpy(exact + 1, text.data, size);
            cr_assert_eq(tp_json_check(tp_slice_of(exact + 1, size), DEPTH_MAX), TP_MALFORMED);
            free(exact);
        }
    }
}
