#include "origin.h"

#include <stdlib.h>

#define SECOND_NS UINT64_C(1000000000)

void tp_origins_init(struct tp_origins *origins)
{
    *origins = (struct tp_origins){0};
    tp_link_init(&origins->idle);
}

static void forget(struct tp_origins *origins, struct tp_origin *origin)
{
    tp_link_remove(&origin->idle);
    HASH_DEL(origins->table, origin);
    free(origin);
}

void tp_origins_finish(struct tp_origins *origins)
{
    struct tp_origin *origin = origins->table;

    HASH_CLEAR(hh, origins->table); /* leaves the objects as they were */
    while (origin != NULL) {
        struct tp_origin *next = origin->hh.next;
        free(origin);
        origin = next;
    }
}

struct tp_origin *tp_origins_enter(struct tp_origins *origins, const struct tp_address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct tp_address key = *address;
    struct tp_origin *origin = NULL;

    if (memcmp(key.bytes, mapped, sizeof mapped) != 0)
        memset(key.bytes + 8, 0, 8);
    HASH_FIND(hh, origins->table, &key, sizeof key, origin);
    if (origin == NULL) {
        origin = calloc(1, sizeof *origin);
        TP_ASSERT(origin != NULL);
        origin->address = key;
        tp_link_init(&origin->idle);
        HASH_ADD(hh, origins->table, address, sizeof origin->address, origin);
    } else if (origin->connection_count == 0) {
        tp_link_remove(&origin->idle);
        origins->idle_count--;
    }
    origin->connection_count++;
    return origin;
}

void tp_origins_leave(struct tp_origins *origins, struct tp_origin *origin)
{
    TP_ASSERT(origin->connection_count > 0);
    if (--origin->connection_count > 0)
        return;
    tp_link_insert(&origins->idle, &origin->idle);
    if (++origins->idle_count <= TP_ORIGIN_IDLE_COUNT_MAX)
        return;
    struct tp_link *oldest = origins->idle.next;
    origins->idle_count--;
    forget(origins, TP_CONTAINER(oldest, struct tp_origin, idle));
}

bool tp_origin_pay(struct tp_origin *origin, uint32_t per_s, uint64_t now_ns)
{
    const uint64_t price_ns = SECOND_NS / per_s;
    const uint64_t due_ns = tp_max(origin->due_ns, now_ns) + price_ns;

    if (due_ns - now_ns > TP_ORIGIN_BURST_S * SECOND_NS)
        return false;
    origin->due_ns = due_ns;
    return true;
}
