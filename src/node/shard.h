/* src/node/shard.h - one core: a pinned thread that owns everything it touches.
 *
 *     shard ── connections ── channels ── subscriptions ─┐
 *       └───── documents (by name) ── session            │
 *                   └── members ◄───────────────────────┘ here, or on another core by letter
 *
 * A document belongs to one shard, by hash of its name. A connection lives on the shard that
 * accepted it or, once its first document is known, on that document's shard. A subscription joins
 * the two: on the connection's side a `subscription`, on the document's side a `member`, which
 * holds the session's peer. When both are on one shard they point at each other; else letters go
 * between them, and the document has a stand-in on the connection's shard (`outpost`) that lists
 * the subscriptions, so that a broadcast costs one letter per shard and not one per peer. */
#pragma once

#include "base/hash.h"
#define HASH_FUNCTION(key, size, hash) (hash) = (unsigned)tp_hash64(tp_slice_of((key), (size)))
#include <uthash.h>

#include "base/arena.h"
#include "base/counters.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/random.h"
#include "bridge/bridge.h"
#include "client/client.h"
#include "dialect/dialect.h"
#include "net/net.h"
#include "node/config.h"
#include "node/gate.h"
#include "node/letters.h"
#include "observe/pages.h"
#include "reactor/post.h"
#include "reactor/reactor.h"
#include "rpc/rpc.h"
#include "session/session.h"
#include "store/store.h"
#include "work/work.h"

#define TP_SHARD_COUNT_MAX 256u

/* Above max_message_size: what is larger is refused by the transport, what is not gets a NACK (spec
 * 01 section 1.4). */
#define TP_SIZE_SLACK (64u << 10)
#define TP_CHUNK_SLACK (2u << 10) /* of a message: what is around a chunk of a file */
#define TP_CHUNK_SIZE_MIN 64u

struct tp_server;
struct tp_document;
struct tp_subscription;
struct tp_stream;
struct tp_visit;

/* What a connection's `user` is: its first member says it. */
enum tp_transport {
    TP_TRANSPORT_WEBSOCKET,
    TP_TRANSPORT_STREAM, /* GET /sse */
    TP_TRANSPORT_ONCE,   /* POST /message */
    /* no channel: */
    TP_TRANSPORT_VISIT, /* a POST /sse that waits for its answer (node/stream.h) */
    TP_TRANSPORT_ASK,   /* a management request that waits (node/admin.h) */
};

struct tp_shard {
    uint32_t index;
    uint32_t count; /* of all shards */
    int cpu;        /* -1: not pinned */
    struct tp_server *server;
    const struct tp_config *config;

    struct tp_reactor *reactor;
    struct tp_net *net;
    const struct tp_store_backend *store_backend;
    struct tp_store_port *store;
    struct tp_work_port *work;
    const struct tp_bridge_kind *bridge_kind; /* NULL: bridge = none */
    struct tp_bridge_port *bridge;
    struct tp_link to_link; /* documents that are to hear TP_EVENT_LINKED */
    struct tp_claim {       /* of shard 0: that nobody else has our node id */
        uint64_t boot, linked_ns;
        bool refused;
    } claim;
    struct tp_link store_batch; /* operations of this tick */

    struct tp_pool pool;
    struct tp_arena arena;
    struct tp_random random;
    struct tp_counters counters;
    struct tp_session_limits limits;
    struct tp_session_env env;
    struct tp_rpc_limits rpc_limits;
    struct tp_rpc_env rpc_env;
    struct tp_gate gate;
    struct tp_admin_token admin_token; /* of shard 0 */
    struct tp_rate *rate;              /* NULL: rate_limits = off */
    struct tp_refusals *refusals;      /* pass.c; NULL until there was one */

    struct tp_document *documents;         /* uthash, by name key: owned ones and outposts */
    struct tp_link idle;                   /* owned documents without peers, longest idle first */
    uint64_t sessions_size;                /* bytes that sessions hold, as last told */
    struct tp_subscription *subscriptions; /* uthash, by (channel, document) */
    struct tp_member *remote_members;      /* uthash, by (shard, subscription) */
    struct tp_stream *streams;             /* uthash, by the id that their clients post with */
    struct tp_frame *event_source;         /* the frame made into an event last, ... */
    struct tp_frame *event;                /* ... and that event: of this turn, or NULL */
    struct tp_frame *stream_ping;
    uint64_t store_inflight; /* operations not answered yet */
    uint64_t store_size;     /* their bytes */
    struct tp_link waiting;  /* documents with a writer who waits for the store */
    uint64_t work_inflight;
    uint64_t next_connection;
    uint32_t channel_count; /* WebSockets and streams that live here */

