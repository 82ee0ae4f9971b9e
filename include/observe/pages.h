/* observe/pages.h - what the node tells about itself over HTTP.
 *
 *     the shards' counts ──► struct tp_observed ──► /metrics  /status  /health  /livez  /readyz  /
 *
 * Functions from numbers to text. Whoever serves a page fills a tp_observed first; whatever
 * one line of the lists below (or of base/counters.h) names is printed, with no further code. */
#pragma once

#include "base/buffer.h"
#include "base/counters.h"
#include "net/net.h"

/* name, kind, help, for one shard. The counts of net and of the reactor, and levels that the shard
 * knows. `/metrics` has their sums. */
#define TP_OBSERVED_SHARD(X)                                                               \
    X(clients_active, gauge, "WebSocket clients connected now")                            \
    X(connections, gauge, "TCP connections open now")                                      \
    X(sessions_pending, gauge, "Documents being loaded now")                               \
    X(session_bytes, gauge, "Memory held by open documents")                               \
    X(pool_bytes, gauge, "Memory given out by the pools")                                  \
    X(outbox_bytes, gauge, "Bytes that wait for slow readers")                             \
    X(receive_bytes, gauge, "Memory of messages half received")                            \
    X(store_queue_bytes, gauge, "Bytes on their way to the disk")                          \
    X(cores_full, gauge, "Cores that refuse new clients because their memory is used up")  \
    X(cores_connected, gauge, "Cores that have max_connections")                           \
    X(turns, counter, "Turns of the loop")                                                 \
    X(enters, counter, "System calls of the loop")                                         \
    X(completions, counter, "Completions taken from the kernel")                           \
    X(letters_in, counter, "Letters received from other threads")                          \
    X(letters_out, counter, "Letters sent to other threads")                               \
    X(wakes, counter, "Sleeping threads woken")                                            \
    X(buffers_short, counter, "Receives that stopped because the buffer pool was empty")   \
    X(bridge_published, counter, "Envelopes handed to the broker")                         \
    X(bridge_published_bytes, counter, "Their bytes")                                      \
    X(bridge_lost, counter, "Envelopes not handed to the broker: no contact, or too many") \
    X(bridge_errors, counter, "Envelopes and topics that the broker refused")              \
    X(bridge_heard, counter, "Envelopes that came, our own among them")                    \
    X(bridge_heard_bytes, counter, "Their bytes")                                          \
    X(bridge_reconnects, counter, "Connections to the broker that ended")                  \
    X(bridge_connected, gauge, "Cores that have contact with the broker")                  \
    X(bridge_topics, gauge, "Topics subscribed to")

/* The same for the store, which the process has one of. */
#define TP_OBSERVED_STORE(X)                                 \
    X(appends, counter, "Updates appended to document logs") \
    X(writes, counter, "Other writes")                       \
    X(reads, counter, "Reads")                               \
    X(commits, counter, "Batches committed")                 \
    X(syncs, counter, "Disk syncs")                          \
    X(written_bytes, counter, "Bytes written")               \
    X(operations_failed, counter, "Operations that failed")  \
    X(stops, counter, "Times that writing stopped")          \
    X(damaged_reads, counter, "Reads that found damage")     \
    X(queued, gauge, "Operations submitted and not yet answered")

/* And what net counts (struct tp_net_counts, its fields). */
#define TP_OBSERVED_NET(X)                                                                  \
    X(accepted, counter, "Connections accepted")                                            \
    X(refused, counter, "Connections refused because a core had its maximum")               \
    X(refused_origin, counter, "Connections refused because their address had its maximum") \
    X(refused_handshake, counter, "Handshakes refused because their address made too many") \
    X(join_failures, counter, "Connections closed because receive_memory was used up")      \
    X(upgraded, counter, "WebSocket handshakes completed")                                  \
    X(closed, counter, "Connections closed")                                                \
    X(requests, counter, "HTTP requests")                                                   \
    X(messages_in, counter, "WebSocket messages received")                                  \
    X(messages_out, counter, "WebSocket messages sent")                                     \
    X(bytes_in, counter, "Bytes received")                                                  \
    X(bytes_out, counter, "Bytes sent")                                                     \
    X(sends, counter, "Sends given to the kernel")                                          \
    X(protocol_errors, counter, "Connections closed because the peer broke a protocol")     \
    X(tls_errors, counter, "TLS handshakes that failed and records that were not genuine")  \
    X(accept_failures, counter, "Times that there was no file or memory for a connection")  \
    X(slow_closed, counter, "Connections closed because the peer read nothing")

#define TP_OBSERVED_FIELD(name, kind, help) uint64_t name;

