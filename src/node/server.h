/* src/node/server.h - the process: its shards, its store, its workers, and the main thread that
 * starts them, waits for signals and ends them in order.
 *
 *     post office:  shards 0 .. n-1 | the store's threads | workers | main
 */
#pragma once

#include "node/config.h"
#include "node/shard.h"
#include "observe/log.h"
#include "observe/pages.h"

/* Opens, listens, runs until a signal says stop, ends. Returns the exit code; what went wrong is
 * said on standard error in one sentence. */
int tp_server_main(const struct tp_config *config);

/* A letter from a thread that is no shard: the store's or a worker's. */
void tp_server_letter(struct tp_shard *shard, struct tp_letter *letter);
uint32_t tp_server_endpoint(const struct tp_server *server); /* main's */
/* The first digits of the node's id: what of it the ids of streams have. */
uint32_t tp_server_node_tag(const struct tp_server *server);

/* What that shard said of itself last: its memory is used up; it has all the connections it may. */
bool tp_server_is_full(const struct tp_server *server, uint32_t shard_index);
bool tp_server_has_all_connections(const struct tp_server *server, uint32_t shard_index);

/* Folds this document's log into its base, when a worker has time. */
void tp_server_compact(struct tp_shard *shard, uint64_t number);
/* One step of the sweep through all logs; shard 0 asks. Returns when to ask again. */
uint64_t tp_server_sweep(struct tp_shard *shard);

/* Something happened to a document: to the log, and to the webhook. */
void tp_server_news(struct tp_shard *shard, enum tp_news news, struct tp_slice room,
                    struct tp_slice document, size_t size);

/* The whole process as a page sees it. Valid during the tick. */
void tp_server_observe(struct tp_shard *shard, struct tp_observed *out);

/* One core's contact with the broker is lost (`why` says so in words) or found (NULL). */
void tp_server_bridge_contact(struct tp_shard *shard, const char *why);
/* Another node of the cluster has our id: this process ends, with an error. */
void tp_server_refuse_id(struct tp_shard *shard);

/* The end: a shard has no connection any more; no shard has. */
void tp_server_shard_drained(struct tp_server *server);
bool tp_server_all_drained(const struct tp_server *server);
