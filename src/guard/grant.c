#include "guard/grant.h"

#include <jansson.h>
#include <stdlib.h>

#include "wire/jwt.h"

/* ---- patterns -----------------------------------------------------------------------------------
 */

static struct tp_slice from(struct tp_slice text, size_t at)
{
    return tp_slice_of(text.data + at, text.size - at);
}

/* The parts between the stars, each at its first place behind the one before: if any way to match
 * exists, this one does. memmem is linear in glibc, so the whole is. */
bool tp_pattern_matches(struct tp_slice pattern, struct tp_slice name)
{
    const uint8_t *star = pattern.size == 0 ? NULL : memchr(pattern.data, '*', pattern.size);

    if (star == NULL)
        return tp_slice_equal(pattern, name);
    const size_t head = (size_t)(star - pattern.data);
    if (name.size < head || (head > 0 && memcmp(name.data, pattern.data, head) != 0))
        return false;
    pattern = from(pattern, head + 1);
    name = from(name, head);
    while (pattern.size > 0 && (star = memchr(pattern.data, '*', pattern.size)) != NULL) {
        const size_t size = (size_t)(star - pattern.data);
        if (size > 0) {
            const uint8_t *found =
                name.size == 0 ? NULL : memmem(name.data, name.size, pattern.data, size);
            if (found == NULL)
                return false;
            name = from(name, (size_t)(found - name.data) + size);
        }
        pattern = from(pattern, size + 1);
    }
    return pattern.size == 0 ||
           (name.size >= pattern.size &&
            memcmp(name.data + (name.size - pattern.size), pattern.data, pattern.size) == 0);
}

/* ---- claims -------------------------------------------------------------------------------------
 */

static struct tp_slice text_of(const json_t *json)
{
    return tp_slice_of(json_string_value(json), json_string_length(json));
}

static bool is_text(const json_t *json, struct tp_slice want)
{
    return json_is_string(json) && tp_slice_equal(text_of(json), want);
}

static bool is_for(const json_t *audience, struct tp_slice want)
{
    if (!json_is_array(audience))
        return is_text(audience, want);
    for (size_t i = 0; i < json_array_size(audience); i++)
        if (is_text(json_array_get(audience, i), want))
            return true;
    return false;
}

/* A claim that is absent, or a number. */
static bool is_time(const json_t *claim)
{
    return claim == NULL || json_is_number(claim);
}

static bool has_nul(struct tp_slice text)
{
    return text.size > 0 && memchr(text.data, 0, text.size) != NULL;
}

/* NULL: the token is good as far as it is not about documents. */
static const char *check(const json_t *claims, const struct tp_grant_policy *policy, double now_s)
{
    const json_t *expires = json_object_get(claims, "exp"),
                 *begins = json_object_get(claims, "nbf");
    const json_t *user = json_object_get(claims, "userId"), *room = json_object_get(claims, "room");
    const double leeway_s = (double)policy->leeway_ms / 1000;

    if (!json_is_object(claims))
        return "the claims are no JSON object";
    if (policy->issuer.size > 0 && !is_text(json_object_get(claims, "iss"), policy->issuer))
        return "another issuer";
    if (policy->audience.size > 0 && !is_for(json_object_get(claims, "aud"), policy->audience))
        return "another audience";
    if (!is_time(expires) || !is_time(begins) || !is_time(json_object_get(claims, "iat")))
        return "a time is no number";
    if (expires != NULL && json_number_value(expires) + leeway_s <= now_s)
        return "expired";
    if (begins != NULL && json_number_value(begins) - leeway_s > now_s)
        return "not valid yet";
    if (!json_is_string(user) || json_string_length(user) == 0 ||
        json_string_length(user) > TP_GRANT_NAME_SIZE_MAX || has_nul(text_of(user)))
        return "no userId";
    if (!json_is_string(room) || json_string_length(room) > TP_GRANT_NAME_SIZE_MAX ||
        has_nul(text_of(room)))
        return "no room"; /* it may be empty, but somebody has to mean it */
    return NULL;
}

static uint8_t rights_of(const json_t *permissions)
{
    uint8_t rights = 0;

    for (size_t i = 0; i < json_array_size(permissions); i++) {
        const json_t *permission = json_array_get(permissions, i);
        if (is_text(permission, TP_SLICE("read")))
            rights |= TP_MAY_READ;
        else if (is_text(permission, TP_SLICE("write")))
            rights |= TP_MAY_WRITE;
        else if (is_text(permission, TP_SLICE("admin")))
            rights |= TP_MAY_ALL;
    }
    return rights;
}

static const char *check_access(const json_t *access, size_t *size)
{
    if (!json_is_array(access))
        return "documentAccess is no array";
    if (json_array_size(access) > TP_GRANT_RULE_COUNT_MAX)
        return "documentAccess has more than 256 rules";
    for (size_t i = 0; i < json_array_size(access); i++) {
        const json_t *rule = json_array_get(access, i);
        const json_t *pattern = json_object_get(rule, "pattern");
        if (!json_is_string(pattern) || json_string_length(pattern) > TP_GRANT_PATTERN_SIZE_MAX)
            return "a pattern is no text of at most 1024 bytes";
        const bool excludes = json_string_value(pattern)[0] == '!';
        if (!excludes && !json_is_array(json_object_get(rule, "permissions")))
            return "permissions are no array";
        *size += json_string_length(pattern);
    }
    return NULL;
}

