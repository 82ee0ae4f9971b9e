/* net/origin.h - where connections come from: how many of one address, and how fast.
 *
 * An origin is an IPv4 address, or the first 64 bits of an IPv6 one (who has one such address has
 * all of them). It exists while it has connections, and a while longer so that handshakes are
 * counted across reconnects: of those without connections the TP_ORIGIN_IDLE_COUNT_MAX used last
 * are kept, and one forgotten has waited longest. One table per core; each counts for itself. */
#pragma once

#include "base/hash.h"
#include "base/list.h"
#include "net/address.h"
#define HASH_FUNCTION(key, size, hash) (hash) = (unsigned)tp_hash64(tp_slice_of((key), (size)))
#include <uthash.h>

#define TP_ORIGIN_IDLE_COUNT_MAX 4096u
#define TP_ORIGIN_BURST_S 10u /* handshakes saved up: so many seconds' worth */

struct tp_origin {
    struct tp_address address;
    uint32_t connection_count;
    uint64_t due_ns; /* when all handshakes so far are paid for (a token bucket as one number) */
    struct tp_link idle;
    UT_hash_handle hh;
};

struct tp_origins {
    struct tp_origin *table;
    struct tp_link idle; /* used last at the end */
    uint32_t idle_count;
};

void tp_origins_init(struct tp_origins *origins);
void tp_origins_finish(struct tp_origins *origins);

/* Counts a connection. Stays valid until the last one has left. */
struct tp_origin *tp_origins_enter(struct tp_origins *origins, const struct tp_address *address);
void tp_origins_leave(struct tp_origins *origins, struct tp_origin *origin);

/* One handshake, of `per_s` a second. False: too many, and this one is not counted. */
bool tp_origin_pay(struct tp_origin *origin, uint32_t per_s, uint64_t now_ns);
