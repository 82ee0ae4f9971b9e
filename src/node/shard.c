/* One core's thread: its loop, and its orderly end. */
#include "node/admin.h"
#include "node/server.h"
#include "node/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ARENA_SIZE ((size_t)1 << 20)
#define SECOND_NS UINT64_C(1000000000)
#define CHECKPOINTS_PER_OUTBOX 32u
#define SLOW_TURN_NS UINT64_C(5000000)
/* Before the first look at all logs: who has just started is asked for many documents at once. */
#define SWEEP_FIRST_NS (5 * SECOND_NS)

#define STOP_STEP_NS UINT64_C(20000000) /* between two looks at how far the end has come */
/* Between the last message read from a client and the word that it has to go: so what it said last
 * is stored and acknowledged, unless the disk is slow, and then it will say it again. */
#define STOP_PART_TIME_NS UINT64_C(100000000)
#define STOP_CLOSE_TIME_NS \
    UINT64_C(3000000000) /* for clients to answer the close, after the drain */
#define STOP_END_TIME_NS UINT64_C(10000000000) /* for the store to answer what is still open */

/* ---- the view that others have ------------------------------------------------------------------
 */

static_assert(sizeof(struct tp_observed_shard) % sizeof(uint64_t) == 0, "copied word by word");
#define VIEW_WORDS (sizeof(struct tp_observed_shard) / sizeof(uint64_t))

