/* Core NATS (spec 01 section 8.6): one connection, no echo of what it says itself. The broker
 * confirms no subscription; but it answers in order, so a topic is linked when it has answered the
 * ping that followed the subscription. */
#include <stdio.h>
#include <stdlib.h>

#include "bridge/line.h"
#include "bridge/nats_text.h"
#include "bridge/topics.h"

#define MS UINT64_C(1000000)
#define PING_TIME_NS (3000 * MS)
#define SILENCE_TIME_NS (10000 * MS) /* then the connection is taken for dead */
#define PAYLOAD_SIZE_STANDARD ((uint64_t)1 << 20)

struct tp_bridge {
    struct tp_url url;
    struct tp_addresses addresses;
};

struct tp_bridge_port {
    struct tp_bridge *bridge;
    struct tp_reactor *reactor;
    struct tp_bridge_handler handler;
    void *context;
    struct tp_line line;
    struct tp_nats_reader reader;
    bool greeted; /* INFO came and CONNECT went out */
    bool up;
    bool told_lost;
    char refusal[TP_LINE_REASON_SIZE];
    uint64_t payload_size_max; /* as the broker says */
    struct tp_topics topics;
    struct tp_link pending; /* topics that wait for a pong, in order */
    uint64_t last_number;
    uint64_t ping_count, pong_count;
    bool wants_ping; /* something was subscribed to since the last one */
    struct tp_timer pulse;
    struct tp_bridge_counts counts;
    uint64_t sample_ns, sample_count; /* the ping that is timed; 0: none */
};

static void text(struct tp_bridge_port *port, const char *words)
{
    tp_buffer_append(&port->line.out, words, strlen(words));
}

static void ping(struct tp_bridge_port *port)
{
    text(port, "PING\r\n");
    port->ping_count++;
    port->wants_ping = false;
    if (port->sample_ns == 0) {
        port->sample_ns = tp_reactor_now_ns(port->reactor);
        port->sample_count = port->ping_count;
    }
}

/* ---- contact ------------------------------------------------------------------------------------
 */

static void say_subscribe(struct tp_bridge_port *port, struct tp_topic *topic)
{
    uint8_t memory[TP_NATS_SUBJECT_SIZE_MAX];
    struct tp_buffer subject = tp_buffer_fixed(memory, sizeof memory);
    char number[32];

    if (tp_nats_subject_write(tp_topic_text(topic), &subject) != TP_OK) {
        port->counts.refused++; /* a name of many blanks: this document stays on this node */
        return;
    }
    topic->number = ++port->last_number;
    topic->after = port->ping_count + 1;
    tp_link_remove(&topic->pending);
    tp_link_insert(&port->pending, &topic->pending);
    text(port, "SUB ");
    tp_buffer_append(&port->line.out, subject.data, subject.size);
    snprintf(number, sizeof number, " %llu\r\n", (unsigned long long)topic->number);
    text(port, number);
    port->wants_ping = true;
}

static void opened(struct tp_line *line)
{
    struct tp_bridge_port *port = TP_CONTAINER(line, struct tp_bridge_port, line);

    port->greeted = false; /* the broker speaks first */
    port->refusal[0] = '\0';
    port->reader.held.size = 0;
    port->ping_count = port->pong_count = port->sample_ns = 0;
}

static void write_json(struct tp_bridge_port *port, const char *name, const char *value)
{
    char escaped[8];

    text(port, ",\"");
    text(port, name);
    text(port, "\":\"");
    for (; *value != '\0'; value++) {
        const uint8_t c = (uint8_t)*value;
        if (c < ' ' || c == '"' || c == '\\')
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        else
            snprintf(escaped, sizeof escaped, "%c", c);
        text(port, escaped);
    }
    text(port, "\"");
}

static void greet(struct tp_bridge_port *port, struct tp_slice info)
{
    const struct tp_url *url = &port->bridge->url;
    const uint64_t most = tp_nats_info_number(info, "\"max_payload\"");

    port->payload_size_max = most == 0 ? PAYLOAD_SIZE_STANDARD : most;
    if (port->greeted)
        return; /* news about its cluster */
    port->greeted = true;
    text(port, "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"protocol\":1,"
               "\"lang\":\"c\",\"version\":\"" TP_VERSION "\",\"name\":\"teleportald\"");
    if (url->has_password) {
        write_json(port, "user", url->user);
        write_json(port, "pass", url->password);
    } else if (url->user[0] != '\0') {
        write_json(port, "auth_token", url->user);
    }
    text(port, "}\r\n");
    ping(port);
    tp_line_flush(&port->line);
}

