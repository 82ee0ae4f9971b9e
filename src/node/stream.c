/* Streams of events, and what their clients post (node/visit.h). */
#include <stdio.h>

#include "node/server.h"
#include "node/visit.h"
#include "wire/sse.h"
#include "wire/teleportal.h"
#include "wire/writer.h"

#define NODE_DIGITS 8u
#define CORE_DIGITS 2u
#define RANDOM_SIZE 16u /* bytes */
static_assert(NODE_DIGITS + 1 + CORE_DIGITS + 1 + 2 * RANDOM_SIZE == TP_STREAM_ID_SIZE, "");
static_assert(TP_SHARD_COUNT_MAX <= 1u << (4 * CORE_DIGITS), "a core fits into its digits");

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

bool tp_stream_core(const struct tp_shard *shard, struct tp_slice id, uint32_t *core)
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
        tp_visit_respond(shard, channel->connection, 200, TP_VISIT_BODY_TYPE, stream->allowed, id,
                         "", tp_buffer_slice(&stream->answers));
    else
        tp_visit_respond_json(shard, channel->connection, status, stream->allowed, id,
                              status == 504 ? "{\"error\":\"Failed to receive acknowledgment\"}"
                              : status == 413
                                  ? "{\"error\":\"The answers are too large for one response\"}"
                              : status == 400 ? "{\"error\":\"Bad request\"}"
                                              : "{\"error\":\"The server is going away\"}");
    tp_channel_destroy(channel);
}

/* The first post has ended. */
static void end_post(struct tp_stream *stream, struct post *post, enum tp_outcome outcome)
{
    struct tp_shard *shard = stream->channel->shard;
    const uint64_t id = post->pending_count > 0 ? post->pending[0] : 0;
    struct tp_visit *visit = post->visit;
    const uint32_t asker = post->asker;

    drop_post(stream, post);
    if (stream->channel->transport == TP_TRANSPORT_ONCE) {
        answer_once(stream, outcome == TP_OUTCOME_SAID   ? 200
                            : outcome == TP_OUTCOME_LATE ? 504
                                                         : 503);
        return;
    }
    tp_visit_tell(shard, asker, visit, outcome, id);
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
        end_post(stream, post, TP_OUTCOME_SAID);
    else if (post->pending_count == 0 && shard->phase > TP_SHARD_CLOSING)
        end_post(stream, post, TP_OUTCOME_LEAVING);
    else if (more)
        step_soon(stream);
    else if (tp_reactor_now_ns(shard->reactor) >= late_ns)
        end_post(stream, post, TP_OUTCOME_LATE);
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
            tp_visit_tell(shard, asker, visit, TP_OUTCOME_UNKNOWN, 0);
    }
    if (channel->transport == TP_TRANSPORT_STREAM)
        HASH_DEL(shard->streams, stream);
    tp_timer_stop(shard->reactor, &stream->step);
    tp_timer_stop(shard->reactor, &stream->ping);
    tp_buffer_finish(&stream->answers);
    tp_pool_give(&shard->pool, stream, sizeof *stream);
    channel->stream = NULL;
}

/* ---- for visits -------------------------------------------------------------------------------*/

static const char stream_head[] = "Cache-Control: private, no-cache, no-store, no-transform, "
                                  "must-revalidate, max-age=0\r\nx-accel-buffering: no\r\n";

void tp_stream_begin(struct tp_shard *shard, struct tp_connection *connection,
                     struct tp_slice allowed, struct tp_slice id)
{
    char memory[TP_VISIT_HEAD_SIZE_MAX];
    struct tp_buffer head = tp_buffer_fixed(memory, sizeof memory);

    tp_buffer_append(&head, stream_head, sizeof stream_head - 1);
    tp_visit_head(shard, allowed, id, &head);
    TP_ASSERT(!head.full);
    tp_connection_stream(connection, TP_SSE_TYPE, tp_buffer_slice(&head));
}

/* A client id that the client chose itself is not taken: it could be somebody else's. */
struct tp_channel *tp_stream_open(struct tp_shard *shard, struct tp_connection *connection,
                                  struct tp_slice allowed, struct tp_grant *grant)
{
    struct tp_stream *stream = create(shard, connection, TP_TRANSPORT_STREAM, grant);

    make_id(shard, stream->id);
    HASH_ADD(hh, shard->streams, id, TP_STREAM_ID_SIZE, stream); /* before the client knows it */
    const struct tp_slice id = tp_slice_of(stream->id, sizeof stream->id);
    tp_stream_begin(shard, connection, allowed, id);

    struct tp_frame *first = tp_frame_alloc(&shard->pool, tp_sse_client_id_size(id.size));
    tp_sse_client_id_write(id, first->data + TP_FRAME_HEAD_SIZE);
    if (tp_connection_send(connection, first, 0, TP_OUTBOX_CONTROL, 0) == TP_OK)
        tp_timer_set(shard->reactor, &stream->ping,
                     tp_reactor_now_ns(shard->reactor) + TP_STREAM_PING_NS);
    tp_frame_unref(first);
    return stream->channel;
}

void tp_stream_once(struct tp_shard *shard, struct tp_connection *connection,
                    struct tp_slice allowed, struct tp_grant *grant, struct tp_slice body)
{
    struct tp_stream *stream = create(shard, connection, TP_TRANSPORT_ONCE, grant);

    stream->allowed = allowed;
    add_post(stream, shard->index, NULL, body);
}

struct tp_slice tp_stream_holder(struct tp_slice room, struct tp_slice user, struct tp_buffer *out)
{
    tp_buffer_append(out, room.data, room.size);
    tp_write_u8(out, 0);
    tp_buffer_append(out, user.data, user.size);
    return tp_buffer_slice(out);
}

void tp_stream_posted(struct tp_shard *shard, uint32_t asker, struct tp_visit *visit,
                      struct tp_slice id, struct tp_slice holder, struct tp_slice body)
{
    uint8_t memory[TP_STREAM_HOLDER_SIZE_MAX];
    struct tp_buffer own = tp_buffer_starting(memory, sizeof memory, UINT32_MAX);
    struct tp_stream *stream = NULL;

    HASH_FIND(hh, shard->streams, id.data, TP_STREAM_ID_SIZE, stream);
    if (stream == NULL || stream->channel->closing ||
        !tp_slice_equal(tp_stream_holder(tp_channel_room(stream->channel),
                                         tp_channel_user(stream->channel), &own),
                        holder))
        tp_visit_tell(shard, asker, visit, TP_OUTCOME_UNKNOWN, 0);
    else if (shard->phase > TP_SHARD_CLOSING)
        tp_visit_tell(shard, asker, visit, TP_OUTCOME_LEAVING, 0);
    else if (stream->post_count >= TP_STREAM_POST_COUNT_MAX)
        tp_visit_tell(shard, asker, visit, TP_OUTCOME_BUSY, 0);
    else
        add_post(stream, asker, visit, body);
    tp_buffer_finish(&own);
}
