/* Redis's pub/sub (spec 01 section 8.5). A port has two connections, since one that has subscribed
 * may say nothing else:
 *
 *     speaker   PUBLISH, PUBLISH, ... pipelined; one write a tick; a number comes back for each
 *     listener  SUBSCRIBE, UNSUBSCRIBE; messages come
 *
 * They live and die together: when one breaks the other is given up, both are made again, and every
 * topic is subscribed to anew. A topic is linked when the broker confirms it. */
#include <stdlib.h>

#include "bridge/line.h"
#include "bridge/resp.h"
#include "bridge/topics.h"

#define MS UINT64_C(1000000)
#define PING_TIME_NS (3000 * MS)
#define SILENCE_TIME_NS (10000 * MS) /* then the connection is taken for dead */
#define SUBSCRIBE_COUNT_MAX 256u     /* topics in one command */

struct tp_bridge {
    struct tp_url url;
    struct tp_addresses addresses;
};

/* One connection, and how far its hello has come. */
struct half {
    struct tp_line line;
    struct tp_resp resp;
    struct tp_bridge_port *port;
    uint32_t hello_left; /* answers that the hello still waits for */
    bool ready;
    char refusal[TP_LINE_REASON_SIZE]; /* the broker said no to our hello */
};

struct tp_bridge_port {
    struct tp_bridge *bridge;
    struct tp_reactor *reactor;
    struct tp_bridge_handler handler;
    void *context;
    struct half speaker, listener;
    bool up;
    bool told_lost; /* the last thing said about contact */
    struct tp_topics topics;
    struct tp_timer pulse;
    struct tp_bridge_counts counts;
    uint64_t said_count, answered_count; /* commands of this connection, and answers */
    uint64_t sample_ns, sample_count;    /* when that many were said; 0: no measuring now */
};

static struct tp_buffer *out(struct half *half)
{
    return &half->line.out;
}

/* ---- contact ------------------------------------------------------------------------------------
 */

static void subscribe_all(struct tp_bridge_port *port)
{
    struct tp_buffer *to = out(&port->listener);
    struct tp_topic *topic, *next;
    uint32_t left = port->topics.count, in_command = 0;

    HASH_ITER(hh, port->topics.all, topic, next)
    {
        if (in_command == 0) {
            in_command = left < SUBSCRIBE_COUNT_MAX ? left : SUBSCRIBE_COUNT_MAX;
            tp_resp_write_command(to, 1 + in_command);
            tp_resp_write_word(to, TP_SLICE("subscribe"));
            left -= in_command;
        }
        tp_resp_write_word(to, tp_topic_text(topic));
        in_command--;
    }
}

static void ready(struct half *half)
{
    struct tp_bridge_port *port = half->port;

    half->ready = true;
    half->line.attempt = 0;
    if (!port->speaker.ready || !port->listener.ready)
        return;
    port->up = true;
    port->told_lost = false;
    subscribe_all(port);
    port->handler.contact(port->context, NULL);
}

static void hello(struct tp_line *line)
{
    struct half *half = TP_CONTAINER(line, struct half, line);
    const struct tp_url *url = &half->port->bridge->url;

    half->hello_left = 1;
    half->refusal[0] = '\0';
    tp_resp_reset(&half->resp);
    if (url->has_password) {
        const bool has_user = url->user[0] != '\0';
        tp_resp_write_command(out(half), has_user ? 3 : 2);
        tp_resp_write_word(out(half), TP_SLICE("AUTH"));
        if (has_user)
            tp_resp_write_word(out(half), tp_slice_of(url->user, strlen(url->user)));
        tp_resp_write_word(out(half), tp_slice_of(url->password, strlen(url->password)));
        half->hello_left++;
    }
    tp_resp_write_command(out(half), 1);
    tp_resp_write_word(out(half), TP_SLICE("PING"));
    tp_line_flush(line);
}

static void broken(struct tp_line *line)
{
    struct half *half = TP_CONTAINER(line, struct half, line);
    struct tp_bridge_port *port = half->port;
    struct half *other = half == &port->speaker ? &port->listener : &port->speaker;

    half->ready = false;
    port->up = false;
    port->said_count = port->answered_count = port->sample_ns = 0;
    port->counts.reconnects++;
    if (!port->told_lost && !line->ending) {
        port->told_lost = true;
        port->handler.contact(port->context,
                              half->refusal[0] != '\0' ? half->refusal : line->reason);
    }
    if (other->ready)
        tp_line_break(&other->line, "the other connection broke");
}

