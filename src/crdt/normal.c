#include "crdt/normal.h"

#include "crdt/merge.h"
#include "crdt/v2.h"

enum tp_status tp_normal_init(struct tp_normal *normal, struct tp_slice update,
                              enum tp_update_encoding encoding)
{
    enum tp_status status = TP_OK;
    bool is_normal;

    normal->bytes = update;
    normal->form = TP_FORM_V1;
    normal->expanded = tp_buffer_starting(normal->memory, sizeof normal->memory, SIZE_MAX);
    normal->merged = tp_buffer_growing(SIZE_MAX);
    if (encoding == TP_UPDATE_V2) {
        struct tp_v2_info info = {0};
        status = tp_v2_read(update, TP_FORM_X, &tp_update_limits_default, &normal->expanded, &info);
        if (status != TP_OK)
            return status;
        normal->bytes = tp_buffer_slice(&normal->expanded);
        normal->form = TP_FORM_X;
    }
    status = tp_is_normal(normal->bytes, normal->form, &is_normal);
    if (status == TP_OK && !is_normal) {
        status = tp_merge(&normal->bytes, 1, normal->form, &normal->merged);
        normal->bytes = tp_buffer_slice(&normal->merged);
    }
    if (normal->form == TP_FORM_V1)
        normal->form = TP_FORM_V1_TRUSTED;
    return status;
}

void tp_normal_finish(struct tp_normal *normal)
{
    tp_buffer_finish(&normal->expanded);
    tp_buffer_finish(&normal->merged);
}

void tp_normal_walk(const struct tp_normal *normal, struct tp_walk *walk)
{
    TP_ASSERT(tp_walk_open(walk, normal->bytes, normal->form, &tp_update_limits_default));
}

void tp_normal_deletes(struct tp_walk *walk, struct tp_ranges *ranges)
{
    struct tp_deletes_info info;

    TP_ASSERT(walk->error == NULL && walk->structs_left == 0 && walk->blocks_left == 0);
    TP_ASSERT(tp_walk_deletes(walk, ranges, &info));
    tp_ranges_sort(ranges);
}
