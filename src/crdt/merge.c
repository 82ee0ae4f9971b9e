#include "crdt/merge.h"

#define HEAP_ROOM_FIRST 16u

/* Stands at a struct that is no Skip. */
struct cursor {
    const uint8_t *at;
    uint64_t client;
    uint64_t clock;
    int64_t seq; /* the last to be handled comes first among equals */
    uint32_t structs_left;
    uint32_t blocks_left;
    uint32_t update;
    uint32_t blocks_behind; /* of a late cursor: from its first block to the update's end */
};

/* The struct that is held back: what comes next decides how it is written. */
struct held {
    bool any;
    uint8_t ref;
    bool plain;
    bool remade; /* a Skip, or a GC of another length: from the numbers alone */
    uint64_t client;
    uint64_t clock;
    uint64_t end;
    uint64_t cut; /* units that fall away in front */
    const uint8_t *at;
    const uint8_t *bytes_end;
    uint32_t update;
};

/* Every update waits in a sorted list until its first struct is due, and most are through then.
 * Only those that have more go on as cursors, in a heap that stays small. */
struct merge {
    const struct tp_slice *updates;
    size_t update_count;
    enum tp_dialect_form form;
    struct tp_ranges *starts; /* client, clock; `to` is the update, or behind them a late cursor */
    size_t next_start;
    struct cursor *late; /* the second and further cursors of updates that are out of order */
    size_t late_count;
    struct cursor *heap;
    size_t count, room;
    int64_t handled;
    struct held held;
    struct tp_blocks blocks;
};

static bool before(const struct cursor *a, const struct cursor *b)
{
    if (a->client != b->client)
        return a->client > b->client;
    if (a->clock != b->clock)
        return a->clock < b->clock;
    return a->seq < b->seq;
}

/* Puts `moving` at `hole` or below it. */
static void sift_down(struct cursor *heap, size_t count, size_t hole, struct cursor moving)
{
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= count)
            break;
        if (child + 1 < count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &moving))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = moving;
}

/* Puts `moving`, which is new, at `hole` or above it. */
static void sift_up(struct cursor *heap, size_t hole, struct cursor moving)
{
    for (; hole > 0 && before(&moving, &heap[(hole - 1) / 2]); hole = (hole - 1) / 2)
        heap[hole] = heap[(hole - 1) / 2];
    heap[hole] = moving;
}

static void save(struct cursor *cursor, const struct tp_walk *walk, const struct tp_struct *s)
{
    cursor->at = s->at;
    cursor->client = s->client;
    cursor->clock = s->clock;
    cursor->structs_left = (uint32_t)walk->structs_left + 1;
    cursor->blocks_left = (uint32_t)walk->blocks_left;
}

static void add_start(struct merge *merge, const struct tp_struct *s, uint64_t number)
{
    tp_ranges_push(merge->starts, s->client, s->clock, number);
}

static bool open_update(const struct merge *merge, uint32_t update, struct tp_walk *walk,
                        struct tp_struct *s)
{
    TP_ASSERT(tp_walk_open(walk, merge->updates[update], merge->form, &tp_update_limits_default));
    return tp_walk_next_real(walk, s);
}

/* The cursors of one update: one, or one for each run of blocks with descending clients. */
static void add_starts(struct merge *merge, uint32_t update, bool may_be_split)
{
    struct tp_walk walk;
    struct tp_struct s;

    if (!open_update(merge, update, &walk, &s))
        return;
    add_start(merge, &s, update);
    if (!may_be_split)
        return;

    uint64_t client = s.client;
    while (tp_walk_next_real(&walk, &s)) {
        if (walk.new_block && s.client >= client) {
            struct cursor *const cursor = &merge->late[merge->late_count++];
            *cursor =
                (struct cursor){.update = update, .blocks_behind = (uint32_t)walk.blocks_left + 1};
            save(cursor, &walk, &s);
            if (merge->late_count > 1 && cursor[-1].update == update)
                cursor[-1].blocks_left -= cursor->blocks_behind;
            add_start(merge, &s, merge->update_count + merge->late_count - 1);
        }
        client = s.client;
    }
}

/* An update that was split goes only as far as its first late cursor begins. */
static void end_early(const struct merge *merge, uint32_t update, struct tp_walk *walk)
{
    size_t low = 0;
    size_t high = merge->late_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (merge->late[middle].update < update)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < merge->late_count && merge->late[low].update == update)
        walk->blocks_left -= merge->late[low].blocks_behind;
}

