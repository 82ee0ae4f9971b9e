#include "crdt/index.h"

void tp_index_finish(struct tp_index *index)
{
    free(index->records);
    free(index->blocks);
    *index = (struct tp_index){0};
}

static struct tp_record *add_record(struct tp_index *index, uint64_t clock, uint8_t ref,
                                    uint8_t flags)
{
    if (index->record_count == index->record_room) {
        index->record_room = index->record_room == 0 ? 64 : index->record_room * 2;
        index->records = realloc(index->records, index->record_room * sizeof *index->records);
        TP_ASSERT(index->records != NULL);
    }
    struct tp_record *const record = &index->records[index->record_count++];
    *record =
        (struct tp_record){.clock = clock, .parent = TP_RECORD_NONE, .ref = ref, .flags = flags};
    return record;
}

static void begin_block(struct tp_index *index, uint64_t client, uint64_t clock)
{
    if (index->block_count == index->block_room) {
        index->block_room = index->block_room == 0 ? 8 : index->block_room * 2;
        index->blocks = realloc(index->blocks, index->block_room * sizeof *index->blocks);
        TP_ASSERT(index->blocks != NULL);
    }
    index->blocks[index->block_count++] =
        (struct tp_block){.client = client, .clock = clock, .first = (uint32_t)index->record_count};
}

static void end_block(struct tp_index *index, uint64_t end)
{
    if (index->block_count == 0)
        return;
    struct tp_block *const block = &index->blocks[index->block_count - 1];
    block->end = end;
    block->count = (uint32_t)(index->record_count - block->first);
    add_record(index, end, TP_RECORD_END, 0);
}

/* The parts of an item: each is covered by a delete range as a whole, or not at all. `at` is the
 * first range that may touch it, and is moved on. */
static void add_parts(struct tp_index *index, const struct tp_struct *s,
                      const struct tp_ranges *deletes, size_t *at)
{
    const uint8_t dead = s->ref == TP_REF_DELETED ? TP_RECORD_DEAD : 0;
    const uint64_t end = tp_struct_end(s);
    uint64_t clock = s->clock;

    while (*at < deletes->count &&
           (deletes->items[*at].client > s->client ||
            (deletes->items[*at].client == s->client && deletes->items[*at].to <= clock)))
        ++*at;
    while (clock < end) {
        const struct tp_range *const range = *at < deletes->count ? &deletes->items[*at] : NULL;
        if (range == NULL || range->client != s->client || range->from >= end) {
            add_record(index, clock, s->ref, dead);
            return;
        }
        if (range->from > clock) {
            add_record(index, clock, s->ref, dead);
            clock = range->from;
        }
        add_record(index, clock, s->ref, TP_RECORD_DEAD | TP_RECORD_COVERED);
        index->any_dead = true;
        clock = range->to;
        if (clock < end)
            ++*at;
    }
}

enum tp_status tp_index_init(struct tp_index *index, const struct tp_normal *normal,
                             const struct tp_ranges *deletes)
{
    static const struct tp_ranges none = {.sorted = true};
    struct tp_walk walk;
    struct tp_struct s;
    size_t delete_at = 0;
    uint64_t end = 0;

    *index = (struct tp_index){0};
    if (deletes == NULL)
        deletes = &none;
    tp_normal_walk(normal, &walk);
    while (tp_walk_next(&walk, &s)) {
        if (walk.new_block) {
            end_block(index, end);
            begin_block(index, s.client, s.clock);
        }
        end = tp_struct_end(&s);
        if (s.ref == TP_REF_GC || s.ref == TP_REF_SKIP) {
            index->any_gc |= s.ref == TP_REF_GC;
            add_record(index, s.clock, s.ref, 0);
        } else {
            index->any_parent_id |= !(s.info & TP_INFO_LINKED) && s.root.data == NULL;
            index->any_dead |= s.ref == TP_REF_DELETED;
            add_parts(index, &s, deletes, &delete_at);
        }
        if (index->record_count >= TP_RECORD_COUNT_MAX / 2)
            return TP_FULL;
    }
    end_block(index, end);
    return TP_OK;
}

const struct tp_block *tp_index_block(const struct tp_index *index, uint64_t client)
{
    size_t low = 0;
    size_t high = index->block_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (index->blocks[middle].client > client)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == index->block_count || index->blocks[low].client != client)
        return NULL;
    return &index->blocks[low];
}

uint32_t tp_index_find(const struct tp_index *index, struct tp_id id)
{
    const struct tp_block *const block = tp_index_block(index, id.client);

    return block == NULL ? TP_RECORD_NONE : tp_block_find(index, block, id.clock);
}
