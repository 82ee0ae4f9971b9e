/* wire/http.h - one HTTP/1.1 request as a handler sees it. */
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
    bool upgrade;              /* a valid WebSocket handshake (RFC 6455 section 4.2.1) */
    struct tp_slice protocols; /* Sec-WebSocket-Protocol as sent, or empty */
};

/* The value of the first header of that name (any case), or a slice with data NULL. */
struct tp_slice tp_http_header(const struct tp_http_request *request, const char *name);

/* The first query parameter of that name, still percent-encoded; data NULL if there is none. */
struct tp_slice tp_http_query(struct tp_slice query, const char *name);

/* Percent-decodes once into `out` (room for text.size bytes). TP_MALFORMED: "%" without two hex
 * digits. */
TP_MUST_CHECK enum tp_status tp_http_percent_decode(struct tp_slice text, uint8_t *out,
                                                    size_t *size);
