/* fuzz/ways.h - the short ways and the long one must say the same.
 *
 * A V2 update is asked from its columns, and converted while it is read; the long way goes over X
 * and over the normal form, whatever the update is like. Status and bytes must agree. */
#pragma once

#include "crdt/diff.h"
#include "crdt/update.h"
#include "crdt/v2.h"

static inline bool ways_end_alike(enum tp_status short_status, struct tp_buffer *short_out,
                                  enum tp_status long_status, struct tp_buffer *long_out)
{
    const bool alike = short_status == long_status &&
                       (long_status != TP_OK ||
                        tp_slice_equal(tp_buffer_slice(short_out), tp_buffer_slice(long_out)));

    tp_buffer_finish(short_out);
    tp_buffer_finish(long_out);
    return alike;
}

static inline enum tp_status ways_read(struct tp_slice update, enum tp_dialect_form form,
                                       struct tp_buffer *out)
{
    struct tp_v2_info info = {0};

    return tp_v2_read(update, form, &tp_update_limits_default, out, &info);
}

/* Of an update in V2. */
static inline bool ways_agree_on_diff(struct tp_slice update, struct tp_slice sv)
{
    struct tp_buffer x = tp_buffer_growing(SIZE_MAX), part = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer by_x = tp_buffer_growing(SIZE_MAX), out = tp_buffer_growing(SIZE_MAX);
    enum tp_status status = ways_read(update, TP_FORM_X, &x);

    if (status == TP_OK)
        status = tp_diff(tp_buffer_slice(&x), TP_FORM_X, sv, &part);
    if (status == TP_OK)
        status = tp_v2_write(tp_buffer_slice(&part), TP_FORM_X, &by_x);
    tp_buffer_finish(&x);
    tp_buffer_finish(&part);
    return ways_end_alike(tp_update_diff(update, TP_UPDATE_V2, sv, &out), &out, status, &by_x);
}

/* Of an update in V2. */
static inline bool ways_agree_on_state_vector(struct tp_slice update)
{
    struct tp_buffer x = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer by_x = tp_buffer_growing(SIZE_MAX), out = tp_buffer_growing(SIZE_MAX);
    enum tp_status status = ways_read(update, TP_FORM_X, &x);

    if (status == TP_OK)
        status = tp_known_clocks(tp_buffer_slice(&x), TP_FORM_X, &by_x);
    tp_buffer_finish(&x);
    return ways_end_alike(tp_update_state_vector(update, TP_UPDATE_V2, &out), &out, status, &by_x);
}

static inline bool ways_agree_on_conversion(struct tp_slice update, enum tp_update_encoding from)
{
    const enum tp_update_encoding to = from == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1;
    struct tp_buffer v1 = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer rewritten = tp_buffer_growing(SIZE_MAX), out = tp_buffer_growing(SIZE_MAX);
    enum tp_status status;

    if (from == TP_UPDATE_V1) {
        status = tp_rewrite(update, TP_FORM_V1, &v1);
        if (status == TP_OK)
            status = tp_v2_write(tp_buffer_slice(&v1), TP_FORM_V1_TRUSTED, &rewritten);
    } else {
        status = ways_read(update, TP_FORM_V1, &v1);
        if (status == TP_OK)
            status = tp_rewrite(tp_buffer_slice(&v1), TP_FORM_V1, &rewritten);
    }
    tp_buffer_finish(&v1);
    return ways_end_alike(tp_update_convert(update, from, to, &out), &out, status, &rewritten);
}
