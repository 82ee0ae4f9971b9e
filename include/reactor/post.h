/* reactor/post.h - letters between threads: the only thing that crosses.
 *
 *     endpoint a --[ bounded ring, one writer, one reader ]--> endpoint b     for every pair (a, b)
 *
 * A letter is a struct inside something larger that its writer owns until it is sent; then it is
 * the reader's. What must go back (memory of the writer's pool) is sent home as a letter again.
 * Nothing is locked and nothing is shared. When a ring is full the letter waits in the writer's own
 * list and goes out with a later tick, in order. A sleeping reader is woken once per tick by
 * IORING_OP_MSG_RING; a busy one is not disturbed. */
#pragma once

#include "base/list.h"

#define TP_POST_ENDPOINT_COUNT_MAX 256u
#define TP_POST_RING_SIZE 1024u /* letters between two endpoints; a power of two */

struct tp_post;
struct tp_reactor;

struct tp_letter {
    struct tp_link link; /* in the writer's waiting list */
    uint32_t from;       /* set by the post */
    uint32_t kind;       /* the two ends agree; 0 is not used */
};

/* For `count` endpoints. Before any thread starts; destroy after all have ended. Letters that
 * nobody has read by then stay with whoever keeps track of them. */
struct tp_post *tp_post_create(uint32_t count);
void tp_post_destroy(struct tp_post *post);

/* From the reactor's own thread. Delivered at the receiver's tp_reactor_poll, in order per pair. A
 * letter to oneself is delivered at the next poll. Never fails. */
void tp_post_send(struct tp_reactor *reactor, uint32_t to, struct tp_letter *letter);

/* When the thread of an endpoint should be heard of, or should have been: while it runs, the begin
 * of its turn; while it sleeps, its next timer, or when it was woken; UINT64_MAX: nobody is there,
 * or waits for anything. A thread that hangs stays at a time that passes. From any thread. */
uint64_t tp_post_due_ns(const struct tp_post *post, uint32_t endpoint);
