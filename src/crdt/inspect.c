/* The integrity report of spec 04 section 10.4: told, not repaired. */
#include "base/hash.h"
#include "crdt/order.h"
#include "crdt/v2.h"

static void count_link(const struct tp_index *index, struct tp_id id,
                       struct tp_update_report *report)
{
    report->pending_link_count += tp_index_find(index, id) == TP_RECORD_NONE;
}

/* A parent that is not there is a pending link; one that was deleted may have been a type. */
static void count_parent(const struct tp_index *index, struct tp_id id,
                         struct tp_update_report *report)
{
    const uint32_t record = tp_index_find(index, id);

    if (record == TP_RECORD_NONE) {
        report->pending_link_count++;
        return;
    }
    const uint8_t ref = index->records[record].ref;
    report->bad_parent_count += ref != TP_REF_TYPE && ref != TP_REF_DELETED && ref != TP_REF_GC;
}

static uint64_t content_size(const struct tp_struct *s)
{
    return (uint64_t)(s->end - s->content);
}

static void count_structs(const struct tp_normal *normal, const struct tp_index *index,
                          const struct tp_ranges *deletes, struct tp_update_report *report)
{
    struct tp_walk walk;
    struct tp_struct s;

    tp_normal_walk(normal, &walk);
    while (tp_walk_next(&walk, &s)) {
        report->gap_count += walk.new_block && s.clock > 0;
        if (s.ref == TP_REF_SKIP) {
            report->gap_count++;
            report->skip_count++;
            continue;
        }
        report->struct_count++;
        if (s.ref == TP_REF_GC) {
            report->gc_count++;
            continue;
        }
        report->item_count++;
        if (s.info & TP_INFO_ORIGIN)
            count_link(index, s.origin, report);
        if (s.info & TP_INFO_RIGHT)
            count_link(index, s.right, report);
        if (!(s.info & TP_INFO_LINKED) && s.root.data == NULL)
            count_parent(index, s.parent, report);
        if (s.ref == TP_REF_DELETED)
            continue; /* its content is gone already */
        uint64_t dead = 0;
        for (size_t i = tp_ranges_find(deletes, s.client, s.clock);
             i < deletes->count && deletes->items[i].client == s.client &&
             deletes->items[i].from < tp_struct_end(&s);
             i++) {
            const struct tp_range *const range = &deletes->items[i];
            const uint64_t from = range->from > s.clock ? range->from : s.clock;
            dead += (range->to < tp_struct_end(&s) ? range->to : tp_struct_end(&s)) - from;
        }
        report->dead_size +=
            dead == s.len ? content_size(&s)
                          : (uint64_t)((double)content_size(&s) * (double)dead / (double)s.len);
    }
}

/* Which lanes each stuck lane waits for: those of the links of its next struct. */
static unsigned waited_lanes(const struct tp_order *order, const struct tp_order_lane *lane,
                             uint32_t numbers[3])
{
    const struct tp_normal *const normal = order->normal;
    struct tp_walk walk;
    struct tp_struct s;
    unsigned count = 0;

    tp_walk_resume(&walk, lane->at, normal->bytes.data + normal->bytes.size, normal->form,
                   lane->client, lane->at_clock, lane->structs_left, 0);
    TP_ASSERT(tp_walk_next(&walk, &s));
    struct tp_id links[3];
    unsigned link_count = 0;
    if (s.ref != TP_REF_GC && s.ref != TP_REF_SKIP) {
        if (s.info & TP_INFO_ORIGIN)
            links[link_count++] = s.origin;
        if (s.info & TP_INFO_RIGHT)
            links[link_count++] = s.right;
        if (!(s.info & TP_INFO_LINKED) && s.root.data == NULL)
            links[link_count++] = s.parent;
    }
    for (unsigned i = 0; i < link_count; i++)
        for (uint32_t low = 0, high = order->lane_count; low < high;) {
            const uint32_t middle = low + (high - low) / 2;
            const struct tp_order_lane *const other = &order->lanes[middle];
            if (other->client == links[i].client) {
                if (other != lane && other->stuck && links[i].clock >= other->clock)
                    numbers[count++] = middle;
                break;
            }
            if (other->client > links[i].client)
                low = middle + 1;
            else
                high = middle;
        }
    return count;
}

