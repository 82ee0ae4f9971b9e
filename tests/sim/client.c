/* Clients: they connect, edit, wait for their answers, lose their connections and come back. */
#include <stdio.h>
#include <stdlib.h>

#include "crdt/update.h"
#include "sim/sim.h"
#include "sim/speak.h"
#include "wire/reader.h"
#include "wire/teleportal.h"

#define READ_SIZE_MAX ((size_t)64 << 10)
#define ANSWER_TIME_NS (90 * SECOND) /* a NACK may be held back for 30 s */

void sim_document_name(uint32_t document, char out[16])
{
    snprintf(out, 16, "doc-%u", document);
}

static uint64_t author_of(const struct sim_client *client, uint32_t document)
{
    return (document + 1) * UINT64_C(1000000) + client->index * UINT64_C(1000) + client->life;
}

/* ---- promises -----------------------------------------------------------------------------------
 */

static void drop_promise(struct sim_promise **place)
{
    struct sim_promise *promise = *place;

    *place = promise->next;
    tp_buffer_finish(&promise->update);
    tp_buffer_finish(&promise->frame);
    free(promise);
}

static void drop_promises(struct sim_client *client)
{
    while (client->promises != NULL)
        drop_promise(&client->promises);
}

static void say(struct sim_client *client, uint32_t document, struct tp_message *message,
                struct tp_slice update)
{
    struct tp_buffer frame = tp_buffer_growing(SIZE_MAX);

    speak_encode(client->dialect, document, message, &frame);
    if (message->kind != TP_MESSAGE_ACK)
        sim_say("client %u says %u about %u, %zu bytes", client->index, message->kind, document,
                frame.size);
    speak_websocket(client->socket, 2, tp_buffer_slice(&frame));
    if (client->dialect == SIM_TELEPORTAL && message->kind != TP_MESSAGE_ACK) {
        struct sim_promise *promise = calloc(1, sizeof *promise);
        TP_ASSERT(promise != NULL);
        *promise = (struct sim_promise){.id = tp_teleportal_message_id(tp_buffer_slice(&frame)),
                                        .sent_ns = sim.now_ns,
                                        .document = document,
                                        .is_step_1 = message->kind == TP_MESSAGE_SYNC_STEP_1,
                                        .frame = frame,
                                        .next = client->promises};
        if (update.size > 0) {
            promise->update = tp_buffer_growing(SIZE_MAX);
            tp_buffer_append(&promise->update, update.data, update.size);
        }
        client->promises = promise;
        return;
    }
    tp_buffer_finish(&frame);
}

/* ---- saying -------------------------------------------------------------------------------------
 */

static void say_step_1(struct sim_client *client, uint32_t document)
{
    struct sim_replica *replica = &client->replicas[document];
    struct tp_buffer vector = tp_buffer_growing(SIZE_MAX);

    if (replica->state.size > 0)
        TP_ASSERT(tp_update_state_vector(tp_buffer_slice(&replica->state), TP_UPDATE_V1, &vector) ==
                  TP_OK);
    else
        tp_buffer_append(&vector, "\0", 1);
    replica->ask_again_ns = 0;
    if (client->dialect == SIM_YWEBSOCKET)
        replica->step_1_ns = sim.now_ns;
    say(client, document,
        &(struct tp_message){.kind = TP_MESSAGE_SYNC_STEP_1,
                             .state_vector = tp_buffer_slice(&vector)},
        (struct tp_slice){0});
    tp_buffer_finish(&vector);
}

static void say_update(struct sim_client *client, uint32_t document, enum tp_message_kind kind,
                       struct tp_slice v1)
{
    struct tp_buffer v2 = tp_buffer_growing(SIZE_MAX);
    struct tp_message message = {.kind = kind, .update = {.v1 = v1, .version = 2}};

    if (client->dialect == SIM_TELEPORTAL) {
        sim_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2);
        message.update.v2 = tp_buffer_slice(&v2);
    }
    say(client, document, &message, v1);
    tp_buffer_finish(&v2);
}

static void say_awareness(struct sim_client *client, uint32_t document)
{
    struct tp_buffer state = tp_buffer_growing(SIZE_MAX);

    speak_awareness(author_of(client, document), ++client->awareness_clock, &state);
    say(client, document,
        &(struct tp_message){.kind = TP_MESSAGE_AWARENESS, .awareness = tp_buffer_slice(&state)},
        (struct tp_slice){0});
    tp_buffer_finish(&state);
}

