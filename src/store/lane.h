/* store/lane.h - how operations get from a shard's port to a backend's threads, and back.
 *
 *     shard's port ──parcel──► lane 0 (writes)          a parcel: up to TP_PARCEL_OP_COUNT_MAX
 *          │ ▲ ──────parcel──► lane 1, 2 (reads)        operations of one submit, in their order
 *          │ └──────── the same parcel, every operation in it answered
 *          └ answered(op), one by one
 *
 * A lane is a thread with a reactor of its own, asleep when no parcel waits. A parcel is answered
 * as a whole and goes back to the port that made it: nothing is allocated on one thread and freed
 * on another. Appends and writes of a port all take lane 0, so they keep their order. */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "reactor/post.h"
#include "reactor/reactor.h"
#include "store/store.h"

#define TP_PARCEL_OP_COUNT_MAX 256u
#define TP_PARCEL_SIZE_MAX ((size_t)1 << 20) /* bytes; one larger operation travels alone */

struct tp_parcel {
    struct tp_letter letter; /* first: a letter of a lane or a port is always a parcel */
    struct tp_link link;     /* in the lane's queue */
    struct tp_parcel *next;  /* among the port's spare ones */
    struct tp_link ops;
    uint32_t op_count;
    size_t size;   /* bytes of keys and values to write */
    uint32_t home; /* endpoint of the port */
    uint32_t lane_index;
};

/* Counted from any thread. */
struct tp_store_tally {
    _Atomic uint64_t appends, writes, reads, commits, syncs, bytes_written, failures;
    _Atomic uint64_t commit_ns_total, commit_ns_max;
    _Atomic uint64_t queued;
};

void tp_store_tally_read(struct tp_store_tally *tally, struct tp_store_counts *out);

static inline void tp_tally(_Atomic uint64_t *count, uint64_t more)
{
    atomic_fetch_add_explicit(count, more, memory_order_relaxed);
}

struct tp_lane {
    /* set by its owner before tp_lane_start */
    struct tp_post *post;
    uint32_t endpoint;
    const char *name; /* of the thread, at most 15 letters */
    /* Parcels wait in `queue`: take some, answer them with tp_lane_answer. Called again at once as
     * long as any wait. */
    void (*work)(struct tp_lane *lane);
    void *owner;

    /* the lane's own */
    struct tp_reactor *reactor;
    struct tp_link queue;
    pthread_t thread;
    sem_t ready;
    int error; /* errno of the reactor's creation */
    bool stopped, started;
};

/* 0, or an errno: the thread or its ring could not be made. */
TP_MUST_CHECK int tp_lane_start(struct tp_lane *lane);
/* Takes the first parcel out of the queue; NULL: none waits. */
struct tp_parcel *tp_lane_take(struct tp_lane *lane);
void tp_lane_answer(struct tp_lane *lane, struct tp_parcel *parcel);
/* Ends `count` threads from a thread that is no endpoint, by way of the spare endpoint `closer`.
 * Lanes that never started are fine. */
void tp_lanes_stop(struct tp_lane *lanes, uint32_t count, struct tp_post *post, uint32_t closer);

/* The port of every backend that works by lanes: lane 0 writes, and reads if it is the only one. */
struct tp_store_port *tp_port_create(struct tp_reactor *reactor, uint32_t first_endpoint,
                                     uint32_t lane_count, struct tp_store_tally *tally,
                                     void (*answered)(void *context, struct tp_store_op *op),
                                     void *context);
void tp_port_destroy(struct tp_store_port *port);
void tp_port_submit(struct tp_store_port *port, struct tp_link *ops);
void tp_port_letter(struct tp_store_port *port, struct tp_letter *letter);
