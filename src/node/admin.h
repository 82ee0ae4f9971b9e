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
};

/* One management request on shard 0, until its answer has gone. */
struct tp_ask {
    enum tp_transport transport; /* TP_TRANSPORT_ASK */
    enum tp_ask_kind kind;
    struct tp_shard *shard;
    struct tp_connection *connection; /* NULL: gone; nobody waits for the answer */
    uint32_t open;                    /* answers that are awaited */
    uint64_t count;                   /* sum of those that came */
};

void tp_admin_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request);
/* The connection is gone before its answer; the server ends before it. */
void tp_ask_closed(struct tp_ask *ask);
void tp_ask_abandon(struct tp_ask *ask);

/* TP_LETTER_ASK and TP_LETTER_ANSWER. */
void tp_admin_letter(struct tp_shard *shard, struct tp_shard_letter *letter);
