/* Who asks over HTTP: requests, their tokens, and their answers (node/visit.h). */
#include "node/visit.h"

#include <stdio.h>
#include <strings.h>

#include "node/cors.h"
#include "node/server.h"
#include "wire/sse.h"
#include "wire/teleportal.h"

enum visit_kind { VISIT_STREAM, VISIT_POST, VISIT_ONCE };

/* A request on the core of its connection: until its token is known, and a POST /sse until the
 * stream's core has answered. */
struct tp_visit {
    enum tp_transport transport; /* TP_TRANSPORT_VISIT */
    enum visit_kind kind;
    struct tp_shard *shard;
    struct tp_connection *connection; /* NULL: gone; nobody waits for the answer */
    struct tp_slice allowed;          /* tp_cors_allowed */
    struct tp_gate_ask ask;
    struct tp_slice bytes;      /* the query, or the body; pool memory */
    char id[TP_STREAM_ID_SIZE]; /* POST /sse: the stream's */
    uint32_t core;              /* ... and its core */
};

/* ---- answers ----------------------------------------------------------------------------------*/

static void append_text(struct tp_buffer *out, const char *text)
{
    tp_buffer_append(out, text, strlen(text));
}

void tp_visit_head(const struct tp_shard *shard, struct tp_slice allowed, struct tp_slice id,
                   struct tp_buffer *out)
{
    append_text(out, "x-powered-by: teleportal\r\n");
    if (id.size > 0) {
        append_text(out, "x-teleportal-client-id: ");
        tp_buffer_append(out, id.data, id.size);
        append_text(out, "\r\n");
    }
    tp_cors_head(shard->config, allowed, out);
}

void tp_visit_respond(struct tp_shard *shard, struct tp_connection *connection, unsigned status,
                      const char *type, struct tp_slice allowed, struct tp_slice id,
                      const char *more, struct tp_slice body)
{
    char memory[TP_VISIT_HEAD_SIZE_MAX];
    struct tp_buffer head = tp_buffer_fixed(memory, sizeof memory);

    tp_visit_head(shard, allowed, id, &head);
    append_text(&head, more);
    TP_ASSERT(!head.full);
    tp_connection_respond(connection, status, type, tp_buffer_slice(&head), body);
}

void tp_visit_respond_json(struct tp_shard *shard, struct tp_connection *connection,
                           unsigned status, struct tp_slice allowed, struct tp_slice id,
                           const char *text)
{
    tp_visit_respond(shard, connection, status, TP_JSON_TYPE, allowed, id,
                     status == 429 || status == 503 ? "Retry-After: 1\r\n" : "",
                     tp_slice_of(text, strlen(text)));
}

/* ---- visits -----------------------------------------------------------------------------------*/

static void drop_bytes(struct tp_visit *visit)
{
    tp_pool_give(&visit->shard->pool, (void *)visit->bytes.data, visit->bytes.size);
    visit->bytes = (struct tp_slice){0};
}

static void finish_visit(struct tp_visit *visit)
{
    drop_bytes(visit);
    tp_pool_give(&visit->shard->pool, visit, sizeof *visit);
}

/* The stream's core has spoken; `id` is the message without ack. The visit is over. */
static void answer_visit(struct tp_visit *visit, enum tp_outcome outcome, uint64_t id)
{
    struct tp_shard *shard = visit->shard;
    struct tp_connection *connection = visit->connection;
    const struct tp_slice stream = tp_slice_of(visit->id, sizeof visit->id);
    char text[160];

    if (connection != NULL) {
        tp_connection_set_user(connection, NULL);
        switch (outcome) {
        case TP_OUTCOME_SAID:
            tp_visit_respond_json(shard, connection, 200, visit->allowed, stream,
                                  "{\"message\":\"ok\"}");
            break;
        case TP_OUTCOME_LATE: {
            char name[TP_TELEPORTAL_ID_SIZE];
            tp_teleportal_id_format(id, name);
            snprintf(text, sizeof text,
                     "{\"error\":\"Failed to receive acknowledgment\",\"message\":\"ACK timeout "
                     "for message %.*s\"}",
                     (int)sizeof name, name);
            tp_visit_respond_json(shard, connection, 504, visit->allowed, stream, text);
            break;
        }
        case TP_OUTCOME_UNKNOWN:
            tp_visit_respond_json(shard, connection, 404, visit->allowed, stream,
                                  "{\"error\":\"Unknown client ID\"}");
            break;
        case TP_OUTCOME_BUSY:
            tp_visit_respond_json(shard, connection, 429, visit->allowed, stream,
                                  "{\"error\":\"Too many requests at once\"}");
            break;
        case TP_OUTCOME_LEAVING:
            tp_visit_respond_json(shard, connection, 503, visit->allowed, stream,
                                  "{\"error\":\"The server is going away\"}");
            break;
        }
    }
    finish_visit(visit);
}

