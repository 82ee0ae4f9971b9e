/* The calls of one document: who waits, who runs, what each is answered. */
#include <stdio.h>

#include "rpc/files.h"
#include "wire/teleportal.h"

const struct tp_rpc_limits tp_rpc_limits_default = {
    .call_count_max = 256,
    .call_per_peer_max = 64,
    .call_size_max = (uint64_t)32 << 20,
    .retry_ms = 250,
    .patience_ms = 2000,
    .milestone_count_max = 1000,
    .milestone_size_max = (uint64_t)512 << 20,
    .file_chunk_size = 1 << 20,
    .upload_count_max = 64,
    .download_per_peer_max = 16,
    .file_size_max = (uint64_t)1 << 30,
    .document_files_size_max = 0,
};

/* Parts wait for the disk, and their senders are not read from meanwhile: these parts of the limits
 * begin and end it. The rest is for what is on its way from another core. */
#define PAUSE_SIZE_PART 4u
#define PAUSE_COUNT_PART 2u /* of what one peer may have under way */

/* What the end of an event needs: MORE, RESUME, WAKE. */
#define END_COUNT_MAX 3u
static_assert(TP_RPC_EFFECT_ROOM + END_COUNT_MAX <= TP_EFFECT_COUNT_MAX, "one call always fits");
static_assert(TP_TELEPORTAL_ID_SIZE == sizeof((struct tp_rpc_call *)0)->id_text, "an id's text");

struct tp_rpc_piece {
    struct tp_rpc_piece *next;
    void *answer; /* of the store: heap; NULL: this is pool memory */
    size_t size;
};

/* What an effect of this event points to; given back when the next event comes. */
struct said {
    struct said *next;
    struct tp_message message;
    struct tp_buffer payload;
    size_t size;
    uint8_t text[]; /* request id, method, details */
};

/* ---- memory -------------------------------------------------------------------------------------
 */

void *tp_rpc_take(struct tp_rpc *rpc, struct tp_rpc_call *call, size_t size)
{
    struct tp_rpc_piece *piece = tp_pool_take_zeroed(rpc->env->pool, sizeof *piece + size);

    piece->next = call->pieces;
    piece->size = sizeof *piece + size;
    call->pieces = piece;
    return piece + 1;
}

/* Answers of the store stay with the call: what is written next may point into them. */
static void keep_answer(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    if (call->op.answer == NULL)
        return;
    struct tp_rpc_piece *piece = tp_pool_take_zeroed(rpc->env->pool, sizeof *piece);
    *piece = (struct tp_rpc_piece){
        .next = call->pieces, .answer = call->op.answer, .size = sizeof *piece};
    call->pieces = piece;
    call->op.answer = NULL;
}

void tp_rpc_drop_rows(struct tp_rpc_call *call)
{
    for (struct tp_rpc_piece *piece = call->pieces; piece != NULL; piece = piece->next) {
        free(piece->answer);
        piece->answer = NULL;
    }
    call->rows = NULL;
    call->row_count = 0;
}

static void drop_outputs(struct tp_work_op *work)
{
    tp_buffer_finish(&work->v1);
    tp_buffer_finish(&work->v2);
    tp_buffer_finish(&work->sv);
    tp_buffer_finish(&work->ranges);
    tp_buffer_finish(&work->sidecars);
    tp_buffer_finish(&work->digests);
    tp_buffer_finish(&work->ends);
}

static void forget_said(struct tp_rpc *rpc)
{
    while (rpc->said != NULL) {
        struct said *said = rpc->said;
        rpc->said = said->next;
        tp_buffer_finish(&said->payload);
        tp_pool_give(rpc->env->pool, said, sizeof *said + said->size);
    }
}

