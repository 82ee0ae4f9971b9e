#include "bridge/window.h"

static uint64_t *word_of(struct tp_window *window, uint64_t number)
{
    return &window->bits[number % TP_WINDOW_SIZE / 64];
}

static bool came(const struct tp_window *window, uint64_t number)
{
    return window->bits[number % TP_WINDOW_SIZE / 64] >> (number % 64) & 1;
}

/* Moves base past what came. A bit behind base is free for a number to come. */
static void advance(struct tp_window *window)
{
    while (window->base < window->top && came(window, window->base)) {
        *word_of(window, window->base) &= ~(UINT64_C(1) << (window->base % 64));
        window->base++;
    }
}

static void move_base(struct tp_window *window, uint64_t base)
{
    if (base - window->base >= TP_WINDOW_SIZE && base >= window->top) {
        for (; window->base < window->top; window->base++)
            window->given_up += !came(window, window->base);
        memset(window->bits, 0, sizeof window->bits);
        window->given_up += base - window->base;
        window->base = window->top = base;
        return;
    }
    for (; window->base < base; window->base++) {
        window->given_up += window->base >= window->top || !came(window, window->base);
        *word_of(window, window->base) &= ~(UINT64_C(1) << (window->base % 64));
    }
    window->top = tp_max(window->top, window->base);
}

void tp_window_expect(struct tp_window *window, uint64_t top)
{
    if (!window->begun) {
        window->begun = true;
        window->base = window->top = top;
    }
    if (top <= window->top)
        return;
    if (top - window->base > TP_WINDOW_SIZE)
        move_base(window, top - TP_WINDOW_SIZE);
    window->top = top;
    advance(window);
}

bool tp_window_take(struct tp_window *window, uint64_t number)
{
    if (!window->begun) {
        window->begun = true;
        window->base = window->top = number;
    }
    if (number < window->base || (number < window->top && came(window, number)))
        return false;
    tp_window_expect(window, number + 1);
    *word_of(window, number) |= UINT64_C(1) << (number % 64);
    advance(window);
    return true;
}

void tp_window_give_up(struct tp_window *window, struct tp_span span)
{
    const uint64_t end = tp_min(span.first + span.count, window->top);

    for (uint64_t number = tp_max(span.first, window->base); number < end; number++) {
        if (came(window, number))
            continue;
        *word_of(window, number) |= UINT64_C(1) << (number % 64);
        window->given_up++;
    }
    advance(window);
}

uint32_t tp_window_missing(const struct tp_window *window, struct tp_span *spans,
                           uint32_t count_max)
{
    uint32_t count = 0;

    for (uint64_t number = window->base; number < window->top; number++) {
        if (came(window, number))
            continue;
        if (count > 0 && spans[count - 1].first + spans[count - 1].count == number) {
            spans[count - 1].count++;
        } else if (count == count_max) {
            break;
        } else {
            spans[count++] = (struct tp_span){number, 1};
        }
    }
    return count;
}
