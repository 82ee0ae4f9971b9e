/* One client connection as the node sees it: requests, messages, keepalive, moving to another core.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "node/admin.h"
#include "node/server.h"
#include "node/stream.h"

#define RETRY_LATER "Retry-After: 2\r\n"
#define FULL_RETRY_MS 2000u
#define UPGRADE_HEAD TP_SLICE("x-powered-by: teleportal\r\n") /* spec 01 section 4.1 */

/* ---- life ---------------------------------------------------------------------------------------
 */

static void keep_alive(struct tp_timer *timer)
{
    struct tp_channel *channel = TP_CONTAINER(timer, struct tp_channel, keepalive);
    struct tp_shard *shard = channel->shard;
    const struct tp_dialect *dialect = tp_client_dialect(&channel->client);
    const uint64_t now_ns = tp_reactor_now_ns(shard->reactor);

    if (channel->closing || dialect == NULL)
        return;
    uint64_t due_ns = tp_connection_sent_ns(channel->connection) + dialect->keepalive_ns;
    if (due_ns <= now_ns) {
        struct tp_frame *frame = tp_frame_create(&shard->pool, dialect->keepalive);
        tp_websocket_seal(frame, TP_WEBSOCKET_BINARY);
        if (tp_connection_send(channel->connection, frame, 0, TP_OUTBOX_CONTROL, 0) == TP_OK)
            tp_client_sent(&channel->client);
        tp_frame_unref(frame);
        due_ns = now_ns + dialect->keepalive_ns;
    }
    tp_timer_set(shard->reactor, timer, due_ns);
}

struct tp_channel *tp_channel_create(struct tp_shard *shard, struct tp_connection *connection,
                                     enum tp_transport transport)
{
    struct tp_channel *channel = calloc(1, sizeof *channel); /* not the pool's: it may move */
    uint8_t random[16];

    TP_ASSERT(channel != NULL);
    shard->channel_count++;
    channel->transport = transport;
    channel->shard = shard;
    channel->connection = connection;
    channel->number = shard->next_connection++ * TP_SHARD_COUNT_MAX + shard->index;
    tp_link_init(&channel->subscriptions);
    tp_timer_init(&channel->keepalive, keep_alive);
    tp_random_secret(random, sizeof random);
    tp_uuid_format(random, channel->client_id);
    return channel;
}

/* What is needed of an upgrade request when its answer comes later. */
struct tp_handshake {
    struct tp_gate_ask ask;
    struct tp_channel *channel;
    size_t protocol_size;
    uint8_t protocol[];
};

static void forget_handshake(struct tp_channel *channel)
{
    if (channel->handshake == NULL)
        return;
    tp_gate_forget(&channel->handshake->ask);
    free(channel->handshake);
    channel->handshake = NULL;
}

void tp_channel_destroy(struct tp_channel *channel)
{
    if (channel->stream != NULL)
        tp_stream_finish(channel);
    forget_handshake(channel);
    tp_meter_finish(channel);
    tp_pass_finish(channel);
    tp_timer_stop(channel->shard->reactor, &channel->keepalive);
    TP_LIST_EACH_SAFE(link, &channel->subscriptions)
    tp_subscription_end(TP_CONTAINER(link, struct tp_subscription, in_channel));
    channel->shard->channel_count--;
    tp_client_finish(&channel->client);
    free(channel->held);
    free(channel);
}

struct tp_channel *tp_channel_of(const struct tp_connection *connection)
{
    struct tp_channel *channel = tp_connection_user(connection);

    return channel == NULL || channel->transport >= TP_TRANSPORT_VISIT ? NULL : channel;
}

struct tp_client_paths tp_channel_paths(const struct tp_shard *shard)
{
    const struct tp_config *config = shard->config;

    return (struct tp_client_paths){
        tp_slice_of(config->teleportal_path, strlen(config->teleportal_path)),
        tp_slice_of(config->yjs_path, strlen(config->yjs_path))};
}

enum tp_status tp_channel_send(struct tp_channel *channel, struct tp_frame *frame, uint64_t label,
                               enum tp_outbox_class class, uint32_t mark)
{
    if (channel->stream != NULL)
        return tp_stream_send(channel, frame, label, class, mark);
    return tp_connection_send(channel->connection, frame, label, class, mark);
}

