/* A large update for a peer, piece by piece (crdt/update.h). The state vector is all that is kept
 * between two calls, so each walks the update to find where it stands. */
#include "crdt/emit.h"
#include "crdt/order.h"

/* What had its turn in `lane`; with `rest`, what did not as well. */
static void write_lane(const struct tp_normal *normal, const struct tp_order_lane *lane, bool rest,
                       struct tp_blocks *blocks)
{
    uint64_t left = lane->done_count + (rest ? lane->structs_left : 0);
    struct tp_walk walk;
    struct tp_struct s;
    bool begun = false;

    tp_walk_resume(&walk, lane->begin, normal->bytes.data + normal->bytes.size, normal->form,
                   lane->client, lane->begin_at_clock, left, 0);
    for (; left > 0; left--) {
        TP_ASSERT(tp_walk_next(&walk, &s));
        if (begun) {
            tp_blocks_add(blocks, &s);
            continue;
        }
        if (s.ref == TP_REF_SKIP)
            continue; /* a hole that the peer has the beginning of */
        begun = true;
        const uint64_t from = lane->begin_clock > s.clock ? lane->begin_clock : s.clock;
        tp_blocks_begin(blocks, s.client, from);
        if (from > s.clock)
            tp_emit_struct(&s, from - s.clock, s.len, TP_CUT_REPLACE, tp_blocks_write(blocks));
        else
            tp_blocks_add(blocks, &s);
    }
}

/* Bytes of what is stuck. */
static uint64_t stuck_size(const struct tp_order *order)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < order->lane_count; i++) {
        const struct tp_order_lane *const lane = &order->lanes[i];
        struct tp_walk walk;
        struct tp_struct s;
        if (lane->structs_left == 0)
            continue;
        tp_walk_resume(&walk, lane->at, order->normal->bytes.data + order->normal->bytes.size,
                       order->normal->form, lane->client, lane->at_clock, lane->structs_left, 0);
        while (tp_walk_next(&walk, &s))
            continue;
        size += (uint64_t)(walk.at - lane->at);
    }
    return size;
}

/* The peer's state vector with what the lanes have moved on, in one pass over both. */
static void write_state_vector(const struct tp_order *order, const struct tp_state_vector *known,
                               struct tp_buffer *out)
{
    struct tp_state_vector_entry *const entries =
        malloc((known->count + (size_t)order->lane_count + 1) * sizeof *entries);
    struct tp_state_vector after = {.entries = entries};
    uint32_t at = 0;

    TP_ASSERT(entries != NULL);
    for (uint32_t i = 0; i < order->lane_count; i++) {
        const struct tp_order_lane *const lane = &order->lanes[i];
        if (lane->done_count == 0 && !lane->moved)
            continue;
        while (at < known->count && known->entries[at].client > lane->client)
            entries[after.count++] = known->entries[at++];
        if (at < known->count && known->entries[at].client == lane->client)
            at++;
        entries[after.count++] = (struct tp_state_vector_entry){lane->client, lane->clock};
    }
    while (at < known->count)
        entries[after.count++] = known->entries[at++];
    tp_state_vector_encode(&after, out);
    free(entries);
}

static void write_piece(const struct tp_order *order, bool last, struct tp_slice deletes,
                        struct tp_buffer *out)
{
    struct tp_blocks blocks;

    tp_blocks_init(&blocks, out);
    for (uint32_t i = 0; i < order->lane_count; i++)
        write_lane(order->normal, &order->lanes[i], last, &blocks);
    tp_blocks_close(&blocks);
    tp_blocks_finish(&blocks);
    if (last)
        tp_write_raw(out, deletes);
    else
        tp_write_varuint(out, 0);
}

/* The delete set of a normal update: what stands behind its structs. */
static struct tp_slice deletes_of(const struct tp_normal *normal)
{
    struct tp_walk walk;
    struct tp_struct s;

    tp_normal_walk(normal, &walk);
    while (tp_walk_next(&walk, &s))
        continue;
    return (struct tp_slice){walk.at, (size_t)(walk.end - walk.at)};
}

/* What is stuck and the delete set come last, by themselves if there is no room left. */
static bool run(struct tp_order *order, size_t size_max, size_t deletes_size)
{
    const bool more = tp_order_run(order, tp_max(size_max, 1));

    if (!more && order->done_size > 0)
        return order->done_size + stuck_size(order) + deletes_size > size_max;
    return more;
}

enum tp_status tp_update_cut(struct tp_slice update, struct tp_slice sv, size_t size_max,
                             uint32_t count_max, struct tp_update_pieces *pieces)
{
    struct tp_normal normal;
    struct tp_state_vector known = {0};
    struct tp_order order = {0};
    enum tp_status status = tp_normal_init(&normal, update, TP_UPDATE_V1);

    if (status == TP_OK)
        status = tp_state_vector_decode(&known, sv);
    if (status == TP_OK) {
        const struct tp_slice deletes = deletes_of(&normal);
        bool more = true;
        tp_order_init(&order, &normal, NULL, &known);
        for (uint32_t i = 0; i < count_max && more; i++) {
            more = run(&order, size_max, deletes.size);
            write_piece(&order, !more, deletes, &pieces->updates);
            write_state_vector(&order, &known, &pieces->state_vectors);
            const struct tp_update_piece_end end = {pieces->updates.size,
                                                    pieces->state_vectors.size};
            tp_buffer_append(&pieces->ends, &end, sizeof end);
            tp_order_pass(&order);
        }
        pieces->is_last = !more;
    }
    tp_order_finish(&order);
    tp_state_vector_finish(&known);
    tp_normal_finish(&normal);
    return status == TP_OK && (pieces->updates.full || pieces->state_vectors.full) ? TP_FULL
                                                                                   : status;
}

enum tp_status tp_update_piece(struct tp_slice update, struct tp_slice sv, size_t size_max,
                               struct tp_buffer *out, struct tp_buffer *sv_out, bool *is_last)
{
    struct tp_update_piece_end end;
    struct tp_update_pieces pieces = {
        .updates = *out, .state_vectors = *sv_out, .ends = tp_buffer_fixed(&end, sizeof end)};
    const enum tp_status status = tp_update_cut(update, sv, size_max, 1, &pieces);

    *out = pieces.updates;
    *sv_out = pieces.state_vectors;
    *is_last = pieces.is_last;
    return status;
}
