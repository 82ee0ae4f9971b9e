#include "node/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "net/tls.h"
#include "node/admin.h"
#include "node/collect.h"
#include "node/compact.h"
#include "node/cpus.h"
#include "node/news.h"
#include "node/node_id.h"
#include "node/notify.h"
#include "node/watch.h"
#include "reactor/check.h"

#define SIGNAL_WAIT_NS 10000000 /* how often the main thread looks, while ending */
#define OTHER_FILES 640u /* descriptors beside connections: RocksDB (512), rings, listeners */

/* How often shards wait for each other at the end: so that none frees what another still reads. */
#define END_MEETING_COUNT 3u

/* The sweep looks at ten thousand rows of log a second, rests when it has seen all, and folds what
 * is worth a quarter of the work that a session in use asks for. */
#define SWEEP_STEP_NS UINT64_C(100000000)
#define SWEEP_REST_NS UINT64_C(60000000000)
#define SWEEP_PART 4u

struct shard_slot {
    struct tp_shard shard;
    struct tp_shard_letter stop;
    pthread_t thread;
    bool started;
    char error[TP_CONFIG_ERROR_SIZE];
};

struct tp_server {
    struct tp_config config;
    struct tp_log log;
    struct tp_keys keys; /* as read at the start */
    struct tp_admin_token admin_token;
    struct tp_webhook *webhook; /* NULL: nobody wants to know */
    struct shard_slot *slots;
    uint32_t shard_count;
    struct tp_post *post;
    const struct tp_store_backend *store_backend;
    struct tp_store *store;
    struct tp_work_pool *work;
    struct tp_compact compact;
    struct tp_watch watch;
    struct tp_collect collect;
    struct sweep {
        uint64_t count; /* of sweeps that had come to their end when shard 0 last asked */
        uint64_t next_ns;
    } compact_sweep, collect_sweep;
    uint32_t first_store, first_worker, main_endpoint;
    uint64_t started_ns; /* monotonic */
    char node_id[TP_NODE_ID_SIZE_MAX + 1];
    const struct tp_bridge_kind *bridge_kind; /* NULL: bridge = none */
    struct tp_bridge *bridge;
    bool id_taken; /* atomic: another node has our id */
    uint32_t node_tag;
    uint32_t drained; /* shards without connections; atomic */
    bool draining;    /* atomic */

    /* starting: shard after shard, so that each error has its say and port 0 becomes a number */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint32_t opened; /* shards that have finished opening */
    uint32_t ended;  /* shards whose loop has ended; they keep their memory until all have */
    bool failed;
    struct tp_tls_context *tls; /* NULL: nowhere */
    /* with the real ports */
    char listen[TP_CONFIG_LISTEN_COUNT_MAX][TP_CONFIG_ADDRESS_SIZE];
    char admin[TP_CONFIG_ADDRESS_SIZE];
};

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- what shards ask ----------------------------------------------------------------------------
 */

static uint64_t wall_ms(void)
{
    struct timespec wall;

    clock_gettime(CLOCK_REALTIME, &wall);
    return (uint64_t)wall.tv_sec * 1000 + (uint64_t)wall.tv_nsec / 1000000;
}

uint32_t tp_server_endpoint(const struct tp_server *server)
{
    return server->main_endpoint;
}

uint32_t tp_server_node_tag(const struct tp_server *server)
{
    return server->node_tag;
}

void tp_server_bridge_contact(struct tp_shard *shard, const char *why)
{
    const struct tp_log *log = &shard->server->log;

    if (shard->index != 0)
        return; /* every core has its own; what happens to one happens to all */
    if (why == NULL)
        tp_log(log, TP_LOG_INFO, "bridge connected");
    else
        tp_log(log, TP_LOG_WARN, "bridge lost", tp_log_text("reason", why),
               tp_log_text("meanwhile", "clients here are served; other nodes hear of it later"));
}

void tp_server_refuse_id(struct tp_shard *shard)
{
    struct tp_server *server = shard->server;

    tp_log(&server->log, TP_LOG_ERROR, "node id taken", tp_log_text("node", server->node_id),
           tp_log_text("reason", "another node of this cluster has it: give each its own node_id, "
                                 "or its own data directory"));
    __atomic_store_n(&server->id_taken, true, __ATOMIC_RELAXED);
    kill(getpid(), SIGTERM); /* the main thread ends what has begun, in order */
}

