#include "session_driver.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "wire/awareness.h"
#include "wire/container.h"
#include "wire/teleportal.h"
#include "wire/writer.h"
#include "wire/yprotocol.h"
#include "work/work.h"

/* ---- made bytes ---------------------------------------------------------------------------------
 */

static uint8_t made[4 << 20];
static size_t made_size;

static struct tp_slice keep(const struct tp_buffer *buffer)
{
    cr_assert(!buffer->full && made_size + buffer->size <= sizeof made);
    uint8_t *at = made + made_size;
    if (buffer->size > 0)
        memcpy(at, buffer->data, buffer->size);
    made_size += buffer->size;
    return tp_slice_of(at, buffer->size);
}

struct tp_slice test_insert(uint64_t client, uint64_t clock, const char *text)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);

    tp_write_varuint(&out, 1);
    tp_write_varuint(&out, 1);
    tp_write_varuint(&out, client);
    tp_write_varuint(&out, clock);
    if (clock == 0) {
        tp_write_u8(&out, 4); /* a string below the root type "t" */
        tp_write_u8(&out, 1);
        tp_write_bytes(&out, TP_SLICE("t"));
    } else {
        tp_write_u8(&out, 0x84); /* a string behind the client's last */
        tp_write_varuint(&out, client);
        tp_write_varuint(&out, clock - 1);
    }
    tp_write_bytes(&out, tp_slice_of(text, strlen(text)));
    tp_write_varuint(&out, 0);
    const struct tp_slice update = keep(&out);
    tp_buffer_finish(&out);
    return update;
}

struct tp_slice test_delete(uint64_t client, uint64_t clock, uint64_t length)
{
    struct tp_buffer out = tp_buffer_growing(100);

    tp_write_varuint(&out, 0);
    tp_write_varuint(&out, 1);
    tp_write_varuint(&out, client);
    tp_write_varuint(&out, 1);
    tp_write_varuint(&out, clock);
    tp_write_varuint(&out, length);
    const struct tp_slice update = keep(&out);
    tp_buffer_finish(&out);
    return update;
}

struct tp_slice test_state_vector(uint64_t client, uint64_t clock)
{
    struct tp_buffer out = tp_buffer_growing(100);

    tp_write_varuint(&out, 1);
    tp_write_varuint(&out, client);
    tp_write_varuint(&out, clock);
    const struct tp_slice vector = keep(&out);
    tp_buffer_finish(&out);
    return vector;
}

/* ---- lines --------------------------------------------------------------------------------------
 */

static void hear(struct test_client *client, const char *line)
{
    cr_assert_lt(client->line_count, TEST_LINE_COUNT_MAX);
    client->lines[client->line_count++] = strdup(line);
}

static void describe_update(char *line, size_t size, struct tp_slice update,
                            enum tp_update_encoding encoding, bool encrypted)
{
    struct tp_update_limits limits = tp_update_limits_default;
    struct tp_update_range ranges[64];
    struct tp_update_info info;
    size_t at = strlen(line);

    if (update.size == 0) {
        snprintf(line + at, size - at, " nothing");
        return;
    }
    limits.placeholders = encrypted;
    cr_assert_eq(tp_update_validate(update, encoding, &limits, ranges, 64, &info), TP_OK,
                 "a peer was sent what is no update");
    if (info.empty)
        snprintf(line + at, size - at, " -");
    for (uint32_t i = 0; i < info.range_count; i++) {
        at = strlen(line);
        snprintf(line + at, size - at, " %llu:%llu-%llu", (unsigned long long)ranges[i].client,
                 (unsigned long long)ranges[i].from, (unsigned long long)ranges[i].to);
    }
    at = strlen(line);
    if (info.delete_range_count > 0)
        snprintf(line + at, size - at, " d%llu", (unsigned long long)info.delete_range_count);
}

static void describe_vector(char *line, size_t size, struct tp_slice bytes)
{
    struct tp_state_vector vector = {0};

    cr_assert_eq(tp_state_vector_decode(&vector, bytes), TP_OK);
    for (uint32_t i = 0; i < vector.count; i++) {
        const size_t at = strlen(line);
        snprintf(line + at, size - at, " %llu:%llu", (unsigned long long)vector.entries[i].client,
                 (unsigned long long)vector.entries[i].clock);
    }
    tp_state_vector_finish(&vector);
}

