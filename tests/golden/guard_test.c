/* Tokens, patterns and permissions against what the reference decides, and one token of every
 * algorithm against our verification. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "golden/vectors.h"
#include "guard/grant.h"
#include "guard/keys.h"
#include "guard/rate.h"
#include "rpc/call.h"

static struct tp_slice text(const char *string)
{
    return tp_slice_of(string, strlen(string));
}

/* As the server does it: NULL if any step refuses. */
static struct tp_grant *verify(struct tp_slice token, const struct tp_keys *keys,
                               const struct tp_grant_policy *policy, uint64_t now_s)
{
    const struct tp_key *found[TP_KEYS_COUNT_MAX];
    struct tp_grant *grant = NULL;
    const char *why = NULL;
    struct tp_jwt jwt;

    if (tp_jwt_parse(token, &jwt) != TP_OK)
        return NULL;
    const uint32_t count = tp_keys_find(keys, jwt.algorithm, jwt.kid, found);
    for (uint32_t i = 0; i < count && grant == NULL; i++)
        if (tp_verify(&found[i]->key, jwt.algorithm, jwt.signed_bytes, jwt.signature))
            grant = tp_grant_read(jwt.payload, policy, now_s * 1000, &why);
    tp_jwt_finish(&jwt);
    return grant;
}

static const struct tp_grant_policy standard = {.issuer = {(const uint8_t *)"teleportal", 10},
                                                .audience = {(const uint8_t *)"teleportal", 10},
                                                .allow_unrestricted = true};

/* ---- the reference's tokens --------------------------------------------------------------------
 */

static void expect_claims(const struct tp_grant *grant, const json_t *claims, const char *name)
{
    const json_t *expires = json_object_get(claims, "exp");

    cr_assert(tp_slice_equal(grant->user, vectors_string(claims, "userId")), "%s", name);
    cr_assert(tp_slice_equal(grant->room, vectors_string(claims, "room")), "%s", name);
    cr_assert_eq(grant->rule_count, json_array_size(json_object_get(claims, "documentAccess")));
    cr_assert_eq(grant->expires_ms,
                 expires == NULL ? 0 : (uint64_t)(json_number_value(expires) * 1000), "%s", name);
}

Test(guard_golden, tokens_are_taken_and_refused_as_the_reference_does)
{
    json_t *root = vectors_load("wire/jwt.json");
    unsigned taken = 0, refused = 0;

    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = vectors_text(vector, "name");
        const json_t *config = json_object_get(vector, "config");
        const json_t *claims = json_object_get(vector, "claims");
        if (!json_is_string(json_object_get(vector, "token")))
            continue; /* no token at all */
        const struct tp_slice secret = json_object_get(config, "secretHex") != NULL
                                           ? vectors_hex(config, "secretHex")
                                           : vectors_string(config, "secretUtf8");
        struct tp_grant_policy policy = standard;
        struct tp_keys keys = {0};
        char error[128];
        policy.issuer = vectors_string(config, "issuer");
        policy.audience = vectors_string(config, "audience");
        cr_assert(tp_keys_add_secret(&keys, secret, error, sizeof error), "%s", error);
        const uint64_t now_s = (uint64_t)json_integer_value(json_object_get(vector, "now"));
        /* Two spellings that we may refuse, and a token that does not say whose it is. */
        const bool wanted = json_is_true(json_object_get(vector, "valid")) &&
                            json_object_get(vector, "serverMay") == NULL &&
                            json_is_string(json_object_get(claims, "userId"));

        struct tp_grant *grant = verify(vectors_string(vector, "token"), &keys, &policy, now_s);

        cr_assert_eq(grant != NULL, wanted, "%s", name);
        if (grant != NULL)
            expect_claims(grant, claims, name);
        *(grant != NULL ? &taken : &refused) += 1;
        tp_grant_destroy(grant);
    }
    cr_assert(taken >= 10 && refused >= 20, "%u taken, %u refused", taken, refused);
}

/* ---- every algorithm ----------------------------------------------------------------------------
 */

static json_t *algorithms(struct tp_keys *keys)
{
    json_t *root = vectors_load("jwt/algorithms.json");
    char *jwks = json_dumps(json_object_get(root, "jwks"), 0);
    char error[256];

    *keys = (struct tp_keys){0};
    cr_assert(tp_keys_add_jwks(keys, text(jwks), error, sizeof error), "%s", error);
    cr_assert_eq(keys->count, vectors_count(json_object_get(root, "jwks"), "keys"));
    free(jwks);
    return root;
}

