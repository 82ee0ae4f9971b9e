/* reactor/reactor.h - one thread's io_uring: requests, timers, letters, time.
 *
 *     for (;;) {
 *         tp_reactor_poll(reactor);     letters, completions, timers: everything that happened
 *         ...                           the owner's own end of tick: batches, outboxes
 *         tp_reactor_wait(reactor);     one io_uring_enter: submit all, sleep until something
 * happens
 *     }
 *
 * Every thread of the process that waits for anything has one (shards, the committer, workers), and
 * only that thread touches it. Everything that makes a run differ from the last one enters here:
 * the simulator links a reactor of its own in place of this one. */
#pragma once

#include <sys/socket.h>

#include "base/list.h"

struct tp_reactor;
struct tp_post;
struct tp_letter;

struct tp_reactor_config {
    uint32_t entry_count;  /* submission queue; completions have four times as many */
    uint32_t buffer_count; /* receive buffers in the ring's pool: a power of two, 0: none */
    uint32_t buffer_size;  /* bytes each */
    int cpu;               /* pin the calling thread here; -1: do not */
    struct tp_post *post;  /* NULL: no letters */
    uint32_t endpoint;     /* this thread's number in the post office */
    void (*letter)(void *context,
                   struct tp_letter *letter); /* one arrived; the reader owns it now */
    void *context;
};

/* A request that the kernel works on. Embedded in its owner, at a stable address until the last
 * completion. `flags` are the kernel's (IORING_CQE_F_*). */
struct tp_io {
    void (*done)(struct tp_io *io, int32_t result, uint32_t flags);
    uint32_t pending; /* requests under way; multishot counts until its last completion */
};

struct tp_timer {
    struct tp_link link;
    uint64_t at_ns; /* 0: not armed */
    void (*fired)(struct tp_timer *timer);
};

/* Must be called on the thread that will run it. NULL: errno says why. */
struct tp_reactor *tp_reactor_create(const struct tp_reactor_config *config);
void tp_reactor_destroy(struct tp_reactor *reactor);

void tp_reactor_poll(struct tp_reactor *reactor);
void tp_reactor_wait(struct tp_reactor *reactor);
/* The next tp_reactor_wait does not sleep: the owner has more to do. */
void tp_reactor_stay_awake(struct tp_reactor *reactor);

uint64_t tp_reactor_now_ns(const struct tp_reactor *reactor);  /* monotonic, as of this tick */
uint64_t tp_reactor_wall_ms(const struct tp_reactor *reactor); /* Unix time, as of this tick */

/* Arms or re-arms; accurate to about a millisecond. Never fires inside the call. */
void tp_timer_init(struct tp_timer *timer, void (*fired)(struct tp_timer *timer));
void tp_timer_set(struct tp_reactor *reactor, struct tp_timer *timer, uint64_t at_ns);
void tp_timer_stop(struct tp_reactor *reactor, struct tp_timer *timer);

/* Requests. They are submitted with the tick's one io_uring_enter. */
void tp_reactor_accept(struct tp_reactor *reactor, struct tp_io *io, int fd); /* multishot */
void tp_reactor_receive(struct tp_reactor *reactor, struct tp_io *io,
                        int fd); /* multishot, into the pool */
void tp_reactor_send(struct tp_reactor *reactor, struct tp_io *io, int fd,
                     const struct msghdr *message);
void tp_reactor_shutdown(struct tp_reactor *reactor, struct tp_io *io, int fd, int how);
void tp_reactor_close(struct tp_reactor *reactor, int fd); /* nobody waits for it */
void tp_reactor_cancel(struct tp_reactor *reactor,
                       struct tp_io *io); /* its completions still come */

/* The buffer that a receive completion filled, and its way back into the pool. */
struct tp_slice tp_reactor_buffer(struct tp_reactor *reactor, int32_t result, uint32_t flags);
void tp_reactor_buffer_return(struct tp_reactor *reactor, uint32_t flags);

/* What the ring has done so far, for metrics: counts. */
struct tp_reactor_counts {
    uint64_t turns;  /* polls */
    uint64_t enters; /* system calls */
    uint64_t completions;
    uint64_t letters_in, letters_out, wakes;
    uint64_t buffers_short; /* receives that stopped because the pool was empty */
};
struct tp_reactor_counts tp_reactor_counts(const struct tp_reactor *reactor);
