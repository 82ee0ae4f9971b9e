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

/* Adds the pieces of one cut to `whole`, and moves `sv` behind them. */
static void take(const struct tp_update_pieces *pieces, struct tp_buffer *whole,
                 struct tp_buffer *sv)
{
    const struct tp_update_piece_end *const ends = (const void *)pieces->ends.data;
    struct tp_update_piece_end from = {0};

    for (size_t i = 0; i < pieces->ends.size / sizeof *ends; i++) {
        const struct tp_slice piece =
            tp_slice_of(pieces->updates.data + from.update, ends[i].update - from.update);
        struct tp_buffer next = fuzz_room();
        tp_write_raw(&next, tp_slice_of(pieces->state_vectors.data + from.state_vector,
                                        ends[i].state_vector - from.state_vector));
        TP_ASSERT(fuzz_is_valid(piece, TP_UPDATE_V1));
        claim_progress(sv, &next);
        struct tp_buffer more = fuzz_merge_two(tp_buffer_slice(whole), piece, TP_UPDATE_V1);
        tp_buffer_finish(whole);
        tp_buffer_finish(sv);
        *whole = more;
        *sv = next;
        from = ends[i];
    }
}

/* All pieces, merged; so many cut at a time. */
static struct tp_buffer collect(struct tp_slice update, size_t size_max, uint32_t count_max)
{
    struct tp_buffer whole = fuzz_room(), sv = fuzz_room();
    bool is_last = false;

    tp_write_raw(&whole, tp_update_empty(TP_UPDATE_V1));
    tp_write_varuint(&sv, 0);
    for (size_t count = 0; !is_last; count++) {
        struct tp_update_pieces pieces = {fuzz_room(), fuzz_room(), fuzz_room(), false};
        TP_ASSERT(count < update.size + 2); /* a struct takes a byte at the least */
        TP_ASSERT(tp_update_cut(update, tp_buffer_slice(&sv), size_max, count_max, &pieces) ==
                  TP_OK);
        take(&pieces, &whole, &sv);
        is_last = pieces.is_last;
        tp_buffer_finish(&pieces.updates);
        tp_buffer_finish(&pieces.state_vectors);
        tp_buffer_finish(&pieces.ends);
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
    struct tp_buffer whole = collect(tp_buffer_slice(&normal), size_max, 1 + size_max % 4);
    struct tp_buffer want = fuzz_compact(tp_buffer_slice(&normal), TP_UPDATE_V1);
    struct tp_buffer got = fuzz_compact(tp_buffer_slice(&whole), TP_UPDATE_V1);

    fuzz_claim_same(&want, &got, TP_UPDATE_V1);
    tp_buffer_finish(&normal);
    tp_buffer_finish(&whole);
    tp_buffer_finish(&want);
    tp_buffer_finish(&got);
    return 0;
}