bool tp_rpc_has_room(const struct tp_effects *out, uint32_t count)
{
    return out->count + count + END_COUNT_MAX <= TP_EFFECT_COUNT_MAX;
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static struct tp_slice put(uint8_t **at, struct tp_slice text)
{
    const struct tp_slice copy = {*at, text.size};

    if (text.size > 0)
        memcpy(*at, text.data, text.size);
    *at += text.size;
    return copy;
}

static struct said *say(struct tp_rpc *rpc, size_t size)
{
    struct said *said = tp_pool_take_zeroed(rpc->env->pool, sizeof *said + size);

    said->size = size;
    said->next = rpc->said;
    rpc->said = said;
    return said;
}

static void send(struct tp_effects *out, struct tp_peer *peer, struct said *said)
{
    tp_effect_add(
        out, (struct tp_effect){.kind = TP_EFFECT_SEND, .peer = peer, .message = &said->message});
}

static void ack(struct tp_rpc *rpc, struct tp_peer *peer, uint64_t id, uint64_t retry_ms,
                struct tp_effects *out)
{
    struct said *said = say(rpc, 0);

    said->message.kind = TP_MESSAGE_ACK;
    said->message.ack.id = id;
    said->message.ack.retry_ms = retry_ms;
    send(out, peer, said);
}

/* A frame to who asked, about `call`. */
static struct said *say_of(struct tp_rpc *rpc, const struct tp_rpc_call *call, uint8_t type,
                           struct tp_slice details)
{
    const struct tp_slice method = call->request.rpc.method;
    struct said *said = say(rpc, method.size + call->request_id.size + details.size);
    uint8_t *at = said->text;

    said->message.kind = TP_MESSAGE_RPC;
    said->message.encrypted = call->encrypted;
    said->message.rpc = (struct tp_message_rpc){.type = type};
    said->message.rpc.method = put(&at, method);
    said->message.rpc.request_id = put(&at, call->request_id);
    said->message.rpc.details = put(&at, details);
    return said;
}

static void take_payload(struct said *said, struct tp_buffer *payload)
{
    TP_ASSERT(!payload->full && !payload->fixed && !payload->starting);
    said->payload = *payload;
    said->message.rpc.payload = tp_buffer_slice(payload);
    *payload = (struct tp_buffer){0};
}

/* Parts that are not done yet are more than `divisor`-th parts of what is too much. */
static bool is_behind(const struct tp_rpc *rpc, uint32_t divisor)
{
    const struct tp_rpc_limits *limits = rpc->env->limits;

    return rpc->part_size >= limits->call_size_max / (PAUSE_SIZE_PART * divisor) ||
           rpc->part_count >= limits->call_per_peer_max / (PAUSE_COUNT_PART * divisor);
}

static void end(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_effects none = {0};

    TP_ASSERT(call->stage != TP_RPC_STORING && call->stage != TP_RPC_WORKING);
    if (call->finish != NULL)
        call->finish(rpc, call, &none);
    TP_ASSERT(none.count == 0);
    if (call->has_turn)
        rpc->running[call->method->turn] = false;
    tp_link_remove(&call->link);
    rpc->call_count--;
    rpc->call_size -= call->request.raw.size;
    rpc->part_count -= call->is_part;
    rpc->part_size -= call->is_part ? call->request.raw.size : 0;
    call->stage = TP_RPC_ENDED; /* freed when its function has returned */
}

static void free_call(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_pool *pool = rpc->env->pool;

    TP_ASSERT(call->stage == TP_RPC_ENDED);
    keep_answer(rpc, call);
    tp_rpc_drop_rows(call);
    drop_outputs(&call->work);
    while (call->pieces != NULL) {
        struct tp_rpc_piece *piece = call->pieces;
        call->pieces = piece->next;
        tp_pool_give(pool, piece, piece->size);
    }
    tp_message_drop(&call->request);
    tp_pool_give(pool, call, sizeof *call);
}

void tp_rpc_reply(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_buffer *payload,
                  struct tp_effects *out)
{
    if (call->peer != NULL) {
        struct said *said = say_of(rpc, call, 2, (struct tp_slice){0});
        take_payload(said, payload);
        send(out, call->peer, said);
        ack(rpc, call->peer, call->request.id, 0, out);
    }
    tp_buffer_finish(payload);
    end(rpc, call);
}

/* A part that was not taken must not look as if it had been (spec 03 section 3.3). `error` is said
 * in the same event, and stays as long. */
static void nack(struct tp_rpc *rpc, const struct tp_rpc_call *call, struct tp_slice error,
                 struct tp_effects *out)
{
    struct said *said = say(rpc, 0);

    said->message.kind = TP_MESSAGE_ACK;
    said->message.ack.id = call->request.id;
    said->message.ack.error = error;
    rpc->env->counters->nacks_sent++;
    send(out, call->peer, said);
}

void tp_rpc_fail_with(struct tp_rpc *rpc, struct tp_rpc_call *call, uint32_t status,
                      const char *details, const char *name, struct tp_slice value,
                      struct tp_effects *out)
{
    rpc->env->counters->rpc_failed++;
    if (call->peer != NULL) {
        struct said *said = say_of(rpc, call, 2, tp_slice_of(details, strlen(details)));
        said->message.rpc.failed = true;
        said->message.rpc.status = status;
        if (name != NULL) {
            struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
            tp_any_write_object(&payload, 1);
            tp_write_bytes(&payload, tp_slice_of(name, strlen(name)));
            tp_any_write_string(&payload, value);
            take_payload(said, &payload);
        }
        send(out, call->peer, said);
        if (call->is_part)
            nack(rpc, call, said->message.rpc.details, out);
        else
            ack(rpc, call->peer, call->request.id, 0, out);
    }
    end(rpc, call);
}

void tp_rpc_fail(struct tp_rpc *rpc, struct tp_rpc_call *call, uint32_t status, const char *details,
                 struct tp_effects *out)
{
    tp_rpc_fail_with(rpc, call, status, details, NULL, (struct tp_slice){0}, out);
}

void tp_rpc_later(struct tp_rpc *rpc, struct tp_rpc_call *call, uint64_t retry_ms,
                  struct tp_effects *out)
{
    TP_ASSERT(retry_ms > 0);
    if (call->peer != NULL)
        ack(rpc, call->peer, call->request.id, retry_ms, out);
    end(rpc, call);
}

void tp_rpc_done(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->peer != NULL)
        ack(rpc, call->peer, call->request.id, 0, out);
    end(rpc, call);
}

