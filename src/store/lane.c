#include "store/lane.h"

#include <errno.h>
#include <stdlib.h>

#include "store/batch.h"

#define LANE_COUNT_MAX 8u
#define ENTRY_COUNT 64u /* of a lane's ring: it only sends wake-ups */

enum letter_kind { PARCEL = 1, STOP };

/* ---- lanes ------------------------------------------------------------------------------------
 */

static void receive(void *context, struct tp_letter *letter)
{
    struct tp_lane *lane = context;

    if (letter->kind == STOP) {
        lane->stopped = true;
        return;
    }
    struct tp_parcel *parcel = TP_CONTAINER(letter, struct tp_parcel, letter);
    parcel->home = letter->from;
    tp_link_insert(&lane->queue, &parcel->link);
}

static void *run_lane(void *context)
{
    struct tp_lane *lane = context;
    const struct tp_reactor_config config = {.entry_count = ENTRY_COUNT,
                                             .cpu = -1,
                                             .post = lane->post,
                                             .endpoint = lane->endpoint,
                                             .letter = receive,
                                             .context = lane};

    (void)pthread_setname_np(pthread_self(), lane->name);
    lane->reactor = tp_reactor_create(&config);
    lane->error = lane->reactor == NULL ? errno : 0;
    sem_post(&lane->ready);
    if (lane->reactor == NULL)
        return NULL;

    while (!lane->stopped) {
        tp_reactor_poll(lane->reactor);
        if (!tp_link_alone(&lane->queue))
            lane->work(lane);
        if (!tp_link_alone(&lane->queue) || lane->stopped)
            tp_reactor_stay_awake(lane->reactor);
        tp_reactor_wait(lane->reactor);
    }
    tp_reactor_destroy(lane->reactor);
    return NULL;
}

int tp_lane_start(struct tp_lane *lane)
{
    tp_link_init(&lane->queue);
    sem_init(&lane->ready, 0, 0);
    int error = pthread_create(&lane->thread, NULL, run_lane, lane);
    if (error == 0) {
        while (sem_wait(&lane->ready) != 0) {
        }
        error = lane->error;
        if (error != 0)
            pthread_join(lane->thread, NULL);
    }
    lane->started = error == 0;
    return error;
}

struct tp_parcel *tp_lane_take(struct tp_lane *lane)
{
    struct tp_link *link = tp_list_pop(&lane->queue);

    return link == NULL ? NULL : TP_CONTAINER(link, struct tp_parcel, link);
}

void tp_lane_answer(struct tp_lane *lane, struct tp_parcel *parcel)
{
    tp_post_send(lane->reactor, parcel->home, &parcel->letter);
}

static void ignore(void *context, struct tp_letter *letter)
{
    (void)context;
    (void)letter;
}

void tp_lanes_stop(struct tp_lane *lanes, uint32_t count, struct tp_post *post, uint32_t closer)
{
    struct tp_letter letters[LANE_COUNT_MAX] = {0};
    const struct tp_reactor_config config = {
        .entry_count = ENTRY_COUNT, .cpu = -1, .post = post, .endpoint = closer, .letter = ignore};
    uint32_t started_count = 0;

    TP_ASSERT(count <= LANE_COUNT_MAX);
    for (uint32_t nth = 0; nth < count; nth++)
        started_count += lanes[nth].started;
    if (started_count == 0)
        return;
    /* A ring for a moment: only letters wake a lane, and only a reactor sends letters. Without one
     * (out of locked memory), ending the process is all that is left. */
    struct tp_reactor *reactor = tp_reactor_create(&config);
    TP_ASSERT(reactor != NULL);
    for (uint32_t nth = 0; nth < count; nth++) {
        if (!lanes[nth].started)
            continue;
        letters[nth].kind = STOP;
        tp_post_send(reactor, lanes[nth].endpoint, &letters[nth]);
    }
    tp_reactor_stay_awake(reactor);
    tp_reactor_wait(reactor);
    for (uint32_t nth = 0; nth < count; nth++) {
        if (!lanes[nth].started)
            continue;
        pthread_join(lanes[nth].thread, NULL);
        sem_destroy(&lanes[nth].ready);
        lanes[nth].started = false;
    }
    tp_reactor_destroy(reactor);
}

void tp_store_tally_read(struct tp_store_tally *tally, struct tp_store_counts *out)
{
    *out = (struct tp_store_counts){
        .appends = tally->appends,
        .writes = tally->writes,
        .reads = tally->reads,
        .commits = tally->commits,
        .syncs = tally->syncs,
        .bytes_written = tally->bytes_written,
        .failures = tally->failures,
        .commit_ns_total = tally->commit_ns_total,
        .commit_ns_max = tally->commit_ns_max,
        .queued = tally->queued,
    };
}

