#include "internal.h"

const struct tp_session_limits tp_session_limits_default = {
    .grace_ns = 60 * SECOND_NS,
    .awareness_ttl_ns = 30 * SECOND_NS,
    .tombstone_ttl_ns = 300 * SECOND_NS,
    .update_size_max = (uint64_t)64 << 20,
    .awareness_count_max = 4096,
    .awareness_per_peer_max = 64,
    .awareness_size_max = 16 << 10,
    .presence_per_peer_max = 64,
    .queue_count_max = 256,
    .queue_size_max = (uint64_t)8 << 20,
    .store_count_max = 256,
    .store_size_max = (uint64_t)16 << 20,
    .question_count_max = 4096,
    .delayed_count_max = 256,
    .whole_size_max = (uint64_t)1 << 20,
    .piece_size = 256 << 10,
    .passage_size_max = (uint64_t)32 << 20,
    .tail_size_max = 256 << 10,
    .checkpoint_size = 128 << 10,
    .idle_ns = 2 * SECOND_NS,
    .compact_count = 128,
    .compact_size = 256 << 10,
};

/* A peer that is to be closed, or a document that is to end, is asked again after this long. */
#define AGAIN_NS SECOND_NS

/* ---- memory -------------------------------------------------------------------------------------
 */

void tp_session_set_name_record(struct tp_session *session, struct tp_slice record)
{
    tp_buffer_finish(&session->name_record);
    session->name_record = tp_buffer_growing(tp_max(record.size, 1));
    tp_buffer_append(&session->name_record, record.data, record.size);
}

void *tp_session_take(struct tp_session *session, size_t size)
{
    return tp_pool_take_zeroed(session->env->pool, size);
}

void tp_session_give(struct tp_session *session, void *piece, size_t size)
{
    tp_pool_give(session->env->pool, piece, size);
}

struct blob *tp_blob_create(struct tp_buffer *bytes)
{
    struct blob *blob = malloc(sizeof *blob);

    TP_ASSERT(blob != NULL);
    *blob = (struct blob){.refs = 1, .bytes = *bytes};
    *bytes = (struct tp_buffer){0};
    if (blob->bytes.size > 0 && blob->bytes.size < blob->bytes.capacity) {
        uint8_t *fitted = realloc(blob->bytes.data, blob->bytes.size); /* it grew by doubling */
        TP_ASSERT(fitted != NULL);
        blob->bytes.data = fitted;
        blob->bytes.capacity = blob->bytes.size;
    }
    return blob;
}

struct blob *tp_blob_ref(struct blob *blob)
{
    blob->refs++;
    return blob;
}

void tp_blob_unref(struct blob *blob)
{
    if (blob == NULL || --blob->refs > 0)
        return;
    tp_buffer_finish(&blob->bytes);
    free(blob);
}

struct tp_work_op *tp_session_work(struct tp_session *session, enum tp_work_kind kind,
                                   uint32_t step, struct tp_effects *out)
{
    struct tp_work_op *op = tp_session_take(session, sizeof *op);

    op->kind = kind;
    op->step = step;
    tp_link_init(&op->link);
    tp_link_init(&op->inflight);
    session->inflight++;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_WORK, .work_op = op});
    return op;
}

void tp_session_work_free(struct tp_session *session, struct tp_work_op *op)
{
    TP_ASSERT(session->inflight > 0);
    session->inflight--;
    tp_buffer_finish(&op->v1);
    tp_buffer_finish(&op->v2);
    tp_buffer_finish(&op->sv);
    tp_buffer_finish(&op->ranges);
    tp_buffer_finish(&op->sidecars);
    tp_buffer_finish(&op->digests);
    tp_buffer_finish(&op->ends);
    tp_session_give(session, op, sizeof *op);
}

/* ---- saying -------------------------------------------------------------------------------------
 */

struct said *tp_session_say(struct tp_session *session, enum tp_message_kind kind)
{
    struct said *said = tp_session_take(session, sizeof *said);

    said->message.kind = kind;
    said->message.mark = session->mark;
    said->next = session->said;
    session->said = said;
    return said;
}

struct said *tp_session_say_again(struct tp_session *session, const struct tp_message *message)
{
    struct said *said = tp_session_say(session, message->kind);

    said->message = *message;
    said->message.mark = session->mark;
    if (message->frame != NULL)
        tp_frame_ref(message->frame);
    return said;
}

