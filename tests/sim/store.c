/* A store with a disk that can lose, refuse and stall.
 *
 *     parcels ──► committer: one batch ──► written: readers see it ──► synced: answered
 *                                              |                          |
 *                                        a crash takes it             stays
 *
 * Ports, batches and tables are the product's own (src/store); what RocksDB and its threads do is
 * here: two endpoints, a committer and a reader, and a disk that outlives the process. */
#include <stdio.h>
#include <stdlib.h>

#include "sim/sim.h"
#include "store/answer.h"
#include "store/batch.h"
#include "store/lane.h"
#include "store/table.h"

#define PIECES_MAX 8192u
#define SYNCING_MAX 256u

/* One atomic batch that was written and not synced. */
struct unsynced {
    struct unsynced *next;
    uint32_t count;
    struct row {
        enum tp_store_table table;
        bool is_delete;
        struct tp_slice key, value; /* own memory */
    } rows[];
};

static struct {
    struct tp_table tables[TP_TABLE_COUNT]; /* what a crash leaves */
    struct unsynced *first, **last;
} disk;

struct sim_disk_state sim_disk;

struct side {
    struct tp_lane lane; /* for its queue, and for answering: there is no thread */
    struct sim_task task;
    struct tp_store *store;
};

struct tp_store {
    struct side committer, reader;
    struct tp_store_tally tally;
    struct tp_table tables[TP_TABLE_COUNT]; /* as readers see it */
    struct tp_batch *batch;
    struct tp_slice pieces[PIECES_MAX];
    struct tp_parcel *syncing[SYNCING_MAX]; /* wait for the sync */
    uint32_t syncing_count;
    uint64_t sync_at_ns;
};

/* ---- the disk -----------------------------------------------------------------------------------
 */

static void apply(struct tp_table *tables, const struct row *row)
{
    if (row->is_delete)
        tp_table_delete(&tables[row->table], row->key);
    else
        tp_table_put(&tables[row->table], row->key, &row->value, 1);
}

static void drop_first(bool keep)
{
    struct unsynced *batch = disk.first;

    disk.first = batch->next;
    if (disk.first == NULL)
        disk.last = &disk.first;
    for (uint32_t i = 0; i < batch->count; i++) {
        if (keep)
            apply(disk.tables, &batch->rows[i]);
        free((void *)(uintptr_t)batch->rows[i].key.data);
        free((void *)(uintptr_t)batch->rows[i].value.data);
    }
    free(batch);
}

static void sync_all(void)
{
    struct sim_heap *before = sim_heap_use(NULL);

    while (disk.first != NULL)
        drop_first(true);
    sim_heap_use(before);
}

void sim_disk_begin(void)
{
    memset(&disk, 0, sizeof disk);
    disk.last = &disk.first;
    sim_disk = (struct sim_disk_state){0};
}

void sim_disk_crash(void)
{
    struct sim_heap *before = sim_heap_use(NULL);
    uint32_t kept = (uint32_t)sim_below(4);

    while (disk.first != NULL)
        drop_first(kept > 0 && kept-- > 0);
    sim_heap_use(before);
}

void sim_disk_finish(void)
{
    while (disk.first != NULL)
        drop_first(false);
    for (uint32_t table = 0; table < TP_TABLE_COUNT; table++)
        tp_table_finish(&disk.tables[table]);
}

static struct tp_slice copied(struct tp_slice bytes)
{
    uint8_t *copy = malloc(bytes.size + 1);

    TP_ASSERT(copy != NULL);
    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    return tp_slice_of(copy, bytes.size);
}

/* Everything that readers see is as the disk has it: as when a database is opened. */
static void read_disk(struct tp_store *store)
{
    for (uint32_t table = 0; table < TP_TABLE_COUNT; table++) {
        tp_table_finish(&store->tables[table]);
        store->tables[table] = (struct tp_table){0};
        const struct tp_table_row *row = tp_table_seek(&disk.tables[table], (struct tp_slice){0});
        for (; row != NULL; row = tp_table_next(row)) {
            const struct tp_slice value = tp_table_row_value(row);
            tp_table_put(&store->tables[table], tp_table_row_key(row), &value, 1);
        }
    }
}

/* ---- batches ------------------------------------------------------------------------------------
 */

static enum tp_status refusal(void)
{
    switch (sim_disk.state) {
    case DISK_FULL:
        return TP_FULL;
    case DISK_FAILING:
        return sim_chance(500) ? TP_IO : TP_OK;
    default:
        return TP_OK;
    }
}

static enum tp_status write_rows(void *context, const struct tp_batch *batch)
{
    struct tp_store *store = context;
    const enum tp_status status = refusal();