static void describe_awareness(char *line, size_t size, struct tp_slice update)
{
    struct tp_awareness_walk walk;
    struct tp_awareness_entry entry;

    cr_assert(tp_awareness_valid(update));
    cr_assert_eq(tp_awareness_walk(update, &walk), TP_OK);
    while (tp_awareness_next(&walk, &entry) == TP_OK) {
        const size_t at = strlen(line);
        snprintf(line + at, size - at, " %llu:%llu:%.*s", (unsigned long long)entry.client,
                 (unsigned long long)entry.clock, (int)entry.state.size, entry.state.data);
    }
}

static uint32_t number_of(const struct test_client *client, uint64_t id)
{
    for (uint32_t i = 0; i < client->id_count; i++)
        if (client->ids[i] == id)
            return i + 1;
    return 0;
}

static void describe_sidecars(char *line, size_t room, const struct tp_message_update *update)
{
    struct tp_container_walk walk = tp_container_sidecars(update);
    struct tp_slice bytes;

    while (tp_container_bytes_next(&walk, &bytes))
        snprintf(line + strlen(line), room - strlen(line), " [%.*s]", (int)bytes.size,
                 (const char *)bytes.data);
}

static void describe(struct test_client *client, const struct tp_message *message, bool raw)
{
    const bool v2 = client->peer.dialect == TP_DIALECT_TELEPORTAL;
    char line[4096] = "";

    if (message->encrypted && message->kind != TP_MESSAGE_AUTH)
        strcat(line, "sealed ");
    if (raw)
        strcat(line, "raw ");
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        strcat(line, "step1");
        describe_vector(line, sizeof line, message->state_vector);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        strcat(line, message->kind == TP_MESSAGE_UPDATE ? "update" : "step2");
        describe_update(line, sizeof line, v2 ? message->update.v2 : message->update.v1,
                        v2 ? TP_UPDATE_V2 : TP_UPDATE_V1, message->encrypted);
        describe_sidecars(line, sizeof line, &message->update);
        break;
    case TP_MESSAGE_SYNC_DONE:
        strcat(line, "done");
        break;
    case TP_MESSAGE_AUTH:
        snprintf(line, sizeof line, "auth %.*s", (int)message->auth.reason.size,
                 message->auth.reason.data);
        break;
    case TP_MESSAGE_AWARENESS:
        strcat(line, "awareness");
        if (message->encrypted)
            snprintf(line + strlen(line), sizeof line - strlen(line), " %.*s",
                     (int)message->awareness.size, (const char *)message->awareness.data);
        else
            describe_awareness(line, sizeof line, message->awareness);
        break;
    case TP_MESSAGE_AWARENESS_QUERY:
        strcat(line, "query");
        break;
    case TP_MESSAGE_ACK: {
        uint64_t id = 0;
        cr_assert_eq(tp_teleportal_id_parse(message->ack.id_text, &id), TP_OK);
        if (message->ack.error.data == NULL)
            snprintf(line, sizeof line, "%s %u", message->ack.retry_ms > 0 ? "later" : "ack",
                     number_of(client, id));
        else
            snprintf(line, sizeof line, "nack %u %.*s", number_of(client, id),
                     (int)message->ack.error.size, message->ack.error.data);
        break;
    }
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
        snprintf(line, sizeof line, "%s %llu of %c%s%.*s",
                 message->kind == TP_MESSAGE_PRESENCE_JOIN ? "join" : "leave",
                 (unsigned long long)message->presence.awareness_id,
                 message->presence.client_id.data[0], message->presence.user_id.size > 0 ? " " : "",
                 (int)message->presence.user_id.size, message->presence.user_id.data);
        break;
    case TP_MESSAGE_RPC:
        if (message->rpc.type == 1) {
            snprintf(line, sizeof line, "part");
            break;
        }
        snprintf(line, sizeof line, "rpc %llu %.*s", (unsigned long long)message->rpc.status,
                 (int)message->rpc.details.size, message->rpc.details.data);
        break;
    case TP_MESSAGE_ECHO:
        snprintf(line, sizeof line, "echo %.*s", (int)message->echo.size, message->echo.data);
        break;
    default:
        snprintf(line, sizeof line, "kind %d", message->kind);
    }
    hear(client, line);
}

