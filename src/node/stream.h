/* src/node/stream.h - Teleportal over HTTP (spec 01 section 5).
 *
 *     GET /sse       a channel whose connection only sends: events, one per frame
 *     POST /sse      what the client of such a channel says, on any connection of any core:
 *
 *         connection's core                      the stream's core
 *         visit ── POST: id, holder, body ──►    post: said message by message, in order
 *               ◄── POSTED: outcome ──           when each has its ack, or none came in time
 *
 *     POST /message  a channel for the time of one request: its frames are the answer
 *
 * Two ids, on purpose. A stream's id is what its client posts with: it has 128 random bits, names
 * the node and the core that hold the stream, and is told to nobody but that client. The client id
 * that others see in presence frames is a different one. So nobody can post into a stream by
 * looking at who is there, with or without tokens; and a token of another holder is refused like
 * an unknown id. */
#pragma once

#include "node/shard.h"

#define TP_STREAM_ID_SIZE 44u /* node (8 hexadecimal digits) - core (2) - random (32) */

#define TP_STREAM_PING_NS UINT64_C(5000000000)     /* spec 01 section 5.2 */
#define TP_STREAM_ACK_TIME_NS UINT64_C(5000000000) /* without progress: 504 (section 5.3) */
#define TP_STREAM_MESSAGE_COUNT_MAX 1024u          /* in one body: 413 */
#define TP_STREAM_DOCUMENT_COUNT_MAX 64u           /* in `?documents=`: 400 */
/* Bodies of one client: the one being said and those behind it; more: 429. The client sends one at
 * a time; a second one is there when it gave the first one up. */
#define TP_STREAM_POST_COUNT_MAX 3u
/* Said and not answered yet: a document of another core cannot ask for a pause before it has more
 * than it takes (session.h, store_count_max). */
#define TP_STREAM_PENDING_COUNT_MAX 64u
/* Said in one turn of the loop; the rest has its turn after the others. */
#define TP_STREAM_STEP_COUNT 64u
#define TP_STREAM_STEP_SIZE (256u << 10)

/* True if the request was for one of the three: it is answered, or will be. */
bool tp_stream_request(struct tp_shard *shard, struct tp_connection *connection,
                       const struct tp_http_request *request);

/* What channel.c leaves to us for channels that are not WebSockets. */
enum tp_status tp_stream_send(struct tp_channel *channel, struct tp_frame *frame, uint64_t label,
                              enum tp_outbox_class class, uint32_t mark);
void tp_stream_expect(struct tp_channel *channel, uint64_t id); /* said: an ack will come */
void tp_stream_continue(struct tp_channel *channel);            /* what held it may be over */
void tp_stream_closing(struct tp_channel *channel, enum tp_close_reason reason);
void tp_stream_finish(struct tp_channel *channel);

/* The connection of a POST /sse is gone before its answer. */
void tp_visit_closed(struct tp_visit *visit);
/* The server ends: the answer cannot be waited for. */
void tp_visit_abandon(struct tp_visit *visit);

/* TP_LETTER_POST and TP_LETTER_POSTED. */
void tp_stream_letter(struct tp_shard *shard, struct tp_shard_letter *letter);

/* The end of a turn. */
void tp_stream_tick(struct tp_shard *shard);
