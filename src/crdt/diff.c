#include "crdt/diff.h"

#include "crdt/merge.h"

/* What the functions here need is that clients are descending. They find out while they work; if
 * it is not so, the output is thrown away and made anew from the normal form. */
struct task {
    struct tp_state_vector known; /* to the peer that asks for a diff */
};

typedef enum tp_status task_run(struct task *task, struct tp_slice update,
                                enum tp_dialect_form form, struct tp_buffer *out, bool *ordered);

static enum tp_status in_order(task_run *run, struct task *task, struct tp_slice update,
                               enum tp_dialect_form form, struct tp_buffer *out)
{
    const size_t start = out->size;
    bool ordered = true;
    enum tp_status status = run(task, update, form, out, &ordered);

    if (status != TP_OK || ordered)
        return status;
    struct tp_buffer normal = tp_buffer_growing(SIZE_MAX);
    out->size = start;
    status = tp_merge(&update, 1, form, &normal);
    if (status == TP_OK)
        status = run(task, tp_buffer_slice(&normal), form, out, &ordered);
    tp_buffer_finish(&normal);
    return status;
}

/* The delete set behind the structs, in normal form. */
static enum tp_status copy_deletes(struct tp_walk *walk, struct tp_buffer *out)
{
    const uint8_t *const start = walk->at;
    struct tp_deletes_info info;
    struct tp_ranges ranges;

    if (!tp_walk_deletes(walk, NULL, &info))
        return TP_MALFORMED;
    if (info.normal) {
        tp_buffer_append(out, start, (size_t)(walk->at - start));
        return TP_OK;
    }
    tp_ranges_init(&ranges);
    walk->at = start;
    TP_ASSERT(tp_walk_deletes(walk, &ranges, &info));
    tp_ranges_sort(&ranges);
    tp_ranges_write_v1(&ranges, out);
    tp_ranges_finish(&ranges);
    return TP_OK;
}

/* Ends an update: the number of blocks and the delete set. */
static enum tp_status close_update(struct tp_walk *walk, struct tp_blocks *blocks)
{
    enum tp_status status = TP_MALFORMED;

    tp_blocks_close(blocks);
    if (walk->error == NULL)
        status = copy_deletes(walk, blocks->out);
    tp_blocks_finish(blocks);
    return status == TP_OK && blocks->out->full ? TP_FULL : status;
}

/* A peer's clock of `client`, asked for clients in descending order. */
static uint64_t known_clock(const struct tp_state_vector *known, uint32_t *at, uint64_t client)
{
    while (*at < known->count && known->entries[*at].client > client)
        (*at)++;
    if (*at == known->count || known->entries[*at].client != client)
        return 0;
    return known->entries[*at].clock;
}

static enum tp_status diff(struct task *task, struct tp_slice update, enum tp_dialect_form form,
                           struct tp_buffer *out, bool *ordered)
{
    const enum tp_cut cut = form == TP_FORM_X ? TP_CUT_HALVE : TP_CUT_REPLACE;
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_blocks blocks;
    uint32_t known_at = 0;
    uint64_t from = 0;
    bool begun = false;

    if (!tp_walk_open(&walk, update, form, &tp_update_limits_default))
        return TP_MALFORMED;
    tp_blocks_init(&blocks, out);
    while (tp_walk_next(&walk, &s)) {
        if (unlikely(walk.new_block)) {
            from = known_clock(&task->known, &known_at, s.client);
            begun = false;
        }
        if (likely(begun)) {
            tp_blocks_add(&blocks, &s);
            continue;
        }
        if (s.ref == TP_REF_SKIP || tp_struct_end(&s) <= from)
            continue;
        begun = true;
        tp_blocks_begin(&blocks, s.client, from > s.clock ? from : s.clock);
        if (from > s.clock)
            tp_emit_struct(&s, from - s.clock, s.len, cut, tp_blocks_write(&blocks));
        else
            tp_blocks_add(&blocks, &s);
    }
    *ordered = walk.ordered;
    return close_update(&walk, &blocks);
}

enum tp_status tp_diff(struct tp_slice update, enum tp_dialect_form form, struct tp_slice sv,
                       struct tp_buffer *out)
{
    struct task task = {0};
    enum tp_status status = tp_state_vector_decode(&task.known, sv);

    if (status == TP_OK)
        status = in_order(diff, &task, update, form, out);
    tp_state_vector_finish(&task.known);
    return status;
}

static enum tp_status rewrite(struct task *task, struct tp_slice update, enum tp_dialect_form form,
                              struct tp_buffer *out, bool *ordered)
{
    struct tp_walk walk;
    struct tp_struct s;
    struct tp_blocks blocks;
    uint64_t skipped = 0; /* Skips that open a block wait for a struct to stand before */
    uint64_t skipped_from = 0;
    bool begun = false;

    (void)task;
    if (!tp_walk_open(&walk, update, form, &tp_update_limits_default))
        return TP_MALFORMED;
    tp_blocks_init(&blocks, out);
    while (tp_walk_next(&walk, &s)) {
        if (unlikely(walk.new_block)) {
            begun = false;
            skipped = 0;
        }
        if (unlikely(!begun)) {
            if (s.ref == TP_REF_SKIP) {
                if (skipped == 0)
                    skipped_from = s.clock;
                skipped += s.len;
                continue;
            }
            begun = true;
            tp_blocks_begin(&blocks, s.client, skipped > 0 ? skipped_from : s.clock);
            if (skipped > 0)
                tp_emit_range(TP_REF_SKIP, skipped, tp_blocks_write(&blocks));
        }
        tp_blocks_add(&blocks, &s);
    }
    *ordered = walk.ordered;
    return close_update(&walk, &blocks);
}

enum tp_status tp_rewrite(struct tp_slice update, enum tp_dialect_form form, struct tp_buffer *out)
{
    struct task task = {0};

    return in_order(rewrite, &task, update, form, out);
}

static enum tp_status known_clocks(struct task *task, struct tp_slice update,
                                   enum tp_dialect_form form, struct tp_buffer *out, bool *ordered)
{
    uint8_t memory[256];
    struct tp_buffer entries = tp_buffer_starting(memory, sizeof memory, SIZE_MAX);
    struct tp_deletes_info deletes;
    struct tp_walk walk;
    struct tp_struct s;
    uint64_t client = 0;
    uint64_t clock = 0;
    uint64_t count = 0;
    bool holed = true;

    (void)task;
    if (!tp_walk_open(&walk, update, form, &tp_update_limits_default))
        return TP_MALFORMED;
    for (;;) {
        const bool any = tp_walk_next(&walk, &s);
        if (unlikely(!any || walk.new_block)) {
            if (clock > 0) {
                tp_write_varuint(&entries, client);
                tp_write_varuint(&entries, clock);
                count++;
            }
            if (!any)
                break;
            client = s.client;
            clock = 0;
            holed = s.clock > 0;
        }
        holed |= s.ref == TP_REF_SKIP;
        if (likely(!holed))
            clock = tp_struct_end(&s);
    }
    *ordered = walk.ordered;
    const bool valid = walk.error == NULL && tp_walk_deletes(&walk, NULL, &deletes);
    tp_write_varuint(out, count);
    tp_write_raw(out, tp_buffer_slice(&entries));
    tp_buffer_finish(&entries);
    return !valid ? TP_MALFORMED : out->full ? TP_FULL : TP_OK;
}

enum tp_status tp_known_clocks(struct tp_slice update, enum tp_dialect_form form,
                               struct tp_buffer *out)
{
    struct task task = {0};

    return in_order(known_clocks, &task, update, form, out);
}