bool tp_rpc_refused(struct tp_rpc *rpc, struct tp_rpc_call *call, const struct tp_rpc_args *args,
                    struct tp_effects *out)
{
    if (args->wrong[0] == 0)
        return false;
    tp_rpc_fail(rpc, call, 400, args->wrong, out);
    return true;
}

bool tp_rpc_broken(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->status == TP_OK)
        return false;
    rpc->env->counters->store_failures++;
    tp_rpc_fail(rpc, call, 503, "The store cannot be reached", out);
    return true;
}

void tp_rpc_send_part(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_buffer *payload,
                      struct tp_effects *out)
{
    if (call->peer != NULL) {
        struct said *said = say_of(rpc, call, 1, (struct tp_slice){0});
        take_payload(said, payload);
        send(out, call->peer, said);
    }
    tp_buffer_finish(payload);
}

void tp_rpc_broadcast(struct tp_rpc *rpc, const struct tp_rpc_call *call, const char *method,
                      struct tp_buffer *payload, struct tp_effects *out)
{
    struct said *said = say(rpc, strlen(method));
    uint8_t *at = said->text;

    said->message.kind = TP_MESSAGE_RPC;
    said->message.rpc.method = put(&at, tp_slice_of(method, strlen(method)));
    take_payload(said, payload);
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_BROADCAST,
                                          .peer = call->peer,
                                          .audience = TP_AUDIENCE_TELEPORTAL,
                                          .message = &said->message});
}

/* ---- waiting ------------------------------------------------------------------------------------
 */

static void submit(struct tp_rpc *rpc, struct tp_rpc_call *call, enum tp_store_verb verb,
                   tp_rpc_step *next, struct tp_effects *out)
{
    TP_ASSERT(call->stage == TP_RPC_RUNNING);
    call->stage = TP_RPC_STORING;
    call->next = next;
    call->op.verb = verb;
    call->op.of_call = true;
    call->op.owner = call;
    tp_link_init(&call->op.link);
    tp_link_init(&call->op.inflight);
    rpc->inflight++;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_STORE, .store_op = &call->op});
}

void tp_rpc_read(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                 struct tp_effects *out)
{
    submit(rpc, call, TP_STORE_READ, next, out);
}