static void forget_said(struct tp_session *session)
{
    while (session->said != NULL) {
        struct said *said = session->said;
        session->said = said->next;
        tp_message_drop(&said->message);
        tp_frame_unref(said->hold);
        tp_session_give(session, said->piece, said->piece_size);
        tp_session_give(session, said, sizeof *said);
    }
}

void tp_session_send(struct tp_effects *out, struct tp_peer *peer, struct said *said)
{
    tp_effect_add(
        out, (struct tp_effect){.kind = TP_EFFECT_SEND, .peer = peer, .message = &said->message});
}

void tp_session_broadcast(struct tp_effects *out, const struct tp_peer *except, uint32_t audience,
                          struct said *said)
{
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_BROADCAST,
                                          .peer = (struct tp_peer *)except,
                                          .audience = audience,
                                          .message = &said->message});
}

void tp_session_close(struct tp_effects *out, struct tp_peer *peer, enum tp_close_reason reason)
{
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_CLOSE, .peer = peer, .reason = reason});
}

void tp_session_pause(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    session->paused = true;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_PAUSE, .peer = peer});
}

bool tp_session_has_room(const struct tp_effects *out, uint32_t count)
{
    return out->count + count + END_COUNT_MAX <= TP_EFFECT_COUNT_MAX;
}

static void doom(struct tp_session *session, struct tp_link *list, bool everybody)
{
    TP_LIST_EACH_SAFE(link, list)
    {
        struct tp_peer *peer = TP_CONTAINER(link, struct tp_peer, link);
        if (peer->dialect == TP_DIALECT_TELEPORTAL && !everybody)
            continue;
        tp_link_remove(link);
        tp_link_insert(&session->doomed, link);
    }
}

void tp_session_doom(struct tp_session *session, enum tp_close_reason reason, bool everybody)
{
    session->doom_reason = reason;
    doom(session, &session->joining, everybody);
    doom(session, &session->peers, everybody);
}

/* ---- peers --------------------------------------------------------------------------------------
 */

uint8_t tp_session_audience(const struct tp_peer *peer)
{
    if (!(peer->rights & TP_MAY_READ) || peer->stale) /* it hears nothing of the others */
        return 0;
    switch (peer->dialect) {
    case TP_DIALECT_YWEBSOCKET:
        return TP_AUDIENCE_YWEBSOCKET;
    case TP_DIALECT_HOCUSPOCUS:
        return TP_AUDIENCE_HOCUSPOCUS;
    default:
        return peer->announced_count > 0 ? TP_AUDIENCE_ANNOUNCED : TP_AUDIENCE_SILENT;
    }
}

static void joined(struct tp_session *session, struct tp_peer *peer)
{
    TP_ASSERT(tp_link_alone(&peer->link));
    TP_ASSERT(peer->dialect > TP_DIALECT_NONE && peer->dialect < TP_DIALECT_COUNT);
    peer->joined_ns = session->now_ns;
    /* Whoever comes while the content cannot be had is treated as those who were there when that
     * was found out: what it says until the next try would be lost, and nobody would tell it. */
    const bool refused = session->stage == STAGE_REFUSED && session->now_ns < session->retry_ns &&
                         peer->dialect != TP_DIALECT_TELEPORTAL;
    if (refused)
        session->doom_reason = TP_CLOSE_LOAD_FAILED;
    tp_link_insert(refused ? &session->doomed : &session->joining, &peer->link);
    session->peer_count++;
    session->counts[peer->dialect]++;
    session->empty_since_ns = 0;
}

/* The document is open: what a client of this dialect hears unasked. Three effects at most. */
static void greet(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    tp_link_remove(&peer->link);
    tp_link_insert(&session->peers, &peer->link);
    peer->audience = tp_session_audience(peer);
    if (peer->dialect == TP_DIALECT_TELEPORTAL)
        return;
    if (session->mode == TP_MODE_ENCRYPTED) {
        tp_session_close(out, peer, TP_CLOSE_FORBIDDEN);
        return;
    }

    struct said *step = tp_session_say(session, TP_MESSAGE_SYNC_STEP_1);
    step->hold = tp_content_state_vector(session);
    step->message.state_vector = tp_frame_message(step->hold);
    tp_session_send(out, peer, step);
    if (!(peer->rights & TP_MAY_WRITE))
        tp_replies_deny(session, peer, false, TP_SLICE("read-only"), out);
    tp_guests_send_all(session, peer, false, out);
}

