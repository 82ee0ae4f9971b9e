/* bridge/window.h - which of a sender's numbered datagrams came, in whatever order.
 *
 *     ... came or given up ... | base: the first that is missing ...... top: the next to be said |
 *
 * Numbers further than TP_WINDOW_SIZE apart are not kept in mind together: what is missing so far
 * back is given up. */
#pragma once

#include "bridge/datagram.h"

#define TP_WINDOW_SIZE 32768u /* a power of two */

struct tp_window { /* zeroed: nothing heard yet */
    bool begun;
    uint64_t base, top;
    uint64_t given_up; /* numbers that will not come, so far */
    uint64_t bits[TP_WINDOW_SIZE / 64];
};

/* Notes that `number` came. False: it had come before, or was given up. The first one begins the
 * window: what was before it is not missed. */
bool tp_window_take(struct tp_window *window, uint64_t number);
/* Everything below `top` has been said. */
void tp_window_expect(struct tp_window *window, uint64_t top);
/* These will not come. */
void tp_window_give_up(struct tp_window *window, struct tp_span span);
static inline bool tp_window_is_whole(const struct tp_window *window)
{
    return window->base == window->top;
}
/* The first spans that are missing, at most `count_max`; returns how many. */
uint32_t tp_window_missing(const struct tp_window *window, struct tp_span *spans,
                           uint32_t count_max);
