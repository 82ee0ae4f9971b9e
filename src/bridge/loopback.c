/* Nodes of one process, for tests and the simulator: what one port publishes, every port hears at
 * its next poll, the publisher too, as with a broker. All ports live on one thread. */
#include <stdlib.h>

#include "base/buffer.h"
#include "base/list.h"
#include "bridge/bridge.h"
#include "bridge/topics.h"
#include "reactor/reactor.h"

struct tp_bridge {
    struct tp_link ports;
};

/* Something that a port is told at its next poll. */
struct parcel {
    struct tp_link link;
    bool is_link; /* `linked`, and no payload */
    size_t topic_size, size;
    uint8_t bytes[]; /* topic, payload */
};

struct tp_bridge_port {
    struct tp_link link;
    struct tp_bridge *bridge;
    struct tp_reactor *reactor;
    struct tp_bridge_handler handler;
    void *context;
    struct tp_topics topics;
    struct tp_link parcels;
    struct tp_timer due;
    bool told_contact;
    struct tp_bridge_counts counts;
};

static void post(struct tp_bridge_port *port, bool is_link, struct tp_slice topic,
                 const struct tp_slice *parts, uint32_t part_count)
{
    size_t size = topic.size;

    for (uint32_t i = 0; i < part_count; i++)
        size += parts[i].size;
    struct parcel *parcel = malloc(sizeof *parcel + size);
    TP_ASSERT(parcel != NULL);
    *parcel = (struct parcel){.is_link = is_link, .topic_size = topic.size, .size = size};
    struct tp_buffer out = tp_buffer_fixed(parcel->bytes, size);
    tp_buffer_append(&out, topic.data, topic.size);
    for (uint32_t i = 0; i < part_count; i++)
        tp_buffer_append(&out, parts[i].data, parts[i].size);
    tp_link_init(&parcel->link);
    tp_link_insert(&port->parcels, &parcel->link);
    tp_timer_set(port->reactor, &port->due, tp_reactor_now_ns(port->reactor));
}

static void deliver(struct tp_timer *timer)
{
    struct tp_bridge_port *port = TP_CONTAINER(timer, struct tp_bridge_port, due);
    struct tp_link now;

    if (!port->told_contact) {
        port->told_contact = true;
        port->handler.contact(port->context, NULL);
    }
    tp_link_init(&now);
    tp_list_splice(&now, &port->parcels);
    TP_LIST_EACH_SAFE(link, &now)
    {
        struct parcel *parcel = TP_CONTAINER(link, struct parcel, link);
        const struct tp_slice topic = tp_slice_of(parcel->bytes, parcel->topic_size);
        const struct tp_slice payload =
            tp_slice_of(parcel->bytes + topic.size, parcel->size - topic.size);
        if (tp_topics_find(&port->topics, topic) != NULL) {
            if (parcel->is_link) {
                port->handler.linked(port->context, topic);
            } else {
                port->counts.heard++;
                port->counts.heard_size += payload.size;
                port->handler.heard(port->context, topic, payload);
            }
        }
        free(parcel);
    }
}

static enum tp_status loopback_publish(struct tp_bridge_port *port, struct tp_slice topic,
                                       const struct tp_slice *parts, uint32_t part_count)
{
    TP_LIST_EACH(link, &port->bridge->ports)
    {
        struct tp_bridge_port *other = TP_CONTAINER(link, struct tp_bridge_port, link);
        if (tp_topics_find(&other->topics, topic) != NULL)
            post(other, false, topic, parts, part_count);
    }
    port->counts.published++;
    for (uint32_t i = 0; i < part_count; i++)
        port->counts.published_size += parts[i].size;
    return TP_OK;
}

static void loopback_subscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    bool first;

    tp_topics_add(&port->topics, topic, &first);
    if (first)
        post(port, true, topic, NULL, 0);
}

static void loopback_unsubscribe(struct tp_bridge_port *port, struct tp_slice topic)
{
    struct tp_topic *known = tp_topics_find(&port->topics, topic);

    TP_ASSERT(known != NULL);
    (void)tp_topics_drop(&port->topics, known);
}

static void loopback_flush(struct tp_bridge_port *port)
{
    (void)port; /* nothing waits */
}

static bool loopback_quiet(const struct tp_bridge_port *port)
{
    (void)port;
    return true;
}

static void loopback_counts(const struct tp_bridge_port *port, struct tp_bridge_counts *out)
{
    *out = port->counts;
    out->connected = 1;
    out->topics = port->topics.count;
}

static struct tp_bridge_port *loopback_attach(struct tp_bridge *bridge, struct tp_reactor *reactor,
                                              const struct tp_bridge_handler *handler,
                                              void *context)
{
    struct tp_bridge_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    port->bridge = bridge;
    port->reactor = reactor;
    port->handler = *handler;
    port->context = context;
    tp_link_init(&port->link);
    tp_link_insert(&bridge->ports, &port->link);
    tp_link_init(&port->parcels);
    tp_timer_init(&port->due, deliver);
    tp_timer_set(reactor, &port->due, tp_reactor_now_ns(reactor));
    return port;
}

static void loopback_detach(struct tp_bridge_port *port)
{
    tp_link_remove(&port->link);
    tp_timer_stop(port->reactor, &port->due);
    TP_LIST_EACH_SAFE(link, &port->parcels)
    free(TP_CONTAINER(link, struct parcel, link));
    tp_topics_finish(&port->topics);
    free(port);
}

static struct tp_bridge *loopback_open(const char *location, char *error, size_t error_size)
{
    struct tp_bridge *bridge = calloc(1, sizeof *bridge);

    (void)location, (void)error, (void)error_size;
    TP_ASSERT(bridge != NULL);
    tp_link_init(&bridge->ports);
    return bridge;
}

static void loopback_close(struct tp_bridge *bridge)
{
    TP_ASSERT(tp_link_alone(&bridge->ports));
    free(bridge);
}

const struct tp_bridge_kind tp_bridge_loopback = {
    .name = "loopback",
    .open = loopback_open,
    .attach = loopback_attach,
    .publish = loopback_publish,
    .subscribe = loopback_subscribe,
    .unsubscribe = loopback_unsubscribe,
    .flush = loopback_flush,
    .quiet = loopback_quiet,
    .counts = loopback_counts,
    .detach = loopback_detach,
    .close = loopback_close,
};
