/* Our updates are those of yjs 13.6, byte for byte, for every vector (spec 04 sections 9 and 14).
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "base/hash.h"
#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "golden/vectors.h"
#include "wire/writer.h"

#define RANGE_ROOM 64

static const enum tp_update_encoding encodings[] = {TP_UPDATE_V1, TP_UPDATE_V2};

/* Fields come in pairs, as in m1 and m2: the suffix says the encoding. */
static const char *field(const char *stem, enum tp_update_encoding encoding)
{
    static char names[4][24];
    static unsigned turn;
    char *name = names[turn++ % 4];

    snprintf(name, sizeof names[0], "%s%d", stem, encoding);
    return name;
}

static struct tp_buffer room(void)
{
    return tp_buffer_growing(SIZE_MAX / 2);
}

/* Fails unless `status` is TP_OK and `out` holds `want`; frees `out`. */
static void expect_done(enum tp_status status, struct tp_buffer *out, struct tp_slice want,
                        const char *what, enum tp_update_encoding encoding, const json_t *test)
{
    const char *id = json_string_value(json_object_get(test, "id"));

    cr_assert_eq(status, TP_OK, "%s V%d %s: status %d", what, encoding, id, status);
    vectors_expect(tp_buffer_slice(out), want, "%s V%d %s", what, encoding, id);
    tp_buffer_finish(out);
}

static void expect_merge(const struct tp_slice *updates, size_t count, struct tp_slice want,
                         const char *what, enum tp_update_encoding encoding, const json_t *test)
{
    struct tp_buffer out = room();
    const enum tp_status status = tp_update_merge(updates, count, encoding, &out);
    expect_done(status, &out, want, what, encoding, test);
}

static void expect_diff(struct tp_slice update, struct tp_slice sv, struct tp_slice want,
                        const char *what, enum tp_update_encoding encoding, const json_t *test)
{
    struct tp_buffer out = room();
    const enum tp_status status = tp_update_diff(update, encoding, sv, &out);
    expect_done(status, &out, want, what, encoding, test);
}

static void expect_convert(struct tp_slice update, enum tp_update_encoding from,
                           enum tp_update_encoding to, struct tp_slice want, const json_t *test)
{
    struct tp_buffer out = room();
    const enum tp_status status = tp_update_convert(update, from, to, &out);
    expect_done(status, &out, want, from == to ? "re-encoding" : "conversion to", to, test);
}

static void expect_state_vector(struct tp_slice update, enum tp_update_encoding encoding,
                                struct tp_slice want, const json_t *test)
{
    struct tp_buffer out = room();
    const enum tp_status status = tp_update_state_vector(update, encoding, &out);
    expect_done(status, &out, want, "state vector", encoding, test);
}

static void expect_content_ids(struct tp_slice update, enum tp_update_encoding encoding,
                               struct tp_slice want, const json_t *test)
{
    struct tp_buffer out = room();
    const enum tp_status status = tp_update_content_ids(update, encoding, &out);
    expect_done(status, &out, want, "content ids", encoding, test);
}

static void expect_snapshot(struct tp_slice update, enum tp_update_encoding encoding,
                            struct tp_slice want, const json_t *test)
{
    struct tp_buffer out = room();
    const enum tp_status status = tp_update_snapshot(update, encoding, &out);
    expect_done(status, &out, want, "snapshot", encoding, test);
}

/* K(update) is `want`, and K of that is the same again. */
static void expect_compact(struct tp_slice update, enum tp_update_encoding encoding,
                           struct tp_slice want, const char *what, const json_t *test)
{
    struct tp_buffer out = room(), again = room();
    enum tp_status status = tp_update_compact(want, encoding, &again, NULL);
    expect_done(status, &again, want, "compaction of the compacted", encoding, test);
    status = tp_update_compact(update, encoding, &out, NULL);
    expect_done(status, &out, want, what, encoding, test);
}

