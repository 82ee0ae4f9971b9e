#include "crdt/diff.h"
#include "crdt/merge.h"
#include "crdt/v2.h"

#define SMALL_SIZE 1024u /* what fits needs no heap */

struct tp_slice tp_update_empty(enum tp_update_encoding encoding)
{
    return encoding == TP_UPDATE_V1 ? TP_SLICE("\0\0") : TP_SLICE("\0\0\0\0\0\0\1\0\0\0\0\0\0");
}

/* Updates in V2 go through X: read, worked on in V1 form, written. */
static enum tp_status read_x(struct tp_slice update, struct tp_buffer *x)
{
    struct tp_v2_info info = {0};

    return tp_v2_read(update, TP_FORM_X, &tp_update_limits_default, x, &info);
}

static enum tp_status write_x(const struct tp_buffer *x, struct tp_buffer *out)
{
    const enum tp_status status = tp_v2_write(tp_buffer_slice(x), TP_FORM_X, out);

    return status == TP_OK && out->full ? TP_FULL : status;
}

/* Every update is taken in and given up at once, so that one small buffer serves them all; only if
 * they turn out not to be in order must all of them be there. */
static enum tp_status merge_v2(const struct tp_slice *updates, size_t count, struct tp_buffer *out)
{
    uint8_t memory[SMALL_SIZE], result_memory[SMALL_SIZE];
    struct tp_buffer x = tp_buffer_starting(memory, sizeof memory, SIZE_MAX);
    struct tp_buffer result = tp_buffer_starting(result_memory, sizeof result_memory, SIZE_MAX);
    struct tp_slice *slices = NULL;
    size_t gone = 0; /* the first updates, whose expansion was given up */
    struct tp_gather gather;
    enum tp_status status = TP_OK;

    tp_gather_init(&gather);
    for (size_t i = 0; i < count && status == TP_OK; i++) {
        if (i + TP_AHEAD < count)
            __builtin_prefetch(updates[i + TP_AHEAD].data);
        if (gather.appending) {
            x.size = 0;
            gone = i;
        } else if (slices == NULL) {
            slices = malloc(count * sizeof *slices);
            TP_ASSERT(slices != NULL);
            slices[gone].size = 0;
        }
        const size_t start = x.size;
        status = read_x(updates[i], &x);
        if (slices != NULL)
            slices[i].size = start; /* where it begins, until the buffer no longer moves */
        if (status == TP_OK)
            status = tp_gather_add(&gather, (struct tp_slice){x.data + start, x.size - start},
                                   TP_FORM_X);
    }
    if (status == TP_OK && gather.appending) {
        tp_gather_write(&gather, &result);
    } else if (status == TP_OK) {
        const size_t kept_size = x.size;
        if (slices == NULL) { /* only the last update did not fit */
            slices = malloc(count * sizeof *slices);
            TP_ASSERT(slices != NULL);
            slices[gone].size = 0;
        }
        for (size_t i = 0; i < gone; i++) {
            slices[i].size = x.size;
            TP_ASSERT(read_x(updates[i], &x) == TP_OK);
        }
        for (size_t i = 0; i < count; i++) {
            const size_t start = slices[i].size;
            const size_t end = i + 1 == gone    ? x.size
                               : i + 1 == count ? kept_size
                                                : slices[i + 1].size;
            slices[i] = (struct tp_slice){x.data + start, end - start};
        }
        status = tp_gather_merge(&gather, slices, count, TP_FORM_X, &result);
    }
    free(slices);
    tp_gather_finish(&gather);
    if (status == TP_OK)
        status = write_x(&result, out);
    tp_buffer_finish(&x);
    tp_buffer_finish(&result);
    return status;
}

enum tp_status tp_update_merge(const struct tp_slice *updates, size_t count,
                               enum tp_update_encoding encoding, struct tp_buffer *out)
{
    if (encoding == TP_UPDATE_V1)
        return tp_merge(updates, count, TP_FORM_V1, out);
    return merge_v2(updates, count, out);
}

/* The way for every V2 update; the short ways below leave what is rare to it. */
static enum tp_status diff_by_x(struct tp_slice update, struct tp_slice sv, struct tp_buffer *out)
{
    struct tp_buffer x = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer part = tp_buffer_growing(SIZE_MAX);
    enum tp_status status = read_x(update, &x);