void tp_channel_pause(struct tp_channel *channel)
{
    if (channel->stream == NULL) /* else it is asked before each message, see `pauses` */
        tp_connection_pause(channel->connection);
}

void tp_channel_resume(struct tp_channel *channel)
{
    if (channel->stream != NULL)
        tp_stream_continue(channel);
    else
        tp_connection_resume(channel->connection);
}

/* For people who look; what a program is to do is in the code. */
static struct tp_slice close_text(enum tp_close_reason reason)
{
    switch (reason) {
    case TP_CLOSE_EXPIRED:
        return TP_SLICE("token expired");
    case TP_CLOSE_UNAUTHORIZED:
        return TP_SLICE("token revoked");
    case TP_CLOSE_FORBIDDEN:
        return TP_SLICE("no permission");
    default:
        return (struct tp_slice){0};
    }
}

void tp_channel_close(struct tp_channel *channel, enum tp_close_reason reason)
{
    const struct tp_dialect *dialect = tp_client_dialect(&channel->client);

    if (channel->closing)
        return;
    channel->closing = true;
    if (dialect == NULL)
        dialect = tp_dialect_get(TP_DIALECT_TELEPORTAL);
    tp_connection_close(channel->connection, dialect->close_code(reason), close_text(reason));
    if (channel->stream != NULL)
        tp_stream_closing(channel, reason);
}

/* ---- to another core ----------------------------------------------------------------------------
 */

static uint32_t owner_of(const struct tp_channel *channel, struct tp_slice name)
{
    uint8_t room[TP_DOCUMENT_KEY_SIZE_MAX];
    const struct tp_slice key = tp_document_key(tp_channel_room(channel), name, room);

    return tp_document_owner(channel->shard, tp_hash64(key));
}

/* A connection goes to the core of its first document, once: from then on nothing crosses. True if
 * it is on its way; `first` (may be empty) is the message at hand, which is said again over there.
 */
static bool moves(struct tp_channel *channel, struct tp_slice name, struct tp_slice first)
{
    struct tp_shard *shard = channel->shard;

    if (channel->moved || shard->count == 1)
        return false;
    channel->moved = true;
    if (owner_of(channel, name) == shard->index || shard->phase > TP_SHARD_DRAINING)
        return false;

    if (tp_server_has_all_connections(shard->server, owner_of(channel, name)))
        return false; /* it is served from here, by letter */
    channel->target = owner_of(channel, name);
    if (first.size > 0) {
        channel->held = malloc(first.size);
        TP_ASSERT(channel->held != NULL);
        memcpy(channel->held, first.data, first.size);
        channel->held_size = first.size;
    }
    channel->moving = true;
    tp_pass_rest(channel);
    tp_timer_stop(shard->reactor, &channel->keepalive);
    tp_connection_detach(channel->connection);
    return true;
}

static void on_detached(void *context, struct tp_connection *connection)
{
    struct tp_shard *shard = context;
    struct tp_channel *channel = tp_connection_user(connection);
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_MOVE, 0);

    letter->channel = channel;
    shard->channel_count--;
    shard->counters.connections_moved++;
    tp_post_send(shard->reactor, channel->target, &letter->letter);
}

static void watch(struct tp_channel *channel)
{
    const struct tp_dialect *dialect = tp_client_dialect(&channel->client);
    struct tp_shard *shard = channel->shard;

    if (dialect != NULL && channel->keepalive.at_ns == 0)
        tp_timer_set(shard->reactor, &channel->keepalive,
                     tp_reactor_now_ns(shard->reactor) + dialect->keepalive_ns);
}

/* y-websocket: the connection is the subscription, from its first moment on. */
static void join_own_document(struct tp_channel *channel)
{
    const struct tp_dialect *dialect = tp_client_dialect(&channel->client);
    const struct tp_slice name = tp_client_document(&channel->client);

    if (dialect != NULL && name.size > 0 && !moves(channel, name, (struct tp_slice){0}) &&
        tp_channel_subscribe(channel, name) == NULL) /* its token ended on the way */
        tp_channel_close(channel, TP_CLOSE_FORBIDDEN);
}

