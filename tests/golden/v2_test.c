/* V2's columns: the codecs are lib0's, and what is read from columns is what the long way reads. */
#include <criterion/criterion.h>

#include "crdt/v2_column.h"
#include "crdt/v2_writer.h"
#include "fuzz/ways.h"
#include "golden/vectors.h"

#define LIES_SIZE_MAX 160u /* bytes of an update of which every byte is changed */
#define STRINGS_MAX 64u

static uint64_t number_of(const json_t *values, size_t at)
{
    return (uint64_t)json_integer_value(json_array_get(values, at));
}

static struct tp_column column_of(struct tp_slice bytes)
{
    struct tp_column column;

    tp_column_open(&column, bytes.data, bytes.data + bytes.size);
    return column;
}

static void expect_column(struct tp_column_writer *to, const json_t *row)
{
    vectors_expect(tp_buffer_slice(&to->bytes), vectors_base64(json_array_get(row, 1)), "column");
    tp_buffer_finish(&to->bytes);
}

static struct tp_column_writer new_column(void)
{
    return (struct tp_column_writer){.bytes = tp_buffer_growing(SIZE_MAX)};
}

/* ---- codecs -----------------------------------------------------------------------------------*/

Test(v2_column, rle_u8_reads_and_writes_as_lib0)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "rle_u8", row)
    {
        const json_t *values = json_array_get(row, 0);
        struct tp_column column = column_of(vectors_base64(json_array_get(row, 1)));
        struct tp_column_writer to = new_column();
        for (size_t i = 0; i < json_array_size(values); i++) {
            uint8_t value;
            cr_assert_null(tp_column_take_rle(&column, &value));
            cr_assert_eq(value, number_of(values, i));
            tp_column_write_rle(&to, value, 1);
        }
        cr_assert_eq(column.at, column.end);
        expect_column(&to, row);
    }
}

Test(v2_column, uint_opt_rle_reads_and_writes_as_lib0)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "uint_opt_rle", row)
    {
        const json_t *values = json_array_get(row, 0);
        struct tp_column column = column_of(vectors_base64(json_array_get(row, 1)));
        struct tp_column passed = column;
        struct tp_column_writer to = new_column();
        uint64_t value;
        for (size_t i = 0; i < json_array_size(values); i++) {
            cr_assert_null(tp_column_take_uint(&column, &value));
            cr_assert_eq(value, number_of(values, i));
            tp_column_write_uint(&to, value, 1);
        }
        cr_assert_not_null(tp_column_take_uint(&column, &value), "it has no more");
        cr_assert_not(column.overlong);
        cr_assert_null(tp_column_pass_uint(&passed, json_array_size(values)));
        cr_assert_eq(passed.at, passed.end);
        cr_assert_eq(passed.left, 0);
        tp_column_end_uint(&to);
        expect_column(&to, row);
    }
}

Test(v2_column, int_diff_opt_rle_reads_and_writes_as_lib0)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "int_diff_opt_rle", row)
    {
        const json_t *values = json_array_get(row, 0);
        struct tp_column column = column_of(vectors_base64(json_array_get(row, 1)));
        struct tp_column_writer to = new_column();
        bool is_clock = true; /* a negative value is none, and refused */
        for (size_t i = 0; i < json_array_size(values) && is_clock; i++) {
            const int64_t want = json_integer_value(json_array_get(values, i));
            uint64_t value;
            is_clock = want >= 0;
            cr_assert_eq(tp_column_take_diff(&column, &value) == NULL, is_clock);
            if (is_clock)
                cr_assert_eq(value, (uint64_t)want);
        }
        cr_assert(!is_clock || (column.at == column.end && column.left == 0));
        for (size_t i = 0; i < json_array_size(values); i++)
            tp_column_write_diff(&to, number_of(values, i));
        tp_column_end_diff(&to);
        expect_column(&to, row);
    }
}

/* A string of UTF-16 units, little endian, as WTF-8. */
static struct tp_buffer wtf8_of(struct tp_slice units)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    for (size_t i = 0; i + 1 < units.size; i += 2) {
        const uint32_t unit = (uint32_t)units.data[i] | (uint32_t)units.data[i + 1] << 8;
        const uint32_t next =
            i + 3 < units.size ? (uint32_t)units.data[i + 2] | (uint32_t)units.data[i + 3] << 8 : 0;
        uint8_t bytes[4];
        if (unit < 0x80) {
            tp_write_u8(&out, (uint8_t)unit);
        } else if (unit < 0x800) {
            tp_write_u8(&out, (uint8_t)(0xc0 | unit >> 6));
            tp_write_u8(&out, (uint8_t)(0x80 | (unit & 0x3f)));
        } else if (unit >= 0xd800 && unit < 0xdc00 && next >= 0xdc00 && next < 0xe000) {
            tp_text_put4(bytes, unit, next);
            tp_buffer_append(&out, bytes, 4);
            i += 2;
        } else {
            tp_text_put3(bytes, unit);
            tp_buffer_append(&out, bytes, 3);
        }
    }
    return out;
}