static bool is_taken(struct tp_slice token, const struct tp_keys *keys)
{
    struct tp_grant *grant = verify(token, keys, &standard, 1800000000);
    const bool taken = grant != NULL;

    tp_grant_destroy(grant);
    return taken;
}

Test(guard_golden, a_token_of_every_algorithm_is_verified_with_and_without_the_name_of_its_key)
{
    struct tp_keys keys;
    json_t *root = algorithms(&keys);
    uint32_t seen = 0;

    VECTORS_EACH(root, "tokens", vector)
    {
        enum tp_signature_algorithm algorithm;
        cr_assert(tp_jwt_algorithm(vectors_string(vector, "alg"), &algorithm));
        seen |= 1u << algorithm;

        cr_assert(is_taken(vectors_string(vector, "token"), &keys), "%s",
                  vectors_text(vector, "name"));
        cr_assert(is_taken(vectors_string(vector, "withoutKid"), &keys), "%s",
                  vectors_text(vector, "name"));
    }
    cr_assert_eq(seen, (1u << TP_SIGNATURE_COUNT) - 1, "one of each");
}

Test(guard_golden, a_token_with_any_one_byte_changed_is_refused, .timeout = 50)
{
    struct tp_keys keys;
    json_t *root = algorithms(&keys);
    struct tp_random random = {7};

    VECTORS_EACH(root, "tokens", vector)
    {
        const struct tp_slice good = vectors_string(vector, "token");
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789-_";
        for (unsigned i = 0; i < 24; i++) {
            char copy[TP_JWT_SIZE_MAX];
            memcpy(copy, good.data, good.size);
            /* Half of them in the signature, which is the last third or more of each. */
            const size_t at = i % 2 ? good.size - 1 - tp_random_below(&random, 40)
                                    : tp_random_below(&random, good.size);
            const char letter = letters[tp_random_below(&random, 64)];
            if (copy[at] == letter || copy[at] == '.')
                continue;
            copy[at] = letter;

            cr_assert_not(is_taken(tp_slice_of(copy, good.size), &keys), "%s, byte %zu",
                          vectors_text(vector, "name"), at);
        }
    }
}

Test(guard_golden, no_token_is_verified_by_the_key_of_another)
{
    struct tp_keys keys;
    json_t *root = algorithms(&keys);

    VECTORS_EACH(root, "tokens", vector)
    {
        const char *name = vectors_text(vector, "name");
        struct tp_keys others = {0};
        for (uint32_t i = 0; i < keys.count; i++) {
            if (strlen(name) == keys.keys[i].kid_size &&
                memcmp(name, keys.keys[i].kid, strlen(name)) == 0)
                continue;
            others.keys[others.count] = keys.keys[i];
            others.keys[others.count++].kid_size = 0; /* tried for every token */
        }
        cr_assert_eq(others.count, keys.count - 1);

        cr_assert_not(is_taken(vectors_string(vector, "token"), &others), "%s", name);
    }
}

Test(guard_golden, a_public_key_is_no_shared_secret)
{
    struct tp_keys keys;
    json_t *root = algorithms(&keys);

    VECTORS_EACH(root, "confused", vector)
    {
        cr_assert_not(is_taken(vectors_string(vector, "token"), &keys), "%s",
                      vectors_text(vector, "name"));
        cr_assert_not(is_taken(vectors_string(vector, "withoutKid"), &keys), "%s",
                      vectors_text(vector, "name"));
    }
}

/* ---- documents ----------------------------------------------------------------------------------
 */

Test(guard_golden, patterns_match_what_they_match_in_the_reference)
{
    json_t *root = vectors_load("wire/patterns.json");

    VECTORS_EACH(root, "vectors", vector)
    {
        const struct tp_slice pattern = vectors_string(vector, "pattern");
        const json_t *matches = json_object_get(vector, "matches");
        VECTORS_EACH(root, "documents", document)
        {
            const struct tp_slice name =
                tp_slice_of(json_string_value(document), json_string_length(document));
            bool wanted = false;
            for (size_t i = 0; i < json_array_size(matches); i++)
                wanted |= json_equal(json_array_get(matches, i), document);

            cr_assert_eq(tp_pattern_matches(pattern, name), wanted, "\"%s\" and \"%s\"",
                         (const char *)pattern.data, (const char *)name.data);
        }
    }
}