void tp_server_letter(struct tp_shard *shard, struct tp_letter *letter)
{
    if (letter->from < shard->server->first_worker)
        shard->server->store_backend->letter(shard->store, letter);
    else
        tp_work_letter(shard->work, letter);
}

void tp_server_compact(struct tp_shard *shard, uint64_t number)
{
    tp_compact_submit(&shard->server->compact, shard->work, number);
}

/* True: a step is due. When all has been looked at, the next sweep begins later. */
static bool is_due(struct sweep *sweep, uint64_t count, uint64_t now_ns)
{
    const bool at_end = count != sweep->count;

    if (now_ns < sweep->next_ns)
        return false;
    sweep->count = count;
    sweep->next_ns = now_ns + (at_end ? SWEEP_REST_NS : SWEEP_STEP_NS);
    return !at_end;
}

uint64_t tp_server_sweep(struct tp_shard *shard)
{
    struct tp_server *server = shard->server;
    const uint64_t now_ns = tp_reactor_now_ns(shard->reactor);

    TP_ASSERT(shard->index == 0);
    if (is_due(&server->compact_sweep, atomic_load(&server->compact.sweep_count), now_ns))
        tp_compact_sweep_submit(&server->compact, shard->work);
    if (is_due(&server->collect_sweep, atomic_load(&server->collect.sweep_count), now_ns))
        tp_collect_submit(&server->collect, shard->work);
    return tp_min(server->compact_sweep.next_ns, server->collect_sweep.next_ns);
}

void tp_server_news(struct tp_shard *shard, enum tp_news news, struct tp_slice room,
                    struct tp_slice document, size_t size)
{
    static const enum tp_log_level levels[TP_NEWS_COUNT] = {
        [TP_NEWS_CREATED] = TP_LOG_DEBUG,     [TP_NEWS_LOADED] = TP_LOG_DEBUG,
        [TP_NEWS_UNLOADED] = TP_LOG_DEBUG,    [TP_NEWS_DELETED] = TP_LOG_INFO,
        [TP_NEWS_SIZE_WARNING] = TP_LOG_WARN, [TP_NEWS_SIZE_LIMIT] = TP_LOG_WARN,
    };
    struct tp_server *server = shard->server;

    if (levels[news] <= server->log.level)
        tp_log(&server->log, levels[news], "document", tp_log_text("what", tp_news_name(news)),
               tp_log_slice("room", room), tp_log_slice("document", document),
               tp_log_number("size", (int64_t)size));
    tp_webhook_tell(server->webhook, shard->index, news, room, document,
                    tp_reactor_wall_ms(shard->reactor), size);
}

void tp_server_observe(struct tp_shard *shard, struct tp_observed *out)
{
    struct tp_server *server = shard->server;
    struct tp_store_counts store = {0};
    struct tp_observed_shard *shards =
        tp_arena_take(&shard->arena, server->shard_count * sizeof *shards);

    *out = (struct tp_observed){.node_id = server->node_id, .shards = shards};
    for (uint32_t i = 0; shards != NULL && i < server->shard_count; i++)
        tp_shard_view_read(&server->slots[i].shard, &shards[i]);
    out->shard_count = shards == NULL ? 0 : server->shard_count;
    server->store_backend->counts(server->store, &store);
    out->store = (struct tp_observed_store){.appends = store.appends,
                                            .writes = store.writes,
                                            .reads = store.reads,
                                            .commits = store.commits,
                                            .syncs = store.syncs,
                                            .written_bytes = store.bytes_written,
                                            .operations_failed = store.failures,
                                            .queued = store.queued,
                                            .commit_ns_total = store.commit_ns_total,
                                            .commit_ns_max = store.commit_ns_max};
    out->compact =
        (struct tp_observed_compact){.bases = atomic_load(&server->compact.folded_count),
                                     .entries = atomic_load(&server->compact.entry_count),
                                     .conflicts = atomic_load(&server->compact.conflict_count),
                                     .failures = atomic_load(&server->compact.failed_count),
                                     .sweeps = atomic_load(&server->compact.sweep_count)};
    out->collect =
        (struct tp_observed_collect){.uploads = atomic_load(&server->collect.expired_count),
                                     .files = atomic_load(&server->collect.file_count),
                                     .references = atomic_load(&server->collect.reference_count),
                                     .chunks = atomic_load(&server->collect.chunk_count),
                                     .sweeps = atomic_load(&server->collect.sweep_count)};
    tp_webhook_counts(server->webhook, &out->webhook);
    tp_observe_process(&out->process);
    out->wall_ms = wall_ms();
    out->uptime_ms = (clock_ns() - server->started_ns) / 1000000;
    tp_watch_observe(&server->watch, out);
    out->draining = __atomic_load_n(&server->draining, __ATOMIC_RELAXED);
}

