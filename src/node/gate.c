#include "node/gate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "node/shard.h"

#define JWKS_SIZE_MAX ((size_t)256 << 10)
#define WEAK_SECRET_SIZE 32u /* RFC 7518 section 3.2: as long as the digest */

struct tp_gate_flight {
    struct tp_work_op op;    /* first, so that the op is the flight */
    struct tp_gate_ask *ask; /* NULL: nobody waits any more */
    struct tp_grant *grant;
    uint8_t digest[TP_SHA256_SIZE];
    struct tp_slice inputs[2];
    uint64_t *fingerprints; /* of the keys */
    struct tp_verify_key *keys;
    uint8_t *bytes; /* what the inputs point to */
};

/* ---- keys ---------------------------------------------------------------------------------------
 */

/* The file's bytes, at most `size_max`, on the heap. */
static bool read_file(const char *path, size_t size_max, struct tp_buffer *out, char *error,
                      size_t error_size)
{
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        snprintf(error, error_size, "%.500s cannot be read: %s", path, strerror(errno));
        return false;
    }
    *out = tp_buffer_growing(size_max + 1);
    (void)tp_buffer_reserve(out, size_max + 1);
    out->size = fread(out->data, 1, size_max + 1, file);
    const bool failed = ferror(file) != 0;
    const int why = errno;
    fclose(file);
    if (!failed && out->size <= size_max)
        return true;
    if (failed)
        snprintf(error, error_size, "%.500s cannot be read: %s", path, strerror(why));
    else
        snprintf(error, error_size, "%.500s is longer than %zu bytes", path, size_max);
    tp_buffer_finish(out);
    return false;
}

static bool add_secret(struct tp_keys *keys, struct tp_slice secret, bool *weak, char *error,
                       size_t error_size)
{
    *weak |= secret.size < WEAK_SECRET_SIZE;
    return tp_keys_add_secret(keys, secret, error, error_size);
}

/* Editors add one. */
static struct tp_slice without_line_end(struct tp_slice text)
{
    if (text.size > 0 && text.data[text.size - 1] == '\n')
        text.size--;
    if (text.size > 0 && text.data[text.size - 1] == '\r')
        text.size--;
    return text;
}

static bool add_file(struct tp_keys *keys, const char *path, bool is_secret, bool *weak,
                     char *error, size_t error_size)
{
    const size_t size_max = is_secret ? TP_VERIFY_SIZE_MAX + 2 : JWKS_SIZE_MAX;
    struct tp_buffer bytes;
    char why[512];

    if (!read_file(path, size_max, &bytes, error, error_size))
        return false;
    struct tp_slice text = tp_buffer_slice(&bytes);
    if (is_secret)
        text = without_line_end(text);
    const bool good = is_secret ? add_secret(keys, text, weak, why, sizeof why)
                                : tp_keys_add_jwks(keys, text, why, sizeof why);
    if (!good)
        snprintf(error, error_size, "%.300s is no %s: %s", path,
                 is_secret ? "secret" : "JSON Web Key Set", why);
    memset(bytes.data, 0, bytes.size);
    tp_buffer_finish(&bytes);
    return good;
}

static bool add_files(struct tp_keys *keys, const char *paths, bool is_secret, bool *weak,
                      char *error, size_t error_size)
{
    char path[TP_CONFIG_TEXT_SIZE];

    for (const char *at = paths;;) {
        at += strspn(at, ", ");
        const size_t size = strcspn(at, ",");
        if (size == 0)
            return true;
        memcpy(path, at, size);
        path[size] = '\0';
        for (size_t end = size; end > 0 && path[end - 1] == ' '; end--)
            path[end - 1] = '\0';
        if (!add_file(keys, path, is_secret, weak, error, error_size))
            return false;
        at += size;
    }
}