/* Structs of client 1, one to each string, in X: a text is what the string column holds. */
static struct tp_buffer x_of(const struct tp_slice *strings, size_t count)
{
    struct tp_buffer x = tp_buffer_growing(SIZE_MAX);

    tp_write_varuint(&x, 1);
    tp_write_varuint(&x, count);
    tp_write_varuint(&x, 1);
    tp_write_varuint(&x, 0);
    for (size_t i = 0; i < count; i++) { /* a type in the type (2, 0) with the string for its key */
        tp_buffer_append(&x, "\x27\0\2\0", 4);
        tp_write_bytes(&x, strings[i]);
        tp_write_u8(&x, 1);
    }
    tp_write_u8(&x, 0);
    return x;
}

/* Where the string column lies in an update that our writer made. */
static struct tp_slice string_column_of(const struct tp_buffer *update)
{
    struct tp_reader in = tp_reader_of(tp_buffer_slice(update));

    tp_read_varuint(&in);
    for (unsigned i = 0; i < 5; i++)
        tp_read_bytes(&in);
    return tp_read_bytes(&in);
}

Test(v2_column, strings_are_joined_and_cut_as_by_lib0)
{
    json_t *root = vectors_load("yjs/primitives.json");
    VECTORS_EACH(root, "string_column", row)
    {
        struct tp_buffer texts[STRINGS_MAX];
        struct tp_slice strings[STRINGS_MAX];
        const size_t count = json_array_size(json_array_get(row, 0));
        const struct tp_slice want = vectors_base64(json_array_get(row, 1));
        if (count == 0 || count > STRINGS_MAX)
            continue; /* a block is never without structs */
        for (size_t i = 0; i < count; i++) {
            texts[i] = wtf8_of(vectors_base64(json_array_get(json_array_get(row, 0), i)));
            strings[i] = tp_buffer_slice(&texts[i]);
        }
        struct tp_buffer x = x_of(strings, count), v2 = tp_buffer_growing(SIZE_MAX);
        struct tp_buffer again = tp_buffer_growing(SIZE_MAX), back = tp_buffer_growing(SIZE_MAX);
        cr_assert_eq(tp_v2_write(tp_buffer_slice(&x), TP_FORM_X, &v2), TP_OK);
        vectors_expect(string_column_of(&v2), want, "strings");
        cr_assert_eq(ways_read(tp_buffer_slice(&v2), TP_FORM_X, &back), TP_OK);
        cr_assert_eq(tp_v2_write(tp_buffer_slice(&back), TP_FORM_X, &again), TP_OK);
        vectors_expect(tp_buffer_slice(&again), tp_buffer_slice(&v2), "read and written again");
        for (size_t i = 0; i < count; i++)
            tp_buffer_finish(&texts[i]);
        tp_buffer_finish(&x);
        tp_buffer_finish(&v2);
        tp_buffer_finish(&again);
        tp_buffer_finish(&back);
    }
}

/* ---- ways -------------------------------------------------------------------------------------*/

/* State vectors that know half of each client, and a part of each of its structs' ends. */
static struct tp_slice part_known(struct tp_slice update, uint64_t part, uint64_t whole,
                                  struct tp_buffer *out)
{
    struct tp_state_vector vector = {0}, less = {0};
    struct tp_buffer sv = tp_buffer_growing(SIZE_MAX);

    if (tp_update_state_vector(update, TP_UPDATE_V2, &sv) == TP_OK)
        cr_assert_eq(tp_state_vector_decode(&vector, tp_buffer_slice(&sv)), TP_OK);
    for (uint32_t i = 0; i < vector.count; i++)
        tp_state_vector_raise(&less, vector.entries[i].client,
                              vector.entries[i].clock * part / whole);
    out->size = 0;
    tp_state_vector_encode(&less, out);
    tp_state_vector_finish(&vector);
    tp_state_vector_finish(&less);
    tp_buffer_finish(&sv);
    return tp_buffer_slice(out);
}