static void left(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    TP_ASSERT(session->peer_count > 0 && session->counts[peer->dialect] > 0);
    tp_link_remove(&peer->link);
    session->peer_count--;
    session->counts[peer->dialect]--;
    peer->audience = 0;
    tp_queue_forget(session, peer);
    tp_answers_forget(session, peer);
    tp_saving_forget(session, peer);
    tp_replies_forget(session, peer);
    tp_guests_left(session, peer, out);
    tp_roster_left(session, peer);
}

/* ---- messages -----------------------------------------------------------------------------------
 */

static bool is_open(const struct tp_session *session)
{
    return session->stage == STAGE_OPEN && session->deletion == DELETION_NONE &&
           !session->measuring && tp_link_alone(&session->joining) && tp_link_alone(&session->held);
}

bool tp_session_takes(const struct tp_session *session, bool encrypted)
{
    return session->mode == 0 || (session->mode == TP_MODE_ENCRYPTED) == encrypted;
}

/* Whoever takes a plain document for an encrypted one, or the other way round, gets the frames of a
 * refusal that a client comes to rest on (spec 01 section 4.6). Of presence and rpc the flag says
 * something about their own payload only. */
static bool refuse_other_mode(struct tp_session *session, struct tp_peer *peer,
                              const struct tp_message *message, struct tp_effects *out)
{
    if (tp_session_takes(session, message->encrypted))
        return false;
    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        break;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        session->env->counters->updates_refused++;
        break;
    case TP_MESSAGE_AWARENESS:
    case TP_MESSAGE_AWARENESS_QUERY:
        tp_replies_ack(session, peer, message->id, out);
        return true;
    default:
        return false;
    }
    tp_replies_mismatch(session, peer, message->encrypted, message->id, out);
    return true;
}

/* Awareness of an encrypted document: ciphertext, for others who have the key. */
static void relay(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                  struct tp_effects *out)
{
    tp_message_keep(message, session->env->pool);
    struct said *news = tp_session_say_again(session, message);
    tp_session_broadcast(out, peer, TP_AUDIENCE_TELEPORTAL, news);
    tp_bus_tell(session, news, out);
    tp_replies_ack(session, peer, message->id, out);
}

static void answer(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                   struct tp_effects *out)
{
    if (refuse_other_mode(session, peer, message, out))
        return;

    switch (message->kind) {
    case TP_MESSAGE_SYNC_STEP_1:
        if (!tp_burial_asks(session, peer, message, out))
            tp_answers_ask(session, peer, message, out);
        break;
    case TP_MESSAGE_SYNC_STEP_2:
    case TP_MESSAGE_UPDATE:
        tp_saving_update(session, peer, message, out);
        break;
    case TP_MESSAGE_AWARENESS:
        if (message->encrypted)
            relay(session, peer, message, out);
        else
            tp_guests_awareness(session, peer, message, out);
        break;
    case TP_MESSAGE_AWARENESS_QUERY:
        if (message->encrypted)
            relay(session, peer, message, out);
        else
            tp_guests_query(session, peer, message, out);
        break;
    case TP_MESSAGE_PRESENCE_ANNOUNCE:
        tp_roster_announce(session, peer, message, out);
        break;
    case TP_MESSAGE_PRESENCE_UNANNOUNCE:
        tp_roster_unannounce(session, peer, message, out);
        break;
    case TP_MESSAGE_ECHO:
        tp_saving_owe(session, peer, DUE_ECHO, 0,
                      tp_frame_create(session->env->pool, message->echo));
        break;
    case TP_MESSAGE_SYNC_DONE:
    case TP_MESSAGE_AUTH:
    case TP_MESSAGE_PRESENCE_JOIN:
    case TP_MESSAGE_PRESENCE_LEAVE:
    case TP_MESSAGE_PRESENCE_HEARTBEAT: /* the server's to say: no effect (spec 02 section 5) */
        tp_replies_ack(session, peer, message->id, out);
        break;
    case TP_MESSAGE_RPC: /* rpc's */
    case TP_MESSAGE_ACK:
    case TP_MESSAGE_PING:
    case TP_MESSAGE_PONG:
    case TP_MESSAGE_COUNT: /* the shard's */
        break;
    }
}