struct catcher {
    struct test_client *client;
    bool raw;
};

static void caught(void *context, struct tp_message *message)
{
    const struct catcher *catcher = context;

    describe(catcher->client, message, catcher->raw);
}

/* As the shard does it: bytes that may be relayed as they are, all others encoded; then read as the
 * client reads them. */
static void deliver(struct test_client *client, struct tp_message *message)
{
    const struct tp_dialect *dialect = tp_dialect_get(client->peer.dialect);
    const struct tp_dialect_state state = {.document = TP_SLICE("doc")};
    struct catcher catcher = {client, false};
    const struct tp_message_sink sink = {caught, &catcher};
    struct tp_buffer out = tp_buffer_growing(64 << 20);
    struct tp_slice bytes;
    enum tp_close_reason reason;

    if (client->closed)
        return;
    if (message->frame != NULL && message->dialect == client->peer.dialect &&
        message->raw.data != NULL && dialect->relays_raw(message)) {
        bytes = tp_frame_message(message->frame);
        cr_assert(tp_slice_equal(bytes, message->raw));
        catcher.raw = !message->ready;
    } else {
        const enum tp_status status =
            dialect->encode(message, client->peer.document_name, client->peer.variant, &out);
        if (status == TP_ABSENT)
            return;
        cr_assert_eq(status, TP_OK);
        bytes = tp_buffer_slice(&out);
    }
    cr_assert_eq(dialect->decode(&state, bytes, sink, &reason), TP_OK,
                 "a peer was sent what it cannot read");
    tp_buffer_finish(&out);
}

/* ---- the store ----------------------------------------------------------------------------------
 */

static struct tp_slice copy(struct tp_slice bytes)
{
    uint8_t *to = malloc(bytes.size + 1);

    if (bytes.size > 0)
        memcpy(to, bytes.data, bytes.size);
    return tp_slice_of(to, bytes.size);
}

