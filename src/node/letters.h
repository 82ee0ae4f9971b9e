/* src/node/letters.h - what shards write to each other.
 *
 *     connection's shard  ── JOIN, SAID, BEHIND, READY, RIGHTS, LEAVE ──►  document's shard
 *                         ◄── SEND, BROADCAST, AUDIENCE, CLOSE, PAUSE, RESUME, NOTIFY, LEFT ──
 *     any                 ── MOVE ──►  any           a connection changes its thread
 *     any                 ── POST ──►  a stream's shard ── POSTED ──►  back    (node/stream.h)
 *     shard 0             ── ASK ──►  any ── ANSWER ──► back                  (node/admin.h)
 *     main                ── KEYS, STOP ──►  every shard ── STOPPED ──► main
 *
 * Pointers in a letter are names: only the shard that they belong to follows them. A subscription
 * stays valid on its shard until its LEFT came; letters of one pair keep their order, so nothing
 * that names it comes later. The block of a letter belongs to its writer's pool: whoever has read
 * it sends it home. */
#pragma once

#include "reactor/post.h"
#include "seam/effect.h"

struct tp_document;
struct tp_subscription;
struct tp_channel;
struct tp_keys;
struct tp_admin_token;
struct tp_visit;
struct tp_ask;

enum tp_letter_kind {
    TP_LETTER_HOME = 1, /* read: the block goes back into its writer's pool */
    TP_LETTER_JOIN,     /* bytes: key, user id */
    TP_LETTER_SAID,     /* bytes: the message's raw bytes */
    TP_LETTER_BEHIND,   /* mark */
    TP_LETTER_READY,
    TP_LETTER_RIGHTS, /* rights */
    TP_LETTER_LEAVE,
    TP_LETTER_LEFT,
    TP_LETTER_SEND,      /* bytes: the encoded message */
    TP_LETTER_BROADCAST, /* bytes: the encoded message, for one dialect */
    TP_LETTER_AUDIENCE,
    TP_LETTER_CLOSE,
    TP_LETTER_PAUSE,
    TP_LETTER_RESUME,
    TP_LETTER_NOTIFY,
    TP_LETTER_MOVE,
    TP_LETTER_KEYS, /* the letter is heap memory: its reader frees it */
    TP_LETTER_POST, /* bytes: the stream's id, the holder, the body */
    TP_LETTER_POSTED,
    TP_LETTER_ASK, /* bytes: the key, or none */
    TP_LETTER_ANSWER,
    TP_LETTER_STOP,
    TP_LETTER_STOPPED,
};

struct tp_shard_letter {
    struct tp_letter letter;
    uint32_t home; /* whose pool the block is of */
    uint32_t block_size;
    struct tp_subscription *subscription; /* JOIN SAID READY LEAVE LEFT SEND AUDIENCE CLOSE ...;
                                           * BROADCAST: except this one */
    struct tp_document
        *outpost;               /* JOIN: the stand-in here; BROADCAST, RESUME: the stand-in there */
    struct tp_channel *channel; /* MOVE */
    struct tp_visit *visit;     /* POST, POSTED */
    struct tp_ask *ask;         /* ASK, ANSWER */
    uint64_t id;                /* POSTED: the message that was not answered; ANSWER: a count */
    union {
        struct tp_message message; /* SAID; its slices point into bytes */
        struct tp_peer peer;       /* JOIN: the first part of it */
    };
    uint32_t audience;    /* BROADCAST: mask; AUDIENCE: bit */
    uint32_t class;       /* SEND, BROADCAST: enum tp_outbox_class */
    uint32_t dialect;     /* BROADCAST */
    uint32_t reason;      /* CLOSE: enum tp_close_reason */
    bool behind;          /* READY; ANSWER: the document is open */
    bool unaware;         /* READY */
    uint32_t mark;        /* SEND, BROADCAST, BEHIND */
    uint8_t rights;       /* RIGHTS */
    struct tp_keys *keys; /* KEYS: the reader's from now on; NULL: nobody asks for any */
    struct tp_admin_token *admin_token; /* KEYS, to shard 0: as keys */
    uint32_t outcome;                   /* POSTED; ASK: enum tp_ask_kind; ANSWER: enum tp_status */
    uint32_t key_size;                  /* JOIN; POST: of the holder */
    uint32_t bytes_size;
    uint8_t bytes[];
};
