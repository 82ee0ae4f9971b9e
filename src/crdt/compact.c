/* Garbage collection at rest: the transformation K of spec 04 section 10.1, steps by number. */
#include "crdt/emit.h"
#include "crdt/index.h"
#include "crdt/v2.h"

/* A link of `s` within the index; most are to its own client. */
static uint32_t find(const struct tp_index *index, const struct tp_block *own, struct tp_id id)
{
    return id.client == own->client ? tp_block_find(index, own, id.clock)
                                    : tp_index_find(index, id);
}

/* Follows neighbours to one whose parent is known, and tells it to all on the way. The chain is as
 * long as the document may be, so it is walked twice instead of remembered. */
static void follow(struct tp_record *records, uint32_t start)
{
    uint32_t at = start;

    while (records[at].flags & TP_RECORD_FOLLOWS && !(records[at].flags & TP_RECORD_WALKED)) {
        records[at].flags |= TP_RECORD_WALKED;
        at = records[at].parent;
    }
    const bool circle = records[at].flags & TP_RECORD_WALKED;
    const uint32_t parent = circle ? TP_RECORD_NONE : records[at].parent;
    for (at = start; records[at].flags & TP_RECORD_FOLLOWS;) {
        const uint32_t next = records[at].parent;
        records[at].parent = parent;
        records[at].flags &= (uint8_t) ~(TP_RECORD_FOLLOWS | TP_RECORD_WALKED);
        at = next;
    }
}

/* Step 4: what each item is in. */
static void find_parents(struct tp_index *index, const struct tp_normal *normal)
{
    struct tp_record *const records = index->records;
    const struct tp_block *block = NULL;
    size_t next_block = 0;
    struct tp_walk walk;
    struct tp_struct s;
    uint32_t at = 0;

    tp_normal_walk(normal, &walk);
    while (tp_walk_next(&walk, &s)) {
        if (walk.new_block) {
            block = &index->blocks[next_block++];
            at = block->first;
        }
        TP_ASSERT(block != NULL); /* the first struct begins a block */
        const uint32_t first = at;
        while (records[at].clock < tp_struct_end(&s))
            at++;
        if (s.ref == TP_REF_GC || s.ref == TP_REF_SKIP)
            continue;
        struct tp_record *const record = &records[first];
        if (s.info & TP_INFO_LINKED) {
            const uint32_t neighbour =
                find(index, block, s.info & TP_INFO_ORIGIN ? s.origin : s.right);
            if (neighbour == TP_RECORD_NONE) {
                record->parent = TP_RECORD_NONE;
            } else if (records[neighbour].ref == TP_REF_GC) {
                record->parent = TP_RECORD_IN_GC;
            } else if (neighbour < first && !(records[neighbour].flags & TP_RECORD_FOLLOWS)) {
                record->parent = records[neighbour].parent;
            } else {
                record->parent = neighbour;
                record->flags |= TP_RECORD_FOLLOWS;
            }
        } else if (s.root.data != NULL) {
            record->parent = TP_RECORD_ROOT;
        } else {
            record->parent = find(index, block, s.parent);
        }
        for (uint32_t part = first + 1; part < at; part++) {
            records[part].parent = record->flags & TP_RECORD_FOLLOWS ? first : record->parent;
            records[part].flags |= record->flags & TP_RECORD_FOLLOWS;
        }
    }
    for (uint32_t i = 0; i < index->record_count; i++)
        if (records[i].flags & TP_RECORD_FOLLOWS)
            follow(records, i);
}

/* Step 5, for one item: goes up while parents are alive and not judged. */
static void judge(struct tp_record *records, uint32_t start)
{
    uint32_t at = start;
    bool doomed;

    for (;;) {
        records[at].flags |= TP_RECORD_WALKED;
        const uint32_t parent = records[at].parent;
        if (parent == TP_RECORD_ROOT || parent == TP_RECORD_NONE) {
            doomed = false;
            break;
        }
        if (parent == TP_RECORD_IN_GC || records[parent].ref == TP_REF_GC ||
            records[parent].flags & TP_RECORD_DEAD) {
            doomed = true;
            break;
        }
        if (records[parent].flags & TP_RECORD_JUDGED) {
            doomed = records[parent].flags & TP_RECORD_DOOMED;
            break;
        }
        if (records[parent].flags & TP_RECORD_WALKED) {
            doomed = false; /* a circle of parents */
            break;
        }
        at = parent;
    }
    const uint8_t verdict = (uint8_t)(TP_RECORD_JUDGED | (doomed ? TP_RECORD_DOOMED : 0));
    for (at = start; records[at].flags & TP_RECORD_WALKED; at = records[at].parent) {
        records[at].flags = (uint8_t)((records[at].flags & ~TP_RECORD_WALKED) | verdict);
        if (records[at].parent >= TP_RECORD_IN_GC)
            break;
    }
}