static int compare(struct tp_slice a, struct tp_slice b)
{
    const int order = memcmp(a.data, b.data, tp_min(a.size, b.size));

    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static struct test_row *find_row(struct test_world *world, enum tp_store_table table,
                                 struct tp_slice key)
{
    for (size_t i = 0; i < world->row_count; i++)
        if (world->rows[i].table == table && compare(world->rows[i].key, key) == 0)
            return &world->rows[i];
    return NULL;
}

void test_put_row(struct test_world *world, enum tp_store_table table, struct tp_slice key,
                  struct tp_slice value)
{
    struct test_row *row = find_row(world, table, key);
    size_t at = 0;

    if (row != NULL) {
        free((void *)row->value.data);
        row->value = copy(value);
        return;
    }
    while (at < world->row_count &&
           (world->rows[at].table < table ||
            (world->rows[at].table == table && compare(world->rows[at].key, key) < 0)))
        at++;
    world->rows = realloc(world->rows, (world->row_count + 1) * sizeof *world->rows);
    memmove(world->rows + at + 1, world->rows + at, (world->row_count - at) * sizeof *world->rows);
    world->rows[at] = (struct test_row){table, copy(key), copy(value)};
    world->row_count++;
}

static void drop_row(struct test_world *world, enum tp_store_table table, struct tp_slice key)
{
    struct test_row *row = find_row(world, table, key);

    if (row == NULL)
        return;
    free((void *)row->key.data);
    free((void *)row->value.data);
    world->row_count--;
    memmove(row, row + 1, (size_t)(world->rows + world->row_count - row) * sizeof *row);
}

size_t test_row_count(const struct test_world *world, enum tp_store_table table)
{
    size_t count = 0;

    for (size_t i = 0; i < world->row_count; i++)
        count += world->rows[i].table == table;
    return count;
}

struct tp_slice test_row_value(struct test_world *world, enum tp_store_table table, size_t nth)
{
    for (size_t i = 0; i < world->row_count; i++)
        if (world->rows[i].table == table && nth-- == 0)
            return world->rows[i].value;
    return (struct tp_slice){0};
}

static void read_rows(struct test_world *world, struct tp_store_op *op)
{
    size_t size = 0, count = 0;

    for (int writing = 0; writing < 2; writing++) {
        uint8_t *bytes = NULL;
        if (writing) {
            op->answer = malloc(count * sizeof *op->rows + size + 1);
            op->rows = op->answer;
            op->row_count = count;
            bytes = (uint8_t *)(op->rows + count);
            count = 0;
        }
        for (uint32_t r = 0; r < op->range_count; r++) {
            const struct tp_store_range *range = &op->ranges[r];
            for (size_t i = 0; i < world->row_count; i++) {
                const struct test_row *row = &world->rows[i];
                const int from = compare(row->key, range->from);
                if (row->table != range->table || from < 0 ||
                    (range->to.size == 0 ? from != 0 : compare(row->key, range->to) >= 0))
                    continue;
                if (writing) {
                    memcpy(bytes, row->key.data, row->key.size);
                    memcpy(bytes + row->key.size, row->value.data, row->value.size);
                    op->rows[count] =
                        (struct tp_store_row){row->table, tp_slice_of(bytes, row->key.size),
                                              tp_slice_of(bytes + row->key.size, row->value.size)};
                    bytes += row->key.size + row->value.size;
                }
                count++;
                size += row->key.size + row->value.size;
            }
        }
    }
    op->status = world->read_status;
}

static void delete_rows(struct test_world *world, const struct tp_store_part *part)
{
    size_t kept = 0;

    for (size_t i = 0; i < world->row_count; i++) {
        const struct test_row row = world->rows[i];
        if (row.table != part->table || compare(row.key, part->key) < 0 ||
            compare(row.key, part->value) >= 0) {
            world->rows[kept++] = row;
            continue;
        }
        free((void *)row.key.data);
        free((void *)row.value.data);
    }
    world->row_count = kept;
}

static bool is_met(struct test_world *world, const struct tp_store_part *part)
{
    const struct test_row *row = find_row(world, part->table, part->key);

    if (part->kind == TP_PART_EXPECT_ABSENT)
        return row == NULL;
    return part->kind != TP_PART_EXPECT_VALUE ||
           (row != NULL && row->value.size >= part->value.size &&
            memcmp(row->value.data, part->value.data, part->value.size) == 0);
}

static void write_part(struct test_world *world, const struct tp_store_part *part)
{
    if (part->kind == TP_PART_PUT)
        test_put_row(world, part->table, part->key, part->value);
    else if (part->kind == TP_PART_DELETE)
        drop_row(world, part->table, part->key);
    else if (part->kind == TP_PART_DELETE_RANGE)
        delete_rows(world, part);
    world->quarantine_count += part->table == TP_TABLE_QUARANTINE;
}

static enum tp_status write_rows(struct test_world *world, struct tp_store_op *op)
{
    for (uint32_t i = 0; i < op->part_count; i++)
        if (!is_met(world, &op->parts[i]))
            return TP_DENIED;
    for (size_t i = 0; i < op->more_part_count; i++)
        if (!is_met(world, &op->more_parts[i]))
            return TP_DENIED;
    if (world->store_status != TP_OK)
        return world->store_status;
    for (uint32_t i = 0; i < op->part_count; i++)
        write_part(world, &op->parts[i]);
    for (size_t i = 0; i < op->more_part_count; i++)
        write_part(world, &op->more_parts[i]);
    if (op->verb == TP_STORE_APPEND) {
        struct tp_buffer value = tp_buffer_growing(SIZE_MAX);
        tp_write_raw(&value, op->value[0]);
        tp_write_raw(&value, op->value[1]);
        test_put_row(world, TP_TABLE_LOG, op->key, tp_buffer_slice(&value));
        tp_buffer_finish(&value);
        world->append_count++;
    }
    return TP_OK;
}

void test_store_go(struct test_world *world)
{
    struct tp_link now;
    struct tp_link *link;

    tp_link_init(&now);
    tp_list_splice(&now, &world->stored);
    while ((link = tp_list_pop(&now)) != NULL) {
        struct tp_store_op *op = TP_CONTAINER(link, struct tp_store_op, link);
        if (op->verb == TP_STORE_READ)
            read_rows(world, op);
        else
            op->status = write_rows(world, op);
        test_event(world, (struct tp_event){.kind = TP_EVENT_STORED, .store_op = op});
    }
}

void test_work_go(struct test_world *world)
{
    struct tp_link *link;

    while ((link = tp_list_pop(&world->worked)) != NULL) {
        struct tp_work_op *op = TP_CONTAINER(link, struct tp_work_op, link);
        world->work_counts[op->kind]++;
        tp_work_run(op);
        test_event(world, (struct tp_event){.kind = TP_EVENT_WORKED, .work_op = op});
    }
}

/* ---- effects ------------------------------------------------------------------------------------
 */

static struct test_client *client_of(struct tp_peer *peer)
{
    return TP_CONTAINER(peer, struct test_client, peer);
}

static void perform(struct test_world *world, const struct tp_effect *effect, bool *more)
{
    char line[32];

    switch (effect->kind) {
    case TP_EFFECT_SEND:
        cr_assert(client_of(effect->peer)->here, "sent to who has left");
        deliver(client_of(effect->peer), effect->message);
        break;
    case TP_EFFECT_BROADCAST:
        TP_LIST_EACH(link, &world->clients)
        {
            struct test_client *client = TP_CONTAINER(link, struct test_client, link);
            if (&client->peer != effect->peer && (client->peer.audience & effect->audience) != 0) {
                client->mark = effect->message->mark;
                deliver(client, effect->message);
            }
        }
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
        world->wake_ns = effect->at_ns;
        break;
    case TP_EFFECT_PAUSE:
        client_of(effect->peer)->paused = true;
        break;
    case TP_EFFECT_RESUME:
        TP_LIST_EACH(link, &world->clients)
        TP_CONTAINER(link, struct test_client, link)->paused = false;
        break;
    case TP_EFFECT_NOTIFY:
        cr_assert(client_of(effect->peer)->here);
        client_of(effect->peer)->wants_ready = true;
        break;
    case TP_EFFECT_CLOSE:
        cr_assert(client_of(effect->peer)->here, "closed who has left");
        snprintf(line, sizeof line, "close %d", effect->reason);
        if (!client_of(effect->peer)->closed)
            hear(client_of(effect->peer), line);
        client_of(effect->peer)->closed = true;
        break;
    case TP_EFFECT_COMPACT:
        world->compact_count++;
        break;
    case TP_EFFECT_NEWS:
        world->news_counts[effect->news]++;
        break;
    case TP_EFFECT_DELETED:
        world->deleted_count++;
        world->deleted_status = effect->status;
        break;
    case TP_EFFECT_END:
        world->ended = true;
        break;
    case TP_EFFECT_PUBLISH:
    case TP_EFFECT_NOTE:
        cr_assert_not_null(world->node_id, "there are no other nodes");
        world->publish(world, effect);
        break;
    }
}

enum who { THE_SESSION, THE_CALLS, THE_CALLS_AFTER };

static bool take_step(struct test_world *world, struct tp_event *event, enum who who)
{
    struct tp_effects effects = {0};
    bool more = false;

    event->now_ns = world->now_ns;
    event->wall_ms = world->now_ns / TEST_MILLISECOND;
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

static bool may_end(const struct test_world *world)
{
    return tp_session_peer_count(world->session) == 0 && !tp_rpc_is_busy(world->rpc);
}

/* As the shard does it. */
static bool take_event(struct test_world *world, struct tp_event *event)
{
    if (!tp_rpc_owns(event)) {
        const bool more = take_step(world, event, THE_SESSION);
        if (!tp_rpc_minds(world->rpc, event->kind))
            return more;
        const bool was_busy = tp_rpc_is_busy(world->rpc);
        return take_step(world, event, THE_CALLS_AFTER) || more || (was_busy && may_end(world));
    }
    if (world->rpc == NULL)
        world->rpc = tp_rpc_create(&world->rpc_env, world->session);
    return take_step(world, event, THE_CALLS) || may_end(world);
}

void test_event(struct test_world *world, struct tp_event event)
{
    if (event.kind != TP_EVENT_WOKE || world->wake_ns <= world->now_ns)
        world->ended = false;
    while (take_event(world, &event))
        event = (struct tp_event){.kind = TP_EVENT_MORE};
    if (!world->hold_work)
        test_work_go(world);
    if (!world->hold_store)
        test_store_go(world);
}

void test_pass(struct test_world *world, uint64_t ns)
{
    const uint64_t end_ns = world->now_ns + ns;

    for (uint32_t turns = 0; world->wake_ns != 0 && world->wake_ns <= end_ns; turns++) {
        cr_assert_lt(turns, 10000, "the session wakes for ever");
        if (world->wake_ns > world->now_ns)
            world->now_ns = world->wake_ns;
        world->wake_ns = 0;
        test_event(world, (struct tp_event){.kind = TP_EVENT_WOKE});
        if (world->ended)
            break;
    }
    world->now_ns = end_ns;
}

/* ---- the world ----------------------------------------------------------------------------------
 */

void test_world_init(struct test_world *world)
{
    *world = (struct test_world){.random = {42}, .now_ns = 1000 * TEST_SECOND};
    tp_pool_init(&world->pool);
    world->limits = tp_session_limits_default;
    world->env = (struct tp_session_env){.pool = &world->pool,
                                         .random = &world->random,
                                         .counters = &world->counters,
                                         .limits = &world->limits};
    world->rpc_limits = tp_rpc_limits_default;
    world->rpc_env = (struct tp_rpc_env){.pool = &world->pool,
                                         .random = &world->random,
                                         .counters = &world->counters,
                                         .limits = &world->rpc_limits};
    tp_link_init(&world->clients);
    tp_link_init(&world->stored);
    tp_link_init(&world->worked);
    made_size = 0;
}

void test_world_open(struct test_world *world, const char *document)
{
    if (world->node_id != NULL)
        world->env.node_id = tp_slice_of(world->node_id, strlen(world->node_id));
    world->session = tp_session_create(&world->env, (struct tp_slice){0},
                                       tp_slice_of(document, strlen(document)));
}

static void end(struct test_world *world)
{
    world->hold_store = world->hold_work = false;
    TP_LIST_EACH_SAFE(link, &world->clients)
    test_leave(TP_CONTAINER(link, struct test_client, link));
    test_work_go(world);
    test_store_go(world);
    test_pass(world, world->limits.grace_ns + 10 * TEST_SECOND);
    cr_assert(world->ended, "a session without peers ends");
    tp_rpc_destroy(world->rpc);
    world->rpc = NULL;
    tp_session_destroy(world->session);
    world->session = NULL;
    cr_assert_eq(world->pool.used_size, 0, "the session left %zu bytes", world->pool.used_size);
    cr_assert_eq(world->counters.sessions_loading, 0);
}

void test_world_reopen(struct test_world *world)
{
    end(world);
    test_world_open(world, "doc");
}

void test_world_finish(struct test_world *world)
{
    end(world);
    for (size_t i = 0; i < world->row_count; i++) {
        free((void *)world->rows[i].key.data);
        free((void *)world->rows[i].value.data);
    }
    free(world->rows);
    tp_pool_finish(&world->pool);
}

void test_join(struct test_world *world, struct test_client *client, enum tp_dialect_id dialect,
               const char *name)
{
    test_join_with(world, client, dialect, name, TP_MAY_READ | TP_MAY_WRITE);
}

void test_join_with(struct test_world *world, struct test_client *client,
                    enum tp_dialect_id dialect, const char *name, uint8_t rights)
{
    *client = (struct test_client){.world = world, .name = name, .here = true};
    client->peer.dialect = dialect;
    client->peer.rights = rights;
    client->peer.document_name = TP_SLICE("doc");
    memset(client->peer.client_id, name[0], sizeof client->peer.client_id);
    tp_link_init(&client->peer.link);
    tp_link_init(&client->link);
    tp_link_insert(&world->clients, &client->link);
    test_event(world, (struct tp_event){.kind = TP_EVENT_JOINED, .peer = &client->peer});
}

void test_leave(struct test_client *client)
{
    struct test_world *world = client->world;

    if (!client->here)
        return;
    client->here = false;
    tp_link_remove(&client->link);
    test_event(world, (struct tp_event){.kind = TP_EVENT_LEFT, .peer = &client->peer});
    cr_assert_eq(client->peer.owned_count, 0);
    cr_assert_eq(client->peer.announced_count, 0);
    cr_assert(tp_link_alone(&client->peer.link));
    memset(&client->peer, 0xee, sizeof client->peer); /* who still looks sees rubbish */
    test_deaf(client);
}

void test_fall_behind(struct test_client *client, uint32_t mark)
{
    test_event(client->world,
               (struct tp_event){.kind = TP_EVENT_BEHIND, .peer = &client->peer, .mark = mark});
    client->peer.behind = true; /* as with READY */
}

void test_ready(struct test_client *client)
{
    client->wants_ready = false;
    test_event(client->world, (struct tp_event){.kind = TP_EVENT_READY, .peer = &client->peer});
}

static void take(void *context, struct tp_message *message)
{
    struct test_client *client = context;

    if (client->id_count < TEST_LINE_COUNT_MAX)
        client->ids[client->id_count++] = message->id;
    test_event(client->world,
               (struct tp_event){.kind = TP_EVENT_SAID, .peer = &client->peer, .message = message});
}

void test_say(struct test_client *client, struct tp_message message)
{
    const struct tp_dialect *dialect = tp_dialect_get(client->peer.dialect);
    const struct tp_dialect_state state = {.document = TP_SLICE("doc")};
    struct tp_buffer out = tp_buffer_growing(64 << 20);
    enum tp_close_reason reason;

    cr_assert_eq(dialect->encode(&message, TP_SLICE("doc"), 0, &out), TP_OK);
    /* The bytes in a block of their own: who looks at them later is found out. */
    const struct tp_slice bytes = copy(tp_buffer_slice(&out));
    tp_buffer_finish(&out);
    cr_assert_eq(dialect->decode(&state, bytes, (struct tp_message_sink){take, client}, &reason),
                 TP_OK);
    free((void *)bytes.data);
}

void test_say_step1(struct test_client *client, struct tp_slice state_vector)
{
    test_say(client,
             (struct tp_message){.kind = TP_MESSAGE_SYNC_STEP_1, .state_vector = state_vector});
}

static void say_content(struct test_client *client, enum tp_message_kind kind, struct tp_slice v1)
{
    struct tp_message message = {.kind = kind, .update = {.version = 2, .v1 = v1}};
    struct tp_buffer v2 = tp_buffer_growing(64 << 20);

    if (client->peer.dialect == TP_DIALECT_TELEPORTAL) {
        cr_assert_eq(tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
        message.update.v2 = tp_buffer_slice(&v2);
    }
    test_say(client, message);
    tp_buffer_finish(&v2);
}

void test_say_step2(struct test_client *client, struct tp_slice v1)
{
    say_content(client, TP_MESSAGE_SYNC_STEP_2, v1);
}

void test_say_update(struct test_client *client, struct tp_slice v1)
{
    say_content(client, TP_MESSAGE_UPDATE, v1);
}

void test_say_awareness(struct test_client *client, const char *entries)
{
    struct tp_buffer out = tp_buffer_growing(64 << 10), body = tp_buffer_growing(64 << 10);
    uint64_t count = 0;

    while (*entries != 0) {
        char *end_of;
        struct tp_awareness_entry entry = {.client = strtoull(entries, &end_of, 10)};
        entry.clock = strtoull(end_of + 1, &end_of, 10);
        entry.state.data = (const uint8_t *)end_of + 1;
        entry.state.size = strcspn(end_of + 1, " ");
        tp_awareness_write_entry(&body, &entry);
        count++;
        entries = end_of + 1 + entry.state.size;
        entries += *entries == ' ';
    }
    tp_awareness_write_count(&out, count);
    tp_write_raw(&out, tp_buffer_slice(&body));
    test_say(client,
             (struct tp_message){.kind = TP_MESSAGE_AWARENESS, .awareness = tp_buffer_slice(&out)});
    tp_buffer_finish(&out);
    tp_buffer_finish(&body);
}

void test_say_presence(struct test_client *client, enum tp_message_kind kind, uint64_t id)
{
    test_say(client, (struct tp_message){.kind = kind, .presence = {.awareness_id = id}});
}

const char *test_hears(struct test_client *client)
{
    return client->line_at < client->line_count ? client->lines[client->line_at++] : "";
}

void test_deaf(struct test_client *client)
{
    for (uint32_t i = 0; i < client->line_count; i++)
        free(client->lines[i]);
    client->line_count = client->line_at = 0;
}
