/* The computations themselves: bytes in, bytes out. */
#include "crdt/attribution.h"
#include "crdt/sidecars.h"
#include "wire/merkle.h"
#include "wire/record.h"
#include "work/work.h"

#define OUTPUT_SIZE_MAX ((size_t)4 << 30) /* a document past this is not loaded: TP_FULL */
#define RANGE_ROOM 32u                    /* clients that an update usually touches, and more */

size_t tp_work_input_size(const struct tp_work_op *op)
{
    size_t size = op->sv_in.size;

    for (size_t nth = 0; nth < op->input_count; nth++)
        size += op->inputs[nth].size;
    return op->hashed == NULL ? size : size + op->hashed->sidecars.size;
}

static struct tp_buffer output(void)
{
    return tp_buffer_growing(OUTPUT_SIZE_MAX);
}

static void fail(struct tp_work_op *op, enum tp_status status, const char *error)
{
    op->status = status;
    op->error = error;
    tp_work_op_finish(op);
}

/* ---- VALIDATE ---------------------------------------------------------------------------------
 */

/* Ranges are stored as far as there is room for them, so an update of unusually many clients is
 * looked at twice. */
/* Checks `update`, and writes all of its ranges. */
static enum tp_status look(struct tp_slice update, enum tp_update_encoding encoding, bool encrypted,
                           struct tp_buffer *ranges, struct tp_update_info *info)
{
    struct tp_update_limits limits = tp_update_limits_default;
    uint32_t room = RANGE_ROOM;

    limits.placeholders = encrypted;
    for (;;) {
        ranges->size = 0;
        TP_ASSERT(tp_buffer_reserve(ranges, room * sizeof(struct tp_update_range)));
        *info = (struct tp_update_info){0};
        const enum tp_status status = tp_update_validate(
            update, encoding, &limits, (struct tp_update_range *)ranges->data, room, info);
        if (status != TP_OK)
            return status;
        if (info->range_count <= room) {
            ranges->size = info->range_count * sizeof(struct tp_update_range);
            return TP_OK;
        }
        room = info->range_count;
    }
}

static enum tp_status to_v1(struct tp_slice v2, bool encrypted, struct tp_buffer *out)
{
    return encrypted ? tp_update_convert_structure(v2, out)
                     : tp_update_convert(v2, TP_UPDATE_V2, TP_UPDATE_V1, out);
}

static void validate(struct tp_work_op *op)
{
    struct tp_update_info info;
    enum tp_update_encoding encoding = op->encoding == TP_UPDATE_V1 ? TP_UPDATE_V1 : TP_UPDATE_V2;

    op->ranges = output();
    enum tp_status status = look(op->inputs[0], encoding, op->encrypted, &op->ranges, &info);
    if (status != TP_OK && op->encoding == 0) {
        encoding = TP_UPDATE_V1;
        status = look(op->inputs[0], encoding, op->encrypted, &op->ranges, &info);
    }
    if (status != TP_OK) {
        fail(op, status, info.error != NULL ? info.error : "not an update");
        return;
    }
    if (!info.has_v1_form) { /* architecture.md: a document is one that every client can be told */
        fail(op, TP_MALFORMED, "holds a value that V1 cannot say");
        return;
    }
    op->found_encoding = (uint8_t)encoding;
    op->is_empty = info.empty;
    op->relayable = info.relayable;
    op->delete_range_count = info.delete_range_count;
    op->v1 = op->v2 = output();
    if (op->want_v1 && encoding != TP_UPDATE_V1)
        status = to_v1(op->inputs[0], op->encrypted, &op->v1);
    if (status == TP_OK && op->want_v2 && encoding != TP_UPDATE_V2)
        status = tp_update_convert(op->inputs[0], encoding, TP_UPDATE_V2, &op->v2);
    if (status == TP_OK && op->hashed != NULL) {
        op->digests = output();
        tp_sidecars_hash(op->hashed, &op->digests);
    }
    if (status != TP_OK)
        fail(op, status, "cannot be converted");
}

/* ---- LOAD and MERGE ---------------------------------------------------------------------------
 */

/* Updates of V1, some of which we had to make; and what lies beside them. */
struct parts {
    bool encrypted;            /* the document is */
    struct tp_buffer sidecars; /* a list (crdt/sidecars.h) */
    struct tp_buffer ranges;   /* struct tp_update_range[] of the update at hand */
    struct tp_slice *slices;
    size_t count, room;
    struct tp_buffer *converted; /* what slices of former V2 updates point to */
    size_t converted_count, converted_room;
};

static void finish_parts(struct parts *parts)
{
    for (size_t nth = 0; nth < parts->converted_count; nth++)
        tp_buffer_finish(&parts->converted[nth]);
    free(parts->converted);
    free(parts->slices);
    tp_buffer_finish(&parts->sidecars);
    tp_buffer_finish(&parts->ranges);
}

