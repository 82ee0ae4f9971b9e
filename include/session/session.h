/* session/session.h - one open document, on the core that owns it.
 *
 * A pure state machine: events in, effects out. It never reads a clock, a socket or a store itself;
 * the daemon and the simulator drive the same code.
 *
 *     created ── first event ──► NAMING ──► LOADING ──► OPEN ──(no peers for grace_ns)──► END
 *                                 names      base+log    joins, updates, acks
 *
 * Nothing is sent to a peer about the document's content before OPEN; what peers say before is
 * queued, bounded. */
#pragma once

#include "base/arena.h"
#include "base/counters.h"
#include "base/random.h"
#include "seam/effect.h"
#include "seam/store_op.h"
#include "seam/work_op.h"

/* What happens at a limit stands beside it. Whoever sends past a PAUSE gets twice the room, then is
 * closed: overload. */
struct tp_session_limits {
    uint64_t grace_ns;            /* without peers: then it ends */
    uint64_t awareness_ttl_ns;    /* 30 s: a state not renewed is gone */
    uint64_t tombstone_ttl_ns;    /* how long the clock of who is gone is remembered */
    uint64_t update_size_max;     /* larger updates are refused */
    uint32_t awareness_count_max; /* clients per document, tombstones too; more: ignored, counted */
    uint32_t awareness_per_peer_max; /* states; more: ignored, counted */
    uint32_t awareness_size_max;     /* bytes per state; larger: ignored, counted */
    uint32_t presence_per_peer_max;  /* ids announced; more: acked, nobody is told */
    uint32_t queue_count_max;        /* messages held while loading; more: PAUSE */
    uint64_t queue_size_max;         /* their bytes */
    uint32_t store_count_max;        /* updates on their way to the store; more: PAUSE */
    uint64_t store_size_max;         /* their bytes */
    uint32_t question_count_max;     /* step 1s that wait for their answer; more: PAUSE */
    uint32_t delayed_count_max;      /* NACKs held back; more: the peer is closed */
    uint64_t whole_size_max;         /* y-websocket: larger documents are sent in pieces ... */
    uint32_t piece_size;             /* ... of about this size */
    uint64_t passage_size_max; /* pieces kept for others who open it; more: the oldest go, and the
                                * slowest readers have theirs made anew when they read again */
    uint64_t tail_size_max; /* updates kept beside the merged state: their memory; a part of it, for
                             * large documents; more: folded */
    uint64_t checkpoint_size; /* who has missed updates gets at most about this much more */
    uint64_t idle_ns;         /* this long after the last change caches go and the tail is folded */
    uint32_t compact_count;   /* log entries that ask for compaction */
    uint64_t size_warning;    /* bytes of content: told, once; 0: never */
    uint64_t size_limit;      /* what grows the document above it is refused; 0: none */
    bool attribution_push;    /* members hear of each update who made it (spec 03 section 5.5) */
    uint64_t compact_size;
};
extern const struct tp_session_limits tp_session_limits_default;

/* What all sessions of a shard share; outlives them. */
struct tp_session_env {
    struct tp_pool *pool;
    struct tp_arena *arena; /* not used: what an effect points to outlives the tick, in `pool` */
    struct tp_random *random;
    struct tp_counters *counters;
    const struct tp_session_limits *limits;
    struct tp_slice node_id; /* what other nodes know us by; empty: there are none */
};

struct tp_session;

/* Room may be empty. Copies the names. */
struct tp_session *tp_session_create(const struct tp_session_env *env, struct tp_slice room,
                                     struct tp_slice document);
/* After TP_EFFECT_END, or at the end of the process with nothing in flight. */
void tp_session_destroy(struct tp_session *session);

/* What others may know of the document: its desk of remote calls (rpc/rpc.h). */
struct tp_session_facts {
    bool is_open;    /* loaded, and all that peers have said is in the content */
    bool is_refused; /* could not be loaded: it will be tried again */
    bool is_ending;  /* it is being deleted */
    uint8_t mode;    /* enum tp_record_mode; 0: not decided */
    uint64_t number; /* 0: nothing is stored of it yet */
    uint64_t epoch;
    uint64_t wake_ns;     /* when it wants to be woken, as last told */
    uint64_t write_count; /* updates taken since it was opened, first syncs not counted */
};
struct tp_session_facts tp_session_facts(const struct tp_session *session);

/* All that the document holds, as of one moment; zeroed: nothing. */
struct tp_session_content {
    void *hold;                /* keeps v1 */
    struct tp_slice v1;        /* normal */
    struct tp_buffer sidecars; /* encrypted: a list (crdt/sidecars.h) */
};
/* TP_MORE: it is being put together, ask again after the session's next events; adds one effect at
 * most. TP_ABSENT: the document is not open. What was given stays until it is dropped. */
TP_MUST_CHECK enum tp_status tp_session_content(struct tp_session *session,
                                                struct tp_session_content *out,
                                                struct tp_effects *effects);
void tp_session_content_drop(struct tp_session_content *content);

/* One step of the document's life. Pure: reads `event`, changes `session`, fills `out`. */
void tp_session_handle(struct tp_session *session, const struct tp_event *event,
                       struct tp_effects *out);

/* Walks the invariants; for tests and the simulator. */
void tp_session_check(const struct tp_session *session);

/* The peers of the document: links of tp_peer. The shard reads it for BROADCAST. */
struct tp_link *tp_session_peers(struct tp_session *session);
uint32_t tp_session_peer_count(const struct tp_session *session);
size_t tp_session_memory(const struct tp_session *session); /* bytes held now */
struct tp_slice tp_session_document(const struct tp_session *session);
struct tp_slice tp_session_room(const struct tp_session *session);