void tp_channel_arrived(struct tp_shard *shard, struct tp_channel *channel)
{
    channel->shard = shard;
    shard->channel_count++;
    channel->moving = false;
    tp_net_attach(shard->net, channel->connection);
    if (shard->phase > TP_SHARD_CLOSING) {
        tp_channel_close(channel, TP_CLOSE_GOING_AWAY);
        return;
    }
    watch(channel);
    tp_pass_watch(channel);
    join_own_document(channel);
    if (channel->held != NULL) {
        uint8_t *held = channel->held;
        channel->held = NULL;
        tp_channel_said(channel, tp_slice_of(held, channel->held_size));
        free(held);
    }
}

/* ---- messages -----------------------------------------------------------------------------------
 */

/* The transport message at hand, for the sink. */
struct hearing {
    struct tp_channel *channel;
    struct tp_slice bytes;
};

static void refuse(struct tp_channel *channel, const struct tp_message *message, const char *text)
{
    struct tp_message nack = {.kind = TP_MESSAGE_ACK};

    nack.ack.id = message->id;
    nack.ack.error = tp_slice_of(text, strlen(text));
    channel->shard->counters.nacks_sent++;
    tp_deliver_to_channel(channel, &nack);
}

static void count(struct tp_counters *counters, enum tp_message_kind kind)
{
    switch (kind) {
    case TP_MESSAGE_ACK:
        counters->messages_ack++;
        break;
    case TP_MESSAGE_AWARENESS:
    case TP_MESSAGE_AWARENESS_QUERY:
        counters->messages_awareness++;
        break;
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT:
        counters->messages_presence++;
        break;
    case TP_MESSAGE_RPC:
        counters->messages_rpc++;
        break;
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG:
        break;
    default:
        counters->messages_doc++;
    }
}

/* A document that nobody here has open needs memory. There may be some soon. */
static bool may_open(struct tp_channel *channel, const struct tp_message *message)
{
    struct tp_shard *shard = channel->shard;
    struct tp_message nack = {.kind = TP_MESSAGE_ACK, .ack.retry_ms = FULL_RETRY_MS};

    if (tp_document_find(shard, tp_channel_room(channel), message->document) != NULL ||
        !tp_channel_is_unwelcome(channel, owner_of(channel, message->document)))
        return true;
    if (message->dialect != TP_DIALECT_TELEPORTAL) {
        tp_channel_close(channel, TP_CLOSE_OVERLOAD);
        return false;
    }
    nack.ack.id = message->id;
    shard->counters.nacks_sent++;
    tp_deliver_to_channel(channel, &nack);
    return false;
}

static void take(void *context, struct tp_message *message)
{
    struct hearing *hearing = context;
    struct tp_channel *channel = hearing->channel;
    struct tp_shard *shard = channel->shard;
    const bool teleportal = message->dialect == TP_DIALECT_TELEPORTAL;

    if (channel->closing || channel->moving)
        return;
    if (message->kind == TP_MESSAGE_PING) {
        tp_deliver_to_channel(channel, &(struct tp_message){.kind = TP_MESSAGE_PONG});
        return;
    }
    if (message->kind == TP_MESSAGE_ACK || message->kind == TP_MESSAGE_PONG) {
        count(&shard->counters, message->kind);
        return;
    }
    if (channel->stream != NULL && channel->held_since_ns == 0) /* else it is said again */
        tp_stream_expect(channel, message->id);
    if (teleportal && message->raw.size > shard->config->max_message_size) {
        char text[96];
        snprintf(text, sizeof text, "message-too-large: %zu > %llu bytes", message->raw.size,
                 (unsigned long long)shard->config->max_message_size);
        refuse(channel, message, text);
        return;
    }
    if (!tp_client_name_valid(message->document)) {
        refuse(channel, message,
               message->document.size == 0 ? "document-required" : "document-name-invalid");
        return;
    }
    if (!tp_meter_admit(channel, message, TP_RATE_OF_SENDER))
        return;
    if (!channel->moved && shard->count > 1 && tp_channel_rights(channel, message->document) == 0) {
        tp_channel_deny(channel, NULL, message); /* no reason to move */
        return;
    }
    if (moves(channel, message->document, hearing->bytes))
        return;
    if (!may_open(channel, message))
        return;
    count(&shard->counters, message->kind);
    tp_subscription_said(channel, message);
}

