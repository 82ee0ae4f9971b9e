/* Any order of events leaves a session sound: its own invariants hold after each; every message of
 * a Teleportal peer is acked exactly once; what was acked can be read again from the store; nobody
 * is sent what is no update, nor anything after leaving; in the end no byte is left.
 *
 * An input is a list of steps, a byte that says which, then what it needs (see step()). The store
 * and the workers answer when a step says so, the store also with failures. */
#include "fuzz.h"
#include "rpc/rpc.h"
#include "wire/awareness.h"
#include "wire/record.h"
#include "wire/teleportal.h"
#include "wire/yprotocol.h"
#include "work/work.h"

#define PEER_COUNT_MAX 6u
#define SAID_COUNT_MAX 400u
#define STEP_COUNT_MAX 400u
#define ROW_COUNT_MAX 1024u
#define SECOND UINT64_C(1000000000)

struct row {
    enum tp_store_table table;
    struct tp_buffer key, value;
};

struct said {
    struct tp_peer *peer;
    uint32_t ack_count;
    struct tp_buffer v1; /* of an update; else nothing */
    bool durable;
};

struct world {
    struct tp_pool pool;
    struct tp_random random;
    struct tp_counters counters;
    struct tp_session_limits limits;
    struct tp_session_env env;
    struct tp_session *session;
    struct tp_rpc_env rpc_env;
    struct tp_rpc *rpc;
    struct tp_peer *peers[PEER_COUNT_MAX];
    bool closed[PEER_COUNT_MAX];
    struct row rows[ROW_COUNT_MAX];
    uint32_t row_count;
    struct said said[SAID_COUNT_MAX + 1]; /* by message id; ids start at 1 */
    uint32_t said_count;
    uint64_t clocks[PEER_COUNT_MAX];
    struct tp_link stored, worked;
    uint64_t now_ns, wake_ns;
    bool ended;
};

static void happen(struct world *world, struct tp_event event);

/* ---- the store ----------------------------------------------------------------------------------
 */

