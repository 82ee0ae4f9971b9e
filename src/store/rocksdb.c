/* The embedded store: one RocksDB for the process, one committer, two readers.
 *
 *     ports ──parcels──► committer ─┐
 *                                   ├─ lead: take all that waits ─► write ─► sync ─► answer
 *     workers ── run ──────────────┘
 *
 * Writing has one leader at a time. Usually that is the committer; a worker that finds nobody
 * leading leads its own operation, and one that finds somebody is served by the next leader. So a
 * commit takes everything that came while the last one was syncing: it grows with the load, and
 * when there is none nobody waits for company. Only right after a commit with a sync does the next
 * one wait, PACE_NS at most: a sync costs some 90 us of CPU, whatever it is for.
 *
 * When the disk fails, operations are answered with that failure at once and recovery is tried
 * every RETRY_NS, by whoever comes, or by a timer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/database.h"
#include "store/lane.h"

#define READER_COUNT 2u
#define LANE_COUNT (1 + READER_COUNT)
#define RETRY_NS UINT64_C(1000000000)
/* Between the end of a commit that was synced and the begin of the next. An edit that comes alone
 * does not wait; one in a stream of edits is acknowledged this much later, which is less than the
 * disk's own spread. */
#define PACE_NS UINT64_C(1000000)
#define FLUSH_DELAY_NS UINT64_C(1000000000) /* durability memory: to the kernel this long after */

/* An operation of `run`, on its caller's stack. */
struct direct {
    struct tp_link link;
    struct tp_store_op *op;
    bool done;
};

struct tp_store {
    struct tp_database *database;
    struct tp_lane lanes[LANE_COUNT];
    struct tp_post *post;
    enum tp_durability durability;
    struct tp_store_tally tally;

    /* leadership; no shard ever takes this lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool led;
    struct tp_link directs;

    /* the leader's */
    struct tp_batch *batch;
    bool wrote;             /* something of this commit went into the database */
    enum tp_status failure; /* why writing stopped; TP_OK: it did not */
    uint64_t retry_at_ns;

    /* for `health`, from any thread */
    _Atomic enum tp_store_state trouble; /* what stopped writing; TP_STORE_OK: nothing */
    _Atomic uint64_t stop_count;
    _Atomic uint64_t commit_since_ns;  /* 0: none is under way */
    _Atomic bool held;                 /* no room for more, somebody else has seen */
    char detail[TP_STORE_DETAIL_SIZE]; /* under `lock`: what the last trouble was */

    /* the committer's */
    uint64_t pace_until_ns;
    struct tp_timer retry_timer, flush_timer;
    bool flush_armed;
};

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* ---- a commit, by the leader ------------------------------------------------------------------
 */

static enum tp_status write_batch(void *context, const struct tp_batch *batch)
{
    struct tp_store *store = context;

    store->wrote = true;
    tp_tally(&store->tally.bytes_written, batch->size);
    return tp_database_write(store->database, batch);
}

static enum tp_status get_row(void *context, enum tp_store_table table, struct tp_slice key,
                              struct tp_slice *value)
{
    struct tp_store *store = context;
    const enum tp_status status = tp_database_get(store->database, table, key, value);

    /* What cannot be read is this operation's misfortune, not the store's. */
    return status == TP_IO ? TP_MALFORMED : status;
}

static void fail(struct tp_store *store, enum tp_status failure)
{
    const struct tp_trouble *trouble = tp_database_trouble(store->database);

    TP_ASSERT(trouble->state != TP_STORE_OK);
    if (store->failure == TP_OK)
        atomic_fetch_add(&store->stop_count, 1);
    store->failure = failure;
    store->retry_at_ns = now_ns() + RETRY_NS;
    atomic_store(&store->trouble, trouble->state);
    pthread_mutex_lock(&store->lock);
    memcpy(store->detail, trouble->detail, sizeof store->detail);
    pthread_mutex_unlock(&store->lock);
}