static void emit(struct merge *merge)
{
    const struct held *const held = &merge->held;
    struct tp_blocks *const blocks = &merge->blocks;

    if (unlikely(blocks->client != held->client || blocks->struct_count == 0))
        tp_blocks_begin(blocks, held->client, held->clock);
    if (likely(held->plain && held->cut == 0 && !held->remade)) {
        tp_blocks_copy(blocks, held->at, held->bytes_end);
    } else if (held->remade || held->ref == TP_REF_GC) {
        tp_emit_range(held->ref, held->end - held->clock, tp_blocks_write(blocks));
    } else {
        const struct tp_slice update = merge->updates[held->update];
        struct tp_walk walk;
        struct tp_struct s;
        tp_walk_resume(&walk, held->at, update.data + update.size, merge->form, held->client,
                       held->clock - held->cut, 1, 0);
        TP_ASSERT(tp_walk_next(&walk, &s));
        tp_emit_struct(&s, held->cut, s.len, TP_CUT_REPLACE, tp_blocks_write(blocks));
    }
}

static void hold(struct merge *merge, const struct tp_struct *s, uint32_t update, uint64_t cut)
{
    merge->held = (struct held){
        .any = true,
        .ref = s->ref,
        .plain = s->plain,
        .client = s->client,
        .clock = s->clock + cut,
        .end = tp_struct_end(s),
        .cut = cut,
        .at = s->at,
        .bytes_end = s->end,
        .update = update,
    };
}

/* One step of section 7.2: `s` is what the walk stands at, of `update`. False: it is through. */
static bool step(struct merge *merge, uint32_t update, struct tp_walk *walk, struct tp_struct *s)
{
    struct held *const held = &merge->held;
    const uint64_t client = s->client;
    bool any = true;

    if (held->any) {
        bool moved = false;
        while (any && tp_struct_end(s) <= held->end && s->client >= held->client) {
            any = tp_walk_next_real(walk, s);
            moved = true;
        }
        if (!any || s->client != client || (moved && s->clock > held->end))
            return any;
        if (client != held->client) {
            emit(merge);
            hold(merge, s, update, 0);
            any = tp_walk_next_real(walk, s);
        } else if (held->end < s->clock) {
            emit(merge);
            *held = (struct held){.any = true,
                                  .ref = TP_REF_SKIP,
                                  .remade = true,
                                  .client = client,
                                  .clock = held->end,
                                  .end = s->clock};
        } else if (held->ref == TP_REF_GC && s->ref == TP_REF_GC) {
            held->end = tp_struct_end(s);
            held->remade = true;
        } else {
            const uint64_t cut = held->end - s->clock;
            emit(merge);
            hold(merge, s, update, cut);
            any = tp_walk_next_real(walk, s);
        }
    } else {
        hold(merge, s, update, 0);
        any = tp_walk_next_real(walk, s);
    }
    while (any && s->client == client && s->clock == held->end) {
        emit(merge);
        hold(merge, s, update, 0);
        any = tp_walk_next_real(walk, s);
    }
    return any;
}

static void resume(const struct merge *merge, const struct cursor *cursor, struct tp_walk *walk,
                   struct tp_struct *s)
{
    const struct tp_slice update = merge->updates[cursor->update];

    tp_walk_resume(walk, cursor->at, update.data + update.size, merge->form, cursor->client,
                   cursor->clock, cursor->structs_left, cursor->blocks_left);
    TP_ASSERT(tp_walk_next(walk, s));
}

/* Updates lie anywhere in memory: asked for early, first where they are, then themselves. */
static void fetch_ahead(const struct merge *merge)
{
    const size_t ahead = merge->next_start + TP_AHEAD;
    const struct tp_range *const items = merge->starts->items;

    if (ahead + TP_AHEAD >= merge->starts->count)
        return;
    if (items[ahead].to < merge->update_count)
        __builtin_prefetch(merge->updates[items[ahead].to].data);
    if (items[ahead + TP_AHEAD].to < merge->update_count)
        __builtin_prefetch(&merge->updates[items[ahead + TP_AHEAD].to]);
}

/* The update, or the late cursor, at the head of the list of starts. */
static void run_start(struct merge *merge)
{
    const uint64_t number = merge->starts->items[merge->next_start++].to;
    struct cursor cursor = {.update = (uint32_t)number};
    struct tp_walk walk;
    struct tp_struct s;

    fetch_ahead(merge);
    if (number < merge->update_count) {
        TP_ASSERT(open_update(merge, cursor.update, &walk, &s));
        if (merge->late_count > 0)
            end_early(merge, cursor.update, &walk);
    } else {
        cursor = merge->late[number - merge->update_count];
        resume(merge, &cursor, &walk, &s);
    }
    if (!step(merge, cursor.update, &walk, &s))
        return;
    save(&cursor, &walk, &s);
    cursor.seq = -++merge->handled;
    if (merge->count == merge->room) {
        merge->room = merge->room == 0 ? HEAP_ROOM_FIRST : merge->room * 2;
        merge->heap = realloc(merge->heap, merge->room * sizeof *merge->heap);
        TP_ASSERT(merge->heap != NULL);
    }
    sift_up(merge->heap, merge->count++, cursor);
}

