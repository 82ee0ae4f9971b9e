/* net/net.h - connections of one shard: TCP, HTTP/1.1 and WebSocket, bytes up and frames down.
 *
 *     listener -> connection: request -> [ respond ... ]                       -> closed
 *                                     or upgrade: message, message, ...        -> closed
 *                                     or stream: bytes down only               -> closed
 *
 * Everything runs on the shard's thread. The handler hears of whole requests and whole messages; a
 * message's bytes lie unmasked in a receive buffer (or, if it came in parts, in a joined copy) and
 * are valid during the call only. Output is queued as references to frames and leaves at
 * tp_net_flush, one send per connection and tick.
 *
 * The handler is called from inside tp_reactor_poll, and tp_net_flush for `drained`; never from
 * inside another call of this header. So whatever it calls, nothing happens behind its back. */
#pragma once

#include "base/frame.h"
#include "base/list.h"
#include "net/address.h"
#include "wire/http.h"
#include "wire/websocket.h"

struct tp_reactor;
struct tp_net;
struct tp_connection;
struct tp_tls_context; /* net/tls.h */

struct tp_net_handler {
    /* A whole request (bounded by header_size_max and request_size_max). Answer it once, with
     * tp_connection_respond, _upgrade or _stream: now, or later; until then no further request of
     * that connection is read. `request` is valid during the call only. */
    void (*request)(void *context, struct tp_connection *connection,
                    const struct tp_http_request *request);
    /* A whole WebSocket message. `text`: it came as text (checked UTF-8). */
    void (*message)(void *context, struct tp_connection *connection, struct tp_slice bytes,
                    bool text);
    /* After tp_connection_notify: nothing is left to send. */
    void (*drained)(void *context, struct tp_connection *connection);
    /* The connection has let go of its thread (tp_connection_detach) and may be attached elsewhere.
     */
    void (*detached)(void *context, struct tp_connection *connection);
    /* The last call, once for every connection that had a request; do not touch it afterwards (its
     * last bytes may still be on their way). `code` is the close code received or sent, 1005 for a
     * close without code, 1006 for a lost one, 1000 at the end of plain HTTP. */
    void (*closed)(void *context, struct tp_connection *connection, uint16_t code);
};

/* Each limit's behaviour stands beside it. */
struct tp_net_limits {
    uint32_t connection_count_max; /* more: 503 with Retry-After before the upgrade, then closed */
    uint32_t origin_connection_count_max; /* of one address; 0: any number; more: as above */
    uint32_t origin_handshakes_per_s;     /* of one address; 0: any number; tp_connection_admit */
    /* Whose word about the address of a client is believed; they have no limits of their own.
     * Borrowed; NULL: nobody's. */
    const struct tp_address_ranges *trusted_proxies;
    uint32_t header_size_max;  /* request head: 431 */
    uint32_t request_size_max; /* request body: 413 */
    uint32_t message_size_max; /* joined message: close 1009 */
    uint64_t joined_size_max;  /* of all messages half received: close 1013 */
    uint64_t outbox_size_max;  /* bytes queued: tp_connection_send says TP_FULL */
    uint64_t output_size_max;  /* of all connections; above: as if outbox_size_max were small */
    uint64_t header_time_ns;   /* a head must be whole, a body must go on in this time: 408 */
    uint64_t request_time_ns;  /* and head and body together in this one: 408 */
    uint64_t idle_time_ns;     /* plain HTTP keep-alive without request: closed */
    uint64_t ping_time_ns;     /* WebSocket ping after this long without anything received */
    uint64_t dead_time_ns;     /* nothing received for this long: dropped */
    uint64_t close_time_ns;    /* waiting for the other side's close: dropped */
};
extern const struct tp_net_limits tp_net_limits_default;

/* Beyond connection_count_max (or an origin's) this many more are told 503; above that they are
 * closed unheard. */
#define TP_NET_REFUSED_COUNT_MAX 64u

/* While all connections together have more than output_size_max queued, one may have this much. */
#define TP_NET_OUTBOX_SIZE_MIN (64u << 10)

