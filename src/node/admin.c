/* Management: who may, which page or resource, and the questions to other cores. */
#include "node/admin.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "node/server.h"

#define BEARER "Bearer "

/* ---- answers ----------------------------------------------------------------------------------*/

static void respond(struct tp_connection *connection, unsigned status, struct tp_slice head,
                    struct tp_slice body)
{
    char memory[512];
    struct tp_buffer lines = tp_buffer_fixed(memory, sizeof memory);

    tp_buffer_append(&lines, "Cache-Control: no-store\r\n", 25);
    tp_buffer_append(&lines, head.data, head.size);
    TP_ASSERT(!lines.full);
    tp_connection_respond(connection, status, TP_JSON_TYPE, tp_buffer_slice(&lines), body);
}

/* `object` is given away. */
static void respond_json(struct tp_connection *connection, unsigned status, struct tp_slice head,
                         json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);

    TP_ASSERT(text != NULL);
    json_decref(object);
    respond(connection, status, head, tp_slice_of(text, strlen(text)));
    free(text);
}

void tp_admin_refuse(struct tp_connection *connection, unsigned status, const char *head,
                     const char *error)
{
    respond_json(connection, status, tp_slice_of(head, strlen(head)),
                 json_pack("{s:s}", "error", error));
}

/* ---- who may ----------------------------------------------------------------------------------*/

static bool shows_token(const struct tp_admin_token *token, const struct tp_http_request *request)
{
    const struct tp_slice value = tp_http_header(request, "authorization");
    const size_t start = sizeof BEARER - 1;
    uint8_t digest[TP_SHA256_SIZE];

    if (value.size <= start || strncasecmp((const char *)value.data, BEARER, start) != 0)
        return false;
    tp_sha256(tp_slice_of(value.data + start, value.size - start), digest);
    return memcmp(digest, token->digest, sizeof digest) == 0;
}

/* The host's name as this machine calls itself, with or without a port. */
static bool names_this_machine(struct tp_slice host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t size = strlen(names[i]);
        if (host.size >= size && strncasecmp((const char *)host.data, names[i], size) == 0 &&
            (host.size == size || host.data[size] == ':'))
            return true;
    }
    return host.data == NULL; /* HTTP/1.0: no browser */
}

/* True: the request was refused. `acts`: it is for the API, not a page to look at. */
static bool is_stranger(const struct tp_shard *shard, struct tp_connection *connection,
                        const struct tp_http_request *request, bool acts)
{
    const struct tp_admin_token *token = &shard->admin_token;

    if (token->given) {
        if (shows_token(token, request))
            return false;
        tp_admin_refuse(connection, 401, "WWW-Authenticate: Bearer\r\n",
                        "the management token is needed");
        return true;
    }
    if (acts && shard->config->auth != TP_CONFIG_AUTH_ANONYMOUS) {
        tp_admin_refuse(connection, 403, "",
                        "set admin_token_file: with auth = jwt this needs a token");
        return true;
    }
    if (names_this_machine(tp_http_header(request, "host")) &&
        tp_http_header(request, "origin").data == NULL)
        return false;
    tp_admin_refuse(connection, 403, "", "without a token only programs of this machine are heard");
    return true;
}

/* ---- asking other cores -----------------------------------------------------------------------*/

struct tp_ask *tp_ask_create(struct tp_shard *shard, struct tp_connection *connection,
                             void (*done)(struct tp_ask *ask))
{
    struct tp_ask *ask = tp_pool_take_zeroed(&shard->pool, sizeof *ask);

    ask->transport = TP_TRANSPORT_ASK;
    ask->shard = shard;
    ask->connection = connection;
    ask->done = done;
    ask->key = tp_buffer_growing(TP_STORE_KEY_SIZE_MAX);
    ask->bounds = tp_buffer_growing(UINT32_MAX);
    tp_connection_set_user(connection, ask);
    return ask;
}

static void finish(struct tp_ask *ask)
{
    tp_buffer_finish(&ask->key);
    tp_buffer_finish(&ask->bounds);
    if (ask->object != NULL)
        json_decref(ask->object);
    tp_pool_give(&ask->shard->pool, ask, sizeof *ask);
}

void tp_ask_respond(struct tp_ask *ask, unsigned status, json_t *object)
{
    struct tp_connection *connection = ask->connection;
    const char *head = status == 503 ? "Retry-After: 1\r\n" : "";

    if (connection == NULL) {
        json_decref(object);
    } else {
        tp_connection_set_user(connection, NULL);
        respond_json(connection, status, tp_slice_of(head, strlen(head)), object);
    }
    finish(ask);
}

void tp_ask_refuse(struct tp_ask *ask, unsigned status, const char *error)
{
    tp_ask_respond(ask, status, json_pack("{s:s}", "error", error));
}

void tp_ask_closed(struct tp_ask *ask)
{
    ask->connection = NULL; /* what it waits for is on its way all the same, and ends it */
}

void tp_ask_abandon(struct tp_ask *ask)
{
    struct tp_connection *connection = ask->connection;

    tp_ask_closed(ask);
    tp_connection_set_user(connection, NULL);
    tp_admin_refuse(connection, 503, "Retry-After: 1\r\n", "the server is going away");
}