    if (status != TP_OK)
        return status;
    tp_batch_check(batch);
    struct sim_heap *heap = sim_heap_use(NULL);
    struct unsynced *unsynced = malloc(sizeof *unsynced + batch->row_count * sizeof(struct row));
    TP_ASSERT(unsynced != NULL);
    *unsynced = (struct unsynced){.count = batch->row_count};
    for (uint32_t nth = 0; nth < batch->row_count; nth++) {
        const struct tp_batch_row *row = &batch->rows[nth];
        struct row *out = &unsynced->rows[nth];
        const uint32_t count = tp_batch_gather(batch, row, store->pieces, PIECES_MAX);
        struct tp_buffer value = tp_buffer_growing(SIZE_MAX);
        for (uint32_t piece = 0; piece < count; piece++)
            tp_buffer_append(&value, store->pieces[piece].data, store->pieces[piece].size);
        *out = (struct row){row->table, row->is_delete, copied(row->key),
                            copied(tp_buffer_slice(&value))};
        tp_buffer_finish(&value);
        sim_note_bytes(out->table, out->key);
        sim_note_bytes(out->is_delete, out->value);
    }
    *disk.last = unsynced;
    disk.last = &unsynced->next;
    sim_heap_use(heap);
    for (uint32_t nth = 0; nth < unsynced->count; nth++)
        apply(store->tables, &unsynced->rows[nth]);
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

static bool is_below(struct tp_slice key, struct tp_slice end)
{
    const int order = memcmp(key.data, end.data, tp_min(key.size, end.size));

    return order < 0 || (order == 0 && key.size < end.size);
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
    const bool fails = sim_disk.state == DISK_FAILING && sim_chance(300);
    tp_answer_finish(&answer, op, fails ? TP_IO : TP_OK);
}

/* ---- the committer ------------------------------------------------------------------------------
 */

static void answer_all(struct tp_store *store)
{
    for (uint32_t i = 0; i < store->syncing_count; i++)
        tp_lane_answer(&store->committer.lane, store->syncing[i]);
    store->syncing_count = 0;
}

static void fail_syncing(struct tp_store *store, enum tp_status status)
{
    for (uint32_t i = 0; i < store->syncing_count; i++)
        TP_LIST_EACH(link, &store->syncing[i]->ops)
        {
            struct tp_store_op *op = TP_CONTAINER(link, struct tp_store_op, link);
            if (op->status == TP_OK)
                op->status = status;
        }
}

/* A part of the commit that cannot be written fails all of it: whoever came before has only been
 * gathered. */
static void write_op(struct tp_store *store, struct tp_store_op *op,
                     const struct tp_batch_sink *sink)
{
    op->status = tp_batch_take(store->batch, op, sink);
    if (op->status != TP_OK && op->status != TP_DENIED)
        fail_syncing(store, op->status);
}

/* Some of what waits becomes one commit. */
static void commit(struct tp_store *store)
{
    const struct tp_batch_sink sink = {write_rows, get_row, store};
    struct tp_parcel *parcel;
    uint32_t left = 1 + (uint32_t)sim_below(8);

    while (left-- > 0 && store->syncing_count < SYNCING_MAX &&
           (parcel = tp_lane_take(&store->committer.lane)) != NULL) {
        TP_LIST_EACH(link, &parcel->ops)
        TP_CONTAINER(link, struct tp_store_op, link)->status = TP_OK;
        store->syncing[store->syncing_count++] = parcel;
        TP_LIST_EACH(link, &parcel->ops)
        write_op(store, TP_CONTAINER(link, struct tp_store_op, link), &sink);
    }
    if (store->syncing_count == 0)
        return;
    const enum tp_status status = tp_batch_flush(store->batch, &sink);
    if (status != TP_OK)
        fail_syncing(store, status);
    store->sync_at_ns = sim.now_ns + 1000 + sim_delay(sim.calm ? 10 * MS : 300 * MS);
    if (sim.bug == BUG_EARLY_ACK)
        answer_all(store);
}

static void sync_now(struct tp_store *store)
{
    store->sync_at_ns = 0;
    if (sim_disk.state != DISK_FAILING || sim_chance(500)) {
        sync_all();
    } else {
        /* Nobody knows what of it is there; the database is opened again. */
        fail_syncing(store, TP_IO);
        sim_disk_crash();
        read_disk(store);
    }
    answer_all(store);
}

static void committer_step(struct tp_store *store)
{
    if (sim.now_ns < sim_disk.stalled_until_ns) {
        sim_wake(&store->committer.task, sim_disk.stalled_until_ns);
        return;
    }
    if (store->sync_at_ns != 0 && sim.now_ns >= store->sync_at_ns)
        sync_now(store);
    if (store->sync_at_ns == 0)
        commit(store);
    if (store->sync_at_ns != 0)
        sim_wake(&store->committer.task, store->sync_at_ns);
    else if (!tp_link_alone(&store->committer.lane.queue))
        sim_wake(&store->committer.task, sim.now_ns + 1000);
}

static void run_committer(struct sim_task *task)
{
    struct side *side = TP_CONTAINER(task, struct side, task);

    tp_reactor_poll(side->lane.reactor);
    committer_step(side->store);
    tp_reactor_wait(side->lane.reactor);
}

static void run_reader(struct sim_task *task)
{
    struct side *side = TP_CONTAINER(task, struct side, task);
    struct tp_parcel *parcel;

    tp_reactor_poll(side->lane.reactor);
    if (sim.now_ns < sim_disk.stalled_until_ns) {
        sim_wake(task, sim_disk.stalled_until_ns);
    } else if ((parcel = tp_lane_take(&side->lane)) != NULL) {
        TP_LIST_EACH(link, &parcel->ops)
        read_rows(side->store, TP_CONTAINER(link, struct tp_store_op, link));
        tp_lane_answer(&side->lane, parcel);
    }
    if (!tp_link_alone(&side->lane.queue))
        sim_wake(task, sim.now_ns + 1000 + sim_delay(20 * MS));
    tp_reactor_wait(side->lane.reactor);
}

/* ---- the backend --------------------------------------------------------------------------------
 */

static void receive(void *context, struct tp_letter *letter)
{
    struct side *side = context;
    struct tp_parcel *parcel = TP_CONTAINER(letter, struct tp_parcel, letter);

    parcel->home = letter->from;
    tp_link_insert(&side->lane.queue, &parcel->link);
}

static void open_side(struct side *side, struct tp_store *store, struct tp_post *post,
                      uint32_t endpoint, void (*run)(struct sim_task *task))
{
    const struct tp_reactor_config config = {
        .post = post, .endpoint = endpoint, .letter = receive, .context = side};

    side->store = store;
    tp_link_init(&side->lane.queue);
    sim_add_task(&side->task, run);
    sim_reactor_task(endpoint, &side->task);
    side->lane.endpoint = endpoint;
    side->lane.reactor = tp_reactor_create(&config);
}

static struct tp_store *open_store(const struct tp_store_config *config, char *error,
                                   size_t error_size)
{
    struct tp_store *store = calloc(1, sizeof *store);

    (void)error, (void)error_size;
    TP_ASSERT(store != NULL);
    store->batch = tp_batch_create();
    read_disk(store);
    open_side(&store->committer, store, config->post, config->first_endpoint, run_committer);
    open_side(&store->reader, store, config->post, config->first_endpoint + 1, run_reader);
    return store;
}

static void close_store(struct tp_store *store)
{
    sync_all();
    sim_remove_task(&store->committer.task);
    sim_remove_task(&store->reader.task);
    tp_reactor_destroy(store->committer.lane.reactor);
    tp_reactor_destroy(store->reader.lane.reactor);
    for (uint32_t table = 0; table < TP_TABLE_COUNT; table++)
        tp_table_finish(&store->tables[table]);
    tp_batch_destroy(store->batch);
    free(store);
}

static struct tp_store_port *attach(struct tp_store *store, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_store_op *op),
                                    void *context)
{
    return tp_port_create(reactor, store->committer.lane.endpoint, SIM_STORE_ENDPOINT_COUNT,
                          &store->tally, answered, context);
}

