/* crdt/diff.h - questions about one update in V1 form: what a peer lacks, what is known. */
#pragma once

#include "crdt/deletes.h"
#include "crdt/emit.h"
#include "crdt/state_vector.h"

TP_MUST_CHECK enum tp_status tp_diff(struct tp_slice update, enum tp_dialect_form form,
                                     struct tp_slice sv, struct tp_buffer *out);

/* Copies struct by struct, Skips included (section 8.3). */
TP_MUST_CHECK enum tp_status tp_rewrite(struct tp_slice update, enum tp_dialect_form form,
                                        struct tp_buffer *out);

TP_MUST_CHECK enum tp_status tp_known_clocks(struct tp_slice update, enum tp_dialect_form form,
                                             struct tp_buffer *out);
