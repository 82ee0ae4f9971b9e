/* crdt/v2.h - updates in V2: nine columns, read into and written from V1 form (spec 04 section 4).
 *
 * Reading expands the columns into X (crdt/walk.h), or straight into V1; from there on one engine
 * serves both encodings. The reader vouches for what only the columns can tell: that they are as
 * long as what is taken from them, that texts are UTF-8 and values well formed. What the links and
 * clocks mean is the walker's to judge. */
#pragma once

#include "crdt/walk.h"

struct tp_v2_info {
    bool ask_v1_form; /* set by the caller; finding out costs a conversion of every value */
    const char *error;
    size_t error_at;  /* bytes from the start of the column */
    bool canonical;   /* the columns are what our writer makes of the same structs */
    bool has_v1_form; /* no embed or format holds what JSON cannot say */
};

/* Appends `update` in `form`, TP_FORM_X or TP_FORM_V1. TP_DENIED: it has no V1 form. */
TP_MUST_CHECK enum tp_status tp_v2_read(struct tp_slice update, enum tp_dialect_form form,
                                        const struct tp_update_limits *limits,
                                        struct tp_buffer *out, struct tp_v2_info *info);

/* Appends `update`, valid and with its blocks in order, as V2. */
TP_MUST_CHECK enum tp_status tp_v2_write(struct tp_slice update, enum tp_dialect_form form,
                                         struct tp_buffer *out);
