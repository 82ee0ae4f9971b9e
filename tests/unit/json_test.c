/* What crdt/json.h promises beyond the vectors: what is refused, and where the limits are. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "crdt/json.h"

#define DEPTH_MAX 512u

static enum tp_status check(const char *text)
{
    return tp_json_check(tp_slice_of(text, strlen(text)), DEPTH_MAX);
}

static struct tp_slice any_of(const char *text)
{
    static struct tp_buffer any;
    tp_buffer_finish(&any);
    any = tp_buffer_growing(1 << 24);
    cr_assert_eq(tp_json_to_any(tp_slice_of(text, strlen(text)), DEPTH_MAX, &any), TP_OK);
    return tp_buffer_slice(&any);
}

static enum tp_status check_nested(size_t depth, uint32_t depth_max)
{
    char text[2048];
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    return tp_json_check(tp_slice_of(text, 2 * depth), depth_max);
}

Test(json, accepts_what_rfc_8259_allows)
{
    static const char *const texts[] = {
        "0",    "-0",        "1.5e+3",         "1E9",      "0.0",         " [ ] ",
        "{}",   "\t\r\n1\n", "\"\\u00E9\\/\"", "[1,2]",    "{\"\":null}", "{\"a\":1,\"a\":2}",
        "true", "false",     "null",           "\"\x7f\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_assert_eq(check(texts[i]), TP_OK, "%s", texts[i]);
}

Test(json, refuses_everything_else)
{
    static const char *const texts[] = {
        "",
        " ",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "nul",
        "nulll",
        "True",
        "undefined",
        "'a'",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"\t\"",
        "[",
        "]",
        "[1",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "{1:2}",
        "{,}",
        "[}",
        "{]",
        "1 1",
        "[]]",
        "\v1",
        "\xef\xbb\xbf"
        "1",
        "\"\xff\"",
        "\"\xed\xa0\x80\"",
        "\xc2\xa0"
        "1",
    };
    struct tp_buffer any = tp_buffer_growing(100);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_assert_eq(check(texts[i]), TP_MALFORMED, "%s", texts[i]);
        cr_assert_eq(tp_json_to_any(tp_slice_of(texts[i], strlen(texts[i])), DEPTH_MAX, &any),
                     TP_MALFORMED);
    }
    cr_assert_eq(any.size, 0, "nothing is written of what is refused");
    cr_assert_eq(tp_json_check(tp_slice_of("\"\0\"", 3), DEPTH_MAX), TP_MALFORMED);
    cr_assert_eq(tp_json_check(tp_slice_of("\"\\\0\"", 4), DEPTH_MAX), TP_MALFORMED);
}

Test(json, nests_as_deep_as_the_limit_and_no_deeper)
{
    cr_assert_eq(tp_json_check(TP_SLICE("1"), 0), TP_OK);
    cr_assert_eq(tp_json_check(TP_SLICE("[]"), 0), TP_MALFORMED);
    cr_assert_eq(tp_json_check(TP_SLICE("[[]]"), 2), TP_OK);
    cr_assert_eq(tp_json_check(TP_SLICE("[[]]"), 1), TP_MALFORMED);
    cr_assert_eq(check_nested(512, DEPTH_MAX), TP_OK);
    cr_assert_eq(check_nested(513, DEPTH_MAX), TP_MALFORMED);
    cr_assert_eq(check_nested(513, UINT32_MAX), TP_MALFORMED,
                 "the stack has TP_JSON_DEPTH_MAX levels whatever is asked for");
}

Test(any, nests_as_deep_as_the_limit_and_no_deeper)
{
    for (uint32_t depth = 511; depth <= 513; depth++) {
        uint8_t any[2 * 513 + 1];
        struct tp_buffer json = tp_buffer_growing(10000);
        for (uint32_t i = 0; i < depth; i++)
            any[2 * i] = 117, any[2 * i + 1] = 1;
        any[2 * depth] = 126;
        const enum tp_status want = depth <= 512 ? TP_OK : TP_MALFORMED;
        struct tp_reader in = tp_reader_of(tp_slice_of(any, 2 * depth + 1));
        cr_assert_eq(tp_any_skip(&in, UINT32_MAX), want);
        in = tp_reader_of(tp_slice_of(any, 2 * depth + 1));
        cr_assert_eq(tp_any_to_json(&in, UINT32_MAX, &json), want);
        if (want == TP_OK)
            cr_assert_eq(json.size, 2 * depth + 4);
        tp_buffer_finish(&json);
    }
}

Test(json, puts_integer_keys_first_and_keeps_the_last_of_equal_keys)
{
    cr_assert(tp_slice_equal(any_of("{\"b\":1,\"10\":2,\"9\":3}"),
                             TP_SLICE("v\3\0019}\3\00210}\2\1b}\1")));
    cr_assert(
        tp_slice_equal(any_of("{\"a\":1,\"b\":2,\"\\u0061\":3}"), TP_SLICE("v\2\1a}\3\1b}\2")));
}

Test(json, sorts_a_large_object_without_looking_at_every_pair)
{
    enum { COUNT = 100000 };
    struct tp_buffer text = tp_buffer_growing(1 << 24);
    char member[32];
    for (int i = COUNT - 1; i >= 0; i--) {
        const int size =
            snprintf(member, sizeof member, "%c\"%d\":%d", i == COUNT - 1 ? '{' : ',', i, i & 1);
        tp_buffer_append(&text, member, (size_t)size);
    }
    tp_buffer_append(&text, "}\0", 2);

    const struct tp_slice any = any_of((const char *)text.data);

    struct tp_reader in = {.at = any.data + 1, .end = any.data + any.size};
    cr_assert_eq(tp_read_varuint(&in), COUNT);
    for (int i = 0; i < COUNT; i++) {
        const struct tp_slice key = tp_read_string(&in);
        snprintf(member, sizeof member, "%d", i);
        cr_assert(tp_slice_equal(key, tp_slice_of(member, strlen(member))));
        cr_assert_eq(tp_read_u8(&in), 125);
        cr_assert_eq(tp_read_u8(&in), i & 1);
    }
    cr_assert_eq(in.at, in.end);
    tp_buffer_finish(&text);
}

Test(any, refuses_tags_and_counts_that_cannot_be)
{
    static const struct tp_slice cases[] = {
        TP_SLICE("\0"),
        TP_SLICE("\x73"),
        TP_SLICE("\x80"),
        TP_SLICE("\xff"),
        TP_SLICE("u\x80\x80\x80\x80\x80\x80\x80\x0f"), /* 2^53-1 elements */
        TP_SLICE("v\2\1a\x7e"),                        /* one member of two */
        TP_SLICE("w\1\xff"),                           /* text that is no UTF-8 */
        TP_SLICE("v\1\1\xff\x7e"),                     /* neither is this key */
        TP_SLICE("t\4abc"),
        TP_SLICE("}\xbf\xff\xff\xff\xff\xff\xff\x20"),     /* an integer above 2^53-1 */
        TP_SLICE("}\x80\x80\x80\x80\x80\x80\x80\x80\x00"), /* one of nine bytes */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tp_reader in = tp_reader_of(cases[i]);
        struct tp_buffer json = tp_buffer_growing(100);
        cr_assert_eq(tp_any_skip(&in, DEPTH_MAX), TP_MALFORMED, "case %zu", i);
        in = tp_reader_of(cases[i]);
        cr_assert_eq(tp_any_to_json(&in, DEPTH_MAX, &json), TP_MALFORMED, "case %zu", i);
        tp_buffer_finish(&json);
    }
}