/* Borrows `reactor`, `pool` (frames and outboxes come from it) and `handler`; copies `limits`. */
struct tp_net *tp_net_create(struct tp_reactor *reactor, struct tp_pool *pool,
                             const struct tp_net_limits *limits,
                             const struct tp_net_handler *handler, void *context);
/* Aborts and reports what is still open, and turns the reactor until the kernel has let go of every
 * connection: so the handler and the reactor's letters are still called in here. */
void tp_net_destroy(struct tp_net *net);

/* HOST:PORT, [IPv6]:PORT; every shard listens on the same address (SO_REUSEPORT). Port 0: the
 * kernel chooses, and `port` says which (the other shards then name it). TP_MALFORMED: no address;
 * on TP_IO errno says why. A net may listen on several. */
TP_MUST_CHECK enum tp_status tp_net_listen(struct tp_net *net, const char *address, uint16_t *port);
/* As above, for clients that speak TLS; borrows `tls`. */
TP_MUST_CHECK enum tp_status tp_net_listen_tls(struct tp_net *net, const char *address,
                                               struct tp_tls_context *tls, uint16_t *port);
/* For this net alone: an address that somebody else listens on is refused (EADDRINUSE). Connections
 * that come this way say so (tp_connection_door), and connection_count_max is not for them: up to
 * TP_NET_DOOR_COUNT_MAX are taken however many others there are, what is more is closed unheard. */
TP_MUST_CHECK enum tp_status tp_net_listen_alone(struct tp_net *net, const char *address,
                                                 uint8_t door, uint16_t *port);
#define TP_NET_DOOR_COUNT_MAX 64u
/* Takes a socket that listens already, from the service manager. */
void tp_net_listen_fd(struct tp_net *net, int fd);
/* From then on answers say "Connection: close" as well. */
void tp_net_stop_listening(struct tp_net *net);

/* End of tick: sends what was queued. */
void tp_net_flush(struct tp_net *net);

/* Before an upgrade or a stream: may the client's address have another one? Counts it as a
 * handshake if so. TP_FULL: answer 503. Behind a trusted proxy the address is the last one in
 * X-Forwarded-For that is no trusted proxy's; then the connection counts as that address's from now
 * on. */
TP_MUST_CHECK enum tp_status tp_connection_admit(struct tp_connection *connection,
                                                 const struct tp_http_request *request);

/* Answers the request. `type` is the Content-Type, or NULL. `head` has the extra header lines, each
 * ending in CRLF, or is empty. Copies everything. Content-Length, Date and Connection are added. */
void tp_connection_respond(struct tp_connection *connection, unsigned status, const char *type,
                           struct tp_slice head, struct tp_slice body);

/* Answers an upgrade request (request->upgrade: the handshake's rules were checked) with 101;
 * messages follow. `protocol`: one that the client offered, or empty. `head` as above. */
void tp_connection_upgrade(struct tp_connection *connection, struct tp_slice protocol,
                           struct tp_slice head);

/* Answers with 200 and a body without end: from then on tp_connection_send's frames go out as they
 * are, until tp_connection_close. What the other side says is thrown away. After a HEAD it ends at
 * once. */
void tp_connection_stream(struct tp_connection *connection, const char *type, struct tp_slice head);

/* Shares `frame`, which holds one or more whole WebSocket frames (tp_websocket_seal), or a stream's
 * bytes. TP_FULL changes nothing; TP_ABSENT: the connection is closing, and nothing changes either.
 * `document` and `class` label the entry for tp_connection_drop, `mark` is what that tells of it.
 * An empty outbox takes a frame of any size. */
/* Answers are not dropped: TP_OUTBOX_CONTROL is refused only when more than this many times
 * outbox_size_max is queued already. Nothing is read from a connection that has more queued than
 * outbox_size_max, so only what it had said before can still be answered. */
#define TP_NET_CONTROL_FACTOR 16u
enum tp_outbox_class { TP_OUTBOX_CONTROL, TP_OUTBOX_DOCUMENT, TP_OUTBOX_AWARENESS };
TP_MUST_CHECK enum tp_status tp_connection_send(struct tp_connection *connection,
                                                struct tp_frame *frame, uint64_t document,
                                                enum tp_outbox_class class, uint32_t mark);