static int compare(struct tp_slice a, struct tp_slice b)
{
    const int order = memcmp(a.data, b.data, tp_min(a.size, b.size));

    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static struct row *find(struct world *world, enum tp_store_table table, struct tp_slice key)
{
    for (uint32_t i = 0; i < world->row_count; i++)
        if (world->rows[i].table == table &&
            compare(tp_buffer_slice(&world->rows[i].key), key) == 0)
            return &world->rows[i];
    return NULL;
}

static void put(struct world *world, enum tp_store_table table, struct tp_slice key,
                struct tp_slice first, struct tp_slice second)
{
    struct row *row = find(world, table, key);

    if (row == NULL) {
        TP_ASSERT(world->row_count < ROW_COUNT_MAX);
        row = &world->rows[world->row_count++];
        row->table = table;
        row->key = fuzz_room();
        row->value = fuzz_room();
        tp_write_raw(&row->key, key);
    }
    row->value.size = 0;
    tp_write_raw(&row->value, first);
    tp_write_raw(&row->value, second);
}

static void read_rows(struct world *world, struct tp_store_op *op)
{
    size_t size = 1;

    for (uint32_t i = 0; i < world->row_count; i++)
        size += sizeof *op->rows + world->rows[i].key.size + world->rows[i].value.size;
    op->answer = malloc(size);
    op->rows = op->answer;
    uint8_t *at = (uint8_t *)(op->rows + world->row_count);
    for (uint32_t r = 0; r < op->range_count; r++) {
        const struct tp_store_range *range = &op->ranges[r];
        for (uint32_t i = 0; i < world->row_count; i++) {
            const struct row *row = &world->rows[i];
            const struct tp_slice key = tp_buffer_slice(&row->key);
            const bool in = range->to.size == 0
                                ? compare(key, range->from) == 0
                                : compare(key, range->from) >= 0 && compare(key, range->to) < 0;
            if (row->table != range->table || !in)
                continue;
            memcpy(at, key.data, key.size);
            memcpy(at + key.size, row->value.data, row->value.size);
            op->rows[op->row_count++] = (struct tp_store_row){
                row->table, tp_slice_of(at, key.size), tp_slice_of(at + key.size, row->value.size)};
            at += key.size + row->value.size;
        }
    }
}

static enum tp_status write_rows(struct world *world, struct tp_store_op *op)
{
    for (uint32_t i = 0; i < op->part_count; i++)
        if (op->parts[i].kind == TP_PART_EXPECT_ABSENT &&
            find(world, op->parts[i].table, op->parts[i].key) != NULL)
            return TP_DENIED;
    for (uint32_t i = 0; i < op->part_count; i++)
        if (op->parts[i].kind == TP_PART_PUT)
            put(world, op->parts[i].table, op->parts[i].key, op->parts[i].value,
                (struct tp_slice){0});
    if (op->verb == TP_STORE_APPEND)
        put(world, TP_TABLE_LOG, op->key, op->value[0], op->value[1]);
    return TP_OK;
}

static void answer_store(struct world *world, enum tp_status status)
{
    struct tp_link *link = tp_list_pop(&world->stored);

    if (link == NULL)
        return;
    struct tp_store_op *op = TP_CONTAINER(link, struct tp_store_op, link);
    op->status = status;
    if (status == TP_OK && op->verb == TP_STORE_READ)
        read_rows(world, op);
    else if (status == TP_OK)
        op->status = write_rows(world, op);
    happen(world, (struct tp_event){.kind = TP_EVENT_STORED, .store_op = op});
}

static void answer_work(struct world *world)
{
    struct tp_link *link = tp_list_pop(&world->worked);

    if (link == NULL)
        return;
    struct tp_work_op *op = TP_CONTAINER(link, struct tp_work_op, link);
    tp_work_run(op);
    happen(world, (struct tp_event){.kind = TP_EVENT_WORKED, .work_op = op});
}

/* ---- what is sent -------------------------------------------------------------------------------
 */

static uint32_t index_of(struct world *world, const struct tp_peer *peer)
{
    for (uint32_t i = 0; i < PEER_COUNT_MAX; i++)
        if (world->peers[i] == peer)
            return i;
    TP_ASSERT(!"said to who is not there");
    return 0;
}

static void hear(struct world *world, struct tp_peer *peer, const struct tp_message *message)
{
    const bool v2 = peer->dialect == TP_DIALECT_TELEPORTAL;
    struct tp_message read;
    enum tp_close_reason reason;

    if (message->ready) {
        struct tp_reader in = tp_reader_of(message->raw);
        TP_ASSERT(message->dialect == peer->dialect);
        TP_ASSERT(tp_slice_equal(tp_frame_message(message->frame), message->raw));
        if (v2)
            TP_ASSERT(tp_teleportal_decode(message->raw, &read, &reason) == TP_OK);
        else
            TP_ASSERT(tp_yprotocol_read(&in, &read) == TP_OK);
        message = &read;
    }
    switch (message->kind) {
    case TP_MESSAGE_ACK: {
        TP_ASSERT(v2);
        const uint64_t id = message->ack.id;
        TP_ASSERT(id > 0 && id <= world->said_count);
        struct said *said = &world->said[id];
        TP_ASSERT(said->peer == peer);
        TP_ASSERT(said->ack_count++ == 0);
        said->durable = message->ack.error.data == NULL && said->v1.size > 0;
        break;
    }
    case TP_MESSAGE_UPDATE:
    case TP_MESSAGE_SYNC_STEP_2: {
        const struct tp_slice update = v2 ? message->update.v2 : message->update.v1;
        TP_ASSERT(update.data != NULL);
        TP_ASSERT(update.size == 0 || fuzz_is_valid(update, v2 ? TP_UPDATE_V2 : TP_UPDATE_V1));
        break;
    }
    case TP_MESSAGE_AWARENESS:
        TP_ASSERT(tp_awareness_valid(message->awareness));
        break;
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
        TP_ASSERT(message->presence.client_id.size == TP_UUID_SIZE);
        break;
    default:
        break;
    }
}

static void perform(struct world *world, const struct tp_effect *effect, bool *more)
{
    switch (effect->kind) {
    case TP_EFFECT_SEND:
        index_of(world, effect->peer);
        hear(world, effect->peer, effect->message);
        break;
    case TP_EFFECT_BROADCAST:
        for (uint32_t i = 0; i < PEER_COUNT_MAX; i++)
            if (world->peers[i] != NULL && world->peers[i] != effect->peer &&
                (world->peers[i]->audience & effect->audience) != 0)
                hear(world, world->peers[i], effect->message);
        break;
    case TP_EFFECT_STORE:
        tp_link_insert(&world->stored, &effect->store_op->link);
        break;
    case TP_EFFECT_WORK:
        tp_link_insert(&world->worked, &effect->work_op->link);
        break;
    case TP_EFFECT_MORE:
        *more = true;
        break;
    case TP_EFFECT_WAKE:
        TP_ASSERT(effect->at_ns > world->now_ns);
        world->wake_ns = effect->at_ns;
        break;
    case TP_EFFECT_CLOSE:
        world->closed[index_of(world, effect->peer)] = true;
        break;
    case TP_EFFECT_PAUSE:
    case TP_EFFECT_NOTIFY:
        index_of(world, effect->peer);
        break;
    case TP_EFFECT_END:
        world->ended = true;
        break;
    case TP_EFFECT_RESUME:
    case TP_EFFECT_COMPACT:
    case TP_EFFECT_PUBLISH:
    case TP_EFFECT_NOTE:
    case TP_EFFECT_DELETED:
    case TP_EFFECT_NEWS:
        break;
    }
}

enum who { THE_SESSION, THE_CALLS, THE_CALLS_AFTER };

static bool take_step(struct world *world, struct tp_event *event, enum who who)
{
    struct tp_effects effects = {0};
    bool more = false;

    event->now_ns = world->now_ns;
    event->wall_ms = world->now_ns / 1000000;
    if (who == THE_SESSION)
        tp_session_handle(world->session, event, &effects);
    else if (who == THE_CALLS)
        tp_rpc_handle(world->rpc, event, &effects);
    else
        tp_rpc_follow(world->rpc, event, &effects);
    for (uint32_t i = 0; i < effects.count; i++)
        perform(world, &effects.items[i], &more);
    tp_session_check(world->session);
    tp_rpc_check(world->rpc);
    return more;
}

static bool may_end(const struct world *world)
{
    return tp_session_peer_count(world->session) == 0 && !tp_rpc_is_busy(world->rpc);
}

static bool take(struct world *world, struct tp_event *event)
{
    if (!tp_rpc_owns(event)) {
        const bool more = take_step(world, event, THE_SESSION);
        if (!tp_rpc_minds(world->rpc, event->kind))
            return more;
        const bool was_busy = tp_rpc_is_busy(world->rpc);
        return take_step(world, event, THE_CALLS_AFTER) || more || (was_busy && may_end(world));
    }
    return take_step(world, event, THE_CALLS) || may_end(world);
}

static void happen(struct world *world, struct tp_event event)
{
    world->ended = false;
    while (take(world, &event))
        event = (struct tp_event){.kind = TP_EVENT_MORE};
}

static void pass(struct world *world, uint64_t ns)
{
    const uint64_t end_ns = world->now_ns + ns;

    for (uint32_t turns = 0; world->wake_ns != 0 && world->wake_ns <= end_ns; turns++) {
        TP_ASSERT(turns < 10000);
        world->now_ns = world->wake_ns;
        world->wake_ns = 0;
        happen(world, (struct tp_event){.kind = TP_EVENT_WOKE});
    }
    world->now_ns = end_ns;
}

/* ---- what is said -------------------------------------------------------------------------------
 */

static void leave(struct world *world, uint32_t at)
{
    struct tp_peer *peer = world->peers[at];

    if (peer == NULL)
        return;
    world->peers[at] = NULL;
    happen(world, (struct tp_event){.kind = TP_EVENT_LEFT, .peer = peer});
    TP_ASSERT(peer->owned_count == 0 && peer->announced_count == 0 && peer->piecewise == NULL);
    for (uint32_t id = 1; id <= world->said_count; id++)
        if (world->said[id].peer == peer)
            world->said[id].peer = NULL;
    free(peer); /* who still looks is found out */
}

static void join(struct world *world, uint32_t at, enum tp_dialect_id dialect, uint8_t rights)
{
    leave(world, at);
    struct tp_peer *peer = calloc(1, sizeof *peer);
    peer->dialect = dialect;
    peer->rights = rights | TP_MAY_READ;
    peer->document_name = TP_SLICE("doc");
    peer->user_id = TP_SLICE("user");
    memset(peer->client_id, 'a' + (int)at, sizeof peer->client_id);
    tp_link_init(&peer->link);
    world->peers[at] = peer;
    world->closed[at] = false;
    happen(world, (struct tp_event){.kind = TP_EVENT_JOINED, .peer = peer});
}

static void say(struct world *world, uint32_t at, struct tp_message *message, struct tp_slice raw)
{
    struct tp_peer *peer = world->peers[at];

    if (peer == NULL || world->closed[at] || world->said_count == SAID_COUNT_MAX)
        return;
    struct said *said = &world->said[++world->said_count];
    *said = (struct said){.peer = peer};
    message->id = peer->dialect == TP_DIALECT_TELEPORTAL ? world->said_count : 0;
    message->dialect = peer->dialect;
    message->raw = raw;
    if ((message->kind == TP_MESSAGE_UPDATE || message->kind == TP_MESSAGE_SYNC_STEP_2) &&
        message->update.v1.data != NULL && message->id != 0 && (peer->rights & TP_MAY_WRITE)) {
        said->v1 = fuzz_room();
        tp_write_raw(&said->v1, message->update.v1);
    }
    happen(world, (struct tp_event){.kind = TP_EVENT_SAID, .peer = peer, .message = message});
    tp_message_drop(message);
}

/* An update as the peer's dialect has it. Bytes that are none are said by those who can. */
static void say_update(struct world *world, uint32_t at, enum tp_message_kind kind,
                       struct tp_slice v1)
{
    struct tp_message message = {.kind = kind, .update = {.version = 2}};
    struct tp_buffer raw = fuzz_room();

    if (world->peers[at] == NULL)
        return;
    if (world->peers[at]->dialect == TP_DIALECT_TELEPORTAL) {
        struct tp_buffer v2 = fuzz_room();
        const bool ok = tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2) == TP_OK;
        tp_write_raw(&raw, ok ? tp_buffer_slice(&v2) : v1);
        tp_write_u8(&raw, 0); /* so that there are bytes in any case */
        message.update.v2 = tp_slice_of(raw.data, raw.size - 1);
        if (ok)
            message.update.v1 = v1; /* for our own book */
        tp_buffer_finish(&v2);
    } else {
        tp_write_raw(&raw, v1);
        tp_write_u8(&raw, 0);
        message.update.v1 = tp_slice_of(raw.data, raw.size - 1);
    }
    say(world, at, &message, tp_buffer_slice(&raw));
    tp_buffer_finish(&raw);
}

