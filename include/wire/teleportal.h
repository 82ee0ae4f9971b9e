/* wire/teleportal.h - Teleportal's frames: bytes <-> seam/message.h (spec 01 sections 2 and 3).
 *
 *     59 4a 53 01 | document name | encrypted | type | body ...      (what follows is ignored, but
 *     "YJS"                                                           stays part of the frame)
 *
 * Whatever the reference client can send decodes, and whatever decodes can be written again. */
#pragma once

#include "base/buffer.h"
#include "seam/effect.h"
#include "seam/message.h"

#define TP_TELEPORTAL_PING TP_SLICE("YJSping") /* to the client: on SSE only */
#define TP_TELEPORTAL_PONG TP_SLICE("YJSpong") /* to the client: on WebSocket only */

#define TP_TELEPORTAL_ID_SIZE 16u           /* a message id as text: lower case hexadecimal */
#define TP_TELEPORTAL_ID_TEXT_SIZE_MAX 256u /* longer ids in acks and rpc are malformed */
#define TP_TELEPORTAL_METHOD_SIZE_MAX 256u  /* a longer rpc method is malformed */
#define TP_TELEPORTAL_ANY_DEPTH_MAX 64u     /* deeper values are malformed */

enum tp_teleportal_type {
    TP_TELEPORTAL_DOC = 0,
    TP_TELEPORTAL_AWARENESS = 1,
    TP_TELEPORTAL_ACK = 2,
    TP_TELEPORTAL_PRESENCE = 3,
    TP_TELEPORTAL_RPC = 4,
};

bool tp_teleportal_has_magic(struct tp_slice bytes);

/* Both start with the magic, are no frames, and may have anything behind them. */
bool tp_teleportal_is_ping(struct tp_slice bytes);
bool tp_teleportal_is_pong(struct tp_slice bytes);

/* The id of a frame, over all of its bytes: lane a high, lane b low. */
uint64_t tp_teleportal_message_id(struct tp_slice frame);

void tp_teleportal_id_format(uint64_t id, char out[TP_TELEPORTAL_ID_SIZE]);
/* TP_MALFORMED: not 16 lower case hexadecimal digits. */
TP_MUST_CHECK enum tp_status tp_teleportal_id_parse(struct tp_slice text, uint64_t *id);

/* Decodes one frame; `out` borrows from it. An update whose container cannot be read is a message
 * all the same (seam/message.h). TP_MALFORMED with the close reason of spec 01 section 4.4; pings
 * and pongs are malformed here. Payloads of rpc requests and streams are checked to be one `any`,
 * those of responses are not looked at. */
TP_MUST_CHECK enum tp_status tp_teleportal_decode(struct tp_slice frame, struct tp_message *out,
                                                  enum tp_close_reason *reason);

/* Writes `message` as a frame about `document` (acks name none). An update is written as version 2
 * with a container of v2 and sidecars; if v2 has no data, with its version and container as they
 * came. TP_ABSENT: Teleportal cannot say this. TP_FULL: `out` is. */
TP_MUST_CHECK enum tp_status tp_teleportal_encode(const struct tp_message *message,
                                                  struct tp_slice document, struct tp_buffer *out);

/* Takes one entry off the front of a heartbeat's entries. TP_ABSENT: nothing is left. */
TP_MUST_CHECK enum tp_status tp_teleportal_presence_next(struct tp_slice *entries,
                                                         struct tp_message_presence *out);
/* Writes one entry, as in join and leave: what a heartbeat's `entries` are made of. */
void tp_teleportal_presence_write(const struct tp_message_presence *presence,
                                  struct tp_buffer *out);

/* Message arrays (HTTP, spec 01 section 2.8): takes one frame off the front. TP_ABSENT: nothing is
 * left. TP_MALFORMED fails the whole array, as does a frame that does not decode. */
TP_MUST_CHECK enum tp_status tp_teleportal_array_next(struct tp_slice *rest,
                                                      struct tp_slice *frame);
void tp_teleportal_array_write(struct tp_slice frame, struct tp_buffer *out);
/* Looks at the whole of an array. TP_MALFORMED: it is none, or one of its frames does not decode.
 * TP_FULL: more than `count_max` frames. */
TP_MUST_CHECK enum tp_status tp_teleportal_array_check(struct tp_slice array, size_t count_max);

/* True if `frame`, which we have written, is an ack or a NACK: then `id` is the message that it
 * answers. */
bool tp_teleportal_is_ack(struct tp_slice frame, uint64_t *id);

/* Envelopes between nodes (spec 01 section 2.9): who sent it, then the frame. */
TP_MUST_CHECK enum tp_status tp_teleportal_envelope_decode(struct tp_slice envelope,
                                                           struct tp_slice *source,
                                                           struct tp_slice *frame);
void tp_teleportal_envelope_encode(struct tp_slice source, struct tp_slice frame,
                                   struct tp_buffer *out);
