#include "crdt/deletes.h"

#include "wire/writer.h"

#define DIGIT_BITS 11u
#define DIGIT_COUNT (1u << DIGIT_BITS)
#define RADIX_FROM 64u /* below, insertion is faster than counting */

void tp_ranges_finish(struct tp_ranges *ranges)
{
    if (ranges->items != ranges->inline_items)
        free(ranges->items);
    tp_ranges_init(ranges);
}

static void grow(struct tp_ranges *ranges)
{
    const size_t room = ranges->room * 2;
    struct tp_range *items;

    TP_ASSERT(room > 0);
    if (ranges->items == ranges->inline_items) {
        items = malloc(room * sizeof *items);
        TP_ASSERT(items != NULL);
        memcpy(items, ranges->items, ranges->count * sizeof *items);
    } else {
        items = realloc(ranges->items, room * sizeof *items);
        TP_ASSERT(items != NULL);
    }
    ranges->items = items;
    ranges->room = room;
}

void tp_ranges_push(struct tp_ranges *ranges, uint64_t client, uint64_t from, uint64_t to)
{
    if (ranges->count == ranges->room)
        grow(ranges);
    ranges->items[ranges->count++] = (struct tp_range){client, from, to};
}

void tp_ranges_add(struct tp_ranges *ranges, uint64_t client, uint64_t from, uint64_t to)
{
    if (from == to)
        return;
    if (ranges->count > 0) {
        struct tp_range *const last = &ranges->items[ranges->count - 1];
        if (last->client == client) {
            if (from >= last->from && from <= last->to) {
                last->to = to > last->to ? to : last->to;
                return;
            }
            if (from < last->from && to >= last->from) {
                /* Backspacing: the range grows downwards, perhaps into the one before it. */
                last->from = from;
                last->to = to > last->to ? to : last->to;
                if (ranges->count > 1 && last[-1].client == client && last[-1].to >= from)
                    ranges->sorted = false;
                return;
            }
            if (from < last->from)
                ranges->sorted = false;
        } else if (client > last->client) {
            ranges->sorted = false;
        }
    }
    tp_ranges_push(ranges, client, from, to);
}

static bool before(const struct tp_range *a, const struct tp_range *b)
{
    return a->client != b->client ? a->client > b->client : a->from < b->from;
}