static void try_recovery(struct tp_store *store)
{
    if (store->failure == TP_OK || now_ns() < store->retry_at_ns)
        return;
    const enum tp_status status = tp_database_recover(store->database);
    if (status != TP_OK) {
        fail(store, status);
        return;
    }
    store->failure = TP_OK;
    atomic_store(&store->trouble, TP_STORE_OK);
}

static void take_op(struct tp_store *store, const struct tp_batch_sink *sink,
                    struct tp_store_op *op)
{
    tp_tally(op->verb == TP_STORE_APPEND ? &store->tally.appends : &store->tally.writes, 1);
    if (store->failure != TP_OK) {
        op->status = store->failure;
        return;
    }
    if (atomic_load_explicit(&store->held, memory_order_relaxed)) {
        op->status = TP_FULL;
        tp_tally(&store->tally.failures, 1);
        return;
    }
    op->status = tp_batch_take(store->batch, op, sink);
    if (op->status == TP_MALFORMED) { /* see get_row */
        op->status = TP_IO;
        tp_tally(&store->tally.failures, 1);
    } else if (op->status != TP_OK && op->status != TP_DENIED) {
        fail(store, op->status);
    }
}

/* What was refused for its expectations is certain all the same; the rest fails with the commit. */
static void settle_op(struct tp_store *store, struct tp_store_op *op)
{
    if (store->failure == TP_OK || op->status == TP_DENIED)
        return;
    op->status = store->failure;
    tp_tally(&store->tally.failures, 1);
}

static void commit(struct tp_store *store, struct tp_link *parcels, struct tp_link *directs)
{
    const struct tp_batch_sink sink = {write_batch, get_row, store};
    const uint64_t start_ns = now_ns();

    atomic_store_explicit(&store->commit_since_ns, start_ns, memory_order_relaxed);
    try_recovery(store);
    store->wrote = false;
    TP_LIST_EACH(link, parcels)
    {
        struct tp_parcel *parcel = TP_CONTAINER(link, struct tp_parcel, link);
        TP_LIST_EACH(op_link, &parcel->ops)
        take_op(store, &sink, TP_CONTAINER(op_link, struct tp_store_op, link));
    }
    TP_LIST_EACH(link, directs)
    take_op(store, &sink, TP_CONTAINER(link, struct direct, link)->op);

    if (store->failure == TP_OK) {
        enum tp_status status = tp_batch_flush(store->batch, &sink);
        if (status == TP_OK && store->wrote) {
            status = tp_database_sync(store->database, store->durability);
            tp_tally(&store->tally.syncs, store->durability != TP_DURABILITY_MEMORY);
        }
        if (status != TP_OK)
            fail(store, status);
    }
    tp_batch_reset(store->batch);

    TP_LIST_EACH(link, parcels)
    {
        struct tp_parcel *parcel = TP_CONTAINER(link, struct tp_parcel, link);
        TP_LIST_EACH(op_link, &parcel->ops)
        settle_op(store, TP_CONTAINER(op_link, struct tp_store_op, link));
    }
    TP_LIST_EACH(link, directs)
    settle_op(store, TP_CONTAINER(link, struct direct, link)->op);

    const uint64_t taken_ns = now_ns() - start_ns;
    atomic_store_explicit(&store->commit_since_ns, 0, memory_order_relaxed);
    tp_tally(&store->tally.commits, 1);
    tp_tally(&store->tally.commit_ns_total, taken_ns);
    if (taken_ns > atomic_load_explicit(&store->tally.commit_ns_max, memory_order_relaxed))
        atomic_store_explicit(&store->tally.commit_ns_max, taken_ns, memory_order_relaxed);
}

/* ---- leadership -------------------------------------------------------------------------------
 */

static void lead_locked(struct tp_store *store, struct tp_link *directs)
{
    TP_ASSERT(!store->led);
    store->led = true;
    tp_link_init(directs);
    tp_list_splice(directs, &store->directs);
}

static void lead_begin(struct tp_store *store, struct tp_link *directs)
{
    pthread_mutex_lock(&store->lock);
    while (store->led)
        pthread_cond_wait(&store->changed, &store->lock);
    lead_locked(store, directs);
    pthread_mutex_unlock(&store->lock);
}

