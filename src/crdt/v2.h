/* crdt/v2.h - updates in V2: nine columns, read into and written from V1 form (spec 04 section 4).
 *
 * Reading expands the columns into X (crdt/walk.h), or straight into V1; from there on one engine
 * serves both encodings. What is asked of one update alone is answered from the columns themselves,
 * without expanding them. The reader judges all that spec 04 section 11 asks, on either way. */
#pragma once

#include "crdt/walk.h"

struct tp_v2_info {
    bool ask_v1_form; /* set by the caller; finding out costs a conversion of every value */
    const char *error;
    size_t error_at;  /* bytes from the start of the column */
    bool canonical;   /* the columns are what our writer makes of the same structs */
    bool has_v1_form; /* no embed or format holds what JSON cannot say */
    bool regular;     /* no block, struct or delete range is empty or out of order, and no block
                       * begins with two Skips or holds nothing else: V1 form is as it is to be */
};

/* Appends `update` in `form`, TP_FORM_X or TP_FORM_V1. TP_DENIED: it has no V1 form. */
TP_MUST_CHECK enum tp_status tp_v2_read(struct tp_slice update, enum tp_dialect_form form,
                                        const struct tp_update_limits *limits,
                                        struct tp_buffer *out, struct tp_v2_info *info);

/* Appends `update` as V2. TP_ABSENT, and nothing is written: it is not regular (above), so that it
 * must be rewritten first. A stranger's V1 is checked on the way. */
TP_MUST_CHECK enum tp_status tp_v2_write(struct tp_slice update, enum tp_dialect_form form,
                                         struct tp_buffer *out);

/* A diff and a state vector straight from the columns. TP_ABSENT, and the tail of `out` is to be
 * thrown away: the update is valid, but has something rare that only the way over X can do. */
TP_MUST_CHECK enum tp_status tp_v2_diff(struct tp_slice update, struct tp_slice sv,
                                        struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_v2_known_clocks(struct tp_slice update, struct tp_buffer *out);
