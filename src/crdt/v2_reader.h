/* crdt/v2_reader.h - walking the columns of an update in V2, many structs at a step.
 *
 * What typing leaves in the columns is long runs: a thousand structs with the same info byte, links
 * that count up, one character each. tp_v2_peek says how many structs from here on are alike in
 * info byte and length; tp_v2_take takes so many of them or fewer. Taking checks everything that
 * spec 04 section 11 asks of them, and writes them out in V1 form, or nowhere.
 *
 *     open -> (enter -> (peek -> take)*)* -> deletes -> finish
 *
 * Errors stick: after `error` is set everything answers false. Where the reader stands is a value
 * of its own, so that a writer can be told to copy all columns from one place to another. */
#pragma once

#include "crdt/deletes.h"
#include "crdt/v2_column.h"

/* A string of the string column: its middle is UTF-8 as it stands there, and at either side may be
 * half a character that a neighbour has the other half of. */
struct tp_v2_text {
    const uint8_t *data;
    size_t size;
    uint16_t front; /* a low half, or 0 */
    uint16_t back;  /* a high half, or 0 */
};

#define TP_V2_KEYS_INLINE 8u

struct tp_v2_place {
    struct tp_column key_clock, client, left_clock, right_clock, info, parent_info, type_ref, len;
    struct tp_column units; /* lengths of the strings */
    struct tp_column rest;  /* at, end and start only */
    const uint8_t *text_at; /* of all strings, joined */
    uint64_t units_left;    /* from text_at on */
    uint64_t key_count;
    bool inside; /* the character at text_at has given its high half away */
};

struct tp_v2_run {
    uint64_t count; /* structs */
    uint64_t len;   /* of each; 0 is possible */
    uint8_t info;
    uint8_t ref;
};

/* An id's client, as V1 writes it. */
struct tp_v2_client {
    uint64_t client;
    uint64_t word;
    uint32_t size; /* bytes */
};

struct tp_v2_reader {
    struct tp_v2_place place;
    const uint8_t *text_end;
    bool ascii; /* all of the strings are */

    uint64_t blocks_left;
    uint64_t structs_left; /* of the block */
    uint64_t client;       /* of the block */
    uint64_t clock;        /* of the next struct */
    uint64_t budget;       /* structs that may still come */
    const struct tp_update_limits *limits;

    enum tp_dialect_form form; /* of what is written: TP_FORM_X or TP_FORM_V1 */
    bool ask_v1_form;          /* finding out costs a conversion of every value */
    bool has_v1_form;

    bool regular;   /* so far: clients descending, no block or struct empty, no block that is only
                     * Skips or begins with two */
    bool stray_sub; /* a linked Item has bit 5, which re-encoding clears */
    bool minimal;   /* so far, but for the columns: integers, and keys that are not repeated */
    bool entered;
    uint64_t real_count;       /* structs of the block that are no Skips */
    uint64_t front_skip_count; /* Skips before the first of them, or more */

    const char *error;
    size_t error_at; /* bytes from the start of the column */

    struct tp_v2_client own, other; /* what was written last */
    struct tp_buffer keys;          /* struct tp_v2_text */
    uint64_t cached_size;           /* of keys repeated: a few bytes can ask for many */
    struct tp_v2_text key_memory[TP_V2_KEYS_INLINE];
};

/* Opens the columns and reads the number of blocks. Finish whatever the answer was. */
TP_MUST_CHECK bool tp_v2_open(struct tp_v2_reader *in, struct tp_slice update,
                              enum tp_dialect_form form, const struct tp_update_limits *limits);
void tp_v2_finish(struct tp_v2_reader *in);

/* The next block's head, when all structs before are taken. False at the end, or on an error. */
bool tp_v2_enter(struct tp_v2_reader *in);

/* What comes next, if structs are left in the block. False: on an error. */
bool tp_v2_peek(struct tp_v2_reader *in, struct tp_v2_run *run);

/* Takes the first `count` structs of `run`, which was just peeked. `out` may be NULL. In V1 form
 * structs come out as re-encoding has them. False: on an error. */
bool tp_v2_take(struct tp_v2_reader *in, const struct tp_v2_run *run, uint64_t count,
                struct tp_buffer *out);

/* The delete set, behind the last block. `out` may be NULL, else gets it in V1 form as it stands.
 */
bool tp_v2_deletes(struct tp_v2_reader *in, struct tp_buffer *out, bool *normal);

/* At the end: the columns are what our writer makes of the same structs. */
bool tp_v2_is_canonical(const struct tp_v2_reader *in);