static void *grown(void *array, size_t count, size_t *room, size_t each)
{
    if (count < *room)
        return array;
    *room = *room == 0 ? 64 : *room * 2;
    array = realloc(array, *room * each);
    TP_ASSERT(array != NULL);
    return array;
}

static void add_slice(struct parts *parts, struct tp_slice slice)
{
    parts->slices = grown(parts->slices, parts->count, &parts->room, sizeof *parts->slices);
    parts->slices[parts->count++] = slice;
}

static enum tp_status add_v2(struct parts *parts, struct tp_slice update)
{
    struct tp_buffer converted = output();
    const enum tp_status status = to_v1(update, parts->encrypted, &converted);
    if (status != TP_OK) {
        tp_buffer_finish(&converted);
        return status;
    }
    parts->converted = grown(parts->converted, parts->converted_count, &parts->converted_room,
                             sizeof *parts->converted);
    parts->converted[parts->converted_count++] = converted;
    add_slice(parts, tp_buffer_slice(&converted));
    return TP_OK;
}

/* Of our own making: a base, or what a session stored anew. */
static enum tp_status add_sealed(struct parts *parts, struct tp_slice bytes)
{
    struct tp_slice v1, list;
    const enum tp_status status = tp_sealed_decode(bytes, &v1, &list);

    if (status != TP_OK)
        return status;
    add_slice(parts, v1);
    tp_sidecars_join(&parts->sidecars, list);
    return TP_OK;
}

/* As received. */
static enum tp_status add_container(struct parts *parts, struct tp_slice bytes)
{
    struct tp_message_update update = {0};
    struct tp_buffer digests = output();
    struct tp_update_info info;
    enum tp_status status = tp_container_decode(bytes, &update);

    if (status == TP_OK)
        status = look(update.v2, TP_UPDATE_V2, true, &parts->ranges, &info);
    if (status == TP_OK)
        status = add_v2(parts, update.v2);
    if (status != TP_OK)
        return status;
    tp_sidecars_hash(&update, &digests);
    tp_sidecars_fold(&parts->sidecars, &update, tp_buffer_slice(&digests),
                     (const struct tp_update_range *)parts->ranges.data, info.range_count);
    tp_buffer_finish(&digests);
    return TP_OK;
}

static enum tp_status add_update(struct parts *parts, struct tp_slice update, uint8_t encoding,
                                 bool is_ours)
{
    if ((encoding == TP_RECORD_CONTAINER) != parts->encrypted)
        return TP_MALFORMED;
    if (encoding == TP_RECORD_CONTAINER)
        return is_ours ? add_sealed(parts, update) : add_container(parts, update);
    if (encoding == TP_RECORD_V2)
        return add_v2(parts, update);
    add_slice(parts, update);
    return TP_OK;
}

static enum tp_status add_base(struct parts *parts, struct tp_slice value)
{
    struct tp_base_record base;
    enum tp_status status = tp_base_record_decode(value, &base);

    if (status == TP_OK)
        status = add_update(parts, base.update, base.encoding, true);
    return status;
}

static enum tp_status add_row(struct parts *parts, struct tp_slice rest)
{
    struct tp_log_entry entry;
    enum tp_status status;

    while ((status = tp_log_entry_next(&rest, &entry)) == TP_OK) {
        status = add_update(parts, entry.update, entry.encoding, entry.dialect == TP_DIALECT_NONE);
        if (status != TP_OK)
            return status;
    }
    return status == TP_ABSENT ? TP_OK : status;
}

static void merge(struct tp_work_op *op, const struct tp_slice *slices, size_t count)
{
    op->v1 = op->sv = output();
    enum tp_status status = tp_update_merge(slices, count, TP_UPDATE_V1, &op->v1);
    if (status == TP_OK)
        status = tp_update_state_vector(tp_buffer_slice(&op->v1), TP_UPDATE_V1, &op->sv);
    if (status != TP_OK)
        fail(op, status, "the updates cannot be merged");
}

/* All or nothing: a document of which some entries are damaged must not be shown as if it were
 * whole; an operator decides what to do with it. */
static void load(struct tp_work_op *op)
{
    struct parts parts = {.encrypted = op->encrypted, .sidecars = output(), .ranges = output()};
    enum tp_status status = TP_OK;

    for (size_t nth = 0; nth < op->input_count && status == TP_OK; nth++) {
        if (op->inputs[nth].size == 0)
            continue;
        status = nth == 0 ? add_base(&parts, op->inputs[nth]) : add_row(&parts, op->inputs[nth]);
    }
    if (status == TP_OK)
        merge(op, parts.slices, parts.count);
    else if (status == TP_DENIED)
        fail(op, status, "the document holds a value that V1 cannot say");
    else
        fail(op, status, "a stored record is damaged");
    if (op->status == TP_OK) {
        op->sidecars = parts.sidecars;
        parts.sidecars = (struct tp_buffer){0};
    }
    finish_parts(&parts);
}

