/* What guard/ promises beyond what the reference shows: keys, leeway, limits. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "guard/grant.h"
#include "guard/keys.h"

static struct tp_slice text(const char *string)
{
    return tp_slice_of(string, strlen(string));
}

/* ---- base64url, JSON, tokens --------------------------------------------------------------------
 */

static const char *decode(const char *string)
{
    static char out[64];
    struct tp_buffer bytes = tp_buffer_growing(64);

    const enum tp_status status = tp_base64url_decode(text(string), &bytes);
    if (status == TP_OK && bytes.size > 0)
        memcpy(out, bytes.data, bytes.size);
    out[status == TP_OK ? bytes.size : 0] = '\0';
    tp_buffer_finish(&bytes);
    return status == TP_OK ? out : NULL;
}

Test(jwt, reads_base64url_in_its_one_spelling)
{
    cr_assert_str_eq(decode(""), "");
    cr_assert_str_eq(decode("Zg"), "f");
    cr_assert_str_eq(decode("Zm8"), "fo");
    cr_assert_str_eq(decode("Zm9v"), "foo");
    cr_assert_str_eq(decode("Pz8-"), "?\?>");
    cr_assert_str_eq(decode("Pz8_"), "?\?\?");
    static const char *const bad[] = {"Z",      "Zg==", "Zh",    "Zm9",   "Pz8+", "Pz8/",
                                      "Zm9v\n", " Zg",  "Zm 9v", "Zm9vZ", "Zm9v="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_null(decode(bad[i]), "%s", bad[i]);
}

static bool parses(const char *string, unsigned depth_max)
{
    struct json_t *json = NULL;

    const bool good = tp_json_parse(text(string), depth_max, &json) == TP_OK;
    json_decref(json);
    return good;
}

Test(jwt, reads_json_to_its_depth_and_no_further)
{
    cr_assert(parses("{\"a\":[{\"b\":1}]}", 3));
    cr_assert_not(parses("{\"a\":[{\"b\":1}]}", 2));
    cr_assert(parses("{\"a\":\"[[[[\\\"[[\"}", 1), "brackets in texts are letters");
    cr_assert_not(parses("{\"a\":1} x", 3));
    cr_assert_not(parses("", 3));
    cr_assert_not(parses("{\"a\":\"\xff\"}", 3), "no UTF-8");
}

static enum tp_status parse(const char *header, size_t size)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char token[2 * TP_JWT_SIZE_MAX];
    size_t at = 0;
    struct tp_jwt jwt;

    for (size_t i = 0; i < strlen(header); i += 3) {
        uint32_t bits = 0;
        const size_t left = tp_min(strlen(header) - i, 3);
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < left ? (uint8_t)header[i + k] : 0);
        for (size_t k = 0; k <= left; k++)
            token[at++] = letters[bits >> (18 - 6 * k) & 63];
    }
    token[at++] = '.';
    const size_t rest = size > at + 1 ? size - at - 1 : 4;
    memset(token + at, 'A', rest);
    at += rest;
    token[at++] = '.';
    const enum tp_status status = tp_jwt_parse(tp_slice_of(token, at), &jwt);
    if (status == TP_OK)
        tp_jwt_finish(&jwt);
    return status;
}

