/* bridge/multicast.h - the parts of the multicast bridge, for its own files. */
#pragma once

#include <netinet/in.h>
#include <sys/uio.h>

#include "base/list.h"
#include "bridge/bridge.h"
#include "bridge/topics.h"
#include "bridge/window.h"
#include "reactor/reactor.h"

/* Datagrams that can be said again: a power of two. At most half of them wait to be said, so the
 * longest message has half as many fragments. */
#define TP_SENT_COUNT 32768u
static_assert(TP_SENT_COUNT / 2 <= TP_DATAGRAM_FRAGMENT_COUNT_MAX, "a message is not longer");
static_assert(TP_SENT_COUNT <= TP_WINDOW_SIZE, "what can be said again is kept in mind");
#define TP_SLOT_COUNT 64u         /* with the kernel at a time */
#define TP_AGAIN_COUNT 4096u      /* repeats that wait; more are asked for again */
#define TP_SENDER_COUNT_MAX 4096u /* cores of other nodes; more are not heard */
#define TP_PARTIAL_SIZE_MAX                                              \
    ((size_t)256 << 20) /* of messages that are half here; more are lost \
                         */
#define TP_MULTICAST_SECRET_SIZE_MIN 16u
#define TP_MULTICAST_SECRET_SIZE_MAX 1024u

struct tp_bridge {
    struct sockaddr_in group;
    struct in_addr interface; /* 0: the kernel chooses */
    uint32_t interface_index; /* 0: by address */
    uint8_t ttl;
    uint32_t datagram_size;
    struct tp_slice secret; /* empty: nothing is sealed */
    uint8_t secret_bytes[TP_MULTICAST_SECRET_SIZE_MAX];
};

struct tp_sent {
    uint32_t size, index, count;
};

/* A datagram with the kernel. */
struct tp_slot {
    struct tp_io io;
    struct tp_bridge_port *port;
    struct sockaddr_in to;
    struct iovec vector;
    struct msghdr message;
    uint8_t bytes[TP_DATAGRAM_SIZE_MAX];
};

struct tp_again {
    uint64_t sequence;
    struct sockaddr_in to;
};

/* A message that comes in fragments. */
struct tp_partial {
    struct tp_link link;
    uint64_t first, heard_ns;
    uint32_t count, here_count;
    uint32_t fragment_size;
    size_t room, size;
    uint8_t bytes[];
};

/* One core of another node. */
struct tp_sender {
    UT_hash_handle hh;
    uint8_t id[TP_DATAGRAM_SENDER_SIZE];
    uint8_t key[TP_SEAL_KEY_SIZE];
    struct sockaddr_in answer;
    uint64_t heard_ns;
    struct tp_window window; /* of sequences */
    struct tp_window stamps;
    struct tp_link partials;
    uint64_t want_base; /* window.base when it was asked last */
    uint32_t want_count;
};

struct tp_bridge_port {
    struct tp_bridge *bridge;
    struct tp_reactor *reactor;
    struct tp_bridge_handler handler;
    void *context;
    bool up, told_up, ending;

    uint8_t self[TP_DATAGRAM_SENDER_SIZE];
    uint8_t own_key[TP_SEAL_KEY_SIZE];
    const uint8_t *key; /* own_key, or NULL: nothing is sealed */
    int listener, speaker;
    struct sockaddr_in group, answer;
    struct tp_io group_receive, own_receive;

    size_t body_size_max;
    uint8_t *bodies; /* TP_SENT_COUNT, of body_size_max each */
    struct tp_sent sent[TP_SENT_COUNT];
    uint64_t next, to_send; /* the next sequence; the first that was not said yet */
    size_t open_size;       /* of the body of `next`, which still takes messages */
    uint64_t stamp;
    struct tp_slot slots[TP_SLOT_COUNT];
    struct tp_again again[TP_AGAIN_COUNT];
    uint32_t again_head, again_end;

    struct tp_topics topics;
    struct tp_sender *senders; /* uthash, by id */
    size_t partial_size;
    struct tp_timer beat_timer, repair_timer, link_timer, sweep_timer;
    uint64_t beat_ns, linked_ns;
    struct tp_bridge_counts counts;
    struct {
        uint64_t repeated, wanted, twice;
    } counts_more;
};

/* multicast.c; these two are where bytes of others come in */
enum tp_status tp_multicast_publish(struct tp_bridge_port *port, struct tp_slice topic,
                                    const struct tp_slice *parts, uint32_t part_count);
void tp_multicast_heard(struct tp_bridge_port *port, struct tp_slice bytes);

/* multicast_open.c: multicast://GROUP:PORT?if=NAME|ADDRESS&ttl=N&mtu=BYTES&key_file=PATH */
struct tp_bridge *tp_multicast_open(const char *location, char *error, size_t error_size);
void tp_multicast_close(struct tp_bridge *bridge);
/* Two sockets: one that hears the group, and one that speaks to it and has the address `answer` for
 * itself. One that cannot be had is -1, and errno says why. */
void tp_multicast_open_sockets(const struct tp_bridge *bridge, int *listener, int *speaker,
                               struct sockaddr_in *answer);
