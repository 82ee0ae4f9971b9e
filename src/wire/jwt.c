#include "wire/jwt.h"

#include <jansson.h>

/* ---- base64url ----------------------------------------------------------------------------------
 */

static int digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

enum tp_status tp_base64url_decode(struct tp_slice text, struct tp_buffer *out)
{
    uint32_t bits = 0;
    unsigned bit_count = 0;

    if (text.size % 4 == 1)
        return TP_MALFORMED;
    if (!tp_buffer_reserve(out, text.size / 4 * 3 + 2))
        return TP_FULL;
    TP_ASSERT(out->data != NULL); /* for the analyzer: there is room for two bytes at least */
    const size_t before = out->size;
    for (size_t i = 0; i < text.size; i++) {
        const int value = digit(text.data[i]);
        if (value < 0) {
            out->size = before;
            return TP_MALFORMED;
        }
        bits = bits << 6 | (uint32_t)value;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            out->data[out->size++] = (uint8_t)(bits >> bit_count);
        }
    }
    if ((bits & ((1u << bit_count) - 1)) != 0) { /* a second spelling of the same bytes */
        out->size = before;
        return TP_MALFORMED;
    }
    return TP_OK;
}

/* ---- JSON ---------------------------------------------------------------------------------------
 */

/* The library recurses, up to a depth of its own that is far above what we want. */
static bool is_deeper(struct tp_slice text, unsigned depth_max)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > depth_max)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

enum tp_status tp_json_parse(struct tp_slice text, unsigned depth_max, struct json_t **out)
{
    json_error_t error;

    if (text.size == 0 || is_deeper(text, depth_max))
        return TP_MALFORMED;
    json_t *json = json_loadb((const char *)text.data, text.size,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (json == NULL)
        return TP_MALFORMED;
    *out = json;
    return TP_OK;
}

/* ---- tokens -------------------------------------------------------------------------------------
 */

bool tp_jwt_algorithm(struct tp_slice name, enum tp_signature_algorithm *out)
{
    static const char *const names[TP_SIGNATURE_COUNT] = {
        [TP_SIGNATURE_HS256] = "HS256", [TP_SIGNATURE_HS384] = "HS384",
        [TP_SIGNATURE_HS512] = "HS512", [TP_SIGNATURE_RS256] = "RS256",
        [TP_SIGNATURE_PS256] = "PS256", [TP_SIGNATURE_ES256] = "ES256",
        [TP_SIGNATURE_EDDSA] = "EdDSA",
    };

    for (unsigned i = 0; i < TP_SIGNATURE_COUNT; i++) {
        if (tp_slice_equal(name, tp_slice_of(names[i], strlen(names[i])))) {
            *out = (enum tp_signature_algorithm)i;
            return true;
        }
    }
    return false;
}

static struct tp_slice text_of(const json_t *json)
{
    return tp_slice_of(json_string_value(json), json_string_length(json));
}

/* alg and kid; `kid` is copied behind what `bytes` holds. */
static bool read_header(struct tp_slice text, struct tp_jwt *out)
{
    json_t *header;

    if (tp_json_parse(text, TP_JWT_DEPTH_MAX, &header) != TP_OK)
        return false;
    const json_t *algorithm = json_object_get(header, "alg");
    const json_t *kid = json_object_get(header, "kid");
    /* Nothing that `crit` could name is understood here (RFC 7515 section 4.1.11). */
    bool good = json_is_object(header) && json_object_get(header, "crit") == NULL &&
                json_is_string(algorithm) && tp_jwt_algorithm(text_of(algorithm), &out->algorithm);
    if (good && kid != NULL) {
        good = json_is_string(kid) && json_string_length(kid) <= TP_JWT_KID_SIZE_MAX;
        if (good) {
            tp_buffer_append(&out->bytes, json_string_value(kid), json_string_length(kid));
            out->kid.size = json_string_length(kid);
        }
    }
    good = good && (kid == NULL || out->kid.size > 0); /* an empty one names nothing */
    json_decref(header);
    return good;
}

enum tp_status tp_jwt_parse(struct tp_slice token, struct tp_jwt *out)
{
    struct tp_jwt jwt = {.bytes = tp_buffer_growing(2 * TP_JWT_SIZE_MAX)};
    struct tp_slice parts[3];
    const uint8_t *at = token.data;

    if (token.size == 0 || token.size > TP_JWT_SIZE_MAX)
        return TP_MALFORMED;
    const uint8_t *const end = token.data + token.size;
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *dot = memchr(at, '.', (size_t)(end - at));
        if ((dot == NULL) != (i == 2))
            return TP_MALFORMED;
        parts[i] = tp_slice_of(at, (size_t)((i == 2 ? end : dot) - at));
        if (i < 2)
            at = dot + 1;
    }

    struct tp_buffer header = tp_buffer_growing(TP_JWT_SIZE_MAX);
    const bool good = tp_base64url_decode(parts[0], &header) == TP_OK &&
                      read_header(tp_buffer_slice(&header), &jwt) &&
                      tp_base64url_decode(parts[1], &jwt.bytes) == TP_OK;
    tp_buffer_finish(&header);
    const size_t payload_end = jwt.bytes.size;
    if (!good || tp_base64url_decode(parts[2], &jwt.bytes) != TP_OK) {
        tp_buffer_finish(&jwt.bytes);
        return TP_MALFORMED;
    }
    if (jwt.kid.size > 0)
        jwt.kid.data = jwt.bytes.data;
    jwt.payload = tp_slice_of(jwt.bytes.data + jwt.kid.size, payload_end - jwt.kid.size);
    jwt.signature = tp_slice_of(jwt.bytes.data + payload_end, jwt.bytes.size - payload_end);
    jwt.signed_bytes = tp_slice_of(token.data, parts[0].size + 1 + parts[1].size);
    *out = jwt;
    return TP_OK;
}

void tp_jwt_finish(struct tp_jwt *jwt)
{
    tp_buffer_finish(&jwt->bytes);
    *jwt = (struct tp_jwt){0};
}
