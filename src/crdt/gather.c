#include "crdt/merge.h"

#define NO_GC SIZE_MAX

void tp_gather_init(struct tp_gather *gather)
{
    gather->appending = true;
    gather->normal = true;
    gather->split_count = 0;
    gather->add_count = 0;
    gather->starts_from = 0;
    tp_ranges_init(&gather->starts);
    gather->lane_count = 0;
    gather->error = NULL;
    tp_ranges_init(&gather->deletes);
}

void tp_gather_finish(struct tp_gather *gather)
{
    for (uint32_t i = 0; i < gather->lane_count; i++)
        tp_buffer_finish(&gather->lanes[i].body);
    gather->lane_count = 0;
    tp_ranges_finish(&gather->deletes);
    tp_ranges_finish(&gather->starts);
}

/* NULL: all lanes belong to others. */
static struct tp_lane *find_lane(struct tp_gather *gather, uint64_t client)
{
    for (uint32_t i = 0; i < gather->lane_count; i++)
        if (gather->lanes[i].client == client)
            return &gather->lanes[i];
    if (gather->lane_count == TP_LANE_COUNT_MAX)
        return NULL;

    struct tp_lane *const lane = &gather->lanes[gather->lane_count++];
    lane->client = client;
    lane->struct_count = 0;
    lane->gc_at = NO_GC;
    lane->gc_joined = false;
    lane->body = lane == gather->lanes
                     ? tp_buffer_starting(gather->inline_body, sizeof gather->inline_body, SIZE_MAX)
                     : tp_buffer_growing(SIZE_MAX);
    return lane;
}

/* Structs that lie behind one another in the input and are to be copied. */
struct run {
    const uint8_t *at;
    const uint8_t *end;
};

static inline void flush(struct tp_lane *lane, struct run *run)
{
    tp_buffer_append(&lane->body, run->at, (size_t)(run->end - run->at));
    run->at = run->end = NULL;
}

/* Appends `s`, which starts at or behind the lane's end. `switched`: it is the first that the lane
 * gets from this input. */
static inline void append(struct tp_lane *lane, struct run *run, const struct tp_struct *s,
                          bool switched)
{
    if (unlikely(lane->struct_count == 0)) {
        lane->first = s->clock;
    } else if (unlikely(s->clock > lane->end)) {
        flush(lane, run);
        tp_emit_range(TP_REF_SKIP, s->clock - lane->end, &lane->body);
        lane->struct_count++;
        lane->gc_at = NO_GC;
    }
    lane->end = tp_struct_end(s);

    if (unlikely(s->ref == TP_REF_GC)) {
        /* yjs joins two GCs where it turns from one input to another, and goes on joining while
         * that input has GCs; within one input it leaves them apart. */
        if (lane->gc_at != NO_GC && (switched || lane->gc_joined)) {
            flush(lane, run);
            lane->body.size = lane->gc_at;
            tp_emit_range(TP_REF_GC, lane->end - lane->gc_clock, &lane->body);
            lane->gc_joined = true;
            return;
        }
        flush(lane, run);
        lane->gc_at = lane->body.size;
        lane->gc_clock = s->clock;
        lane->gc_joined = false;
    } else {
        lane->gc_at = NO_GC;
    }
    lane->struct_count++;
    if (unlikely(!s->plain)) {
        flush(lane, run);
        tp_emit_struct(s, 0, s->len, TP_CUT_REPLACE, &lane->body);
    } else if (run->end == s->at) {
        run->end = s->end;
    } else {
        flush(lane, run);
        run->at = s->at;
        run->end = s->end;
    }
}

enum tp_status tp_gather_add(struct tp_gather *gather, struct tp_slice update,
                             enum tp_dialect_form form)
{
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_lane *lane = NULL;
    struct run run = {NULL, NULL};
    struct tp_deletes_info deletes;
    bool skipped = true; /* a Skip that starts or ends a block, or stands beside another */

    if (!tp_walk_open(&walk, update, form, &tp_update_limits_default))
        goto malformed;
    uint64_t client = UINT64_MAX;
    bool skip_misplaced = false;
    bool started = false;
    while (tp_walk_next(&walk, &s)) {
        bool switched = false;
        if (unlikely(walk.new_block)) {
            skip_misplaced |= skipped && client != UINT64_MAX;
            skipped = true;
            gather->split_count += client != UINT64_MAX && s.client >= client;
            client = s.client;
            switched = true;
            if (lane != NULL)
                flush(lane, &run);
            lane = NULL;
        }
        if (unlikely(s.ref == TP_REF_SKIP)) {
            skip_misplaced |= skipped;
            skipped = true;
            continue;
        }
        skipped = false;
        if (!gather->appending) {
            if (!started && gather->starts_from > 0)
                tp_ranges_push(&gather->starts, s.client, s.clock, gather->add_count);
            started = true;
            continue;
        }
        if (unlikely(lane == NULL)) {
            lane = find_lane(gather, s.client);
            switched = true;
        }
        if (unlikely(lane == NULL || (lane->struct_count > 0 && s.clock < lane->end))) {
            gather->appending = false;
            continue;
        }
        append(lane, &run, &s, switched);
    }
    if (unlikely(walk.error != NULL || !tp_walk_deletes(&walk, &gather->deletes, &deletes)))
        goto malformed;
    if (lane != NULL)
        flush(lane, &run);
    skip_misplaced |= skipped && client != UINT64_MAX;
    gather->add_count++;
    if (!gather->appending && gather->starts_from == 0)
        gather->starts_from = gather->add_count;
    gather->normal &= walk.ordered && walk.minimal && deletes.normal && !skip_misplaced;
    return TP_OK;

malformed:
    gather->error = walk.error;
    return TP_MALFORMED;
}

void tp_gather_write(struct tp_gather *gather, struct tp_buffer *out)
{
    struct tp_lane *order[TP_LANE_COUNT_MAX];
    uint32_t count = 0;

    TP_ASSERT(gather->appending);
    for (uint32_t i = 0; i < gather->lane_count; i++) {
        struct tp_lane *const lane = &gather->lanes[i];
        uint32_t at = count++;
        for (; at > 0 && order[at - 1]->client < lane->client; at--)
            order[at] = order[at - 1];
        order[at] = lane;
    }
    tp_write_varuint(out, count);
    for (uint32_t i = 0; i < count; i++) {
        tp_write_varuint(out, order[i]->struct_count);
        tp_write_varuint(out, order[i]->client);
        tp_write_varuint(out, order[i]->first);
        tp_write_raw(out, tp_buffer_slice(&order[i]->body));
    }
    tp_ranges_sort(&gather->deletes);
    tp_ranges_write_v1(&gather->deletes, out);
}
