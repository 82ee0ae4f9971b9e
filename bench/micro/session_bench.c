/* What a session costs by itself: an update from one peer, passed on and stored, and its ack; and a
 * thousand peers that join a document at once. The store and the computations are on the spot. */
#include <stdio.h>
#include <time.h>

#include "crdt/update.h"
#include "session/session.h"
#include "wire/writer.h"
#include "work/work.h"

#define UPDATE_COUNT 200000u
#define JOIN_COUNT 1000u

static struct tp_session *session;
static struct tp_link stored, worked;
static uint64_t now_ns = 1, sends, broadcasts;

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void happen(struct tp_event event)
{
    bool more;

    do {
        struct tp_effects effects;
        effects.count = 0;
        more = false;
        event.now_ns = now_ns;
        tp_session_handle(session, &event, &effects);
        for (uint32_t i = 0; i < effects.count; i++) {
            const struct tp_effect *effect = &effects.items[i];
            sends += effect->kind == TP_EFFECT_SEND;
            broadcasts += effect->kind == TP_EFFECT_BROADCAST;
            more |= effect->kind == TP_EFFECT_MORE;
            if (effect->kind == TP_EFFECT_STORE)
                tp_link_insert(&stored, &effect->store_op->link);
            if (effect->kind == TP_EFFECT_WORK)
                tp_link_insert(&worked, &effect->work_op->link);
        }
        struct tp_link *link;
        event = (struct tp_event){.kind = TP_EVENT_MORE};
        if (more)
            continue;
        if ((link = tp_list_pop(&worked)) != NULL) {
            event.kind = TP_EVENT_WORKED;
            event.work_op = TP_CONTAINER(link, struct tp_work_op, link);
            tp_work_run(event.work_op);
            more = true;
        } else if ((link = tp_list_pop(&stored)) != NULL) {
            event.kind = TP_EVENT_STORED;
            event.store_op = TP_CONTAINER(link, struct tp_store_op, link);
            event.store_op->status = TP_OK;
            more = true;
        }
    } while (more);
}

static struct tp_slice insert(struct tp_buffer *out, uint64_t clock)
{
    out->size = 0;
    tp_write_varuint(out, 1);
    tp_write_varuint(out, 1);
    tp_write_varuint(out, 1234567890);
    tp_write_varuint(out, clock);
    tp_write_u8(out, clock == 0 ? 4 : 0x84);
    if (clock == 0) {
        tp_write_u8(out, 1);
        tp_write_bytes(out, TP_SLICE("text"));
    } else {
        tp_write_varuint(out, 1234567890);
        tp_write_varuint(out, clock - 1);
    }
    tp_write_bytes(out, TP_SLICE("a"));
    tp_write_varuint(out, 0);
    return tp_buffer_slice(out);
}

static void join(struct tp_peer *peer, enum tp_dialect_id dialect)
{
    *peer = (struct tp_peer){
        .dialect = dialect, .rights = TP_MAY_READ | TP_MAY_WRITE, .document_name = TP_SLICE("doc")};
    tp_link_init(&peer->link);
    happen((struct tp_event){.kind = TP_EVENT_JOINED, .peer = peer});
}

int main(void)
{
    static struct tp_peer peers[JOIN_COUNT];
    static struct tp_peer author, reader;
    uint8_t room[100];
    struct tp_buffer update = tp_buffer_fixed(room, sizeof room);
    struct tp_pool pool;
    struct tp_random random = {1};
    struct tp_counters counters = {0};
    struct tp_session_env env = {.pool = &pool,
                                 .random = &random,
                                 .counters = &counters,
                                 .limits = &tp_session_limits_default};

    tp_pool_init(&pool);
    tp_link_init(&stored);
    tp_link_init(&worked);
    session = tp_session_create(&env, (struct tp_slice){0}, TP_SLICE("doc"));
    join(&author, TP_DIALECT_YWEBSOCKET);
    for (int mixed = 0; mixed < 2; mixed++) {
        if (mixed)
            join(&reader, TP_DIALECT_TELEPORTAL);
        const uint64_t from_ns = clock_ns();
        for (uint64_t i = 0; i < UPDATE_COUNT; i++) {
            struct tp_message message = {.kind = TP_MESSAGE_UPDATE,
                                         .dialect = TP_DIALECT_YWEBSOCKET};
            message.update.v1 = insert(&update, mixed * UPDATE_COUNT + i);
            message.raw = message.update.v1;
            happen((struct tp_event){.kind = TP_EVENT_SAID, .peer = &author, .message = &message});
        }
        printf("an update, %s: %.0f ns\n", mixed ? "and its conversion" : "peers of one dialect",
               (double)(clock_ns() - from_ns) / UPDATE_COUNT);
    }

    const uint64_t from_ns = clock_ns();
    for (uint32_t i = 0; i < JOIN_COUNT; i++) {
        struct tp_message message = {
            .kind = TP_MESSAGE_SYNC_STEP_1, .raw = TP_SLICE("x"), .dialect = TP_DIALECT_TELEPORTAL};
        join(&peers[i], TP_DIALECT_TELEPORTAL);
        happen((struct tp_event){.kind = TP_EVENT_SAID, .peer = &peers[i], .message = &message});
    }
    printf("a peer that joins: %.0f ns\n", (double)(clock_ns() - from_ns) / JOIN_COUNT);
    printf("the session: %zu bytes; %llu sends, %llu broadcasts\n", tp_session_memory(session),
           (unsigned long long)sends, (unsigned long long)broadcasts);
    return 0;
}