static void read_counts(struct tp_store *store, struct tp_store_counts *out)
{
    tp_store_tally_read(&store->tally, out);
}

static void read_health(struct tp_store *store, struct tp_store_health *out)
{
    (void)store;
    *out = (struct tp_store_health){.state = 0};
}

static void explain(struct tp_store *store, char detail[TP_STORE_DETAIL_SIZE])
{
    (void)store;
    detail[0] = 0;
}

static void hold(struct tp_store *store, bool on)
{
    (void)store, (void)on;
    sim_fail("nobody holds the store");
}

/* A worker waits for it. Meanwhile the others go on: some of what they submitted may come first. */
static void run(struct tp_store *store, struct tp_store_op *op)
{
    const struct tp_batch_sink sink = {write_rows, get_row, store};

    while (store->sync_at_ns == 0 && !tp_link_alone(&store->committer.lane.queue) &&
           sim_chance(600))
        commit(store);
    if (store->sync_at_ns != 0)
        sim_wake(&store->committer.task, store->sync_at_ns);
    if (op->verb == TP_STORE_READ) {
        read_rows(store, op);
        return;
    }
    op->status = tp_batch_take(store->batch, op, &sink);
    const enum tp_status status = tp_batch_flush(store->batch, &sink);
    if (op->status == TP_OK)
        op->status = status;
    if (op->status == TP_OK)
        sync_all();
}

const struct tp_store_backend sim_store = {
    .name = "sim",
    .endpoint_count = SIM_STORE_ENDPOINT_COUNT,
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
