/* crdt/index.h - which struct holds an id: 16 bytes for each struct of a normal update.
 *
 * Records stand in the order of the structs. A struct may have several, one for each part that is
 * wholly deleted or wholly alive. A record ends where the next begins; each block ends with one
 * more, which holds nothing. */
#pragma once

#include "crdt/normal.h"

#define TP_RECORD_END 31u /* the ref of a block's last record */

/* In place of the number of a record: */
#define TP_RECORD_ROOT UINT32_MAX
#define TP_RECORD_NONE (UINT32_MAX - 1)  /* not in the update, or in a hole of it */
#define TP_RECORD_IN_GC (UINT32_MAX - 2) /* lost with a neighbour */
#define TP_RECORD_COUNT_MAX (UINT32_MAX - 3)

enum tp_record_flag {
    TP_RECORD_DEAD = 1, /* covered by the delete set, or its content is Deleted */
    TP_RECORD_COVERED = 2,
    TP_RECORD_DOOMED = 4,
    TP_RECORD_JUDGED = 8,   /* DOOMED is settled */
    TP_RECORD_WALKED = 16,  /* on the chain that is being followed */
    TP_RECORD_FOLLOWS = 32, /* `parent` is that of the record whose number stands there */
};

struct tp_record {
    uint64_t clock;
    uint32_t parent; /* number of a record */
    uint8_t ref;
    uint8_t flags;
};

struct tp_block {
    uint64_t client;
    uint64_t clock;
    uint64_t end;
    uint32_t first; /* record */
    uint32_t count; /* without the last, which holds nothing */
};

struct tp_index {
    struct tp_record *records;
    size_t record_count, record_room;
    struct tp_block *blocks; /* clients descending */
    size_t block_count, block_room;
    bool any_gc;
    bool any_dead;
    bool any_parent_id;
};

/* `deletes`: sorted; items are cut where a range begins or ends. NULL: nothing is cut. TP_FULL: too
 * many structs to be numbered. */
TP_MUST_CHECK enum tp_status tp_index_init(struct tp_index *index, const struct tp_normal *normal,
                                           const struct tp_ranges *deletes);
void tp_index_finish(struct tp_index *index);

/* The block of `client`, or NULL. */
const struct tp_block *tp_index_block(const struct tp_index *index, uint64_t client);

/* The record that holds `id`, TP_RECORD_NONE if there is none or it is a Skip. */
uint32_t tp_index_find(const struct tp_index *index, struct tp_id id);

/* As above, `block` being the one that the id is most often in. */
static inline uint32_t tp_block_find(const struct tp_index *index, const struct tp_block *block,
                                     uint64_t clock)
{
    const struct tp_record *const records = index->records + block->first;
    uint32_t low = 0;
    uint32_t count = block->count;

    if (clock < block->clock || clock >= block->end)
        return TP_RECORD_NONE;
    while (count > 1) {
        const uint32_t half = count / 2;
        low = records[low + half].clock <= clock ? low + half : low;
        count -= half;
    }
    return records[low].ref == TP_REF_SKIP ? TP_RECORD_NONE : block->first + low;
}
