/* a byte that gives the size of pieces, update in V1. Sent in pieces, the update arrives whole: the
 * peer's state vector never shrinks, and the pieces end. */
#include "crdt/state_vector.h"
#include "fuzz/fuzz.h"

static void claim_progress(const struct tp_buffer *before, const struct tp_buffer *after)
{
    struct tp_state_vector old = {0}, new = {0};

    TP_ASSERT(tp_state_vector_decode(&old, tp_buffer_slice(before)) == TP_OK);
    TP_ASSERT(tp_state_vector_decode(&new, tp_buffer_slice(after)) == TP_OK);
    TP_ASSERT(tp_state_vector_covers(&new, &old));
    tp_state_vector_finish(&old);
    tp_state_vector_finish(&new);
}

/* All pieces, merged. */
static struct tp_buffer collect(struct tp_slice update, size_t size_max)
{
    struct tp_buffer whole = fuzz_room(), sv = fuzz_room();
    bool is_last = false;

    tp_write_raw(&whole, tp_update_empty(TP_UPDATE_V1));
    tp_write_varuint(&sv, 0);
    for (size_t count = 0; !is_last; count++) {
        struct tp_buffer piece = fuzz_room(), next = fuzz_room();
        TP_ASSERT(count < update.size + 2); /* a struct takes a byte at the least */
        TP_ASSERT(tp_update_piece(update, tp_buffer_slice(&sv), size_max, &piece, &next,
                                  &is_last) == TP_OK);
        TP_ASSERT(fuzz_is_valid(tp_buffer_slice(&piece), TP_UPDATE_V1));
        claim_progress(&sv, &next);
        struct tp_buffer more =
            fuzz_merge_two(tp_buffer_slice(&whole), tp_buffer_slice(&piece), TP_UPDATE_V1);
        tp_buffer_finish(&whole);
        tp_buffer_finish(&sv);
        tp_buffer_finish(&piece);
        whole = more;
        sv = next;
    }
    tp_buffer_finish(&sv);
    return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const size_t size_max = tp_read_u8(&in);
    const struct tp_slice update = fuzz_rest(&in);

    if (update.size > 2000 || !fuzz_is_valid(update, TP_UPDATE_V1))
        return 0; /* pieces are cut from valid updates; each one is merged, which is quadratic */
    struct tp_buffer normal = fuzz_normal(update, TP_UPDATE_V1);
    struct tp_buffer whole = collect(tp_buffer_slice(&normal), size_max);
    struct tp_buffer want = fuzz_compact(tp_buffer_slice(&normal), TP_UPDATE_V1);
    struct tp_buffer got = fuzz_compact(tp_buffer_slice(&whole), TP_UPDATE_V1);

    fuzz_claim_same(&want, &got, TP_UPDATE_V1);
    tp_buffer_finish(&normal);
    tp_buffer_finish(&whole);
    tp_buffer_finish(&want);
    tp_buffer_finish(&got);
    return 0;
}