void tp_rpc_write(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                  struct tp_effects *out)
{
    const struct tp_session_facts facts = tp_session_facts(rpc->session);

    if (facts.is_ending || facts.epoch != call->epoch)
        tp_rpc_fail(rpc, call, 409, "The document was deleted", out);
    else
        submit(rpc, call, TP_STORE_WRITE, next, out);
}

void tp_rpc_work(struct tp_rpc *rpc, struct tp_rpc_call *call, enum tp_work_kind kind,
                 tp_rpc_step *next, struct tp_effects *out)
{
    TP_ASSERT(call->stage == TP_RPC_RUNNING);
    call->stage = TP_RPC_WORKING;
    call->next = next;
    drop_outputs(&call->work);
    call->work.kind = kind;
    call->work.of_call = true;
    call->work.owner = call;
    tp_link_init(&call->work.link);
    tp_link_init(&call->work.inflight);
    rpc->inflight++;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_WORK, .work_op = &call->work});
}

void tp_rpc_drained(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                    struct tp_effects *out)
{
    TP_ASSERT(call->stage == TP_RPC_RUNNING);
    if (call->peer == NULL) {
        end(rpc, call);
        return;
    }
    call->stage = TP_RPC_DRAINING;
    call->next = next;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_NOTIFY, .peer = call->peer});
}

bool tp_rpc_awaits_document(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next)
{
    TP_ASSERT(call->stage == TP_RPC_RUNNING);
    if (tp_session_facts(rpc->session).number != 0)
        return false;
    if (call->until_ns == 0)
        call->until_ns = rpc->now_ns + rpc->env->limits->patience_ms * UINT64_C(1000000);
    if (rpc->now_ns >= call->until_ns)
        return false;
    call->stage = TP_RPC_FOLDING;
    call->next = next;
    return true;
}

bool tp_rpc_content(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                    struct tp_session_content *content, struct tp_effects *out)
{
    TP_ASSERT(call->stage == TP_RPC_RUNNING);
    switch (tp_session_content(rpc->session, content, out)) {
    case TP_OK:
        return true;
    case TP_MORE:
        call->stage = TP_RPC_FOLDING;
        call->next = next;
        return false;
    default:
        tp_rpc_fail(rpc, call, 503, "The document has no content now", out);
        return false;
    }
}

/* ---- running ------------------------------------------------------------------------------------
 */

static void run(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *step,
                struct tp_effects *out)
{
    call->stage = TP_RPC_RUNNING;
    step(rpc, call, out);
    TP_ASSERT(call->stage != TP_RPC_RUNNING); /* it said what comes next */
    if (call->stage == TP_RPC_ENDED)
        free_call(rpc, call);
}

static void unknown(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    char words[320];
    const struct tp_slice method = call->request.rpc.method;

    snprintf(words, sizeof words, "Unknown RPC method: %.*s", (int)method.size,
             (const char *)method.data);
    tp_rpc_fail_with(rpc, call, 501, words, "method", method, out);
}

static void not_loaded(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    tp_rpc_fail(rpc, call, 503, "The document cannot be loaded", out);
}

static void forbidden(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    tp_rpc_fail(rpc, call, 403, "Permission denied", out);
}

static bool may(const struct tp_rpc_call *call)
{
    const uint8_t needs = call->method == NULL ? TP_MAY_READ : call->method->needs;

    return call->is_own || (call->peer->rights & needs) == needs;
}

/* False: the call has to wait. */
static bool start(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_session_facts facts = tp_session_facts(rpc->session);

    if (!may(call)) {
        run(rpc, call, forbidden, out);
        return true;
    }
    if (call->method == NULL) {
        run(rpc, call, unknown, out);
        return true;
    }
    if (facts.is_refused) {
        run(rpc, call, not_loaded, out);
        return true;
    }
    const enum tp_rpc_turn turn = call->method->turn;
    if (!facts.is_open || (turn != TP_RPC_ANY_TIME && rpc->running[turn]))
        return false;
    call->epoch = facts.epoch;
    call->has_turn = turn != TP_RPC_ANY_TIME;
    rpc->running[turn] = call->has_turn;
    run(rpc, call, call->is_part ? call->method->part : call->method->handle, out);
    return true;
}

