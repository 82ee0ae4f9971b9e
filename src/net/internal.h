/* net/internal.h - what the files of this folder share.
 *
 * A connection's life:
 *
 *     HTTP --upgrade--> WEBSOCKET --our close--> CLOSING --their close--.
 *       |------stream--> STREAM                                         v
 *       '--last answer, error, their close---------------------> LEAVING --all sent-->
 *     LINGERING --their end, or time--> ENDING --kernel has let go--> freed
 *
 * `closed` is reported on the way into LEAVING or ENDING. LINGERING is ours: a socket that is
 * closed with unread input makes the kernel reset the connection, and the last bytes we sent are
 * lost.
 *
 * Who frees: only tp_connection_settle, and only the outermost functions call it (completions,
 * timers, the work list), as their last step. So everything else may hold on to a connection. */
#pragma once

#include <netinet/in.h>

#include "net/net.h"
#include "net/tls.h"
#include "origin.h"
#include "outbox.h"
#include "reactor/reactor.h"

#define LINGER_TIME_NS UINT64_C(2000000000)
#define ACCEPT_RETRY_NS UINT64_C(100000000)
#define IOV_COUNT_MAX 64u            /* per send */
#define IOV_ROOM 4096u               /* vectors for all sends between two submissions */
#define JOIN_STEP ((size_t)64 << 10) /* what a header claims is believed up to here */

enum tp_connection_state {
    STATE_HTTP,
    STATE_STREAM,
    STATE_WEBSOCKET,
    STATE_CLOSING,
    STATE_LEAVING,
    STATE_LINGERING,
    STATE_ENDING,
};

/* Why nothing is read from a connection just now. */
enum {
    BLOCK_USER = 1,   /* tp_connection_pause */
    BLOCK_ANSWER = 2, /* a request waits for its answer */
    BLOCK_OUTPUT = 4, /* it does not read what it asked for */
    BLOCK_DETACH = 8,
};

/* Heap memory, since it travels with its connection from thread to thread. */
struct tp_bytes {
    size_t size;
    size_t capacity;
    uint8_t data[];
};

/* What a connection over TLS has besides; travels with it. */
struct tp_secure {
    struct tp_tls *tls;
    struct tp_outbox sealed; /* records on their way out */
    bool ended;              /* close_notify was said, or nothing more can be */
};

struct tp_connection {
    struct tp_net *net; /* NULL: detached */
    struct tp_link link;
    struct tp_link flush; /* in net->to_flush: has something to send or to report as drained */
    struct tp_link work;  /* in net->to_work: wants to be looked at in the next poll */
    struct tp_io receive;
    struct tp_io send; /* one send, or the shutdown */
    struct tp_timer timer;
    struct tp_outbox outbox;
    struct tp_secure *secure;    /* NULL: plain */
    size_t counted_size;         /* of the outbox, in net->unsent_size */
    struct tp_http_parser *http; /* while a request is being read or waits for its answer */
    struct tp_bytes *message;    /* the parts of a message so far */
    struct tp_bytes *kept;       /* received while blocked, as it came */
    void *user;
    uint64_t received_ns; /* when something came last; the request's start in HTTP */
    uint64_t request_ns;  /* when the request began */
    uint64_t queued_ns;   /* when a message was queued last */
    uint64_t progress_ns; /* when the kernel took something last */
    int fd;
    uint16_t close_code;
    uint8_t state;
    uint8_t blocks;
    uint8_t door;
    bool heard : 1;      /* the handler knows it */
    bool reported : 1;   /* `closed` was called */
    bool refused : 1;    /* over the limit: 503 */
    bool feeding : 1;    /* bytes are being read in a function further out */
    bool cancelling : 1; /* the receive was told to stop */
    bool eof : 1;        /* nothing more will come */
    bool broken : 1;     /* nothing more can be sent */
    bool notify : 1;
    bool pinged : 1;
    bool shutting : 1;   /* `send` is the shutdown */
    bool in_request : 1; /* bytes of a request are there */
    bool answer_head : 1;
    bool keep_alive : 1;
    struct tp_websocket_reader reader;
    struct tp_address peer_address;
    uint16_t peer_port;
    struct tp_origin *origin;         /* counts it; NULL: a trusted proxy's, or detached */
    struct tp_address client_address; /* the origin's, if any */
    bool has_client_address;
};

