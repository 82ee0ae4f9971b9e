/* wire/websocket.h - WebSocket frames (RFC 6455 section 5), both directions.
 *
 * Reading is a state machine over whatever bytes have arrived: it unmasks in place, checks every
 * rule of the RFC, and hands out pieces of payload; joining fragments into messages is net's
 * business.
 *
 *     [head][payload.......][head][pay|load]      the bar: where the received bytes end
 *           ^ piece: first, last  ^piece: first
 *                                      ^ piece: last
 */
#pragma once

#include "base/frame.h"
#include "wire/utf8.h"

enum tp_websocket_opcode {
    TP_WEBSOCKET_CONTINUATION = 0,
    TP_WEBSOCKET_TEXT = 1,
    TP_WEBSOCKET_BINARY = 2,
    TP_WEBSOCKET_CLOSE = 8,
    TP_WEBSOCKET_PING = 9,
    TP_WEBSOCKET_PONG = 10,
};

/* Close codes that we send or report (section 7.4.1). */
#define TP_WEBSOCKET_NORMAL 1000u
#define TP_WEBSOCKET_GOING_AWAY 1001u
#define TP_WEBSOCKET_PROTOCOL_ERROR 1002u
#define TP_WEBSOCKET_NO_CODE 1005u /* never on the wire: the close frame was empty */
#define TP_WEBSOCKET_LOST 1006u    /* never on the wire: there was no close frame */
#define TP_WEBSOCKET_NOT_UTF8 1007u
#define TP_WEBSOCKET_TOO_BIG 1009u
#define TP_WEBSOCKET_TRY_LATER 1013u

#define TP_WEBSOCKET_CONTROL_SIZE_MAX 125u /* payload of a ping, pong or close */

#define TP_WEBSOCKET_HEAD_SIZE_MAX 10u /* server to client: no mask */
static_assert(TP_WEBSOCKET_HEAD_SIZE_MAX <= TP_FRAME_HEAD_SIZE, "a header fits before the message");

/* What is read from one client, between one piece and the next. */
struct tp_websocket_reader {
    uint64_t message_size_max; /* more: close code 1009, as soon as a header says so */
    uint64_t message_size;     /* of the message under way, by the headers so far */
    uint64_t frame_size;       /* payload of the frame under way */
    uint64_t frame_offset;     /* of it, read so far */
    struct tp_utf8 utf8;
    uint16_t close_code; /* after TP_MALFORMED: what to close with */
    uint8_t mask[4];
    uint8_t message_opcode; /* TEXT or BINARY while a message is under way, else 0 */
    uint8_t opcode;         /* of the frame under way */
    bool final;             /* so is the frame's FIN bit */
    bool in_payload;        /* the frame's header is whole */
    bool message_begun;     /* a piece of the message under way was handed out */
    uint8_t head_size;      /* bytes in `head`: a header, or a control frame's payload */
    uint8_t head[TP_WEBSOCKET_CONTROL_SIZE_MAX];
};

/* Some bytes of a message, unmasked, in the buffer they were received in. A control frame is always
 * one whole piece; one that came in parts lies in the reader. */
struct tp_websocket_piece {
    enum tp_websocket_opcode opcode; /* TEXT, BINARY, CLOSE, PING or PONG: the message's */
    uint8_t *data;
    size_t size;           /* 0 is possible */
    bool first;            /* the message begins here */
    bool last;             /* it ends here; text was well formed */
    uint64_t size_claimed; /* of the message, by the headers so far: a hint, not a promise */
};

void tp_websocket_reader_init(struct tp_websocket_reader *reader, uint64_t message_size_max);

/* Reads from `*at` up to `end`, changing the bytes in place, and moves `*at` on.
 * TP_OK: `out` is the next piece, and there may be more. TP_MORE: all is read.
 * TP_MALFORMED: close with reader->close_code; nothing can be read from then on. */
TP_MUST_CHECK enum tp_status tp_websocket_read(struct tp_websocket_reader *reader, uint8_t **at,
                                               uint8_t *end, struct tp_websocket_piece *out);

/* A close frame's payload (sections 5.5.1 and 7.4). Without a code it is TP_WEBSOCKET_NO_CODE.
 * TP_MALFORMED: `*code` is what to close with instead. */
TP_MUST_CHECK enum tp_status tp_websocket_close_decode(struct tp_slice payload, uint16_t *code,
                                                       struct tp_slice *reason);

/* Writes the header of one unfragmented, unmasked frame before the message in `frame` and moves
 * frame->start there. A sealed frame stays as it is. */
void tp_websocket_seal(struct tp_frame *frame, enum tp_websocket_opcode opcode);

/* Writes such a header to `out`; returns its size. For frames that hold many messages. */
size_t tp_websocket_head(uint8_t out[TP_WEBSOCKET_HEAD_SIZE_MAX], enum tp_websocket_opcode opcode,
                         uint64_t payload_size);

/* XORs `size` bytes with the mask, many at a time; `phase` is the offset within the payload. */
void tp_websocket_unmask(uint8_t *bytes, size_t size, const uint8_t mask[4], uint64_t phase);

/* The value of Sec-WebSocket-Accept for a key (section 4.2.2), 28 characters, no final NUL. The key
 * must be valid. */
void tp_websocket_accept(struct tp_slice key, char out[28]);

#define TP_WEBSOCKET_KEY_SIZE 24u /* 16 bytes in base64 */
bool tp_websocket_key_valid(struct tp_slice key);

/* True for a code that a peer may send in a close frame (section 7.4). */
bool tp_websocket_close_code_valid(uint16_t code);
