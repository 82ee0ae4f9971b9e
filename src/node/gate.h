/* src/node/gate.h - who comes in: from a request to what its token grants.
 *
 *     request ── token? ── header, claims ── key ── signature ──► admitted, with a grant
 *                  401        401            401       |  401
 *                                                 on a worker, unless
 *                                                 it is a shared secret's
 *
 * Claims are looked at before the signature, because that is cheaper; a client is told 401 in every
 * case, and never why. Verdicts about signatures are remembered for a while: whoever reconnects
 * with the same token costs nothing. Keys never change under way: a reload gives every shard a set
 * of its own, by letter. */
#pragma once

#include "base/hash.h"
#include "guard/grant.h"
#include "guard/keys.h"
#include "node/config.h"
#include "wire/http.h"

struct tp_shard;
struct tp_gate_flight;
struct tp_work_op;

/* Signatures that a shard has with the workers at a time; more: TP_GATE_BUSY. */
#define TP_GATE_FLIGHT_COUNT_MAX 256u

/* Verdicts that a shard remembers; the next one with the same place replaces. */
#define TP_GATE_VERDICT_COUNT 1024u

/* What management requests show (node/admin.h). Only a digest is kept: to compare it tells nothing
 * about the token. */
struct tp_admin_token {
    bool given;
    uint8_t digest[TP_SHA256_SIZE];
};
#define TP_ADMIN_TOKEN_SIZE_MIN 16u /* bytes; what is shorter can be guessed */
#define TP_ADMIN_TOKEN_SIZE_MAX 4096u

enum tp_gate_answer {
    TP_GATE_ADMITTED,
    TP_GATE_REFUSED, /* answer 401 */
    TP_GATE_BUSY,    /* answer 503: come back soon */
};

/* A question, in its asker's memory. */
struct tp_gate_ask {
    /* Called once, perhaps from inside tp_gate_ask. `grant` is the asker's; NULL when not admitted,
     * and when everybody is (auth = anonymous). */
    void (*answered)(struct tp_gate_ask *ask, enum tp_gate_answer answer, struct tp_grant *grant);
    struct tp_gate_flight *flight; /* the signature is being verified; else NULL */
};

/* One shard's. */
struct tp_gate {
    bool open; /* auth = anonymous */
    struct tp_keys *keys;
    struct tp_grant_policy policy; /* borrows from the config */
    uint32_t flight_count;
    struct tp_gate_verdict {
        uint8_t digest[16]; /* of the token */
        uint64_t key_fingerprint;
    } * verdicts; /* TP_GATE_VERDICT_COUNT, once there was one */
};

/* The keys that the config names, from their files. False: `error` says which and why not, in one
 * sentence. `weak` is set when a secret is short enough to be guessed. */
bool tp_gate_load(const struct tp_config *config, struct tp_keys *keys, bool *weak, char *error,
                  size_t error_size);

/* The text of a file of at most `size_max` bytes, without its line end. False: as above. */
bool tp_secret_read(const char *path, size_t size_max, struct tp_buffer *out, char *error,
                    size_t error_size);

/* The management token, from the file that the config names. False: as above. */
bool tp_admin_token_load(const struct tp_config *config, struct tp_admin_token *token, char *error,
                         size_t error_size);

/* `keys` is heap memory, or NULL for auth = anonymous; the gate takes it. */
void tp_gate_init(struct tp_gate *gate, const struct tp_config *config, struct tp_keys *keys);
void tp_gate_finish(struct tp_gate *gate);
void tp_gate_replace_keys(struct tp_gate *gate, struct tp_keys *keys);

/* The token is the query's `token`, else the Authorization header's; a header comes first. */
void tp_gate_ask(struct tp_shard *shard, const struct tp_http_request *request,
                 struct tp_gate_ask *ask);
/* The asker ends; `answered` is not called any more. Harmless when it was. */
void tp_gate_forget(struct tp_gate_ask *ask);

/* A worker's answer. */
void tp_gate_worked(struct tp_shard *shard, struct tp_work_op *op);

/* A connection was admitted with this key; is it still one of ours? */
static inline bool tp_gate_knows(const struct tp_gate *gate, const struct tp_grant *grant)
{
    return grant == NULL || tp_keys_have(gate->keys, grant->key_fingerprint);
}
