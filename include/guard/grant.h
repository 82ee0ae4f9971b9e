/* guard/grant.h - what a token allows, once it is believed: who, in which room, what on which
 * documents, until when (spec 01 section 6).
 *
 *     { "userId": "nick", "room": "docs", "exp": 1800003600, ...
 *       "documentAccess": [ {"pattern": "org/ *", "permissions": ["read", "write"]},
 *                           {"pattern": "!org/secret", "permissions": []} ] }
 *
 * One block of memory that never changes; whoever made the connection owns it, and it may go from
 * thread to thread with it. Rights are worked out once per connection and document; what is asked
 * per message is a bit of them. */
#pragma once

#include "seam/peer.h"

#define TP_GRANT_RULE_COUNT_MAX 256u
#define TP_GRANT_PATTERN_SIZE_MAX 1024u
#define TP_GRANT_NAME_SIZE_MAX 1024u /* of user and room */

struct tp_grant_rule {
    struct tp_slice pattern; /* without the exclamation mark */
    bool excludes;           /* matched: no rights, whatever the others say */
    uint8_t rights;
};

struct tp_grant {
    struct tp_slice user, room; /* the room may be empty */
    uint64_t expires_ms;        /* wall clock; leeway included. 0: never */
    uint64_t key_fingerprint;   /* of the key that it was signed with (guard/keys.h) */
    bool unlimited;             /* no rate limits: the operator trusts this user */
    bool unrestricted;          /* all documents of the room: the token names none */
    uint32_t rule_count;
    size_t size; /* of the whole block */
    struct tp_grant_rule rules[];
};

/* What the operator wants of a token. */
struct tp_grant_policy {
    struct tp_slice issuer, audience; /* empty: any */
    uint64_t leeway_ms;               /* for exp and nbf */
    bool allow_unrestricted;          /* a token without documentAccess opens its whole room */
    struct tp_slice unlimited_users;  /* patterns, separated by commas */
};

/* Reads the claims of a token whose signature is somebody else's business. NULL: it is refused, and
 * `why` has a fixed text, for the operator rather than for the client. */
struct tp_grant *tp_grant_read(struct tp_slice claims, const struct tp_grant_policy *policy,
                               uint64_t wall_ms, const char **why);
void tp_grant_destroy(struct tp_grant *grant); /* NULL is allowed */

/* Bits of enum tp_right. `document` is the name that clients use, without the room. NULL: nobody
 * asked for a token, and everything is allowed. */
uint8_t tp_grant_rights(const struct tp_grant *grant, struct tp_slice document);

static inline bool tp_grant_expired(const struct tp_grant *grant, uint64_t wall_ms)
{
    return grant != NULL && grant->expires_ms != 0 && wall_ms >= grant->expires_ms;
}

/* `*` is any run of bytes, also none; everything else is itself. Linear in the sum of both. */
bool tp_pattern_matches(struct tp_slice pattern, struct tp_slice name);

/* The rights that a client's message needs (spec 01 section 6.4, with our deviation: awareness and
 * presence need read). 0: none. A call of a method may need more: tp_rpc_needs (rpc/rpc.h). */
uint8_t tp_message_needs(const struct tp_message *message);
