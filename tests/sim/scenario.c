/* One seed's story: a time of edits and faults, a calm in which all must come together, the orderly
 * end, and what is left on the disk. */
#include "sim/scenario.h"

#include "crdt/update.h"
#include "sim/sim.h"

#define STORY_TIME_NS (40 * SECOND)
#define CALM_TIME_NS (200 * SECOND)
#define QUIET_TIME_NS (5 * SECOND) /* all agree for so long: what was on its way has arrived */
#define STOP_TIME_NS (60 * SECOND)
#define SECRET "a secret that only the simulator knows"

struct sim_world world;

/* ---- what is drawn from the seed ----------------------------------------------------------------
 */

enum fault {
    FAULT_RESET,
    FAULT_DISK_FULL,
    FAULT_DISK_FAILING,
    FAULT_DISK_STALLED,
    FAULT_SHARD_STALLED,
    FAULT_CRASH,
    FAULT_RESTART,
    FAULT_COUNT,
};

static struct {
    struct sim_task task;
    uint32_t enabled; /* a mask: most stories have only some of them */
    uint64_t interval_ns;
    uint64_t disk_until_ns, start_ns;
} faults;

static void draw_config(const struct scenario *scenario)
{
    struct tp_config *config = &world.config;

    *config = *scenario->config;
    config->cores = scenario->shard_count > 0 ? scenario->shard_count : 1 + sim_below(3);
    config->session_grace_seconds = sim_below(4);
    config->compact_count = 2 + sim_below(sim_chance(500) ? 8 : 60);
    config->compact_size = 1024 + sim_below(8192);
    config->keep_history = sim_chance(300);
    config->outbox_size = sim_chance(500) ? 1024 + sim_below(8192) : (size_t)1 << 20;
    config->session_memory = sim_chance(300) ? (uint64_t)1 << 20 : (uint64_t)1 << 30;
    config->drain_seconds = sim_below(3);
    config->auth = sim_chance(500) ? TP_CONFIG_AUTH_JWT : TP_CONFIG_AUTH_ANONYMOUS;
    memcpy(config->jwt_secret, SECRET, sizeof SECRET);
    if (!sim_chance(150))
        config->rate_limits.count = 0;
    world.jwt = config->auth == TP_CONFIG_AUTH_JWT;
}

static void draw_client(struct sim_client *client)
{
    client->dialect = sim_chance(650) ? SIM_TELEPORTAL : SIM_YWEBSOCKET;
    const uint32_t only = (uint32_t)sim_below(world.document_count);
    const bool one = client->dialect == SIM_YWEBSOCKET || sim_chance(500);

    for (uint32_t i = 0; i < world.document_count; i++) {
        struct sim_replica *replica = &client->replicas[i];
        const uint32_t luck = (uint32_t)sim_below(100);
        replica->wanted = one ? i == only : true;
        replica->may_read = !world.jwt || luck >= 12;
        replica->may_write = !world.jwt || luck >= 27; /* and then it may read */
    }
}

/* ---- faults -------------------------------------------------------------------------------------
 */

static void strike(void)
{
    const enum fault fault = (enum fault)sim_below(FAULT_COUNT);

    if (!(faults.enabled & (1u << fault)))
        return;
    switch (fault) {
    case FAULT_RESET:
        sim_client_disconnect(&world.clients[sim_below(world.client_count)], true);
        break;
    case FAULT_DISK_FULL:
    case FAULT_DISK_FAILING:
        sim_disk.state = fault == FAULT_DISK_FULL ? DISK_FULL : DISK_FAILING;
        faults.disk_until_ns = sim.now_ns + sim_below(4 * SECOND);
        sim_say("the disk is %s", fault == FAULT_DISK_FULL ? "full" : "failing");
        break;
    case FAULT_DISK_STALLED:
        sim_disk.stalled_until_ns = sim.now_ns + sim_below(5 * SECOND);
        break;
    case FAULT_SHARD_STALLED:
        sim_node_stall(sim.now_ns + sim_below(4 * SECOND));
        break;
    case FAULT_CRASH:
        if (sim_chance(400))
            sim_node_crash();
        break;
    case FAULT_RESTART:
        if (sim_chance(300))
            sim_node_stop();
        break;
    case FAULT_COUNT:
        break;
    }
}

