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
 * only that thread touches it. All callbacks run inside tp_reactor_poll. Everything that makes a
 * run differ from the last one enters here: the simulator links a reactor of its own in place of
 * this one. */
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
    int cpu; /* pin the calling thread here; -1: do not. A wish: refused where it may not be */
    struct tp_post *post; /* NULL: no letters */
    uint32_t endpoint;    /* this thread's number in the post office */
    void (*letter)(void *context,
                   struct tp_letter *letter); /* one arrived; the reader owns it now */
    void *context;
};

#define TP_REACTOR_ENTRY_COUNT 512u
#define TP_REACTOR_BUFFER_COUNT 1024u
#define TP_REACTOR_BUFFER_SIZE 4096u

/* A request that the kernel works on. Embedded in its owner, at a stable address until the last
 * completion: the one without TP_IO_MORE. A negative result is -errno; -ECANCELED after
 * tp_reactor_cancel. */
struct tp_io {
    void (*done)(struct tp_io *io, int32_t result, uint32_t flags);
    uint32_t pending; /* requests under way; multishot counts until its last completion */
};

#define TP_IO_MORE 2u /* in `flags`: a multishot request goes on */

struct tp_timer {
    struct tp_link link;
    uint64_t at_ns; /* 0: not armed */
    void (*fired)(struct tp_timer *timer);
};

/* Must be called on the thread that will run it. NULL: errno says why (reactor/check.h says it in
 * words). */
struct tp_reactor *tp_reactor_create(const struct tp_reactor_config *config);
/* Requests still under way are cancelled and never complete; their tp_io may go afterwards. */
void tp_reactor_destroy(struct tp_reactor *reactor);

void tp_reactor_poll(struct tp_reactor *reactor);
void tp_reactor_wait(struct tp_reactor *reactor);
/* The next tp_reactor_wait does not sleep: the owner has more to do. */
void tp_reactor_stay_awake(struct tp_reactor *reactor);
/* Hands over to the kernel what has been asked so far, without waiting: for an owner whose memory
 * for messages (tp_reactor_send) is used up in the middle of a tick. */
void tp_reactor_submit(struct tp_reactor *reactor);

uint64_t tp_reactor_now_ns(const struct tp_reactor *reactor);  /* monotonic, as of this tick */
uint64_t tp_reactor_wall_ms(const struct tp_reactor *reactor); /* Unix time, as of this tick */

/* Arms or re-arms; accurate to about a millisecond, never early. A time that has passed fires in
 * this poll or at the next one; nothing fires inside the call. Set and stop are O(1). */
void tp_timer_init(struct tp_timer *timer, void (*fired)(struct tp_timer *timer));
void tp_timer_set(struct tp_reactor *reactor, struct tp_timer *timer, uint64_t at_ns);
void tp_timer_stop(struct tp_reactor *reactor, struct tp_timer *timer);

/* Requests. They are submitted with the tick's one io_uring_enter. Sockets must be blocking ones:
 * the kernel waits for them, and O_NONBLOCK would tell it not to. */
void tp_reactor_accept(struct tp_reactor *reactor, struct tp_io *io, int fd);  /* multishot */
void tp_reactor_receive(struct tp_reactor *reactor, struct tp_io *io, int fd); /* multishot */
/* Borrows `message` and what it points to until the tick's tp_reactor_wait (tp_reactor_submit)
 * returns; the bytes themselves until the completion. A message of one vector and nothing else may
 * go at once. */
void tp_reactor_send(struct tp_reactor *reactor, struct tp_io *io, int fd,
                     const struct msghdr *message);
/* Borrows `address` until it completes. */
void tp_reactor_connect(struct tp_reactor *reactor, struct tp_io *io, int fd,
                        const struct sockaddr *address, socklen_t size);
/* Completes once, when the file is ready for one of `events` (POLLIN, ...): the result has the
 * events. For libraries that read and write for themselves. */
void tp_reactor_watch(struct tp_reactor *reactor, struct tp_io *io, int fd, uint32_t events);
void tp_reactor_shutdown(struct tp_reactor *reactor, struct tp_io *io, int fd, int how);
void tp_reactor_close(struct tp_reactor *reactor, int fd); /* nobody waits for it */
/* Its completions still come. Nothing happens when it is done already. */
void tp_reactor_cancel(struct tp_reactor *reactor, struct tp_io *io);

/* The buffer that a receive completion with a positive result filled: result bytes, which the owner
 * may change in place, and must give back by tp_reactor_buffer_return. A receive that completes
 * with -ENOBUFS found the pool empty: ask again once buffers are back. */
uint8_t *tp_reactor_buffer(struct tp_reactor *reactor, uint32_t flags);
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