/* Starts what can be. False: there is more than there was room for. */
static bool pump(struct tp_rpc *rpc, struct tp_effects *out)
{
    TP_LIST_EACH_SAFE(link, &rpc->calls)
    {
        struct tp_rpc_call *call = TP_CONTAINER(link, struct tp_rpc_call, link);
        if (call->stage != TP_RPC_WAITING && call->stage != TP_RPC_FOLDING)
            continue;
        if (!tp_rpc_has_room(out, TP_RPC_EFFECT_ROOM))
            return false;
        if (call->stage == TP_RPC_FOLDING)
            run(rpc, call, call->next, out);
        else
            start(rpc, call, out);
    }
    return true;
}

/* ---- what comes in ------------------------------------------------------------------------------
 */

static const struct tp_rpc_method *method_of(struct tp_slice name)
{
    for (size_t i = 0; i < tp_rpc_method_count; i++)
        if (tp_slice_equal(name,
                           tp_slice_of(tp_rpc_methods[i].name, strlen(tp_rpc_methods[i].name))))
            return &tp_rpc_methods[i];
    return NULL;
}

uint8_t tp_rpc_needs(struct tp_slice method)
{
    const struct tp_rpc_method *found = method_of(method);

    return found == NULL ? TP_MAY_READ : found->needs;
}

static struct tp_rpc_call *create(struct tp_rpc *rpc, struct tp_peer *peer,
                                  struct tp_message *message)
{
    struct tp_rpc_call *call = tp_pool_take_zeroed(rpc->env->pool, sizeof *call);

    call->peer = peer;
    call->method = method_of(message->rpc.method);
    call->is_part = message->rpc.type == 1;
    call->encrypted = message->encrypted;
    tp_message_keep(message, rpc->env->pool);
    call->request = *message;
    message->frame = NULL; /* moved */
    call->request_id = call->request.rpc.request_id;
    if (!call->is_part) {
        tp_teleportal_id_format(call->request.id, call->id_text);
        call->request_id = tp_slice_of(call->id_text, sizeof call->id_text);
    }
    if (peer->user_id.size > 0) {
        uint8_t *user = tp_rpc_take(rpc, call, peer->user_id.size);
        memcpy(user, peer->user_id.data, peer->user_id.size);
        call->user = tp_slice_of(user, peer->user_id.size);
    }
    tp_link_init(&call->link);
    tp_link_insert(&rpc->calls, &call->link);
    rpc->call_count++;
    rpc->call_size += call->request.raw.size;
    rpc->part_count += call->is_part;
    rpc->part_size += call->is_part ? call->request.raw.size : 0;
    return call;
}

void tp_rpc_start_own(struct tp_rpc *rpc, const struct tp_rpc_method *method, tp_rpc_step *finish)
{
    struct tp_rpc_call *call = tp_pool_take_zeroed(rpc->env->pool, sizeof *call);

    call->is_own = true;
    call->method = method;
    call->finish = finish;
    tp_link_init(&call->link);
    tp_link_insert(&rpc->calls, &call->link);
    rpc->call_count++;
}

static bool is_too_much(const struct tp_rpc *rpc, const struct tp_peer *peer)
{
    const struct tp_rpc_limits *limits = rpc->env->limits;
    uint32_t count = 0;

    if (rpc->call_count >= limits->call_count_max || rpc->call_size >= limits->call_size_max)
        return true;
    TP_LIST_EACH(link, &rpc->calls)
    count += TP_CONTAINER(link, struct tp_rpc_call, link)->peer == peer;
    return count >= limits->call_per_peer_max;
}

static void too_much(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->is_part)
        tp_rpc_later(rpc, call, rpc->env->limits->retry_ms, out);
    else
        tp_rpc_fail(rpc, call, 429, "Too many calls at once", out);
}

static void said(struct tp_rpc *rpc, struct tp_peer *peer, struct tp_message *message,
                 struct tp_effects *out)
{
    const struct tp_message_rpc *request = &message->rpc;
    const struct tp_rpc_method *method = method_of(request->method);
    const bool is_request = request->type == 0 && !request->failed;
    const bool is_part =
        request->type == 1 && !request->failed && method != NULL && method->part != NULL;