void tp_visit_closed(struct tp_visit *visit)
{
    visit->connection = NULL; /* the answer is on its way all the same, and ends the visit */
    if (visit->ask.flight != NULL) {
        tp_gate_forget(&visit->ask);
        finish_visit(visit);
    }
}

void tp_visit_abandon(struct tp_visit *visit)
{
    struct tp_connection *connection = visit->connection;

    visit->connection = NULL;
    tp_connection_set_user(connection, NULL);
    tp_visit_respond_json(visit->shard, connection, 503, visit->allowed, (struct tp_slice){0},
                          "{\"error\":\"The server is going away\"}");
    tp_visit_closed(visit);
}

void tp_visit_tell(struct tp_shard *shard, uint32_t asker, struct tp_visit *visit,
                   enum tp_outcome outcome, uint64_t id)
{
    if (asker == shard->index) {
        answer_visit(visit, outcome, id);
        return;
    }
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_POSTED, 0);
    letter->visit = visit;
    letter->outcome = outcome;
    letter->id = id;
    shard->counters.letters_sent++;
    tp_post_send(shard->reactor, asker, &letter->letter);
}

/* ---- GET /sse ---------------------------------------------------------------------------------*/

static void refuse(struct tp_visit *visit, unsigned status, const char *text)
{
    tp_connection_set_user(visit->connection, NULL);
    tp_visit_respond_json(visit->shard, visit->connection, status, visit->allowed,
                          (struct tp_slice){0}, text);
    finish_visit(visit);
}

/* The documents of the query are joined at once, if all of them may be read. */
static void admit_stream(struct tp_visit *visit, struct tp_grant *grant)
{
    struct tp_shard *shard = visit->shard;
    struct tp_sse_document documents[TP_STREAM_DOCUMENT_COUNT_MAX];
    const size_t names_size = visit->bytes.size + 1;
    uint8_t *names = tp_pool_take(&shard->pool, names_size);
    const char *error = NULL;
    unsigned status = 400;
    size_t count = 0;

    if (tp_sse_documents(visit->bytes, names, documents, TP_STREAM_DOCUMENT_COUNT_MAX, &count) !=
        TP_OK)
        error = "{\"error\":\"Bad or too many documents\"}";
    for (size_t i = 0; error == NULL && i < count; i++)
        if (!tp_client_name_valid(documents[i].name)) {
            error = "{\"error\":\"Bad document name\"}";
        } else if (grant != NULL && !(tp_grant_rights(grant, documents[i].name) & TP_MAY_READ)) {
            status = 403;
            error = "{\"error\":\"Insufficient permissions to access a document\"}";
        }
    if (error != NULL) {
        tp_grant_destroy(grant);
        refuse(visit, status, error);
    } else {
        struct tp_channel *channel =
            tp_stream_open(shard, visit->connection, visit->allowed, grant);
        for (size_t i = 0; i < count; i++)
            tp_channel_subscribe(channel, documents[i].name);
        finish_visit(visit);
    }
    tp_pool_give(&shard->pool, names, names_size);
}

/* ---- POST /sse --------------------------------------------------------------------------------*/

static void admit_post(struct tp_visit *visit, const struct tp_grant *grant)
{
    struct tp_shard *shard = visit->shard;
    const struct tp_slice none = {0}, body = visit->bytes;
    uint8_t memory[TP_STREAM_HOLDER_SIZE_MAX];
    struct tp_buffer out = tp_buffer_starting(memory, sizeof memory, UINT32_MAX);
    const struct tp_slice holder = tp_stream_holder(grant == NULL ? none : grant->room,
                                                    grant == NULL ? none : grant->user, &out);

    visit->bytes = none; /* given back below: the visit may be over by then */
    if (visit->core == shard->index) {
        tp_stream_posted(shard, visit->core, visit, tp_slice_of(visit->id, sizeof visit->id),
                         holder, body);
    } else {
        const size_t head_size = TP_STREAM_ID_SIZE + holder.size;
        struct tp_shard_letter *letter =
            tp_shard_letter_create(shard, TP_LETTER_POST, head_size + body.size);
        memcpy(letter->bytes, visit->id, TP_STREAM_ID_SIZE);
        memcpy(letter->bytes + TP_STREAM_ID_SIZE, holder.data, holder.size);
        if (body.size > 0)
            memcpy(letter->bytes + head_size, body.data, body.size);
        letter->key_size = (uint32_t)holder.size;
        letter->visit = visit;
        shard->counters.letters_sent++;
        tp_post_send(shard->reactor, visit->core, &letter->letter);
    }
    tp_pool_give(&shard->pool, (void *)body.data, body.size);
    tp_buffer_finish(&out);
}