bool tp_server_is_full(const struct tp_server *server, uint32_t shard_index)
{
    return __atomic_load_n(&server->slots[shard_index].shard.view.cores_full, __ATOMIC_RELAXED);
}

bool tp_server_has_all_connections(const struct tp_server *server, uint32_t shard_index)
{
    return __atomic_load_n(&server->slots[shard_index].shard.view.cores_connected,
                           __ATOMIC_RELAXED);
}

void tp_server_shard_drained(struct tp_server *server)
{
    __atomic_add_fetch(&server->drained, 1, __ATOMIC_RELEASE);
}

bool tp_server_all_drained(const struct tp_server *server)
{
    return __atomic_load_n(&server->drained, __ATOMIC_ACQUIRE) >= server->shard_count;
}

/* ---- a shard's thread ---------------------------------------------------------------------------
 */

/* The HOST:PORT of an address, or NULL when it is not one for TLS. */
static const char *tls_address(const char *address)
{
    const size_t size = sizeof TP_CONFIG_TLS - 1;

    return strncmp(address, TP_CONFIG_TLS, size) == 0 ? address + size : NULL;
}

/* Port 0 becomes a number: the first shard's is for all. */
static void set_port(char address[TP_CONFIG_ADDRESS_SIZE], uint16_t port)
{
    char *colon = strrchr(address, ':');

    snprintf(colon + 1, TP_CONFIG_ADDRESS_SIZE - (size_t)(colon + 1 - address), "%u", port);
}

static bool listen_all(struct tp_server *server, struct shard_slot *slot)
{
    uint16_t port = 0;

    for (uint32_t i = 0; i < server->config.listen_count; i++) {
        const char *const tls = tls_address(server->listen[i]);
        if (tp_net_listen_tls(slot->shard.net, tls != NULL ? tls : server->listen[i],
                              tls != NULL ? server->tls : NULL, &port) != TP_OK) {
            snprintf(slot->error, sizeof slot->error,
                     "cannot listen on %s: %s; choose another address with --listen HOST:PORT",
                     server->listen[i], strerror(errno));
            return false;
        }
        set_port(server->listen[i], port);
    }
    if (slot->shard.index > 0 || server->admin[0] == '\0')
        return true;
    if (tp_net_listen_alone(slot->shard.net, server->admin, TP_DOOR_ADMIN, &port) != TP_OK) {
        snprintf(slot->error, sizeof slot->error,
                 "cannot listen on %s for management: %s; choose another address with --admin "
                 "HOST:PORT, or --admin off",
                 server->admin, strerror(errno));
        return false;
    }
    set_port(server->admin, port);
    return true;
}

static void meet(struct tp_server *server, uint32_t *count, uint32_t want)
{
    pthread_mutex_lock(&server->mutex);
    ++*count;
    pthread_cond_broadcast(&server->changed);
    while (*count < want)
        pthread_cond_wait(&server->changed, &server->mutex);
    pthread_mutex_unlock(&server->mutex);
}

/* Always true: a broker that is not there is waited for by nobody. */
static bool attach_bridge(struct tp_server *server, struct tp_shard *shard)
{
    if (server->bridge != NULL) {
        shard->env.node_id = tp_slice_of(server->node_id, strlen(server->node_id));
        tp_node_attach(shard, server->bridge_kind, server->bridge);
    }
    return true;
}