static void say_insert(struct world *world, uint32_t at, uint64_t clock, enum tp_message_kind kind)
{
    uint8_t room[128];
    struct tp_buffer v1 = tp_buffer_fixed(room, sizeof room);

    tp_write_varuint(&v1, 1);
    tp_write_varuint(&v1, 1);
    tp_write_varuint(&v1, at + 1);
    tp_write_varuint(&v1, clock);
    tp_write_u8(&v1, clock == 0 ? 4 : 0x84);
    if (clock == 0) {
        tp_write_u8(&v1, 1);
        tp_write_bytes(&v1, TP_SLICE("t"));
    } else {
        tp_write_varuint(&v1, at + 1);
        tp_write_varuint(&v1, clock - 1);
    }
    tp_write_bytes(&v1, TP_SLICE("ab"));
    tp_write_varuint(&v1, 0);
    say_update(world, at, kind, tp_buffer_slice(&v1));
}

static void say_awareness(struct world *world, uint32_t at, struct tp_reader *in)
{
    struct tp_buffer out = fuzz_room();
    const uint8_t count = tp_read_u8(in) % 8;

    tp_awareness_write_count(&out, count);
    for (uint8_t i = 0; i < count; i++) {
        const uint8_t who = tp_read_u8(in), what = tp_read_u8(in);
        const struct tp_awareness_entry entry = {.client = who % 8,
                                                 .clock = what >> 2,
                                                 .state = what & 1   ? TP_SLICE("null")
                                                          : what & 2 ? TP_SLICE("{}")
                                                                     : TP_SLICE("{\"a\":1}")};
        tp_awareness_write_entry(&out, &entry);
    }
    struct tp_message message = {.kind = TP_MESSAGE_AWARENESS,
                                 .encrypted = (count & 7) == 7,
                                 .awareness = tp_buffer_slice(&out)};
    say(world, at, &message, tp_buffer_slice(&out));
    tp_buffer_finish(&out);
}