    enum tp_shard_phase {
        TP_SHARD_RUNNING,
        TP_SHARD_DRAINING, /* says that it is not ready, and serves as ever */
        TP_SHARD_CLOSING,  /* takes no new connection, tells some clients at a time to go, and
                            * serves those who are still there */
        TP_SHARD_ENDING,   /* sessions end */
        TP_SHARD_STOPPED,
    } phase;
    uint64_t phase_until_ns;
    struct tp_timer stop_timer;
    struct tp_timer sweep_timer; /* of shard 0 */
    uint32_t close_per_step;     /* connections to close at each step of the drain */
    uint32_t close_left;         /* of this step */

    /* What the others may see: copied at the end of each tick, word by word, with relaxed stores.
     */
    struct tp_observed_shard view;
};

/* One client connection, as the node sees it. Moves between shards with its connection. */
struct tp_channel {
    enum tp_transport transport;
    struct tp_shard *shard; /* where it lives now */
    struct tp_connection *connection;
    struct tp_client client;
    struct tp_link subscriptions; /* tp_subscription.in_channel */
    struct tp_timer keepalive;
    uint64_t number; /* one per connection of the process */
    char client_id[TP_UUID_SIZE];
    bool moved;  /* it moves once at most */
    bool moving; /* on its way to shard `target`: hears nothing */
    bool closing;
    uint64_t parting_ns; /* when the shard, closing, stopped reading from it; 0: not yet */
    uint32_t target;
    uint32_t pauses;                /* subscriptions that asked for a pause */
    struct tp_hold *hold;           /* a message that waits for its turn (meter.c); else NULL */
    uint64_t held_since_ns;         /* while it is said again: the time when it came */
    bool held_back;                 /* nothing is read because of it */
    struct tp_pass *pass;           /* NULL: nobody asked for a token */
    struct tp_handshake *handshake; /* its request is not answered yet; else NULL */
    struct tp_stream *stream;       /* over HTTP: what it has besides; else NULL */
    struct tp_subscription *last; /* most messages are about the same document as the one before */
    uint8_t *held; /* the first message, while the channel moves to its document's shard */
    size_t held_size;
};

/* What a connection that came with a token has besides. Moves with its channel. */
#define TP_PASS_TOLD_COUNT 8u
struct tp_pass {
    struct tp_channel *channel;
    struct tp_grant *grant;
    struct tp_timer expiry;
    bool ended; /* and the connection goes on, to read what it has open */
    uint64_t
        told[TP_PASS_TOLD_COUNT]; /* documents that it asked for last and may not see: hashes */
    uint32_t told_at;
};

/* The connection's side of being subscribed to a document. */
struct tp_subscription {
    struct tp_link in_channel;
    struct tp_link in_document; /* tp_document.subscriptions of this shard's document or outpost */
    struct tp_channel *channel; /* NULL: the connection is gone, the owner's LEFT is awaited */
    struct tp_document *document;
    struct tp_member *member; /* when the document is owned here */
    uint32_t audience;        /* as the session last said */
    uint8_t rights;           /* enum tp_right: each message needs some of these bits */
    bool told_denied;         /* had its one auth message from us (spec 01 section 4.6) */
    bool paused;
    bool notify;  /* the session wants TP_EVENT_READY */
    bool behind;  /* updates of this document were dropped: what it missed is due */
    bool unaware; /* awareness was: the newest states are due */
    struct tp_subscription_key {
        struct tp_channel *channel;
        struct tp_document *document;
    } key;
    UT_hash_handle hh; /* tp_shard.subscriptions, by key */
};

/* The document's side: one peer of its session. */
struct tp_member {
    struct tp_peer peer;
    struct tp_document *document;
    struct tp_subscription
        *subscription; /* here, or on shard `home`: then only a name for letters */
    uint32_t home;
    uint32_t audience_told;
    struct tp_link in_fallen; /* behind since a moment ago: the session is to hear of it */
    uint32_t fallen_mark;
    uint8_t *user; /* the user id that the peer points to; pool memory */
    size_t user_size;
    struct tp_member_key { /* of a remote member */
        struct tp_subscription *subscription;
        uint64_t home;
    } key;
    UT_hash_handle hh;
};

