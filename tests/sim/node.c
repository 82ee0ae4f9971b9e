/* The process: what src/node/server.c is to the product, without its threads and signals. */
#include <stdlib.h>

#include "node/compact.h"
#include "node/server.h"
#include "sim/sim.h"

#define SWEEP_STEP_NS UINT64_C(100000000)
#define SWEEP_REST_NS UINT64_C(3000000000)

struct slot {
    struct sim_task task;
    struct tp_shard shard;
    struct tp_shard_letter stop;
    uint64_t stalled_until_ns;
    enum tp_shard_phase phase_seen; /* told last */
};

struct tp_server {
    struct tp_config config;
    struct tp_keys keys;
    struct tp_post *post;
    struct tp_reactor *main; /* sends STOP */
    struct tp_store *store;
    struct tp_work_pool *work;
    struct tp_compact compact;
    uint64_t sweep_count;
    uint32_t shard_count, first_store, first_worker, main_endpoint, drained;
    struct slot slots[SHARD_COUNT_MAX];
};

enum sim_node_state sim_node_state;
static struct sim_heap heap;
static struct tp_server *node;

/* ---- what shards ask ----------------------------------------------------------------------------
 */

uint32_t tp_server_endpoint(const struct tp_server *server)
{
    return server->main_endpoint;
}

uint32_t tp_server_node_tag(const struct tp_server *server)
{
    (void)server;
    return 7;
}

void tp_server_letter(struct tp_shard *shard, struct tp_letter *letter)
{
    if (letter->from < shard->server->first_worker)
        sim_store.letter(shard->store, letter);
    else
        tp_work_letter(shard->work, letter);
}

void tp_server_compact(struct tp_shard *shard, uint64_t number)
{
    tp_compact_submit(&shard->server->compact, shard->work, number);
}

uint64_t tp_server_sweep(struct tp_shard *shard)
{
    struct tp_server *server = shard->server;
    const uint64_t count = atomic_load(&server->compact.sweep_count);
    const bool at_end = count != server->sweep_count;

    server->sweep_count = count;
    if (!at_end)
        tp_compact_sweep_submit(&server->compact, shard->work);
    return tp_reactor_now_ns(shard->reactor) + (at_end ? SWEEP_REST_NS : SWEEP_STEP_NS);
}

bool tp_server_is_full(const struct tp_server *server, uint32_t shard_index)
{
    (void)server, (void)shard_index;
    return false;
}

bool tp_server_has_all_connections(const struct tp_server *server, uint32_t shard_index)
{
    (void)server, (void)shard_index;
    return false;
}

void tp_server_bridge_contact(struct tp_shard *shard, const char *why)
{
    (void)shard, (void)why;
}

void tp_server_refuse_id(struct tp_shard *shard)
{
    (void)shard;
    sim_fail("there is one node only");
}

void tp_server_news(struct tp_shard *shard, enum tp_news news, struct tp_slice room,
                    struct tp_slice document, size_t size)
{
    (void)shard, (void)news, (void)room, (void)document, (void)size;
}

void tp_server_observe(struct tp_shard *shard, struct tp_observed *out)
{
    (void)shard, (void)out;
    sim_fail("nobody reads pages here");
}

void tp_server_shard_drained(struct tp_server *server)
{
    server->drained++;
}

bool tp_server_all_drained(const struct tp_server *server)
{
    return server->drained >= server->shard_count;
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static void remove_tasks(void)
{
    for (uint32_t i = 0; i < node->shard_count; i++)
        sim_remove_task(&node->slots[i].task);
}

/* Every shard has stopped. As the process does it: each looks at its letters twice more, then all
 * go, in order; and nothing may be left. */
static void end(void)
{
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct tp_shard *shard = &node->slots[i].shard;
        if (shard->store_inflight > 0 || shard->work_inflight > 0) {
            sim_say("the server leaves without its disk"); /* as server.c does: nothing of it was
                                                              promised to anybody */
            sim_node_crash();
            return;
        }
    }
    sim.hurry = true;
    for (uint32_t i = 0; i < 2 * node->shard_count; i++)
        tp_reactor_poll(node->slots[i % node->shard_count].shard.reactor);
    for (uint32_t i = 0; i < node->shard_count; i++) {
        struct tp_shard *shard = &node->slots[i].shard;
        tp_shard_finish(shard);
        if (shard->pool.used_size != 0)
            sim_post_tell(node->post);
        if (shard->pool.used_size != 0)
            sim_fail("shard %u leaks %zu bytes of its pool", i, shard->pool.used_size);
    }
    remove_tasks();
    tp_work_pool_destroy(node->work);
    sim_store.close(node->store);
    tp_reactor_destroy(node->main);
    tp_post_destroy(node->post);
    free(node);
    node = NULL;
    if (heap.count > 0)
        sim_fail("%zu blocks of %zu bytes are not freed", heap.count, heap.size);
    sim.hurry = false;
    sim_node_state = NODE_DOWN;
    sim_say("the server has ended");
}

