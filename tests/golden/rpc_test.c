/* Our bytes of remote calls and of what they keep are the reference's bytes (spec 03). */
#include <criterion/criterion.h>

#include "crdt/attribution.h"
#include "crdt/update.h"
#include "golden/vectors.h"
#include "wire/any.h"
#include "wire/milestone.h"

/* ---- milestones ---------------------------------------------------------------------------------
 */

static bool has(const json_t *object, const char *name)
{
    return !json_is_object(json_object_get(object, name)); /* {"$undefined": true} */
}

static struct tp_milestone milestone_of(const json_t *object)
{
    const json_t *creator = json_object_get(object, "createdBy");
    struct tp_milestone out = {
        .document_id = vectors_string(object, "documentId"),
        .id = vectors_string(object, "id"),
        .name = vectors_string(object, "name"),
        .created_ms = json_number_value(json_object_get(object, "createdAt")),
        .by_user = strcmp(vectors_text(creator, "type"), "user") == 0,
        .creator = vectors_string(creator, "id"),
    };

    if (has(object, "deletedAt")) {
        out.fields |= TP_MILESTONE_DELETED_AT;
        out.deleted_ms = json_number_value(json_object_get(object, "deletedAt"));
    }
    if (has(object, "deletedBy")) {
        out.fields |= TP_MILESTONE_DELETED_BY;
        out.deleted_by = vectors_string(object, "deletedBy");
    }
    if (has(object, "lifecycleState")) {
        out.fields |= TP_MILESTONE_STATE;
        out.state = vectors_string(object, "lifecycleState");
    }
    if (has(object, "retentionPolicyId")) {
        out.fields |= TP_MILESTONE_RETENTION;
        out.retention_policy = vectors_string(object, "retentionPolicyId");
    }
    if (has(object, "expiresAt")) {
        out.fields |= TP_MILESTONE_EXPIRES;
        out.expires_ms = json_number_value(json_object_get(object, "expiresAt"));
    }
    return out;
}

static struct tp_slice again(const struct tp_milestone *milestone, struct tp_buffer *out)
{
    *out = tp_buffer_growing(4096);
    tp_milestone_encode(milestone, out);
    return tp_buffer_slice(out);
}

Test(rpc_golden, milestones_are_written_and_read_as_the_reference_does)
{
    json_t *root = vectors_load("rpc/milestone-binary.json");

    VECTORS_EACH(root, "cases", vector)
    {
        const struct tp_milestone milestone = milestone_of(json_object_get(vector, "milestone"));
        const struct tp_slice meta = vectors_hex(vector, "metaHex");
        struct tp_slice full = vectors_hex(vector, "fullHex");
        struct tp_buffer out;
        struct tp_milestone read;

        vectors_expect(again(&milestone, &out), meta, "%s", vectors_text(vector, "name"));
        tp_buffer_finish(&out);
        cr_assert_eq(tp_milestone_next(&full, &read), TP_OK);
        vectors_expect(full, vectors_hex(vector, "snapshotHex"), "the snapshot follows");
        vectors_expect(again(&read, &out), meta, "%s, read", vectors_text(vector, "name"));
        tp_buffer_finish(&out);
        for (size_t size = 1; size < meta.size; size++) {
            struct tp_slice part = {meta.data, size};
            cr_assert_eq(tp_milestone_next(&part, &read), TP_MALFORMED, "%zu bytes", size);
        }
    }
}

Test(rpc_golden, a_list_of_milestones_is_one_after_the_other)
{
    json_t *root = vectors_load("rpc/milestone-binary.json");
    const json_t *list = json_object_get(root, "metaDoc");
    struct tp_slice rest = vectors_hex(list, "hex");
    struct tp_milestone read;

    VECTORS_EACH(list, "milestones", vector)
    {
        const struct tp_milestone want = milestone_of(vector);
        struct tp_buffer a, b;
        cr_assert_eq(tp_milestone_next(&rest, &read), TP_OK);
        vectors_expect(again(&read, &a), again(&want, &b), "in order");
        tp_buffer_finish(&a);
        tp_buffer_finish(&b);
    }
    cr_assert_eq(tp_milestone_next(&rest, &read), TP_ABSENT);
}

