/* fuzz/fuzz.h - what the fuzz targets share.
 *
 * A target is LLVMFuzzerTestOneInput in tests/fuzz/NAME_fuzz.c. libFuzzer drives it (`make fuzz`),
 * and replay.c drives it over tests/fuzz/corpus/NAME (`make check`). Claims are TP_ASSERTs.
 *
 * An input of the update targets is a flag byte, bit 0 the encoding, then what the target says. */
#pragma once

#include "base/buffer.h"
#include "crdt/update.h"
#include "wire/reader.h"
#include "wire/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A few bytes of V2 can mean millions of structs, which is allowed, but slow under sanitizers:
 * inputs that mean more than this are left alone. */
#define FUZZ_STRUCT_COUNT_MAX 20000u

static inline struct tp_buffer fuzz_room(void)
{
    return tp_buffer_growing(UINT64_C(1) << 28);
}

static inline enum tp_update_encoding fuzz_encoding(struct tp_reader *in)
{
    return tp_read_u8(in) & 1 ? TP_UPDATE_V2 : TP_UPDATE_V1;
}

static inline enum tp_update_encoding fuzz_other(enum tp_update_encoding encoding)
{
    return encoding == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1;
}

/* The rest of the input. */
static inline struct tp_slice fuzz_rest(struct tp_reader *in)
{
    return tp_read_raw(in, tp_reader_left(in));
}

static inline bool fuzz_is_valid(struct tp_slice update, enum tp_update_encoding encoding)
{
    struct tp_update_info info;

    return tp_update_validate(update, encoding, NULL, NULL, 0, &info) == TP_OK;
}

/* False for an update that would expand to more structs than this target wants to walk. */
static inline bool fuzz_is_small(struct tp_slice update, enum tp_update_encoding encoding)
{
    struct tp_update_limits limits = tp_update_limits_default;
    struct tp_update_info info;

    limits.struct_count_max = FUZZ_STRUCT_COUNT_MAX;
    return tp_update_validate(update, encoding, &limits, NULL, 0, &info) == TP_OK ||
           !fuzz_is_valid(update, encoding);
}

/* The claim about everything that we write: it is valid.
 *
 * Not always normal: the right part of an Item that was cut keeps bit 5 where the Item had a
 * parentSub, as in yjs, and re-encoding clears it (spec 04 sections 5 and 9). So what must be equal
 * is compared in normal form. */
static inline void fuzz_claim_valid(const struct tp_buffer *update,
                                    enum tp_update_encoding encoding)
{
    TP_ASSERT(fuzz_is_valid(tp_buffer_slice(update), encoding));
}

static inline void fuzz_claim_normal(const struct tp_buffer *update,
                                     enum tp_update_encoding encoding)
{
    struct tp_update_info info;

    TP_ASSERT(tp_update_validate(tp_buffer_slice(update), encoding, NULL, NULL, 0, &info) == TP_OK);
    TP_ASSERT(info.normal);
}

static inline void fuzz_claim_equal(const struct tp_buffer *a, const struct tp_buffer *b)
{
    TP_ASSERT(tp_slice_equal(tp_buffer_slice(a), tp_buffer_slice(b)));
}

/* The same update, in normal form. */
static inline struct tp_buffer fuzz_normal(struct tp_slice update, enum tp_update_encoding encoding)
{
    struct tp_buffer out = fuzz_room();

    TP_ASSERT(tp_update_convert(update, encoding, encoding, &out) == TP_OK);
    return out;
}

static inline void fuzz_claim_same(const struct tp_buffer *a, const struct tp_buffer *b,
                                   enum tp_update_encoding encoding)
{
    struct tp_buffer normal_a = fuzz_normal(tp_buffer_slice(a), encoding);
    struct tp_buffer normal_b = fuzz_normal(tp_buffer_slice(b), encoding);

    fuzz_claim_equal(&normal_a, &normal_b);
    tp_buffer_finish(&normal_a);
    tp_buffer_finish(&normal_b);
}

static inline struct tp_buffer fuzz_compact(struct tp_slice update,
                                            enum tp_update_encoding encoding)
{
    struct tp_buffer out = fuzz_room();

    TP_ASSERT(tp_update_compact(update, encoding, &out, NULL) == TP_OK);
    return out;
}

static inline struct tp_buffer fuzz_state_vector(struct tp_slice update,
                                                 enum tp_update_encoding encoding)
{
    struct tp_buffer out = fuzz_room();

    TP_ASSERT(tp_update_state_vector(update, encoding, &out) == TP_OK);
    return out;
}

static inline struct tp_buffer fuzz_merge_two(struct tp_slice a, struct tp_slice b,
                                              enum tp_update_encoding encoding)
{
    const struct tp_slice updates[] = {a, b};
    struct tp_buffer out = fuzz_room();

    TP_ASSERT(tp_update_merge(updates, 2, encoding, &out) == TP_OK);
    return out;
}
