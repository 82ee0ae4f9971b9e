/* Tokens, claims, key sets and patterns. The first byte says which. What is refused leaves nothing
 * behind; what is taken is within its bounds and means the same when it is read again. */
#include "base/random.h"
#include "fuzz/fuzz.h"
#include "guard/grant.h"
#include "guard/keys.h"

static bool lies_in(struct tp_slice part, const void *data, size_t size)
{
    const uint8_t *from = data;

    return part.size == 0 || (part.data >= from && part.data + part.size <= from + size);
}

static void token(struct tp_slice text)
{
    static const struct tp_verify_key secret = {
        .kind = TP_VERIFY_SECRET, .size = 6, .bytes = "secret"};
    struct tp_jwt jwt;

    if (tp_jwt_parse(text, &jwt) != TP_OK)
        return;
    TP_ASSERT(text.size <= TP_JWT_SIZE_MAX && jwt.algorithm < TP_SIGNATURE_COUNT);
    TP_ASSERT(lies_in(jwt.signed_bytes, text.data, text.size));
    TP_ASSERT(lies_in(jwt.payload, jwt.bytes.data, jwt.bytes.size));
    TP_ASSERT(lies_in(jwt.signature, jwt.bytes.data, jwt.bytes.size));
    TP_ASSERT(lies_in(jwt.kid, jwt.bytes.data, jwt.bytes.size));
    (void)tp_verify(&secret, jwt.algorithm, jwt.signed_bytes, jwt.signature);
    tp_jwt_finish(&jwt);
}

static void claims(struct tp_slice text)
{
    static const struct tp_grant_policy policy = {.allow_unrestricted = true};
    const char *why, *again;

    struct tp_grant *grant = tp_grant_read(text, &policy, 1000, &why);
    struct tp_grant *second = tp_grant_read(text, &policy, 1000, &again);
    TP_ASSERT(why == again && (grant == NULL) == (why != NULL) &&
              (grant == NULL) == (second == NULL));
    if (grant == NULL)
        return;
    TP_ASSERT(grant->user.size > 0 && lies_in(grant->user, grant, grant->size));
    TP_ASSERT(lies_in(grant->room, grant, grant->size));
    TP_ASSERT(!tp_grant_expired(grant, 1000));
    for (uint32_t i = 0; i < grant->rule_count; i++) {
        const struct tp_grant_rule *rule = &grant->rules[i];
        TP_ASSERT(lies_in(rule->pattern, grant, grant->size));
        TP_ASSERT(!rule->excludes || !tp_pattern_matches(rule->pattern, text) ||
                  tp_grant_rights(grant, text) == 0);
        TP_ASSERT(tp_grant_rights(grant, rule->pattern) ==
                  tp_grant_rights(second, second->rules[i].pattern));
    }
    tp_grant_destroy(grant);
    tp_grant_destroy(second);
}

static void key_set(struct tp_slice text)
{
    const struct tp_key *found[TP_KEYS_COUNT_MAX];
    static struct tp_keys keys;
    char error[256];

    keys = (struct tp_keys){0};
    if (!tp_keys_add_jwks(&keys, text, error, sizeof error)) {
        TP_ASSERT(keys.count == 0 && keys.skipped == 0);
        return;
    }
    TP_ASSERT(keys.count > 0 && keys.count <= TP_KEYS_COUNT_MAX);
    for (uint32_t i = 0; i < keys.count; i++) {
        const struct tp_key *key = &keys.keys[i];
        for (unsigned algorithm = 0; algorithm < TP_SIGNATURE_COUNT; algorithm++)
            TP_ASSERT(!(key->algorithms & 1u << algorithm) || tp_verify_fits(&key->key, algorithm));
        TP_ASSERT(tp_keys_have(&keys, key->fingerprint));
        TP_ASSERT(tp_keys_find(&keys, (unsigned)__builtin_ctz(key->algorithms),
                               tp_slice_of(key->kid, key->kid_size), found) > 0);
    }
}

/* By trying everything: slow, and obviously right. */
static bool matches(struct tp_slice pattern, struct tp_slice name)
{
    bool reach[64] = {true};

    for (size_t p = 0; p < pattern.size; p++) {
        if (pattern.data[p] == '*') {
            for (size_t n = 1; n <= name.size; n++)
                reach[n] |= reach[n - 1];
        } else {
            for (size_t n = name.size; n > 0; n--)
                reach[n] = reach[n - 1] && name.data[n - 1] == pattern.data[p];
            reach[0] = false;
        }
    }
    return reach[name.size];
}

static void pattern(struct tp_slice bytes)
{
    const uint8_t *end = bytes.size == 0 ? NULL : memchr(bytes.data, 0, bytes.size);

    if (end == NULL)
        return;
    const struct tp_slice a = tp_slice_of(bytes.data, (size_t)(end - bytes.data));
    const struct tp_slice b = tp_slice_of(end + 1, tp_min(bytes.size - a.size - 1, 63));
    TP_ASSERT(tp_pattern_matches(a, b) == matches(a, b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* Of its own, so that reading behind it is seen. */
    uint8_t *copy = malloc(size - 1 + (size == 1)); /* not a byte more */
    memcpy(copy, data + 1, size - 1);
    const struct tp_slice bytes = tp_slice_of(copy, size - 1);

    switch (data[0] % 4) {
    case 0:
        token(bytes);
        break;
    case 1:
        claims(bytes);
        break;
    case 2:
        key_set(bytes);
        break;
    default:
        pattern(bytes);
    }
    free(copy);
    return 0;
}