/* What was kept of the message stays until the next event: effects point to it. */
void tp_session_hear(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                     struct tp_effects *out)
{
    if (peer != NULL)
        answer(session, peer, message, out);
    else
        tp_saving_orphan(session, message, out);
    if (message->frame != NULL) {
        tp_session_say(session, TP_MESSAGE_PING)->hold = message->frame;
        message->frame = NULL;
    }
}

static void said(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                 struct tp_effects *out)
{
    if (session->stage == STAGE_REFUSED && session->now_ns >= session->retry_ns)
        session->stage = STAGE_NEW;
    if (session->stage == STAGE_NEW)
        tp_opening_start(session, out);
    if (!is_open(session))
        tp_queue_put(session, &session->held, peer, message, out);
    else if (tp_queue_follows(peer, message))
        tp_queue_put(session, &session->following, peer, message, out);
    else
        tp_session_hear(session, peer, message, out);
}

/* ---- the end of an event ------------------------------------------------------------------------
 */

static void tell_one(struct tp_session *session, enum tp_news news, struct tp_effects *out)
{
    tp_effect_add(out, (struct tp_effect){
                           .kind = TP_EFFECT_NEWS, .news = news, .size = tp_size_bound(session)});
}

static bool tell_news(struct tp_session *session, struct tp_effects *out)
{
    for (unsigned news = 0; session->news != 0; news++) {
        if ((session->news & (1u << news)) == 0)
            continue;
        if (!tp_session_has_room(out, 1))
            return false;
        session->news &= ~(1u << news);
        tell_one(session, news, out);
    }
    return true;
}

/* Says what waits in lists. False: there is more than there was room for. */
static bool pump(struct tp_session *session, struct tp_effects *out)
{
    while (!tp_link_alone(&session->doomed)) {
        if (!tp_session_has_room(out, 1))
            return false;
        struct tp_link *link = tp_list_pop(&session->doomed);
        tp_link_insert(&session->peers, link);
        tp_session_close(out, TP_CONTAINER(link, struct tp_peer, link), session->doom_reason);
    }
    if (!tp_roster_pump(session, out) || !tp_saving_pump(session, out) ||
        !tp_replies_pump(session, out) || !tp_burial_pump(session, out))
        return false;
    if (!tell_news(session, out))
        return false;
    if (session->deletion != DELETION_NONE)
        return true;
    if (session->stage == STAGE_REFUSED) {
        return tp_queue_refuse(session, out);
    }
    if (session->stage != STAGE_OPEN) {
        if (session->bus != NULL)
            tp_bus_shut(session);
        return true;
    }
    if (session->measuring && !tp_content_folded(session, session->version, out))
        return session->fold.op != NULL;
    session->measuring = false;

    while (!tp_link_alone(&session->joining)) {
        if (!tp_session_has_room(out, 3))
            return false;
        greet(session, TP_CONTAINER(session->joining.next, struct tp_peer, link), out);
    }
    if (!tp_queue_pump(session, out))
        return false;
    if (session->stage != STAGE_OPEN)
        return true;
    if (session->measuring)
        return false;
    if (tp_content_tail_is_long(session, false) &&
        !tp_content_folded(session, session->version, out) && session->fold.op == NULL)
        return false;
    /* A client asks for content first and announces itself next: it gets its answers in that order,
     * unless the first has to be computed elsewhere. */
    return tp_answers_pump(session, out) && tp_roster_pump(session, out) &&
           tp_saving_pump(session, out) && tp_replies_pump(session, out) &&
           tp_bus_pump(session, out);
}

static void resume(struct tp_session *session, struct tp_effects *out)
{
    const struct tp_session_limits *limits = session->env->limits;

    if (!session->paused || !tp_queue_is_empty(session) ||
        session->deed_count > limits->store_count_max / 2 ||
        session->deed_size > limits->store_size_max / 2 ||
        session->question_count > limits->question_count_max / 2)
        return;
    session->paused = false;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_RESUME});
}

static void compact(struct tp_session *session, bool at_end, struct tp_effects *out)
{
    const struct tp_session_limits *limits = session->env->limits;
    const uint64_t part = at_end ? 8 : 1; /* at the end an eighth of the limits is worth it */

    if (session->number == 0 || session->creating)
        return;
    if (session->log_count < (limits->compact_count + part - 1) / part &&
        session->log_size < (limits->compact_size + part - 1) / part)
        return;
    session->log_count = session->log_size = 0;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_COMPACT, .number = session->number});
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static bool has_spare_memory(const struct tp_session *session)
{
    for (unsigned i = 0; i < 2; i++)
        for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
            if (session->caches[i][slot].frame != NULL)
                return true;
    return tp_content_tail_is_long(session, true);
}

