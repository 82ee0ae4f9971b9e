/* Encrypted documents: what the reference stored and answered, step by step (spec 02 17.4). */
#include <criterion/criterion.h>

#include "base/hash.h"
#include "crdt/sidecars.h"
#include "golden/vectors.h"
#include "seam/work_op.h"
#include "wire/record.h"
#include "wire/writer.h"
#include "work/work.h"

#define VECTORS "rpc/encryption-container.json"
#define ROW_COUNT_MAX 16u

/* A document as its log rows. */
struct stored {
    struct tp_slice rows[ROW_COUNT_MAX + 1]; /* the first: no base */
    size_t count;
};

static void store(struct stored *stored, struct tp_slice container)
{
    const struct tp_log_entry entry = {.sequence = stored->count + 1,
                                       .dialect = TP_DIALECT_TELEPORTAL,
                                       .encoding = TP_RECORD_CONTAINER,
                                       .update = container};
    struct tp_buffer row = tp_buffer_growing(1 << 20);

    cr_assert_lt(stored->count, ROW_COUNT_MAX);
    tp_log_entry_head_encode(&entry, &row);
    tp_write_raw(&row, container);
    stored->rows[++stored->count] = tp_buffer_slice(&row);
}

static void forget(struct stored *stored)
{
    for (size_t nth = 1; nth <= stored->count; nth++)
        free((void *)stored->rows[nth].data);
}

static struct tp_work_op load(const struct stored *stored)
{
    struct tp_work_op op = {.kind = TP_WORK_LOAD,
                            .inputs = stored->rows,
                            .input_count = stored->count + 1,
                            .encrypted = true};

    tp_work_run(&op);
    cr_assert_eq(op.status, TP_OK, "%s", op.error);
    return op;
}

static void expect_reply(const struct stored *stored, const json_t *step, const char *name)
{
    struct tp_work_op document = load(stored);
    struct tp_buffer reply = tp_buffer_growing(1 << 20), sidecars = tp_buffer_growing(1 << 20);
    struct tp_message_update update = {.version = 2};
    const struct tp_slice whole = tp_buffer_slice(&document.v1);
    struct tp_work_op diff = {.kind = TP_WORK_DIFF,
                              .inputs = &whole,
                              .input_count = 1,
                              .sv_in = vectors_hex(step, "stateVector"),
                              .want_v2 = true,
                              .encrypted = true};

    if (stored->count > 0) { /* of what does not exist, a session sends an empty structure */
        tp_work_run(&diff);
        cr_assert_eq(diff.status, TP_OK);
        tp_sidecars_select(tp_buffer_slice(&document.sidecars),
                           (const struct tp_update_range *)diff.ranges.data,
                           diff.ranges.size / sizeof(struct tp_update_range), &sidecars);
        update.v2 = tp_buffer_slice(&diff.v2);
        update.sidecars = tp_buffer_slice(&sidecars);
    }
    tp_container_encode(&update, &reply);
    vectors_expect(tp_buffer_slice(&reply), vectors_hex(step, "reply"), "%s: reply", name);
    vectors_expect(tp_buffer_slice(&document.sv), vectors_hex(step, "serverStateVector"),
                   "%s: state vector", name);
    tp_work_op_finish(&diff);
    tp_work_op_finish(&document);
    tp_buffer_finish(&reply);
    tp_buffer_finish(&sidecars);
}

static void expect_sidecar(const struct tp_sidecar *sidecar, const json_t *want, const char *name)
{
    struct tp_container_walk index = sidecar->index;
    struct tp_container_range range;

    vectors_expect(sidecar->bytes, vectors_hex(want, "sealed"), "%s: sidecar", name);
    vectors_expect(sidecar->hash, vectors_hex(want, "hash"), "%s: hash", name);
    VECTORS_EACH(want, "index", entry)
    {
        cr_assert(tp_container_range_next(&index, &range), "%s: an index is too short", name);
        cr_assert_eq(range.client, json_integer_value(json_object_get(entry, "clientId")));
        cr_assert_eq(range.min_clock, json_integer_value(json_object_get(entry, "minClock")));
        cr_assert_eq(range.max_clock, json_integer_value(json_object_get(entry, "maxClock")));
    }
    cr_assert(!tp_container_range_next(&index, &range), "%s: an index is too long", name);
}