/* Steps 5 and 6: which items go with their parents. Returns true if the guard held them back. */
static bool doom(struct tp_index *index, const struct tp_normal *normal)
{
    struct tp_record *const records = index->records;
    const struct tp_block *block;
    struct tp_ranges doomed;
    struct tp_walk walk;
    struct tp_struct s;
    bool guarded = false;

    tp_ranges_init(&doomed);
    for (block = index->blocks; block < index->blocks + index->block_count; block++)
        for (uint32_t i = block->first; i < block->first + block->count; i++) {
            if (records[i].ref == TP_REF_GC || records[i].ref == TP_REF_SKIP)
                continue;
            if (!(records[i].flags & TP_RECORD_JUDGED))
                judge(records, i);
            if (records[i].flags & TP_RECORD_DOOMED)
                tp_ranges_add(&doomed, block->client, records[i].clock, records[i + 1].clock);
        }

    if (doomed.count > 0) {
        uint32_t at = 0;
        size_t next_block = 0;
        tp_normal_walk(normal, &walk);
        while (!guarded && tp_walk_next(&walk, &s)) {
            if (walk.new_block) {
                at = index->blocks[next_block++].first;
            }
            const bool is_doomed = records[at].flags & TP_RECORD_DOOMED;
            while (records[at].clock < tp_struct_end(&s))
                at++;
            if (s.ref == TP_REF_GC || s.ref == TP_REF_SKIP || is_doomed)
                continue;
            const struct tp_id links[] = {s.origin, s.right};
            for (unsigned i = 0; i < 2; i++) {
                if (!(s.info & (i == 0 ? TP_INFO_ORIGIN : TP_INFO_RIGHT)))
                    continue;
                const size_t place = tp_ranges_find(&doomed, links[i].client, links[i].clock);
                guarded |= place < doomed.count && doomed.items[place].client == links[i].client &&
                           doomed.items[place].from <= links[i].clock;
            }
        }
    }
    if (guarded)
        for (uint32_t i = 0; i < index->record_count; i++)
            records[i].flags &= (uint8_t)~TP_RECORD_DOOMED;
    tp_ranges_finish(&doomed);
    return guarded;
}

/* Neighbours that become one struct. Its content is gathered only when there is a second. */
struct run {
    struct tp_struct left; /* has the links */
    uint8_t ref;           /* as it is written */
    uint64_t from;         /* units of `left` that fall away in front */
    uint64_t to;
    uint64_t end; /* clock */
    uint64_t part_count;
    struct tp_buffer units; /* content of all parts, if there are several */
};

static void write_run(struct run *run, struct tp_blocks *blocks)
{
    const struct tp_struct *const left = &run->left;
    const uint64_t len = run->end - left->clock - run->from;

    if (run->part_count == 0)
        return;
    if (run->ref == TP_REF_GC || run->ref == TP_REF_SKIP) {
        tp_emit_range(run->ref, len, tp_blocks_write(blocks));
    } else if (run->ref == TP_REF_DELETED) {
        struct tp_buffer *const out = tp_blocks_write(blocks);
        tp_emit_links(left, run->from, TP_REF_DELETED, out);
        tp_write_varuint(out, len);
    } else if (run->part_count > 1) {
        struct tp_buffer *const out = tp_blocks_write(blocks);
        tp_emit_links(left, run->from, run->ref, out);
        tp_write_varuint(out, run->ref == TP_REF_STRING ? run->units.size : len);
        tp_write_raw(out, tp_buffer_slice(&run->units));
    } else if (left->plain && run->from == 0 && run->to == left->len) {
        tp_blocks_copy(blocks, left->at, left->end);
    } else {
        tp_emit_struct(left, run->from, run->to, TP_CUT_REPLACE, tp_blocks_write(blocks));
    }
    run->part_count = 0;
}

static bool same_id(struct tp_id a, struct tp_id b)
{
    return a.client == b.client && a.clock == b.clock;
}

/* Step 9: is the part [from, ...) of `s` one with what the run holds? */
static inline bool continues(const struct run *run, const struct tp_struct *s, uint64_t from,
                             uint8_t ref)
{
    if (run->part_count == 0 || run->ref != ref)
        return false;
    if (ref == TP_REF_GC)
        return true;
    if (ref != TP_REF_DELETED && ref != TP_REF_JSON && ref != TP_REF_STRING && ref != TP_REF_ANY)
        return false;
    if (from == 0 && !((s->info & TP_INFO_ORIGIN) && s->origin.client == s->client &&
                       s->origin.clock == run->end - 1))
        return false;
    if ((s->info ^ run->left.info) & TP_INFO_RIGHT)
        return false;
    return !(s->info & TP_INFO_RIGHT) || same_id(s->right, run->left.right);
}

