/* src/node/news.h - what happens to documents, told to the log and to a webhook.
 *
 *     session ── TP_EFFECT_NEWS ──► shard ──► log
 *                                     │
 *                         ring, bounded, one a shard
 *                                     ▼
 *                          webhook's thread, bounded ── POST, signed ──► the operator's server
 *                                     │
 *                                 given up ──► dead letters: a file, bounded
 *
 * A shard never waits: a ring that is full drops what comes, and counts it. The thread posts one
 * after the other, so that they arrive in order, and tries again with growing pauses. What nobody
 * takes in spite of that, or refuses, or is left when the server stops, becomes a line of a file.
 */
#pragma once

#include "node/config.h"
#include "observe/log.h"
#include "observe/pages.h"
#include "seam/effect.h"

#define TP_WEBHOOK_RING_COUNT 1024u              /* news of one shard; more: dropped, counted */
#define TP_WEBHOOK_PENDING_COUNT_MAX 8192u       /* of all shards; more: they wait in rings */
#define TP_WEBHOOK_TRY_COUNT_MAX 9u              /* over about a minute; then: dead */
#define TP_WEBHOOK_DEAD_SIZE_MAX ((long)8 << 20) /* of the file; then: it is the old one, ... */
#define TP_WEBHOOK_SECRET_SIZE_MIN 16u           /* ... and the one before is gone */
#define TP_WEBHOOK_SECRET_SIZE_MAX 1024u

/* "created": in the option, the log and the webhook's body. */
const char *tp_news_name(enum tp_news news);

struct tp_webhook;

/* Starts the thread. NULL: without webhook_url, and then `error` is empty, or it says in a sentence
 * what is wrong. Borrows `node_id` and `log`. */
struct tp_webhook *tp_webhook_create(const struct tp_config *config, const char *node_id,
                                     const struct tp_log *log, uint32_t shard_count, char *error,
                                     size_t error_size);
/* Tries once more, for two seconds at most, to deliver what waits. NULL is allowed. */
void tp_webhook_destroy(struct tp_webhook *webhook);

/* From the thread of shard `from`. NULL is allowed. */
void tp_webhook_tell(struct tp_webhook *webhook, uint32_t from, enum tp_news news,
                     struct tp_slice room, struct tp_slice document, uint64_t wall_ms, size_t size);

/* From any thread. NULL: zeros. */
void tp_webhook_counts(const struct tp_webhook *webhook, struct tp_observed_webhook *out);
