/* wire/websocket.h - WebSocket frames (RFC 6455 section 5), both directions.
 *
 * Reading is a state machine over whatever bytes have arrived: it unmasks in place, checks every
 * rule of the RFC, and hands out pieces of payload; joining fragments into messages is net's
 * business. */
#pragma once

#include "base/frame.h"

enum tp_websocket_opcode {
    TP_WEBSOCKET_CONTINUATION = 0,
    TP_WEBSOCKET_TEXT = 1,
    TP_WEBSOCKET_BINARY = 2,
    TP_WEBSOCKET_CLOSE = 8,
    TP_WEBSOCKET_PING = 9,
    TP_WEBSOCKET_PONG = 10,
};

#define TP_WEBSOCKET_HEAD_SIZE_MAX 10u /* server to client: no mask */
static_assert(TP_WEBSOCKET_HEAD_SIZE_MAX <= TP_FRAME_HEAD_SIZE, "a header fits before the message");

/* Writes the header of one unfragmented, unmasked frame before the message in `frame` and moves
 * frame->start there. A sealed frame stays as it is. */
void tp_websocket_seal(struct tp_frame *frame, enum tp_websocket_opcode opcode);

/* Writes such a header to `out`; returns its size. For frames that hold many messages. */
size_t tp_websocket_head(uint8_t out[TP_WEBSOCKET_HEAD_SIZE_MAX], enum tp_websocket_opcode opcode,
                         uint64_t payload_size);

/* XORs `size` bytes with the mask, eight or more at a time; `phase` is the offset within the
 * payload. */
void tp_websocket_unmask(uint8_t *bytes, size_t size, const uint8_t mask[4], uint64_t phase);

/* The value of Sec-WebSocket-Accept for a key (section 4.2.2), 28 characters, no final NUL. */
void tp_websocket_accept(struct tp_slice key, char out[28]);

/* True for a code that a peer may send in a close frame (section 7.4). */
bool tp_websocket_close_code_valid(uint16_t code);