/* ---- ports ------------------------------------------------------------------------------------
 */

struct tp_store_port {
    struct tp_reactor *reactor;
    uint32_t first_endpoint, lane_count;
    struct tp_store_tally *tally;
    void (*answered)(void *context, struct tp_store_op *op);
    void *context;
    struct tp_parcel *spare;
    uint32_t open_count;                /* parcels under way */
    uint32_t lane_open[LANE_COUNT_MAX]; /* of them, by lane */
};

struct tp_store_port *tp_port_create(struct tp_reactor *reactor, uint32_t first_endpoint,
                                     uint32_t lane_count, struct tp_store_tally *tally,
                                     void (*answered)(void *context, struct tp_store_op *op),
                                     void *context)
{
    struct tp_store_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    TP_ASSERT(lane_count >= 1 && lane_count <= LANE_COUNT_MAX);
    *port = (struct tp_store_port){.reactor = reactor,
                                   .first_endpoint = first_endpoint,
                                   .lane_count = lane_count,
                                   .tally = tally,
                                   .answered = answered,
                                   .context = context};
    return port;
}

void tp_port_destroy(struct tp_store_port *port)
{
    TP_ASSERT(port->open_count == 0);
    for (struct tp_parcel *parcel = port->spare, *next; parcel != NULL; parcel = next) {
        next = parcel->next;
        free(parcel);
    }
    free(port);
}

/* Reads go where the fewest of ours wait: one slow scan holds up no others. */
static uint32_t choose_lane(const struct tp_store_port *port, const struct tp_store_op *op)
{
    uint32_t best = 1;

    if (op->verb != TP_STORE_READ || port->lane_count == 1)
        return 0;
    for (uint32_t lane = 2; lane < port->lane_count; lane++)
        if (port->lane_open[lane] < port->lane_open[best])
            best = lane;
    return best;
}

static struct tp_parcel *open_parcel(struct tp_store_port *port, uint32_t lane_index)
{
    struct tp_parcel *parcel = port->spare;

    if (parcel != NULL)
        port->spare = parcel->next;
    else
        parcel = malloc(sizeof *parcel);
    TP_ASSERT(parcel != NULL);
    *parcel = (struct tp_parcel){.letter.kind = PARCEL, .lane_index = lane_index};
    tp_link_init(&parcel->link);
    tp_link_init(&parcel->ops);
    port->open_count++;
    port->lane_open[lane_index]++;
    return parcel;
}

static void send_parcel(struct tp_store_port *port, struct tp_parcel *parcel)
{
    tp_tally(&port->tally->queued, parcel->op_count);
    tp_post_send(port->reactor, port->first_endpoint + parcel->lane_index, &parcel->letter);
}

void tp_port_submit(struct tp_store_port *port, struct tp_link *ops)
{
    struct tp_parcel *writes = NULL;
    struct tp_link *link;

    while ((link = tp_list_pop(ops)) != NULL) {
        struct tp_store_op *op = TP_CONTAINER(link, struct tp_store_op, link);
        const size_t size = tp_store_op_size(op);

        if (op->verb == TP_STORE_READ) {
            struct tp_parcel *read = open_parcel(port, choose_lane(port, op));
            tp_link_insert(&read->ops, &op->link);
            read->op_count = 1;
            send_parcel(port, read);
            continue;
        }
        if (writes != NULL && (writes->op_count == TP_PARCEL_OP_COUNT_MAX ||
                               writes->size + size > TP_PARCEL_SIZE_MAX)) {
            send_parcel(port, writes);
            writes = NULL;
        }
        if (writes == NULL)
            writes = open_parcel(port, 0);
        tp_link_insert(&writes->ops, &op->link);
        writes->op_count++;
        writes->size += size;
    }
    if (writes != NULL)
        send_parcel(port, writes);
}

void tp_port_letter(struct tp_store_port *port, struct tp_letter *letter)
{
    struct tp_parcel *parcel = TP_CONTAINER(letter, struct tp_parcel, letter);
    struct tp_link *link;

    TP_ASSERT(letter->kind == PARCEL);
    TP_ASSERT(port->open_count > 0);
    port->open_count--;
    port->lane_open[parcel->lane_index]--;
    atomic_fetch_sub_explicit(&port->tally->queued, parcel->op_count, memory_order_relaxed);
    while ((link = tp_list_pop(&parcel->ops)) != NULL)
        port->answered(port->context, TP_CONTAINER(link, struct tp_store_op, link));
    parcel->next = port->spare;
    port->spare = parcel;
}
