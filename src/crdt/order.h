/* crdt/order.h - an order in which every struct follows what it depends on (spec 04 section 10.4).
 *
 * Each client's structs depend on one another in the order of their clocks anyway, so that the
 * order is told by one lane per client that only moves forward. A lane whose next struct waits for
 * another client's is set aside until that lane has come far enough; lanes that wait for each
 * other, or for what is not there, are stuck. The time is that of one walk. */
#pragma once

#include "crdt/index.h"
#include "crdt/state_vector.h"

struct tp_order_lane {
    uint64_t client;
    uint64_t clock; /* what is below has had its turn, or is known to the peer */
    uint64_t structs_left;
    const uint8_t *at;   /* the struct that `clock` is in */
    uint64_t at_clock;   /* where that struct starts */
    uint64_t wait_clock; /* while on the stack: what the lane below it waits for */
    bool stuck;
    bool waits; /* on the stack */
    /* The part that had its turn since the lanes were made. */
    const uint8_t *begin;
    uint64_t begin_at_clock;
    uint64_t begin_clock;
    uint64_t done_count; /* structs */
    bool moved;          /* something had its turn before that part */
};

struct tp_order {
    const struct tp_normal *normal;
    const struct tp_index *index; /* if links into nowhere shall not count, and holes be passed */
    const struct tp_state_vector *known;
    struct tp_order_lane *lanes; /* clients descending */
    uint32_t lane_count, lane_room;
    uint32_t next; /* the first lane that may have more */
    uint32_t *stack;
    uint32_t stack_count;
    uint64_t done_size; /* bytes of structs that had their turn */
};

/* `known` may be NULL. */
void tp_order_init(struct tp_order *order, const struct tp_normal *normal,
                   const struct tp_index *index, const struct tp_state_vector *known);
void tp_order_finish(struct tp_order *order);

/* Lets structs have their turn until `size_max` bytes had it, and one at the least. False: there
 * are no more, but for what is stuck. */
bool tp_order_run(struct tp_order *order, uint64_t size_max);

/* What had its turn is done with: the parts of the lanes, and done_size, begin anew. */
void tp_order_pass(struct tp_order *order);
