/* node/route.h - which node of a cluster a document belongs to: rendezvous hashing.
 *
 * Every node has a score for every document, and the highest one owns it: so all who know the same
 * nodes agree without a word, and a node that comes or goes moves only the documents that become or
 * were its own. A node of weight w has w scores and its best one counts, so it owns w times as
 * many. Ownership is a wish, not a lock: any node serves any document. */
#pragma once

#include <stdio.h>

#include "base/base.h"

#define TP_ROUTE_NODE_COUNT_MAX 64u
#define TP_ROUTE_WEIGHT_MAX 100u
#define TP_ROUTE_ID_SIZE 65u       /* a node's id, and a final NUL */
#define TP_ROUTE_ADDRESS_SIZE 280u /* HOST:PORT, and a final NUL */

struct tp_route_node {
    char id[TP_ROUTE_ID_SIZE];
    char address[TP_ROUTE_ADDRESS_SIZE]; /* where clients reach it */
    uint32_t weight;                     /* 1 to TP_ROUTE_WEIGHT_MAX */
};

struct tp_route {
    uint32_t count;
    struct tp_route_node nodes[TP_ROUTE_NODE_COUNT_MAX];
};

/* Reads ID=HOST:PORT or ID=HOST:PORT*WEIGHT, several separated by commas; an empty text is no
 * nodes. False: `why` is a sentence's end, as in "it takes ...". */
TP_MUST_CHECK bool tp_route_parse(const char *text, struct tp_route *route, const char **why);

/* As tp_route_parse reads it. */
void tp_route_print(const struct tp_route *route, FILE *out);

/* The positions of all nodes, the document's owner first, then who owns it when that one is gone,
 * and so on. `document_key` as in node/shard.h, or any other bytes that all nodes take. */
void tp_route_order(const struct tp_route *route, struct tp_slice document_key,
                    uint8_t order[TP_ROUTE_NODE_COUNT_MAX]);
