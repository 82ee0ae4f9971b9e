/* Questions about the ids that an update holds: content ids, snapshot, holes. */
#include "crdt/diff.h"
#include "crdt/normal.h"

enum tp_status tp_update_content_ids(struct tp_slice update, enum tp_update_encoding encoding,
                                     struct tp_buffer *out)
{
    struct tp_normal normal;
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_ranges inserts, deletes;
    enum tp_status status = tp_normal_init(&normal, update, encoding);

    if (status == TP_OK) {
        tp_ranges_init(&inserts);
        tp_ranges_init(&deletes);
        tp_normal_walk(&normal, &walk);
        while (tp_walk_next(&walk, &s))
            if (s.ref != TP_REF_GC && s.ref != TP_REF_SKIP)
                tp_ranges_add(&inserts, s.client, s.clock, tp_struct_end(&s));
        tp_normal_deletes(&walk, &deletes);
        tp_ranges_sort(&inserts);
        tp_ranges_write_v2(&inserts, out);
        tp_ranges_write_v2(&deletes, out);
        tp_ranges_finish(&inserts);
        tp_ranges_finish(&deletes);
    }
    tp_normal_finish(&normal);
    return status == TP_OK && out->full ? TP_FULL : status;
}

enum tp_status tp_update_snapshot(struct tp_slice update, enum tp_update_encoding encoding,
                                  struct tp_buffer *out)
{
    struct tp_normal normal;
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_ranges deletes;
    enum tp_status status = tp_normal_init(&normal, update, encoding);

    if (status == TP_OK) {
        tp_ranges_init(&deletes);
        tp_normal_walk(&normal, &walk);
        while (tp_walk_next(&walk, &s))
            if (s.ref == TP_REF_GC || s.ref == TP_REF_DELETED)
                tp_ranges_add(&deletes, s.client, s.clock, tp_struct_end(&s));
        tp_normal_deletes(&walk, &deletes);
        if (encoding == TP_UPDATE_V1)
            tp_ranges_write_v1(&deletes, out);
        else
            tp_ranges_write_v2(&deletes, out);
        tp_ranges_finish(&deletes);
        status = tp_known_clocks(normal.bytes, normal.form, out);
    }
    tp_normal_finish(&normal);
    return status == TP_OK && out->full ? TP_FULL : status;
}

enum tp_status tp_update_gaps(struct tp_slice update, enum tp_update_encoding encoding,
                              void (*each)(void *context, uint64_t client, uint64_t from,
                                           uint64_t to),
                              void *context)
{
    struct tp_normal normal;
    struct tp_walk walk;
    struct tp_struct s;
    const enum tp_status status = tp_normal_init(&normal, update, encoding);

    if (status == TP_OK) {
        tp_normal_walk(&normal, &walk);
        while (tp_walk_next(&walk, &s)) {
            if (walk.new_block && s.clock > 0)
                each(context, s.client, 0, s.clock);
            if (s.ref == TP_REF_SKIP)
                each(context, s.client, s.clock, tp_struct_end(&s));
        }
    }
    tp_normal_finish(&normal);
    return status;
}
