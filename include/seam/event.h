/* seam/event.h - what has happened to a session. Plain data that lives for one tick. */
#pragma once

#include "seam/peer.h"

struct tp_store_op;
struct tp_work_op;

enum tp_event_kind {
    TP_EVENT_JOINED, /* `peer` subscribed, and may */
    TP_EVENT_LEFT,   /* `peer` is gone: forget it before returning */
    TP_EVENT_SAID,   /* `peer` sent `message` */
    TP_EVENT_HEARD,  /* another node said `heard` */
    TP_EVENT_STORED, /* `store_op`, which we submitted, is answered */
    TP_EVENT_WORKED, /* `work_op`, which we asked for, is done */
    TP_EVENT_BEHIND, /* updates to `peer` are dropped from now on, those queued from `mark` on too;
                        READY follows */
    TP_EVENT_READY,  /* `peer` has drained: it can take more */
    TP_EVENT_MORE,   /* go on where you stopped: you said TP_EFFECT_MORE */
    TP_EVENT_TOLD,   /* an operator or another part of the node: `told` */
    TP_EVENT_RIGHTS, /* what `peer` may do has changed, or its token ended */
    TP_EVENT_LINKED, /* the other nodes hear us and we them, from now on: something may have been
                        missed before, in either direction */
    TP_EVENT_WOKE,   /* the time that we asked for has come */
};

enum tp_told {
    TP_TOLD_CLOSE,  /* the node ends: no new work, give up memory as soon as all is stored */
    TP_TOLD_DELETE, /* the document; TP_EFFECT_DELETED says how it went */
    TP_TOLD_TRIM,   /* memory is short: drop what can be read again */
};

/* What another node says of the document (spec 01 section 8): a message as clients say it, or a
 * note (session/bus.c) that only nodes of ours understand. */
struct tp_heard {
    struct tp_slice source;     /* as it stands in the envelope: `node` or `node/boot/sequence` */
    struct tp_slice node;       /* its first part */
    uint64_t boot, sequence;    /* 0: it does not number what it says, as the reference's nodes */
    struct tp_message *message; /* NULL: a note; else the session may keep it, as with SAID */
    struct tp_slice note;
};

struct tp_event {
    enum tp_event_kind kind;
    uint64_t now_ns;  /* monotonic: for limits and timers */
    uint64_t wall_ms; /* Unix time: for what people read, as in log entries */
    struct tp_peer *peer;
    union {
        struct tp_message *message; /* the session may keep it (tp_message_keep) and move it out */
        struct tp_store_op *store_op;
        struct tp_work_op *work_op;
        enum tp_told told;
        struct tp_heard *heard;
        uint32_t mark;
    };
};
