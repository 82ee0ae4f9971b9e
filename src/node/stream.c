/* Teleportal over HTTP: streams of events, and what their clients post. */
#include "node/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "node/cors.h"
#include "node/server.h"
#include "wire/sse.h"
#include "wire/teleportal.h"
#include "wire/writer.h"

#define HEAD_SIZE_MAX (TP_CONFIG_TEXT_SIZE + 1024u) /* of the header lines that we add */
#define HOLDER_SIZE_MAX 256u                        /* on the stack; longer ones on the heap */
#define BODY_TYPE "application/octet-stream"
#define NODE_DIGITS 8u
#define CORE_DIGITS 2u
#define RANDOM_SIZE 16u /* bytes */
static_assert(NODE_DIGITS + 1 + CORE_DIGITS + 1 + 2 * RANDOM_SIZE == TP_STREAM_ID_SIZE, "");
static_assert(TP_SHARD_COUNT_MAX <= 1u << (4 * CORE_DIGITS), "a core fits into its digits");

/* How a POST /sse ended. */
enum outcome {
    OUTCOME_SAID,
    OUTCOME_LATE, /* a message has no ack yet: it may still come, on the stream */
    OUTCOME_UNKNOWN,
    OUTCOME_BUSY,
    OUTCOME_LEAVING,
};

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

/* A body on the core of its stream, until all that is in it is said and answered. */
struct post {
    struct tp_link link;    /* in tp_stream.posts */
    struct tp_visit *visit; /* of core `asker`: followed there only. NULL: POST /message */
    uint32_t asker;
    uint32_t pending_count; /* of `pending`: ids of messages that were said and not answered yet */
    uint64_t progress_ns;   /* when something was said or answered last */
    struct tp_slice rest;   /* what is still to be said */
    size_t block_size;
    uint64_t *pending;
    uint8_t bytes[]; /* the body, behind the room for `pending` */
};

struct tp_stream {
    struct tp_channel *channel;
    struct tp_link posts; /* said in order; the first one's acks are awaited before the second */
    uint32_t post_count;
    struct tp_timer step; /* of the first post: its next part, or the end of its time */
    struct tp_timer ping;
    char id[TP_STREAM_ID_SIZE];
    UT_hash_handle hh; /* tp_shard.streams */

    /* POST /message */
    struct tp_buffer answers;
    struct tp_slice allowed;
    unsigned refusal; /* the status instead of 200, once the channel is closing */
};

/* ---- ids --------------------------------------------------------------------------------------*/

static void put_hex(char *at, uint64_t value, unsigned digits)
{
    while (digits-- > 0) {
        at[digits] = "0123456789abcdef"[value & 15];
        value >>= 4;
    }
}

static void make_id(const struct tp_shard *shard, char out[TP_STREAM_ID_SIZE])
{
    uint8_t random[RANDOM_SIZE];
    char *at = out;

    tp_random_secret(random, sizeof random);
    put_hex(at, tp_server_node_tag(shard->server), NODE_DIGITS);
    at[NODE_DIGITS] = '-';
    at += NODE_DIGITS + 1;
    put_hex(at, shard->index, CORE_DIGITS);
    at[CORE_DIGITS] = '-';
    at += CORE_DIGITS + 1;
    for (size_t i = 0; i < sizeof random; i++)
        put_hex(at + 2 * i, random[i], 2);
}

static bool read_hex(struct tp_slice text, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c >= '0' && c <= '9')
            *value = *value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *value = *value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* The core that holds the stream of that id. False: no stream of ours has such an id. */
static bool core_of(const struct tp_shard *shard, struct tp_slice id, uint32_t *core)
{
    uint64_t value;
    const uint8_t *at = id.data;

    if (id.size != TP_STREAM_ID_SIZE || at[NODE_DIGITS] != '-' ||
        at[NODE_DIGITS + 1 + CORE_DIGITS] != '-' ||
        !read_hex(tp_slice_of(at, NODE_DIGITS), &value) ||
        value != tp_server_node_tag(shard->server) ||
        !read_hex(tp_slice_of(at + NODE_DIGITS + 1, CORE_DIGITS), &value) || value >= shard->count)
        return false;
    *core = (uint32_t)value;
    at += NODE_DIGITS + 1 + CORE_DIGITS + 1;
    return read_hex(tp_slice_of(at, 2 * RANDOM_SIZE), &value);
}