static uint64_t clock_of(const json_t *pairs, uint64_t client)
{
    size_t i;
    json_t *pair;

    json_array_foreach(pairs, i, pair)
    {
        if ((uint64_t)json_integer_value(json_array_get(pair, 0)) == client)
            return (uint64_t)json_integer_value(json_array_get(pair, 1));
    }
    cr_assert_fail("client %llu is not expected", (unsigned long long)client);
    return 0;
}

/* Validation finds the ranges that yjs calls meta: {from: [[client, clock]], to: ...}. */
static void expect_meta(struct tp_slice update, enum tp_update_encoding encoding,
                        const json_t *meta, const json_t *test)
{
    struct tp_update_range ranges[RANGE_ROOM];
    struct tp_update_info info;
    const json_t *from = json_object_get(meta, "from"), *to = json_object_get(meta, "to");

    cr_assert_eq(tp_update_validate(update, encoding, NULL, ranges, RANGE_ROOM, &info), TP_OK,
                 "%s: %s", vectors_text(test, "id"), info.error);
    cr_assert_eq(info.range_count, json_array_size(from), "%s", vectors_text(test, "id"));
    for (uint32_t i = 0; i < info.range_count; i++) {
        cr_assert_eq(ranges[i].from, clock_of(from, ranges[i].client));
        cr_assert_eq(ranges[i].to, clock_of(to, ranges[i].client));
    }
}

/* ---- one struct of each shape -----------------------------------------------------------------*/

/* What re-encoding makes of a case: nearly always the same bytes. */
static struct tp_slice reencoded(const json_t *test, struct tp_slice update,
                                 enum tp_update_encoding encoding)
{
    const json_t *structs = json_object_get(json_object_get(test, "d1"), "structs");
    const json_t *first = json_array_get(structs, 0);
    const json_t *last = json_array_get(structs, json_array_size(structs) - 1);

    if (json_object_get(test, "reencoded1") != NULL) /* bit 5 is cleared */
        return vectors_bytes(test, field("reencoded", encoding));
    if (first != NULL && (strcmp(vectors_text(first, "k"), "skip") == 0 ||
                          strcmp(vectors_text(last, "k"), "skip") == 0))
        /* a hole at either end is no part of the normal form; compaction changes no more here */
        return vectors_bytes(test, encoding == TP_UPDATE_V1 ? "compact" : "compact2");
    return update;
}

Test(update, of_every_struct_shape_is_read_and_written_as_yjs_does)
{
    json_t *root = vectors_load("yjs/decode.json");
    VECTORS_EACH(root, "cases", test)
    {
        const struct tp_slice v1 = vectors_bytes(test, "v1"), v2 = vectors_bytes(test, "v2");

        for (int i = 0; i < 2; i++) {
            const enum tp_update_encoding encoding = encodings[i];
            const struct tp_slice update = encoding == TP_UPDATE_V1 ? v1 : v2;
            struct tp_update_info info;
            cr_assert_eq(tp_update_validate(update, encoding, NULL, NULL, 0, &info), TP_OK,
                         "%s: %s", vectors_text(test, "id"), info.error);
            expect_convert(update, encoding, encoding, reencoded(test, update, encoding), test);
            expect_state_vector(update, encoding, vectors_bytes(test, "sv"), test);
            expect_meta(update, encoding, json_object_get(test, "meta"), test);
            expect_content_ids(update, encoding,
                               vectors_bytes(json_object_get(test, "content_ids"), "items_only"),
                               test);
        }
        expect_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, vectors_bytes(test, "c12"), test);
        expect_convert(v2, TP_UPDATE_V2, TP_UPDATE_V1, vectors_bytes(test, "c21"), test);
        expect_compact(v1, TP_UPDATE_V1, vectors_bytes(test, "compact"), "compaction", test);
        expect_compact(v2, TP_UPDATE_V2, vectors_bytes(test, "compact2"), "compaction", test);
    }
}

