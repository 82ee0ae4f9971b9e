/* seam/effect.h - what a session wants done. The shard does it, in order, right after.
 *
 * What an effect points to stays until the session's next event; a store or work operation stays,
 * in the session's keeping, until it is answered. */
#pragma once

#include "seam/event.h"

enum tp_effect_kind {
    TP_EFFECT_SEND,      /* `message` to `peer` */
    TP_EFFECT_BROADCAST, /* `message` to every peer of `audience` but `peer`; one effect however
                            many */
    TP_EFFECT_PUBLISH, /* `message` to the other nodes, as `boot` and `sequence`; 0: as the node */
    TP_EFFECT_NOTE,    /* `note` to the other nodes that are ours (session/bus.c) */
    TP_EFFECT_STORE,   /* `store_op`; its answer comes back as TP_EVENT_STORED */
    TP_EFFECT_WORK,    /* `work_op`; comes back as TP_EVENT_WORKED */
    TP_EFFECT_MORE,    /* there is more to say than fits: perform, then send TP_EVENT_MORE */
    TP_EFFECT_WAKE,    /* TP_EVENT_WOKE at `at_ns`; a later wish replaces an earlier one */
    TP_EFFECT_PAUSE,   /* read nothing more from `peer`: we are behind because of it */
    TP_EFFECT_RESUME,  /* read again from every paused peer */
    TP_EFFECT_NOTIFY,  /* send TP_EVENT_READY when `peer` has nothing left to send */
    TP_EFFECT_CLOSE,   /* say `reason` to `peer`, close its connection; LEFT follows */
    TP_EFFECT_COMPACT, /* the log of this document (`number`) is long: fold it when there is time */
    TP_EFFECT_NEWS,    /* something happened to the document that others may want to know: `news`,
                          and its content's `size` now */
    TP_EFFECT_DELETED, /* who told us to delete it may know how that went (`status`): TP_OK;
                          TP_ABSENT: there is no such document; else it may be deleted, or not */
    TP_EFFECT_END,     /* nothing is left to do: destroy the session */
};

/* Why a connection or subscription ends; each dialect has its own words (spec 01 4.7, 05 section
 * 7). */
enum tp_close_reason {
    TP_CLOSE_NORMAL,
    TP_CLOSE_GOING_AWAY,       /* 1001 */
    TP_CLOSE_UNSUPPORTED,      /* 1003: not this protocol */
    TP_CLOSE_BAD_UTF8,         /* 1007 */
    TP_CLOSE_POLICY,           /* 1008; y-websocket 4400: malformed */
    TP_CLOSE_TOO_BIG,          /* 1009 */
    TP_CLOSE_INTERNAL,         /* 1011 */
    TP_CLOSE_RESTARTING,       /* 1012 */
    TP_CLOSE_OVERLOAD,         /* 1013 */
    TP_CLOSE_MALFORMED,        /* 4400 */
    TP_CLOSE_UNAUTHORIZED,     /* 4401 */
    TP_CLOSE_FORBIDDEN,        /* 4403 */
    TP_CLOSE_DELETED,          /* 4404 */
    TP_CLOSE_STALE_EPOCH,      /* 4409 */
    TP_CLOSE_DOCUMENT_TOO_BIG, /* 4413 */
    TP_CLOSE_LOAD_FAILED,      /* 4503 */
    TP_CLOSE_EXPIRED,          /* 4503 too: the client may come back, with another token */
    TP_CLOSE_RATE,             /* 4529 */
};

/* What operators and integrators hear of (docs/operating.md). */
enum tp_news {
    TP_NEWS_CREATED, /* its first update is stored */
    TP_NEWS_LOADED,
    TP_NEWS_UNLOADED,
    TP_NEWS_SIZE_WARNING, /* its size has reached the warning */
    TP_NEWS_SIZE_LIMIT,   /* something was refused because of its size */
    TP_NEWS_DELETED,
    TP_NEWS_COUNT,
};

struct tp_effect {
    enum tp_effect_kind kind;
    struct tp_peer *peer;
    uint32_t audience;       /* BROADCAST: a mask of enum tp_audience */
    uint64_t boot, sequence; /* PUBLISH */
    enum tp_news news;
    union {
        struct tp_message *message;
        struct tp_store_op *store_op;
        struct tp_work_op *work_op;
        uint64_t at_ns;
        uint64_t number;
        enum tp_close_reason reason;
        enum tp_status status;
        struct tp_slice note;
        size_t size;
    };
};

/* One event has few effects, by design: anything "per peer" is the shard's business. What has many
 * all the same (the roster for a newcomer, the leaves of a peer that went) keeps a cursor in the
 * session and ends with TP_EFFECT_MORE. A hostile peer must not be able to reach the assertion
 * below. */
#define TP_EFFECT_COUNT_MAX 16u

struct tp_effects {
    uint32_t count;
    struct tp_effect items[TP_EFFECT_COUNT_MAX];
};

static inline void tp_effect_add(struct tp_effects *effects, struct tp_effect effect)
{
    TP_ASSERT(effects->count < TP_EFFECT_COUNT_MAX);
    effects->items[effects->count++] = effect;
}