static void ready(struct tp_bridge_port *port)
{
    struct tp_topic *topic, *next;

    port->up = true;
    port->told_lost = false;
    port->line.attempt = 0;
    HASH_ITER(hh, port->topics.all, topic, next)
    say_subscribe(port, topic);
    port->handler.contact(port->context, NULL);
}

static void broken(struct tp_line *line)
{
    struct tp_bridge_port *port = TP_CONTAINER(line, struct tp_bridge_port, line);

    port->up = false;
    port->counts.reconnects++;
    if (port->told_lost || line->ending)
        return;
    port->told_lost = true;
    port->handler.contact(port->context, port->refusal[0] != '\0' ? port->refusal : line->reason);
}

static void pulse(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, pulse);
    const uint64_t now_ns = tp_reactor_now_ns(port->reactor);

    if (port->line.state == TP_LINE_OPEN) {
        if (now_ns - port->line.heard_ns > SILENCE_TIME_NS) {
            tp_line_break(&port->line, "no answer");
        } else if (port->up) {
            ping(port);
            tp_line_flush(&port->line);
        }
    }
    tp_timer_set(port->reactor, timer, now_ns + PING_TIME_NS);
}

/* ---- what the broker says -----------------------------------------------------------------------
 */

static void ponged(struct tp_bridge_port *port)
{
    port->pong_count++;
    if (port->sample_ns != 0 && port->pong_count >= port->sample_count) {
        port->counts.lag_ns = tp_reactor_now_ns(port->reactor) - port->sample_ns;
        port->sample_ns = 0;
    }
    if (!port->up) {
        ready(port);
        return;
    }
    while (!tp_link_alone(&port->pending)) {
        struct tp_topic *topic = TP_CONTAINER(port->pending.next, struct tp_topic, pending);
        if (topic->after > port->pong_count)
            break;
        tp_link_remove(&topic->pending);
        port->handler.linked(port->context, tp_topic_text(topic));
    }
}

static void heard(struct tp_bridge_port *port, const struct tp_nats_said *said)
{
    uint8_t memory[TP_BRIDGE_TOPIC_SIZE_MAX];
    struct tp_buffer topic = tp_buffer_fixed(memory, sizeof memory);

    port->counts.heard++;
    port->counts.heard_size += said->payload.size;
    if (tp_nats_subject_read(said->subject, &topic) == TP_OK)
        port->handler.heard(port->context, tp_buffer_slice(&topic), said->payload);
}

static void said(void *context, const struct tp_nats_said *said)
{
    struct tp_bridge_port *port = context;

    if (port->line.state != TP_LINE_OPEN)
        return;
    switch (said->kind) {
    case TP_NATS_INFO:
        greet(port, said->text);
        break;
    case TP_NATS_MESSAGE:
        heard(port, said);
        break;
    case TP_NATS_PING:
        text(port, "PONG\r\n");
        break;
    case TP_NATS_PONG:
        ponged(port);
        break;
    case TP_NATS_OK:
        break;
    case TP_NATS_ERROR:
        port->counts.refused++;
        snprintf(port->refusal, sizeof port->refusal, "%.*s",
                 (int)tp_min(said->text.size, sizeof port->refusal - 1),
                 (const char *)said->text.data);
        break;
    }
}

static bool received(struct tp_line *line, struct tp_slice bytes)
{
    return tp_nats_read(&TP_CONTAINER(line, struct tp_bridge_port, line)->reader, bytes);
}

/* Room again after publications were refused: those topics have something to make up for. */
static void written(struct tp_line *line)
{
    struct tp_bridge_port *port = TP_CONTAINER(line, struct tp_bridge_port, line);
    struct tp_topic *topic, *next;

    if (port->topics.lost_count == 0 || !port->up)
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
    .opened = opened, .received = received, .broken = broken, .written = written};

/* ---- the port -----------------------------------------------------------------------------------
 */

