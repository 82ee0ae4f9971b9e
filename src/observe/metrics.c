#include "observe/pages.h"

#include <inttypes.h>

#include "observe/sums.h"
#include "observe/text.h"

/* `kind` is counter, gauge or untyped. `labels` is empty or {name="value"}. */
static void head(struct tp_buffer *out, const char *name, const char *kind, const char *help)
{
    tp_text_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void number(struct tp_buffer *out, const char *name, const char *kind, const char *help,
                   uint64_t value)
{
    head(out, name, kind, help);
    tp_text_format(out, "%s %" PRIu64 "\n\n", name, value);
}

static void seconds(struct tp_buffer *out, const char *name, const char *kind, const char *help,
                    uint64_t ns)
{
    head(out, name, kind, help);
    tp_text_format(out, "%s %" PRIu64 ".%09" PRIu64 "\n\n", name, ns / 1000000000, ns % 1000000000);
}

static void message_kinds(const struct tp_counters *counters, struct tp_buffer *out)
{
    static const char name[] = "teleportal_messages_total";

    head(out, name, "counter", "Total number of messages processed");
#define LINE(kind, count) tp_text_format(out, "%s{type=\"%s\"} %" PRIu64 "\n", name, kind, count)
    LINE("doc", counters->messages_doc);
    LINE("awareness", counters->messages_awareness);
    LINE("presence", counters->messages_presence);
    LINE("rpc", counters->messages_rpc);
    LINE("ack", counters->messages_ack);
#undef LINE
    tp_buffer_append(out, "\n", 1);
}

static void error_kinds(const struct tp_observed *observed, const struct tp_sums *sums,
                        struct tp_buffer *out)
{
    static const char name[] = "teleportal_errors_total";

    head(out, name, "counter", "Total number of errors");
#define LINE(kind, count) tp_text_format(out, "%s{type=\"%s\"} %" PRIu64 "\n", name, kind, count)
    LINE("protocol", sums->net.protocol_errors);
    LINE("update", sums->counters.updates_refused);
    LINE("storage", observed->store.operations_failed);
#undef LINE
    tp_buffer_append(out, "\n", 1);
}

static void rates(const struct tp_counters *counters, struct tp_buffer *out)
{
    static const char name[] = "teleportal_rate_limit_exceeded_total";

    head(out, name, "counter", "Total number of rate limit exceeded events");
#define LINE(track, count) \
    tp_text_format(out, "%s{trackBy=\"%s\"} %" PRIu64 "\n", name, track, count)
    LINE("transport", counters->rate_exceeded_transport);
    LINE("user", counters->rate_exceeded_user);
    LINE("document", counters->rate_exceeded_document);
    LINE("user-document", counters->rate_exceeded_user_document);
#undef LINE
    tp_buffer_append(out, "\n", 1);
    number(out, "teleportal_rate_limit_delayed_total", "counter",
           "Total number of inbound messages held (delayed) by rate limiting flow control",
           counters->rate_delayed);
    number(out, "teleportal_rate_limit_delay_ms_total", "counter",
           "Cumulative milliseconds inbound messages spent held by rate limiting flow control",
           counters->rate_delay);
}

/* The reference server's names, in its order, as far as they have true values here. What it counts
 * per document and per user is left out: the number of such series has no bound. */
static void reference_names(const struct tp_observed *observed, const struct tp_sums *sums,
                            struct tp_buffer *out)
{
    number(out, "teleportal_clients_active", "gauge",
           "Number of currently active client connections", sums->shard.clients_active);
    number(out, "teleportal_sessions_active", "gauge",
           "Number of currently active document sessions", sums->counters.sessions_active);
    number(out, "teleportal_documents_opened_total", "counter", "Total number of documents opened",
           sums->counters.sessions_opened);
    message_kinds(&sums->counters, out);
    /* The reference says counter, but Prometheus wants a counter's name to end in _total. */
    number(out, "teleportal_messages_total_all", "untyped",
           "Total number of messages processed (all types)", tp_sums_messages(sums));
    error_kinds(observed, sums, out);
    rates(&sums->counters, out);
}

/* A few per core, under names of their own: a query that sums must not count twice. */
static void per_shard(const struct tp_observed *observed, struct tp_buffer *out)
{
#define SERIES(name, kind, help, value)                                                           \
    head(out, "teleportald_shard_" name, kind, help);                                             \
    for (uint32_t i = 0; i < observed->shard_count; i++)                                          \
        tp_text_format(out, "teleportald_shard_" name "{shard=\"%" PRIu32 "\"} %" PRIu64 "\n", i, \
                       observed->shards[i].value);                                                \
    tp_buffer_append(out, "\n", 1);

    SERIES("connections", "gauge", "TCP connections open now, by core", connections)
    SERIES("sessions", "gauge", "Documents open now, by core", counters.sessions_active)
    SERIES("session_bytes", "gauge", "Memory held by open documents, by core", session_bytes)
    SERIES("turns_total", "counter", "Turns of the loop, by core", turns)
    SERIES("turns_slow_total", "counter", "Turns of the loop over 5 ms, by core",
           counters.ticks_slow)
    SERIES("messages_in_total", "counter", "WebSocket messages received, by core", net.messages_in)
#undef SERIES
}

static uint64_t bridge_lag_ns(const struct tp_observed *observed)
{
    uint64_t most_ns = 0;

    for (uint32_t i = 0; i < observed->shard_count; i++)
        most_ns = tp_max(most_ns, observed->shards[i].bridge_lag_ns);
    return most_ns;
}

/* One series per state, 1 for the one it is in: alarms name the state that they are for. */
static void store_states(const struct tp_observed *observed, struct tp_buffer *out)
{
    head(out, "teleportald_store_state", "gauge", "The state that the store is in");
    for (uint32_t state = 0; state < observed->store_state_count; state++)
        tp_text_format(out, "teleportald_store_state{state=\"%s\"} %d\n",
                       observed->store_states[state], state == observed->store_state);
    tp_buffer_append(out, "\n", 1);
}

void tp_metrics_page(const struct tp_observed *observed, struct tp_buffer *out)
{
    const struct tp_sums sums = tp_sums_of(observed);

    reference_names(observed, &sums, out);

    head(out, "teleportald_info", "gauge", "Which program this is");
    tp_text_format(out, "teleportald_info{version=\"%s\",node=", TP_VERSION);
    tp_text_json(out, tp_slice_of(observed->node_id, strlen(observed->node_id)));
    tp_text_format(out, "} 1\n\n");
    seconds(out, "teleportald_uptime_seconds", "gauge", "Time since the start",
            observed->uptime_ms * 1000000);
    number(out, "teleportald_cores", "gauge", "Server threads", observed->shard_count);
    number(out, "teleportald_ready", "gauge", "Whether new clients should come here",
           tp_observed_ready(observed));

#define SUFFIX_counter "_total"
#define SUFFIX_gauge ""
#define LINE(name, kind, help) \
    number(out, "teleportald_" #name SUFFIX_##kind, #kind, help, sums.counters.name);
    TP_COUNTERS(LINE)
#undef LINE
#define LINE(name, kind, help) \
    number(out, "teleportald_" #name SUFFIX_##kind, #kind, help, sums.shard.name);
    TP_OBSERVED_SHARD(LINE)
#undef LINE
#define LINE(name, kind, help) \
    number(out, "teleportald_net_" #name SUFFIX_##kind, #kind, help, sums.net.name);
    TP_OBSERVED_NET(LINE)
#undef LINE
#define LINE(name, kind, help) \
    number(out, "teleportald_store_" #name SUFFIX_##kind, #kind, help, observed->store.name);
    TP_OBSERVED_STORE(LINE)
#undef LINE
#define LINE(name, kind, help) \
    number(out, "teleportald_compact_" #name SUFFIX_##kind, #kind, help, observed->compact.name);
    TP_OBSERVED_COMPACT(LINE)
#undef LINE
#define LINE(name, kind, help) \
    number(out, "teleportald_collect_" #name SUFFIX_##kind, #kind, help, observed->collect.name);
    TP_OBSERVED_COLLECT(LINE)
#undef LINE
#define LINE(name, kind, help) \
    number(out, "teleportald_webhook_" #name SUFFIX_##kind, #kind, help, observed->webhook.name);
    TP_OBSERVED_WEBHOOK(LINE)
#undef LINE
    seconds(out, "teleportald_store_commit_seconds_total", "counter", "Time spent committing",
            observed->store.commit_ns_total);
    seconds(out, "teleportald_store_commit_max_seconds", "gauge", "Longest commit so far",
            observed->store.commit_ns_max);
    number(out, "teleportald_store_healthy", "gauge", "Whether the store takes writes",
           observed->store_healthy);
    seconds(out, "teleportald_bridge_lag_seconds", "gauge",
            "Time until the broker answered a write, of the slowest core", bridge_lag_ns(observed));
    store_states(observed, out);
    number(out, "teleportald_accept_starved", "gauge",
           "Whether connections wait for want of a descriptor or memory", observed->accept_starved);
    number(out, "teleportald_thread_hangs", "gauge",
           "Whether a thread has not come back for hang_seconds", observed->thread_hangs);
    per_shard(observed, out);

    seconds(out, "process_cpu_seconds_total", "counter", "CPU time used",
            observed->process.cpu_ms * 1000000);
    number(out, "process_resident_memory_bytes", "gauge", "Resident memory",
           observed->process.resident_size);
    number(out, "process_open_fds", "gauge", "Open file descriptors",
           observed->process.open_file_count);
}