static void run_cursor(struct merge *merge)
{
    struct cursor cursor = merge->heap[0];
    struct tp_walk walk;
    struct tp_struct s;

    resume(merge, &cursor, &walk, &s);
    if (step(merge, cursor.update, &walk, &s)) {
        save(&cursor, &walk, &s);
        cursor.seq = -++merge->handled;
        sift_down(merge->heap, merge->count, 0, cursor);
    } else if (--merge->count > 0) {
        sift_down(merge->heap, merge->count, 0, merge->heap[merge->count]);
    }
}

/* Is a cursor due rather than the next start? Cursors come first among equals. */
static bool cursor_is_due(const struct merge *merge)
{
    if (merge->count == 0)
        return false;
    if (merge->next_start == merge->starts->count)
        return true;
    const struct tp_range *const start = &merge->starts->items[merge->next_start];
    if (merge->heap[0].client != start->client)
        return merge->heap[0].client > start->client;
    return merge->heap[0].clock <= start->from;
}

static void reverse(struct tp_range *items, size_t from, size_t to)
{
    while (from + 1 < to) {
        const struct tp_range swap = items[from];
        items[from++] = items[--to];
        items[to] = swap;
    }
}

/* The first `count` of `end` items go behind the others. */
static void turn(struct tp_range *items, size_t count, size_t end)
{
    if (count == 0 || count == end)
        return;
    reverse(items, 0, count);
    reverse(items, count, end);
    reverse(items, 0, end);
}

enum tp_status tp_gather_merge(struct tp_gather *gather, const struct tp_slice *updates,
                               size_t count, enum tp_dialect_form form, struct tp_buffer *out)
{
    struct merge merge = {
        .updates = updates,
        .update_count = count,
        .form = form == TP_FORM_V1 ? TP_FORM_V1_TRUSTED : form, /* gathering has checked them */
    };

    for (size_t i = 0; i < count; i++)
        if (updates[i].size > UINT32_MAX)
            return TP_FULL; /* cursors count with 32 bits */
    if (count > UINT32_MAX)
        return TP_FULL;
    merge.starts = &gather->starts;
    merge.late = malloc((gather->split_count + 1) * sizeof *merge.late);
    TP_ASSERT(merge.late != NULL);
    /* Gathering has noted where updates start from when it gave up; not so where they are split. */
    size_t missing = gather->starts_from;
    if (gather->split_count > 0) {
        gather->starts.count = 0;
        missing = count;
    }
    const size_t noted = gather->starts.count;
    for (size_t i = 0; i < missing; i++)
        add_starts(&merge, (uint32_t)i, gather->split_count > 0);
    turn(gather->starts.items, noted, gather->starts.count); /* equals keep the updates' order */
    tp_ranges_order(merge.starts);

    tp_blocks_init(&merge.blocks, out);
    for (;;) {
        if (cursor_is_due(&merge))
            run_cursor(&merge);
        else if (merge.next_start < merge.starts->count)
            run_start(&merge);
        else
            break;
    }
    if (merge.held.any)
        emit(&merge);
    tp_blocks_close(&merge.blocks);
    tp_blocks_finish(&merge.blocks);
    free(merge.late);
    free(merge.heap);
    tp_ranges_sort(&gather->deletes);
    tp_ranges_write_v1(&gather->deletes, out);
    return out->full ? TP_FULL : TP_OK;
}

enum tp_status tp_merge(const struct tp_slice *updates, size_t count, enum tp_dialect_form form,
                        struct tp_buffer *out)
{
    struct tp_gather gather;
    enum tp_status status = TP_OK;

    tp_gather_init(&gather);
    for (size_t i = 0; i < count && status == TP_OK; i++) {
        if (i + TP_AHEAD < count)
            __builtin_prefetch(updates[i + TP_AHEAD].data);
        status = tp_gather_add(&gather, updates[i], form);
    }
    if (status == TP_OK && count == 1 && gather.normal)
        tp_write_raw(out, updates[0]);
    else if (status == TP_OK && gather.appending)
        tp_gather_write(&gather, out);
    else if (status == TP_OK)
        status = tp_gather_merge(&gather, updates, count, form, out);
    tp_gather_finish(&gather);
    return status == TP_OK && out->full ? TP_FULL : status;
}