Test(jwt, refuses_what_no_key_could_make_good)
{
    cr_assert_eq(parse("{\"alg\":\"HS256\"}", 0), TP_OK);
    static const char *const bad[] = {
        "{\"alg\":\"none\"}",
        "{\"alg\":\"None\"}",
        "{\"alg\":\"hs256\"}",
        "{\"alg\":\"\"}",
        "{\"alg\":[\"HS256\"]}",
        "{}",
        "[]",
        "HS256",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"HS256\",\"kid\":7}",
        "{\"alg\":\"HS256\",\"kid\":\"\"}",
        "{\"alg\":\"ES384\"}",
        "{\"alg\":\"RS1\"}",
        "{\"alg\":\"HS256\\u0000\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(parse(bad[i], 0), TP_MALFORMED, "%s", bad[i]);
}

Test(jwt, reads_tokens_of_up_to_8_KiB)
{
    cr_assert_eq(parse("{\"alg\":\"HS256\"}", TP_JWT_SIZE_MAX - 2), TP_OK);
    cr_assert_eq(parse("{\"alg\":\"HS256\"}", TP_JWT_SIZE_MAX), TP_OK);
    cr_assert_eq(parse("{\"alg\":\"HS256\"}", TP_JWT_SIZE_MAX + 1), TP_MALFORMED);
}

/* ---- keys ---------------------------------------------------------------------------------------
 */

static bool add(struct tp_keys *keys, const char *jwks)
{
    char error[256] = "";
    const bool good = tp_keys_add_jwks(keys, text(jwks), error, sizeof error);

    cr_assert_eq(good, error[0] == '\0', "%s", error);
    return good;
}

#define OCT(more) "{\"kty\":\"oct\",\"k\":\"AAECAwQFBgcICQoLDA0ODw\"" more "}"

static uint32_t algorithms_of(const char *jwk)
{
    struct tp_keys keys = {0};

    return add(&keys, jwk) ? keys.keys[0].algorithms : 0;
}

Test(keys, verify_what_they_are_for_and_nothing_else)
{
    cr_assert_eq(algorithms_of(OCT("")), 1u << TP_SIGNATURE_HS256);
    cr_assert_eq(algorithms_of(OCT(",\"alg\":\"HS512\",\"use\":\"sig\"")),
                 1u << TP_SIGNATURE_HS512);
    cr_assert_eq(algorithms_of(OCT(",\"key_ops\":[\"sign\",\"verify\"]")),
                 1u << TP_SIGNATURE_HS256);
    cr_assert_eq(algorithms_of(OCT(",\"alg\":\"RS256\"")), 0, "not of this type");
    cr_assert_eq(algorithms_of(OCT(",\"use\":\"enc\"")), 0);
    cr_assert_eq(algorithms_of(OCT(",\"key_ops\":[\"sign\"]")), 0);
    cr_assert_eq(algorithms_of("{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"AA\",\"y\":\"AA\"}"), 0);
}

Test(keys, of_a_set_that_are_not_ours_are_skipped_and_broken_ones_refuse_it)
{
    struct tp_keys keys = {0};

    cr_assert(add(&keys, "{\"keys\":[" OCT("") ",{\"kty\":\"EC\",\"crv\":\"P-521\"},"
                                               "{\"kty\":\"what\"}]}"));
    cr_assert_eq(keys.count, 1);
    cr_assert_eq(keys.skipped, 2);

    static const char *const bad[] = {
        "{\"keys\":[" OCT("") ",{\"kty\":\"oct\"}]}",
        "{\"keys\":[" OCT("") ",{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
        "{\"keys\":[" OCT("") ",{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}",
        "{\"keys\":[]}",
        "{\"keys\":{}}",
        "{\"keys\":[7]}",
        "{}",
        "[]",
        "7",
        "-----BEGIN PUBLIC KEY-----",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_not(add(&keys, bad[i]), "%s", bad[i]);
        cr_assert_eq(keys.count, 1, "nothing was added by %s", bad[i]);
    }
}

/* The generator's coordinates, the second one changed by one. */
Test(keys, are_points_of_their_curve)
{
    struct tp_keys keys = {0};

    cr_assert(add(&keys, "{\"kty\":\"EC\",\"crv\":\"P-256\","
                         "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\","
                         "\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"}"));
    cr_assert_not(add(&keys, "{\"kty\":\"EC\",\"crv\":\"P-256\","
                             "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\","
                             "\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfQ\"}"));
}

Test(keys, are_found_by_algorithm_and_name)
{
    const struct tp_key *found[TP_KEYS_COUNT_MAX];
    struct tp_keys keys = {0};
    char error[64];
    cr_assert(add(&keys, "{\"keys\":[" OCT(",\"kid\":\"a\"") "," OCT(",\"kid\":\"b\"") "," OCT(
                             ",\"kid\":\"a\",\"alg\":\"HS384\"") "]}"));
    cr_assert(tp_keys_add_secret(&keys, text("a bare secret"), error, sizeof error));

    cr_assert_eq(tp_keys_find(&keys, TP_SIGNATURE_HS256, text("b"), found), 2);
    cr_assert_eq(found[0], &keys.keys[1]);
    cr_assert_eq(found[1], &keys.keys[3], "a bare secret has no name to go by");
    cr_assert_eq(tp_keys_find(&keys, TP_SIGNATURE_HS256, (struct tp_slice){0}, found), 3);
    cr_assert_eq(tp_keys_find(&keys, TP_SIGNATURE_HS384, text("b"), found), 0);
    cr_assert_eq(tp_keys_find(&keys, TP_SIGNATURE_RS256, (struct tp_slice){0}, found), 0);
    cr_assert(tp_keys_have(&keys, keys.keys[3].fingerprint));
    cr_assert_not(tp_keys_have(&keys, keys.keys[3].fingerprint + 1));
}

Test(keys, are_at_most_32)
{
    struct tp_keys keys = {0};
    char secret[16], error[64];

    for (int i = 0; i < 32; i++) {
        snprintf(secret, sizeof secret, "%d", i);
        cr_assert(tp_keys_add_secret(&keys, text(secret), error, sizeof error));
    }
    cr_assert_not(tp_keys_add_secret(&keys, text("32"), error, sizeof error));
    cr_assert_not(tp_keys_add_secret(&keys, text(""), error, sizeof error));
}

/* ---- claims -------------------------------------------------------------------------------------
 */

#define CLAIMS(more) "{\"userId\":\"u\",\"room\":\"r\",\"documentAccess\":[]" more "}"

static const char *refusal(const char *claims, uint64_t leeway_ms, uint64_t now_ms)
{
    const struct tp_grant_policy policy = {.leeway_ms = leeway_ms};
    const char *why = NULL;
    struct tp_grant *grant = tp_grant_read(text(claims), &policy, now_ms, &why);

    cr_assert((grant == NULL) == (why != NULL));
    tp_grant_destroy(grant);
    return why;
}

Test(grant, lasts_until_its_expiry_and_leeway)
{
    cr_assert_null(refusal(CLAIMS(",\"exp\":100"), 0, 99999));
    cr_assert_str_eq(refusal(CLAIMS(",\"exp\":100"), 0, 100000), "expired");
    cr_assert_null(refusal(CLAIMS(",\"exp\":100"), 5000, 104999));
    cr_assert_str_eq(refusal(CLAIMS(",\"exp\":100"), 5000, 105000), "expired");
    cr_assert_str_eq(refusal(CLAIMS(",\"nbf\":100"), 0, 99999), "not valid yet");
    cr_assert_null(refusal(CLAIMS(",\"nbf\":100"), 0, 100000));
    cr_assert_null(refusal(CLAIMS(",\"nbf\":100"), 5000, 95000));
    cr_assert_null(refusal(CLAIMS(",\"exp\":1e300"), 0, 100000), "practically never");
}

Test(grant, says_when_it_ends)
{
    const struct tp_grant_policy policy = {.leeway_ms = 5000};
    const char *why;
    struct tp_grant *grant = tp_grant_read(text(CLAIMS(",\"exp\":100.5")), &policy, 0, &why);

    cr_assert_eq(grant->expires_ms, 105500);
    cr_assert_not(tp_grant_expired(grant, 105499));
    cr_assert(tp_grant_expired(grant, 105500));
    cr_assert_not(tp_grant_expired(NULL, 105500), "nobody asked for a token");
    tp_grant_destroy(grant);
}

Test(grant, needs_a_user_and_a_room_that_can_be_told_apart)
{
    static const char *const bad[] = {
        "{\"room\":\"r\",\"documentAccess\":[]}",
        "{\"userId\":\"\",\"room\":\"r\",\"documentAccess\":[]}",
        "{\"userId\":7,\"room\":\"r\",\"documentAccess\":[]}",
        "{\"userId\":\"a\\u0000\",\"room\":\"r\",\"documentAccess\":[]}",
        "{\"userId\":\"u\",\"documentAccess\":[]}",
        "{\"userId\":\"u\",\"room\":7,\"documentAccess\":[]}",
        "{\"userId\":\"u\",\"room\":\"a\\u0000b\",\"documentAccess\":[]}",
        "{\"userId\":\"u\",\"room\":\"r\"}",
        "{\"userId\":\"u\",\"room\":\"r\",\"documentAccess\":{}}",
        "{\"userId\":\"u\",\"room\":\"r\",\"documentAccess\":[7]}",
        "{\"userId\":\"u\",\"room\":\"r\",\"documentAccess\":[{\"pattern\":\"*\"}]}",
        "{\"userId\":\"u\",\"room\":\"r\",\"documentAccess\":[{\"permissions\":[\"read\"]}]}",
        "[]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not_null(refusal(bad[i], 0, 0), "%s", bad[i]);
    cr_assert_null(refusal("{\"userId\":\"u\",\"room\":\"\",\"documentAccess\":[]}", 0, 0));
}

static char *rules(unsigned count, size_t pattern_size)
{
    const size_t size = 256 + count * (pattern_size + 64);
    char *claims = malloc(size), *at = claims;

    at += sprintf(at, "{\"userId\":\"u\",\"room\":\"r\",\"documentAccess\":[");
    for (unsigned i = 0; i < count; i++)
        at += sprintf(at, "%s{\"pattern\":\"%0*d\",\"permissions\":[\"read\"]}", i ? "," : "",
                      (int)pattern_size, 0);
    strcpy(at, "]}");
    return claims;
}

Test(grant, has_at_most_256_rules_of_at_most_1024_bytes)
{
    static const struct {
        unsigned count;
        size_t size;
        bool good;
    } cases[] = {{0, 0, true}, {1, 1024, true}, {1, 1025, false}, {256, 1, true}, {257, 1, false}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *claims = rules(cases[i].count, cases[i].size);
        cr_assert_eq(refusal(claims, 0, 0) == NULL, cases[i].good, "case %zu", i);
        free(claims);
    }
}

Test(grant, knows_users_whom_the_operator_does_not_limit)
{
    const struct tp_grant_policy policy = {.unlimited_users = TP_SLICE("bot-*, importer")};
    static const struct {
        const char *user;
        bool unlimited;
    } cases[] = {{"bot-1", true}, {"importer", true}, {"importer2", false}, {"a bot-1", false}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char claims[128];
        const char *why;
        snprintf(claims, sizeof claims, "{\"userId\":\"%s\",\"room\":\"\",\"documentAccess\":[]}",
                 cases[i].user);
        struct tp_grant *grant = tp_grant_read(text(claims), &policy, 0, &why);
        cr_assert_eq(grant->unlimited, cases[i].unlimited, "%s", cases[i].user);
        tp_grant_destroy(grant);
    }
}

/* A pattern made to be tried again and again, against a name made to fail at the very end. */
Test(grant, matches_any_pattern_in_linear_time, .timeout = 10)
{
    char pattern[1024], name[1024];
    for (size_t i = 0; i < sizeof pattern; i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[1022] = 'a';
    pattern[1023] = 'b';
    memset(name, 'a', sizeof name);

    for (unsigned i = 0; i < 20000; i++)
        cr_assert_not(tp_pattern_matches(tp_slice_of(pattern, 1024), tp_slice_of(name, 1024)));
}
