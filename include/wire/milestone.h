/* wire/milestone.h - what is kept of a milestone beside its snapshot, in the reference server's
 * binary form (spec 03 section 4.2).
 *
 *     59 4a 53 01 | document id | id | name | created | flags | what the flags say ... | creator
 *      "YJS"                                f64       u8                     kind, id
 *
 * Metas stand alone, one after the other (a list), or before a snapshot (a full record). */
#pragma once

#include "base/buffer.h"

enum tp_milestone_field { /* bits of the flags: which of the fields are there */
                          TP_MILESTONE_DELETED_AT = 1,
                          TP_MILESTONE_DELETED_BY = 2,
                          TP_MILESTONE_STATE = 4,
                          TP_MILESTONE_RETENTION = 8,
                          TP_MILESTONE_EXPIRES = 16,
};
#define TP_MILESTONE_FIELDS 31u

struct tp_milestone {
    struct tp_slice document_id; /* with its room */
    struct tp_slice id, name;
    double created_ms; /* numbers of JavaScript: fractions are legal */
    uint8_t fields;    /* enum tp_milestone_field */
    double deleted_ms;
    struct tp_slice deleted_by;
    struct tp_slice state; /* active, archived, deleted, expired; absent: active */
    struct tp_slice retention_policy;
    double expires_ms;
    bool by_user; /* else the system */
    struct tp_slice creator;
};

bool tp_milestone_is_deleted(const struct tp_milestone *milestone);

void tp_milestone_encode(const struct tp_milestone *milestone, struct tp_buffer *out);
/* Takes one meta off the front of `rest`; `out` borrows. TP_ABSENT: nothing is left. */
TP_MUST_CHECK enum tp_status tp_milestone_next(struct tp_slice *rest, struct tp_milestone *out);