static struct tp_grant *grant_with(const json_t *access, const struct tp_grant_policy *policy)
{
    json_t *claims =
        json_pack("{s:s, s:s, s:s, s:s, s:O*}", "userId", "nick", "room", "", "iss", "teleportal",
                  "aud", "teleportal", "documentAccess", json_is_null(access) ? NULL : access);
    char *string = json_dumps(claims, 0);
    const char *why = NULL;

    struct tp_grant *grant = tp_grant_read(text(string), policy, 0, &why);
    cr_assert((grant == NULL) == (why != NULL));
    free(string);
    json_decref(claims);
    return grant;
}

static bool has(const json_t *list, const char *word)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), word) == 0)
            return true;
    return false;
}

Test(guard_golden, rights_on_documents_are_the_references)
{
    json_t *root = vectors_load("wire/document-access.json");

    VECTORS_EACH(root, "vectors", vector)
    {
        const json_t *access = json_object_get(vector, "documentAccess");
        struct tp_grant *grant = grant_with(access, &standard);
        cr_assert_not_null(grant);
        VECTORS_EACH(vector, "results", result)
        {
            const json_t *allowed = json_object_get(result, "allowed");
            const uint8_t wanted = (has(allowed, "read") ? TP_MAY_READ : 0) |
                                   (has(allowed, "write") ? TP_MAY_WRITE : 0) |
                                   (has(allowed, "admin") ? TP_MAY_ADMIN : 0);

            cr_assert_eq(tp_grant_rights(grant, vectors_string(result, "document")), wanted,
                         "%s: \"%s\"", vectors_text(vector, "name"),
                         vectors_text(result, "document"));
        }
        tp_grant_destroy(grant);
    }
}

Test(guard_golden, a_token_that_names_no_documents_opens_none_unless_the_operator_says_so)
{
    struct tp_grant_policy strict = standard;
    strict.allow_unrestricted = false;

    cr_assert_null(grant_with(json_null(), &strict));

    struct tp_grant *grant = grant_with(json_null(), &standard);
    cr_assert_eq(tp_grant_rights(grant, TP_SLICE("anything")), TP_MAY_ALL);
    tp_grant_destroy(grant);
}

/* "rpc milestoneList stream", "presence-join (forged)": the vectors' words for a message. */
static struct tp_message message_of(const char *words)
{
    static const struct {
        const char *words;
        enum tp_message_kind kind;
    } kinds[] = {
        {"ack", TP_MESSAGE_ACK},
        {"awareness-update", TP_MESSAGE_AWARENESS},
        {"awareness-request", TP_MESSAGE_AWARENESS_QUERY},
        {"presence-announce", TP_MESSAGE_PRESENCE_ANNOUNCE},
        {"presence-join (forged)", TP_MESSAGE_PRESENCE_JOIN},
        {"sync-step-1", TP_MESSAGE_SYNC_STEP_1},
        {"sync-step-2", TP_MESSAGE_SYNC_STEP_2},
        {"update", TP_MESSAGE_UPDATE},
        {"sync-done", TP_MESSAGE_SYNC_DONE},
        {"auth-message", TP_MESSAGE_AUTH},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(words, kinds[i].words) == 0)
            return (struct tp_message){.kind = kinds[i].kind};
    cr_assert(strncmp(words, "rpc ", 4) == 0, "%s", words);
    struct tp_message message = {.kind = TP_MESSAGE_RPC};
    message.rpc.method = tp_slice_of(words + 4, strcspn(words + 4, " "));
    return message;
}

static bool is_method(struct tp_slice name)
{
    for (size_t i = 0; i < tp_rpc_method_count; i++)
        if (tp_slice_equal(name,
                           tp_slice_of(tp_rpc_methods[i].name, strlen(tp_rpc_methods[i].name))))
            return true;
    return false;
}

/* What is stricter here (spec 01 section 6.4). */
static uint8_t deviation(const char *words, uint8_t needs)
{
    if (strncmp(words, "awareness-", 10) == 0 || strncmp(words, "presence-", 9) == 0)
        return TP_MAY_READ;
    if (strncmp(words, "rpc keys", 8) == 0 && strncmp(words, "rpc keysGet", 11) != 0 &&
        strncmp(words, "rpc keysMeta", 12) != 0)
        return TP_MAY_WRITE;
    return needs;
}