static struct tp_slice copy(uint8_t **at, struct tp_slice text)
{
    uint8_t *const to = *at;

    if (text.size > 0)
        memcpy(to, text.data, text.size);
    *at += text.size;
    return tp_slice_of(to, text.size);
}

static bool is_unlimited(const struct tp_grant_policy *policy, struct tp_slice user)
{
    struct tp_slice rest = policy->unlimited_users;

    while (rest.size > 0) {
        const uint8_t *comma = memchr(rest.data, ',', rest.size);
        const size_t size = comma == NULL ? rest.size : (size_t)(comma - rest.data);
        struct tp_slice pattern = tp_slice_of(rest.data, size);
        while (pattern.size > 0 && pattern.data[0] == ' ')
            pattern = from(pattern, 1);
        if (pattern.size > 0 && tp_pattern_matches(pattern, user))
            return true;
        rest = from(rest, comma == NULL ? size : size + 1);
    }
    return false;
}

static struct tp_grant *build(const json_t *claims, const struct tp_grant_policy *policy,
                              const json_t *access, size_t text_size)
{
    const json_t *expires = json_object_get(claims, "exp"), *room = json_object_get(claims, "room");
    const json_t *user = json_object_get(claims, "userId");
    const size_t rule_count = json_array_size(access);
    const size_t head_size = sizeof(struct tp_grant) + rule_count * sizeof(struct tp_grant_rule);
    const size_t size = head_size + text_size + json_string_length(user) + json_string_length(room);
    struct tp_grant *grant = malloc(size);
    uint8_t *at = (uint8_t *)grant + head_size;

    TP_ASSERT(grant != NULL);
    *grant = (struct tp_grant){
        .size = size, .rule_count = (uint32_t)rule_count, .unrestricted = access == NULL};
    grant->user = copy(&at, text_of(user));
    grant->room = copy(&at, text_of(room));
    if (expires != NULL) {
        const double ms = json_number_value(expires) * 1000 + (double)policy->leeway_ms;
        grant->expires_ms = ms < 9e15 ? (uint64_t)ms : 0; /* 285 000 years: never */
    }
    grant->unlimited = is_unlimited(policy, grant->user);
    for (size_t i = 0; i < rule_count; i++) {
        const json_t *rule = json_array_get(access, i);
        struct tp_slice pattern = text_of(json_object_get(rule, "pattern"));
        grant->rules[i].excludes = pattern.size > 0 && pattern.data[0] == '!';
        if (grant->rules[i].excludes)
            pattern = from(pattern, 1);
        grant->rules[i].pattern = copy(&at, pattern);
        grant->rules[i].rights = rights_of(json_object_get(rule, "permissions"));
    }
    return grant;
}

struct tp_grant *tp_grant_read(struct tp_slice claims, const struct tp_grant_policy *policy,
                               uint64_t wall_ms, const char **why)
{
    struct tp_grant *grant = NULL;
    size_t text_size = 0;
    json_t *json;

    *why = "the claims are no JSON";
    if (tp_json_parse(claims, TP_JWT_DEPTH_MAX, &json) != TP_OK)
        return NULL;
    const json_t *access = json_object_get(json, "documentAccess");
    *why = check(json, policy, (double)wall_ms / 1000);
    if (*why == NULL && access != NULL)
        *why = check_access(access, &text_size);
    if (*why == NULL && access == NULL && !policy->allow_unrestricted)
        *why = "no documentAccess";
    if (*why == NULL)
        grant = build(json, policy, access, text_size);
    json_decref(json);
    return grant;
}

void tp_grant_destroy(struct tp_grant *grant)
{
    free(grant);
}

/* ---- decisions ----------------------------------------------------------------------------------
 */

uint8_t tp_grant_rights(const struct tp_grant *grant, struct tp_slice document)
{
    uint8_t rights = 0;

    if (grant == NULL || grant->unrestricted)
        return TP_MAY_ALL;
    for (uint32_t i = 0; i < grant->rule_count; i++) {
        const struct tp_grant_rule *rule = &grant->rules[i];
        if (!rule->excludes && (rights | rule->rights) == rights)
            continue;
        if (!tp_pattern_matches(rule->pattern, document))
            continue;
        if (rule->excludes)
            return 0;
        rights |= rule->rights;
    }
    return rights;
}

uint8_t tp_message_needs(const struct tp_message *message)
{
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        return TP_MAY_WRITE;
    case TP_MESSAGE_ACK:
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG:
    case TP_MESSAGE_COUNT:
        return 0;
    case TP_MESSAGE_SYNC_STEP_1:
    case TP_MESSAGE_SYNC_DONE:
    case TP_MESSAGE_AUTH: /* the server's to say: it has no effect */
    case TP_MESSAGE_AWARENESS:
    case TP_MESSAGE_AWARENESS_QUERY:
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
    case TP_MESSAGE_ECHO:
    case TP_MESSAGE_RPC: /* at the least: each method has its own (rpc/rpc.h) */
        break;
    }
    return TP_MAY_READ;
}