    TP_ASSERT(peer->dialect == TP_DIALECT_TELEPORTAL);
    if (!is_request && !is_part) { /* nobody waits for it (spec 03 section 1.3) */
        ack(rpc, peer, message->id, 0, out);
        return;
    }
    rpc->env->counters->rpc_calls += is_request;
    const bool refused = is_too_much(rpc, peer);
    struct tp_rpc_call *call = create(rpc, peer, message);
    if (refused) {
        rpc->env->counters->rpc_refused++;
        run(rpc, call, too_much, out);
    }
    if (is_part && is_behind(rpc, 1)) {
        rpc->paused = true;
        tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_PAUSE, .peer = peer});
    }
}

/* The peer goes: what has not begun will not, what is under way goes on without it. */
static void left(struct tp_rpc *rpc, const struct tp_peer *peer)
{
    TP_LIST_EACH_SAFE(link, &rpc->calls)
    {
        struct tp_rpc_call *call = TP_CONTAINER(link, struct tp_rpc_call, link);
        if (call->peer != peer)
            continue;
        call->peer = NULL;
        if (call->stage != TP_RPC_WAITING && call->stage != TP_RPC_DRAINING)
            continue;
        end(rpc, call);
        free_call(rpc, call);
    }
}

/* One at a time: each may say a lot. */
static void ready(struct tp_rpc *rpc, const struct tp_peer *peer, struct tp_effects *out)
{
    bool is_first = true;

    TP_LIST_EACH_SAFE(link, &rpc->calls)
    {
        struct tp_rpc_call *call = TP_CONTAINER(link, struct tp_rpc_call, link);
        if (call->peer != peer || call->stage != TP_RPC_DRAINING)
            continue;
        if (!is_first) {
            tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_NOTIFY, .peer = call->peer});
            return;
        }
        is_first = false;
        tp_link_remove(&call->link); /* behind the others of this peer */
        tp_link_insert(&rpc->calls, &call->link);
        run(rpc, call, call->next, out);
    }
}

static void answered(struct tp_rpc *rpc, struct tp_rpc_call *call, enum tp_status status,
                     struct tp_effects *out)
{
    TP_ASSERT(rpc->inflight > 0);
    rpc->inflight--;
    call->status = status;
    run(rpc, call, call->next, out);
}

static void stored(struct tp_rpc *rpc, struct tp_store_op *op, struct tp_effects *out)
{
    struct tp_rpc_call *call = op->owner;

    TP_ASSERT(call->stage == TP_RPC_STORING && op == &call->op);
    if (op->verb == TP_STORE_READ) {
        call->rows = op->rows;
        call->row_count = op->row_count;
    }
    const enum tp_status status = op->status;
    keep_answer(rpc, call);
    tp_frame_unref(op->frame);
    *op = (struct tp_store_op){.verb = TP_STORE_READ};
    answered(rpc, call, status, out);
}

static void worked(struct tp_rpc *rpc, struct tp_work_op *op, struct tp_effects *out)
{
    struct tp_rpc_call *call = op->owner;

    TP_ASSERT(call->stage == TP_RPC_WORKING && op == &call->work);
    answered(rpc, call, op->status, out);
}

bool tp_rpc_owns(const struct tp_event *event)
{
    switch (event->kind) {
    case TP_EVENT_SAID:
        return event->message->kind == TP_MESSAGE_RPC;
    case TP_EVENT_STORED:
        return event->store_op->of_call;
    case TP_EVENT_WORKED:
        return event->work_op->of_call;
    default:
        return false;
    }
}

static void begin(struct tp_rpc *rpc, const struct tp_event *event, const struct tp_effects *out)
{
    TP_ASSERT(out->count == 0);
    forget_said(rpc);
    rpc->now_ns = event->now_ns;
    rpc->wall_ms = event->wall_ms;
}