/* A document on this shard: owned (session != NULL) or an outpost of one owned elsewhere. */
struct tp_document {
    UT_hash_handle hh;
    uint32_t owner;
    uint32_t subscription_count;  /* in the list, and those whose LEFT is awaited */
    struct tp_link subscriptions; /* of connections that live here */
    struct tp_session *session;
    struct tp_rpc *rpc; /* owned: its remote calls; NULL until there was one */
    struct tp_link in_idle;
    struct tp_link in_waiting;
    struct tp_link in_to_link;
    struct tp_link fallen; /* members; empty between events */
    struct tp_timer wake;
    struct tp_shard *shard;
    size_t session_size;     /* as counted in tp_shard.sessions_size */
    uint32_t *remote_counts; /* owned: members by home shard; NULL until there is one */
    struct tp_document *
        *outposts;     /* owned: the document's stand-in on each shard, a name for letters */
    uint32_t untold;   /* owned: remote members whose shard knows no audience of theirs yet */
    uint32_t inflight; /* store and work operations that will be answered */
    bool handling, ended;
    struct tp_link askers; /* who wants to know when it is deleted (docs.c) */
    uint32_t room_size, name_size;
    char key[]; /* room 00 document */
};

/* shard.c: init by anyone; open, run and finish on the shard's own thread */
void tp_shard_init(struct tp_shard *shard, struct tp_server *server, const struct tp_config *config,
                   uint32_t index, uint32_t count, int cpu);
bool tp_shard_open(struct tp_shard *shard, struct tp_post *post,
                   const struct tp_store_backend *store_backend, struct tp_store *store,
                   struct tp_work_pool *work, char *error, size_t error_size);
void tp_shard_run(struct tp_shard *shard); /* returns when it has stopped */
/* What tp_shard_run is made of: once at first; then all that has happened, up to the wait. False:
 * it has stopped. */
void tp_shard_begin(struct tp_shard *shard);
bool tp_shard_turn(struct tp_shard *shard);
void tp_shard_finish(struct tp_shard *shard);
void tp_shard_stop(struct tp_shard *shard);
void tp_shard_stop_step(struct tp_shard *shard);
void tp_shard_view_read(const struct tp_shard *shard, struct tp_observed_shard *out);

/* channel.c - connections: requests, messages, moving */
extern const struct tp_net_handler tp_channel_handler;
struct tp_channel *tp_channel_create(struct tp_shard *shard, struct tp_connection *connection,
                                     enum tp_transport transport);
void tp_channel_destroy(struct tp_channel *channel);
/* The channel of a connection; NULL: it has none. */
struct tp_channel *tp_channel_of(const struct tp_connection *connection);
struct tp_client_paths tp_channel_paths(const struct tp_shard *shard);
void tp_channel_arrived(struct tp_shard *shard, struct tp_channel *channel);
void tp_channel_said(struct tp_channel *channel, struct tp_slice bytes);
/* As tp_connection_send; `frame` is sealed for a WebSocket, and made into what the channel's
 * transport wants. */
TP_MUST_CHECK enum tp_status tp_channel_send(struct tp_channel *channel, struct tp_frame *frame,
                                             uint64_t label, enum tp_outbox_class class,
                                             uint32_t mark);
/* Nothing more is heard from the client, until resumed. */
void tp_channel_pause(struct tp_channel *channel);
void tp_channel_resume(struct tp_channel *channel);
void tp_channel_close(struct tp_channel *channel, enum tp_close_reason reason);

/* meter.c - rate limits. False: the message is held and will be said again, or refused. */
bool tp_meter_admit(struct tp_channel *channel, const struct tp_message *message,
                    enum tp_rate_phase phase);
void tp_meter_finish(struct tp_channel *channel);

/* pass.c - what a connection may, and until when */
/* Takes the grant; NULL: everything, for ever. */
void tp_pass_give(struct tp_channel *channel, struct tp_grant *grant);
void tp_pass_watch(struct tp_channel *channel); /* on the channel's shard; does nothing twice */
void tp_pass_rest(struct tp_channel *channel);  /* before it moves */
void tp_pass_finish(struct tp_channel *channel);
struct tp_slice tp_channel_room(const struct tp_channel *channel);
struct tp_slice tp_channel_user(const struct tp_channel *channel);
uint8_t tp_channel_rights(const struct tp_channel *channel, struct tp_slice document);
/* Answers a message that the client has no right to, so that it comes to rest (spec 01
 * section 4.6). `subscription` may be NULL. */
void tp_channel_deny(struct tp_channel *channel, struct tp_subscription *subscription,
                     const struct tp_message *message);
/* A client of the paths that name a document was accepted before we knew that it may not read it.
 * For a minute the same user is refused there at the upgrade, where old clients hear it. */
void tp_refusal_note(struct tp_channel *channel, struct tp_slice document);
bool tp_refusal_noted(const struct tp_channel *channel, struct tp_slice document);
void tp_refusals_finish(struct tp_shard *shard);
/* Closes the connections whose key is none of ours any more; returns how many. */
uint64_t tp_passes_recheck(struct tp_shard *shard);

