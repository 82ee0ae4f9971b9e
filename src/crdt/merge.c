#include "crdt/merge.h"

/* Stands at a struct that is no Skip. */
struct cursor {
    const uint8_t *at;
    uint64_t client;
    uint64_t clock;
    int64_t seq; /* the last to be handled comes first among equals */
    uint32_t structs_left;
    uint32_t blocks_left;
    uint32_t update;
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

struct merge {
    const struct tp_slice *updates;
    enum tp_dialect_form form;
    struct cursor *heap;
    size_t count;
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

static void save(struct cursor *cursor, const struct tp_walk *walk, const struct tp_struct *s)
{
    cursor->at = s->at;
    cursor->client = s->client;
    cursor->clock = s->clock;
    cursor->structs_left = (uint32_t)walk->structs_left + 1;
    cursor->blocks_left = (uint32_t)walk->blocks_left;
}

/* The cursors of one update: one, or one for each run of blocks with descending clients. */
static void add_cursors(struct merge *merge, uint32_t update, bool may_be_split)
{
    struct tp_walk walk;
    struct tp_struct s;

    TP_ASSERT(tp_walk_open(&walk, merge->updates[update], merge->form, &tp_update_limits_default));
    walk.root_name_size_max = UINT32_MAX;
    if (!tp_walk_next_real(&walk, &s))
        return;
    struct cursor *cursor = &merge->heap[merge->count++];
    *cursor = (struct cursor){.update = update, .seq = update};
    save(cursor, &walk, &s);
    if (!may_be_split)
        return;

    uint64_t client = s.client;
    while (tp_walk_next_real(&walk, &s)) {
        if (walk.new_block && s.client >= client) {
            cursor->blocks_left -= (uint32_t)walk.blocks_left + 1; /* it ends before this block */
            cursor = &merge->heap[merge->count++];
            *cursor = (struct cursor){.update = update, .seq = update};
            save(cursor, &walk, &s);
        }
        client = s.client;
    }
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

/* One step of section 7.2 with the first cursor of the heap. */
static void step(struct merge *merge)
{
    struct cursor cursor = merge->heap[0];
    struct held *const held = &merge->held;
    const struct tp_slice update = merge->updates[cursor.update];
    const uint64_t client = cursor.client;
    struct tp_walk walk;
    struct tp_struct s;
    bool any;

    tp_walk_resume(&walk, cursor.at, update.data + update.size, merge->form, client, cursor.clock,
                   cursor.structs_left, cursor.blocks_left);
    any = tp_walk_next(&walk, &s);
    TP_ASSERT(any);
    if (held->any) {
        bool moved = false;
        while (any && tp_struct_end(&s) <= held->end && s.client >= held->client) {
            any = tp_walk_next_real(&walk, &s);
            moved = true;
        }
        if (!any || s.client != client || (moved && s.clock > held->end))
            goto again;
        if (client != held->client) {
            emit(merge);
            hold(merge, &s, cursor.update, 0);
            any = tp_walk_next_real(&walk, &s);
        } else if (held->end < s.clock) {
            emit(merge);
            *held = (struct held){.any = true,
                                  .ref = TP_REF_SKIP,
                                  .remade = true,
                                  .client = client,
                                  .clock = held->end,
                                  .end = s.clock};
        } else if (held->ref == TP_REF_GC && s.ref == TP_REF_GC) {
            held->end = tp_struct_end(&s);
            held->remade = true;
        } else {
            const uint64_t cut = held->end - s.clock;
            emit(merge);
            hold(merge, &s, cursor.update, cut);
            any = tp_walk_next_real(&walk, &s);
        }
    } else {
        hold(merge, &s, cursor.update, 0);
        any = tp_walk_next_real(&walk, &s);
    }
    while (any && s.client == client && s.clock == held->end) {
        emit(merge);
        hold(merge, &s, cursor.update, 0);
        any = tp_walk_next_real(&walk, &s);
    }

again:
    if (any) {
        save(&cursor, &walk, &s);
        cursor.seq = -++merge->handled;
        sift_down(merge->heap, merge->count, 0, cursor);
    } else if (--merge->count > 0) {
        sift_down(merge->heap, merge->count, 0, merge->heap[merge->count]);
    }
}

enum tp_status tp_gather_merge(struct tp_gather *gather, const struct tp_slice *updates,
                               size_t count, enum tp_dialect_form form, struct tp_buffer *out)
{
    struct merge merge = {
        .updates = updates,
        .form = form == TP_FORM_V1 ? TP_FORM_V1_TRUSTED : form, /* gathering has checked them */
    };

    for (size_t i = 0; i < count; i++)
        if (updates[i].size > UINT32_MAX)
            return TP_FULL; /* cursors count with 32 bits */
    if (count > UINT32_MAX)
        return TP_FULL;
    merge.heap = malloc((count + gather->split_count + 1) * sizeof *merge.heap);
    TP_ASSERT(merge.heap != NULL);
    tp_blocks_init(&merge.blocks, out);
    for (size_t i = 0; i < count; i++)
        add_cursors(&merge, (uint32_t)i, gather->split_count > 0);
    TP_ASSERT(merge.count <= count + gather->split_count);
    for (size_t i = merge.count / 2; i-- > 0;)
        sift_down(merge.heap, merge.count, i, merge.heap[i]);

    while (merge.count > 0)
        step(&merge);
    if (merge.held.any)
        emit(&merge);

    tp_blocks_close(&merge.blocks);
    tp_blocks_finish(&merge.blocks);
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
    for (size_t i = 0; i < count && status == TP_OK; i++)
        status = tp_gather_add(&gather, updates[i], form);
    if (status == TP_OK && count == 1 && gather.normal)
        tp_write_raw(out, updates[0]);
    else if (status == TP_OK && gather.appending)
        tp_gather_write(&gather, out);
    else if (status == TP_OK)
        status = tp_gather_merge(&gather, updates, count, form, out);
    tp_gather_finish(&gather);
    return status == TP_OK && out->full ? TP_FULL : status;
}