struct tp_listener {
    struct tp_net *net;
    struct tp_link link;
    struct tp_io accept;
    struct tp_timer retry;
    int fd;
    struct tp_tls_context *tls; /* NULL: plain */
    uint8_t door;
    bool stopping;
};

struct tp_net {
    struct tp_reactor *reactor;
    struct tp_pool *pool;
    struct tp_net_limits limits;
    struct tp_net_handler handler;
    void *context;
    struct tp_link listeners;
    struct tp_link connections;
    struct tp_link to_flush;
    struct tp_link to_work;
    struct tp_timer work_timer;
    uint32_t connection_count;
    uint32_t door_count; /* of them, those that came by a door of their own */
    bool draining;
    uint64_t joined_size; /* capacity of all messages half received */
    uint64_t unsent_size; /* of all outboxes */
    struct tp_origins origins;
    struct tp_frame *ping;
    struct tp_net_counts counts;
    uint64_t date_s; /* what `date` says */
    char date[TP_HTTP_DATE_SIZE];
    uint64_t iov_enters; /* the reactor's count of submissions when vectors were lent last */
    uint32_t iov_count;  /* of `iov`, lent out since */
    struct iovec iov[IOV_ROOM];
    struct msghdr messages[IOV_ROOM / 2]; /* of two vectors or more each */
    uint32_t message_count;
    uint8_t plain[TP_TLS_RECORD_SIZE_MAX]; /* of one record, for the length of a call */
};

/* bytes.c. Doubles, so that what comes in many parts is copied once on average. */
void tp_bytes_append(struct tp_bytes **bytes, const uint8_t *data, size_t size);
void tp_bytes_reserve(struct tp_bytes **bytes, size_t size);

/* connection.c */
void tp_connection_open(struct tp_net *net, int fd, const struct tp_listener *by);
void tp_connection_take(struct tp_connection *connection, uint8_t *data, size_t size);
void tp_connection_end(struct tp_connection *connection, uint16_t code);
void tp_connection_leave(struct tp_connection *connection, uint16_t code);
void tp_connection_settle(struct tp_connection *connection);
void tp_connection_look(struct tp_connection *connection); /* puts it on the work list */
void tp_connection_work(struct tp_connection *connection);
void tp_connection_queue(struct tp_connection *connection, struct tp_frame *frame,
                         uint64_t document, enum tp_outbox_class class, uint32_t mark);
void tp_connection_flush(struct tp_connection *connection);

/* Nothing is queued, and nothing is on its way to the kernel. */
static inline bool tp_connection_is_drained(const struct tp_connection *connection)
{
    return connection->outbox.count == 0 &&
           (connection->secure == NULL || connection->secure->sealed.count == 0);
}

/* secure.c. Makes a new connection one over TLS; false: out of memory. */
bool tp_connection_secure(struct tp_connection *connection, struct tp_tls_context *context);
void tp_secure_finish(struct tp_secure *secure, struct tp_pool *pool);
void tp_secure_received(struct tp_connection *connection, struct tp_slice bytes);
void tp_secure_fill(struct tp_connection *connection); /* from the outbox into records */
bool tp_secure_end(struct tp_connection *connection);  /* true: there is more to send */

/* admit.c */
bool tp_net_trusts(const struct tp_net *net, const struct tp_address *address);
/* Counts the connection as one of that address's. */
void tp_connection_set_origin(struct tp_connection *connection, const struct tp_address *address);
void tp_connection_drop_origin(struct tp_connection *connection);

/* http.c: all return how many bytes they took. */
size_t tp_connection_feed_http(struct tp_connection *connection, uint8_t *data, size_t size);
void tp_connection_refuse(struct tp_connection *connection, unsigned status);

/* websocket.c */
size_t tp_connection_feed_websocket(struct tp_connection *connection, uint8_t *data, size_t size);
void tp_connection_send_control(struct tp_connection *connection, enum tp_websocket_opcode opcode,
                                struct tp_slice payload);
void tp_connection_send_close(struct tp_connection *connection, uint16_t code,
                              struct tp_slice reason);
void tp_connection_drop_message(struct tp_connection *connection);