static void say_other(struct world *world, uint32_t at, uint8_t which, uint64_t id)
{
    static const enum tp_message_kind kinds[] = {
        TP_MESSAGE_PRESENCE_ANNOUNCE, TP_MESSAGE_PRESENCE_UNANNOUNCE,
        TP_MESSAGE_PRESENCE_ANNOUNCE, TP_MESSAGE_RPC,
        TP_MESSAGE_SYNC_DONE,         TP_MESSAGE_PRESENCE_HEARTBEAT};
    struct tp_message message = {.kind = TP_MESSAGE_AWARENESS_QUERY};

    if (world->peers[at] == NULL)
        return;
    if (world->peers[at]->dialect != TP_DIALECT_TELEPORTAL) {
        if (which & 1)
            message = (struct tp_message){.kind = TP_MESSAGE_ECHO, .echo = TP_SLICE("echo")};
    } else if (which % 8 < sizeof kinds / sizeof *kinds) {
        message.kind = kinds[which % 8];
        if (message.kind == TP_MESSAGE_RPC)
            message.rpc = (struct tp_message_rpc){.method = TP_SLICE("fly"), .type = id % 3};
        else
            message.presence.awareness_id = id % 8;
    }
    say(world, at, &message, TP_SLICE("x"));
}

/* What another node says: contact, a note or a frame, of nodes that number and of others. */
static void hear_node(struct world *world, struct tp_reader *in)
{
    const uint8_t what = tp_read_u8(in);
    const uint64_t sequence = what & 4 ? 0 : tp_read_u8(in);
    struct tp_heard heard = {.source = TP_SLICE("two/1/1"),
                             .node = TP_SLICE("two"),
                             .boot = sequence == 0 ? 0 : what >> 4,
                             .sequence = sequence};
    struct tp_event event = {.kind = TP_EVENT_HEARD, .heard = &heard};
    struct tp_message message;
    enum tp_close_reason reason;

    if ((what & 3) == 0) {
        happen(world, (struct tp_event){.kind = TP_EVENT_LINKED});
        return;
    }
    const struct tp_slice bytes = tp_read_raw(in, tp_min(tp_read_u8(in), tp_reader_left(in)));
    uint8_t *copy = malloc(bytes.size + 1); /* who looks at them later is found out */
    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    heard.note = tp_slice_of(copy, bytes.size);
    if (what & 1) {
        happen(world, event);
    } else if (tp_teleportal_decode(heard.note, &message, &reason) == TP_OK) {
        heard.message = &message;
        happen(world, event);
    }
    free(copy);
}