bool tp_gate_load(const struct tp_config *config, struct tp_keys *keys, bool *weak, char *error,
                  size_t error_size)
{
    const struct tp_slice secret = tp_slice_of(config->jwt_secret, strlen(config->jwt_secret));

    *keys = (struct tp_keys){0};
    *weak = false;
    return (secret.size == 0 || add_secret(keys, secret, weak, error, error_size)) &&
           add_files(keys, config->jwt_secret_file, true, weak, error, error_size) &&
           add_files(keys, config->jwks_file, false, weak, error, error_size);
}

bool tp_secret_read(const char *path, size_t size_max, struct tp_buffer *out, char *error,
                    size_t error_size)
{
    if (!read_file(path, size_max + 2, out, error, error_size))
        return false;
    out->size = without_line_end(tp_buffer_slice(out)).size;
    return true;
}

bool tp_admin_token_load(const struct tp_config *config, struct tp_admin_token *token, char *error,
                         size_t error_size)
{
    const char *path = config->admin_token_file;
    struct tp_buffer bytes;

    *token = (struct tp_admin_token){0};
    if (config->admin[0] == '\0' || path[0] == '\0')
        return true;
    if (!tp_secret_read(path, TP_ADMIN_TOKEN_SIZE_MAX, &bytes, error, error_size))
        return false;
    const struct tp_slice text = tp_buffer_slice(&bytes);
    token->given = text.size >= TP_ADMIN_TOKEN_SIZE_MIN && text.size <= TP_ADMIN_TOKEN_SIZE_MAX;
    for (size_t i = 0; i < text.size; i++) /* what fits into a header line */
        token->given &= text.data[i] > ' ' && text.data[i] < 0x7f;
    if (token->given)
        tp_sha256(text, token->digest);
    else
        snprintf(error, error_size, "%.500s is no token: it takes %u to %u visible characters",
                 path, TP_ADMIN_TOKEN_SIZE_MIN, TP_ADMIN_TOKEN_SIZE_MAX);
    memset(bytes.data, 0, bytes.size);
    tp_buffer_finish(&bytes);
    return token->given;
}

void tp_gate_init(struct tp_gate *gate, const struct tp_config *config, struct tp_keys *keys)
{
    *gate = (struct tp_gate){
        .open = config->auth == TP_CONFIG_AUTH_ANONYMOUS,
        .keys = keys,
        .policy = {
            .issuer = tp_slice_of(config->jwt_issuer, strlen(config->jwt_issuer)),
            .audience = tp_slice_of(config->jwt_audience, strlen(config->jwt_audience)),
            .leeway_ms = config->jwt_leeway_seconds * 1000,
            .allow_unrestricted = config->allow_unrestricted_tokens,
            .unlimited_users =
                tp_slice_of(config->rate_unlimited_users, strlen(config->rate_unlimited_users)),
        }};
    TP_ASSERT(gate->open || keys != NULL);
}

void tp_gate_finish(struct tp_gate *gate)
{
    TP_ASSERT(gate->flight_count == 0);
    free(gate->keys);
    free(gate->verdicts);
    *gate = (struct tp_gate){0};
}

void tp_gate_replace_keys(struct tp_gate *gate, struct tp_keys *keys)
{
    free(gate->keys);
    gate->keys = keys;
    free(gate->verdicts);
    gate->verdicts = NULL;
}

/* ---- verdicts -----------------------------------------------------------------------------------
 */

static struct tp_gate_verdict *verdict_at(struct tp_gate *gate, const uint8_t *digest)
{
    uint32_t at;

    memcpy(&at, digest + 16, sizeof at); /* bytes that are not compared */
    return &gate->verdicts[at % TP_GATE_VERDICT_COUNT];
}

static bool remembers(struct tp_gate *gate, const uint8_t *digest, uint64_t *key_fingerprint)
{
    if (gate->verdicts == NULL)
        return false;
    const struct tp_gate_verdict *verdict = verdict_at(gate, digest);
    if (memcmp(verdict->digest, digest, sizeof verdict->digest) != 0)
        return false;
    *key_fingerprint = verdict->key_fingerprint;
    return tp_keys_have(gate->keys, *key_fingerprint);
}

