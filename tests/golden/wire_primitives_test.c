/* lib0's primitives: what the reference wrote reads back, and we write the same bytes. */
#include <criterion/criterion.h>

#include "golden/any_vectors.h"

/* Of the vectors of one kind, the first `count_min` at the least. */
#define EACH_OF_KIND(kind_name, vector)                       \
    json_t *root = vectors_load("wire/primitives.json");      \
    VECTORS_EACH(root, "vectors", vector)                     \
    if (strcmp(vectors_text(vector, "kind"), kind_name) != 0) \
        continue;                                             \
    else

static bool is_minus_zero(const json_t *value)
{
    return json_is_object(value) && strcmp(vectors_text(value, "v"), "-0") == 0;
}

Test(lib0, varuints_are_the_references)
{
    EACH_OF_KIND("varuint", vector)
    {
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const uint64_t want = (uint64_t)json_integer_value(json_object_get(vector, "value"));
        struct tp_reader in = tp_reader_of(hex);
        struct tp_buffer out = tp_buffer_growing(100);

        cr_assert_eq(tp_read_varuint(&in), want, "%s", vectors_text(vector, "name"));
        cr_assert(!in.bad && in.at == in.end);
        tp_write_varuint(&out, want);
        vectors_expect(tp_buffer_slice(&out), hex, "%s", vectors_text(vector, "name"));
        tp_buffer_finish(&out);
    }
}

Test(lib0, varints_are_the_references_with_a_zero_below_zero)
{
    EACH_OF_KIND("varint", vector)
    {
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const json_t *value = json_object_get(vector, "value");
        const bool want_negative = is_minus_zero(value) || json_integer_value(value) < 0;
        const uint64_t want = is_minus_zero(value) ? 0 : (uint64_t)llabs(json_integer_value(value));
        struct tp_reader in = tp_reader_of(hex);
        struct tp_buffer out = tp_buffer_growing(100);
        bool negative;

        cr_assert_eq(tp_read_varint(&in, &negative), want, "%s", vectors_text(vector, "name"));
        cr_assert_eq(negative, want_negative, "%s", vectors_text(vector, "name"));
        cr_assert(!in.bad && in.at == in.end);
        tp_write_varint(&out, want_negative, want);
        vectors_expect(tp_buffer_slice(&out), hex, "%s", vectors_text(vector, "name"));
        tp_buffer_finish(&out);
    }
}

Test(lib0, strings_and_bytes_are_the_references)
{
    json_t *root = vectors_load("wire/primitives.json");
    size_t count = 0;

    VECTORS_EACH(root, "vectors", vector)
    {
        const bool is_text = strcmp(vectors_text(vector, "kind"), "varstring") == 0;
        if (!is_text && strcmp(vectors_text(vector, "kind"), "varbytes") != 0)
            continue;
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const struct tp_slice want =
            is_text ? vectors_string(vector, "value") : vectors_hex(vector, "value");
        struct tp_reader in = tp_reader_of(hex);
        struct tp_buffer out = tp_buffer_growing(100000);

        vectors_expect(is_text ? tp_read_string(&in) : tp_read_bytes(&in), want, "%s",
                       vectors_text(vector, "name"));
        cr_assert(!in.bad && in.at == in.end);
        tp_write_bytes(&out, want);
        vectors_expect(tp_buffer_slice(&out), hex, "%s", vectors_text(vector, "name"));
        tp_buffer_finish(&out);
        count++;
    }
    cr_assert_geq(count, 20);
}

Test(lib0, any_values_are_the_references)
{
    EACH_OF_KIND("any", vector)
    {
        const struct tp_slice hex = vectors_hex(vector, "hex");
        const json_t *value = json_object_get(vector, "value");
        struct tp_reader in = tp_reader_of(hex), skip = tp_reader_of(hex);
        struct tp_buffer out = tp_buffer_growing(100000);

        any_vectors_expect(&in, value, vectors_text(vector, "name"));
        cr_assert(!in.bad && in.at == in.end, "%s", vectors_text(vector, "name"));
        cr_assert_eq(tp_any_skip(&skip, 64), TP_OK, "%s", vectors_text(vector, "name"));
        cr_assert_eq(skip.at, skip.end, "%s", vectors_text(vector, "name"));
        any_vectors_write(value, &out);
        vectors_expect(tp_buffer_slice(&out), hex, "%s", vectors_text(vector, "name"));
        tp_buffer_finish(&out);
    }
}

Test(lib0, integers_of_nine_bytes_and_above_2_to_the_53_are_refused)
{
    static const struct {
        uint8_t bytes[10];
        size_t size;
        bool good;
    } cases[] = {
        {{0x81, 0x00}, 2, true},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, 8, true},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10}, 8, false},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 8, true},
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 9, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tp_reader in = tp_reader_of(tp_slice_of(cases[i].bytes, cases[i].size));
        tp_read_varuint(&in);
        cr_assert_eq(in.bad, !cases[i].good, "case %zu", i);
    }
}