/* ---- attribution --------------------------------------------------------------------------------
 */

static struct tp_slice encoded(struct tp_content_map *map, struct tp_buffer *out)
{
    *out = tp_buffer_growing(1 << 20);
    tp_content_map_encode(map, out);
    return tp_buffer_slice(out);
}

static void expect_map(struct tp_content_map *map, struct tp_slice want, const char *words)
{
    struct tp_buffer out;

    vectors_expect(encoded(map, &out), want, "%s", words);
    tp_buffer_finish(&out);
    tp_content_map_destroy(map);
}

static struct tp_content_map *map_of(struct tp_slice bytes)
{
    struct tp_content_map *map = tp_content_map_create();

    cr_assert_eq(tp_content_map_add(map, bytes), TP_OK);
    return map;
}

Test(rpc_golden, content_ids_are_those_of_the_reference)
{
    json_t *root = vectors_load("rpc/attribution.json");

    VECTORS_EACH(root, "extract", vector)
    {
        struct tp_buffer ids = tp_buffer_growing(4096);
        const bool is_v1 = json_integer_value(json_object_get(vector, "version")) == 1;
        cr_assert_eq(tp_update_content_ids(vectors_hex(vector, "update"),
                                           is_v1 ? TP_UPDATE_V1 : TP_UPDATE_V2, &ids),
                     TP_OK);
        vectors_expect(tp_buffer_slice(&ids), vectors_hex(vector, "encodedIds"), "%s",
                       vectors_text(vector, "name"));
        tp_buffer_finish(&ids);
    }
}

Test(rpc_golden, content_maps_are_written_and_read_as_the_reference_does)
{
    json_t *root = vectors_load("rpc/attribution.json");

    VECTORS_EACH(root, "contentMaps", vector)
    {
        const struct tp_slice bytes = vectors_hex(vector, "hex");
        expect_map(map_of(bytes), bytes, vectors_text(vector, "name"));
        for (size_t size = 0; size < bytes.size; size++) {
            struct tp_content_map *map = tp_content_map_create();
            cr_assert_eq(tp_content_map_add(map, tp_slice_of(bytes.data, size)), TP_MALFORMED);
            tp_content_map_destroy(map);
        }
    }
}

static struct tp_slice named_map(const json_t *root, const char *name)
{
    VECTORS_EACH(root, "contentMaps", vector)
    if (strcmp(vectors_text(vector, "name"), name) == 0)
        return vectors_hex(vector, "hex");
    cr_assert_fail("no map is called %s", name);
    return (struct tp_slice){0};
}

Test(rpc_golden, merged_maps_are_those_of_the_reference)
{
    json_t *root = vectors_load("rpc/attribution.json");

    VECTORS_EACH(root, "merges", vector)
    {
        struct tp_content_map *map = tp_content_map_create();
        const json_t *name;
        size_t i;
        json_array_foreach(json_object_get(vector, "inputs"), i, name)
            cr_assert_eq(tp_content_map_add(map, named_map(root, json_string_value(name))), TP_OK);
        expect_map(map, vectors_hex(vector, "hex"), "merged");
    }
}

Test(rpc_golden, parts_of_maps_are_those_of_the_reference)
{
    json_t *root = vectors_load("rpc/attribution.json");
    const struct tp_slice full = vectors_hex(root, "full");

    VECTORS_EACH(root, "excludes", vector)
    {
        struct tp_content_map *map = map_of(full);
        cr_assert_eq(tp_content_map_cut(map, vectors_hex(vector, "knownIds"), false), TP_OK);
        expect_map(map, vectors_hex(vector, "resultHex"), vectors_text(vector, "name"));
    }
    VECTORS_EACH(root, "intersects", vector)
    {
        struct tp_content_map *map = map_of(full);
        cr_assert_eq(tp_content_map_cut(map, vectors_hex(vector, "ids"), true), TP_OK);
        expect_map(map, vectors_hex(vector, "resultHex"), vectors_text(vector, "name"));
    }
}

