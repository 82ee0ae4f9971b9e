/* crdt/emit.h - writing structs in V1 form: whole, in part, and in blocks whose heads count them.
 *
 * Structs that stay as they are are copied as bytes, and neighbours in memory as one run. */
#pragma once

#include "base/buffer.h"
#include "crdt/walk.h"
#include "wire/writer.h"

enum tp_cut {
    TP_CUT_REPLACE, /* a character cut in two becomes U+FFFD on both sides (a split) */
    TP_CUT_HALVE,   /* the halves stay (a diff of V2: neighbours may join them again) */
};

/* The units [from, to) of `s`, 0 <= from < to <= s->len, with integers minimal and bit 5 as spec
 * 04 section 9 has it. */
void tp_emit_struct(const struct tp_struct *s, uint64_t from, uint64_t to, enum tp_cut cut,
                    struct tp_buffer *out);

/* Only the content of these units, without the size or count in front, so that contents can be
 * joined: texts, JSON texts or values. */
void tp_emit_units(const struct tp_struct *s, uint64_t from, uint64_t to, enum tp_cut cut,
                   struct tp_buffer *out);

/* Only info byte and links of `s`, as for the part that starts at `from`, with another content. */
void tp_emit_links(const struct tp_struct *s, uint64_t from, uint8_t ref, struct tp_buffer *out);

void tp_emit_range(uint8_t ref, uint64_t len, struct tp_buffer *out); /* a GC or a Skip */

#define TP_BLOCK_INLINE 512u

/* Blocks being written behind one another. */
struct tp_blocks {
    struct tp_buffer *out;
    size_t start;         /* where the update begins in `out` */
    uint64_t block_count; /* finished ones */
    uint64_t client;
    uint64_t clock; /* of the block's first struct */
    uint64_t struct_count;
    const uint8_t *run; /* structs to copy that are not copied yet: [run, run_end) */
    const uint8_t *run_end;
    struct tp_buffer body;
    uint8_t inline_body[TP_BLOCK_INLINE];
};

void tp_blocks_init(struct tp_blocks *blocks, struct tp_buffer *out);
void tp_blocks_finish(struct tp_blocks *blocks);

/* From here on structs are those of `client`, from `clock` on. The block before is closed. */
void tp_blocks_begin(struct tp_blocks *blocks, uint64_t client, uint64_t clock);

/* Closes the last block and puts the number of blocks in front. The delete set is the caller's. */
void tp_blocks_close(struct tp_blocks *blocks);

void tp_blocks_flush(struct tp_blocks *blocks); /* copies the run to the body */

/* One struct as its bytes are. They must stay until the block is closed, or be flushed. */
static inline void tp_blocks_copy(struct tp_blocks *blocks, const uint8_t *at, const uint8_t *end)
{
    blocks->struct_count++;
    if (likely(blocks->run_end == at)) {
        blocks->run_end = end;
        return;
    }
    tp_blocks_flush(blocks);
    blocks->run = at;
    blocks->run_end = end;
}

/* Where a struct can be written by tp_emit_*. */
static inline struct tp_buffer *tp_blocks_write(struct tp_blocks *blocks)
{
    blocks->struct_count++;
    tp_blocks_flush(blocks);
    return &blocks->body;
}

static inline void tp_blocks_add(struct tp_blocks *blocks, const struct tp_struct *s)
{
    if (likely(s->plain))
        tp_blocks_copy(blocks, s->at, s->end);
    else
        tp_emit_struct(s, 0, s->len, TP_CUT_REPLACE, tp_blocks_write(blocks));
}
