/* src/node/watch.h - what the main thread sees when it looks at the others, twice a second.
 *
 *     store's state ─┐               ┌─► one log line when something changes
 *     free space ────┼─ look ────────┼─► reasons for /readyz, /health, /metrics
 *     accepts ───────┤               ├─► the store is held while space is short
 *     threads ───────┘               └─► whether systemd's watchdog is answered
 *
 * Nothing here is on the path of a message. */
#pragma once

#include <stdatomic.h>

#include "observe/log.h"
#include "observe/pages.h"
#include "store/store.h"

#define TP_WATCH_PERIOD_NS UINT64_C(500000000)

/* Set once, before the first look; the rest is the watch's own. */
struct tp_watch {
    const struct tp_log *log;
    const struct tp_store_backend *backend;
    struct tp_store *store;
    const struct tp_post *post;
    const char *directory; /* where free space is looked at */
    uint64_t disk_reserve; /* bytes; 0: none */
    uint64_t hang_ns;      /* a thread that does not come back for so long hangs; 0: never */
    uint32_t shard_count;  /* endpoints [0, count) of the post are shards, ... */
    uint32_t first_worker; /* ... then the store's, then workers ... */
    uint32_t thread_count; /* ... up to here */

    /* for pages, from any thread */
    _Atomic bool starved;  /* accepts fail: no descriptor, or no memory */
    _Atomic uint32_t hung; /* 1 + the endpoint of a thread that hangs; 0: none */

    /* the main thread's */
    enum tp_store_state said; /* the store's state as last logged */
    uint64_t said_ns;
    uint64_t stop_count; /* as last seen */
    uint64_t accept_failures, starved_until_ns;
    uint64_t last_look_ns;
};

/* One look. `accept_failures` is the sum over all shards. */
void tp_watch_look(struct tp_watch *watch, uint64_t now_ns, uint64_t accept_failures);

/* Whether every thread has come back lately: then the watchdog may be answered. */
bool tp_watch_all_turn(const struct tp_watch *watch);

/* What keeps clients from being served as they should be: fills in the reasons and the store's
 * state. Any thread. */
void tp_watch_observe(struct tp_watch *watch, struct tp_observed *out);