/* JSON as one `any`. */
static void write_any(struct tp_buffer *out, const json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        tp_any_write_object(out, json_object_size(value));
        json_object_foreach((json_t *)value, key, member)
        {
            tp_write_bytes(out, tp_slice_of(key, strlen(key)));
            write_any(out, member);
        }
        break;
    case JSON_ARRAY:
        tp_any_write_array(out, json_array_size(value));
        json_array_foreach(value, i, member) write_any(out, member);
        break;
    case JSON_STRING:
        tp_any_write_string(out, tp_slice_of(json_string_value(value), json_string_length(value)));
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        tp_any_write_number(out, json_number_value(value));
        break;
    default:
        tp_write_u8(out, json_is_true(value)    ? TP_ANY_TRUE
                         : json_is_false(value) ? TP_ANY_FALSE
                                                : TP_ANY_NULL);
    }
}

static struct tp_attribution_query query_of(const json_t *filter, struct tp_buffer *attributes)
{
    struct tp_attribution_query query = {0};
    const json_t *from = json_object_get(filter, "from"), *to = json_object_get(filter, "to"),
                 *wanted = json_object_get(filter, "attributes");

    if (json_is_string(json_object_get(filter, "userId")))
        query.user = vectors_string(filter, "userId");
    query.has_from = from != NULL;
    query.from_ms = json_number_value(from);
    query.has_to = to != NULL;
    query.to_ms = json_number_value(to);
    *attributes = tp_buffer_growing(4096);
    if (wanted != NULL) {
        write_any(attributes, wanted);
        query.attributes = tp_buffer_slice(attributes);
    }
    return query;
}

Test(rpc_golden, filtered_maps_are_those_of_the_reference)
{
    json_t *root = vectors_load("rpc/attribution.json");

    VECTORS_EACH(root, "filters", vector)
    {
        struct tp_buffer attributes, out = tp_buffer_growing(1 << 20);
        const struct tp_attribution_query query =
            query_of(json_object_get(vector, "filter"), &attributes);
        struct tp_content_map *map = map_of(vectors_hex(root, "full"));
        cr_assert_eq(tp_attribution_answer(map, &query, &out), TP_OK);
        vectors_expect(tp_buffer_slice(&out), vectors_hex(vector, "resultHex"), "filter %zu",
                       each_vector);
        tp_content_map_destroy(map);
        tp_buffer_finish(&attributes);
        tp_buffer_finish(&out);
    }
}

Test(rpc_golden, activity_is_that_of_the_reference)
{
    json_t *root = vectors_load("rpc/attribution.json");

    VECTORS_EACH(root, "activity", vector)
    {
        struct tp_buffer attributes, out = tp_buffer_growing(1 << 20),
                                     want = tp_buffer_growing(1 << 20);
        struct tp_attribution_query query =
            query_of(json_object_get(vector, "filter"), &attributes);
        query.kind = TP_ATTRIBUTION_ACTIVITY;
        struct tp_content_map *map = map_of(vectors_hex(root, "full"));
        cr_assert_eq(tp_attribution_answer(map, &query, &out), TP_OK);
        write_any(&want, json_object_get(vector, "activity"));
        vectors_expect(tp_buffer_slice(&out), tp_buffer_slice(&want), "activity %zu", each_vector);
        tp_content_map_destroy(map);
        tp_buffer_finish(&attributes);
        tp_buffer_finish(&out);
        tp_buffer_finish(&want);
    }
}
