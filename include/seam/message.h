/* seam/message.h - one decoded message, whatever dialect it came in.
 *
 *     "YJS" 01 03 "doc" 00 00 02 02 ....      raw: all of it, as the sender's dialect wrote it
 *              |   document |     update.v2    every other slice points into raw, or to bytes of
 * ours
 *
 * As rich as Teleportal's message (spec 01 section 2), the richest of the three dialects. A
 * dialect's decode fills it, its encode reads it. Slices borrow: from the receive buffer for a
 * message that was just decoded, from `frame` once somebody called tp_message_keep. */
#pragma once

#include "base/frame.h"

enum tp_dialect_id {
    TP_DIALECT_NONE = 0, /* of our own making */
    TP_DIALECT_TELEPORTAL,
    TP_DIALECT_YWEBSOCKET,
    TP_DIALECT_HOCUSPOCUS,
    TP_DIALECT_COUNT,
};

enum tp_message_kind {
    TP_MESSAGE_SYNC_STEP_1,       /* state_vector */
    TP_MESSAGE_SYNC_STEP_2,       /* update */
    TP_MESSAGE_UPDATE,            /* update */
    TP_MESSAGE_SYNC_DONE,         /* - */
    TP_MESSAGE_AUTH,              /* auth: server to client only */
    TP_MESSAGE_AWARENESS,         /* awareness */
    TP_MESSAGE_AWARENESS_QUERY,   /* - */
    TP_MESSAGE_ACK,               /* ack; with error or retry_ms: a NACK */
    TP_MESSAGE_PRESENCE_ANNOUNCE, /* presence.awareness_id */
    TP_MESSAGE_PRESENCE_UNANNOUNCE,
    TP_MESSAGE_PRESENCE_JOIN, /* presence, whole: server to client only */
    TP_MESSAGE_PRESENCE_LEAVE,
    TP_MESSAGE_PRESENCE_HEARTBEAT, /* node to node only */
    TP_MESSAGE_RPC,                /* rpc */
    TP_MESSAGE_PING,               /* application ping of the transport: answered at once */
    TP_MESSAGE_PONG,
    TP_MESSAGE_ECHO, /* y-sweet's 102: `echo` comes back when all before it is durable (spec 05, 10)
                      */
    TP_MESSAGE_COUNT,
};

/* A document's new content. Plain documents: v1 and v2 are the same update in both encodings; what
 * is not there yet has data NULL. Encrypted ones: v2 is the structure, `sidecars` the rest.
 *
 *     container:  01 | size, v2 | sidecars: count, count x (size, bytes), compaction |
 *
 * A frame whose container cannot be read is still a message, to be refused by its id: then
 * `bad_container` is set and v2.data is NULL. The same goes for a `version` other than 1 and 2. */
struct tp_message_update {
    struct tp_slice v1;
    struct tp_slice v2;
    uint8_t version;           /* Teleportal's version byte as received: 1 or 2 are legal */
    bool bad_container;        /* Teleportal: what came is no container: `invalid-update` */
    bool compaction;           /* the container has a compacted sidecar */
    uint32_t sidecar_count;    /* without the compacted one */
    struct tp_slice sidecars;  /* wire/container.h; empty: no sidecars, no compaction */
    struct tp_slice container; /* Teleportal's bytes as received; data NULL: came another way */
};

struct tp_message_ack {
    uint64_t id;             /* of the message that is answered (spec 01 section 3) */
    struct tp_slice id_text; /* as received: it need not be a message id, then `id` is 0. Data NULL:
                              * written from `id` */
    uint64_t retry_ms;       /* 0: not retryable */
    bool retry_at_once;      /* retryable, and retry_ms is 0 */
    struct tp_slice error;   /* data NULL: no error */
};

struct tp_message_presence {
    uint64_t awareness_id;
    struct tp_slice client_id, user_id;
    struct tp_slice data; /* an `any` object; empty means {} */

    /* a heartbeat has only these: */
    uint64_t entry_count;
    struct tp_slice entries; /* for tp_teleportal_presence_next (wire/teleportal.h) */
};

struct tp_message_auth {
    bool allowed;
    struct tp_slice reason;
};

struct tp_message_rpc {
    struct tp_slice method;
    uint8_t type;               /* 0 request, 1 stream, 2 response */
    struct tp_slice request_id; /* types 1 and 2 */
    bool failed; /* an error: status, details; `payload` is then one any value or empty */
    uint64_t status;
    struct tp_slice details;
    struct tp_slice payload;
};

struct tp_message {
    enum tp_message_kind kind;
    enum tp_dialect_id dialect; /* whose bytes `raw` is */
    bool encrypted;
    uint32_t mark;            /* of an update that a session broadcasts: for TP_EVENT_BEHIND */
    bool ready;               /* raw, in a frame, is what peers of `dialect` are to get, as it is */
    uint64_t id;              /* Teleportal's message id, lane a high, lane b low; else 0 */
    struct tp_slice document; /* as the client names it, without room */
    struct tp_slice raw;      /* data NULL for a message of our own making */
    struct tp_frame *frame;   /* holds raw; NULL while raw lies in a receive buffer */
    union {
        struct tp_slice state_vector;
        struct tp_message_update update;
        struct tp_slice awareness; /* y-protocols' awareness update, or ciphertext */
        struct tp_message_ack ack;
        struct tp_message_presence presence;
        struct tp_message_auth auth;
        struct tp_message_rpc rpc;
        struct tp_slice echo;
    };
};

/* The one copy of a received message: `raw` moves into a frame of its own, with one reference that
 * the message holds, and every slice that pointed into raw points into the frame. Does nothing when
 * the message has a frame, or no raw. */
void tp_message_keep(struct tp_message *message, struct tp_pool *pool);

/* Every slice that points into raw, and raw itself, now points to the same place of the copy at
 * `to`. */
void tp_message_rebase(struct tp_message *message, const uint8_t *to);

/* Lets go of the message's frame. Its slices are void from then on. */
void tp_message_drop(struct tp_message *message);