static void expect_state(const struct stored *stored, const json_t *state, const char *name)
{
    struct tp_work_op document = load(stored);
    struct tp_slice rest = tp_buffer_slice(&document.sidecars);
    struct tp_buffer v2 = tp_buffer_growing(1 << 20);
    struct tp_sidecar sidecar;

    cr_assert_eq(tp_update_convert(tp_buffer_slice(&document.v1), TP_UPDATE_V1, TP_UPDATE_V2, &v2),
                 TP_OK);
    vectors_expect(tp_buffer_slice(&v2), vectors_hex(state, "structure"), "%s: structure", name);
    VECTORS_EACH(state, "sidecars", want)
    {
        cr_assert_eq(tp_sidecars_next(&rest, &sidecar), TP_OK, "%s: a sidecar is missing", name);
        expect_sidecar(&sidecar, want, name);
    }
    cr_assert_eq(tp_sidecars_next(&rest, &sidecar), TP_ABSENT, "%s: one sidecar too many", name);
    tp_work_op_finish(&document);
    tp_buffer_finish(&v2);
}

/* Where ours differs on purpose: a compaction takes effect if some of its sources are stored, since
 * clients also name those of structures without structs (crdt/sidecars.h). */
#define PARTIAL                                                                                    \
    "compaction whose first source is no longer stored: the compaction is ignored, the update is " \
    "kept"

Test(sidecars, are_stored_and_selected_as_the_reference_does)
{
    json_t *vectors = vectors_load(VECTORS);
    struct stored stored = {0};
    bool differs = false;

    VECTORS_EACH(vectors, "storage", step)
    {
        const char *name = vectors_text(step, "op");
        const bool is_update = json_object_get(step, "in") != NULL;
        differs |= strcmp(name, PARTIAL) == 0;
        if (differs)
            continue;
        if (is_update) {
            store(&stored, vectors_hex(step, "in"));
            expect_state(&stored, json_object_get(step, "state"), name);
        } else {
            expect_reply(&stored, step, name);
        }
    }
    cr_assert(differs);
    cr_assert_eq(stored.count, 5, "all steps up to the one that differs");
    forget(&stored);
}

Test(sidecars, give_way_to_a_compaction_some_of_whose_sources_are_stored)
{
    json_t *vectors = vectors_load(VECTORS);
    struct stored stored = {0};
    struct tp_slice rest;
    struct tp_sidecar sidecar;
    size_t count = 0;

    VECTORS_EACH(vectors, "storage", step)
    if (json_object_get(step, "in") != NULL)
        store(&stored, vectors_hex(step, "in"));

    struct tp_work_op document = load(&stored);
    rest = tp_buffer_slice(&document.sidecars);
    while (tp_sidecars_next(&rest, &sidecar) == TP_OK)
        count++;
    /* Five in all, two of them replaced by the first compaction; then one of the others and what
     * is gone by the second. */
    cr_assert_eq(count, 4);
    tp_work_op_finish(&document);
    forget(&stored);
}

Test(sidecars, of_every_stripped_update_have_the_hash_and_the_index_of_the_reference)
{
    json_t *vectors = vectors_load(VECTORS);
    size_t count = 0;

    VECTORS_EACH(vectors, "strip", update)
    {
        const char *name = vectors_text(update, "name");
        struct stored stored = {0};
        struct tp_sidecar sidecar;
        json_t *index = json_object_get(update, "serverIndex");
        json_t *own = json_pack("[{s:i,s:i,s:i}]", "clientId", 9, "minClock", 0, "maxClock", 0);
        if (!json_is_array(index)) /* the reference cannot read its own subdocuments */
            index = own;
        store(&stored, vectors_hex(update, "container"));
        struct tp_work_op document = load(&stored);
        struct tp_slice rest = tp_buffer_slice(&document.sidecars);
        cr_assert_eq(tp_sidecars_next(&rest, &sidecar), TP_OK, "%s", name);
        vectors_expect(sidecar.bytes, vectors_hex(update, "sealedSidecar"), "%s", name);
        vectors_expect(sidecar.hash, vectors_hex(update, "sealedSha256"), "%s", name);
        json_t *want =
            json_pack("{s:O,s:O,s:O}", "sealed", json_object_get(update, "sealedSidecar"), "hash",
                      json_object_get(update, "sealedSha256"), "index", index);
        expect_sidecar(&sidecar, want, name);
        json_decref(want);
        json_decref(own);
        count++;
        tp_work_op_finish(&document);
        forget(&stored);
    }
    cr_assert_eq(count, 9);
}