void tp_channel_said(struct tp_channel *channel, struct tp_slice bytes)
{
    struct tp_shard *shard = channel->shard;
    struct hearing hearing = {channel, bytes};
    const bool undecided = tp_client_dialect(&channel->client) == NULL;
    enum tp_close_reason reason = TP_CLOSE_POLICY;

    if (undecided) {
        if (tp_client_recognise(&channel->client, bytes) != TP_OK) {
            tp_channel_close(channel, TP_CLOSE_UNSUPPORTED);
            return;
        }
        watch(channel);
        const struct tp_slice name = tp_client_document(&channel->client);
        if (name.size > 0) { /* the path names the document */
            if (!(tp_channel_rights(channel, name) & TP_MAY_READ)) {
                tp_refusal_note(channel, name);
                tp_channel_close(channel, TP_CLOSE_FORBIDDEN);
                return;
            }
            if (moves(channel, name, bytes))
                return;
            tp_channel_subscribe(channel, name);
        }
    }
    if (tp_client_dialect(&channel->client)->id == TP_DIALECT_TELEPORTAL &&
        bytes.size > shard->config->max_message_size + TP_SIZE_SLACK) {
        tp_channel_close(channel, TP_CLOSE_TOO_BIG);
        return;
    }
    const enum tp_status status =
        tp_client_said(&channel->client, bytes, tp_reactor_now_ns(shard->reactor),
                       (struct tp_message_sink){take, &hearing}, &reason);
    if (status != TP_OK)
        tp_channel_close(channel, reason);
}

static void on_message(void *context, struct tp_connection *connection, struct tp_slice bytes,
                       bool text)
{
    struct tp_channel *channel = tp_connection_user(connection);

    (void)context;
    (void)text; /* its UTF-8 bytes count as binary (spec 01 section 4.2) */
    if (channel != NULL && !channel->closing)
        tp_channel_said(channel, bytes);
}

/* ---- the other calls from below -----------------------------------------------------------------
 */

/* The first subprotocol offered: a browser fails a handshake that echoes none (spec 05 section 1).
 */
static struct tp_slice first_protocol(struct tp_slice protocols)
{
    size_t size = 0;

    while (size < protocols.size && protocols.data[size] != ',' && protocols.data[size] != ' ')
        size++;
    return tp_slice_of(protocols.data, size);
}

static void turn_away(struct tp_channel *channel, unsigned status, struct tp_slice head,
                      struct tp_slice body)
{
    struct tp_connection *connection = channel->connection;

    tp_connection_set_user(connection, NULL);
    tp_channel_destroy(channel);
    tp_connection_respond(connection, status, "text/plain", head, body);
}

/* The one document of the connection, if its dialect or its path says so, may not be read. What is
 * refused for good is refused here, before the upgrade: who hears it later comes back at once, ten
 * times a second (spec 05 section 7). */
static bool is_forbidden(const struct tp_channel *channel)
{
    const struct tp_slice name = tp_client_document(&channel->client);
    const struct tp_slice perhaps = channel->client.state.document;

    if (name.size > 0)
        return !(tp_channel_rights(channel, name) & TP_MAY_READ);
    return perhaps.size > 0 && tp_client_dialect(&channel->client) == NULL &&
           tp_refusal_noted(channel, perhaps);
}

/* Its memory is used up: of the core of its document if the path names one, else of this one. */
static bool is_unwelcome(const struct tp_channel *channel)
{
    const struct tp_slice name = tp_client_document(&channel->client);

    return tp_channel_is_unwelcome(channel,
                                   name.size > 0 ? owner_of(channel, name) : channel->shard->index);
}

