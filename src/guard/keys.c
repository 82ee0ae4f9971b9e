#include "guard/keys.h"

#include <jansson.h>
#include <stdio.h>

#include "base/hash.h"

#define BIT(algorithm) (1u << (algorithm))
#define JWKS_DEPTH_MAX 8u

static bool refuse(char *error, size_t size, const char *text)
{
    snprintf(error, size, "%s", text);
    return false;
}

static bool add(struct tp_keys *keys, const struct tp_key *key, char *error, size_t size)
{
    if (keys->count == TP_KEYS_COUNT_MAX) {
        snprintf(error, size, "more than %u keys", TP_KEYS_COUNT_MAX);
        return false;
    }
    struct tp_key *at = &keys->keys[keys->count++];
    *at = *key;
    const uint64_t material = tp_hash64_seeded(
        tp_slice_of(key->key.exponent, key->key.exponent_size), (uint64_t)key->key.kind);
    at->fingerprint = tp_hash64_seeded(tp_slice_of(key->key.bytes, key->key.size), material);
    return true;
}

bool tp_keys_add_secret(struct tp_keys *keys, struct tp_slice secret, char *error, size_t size)
{
    struct tp_key key = {.algorithms = BIT(TP_SIGNATURE_HS256), .key.kind = TP_VERIFY_SECRET};

    if (secret.size == 0)
        return refuse(error, size, "the secret is empty");
    if (secret.size > TP_VERIFY_SIZE_MAX)
        return refuse(error, size, "the secret is longer than 1024 bytes");
    key.key.size = (uint32_t)secret.size;
    memcpy(key.key.bytes, secret.data, secret.size);
    return add(keys, &key, error, size);
}

/* ---- JSON Web Keys ------------------------------------------------------------------------------
 */

static struct tp_slice text_of(const json_t *jwk, const char *name)
{
    const json_t *value = json_object_get(jwk, name);

    if (!json_is_string(value))
        return (struct tp_slice){0};
    return tp_slice_of(json_string_value(value), json_string_length(value));
}

static bool is(struct tp_slice text, const char *word)
{
    return tp_slice_equal(text, tp_slice_of(word, strlen(word)));
}

/* The bytes of a member, at most `max`, without leading zeros if it is a number. */
static uint32_t member(const json_t *jwk, const char *name, bool number, uint8_t *out, size_t max)
{
    struct tp_buffer bytes = tp_buffer_growing(4096);
    uint32_t size = 0;

    if (tp_base64url_decode(text_of(jwk, name), &bytes) == TP_OK) {
        size_t skip = 0;
        while (number && skip < bytes.size && bytes.data[skip] == 0)
            skip++;
        if (bytes.size - skip <= max && bytes.size > skip) {
            size = (uint32_t)(bytes.size - skip);
            memcpy(out, bytes.data + skip, size);
        }
    }
    tp_buffer_finish(&bytes);
    return size;
}

static bool read_material(const json_t *jwk, enum tp_verify_kind kind, struct tp_verify_key *key)
{
    key->kind = kind;
    switch (kind) {
    case TP_VERIFY_SECRET:
        key->size = member(jwk, "k", false, key->bytes, sizeof key->bytes);
        break;
    case TP_VERIFY_RSA:
        key->size = member(jwk, "n", true, key->bytes, TP_VERIFY_RSA_SIZE_MAX);
        key->exponent_size = member(jwk, "e", true, key->exponent, sizeof key->exponent);
        break;
    case TP_VERIFY_P256: /* both have their full length (RFC 7518 section 6.2.1.2) */
        if (member(jwk, "x", false, key->bytes, 32) == 32 &&
            member(jwk, "y", false, key->bytes + 32, 32) == 32)
            key->size = 64;
        break;
    case TP_VERIFY_ED25519:
        key->size = member(jwk, "x", false, key->bytes, 32);
        break;
    }
    return key->size > 0 && tp_verify_key_valid(key);
}

