/* flags, update. Everything that only looks at an update: report, gaps, state vector, content ids,
 * snapshot. They agree with validation, and with each other on the normal form. */
#include "crdt/state_vector.h"
#include "fuzz/fuzz.h"

static void count_gap(void *context, uint64_t client, uint64_t from, uint64_t to)
{
    TP_ASSERT(client <= TP_VARUINT_MAX && from < to);
    ++*(uint64_t *)context;
}

static void claim_same(struct tp_slice update, struct tp_slice normal,
                       enum tp_update_encoding encoding,
                       enum tp_status (*operation)(struct tp_slice, enum tp_update_encoding,
                                                   struct tp_buffer *))
{
    struct tp_buffer first = fuzz_room(), second = fuzz_room();

    TP_ASSERT(operation(update, encoding, &first) == TP_OK);
    TP_ASSERT(operation(normal, encoding, &second) == TP_OK);
    fuzz_claim_equal(&first, &second);
    tp_buffer_finish(&first);
    tp_buffer_finish(&second);
}

static void claim_report(struct tp_slice update, struct tp_slice normal,
                         enum tp_update_encoding encoding)
{
    struct tp_update_report report, of_normal;
    uint64_t gap_count = 0;

    TP_ASSERT(tp_update_inspect(update, encoding, &report) == TP_OK);
    TP_ASSERT(tp_update_inspect(normal, encoding, &of_normal) == TP_OK);
    TP_ASSERT(tp_update_gaps(normal, encoding, count_gap, &gap_count) == TP_OK);
    TP_ASSERT(of_normal.gap_count == gap_count);
    TP_ASSERT(report.hash == of_normal.hash);
    TP_ASSERT(of_normal.struct_count == of_normal.item_count + of_normal.gc_count);
    TP_ASSERT(of_normal.complete ==
              (of_normal.gap_count == 0 && of_normal.pending_link_count == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const enum tp_update_encoding encoding = fuzz_encoding(&in);
    const struct tp_slice update = fuzz_rest(&in);
    struct tp_state_vector vector = {0};
    struct tp_buffer out = fuzz_room();
    struct tp_update_report report;
    uint64_t gap_count = 0;

    if (!fuzz_is_small(update, encoding))
        return 0;
    if (!fuzz_is_valid(update, encoding)) {
        TP_ASSERT(tp_update_inspect(update, encoding, &report) == TP_MALFORMED);
        TP_ASSERT(tp_update_gaps(update, encoding, count_gap, &gap_count) == TP_MALFORMED);
        TP_ASSERT(tp_update_state_vector(update, encoding, &out) == TP_MALFORMED);
        TP_ASSERT(tp_update_content_ids(update, encoding, &out) == TP_MALFORMED);
        TP_ASSERT(tp_update_snapshot(update, encoding, &out) == TP_MALFORMED);
    } else {
        struct tp_buffer normal = fuzz_normal(update, encoding);
        claim_report(update, tp_buffer_slice(&normal), encoding);
        claim_same(update, tp_buffer_slice(&normal), encoding, tp_update_content_ids);
        claim_same(update, tp_buffer_slice(&normal), encoding, tp_update_snapshot);
        TP_ASSERT(tp_update_state_vector(update, encoding, &out) == TP_OK);
        TP_ASSERT(tp_state_vector_decode(&vector, tp_buffer_slice(&out)) == TP_OK);
        tp_buffer_finish(&normal);
    }
    tp_state_vector_finish(&vector);
    tp_buffer_finish(&out);
    return 0;
}
