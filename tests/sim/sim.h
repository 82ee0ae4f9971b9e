/* tests/sim/sim.h - the simulator: the product's own shards in virtual time, in one thread.
 *
 *     clients ══ sockets of memory ══ net, node, session ══ letters ══ store, workers
 *        |            |                                        |            |
 *        `------------'------------- tasks, one clock ---------'------------'
 *
 * Linked from the product's objects, except for what would make two runs differ: src/reactor (but
 * its timer wheel), the threads of src/work and src/store, and the process of node/server.c. All of
 * them are tasks here; the one with the earliest time runs next, ties are broken by the seed, and
 * every delay, cut and fault is drawn from it. So a seed is a run. */
#pragma once

#include "base/buffer.h"
#include "base/list.h"
#include "base/random.h"
#include "node/config.h"
#include "reactor/post.h"
#include "reactor/reactor.h"

#define MS UINT64_C(1000000) /* in nanoseconds */
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX
#define CLIENT_COUNT_MAX 12u
#define DOCUMENT_COUNT_MAX 4u
#define SHARD_COUNT_MAX 4u
#define WALL_START_MS UINT64_C(1750000000000)

/* ---- world.c: time, chance, memory --------------------------------------------------------------
 */

struct sim_heap;

struct sim_task {
    uint64_t at_ns; /* NEVER: asleep */
    void (*run)(struct sim_task *task);
    struct sim_heap *heap; /* in use while it runs: the one in use when it was added */
};

/* What is planted on purpose (bugs.c); 0: nothing. */
enum sim_bug {
    BUG_NONE,
    BUG_EARLY_ACK, /* the store answers before it has synced */
    BUG_LOST_NEWS, /* a broadcast reaches nobody now and then */
    BUG_OPEN_DOOR, /* every token opens every document */
    BUG_LEAK,      /* a frame's memory is not given back now and then */
    BUG_SILENCE,   /* an ack is not sent now and then */
    BUG_COUNT,
};

struct sim {
    uint64_t seed, step_count, now_ns;
    struct tp_random random;
    uint64_t trace; /* of all that happened: equal traces, equal runs */
    bool calm;      /* no faults, short delays */
    bool hurry;     /* no delays at all */
    bool verbose;
    enum sim_bug bug;
    struct sim_task *tasks[64];
    uint32_t task_count;
};
extern struct sim sim;
extern bool sim_abort; /* a failure leaves a stack, for debuggers */

void sim_begin(uint64_t seed, enum sim_bug bug, bool verbose);
void sim_add_task(struct sim_task *task, void (*run)(struct sim_task *task));
void sim_remove_task(struct sim_task *task);
void sim_wake(struct sim_task *task, uint64_t at_ns); /* a later wish changes nothing */
void sim_step(void);
void sim_note(uint64_t what, uint64_t value); /* goes into the trace */
void sim_note_bytes(uint64_t what, struct tp_slice bytes);
uint64_t sim_below(uint64_t limit);
bool sim_chance(uint32_t in_thousand);
uint64_t sim_delay(uint64_t max_ns); /* mostly short */
/* Says what is wrong, and how to see it again; ends the process. */
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* if verbose */

/* Everything that the product takes from malloc is on the heap that is in use: a crash frees it,
 * and after an orderly end nothing may be left. NULL: the simulator's own. */
struct sim_heap {
    struct tp_link blocks;
    size_t count, size;
};
void sim_heap_init(struct sim_heap *heap);
void sim_heap_free_all(struct sim_heap *heap);        /* and forgets the tasks that lie in it */
struct sim_heap *sim_heap_use(struct sim_heap *heap); /* returns the one before */

/* ---- socket.c: connections of memory ------------------------------------------------------------
 */

struct sim_segment;
struct sim_stream {
    struct sim_segment *first, **last;
    size_t size; /* bytes under way */
    uint64_t last_at_ns;
};

struct sim_request;
struct sim_socket {
    int fd;
    bool listening;
    struct tp_link queue; /* listening: connections not accepted; else in such a queue */
    uint64_t queued_at_ns;
    struct sim_stream up, down; /* to the server, to the client */
    size_t down_size_max;
    bool up_ended, down_ended, reset, client_gone, server_gone;
    uint64_t up_end_ns, down_end_ns, reset_ns;
    struct sim_request *receiving, *sending, *accepting;
    struct sim_task *client;
};

#define SIM_FD_FIRST 0x40000000

int sim_listen(void);
struct sim_socket *sim_socket_of(int fd);
void sim_close(int fd);       /* by the server */
void sim_sockets_reset(void); /* the server is dead */
void sim_sockets_finish(void);