static inline void add_part(struct run *run, const struct tp_struct *s, uint64_t from, uint64_t to,
                            uint8_t ref, struct tp_blocks *blocks)
{
    if (continues(run, s, from, ref)) {
        if (ref != TP_REF_GC && ref != TP_REF_DELETED) {
            if (run->part_count == 1) {
                run->units.size = 0;
                tp_emit_units(&run->left, run->from, run->to, TP_CUT_REPLACE, &run->units);
            }
            tp_emit_units(s, from, to, TP_CUT_REPLACE, &run->units);
        }
        run->part_count++;
    } else {
        write_run(run, blocks);
        run->left = *s;
        run->ref = ref;
        run->from = from;
        run->to = to;
        run->part_count = 1;
    }
    run->end = s->clock + to;
}

/* Steps 7 to 10. `deletes` grows by what is only marked in the structs. */
static void write_result(const struct tp_index *index, const struct tp_normal *normal,
                         struct tp_ranges *deletes, struct tp_buffer *out)
{
    const struct tp_record *const records = index->records;
    size_t next_block = 0;
    struct tp_blocks blocks;
    struct run run = {.units = tp_buffer_growing(SIZE_MAX)};
    struct tp_walk walk;
    struct tp_struct s;
    uint32_t at = 0;

    tp_blocks_init(&blocks, out);
    tp_normal_walk(normal, &walk);
    while (tp_walk_next(&walk, &s)) {
        if (walk.new_block) {
            write_run(&run, &blocks);
            tp_blocks_begin(&blocks, s.client, s.clock);
            at = index->blocks[next_block++].first;
        }
        const uint64_t end = tp_struct_end(&s);
        for (; records[at].clock < end; at++) {
            const struct tp_record *const part = &records[at];
            const uint64_t part_end = records[at + 1].clock;
            uint8_t ref = s.ref;
            if (part->flags & TP_RECORD_DOOMED)
                ref = TP_REF_GC;
            else if (part->flags & TP_RECORD_DEAD)
                ref = TP_REF_DELETED;
            if ((ref == TP_REF_GC || ref == TP_REF_DELETED) && !(part->flags & TP_RECORD_COVERED))
                tp_ranges_add(deletes, s.client, part->clock, part_end);
            add_part(&run, &s, part->clock - s.clock, part_end - s.clock, ref, &blocks);
        }
    }
    write_run(&run, &blocks);
    tp_blocks_close(&blocks);
    tp_blocks_finish(&blocks);
    tp_buffer_finish(&run.units);
    tp_ranges_sort(deletes);
    tp_ranges_write_v1(deletes, out);
}

enum tp_status tp_update_compact(struct tp_slice update, enum tp_update_encoding encoding,
                                 struct tp_buffer *out, bool *was_guarded)
{
    struct tp_normal normal;
    struct tp_ranges deletes;
    struct tp_index index = {0};
    struct tp_walk walk;
    struct tp_struct s;
    bool guarded = false;
    enum tp_status status = tp_normal_init(&normal, update, encoding);

    tp_ranges_init(&deletes);
    if (status == TP_OK) {
        tp_normal_walk(&normal, &walk);
        while (tp_walk_next(&walk, &s))
            continue;
        tp_normal_deletes(&walk, &deletes);
        status = tp_index_init(&index, &normal, &deletes);
    }
    if (status == TP_OK) {
        /* Only a GC, or a dead struct that something names as its parent, can doom others. */
        if (index.any_gc || (index.any_dead && index.any_parent_id)) {
            find_parents(&index, &normal);
            guarded = doom(&index, &normal);
        }
        if (encoding == TP_UPDATE_V1) {
            write_result(&index, &normal, &deletes, out);
        } else {
            struct tp_buffer result = tp_buffer_growing(SIZE_MAX);
            write_result(&index, &normal, &deletes, &result);
            status = tp_v2_write(tp_buffer_slice(&result), TP_FORM_X, out);
            tp_buffer_finish(&result);
        }
    }
    tp_index_finish(&index);
    tp_ranges_finish(&deletes);
    tp_normal_finish(&normal);
    if (was_guarded != NULL)
        *was_guarded = guarded;
    return status == TP_OK && out->full ? TP_FULL : status;
}