void tp_stream_letter(struct tp_shard *shard, struct tp_shard_letter *letter)
{
    if (letter->letter.kind == TP_LETTER_POSTED) {
        answer_visit(letter->visit, letter->outcome, letter->id);
        return;
    }
    const size_t head_size = TP_STREAM_ID_SIZE + letter->key_size;
    tp_stream_posted(shard, letter->letter.from, letter->visit,
                     tp_slice_of(letter->bytes, TP_STREAM_ID_SIZE),
                     tp_slice_of(letter->bytes + TP_STREAM_ID_SIZE, letter->key_size),
                     tp_slice_of(letter->bytes + head_size, letter->bytes_size - head_size));
}

/* ---- requests ---------------------------------------------------------------------------------*/

static void admit(struct tp_gate_ask *ask, enum tp_gate_answer answer, struct tp_grant *grant)
{
    struct tp_visit *visit = TP_CONTAINER(ask, struct tp_visit, ask);
    struct tp_shard *shard = visit->shard;

    if (answer == TP_GATE_REFUSED) {
        tp_connection_set_user(visit->connection, NULL);
        tp_visit_respond(shard, visit->connection, 401, "text/plain", visit->allowed,
                         (struct tp_slice){0}, "", TP_SLICE("Unauthorized"));
        finish_visit(visit);
        return;
    }
    const enum tp_shard_phase last =
        visit->kind == VISIT_STREAM ? TP_SHARD_DRAINING : TP_SHARD_CLOSING;
    if (answer == TP_GATE_BUSY || shard->phase > last) {
        tp_grant_destroy(grant);
        refuse(visit, 503, "{\"error\":\"Come back soon\"}");
        return;
    }
    switch (visit->kind) {
    case VISIT_STREAM:
        admit_stream(visit, grant);
        break;
    case VISIT_POST:
        admit_post(visit, grant);
        tp_grant_destroy(grant);
        break;
    case VISIT_ONCE:
        tp_stream_once(shard, visit->connection, visit->allowed, grant, visit->bytes);
        finish_visit(visit);
        break;
    }
}

/* A browser asks whether a page of another origin may. */
static void answer_preflight(struct tp_visit *visit)
{
    char memory[TP_VISIT_HEAD_SIZE_MAX];
    struct tp_buffer head = tp_buffer_fixed(memory, sizeof memory);

    tp_cors_preflight_head(visit->allowed, &head);
    tp_cors_head(visit->shard->config, visit->allowed, &head);
    TP_ASSERT(!head.full);
    tp_connection_respond(visit->connection, 204, NULL, tp_buffer_slice(&head),
                          (struct tp_slice){0});
}

/* 200: the body is a message array, else the status to refuse with. */
static unsigned check_body(const struct tp_http_request *request, const char **error)
{
    const struct tp_slice type = tp_http_header(request, "content-type");
    const size_t size = strlen(TP_VISIT_BODY_TYPE);

    /* Not having one is allowed. Another one is not, since forms and plain text are what a page of
     * any origin can make a browser post without a preflight. */
    *error = "{\"error\":\"The body must be " TP_VISIT_BODY_TYPE "\"}";
    if (type.data != NULL &&
        (type.size < size || strncasecmp((const char *)type.data, TP_VISIT_BODY_TYPE, size) != 0 ||
         (type.size > size && type.data[size] != ';' && type.data[size] != ' ')))
        return 415;
    switch (tp_teleportal_array_check(request->body, TP_STREAM_MESSAGE_COUNT_MAX)) {
    case TP_OK:
        return 200;
    case TP_FULL:
        *error = "{\"error\":\"Too many messages in one request\"}";
        return 413;
    default:
        *error = "{\"error\":\"The body is no array of messages\"}";
        return 400;
    }
}

