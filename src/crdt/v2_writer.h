/* crdt/v2_writer.h - the columns of an update in V2, being written.
 *
 * They are filled struct by struct, or with all that lies between two places of a reader: then runs
 * are copied as they are, and only where two parts meet are they made anew. */
#pragma once

#include "crdt/v2_reader.h"

#define TP_V2_COLUMN_INLINE 64u
#define TP_V2_TEXT_INLINE 256u

struct tp_v2_writer {
    struct tp_column_writer key_clock, client, left_clock, right_clock, info, parent_info, type_ref,
        len;
    struct tp_column_writer units;
    struct tp_buffer text;
    struct tp_buffer rest; /* behind the number of blocks */
    uint32_t high_half;    /* at the end of `text`, not written yet: its partner may follow; or 0 */
    uint64_t block_count;
    uint64_t key_count;
    enum tp_dialect_form form;
    uint8_t memory[9][TP_V2_COLUMN_INLINE];
    uint8_t text_memory[TP_V2_TEXT_INLINE];
    uint8_t rest_memory[TP_V2_TEXT_INLINE];
};

/* `form` is that of the structs that are written. */
void tp_v2_writer_init(struct tp_v2_writer *to, enum tp_dialect_form form);
void tp_v2_writer_finish(struct tp_v2_writer *to);

/* The head of a block; its structs, as many as it says, follow. */
void tp_v2_write_block(struct tp_v2_writer *to, uint64_t structs, uint64_t client, uint64_t clock);
void tp_v2_write_struct(struct tp_v2_writer *to, const struct tp_struct *s);

/* All that a reader took between two places. False: the copy would begin or end inside a character.
 * Needs a `minimal` reader; runs that a writer would have joined are joined, stray bits cleared. */
TP_MUST_CHECK bool tp_v2_copy(struct tp_v2_writer *to, const struct tp_v2_place *from,
                              const struct tp_v2_place *until);

/* Ends the columns and appends the whole update. */
void tp_v2_write_out(struct tp_v2_writer *to, struct tp_buffer *out);