/* ---- DIFF and PIECE ---------------------------------------------------------------------------
 */

static void diff(struct tp_work_op *op)
{
    op->v1 = op->v2 = output();
    enum tp_status status = tp_update_diff(op->inputs[0], TP_UPDATE_V1, op->sv_in, &op->v1);
    if (status == TP_OK && op->want_v2)
        status = tp_update_convert(tp_buffer_slice(&op->v1), TP_UPDATE_V1, TP_UPDATE_V2, &op->v2);
    if (status == TP_OK && op->encrypted) {
        struct tp_update_info info;
        op->ranges = output();
        status = look(tp_buffer_slice(&op->v1), TP_UPDATE_V1, true, &op->ranges, &info);
    }
    if (status != TP_OK) {
        fail(op, status, "no difference to this state vector");
        return;
    }
    if (!op->want_v1)
        tp_buffer_finish(&op->v1);
}

static void piece(struct tp_work_op *op)
{
    struct tp_update_pieces pieces = {output(), output(), output(), false};
    const enum tp_status status =
        tp_update_cut(op->inputs[0], op->sv_in, op->size_max, op->count_max, &pieces);

    op->v1 = pieces.updates;
    op->sv = pieces.state_vectors;
    op->ends = pieces.ends;
    op->is_last = pieces.is_last;
    if (status != TP_OK)
        fail(op, status, "no piece above this state vector");
}

/* ---- ATTRIBUTE --------------------------------------------------------------------------------
 */

static void attribute(struct tp_work_op *op)
{
    struct tp_content_map *map = tp_content_map_create();
    enum tp_status status = tp_attribution_add_kept(map, op->inputs[0]);

    for (size_t nth = 1; nth < op->input_count && status == TP_OK; nth++)
        status = tp_attribution_add_log(map, op->inputs[nth]);
    if (status != TP_OK)
        fail(op, status, "a stored record is damaged");
    if (status == TP_OK) {
        op->v1 = output();
        op->is_empty = tp_content_map_is_empty(map);
        status = tp_attribution_answer(map, op->attribution, &op->v1);
        if (status != TP_OK)
            fail(op, TP_DENIED, "these are no content ids");
    }
    tp_content_map_destroy(map);
}

static void verify(struct tp_work_op *op)
{
    for (uint32_t i = 0; i < op->verify.key_count; i++) {
        if (tp_verify(&op->verify.keys[i], op->verify.algorithm, op->inputs[0], op->inputs[1])) {
            op->verify.key_index = i;
            return;
        }
    }
    fail(op, TP_DENIED, "no key of ours has signed this");
}

/* ---- HASH and TREE ----------------------------------------------------------------------------
 */

static void hash(struct tp_work_op *op)
{
    uint8_t leaf[TP_SHA256_SIZE];

    op->digests = output();
    tp_merkle_leaf(op->inputs[0], leaf);
    tp_buffer_append(&op->digests, leaf, sizeof leaf);
}

static void tree(struct tp_work_op *op)
{
    const uint32_t leaf_count = (uint32_t)(op->inputs[0].size / TP_SHA256_SIZE);
    const size_t size = tp_merkle_node_count(leaf_count) * TP_SHA256_SIZE;

    op->digests = output();
    tp_buffer_append(&op->digests, op->inputs[0].data, leaf_count * (size_t)TP_SHA256_SIZE);
    TP_ASSERT(tp_buffer_reserve(&op->digests, size - op->digests.size));
    tp_merkle_build(op->digests.data, leaf_count);
    op->digests.size = size;
}

void tp_work_run(struct tp_work_op *op)
{
    op->status = TP_OK;
    op->error = NULL;
    switch (op->kind) {
    case TP_WORK_VALIDATE:
        validate(op);
        break;
    case TP_WORK_LOAD:
        load(op);
        break;
    case TP_WORK_MERGE:
        merge(op, op->inputs, op->input_count);
        break;
    case TP_WORK_DIFF:
        diff(op);
        break;
    case TP_WORK_PIECE:
        piece(op);
        break;
    case TP_WORK_ATTRIBUTE:
        attribute(op);
        break;
    case TP_WORK_VERIFY:
        verify(op);
        break;
    case TP_WORK_HASH:
        hash(op);
        break;
    case TP_WORK_TREE:
        tree(op);
        break;
    }
}

void tp_work_op_finish(struct tp_work_op *op)
{
    tp_buffer_finish(&op->v1);
    tp_buffer_finish(&op->v2);
    tp_buffer_finish(&op->sv);
    tp_buffer_finish(&op->ranges);
    tp_buffer_finish(&op->sidecars);
    tp_buffer_finish(&op->digests);
    tp_buffer_finish(&op->ends);
}
