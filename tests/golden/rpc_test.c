/* Our bytes of remote calls and of what they keep are the reference's bytes (spec 03). */
#include <criterion/criterion.h>

#include "golden/vectors.h"
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