static void pulse(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, pulse);
    const uint64_t now_ns = tp_reactor_now_ns(port->reactor);
    struct half *halves[] = {&port->speaker, &port->listener};

    for (unsigned i = 0; i < 2; i++) {
        struct half *half = halves[i];
        if (half->line.state != TP_LINE_OPEN)
            continue;
        if (now_ns - half->line.heard_ns > SILENCE_TIME_NS) {
            tp_line_break(&half->line, "no answer");
            continue;
        }
        tp_resp_write_command(out(half), 1);
        tp_resp_write_word(out(half), TP_SLICE("PING"));
        if (half == &port->speaker && half->ready) {
            port->said_count++;
            if (port->sample_ns == 0) {
                port->sample_ns = now_ns;
                port->sample_count = port->said_count;
            }
        }
        tp_line_flush(&half->line);
    }
    tp_timer_set(port->reactor, timer, now_ns + PING_TIME_NS);
}

/* ---- what the broker says -----------------------------------------------------------------------
 */

static bool is_word(struct tp_slice word, const char *text)
{
    return word.size == strlen(text) && memcmp(word.data, text, word.size) == 0;
}

static void pushed(struct tp_bridge_port *port, const struct tp_resp_reply *reply)
{
    if (is_word(reply->word, "message") && reply->topic.size > 0) {
        port->counts.heard++;
        port->counts.heard_size += reply->payload.size;
        port->handler.heard(port->context, reply->topic, reply->payload);
    } else if (is_word(reply->word, "subscribe") && reply->topic.size > 0) {
        struct tp_topic *topic = tp_topics_find(&port->topics, reply->topic);
        if (topic != NULL && port->up)
            port->handler.linked(port->context, reply->topic);
    }
}

static void replied(void *context, const struct tp_resp_reply *reply)
{
    struct half *half = context;
    struct tp_bridge_port *port = half->port;

    if (half->line.state != TP_LINE_OPEN)
        return; /* given up while its last bytes are read */
    if (reply->kind == TP_RESP_PUSH && half->ready) {
        pushed(port, reply);
        return;
    }
    if (half->hello_left > 0) {
        if (reply->kind == TP_RESP_ERROR && half->refusal[0] == '\0') {
            const size_t size = tp_min(reply->payload.size, sizeof half->refusal - 1);
            memcpy(half->refusal, reply->payload.data, size);
            half->refusal[size] = '\0';
        }
        if (--half->hello_left == 0 && half->refusal[0] == '\0')
            ready(half);
        return;
    }
    if (half == &port->listener) {
        port->counts.refused += reply->kind == TP_RESP_ERROR; /* a topic that we may not read */
        return;
    }
    port->answered_count++;
    port->counts.refused += reply->kind == TP_RESP_ERROR;
    if (port->sample_ns != 0 && port->answered_count >= port->sample_count) {
        port->counts.lag_ns = tp_reactor_now_ns(port->reactor) - port->sample_ns;
        port->sample_ns = 0;
    }
}

static bool received(struct tp_line *line, struct tp_slice bytes)
{
    struct half *half = TP_CONTAINER(line, struct half, line);

    if (!tp_resp_feed(&half->resp, bytes))
        return false;
    /* Not sooner: the answer is the reader's until it returns. */
    if (half->refusal[0] != '\0' && half->hello_left == 0)
        tp_line_break(line, half->refusal);
    return true;
}

/* Room again after publications were refused: those topics have something to make up for. */
static void written(struct tp_line *line)
{
    struct tp_bridge_port *port = TP_CONTAINER(line, struct half, line)->port;
    struct tp_topic *topic, *next;

    if (line != &port->speaker.line || port->topics.lost_count == 0 || !port->up)
        return;
    HASH_ITER(hh, port->topics.all, topic, next)
    {
        if (!topic->lost)
            continue;
        topic->lost = false;
        port->topics.lost_count--;
        port->handler.linked(port->context, tp_topic_text(topic));
    }
}

static const struct tp_line_handler line_handler = {
    .opened = hello, .received = received, .broken = broken, .written = written};

/* ---- the port -----------------------------------------------------------------------------------
 */