    if (status == TP_OK)
        status = tp_diff(tp_buffer_slice(&x), TP_FORM_X, sv, &part);
    if (status == TP_OK)
        status = write_x(&part, out);
    tp_buffer_finish(&x);
    tp_buffer_finish(&part);
    return status;
}

static enum tp_status known_clocks_by_x(struct tp_slice update, struct tp_buffer *out)
{
    struct tp_buffer x = tp_buffer_growing(SIZE_MAX);
    enum tp_status status = read_x(update, &x);

    if (status == TP_OK)
        status = tp_known_clocks(tp_buffer_slice(&x), TP_FORM_X, out);
    tp_buffer_finish(&x);
    return status;
}

static enum tp_status convert_by_rewriting(struct tp_slice update, enum tp_update_encoding from,
                                           const struct tp_update_limits *limits,
                                           struct tp_buffer *out)
{
    struct tp_buffer v1 = tp_buffer_growing(SIZE_MAX);
    struct tp_v2_info info = {0};
    enum tp_status status;

    if (from == TP_UPDATE_V1) {
        status = tp_rewrite(update, TP_FORM_V1, &v1);
        if (status == TP_OK)
            status = tp_v2_write(tp_buffer_slice(&v1), TP_FORM_V1_TRUSTED, out);
    } else {
        status = tp_v2_read(update, TP_FORM_V1, limits, &v1, &info);
        if (status == TP_OK)
            status = tp_rewrite(tp_buffer_slice(&v1), TP_FORM_V1, out);
    }
    tp_buffer_finish(&v1);
    return status == TP_OK && out->full ? TP_FULL : status;
}

/* Undoes what a short way wrote before it gave up. */
static void reset(struct tp_buffer *out, size_t size, bool was_full)
{
    out->size = size;
    out->full = was_full;
}

enum tp_status tp_update_diff(struct tp_slice update, enum tp_update_encoding encoding,
                              struct tp_slice sv, struct tp_buffer *out)
{
    if (encoding == TP_UPDATE_V1)
        return tp_diff(update, TP_FORM_V1, sv, out);
    const enum tp_status status = tp_v2_diff(update, sv, out);
    return status == TP_ABSENT ? diff_by_x(update, sv, out) : status;
}

enum tp_status tp_update_state_vector(struct tp_slice update, enum tp_update_encoding encoding,
                                      struct tp_buffer *out)
{
    if (encoding == TP_UPDATE_V1)
        return tp_known_clocks(update, TP_FORM_V1, out);
    const enum tp_status status = tp_v2_known_clocks(update, out);
    return status == TP_ABSENT ? known_clocks_by_x(update, out) : status;
}

static enum tp_status convert(struct tp_slice update, enum tp_update_encoding from,
                              const struct tp_update_limits *limits, struct tp_buffer *out)
{
    const size_t size = out->size;
    const bool was_full = out->full;
    enum tp_status status;

    if (from == TP_UPDATE_V1) {
        status = tp_v2_write(update, TP_FORM_V1, out);
    } else {
        struct tp_v2_info info = {0};
        status = tp_v2_read(update, TP_FORM_V1, limits, out, &info);
        /* Out of order it may have been too large: that is for the right order to say. */
        if (status == TP_FULL || (status == TP_OK && !info.regular))
            status = TP_ABSENT;
    }
    if (status != TP_ABSENT)
        return status;
    reset(out, size, was_full);
    return convert_by_rewriting(update, from, limits, out);
}

enum tp_status tp_update_convert(struct tp_slice update, enum tp_update_encoding from,
                                 enum tp_update_encoding to, struct tp_buffer *out)
{
    if (from == to)
        return tp_update_merge(&update, 1, from, out);
    return convert(update, from, &tp_update_limits_default, out);
}

enum tp_status tp_update_convert_structure(struct tp_slice structure, struct tp_buffer *out)
{
    struct tp_update_limits limits = tp_update_limits_default;

    limits.placeholders = true;
    return convert(structure, TP_UPDATE_V2, &limits, out);
}
