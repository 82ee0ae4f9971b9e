/* wire/http.h - HTTP/1.1 requests (RFC 9110, RFC 9112), as they come and as a handler sees them.
 *
 *     bytes -> [ head, checked twice ] -> [ body, by length or chunks ] -> one request -> the next
 *
 * The parser is strict where leniency would let two servers read the same bytes differently
 * (request smuggling): every line ends in CRLF, no folded lines, no blank before a colon, one
 * length only. It checks lines itself and leaves framing to llhttp; what either refuses is refused.
 */
#pragma once

#include "base/base.h"

struct tp_http_request {
    struct tp_slice method;  /* "GET" */
    struct tp_slice target;  /* as sent: path and query */
    struct tp_slice path;    /* target up to '?'; not percent-decoded */
    struct tp_slice query;   /* behind '?', or empty */
    struct tp_slice headers; /* the raw header lines, for tp_http_header */
    struct tp_slice body;
    bool keep_alive;
    bool head;                 /* the method is HEAD: the answer has no body */
    bool upgrade;              /* a valid WebSocket handshake (RFC 6455 section 4.2.1) */
    struct tp_slice protocols; /* Sec-WebSocket-Protocol as sent, or empty */
    struct tp_slice key;       /* Sec-WebSocket-Key of an upgrade */
};

/* The value of the first header of that name (any case), or a slice with data NULL. */
struct tp_slice tp_http_header(const struct tp_http_request *request, const char *name);

/* The value of the last one: what the proxy nearest to us has added. */
struct tp_slice tp_http_header_last(const struct tp_http_request *request, const char *name);

/* Is `token` one of the comma-separated words in the headers of that name? Both in any case. */
bool tp_http_header_has(const struct tp_http_request *request, const char *name, const char *token);

/* The first query parameter of that name, still percent-encoded; data NULL if there is none. */
struct tp_slice tp_http_query(struct tp_slice query, const char *name);

/* Percent-decodes once into `out` (room for text.size bytes). TP_MALFORMED: "%" without two hex
 * digits. */
TP_MUST_CHECK enum tp_status tp_http_percent_decode(struct tp_slice text, uint8_t *out,
                                                    size_t *size);

/* "Not Found" for 404; "Unknown" for a number that we never send. */
const char *tp_http_reason(unsigned status);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7) with a final NUL. */
#define TP_HTTP_DATE_SIZE 30u
void tp_http_date(uint64_t wall_ms, char out[TP_HTTP_DATE_SIZE]);

/* The requests of one connection, one after the other. Owns heap memory for the head and the body
 * at hand. */
struct tp_http_parser;

/* Heads above `header_size_max` bytes end in 431, bodies above `body_size_max` in 413. */
struct tp_http_parser *tp_http_parser_create(uint32_t header_size_max, uint32_t body_size_max);
void tp_http_parser_destroy(struct tp_http_parser *parser); /* NULL is allowed */

/* Reads up to `bytes.size` bytes, and says how many it took.
 * TP_OK: a request is whole; what was not taken belongs to what follows.
 * TP_MORE: everything was taken. TP_MALFORMED: answer tp_http_parser_refusal and close. */
TP_MUST_CHECK enum tp_status tp_http_parser_feed(struct tp_http_parser *parser,
                                                 struct tp_slice bytes, size_t *taken);

/* After TP_OK, until the next feed: the request, borrowed from the parser. */
const struct tp_http_request *tp_http_parser_request(const struct tp_http_parser *parser);

/* After TP_MALFORMED: 400, 413, 417, 426, 431, 501 or 505. A 426 must name the WebSocket version 13
 * (RFC 6455 section 4.2.2). */
unsigned tp_http_parser_refusal(const struct tp_http_parser *parser);

/* True once: the head is whole, the body is not, and the client waits for "100 Continue". */
bool tp_http_parser_continue(struct tp_http_parser *parser);

/* Nothing of a request has been read since the last one. */
bool tp_http_parser_idle(const struct tp_http_parser *parser);

/* The head is whole, and the body is on its way. */
bool tp_http_parser_in_body(const struct tp_http_parser *parser);