/* What can be said of a request before its token is looked at. 200: nothing. */
static unsigned check(struct tp_visit *visit, const struct tp_http_request *request,
                      const char **error)
{
    struct tp_slice id = tp_http_header(request, "x-teleportal-client-id");

    if (visit->kind == VISIT_STREAM)
        return 200;
    if (visit->kind == VISIT_POST) {
        if (id.data == NULL)
            id = tp_http_query(request->query, "client-id");
        *error = "{\"error\":\"No client ID provided\"}";
        if (id.size == 0)
            return 400;
    }
    const unsigned status = check_body(request, error);
    if (status != 200 || visit->kind == VISIT_ONCE)
        return status;
    *error = "{\"error\":\"Unknown client ID\"}";
    if (!tp_stream_core(visit->shard, id, &visit->core))
        return 404;
    memcpy(visit->id, id.data, sizeof visit->id);
    return 200;
}

/* Is the path that of `name` ("/sse"), at the root or below Teleportal's own path? */
static bool is_path(const struct tp_shard *shard, struct tp_slice path, const char *name)
{
    const struct tp_slice mount = tp_channel_paths(shard).teleportal;
    const struct tp_slice own = tp_slice_of(name, strlen(name));

    if (path.size == mount.size + own.size && memcmp(path.data, mount.data, mount.size) == 0)
        path = tp_slice_of(path.data + mount.size, own.size);
    return tp_slice_equal(path, own);
}

static bool is_method(const struct tp_http_request *request, const char *method)
{
    return tp_slice_equal(request->method, tp_slice_of(method, strlen(method)));
}

/* True: the request needs nothing but this answer. */
static bool answer_at_once(struct tp_visit *visit, const struct tp_http_request *request,
                           bool is_sse)
{
    struct tp_shard *shard = visit->shard;
    const struct tp_slice none = {0};
    const char *error = "";

    if (visit->allowed.data != NULL && is_method(request, "OPTIONS")) {
        answer_preflight(visit);
        return true;
    }
    if (!is_method(request, "POST") && !(is_sse && (is_method(request, "GET") || request->head))) {
        tp_visit_respond(shard, visit->connection, 405, "text/plain", visit->allowed, none,
                         is_sse ? "Allow: GET, HEAD, POST, OPTIONS\r\n"
                                : "Allow: POST, OPTIONS\r\n",
                         TP_SLICE("Method Not Allowed\n"));
        return true;
    }
    if (shard->phase > TP_SHARD_CLOSING) {
        tp_visit_respond_json(shard, visit->connection, 503, visit->allowed, none,
                              "{\"error\":\"The server is going away\"}");
        return true;
    }
    if (request->head) {
        tp_stream_begin(shard, visit->connection, visit->allowed, none);
        return true;
    }
    /* EventSource that came back by itself: its client goes on with the old id, and does not sync.
     * A 204 makes it give up, and the client begins anew (spec 01 section 5.6, cure 2). */
    if (visit->kind == VISIT_STREAM && tp_http_header(request, "last-event-id").data != NULL) {
        tp_visit_respond(shard, visit->connection, 204, NULL, visit->allowed, none, "", none);
        return true;
    }
    if (visit->kind == VISIT_STREAM &&
        (tp_shard_is_full(shard) || tp_connection_admit(visit->connection, request) != TP_OK)) {
        shard->counters.refused_budget += tp_shard_is_full(shard);
        tp_visit_respond_json(shard, visit->connection, 503, visit->allowed, none,
                              "{\"error\":\"Come back soon\"}");
        return true;
    }
    const unsigned status = check(visit, request, &error);
    if (status != 200)
        tp_visit_respond_json(shard, visit->connection, status, visit->allowed, none, error);
    return status != 200;
}

bool tp_stream_request(struct tp_shard *shard, struct tp_connection *connection,
                       const struct tp_http_request *request)
{
    const bool is_sse = is_path(shard, request->path, "/sse");

    if (!is_sse && !is_path(shard, request->path, "/message"))
        return false;
    struct tp_visit about = {.transport = TP_TRANSPORT_VISIT,
                             .kind = !is_sse                      ? VISIT_ONCE
                                     : is_method(request, "POST") ? VISIT_POST
                                                                  : VISIT_STREAM,
                             .shard = shard,
                             .connection = connection,
                             .allowed = tp_cors_allowed(shard->config, request),
                             .ask.answered = admit};
    if (answer_at_once(&about, request, is_sse))
        return true;

    const struct tp_slice bytes = about.kind == VISIT_STREAM ? request->query : request->body;
    struct tp_visit *visit = tp_pool_take(&shard->pool, sizeof *visit);
    *visit = about;
    if (bytes.size > 0)
        visit->bytes = tp_slice_of(
            memcpy(tp_pool_take(&shard->pool, bytes.size), bytes.data, bytes.size), bytes.size);
    tp_connection_set_user(connection, visit);
    tp_gate_ask(shard, request, &visit->ask);
    return true;
}