/* ---- sessions ---------------------------------------------------------------------------------*/

/* The updates in the order of `order`, merged, and what follows from that. */
static void check_order(const json_t *test, const json_t *order, const struct tp_slice *updates,
                        enum tp_update_encoding encoding)
{
    const json_t *indexes = json_object_get(order, "idx");
    const size_t count = json_array_size(indexes);
    struct tp_slice *list = calloc(count, sizeof *list);
    const bool is_tie = json_is_false(json_object_get(order, "exact"));
    const char *canonical = encoding == TP_UPDATE_V1 ? "canon_v1" : "canon_v2";
    const struct tp_slice want = vectors_bytes(order, is_tie ? canonical : field("m", encoding));

    for (size_t i = 0; i < count; i++)
        list[i] = updates[json_integer_value(json_array_get(indexes, i))];
    expect_merge(list, count, want, vectors_text(order, "name"), encoding, test);
    expect_merge(&want, 1, want, "merge of one", encoding, test);
    expect_state_vector(want, encoding, vectors_bytes(order, "sv"), test);
    expect_meta(want, encoding, json_object_get(order, "meta"), test);
    free(list);
}

/* The expected merge of the order `name`. */
static struct tp_slice merged(const json_t *test, const char *name,
                              enum tp_update_encoding encoding)
{
    VECTORS_EACH(test, "orders", order)
    {
        if (strcmp(vectors_text(order, "name"), name) != 0)
            continue;
        if (json_is_false(json_object_get(order, "exact")))
            return vectors_bytes(order, encoding == TP_UPDATE_V1 ? "canon_v1" : "canon_v2");
        return vectors_bytes(order, field("m", encoding));
    }
    cr_assert_fail("no order named %s", name);
    return (struct tp_slice){0};
}

static void check_diffs(const json_t *test, const char *name, struct tp_slice update,
                        enum tp_update_encoding encoding)
{
    VECTORS_EACH(test, name, diff)
    {
        expect_diff(update, vectors_bytes(diff, "sv"), vectors_bytes(diff, field("d", encoding)),
                    name, encoding, test);
    }
}

/* A peer that is sent `update` in pieces ends up with it, and no piece is without progress. */
static void check_pieces(const json_t *test, struct tp_slice update, size_t size_max)
{
    struct tp_buffer whole = room(), sv = room(), whole_sv = room();
    bool is_last = false;

    tp_write_raw(&whole, tp_update_empty(TP_UPDATE_V1));
    tp_write_varuint(&sv, 0);
    for (unsigned count = 0; !is_last; count++) {
        struct tp_buffer piece = room(), next = room(), more = room();
        cr_assert_lt(count, update.size + 2, "%s: it ends", vectors_text(test, "id"));
        cr_assert_eq(
            tp_update_piece(update, tp_buffer_slice(&sv), size_max, &piece, &next, &is_last),
            TP_OK);
        const struct tp_slice parts[] = {tp_buffer_slice(&whole), tp_buffer_slice(&piece)};
        cr_assert_eq(tp_update_merge(parts, 2, TP_UPDATE_V1, &more), TP_OK);
        tp_buffer_finish(&whole);
        tp_buffer_finish(&sv);
        tp_buffer_finish(&piece);
        whole = more;
        sv = next;
    }
    vectors_expect(tp_buffer_slice(&whole), update, "pieces of %s", vectors_text(test, "id"));
    tp_buffer_finish(&whole);
    tp_buffer_finish(&sv);
    tp_buffer_finish(&whole_sv);
}