static void step(struct world *world, struct tp_reader *in)
{
    const uint8_t what = tp_read_u8(in);
    const uint32_t at = (what >> 4) % PEER_COUNT_MAX;
    const enum tp_status statuses[] = {TP_OK, TP_OK, TP_IO, TP_FULL};

    switch (what & 15) {
    case 0: {
        const uint8_t how = tp_read_u8(in);
        join(world, at, how & 1 ? TP_DIALECT_TELEPORTAL : TP_DIALECT_YWEBSOCKET,
             how & 6 ? TP_MAY_WRITE : 0);
        break;
    }
    case 1:
        leave(world, at);
        break;
    case 2:
    case 3:
        say_insert(world, at, 2 * world->clocks[at]++,
                   what & 1 ? TP_MESSAGE_UPDATE : TP_MESSAGE_SYNC_STEP_2);
        break;
    case 4: { /* again, or with a gap */
        const uint8_t where = tp_read_u8(in);
        say_insert(world, at, 2 * (where % (world->clocks[at] + 3)), TP_MESSAGE_SYNC_STEP_2);
        break;
    }
    case 5: {
        const struct tp_slice bytes = tp_read_raw(in, tp_min(tp_read_u8(in), tp_reader_left(in)));
        say_update(world, at, TP_MESSAGE_UPDATE, bytes);
        break;
    }
    case 6: {
        const struct tp_slice bytes =
            tp_read_raw(in, tp_min(tp_read_u8(in) % 16, tp_reader_left(in)));
        struct tp_message message = {.kind = TP_MESSAGE_SYNC_STEP_1, .state_vector = bytes};
        say(world, at, &message, bytes.size > 0 ? bytes : TP_SLICE("x"));
        break;
    }
    case 7: {
        struct tp_message message = {.kind = TP_MESSAGE_SYNC_STEP_1};
        say(world, at, &message, TP_SLICE("x"));
        break;
    }
    case 8:
        say_awareness(world, at, in);
        break;
    case 9: {
        const uint8_t which = tp_read_u8(in);
        say_other(world, at, which, which >> 3);
        break;
    }
    case 10:
    case 11:
        answer_store(world, what & 1 ? statuses[tp_read_u8(in) % 4] : TP_OK);
        break;
    case 12:
        answer_work(world);
        break;
    case 13:
        pass(world, (uint64_t)tp_read_u8(in) * SECOND / 4);
        break;
    case 14:
        if (world->peers[at] != NULL) {
            world->peers[at]->behind = tp_read_u8(in) & 1;
            happen(world, (struct tp_event){.kind = TP_EVENT_READY, .peer = world->peers[at]});
        }
        break;
    case 15:
        if (what & 0x80)
            hear_node(world, in);
        else
            happen(world, (struct tp_event){.kind = TP_EVENT_TOLD, .told = TP_TOLD_TRIM});
        break;
    }
}