static void admit(struct tp_gate_ask *ask, enum tp_gate_answer answer, struct tp_grant *grant)
{
    struct tp_handshake *handshake = TP_CONTAINER(ask, struct tp_handshake, ask);
    struct tp_channel *channel = handshake->channel;

    tp_pass_give(channel, grant);
    if (answer == TP_GATE_REFUSED) {
        turn_away(channel, 401, (struct tp_slice){0}, TP_SLICE("Unauthorized"));
        return;
    }
    if (answer == TP_GATE_BUSY || channel->closing || channel->shard->phase > TP_SHARD_DRAINING) {
        turn_away(channel, 503, TP_SLICE("Retry-After: 1\r\n"), TP_SLICE("come back soon\n"));
        return;
    }
    if (is_forbidden(channel)) {
        turn_away(channel, 403, (struct tp_slice){0}, TP_SLICE("Forbidden"));
        return;
    }
    if (is_unwelcome(channel)) {
        turn_away(channel, 503, TP_SLICE(RETRY_LATER), TP_SLICE("the server is full\n"));
        return;
    }
    tp_connection_upgrade(channel->connection,
                          tp_slice_of(handshake->protocol, handshake->protocol_size), UPGRADE_HEAD);
    forget_handshake(channel);
    watch(channel);
    tp_pass_watch(channel);
    join_own_document(channel);
}

static void on_request(void *context, struct tp_connection *connection,
                       const struct tp_http_request *request)
{
    struct tp_shard *shard = context;

    if (tp_connection_door(connection) == TP_DOOR_ADMIN) {
        tp_admin_request(shard, connection, request);
        return;
    }
    if (!request->upgrade) {
        if (!tp_stream_request(shard, connection, request))
            tp_pages_request(shard, connection, request, shard->config->public_metrics);
        return;
    }
    if (shard->phase > TP_SHARD_DRAINING) {
        tp_connection_respond(connection, 503, "text/plain", TP_SLICE("Retry-After: 1\r\n"),
                              TP_SLICE("the server is going away\n"));
        return;
    }
    if (tp_connection_admit(connection, request) != TP_OK) {
        tp_connection_respond(connection, 503, "text/plain", TP_SLICE(RETRY_LATER),
                              TP_SLICE("too many connections from your address\n"));
        return;
    }

    struct tp_channel *channel = tp_channel_create(shard, connection, TP_TRANSPORT_WEBSOCKET);
    const struct tp_client_paths paths = tp_channel_paths(shard);
    tp_connection_set_user(connection, channel);
    if (tp_client_init(&channel->client, &paths, request->path) != TP_OK) {
        turn_away(channel, 400, (struct tp_slice){0},
                  TP_SLICE("the path names no document: 1 to 1024 bytes after decoding, no control "
                           "characters\n"));
        return;
    }
    const struct tp_slice protocol = first_protocol(request->protocols);
    struct tp_handshake *handshake = malloc(sizeof *handshake + protocol.size);
    TP_ASSERT(handshake != NULL);
    *handshake = (struct tp_handshake){
        .ask.answered = admit, .channel = channel, .protocol_size = protocol.size};
    if (protocol.size > 0)
        memcpy(handshake->protocol, protocol.data, protocol.size);
    channel->handshake = handshake;
    tp_gate_ask(shard, request, &handshake->ask);
}

static void on_drained(void *context, struct tp_connection *connection)
{
    struct tp_channel *channel = tp_channel_of(connection);

    (void)context;
    if (channel == NULL)
        return;
    if (channel->stream != NULL)
        tp_stream_continue(channel);
    TP_LIST_EACH_SAFE(link, &channel->subscriptions)
    tp_subscription_ready(TP_CONTAINER(link, struct tp_subscription, in_channel));
}

static void on_closed(void *context, struct tp_connection *connection, uint16_t code)
{
    struct tp_channel *channel = tp_channel_of(connection);
    void *user = tp_connection_user(connection);

    (void)context;
    (void)code;
    tp_connection_set_user(connection, NULL);
    if (channel == NULL) {
        if (user != NULL && *(enum tp_transport *)user == TP_TRANSPORT_VISIT)
            tp_visit_closed(user);
        else if (user != NULL)
            tp_ask_closed(user);
        return;
    }
    channel->closing = true;
    tp_channel_destroy(channel);
}

const struct tp_net_handler tp_channel_handler = {
    .request = on_request,
    .message = on_message,
    .drained = on_drained,
    .detached = on_detached,
    .closed = on_closed,
};
