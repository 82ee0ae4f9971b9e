/* reactor/internal.h - what the files of this folder share: the wheel, the post's hooks, the
 * reactor's fields. */
#pragma once

#include <liburing.h>
#include <stdatomic.h>

#include "reactor/post.h"
#include "reactor/reactor.h"

/* Timers by their expiry tick (2^20 ns, about a millisecond): level n has 64 slots of 64^n ticks.
 *
 * A timer stands at the level of the highest base-64 digit in which its tick differs from `now`, in
 * the slot of that digit: so a level's slots all lie ahead of now, the lowest level that is not
 * empty holds the next event, and a slot of a higher level is dealt out to lower ones when its time
 * comes. Setting and stopping are O(1); a timer is moved at most once per level. */
#define TP_WHEEL_SHIFT 20u
#define TP_WHEEL_LEVEL_COUNT 7u

struct tp_wheel {
    uint64_t now;    /* ticks; everything up to here has been dealt with */
    uint64_t now_ns; /* the same, exactly: what is due by then need not wait for the next tick */
    uint64_t occupied[TP_WHEEL_LEVEL_COUNT]; /* bit n: slot n is not empty */
    struct tp_link slots[TP_WHEEL_LEVEL_COUNT][64];
    struct tp_link due; /* will fire at the next poll */
};

void tp_wheel_init(struct tp_wheel *wheel, uint64_t now_ns);
void tp_wheel_set(struct tp_wheel *wheel, struct tp_timer *timer, uint64_t at_ns);
void tp_wheel_stop(struct tp_wheel *wheel, struct tp_timer *timer);
/* Moves what is due by now to `due` and fires it; what is set meanwhile waits for the next call. */
void tp_wheel_advance(struct tp_wheel *wheel, uint64_t now_ns);
/* No timer fires before this time; UINT64_MAX: there is none, 0: some are due. */
uint64_t tp_wheel_next_ns(const struct tp_wheel *wheel);

/* One reactor's view of the post: what it wants to send. */
struct tp_mail {
    struct tp_link waiting; /* letters that found the ring full */
    bool touched;           /* something for that endpoint happened: wake it if it sleeps */
};

struct tp_reactor {
    struct io_uring ring;
    struct tp_reactor_config config;
    uint64_t now_ns;
    uint64_t wall_ms;
    bool awake;                        /* the next wait does not sleep */
    bool sleeping_told;                /* our endpoint says that we sleep */
    struct io_uring_buf_ring *buffers; /* the kernel's queue of free buffers */
    uint8_t *buffer_memory;
    struct tp_wheel wheel;
    struct tp_mail *mail; /* by endpoint */
    uint32_t mail_count;
    struct tp_link to_self;
    struct tp_reactor_counts counts;
};

#define TP_REACTOR_WAKE 1u /* user data of a wake-up; 0: nobody waits for the result */

struct io_uring_sqe *tp_reactor_sqe(struct tp_reactor *reactor);
/* Sets a ring up as all of ours are. 0 or -errno. */
int tp_reactor_ring_setup(struct io_uring *ring, uint32_t entry_count);
#define TP_REACTOR_BUFFER_GROUP 0

void tp_post_join(struct tp_post *post, struct tp_reactor *reactor);
void tp_post_leave(struct tp_post *post, struct tp_reactor *reactor);
void tp_post_read(struct tp_reactor *reactor);
/* Pushes what waits and wakes who sleeps; then says whether this reactor may sleep itself. */
bool tp_post_before_wait(struct tp_reactor *reactor, bool wants_sleep);
void tp_post_after_wait(struct tp_reactor *reactor);
/* Tells whoever watches when this thread should be heard of again (tp_post_due_ns). */
void tp_post_set_due(struct tp_reactor *reactor, uint64_t at_ns);