static void *shard_thread(void *argument)
{
    struct shard_slot *slot = argument;
    struct tp_shard *shard = &slot->shard;
    struct tp_server *server = shard->server;
    char name[16];

    snprintf(name, sizeof name, "shard-%u", shard->index);
    pthread_setname_np(pthread_self(), name);
    const bool good = tp_shard_open(shard, server->post, server->store_backend, server->store,
                                    server->work, slot->error, sizeof slot->error) &&
                      attach_bridge(server, shard) && listen_all(server, slot);

    pthread_mutex_lock(&server->mutex);
    server->opened++;
    server->failed |= !good;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);

    if (good)
        tp_shard_run(shard);
    /* Letters that the others wrote last, and then what came home because of them. */
    for (uint32_t meeting = 1; meeting <= END_MEETING_COUNT; meeting++) {
        meet(server, &server->ended, meeting * server->shard_count);
        if (good && meeting < END_MEETING_COUNT)
            tp_reactor_poll(shard->reactor);
    }
    if (good && (shard->store_inflight > 0 || shard->work_inflight > 0)) {
        /* A disk that does not answer. Other threads still hold what would be freed below; what
         * they have not answered was promised to nobody. */
        tp_log(&server->log, TP_LOG_WARN, "stopped with the store unfinished");
        _exit(0);
    }
    tp_shard_finish(shard);
    return NULL;
}

/* ---- starting -----------------------------------------------------------------------------------
 */

static int fail(const char *error)
{
    fprintf(stderr, "teleportald: %s\n", error);
    return 1;
}

/* NULL for auth = anonymous: then nobody asks for keys. */
static struct tp_keys *copy_keys(const struct tp_server *server, const struct tp_keys *keys)
{
    if (server->config.auth == TP_CONFIG_AUTH_ANONYMOUS)
        return NULL;
    struct tp_keys *copy = malloc(sizeof *copy);
    TP_ASSERT(copy != NULL);
    *copy = *keys;
    return copy;
}

static bool load_keys(struct tp_server *server, struct tp_keys *keys, char *error, size_t size)
{
    bool weak;

    if (server->config.auth == TP_CONFIG_AUTH_ANONYMOUS)
        return true;
    if (!tp_gate_load(&server->config, keys, &weak, error, size))
        return false;
    if (weak)
        tp_log(&server->log, TP_LOG_WARN, "weak key",
               tp_log_text("reason", "a secret shorter than 32 bytes can be guessed"));
    return true;
}

static bool load_certificate(struct tp_server *server, char *error, size_t size)
{
    const struct tp_config *config = &server->config;
    bool wanted = false;

    for (uint32_t i = 0; i < config->listen_count; i++)
        wanted |= tls_address(config->listen[i]) != NULL;
    if (!wanted)
        return true;
    if (config->tls_certificate[0] == 0 || config->tls_key[0] == 0) {
        snprintf(error, size,
                 "cannot listen on a " TP_CONFIG_TLS " address without a certificate; name its "
                 "files with --tls-certificate FILE and --tls-key FILE");
        return false;
    }
    server->tls = tp_tls_context_create(config->tls_certificate, config->tls_key, error, size);
    return server->tls != NULL;
}

static void start_shards(struct tp_server *server, const int cpus[])
{
    for (uint32_t i = 0; i < server->shard_count && !server->failed; i++) {
        struct shard_slot *slot = &server->slots[i];
        tp_shard_init(&slot->shard, server, &server->config, i, server->shard_count, cpus[i]);
        tp_gate_init(&slot->shard.gate, &server->config, copy_keys(server, &server->keys));
        slot->shard.admin_token = server->admin_token;
        TP_ASSERT(pthread_create(&slot->thread, NULL, shard_thread, slot) == 0);
        slot->started = true;
        pthread_mutex_lock(&server->mutex);
        while (server->opened < i + 1)
            pthread_cond_wait(&server->changed, &server->mutex);
        pthread_mutex_unlock(&server->mutex);
    }
    if (server->failed)
        for (uint32_t i = 0; i < server->shard_count; i++)
            if (!server->slots[i].started) { /* those that never came are waited for as well */
                pthread_mutex_lock(&server->mutex);
                server->ended += END_MEETING_COUNT;
                pthread_cond_broadcast(&server->changed);
                pthread_mutex_unlock(&server->mutex);
            }
}