/* Drops the entries of one document and class that the kernel has not been offered yet; returns how
 * many, and lowers `mark` to the lowest among them. One pass over what is queued: call it once per
 * document and refusal, not per message. */
uint32_t tp_connection_drop(struct tp_connection *connection, uint64_t document,
                            enum tp_outbox_class class, uint32_t *mark);

/* `drained` is called once, when nothing is left to send (at the next flush, if that is now). */
void tp_connection_notify(struct tp_connection *connection);

/* WebSocket: sends a close frame behind what is queued, and ends when the other side answers or
 * time is up; nothing that arrives meanwhile is handed up. A stream or plain HTTP ends when what is
 * queued has gone, a request that waits for its answer still gets it. `closed` follows. */
void tp_connection_close(struct tp_connection *connection, uint16_t code, struct tp_slice reason);
/* At once, without a word. `closed` follows at the next poll. */
void tp_connection_abort(struct tp_connection *connection);

/* Stops and resumes reading: the kernel's buffers fill, and TCP slows the sender down. Counted. */
void tp_connection_pause(struct tp_connection *connection);
void tp_connection_resume(struct tp_connection *connection);

/* Moving a WebSocket to another thread. detach: stop receiving, finish what is in flight and
 * queued, then `detached` (or `closed`); messages that arrive meanwhile are kept and come after the
 * attach, at the next poll. attach: on the new thread, of a connection that was detached. */
void tp_connection_detach(struct tp_connection *connection);
void tp_net_attach(struct tp_net *net, struct tp_connection *connection);
/* Ends a detached connection that nobody will attach. `closed` is not called. */
void tp_connection_abandon(struct tp_connection *connection);

/* The handler's own. */
void tp_connection_set_user(struct tp_connection *connection, void *user);
void *tp_connection_user(const struct tp_connection *connection);

/* Where it came in: as given to tp_net_listen_alone, else 0. */
uint8_t tp_connection_door(const struct tp_connection *connection);
bool tp_connection_is_websocket(const struct tp_connection *connection);
uint64_t
tp_connection_sent_ns(const struct tp_connection *connection); /* when a message was last queued */
size_t tp_connection_unsent_size(const struct tp_connection *connection);
/* "127.0.0.1:4711" or "[::1]:4711" into `out`, with a final NUL. */
void tp_connection_peer_address(const struct tp_connection *connection, char out[64]);
/* User memory that the connection holds now: itself, its outbox, what it joins or keeps. */
size_t tp_connection_memory_size(const struct tp_connection *connection);

/* Calls `each` for every connection that is not closing yet: for drain and shutdown. `each` may
 * close and abort. */
void tp_net_each(struct tp_net *net, void (*each)(void *context, struct tp_connection *connection),
                 void *context);
/* Every connection whose socket is still ours, those that were reported closed included. */
uint32_t tp_net_connection_count(const struct tp_net *net);
/* Bytes queued to all connections; a frame that many share counts for each. */
uint64_t tp_net_unsent_size(const struct tp_net *net);
/* Memory of messages half received. */
uint64_t tp_net_joined_size(const struct tp_net *net);

struct tp_net_counts {
    uint64_t accepted, refused, upgraded, closed, requests;
    uint64_t refused_origin;    /* an address had its maximum of connections */
    uint64_t refused_handshake; /* an address made handshakes too fast */
    uint64_t join_failures;     /* connections closed because joined_size_max was reached */
    uint64_t messages_in, messages_out, bytes_in, bytes_out, sends;
    uint64_t protocol_errors; /* HTTP and WebSocket */
    uint64_t tls_errors;      /* handshakes that failed, records that were not genuine */
    uint64_t slow_closed;     /* dropped because of a time limit */
    uint64_t pauses;          /* tp_connection_pause */
    uint64_t accept_failures; /* no file descriptor or memory for a new connection */
};
struct tp_net_counts tp_net_counts(const struct tp_net *net);
