#include "crdt/order.h"

static void add_lane(struct tp_order *order, const struct tp_walk *walk, const struct tp_struct *s,
                     uint64_t clock)
{
    if (order->lane_count == order->lane_room) {
        order->lane_room = order->lane_room == 0 ? 8 : order->lane_room * 2;
        order->lanes = realloc(order->lanes, order->lane_room * sizeof *order->lanes);
        TP_ASSERT(order->lanes != NULL);
    }
    order->lanes[order->lane_count++] = (struct tp_order_lane){
        .client = s->client,
        .clock = clock,
        .structs_left = walk->structs_left + 1,
        .at = s->at,
        .at_clock = s->clock,
        .begin = s->at,
        .begin_at_clock = s->clock,
        .begin_clock = clock,
    };
}

/* What is known of a client from the peer alone. Asked in descending order while lanes are made. */
static uint64_t known_clock(const struct tp_order *order, uint64_t client)
{
    return order->known == NULL ? 0 : tp_state_vector_get(order->known, client);
}

void tp_order_init(struct tp_order *order, const struct tp_normal *normal,
                   const struct tp_index *index, const struct tp_state_vector *known)
{
    struct tp_walk walk;
    struct tp_struct s;
    uint64_t clock = 0;
    bool found = false;

    *order = (struct tp_order){.normal = normal, .index = index, .known = known};
    tp_normal_walk(normal, &walk);
    while (tp_walk_next(&walk, &s)) {
        if (walk.new_block) {
            clock = known_clock(order, s.client);
            found = false;
        }
        if (!found && tp_struct_end(&s) > clock) {
            add_lane(order, &walk, &s, clock > s.clock ? clock : s.clock);
            found = true;
            /* Without its beginning nothing of a client can have its turn. */
            if (s.clock > clock && index == NULL)
                order->lanes[order->lane_count - 1].stuck = true;
        }
    }
    order->stack = malloc((order->lane_count + 1) * sizeof *order->stack);
    TP_ASSERT(order->stack != NULL);
}

void tp_order_finish(struct tp_order *order)
{
    free(order->lanes);
    free(order->stack);
    *order = (struct tp_order){0};
}

static struct tp_order_lane *find_lane(const struct tp_order *order, uint64_t client)
{
    uint32_t low = 0;
    uint32_t high = order->lane_count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (order->lanes[middle].client > client)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == order->lane_count || order->lanes[low].client != client)
        return NULL;
    return &order->lanes[low];
}

enum verdict {
    FREE,
    WAITS, /* for `waited`, until that is past `until` */
    STUCK,
};

static enum verdict judge_link(const struct tp_order *order, uint64_t own, struct tp_id id,
                               struct tp_order_lane **waited)
{
    if (id.client == own)
        return FREE; /* older than the struct: it had its turn, or was known */
    struct tp_order_lane *const lane = find_lane(order, id.client);
    if (lane == NULL) /* all of it is known to the peer, or nothing is there */
        return order->index != NULL || id.clock < known_clock(order, id.client) ? FREE : STUCK;
    if (id.clock < lane->clock)
        return FREE;
    if (order->index != NULL && tp_index_find(order->index, id) == TP_RECORD_NONE)
        return FREE;
    if (lane->stuck || lane->structs_left == 0)
        return STUCK;
    *waited = lane;
    return WAITS;
}

static enum verdict judge(const struct tp_order *order, const struct tp_struct *s,
                          struct tp_order_lane **waited, uint64_t *until)
{
    const bool linked = s->info & TP_INFO_LINKED;
    const struct {
        bool there;
        const struct tp_id *id;
    } links[] = {
        {s->info & TP_INFO_ORIGIN, &s->origin},
        {s->info & TP_INFO_RIGHT, &s->right},
        {!linked && s->root.data == NULL, &s->parent},
    };

    if (s->ref == TP_REF_GC || s->ref == TP_REF_SKIP)
        return s->ref == TP_REF_SKIP && order->index == NULL ? STUCK : FREE;
    for (unsigned i = 0; i < 3; i++) {
        if (!links[i].there)
            continue;
        const enum verdict verdict = judge_link(order, s->client, *links[i].id, waited);
        if (verdict != FREE) {
            *until = links[i].id->clock;
            return verdict;
        }
    }
    return FREE;
}

/* All that wait, wait for the one on top. */
static void give_up(struct tp_order *order)
{
    while (order->stack_count > 0) {
        struct tp_order_lane *const lane = &order->lanes[order->stack[--order->stack_count]];
        lane->stuck = true;
        lane->waits = false;
    }
}

static void push(struct tp_order *order, struct tp_order_lane *lane, uint64_t wait_clock)
{
    lane->waits = true;
    lane->wait_clock = wait_clock;
    order->stack[order->stack_count++] = (uint32_t)(lane - order->lanes);
}

/* Moves the lane on top of the stack on, until it waits, is stuck, or has what was asked of it. */
static bool advance(struct tp_order *order, uint64_t size_max)
{
    struct tp_order_lane *lane = &order->lanes[order->stack[order->stack_count - 1]];
    const struct tp_normal *const normal = order->normal;
    struct tp_walk walk;
    struct tp_struct s;
    bool after_gc = false;

    tp_walk_resume(&walk, lane->at, normal->bytes.data + normal->bytes.size, normal->form,
                   lane->client, lane->at_clock, lane->structs_left, 0);
    for (;;) {
        if (lane->structs_left == 0 || lane->clock > lane->wait_clock) {
            /* Neighbouring GCs stay together: apart, a merge would join them. */
            if (!after_gc || lane->structs_left == 0 || *walk.at != TP_REF_GC) {
                lane->waits = false;
                order->stack_count--;
                return true;
            }
        }
        if (order->done_size >= size_max &&
            !(after_gc && lane->structs_left > 0 && *walk.at == TP_REF_GC))
            return false;
        TP_ASSERT(tp_walk_next(&walk, &s));
        struct tp_order_lane *waited = NULL;
        uint64_t until = 0;
        switch (judge(order, &s, &waited, &until)) {
        case STUCK:
            give_up(order);
            return true;
        case WAITS:
            if (waited->waits)
                give_up(order); /* a circle */
            else
                push(order, waited, until);
            return true;
        case FREE:
            break;
        }
        after_gc = s.ref == TP_REF_GC;
        lane->at = s.end;
        lane->at_clock = lane->clock = tp_struct_end(&s);
        lane->structs_left--;
        lane->done_count++;
        order->done_size += (uint64_t)(s.end - s.at);
    }
}

bool tp_order_run(struct tp_order *order, uint64_t size_max)
{
    for (;;) {
        if (order->stack_count > 0) {
            if (!advance(order, size_max))
                return true;
            continue;
        }
        while (order->next < order->lane_count &&
               (order->lanes[order->next].stuck || order->lanes[order->next].structs_left == 0))
            order->next++;
        if (order->next == order->lane_count)
            return false;
        if (order->done_size >= size_max)
            return true;
        push(order, &order->lanes[order->next], UINT64_MAX);
    }
}

void tp_order_pass(struct tp_order *order)
{
    order->done_size = 0;
    for (uint32_t i = 0; i < order->lane_count; i++) {
        struct tp_order_lane *const lane = &order->lanes[i];
        if (lane->done_count == 0)
            continue;
        lane->begin = lane->at;
        lane->begin_at_clock = lane->at_clock;
        lane->begin_clock = lane->clock;
        lane->done_count = 0;
        lane->moved = true;
    }
}