static void run_faults(struct sim_task *task)
{
    if (!sim.calm)
        strike();
    if (sim.now_ns >= faults.disk_until_ns || sim.calm)
        sim_disk.state = DISK_GOOD;
    if (sim_node_state != NODE_DOWN) {
        faults.start_ns = 0;
    } else if (faults.start_ns == 0) {
        faults.start_ns = sim.now_ns + (sim.calm ? 0 : sim_delay(3 * SECOND));
    } else if (sim.now_ns >= faults.start_ns) {
        sim_node_start(&world.config);
    }
    sim_wake(task, sim.now_ns + 20 * MS + (sim.calm ? 0 : sim_delay(faults.interval_ns)));
}

/* ---- the calm -----------------------------------------------------------------------------------
 */

static void step(void)
{
    sim_step();
    sim_node_check();
    for (uint32_t i = 0; i < world.client_count; i++)
        sim_client_check(&world.clients[i]);
}

/* Whoever may write: it gives the server what only it has. NULL: there is none. */
static const struct sim_replica *first_of(uint32_t document)
{
    for (uint32_t i = 0; i < world.client_count; i++)
        if (world.clients[i].replicas[document].wanted &&
            world.clients[i].replicas[document].may_write)
            return &world.clients[i].replicas[document];
    return NULL;
}

/* Who may only read may have seen what a crash took from everybody else, and cannot give it back.
 */
static bool agrees(const struct sim_replica *replica, const struct sim_replica *first)
{
    const struct tp_slice mine = tp_buffer_slice(&replica->state),
                          theirs = tp_buffer_slice(&first->state);

    return replica->may_write ? sim_same(mine, theirs, true) : sim_holds(mine, theirs, true);
}

/* The reason why not; NULL: everybody has what everybody has. */
static const char *not_settled(uint32_t *client, uint32_t *document)
{
    for (*client = 0; *client < world.client_count; ++*client)
        if (!sim_client_settled(&world.clients[*client]))
            return "has not been told all";
    for (*document = 0; *document < world.document_count; ++*document) {
        const struct sim_replica *first = first_of(*document);
        for (*client = 0; *client < world.client_count; ++*client) {
            const struct sim_replica *replica = &world.clients[*client].replicas[*document];
            if (replica->wanted && replica->may_read && first != NULL && !agrees(replica, first))
                return "has another state than the others";
        }
    }
    return NULL;
}

static void come_together(void)
{
    const uint64_t end_ns = sim.now_ns + CALM_TIME_NS;
    uint64_t look_ns = sim.now_ns, quiet_ns = sim.now_ns + QUIET_TIME_NS;
    uint32_t client = 0, document = 0;
    const char *why = "";

    sim.calm = true;
    sim_say("calm");
    sim_disk = (struct sim_disk_state){0};
    for (uint32_t i = 0; i < world.client_count; i++) {
        world.clients[i].quiet = true;
        sim_wake(&world.clients[i].task, sim.now_ns);
    }
    sim_wake(&faults.task, sim.now_ns);
    while (why != NULL) {
        step();
        if (sim.now_ns > end_ns)
            sim_fail("in the calm, client %u %s, document %u", client, why, document);
        if (sim.now_ns < look_ns || sim_node_state != NODE_UP)
            continue;
        why = not_settled(&client, &document);
        if (why != NULL)
            quiet_ns = sim.now_ns + QUIET_TIME_NS;
        else if (sim.now_ns < quiet_ns)
            why = "is not at rest";
        look_ns = sim.now_ns + 200 * MS;
    }
}

static void end_node(void)
{
    const uint64_t end_ns = sim.now_ns + STOP_TIME_NS;

    sim_remove_task(&faults.task);
    while (sim_node_state == NODE_STOPPING)
        step();
    if (sim_node_state == NODE_UP)
        sim_node_stop();
    while (sim_node_state != NODE_DOWN) {
        step();
        if (sim.now_ns > end_ns)
            sim_fail("the server does not end");
    }
}

/* ---- what is on the disk ------------------------------------------------------------------------
 */

