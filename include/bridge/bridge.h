/* bridge/bridge.h - envelopes from node to node, through a broker or without one.
 *
 *     session ── PUBLISH ──► port ── one write a tick ──► broker ──► port of another node ── HEARD
 *
 * A bridge carries bytes on topics and reports when contact was lost. It need not be reliable or
 * ordered: what comes twice, too late or never is the business of the sessions, which number what
 * they say and compare what they have (spec 01 section 8).
 *
 * Every core has a port of its own, with its own connections, and subscribes to its own documents:
 * nothing crosses between cores, and a broker sees as many connections as there are cores. Nobody
 * waits for a broker: what cannot be said now is lost and counted, and `linked` comes when it can
 * be made up for. */
#pragma once

#include "base/base.h"
#include "base/pool.h"

struct tp_reactor;
struct tp_bridge;      /* the process's part */
struct tp_bridge_port; /* one core's part */

#define TP_BRIDGE_TOPIC_SIZE_MAX                                    \
    2176u /* room and document, 1024 bytes each, and what we prefix \
           */
#define TP_BRIDGE_LOCATION_SIZE_MAX 1024u
#define TP_BRIDGE_PART_COUNT_MAX 4u /* of one payload */

/* All are called inside tp_reactor_poll, on the port's thread, never inside a call to the port. */
struct tp_bridge_handler {
    /* Somebody, perhaps ourselves, has published `payload`. Both are borrowed. */
    void (*heard)(void *context, struct tp_slice topic, struct tp_slice payload);
    /* What is published on this topic is heard from now on, and what we publish goes out. Something
     * may have been missed before, in either direction. Comes after a subscription, and again
     * whenever contact was lost and found. Must not subscribe or unsubscribe. */
    void (*linked)(void *context, struct tp_slice topic);
    /* Contact with the broker is lost (`why` says so in words) or found (NULL). Lost is told once,
     * however often trying again fails. */
    void (*contact)(void *context, const char *why);
};

/* Since the start; for metrics. */
struct tp_bridge_counts {
    uint64_t published, published_size; /* envelopes and their bytes that went to the broker */
    uint64_t lost;                      /* publications that could not go out */
    uint64_t refused;                   /* publications that the broker answered with an error */
    uint64_t heard, heard_size;
    uint64_t reconnects; /* attempts to find contact again */
    uint64_t connected;  /* 1: there is contact now */
    uint64_t topics;     /* subscribed now */
    uint64_t lag_ns;     /* from a write to the broker's answer, as measured last */
};

struct tp_bridge_kind {
    const char *name; /* `bridge = redis://...` */
    /* Once, before the cores; looks names up, connects to nothing. NULL: `error` (of `error_size`
     * bytes) says why in a sentence. Never names a password. */
    struct tp_bridge *(*open)(const char *location, char *error, size_t error_size);
    /* From the core's own thread. Starts connecting at once. */
    struct tp_bridge_port *(*attach)(struct tp_bridge *bridge, struct tp_reactor *reactor,
                                     const struct tp_bridge_handler *handler, void *context);
    /* The payload is `parts` end to end, copied. TP_IO: there is no contact; TP_FULL: too much
     * waits to be sent. It is lost then, and `linked` comes when there is room or contact again. */
    enum tp_status (*publish)(struct tp_bridge_port *port, struct tp_slice topic,
                              const struct tp_slice *parts, uint32_t part_count);
    /* Counted: a topic is left when it was left as often as subscribed to. */
    void (*subscribe)(struct tp_bridge_port *port, struct tp_slice topic);
    void (*unsubscribe)(struct tp_bridge_port *port, struct tp_slice topic);
    void (*flush)(struct tp_bridge_port *port); /* at the end of a tick: writes what was said */
    /* Nothing that was published waits to be sent, or there is nobody to send it to. */
    bool (*quiet)(const struct tp_bridge_port *port);
    void (*counts)(const struct tp_bridge_port *port, struct tp_bridge_counts *out);
    void (*detach)(struct tp_bridge_port *port); /* polls the reactor until all requests are over */
    void (*close)(struct tp_bridge *bridge);     /* after every port */
};

/* All of them, ended by NULL. */
extern const struct tp_bridge_kind *const tp_bridge_kinds[];

/* By the scheme of a location (`redis` of redis://host). NULL if there is none. */
const struct tp_bridge_kind *tp_bridge_find(const char *location);
