#include "golden/any_vectors.h"

#include <criterion/criterion.h>
#include <math.h>

static bool is_text(const json_t *text, const char *want)
{
    return json_is_string(text) && strcmp(json_string_value(text), want) == 0;
}

/* "undefined", "bigint", "bytes", "number", or NULL for plain JSON. */
static const char *special_of(const json_t *value)
{
    return json_string_value(json_object_get(value, "$"));
}

static double special_number(const json_t *value)
{
    const json_t *text = json_object_get(value, "v");

    if (is_text(text, "NaN"))
        return NAN;
    if (is_text(text, "Infinity"))
        return INFINITY;
    if (is_text(text, "-Infinity"))
        return -INFINITY;
    cr_assert(is_text(text, "-0"));
    return -0.0;
}

static bool same_number(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

static void expect_special(const struct tp_any *any, const json_t *want, const char *name)
{
    const char *special = special_of(want);

    if (strcmp(special, "undefined") == 0) {
        cr_assert_eq(any->tag, TP_ANY_UNDEFINED, "%s", name);
    } else if (strcmp(special, "bigint") == 0) {
        cr_assert_eq(any->tag, TP_ANY_BIGINT, "%s", name);
        cr_assert_eq(any->bigint, strtoll(vectors_text(want, "v"), NULL, 10), "%s", name);
    } else if (strcmp(special, "bytes") == 0) {
        cr_assert_eq(any->tag, TP_ANY_BYTES, "%s", name);
        vectors_expect(any->bytes, vectors_hex(want, "hex"), "%s", name);
    } else {
        cr_assert_str_eq(special, "number");
        cr_assert(same_number(any->number, special_number(want)), "%s", name);
    }
}

static void expect_object(struct tp_reader *in, uint64_t count, const json_t *want,
                          const char *name)
{
    const char *key;
    json_t *value;

    cr_assert_eq(count, json_object_size(want), "%s", name);
    json_object_foreach((json_t *)want, key, value)
    {
        vectors_expect(tp_read_string(in), tp_slice_of(key, strlen(key)), "%s: key", name);
        any_vectors_expect(in, value, name);
    }
}

void any_vectors_expect(struct tp_reader *in, const json_t *want, const char *name)
{
    struct tp_any any;

    cr_assert_eq(tp_any_read(in, &any), TP_OK, "%s", name);
    if (special_of(want) != NULL) {
        expect_special(&any, want, name);
        return;
    }
    switch (json_typeof(want)) {
    case JSON_NULL:
        cr_assert_eq(any.tag, TP_ANY_NULL, "%s", name);
        break;
    case JSON_TRUE:
        cr_assert_eq(any.tag, TP_ANY_TRUE, "%s", name);
        break;
    case JSON_FALSE:
        cr_assert_eq(any.tag, TP_ANY_FALSE, "%s", name);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        cr_assert_geq(any.tag, TP_ANY_F64, "%s", name);
        cr_assert_leq(any.tag, TP_ANY_INTEGER, "%s", name);
        cr_assert(same_number(any.number, json_number_value(want)), "%s", name);
        break;
    case JSON_STRING:
        cr_assert_eq(any.tag, TP_ANY_STRING, "%s", name);
        vectors_expect(any.bytes, tp_slice_of(json_string_value(want), json_string_length(want)),
                       "%s", name);
        break;
    case JSON_ARRAY:
        cr_assert_eq(any.tag, TP_ANY_ARRAY, "%s", name);
        cr_assert_eq(any.count, json_array_size(want), "%s", name);
        for (size_t i = 0; i < json_array_size(want); i++)
            any_vectors_expect(in, json_array_get(want, i), name);
        break;
    case JSON_OBJECT:
        cr_assert_eq(any.tag, TP_ANY_OBJECT, "%s", name);
        expect_object(in, any.count, want, name);
        break;
    }
}

static void write_special(const json_t *value, struct tp_buffer *out)
{
    const char *special = special_of(value);

    if (strcmp(special, "undefined") == 0)
        tp_write_u8(out, TP_ANY_UNDEFINED);
    else if (strcmp(special, "bigint") == 0)
        tp_any_write_bigint(out, strtoll(vectors_text(value, "v"), NULL, 10));
    else if (strcmp(special, "bytes") == 0)
        tp_any_write_bytes(out, vectors_hex(value, "hex"));
    else
        tp_any_write_number(out, special_number(value));
}

static void write_object(const json_t *value, struct tp_buffer *out)
{
    const char *key;
    json_t *member;

    tp_any_write_object(out, json_object_size(value));
    json_object_foreach((json_t *)value, key, member)
    {
        tp_write_bytes(out, tp_slice_of(key, strlen(key)));
        any_vectors_write(member, out);
    }
}

void any_vectors_write(const json_t *value, struct tp_buffer *out)
{
    if (special_of(value) != NULL) {
        write_special(value, out);
        return;
    }
    switch (json_typeof(value)) {
    case JSON_NULL:
        tp_write_u8(out, TP_ANY_NULL);
        break;
    case JSON_TRUE:
        tp_write_u8(out, TP_ANY_TRUE);
        break;
    case JSON_FALSE:
        tp_write_u8(out, TP_ANY_FALSE);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        tp_any_write_number(out, json_number_value(value));
        break;
    case JSON_STRING:
        tp_any_write_string(out, tp_slice_of(json_string_value(value), json_string_length(value)));
        break;
    case JSON_ARRAY:
        tp_any_write_array(out, json_array_size(value));
        for (size_t i = 0; i < json_array_size(value); i++)
            any_vectors_write(json_array_get(value, i), out);
        break;
    case JSON_OBJECT:
        write_object(value, out);
        break;
    }
}
