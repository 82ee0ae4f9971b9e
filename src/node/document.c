/* The documents of a shard: their table, their sessions, and the effects that sessions ask for. */
#include "base/hash.h"
#include "node/admin.h"
#include "node/server.h"
#include "node/shard.h"

static struct tp_slice key_of(const struct tp_document *document)
{
    return tp_slice_of(document->key, document->room_size + 1 + document->name_size);
}

uint32_t tp_document_owner(const struct tp_shard *shard, uint64_t hash)
{
    return (uint32_t)(hash % shard->count);
}

/* ---- the table ----------------------------------------------------------------------------------
 */

static void woke(struct tp_timer *timer)
{
    struct tp_document *document = TP_CONTAINER(timer, struct tp_document, wake);

    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_WOKE});
}

static struct tp_document *create(struct tp_shard *shard, struct tp_slice key, size_t room_size,
                                  uint64_t hash)
{
    struct tp_document *document = tp_pool_take_zeroed(&shard->pool, sizeof *document + key.size);

    memcpy(document->key, key.data, key.size);
    document->room_size = (uint32_t)room_size;
    document->name_size = (uint32_t)(key.size - room_size - 1);
    document->shard = shard;
    document->owner = tp_document_owner(shard, hash);
    tp_link_init(&document->subscriptions);
    tp_link_init(&document->in_idle);
    tp_link_init(&document->in_waiting);
    tp_link_init(&document->askers);
    tp_link_init(&document->in_to_link);
    tp_link_init(&document->fallen);
    tp_timer_init(&document->wake, woke);
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, shard->documents, document->key, key.size, (unsigned)hash,
                                document);
    if (document->owner == shard->index) {
        document->session =
            tp_session_create(&shard->env, tp_slice_of(document->key, room_size),
                              tp_slice_of(document->key + room_size + 1, document->name_size));
        if (tp_rpc_is_automatic(&shard->rpc_env))
            document->rpc = tp_rpc_create(&shard->rpc_env, document->session);
        shard->counters.sessions_active++;
        shard->counters.sessions_opened++;
        tp_node_subscribe(document);
    }
    return document;
}

struct tp_slice tp_document_key(struct tp_slice room, struct tp_slice name,
                                uint8_t out[TP_DOCUMENT_KEY_SIZE_MAX])
{
    TP_ASSERT(room.size <= TP_CLIENT_NAME_SIZE_MAX && name.size <= TP_CLIENT_NAME_SIZE_MAX);
    if (room.size > 0)
        memcpy(out, room.data, room.size);
    out[room.size] = 0;
    memcpy(out + room.size + 1, name.data, name.size);
    return tp_slice_of(out, room.size + 1 + name.size);
}

static struct tp_document *find(struct tp_shard *shard, struct tp_slice key, uint64_t hash)
{
    struct tp_document *document;

    HASH_FIND_BYHASHVALUE(hh, shard->documents, key.data, key.size, (unsigned)hash, document);
    return document;
}

struct tp_document *tp_document_find(struct tp_shard *shard, struct tp_slice room,
                                     struct tp_slice name)
{
    uint8_t room_for_key[TP_DOCUMENT_KEY_SIZE_MAX];
    const struct tp_slice key = tp_document_key(room, name, room_for_key);

    return find(shard, key, tp_hash64(key));
}

struct tp_document *tp_document_open(struct tp_shard *shard, struct tp_slice room,
                                     struct tp_slice name)
{
    uint8_t room_for_key[TP_DOCUMENT_KEY_SIZE_MAX];
    const struct tp_slice key = tp_document_key(room, name, room_for_key);
    const uint64_t hash = tp_hash64(key);
    struct tp_document *document = find(shard, key, hash);

    return document != NULL ? document : create(shard, key, room.size, hash);
}

static void destroy(struct tp_document *document)
{
    struct tp_shard *shard = document->shard;
    const size_t key_size = key_of(document).size;

    TP_ASSERT(document->subscription_count == 0);
    tp_timer_stop(shard->reactor, &document->wake);
    tp_link_remove(&document->in_idle);
    tp_link_remove(&document->in_waiting);
    HASH_DEL(shard->documents, document);
    tp_link_remove(&document->in_to_link);
    if (document->session != NULL) {
        tp_node_unsubscribe(document);
        shard->sessions_size -= document->session_size;
        tp_rpc_destroy(document->rpc);
        tp_session_destroy(document->session);
        shard->counters.sessions_active--;
    }
    if (document->remote_counts != NULL) {
        const uint32_t count = shard->count;
        tp_pool_give(&shard->pool, document->remote_counts,
                     count * TP_DIALECT_COUNT * sizeof(uint32_t));
        tp_pool_give(&shard->pool, document->outposts, count * sizeof(struct tp_document *));
    }
    tp_pool_give(&shard->pool, document, sizeof *document + key_size);
}