static void remember(struct tp_gate *gate, const uint8_t *digest, uint64_t key_fingerprint)
{
    if (gate->verdicts == NULL)
        gate->verdicts = calloc(TP_GATE_VERDICT_COUNT, sizeof *gate->verdicts);
    TP_ASSERT(gate->verdicts != NULL);
    struct tp_gate_verdict *verdict = verdict_at(gate, digest);
    memcpy(verdict->digest, digest, sizeof verdict->digest);
    verdict->key_fingerprint = key_fingerprint;
}

/* ---- asking -------------------------------------------------------------------------------------
 */

static void answer(struct tp_shard *shard, struct tp_gate_ask *ask, enum tp_gate_answer answer,
                   struct tp_grant *grant)
{
    shard->counters.tokens_accepted += answer == TP_GATE_ADMITTED;
    shard->counters.tokens_refused += answer == TP_GATE_REFUSED;
    ask->answered(ask, answer, grant);
}

/* "Bearer", in any case, and blanks before the token. */
static struct tp_slice bearer(struct tp_slice header)
{
    static const char word[] = "bearer";
    size_t at = sizeof word - 1;

    if (header.size <= at)
        return (struct tp_slice){0};
    for (size_t i = 0; i < at; i++)
        if ((header.data[i] | 0x20) != word[i])
            return (struct tp_slice){0};
    if (header.data[at] != ' ')
        return (struct tp_slice){0};
    while (at < header.size && header.data[at] == ' ')
        at++;
    return tp_slice_of(header.data + at, header.size - at);
}

/* Into `room`, decoded; empty: there is none that could be one. */
static struct tp_slice find_token(const struct tp_http_request *request,
                                  uint8_t room[TP_JWT_SIZE_MAX])
{
    const struct tp_slice header = bearer(tp_http_header(request, "Authorization"));
    const struct tp_slice query = tp_http_query(request->query, "token");
    size_t size = 0;

    if (header.size > 0)
        return header;
    if (query.size == 0 || query.size > TP_JWT_SIZE_MAX ||
        tp_http_percent_decode(query, room, &size) != TP_OK)
        return (struct tp_slice){0};
    return tp_slice_of(room, size);
}

static void *copy_to(uint8_t **at, const void *bytes, size_t size)
{
    uint8_t *const to = *at;

    memcpy(to, bytes, size);
    *at += size;
    return to;
}

/* Everything that a worker needs, in one block. */
static void take_off(struct tp_shard *shard, struct tp_gate_ask *ask, const struct tp_jwt *jwt,
                     const struct tp_key *const found[], uint32_t count, struct tp_grant *grant,
                     const uint8_t *digest)
{
    const size_t keys_size = count * sizeof(struct tp_verify_key);
    const size_t prints_size = count * sizeof(uint64_t);
    struct tp_gate_flight *flight = malloc(sizeof *flight + prints_size + keys_size +
                                           jwt->signed_bytes.size + jwt->signature.size);

    TP_ASSERT(flight != NULL);
    *flight = (struct tp_gate_flight){
        .op = {.kind = TP_WORK_VERIFY, .inputs = flight->inputs, .input_count = 2, .route = flight},
        .ask = ask,
        .grant = grant,
        .fingerprints = (uint64_t *)(flight + 1)};
    flight->keys = (struct tp_verify_key *)(flight->fingerprints + count);
    for (uint32_t i = 0; i < count; i++) {
        flight->fingerprints[i] = found[i]->fingerprint;
        flight->keys[i] = found[i]->key;
    }
    memcpy(flight->digest, digest, sizeof flight->digest);
    uint8_t *at = (uint8_t *)(flight->keys + count);
    flight->inputs[0] = tp_slice_of(copy_to(&at, jwt->signed_bytes.data, jwt->signed_bytes.size),
                                    jwt->signed_bytes.size);
    flight->inputs[1] =
        tp_slice_of(copy_to(&at, jwt->signature.data, jwt->signature.size), jwt->signature.size);
    flight->op.verify.algorithm = jwt->algorithm;
    flight->op.verify.keys = flight->keys;
    flight->op.verify.key_count = count;
    flight->op.shard_index = shard->index;
    tp_link_init(&flight->op.link);
    tp_link_init(&flight->op.inflight);

    ask->flight = flight;
    shard->gate.flight_count++;
    shard->work_inflight++;
    tp_work_submit(shard->work, &flight->op);
}