static enum tp_status nats_publish(struct tp_bridge_port *port, struct tp_slice topic,
                                   const struct tp_slice *parts, uint32_t part_count)
{
    struct tp_buffer *to = &port->line.out;
    uint8_t memory[TP_NATS_SUBJECT_SIZE_MAX];
    struct tp_buffer subject = tp_buffer_fixed(memory, sizeof memory);
    char number[32];
    size_t size = 0;

    for (uint32_t i = 0; i < part_count; i++)
        size += parts[i].size;
    if (!port->up) {
        port->counts.lost++;
        return TP_IO;
    }
    if (tp_nats_subject_write(topic, &subject) != TP_OK || size > port->payload_size_max) {
        port->counts.lost++; /* said anyway, it would cost us the connection */
        return TP_DENIED;
    }
    const size_t waiting = tp_line_waiting_size(&port->line);
    if (waiting > 0 && waiting + size > TP_LINE_QUEUE_SIZE_MAX) {
        port->counts.lost++;
        tp_topics_note_lost(&port->topics, topic);
        return TP_FULL;
    }
    text(port, "PUB ");
    tp_buffer_append(to, subject.data, subject.size);
    snprintf(number, sizeof number, " %zu\r\n", size);
    text(port, number);
    for (uint32_t i = 0; i < part_count; i++)
        tp_buffer_append(to, parts[i].data, parts[i].size);
    text(port, "\r\n");
    port->counts.published++;
    port->counts.published_size += size;
    return TP_OK;
}

static void nats_subscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    bool first;
    struct tp_topic *added = tp_topics_add(&port->topics, topic, &first);

    if (first && port->up)
        say_subscribe(port, added);
}

static void nats_unsubscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    struct tp_topic *known = tp_topics_find(&port->topics, topic);
    char line[48];

    TP_ASSERT(known != NULL);
    snprintf(line, sizeof line, "UNSUB %llu\r\n", (unsigned long long)known->number);
    const bool said = known->number != 0;
    if (tp_topics_drop(&port->topics, known) && port->up && said)
        text(port, line);
}

static void nats_flush(struct tp_bridge_port *port)
{
    if (port->up && port->wants_ping)
        ping(port);
    tp_line_flush(&port->line);
}

static bool nats_quiet(const struct tp_bridge_port *port)
{
    return tp_line_quiet(&port->line);
}

static void nats_counts(const struct tp_bridge_port *port, struct tp_bridge_counts *out)
{
    *out = port->counts;
    out->connected = port->up;
    out->topics = port->topics.count;
}

static struct tp_bridge_port *nats_attach(struct tp_bridge *bridge, struct tp_reactor *reactor,
                                          const struct tp_bridge_handler *handler, void *context)
{
    struct tp_bridge_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    port->bridge = bridge;
    port->reactor = reactor;
    port->handler = *handler;
    port->context = context;
    tp_link_init(&port->pending);
    tp_nats_reader_init(&port->reader, said, port);
    tp_timer_init(&port->pulse, pulse);
    tp_timer_set(reactor, &port->pulse, tp_reactor_now_ns(reactor) + PING_TIME_NS);
    tp_line_init(&port->line, &line_handler, reactor, &bridge->addresses);
    tp_line_open(&port->line);
    return port;
}

static void nats_detach(struct tp_bridge_port *port)
{
    tp_timer_stop(port->reactor, &port->pulse);
    tp_line_finish(&port->line);
    tp_nats_reader_finish(&port->reader);
    tp_topics_finish(&port->topics);
    free(port);
}

static struct tp_bridge *nats_open(const char *location, char *error, size_t error_size)
{
    struct tp_bridge *bridge = calloc(1, sizeof *bridge);

    TP_ASSERT(bridge != NULL);
    if (tp_url_parse(location, 4222, &bridge->url, error, error_size) != TP_OK ||
        tp_url_resolve(&bridge->url, &bridge->addresses, error, error_size) != TP_OK) {
        free(bridge);
        return NULL;
    }
    return bridge;
}

static void nats_close(struct tp_bridge *bridge)
{
    free(bridge);
}

const struct tp_bridge_kind tp_bridge_nats = {
    .name = "nats",
    .open = nats_open,
    .attach = nats_attach,
    .publish = nats_publish,
    .subscribe = nats_subscribe,
    .unsubscribe = nats_unsubscribe,
    .flush = nats_flush,
    .quiet = nats_quiet,
    .counts = nats_counts,
    .detach = nats_detach,
    .close = nats_close,
};
