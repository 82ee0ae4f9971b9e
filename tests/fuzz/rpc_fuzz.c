/* What clients send with remote calls: arguments of any shape are read or refused, content maps and
 * ids too, and what a map says does not change when it is written and read again. */
#include "crdt/attribution.h"
#include "fuzz.h"
#include "rpc/call.h"

static void read_arguments(struct tp_slice payload)
{
    static const char *const names[] = {"a", "b", "entries", "userId", "snapshot", ""};
    struct tp_rpc_args args, inner;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint64_t count = 0;
        tp_rpc_args_read(&args, payload);
        (void)tp_rpc_has(&args, names[i]);
        tp_rpc_args_read(&args, payload);
        TP_ASSERT(tp_rpc_text(&args, names[i], 100).size <= 100);
        tp_rpc_args_read(&args, payload);
        TP_ASSERT(tp_rpc_bytes(&args, names[i], 100).size <= 100);
        tp_rpc_args_read(&args, payload);
        TP_ASSERT(tp_rpc_whole(&args, names[i], 1000) <= 1000);
        tp_rpc_args_read(&args, payload);
        (void)tp_rpc_flag(&args, names[i]);
        tp_rpc_args_read(&args, payload);
        struct tp_reader in = tp_rpc_array(&args, names[i], 50, &count);
        for (uint64_t k = 0; k < count; k++) {
            if (k & 1)
                (void)tp_rpc_array_text(&args, names[i], &in, 100);
            else
                tp_rpc_array_object(&args, names[i], &in, &inner);
        }
        TP_ASSERT(count == 0 || args.wrong[0] != 0 || count <= 50);
        tp_rpc_args_read(&args, payload);
        tp_rpc_object(&args, names[i], &inner);
        (void)tp_rpc_number(&inner, "from");
        tp_rpc_args_join(&args, &inner);
    }
}

static struct tp_buffer written(struct tp_content_map *map)
{
    struct tp_buffer out = fuzz_room();

    tp_content_map_encode(map, &out);
    return out;
}

static void read_maps(struct tp_reader *in)
{
    struct tp_content_map *map = tp_content_map_create(), *again = tp_content_map_create();
    const struct tp_slice first = tp_read_bytes(in), second = tp_read_bytes(in),
                          ids = tp_read_bytes(in), attributes = tp_read_bytes(in);
    struct tp_reader check = tp_reader_of(attributes);
    struct tp_attribution_query query = {.kind = tp_read_u8(in) % 3, .known_ids = ids};

    bool ok = tp_content_map_add(map, first) == TP_OK;
    ok = ok && tp_content_map_add(map, second) == TP_OK;
    ok = ok && tp_content_map_add_ids(map, ids, TP_SLICE("ann"), 1700000000000) == TP_OK;
    if (ok) {
        struct tp_buffer one = written(map);
        TP_ASSERT(tp_content_map_add(again, tp_buffer_slice(&one)) == TP_OK);
        struct tp_buffer two = written(again);
        TP_ASSERT(tp_slice_equal(tp_buffer_slice(&one), tp_buffer_slice(&two)));
        tp_buffer_finish(&one);
        tp_buffer_finish(&two);

        /* What is in the ids, and what is not, are all there is. */
        TP_ASSERT(tp_content_map_cut(again, ids, true) == TP_OK);
        struct tp_buffer inside = written(again), answer = fuzz_room();
        if (tp_any_skip(&check, 64) == TP_OK)
            query.attributes = attributes;
        TP_ASSERT(tp_attribution_answer(map, &query, &answer) == TP_OK);
        tp_buffer_finish(&inside);
        tp_buffer_finish(&answer);
    }
    tp_content_map_destroy(map);
    tp_content_map_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of((struct tp_slice){data, size});

    if (size == 0)
        return 0;
    if (tp_read_u8(&in) & 1)
        read_maps(&in);
    else
        read_arguments(fuzz_rest(&in));
    return 0;
}