/* ---- answers ----------------------------------------------------------------------------------*/

static void append_text(struct tp_buffer *out, const char *text)
{
    tp_buffer_append(out, text, strlen(text));
}

/* The header lines that all our answers have. `id` may be empty. */
static void write_head(const struct tp_shard *shard, struct tp_slice allowed, struct tp_slice id,
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

static void respond(struct tp_shard *shard, struct tp_connection *connection, unsigned status,
                    const char *type, struct tp_slice allowed, struct tp_slice id, const char *more,
                    struct tp_slice body)
{
    char memory[HEAD_SIZE_MAX];
    struct tp_buffer head = tp_buffer_fixed(memory, sizeof memory);

    write_head(shard, allowed, id, &head);
    append_text(&head, more);
    TP_ASSERT(!head.full);
    tp_connection_respond(connection, status, type, tp_buffer_slice(&head), body);
}

static void respond_json(struct tp_shard *shard, struct tp_connection *connection, unsigned status,
                         struct tp_slice allowed, struct tp_slice id, const char *text)
{
    respond(shard, connection, status, TP_JSON_TYPE, allowed, id,
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
static void answer_visit(struct tp_visit *visit, enum outcome outcome, uint64_t id)
{
    struct tp_shard *shard = visit->shard;
    struct tp_connection *connection = visit->connection;
    const struct tp_slice stream = tp_slice_of(visit->id, sizeof visit->id);
    char text[160];

    if (connection != NULL) {
        tp_connection_set_user(connection, NULL);
        switch (outcome) {
        case OUTCOME_SAID:
            respond_json(shard, connection, 200, visit->allowed, stream, "{\"message\":\"ok\"}");
            break;
        case OUTCOME_LATE: {
            char name[TP_TELEPORTAL_ID_SIZE];
            tp_teleportal_id_format(id, name);
            snprintf(text, sizeof text,
                     "{\"error\":\"Failed to receive acknowledgment\",\"message\":\"ACK timeout "
                     "for message %.*s\"}",
                     (int)sizeof name, name);
            respond_json(shard, connection, 504, visit->allowed, stream, text);
            break;
        }
        case OUTCOME_UNKNOWN:
            respond_json(shard, connection, 404, visit->allowed, stream,
                         "{\"error\":\"Unknown client ID\"}");
            break;
        case OUTCOME_BUSY:
            respond_json(shard, connection, 429, visit->allowed, stream,
                         "{\"error\":\"Too many requests at once\"}");
            break;
        case OUTCOME_LEAVING:
            respond_json(shard, connection, 503, visit->allowed, stream,
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
    respond_json(visit->shard, connection, 503, visit->allowed, (struct tp_slice){0},
                 "{\"error\":\"The server is going away\"}");
    tp_visit_closed(visit);
}

/* Tells a visit here or on another core. */
static void tell(struct tp_shard *shard, uint32_t asker, struct tp_visit *visit,
                 enum outcome outcome, uint64_t id)
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

/* ---- what clients say -------------------------------------------------------------------------*/

static struct post *first_post(struct tp_stream *stream)
{
    return tp_link_alone(&stream->posts) ? NULL
                                         : TP_CONTAINER(stream->posts.next, struct post, link);
}

static void drop_post(struct tp_stream *stream, struct post *post)
{
    stream->post_count--;
    tp_link_remove(&post->link);
    tp_pool_give(&stream->channel->shard->pool, post, post->block_size);
}

/* Steps are taken from the loop alone, never from inside a session's effects. */
static void step_at(struct tp_stream *stream, uint64_t at_ns)
{
    tp_timer_set(stream->channel->shard->reactor, &stream->step, at_ns);
}

static void step_soon(struct tp_stream *stream)
{
    step_at(stream, tp_reactor_now_ns(stream->channel->shard->reactor));
}

void tp_stream_continue(struct tp_channel *channel)
{
    if (first_post(channel->stream) != NULL)
        step_soon(channel->stream);
}

/* Copies `body`, which was checked to be a message array. */
static void add_post(struct tp_stream *stream, uint32_t asker, struct tp_visit *visit,
                     struct tp_slice body)
{
    struct tp_shard *shard = stream->channel->shard;
    struct tp_slice rest = body, frame;
    size_t count = 0;

    while (tp_teleportal_array_next(&rest, &frame) == TP_OK)
        count++;
    const size_t pending_size = count * sizeof(uint64_t);
    const size_t block_size = sizeof(struct post) + pending_size + body.size;
    struct post *post = tp_pool_take(&shard->pool, block_size);
    *post = (struct post){.visit = visit,
                          .asker = asker,
                          .block_size = block_size,
                          .progress_ns = tp_reactor_now_ns(shard->reactor)};
    post->pending = (uint64_t *)post->bytes;
    post->rest = tp_slice_of(post->bytes + pending_size, body.size);
    if (body.size > 0)
        memcpy(post->bytes + pending_size, body.data, body.size);
    tp_link_init(&post->link);
    tp_link_insert(&stream->posts, &post->link);
    stream->post_count++;
    step_soon(stream);
}

void tp_stream_expect(struct tp_channel *channel, uint64_t id)
{
    struct post *post = first_post(channel->stream);

    TP_ASSERT(post != NULL);
    post->pending[post->pending_count++] = id; /* room for all: see add_post */
}

/* An ack or NACK goes out: equal messages have equal ids, so it stands for one of them. */
static void answered(struct tp_stream *stream, uint64_t id)
{
    struct post *post = first_post(stream);

    for (uint32_t i = 0; post != NULL && i < post->pending_count; i++) {
        if (post->pending[i] != id)
            continue;
        post->pending_count--;
        memmove(&post->pending[i], &post->pending[i + 1],
                (post->pending_count - i) * sizeof post->pending[0]);
        post->progress_ns = tp_reactor_now_ns(stream->channel->shard->reactor);
        if (post->pending_count == 0 || post->rest.size > 0)
            step_soon(stream);
        return;
    }
}

/* Bytes that wait for the client: one that does not read is not heard. */
static bool is_full(const struct tp_stream *stream)
{
    const struct tp_channel *channel = stream->channel;
    const size_t size = channel->transport == TP_TRANSPORT_ONCE
                            ? 0 /* it waits for us; its bound is in tp_stream_send */
                            : tp_connection_unsent_size(channel->connection);

    return size > channel->shard->config->outbox_size;
}

static bool may_say(const struct tp_stream *stream)
{
    const struct tp_channel *channel = stream->channel;

    return !channel->closing && channel->pauses == 0 && channel->shard->phase <= TP_SHARD_CLOSING;
}

/* Says a part of `post`. True if there is more to say at once. */
static bool say(struct tp_stream *stream, struct post *post)
{
    struct tp_channel *channel = stream->channel;
    size_t count = 0, size = 0;
    struct tp_slice frame;

    while (post->rest.size > 0 && may_say(stream) &&
           post->pending_count < TP_STREAM_PENDING_COUNT_MAX) {
        if (is_full(stream)) {
            tp_connection_notify(channel->connection);
            return false;
        }
        if (count == TP_STREAM_STEP_COUNT || size >= TP_STREAM_STEP_SIZE)
            return true;
        if (tp_teleportal_array_next(&post->rest, &frame) != TP_OK)
            TP_ASSERT(!"a body that was checked");
        count++;
        size += frame.size;
        post->progress_ns = tp_reactor_now_ns(channel->shard->reactor);
        tp_channel_said(channel, frame);
    }
    return false;
}

static void answer_once(struct tp_stream *stream, unsigned status)
{
    struct tp_channel *channel = stream->channel;
    struct tp_shard *shard = channel->shard;
    const struct tp_slice id = tp_slice_of(channel->client_id, sizeof channel->client_id);

    tp_connection_set_user(channel->connection, NULL);
    if (status == 200)
        respond(shard, channel->connection, 200, BODY_TYPE, stream->allowed, id, "",
                tp_buffer_slice(&stream->answers));
    else
        respond_json(shard, channel->connection, status, stream->allowed, id,
                     status == 504   ? "{\"error\":\"Failed to receive acknowledgment\"}"
                     : status == 413 ? "{\"error\":\"The answers are too large for one response\"}"
                     : status == 400 ? "{\"error\":\"Bad request\"}"
                                     : "{\"error\":\"The server is going away\"}");
    tp_channel_destroy(channel);
}

/* The first post has ended. */
static void end_post(struct tp_stream *stream, struct post *post, enum outcome outcome)
{
    struct tp_shard *shard = stream->channel->shard;
    const uint64_t id = post->pending_count > 0 ? post->pending[0] : 0;
    struct tp_visit *visit = post->visit;
    const uint32_t asker = post->asker;

    drop_post(stream, post);
    if (stream->channel->transport == TP_TRANSPORT_ONCE) {
        answer_once(stream, outcome == OUTCOME_SAID ? 200 : outcome == OUTCOME_LATE ? 504 : 503);
        return;
    }
    tell(shard, asker, visit, outcome, id);
    if (first_post(stream) != NULL)
        step_soon(stream);
}

static void step(struct tp_timer *timer)
{
    struct tp_stream *stream = TP_CONTAINER(timer, struct tp_stream, step);
    struct tp_channel *channel = stream->channel;
    struct tp_shard *shard = channel->shard;
    struct post *post = first_post(stream);

    if (post == NULL)
        return;
    const bool more = say(stream, post);
    if (channel->closing) {
        if (channel->transport == TP_TRANSPORT_ONCE)
            answer_once(stream, stream->refusal);
        return; /* else `closed` follows, and ends the posts */
    }
    const uint64_t late_ns = post->progress_ns + TP_STREAM_ACK_TIME_NS;
    if (post->rest.size == 0 && post->pending_count == 0)
        end_post(stream, post, OUTCOME_SAID);
    else if (post->pending_count == 0 && shard->phase > TP_SHARD_CLOSING)
        end_post(stream, post, OUTCOME_LEAVING);
    else if (more)
        step_soon(stream);
    else if (tp_reactor_now_ns(shard->reactor) >= late_ns)
        end_post(stream, post, OUTCOME_LATE);
    else
        step_at(stream, late_ns);
}

/* ---- what clients hear ------------------------------------------------------------------------*/

/* The event of a frame. Broadcasts offer one frame to many streams in a row: it is made once. */
static struct tp_frame *event_of(struct tp_shard *shard, struct tp_frame *frame)
{
    if (shard->event_source != frame) {
        const struct tp_slice message = tp_frame_message(frame);
        tp_stream_tick(shard);
        shard->event_source = tp_frame_ref(frame);
        shard->event = tp_frame_alloc(&shard->pool, tp_sse_message_size(message.size));
        tp_sse_message_write(message, tp_teleportal_message_id(message),
                             shard->event->data + TP_FRAME_HEAD_SIZE);
    }
    return shard->event;
}

void tp_stream_tick(struct tp_shard *shard)
{
    tp_frame_unref(shard->event_source);
    tp_frame_unref(shard->event);
    shard->event_source = shard->event = NULL;
}

static enum tp_status keep_answer(struct tp_stream *stream, struct tp_slice message,
                                  enum tp_outbox_class class)
{
    struct tp_channel *channel = stream->channel;
    const uint64_t size_max = TP_NET_CONTROL_FACTOR * channel->shard->config->outbox_size;

    if (class != TP_OUTBOX_CONTROL)
        return TP_ABSENT;                  /* what others do meanwhile is no answer */
    if (stream->answers.size > size_max) { /* one answer may be of any size, as in an outbox */
        stream->refusal = 413;
        return TP_FULL;
    }
    tp_teleportal_array_write(message, &stream->answers);
    return TP_OK;
}

enum tp_status tp_stream_send(struct tp_channel *channel, struct tp_frame *frame, uint64_t label,
                              enum tp_outbox_class class, uint32_t mark)
{
    struct tp_stream *stream = channel->stream;
    const struct tp_slice message = tp_frame_message(frame);
    uint64_t id;

    const enum tp_status status =
        channel->transport == TP_TRANSPORT_ONCE
            ? keep_answer(stream, message, class)
            : tp_connection_send(channel->connection, event_of(channel->shard, frame), label, class,
                                 mark);
    if (status == TP_OK && class == TP_OUTBOX_CONTROL && tp_teleportal_is_ack(message, &id))
        answered(stream, id);
    return status;
}

static void ping(struct tp_timer *timer)
{
    struct tp_stream *stream = TP_CONTAINER(timer, struct tp_stream, ping);
    struct tp_channel *channel = stream->channel;
    struct tp_shard *shard = channel->shard;

    if (channel->closing)
        return;
    if (shard->stream_ping == NULL)
        shard->stream_ping = tp_frame_create(&shard->pool, TP_SSE_PING);
    /* What waits already will be a sign of life when it arrives. */
    if (tp_connection_unsent_size(channel->connection) == 0 &&
        tp_connection_send(channel->connection, shard->stream_ping, 0, TP_OUTBOX_CONTROL, 0) !=
            TP_OK)
        return;
    tp_timer_set(shard->reactor, timer, tp_reactor_now_ns(shard->reactor) + TP_STREAM_PING_NS);
}

/* ---- life -------------------------------------------------------------------------------------*/

static struct tp_stream *create(struct tp_shard *shard, struct tp_connection *connection,
                                enum tp_transport transport, struct tp_grant *grant)
{
    const struct tp_client_paths paths = tp_channel_paths(shard);
    struct tp_channel *channel = tp_channel_create(shard, connection, transport);
    struct tp_stream *stream = tp_pool_take_zeroed(&shard->pool, sizeof *stream);

    if (tp_client_init(&channel->client, &paths, paths.teleportal) != TP_OK)
        TP_ASSERT(!"Teleportal's own path");
    channel->moved = true; /* it stays: the ids of streams say where they are */
    channel->stream = stream;
    stream->channel = channel;
    stream->answers = tp_buffer_growing(UINT32_MAX);
    tp_link_init(&stream->posts);
    tp_timer_init(&stream->step, step);
    tp_timer_init(&stream->ping, ping);
    tp_connection_set_user(connection, channel);
    tp_pass_give(channel, grant);
    tp_pass_watch(channel);
    return stream;
}

void tp_stream_closing(struct tp_channel *channel, enum tp_close_reason reason)
{
    struct tp_stream *stream = channel->stream;
    const bool client_is_wrong = reason == TP_CLOSE_POLICY || reason == TP_CLOSE_MALFORMED ||
                                 reason == TP_CLOSE_BAD_UTF8 || reason == TP_CLOSE_UNSUPPORTED;

    if (stream->refusal == 0)
        stream->refusal = client_is_wrong ? 400 : 503;
    if (channel->transport == TP_TRANSPORT_ONCE)
        step_soon(stream);
}

/* The channel ends: nobody will answer what was posted. */
void tp_stream_finish(struct tp_channel *channel)
{
    struct tp_stream *stream = channel->stream;
    struct tp_shard *shard = channel->shard;

    for (struct post *post; (post = first_post(stream)) != NULL;) {
        struct tp_visit *visit = post->visit;
        const uint32_t asker = post->asker;
        drop_post(stream, post);
        if (visit != NULL)
            tell(shard, asker, visit, OUTCOME_UNKNOWN, 0);
    }
    if (channel->transport == TP_TRANSPORT_STREAM)
        HASH_DEL(shard->streams, stream);
    tp_timer_stop(shard->reactor, &stream->step);
    tp_timer_stop(shard->reactor, &stream->ping);
    tp_buffer_finish(&stream->answers);
    tp_pool_give(&shard->pool, stream, sizeof *stream);
    channel->stream = NULL;
}

/* ---- who asks ---------------------------------------------------------------------------------*/

/* Whose a stream is: room and user, as in "Keys and records". The same for all who show no token.
 */
static struct tp_slice write_holder(struct tp_slice room, struct tp_slice user,
                                    struct tp_buffer *out)
{
    tp_buffer_append(out, room.data, room.size);
    tp_write_u8(out, 0);
    tp_buffer_append(out, user.data, user.size);
    return tp_buffer_slice(out);
}

static void refuse(struct tp_visit *visit, unsigned status, const char *text)
{
    tp_connection_set_user(visit->connection, NULL);
    respond_json(visit->shard, visit->connection, status, visit->allowed, (struct tp_slice){0},
                 text);
    finish_visit(visit);
}

/* ---- GET /sse ---------------------------------------------------------------------------------*/

static const char stream_head[] = "Cache-Control: private, no-cache, no-store, no-transform, "
                                  "must-revalidate, max-age=0\r\nx-accel-buffering: no\r\n";

static void begin_stream(struct tp_shard *shard, struct tp_connection *connection,
                         struct tp_slice allowed, struct tp_slice id)
{
    char memory[HEAD_SIZE_MAX];
    struct tp_buffer head = tp_buffer_fixed(memory, sizeof memory);

    append_text(&head, stream_head);
    write_head(shard, allowed, id, &head);
    TP_ASSERT(!head.full);
    tp_connection_stream(connection, TP_SSE_TYPE, tp_buffer_slice(&head));
}

/* A client id that the client chose itself is not taken: it could be somebody else's. */
static struct tp_stream *open_stream(struct tp_visit *visit, struct tp_grant *grant)
{
    struct tp_shard *shard = visit->shard;
    struct tp_connection *connection = visit->connection;
    struct tp_stream *stream = create(shard, connection, TP_TRANSPORT_STREAM, grant);

    make_id(shard, stream->id);
    HASH_ADD(hh, shard->streams, id, TP_STREAM_ID_SIZE, stream); /* before the client knows it */
    const struct tp_slice id = tp_slice_of(stream->id, sizeof stream->id);
    begin_stream(shard, connection, visit->allowed, id);

    struct tp_frame *first = tp_frame_alloc(&shard->pool, tp_sse_client_id_size(id.size));
    tp_sse_client_id_write(id, first->data + TP_FRAME_HEAD_SIZE);
    if (tp_connection_send(connection, first, 0, TP_OUTBOX_CONTROL, 0) == TP_OK)
        tp_timer_set(shard->reactor, &stream->ping,
                     tp_reactor_now_ns(shard->reactor) + TP_STREAM_PING_NS);
    tp_frame_unref(first);
    return stream;
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
        struct tp_channel *channel = open_stream(visit, grant)->channel;
        for (size_t i = 0; i < count; i++)
            tp_channel_subscribe(channel, documents[i].name);
        finish_visit(visit);
    }
    tp_pool_give(&shard->pool, names, names_size);
}

/* ---- POST /sse --------------------------------------------------------------------------------*/

/* On the stream's core. */
static void posted(struct tp_shard *shard, uint32_t asker, struct tp_visit *visit,
                   struct tp_slice id, struct tp_slice holder, struct tp_slice body)
{
    uint8_t memory[HOLDER_SIZE_MAX];
    struct tp_buffer own = tp_buffer_starting(memory, sizeof memory, UINT32_MAX);
    struct tp_stream *stream = NULL;

    HASH_FIND(hh, shard->streams, id.data, TP_STREAM_ID_SIZE, stream);
    if (stream == NULL || stream->channel->closing ||
        !tp_slice_equal(
            write_holder(tp_channel_room(stream->channel), tp_channel_user(stream->channel), &own),
            holder))
        tell(shard, asker, visit, OUTCOME_UNKNOWN, 0);
    else if (shard->phase > TP_SHARD_CLOSING)
        tell(shard, asker, visit, OUTCOME_LEAVING, 0);
    else if (stream->post_count >= TP_STREAM_POST_COUNT_MAX)
        tell(shard, asker, visit, OUTCOME_BUSY, 0);
    else
        add_post(stream, asker, visit, body);
    tp_buffer_finish(&own);
}

static void admit_post(struct tp_visit *visit, const struct tp_grant *grant)
{
    struct tp_shard *shard = visit->shard;
    const struct tp_slice none = {0}, body = visit->bytes;
    uint8_t memory[HOLDER_SIZE_MAX];
    struct tp_buffer out = tp_buffer_starting(memory, sizeof memory, UINT32_MAX);
    const struct tp_slice holder =
        write_holder(grant == NULL ? none : grant->room, grant == NULL ? none : grant->user, &out);

    visit->bytes = none; /* given back below: the visit may be over by then */
    if (visit->core == shard->index) {
        posted(shard, visit->core, visit, tp_slice_of(visit->id, sizeof visit->id), holder, body);
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
    posted(shard, letter->letter.from, letter->visit, tp_slice_of(letter->bytes, TP_STREAM_ID_SIZE),
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
        respond(shard, visit->connection, 401, "text/plain", visit->allowed, (struct tp_slice){0},
                "", TP_SLICE("Unauthorized"));
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
    case VISIT_ONCE: {
        struct tp_stream *stream = create(shard, visit->connection, TP_TRANSPORT_ONCE, grant);
        stream->allowed = visit->allowed;
        add_post(stream, shard->index, NULL, visit->bytes);
        finish_visit(visit);
        break;
    }
    }
}

/* A browser asks whether a page of another origin may. */
static void answer_preflight(struct tp_visit *visit)
{
    char memory[HEAD_SIZE_MAX];
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
    const size_t size = strlen(BODY_TYPE);

    /* Not having one is allowed. Another one is not, since forms and plain text are what a page of
     * any origin can make a browser post without a preflight. */
    *error = "{\"error\":\"The body must be " BODY_TYPE "\"}";
    if (type.data != NULL &&
        (type.size < size || strncasecmp((const char *)type.data, BODY_TYPE, size) != 0 ||
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
    if (!core_of(visit->shard, id, &visit->core))
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
        respond(shard, visit->connection, 405, "text/plain", visit->allowed, none,
                is_sse ? "Allow: GET, HEAD, POST, OPTIONS\r\n" : "Allow: POST, OPTIONS\r\n",
                TP_SLICE("Method Not Allowed\n"));
        return true;
    }
    if (shard->phase > TP_SHARD_CLOSING) {
        respond_json(shard, visit->connection, 503, visit->allowed, none,
                     "{\"error\":\"The server is going away\"}");
        return true;
    }
    if (request->head) {
        begin_stream(shard, visit->connection, visit->allowed, none);
        return true;
    }
    /* EventSource that came back by itself: its client goes on with the old id, and does not sync.
     * A 204 makes it give up, and the client begins anew (spec 01 section 5.6, cure 2). */
    if (visit->kind == VISIT_STREAM && tp_http_header(request, "last-event-id").data != NULL) {
        respond(shard, visit->connection, 204, NULL, visit->allowed, none, "", none);
        return true;
    }
    if (visit->kind == VISIT_STREAM &&
        (tp_shard_is_full(shard) || tp_connection_admit(visit->connection, request) != TP_OK)) {
        shard->counters.refused_budget += tp_shard_is_full(shard);
        respond_json(shard, visit->connection, 503, visit->allowed, none,
                     "{\"error\":\"Come back soon\"}");
        return true;
    }
    const unsigned status = check(visit, request, &error);
    if (status != 200)
        respond_json(shard, visit->connection, status, visit->allowed, none, error);
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