static void wake(struct tp_session *session, struct tp_effects *out)
{
    uint64_t at_ns = session->guest_due_ns;

    if (session->peer_count == 0)
        at_ns = earlier(at_ns, session->empty_since_ns +
                                   (session->closing ? 0 : session->env->limits->grace_ns));
    if (session->stage == STAGE_OPEN && has_spare_memory(session))
        at_ns = earlier(at_ns, session->changed_ns + session->env->limits->idle_ns);
    if (tp_passages_are_idle(session))
        at_ns = earlier(at_ns, session->passed_ns + session->env->limits->idle_ns);
    if (session->stage == STAGE_REFUSED)
        at_ns = earlier(at_ns, session->retry_ns);
    if (session->stage == STAGE_OPEN && session->unsaved)
        at_ns = earlier(at_ns, session->repair_ns);
    at_ns = earlier(at_ns, tp_replies_due_ns(session));
    at_ns = earlier(at_ns, tp_bus_due_ns(session));

    if (at_ns == 0)
        return;
    if (at_ns <= session->now_ns) /* what was due could not be done: something is out */
        at_ns = session->now_ns + AGAIN_NS;
    if (session->wake_ns > session->now_ns && session->wake_ns <= at_ns)
        return; /* woken early we look again: cheaper than a timer moved by every event */
    session->wake_ns = at_ns;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_WAKE, .at_ns = at_ns});
}

static bool is_over(const struct tp_session *session)
{
    if (session->peer_count > 0 || session->inflight > 0 || session->deed_count > 0 ||
        session->deletion != DELETION_NONE || !tp_queue_is_empty(session))
        return false;
    return session->closing || session->stage == STAGE_REFUSED ||
           session->now_ns - session->empty_since_ns >= session->env->limits->grace_ns;
}

static void settle(struct tp_session *session, struct tp_effects *out)
{
    const bool said_all = pump(session, out);

    tp_size_weigh(session);
    if (session->peer_count == 0 && session->empty_since_ns == 0)
        session->empty_since_ns = session->now_ns;
    if (!said_all || session->news != 0) {
        tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_MORE});
        return;
    }
    resume(session, out);
    if (is_over(session)) {
        compact(session, true, out);
        if (session->stage == STAGE_OPEN && session->number != 0)
            tell_one(session, TP_NEWS_UNLOADED, out);
        tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_END});
        return;
    }
    compact(session, false, out);
    wake(session, out);
}

static void woke(struct tp_session *session, struct tp_effects *out)
{
    session->wake_ns = 0;
    if (session->stage == STAGE_REFUSED && session->now_ns >= session->retry_ns)
        session->stage = STAGE_NEW;
    if (session->stage == STAGE_NEW && session->peer_count > 0)
        tp_opening_start(session, out);
    tp_guests_expire(session, out);
    if (session->now_ns >= session->passed_ns + session->env->limits->idle_ns)
        tp_passages_forget_idle(session, true);
    if (session->deletion != DELETION_NONE)
        return;
    if (session->stage == STAGE_OPEN && session->unsaved && session->now_ns >= session->repair_ns)
        tp_saving_repair(session, out);
    if (session->stage != STAGE_OPEN ||
        session->now_ns < session->changed_ns + session->env->limits->idle_ns)
        return;
    tp_content_forget_caches(session);
    if (tp_content_tail_is_long(session, true))
        tp_content_folded(session, session->version, out);
}

static void told(struct tp_session *session, enum tp_told told, struct tp_effects *out)
{
    switch (told) {
    case TP_TOLD_CLOSE:
        session->closing = true;
        break;
    case TP_TOLD_DELETE:
        tp_burial_want(session, out);
        break;
    case TP_TOLD_TRIM:
        tp_content_forget_caches(session);
        if (session->peer_count == 0 && session->empty_since_ns != 0)
            session->empty_since_ns = 1; /* long ago: the grace is over */
        break;
    }
}

static void rights_changed(struct tp_session *session, struct tp_peer *peer, struct tp_effects *out)
{
    (void)session;
    if (!(peer->rights & TP_MAY_READ))
        tp_session_close(out, peer, TP_CLOSE_UNAUTHORIZED);
}