static void lead_end(struct tp_store *store, struct tp_link *directs)
{
    struct tp_link *link;

    pthread_mutex_lock(&store->lock);
    while ((link = tp_list_pop(directs)) != NULL)
        TP_CONTAINER(link, struct direct, link)->done = true;
    store->led = false;
    pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
}

static void run(struct tp_store *store, struct tp_store_op *op)
{
    struct tp_link none, directs;
    struct direct own = {.op = op};

    if (op->verb == TP_STORE_READ) {
        tp_tally(&store->tally.reads, 1);
        tp_database_read(store->database, op);
        return;
    }
    tp_link_init(&none);
    tp_link_init(&own.link);
    pthread_mutex_lock(&store->lock);
    tp_link_insert(&store->directs, &own.link);
    while (!own.done) {
        if (store->led) {
            pthread_cond_wait(&store->changed, &store->lock);
            continue;
        }
        lead_locked(store, &directs);
        pthread_mutex_unlock(&store->lock);
        commit(store, &none, &directs);
        lead_end(store, &directs);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
}

/* ---- lanes ------------------------------------------------------------------------------------
 */

static void arm_timers(struct tp_store *store, struct tp_reactor *reactor)
{
    if (atomic_load(&store->trouble) != TP_STORE_OK && store->retry_timer.at_ns == 0)
        tp_timer_set(reactor, &store->retry_timer, now_ns() + RETRY_NS);
    if (store->durability == TP_DURABILITY_MEMORY && !store->flush_armed) {
        store->flush_armed = true;
        tp_timer_set(reactor, &store->flush_timer, now_ns() + FLUSH_DELAY_NS);
    }
}

static void retry_fired(struct tp_timer *timer)
{
    struct tp_store *store = TP_CONTAINER(timer, struct tp_store, retry_timer);
    struct tp_link none, directs;

    tp_link_init(&none);
    lead_begin(store, &directs);
    commit(store, &none, &directs);
    lead_end(store, &directs);
    arm_timers(store, store->lanes[0].reactor);
}

static void flush_fired(struct tp_timer *timer)
{
    struct tp_store *store = TP_CONTAINER(timer, struct tp_store, flush_timer);
    struct tp_link directs;

    store->flush_armed = false;
    lead_begin(store, &directs);
    if (store->failure == TP_OK) {
        const enum tp_status status = tp_database_sync(store->database, TP_DURABILITY_OS);
        if (status != TP_OK)
            fail(store, status);
    }
    lead_end(store, &directs);
}

/* Lets more gather, right after a commit. The lane has nothing else to do, and as long as it does
 * not wait in its reactor, nobody spends a system call to wake it. */
static void pace(struct tp_store *store, struct tp_lane *lane)
{
    const uint64_t now = now_ns();

    if (now >= store->pace_until_ns)
        return;
    const struct timespec left = {.tv_nsec = (long)(store->pace_until_ns - now)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &left, NULL); /* a signal: then it is shorter */
    tp_reactor_poll(lane->reactor);
}

static void write_work(struct tp_lane *lane)
{
    struct tp_store *store = lane->owner;
    struct tp_link taken, directs, *link;
    size_t size = 0;
    uint32_t op_count = 0;

    pace(store, lane);
    tp_link_init(&taken);
    while (op_count < TP_BATCH_OP_COUNT_MAX && size < TP_BATCH_SIZE_MAX) {
        struct tp_parcel *parcel = tp_lane_take(lane);
        if (parcel == NULL)
            break;
        tp_link_insert(&taken, &parcel->link);
        op_count += parcel->op_count;
        size += parcel->size;
    }
    lead_begin(store, &directs);
    commit(store, &taken, &directs);
    lead_end(store, &directs);
    while ((link = tp_list_pop(&taken)) != NULL)
        tp_lane_answer(lane, TP_CONTAINER(link, struct tp_parcel, link));
    store->pace_until_ns = store->durability == TP_DURABILITY_DISK ? now_ns() + PACE_NS : 0;
    arm_timers(store, lane->reactor);
}

static void read_work(struct tp_lane *lane)
{
    struct tp_store *store = lane->owner;
    struct tp_parcel *parcel = tp_lane_take(lane);

    TP_LIST_EACH(link, &parcel->ops)
    {
        tp_tally(&store->tally.reads, 1);
        tp_database_read(store->database, TP_CONTAINER(link, struct tp_store_op, link));
    }
    tp_lane_answer(lane, parcel);
}

/* ---- the backend ------------------------------------------------------------------------------
 */

static void close_store(struct tp_store *store)
{
    tp_lanes_stop(store->lanes, LANE_COUNT, store->post, store->lanes[0].endpoint + LANE_COUNT);
    tp_database_close(store->database);
    tp_batch_destroy(store->batch);
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static struct tp_store *open_store(const struct tp_store_config *config, char *error,
                                   size_t error_size)
{
    struct tp_store *store = calloc(1, sizeof *store);

    TP_ASSERT(store != NULL);
    store->durability = config->durability;
    store->post = config->post;
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->changed, NULL);
    tp_link_init(&store->directs);
    tp_timer_init(&store->retry_timer, retry_fired);
    tp_timer_init(&store->flush_timer, flush_fired);
    store->batch = tp_batch_create();
    for (uint32_t nth = 0; nth < LANE_COUNT; nth++)
        store->lanes[nth] = (struct tp_lane){.post = config->post,
                                             .endpoint = config->first_endpoint + nth,
                                             .name = nth == 0 ? "store-commit" : "store-read",
                                             .work = nth == 0 ? write_work : read_work,
                                             .owner = store};

    store->database =
        tp_database_open(config->location, config->memory_size, config->salvage, error, error_size);
    if (store->database == NULL)
        goto fail;
    for (uint32_t nth = 0; nth < LANE_COUNT; nth++) {
        const int failure = tp_lane_start(&store->lanes[nth]);
        if (failure != 0) {
            snprintf(error, error_size, "a thread of the store cannot start: %s",
                     strerror(failure));
            goto fail;
        }
    }
    return store;

fail:
    close_store(store);
    return NULL;
}

static struct tp_store_port *attach(struct tp_store *store, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_store_op *op),
                                    void *context)
{
    return tp_port_create(reactor, store->lanes[0].endpoint, LANE_COUNT, &store->tally, answered,
                          context);
}