void tp_ask_send(struct tp_ask *ask, uint32_t to, enum tp_ask_kind kind, struct tp_slice bytes)
{
    struct tp_shard *shard = ask->shard;
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_ASK, bytes.size);

    if (bytes.size > 0)
        memcpy(letter->bytes, bytes.data, bytes.size);
    letter->ask = ask;
    letter->outcome = kind;
    ask->open++;
    shard->counters.letters_sent++;
    tp_post_send(shard->reactor, to, &letter->letter);
}

void tp_ask_read(struct tp_ask *ask, void (*done)(struct tp_ask *ask))
{
    struct tp_shard *shard = ask->shard;
    struct tp_store_op *op = &ask->op;

    tp_link_init(&op->link);
    tp_link_init(&op->inflight);
    op->verb = TP_STORE_READ;
    op->step = TP_STEP_ASK;
    op->owner = ask;
    op->shard_index = shard->index;
    ask->done = done;
    tp_budget_store(shard, op);
    tp_link_insert(&shard->store_batch, &op->link);
}

void tp_ask_stored(struct tp_store_op *op)
{
    struct tp_ask *ask = op->owner;

    ask->done(ask);
}

/* On the core that was asked. */
static void asked(struct tp_shard *shard, const struct tp_shard_letter *letter)
{
    const enum tp_ask_kind kind = letter->outcome;

    if (kind != TP_ASK_RECHECK) {
        tp_docs_asked(shard, letter, kind, tp_slice_of(letter->bytes, letter->bytes_size));
        return;
    }
    struct tp_shard_letter *answer = tp_shard_letter_create(shard, TP_LETTER_ANSWER, 0);
    answer->ask = letter->ask;
    answer->id = tp_passes_recheck(shard);
    tp_post_send(shard->reactor, letter->letter.from, &answer->letter);
}

void tp_admin_letter(struct tp_shard *shard, struct tp_shard_letter *letter)
{
    struct tp_ask *ask = letter->ask;

    if (letter->letter.kind == TP_LETTER_ASK) {
        asked(shard, letter);
        return;
    }
    TP_ASSERT(ask->open > 0);
    ask->open--;
    ask->count += letter->id;
    ask->is_live |= letter->behind;
    ask->status = (enum tp_status)letter->outcome;
    if (ask->open == 0)
        ask->done(ask);
}

/* ---- /v1 --------------------------------------------------------------------------------------*/

static void rechecked(struct tp_ask *ask)
{
    tp_ask_respond(ask, 200, json_pack("{s:I}", "closed", (json_int_t)ask->count));
}

/* Closes who came with a key that is not used any more. Which are used is read at SIGHUP. */
static void recheck(struct tp_shard *shard, struct tp_connection *connection,
                    const struct tp_http_request *request)
{
    struct tp_ask *ask = tp_ask_create(shard, connection, rechecked);

    (void)request;
    for (uint32_t i = 0; i < shard->count; i++)
        tp_ask_send(ask, i, TP_ASK_RECHECK, (struct tp_slice){0});
}

struct resource {
    const char *method;
    const char *path;
    void (*handle)(struct tp_shard *shard, struct tp_connection *connection,
                   const struct tp_http_request *request);
};

static const struct resource resources[] = {
    {"POST", "/v1/auth/recheck", recheck},
};

static bool is(struct tp_slice text, const char *word)
{
    return tp_slice_equal(text, tp_slice_of(word, strlen(word)));
}

static void find_resource(struct tp_shard *shard, struct tp_connection *connection,
                          const struct tp_http_request *request)
{
    char allow[64] = "";

    if (tp_docs_request(shard, connection, request))
        return;
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++) {
        if (!is(request->path, resources[i].path))
            continue;
        if (is(request->method, resources[i].method)) {
            resources[i].handle(shard, connection, request);
            return;
        }
        snprintf(allow, sizeof allow, "Allow: %s\r\n", resources[i].method);
    }
    if (allow[0] != '\0')
        tp_admin_refuse(connection, 405, allow, "the resource does not know this method");
    else
        tp_admin_refuse(connection, 404, "", "no such resource");
}

void tp_admin_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request)
{
    static const char *const open_pages[] = {"/livez", "/readyz", "/health"};
    const struct tp_slice api = TP_SLICE("/v1/");
    const bool acts =
        request->path.size >= api.size && memcmp(request->path.data, api.data, api.size) == 0;
    bool everybody = false;

    for (size_t i = 0; i < sizeof open_pages / sizeof *open_pages; i++)
        everybody |= is(request->path, open_pages[i]);
    if (request->upgrade)
        tp_admin_refuse(connection, 404, "", "no WebSockets here: this is the management listener");
    else if (!everybody && is_stranger(shard, connection, request, acts))
        return;
    else if (!acts)
        tp_pages_request(shard, connection, request, true);
    else if (shard->phase > TP_SHARD_CLOSING)
        tp_admin_refuse(connection, 503, "Retry-After: 1\r\n", "the server is going away");
    else
        find_resource(shard, connection, request);
}
