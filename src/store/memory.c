/* The memory backend: the same contract, kept by one thread in ordered tables. For tests, and for
 * who wants a server that forgets. */
#include <stdio.h>
#include <stdlib.h>

#include "store/answer.h"
#include "store/batch.h"
#include "store/lane.h"
#include "store/table.h"

#define LANE_COUNT 1u

struct tp_store {
    struct tp_lane lane;
    struct tp_store_tally tally;
    /* Between the lane and `run`, which works on its caller's thread; no shard ever waits for it.
     */
    pthread_mutex_t lock;
    struct tp_table tables[TP_TABLE_COUNT];
    struct tp_batch *batch;
    struct tp_slice *pieces; /* room for the largest row of a batch */
    uint32_t piece_room;
    _Atomic bool held;
};

static bool is_below(struct tp_slice key, struct tp_slice end)
{
    const int order = memcmp(key.data, end.data, tp_min(key.size, end.size));

    return order < 0 || (order == 0 && key.size < end.size);
}

static void delete_rows(struct tp_table *table, const struct tp_batch_row *row)
{
    const struct tp_table_row *at;

    if (row->to.size == 0) {
        tp_table_delete(table, row->key);
        return;
    }
    while ((at = tp_table_seek(table, row->key)) != NULL && is_below(tp_table_row_key(at), row->to))
        tp_table_delete(table, tp_table_row_key(at));
}

static enum tp_status write_rows(void *context, const struct tp_batch *batch)
{
    struct tp_store *store = context;

    for (uint32_t nth = 0; nth < batch->row_count; nth++) {
        const struct tp_batch_row *row = &batch->rows[nth];
        struct tp_table *table = &store->tables[row->table];

        if (row->is_delete) {
            delete_rows(table, row);
            continue;
        }
        if (row->piece_count > store->piece_room) {
            store->piece_room = row->piece_count * 2;
            free(store->pieces);
            store->pieces = calloc(store->piece_room, sizeof *store->pieces);
            TP_ASSERT(store->pieces != NULL);
        }
        const uint32_t count = tp_batch_gather(batch, row, store->pieces, store->piece_room);
        tp_table_put(table, row->key, store->pieces, count);
    }
    tp_tally(&store->tally.bytes_written, batch->size);
    return TP_OK;
}

static enum tp_status get_row(void *context, enum tp_store_table table, struct tp_slice key,
                              struct tp_slice *value)
{
    struct tp_store *store = context;
    const struct tp_table_row *row = tp_table_find(&store->tables[table], key);

    if (row == NULL)
        return TP_ABSENT;
    *value = tp_table_row_value(row);
    return TP_OK;
}

static void read_rows(struct tp_store *store, struct tp_store_op *op)
{
    struct tp_answer answer = tp_answer_start();

    for (uint32_t nth = 0; nth < op->range_count; nth++) {
        const struct tp_store_range *range = &op->ranges[nth];
        const bool single = range->to.size == 0;
        const struct tp_table *table = &store->tables[range->table];
        const struct tp_table_row *row =
            single ? tp_table_find(table, range->from) : tp_table_seek(table, range->from);
        uint32_t count = 0;

        for (; row != NULL; row = tp_table_next(row)) {
            if (!single && !is_below(tp_table_row_key(row), range->to))
                break;
            tp_answer_add(&answer, range, tp_table_row_key(row), tp_table_row_value(row));
            if (single || ++count == range->row_count_max)
                break;
        }
    }
    tp_tally(&store->tally.reads, 1);
    tp_answer_finish(&answer, op, TP_OK);
}

static void handle(struct tp_store *store, const struct tp_batch_sink *sink, struct tp_store_op *op)
{
    if (op->verb == TP_STORE_READ) {
        TP_ASSERT(tp_batch_flush(store->batch, sink) == TP_OK);
        read_rows(store, op);
        return;
    }
    tp_tally(op->verb == TP_STORE_APPEND ? &store->tally.appends : &store->tally.writes, 1);
    op->status = atomic_load(&store->held) ? TP_FULL : tp_batch_take(store->batch, op, sink);
}

static void commit(struct tp_store *store, struct tp_link *ops)
{
    const struct tp_batch_sink sink = {write_rows, get_row, store};

    pthread_mutex_lock(&store->lock);
    TP_LIST_EACH(link, ops)
    handle(store, &sink, TP_CONTAINER(link, struct tp_store_op, link));
    TP_ASSERT(tp_batch_flush(store->batch, &sink) == TP_OK);
    pthread_mutex_unlock(&store->lock);
    tp_tally(&store->tally.commits, 1);
}

static void work(struct tp_lane *lane)
{
    struct tp_parcel *parcel;

    while ((parcel = tp_lane_take(lane)) != NULL) {
        commit(lane->owner, &parcel->ops);
        tp_lane_answer(lane, parcel);
    }
}

static void close_store(struct tp_store *store)
{
    tp_lanes_stop(&store->lane, 1, store->lane.post, store->lane.endpoint + LANE_COUNT);
    for (uint32_t table = 0; table < TP_TABLE_COUNT; table++)
        tp_table_finish(&store->tables[table]);
    tp_batch_destroy(store->batch);
    free(store->pieces);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static struct tp_store *open_store(const struct tp_store_config *config, char *error,
                                   size_t error_size)
{
    struct tp_store *store = calloc(1, sizeof *store);

    TP_ASSERT(store != NULL);
    store->lane = (struct tp_lane){.post = config->post,
                                   .endpoint = config->first_endpoint,
                                   .name = "store",
                                   .work = work,
                                   .owner = store};
    pthread_mutex_init(&store->lock, NULL);
    store->batch = tp_batch_create();
    const int failure = tp_lane_start(&store->lane);
    if (failure != 0) {
        snprintf(error, error_size, "the store's thread cannot start: %s", strerror(failure));
        close_store(store);
        return NULL;
    }
    return store;
}

static struct tp_store_port *attach(struct tp_store *store, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_store_op *op),
                                    void *context)
{
    return tp_port_create(reactor, store->lane.endpoint, LANE_COUNT, &store->tally, answered,
                          context);
}

static void read_counts(struct tp_store *store, struct tp_store_counts *out)
{
    tp_store_tally_read(&store->tally, out);
}

static void read_health(struct tp_store *store, struct tp_store_health *out)
{
    *out = (struct tp_store_health){.state = atomic_load(&store->held) ? TP_STORE_RESERVED
                                                                       : TP_STORE_OK};
}

static void explain(struct tp_store *store, char detail[TP_STORE_DETAIL_SIZE])
{
    (void)store;
    detail[0] = '\0';
}

static void hold(struct tp_store *store, bool on)
{
    atomic_store(&store->held, on);
}

static void run(struct tp_store *store, struct tp_store_op *op)
{
    struct tp_link ops;

    tp_link_init(&ops);
    tp_link_insert(&ops, &op->link);
    commit(store, &ops);
    tp_link_remove(&op->link);
}

const struct tp_store_backend tp_store_memory = {
    .name = "memory",
    .endpoint_count = LANE_COUNT + 1, /* and one to close from */
    .open = open_store,
    .attach = attach,
    .submit = tp_port_submit,
    .letter = tp_port_letter,
    .detach = tp_port_destroy,
    .counts = read_counts,
    .health = read_health,
    .explain = explain,
    .hold = hold,
    .run = run,
    .close = close_store,
};
