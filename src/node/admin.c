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

static void refuse(struct tp_connection *connection, unsigned status, const char *head,
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
        refuse(connection, 401, "WWW-Authenticate: Bearer\r\n", "the management token is needed");
        return true;
    }
    if (acts && shard->config->auth != TP_CONFIG_AUTH_ANONYMOUS) {
        refuse(connection, 403, "", "set admin_token_file: with auth = jwt this needs a token");
        return true;
    }
    if (names_this_machine(tp_http_header(request, "host")) &&
        tp_http_header(request, "origin").data == NULL)
        return false;
    refuse(connection, 403, "", "without a token only programs of this machine are heard");
    return true;
}

/* ---- asking other cores -----------------------------------------------------------------------*/

static struct tp_ask *ask_create(struct tp_shard *shard, struct tp_connection *connection,
                                 enum tp_ask_kind kind)
{
    struct tp_ask *ask = tp_pool_take(&shard->pool, sizeof *ask);

    *ask = (struct tp_ask){
        .transport = TP_TRANSPORT_ASK, .kind = kind, .shard = shard, .connection = connection};
    tp_connection_set_user(connection, ask);
    return ask;
}

static void ask_finish(struct tp_ask *ask)
{
    tp_pool_give(&ask->shard->pool, ask, sizeof *ask);
}

void tp_ask_closed(struct tp_ask *ask)
{
    ask->connection = NULL; /* its answers are on their way all the same, and end it */
}

void tp_ask_abandon(struct tp_ask *ask)
{
    struct tp_connection *connection = ask->connection;

    tp_ask_closed(ask);
    tp_connection_set_user(connection, NULL);
    refuse(connection, 503, "Retry-After: 1\r\n", "the server is going away");
}

static void answered(struct tp_ask *ask, const struct tp_shard_letter *letter)
{
    struct tp_connection *connection = ask->connection;

    TP_ASSERT(ask->open > 0);
    ask->open--;
    ask->count += letter->id;
    if (ask->open > 0)
        return;
    if (connection != NULL) {
        tp_connection_set_user(connection, NULL);
        respond_json(connection, 200, (struct tp_slice){0},
                     json_pack("{s:I}", "closed", (json_int_t)ask->count));
    }
    ask_finish(ask);
}

static struct tp_shard_letter *letter_for(struct tp_shard *shard, struct tp_ask *ask,
                                          enum tp_letter_kind kind)
{
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, kind, 0);

    letter->ask = ask;
    return letter;
}

/* On the core that was asked. */
static void asked(struct tp_shard *shard, const struct tp_shard_letter *letter)
{
    struct tp_shard_letter *answer = letter_for(shard, letter->ask, TP_LETTER_ANSWER);

    answer->id = tp_passes_recheck(shard);
    tp_post_send(shard->reactor, 0, &answer->letter);
}

void tp_admin_letter(struct tp_shard *shard, struct tp_shard_letter *letter)
{
    if (letter->letter.kind == TP_LETTER_ASK)
        asked(shard, letter);
    else
        answered(letter->ask, letter);
}

/* ---- /v1 --------------------------------------------------------------------------------------*/

/* Closes who came with a key that is not used any more. Which are used is read at SIGHUP. */
static void recheck(struct tp_shard *shard, struct tp_connection *connection,
                    const struct tp_http_request *request)
{
    struct tp_ask *ask = ask_create(shard, connection, TP_ASK_RECHECK);

    (void)request;
    ask->open = shard->count;
    for (uint32_t i = 0; i < shard->count; i++)
        tp_post_send(shard->reactor, i, &letter_for(shard, ask, TP_LETTER_ASK)->letter);
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
        refuse(connection, 405, allow, "the resource does not know this method");
    else
        refuse(connection, 404, "", "no such resource");
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
        refuse(connection, 404, "", "no WebSockets here: this is the management listener");
    else if (!everybody && is_stranger(shard, connection, request, acts))
        return;
    else if (!acts)
        tp_pages_request(shard, connection, request, true);
    else if (shard->phase > TP_SHARD_CLOSING)
        refuse(connection, 503, "Retry-After: 1\r\n", "the server is going away");
    else
        find_resource(shard, connection, request);
}