static void check_session(const json_t *test, enum tp_update_encoding encoding)
{
    size_t count;
    const struct tp_slice *updates =
        vectors_list(json_object_get(test, field("u", encoding)), &count);
    const struct tp_slice arrival = merged(test, "arrival", encoding);
    const enum tp_update_encoding other = encoding == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1;

    VECTORS_EACH(test, "orders", order) check_order(test, order, updates, encoding);
    check_diffs(test, "diffs", arrival, encoding);
    if (json_array_size(json_object_get(test, "gap_diffs")) > 0)
        check_diffs(test, "gap_diffs", merged(test, "gaps", encoding), encoding);
    expect_convert(arrival, encoding, other,
                   vectors_bytes(json_object_get(test, "convert"), field("from_m", encoding)),
                   test);
    expect_content_ids(arrival, encoding,
                       vectors_bytes(json_object_get(test, "content_ids"), "items_only"), test);
    expect_snapshot(arrival, encoding,
                    vectors_bytes(json_object_get(test, "snapshot"), field("s", encoding)), test);

    const json_t *compact = json_object_get(test, "compact");
    expect_compact(arrival, encoding, vectors_bytes(compact, field("k", encoding)), "compaction",
                   test);
    if (encoding == TP_UPDATE_V1) {
        expect_compact(merged(test, "overlap", encoding), encoding,
                       vectors_bytes(compact, "k1_overlap"), "compaction of overlap", test);
        check_pieces(test, arrival, 1);
        check_pieces(test, arrival, 200);
    }

    /* a document that yjs has loaded from the merge */
    const struct tp_slice document = vectors_bytes(test, field("doc", encoding));
    struct tp_update_info info;
    cr_assert_eq(tp_update_validate(document, encoding, NULL, NULL, 0, &info), TP_OK, "%s",
                 info.error);
    struct tp_buffer sv = room();
    cr_assert_eq(tp_update_state_vector(arrival, encoding, &sv), TP_OK);
    expect_state_vector(document, encoding, tp_buffer_slice(&sv), test);
    tp_buffer_finish(&sv);
}