static void say_ready(struct tp_server *server)
{
    fprintf(stderr, "teleportald " TP_VERSION " is ready on");
    for (uint32_t i = 0; i < server->config.listen_count; i++) {
        const char *const tls = tls_address(server->listen[i]);
        fprintf(stderr, "%s %s%s", i == 0 ? "" : ",", tls != NULL ? "https://" : "http://",
                tls != NULL ? tls : server->listen[i]);
    }
    if (server->admin[0] != '\0')
        fprintf(stderr, ", managed at http://%s", server->admin);
    fprintf(stderr, " (%u core%s, data in %s)\n", server->shard_count,
            server->shard_count == 1 ? "" : "s", server->config.data);
    tp_notify_ready("serving");
}

/* ---- signals and the end ------------------------------------------------------------------------
 */

static sigset_t wanted_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGHUP);
    return set;
}

static void send_stop(struct tp_server *server, struct tp_reactor *reactor)
{
    __atomic_store_n(&server->draining, true, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < server->shard_count; i++) {
        server->slots[i].stop = (struct tp_shard_letter){.letter.kind = TP_LETTER_STOP};
        tp_link_init(&server->slots[i].stop.letter.link);
        tp_post_send(reactor, i, &server->slots[i].stop.letter);
    }
    tp_reactor_stay_awake(reactor);
    tp_reactor_wait(reactor);
}

/* `keys` and `token`: read again; NULL: there are none. */
static void send_keys(struct tp_server *server, struct tp_reactor *reactor,
                      const struct tp_keys *keys, const struct tp_admin_token *token)
{
    for (uint32_t i = 0; i < server->shard_count; i++) {
        struct tp_shard_letter *letter = calloc(1, sizeof *letter);
        TP_ASSERT(letter != NULL);
        letter->letter.kind = TP_LETTER_KEYS;
        letter->keys = copy_keys(server, keys);
        if (token != NULL && i == 0) {
            letter->admin_token = malloc(sizeof *token);
            TP_ASSERT(letter->admin_token != NULL);
            *letter->admin_token = *token;
        }
        tp_link_init(&letter->letter.link);
        tp_post_send(reactor, i, &letter->letter);
    }
    tp_reactor_stay_awake(reactor);
    tp_reactor_wait(reactor);
}

/* Reads keys and the management token again. Connections stay: their tokens were good when they
 * came. */
static void reload(struct tp_server *server, struct tp_reactor *reactor)
{
    const bool has_keys = server->config.auth != TP_CONFIG_AUTH_ANONYMOUS;
    struct tp_keys *keys = calloc(1, sizeof *keys);
    struct tp_admin_token token;
    char error[TP_CONFIG_ERROR_SIZE] = "";

    TP_ASSERT(keys != NULL);
    if (!load_keys(server, keys, error, sizeof error) ||
        !tp_admin_token_load(&server->config, &token, error, sizeof error)) {
        tp_log(&server->log, TP_LOG_ERROR, "keys not reloaded", tp_log_text("reason", error),
               tp_log_text("kept", "those read before"));
    } else if (!has_keys && !token.given) {
        tp_log(&server->log, TP_LOG_INFO, "nothing to reload",
               tp_log_text("reason", "auth is anonymous"));
    } else {
        send_keys(server, reactor, keys, token.given ? &token : NULL);
        tp_log(&server->log, TP_LOG_INFO, "keys reloaded", tp_log_number("keys", keys->count),
               tp_log_number("skipped", keys->skipped));
    }
    free(keys);
}

static void look(struct tp_server *server)
{
    struct tp_observed_shard view;
    uint64_t accept_failures = 0;

    for (uint32_t i = 0; i < server->shard_count; i++) {
        tp_shard_view_read(&server->slots[i].shard, &view);
        accept_failures += view.net.accept_failures;
    }
    tp_watch_look(&server->watch, clock_ns(), accept_failures);
}