struct tp_observed_shard {
    struct tp_counters counters;
    struct tp_net_counts net;
    TP_OBSERVED_SHARD(TP_OBSERVED_FIELD)
    uint64_t bridge_lag_ns; /* from a write to the broker's answer, as measured last */
};

struct tp_observed_store {
    TP_OBSERVED_STORE(TP_OBSERVED_FIELD)
    uint64_t commit_ns_total;
    uint64_t commit_ns_max;
};

#define TP_OBSERVED_COMPACT(X)                                                        \
    X(bases, counter, "Logs folded into bases")                                       \
    X(entries, counter, "Log entries folded")                                         \
    X(conflicts, counter, "Times that somebody else was faster")                      \
    X(failures, counter, "Documents left as they were: damaged, or the store failed") \
    X(sweeps, counter, "Times that every log was looked at")

struct tp_observed_compact {
    TP_OBSERVED_COMPACT(TP_OBSERVED_FIELD)
};

#define TP_OBSERVED_COLLECT(X)                                               \
    X(uploads, counter, "Unfinished uploads given up")                       \
    X(files, counter, "Files deleted, that no document refers to any more")  \
    X(references, counter, "References to files that deleted documents had") \
    X(chunks, counter, "Chunks of files deleted")                            \
    X(sweeps, counter, "Times that every file and upload was looked at")

struct tp_observed_collect {
    TP_OBSERVED_COLLECT(TP_OBSERVED_FIELD)
};

#define TP_OBSERVED_WEBHOOK(X)                                          \
    X(delivered, counter, "Posts that were taken")                      \
    X(retried, counter, "Posts tried again")                            \
    X(dead, counter, "Posts given up and kept in the dead-letter file") \
    X(dropped, counter, "News that were lost because too many waited")

struct tp_observed_webhook {
    TP_OBSERVED_WEBHOOK(TP_OBSERVED_FIELD)
};

struct tp_observed_process {
    uint64_t cpu_ms;          /* used so far, all threads */
    uint64_t resident_size;   /* bytes */
    uint64_t open_file_count; /* descriptors */
};

/* Asks the kernel; a few microseconds, and one more per ten open files. */
void tp_observe_process(struct tp_observed_process *out);

/* Why clients should not come here: `what` is one word, `why` a few. */
struct tp_observed_reason {
    const char *what;
    const char *why;
};
#define TP_OBSERVED_REASON_COUNT_MAX 4u
#define TP_OBSERVED_STATE_COUNT_MAX 8u

struct tp_observed {
    const char *node_id;
    const struct tp_observed_shard *shards; /* borrowed */
    uint32_t shard_count;
    struct tp_observed_store store;
    struct tp_observed_compact compact;
    struct tp_observed_collect collect;
    struct tp_observed_webhook webhook;
    struct tp_observed_process process;
    uint64_t wall_ms; /* now */
    uint64_t uptime_ms;
    /* the names of the states that a store may be in, and which one it is in */
    const char *store_states[TP_OBSERVED_STATE_COUNT_MAX];
    uint32_t store_state_count, store_state;
    struct tp_observed_reason reasons[TP_OBSERVED_REASON_COUNT_MAX];
    uint32_t reason_count;
    bool store_healthy;  /* takes writes */
    bool accept_starved; /* no descriptor or memory for more connections */
    bool thread_hangs;
    bool draining; /* stops soon: balancers should send nobody */
};

/* Prometheus text. The reference server's names for what it counts too (spec 02, 16.1), and ours
 * behind teleportald_. */
#define TP_METRICS_TYPE "text/plain; charset=utf-8"
void tp_metrics_page(const struct tp_observed *observed, struct tp_buffer *out);

/* JSON with the reference server's keys in its order (spec 02, 16.2; spec 01, 5.7). */
#define TP_JSON_TYPE "application/json"
void tp_status_page(const struct tp_observed *observed, struct tp_buffer *out);

/* Returns the HTTP status: 200, or 500 when there is a reason not to come. */
unsigned tp_health_page(const struct tp_observed *observed, struct tp_buffer *out);

/* Live: the loop turns, since it answers: always 200. Ready: 200 while clients should come here,
 * else 503 with the reasons, one `what: why` a line, or `draining`. */
unsigned tp_livez_page(struct tp_buffer *out);
unsigned tp_readyz_page(const struct tp_observed *observed, struct tp_buffer *out);

/* `GET /` for people: what this is and how to connect. */
#define TP_HTML_TYPE "text/html; charset=utf-8"
struct tp_index {
    const char *teleportal_path;
    const char *yjs_path;
    bool public_metrics; /* whether to link /metrics and /status */
};
void tp_index_page(const struct tp_index *index, struct tp_buffer *out);
