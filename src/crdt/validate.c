#include "crdt/deletes.h"
#include "crdt/normal.h"
#include "crdt/v2.h"
#include "crdt/walk.h"

const struct tp_update_limits tp_update_limits_default = {
    .update_size_max = UINT64_C(64) << 20,
    .struct_count_max = UINT64_C(16) << 20,
    .block_count_max = UINT64_C(1) << 20,
    .any_depth_max = 512,
    .root_name_size_max = 64 << 10,
};

/* Ranges of an update, one for each block that holds more than Skips. */
struct ranges {
    struct tp_update_range *items;
    uint32_t room;
    uint32_t count;
};

static void add_range(struct ranges *ranges, const struct tp_update_range *range)
{
    if (ranges->items != NULL && ranges->count < ranges->room)
        ranges->items[ranges->count] = *range;
    ranges->count++;
}

static enum tp_status refuse(struct tp_update_info *info, const char *error, size_t at)
{
    info->error = error;
    info->error_at = at;
    return TP_MALFORMED;
}

static enum tp_status validate(struct tp_slice update, enum tp_dialect_form form,
                               const struct tp_update_limits *limits, struct ranges *ranges,
                               struct tp_update_info *info)
{
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_deletes_info deletes;
    struct tp_update_range range = {0};
    uint64_t struct_count = 0;
    uint64_t block_start = 0; /* the count of structs when the block began */
    bool holed = true;
    bool skipped = false; /* the struct before was a Skip, or the block begins */
    bool skip_misplaced = false;

    if (!tp_walk_open(&walk, update, form, limits))
        goto malformed;
    if (walk.blocks_left > limits->block_count_max)
        return refuse(info, "more blocks than the limit allows", 0);
    for (;;) {
        const bool any = tp_walk_next(&walk, &s);
        if (unlikely(!any || walk.new_block)) {
            skip_misplaced |= skipped;
            if (struct_count > block_start)
                add_range(ranges, &range);
            if (!any)
                break;
            range.client = s.client;
            range.from = range.gapless_to = s.clock;
            block_start = struct_count;
            holed = false;
            skipped = true;
        }
        range.to = tp_struct_end(&s);
        if (unlikely(s.ref == TP_REF_SKIP)) {
            skip_misplaced |= skipped;
            holed = skipped = true;
            continue;
        }
        skipped = false;
        struct_count++;
        if (likely(!holed))
            range.gapless_to = range.to;
    }
    if (unlikely(walk.error != NULL))
        goto malformed;
    if (struct_count > limits->struct_count_max)
        return refuse(info, "more structs than the limit allows", 0);
    if (!tp_walk_deletes(&walk, NULL, &deletes))
        goto malformed;

    info->struct_count = struct_count;
    info->delete_range_count = deletes.range_count;
    info->range_count = ranges->count;
    info->empty = struct_count == 0 && deletes.range_count == 0;
    info->relayable = walk.ordered && walk.filled && deletes.normal && !skip_misplaced;
    info->normal = info->relayable && walk.minimal;
    return TP_OK;

malformed:
    return refuse(info, walk.error, (size_t)(walk.at - update.data));
}

enum tp_status tp_is_normal(struct tp_slice update, enum tp_dialect_form form, bool *normal)
{
    static const struct tp_update_limits unlimited = {
        .update_size_max = UINT64_MAX,
        .struct_count_max = UINT64_MAX,
        .block_count_max = UINT64_MAX,
        .any_depth_max = 512,
        .root_name_size_max = 64 << 10,
    };
    struct ranges none = {0};
    struct tp_update_info info;
    const enum tp_status status = validate(update, form, &unlimited, &none, &info);

    *normal = status == TP_OK && info.normal;
    return status;
}

enum tp_status tp_update_validate(struct tp_slice update, enum tp_update_encoding encoding,
                                  const struct tp_update_limits *limits,
                                  struct tp_update_range *ranges, uint32_t range_room,
                                  struct tp_update_info *info)
{
    struct ranges found = {.items = ranges, .room = range_room};

    *info = (struct tp_update_info){.has_v1_form = true};
    if (limits == NULL)
        limits = &tp_update_limits_default;
    if (update.size > limits->update_size_max)
        return refuse(info, "larger than the limit allows", 0);
    if (encoding == TP_UPDATE_V1)
        return validate(update, TP_FORM_V1, limits, &found, info);

    uint8_t memory[1024];
    struct tp_buffer x = tp_buffer_starting(memory, sizeof memory, SIZE_MAX);
    struct tp_v2_info v2 = {.ask_v1_form = true};
    enum tp_status status = tp_v2_read(update, TP_FORM_X, limits, &x, &v2);
    if (status == TP_OK)
        status = validate(tp_buffer_slice(&x), TP_FORM_X, limits, &found, info);
    else
        status = refuse(info, v2.error, v2.error_at);
    info->normal = info->normal && v2.canonical;
    info->has_v1_form = v2.has_v1_form;
    tp_buffer_finish(&x);
    return status;
}