static void turn(struct sim_task *task)
{
    struct slot *slot = TP_CONTAINER(task, struct slot, task);
    bool all_stopped = true;

    if (sim.now_ns < slot->stalled_until_ns && !sim.calm) {
        sim_wake(task, slot->stalled_until_ns);
        return;
    }
    if (tp_shard_turn(&slot->shard))
        tp_reactor_wait(slot->shard.reactor);
    if (slot->shard.phase != slot->phase_seen) {
        slot->phase_seen = slot->shard.phase;
        sim_say("shard %u: phase %d, %lu and %lu operations open, %u documents", slot->shard.index,
                slot->shard.phase, slot->shard.store_inflight, slot->shard.work_inflight,
                HASH_COUNT(slot->shard.documents));
    }
    for (uint32_t i = 0; i < node->shard_count; i++)
        all_stopped &= node->slots[i].shard.phase == TP_SHARD_STOPPED;
    if (all_stopped)
        end();
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static struct tp_keys *copy_keys(void)
{
    if (node->config.auth == TP_CONFIG_AUTH_ANONYMOUS)
        return NULL;
    struct tp_keys *copy = malloc(sizeof *copy);
    TP_ASSERT(copy != NULL);
    *copy = node->keys;
    return copy;
}

/* In the server's heap. */
static void start_shard(uint32_t index)
{
    struct slot *slot = &node->slots[index];
    struct tp_shard *shard = &slot->shard;
    char error[TP_CONFIG_ERROR_SIZE];

    sim_add_task(&slot->task, turn);
    sim_reactor_task(index, &slot->task);
    tp_shard_init(shard, node, &node->config, index, node->shard_count, -1);
    tp_gate_init(&shard->gate, &node->config, copy_keys());
    TP_ASSERT(
        tp_shard_open(shard, node->post, &sim_store, node->store, node->work, error, sizeof error));
    tp_net_listen_fd(shard->net, sim_listen());
    tp_shard_begin(shard);
    sim_wake(&slot->task, sim.now_ns);
}

void sim_node_start(const struct tp_config *config)
{
    char error[TP_CONFIG_ERROR_SIZE];
    bool weak;

    TP_ASSERT(sim_node_state == NODE_DOWN);
    sim_heap_init(&heap);
    sim_heap_use(&heap);
    node = calloc(1, sizeof *node);
    TP_ASSERT(node != NULL);
    node->config = *config;
    node->shard_count = (uint32_t)config->cores;
    node->first_store = node->shard_count;
    node->first_worker = node->first_store + SIM_STORE_ENDPOINT_COUNT;
    node->main_endpoint = node->first_worker + SIM_WORK_ENDPOINT_COUNT;
    if (config->auth == TP_CONFIG_AUTH_JWT)
        TP_ASSERT(tp_gate_load(config, &node->keys, &weak, error, sizeof error));
    node->post = tp_post_create(node->main_endpoint + 1);
    const struct tp_store_config store = {
        .durability = TP_DURABILITY_DISK, .post = node->post, .first_endpoint = node->first_store};
    node->store = sim_store.open(&store, error, sizeof error);
    node->compact = (struct tp_compact){
        .backend = &sim_store,
        .store = node->store,
        .keep_deleted = config->keep_history,
        .sweep_row_count = (uint32_t)tp_max(config->compact_count / 4, 2),
        .sweep_size = config->compact_size / 4,
    };
    node->work = tp_work_pool_create(node->post, node->first_worker, 1);
    for (uint32_t i = 0; i < node->shard_count; i++)
        start_shard(i);
    sim_reactor_task(node->main_endpoint, NULL);
    node->main = tp_reactor_create(
        &(struct tp_reactor_config){.post = node->post, .endpoint = node->main_endpoint});
    sim_heap_use(NULL);
    sim_node_state = NODE_UP;
    sim_say("the server starts with %u shards", node->shard_count);
}

void sim_node_crash(void)
{
    if (sim_node_state == NODE_DOWN)
        return;
    sim_disk_crash();
    sim_sockets_reset();
    sim_heap_free_all(&heap);
    node = NULL;
    sim_node_state = NODE_DOWN;
    sim_say("the server crashes");
}

void sim_node_stop(void)
{
    if (sim_node_state != NODE_UP)
        return;
    sim_heap_use(&heap);
    for (uint32_t i = 0; i < node->shard_count; i++) {
        node->slots[i].stop = (struct tp_shard_letter){.letter.kind = TP_LETTER_STOP};
        tp_link_init(&node->slots[i].stop.letter.link);
        tp_post_send(node->main, i, &node->slots[i].stop.letter);
    }
    sim_heap_use(NULL);
    sim_node_state = NODE_STOPPING;
    sim_say("the server is told to stop");
}

void sim_node_stall(uint64_t until_ns)
{
    if (sim_node_state == NODE_DOWN)
        return;
    node->slots[sim_below(node->shard_count)].stalled_until_ns = until_ns;
}

void sim_node_check(void)
{
    struct tp_document *document, *next;

    if (sim_node_state == NODE_DOWN)
        return;
    for (uint32_t i = 0; i < node->shard_count; i++)
        HASH_ITER(hh, node->slots[i].shard.documents, document, next)
    if (document->session != NULL)
        tp_session_check(document->session);
}
