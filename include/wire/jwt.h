/* wire/jwt.h - a JSON Web Token as it comes: compact JWS (RFC 7515), not yet believed.
 *
 *     eyJhbGciOi... . eyJ1c2VySWQi... . zXKr5YpKU...
 *     header           payload          signature, over the bytes of the first two and their dot
 *
 * Base64url without padding, and nothing else: no blanks, no second spelling of the same bytes.
 * JSON is strict UTF-8 and bounded in depth. Also what a JSON Web Key Set is made of (RFC 7517). */
#pragma once

#include "base/base.h"
#include "base/buffer.h"
#include "base/signature.h"

#define TP_JWT_SIZE_MAX 8192u
#define TP_JWT_DEPTH_MAX 16u
#define TP_JWT_KID_SIZE_MAX 256u

struct tp_jwt {
    enum tp_signature_algorithm algorithm;
    struct tp_slice kid;          /* data NULL: none */
    struct tp_slice signed_bytes; /* header, dot, payload, in the token */
    struct tp_slice payload;      /* JSON text */
    struct tp_slice signature;    /* bytes */
    struct tp_buffer bytes;       /* holds kid, payload and signature */
};

/* Borrows `token` for `signed_bytes`. TP_MALFORMED: it is no token, or one that nobody may accept:
 * an algorithm that we do not verify ("none" among them), or a header with `crit`. Fills `out` on
 * success only. */
TP_MUST_CHECK enum tp_status tp_jwt_parse(struct tp_slice token, struct tp_jwt *out);
void tp_jwt_finish(struct tp_jwt *jwt); /* a zeroed one is fine */

/* "RS256" and so on. False: none of ours. */
bool tp_jwt_algorithm(struct tp_slice name, enum tp_signature_algorithm *out);

/* Unpadded, strict. */
TP_MUST_CHECK enum tp_status tp_base64url_decode(struct tp_slice text, struct tp_buffer *out);

/* One JSON value. `out` is a json_t, to be given up with json_decref. TP_MALFORMED: not JSON,
 * deeper than depth_max, or behind the value is more than blanks. Of equal keys the last one wins.
 */
struct json_t;
TP_MUST_CHECK enum tp_status tp_json_parse(struct tp_slice text, unsigned depth_max,
                                           struct json_t **out);