Test(sidecars, of_containers_decode_as_the_reference_decodes_them)
{
    json_t *vectors = vectors_load(VECTORS);

    VECTORS_EACH(vectors, "containerDecode", step)
    {
        struct tp_message_update update = {0};
        const enum tp_status status = tp_container_decode(vectors_hex(step, "hex"), &update);
        cr_assert_eq(status == TP_OK, json_is_true(json_object_get(step, "ok")), "%s",
                     vectors_text(step, "name"));
        if (status == TP_OK)
            vectors_expect(update.v2, vectors_hex(step, "structure"), "%s",
                           vectors_text(step, "name"));
    }
    VECTORS_EACH(vectors, "containers", step)
    {
        struct tp_message_update update = {0};
        struct tp_buffer again = tp_buffer_growing(1 << 20);
        const struct tp_slice bytes = vectors_hex(step, "hex");
        cr_assert_eq(tp_container_decode(bytes, &update), TP_OK);
        tp_container_encode(&update, &again);
        vectors_expect(tp_buffer_slice(&again), bytes, "%s", vectors_text(step, "name"));
        tp_buffer_finish(&again);
    }
}

/* ---- compactions that must not take effect ------------------------------------------------------
 */

#define RANGE(...) ((struct tp_update_range){__VA_ARGS__})

struct made {
    struct tp_buffer bytes;
    struct tp_message_update update;
};

/* An update of client 7's clocks with one sidecar, `bytes`. */
static void add(struct tp_buffer *list, struct tp_slice bytes, uint64_t from, uint64_t to)
{
    struct tp_buffer sidecars = tp_buffer_growing(1 << 10), digests = tp_buffer_growing(1 << 10);
    struct tp_message_update update = {.sidecar_count = 1};

    tp_write_varuint(&sidecars, 1);
    tp_write_bytes(&sidecars, bytes);
    tp_write_u8(&sidecars, 0);
    update.sidecars = tp_buffer_slice(&sidecars);
    tp_sidecars_hash(&update, &digests);
    tp_sidecars_fold(list, &update, tp_buffer_slice(&digests), &RANGE(7, from, to, to), 1);
    tp_buffer_finish(&sidecars);
    tp_buffer_finish(&digests);
}

/* A compaction of "one" and "two" whose index is client 7's clocks 0 to `last`. */
static void compact(struct tp_buffer *list, uint64_t last, bool is_true)
{
    struct tp_buffer sidecars = tp_buffer_growing(1 << 10), digests = tp_buffer_growing(1 << 10);
    struct tp_message_update update = {.compaction = true};
    uint8_t digest[TP_SHA256_SIZE];

    tp_write_varuint(&sidecars, 0);
    tp_write_u8(&sidecars, 1);
    tp_write_bytes(&sidecars, TP_SLICE("both"));
    tp_write_varuint(&sidecars, 1);
    tp_write_varuint(&sidecars, 7);
    tp_write_varuint(&sidecars, 0);
    tp_write_varuint(&sidecars, last);
    tp_sha256(is_true ? TP_SLICE("both") : TP_SLICE("other"), digest);
    tp_write_bytes(&sidecars, tp_slice_of(digest, sizeof digest));
    tp_write_varuint(&sidecars, 2);
    tp_sha256(TP_SLICE("one"), digest);
    tp_write_bytes(&sidecars, tp_slice_of(digest, sizeof digest));
    tp_sha256(TP_SLICE("two"), digest);
    tp_write_bytes(&sidecars, tp_slice_of(digest, sizeof digest));
    update.sidecars = tp_buffer_slice(&sidecars);
    tp_sidecars_hash(&update, &digests);
    tp_sidecars_fold(list, &update, tp_buffer_slice(&digests), NULL, 0);
    tp_buffer_finish(&sidecars);
    tp_buffer_finish(&digests);
}

static const char *words(const struct tp_buffer *list)
{
    static char text[256];
    struct tp_slice rest = tp_buffer_slice(list);
    struct tp_sidecar sidecar;

    text[0] = 0;
    while (tp_sidecars_next(&rest, &sidecar) == TP_OK)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s ", (int)sidecar.bytes.size,
                 (const char *)sidecar.bytes.data);
    return text;
}

Test(sidecars, are_replaced_only_by_a_compaction_that_is_what_it_claims_and_covers_them)
{
    struct tp_buffer list = tp_buffer_growing(1 << 16);
    add(&list, TP_SLICE("one"), 0, 5);
    add(&list, TP_SLICE("two"), 5, 10);
    add(&list, TP_SLICE("three"), 10, 15);
    add(&list, TP_SLICE("two"), 5, 10); /* said again */
    cr_assert_str_eq(words(&list), "one two three ");

    compact(&list, 9, false);
    cr_assert_str_eq(words(&list), "one two three ", "its digest is another's");
    compact(&list, 8, true);
    cr_assert_str_eq(words(&list), "one two three ", "clock 9 would be lost");
    compact(&list, 9, true);
    cr_assert_str_eq(words(&list), "both three ");
    compact(&list, 9, true);
    cr_assert_str_eq(words(&list), "both three ", "none of its sources is left");
    tp_buffer_finish(&list);
}