/* The document has one timer, and the session's wish comes first if it is earlier. */
static void wake(const struct tp_rpc *rpc, struct tp_effects *out)
{
    uint64_t at_ns = 0;

    TP_LIST_EACH(link, &rpc->calls)
    {
        const struct tp_rpc_call *call = TP_CONTAINER(link, struct tp_rpc_call, link);
        if (call->until_ns != 0 && call->stage == TP_RPC_FOLDING &&
            (at_ns == 0 || call->until_ns < at_ns))
            at_ns = call->until_ns;
    }
    if (at_ns == 0)
        return;
    const uint64_t wish_ns = tp_session_facts(rpc->session).wake_ns;
    if (wish_ns > rpc->now_ns && wish_ns < at_ns)
        at_ns = wish_ns;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_WAKE, .at_ns = at_ns});
}

static void settle(struct tp_rpc *rpc, struct tp_effects *out)
{
    if (!pump(rpc, out))
        tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_MORE});
    if (rpc->paused && !is_behind(rpc, 2)) {
        rpc->paused = false;
        tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_RESUME});
    }
    wake(rpc, out);
}

void tp_rpc_handle(struct tp_rpc *rpc, const struct tp_event *event, struct tp_effects *out)
{
    TP_ASSERT(tp_rpc_owns(event));
    begin(rpc, event, out);
    if (event->kind == TP_EVENT_SAID)
        said(rpc, event->peer, event->message, out);
    else if (event->kind == TP_EVENT_STORED)
        stored(rpc, event->store_op, out);
    else
        worked(rpc, event->work_op, out);
    settle(rpc, out);
}

bool tp_rpc_minds(const struct tp_rpc *rpc, enum tp_event_kind kind)
{
    return rpc != NULL && (rpc->call_count > 0 || tp_rpc_is_due(rpc, kind == TP_EVENT_LEFT));
}

void tp_rpc_follow(struct tp_rpc *rpc, const struct tp_event *event, struct tp_effects *out)
{
    begin(rpc, event, out);
    tp_rpc_automatic_look(rpc, event->kind == TP_EVENT_LEFT);
    if (event->kind == TP_EVENT_LEFT)
        left(rpc, event->peer);
    else if (event->kind == TP_EVENT_READY)
        ready(rpc, event->peer, out);
    settle(rpc, out);
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

struct tp_rpc *tp_rpc_create(const struct tp_rpc_env *env, struct tp_session *session)
{
    struct tp_rpc *rpc = tp_pool_take_zeroed(env->pool, sizeof *rpc);

    rpc->env = env;
    rpc->session = session;
    tp_link_init(&rpc->calls);
    tp_link_init(&rpc->uploads);
    return rpc;
}

void tp_rpc_destroy(struct tp_rpc *rpc)
{
    if (rpc == NULL)
        return;
    TP_ASSERT(rpc->inflight == 0 && tp_link_alone(&rpc->calls));
    forget_said(rpc);
    tp_uploads_finish(rpc);
    tp_pool_give(rpc->env->pool, rpc, sizeof *rpc);
}

bool tp_rpc_is_busy(const struct tp_rpc *rpc)
{
    return rpc != NULL && rpc->call_count > 0;
}

size_t tp_rpc_memory(const struct tp_rpc *rpc)
{
    if (rpc == NULL)
        return 0;
    return sizeof *rpc + rpc->call_count * sizeof(struct tp_rpc_call) + rpc->call_size +
           rpc->upload_size;
}

void tp_rpc_check(const struct tp_rpc *rpc)
{
    uint32_t count = 0, inflight = 0, part_count = 0;
    uint64_t size = 0;

    if (rpc == NULL)
        return;
    TP_LIST_EACH(link, &rpc->calls)
    {
        const struct tp_rpc_call *call = TP_CONTAINER(link, struct tp_rpc_call, link);
        TP_ASSERT(call->stage != TP_RPC_RUNNING && call->stage != TP_RPC_ENDED);
        TP_ASSERT(call->peer != NULL || call->is_own || call->stage == TP_RPC_STORING ||
                  call->stage == TP_RPC_WORKING || call->stage == TP_RPC_FOLDING);
        inflight += call->stage == TP_RPC_STORING || call->stage == TP_RPC_WORKING;
        count++;
        size += call->request.raw.size;
        part_count += call->is_part;
    }
    TP_ASSERT(rpc->part_count == part_count && rpc->part_size <= size);
    TP_ASSERT(count == rpc->call_count && inflight == rpc->inflight && size == rpc->call_size);
}