static void edit(struct sim_client *client)
{
    const uint32_t document = (uint32_t)sim_below(world.document_count);
    struct sim_replica *replica = &client->replicas[document];
    struct tp_buffer update;

    if (!replica->wanted || (client->open && !replica->may_write && !replica->may_read))
        return;
    sim_edit(&replica->state, author_of(client, document), &update);
    if (replica->may_write) {
        world.edit_count++;

        sim_merge_into(&replica->state, tp_buffer_slice(&update));
    }
    /* Who may only read says it all the same: nobody must hear of it. */
    if (client->open)
        say_update(client, document, TP_MESSAGE_UPDATE, tp_buffer_slice(&update));
    tp_buffer_finish(&update);
}

/* ---- hearing ------------------------------------------------------------------------------------
 */

static void check_content(const struct sim_client *client, uint32_t document, struct tp_slice v1)
{
    struct tp_update_range ranges[256];
    struct tp_update_info info = {0};

    if (tp_update_validate(v1, TP_UPDATE_V1, NULL, ranges, 256, &info) != TP_OK)
        sim_fail("client %u gets an update that is none: %s", client->index, info.error);
    if (!client->replicas[document].may_read && !info.empty)
        sim_fail("client %u gets content of document %u, which it may not read", client->index,
                 document);
    for (uint32_t i = 0; i < info.range_count; i++) {
        const uint64_t author = ranges[i].client;
        const uint64_t index = author / 1000 % 1000;
        if (author / 1000000 != document + 1)
            sim_fail("client %u gets content of document %lu as if it were of document %u",
                     client->index, author / 1000000 - 1, document);
        if (!world.clients[index].replicas[document].may_write)
            sim_fail("client %u gets content of document %u by client %lu, who may not write",
                     client->index, document, index);
    }
}

static void hear_update(struct sim_client *client, uint32_t document,
                        const struct tp_message *message)
{
    struct tp_buffer v1 = tp_buffer_growing(SIZE_MAX);
    struct sim_replica *replica = &client->replicas[document];

    if (client->dialect == SIM_TELEPORTAL && message->update.v2.size == 0)
        tp_buffer_append(&v1, "\0\0", 2); /* an empty envelope: the document is empty */
    else if (client->dialect == SIM_TELEPORTAL)
        sim_convert(message->update.v2, TP_UPDATE_V2, TP_UPDATE_V1, &v1);
    else
        tp_buffer_append(&v1, message->update.v1.data, message->update.v1.size);
    check_content(client, document, tp_buffer_slice(&v1));
    sim_merge_into(&replica->state, tp_buffer_slice(&v1));
    world.received_count++;
    if (message->kind == TP_MESSAGE_SYNC_STEP_2) {
        replica->synced = true;
        replica->step_1_ns = 0;
    }
    tp_buffer_finish(&v1);
}

static void hear_step_1(struct sim_client *client, uint32_t document,
                        const struct tp_message *message)
{
    struct sim_replica *replica = &client->replicas[document];
    struct tp_buffer missing = tp_buffer_growing(SIZE_MAX);
    const struct tp_slice state =
        replica->state.size > 0 ? tp_buffer_slice(&replica->state) : tp_update_empty(TP_UPDATE_V1);

    if (tp_update_diff(state, TP_UPDATE_V1, message->state_vector, &missing) != TP_OK)
        sim_fail("client %u gets a state vector that is none", client->index);
    say_update(client, document, TP_MESSAGE_SYNC_STEP_2, tp_buffer_slice(&missing));
    tp_buffer_finish(&missing);
}

static void hear_ack(struct sim_client *client, const struct tp_message *message)
{
    for (struct sim_promise **place = &client->promises; *place != NULL; place = &(*place)->next) {
        struct sim_promise *promise = *place;
        struct sim_replica *replica = &client->replicas[promise->document];
        if (promise->id != message->ack.id || promise->again_ns != 0)
            continue;
        if (message->ack.retry_ms > 0 || message->ack.retry_at_once) {
            world.nack_count++;
            promise->again_ns = sim.now_ns + message->ack.retry_ms * MS + 1;
            return;
        }
        if (message->ack.error.data != NULL) {
            world.nack_count++;
            replica->ask_again_ns = sim.now_ns + 50 * MS;
        } else if (promise->update.size > 0 && replica->may_write) {
            world.ack_count++;
            sim_merge_into(&world.acked[promise->document], tp_buffer_slice(&promise->update));
        }
        drop_promise(place);
        return;
    }
}

