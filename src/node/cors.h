/* src/node/cors.h - which pages of other origins may use the HTTP transports, as browsers ask it
 * (Fetch standard, section 3.2). Nothing of it keeps anybody out who is not a browser. */
#pragma once

#include "base/buffer.h"
#include "node/config.h"
#include "wire/http.h"

/* The value for Access-Control-Allow-Origin: "*", or the request's origin when it is configured. A
 * part of `config`; data NULL: none. */
struct tp_slice tp_cors_allowed(const struct tp_config *config,
                                const struct tp_http_request *request);

/* The header lines of any answer to a request with that `allowed`. */
void tp_cors_head(const struct tp_config *config, struct tp_slice allowed, struct tp_buffer *out);

/* Those that the answer to a preflight (OPTIONS) has besides. */
void tp_cors_preflight_head(struct tp_slice allowed, struct tp_buffer *out);