/* Lanes that nobody waits for are no part of a circle; taking them away leaves the circles. */
static uint64_t count_circles(const struct tp_order *order)
{
    uint32_t *const waiters = calloc(order->lane_count + 1, sizeof *waiters);
    uint32_t *const free_lanes = malloc((order->lane_count + 1) * sizeof *free_lanes);
    uint32_t numbers[3];
    uint32_t free_count = 0;
    uint64_t left = 0;

    TP_ASSERT(waiters != NULL && free_lanes != NULL);
    for (uint32_t i = 0; i < order->lane_count; i++) {
        if (!order->lanes[i].stuck)
            continue;
        left++;
        for (unsigned n = waited_lanes(order, &order->lanes[i], numbers); n > 0; n--)
            waiters[numbers[n - 1]]++;
    }
    for (uint32_t i = 0; i < order->lane_count; i++)
        if (order->lanes[i].stuck && waiters[i] == 0)
            free_lanes[free_count++] = i;
    while (free_count > 0) {
        const uint32_t lane = free_lanes[--free_count];
        left--;
        for (unsigned n = waited_lanes(order, &order->lanes[lane], numbers); n > 0; n--)
            if (--waiters[numbers[n - 1]] == 0)
                free_lanes[free_count++] = numbers[n - 1];
    }
    free(waiters);
    free(free_lanes);
    return left;
}

static uint64_t pending_deletes(const struct tp_index *index, const struct tp_ranges *deletes)
{
    uint64_t count = 0;

    for (size_t i = 0; i < deletes->count; i++) {
        const struct tp_block *const block = tp_index_block(index, deletes->items[i].client);
        count += block == NULL || deletes->items[i].to > block->end;
    }
    return count;
}

/* The same for both encodings of one document, where V1 can say it. */
static enum tp_status hash_of(const struct tp_normal *normal, uint64_t *hash)
{
    struct tp_buffer v2 = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer v1 = tp_buffer_growing(SIZE_MAX);
    struct tp_v2_info info = {0};

    if (normal->form != TP_FORM_X) {
        *hash = tp_hash64(normal->bytes);
        return TP_OK;
    }
    enum tp_status status = tp_v2_write(normal->bytes, normal->form, &v2);
    if (status == TP_OK)
        status =
            tp_v2_read(tp_buffer_slice(&v2), TP_FORM_V1, &tp_update_limits_default, &v1, &info);
    *hash = tp_hash64(tp_buffer_slice(status == TP_DENIED ? &v2 : &v1));
    tp_buffer_finish(&v2);
    tp_buffer_finish(&v1);
    return status == TP_DENIED ? TP_OK : status;
}

enum tp_status tp_update_inspect(struct tp_slice update, enum tp_update_encoding encoding,
                                 struct tp_update_report *report)
{
    struct tp_normal normal;
    struct tp_index index = {0};
    struct tp_order order = {0};
    struct tp_ranges deletes;
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_update_report found = {0};
    enum tp_status status = tp_normal_init(&normal, update, encoding);

    tp_ranges_init(&deletes);
    if (status == TP_OK)
        status = tp_index_init(&index, &normal, NULL);
    if (status == TP_OK) {
        tp_normal_walk(&normal, &walk);
        while (tp_walk_next(&walk, &s))
            continue;
        tp_normal_deletes(&walk, &deletes);
        found.client_count = index.block_count;
        count_structs(&normal, &index, &deletes, &found);
        found.pending_delete_count = pending_deletes(&index, &deletes);

        tp_order_init(&order, &normal, &index, NULL);
        tp_order_run(&order, UINT64_MAX);
        found.cycle_client_count = count_circles(&order);
        found.complete = found.gap_count == 0 && found.pending_link_count == 0;
        status = hash_of(&normal, &found.hash);
    }
    tp_order_finish(&order);
    tp_index_finish(&index);
    tp_ranges_finish(&deletes);
    tp_normal_finish(&normal);
    if (status == TP_OK)
        *report = found;
    return status;
}
