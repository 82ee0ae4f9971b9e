/* src/node/admin.h - the management listener: what an operator sees, and does.
 *
 *     /livez /readyz /health        everybody who can connect
 *     /metrics /status /v1/...      who shows the token, if there is one
 *
 * It is shard 0's, by a door of its own: clients cannot use up its connections. What concerns
 * another core goes there by letter and comes back as numbers and JSON:
 *
 *     shard 0                                          shard i
 *     ask ── ASK: what, key ──►                        tp_admin_asked
 *         ◄── ANSWER: status, count, bytes ──          tp_admin_answer
 *
 * Without a token only programs of this machine are heard, and of those no browser that was sent
 * here by somebody else's page: it would name another host, or an origin. */
#pragma once

#include "node/shard.h"

#define TP_DOOR_ADMIN 1u

enum tp_ask_kind {
    TP_ASK_RECHECK, /* close whose key is none of ours; count: how many */
    TP_ASK_LIVE,    /* is the document open, and for how many? */
    TP_ASK_DELETE,  /* the document; status as of TP_EFFECT_DELETED */
};

/* One management request on shard 0, until its answer has gone. */
struct tp_ask {
    enum tp_transport transport; /* TP_TRANSPORT_ASK */
    struct tp_shard *shard;
    struct tp_connection *connection; /* NULL: gone; nobody waits for the answer */
    uint32_t open;                    /* answers that are awaited */
    uint64_t count;                   /* sum of those that came */
    bool is_live;                     /* LIVE: the document is open somewhere */
    enum tp_status status;            /* of the last that came */
    void (*done)(struct tp_ask *ask); /* all have come, or the store has read; ends the ask, or asks
                                         further */

    /* of documents (docs.c) */
    struct tp_store_op op;
    uint64_t limit;
    struct json_t *object;   /* what is known so far */
    struct tp_buffer key;    /* room 00 name, or, of a list, room 00 prefix */
    struct tp_buffer bounds; /* what the operation's ranges point to */
};
#define TP_STEP_ASK 0x100u /* the step of an ask's operation: no session's */

void tp_admin_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request);
/* The connection is gone before its answer; the server ends before it. */
void tp_ask_closed(struct tp_ask *ask);
void tp_ask_abandon(struct tp_ask *ask);
/* An ask's operation is answered. */
void tp_ask_stored(struct tp_store_op *op);

/* TP_LETTER_ASK and TP_LETTER_ANSWER. */
void tp_admin_letter(struct tp_shard *shard, struct tp_shard_letter *letter);

/* For docs.c. */
struct tp_ask *tp_ask_create(struct tp_shard *shard, struct tp_connection *connection,
                             void (*done)(struct tp_ask *ask));
/* `bytes`: the document's key, or empty. */
void tp_ask_send(struct tp_ask *ask, uint32_t to, enum tp_ask_kind kind, struct tp_slice bytes);
void tp_ask_read(struct tp_ask *ask, void (*done)(struct tp_ask *ask));
/* The answer, and the end. `object` is given away. */
void tp_ask_respond(struct tp_ask *ask, unsigned status, struct json_t *object);
void tp_ask_refuse(struct tp_ask *ask, unsigned status, const char *error);
void tp_admin_refuse(struct tp_connection *connection, unsigned status, const char *head,
                     const char *error);

/* docs.c - documents as resources. False: the path is none of a document's. */
bool tp_docs_request(struct tp_shard *shard, struct tp_connection *connection,
                     const struct tp_http_request *request);
/* On the core that owns the document. */
void tp_docs_asked(struct tp_shard *shard, const struct tp_shard_letter *letter,
                   enum tp_ask_kind kind, struct tp_slice key);
