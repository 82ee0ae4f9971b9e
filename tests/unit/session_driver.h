/* A session and what surrounds it, in memory: peers that speak real bytes of their dialect, a store
 * of rows, computations on the spot, a clock that the test moves.
 *
 * What a peer is sent is one line of text a message, in order:
 *
 *     step1 1:3            a state vector: client 1 up to clock 3
 *     step2 1:0-3 d1       an update: client 1's clocks 0 to 3, one delete range ("-": nothing)
 *     update 1:3-4         the same
 *     raw update 1:3-4     the same, in the very bytes that its author sent
 *     sealed step2 1:3-4 [x] [y]    of an encrypted document, with sidecars
 *     done                 sync-done
 *     ack 2, nack 2 words  of the second message that this peer said; later 2: to be said again
 *     auth words           denied
 *     awareness 5:2:{"a":1} 6:3:null
 *     join 7, leave 7      presence of awareness id 7
 *     rpc 501 words        a response: an error, or a success: rpc 0; part: of its stream
 *     echo words
 *     close reason         (a number of enum tp_close_reason); pause, resume; notify: the shard's
 */
#pragma once

#include "dialect/dialect.h"
#include "rpc/rpc.h"

#define TEST_LINE_COUNT_MAX 512u
#define TEST_MILLISECOND UINT64_C(1000000)
#define TEST_SECOND (1000 * TEST_MILLISECOND)

struct test_client {
    struct tp_peer peer;
    struct test_world *world;
    const char *name;
    bool here, closed, paused, wants_ready;
    uint32_t mark; /* of the last broadcast to it */
    uint64_t ids[TEST_LINE_COUNT_MAX];
    uint32_t id_count;
    char *lines[TEST_LINE_COUNT_MAX];
    uint32_t line_count, line_at;
    struct tp_link link;
};

struct test_row {
    enum tp_store_table table;
    struct tp_slice key, value; /* heap */
};

struct test_world {
    struct tp_pool pool;
    struct tp_random random;
    struct tp_counters counters;
    struct tp_session_limits limits;
    struct tp_session_env env;
    struct tp_session *session;
    struct tp_rpc_limits rpc_limits;
    struct tp_rpc_env rpc_env;
    struct tp_rpc *rpc; /* NULL until the first call */
    struct tp_link clients;
    uint64_t now_ns, wake_ns;
    struct test_row *rows;
    size_t row_count;
    bool hold_store, hold_work;    /* answers wait for test_store_go and test_work_go */
    enum tp_status store_status;   /* what writes answer */
    enum tp_status read_status;    /* what reads answer */
    struct tp_link stored, worked; /* answered when told to */
    uint32_t append_count, work_counts[16], compact_count, quarantine_count;
    bool ended;
    uint32_t news_counts[TP_NEWS_COUNT];
    uint32_t deleted_count;
    enum tp_status deleted_status;
    const char *node_id; /* set before it opens: a session with other nodes */
    /* what it says to them: PUBLISH and NOTE */
    void (*publish)(struct test_world *world, const struct tp_effect *effect);
};

void test_world_init(struct test_world *world); /* opens no session: the first event does */
void test_world_open(struct test_world *world, const char *document);
/* All clients leave, everything is answered, the session ends: asserts that nothing is left. */
void test_world_finish(struct test_world *world);
void test_world_reopen(struct test_world *world); /* ends the session, and opens it again */
void test_event(struct test_world *world, struct tp_event event);
void test_store_go(struct test_world *world); /* answers what the store has */
void test_work_go(struct test_world *world);
/* Moves the clock, waking the session on the way as often as it asks. */
void test_pass(struct test_world *world, uint64_t ns);

void test_join(struct test_world *world, struct test_client *client, enum tp_dialect_id dialect,
               const char *name);
void test_join_with(struct test_world *world, struct test_client *client,
                    enum tp_dialect_id dialect, const char *name, uint8_t rights);
void test_leave(struct test_client *client);
void test_ready(struct test_client *client);
/* What the client was broadcast from `mark` on is dropped. */
void test_fall_behind(struct test_client *client, uint32_t mark);

/* What a client says. */
void test_say(struct test_client *client, struct tp_message message);
void test_say_step1(struct test_client *client, struct tp_slice state_vector);
void test_say_step2(struct test_client *client, struct tp_slice v1);
void test_say_update(struct test_client *client, struct tp_slice v1);
void test_say_awareness(struct test_client *client, const char *entries); /* "5:1:{} 6:2:null" */
void test_say_presence(struct test_client *client, enum tp_message_kind kind, uint64_t id);

/* The next line, or "" when there is none. Valid until the client is forgotten. */
const char *test_hears(struct test_client *client);
void test_deaf(struct test_client *client); /* forgets what it has heard so far */

/* Updates in V1; they live until the world's end. */
struct tp_slice test_insert(uint64_t client, uint64_t clock, const char *text);
struct tp_slice test_delete(uint64_t client, uint64_t clock, uint64_t length);
struct tp_slice test_state_vector(uint64_t client, uint64_t clock);
struct tp_slice test_row_value(struct test_world *world, enum tp_store_table table, size_t nth);
size_t test_row_count(const struct test_world *world, enum tp_store_table table);
void test_put_row(struct test_world *world, enum tp_store_table table, struct tp_slice key,
                  struct tp_slice value);