/* Until a signal asks to stop. */
static void wait_for_stop(struct tp_server *server, struct tp_reactor *reactor,
                          const sigset_t *signals)
{
    const uint64_t watchdog_ns = tp_notify_watchdog_ns();
    const uint64_t period_ns =
        watchdog_ns == 0 ? TP_WATCH_PERIOD_NS : tp_min(TP_WATCH_PERIOD_NS, watchdog_ns);
    const struct timespec period = {.tv_nsec = (long)period_ns};
    uint64_t answer_ns = 0;

    for (;;) {
        const int signal = sigtimedwait(signals, NULL, &period);
        if (signal == SIGTERM || signal == SIGINT || signal == SIGUSR2) {
            tp_log(&server->log, TP_LOG_INFO, "stopping",
                   tp_log_text("signal", signal == SIGTERM  ? "SIGTERM"
                                         : signal == SIGINT ? "SIGINT"
                                                            : "SIGUSR2"));
            return;
        }
        if (signal == SIGHUP)
            reload(server, reactor);
        look(server);
        if (watchdog_ns != 0 && clock_ns() >= answer_ns && tp_watch_all_turn(&server->watch)) {
            tp_notify_watchdog();
            answer_ns = clock_ns() + watchdog_ns - period_ns;
        }
    }
}

/* Until every shard has ended. A second signal ends the process at once: what was acknowledged is
 * durable, and what was not is not promised. */
static void wait_for_end(struct tp_server *server, const sigset_t *signals)
{
    for (;;) {
        pthread_mutex_lock(&server->mutex);
        const bool over = server->ended >= END_MEETING_COUNT * server->shard_count;
        pthread_mutex_unlock(&server->mutex);
        if (over)
            return;
        const struct timespec period = {0, SIGNAL_WAIT_NS};
        const int signal = sigtimedwait(signals, NULL, &period);
        if (signal == SIGTERM || signal == SIGINT) {
            tp_log(&server->log, TP_LOG_WARN, "stopped at once");
            _exit(0);
        }
    }
}

static void finish(struct tp_server *server)
{
    for (uint32_t i = 0; server->slots != NULL && i < server->shard_count; i++)
        if (server->slots[i].started)
            pthread_join(server->slots[i].thread, NULL);
    tp_webhook_destroy(server->webhook);
    if (server->bridge != NULL)
        server->bridge_kind->close(server->bridge);
    if (server->work != NULL)
        tp_work_pool_destroy(server->work);
    if (server->store != NULL)
        server->store_backend->close(server->store);
    if (server->post != NULL)
        tp_post_destroy(server->post);
    tp_tls_context_destroy(server->tls);
    free(server->slots);
}

static bool open_engine(struct tp_server *server, char *error, size_t error_size)
{
    const uint32_t workers = (uint32_t)server->config.worker_threads;

    server->store_backend = tp_store_backend_find("rocksdb");
    server->first_store = server->shard_count;
    server->first_worker = server->first_store + server->store_backend->endpoint_count;
    server->main_endpoint = server->first_worker + workers;
    server->post = tp_post_create(server->main_endpoint + 1);

    const struct tp_store_config store = {.location = server->config.data,
                                          .durability =
                                              (enum tp_durability)server->config.durability,
                                          .post = server->post,
                                          .first_endpoint = server->first_store,
                                          .memory_size = server->config.store_memory,
                                          .salvage = server->config.salvage};
    error[0] = '\0';
    server->store = server->store_backend->open(&store, error, error_size);
    if (server->store == NULL)
        return false;
    if (error[0] != '\0')
        tp_log(&server->log, TP_LOG_ERROR, "the store was not whole", tp_log_text("detail", error));
    server->compact = (struct tp_compact){
        .backend = server->store_backend,
        .store = server->store,
        .keep_deleted = server->config.keep_history,
        .sweep_row_count = (uint32_t)tp_max(server->config.compact_count / SWEEP_PART, 2),
        .sweep_size = server->config.compact_size / SWEEP_PART};
    server->watch = (struct tp_watch){.log = &server->log,
                                      .backend = server->store_backend,
                                      .store = server->store,
                                      .post = server->post,
                                      .directory = server->config.data,
                                      .disk_reserve = server->config.disk_reserve,
                                      .hang_ns = server->config.hang_seconds * 1000000000,
                                      .shard_count = server->shard_count,
                                      .first_worker = server->first_worker,
                                      .thread_count = server->main_endpoint};
    server->collect = (struct tp_collect){.backend = server->store_backend,
                                          .store = server->store,
                                          .expiry_ms = server->config.upload_expiry_seconds * 1000,
                                          .wall_ms = wall_ms};
    server->work = tp_work_pool_create(server->post, server->first_worker, workers);
    if (server->work == NULL) {
        snprintf(error, error_size, "cannot start %u worker threads: %s", workers, strerror(errno));
        return false;
    }
    return true;
}