static enum tp_status redis_publish(struct tp_bridge_port *port, struct tp_slice topic,
                                    const struct tp_slice *parts, uint32_t part_count)
{
    struct tp_buffer *to = out(&port->speaker);
    size_t size = 0;

    TP_ASSERT(topic.size <= TP_BRIDGE_TOPIC_SIZE_MAX && part_count <= TP_BRIDGE_PART_COUNT_MAX);
    for (uint32_t i = 0; i < part_count; i++)
        size += parts[i].size;
    if (!port->up) {
        port->counts.lost++;
        return TP_IO; /* every topic is linked anew when contact is back */
    }
    const size_t waiting = tp_line_waiting_size(&port->speaker.line);
    if (waiting > 0 && waiting + size > TP_LINE_QUEUE_SIZE_MAX) {
        port->counts.lost++;
        tp_topics_note_lost(&port->topics, topic);
        return TP_FULL;
    }
    tp_resp_write_command(to, 3);
    tp_resp_write_word(to, TP_SLICE("publish"));
    tp_resp_write_word(to, topic);
    tp_resp_write_size(to, size);
    for (uint32_t i = 0; i < part_count; i++)
        tp_buffer_append(to, parts[i].data, parts[i].size);
    tp_resp_write_end(to);
    port->said_count++;
    if (port->sample_ns == 0) {
        port->sample_ns = tp_reactor_now_ns(port->reactor);
        port->sample_count = port->said_count;
    }
    port->counts.published++;
    port->counts.published_size += size;
    return TP_OK;
}

static void say_topic(struct tp_bridge_port *port, struct tp_slice verb, struct tp_slice topic)
{
    struct tp_buffer *to = out(&port->listener);

    if (!port->up)
        return;
    tp_resp_write_command(to, 2);
    tp_resp_write_word(to, verb);
    tp_resp_write_word(to, topic);
}

static void redis_subscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    bool first;

    TP_ASSERT(topic.size <= TP_BRIDGE_TOPIC_SIZE_MAX);
    tp_topics_add(&port->topics, topic, &first);
    if (first)
        say_topic(port, TP_SLICE("subscribe"), topic);
}

static void redis_unsubscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    struct tp_topic *known = tp_topics_find(&port->topics, topic);

    TP_ASSERT(known != NULL);
    if (tp_topics_drop(&port->topics, known))
        say_topic(port, TP_SLICE("unsubscribe"), topic);
}

static void redis_flush(struct tp_bridge_port *port)
{
    tp_line_flush(&port->speaker.line);
    tp_line_flush(&port->listener.line);
}

static bool redis_quiet(const struct tp_bridge_port *port)
{
    return tp_line_quiet(&port->speaker.line);
}

static void redis_counts(const struct tp_bridge_port *port, struct tp_bridge_counts *out)
{
    *out = port->counts;
    out->connected = port->up;
    out->topics = port->topics.count;
}

static void half_init(struct half *half, struct tp_bridge_port *port)
{
    half->port = port;
    tp_line_init(&half->line, &line_handler, port->reactor, &port->bridge->addresses);
    tp_resp_init(&half->resp, replied, half);
    tp_line_open(&half->line);
}

static struct tp_bridge_port *redis_attach(struct tp_bridge *bridge, struct tp_reactor *reactor,
                                           const struct tp_bridge_handler *handler, void *context)
{
    struct tp_bridge_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    port->bridge = bridge;
    port->reactor = reactor;
    port->handler = *handler;
    port->context = context;
    tp_timer_init(&port->pulse, pulse);
    tp_timer_set(reactor, &port->pulse, tp_reactor_now_ns(reactor) + PING_TIME_NS);
    half_init(&port->speaker, port);
    half_init(&port->listener, port);
    return port;
}

static void redis_detach(struct tp_bridge_port *port)
{
    tp_timer_stop(port->reactor, &port->pulse);
    port->speaker.line.ending = port->listener.line.ending = true;
    tp_line_finish(&port->speaker.line);
    tp_line_finish(&port->listener.line);
    tp_resp_finish(&port->speaker.resp);
    tp_resp_finish(&port->listener.resp);
    tp_topics_finish(&port->topics);
    free(port);
}

static struct tp_bridge *redis_open(const char *location, char *error, size_t error_size)
{
    struct tp_bridge *bridge = calloc(1, sizeof *bridge);

    TP_ASSERT(bridge != NULL);
    if (tp_url_parse(location, 6379, &bridge->url, error, error_size) != TP_OK ||
        tp_url_resolve(&bridge->url, &bridge->addresses, error, error_size) != TP_OK) {
        free(bridge);
        return NULL;
    }
    return bridge;
}

static void redis_close(struct tp_bridge *bridge)
{
    free(bridge);
}

const struct tp_bridge_kind tp_bridge_redis = {
    .name = "redis",
    .open = redis_open,
    .attach = redis_attach,
    .publish = redis_publish,
    .subscribe = redis_subscribe,
    .unsubscribe = redis_unsubscribe,
    .flush = redis_flush,
    .quiet = redis_quiet,
    .counts = redis_counts,
    .detach = redis_detach,
    .close = redis_close,
};
