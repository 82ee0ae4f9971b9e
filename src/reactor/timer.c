#include "internal.h"

#define TICK_MAX ((UINT64_C(1) << (6 * TP_WHEEL_LEVEL_COUNT)) - 1)

void tp_wheel_init(struct tp_wheel *wheel, uint64_t now_ns)
{
    *wheel = (struct tp_wheel){.now = now_ns >> TP_WHEEL_SHIFT, .now_ns = now_ns};
    for (uint32_t level = 0; level < TP_WHEEL_LEVEL_COUNT; level++)
        for (uint32_t slot = 0; slot < 64; slot++)
            tp_link_init(&wheel->slots[level][slot]);
    tp_link_init(&wheel->due);
}

static void place(struct tp_wheel *wheel, struct tp_timer *timer)
{
    /* Rounded up, so that nothing fires early. */
    uint64_t tick = (timer->at_ns >> TP_WHEEL_SHIFT) +
                    ((timer->at_ns & ((UINT64_C(1) << TP_WHEEL_SHIFT) - 1)) != 0);

    if (tick > TICK_MAX)
        tick = TICK_MAX; /* in 139 years */
    if (tick <= wheel->now || timer->at_ns <= wheel->now_ns) {
        tp_link_insert(&wheel->due, &timer->link);
        return;
    }
    const uint32_t level = (63u - (uint32_t)__builtin_clzll(tick ^ wheel->now)) / 6;
    const uint32_t slot = (tick >> (6 * level)) & 63;
    tp_link_insert(&wheel->slots[level][slot], &timer->link);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

void tp_wheel_stop(struct tp_wheel *wheel, struct tp_timer *timer)
{
    struct tp_link *const before = timer->link.prev;
    struct tp_link *const first = &wheel->slots[0][0];

    timer->at_ns = 0;
    tp_link_remove(&timer->link);
    /* The last of its slot leaves only the slot's head, and the head's place says which slot. */
    if (before->next != before || before < first || before >= first + TP_WHEEL_LEVEL_COUNT * 64)
        return;
    const uint32_t index = (uint32_t)(before - first);
    wheel->occupied[index / 64] &= ~(UINT64_C(1) << (index % 64));
}

void tp_wheel_set(struct tp_wheel *wheel, struct tp_timer *timer, uint64_t at_ns)
{
    if (timer->at_ns != 0)
        tp_wheel_stop(wheel, timer);
    timer->at_ns = at_ns == 0 ? 1 : at_ns;
    place(wheel, timer);
}

/* The next tick at which a slot must be looked at, and its level; UINT64_MAX if all are empty. */
static uint64_t next_tick(const struct tp_wheel *wheel, uint32_t *level)
{
    for (uint32_t at = 0; at < TP_WHEEL_LEVEL_COUNT; at++) {
        if (wheel->occupied[at] == 0)
            continue;
        const uint64_t slot = (uint64_t)__builtin_ctzll(wheel->occupied[at]);
        const uint32_t above = 6 * (at + 1);
        *level = at;
        return (wheel->now >> above << above) | slot << (6 * at);
    }
    return UINT64_MAX;
}

void tp_wheel_advance(struct tp_wheel *wheel, uint64_t now_ns)
{
    const uint64_t now = now_ns >> TP_WHEEL_SHIFT;
    struct tp_link firing;
    uint32_t level = 0;

    for (uint64_t tick; (tick = next_tick(wheel, &level)) <= now;) {
        const uint32_t slot = (tick >> (6 * level)) & 63;
        struct tp_link moving;
        tp_link_init(&moving);
        TP_ASSERT_HOT(tick > wheel->now);
        wheel->now = tick;
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        tp_list_splice(&moving, &wheel->slots[level][slot]);
        for (struct tp_link *link; (link = tp_list_pop(&moving)) != NULL;)
            place(wheel, TP_CONTAINER(link, struct tp_timer, link));
    }
    if (now > wheel->now)
        wheel->now = now;
    wheel->now_ns = now_ns;

    /* A list of its own: what the callbacks set to a time that has passed waits for the next turn,
     * so that a timer that always re-arms itself cannot hold the loop. */
    tp_link_init(&firing);
    tp_list_splice(&firing, &wheel->due);
    for (struct tp_link *link; (link = tp_list_pop(&firing)) != NULL;) {
        struct tp_timer *timer = TP_CONTAINER(link, struct tp_timer, link);
        timer->at_ns = 0;
        timer->fired(timer);
    }
}

uint64_t tp_wheel_next_ns(const struct tp_wheel *wheel)
{
    uint32_t level = 0;

    if (!tp_link_alone(&wheel->due))
        return 0;
    const uint64_t tick = next_tick(wheel, &level);
    return tick > UINT64_MAX >> TP_WHEEL_SHIFT ? UINT64_MAX : tick << TP_WHEEL_SHIFT;
}

void tp_timer_init(struct tp_timer *timer, void (*fired)(struct tp_timer *timer))
{
    *timer = (struct tp_timer){.fired = fired};
    tp_link_init(&timer->link);
}

void tp_timer_set(struct tp_reactor *reactor, struct tp_timer *timer, uint64_t at_ns)
{
    tp_wheel_set(&reactor->wheel, timer, at_ns);
}

void tp_timer_stop(struct tp_reactor *reactor, struct tp_timer *timer)
{
    if (timer->at_ns != 0)
        tp_wheel_stop(&reactor->wheel, timer);
}