/* ---- the end ------------------------------------------------------------------------------------
 */

static void answer_all(struct world *world)
{
    while (!tp_link_alone(&world->stored) || !tp_link_alone(&world->worked)) {
        answer_work(world);
        answer_store(world, TP_OK);
    }
}

/* Merging what was acked into what the store has changes nothing. */
static void claim_durable(struct world *world)
{
    struct tp_slice inputs[ROW_COUNT_MAX] = {{0}};
    struct tp_work_op load = {.kind = TP_WORK_LOAD, .inputs = inputs, .input_count = 1};

    for (uint32_t i = 0; i < world->row_count; i++)
        if (world->rows[i].table == TP_TABLE_LOG && load.input_count < ROW_COUNT_MAX)
            inputs[load.input_count++] = tp_buffer_slice(&world->rows[i].value);
    tp_work_run(&load);
    TP_ASSERT(load.status == TP_OK);
    for (uint32_t id = 1; id <= world->said_count; id++) {
        const struct said *said = &world->said[id];
        if (!said->durable)
            continue;
        struct tp_buffer both =
            fuzz_merge_two(tp_buffer_slice(&load.v1), tp_buffer_slice(&said->v1), TP_UPDATE_V1);
        fuzz_claim_same(&both, &load.v1, TP_UPDATE_V1);
        tp_buffer_finish(&both);
    }
    tp_work_op_finish(&load);
}