static void hear(void *context, struct tp_message *message)
{
    struct sim_client *client = context;
    const uint32_t document = speak_document(message, client);

    if (client->socket == NULL)
        return;
    sim_say("client %u hears %u about %u, %.*s", client->index, message->kind, document,
            message->kind == TP_MESSAGE_ACK ? (int)message->ack.error.size : 0,
            (const char *)message->ack.error.data);
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        hear_step_1(client, document, message);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        hear_update(client, document, message);
        break;
    case TP_MESSAGE_AWARENESS:
        if (!client->replicas[document].may_read)
            sim_fail("client %u sees who is in document %u", client->index, document);
        break;
    case TP_MESSAGE_ACK:
        hear_ack(client, message);
        return;
    default:
        break;
    }
    if (client->dialect == SIM_TELEPORTAL && client->socket != NULL && sim_chance(900)) {
        const struct tp_message ack = {.kind = TP_MESSAGE_ACK,
                                       .ack.id = tp_teleportal_message_id(message->raw)};
        say(client, document, (struct tp_message *)&ack, (struct tp_slice){0});
    }
}

/* ---- the connection -----------------------------------------------------------------------------
 */

static void lost(struct sim_client *client)
{
    for (uint32_t i = 0; i < world.document_count; i++) {
        client->replicas[i].synced = false;
        client->replicas[i].step_1_ns = client->replicas[i].ask_again_ns = 0;
    }
    drop_promises(client);
    sim_say("client %u has lost its connection", client->index);
    client->failures = client->open ? 0 : client->failures + 1;
    client->open = false;
    client->socket = NULL;
    client->in.size = 0;
    client->connect_ns = sim.now_ns + 50 * MS + sim_delay(sim.calm ? 500 * MS : 4 * SECOND);
    sim_wake(&client->task, client->connect_ns);
}

void sim_client_disconnect(struct sim_client *client, bool reset)
{
    if (client->socket == NULL)
        return;
    sim_socket_break(client->socket, reset);
    lost(client);
}

void sim_client_forget(struct sim_client *client)
{
    sim_client_disconnect(client, true);
    for (uint32_t i = 0; i < world.document_count; i++)
        tp_buffer_finish(&client->replicas[i].state);
    client->life++;
}

static void go_in(struct sim_client *client)
{
    const size_t room = sim.calm || !sim_chance(300) ? (size_t)256 << 10 : 512 + sim_below(4096);

    client->socket = sim_connect(&client->task, room);
    if (client->socket == NULL) {
        client->connect_ns = sim.now_ns + 100 * MS + sim_below(400) * MS;
        return;
    }
    client->connect_ns = sim.now_ns; /* since when it waits */
    speak_upgrade(client);
}

static void opened(struct sim_client *client)
{
    sim_say("client %u is let in", client->index);
    client->open = true;
    client->failures = 0;
    for (uint32_t i = 0; i < world.document_count; i++)
        if (client->replicas[i].wanted)
            say_step_1(client, i);
}

/* Returns how many bytes of `in` were a whole frame, or an answer's head; 0: none is whole. */
static size_t take_one(struct sim_client *client)
{
    const struct tp_slice in = tp_buffer_slice(&client->in);
    struct tp_slice payload;
    uint8_t opcode;

    if (!client->open) {
        const uint8_t *end = memmem(in.data, in.size, "\r\n\r\n", 4);
        if (end == NULL)
            return 0;
        if (memcmp(in.data + 9, "101", 3) == 0) {
            opened(client);
        } else {
            sim_say("client %u is refused: %.3s", client->index, in.data + 9);
            sim_client_disconnect(client, false);
        }
        return (size_t)(end + 4 - in.data);
    }
    const size_t size = speak_frame(in, &opcode, &payload);
    if (size == 0)
        return 0;
    if (opcode == 9)
        speak_websocket(client->socket, 10, payload);
    else if (opcode == 8)
        sim_client_disconnect(client, false);
    else if (!speak_decode(client, payload, hear))
        sim_fail("client %u cannot read what it is sent", client->index);
    return size;
}

static void receive(struct sim_client *client)
{
    const bool goes_on = sim_socket_read(client->socket, &client->in, READ_SIZE_MAX);

    sim_note_bytes(client->index, tp_buffer_slice(&client->in));
    while (client->in.size > 0 && client->socket != NULL) {
        const size_t size = take_one(client);
        if (size == 0 || client->socket == NULL)
            break;
        client->in.size -= size;
        memmove(client->in.data, client->in.data + size, client->in.size);
    }
    if (!goes_on && client->socket != NULL)
        sim_client_disconnect(client, false);
}

/* ---- what it does -------------------------------------------------------------------------------
 */

static void act(struct sim_client *client)
{
    switch (sim_below(100)) {
    case 0:
        sim_client_disconnect(client, false);
        break;
    case 1:
        sim_client_disconnect(client, true);
        break;
    case 2:
        client->stalled_until_ns = sim.now_ns + sim_below(8 * SECOND);
        break;
    case 3:
        if (sim_chance(300))
            sim_client_forget(client);
        break;
    case 4 ... 11:
        if (client->open)
            say_awareness(client, client->dialect == SIM_YWEBSOCKET
                                      ? speak_document(NULL, client)
                                      : (uint32_t)sim_below(world.document_count));
        break;
    default:
        edit(client);
        break;
    }
}