static void check_kept(struct sim_client *reader)
{
    const bool compacted = !world.config.keep_history;

    for (uint32_t i = 0; i < world.document_count; i++) {
        const struct tp_slice stored = tp_buffer_slice(&reader->replicas[i].state);
        const struct sim_replica *first = first_of(i);
        if (sim.verbose && !sim_holds(stored, tp_buffer_slice(&world.acked[i]), compacted))
            sim_tell_missing(stored, tp_buffer_slice(&world.acked[i]));
        if (!sim_holds(stored, tp_buffer_slice(&world.acked[i]), compacted))
            sim_fail("an acknowledged update of document %u is lost", i);
        if (first != NULL && !sim_same(stored, tp_buffer_slice(&first->state), compacted))
            sim_fail("document %u is stored otherwise than clients have it", i);
        sim_note_bytes(i, stored);
    }
}

/* A new server, and one reader who knows nothing. */
static void read_back(void)
{
    struct sim_client *reader = &world.clients[0];
    const uint64_t end_ns = sim.now_ns + CALM_TIME_NS;

    sim_node_start(&world.config);
    struct sim_replica others[DOCUMENT_COUNT_MAX];
    memcpy(others, reader->replicas, sizeof others);
    memset(reader->replicas, 0, sizeof reader->replicas);
    sim_client_disconnect(reader, true);
    reader->life++;
    reader->dialect = SIM_TELEPORTAL;
    for (uint32_t i = 0; i < world.document_count; i++)
        reader->replicas[i] = (struct sim_replica){
            .wanted = true, .may_read = true, .may_write = others[i].may_write};
    sim_wake(&reader->task, sim.now_ns);
    while (!sim_client_settled(reader)) {
        step();
        if (sim.now_ns > end_ns)
            sim_fail("nobody can read the documents after a restart");
    }
    sim_client_disconnect(reader, true);
    for (uint32_t i = 0; i < world.document_count; i++) { /* compare with what it had before */
        struct tp_buffer state = reader->replicas[i].state;
        reader->replicas[i] = others[i];
        others[i].state = state;
    }
    struct sim_client kept = {.index = 0};
    memcpy(kept.replicas, others, sizeof others);
    check_kept(&kept);
    for (uint32_t i = 0; i < world.document_count; i++)
        tp_buffer_finish(&kept.replicas[i].state);
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

uint64_t scenario_run(const struct scenario *scenario)
{
    sim_begin(scenario->seed, scenario->bug, scenario->verbose);
    memset(&world, 0, sizeof world);
    memset(&faults, 0, sizeof faults);
    sim_disk_begin();
    draw_config(scenario);
    world.document_count = 1 + (uint32_t)sim_below(3);
    world.client_count = 2 + (uint32_t)sim_below(5);
    for (uint32_t i = 0; i < world.client_count; i++) {
        sim_client_begin(&world.clients[i], i);
        draw_client(&world.clients[i]);
    }
    faults.enabled = sim_chance(150) ? 0 : (uint32_t)sim_below(1u << FAULT_COUNT);
    faults.interval_ns = 200 * MS + sim_below(4 * SECOND);
    sim_say("faults %x, jwt %d, history %d", faults.enabled, world.jwt, world.config.keep_history);
    for (uint32_t i = 0; i < world.client_count; i++)
        for (uint32_t d = 0; d < world.document_count; d++)
            sim_say("client %u dialect %u doc %u: wanted %d r %d w %d", i, world.clients[i].dialect,
                    d, world.clients[i].replicas[d].wanted, world.clients[i].replicas[d].may_read,
                    world.clients[i].replicas[d].may_write);
    sim_add_task(&faults.task, run_faults);
    sim_wake(&faults.task, sim.now_ns);
    sim_node_start(&world.config);

    const uint64_t end_ns = sim.now_ns + STORY_TIME_NS;
    while (sim.step_count < scenario->step_count && sim.now_ns < end_ns)
        step();
    come_together();
    end_node();
    read_back();
    end_node();
    for (uint32_t i = 0; i < world.client_count; i++)
        sim_client_finish(&world.clients[i]);
    sim_say("seed %lu: %lu steps, %lu edits, %lu acks, %lu nacks, %lu updates received",
            scenario->seed, sim.step_count, world.edit_count, world.ack_count, world.nack_count,
            world.received_count);
    sim_sockets_finish();
    for (uint32_t i = 0; i < DOCUMENT_COUNT_MAX; i++)
        tp_buffer_finish(&world.acked[i]);
    sim_disk_finish();
    return sim.trace;
}
