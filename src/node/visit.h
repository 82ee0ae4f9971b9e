/* src/node/visit.h - Teleportal over HTTP, its two halves (node/stream.h).
 *
 *     visit.c    who asks: requests, their tokens and checks, and their answers; on the core of the
 *                request's connection
 *     stream.c   whom they talk to: streams of events, and what is posted into them; on the core of
 *                the stream
 */
#pragma once

#include "node/stream.h"

#define TP_VISIT_HEAD_SIZE_MAX (TP_CONFIG_TEXT_SIZE + 1024u) /* of the header lines that we add */
#define TP_VISIT_BODY_TYPE "application/octet-stream"

/* How a POST /sse ended. */
enum tp_outcome {
    TP_OUTCOME_SAID,
    TP_OUTCOME_LATE, /* a message has no ack yet: it may still come, on the stream */
    TP_OUTCOME_UNKNOWN,
    TP_OUTCOME_BUSY,
    TP_OUTCOME_LEAVING,
};

/* ---- visit.c ----------------------------------------------------------------------------------*/

/* The header lines that all our answers have. `id` may be empty. */
void tp_visit_head(const struct tp_shard *shard, struct tp_slice allowed, struct tp_slice id,
                   struct tp_buffer *out);
void tp_visit_respond(struct tp_shard *shard, struct tp_connection *connection, unsigned status,
                      const char *type, struct tp_slice allowed, struct tp_slice id,
                      const char *more, struct tp_slice body);
void tp_visit_respond_json(struct tp_shard *shard, struct tp_connection *connection,
                           unsigned status, struct tp_slice allowed, struct tp_slice id,
                           const char *text);
/* Tells a visit here or on another core how its POST ended; `id` is the message without ack. */
void tp_visit_tell(struct tp_shard *shard, uint32_t asker, struct tp_visit *visit,
                   enum tp_outcome outcome, uint64_t id);

/* ---- stream.c ---------------------------------------------------------------------------------*/

/* The core that holds the stream of that id. False: no stream of ours has such an id. */
bool tp_stream_core(const struct tp_shard *shard, struct tp_slice id, uint32_t *core);
/* Answers with the head of a stream. `id` may be empty. */
void tp_stream_begin(struct tp_shard *shard, struct tp_connection *connection,
                     struct tp_slice allowed, struct tp_slice id);
/* GET /sse. Takes the grant. */
struct tp_channel *tp_stream_open(struct tp_shard *shard, struct tp_connection *connection,
                                  struct tp_slice allowed, struct tp_grant *grant);
/* POST /message: a channel for `body`, which was checked to be a message array. Takes the grant. */
void tp_stream_once(struct tp_shard *shard, struct tp_connection *connection,
                    struct tp_slice allowed, struct tp_grant *grant, struct tp_slice body);
/* POST /sse, on the stream's core. */
void tp_stream_posted(struct tp_shard *shard, uint32_t asker, struct tp_visit *visit,
                      struct tp_slice id, struct tp_slice holder, struct tp_slice body);
/* Whose a stream is: room and user, as in "Keys and records". The same for all who show no token.
 */
struct tp_slice tp_stream_holder(struct tp_slice room, struct tp_slice user, struct tp_buffer *out);
#define TP_STREAM_HOLDER_SIZE_MAX 256u /* on the stack; longer ones on the heap */