static void publish_view(struct tp_shard *shard)
{
    const struct tp_reactor_counts reactor = tp_reactor_counts(shard->reactor);
    struct tp_bridge_counts bridge = {0};
    if (shard->bridge != NULL)
        shard->bridge_kind->counts(shard->bridge, &bridge);
    const struct tp_observed_shard now = {
        .counters = shard->counters,
        .net = tp_net_counts(shard->net),
        .clients_active = shard->channel_count,
        .connections = tp_net_connection_count(shard->net),
        .sessions_pending = shard->counters.sessions_loading,
        .session_bytes = shard->sessions_size,
        .pool_bytes = shard->pool.used_size,
        .outbox_bytes = tp_net_unsent_size(shard->net),
        .receive_bytes = tp_net_joined_size(shard->net),
        .store_queue_bytes = shard->store_size,
        .cores_full = tp_shard_is_full(shard),
        .cores_connected = tp_shard_has_all_connections(shard),
        .turns = reactor.turns,
        .enters = reactor.enters,
        .completions = reactor.completions,
        .letters_in = reactor.letters_in,
        .letters_out = reactor.letters_out,
        .wakes = reactor.wakes,
        .buffers_short = reactor.buffers_short,
        .bridge_published = bridge.published,
        .bridge_published_bytes = bridge.published_size,
        .bridge_lost = bridge.lost,
        .bridge_errors = bridge.refused,
        .bridge_heard = bridge.heard,
        .bridge_heard_bytes = bridge.heard_size,
        .bridge_reconnects = bridge.reconnects,
        .bridge_connected = bridge.connected,
        .bridge_topics = bridge.topics,
        .bridge_lag_ns = bridge.lag_ns,
    };
    const uint64_t *from = (const uint64_t *)&now;
    uint64_t *to = (uint64_t *)&shard->view;

    for (size_t i = 0; i < VIEW_WORDS; i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

void tp_shard_view_read(const struct tp_shard *shard, struct tp_observed_shard *out)
{
    const uint64_t *from = (const uint64_t *)&shard->view;
    uint64_t *to = (uint64_t *)out;

    for (size_t i = 0; i < VIEW_WORDS; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static void stop_fired(struct tp_timer *timer)
{
    tp_shard_stop_step(TP_CONTAINER(timer, struct tp_shard, stop_timer));
}

static void sweep_fired(struct tp_timer *timer)
{
    struct tp_shard *shard = TP_CONTAINER(timer, struct tp_shard, sweep_timer);

    if (shard->phase <= TP_SHARD_DRAINING)
        tp_timer_set(shard->reactor, timer, tp_server_sweep(shard));
}

static void enter(struct tp_shard *shard, enum tp_shard_phase phase, uint64_t time_ns)
{
    shard->phase = phase;
    shard->phase_until_ns = tp_reactor_now_ns(shard->reactor) + time_ns;
}

void tp_shard_stop(struct tp_shard *shard)
{
    if (shard->phase != TP_SHARD_RUNNING)
        return;
    enter(shard, TP_SHARD_DRAINING, shard->config->unready_seconds * UINT64_C(1000000000));
    tp_shard_stop_step(shard);
}

/* What is no channel: plain HTTP. */
static void close_plain(struct tp_connection *connection)
{
    enum tp_transport *user = tp_connection_user(connection);

    if (user != NULL && *user == TP_TRANSPORT_VISIT)
        tp_visit_abandon((struct tp_visit *)user);
    else if (user != NULL)
        tp_ask_abandon((struct tp_ask *)user);
    else
        tp_connection_close(connection, 0, (struct tp_slice){0});
}

static void close_one(void *context, struct tp_connection *connection)
{
    struct tp_shard *shard = context;
    struct tp_channel *channel = tp_channel_of(connection);
    const uint64_t now_ns = tp_reactor_now_ns(shard->reactor);

    if (channel == NULL) {
        close_plain(connection);
    } else if (channel->parting_ns == 0 && shard->close_left > 0) {
        shard->close_left--;
        channel->parting_ns = now_ns;
        tp_connection_pause(connection);
    } else if (channel->parting_ns != 0 && now_ns - channel->parting_ns >= STOP_PART_TIME_NS) {
        tp_channel_close(channel, TP_CLOSE_GOING_AWAY);
    }
}

static void abort_one(void *context, struct tp_connection *connection)
{
    (void)context;
    tp_connection_abort(connection);
}

static bool time_is_up(const struct tp_shard *shard)
{
    return tp_reactor_now_ns(shard->reactor) >= shard->phase_until_ns;
}

/* One look at how far the end has come; comes again by timer until the shard has stopped. */
void tp_shard_stop_step(struct tp_shard *shard)
{
    const uint64_t drain_ns = shard->config->drain_seconds * UINT64_C(1000000000);

    if (shard->phase == TP_SHARD_DRAINING && time_is_up(shard)) {
        const uint64_t steps = tp_max(drain_ns / STOP_STEP_NS, 1);
        const uint32_t count = tp_net_connection_count(shard->net);
        tp_net_stop_listening(shard->net);
        /* Few connections go at once; many in equal parts over the drain time, since clients come
         * back without jitter (spec 05 section 7). */
        shard->close_per_step = (uint32_t)tp_max((count + steps - 1) / steps, 50);
        enter(shard, TP_SHARD_CLOSING, drain_ns + STOP_CLOSE_TIME_NS);
    }
    if (shard->phase == TP_SHARD_CLOSING) {
        shard->close_left = shard->close_per_step;
        tp_net_each(shard->net, close_one, shard);
        if (time_is_up(shard))
            tp_net_each(shard->net, abort_one, shard);
        if (tp_net_connection_count(shard->net) == 0) {
            enter(shard, TP_SHARD_ENDING, STOP_END_TIME_NS);
            tp_server_shard_drained(shard->server);
        }
    }
    /* Other shards' members may still leave: sessions end when every shard has drained. */
    if (shard->phase == TP_SHARD_ENDING && tp_server_all_drained(shard->server)) {
        tp_documents_told(shard, TP_TOLD_CLOSE);
        const bool quiet = tp_node_quiet(shard) && shard->store_inflight == 0 &&
                           shard->work_inflight == 0 && HASH_COUNT(shard->documents) == 0 &&
                           tp_net_connection_count(shard->net) == 0;
        if (quiet || time_is_up(shard))
            enter(shard, TP_SHARD_STOPPED, 0);
    }
    if (shard->phase != TP_SHARD_STOPPED)
        tp_timer_set(shard->reactor, &shard->stop_timer,
                     tp_reactor_now_ns(shard->reactor) + STOP_STEP_NS);
}

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- the loop -----------------------------------------------------------------------------------
 */

static void submit_store(struct tp_shard *shard)
{
    struct tp_link ops;

    if (tp_link_alone(&shard->store_batch))
        return;
    tp_link_init(&ops);
    tp_list_splice(&ops, &shard->store_batch);
    shard->store_backend->submit(shard->store, &ops);
}

void tp_shard_begin(struct tp_shard *shard)
{
    if (shard->index == 0)
        tp_timer_set(shard->reactor, &shard->sweep_timer,
                     tp_reactor_now_ns(shard->reactor) + SWEEP_FIRST_NS);
}

bool tp_shard_turn(struct tp_shard *shard)
{
    if (shard->phase == TP_SHARD_STOPPED)
        return false;
    tp_reactor_poll(shard->reactor);
    tp_documents_trim(shard);
    submit_store(shard);
    tp_net_flush(shard->net);
    tp_node_tick(shard);
    tp_stream_tick(shard);
    tp_arena_reset(&shard->arena);
    shard->counters.ticks_slow += clock_ns() - tp_reactor_now_ns(shard->reactor) > SLOW_TURN_NS;
    publish_view(shard);
    return shard->phase != TP_SHARD_STOPPED;
}

void tp_shard_run(struct tp_shard *shard)
{
    tp_shard_begin(shard);
    while (tp_shard_turn(shard))
        tp_reactor_wait(shard->reactor);
}

/* ---- making and ending --------------------------------------------------------------------------
 */

void tp_shard_init(struct tp_shard *shard, struct tp_server *server, const struct tp_config *config,
                   uint32_t index, uint32_t count, int cpu)
{
    *shard = (struct tp_shard){
        .index = index, .count = count, .cpu = cpu, .server = server, .config = config};
    tp_pool_init(&shard->pool);
    tp_link_init(&shard->store_batch);
    tp_link_init(&shard->idle);
    tp_link_init(&shard->waiting);
    tp_link_init(&shard->to_link);
    tp_timer_init(&shard->stop_timer, stop_fired);
    tp_timer_init(&shard->sweep_timer, sweep_fired);
    tp_random_secret(&shard->random.state, sizeof shard->random.state);
}

static struct tp_net_limits net_limits(const struct tp_config *config)
{
    struct tp_net_limits limits = tp_net_limits_default;

    limits.connection_count_max = (uint32_t)config->max_connections;
    limits.message_size_max =
        (uint32_t)tp_max(config->max_message_size, config->max_update_bytes) + TP_SIZE_SLACK;
    limits.request_size_max = (uint32_t)config->max_message_size + TP_SIZE_SLACK;
    limits.outbox_size_max = config->outbox_size;
    limits.output_size_max = config->outbox_memory;
    limits.joined_size_max = config->receive_memory;
    limits.origin_connection_count_max = (uint32_t)config->max_connections_per_address;
    limits.origin_handshakes_per_s = (uint32_t)config->max_handshakes_per_address;
    limits.trusted_proxies = &config->trusted_proxies;
    limits.header_time_ns = config->request_seconds * SECOND_NS;
    limits.dead_time_ns = config->dead_seconds * SECOND_NS;
    limits.ping_time_ns = tp_min(config->ping_seconds * SECOND_NS, limits.dead_time_ns / 2);
    return limits;
}

static struct tp_rpc_limits rpc_limits(const struct tp_config *config)
{
    struct tp_rpc_limits limits = tp_rpc_limits_default;

    /* A chunk must fit into a message, with what names it. */
    limits.file_chunk_size = (uint32_t)config->file_chunk_size;
    if (config->max_message_size < limits.file_chunk_size + TP_CHUNK_SLACK)
        limits.file_chunk_size =
            (uint32_t)tp_max(config->max_message_size, TP_CHUNK_SLACK + TP_CHUNK_SIZE_MIN) -
            TP_CHUNK_SLACK;
    limits.milestone_count_max = (uint32_t)config->milestone_count_max;
    limits.milestone_size_max = config->milestone_size_max;
    limits.file_size_max = config->max_file_size;
    limits.document_files_size_max = config->max_document_files_size;
    limits.upload_count_max = (uint32_t)config->max_unfinished_uploads;
    return limits;
}

bool tp_shard_open(struct tp_shard *shard, struct tp_post *post,
                   const struct tp_store_backend *store_backend, struct tp_store *store,
                   struct tp_work_pool *work, char *error, size_t error_size)
{
    shard->store_backend = store_backend;
    shard->arena = (struct tp_arena){.base = aligned_alloc(16, ARENA_SIZE), .size = ARENA_SIZE};
    shard->rpc_limits = rpc_limits(shard->config);
    shard->limits = tp_session_limits_default;
    shard->limits.grace_ns = shard->config->session_grace_seconds * UINT64_C(1000000000);
    shard->limits.update_size_max = shard->config->max_update_bytes;
    shard->limits.checkpoint_size = shard->config->outbox_size / CHECKPOINTS_PER_OUTBOX;
    shard->limits.size_warning = shard->config->document_size_warning;
    shard->limits.size_limit = shard->config->document_size_limit;
    shard->limits.attribution_push = shard->config->attribution_push;
    shard->limits.compact_count = (uint32_t)shard->config->compact_count;
    shard->limits.compact_size = shard->config->compact_size;
    if (shard->config->rate_limits.count > 0)
        shard->rate = tp_rate_create(&shard->config->rate_limits, tp_random_next(&shard->random));
    shard->env = (struct tp_session_env){.pool = &shard->pool,
                                         .arena = &shard->arena,
                                         .random = &shard->random,
                                         .counters = &shard->counters,
                                         .limits = &shard->limits};
    shard->rpc_env = (struct tp_rpc_env){
        .pool = &shard->pool,
        .random = &shard->random,
        .counters = &shard->counters,
        .limits = &shard->rpc_limits,
        .milestones = {.update_count = shard->config->milestone_updates,
                       .interval_ms = shard->config->milestone_seconds * 1000,
                       .event = shard->config->milestone_event},
    };

    const struct tp_reactor_config reactor = {.entry_count = 1024,
                                              .buffer_count = 1024,
                                              .buffer_size = 4096,
                                              .cpu = shard->cpu,
                                              .post = post,
                                              .endpoint = shard->index,
                                              .letter = tp_shard_letter,
                                              .context = shard};
    shard->reactor = tp_reactor_create(&reactor);
    if (shard->reactor == NULL) {
        snprintf(error, error_size, "cannot set up io_uring for core %d: %s", shard->cpu,
                 strerror(errno));
        return false;
    }

    const struct tp_net_limits limits = net_limits(shard->config);
    shard->net = tp_net_create(shard->reactor, &shard->pool, &limits, &tp_channel_handler, shard);
    shard->store =
        shard->store_backend->attach(store, shard->reactor, tp_document_store_answered, shard);
    shard->work = tp_work_attach(work, shard->reactor, tp_document_work_answered, shard);
    return true;
}

void tp_shard_finish(struct tp_shard *shard)
{
    struct tp_document *document, *next;

    if (shard->net != NULL)
        tp_net_destroy(shard->net);
    tp_verify_forget(); /* TLS handshakes fill the same cache of this thread */
    HASH_ITER(hh, shard->documents, document, next)
    tp_document_abandon(document);
    tp_node_detach(shard);
    if (shard->work != NULL)
        tp_work_detach(shard->work);
    if (shard->store != NULL)
        shard->store_backend->detach(shard->store);
    if (shard->reactor != NULL)
        tp_reactor_destroy(shard->reactor);
    tp_gate_finish(&shard->gate);
    tp_refusals_finish(shard);
    tp_stream_tick(shard);
    tp_frame_unref(shard->stream_ping);
    tp_rate_destroy(shard->rate);
    free(shard->arena.base);
    tp_pool_finish(&shard->pool);
}