void tp_session_handle(struct tp_session *session, const struct tp_event *event,
                       struct tp_effects *out)
{
    TP_ASSERT(out->count == 0);
    forget_said(session);
    session->now_ns = event->now_ns;
    session->wall_ms = event->wall_ms;

    switch (event->kind) {
    case TP_EVENT_JOINED:
        joined(session, event->peer);
        if (session->stage == STAGE_REFUSED && session->now_ns >= session->retry_ns)
            session->stage = STAGE_NEW;
        if (session->stage == STAGE_NEW)
            tp_opening_start(session, out);
        break;
    case TP_EVENT_LEFT:
        left(session, event->peer, out);
        break;
    case TP_EVENT_SAID:
        said(session, event->peer, event->message, out);
        break;
    case TP_EVENT_STORED:
        if (event->store_op->step == STEP_NAMES || event->store_op->step == STEP_ROWS)
            tp_opening_read(session, event->store_op, out);
        else if (event->store_op->step == STEP_BURIAL)
            tp_burial_stored(session, event->store_op);
        else
            tp_saving_stored(session, event->store_op, out);
        break;
    case TP_EVENT_WORKED:
        switch ((enum step)event->work_op->step) {
        case STEP_LOAD:
            tp_opening_loaded(session, event->work_op, out);
            break;
        case STEP_FOLD:
            tp_content_worked(session, event->work_op);
            break;
        case STEP_CHECK:
            tp_saving_checked(session, event->work_op, out);
            break;
        case STEP_DIGEST:
        case STEP_GIVE:
            tp_bus_worked(session, event->work_op, out);
            break;
        default:
            tp_answers_worked(session, event->work_op, out);
        }
        break;
    case TP_EVENT_BEHIND:
        tp_checkpoint_behind(session, event->peer, event->mark);
        break;
    case TP_EVENT_READY:
        tp_answers_ready(session, event->peer, out);
        break;
    case TP_EVENT_WOKE:
        woke(session, out);
        break;
    case TP_EVENT_TOLD:
        told(session, event->told, out);
        break;
    case TP_EVENT_RIGHTS:
        rights_changed(session, event->peer, out);
        break;
    case TP_EVENT_HEARD:
        tp_bus_heard(session, event->heard, out);
        break;
    case TP_EVENT_LINKED:
        tp_bus_linked(session);
        break;
    case TP_EVENT_MORE:
        break;
    }
    settle(session, out);
}

/* ---- the whole ----------------------------------------------------------------------------------
 */

struct tp_session *tp_session_create(const struct tp_session_env *env, struct tp_slice room,
                                     struct tp_slice document)
{
    struct tp_session *session =
        tp_pool_take_zeroed(env->pool, sizeof *session + room.size + document.size);
    uint8_t *names = (uint8_t *)(session + 1);

    session->env = env;
    if (room.size > 0)
        memcpy(names, room.data, room.size);
    if (document.size > 0)
        memcpy(names + room.size, document.data, document.size);
    session->room = tp_slice_of(names, room.size);
    session->document = tp_slice_of(names + room.size, document.size);
    session->sidecars = tp_buffer_growing(UINT32_MAX);
    tp_link_init(&session->joining);
    tp_link_init(&session->peers);
    tp_link_init(&session->doomed);
    tp_link_init(&session->held);
    tp_link_init(&session->following);
    tp_link_init(&session->questions);
    tp_link_init(&session->passages);
    tp_link_init(&session->turns);
    tp_link_init(&session->wanting);
    tp_link_init(&session->deeds);
    tp_link_init(&session->dues);
    tp_link_init(&session->delayed);
    tp_link_init(&session->roster);
    tp_link_init(&session->leaving);
    tp_link_init(&session->readings);
    tp_link_init(&session->outside);
    tp_bus_init(session);
    return session;
}

void tp_session_destroy(struct tp_session *session)
{
    if (session == NULL)
        return;
    TP_ASSERT(session->inflight == 0);
    forget_said(session);
    tp_queue_finish(session);
    tp_size_forget(session);
    tp_answers_finish(session);
    tp_passages_finish(session);
    tp_saving_finish(session);
    tp_guests_finish(session);
    tp_roster_finish(session);
    tp_bus_finish(session);
    tp_content_finish(session);
    tp_opening_finish(session);
    tp_session_give(session, session,
                    sizeof *session + session->room.size + session->document.size);
}

