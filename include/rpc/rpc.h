/* rpc/rpc.h - remote calls on one document (spec 03), beside its session on the document's core.
 *
 *     request ──► waits (session opening, calls of the same turn) ──► handler ──► response, ack
 *                                                                      │    ▲
 *                                                     store or work operation, a peer that drains
 *
 * A call is a value: who asks, the request as it came, the method's state, and the named function
 * that goes on when the operation it waits for is answered. It outlives its peer: then nobody is
 * answered, and what it had begun to write is written all the same. Calls never hold up the session
 * nor each other, except those whose method says that they take turns.
 *
 * Pure as the session is: events in, effects out, of each step its own:
 *
 *     if (tp_rpc_owns(event))     tp_rpc_handle(rpc, event, effects), perform
 *     else                        tp_session_handle(session, event, effects), perform
 *                                 if (tp_rpc_minds(…)) tp_rpc_follow(rpc, event, …), perform */
#pragma once

#include "base/counters.h"
#include "base/random.h"
#include "session/session.h"

/* Above a limit a request is answered 429, and a part of a stream by an ack that says when to try
 * again. */
struct tp_rpc_limits {
    uint32_t call_count_max;    /* calls under way on a document */
    uint32_t call_per_peer_max; /* of one peer there */
    uint64_t call_size_max;     /* bytes of their requests, on a document */
    uint32_t retry_ms;          /* what a part is told to wait */
    uint32_t patience_ms;       /* how long a call waits for the first update of a document */

    /* A new milestone above these is refused, 413; an automatic one takes the place of the oldest
     * of its kind. */
    uint32_t milestone_count_max; /* of a document, deleted ones too */
    uint64_t milestone_size_max;  /* bytes of their snapshots */

    /* files; what is above these is refused */
    uint32_t file_chunk_size;         /* what clients cut files into, bytes */
    uint32_t upload_count_max;        /* unfinished uploads of a user */
    uint32_t download_per_peer_max;   /* under way at once */
    uint64_t file_size_max;           /* bytes */
    uint64_t document_files_size_max; /* bytes of all files of a document; 0: any number */
};
extern const struct tp_rpc_limits tp_rpc_limits_default;

/* When milestones are made by themselves (spec 02 section 13). */
struct tp_milestone_rules {
    uint64_t update_count; /* after so many updates; 0: not by count */
    uint64_t interval_ms;  /* at the first update so long after the last; 0: not by time */
    enum {
        TP_MILESTONE_ON_NOTHING,
        TP_MILESTONE_ON_LEAVE, /* when a client leaves after something was written */
        TP_MILESTONE_ON_EMPTY, /* when the last one does */
    } event;
};

/* What all desks of a shard share; outlives them. */
struct tp_rpc_env {
    struct tp_pool *pool;
    struct tp_random *random;
    struct tp_counters *counters;
    const struct tp_rpc_limits *limits;
    struct tp_milestone_rules milestones;
};
/* A document needs its desk from the start, not only for calls. */
bool tp_rpc_is_automatic(const struct tp_rpc_env *env);

/* The calls of one document. Costs nothing to speak of before the first. */
struct tp_rpc;

struct tp_rpc *tp_rpc_create(const struct tp_rpc_env *env, struct tp_session *session);
/* NULL is allowed. With nothing in flight; before the session. */
void tp_rpc_destroy(struct tp_rpc *rpc);

/* The rights (enum tp_right) that a call of this method needs, known or not. */
uint8_t tp_rpc_needs(struct tp_slice method);

/* The event is about calls alone: the session must not see it. */
bool tp_rpc_owns(const struct tp_event *event);
void tp_rpc_handle(struct tp_rpc *rpc, const struct tp_event *event, struct tp_effects *out);

/* The desk has something to do after an event of the session. `rpc` may be NULL. */
bool tp_rpc_minds(const struct tp_rpc *rpc, enum tp_event_kind kind);
/* The session had `event`, and may have freed what it points to, but for the peer. */
void tp_rpc_follow(struct tp_rpc *rpc, const struct tp_event *event, struct tp_effects *out);

/* Calls are under way: the session must stay. */
bool tp_rpc_is_busy(const struct tp_rpc *rpc);
size_t tp_rpc_memory(const struct tp_rpc *rpc); /* bytes held now */
void tp_rpc_check(const struct tp_rpc *rpc);    /* walks the invariants */