/* The client's side. */
struct sim_socket *sim_connect(struct sim_task *client, size_t down_size_max); /* NULL: refused */
void sim_socket_write(struct sim_socket *socket, struct tp_slice bytes);
/* Appends what has arrived. False: nothing more will come. */
bool sim_socket_read(struct sim_socket *socket, struct tp_buffer *out, size_t size_max);
uint64_t sim_socket_next_ns(const struct sim_socket *socket);
void sim_socket_break(struct sim_socket *socket, bool reset); /* and let go of it */

/* for reactor.c */
void sim_socket_refuse(struct sim_socket *socket); /* bytes for a client that has gone */
uint64_t sim_stream_next_ns(const struct sim_stream *stream);
size_t sim_stream_take(struct sim_stream *stream, uint8_t *out, size_t size);
void sim_stream_put(struct sim_stream *stream, const uint8_t *data, size_t size);

/* ---- reactor.c ----------------------------------------------------------------------------------
 */

void sim_reactor_task(uint32_t endpoint, struct sim_task *task); /* who turns that reactor */
void sim_post_tell(const struct tp_post *post); /* what nobody has read, if verbose */
void sim_reactor_poke(struct sim_request *request, uint64_t at_ns);

/* ---- store.c, work.c ----------------------------------------------------------------------------
 */

extern const struct tp_store_backend sim_store;
#define SIM_STORE_ENDPOINT_COUNT 2u
#define SIM_WORK_ENDPOINT_COUNT 1u

enum sim_disk { DISK_GOOD, DISK_FULL, DISK_FAILING };
struct sim_disk_state {
    enum sim_disk state;
    uint64_t stalled_until_ns;
};
extern struct sim_disk_state sim_disk;
void sim_disk_begin(void);
void sim_disk_crash(void); /* what was not synced is gone, or some of it */
void sim_disk_finish(void);

/* ---- node.c -------------------------------------------------------------------------------------
 */

enum sim_node_state { NODE_DOWN, NODE_UP, NODE_STOPPING };
extern enum sim_node_state sim_node_state;
void sim_node_start(const struct tp_config *config);
void sim_node_crash(void);
void sim_node_stop(void); /* begins the orderly end; then the state becomes NODE_DOWN */
void sim_node_check(void);
void sim_node_stall(uint64_t until_ns); /* one shard does not get the processor */

/* ---- yjs.c --------------------------------------------------------------------------------------
 */

/* Documents are bytes: all updates seen, merged. */
void sim_merge_into(struct tp_buffer *state, struct tp_slice update); /* V1 */
void sim_edit(const struct tp_buffer *state, uint64_t author, struct tp_buffer *out);
bool sim_same(struct tp_slice a, struct tp_slice b, bool compacted);
bool sim_holds(struct tp_slice state, struct tp_slice part, bool compacted);
void sim_tell_missing(struct tp_slice state, struct tp_slice part); /* if verbose */
void sim_convert(struct tp_slice update, int from, int to, struct tp_buffer *out);

/* ---- client.c -----------------------------------------------------------------------------------
 */

enum sim_dialect { SIM_TELEPORTAL, SIM_YWEBSOCKET };

/* A message that must be answered. */
struct sim_promise {
    struct sim_promise *next;
    uint64_t id, sent_ns;
    uint32_t document;
    bool is_step_1;
    struct tp_buffer update; /* V1; empty: none */
    uint64_t again_ns;       /* refused for now: when to send it again; 0: waits for its answer */
    struct tp_buffer frame;
};

struct sim_replica {
    bool wanted; /* the client opens it */
    bool may_read, may_write;
    struct tp_buffer state; /* V1 */
    bool synced;            /* on this connection */
    uint64_t step_1_ns;     /* y-websocket: when asked; 0: answered */
    uint64_t ask_again_ns;
};

struct sim_client {
    struct sim_task task;
    uint32_t index, life; /* a life ends with the loss of all it knew */
    enum sim_dialect dialect;
    struct sim_socket *socket;
    bool open, quiet; /* quiet: makes no edits */
    struct sim_replica replicas[DOCUMENT_COUNT_MAX];
    struct tp_buffer in;
    struct sim_promise *promises;
    uint64_t next_action_ns, connect_ns, stalled_until_ns;
    uint64_t awareness_clock;
    uint32_t failures; /* connections that ended before they were open, one after the other */
};

struct sim_world {
    struct tp_config config;
    uint32_t client_count, document_count;
    struct sim_client clients[CLIENT_COUNT_MAX];
    struct tp_buffer acked[DOCUMENT_COUNT_MAX]; /* what the server has promised to keep */
    bool jwt;
    uint64_t edit_count, ack_count, nack_count, received_count;
};
extern struct sim_world world;

void sim_client_begin(struct sim_client *client, uint32_t index);
void sim_client_finish(struct sim_client *client);
void sim_client_disconnect(struct sim_client *client, bool reset);
void sim_client_forget(struct sim_client *client);
void sim_client_check(const struct sim_client *client); /* nobody waits for ever */
bool sim_client_settled(const struct sim_client *client);
void sim_document_name(uint32_t document, char out[16]);