static bool open_bridge(struct tp_server *server, char *error, size_t error_size)
{
    const char *location = server->config.bridge;

    if (!tp_node_id_load(&server->config, server->node_id, error, error_size))
        return false;
    if (strcmp(location, "none") == 0)
        return true;
    server->bridge_kind = tp_bridge_find(location);
    server->bridge = server->bridge_kind->open(location, error, error_size);
    return server->bridge != NULL;
}

static int run(struct tp_server *server)
{
    const sigset_t signals = wanted_signals();
    char error[TP_CONFIG_ERROR_SIZE] = "";
    int cpus[TP_CPU_COUNT_MAX];
    uint8_t random[16];

    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    server->started_ns = clock_ns();
    tp_random_secret(random, sizeof random);
    server->node_tag = (uint32_t)random[0] << 24 | (uint32_t)random[1] << 16 |
                       (uint32_t)random[2] << 8 | random[3];
    memcpy(server->listen, server->config.listen, sizeof server->listen);
    memcpy(server->admin, server->config.admin, sizeof server->admin);
    server->log = tp_log_init((enum tp_log_level)server->config.log_level, server->config.log_json);

    server->shard_count = tp_cpu_list((uint32_t)server->config.cores, cpus);
    if (!tp_reactor_check(server->shard_count,
                          server->shard_count * server->config.max_connections + OTHER_FILES, error,
                          sizeof error))
        return fail(error);
    if (error[0] != 0) /* a warning: it works, but not as far as configured */
        tp_log(&server->log, TP_LOG_WARN, "limit", tp_log_text("reason", error));
    if (!load_keys(server, &server->keys, error, sizeof error) ||
        !load_certificate(server, error, sizeof error) ||
        !tp_admin_token_load(&server->config, &server->admin_token, error, sizeof error))
        return fail(error);
    server->webhook = tp_webhook_create(&server->config, server->node_id, &server->log,
                                        server->shard_count, error, sizeof error);
    if (error[0] != '\0' || !open_engine(server, error, sizeof error) ||
        !open_bridge(server, error, sizeof error))
        return fail(error);

    server->slots = aligned_alloc(64, (server->shard_count * sizeof *server->slots + 63) / 64 * 64);
    memset(server->slots, 0, server->shard_count * sizeof *server->slots);
    start_shards(server, cpus);

    const struct tp_reactor_config config = {
        .entry_count = 64, .cpu = -1, .post = server->post, .endpoint = server->main_endpoint};
    struct tp_reactor *reactor = tp_reactor_create(&config);
    int code = 0;
    if (server->failed || reactor == NULL) {
        for (uint32_t i = 0; i < server->shard_count; i++)
            if (server->slots[i].error[0] != 0)
                code = fail(server->slots[i].error);
    } else {
        say_ready(server);
        wait_for_stop(server, reactor, &signals);
        tp_notify_stopping();
    }
    send_stop(server, reactor);
    wait_for_end(server, &signals);
    tp_reactor_destroy(reactor);
    return __atomic_load_n(&server->id_taken, __ATOMIC_RELAXED) ? 1 : code;
}

int tp_server_main(const struct tp_config *config)
{
    struct tp_server *server = calloc(1, sizeof *server);

    TP_ASSERT(server != NULL);
    server->config = *config;
    pthread_mutex_init(&server->mutex, NULL);
    pthread_cond_init(&server->changed, NULL);
    const int code = run(server);
    finish(server);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    if (code == 0)
        tp_log(&server->log, TP_LOG_INFO, "stopped");
    free(server);
    return code;
}