static void read_counts(struct tp_store *store, struct tp_store_counts *out)
{
    tp_store_tally_read(&store->tally, out);
}

static bool is_stalled(struct tp_store *store)
{
    const uint64_t since_ns = atomic_load_explicit(&store->commit_since_ns, memory_order_relaxed);

    return since_ns != 0 && now_ns() > since_ns + TP_STORE_STALL_NS;
}

static void read_health(struct tp_store *store, struct tp_store_health *out)
{
    *out = (struct tp_store_health){.state = atomic_load(&store->trouble),
                                    .stop_count = atomic_load(&store->stop_count),
                                    .damage_count = tp_database_damage_count(store->database)};
    if (out->state != TP_STORE_OK)
        return;
    if (atomic_load(&store->held))
        out->state = TP_STORE_RESERVED;
    else if (is_stalled(store))
        out->state = TP_STORE_STALLED;
    else if (out->damage_count > 0)
        out->state = TP_STORE_CORRUPT;
}

static void explain(struct tp_store *store, char detail[TP_STORE_DETAIL_SIZE])
{
    if (atomic_load(&store->trouble) == TP_STORE_OK &&
        tp_database_damage_count(store->database) > 0) {
        tp_database_damage(store->database, detail);
        return;
    }
    pthread_mutex_lock(&store->lock);
    memcpy(detail, store->detail, sizeof store->detail);
    pthread_mutex_unlock(&store->lock);
}

static void hold(struct tp_store *store, bool on)
{
    atomic_store(&store->held, on);
}

const struct tp_store_backend tp_store_rocksdb = {
    .name = "rocksdb",
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