static void sort_few(struct tp_range *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const struct tp_range moving = items[i];
        size_t at = i;
        for (; at > 0 && before(&moving, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = moving;
    }
}

static unsigned digit_of(const struct tp_range *range, bool of_client, unsigned shift)
{
    const uint64_t key = of_client ? ~range->client : range->from;

    return (unsigned)(key >> shift) & (DIGIT_COUNT - 1);
}

/* One stable counting pass; returns false if all have the same digit and nothing was moved. */
static bool sort_by_digit(const struct tp_range *from, struct tp_range *to, size_t count,
                          bool of_client, unsigned shift, size_t *starts)
{
    memset(starts, 0, DIGIT_COUNT * sizeof *starts);
    for (size_t i = 0; i < count; i++)
        starts[digit_of(&from[i], of_client, shift)]++;
    if (starts[digit_of(&from[0], of_client, shift)] == count)
        return false;

    size_t start = 0;
    for (unsigned digit = 0; digit < DIGIT_COUNT; digit++) {
        const size_t here = starts[digit];
        starts[digit] = start;
        start += here;
    }
    for (size_t i = 0; i < count; i++)
        to[starts[digit_of(&from[i], of_client, shift)]++] = from[i];
    return true;
}

/* Clocks first, clients last: stable passes from the least significant digit up. Digits that all
 * ranges share are known beforehand and cost nothing. */
static void sort_many(struct tp_ranges *ranges)
{
    const size_t count = ranges->count;
    struct tp_range *const spare = malloc(count * sizeof *spare);
    size_t *const starts = malloc(DIGIT_COUNT * sizeof *starts);
    TP_ASSERT(spare != NULL && starts != NULL);

    struct tp_range *from = ranges->items;
    struct tp_range *to = spare;
    uint64_t clock_bits = 0;
    uint64_t client_bits = 0;
    for (size_t i = 1; i < count; i++) {
        clock_bits |= from[i].from ^ from[0].from;
        client_bits |= from[i].client ^ from[0].client;
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        const uint64_t bits = pass == 0 ? clock_bits : client_bits;
        for (unsigned shift = 0; shift < 64; shift += DIGIT_BITS) {
            if ((bits >> shift & (DIGIT_COUNT - 1)) == 0)
                continue;
            if (sort_by_digit(from, to, count, pass == 1, shift, starts)) {
                struct tp_range *const swap = from;
                from = to;
                to = swap;
            }
        }
    }
    if (from != ranges->items)
        memcpy(ranges->items, from, count * sizeof *from);
    free(spare);
    free(starts);
}

void tp_ranges_order(struct tp_ranges *ranges)
{
    if (ranges->count < RADIX_FROM)
        sort_few(ranges->items, ranges->count);
    else
        sort_many(ranges);
}

void tp_ranges_sort(struct tp_ranges *ranges)
{
    if (ranges->sorted)
        return;
    tp_ranges_order(ranges);

    size_t kept = 0;
    for (size_t i = 1; i < ranges->count; i++) {
        struct tp_range *const last = &ranges->items[kept];
        const struct tp_range *const next = &ranges->items[i];
        if (last->client == next->client && last->to >= next->from)
            last->to = next->to > last->to ? next->to : last->to;
        else
            ranges->items[++kept] = *next;
    }
    ranges->count = kept + 1;
    ranges->sorted = true;
}

size_t tp_ranges_find(const struct tp_ranges *ranges, uint64_t client, uint64_t clock)
{
    size_t low = 0;
    size_t high = ranges->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct tp_range *const range = &ranges->items[middle];
        if (range->client > client || (range->client == client && range->to <= clock))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void write_ranges(const struct tp_ranges *ranges, bool v2, struct tp_buffer *out)
{
    uint64_t clients = 0;

    TP_ASSERT(ranges->sorted);
    for (size_t i = 0; i < ranges->count; i++)
        clients += i == 0 || ranges->items[i].client != ranges->items[i - 1].client;
    tp_write_varuint(out, clients);
    for (size_t i = 0; i < ranges->count;) {
        const uint64_t client = ranges->items[i].client;
        size_t end = i;
        while (end < ranges->count && ranges->items[end].client == client)
            end++;
        tp_write_varuint(out, client);
        tp_write_varuint(out, end - i);
        uint64_t current = 0;
        for (; i < end; i++) {
            const struct tp_range *const range = &ranges->items[i];
            tp_write_varuint(out, v2 ? range->from - current : range->from);
            tp_write_varuint(out, v2 ? range->to - range->from - 1 : range->to - range->from);
            current = range->to;
        }
    }
}

void tp_ranges_write_v1(const struct tp_ranges *ranges, struct tp_buffer *out)
{
    write_ranges(ranges, false, out);
}

void tp_ranges_write_v2(const struct tp_ranges *ranges, struct tp_buffer *out)
{
    write_ranges(ranges, true, out);
}

bool tp_walk_deletes(struct tp_walk *walk, struct tp_ranges *ranges, struct tp_deletes_info *info)
{
    const uint8_t *const end = walk->end;
    const uint8_t *at = walk->at;
    uint64_t client_before = UINT64_MAX;
    uint64_t clients;
    bool normal = true;

    info->range_count = 0;
    at = tp_varuint_take(at, end, &clients, &normal);
    if (unlikely(at == NULL || clients > (uint64_t)(end - at)))
        goto cut;
    for (; clients > 0; clients--) {
        uint64_t client, count;
        at = tp_varuint_take(at, end, &client, &normal);
        if (unlikely(at == NULL))
            goto cut;
        at = tp_varuint_take(at, end, &count, &normal);
        if (unlikely(at == NULL || count > (uint64_t)(end - at)))
            goto cut;
        normal &= client < client_before && count > 0;
        client_before = client;
        uint64_t free_from = 0; /* the lowest clock that neither overlaps nor touches */
        for (; count > 0; count--) {
            uint64_t clock, len;
            at = tp_varuint_take(at, end, &clock, &normal);
            if (unlikely(at == NULL))
                goto cut;
            at = tp_varuint_take(at, end, &len, &normal);
            if (unlikely(at == NULL))
                goto cut;
            if (unlikely(len > TP_VARUINT_MAX - clock)) {
                walk->error = "a delete range ends above 2^53-1";
                return false;
            }
            normal &= clock >= free_from && len > 0;
            free_from = clock + len + 1;
            info->range_count += len > 0;
            if (ranges != NULL)
                tp_ranges_add(ranges, client, clock, clock + len);
        }
    }
    walk->at = at;
    info->normal = normal && at == end;
    return true;

cut:
    walk->error = "the delete set is cut short or has an invalid integer";
    return false;
}