void tp_document_abandon(struct tp_document *document)
{
    document->subscription_count = 0;
    tp_docs_forget(document);
    destroy(document);
}

void tp_document_release(struct tp_document *document)
{
    if (document->session == NULL && document->subscription_count == 0)
        destroy(document);
}

/* ---- members ------------------------------------------------------------------------------------
 */

struct tp_member *tp_member_create(struct tp_document *document,
                                   struct tp_subscription *subscription, uint32_t home,
                                   const struct tp_peer *like, struct tp_slice user_id)
{
    struct tp_shard *shard = document->shard;
    struct tp_member *member = tp_pool_take_zeroed(&shard->pool, sizeof *member);

    member->peer = *like;
    tp_link_init(&member->peer.link);
    tp_link_init(&member->in_fallen);
    member->document = document;
    member->subscription = subscription;
    member->home = home;
    member->user_size = user_id.size;
    if (user_id.size > 0)
        member->user = memcpy(tp_pool_take(&shard->pool, user_id.size), user_id.data, user_id.size);
    member->peer.user_id = tp_slice_of(member->user, user_id.size);
    member->peer.document_name = tp_session_document(document->session);
    if (home != shard->index) {
        member->key = (struct tp_member_key){subscription, home};
        HASH_ADD(hh, shard->remote_members, key, sizeof member->key, member);
        document->untold++;
    }
    tp_link_remove(&document->in_idle);
    return member;
}

void tp_member_leave(struct tp_member *member)
{
    struct tp_document *document = member->document;
    struct tp_shard *shard = document->shard;

    if (member->home != shard->index) {
        HASH_DEL(shard->remote_members, member);
        document->untold -= member->audience_told == 0;
        document->remote_counts[member->home * TP_DIALECT_COUNT + member->peer.dialect]--;
    }
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_LEFT, .peer = &member->peer});
    TP_ASSERT(tp_link_alone(&member->in_fallen));
    tp_pool_give(&shard->pool, member->user, member->user_size);
    tp_pool_give(&shard->pool, member, sizeof *member);
}

/* ---- effects ------------------------------------------------------------------------------------
 */

static void note(struct tp_member *member, enum tp_letter_kind kind, uint32_t value)
{
    struct tp_shard *shard = member->document->shard;
    struct tp_shard_letter *letter = tp_shard_letter_create(shard, kind, 0);

    letter->subscription = member->subscription;
    letter->audience = letter->reason = value;
    tp_post_send(shard->reactor, member->home, &letter->letter);
    shard->counters.letters_sent++;
}

static bool is_here(const struct tp_member *member)
{
    return member->home == member->document->shard->index;
}

/* The shard of a remote member's connection must know to which broadcasts it listens. */
static void tell_audience(struct tp_member *member)
{
    if (is_here(member) || member->audience_told == member->peer.audience)
        return;
    member->document->untold -= member->audience_told == 0;
    member->audience_told = member->peer.audience;
    note(member, TP_LETTER_AUDIENCE, member->peer.audience);
}

static void tell_all(struct tp_document *document)
{
    TP_LIST_EACH(link, tp_session_peers(document->session))
    tell_audience(TP_CONTAINER(link, struct tp_member, peer.link));
}

/* Who joined while the document was loading has an audience as soon as it is open, without a word
 * of its own: a stream may never say one. */
static void tell_untold(struct tp_document *document)
{
    TP_LIST_EACH(link, tp_session_peers(document->session))
    {
        if (document->untold == 0)
            return;
        tell_audience(TP_CONTAINER(link, struct tp_member, peer.link));
    }
}

static void close_member(struct tp_member *member, enum tp_close_reason reason)
{
    if (!is_here(member))
        note(member, TP_LETTER_CLOSE, reason);
    else if (member->subscription->channel != NULL)
        tp_channel_close(member->subscription->channel, reason);
}

static void pause_member(struct tp_member *member)
{
    if (is_here(member))
        tp_subscription_pause(member->subscription, true);
    else
        note(member, TP_LETTER_PAUSE, 0);
}

static void notify_member(struct tp_member *member)
{
    if (!is_here(member)) {
        note(member, TP_LETTER_NOTIFY, 0);
        return;
    }
    member->subscription->notify = true;
    if (member->subscription->channel != NULL)
        tp_connection_notify(member->subscription->channel->connection);
}