static void repeat(struct sim_client *client)
{
    for (struct sim_promise *promise = client->promises; promise != NULL; promise = promise->next)
        if (promise->again_ns != 0 && sim.now_ns >= promise->again_ns) {
            promise->again_ns = 0;
            promise->sent_ns = sim.now_ns;
            speak_websocket(client->socket, 2, tp_buffer_slice(&promise->frame));
        }
    for (uint32_t i = 0; i < world.document_count; i++)
        if (client->replicas[i].ask_again_ns != 0 && sim.now_ns >= client->replicas[i].ask_again_ns)
            say_step_1(client, i);
}

static void plan(struct sim_client *client)
{
    uint64_t next_ns = client->quiet ? NEVER : client->next_action_ns;

    if (client->socket == NULL)
        next_ns = tp_min(next_ns, client->connect_ns);
    else if (sim.now_ns < client->stalled_until_ns)
        next_ns = tp_min(next_ns, client->stalled_until_ns);
    else
        next_ns = tp_min(next_ns, sim_socket_next_ns(client->socket));
    for (struct sim_promise *promise = client->promises; promise != NULL; promise = promise->next)
        if (promise->again_ns != 0)
            next_ns = tp_min(next_ns, promise->again_ns);
    for (uint32_t i = 0; client->open && i < world.document_count; i++)
        if (client->replicas[i].ask_again_ns != 0)
            next_ns = tp_min(next_ns, client->replicas[i].ask_again_ns);
    if (next_ns != NEVER)
        sim_wake(&client->task, tp_max(next_ns, sim.now_ns + 1000));
}

static void run(struct sim_task *task)
{
    struct sim_client *client = TP_CONTAINER(task, struct sim_client, task);

    if (sim.calm)
        client->stalled_until_ns = 0;
    if (client->socket == NULL && sim.now_ns >= client->connect_ns)
        go_in(client);
    if (client->socket != NULL && sim.now_ns >= client->stalled_until_ns)
        receive(client);
    if (client->open)
        repeat(client);
    if (!client->quiet && sim.now_ns >= client->next_action_ns) {
        act(client);
        client->next_action_ns = sim.now_ns + 5 * MS + sim_delay(2 * SECOND);
    }
    plan(client);
}

/* ---- life and checks ----------------------------------------------------------------------------
 */

void sim_client_begin(struct sim_client *client, uint32_t index)
{
    *client = (struct sim_client){
        .index = index, .in = tp_buffer_growing(SIZE_MAX), .next_action_ns = sim.now_ns};
    sim_add_task(&client->task, run);
    client->connect_ns = sim.now_ns + sim_delay(2 * SECOND);
    sim_wake(&client->task, client->connect_ns);
}

void sim_client_finish(struct sim_client *client)
{
    sim_client_disconnect(client, true);
    for (uint32_t i = 0; i < DOCUMENT_COUNT_MAX; i++)
        tp_buffer_finish(&client->replicas[i].state);
    tp_buffer_finish(&client->in);
    sim_remove_task(&client->task);
}

void sim_client_check(const struct sim_client *client)
{
    if (client->socket != NULL && !client->open && sim.now_ns > client->connect_ns + ANSWER_TIME_NS)
        sim_fail("client %u waits for the answer to its request", client->index);
    for (const struct sim_promise *promise = client->promises; promise != NULL;
         promise = promise->next)
        if (promise->again_ns == 0 && sim.now_ns > promise->sent_ns + ANSWER_TIME_NS)
            sim_fail("client %u waits for the answer to its message %016lx about document %u",
                     client->index, promise->id, promise->document);
    for (uint32_t i = 0; i < world.document_count; i++)
        if (client->replicas[i].step_1_ns != 0 && client->replicas[i].may_read &&
            sim.now_ns > client->replicas[i].step_1_ns + ANSWER_TIME_NS)
            sim_fail("client %u waits for the state of document %u", client->index, i);
}

bool sim_client_settled(const struct sim_client *client)
{
    bool may_any = false;

    for (uint32_t i = 0; i < world.document_count; i++) {
        const struct sim_replica *replica = &client->replicas[i];
        may_any |= replica->wanted && replica->may_read;
        if (replica->wanted && replica->may_read && (!client->open || !replica->synced))
            return false;
        if (replica->ask_again_ns != 0)
            return false;
    }
    return client->promises == NULL || !may_any;
}