void tp_session_check(const struct tp_session *session)
{
    uint32_t deed_count = 0, question_count = 0;
    size_t deed_size = 0, tail_size = 0;
    uint64_t ticket = 0;
    uint32_t peers = 0;

    TP_LIST_EACH(link, &session->joining)
    peers++;
    TP_LIST_EACH(link, &session->peers)
    {
        const struct tp_peer *peer = TP_CONTAINER(link, struct tp_peer, link);
        TP_ASSERT(peer->audience == tp_session_audience(peer) || session->stage != STAGE_OPEN ||
                  peer->audience == 0);
        peers++;
    }
    TP_LIST_EACH(link, &session->doomed)
    peers++;
    TP_ASSERT(peers == session->peer_count);
    TP_ASSERT(session->counts[TP_DIALECT_TELEPORTAL] + session->counts[TP_DIALECT_YWEBSOCKET] +
                  session->counts[TP_DIALECT_HOCUSPOCUS] ==
              peers);

    tp_queue_check(session);
    TP_LIST_EACH(link, &session->deeds)
    {
        const struct deed *deed = TP_CONTAINER(link, struct deed, link);
        TP_ASSERT(deed->ticket > ticket && deed->ticket <= session->ticket);
        ticket = deed->ticket;
        deed_count++;
        deed_size += deed->stored.size;
    }
    TP_ASSERT(deed_count == session->deed_count && deed_size == session->deed_size);
    ticket = 0;
    TP_LIST_EACH(link, &session->dues)
    {
        const struct due *due = TP_CONTAINER(link, struct due, link);
        TP_ASSERT(due->ticket >= ticket && due->ticket <= session->ticket);
        ticket = due->ticket;
    }
    TP_LIST_EACH(link, &session->questions)
    question_count++;
    TP_ASSERT(question_count == session->question_count);
    for (uint32_t i = 0; i < session->tail_count; i++)
        tail_size += session->tail[i].v1.size;
    TP_ASSERT(tail_size == session->tail_size);
    TP_ASSERT(session->merged_version <= session->version);
    TP_ASSERT(session->fold.tail_count <= session->tail_count);
    tp_passages_check(session);
    tp_guests_check(session);
}

struct tp_link *tp_session_peers(struct tp_session *session)
{
    return &session->peers;
}

uint32_t tp_session_peer_count(const struct tp_session *session)
{
    return session->peer_count;
}

size_t tp_session_memory(const struct tp_session *session)
{
    size_t size = tp_pool_class_size(sizeof *session + session->room.size + session->document.size);

    size += session->name_record.capacity;
    size += session->held_size + session->held_count * sizeof(struct held);
    size += session->deed_size + session->deed_count * sizeof(struct deed);
    size += session->question_count * (sizeof(struct question) + sizeof(struct tp_work_op));
    size += session->delayed_count * sizeof(struct delayed);
    size += session->attendee_count * tp_pool_class_size(sizeof(struct attendee));
    size += tp_bus_memory(session);
    size += tp_checkpoint_memory(session);
    size += session->guest_size + session->guest_room * sizeof(struct guest *);
    size += session->merged == NULL ? 0 : session->merged->bytes.capacity + sizeof(struct blob);
    size += session->tail_size + session->tail_room * sizeof(struct tail_entry) +
            session->tail_count * sizeof(struct tp_frame);
    size += session->sidecars.capacity + tp_passages_memory(session);
    size += session->state_vector.room * sizeof(struct tp_state_vector_entry);
    size += session->buried.room * sizeof(struct tp_state_vector_entry);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
            if (session->caches[i][slot].frame != NULL)
                size += session->caches[i][slot].frame->room;
    for (const struct said *said = session->said; said != NULL; said = said->next)
        size += tp_pool_class_size(sizeof *said) + said->piece_size +
                (said->hold == NULL ? 0 : said->hold->room);
    return size;
}

struct tp_session_facts tp_session_facts(const struct tp_session *session)
{
    return (struct tp_session_facts){.is_open = is_open(session) && !session->creating,
                                     .is_ending = session->deletion != DELETION_NONE,
                                     .is_refused = session->stage == STAGE_REFUSED,
                                     .mode = session->mode,
                                     .number = session->number,
                                     .epoch = session->epoch,
                                     .wake_ns = session->wake_ns,
                                     .write_count = session->write_count};
}

struct tp_slice tp_session_document(const struct tp_session *session)
{
    return session->document;
}

struct tp_slice tp_session_room(const struct tp_session *session)
{
    return session->room;
}