Test(guard_golden, every_kind_of_message_needs_what_it_needs_in_the_reference_or_more)
{
    json_t *root = vectors_load("wire/permissions.json");
    unsigned count = 0;

    VECTORS_EACH(root, "vectors", vector)
    {
        const char *words = vectors_text(vector, "message");
        const struct tp_message message = message_of(words);
        if (message.kind == TP_MESSAGE_AUTH)
            continue; /* refused to everyone there, without effect here */
        const uint8_t reference =
            json_is_true(json_object_get(vector, "none"))
                ? 0
                : (json_is_true(json_object_get(vector, "read")) ? TP_MAY_READ : TP_MAY_WRITE);

        if (message.kind != TP_MESSAGE_RPC)
            cr_assert_eq(tp_message_needs(&message), deviation(words, reference), "%s", words);
        else if (is_method(message.rpc.method))
            cr_assert_eq(tp_rpc_needs(message.rpc.method), deviation(words, reference), "%s",
                         words);
        else
            cr_assert_eq(tp_rpc_needs(message.rpc.method), TP_MAY_READ, "%s", words);
        count++;
    }
    cr_assert_geq(count, 60);
}

/* ---- rates --------------------------------------------------------------------------------------
 */

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

Test(guard_golden, buckets_fill_as_the_references_do)
{
    json_t *root = vectors_load("wire/rate-limit.json");
    unsigned count = 0;

    VECTORS_EACH(root, "vectors", vector)
    {
        if (strcmp(vectors_text(vector, "kind"), "refill") != 0)
            continue;
        const json_t *state = json_object_get(vector, "state");
        const struct tp_rate_rule rule = {.count = (uint32_t)number(state, "maxMessages"),
                                          .window_ms = (uint32_t)number(state, "windowMs")};
        const double elapsed = number(vector, "now") - number(state, "lastRefill");
        const double want = number(json_object_get(vector, "after"), "tokens");

        const double got = elapsed > 0 ? tp_rate_refill(&rule, number(state, "tokens"), elapsed)
                                       : number(state, "tokens");
        cr_assert(got > want - 1e-9 && got < want + 1e-9, "%f, not %f", got, want);
        count++;
    }
    cr_assert_eq(count, 10);
}

Test(guard_golden, messages_pass_and_are_dropped_as_in_the_reference)
{
    static const char *const words[] = {"transport", "user", "document", "user-document"};
    json_t *root = vectors_load("wire/rate-limit.json");
    unsigned count = 0;

    VECTORS_EACH(root, "vectors", vector)
    {
        const char *name = json_string_value(json_object_get(vector, "name"));
        if (strcmp(vectors_text(vector, "kind"), "trace") != 0 || strstr(name, "per document") ||
            strstr(name, "maxMessageSize"))
            continue; /* of the first, the arrivals do not say which document */
        struct tp_rate_rules rules = {0};
        VECTORS_EACH(vector, "rules", rule)
        {
            struct tp_rate_rule *to = &rules.rules[rules.count++];
            for (unsigned i = 0; i < 4; i++)
                if (strcmp(words[i], vectors_text(rule, "trackBy")) == 0)
                    to->track = i;
            to->count = (uint32_t)number(rule, "maxMessages");
            to->window_ms = (uint32_t)number(rule, "windowMs");
        }
        struct tp_rate *rate = tp_rate_create(&rules, 7);
        const struct tp_rate_who who = {.connection = 1, .user = 2, .document = 3};
        VECTORS_EACH(vector, "arrivals", arrival)
        {
            const uint64_t now_ns = (uint64_t)(number(arrival, "at") * 1e6) + 1;
            enum tp_rate_track track;
            uint64_t wait_ns =
                tp_rate_take(rate, TP_RATE_OF_SENDER, TP_RATE_SYNC, &who, now_ns, &track);
            if (wait_ns == 0) {
                wait_ns =
                    tp_rate_take(rate, TP_RATE_OF_DOCUMENT, TP_RATE_SYNC, &who, now_ns, &track);
                if (wait_ns > 0)
                    tp_rate_give_back(rate, TP_RATE_OF_SENDER, TP_RATE_SYNC, &who, now_ns);
            }
            cr_assert_eq(wait_ns == 0, json_is_true(json_object_get(arrival, "delivered")),
                         "%s at %f", name, number(arrival, "at"));
            if (wait_ns > 0)
                cr_assert_eq(wait_ns / 1000000,
                             number(json_object_get(arrival, "dropped"), "retryAfter"), "%s", name);
            count++;
        }
        tp_rate_destroy(rate);
    }
    cr_assert_geq(count, 8);
}