void tp_document_resume(struct tp_document *document)
{
    struct tp_shard *shard = document->shard;

    tp_document_resume_here(document);
    for (uint32_t home = 0; document->outposts != NULL && home < shard->count; home++) {
        uint32_t count = 0;
        for (uint32_t id = 0; id < TP_DIALECT_COUNT; id++)
            count += document->remote_counts[home * TP_DIALECT_COUNT + id];
        if (count == 0)
            continue;
        struct tp_shard_letter *letter = tp_shard_letter_create(shard, TP_LETTER_RESUME, 0);
        letter->outpost = document->outposts[home];
        tp_post_send(shard->reactor, home, &letter->letter);
    }
}

static void work(struct tp_document *document, struct tp_work_op *op, struct tp_link *soon)
{
    struct tp_shard *shard = document->shard;

    op->route = document;
    op->shard_index = shard->index;
    document->inflight++;
    if (tp_work_input_size(op) <= TP_WORK_INLINE_SIZE_MAX) {
        tp_link_insert(soon, &op->link);
        return;
    }
    shard->work_inflight++;
    tp_work_submit(shard->work, op);
}

static void store(struct tp_document *document, struct tp_store_op *op)
{
    struct tp_shard *shard = document->shard;

    op->route = document;
    op->shard_index = shard->index;
    document->inflight++;
    tp_budget_store(shard, op);
    tp_link_insert(&shard->store_batch, &op->link);
}

static struct tp_member *member_of(struct tp_peer *peer)
{
    return peer == NULL ? NULL : TP_CONTAINER(peer, struct tp_member, peer);
}

/* Does what the session asked for. What it computes here and now goes to `soon`. */
static void perform(struct tp_document *document, const struct tp_effect *effect,
                    struct tp_link *soon, bool *more)
{
    struct tp_shard *shard = document->shard;
    struct tp_member *member = member_of(effect->peer);

    switch (effect->kind) {
    case TP_EFFECT_SEND:
        tp_deliver_send(member, effect->message);
        break;
    case TP_EFFECT_BROADCAST:
        tp_deliver_broadcast(document, effect->message, effect->audience, member);
        break;
    case TP_EFFECT_PUBLISH:
        tp_node_publish(document, effect);
        break;
    case TP_EFFECT_NOTE:
        tp_node_note(document, effect->note);
        break;
    case TP_EFFECT_STORE:
        store(document, effect->store_op);
        break;
    case TP_EFFECT_WORK:
        work(document, effect->work_op, soon);
        break;
    case TP_EFFECT_MORE:
        *more = true;
        break;
    case TP_EFFECT_WAKE:
        tp_timer_set(shard->reactor, &document->wake, effect->at_ns);
        break;
    case TP_EFFECT_PAUSE:
        pause_member(member);
        break;
    case TP_EFFECT_RESUME:
        tp_document_resume(document);
        break;
    case TP_EFFECT_NOTIFY:
        notify_member(member);
        break;
    case TP_EFFECT_CLOSE:
        close_member(member, effect->reason);
        break;
    case TP_EFFECT_COMPACT:
        tp_server_compact(shard, effect->number);
        break;
    case TP_EFFECT_NEWS:
        tp_server_news(shard, effect->news, tp_session_room(document->session),
                       tp_session_document(document->session), effect->size);
        break;
    case TP_EFFECT_DELETED:
        tell_all(document); /* who had it open hears nothing more */
        tp_docs_deleted(document, effect->status);
        break;
    case TP_EFFECT_END:
        document->ended = true;
        break;
    }
}

/* After an event: is somebody there, what does it weigh, is it over? */
static void settle(struct tp_document *document)
{
    struct tp_shard *shard = document->shard;
    const size_t size = tp_session_memory(document->session) + tp_rpc_memory(document->rpc);

    shard->sessions_size += size - document->session_size;
    document->session_size = size;
    if (document->ended && document->inflight == 0 && !tp_rpc_is_busy(document->rpc) &&
        document->subscription_count == 0 && tp_session_peer_count(document->session) == 0) {
        destroy(document);
        return;
    }
    document->ended = false;
    if (tp_session_peer_count(document->session) == 0 && tp_link_alone(&document->in_idle))
        tp_link_insert(&shard->idle, &document->in_idle);
}

enum who { THE_SESSION, THE_CALLS, THE_CALLS_AFTER };

/* One step of who is concerned; true: there is more. */
static bool take_step(struct tp_document *document, struct tp_event *event, enum who who,
                      struct tp_link *soon)
{
    struct tp_effects effects = {0};
    bool more = false;