Test(any, has_no_json_form_with_a_bigint_anywhere_in_it)
{
    struct tp_reader in = tp_reader_of(TP_SLICE("u\2}\1z\0\0\0\0\0\0\0\1"));
    struct tp_buffer json = tp_buffer_growing(100);

    cr_assert_eq(tp_any_to_json(&in, DEPTH_MAX, &json), TP_DENIED);
    tp_buffer_finish(&json);
}

Test(any, has_no_json_form_where_bytes_would_nest_one_level_too_deep)
{
    struct tp_reader in = tp_reader_of(TP_SLICE("u\1u\1t\0"));
    struct tp_buffer json = tp_buffer_growing(100);

    cr_assert_eq(tp_any_to_json(&in, 2, &json), TP_DENIED);
    in = tp_reader_of(TP_SLICE("u\1u\1t\0"));
    json.size = 0;
    cr_assert_eq(tp_any_to_json(&in, 3, &json), TP_OK);
    cr_assert(tp_slice_equal(tp_buffer_slice(&json), TP_SLICE("[[{}]]")));
    tp_buffer_finish(&json);
}

Test(any, says_full_when_the_text_does_not_fit)
{
    struct tp_reader in = tp_reader_of(TP_SLICE("w\4abcd"));
    struct tp_buffer json = tp_buffer_growing(5), any = tp_buffer_growing(5);

    cr_assert_eq(tp_any_to_json(&in, DEPTH_MAX, &json), TP_FULL);
    cr_assert_eq(tp_json_to_any(TP_SLICE("\"abcd\""), DEPTH_MAX, &any), TP_FULL);
    tp_buffer_finish(&json);
    tp_buffer_finish(&any);
}
