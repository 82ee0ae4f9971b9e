/* crdt/normal.h - an update of either encoding, checked, in V1 form and in normal form: what the
 * operations that look at a whole document start from. */
#pragma once

#include "base/buffer.h"
#include "crdt/deletes.h"
#include "crdt/walk.h"

#define TP_NORMAL_INLINE 512u

struct tp_normal {
    struct tp_slice bytes; /* the update itself, if it is V1 and normal */
    enum tp_dialect_form form;
    struct tp_buffer expanded; /* of V2 */
    struct tp_buffer merged;   /* if it was not normal */
    uint8_t memory[TP_NORMAL_INLINE];
};

/* `normal` borrows `update`. Call tp_normal_finish whatever the answer was. */
TP_MUST_CHECK enum tp_status tp_normal_init(struct tp_normal *normal, struct tp_slice update,
                                            enum tp_update_encoding encoding);
void tp_normal_finish(struct tp_normal *normal);

/* Starts a walk: it cannot fail from here on. */
void tp_normal_walk(const struct tp_normal *normal, struct tp_walk *walk);

/* Reads the delete set behind a finished walk into `ranges`, which come out sorted. */
void tp_normal_deletes(struct tp_walk *walk, struct tp_ranges *ranges);

/* Is the update normal? Checks it on the way. */
TP_MUST_CHECK enum tp_status tp_is_normal(struct tp_slice update, enum tp_dialect_form form,
                                          bool *normal);
