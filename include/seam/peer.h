/* seam/peer.h - one connection's subscription to one document.
 *
 *     connection 1 --- n peers 1 --- n session
 *
 * The peer lives on the document's core, in its session's list. The fields of the first part are
 * set by who subscribes and only read by the session; those of the second are the session's own. */
#pragma once

#include "base/list.h"
#include "base/random.h"
#include "seam/message.h"

enum tp_right {
    TP_MAY_READ = 1u << 0,
    TP_MAY_WRITE = 1u << 1,
    TP_MAY_ADMIN = 1u << 2, /* includes the others */
};
#define TP_MAY_ALL ((uint8_t)(TP_MAY_READ | TP_MAY_WRITE | TP_MAY_ADMIN))

/* To whom a broadcast goes: peers whose `audience` bit is in the broadcast's mask. */
enum tp_audience {
    TP_AUDIENCE_ANNOUNCED = 1u << 0, /* Teleportal peers that announced presence */
    TP_AUDIENCE_SILENT = 1u << 1,    /* Teleportal peers that did not */
    TP_AUDIENCE_YWEBSOCKET = 1u << 2,
    TP_AUDIENCE_HOCUSPOCUS = 1u << 3,
};
#define TP_AUDIENCE_TELEPORTAL (TP_AUDIENCE_ANNOUNCED | TP_AUDIENCE_SILENT)
#define TP_AUDIENCE_ALL (TP_AUDIENCE_TELEPORTAL | TP_AUDIENCE_YWEBSOCKET | TP_AUDIENCE_HOCUSPOCUS)

struct tp_peer {
    /* set by the subscriber */
    enum tp_dialect_id dialect;
    uint8_t rights;               /* enum tp_right */
    uint32_t variant;             /* the dialect's own: which address this peer used (Hocuspocus) */
    uint64_t connection;          /* one number per connection of the process */
    char client_id[TP_UUID_SIZE]; /* the connection's id in presence frames */
    struct tp_slice user_id;      /* outlives the peer */
    struct tp_slice document_name; /* as this client calls it; outlives the peer */

    /* the session's */
    struct tp_link link; /* in the session's list */
    uint8_t audience;    /* one bit of enum tp_audience; 0 before it joined */
    bool synced;         /* was sent a step 2 since it joined */
    bool behind;  /* set by the shard before READY: updates were dropped (BEHIND said so), send
                   * the peer what it missed; the session clears it */
    bool unaware; /* as above: awareness was dropped, send the newest states */
    bool lost;    /* behind since so long ago that it is sent all there is */
    struct tp_frame *checkpoint; /* behind: a state vector that it surely knows; else NULL */
    bool stale;          /* has what was deleted: hears nothing, and what it says does not count */
    bool told_denied;    /* had its one auth message (spec 01 section 4.6) */
    bool said_awareness; /* since it joined */
    uint64_t joined_ns;
    uint8_t nack_streak;            /* error NACKs in a row (spec 01 section 4.6, guard) */
    uint64_t nack_until_ns;         /* none before */
    uint32_t announced_count;       /* presence: awareness ids announced */
    uint32_t owned_count;           /* awareness states owned */
    uint32_t checked_count;         /* large updates that a worker looks at */
    uint32_t following_count;       /* messages that wait for those */
    struct tp_piecewise *piecewise; /* a sync under way in pieces, or NULL */
};