/* budget.c - when a core has enough */
/* Its memory is used up: nobody new. */
bool tp_shard_is_full(const struct tp_shard *shard);
bool tp_shard_has_all_connections(const struct tp_shard *shard);
/* It comes for the first time, or wants another document, and that one's core is full. Counted. */
bool tp_channel_is_unwelcome(const struct tp_channel *channel, uint32_t owner);
void tp_budget_store(struct tp_shard *shard, const struct tp_store_op *op);
void tp_budget_stored(struct tp_shard *shard, const struct tp_store_op *op);
bool tp_budget_store_is_full(const struct tp_shard *shard);
/* Reads again from writers who waited, if it is time. */
void tp_budget_resume(struct tp_shard *shard);

/* document.c - the table of documents, sessions and their effects */
#define TP_DOCUMENT_KEY_SIZE_MAX (2 * TP_CLIENT_NAME_SIZE_MAX + 1)
struct tp_slice tp_document_key(struct tp_slice room, struct tp_slice name,
                                uint8_t out[TP_DOCUMENT_KEY_SIZE_MAX]);
uint32_t tp_document_owner(const struct tp_shard *shard, uint64_t hash);
/* NULL: not on this shard. */
struct tp_document *tp_document_find(struct tp_shard *shard, struct tp_slice room,
                                     struct tp_slice name);
/* Finds or makes it; an owned one gets a session. */
struct tp_document *tp_document_open(struct tp_shard *shard, struct tp_slice room,
                                     struct tp_slice name);
void tp_document_event(struct tp_document *document, struct tp_event *event);
void tp_document_resume(struct tp_document *document);  /* reads again from everybody */
void tp_document_release(struct tp_document *document); /* an outpost that nobody uses goes */
struct tp_member *tp_member_create(struct tp_document *document,
                                   struct tp_subscription *subscription, uint32_t home,
                                   const struct tp_peer *like, struct tp_slice user_id);
void tp_member_leave(struct tp_member *member); /* tells the session, frees the member */
void tp_document_store_answered(void *shard, struct tp_store_op *op);
void tp_document_work_answered(void *shard, struct tp_work_op *op);
void tp_document_abandon(struct tp_document *document); /* at the very end */
void tp_documents_told(struct tp_shard *shard, enum tp_told told);
void tp_documents_trim(struct tp_shard *shard);

/* docs.c - what operators ask about documents */
void tp_docs_deleted(struct tp_document *document, enum tp_status status);
void tp_docs_forget(struct tp_document *document); /* at the very end: nobody waits any more */

/* subscribe.c - from a channel's message to the document's session, and back */
void tp_subscription_said(struct tp_channel *channel, struct tp_message *message);
/* NULL: the client has no right to the document at all. */
struct tp_subscription *tp_channel_subscribe(struct tp_channel *channel, struct tp_slice name);
void tp_subscription_set_rights(struct tp_subscription *subscription, uint8_t rights);
void tp_subscription_end(struct tp_subscription *subscription);
void tp_subscription_ready(struct tp_subscription *subscription);
void tp_subscription_pause(struct tp_subscription *subscription, bool pause);
void tp_document_resume_here(struct tp_document *document);
struct tp_shard_letter *tp_shard_letter_create(struct tp_shard *shard, enum tp_letter_kind kind,
                                               size_t bytes_size);
void tp_shard_letter(void *shard, struct tp_letter *letter);

/* deliver.c - messages to frames, frames to connections */
/* Bytes that surely hold `message` in any dialect. */
size_t tp_deliver_size_max(const struct tp_message *message, struct tp_slice document);
void tp_deliver_send(struct tp_member *member, struct tp_message *message);
void tp_deliver_broadcast(struct tp_document *document, struct tp_message *message,
                          uint32_t audience, const struct tp_member *except);
void tp_deliver_frame(struct tp_subscription *subscription, struct tp_frame *frame,
                      enum tp_outbox_class class, uint32_t mark);
/* Straight to a channel, for answers that no session gives. */
void tp_deliver_to_channel(struct tp_channel *channel, struct tp_message *message);
enum tp_outbox_class tp_deliver_class(enum tp_message_kind kind);

/* other_nodes.c - between sessions and the bridge */
void tp_node_attach(struct tp_shard *shard, const struct tp_bridge_kind *kind,
                    struct tp_bridge *bridge);
void tp_node_detach(struct tp_shard *shard);
void tp_node_tick(struct tp_shard *shard); /* before the bridge is flushed */
bool tp_node_quiet(const struct tp_shard *shard);
void tp_node_subscribe(struct tp_document *document);
void tp_node_unsubscribe(struct tp_document *document);
void tp_node_publish(struct tp_document *document, const struct tp_effect *effect);
void tp_node_note(struct tp_document *document, struct tp_slice note);

/* pages.c */
/* `open`: metrics and status are shown, too. */
void tp_pages_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request, bool open);

/* route_page.c */
void tp_route_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request);