/* For what may it be used? 0: not for what we do. */
static uint32_t uses(const json_t *jwk, enum tp_verify_kind kind)
{
    const struct tp_slice use = text_of(jwk, "use"), name = text_of(jwk, "alg");
    const json_t *operations = json_object_get(jwk, "key_ops");
    static const uint32_t usual[] = {
        [TP_VERIFY_SECRET] = BIT(TP_SIGNATURE_HS256),
        [TP_VERIFY_RSA] = BIT(TP_SIGNATURE_RS256) | BIT(TP_SIGNATURE_PS256),
        [TP_VERIFY_P256] = BIT(TP_SIGNATURE_ES256),
        [TP_VERIFY_ED25519] = BIT(TP_SIGNATURE_EDDSA),
    };
    enum tp_signature_algorithm algorithm;
    bool verifies = operations == NULL;

    for (size_t i = 0; i < json_array_size(operations); i++) {
        const json_t *operation = json_array_get(operations, i);
        verifies |=
            json_is_string(operation) && strcmp(json_string_value(operation), "verify") == 0;
    }
    if (!verifies || (use.data != NULL && !is(use, "sig")))
        return 0;
    if (json_object_get(jwk, "alg") == NULL)
        return usual[kind];
    const struct tp_verify_key like = {.kind = kind};
    if (!tp_jwt_algorithm(name, &algorithm) || !tp_verify_fits(&like, algorithm))
        return 0;
    return BIT(algorithm);
}

static bool kind_of(const json_t *jwk, enum tp_verify_kind *kind)
{
    const struct tp_slice type = text_of(jwk, "kty"), curve = text_of(jwk, "crv");

    if (is(type, "oct"))
        *kind = TP_VERIFY_SECRET;
    else if (is(type, "RSA"))
        *kind = TP_VERIFY_RSA;
    else if (is(type, "EC") && is(curve, "P-256"))
        *kind = TP_VERIFY_P256;
    else if (is(type, "OKP") && is(curve, "Ed25519"))
        *kind = TP_VERIFY_ED25519;
    else
        return false;
    return true;
}

static bool add_jwk(struct tp_keys *keys, const json_t *jwk, char *error, size_t size)
{
    const struct tp_slice kid = text_of(jwk, "kid");
    struct tp_key key = {0};
    enum tp_verify_kind kind;

    if (!json_is_object(jwk))
        return refuse(error, size, "a key is no JSON object");
    if (!kind_of(jwk, &kind) || (key.algorithms = uses(jwk, kind)) == 0) {
        keys->skipped++;
        return true;
    }
    if (kid.size > TP_JWT_KID_SIZE_MAX) /* it is only named, never printed */
        return refuse(error, size, "a kid is longer than 256 bytes");
    key.kid_size = kid.size;
    if (kid.size > 0)
        memcpy(key.kid, kid.data, kid.size);
    if (!read_material(jwk, kind, &key.key)) {
        snprintf(error, size, "key \"%.*s\" is broken, or its modulus is not of 2048 to 4096 bits",
                 (int)tp_min(kid.size, 64), kid.size > 0 ? (const char *)kid.data : "");
        return false;
    }
    return add(keys, &key, error, size);
}

bool tp_keys_add_jwks(struct tp_keys *keys, struct tp_slice text, char *error, size_t size)
{
    const struct tp_keys before = {.count = keys->count, .skipped = keys->skipped};
    json_t *set;
    bool good = true;

    if (tp_json_parse(text, JWKS_DEPTH_MAX, &set) != TP_OK)
        return refuse(error, size, "it is no JSON");
    const json_t *list = json_object_get(set, "keys");
    if (list == NULL) {
        good = json_is_object(set) && json_object_get(set, "kty") != NULL
                   ? add_jwk(keys, set, error, size)
                   : refuse(error, size, "it has neither \"keys\" nor \"kty\"");
    } else if (!json_is_array(list)) {
        good = refuse(error, size, "\"keys\" is no array");
    } else {
        for (size_t i = 0; good && i < json_array_size(list); i++)
            good = add_jwk(keys, json_array_get(list, i), error, size);
    }
    if (good && keys->count == before.count)
        good = refuse(error, size,
                      "it has no key for verifying with HS256, HS384, HS512, RS256, "
                      "PS256, ES256 or EdDSA");
    if (!good) {
        keys->count = before.count;
        keys->skipped = before.skipped;
    }
    json_decref(set);
    return good;
}

/* ---- finding ------------------------------------------------------------------------------------
 */

uint32_t tp_keys_find(const struct tp_keys *keys, enum tp_signature_algorithm algorithm,
                      struct tp_slice kid, const struct tp_key *found[])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < keys->count; i++) {
        const struct tp_key *key = &keys->keys[i];
        const bool named = kid.size > 0 && key->kid_size > 0;
        if ((key->algorithms & BIT(algorithm)) != 0 &&
            (!named || tp_slice_equal(kid, tp_slice_of(key->kid, key->kid_size))))
            found[count++] = key;
    }
    return count;
}

bool tp_keys_have(const struct tp_keys *keys, uint64_t fingerprint)
{
    for (uint32_t i = 0; i < keys->count; i++)
        if (keys->keys[i].fingerprint == fingerprint)
            return true;
    return false;
}