/* One test per file and encoding, so that they run side by side and a failure says which. */
#define FAMILY(name)                                                         \
    Test(update, of_a_##name##_session_merges_and_cuts_as_in_yjs_v1)         \
    {                                                                        \
        json_t *root = vectors_load("yjs/merge-" #name ".json");             \
        VECTORS_EACH(root, "cases", test) check_session(test, TP_UPDATE_V1); \
    }                                                                        \
    Test(update, of_a_##name##_session_merges_and_cuts_as_in_yjs_v2)         \
    {                                                                        \
        json_t *root = vectors_load("yjs/merge-" #name ".json");             \
        VECTORS_EACH(root, "cases", test) check_session(test, TP_UPDATE_V2); \
    }

FAMILY(map)
FAMILY(nested)
FAMILY(nogc)
FAMILY(richtext)
FAMILY(subdocs)
FAMILY(text)
FAMILY(undo)
FAMILY(xml)

/* ---- cuts, delete sets, old and foreign updates -----------------------------------------------*/

Test(update, is_cut_at_every_clock_as_in_yjs)
{
    json_t *root = vectors_load("yjs/slice.json");
    VECTORS_EACH(root, "cases", test)
    {
        for (int i = 0; i < 2; i++) {
            const struct tp_slice update = vectors_bytes(test, field("u", encodings[i]));
            struct tp_update_range range;
            struct tp_update_info info;
            cr_assert_eq(tp_update_validate(update, encodings[i], NULL, &range, 1, &info), TP_OK);
            VECTORS_EACH(test, "rows", row)
            {
                struct tp_state_vector vector = {0};
                struct tp_buffer sv = room();
                tp_state_vector_raise(&vector, range.client,
                                      (uint64_t)json_integer_value(json_object_get(row, "clock")));
                tp_state_vector_encode(&vector, &sv);
                expect_diff(update, tp_buffer_slice(&sv),
                            vectors_bytes(row, field("d", encodings[i])), "slice", encodings[i],
                            test);
                tp_buffer_finish(&sv);
                tp_state_vector_finish(&vector);
            }
        }
    }
}

Test(update, that_overlaps_another_is_cut_as_in_yjs)
{
    json_t *root = vectors_load("yjs/slice.json");
    VECTORS_EACH(root, "overlap", test)
    {
        for (int i = 0; i < 2; i++) {
            size_t count;
            struct tp_slice *updates =
                vectors_list(json_object_get(test, field("u", encodings[i])), &count);
            cr_assert_eq(count, 2);
            expect_merge(updates, 2, vectors_bytes(test, field("m", encodings[i])), "overlap",
                         encodings[i], test);
            const struct tp_slice reversed[] = {updates[1], updates[0]};
            expect_merge(reversed, 2, vectors_bytes(test, field("r", encodings[i])),
                         "overlap reversed", encodings[i], test);
        }
    }
}

Test(update, merges_delete_sets_as_in_yjs)
{
    json_t *root = vectors_load("yjs/deleteset.json");
    VECTORS_EACH(root, "cases", test)
    {
        for (int i = 0; i < 2; i++) {
            size_t count;
            struct tp_slice *updates =
                vectors_list(json_object_get(test, field("u", encodings[i])), &count);
            expect_merge(updates, count, vectors_bytes(test, field("m", encodings[i])),
                         "delete sets", encodings[i], test);
        }
    }
}

Test(update, of_old_documents_with_json_content_is_as_in_yjs)
{
    json_t *root = vectors_load("yjs/legacy-json.json");
    VECTORS_EACH(root, "cases", test)
    {
        const struct tp_slice m1 = vectors_bytes(test, "m1"), m2 = vectors_bytes(test, "m2");
        for (int i = 0; i < 2; i++) {
            size_t count;
            struct tp_slice *updates =
                vectors_list(json_object_get(test, field("u", encodings[i])), &count);
            expect_merge(updates, count, i == 0 ? m1 : m2, "merge", encodings[i], test);
        }
        expect_convert(m1, TP_UPDATE_V1, TP_UPDATE_V2, vectors_bytes(test, "c12"), test);
        expect_convert(m2, TP_UPDATE_V2, TP_UPDATE_V1, vectors_bytes(test, "c21"), test);
        expect_compact(m1, TP_UPDATE_V1, vectors_bytes(test, "compact"), "compaction", test);
    }
}

Test(update, written_by_yrs_keeps_its_values_as_they_are)
{
    json_t *root = vectors_load("yjs/yrs.json");
    VECTORS_EACH(root, "cases", test)
    {
        const struct tp_slice m1 = vectors_bytes(test, "m1"), m2 = vectors_bytes(test, "m2");
        for (int i = 0; i < 2; i++) {
            size_t count;
            struct tp_slice *updates =
                vectors_list(json_object_get(test, field("u", encodings[i])), &count);
            expect_merge(updates, count, i == 0 ? m1 : m2, "merge", encodings[i], test);
            expect_state_vector(i == 0 ? m1 : m2, encodings[i], vectors_bytes(test, "sv"), test);
        }
        expect_compact(m1, TP_UPDATE_V1, vectors_bytes(test, "compact"), "compaction", test);
    }
}

/* ---- lies -------------------------------------------------------------------------------------*/

/* Whoever skips validation gets the same answer from every operation. */
static void expect_refused_everywhere(struct tp_slice update, enum tp_update_encoding encoding,
                                      const char *id)
{
    const struct tp_slice twice[] = {update, update};
    struct tp_buffer out = room(), more = room();
    struct tp_update_report report;
    bool is_last;

    cr_assert_eq(tp_update_merge(&update, 1, encoding, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_merge(twice, 2, encoding, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_diff(update, encoding, TP_SLICE("\0"), &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_state_vector(update, encoding, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_convert(update, encoding, TP_UPDATE_V1, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_convert(update, encoding, TP_UPDATE_V2, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_compact(update, encoding, &out, NULL), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_content_ids(update, encoding, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_snapshot(update, encoding, &out), TP_MALFORMED, "%s", id);
    cr_assert_eq(tp_update_inspect(update, encoding, &report), TP_MALFORMED, "%s", id);
    if (encoding == TP_UPDATE_V1)
        cr_assert_eq(tp_update_piece(update, TP_SLICE("\0"), 100, &out, &more, &is_last),
                     TP_MALFORMED, "%s", id);
    tp_buffer_finish(&out);
    tp_buffer_finish(&more);
}

/* What was accepted must be readable by everyone from then on. */
static void expect_readable(struct tp_slice update, enum tp_update_encoding encoding,
                            const struct tp_update_info *before, const char *id)
{
    struct tp_buffer normal = room(), other = room(), compact = room();
    struct tp_update_info info;

    cr_assert_eq(tp_update_convert(update, encoding, encoding, &normal), TP_OK, "%s", id);
    cr_assert_eq(tp_update_validate(tp_buffer_slice(&normal), encoding, NULL, NULL, 0, &info),
                 TP_OK, "%s", id);
    cr_assert(info.normal, "%s", id);
    cr_assert_eq(before->normal, tp_slice_equal(update, tp_buffer_slice(&normal)), "%s", id);
    cr_assert_eq(tp_update_compact(update, encoding, &compact, NULL), TP_OK, "%s", id);
    cr_assert_eq(tp_update_validate(tp_buffer_slice(&compact), encoding, NULL, NULL, 0, &info),
                 TP_OK, "%s: %s", id, info.error);
    const enum tp_update_encoding to = encoding == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1;
    const enum tp_status converted = tp_update_convert(update, encoding, to, &other);
    cr_assert_eq(converted, before->has_v1_form ? TP_OK : TP_DENIED, "%s", id);
    if (converted == TP_OK)
        cr_assert_eq(tp_update_validate(tp_buffer_slice(&other), to, NULL, NULL, 0, &info), TP_OK,
                     "%s: %s", id, info.error);
    tp_buffer_finish(&normal);
    tp_buffer_finish(&other);
    tp_buffer_finish(&compact);
}

Test(update, that_lies_is_judged_as_the_specification_says)
{
    json_t *root = vectors_load("yjs/malformed.json");
    VECTORS_EACH(root, "cases", test)
    {
        const struct tp_slice update = vectors_bytes(test, "u");
        const enum tp_update_encoding encoding =
            strcmp(vectors_text(test, "fmt"), "v1") == 0 ? TP_UPDATE_V1 : TP_UPDATE_V2;
        const char *id = vectors_text(test, "id"), *verdict = vectors_text(test, "verdict");
        struct tp_update_info info;
        const enum tp_status status = tp_update_validate(update, encoding, NULL, NULL, 0, &info);

        cr_assert_eq(status == TP_OK, info.error == NULL, "%s", id);
        if (strcmp(verdict, "either") != 0)
            cr_assert_eq(status, strcmp(verdict, "reject") == 0 ? TP_MALFORMED : TP_OK, "%s: %s",
                         id, info.error);
        if (status != TP_OK) {
            expect_refused_everywhere(update, encoding, id);
            continue;
        }
        if (strcmp(verdict, "accept") == 0)
            expect_convert(update, encoding, encoding, update, test);
        if (strcmp(verdict, "accept-normalise") == 0)
            expect_convert(update, encoding, encoding, vectors_bytes(test, "n"), test);
        expect_readable(update, encoding, &info, id);
    }
}

/* ---- keystrokes -------------------------------------------------------------------------------*/

static void expect_hash(struct tp_slice got, const json_t *object, const char *name,
                        const char *what)
{
    cr_assert_str_eq(vectors_sha256(got), vectors_text(object, name), "%s: %zu bytes", what,
                     got.size);
}

/* All updates in batches of `size`, merged, one after the other. */
static struct tp_buffer merge_batches(const struct tp_slice *updates, size_t count, size_t size,
                                      enum tp_update_encoding encoding, struct tp_slice *batches)
{
    struct tp_buffer all = room();

    for (size_t i = 0; i * size < count; i++) {
        const size_t before = all.size;
        cr_assert_eq(
            tp_update_merge(updates + i * size, tp_min(size, count - i * size), encoding, &all),
            TP_OK);
        batches[i].size = all.size - before;
    }
    size_t at = 0;
    for (size_t i = 0; i * size < count; i++) {
        batches[i].data = all.data + at;
        at += batches[i].size;
    }
    return all;
}

static void check_trace(const char *name, enum tp_update_encoding encoding)
{
    char path[64];
    size_t count;
    struct tp_slice raw;

    snprintf(path, sizeof path, "yjs/%s.json", name);
    json_t *root = vectors_load(path);
    const json_t *want = json_object_get(json_object_get(root, "files"), field("v", encoding));
    snprintf(path, sizeof path, "yjs/%s", vectors_text(want, "file"));
    struct tp_slice *updates = vectors_trace(path, &count, &raw);
    cr_assert_eq(count, json_integer_value(json_object_get(root, "updates")));
    expect_hash(raw, want, "raw_sha256", "the trace itself");

    struct tp_buffer whole = room(), out = room();
    cr_assert_eq(tp_update_merge(updates, count, encoding, &whole), TP_OK);
    expect_hash(tp_buffer_slice(&whole), want, "merged_sha256", "merge at once");

    cr_assert_eq(tp_update_state_vector(tp_buffer_slice(&whole), encoding, &out), TP_OK);
    vectors_expect(tp_buffer_slice(&out), vectors_bytes(want, "state_vector"), "state vector");

    VECTORS_EACH(want, "batches", row)
    {
        const size_t size = (size_t)json_integer_value(json_object_get(row, "size"));
        const size_t batch_count = (count + size - 1) / size;
        struct tp_slice *batches = calloc(batch_count, sizeof *batches);
        struct tp_buffer all = merge_batches(updates, count, size, encoding, batches);
        expect_hash(tp_buffer_slice(&all), row, "concat_sha256", "batches");
        if (json_is_true(json_object_get(want, "hierarchical_merge_identical"))) {
            struct tp_buffer again = room();
            cr_assert_eq(tp_update_merge(batches, batch_count, encoding, &again), TP_OK);
            vectors_expect(tp_buffer_slice(&again), tp_buffer_slice(&whole), "merged batches");
            tp_buffer_finish(&again);
        }
        tp_buffer_finish(&all);
        free(batches);
    }
    VECTORS_EACH(want, "diffs", row)
    {
        out.size = 0;
        cr_assert_eq(
            tp_update_diff(tp_buffer_slice(&whole), encoding, vectors_bytes(row, "sv"), &out),
            TP_OK);
        expect_hash(tp_buffer_slice(&out), row, "sha256", "diff");
    }
    out.size = 0;
    cr_assert_eq(tp_update_compact(tp_buffer_slice(&whole), encoding, &out, NULL), TP_OK);
    expect_hash(tp_buffer_slice(&out), want, "compact_sha256", "compaction");
    tp_buffer_finish(&whole);
    tp_buffer_finish(&out);
}

Test(update, of_a_quarter_million_keystrokes_is_as_in_yjs_v1)
{
    check_trace("b4", TP_UPDATE_V1);
}

Test(update, of_a_quarter_million_keystrokes_is_as_in_yjs_v2)
{
    check_trace("b4", TP_UPDATE_V2);
}

Test(update, of_two_people_typing_is_as_in_yjs_v1)
{
    check_trace("friends", TP_UPDATE_V1);
}

Test(update, of_two_people_typing_is_as_in_yjs_v2)
{
    check_trace("friends", TP_UPDATE_V2);
}