static void ask_about(struct tp_shard *shard, struct tp_slice token, const struct tp_jwt *jwt,
                      struct tp_gate_ask *ask)
{
    struct tp_gate *gate = &shard->gate;
    const struct tp_key *found[TP_KEYS_COUNT_MAX];
    uint8_t digest[TP_SHA256_SIZE];
    const char *why;
    uint64_t fingerprint = 0;
    bool good = false;

    const uint32_t count = tp_keys_find(gate->keys, jwt->algorithm, jwt->kid, found);
    struct tp_grant *grant = count == 0 ? NULL
                                        : tp_grant_read(jwt->payload, &gate->policy,
                                                        tp_reactor_wall_ms(shard->reactor), &why);
    if (grant == NULL) {
        answer(shard, ask, TP_GATE_REFUSED, NULL);
        return;
    }
    if (found[0]->key.kind == TP_VERIFY_SECRET) { /* then all of them are: microseconds */
        for (uint32_t i = 0; i < count && !good; i++) {
            good = tp_verify(&found[i]->key, jwt->algorithm, jwt->signed_bytes, jwt->signature);
            fingerprint = found[i]->fingerprint;
        }
    } else {
        tp_sha256(token, digest);
        good = remembers(gate, digest, &fingerprint);
        if (!good && gate->flight_count < TP_GATE_FLIGHT_COUNT_MAX) {
            take_off(shard, ask, jwt, found, count, grant, digest);
            return;
        }
        if (!good) {
            tp_grant_destroy(grant);
            answer(shard, ask, TP_GATE_BUSY, NULL);
            return;
        }
    }
    grant->key_fingerprint = fingerprint;
    if (!good) {
        tp_grant_destroy(grant);
        grant = NULL;
    }
    answer(shard, ask, good ? TP_GATE_ADMITTED : TP_GATE_REFUSED, grant);
}

void tp_gate_ask(struct tp_shard *shard, const struct tp_http_request *request,
                 struct tp_gate_ask *ask)
{
    uint8_t room[TP_JWT_SIZE_MAX];
    struct tp_jwt jwt;

    ask->flight = NULL;
    if (shard->gate.open) {
        ask->answered(ask, TP_GATE_ADMITTED, NULL);
        return;
    }
    const struct tp_slice token = find_token(request, room);
    if (token.size == 0 || tp_jwt_parse(token, &jwt) != TP_OK) {
        answer(shard, ask, TP_GATE_REFUSED, NULL);
        return;
    }
    ask_about(shard, token, &jwt, ask);
    tp_jwt_finish(&jwt);
}

void tp_gate_forget(struct tp_gate_ask *ask)
{
    if (ask->flight == NULL)
        return;
    ask->flight->ask = NULL;
    ask->flight = NULL;
}

void tp_gate_worked(struct tp_shard *shard, struct tp_work_op *op)
{
    struct tp_gate_flight *flight = TP_CONTAINER(op, struct tp_gate_flight, op);
    struct tp_gate_ask *ask = flight->ask;
    struct tp_grant *grant = flight->grant;
    struct tp_gate *gate = &shard->gate;
    bool good = op->status == TP_OK;

    gate->flight_count--;
    if (good) {
        grant->key_fingerprint = flight->fingerprints[op->verify.key_index];
        good = tp_gate_knows(gate, grant); /* keys may have been replaced meanwhile */
    }
    if (good)
        remember(gate, flight->digest, grant->key_fingerprint);
    free(flight);
    if (!good || ask == NULL) {
        tp_grant_destroy(grant);
        grant = NULL;
    }
    if (ask == NULL)
        return;
    ask->flight = NULL;
    answer(shard, ask, good ? TP_GATE_ADMITTED : TP_GATE_REFUSED, grant);
}