static void finish(struct world *world)
{
    answer_all(world);
    for (uint32_t i = 0; i < 100; i++) { /* NACKs that were delayed, tries to open again */
        pass(world, 10 * SECOND);
        answer_all(world);
    }
    for (uint32_t id = 1; id <= world->said_count; id++) {
        const struct said *said = &world->said[id];
        if (said->peer != NULL && said->peer->dialect == TP_DIALECT_TELEPORTAL &&
            !world->closed[index_of(world, said->peer)])
            TP_ASSERT(said->ack_count == 1);
    }
    for (uint32_t i = 0; i < PEER_COUNT_MAX; i++)
        leave(world, i);
    answer_all(world);
    for (uint32_t i = 0; i < 10 && !world->ended; i++) {
        pass(world, 100 * SECOND);
        answer_all(world);
    }
    if (!world->ended)
        happen(world, (struct tp_event){.kind = TP_EVENT_TOLD, .told = TP_TOLD_CLOSE});
    TP_ASSERT(world->ended);
    tp_rpc_destroy(world->rpc);
    tp_session_destroy(world->session);
    TP_ASSERT(world->pool.used_size == 0);
    claim_durable(world);
    for (uint32_t i = 0; i < world->row_count; i++) {
        tp_buffer_finish(&world->rows[i].key);
        tp_buffer_finish(&world->rows[i].value);
    }
    for (uint32_t id = 1; id <= world->said_count; id++)
        tp_buffer_finish(&world->said[id].v1);
    tp_pool_finish(&world->pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    struct tp_reader in = tp_reader_of((struct tp_slice){data, size});

    if (size == 0)
        return 0;
    world = (struct world){.random = {size}, .now_ns = 1000 * SECOND};
    tp_pool_init(&world.pool);
    tp_link_init(&world.stored);
    tp_link_init(&world.worked);
    world.limits = tp_session_limits_default;
    /* so small that a short input reaches them */
    world.limits.queue_count_max = 4;
    world.limits.store_count_max = 4;
    world.limits.question_count_max = 4;
    world.limits.delayed_count_max = 4;
    world.limits.awareness_count_max = 6;
    world.limits.awareness_per_peer_max = 3;
    world.limits.presence_per_peer_max = 3;
    world.limits.tail_size_max = 700;
    world.limits.compact_count = 5;
    const uint8_t flags = tp_read_u8(&in);
    world.limits.whole_size_max = flags & 1 ? 40 : 1 << 20;
    world.limits.piece_size = 20;
    world.env = (struct tp_session_env){.pool = &world.pool,
                                        .random = &world.random,
                                        .counters = &world.counters,
                                        .limits = &world.limits};
    if (flags & 2) /* one of several nodes */
        world.env.node_id = TP_SLICE("one");
    world.session = tp_session_create(&world.env, TP_SLICE("room"), TP_SLICE("doc"));
    world.rpc_env = (struct tp_rpc_env){.pool = &world.pool,
                                        .random = &world.random,
                                        .counters = &world.counters,
                                        .limits = &tp_rpc_limits_default};
    world.rpc = tp_rpc_create(&world.rpc_env, world.session);
    for (uint32_t i = 0; i < STEP_COUNT_MAX && tp_reader_left(&in) > 0; i++)
        step(&world, &in);
    finish(&world);
    return 0;
}