    event->now_ns = tp_reactor_now_ns(document->shard->reactor);
    event->wall_ms = tp_reactor_wall_ms(document->shard->reactor);
    if (who == THE_SESSION)
        tp_session_handle(document->session, event, &effects);
    else if (who == THE_CALLS)
        tp_rpc_handle(document->rpc, event, &effects);
    else
        tp_rpc_follow(document->rpc, event, &effects);
    struct tp_member *member = member_of(event->peer);
    if (member != NULL && event->kind != TP_EVENT_LEFT)
        tell_audience(member);
    if (document->untold > 0)
        tell_untold(document);
    for (uint32_t i = 0; i < effects.count; i++)
        perform(document, &effects.items[i], soon, &more);
    return more;
}

/* A session without peers has said that it may end: asked again, it says so again. */
static bool may_end(const struct tp_document *document)
{
    return tp_session_peer_count(document->session) == 0 && !tp_rpc_is_busy(document->rpc);
}

static bool take(struct tp_document *document, struct tp_event *event, struct tp_link *soon)
{
    if (!tp_rpc_owns(event)) {
        const bool more = take_step(document, event, THE_SESSION, soon);
        if (!tp_rpc_minds(document->rpc, event->kind))
            return more;
        const bool was_busy = tp_rpc_is_busy(document->rpc);
        return take_step(document, event, THE_CALLS_AFTER, soon) || more ||
               (was_busy && may_end(document));
    }
    if (document->rpc == NULL)
        document->rpc = tp_rpc_create(&document->shard->rpc_env, document->session);
    return take_step(document, event, THE_CALLS, soon) || may_end(document);
}

void tp_document_event(struct tp_document *document, struct tp_event *event)
{
    struct tp_shard *shard = document->shard;
    struct tp_link soon; /* computations that are small enough to do here */
    struct tp_event next = *event;
    bool more = false;

    tp_link_init(&soon);
    TP_ASSERT(!document->handling);
    document->handling = true;
    for (;;) {
        more |= take(document, &next, &soon);
        struct tp_link *fallen = tp_list_pop(&document->fallen), *link;
        if (fallen != NULL) {
            struct tp_member *member = TP_CONTAINER(fallen, struct tp_member, in_fallen);
            next = (struct tp_event){
                .kind = TP_EVENT_BEHIND, .peer = &member->peer, .mark = member->fallen_mark};
        } else if (more) {
            next = (struct tp_event){.kind = TP_EVENT_MORE};
            more = false;
        } else if ((link = tp_list_pop(&soon)) != NULL) {
            struct tp_work_op *op = TP_CONTAINER(link, struct tp_work_op, link);
            tp_work_run(op);
            document->inflight--;
            next = (struct tp_event){.kind = TP_EVENT_WORKED, .work_op = op};
        } else {
            break;
        }
    }
    document->handling = false;
    if (event->kind == TP_EVENT_SAID && tp_budget_store_is_full(shard)) {
        shard->counters.store_waits++;
        pause_member(member_of(event->peer));
        if (tp_link_alone(&document->in_waiting))
            tp_link_insert(&shard->waiting, &document->in_waiting);
    }
    settle(document);
}

void tp_document_store_answered(void *context, struct tp_store_op *op)
{
    struct tp_shard *shard = context;
    struct tp_document *document = op->route;

    tp_budget_stored(shard, op);
    if (op->step == TP_STEP_ASK) {
        tp_ask_stored(op);
        return;
    }
    document->inflight--;
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_STORED, .store_op = op});
    tp_budget_resume(shard);
}

void tp_document_work_answered(void *context, struct tp_work_op *op)
{
    struct tp_shard *shard = context;
    struct tp_document *document = op->route;

    shard->work_inflight--;
    if (op->kind == TP_WORK_VERIFY) {
        tp_gate_worked(shard, op);
        return;
    }
    document->inflight--;
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_WORKED, .work_op = op});
}

/* ---- all of them --------------------------------------------------------------------------------
 */

void tp_documents_told(struct tp_shard *shard, enum tp_told told)
{
    struct tp_document *document, *next;

    HASH_ITER(hh, shard->documents, document, next)
    {
        if (document->session != NULL)
            tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_TOLD, .told = told});
    }
}

/* Over its budget, a shard gives up documents without peers before their time, longest idle first.
 * Each is asked once a tick at most; one that still has to store something stays until that is
 * done. */
void tp_documents_trim(struct tp_shard *shard)
{
    for (uint32_t tried = 0; shard->sessions_size > shard->config->session_memory && tried < 64;
         tried++) {
        struct tp_link *link = tp_list_pop(&shard->idle);
        if (link == NULL)
            return;
        struct tp_document *document = TP_CONTAINER(link, struct tp_document, in_idle);
        tp_document_event(document,
                          &(struct tp_event){.kind = TP_EVENT_TOLD, .told = TP_TOLD_TRIM});
    }
}