static void expect_agreement(struct tp_slice update, const char *what)
{
    struct tp_buffer sv = tp_buffer_growing(SIZE_MAX);

    cr_assert(ways_agree_on_state_vector(update), "state vector, %s", what);
    cr_assert(ways_agree_on_conversion(update, TP_UPDATE_V2), "conversion, %s", what);
    cr_assert(ways_agree_on_diff(update, (struct tp_slice){0}), "diff from nothing, %s", what);
    for (uint64_t part = 1; part < 8; part++)
        cr_assert(ways_agree_on_diff(update, part_known(update, part, 7, &sv)), "diff, %s", what);
    tp_buffer_finish(&sv);
}

static const char *const families[] = {"merge-map",      "merge-nested", "merge-nogc",
                                       "merge-richtext", "merge-text",   "merge-subdocs",
                                       "merge-undo",     "merge-xml"};

/* Calls `each` with every update in V2 of the merge vectors that is at most `size_max` bytes. */
static void each_update(size_t size_max, void each(struct tp_slice update, const char *what))
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char path[64];
        size_t count;
        snprintf(path, sizeof path, "yjs/%s.json", families[i]);
        json_t *root = vectors_load(path);
        VECTORS_EACH(root, "cases", test)
        {
            struct tp_slice *const updates = vectors_list(json_object_get(test, "u2"), &count);
            for (size_t n = 0; n < count; n++)
                if (updates[n].size <= size_max)
                    each(updates[n], families[i]);
            VECTORS_EACH(test, "orders", order)
            {
                const struct tp_slice merged = vectors_bytes(order, "m2");
                if (merged.size <= size_max)
                    each(merged, families[i]);
            }
        }
    }
}

Test(v2_ways, agree_on_every_update_and_merge, .timeout = 60)
{
    each_update(SIZE_MAX, expect_agreement);
}

static void expect_agreement_on_lies(struct tp_slice update, const char *what)
{
    static unsigned turn;
    uint8_t bytes[LIES_SIZE_MAX];
    if (turn++ % 16 != 0) /* one in sixteen is plenty */
        return;

    struct tp_buffer sv = tp_buffer_growing(SIZE_MAX);
    const struct tp_slice half = part_known(update, 1, 2, &sv);
    for (size_t size = 0; size < update.size; size++) {
        const struct tp_slice cut = tp_slice_of(update.data, size);
        cr_assert(ways_agree_on_state_vector(cut) && ways_agree_on_diff(cut, half) &&
                      ways_agree_on_conversion(cut, TP_UPDATE_V2),
                  "%s cut at %zu", what, size);
    }
    static const uint8_t changes[] = {0x01, 0x20, 0x40, 0x80, 0xff};
    const struct tp_slice lie = {bytes, update.size};
    for (size_t at = 0; at < update.size; at++) {
        for (size_t i = 0; i < sizeof changes; i++) {
            memcpy(bytes, update.data, update.size);
            bytes[at] ^= changes[i];
            struct tp_update_limits limits = tp_update_limits_default;
            struct tp_update_info info;
            limits.struct_count_max = 10000; /* a byte may claim millions */
            if (tp_update_validate(lie, TP_UPDATE_V2, &limits, NULL, 0, &info) != TP_OK &&
                tp_update_validate(lie, TP_UPDATE_V2, NULL, NULL, 0, &info) == TP_OK)
                continue;
            cr_assert(ways_agree_on_state_vector(lie) && ways_agree_on_diff(lie, half) &&
                          ways_agree_on_conversion(lie, TP_UPDATE_V2),
                      "%s, byte %zu changed by %x", what, at, changes[i]);
        }
    }
    tp_buffer_finish(&sv);
}

Test(v2_ways, agree_on_every_prefix_and_on_changed_bytes, .timeout = 60)
{
    each_update(LIES_SIZE_MAX, expect_agreement_on_lies);
}

Test(v2_ways, agree_on_what_is_malformed_or_out_of_order)
{
    json_t *root = vectors_load("yjs/malformed.json");
    VECTORS_EACH(root, "cases", test)
    {
        const json_t *text = json_object_get(test, "u");
        if (strcmp(vectors_text(test, "fmt"), "v2") == 0)
            expect_agreement(vectors_base64(text), vectors_text(test, "id"));
        else
            cr_assert(ways_agree_on_conversion(vectors_base64(text), TP_UPDATE_V1), "%s",
                      vectors_text(test, "id"));
    }
}
