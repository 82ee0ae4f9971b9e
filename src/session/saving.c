/* Updates: checked, kept, passed on at once, stored; and the answers that wait for the disk. */
#include "base/hash.h"
#include "internal.h"

#define RECORD_HEAD_SIZE_MAX 64u               /* of a log entry, without user and client */
#define QUARANTINE_COUNT 1024u                 /* rows ... */
#define QUARANTINE_SIZE_MAX ((size_t)64 << 10) /* ... of at most this: 64 MiB in all */
#define QUARANTINE_PAUSE_NS SECOND_NS          /* between two rows of one document */
#define INVALID "invalid-update"
#define REPAIR_NS (2 * SECOND_NS) /* after a refusal of the store, and between tries */

/* What a check found, wherever it ran. */
struct findings {
    struct tp_buffer digests; /* of the sidecars (crdt/sidecars.h) */
    enum tp_status status;
    enum tp_update_encoding encoding;
    bool is_empty;
    bool relayable;
    uint64_t delete_range_count;
    const struct tp_update_range *ranges;
    size_t range_count;
    struct tp_buffer v1, v2; /* what the check, or nobody, has converted */
};

/* ---- answers that wait --------------------------------------------------------------------------
 */

static void pay(struct tp_session *session, struct due *due, struct tp_effects *out)
{
    struct tp_peer *peer = due->peer;

    if (due->failed && peer->dialect != TP_DIALECT_TELEPORTAL) {
        tp_session_close(out, peer, TP_CLOSE_OVERLOAD); /* it sends again when it is back */
    } else if (due->failed) {
        tp_replies_nack(session, peer, due->id, "storage-failure", out);
    } else if (due->kind == DUE_ACK) {
        tp_replies_ack(session, peer, due->id, out);
    } else if (due->kind == DUE_ECHO) {
        struct said *said = tp_session_say(session, TP_MESSAGE_ECHO);
        said->hold = tp_frame_ref(due->echo);
        said->message.echo = tp_frame_message(due->echo);
        tp_session_send(out, peer, said);
    }
}

static void drop_due(struct tp_session *session, struct due *due)
{
    tp_link_remove(&due->link);
    tp_frame_unref(due->echo);
    tp_session_give(session, due, sizeof *due);
}

static struct due *owe(struct tp_session *session, struct tp_peer *peer, enum due_kind kind,
                       uint64_t id)
{
    struct due *due = tp_session_take(session, sizeof *due);

    due->kind = kind;
    due->peer = peer;
    due->ticket = session->ticket;
    due->id = id;
    tp_link_init(&due->link);
    tp_link_insert(&session->dues, &due->link);
    return due;
}

/* With nothing under way it falls due in this event's pump. */
void tp_saving_owe(struct tp_session *session, struct tp_peer *peer, enum due_kind kind,
                   uint64_t id, struct tp_frame *echo)
{
    owe(session, peer, kind, id)->echo = echo;
}

static enum due_kind kind_for(const struct tp_peer *peer)
{
    return peer->dialect == TP_DIALECT_TELEPORTAL ? DUE_ACK : DUE_NONE;
}

/* ---- deeds --------------------------------------------------------------------------------------
 */

static struct deed *deed_create(struct tp_session *session, struct tp_peer *peer,
                                const struct tp_message *message, struct tp_slice update)
{
    struct deed *deed = tp_session_take(session, sizeof *deed);

    deed->ticket = ++session->ticket;
    deed->wall_ms = session->wall_ms;
    deed->peer = peer;
    deed->message = *message;
    tp_frame_ref(deed->message.frame);
    deed->update = update;
    deed->stored = message->encrypted ? deed->message.update.container : update;
    if (session->hearing != NULL) {
        const struct tp_slice source = session->hearing->source;
        deed->heard = true;
        deed->given = session->hearing->message == NULL;
        deed->origin_size = (uint32_t)source.size;
        deed->origin = tp_session_take(session, source.size);
        memcpy(deed->origin, source.data, source.size);
    }
    tp_link_init(&deed->link);
    tp_link_init(&deed->op.link);
    tp_link_init(&deed->op.inflight);
    tp_link_insert(&session->deeds, &deed->link);
    session->deed_count++;
    session->deed_size += deed->stored.size;
    return deed;
}

/* Done, one way or the other: those who waited for it alone are told, those who wait for all up to
 * now may be. */
static void deed_finish(struct tp_session *session, struct deed *deed, bool failed)
{
    TP_LIST_EACH(link, &session->dues)
    {
        struct due *due = TP_CONTAINER(link, struct due, link);
        if (due->own ? due->ticket == deed->ticket : due->ticket >= deed->ticket)
            due->failed |= failed;
    }
    tp_link_remove(&deed->link);
    session->deed_count--;
    session->deed_size -= deed->stored.size;
    tp_session_give(session, deed->head, deed->head_size);
    tp_session_give(session, deed->origin, deed->origin_size);
    tp_buffer_finish(&deed->rows);
    tp_message_drop(&deed->message);
    tp_session_give(session, deed, sizeof *deed);
}

static void note_unsaved(struct tp_session *session)
{
    session->unsaved = true;
    session->refusals++;
    session->repair_ns = session->now_ns + REPAIR_NS;
}

void tp_saving_fail(struct tp_session *session)
{
    TP_LIST_EACH_SAFE(link, &session->deeds)
    {
        struct deed *deed = TP_CONTAINER(link, struct deed, link);
        if (deed->stage != DEED_WAITING)
            continue;
        note_unsaved(session);
        deed_finish(session, deed, true);
    }
}

static struct tp_slice cut(struct tp_buffer *rows, size_t from)
{
    return tp_slice_of(rows->data + from, rows->size - from);
}

/* The rows of a new document go into the same commit as its first update. */
static void add_creation(struct tp_session *session, struct deed *deed)
{
    const size_t name_size = session->room.size + 1 + session->document.size;
    struct tp_store_op *op = &deed->op;
    struct tp_buffer buried = tp_buffer_growing(UINT32_MAX);

    if (session->buried.count > 0)
        tp_state_vector_encode(&session->buried, &buried);
    do
        session->number = tp_random_next(session->env->random);
    while (session->number == 0 || session->number == UINT64_MAX); /* one is behind each */
    session->creating = true;
    tp_record_number_key(session->number, deed->number_key);

    /* room for all three, so that nothing moves any more */
    deed->rows = tp_buffer_growing(SIZE_MAX);
    tp_buffer_reserve(&deed->rows, 2 * name_size + buried.size + 256);
    const enum tp_status status = tp_record_name_key(session->room, session->document, &deed->rows);
    TP_ASSERT(status == TP_OK);
    const struct tp_slice name = cut(&deed->rows, 0);
    const struct tp_name_record record = {.number = session->number,
                                          .epoch = session->epoch,
                                          .mode = session->mode,
                                          .created_ms = session->wall_ms,
                                          .state_vector = tp_buffer_slice(&buried)};
    size_t from = deed->rows.size;
    tp_name_record_encode(&record, &deed->rows);
    const struct tp_slice value = cut(&deed->rows, from);
    tp_buffer_finish(&buried);
    const struct tp_metadata_record metadata = {.name = name,
                                                .epoch = session->epoch,
                                                .mode = session->mode,
                                                .created_ms = session->wall_ms};
    from = deed->rows.size;
    tp_metadata_record_encode(&metadata, &deed->rows);
    TP_ASSERT(name.data == deed->rows.data);

    op->parts[0] =
        (struct tp_store_part){.kind = TP_PART_EXPECT_ABSENT, .table = TP_TABLE_NAMES, .key = name};
    if (session->name_record.size > 0) { /* a tombstone */
        op->parts[0].kind = TP_PART_EXPECT_VALUE;
        op->parts[0].value = tp_buffer_slice(&session->name_record);
    }
    op->parts[1] = (struct tp_store_part){
        .kind = TP_PART_PUT, .table = TP_TABLE_NAMES, .key = name, .value = value};
    op->parts[2] =
        (struct tp_store_part){.kind = TP_PART_PUT,
                               .table = TP_TABLE_METADATA,
                               .key = tp_slice_of(deed->number_key, TP_RECORD_NUMBER_KEY_SIZE),
                               .value = cut(&deed->rows, from)};
    op->part_count = 3;
}

static void submit(struct tp_session *session, struct deed *deed, struct tp_effects *out)
{
    const struct tp_peer *peer = deed->peer;
    struct tp_store_op *op = &deed->op;
    struct tp_log_entry entry = {.sequence = session->sequence++,
                                 .wall_ms = deed->wall_ms,
                                 .dialect = (uint8_t)deed->message.dialect,
                                 .is_first_sync = deed->message.kind == TP_MESSAGE_SYNC_STEP_2,
                                 .encoding =
                                     deed->encoding == TP_UPDATE_V1 ? TP_RECORD_V1 : TP_RECORD_V2,
                                 .update = deed->stored};

    if (session->mode == TP_MODE_ENCRYPTED)
        entry.encoding = TP_RECORD_CONTAINER;

    if (peer != NULL) {
        entry.user = peer->user_id;
        entry.client = tp_slice_of(peer->client_id, peer->client_id[0] == 0 ? 0 : TP_UUID_SIZE);
    }
    *op = (struct tp_store_op){.verb = TP_STORE_APPEND, .step = STEP_APPEND, .owner = deed};
    tp_link_init(&op->link);
    tp_link_init(&op->inflight);
    if (session->number == 0)
        add_creation(session, deed);

    entry.origin = tp_slice_of(deed->origin, deed->origin_size);
    const size_t head_room =
        RECORD_HEAD_SIZE_MAX + entry.user.size + entry.client.size + entry.origin.size;
    tp_session_give(session, deed->head, deed->head_size);
    deed->head_size = head_room;
    deed->head = tp_session_take(session, head_room);
    struct tp_buffer head = tp_buffer_fixed(deed->head, head_room);
    tp_log_entry_head_encode(&entry, &head);
    TP_ASSERT(!head.full);
    tp_record_log_key(session->number, entry.sequence, deed->key);
    op->key = tp_slice_of(deed->key, TP_RECORD_LOG_KEY_SIZE);
    op->value[0] = tp_buffer_slice(&head);
    op->value[1] = deed->stored;
    deed->stage = DEED_STORING;
    session->inflight++;
    session->log_count++;
    session->log_size += head.size + deed->stored.size;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_STORE, .store_op = op});
}

/* ---- judging ------------------------------------------------------------------------------------
 */

static void refuse(struct tp_session *session, struct tp_peer *peer, uint64_t id,
                   struct tp_slice bytes, struct tp_effects *out)
{
    session->env->counters->updates_refused++;
    tp_saving_quarantine(session, peer, bytes, out);
    if (peer->dialect == TP_DIALECT_TELEPORTAL)
        tp_replies_nack(session, peer, id, INVALID, out);
    else
        tp_session_close(out, peer, TP_CLOSE_MALFORMED);
}

/* Taken in, or nothing in it: for a step 2 `sync-done` at once, and an answer when it is safe. */
static struct due *welcome(struct tp_session *session, struct tp_peer *peer,
                           const struct tp_message *message, struct tp_effects *out)
{
    if (peer == NULL)
        return NULL;
    if (peer->dialect == TP_DIALECT_TELEPORTAL && message->kind == TP_MESSAGE_SYNC_STEP_2) {
        struct said *done = tp_session_say(session, TP_MESSAGE_SYNC_DONE);
        done->message.encrypted = message->encrypted;
        tp_session_send(out, peer, done);
    }
    return owe(session, peer, kind_for(peer), message->id);
}

static bool is_known_delete(struct tp_session *session, struct tp_slice update, bool remember)
{
    const uint64_t hash = tp_hash64(update) | 1; /* 0: none */
    const unsigned count = sizeof session->known_deletes / sizeof *session->known_deletes;

    for (unsigned i = 0; i < count; i++)
        if (session->known_deletes[i] == hash)
            return true;
    if (remember)
        session->known_deletes[session->known_deletes_at++ % count] = hash;
    return false;
}

/* More than deletions, and not known. */
static bool grows(const struct tp_session *session, const struct findings *found)
{
    for (size_t i = 0; i < found->range_count; i++)
        if (found->ranges[i].to >
            tp_state_vector_get(&session->state_vector, found->ranges[i].client))
            return true;
    return false;
}

/* True if everything in it is in the document already. What the disk has refused once is in the
 * document and not durable: then nothing counts as known. */
static bool is_known(struct tp_session *session, const struct findings *found,
                     struct tp_slice update)
{
    if (found->is_empty)
        return true;
    if (session->unsaved)
        return false;
    if (grows(session, found))
        return false;
    return found->delete_range_count == 0 || is_known_delete(session, update, true);
}

/* True if it belongs to a deleted epoch of the document: it must not rise again. */
static bool is_buried(const struct tp_session *session, const struct tp_peer *peer,
                      const struct findings *found)
{
    if (peer != NULL && peer->stale)
        return true;
    for (size_t i = 0; session->buried.count > 0 && i < found->range_count; i++)
        if (tp_burial_has(session, found->ranges[i].client))
            return true;
    return false;
}

static struct tp_frame *convert(struct tp_session *session, struct tp_slice update,
                                enum tp_update_encoding from, struct tp_buffer *done)
{
    struct tp_frame *frame = NULL;

    if (done->data == NULL) {
        *done = tp_buffer_growing(UINT32_MAX / 2);
        const enum tp_status status =
            from == TP_UPDATE_V2 && session->mode == TP_MODE_ENCRYPTED
                ? tp_update_convert_structure(update, done)
                : tp_update_convert(update, from,
                                    from == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1, done);
        if (status != TP_OK) {
            tp_buffer_finish(done);
            return NULL;
        }
    }
    session->env->counters->conversions++;
    frame = tp_frame_create(session->env->pool, tp_buffer_slice(done));
    tp_buffer_finish(done);
    return frame;
}

/* Tells the others, each in the encoding of its dialect. */
static void pass_on(struct tp_session *session, const struct deed *deed, struct tp_slice v1,
                    struct tp_slice v2, struct tp_effects *out)
{
    struct said *news = tp_session_say_again(session, &deed->message);
    struct tp_message *message = &news->message;
    uint32_t audience = TP_AUDIENCE_YWEBSOCKET | TP_AUDIENCE_HOCUSPOCUS;

    if (session->mode == TP_MODE_ENCRYPTED) { /* as it came: we could write nothing else */
        tp_session_broadcast(out, deed->peer, TP_AUDIENCE_TELEPORTAL, news);
        if (!deed->heard)
            tp_bus_publish(session, news, out);
        return;
    }
    message->update.v1 = v1;
    if (v2.data != NULL) {
        message->update.v2 = v2;
        audience |= TP_AUDIENCE_TELEPORTAL;
    }
    if (deed->message.dialect == TP_DIALECT_TELEPORTAL && deed->encoding == TP_UPDATE_V1) {
        /* its bytes say V1 where everybody reads V2: write it anew */
        message->dialect = TP_DIALECT_NONE;
        message->kind = TP_MESSAGE_UPDATE;
        message->raw = (struct tp_slice){0};
        message->update.container = message->update.sidecars = (struct tp_slice){0};
    }
    tp_session_broadcast(out, deed->peer, audience, news);
    if (!deed->heard)
        tp_bus_publish(session, news, out);
}

/* Writes an update anew that means something, but not the same to every client. The message is ours
 * from then on: nobody gets the bytes that came. */
static void mend(struct tp_session *session, struct deed *deed)
{
    struct tp_buffer mended = tp_buffer_growing(UINT32_MAX / 2);
    struct tp_message *message = &deed->message;

    TP_ASSERT(tp_update_convert(deed->update, deed->encoding, deed->encoding, &mended) == TP_OK);
    session->deed_size += mended.size;
    session->deed_size -= deed->stored.size;
    tp_frame_unref(message->frame);
    message->frame = tp_frame_create(session->env->pool, tp_buffer_slice(&mended));
    message->kind = TP_MESSAGE_UPDATE;
    message->dialect = TP_DIALECT_NONE;
    message->raw = (struct tp_slice){0};
    message->update = (struct tp_message_update){.version = 2};
    deed->update = deed->stored = tp_frame_message(message->frame);
    tp_buffer_finish(&mended);
}

/* The first update decides what the document is. */
static void decide(struct tp_session *session, bool encrypted)
{
    if (session->mode != 0)
        return;
    session->mode = encrypted ? TP_MODE_ENCRYPTED : TP_MODE_PLAIN;
    if (encrypted)
        tp_session_doom(session, TP_CLOSE_FORBIDDEN, false); /* they could read nothing of it */
}

/* The update is sound: into the document, to the others, to the disk. */
static void accept(struct tp_session *session, struct deed *deed, struct findings *found,
                   struct tp_effects *out)
{
    const bool is_v1 = deed->encoding == TP_UPDATE_V1;
    const uint32_t teleportal_count =
        session->counts[TP_DIALECT_TELEPORTAL] -
        (deed->peer != NULL && deed->peer->dialect == TP_DIALECT_TELEPORTAL);
    struct tp_slice v1 = deed->update, v2 = deed->update;
    struct tp_frame *holder = tp_frame_ref(deed->message.frame);

    if (!is_v1) {
        tp_frame_unref(holder);
        holder = convert(session, deed->update, TP_UPDATE_V2, &found->v1);
        TP_ASSERT(holder != NULL); /* whether it can be was looked at */
        v1 = tp_frame_message(holder);
    } else if (teleportal_count > 0 || (session->bus != NULL && !deed->heard)) {
        struct tp_frame *second = convert(session, deed->update, TP_UPDATE_V1, &found->v2);
        TP_ASSERT(second != NULL);
        tp_session_say(session, TP_MESSAGE_PING)->hold = second;
        v2 = tp_frame_message(second);
    } else {
        v2 = (struct tp_slice){0};
    }
    tp_content_add(session, holder, v1, found->ranges, (uint32_t)found->range_count);
    if (session->mode == TP_MODE_ENCRYPTED)
        tp_sidecars_fold(&session->sidecars, &deed->message.update,
                         tp_buffer_slice(&found->digests), found->ranges, found->range_count);
    tp_session_say(session, TP_MESSAGE_PING)->hold = holder;
    session->env->counters->updates_accepted++;
    session->write_count += deed->message.kind == TP_MESSAGE_UPDATE;
    session->env->counters->bridge_updates += deed->heard;
    session->env->counters->bridge_repairs += deed->given;
    pass_on(session, deed, v1, v2, out);
    tp_attribution_push(session, deed, out);
    if (session->creating || session->stage != STAGE_OPEN)
        deed->stage = DEED_WAITING;
    else
        submit(session, deed, out);
}

static void refuse_size(struct tp_session *session, struct tp_peer *peer,
                        const struct tp_message *message, const char *error, struct tp_effects *out)
{
    session->env->counters->updates_refused++;
    if (peer->dialect == TP_DIALECT_TELEPORTAL)
        tp_replies_nack(session, peer, message->id, error, out);
    else
        tp_session_close(out, peer, TP_CLOSE_DOCUMENT_TOO_BIG);
}

/* What to do with an update that was looked at. `deed` is NULL unless it was checked elsewhere. */
static void judge(struct tp_session *session, struct tp_peer *peer,
                  const struct tp_message *message, struct tp_slice update, struct deed *deed,
                  struct findings *found, struct tp_effects *out)
{
    /* Another node has taken it in: to refuse it would be to differ for ever. */
    const bool is_heard = deed == NULL ? session->hearing != NULL : deed->heard;

    /* Nobody but a peer of ours says something encrypted, and what clients make is relayable. */
    if (found->status != TP_OK || (message->encrypted && !found->relayable)) {
        if (peer != NULL)
            refuse(session, peer, message->id, update, out);
    } else if (!tp_session_takes(session, message->encrypted)) { /* decided while it was checked */
        if (peer != NULL && peer->dialect == TP_DIALECT_TELEPORTAL)
            tp_replies_mismatch(session, peer, message->encrypted, message->id, out);
    } else if (is_buried(session, peer, found)) {
        session->env->counters->updates_refused++;
        if (peer != NULL)
            tp_burial_refuse(session, peer, message, out);
    } else if (is_known(session, found, update)) {
        session->env->counters->updates_empty++;
        welcome(session, peer, message, out);
    } else if (!is_heard && grows(session, found) && !tp_size_admits(session, update.size)) {
        if (peer != NULL)
            refuse_size(session, peer, message, "document-too-large", out);
    } else {
        if (deed == NULL)
            deed = deed_create(session, peer, message, update);
        deed->encoding = found->encoding;
        decide(session, message->encrypted);
        struct due *due = welcome(session, peer, message, out);
        if (!found->relayable)
            mend(session, deed);
        if (due != NULL && due->ticket == deed->ticket)
            due->own = true;
        accept(session, deed, found, out);
        return;
    }
    if (deed != NULL)
        deed_finish(session, deed, false);
}

/* ---- what comes in ------------------------------------------------------------------------------
 */

static bool may_write(struct tp_session *session, struct tp_peer *peer,
                      const struct tp_message *message, struct tp_effects *out)
{
    if (peer->rights & TP_MAY_WRITE)
        return true;
    session->env->counters->updates_refused++;
    if (peer->dialect != TP_DIALECT_TELEPORTAL)
        return false; /* it was told when it came */
    if (message->kind == TP_MESSAGE_SYNC_STEP_2)
        tp_session_send(out, peer, tp_session_say(session, TP_MESSAGE_SYNC_DONE));
    else if (!peer->told_denied)
        tp_replies_deny(session, peer, false,
                        TP_SLICE("Insufficient permissions to access document"), out);
    tp_replies_ack(session, peer, message->id, out);
    return false;
}

static void look_inline(struct tp_slice update, enum tp_update_encoding encoding,
                        const struct tp_update_limits *bounds, struct tp_update_range *ranges,
                        struct findings *found)
{
    struct tp_update_info info;

    found->status = tp_update_validate(update, encoding, bounds, ranges, RANGE_ROOM, &info);
    if (found->status != TP_OK)
        return;
    if (!info.has_v1_form)
        found->status = TP_DENIED;
    found->encoding = encoding;
    found->is_empty = info.empty;
    found->relayable = info.relayable;
    found->delete_range_count = info.delete_range_count;
    found->ranges = ranges;
    found->range_count = info.range_count; /* above RANGE_ROOM: not all were stored */
}

/* A container that its document may have: that of a plain one holds nothing but the structure. */
static bool is_sound(const struct tp_message *message)
{
    const struct tp_message_update *update = &message->update;

    return !update->bad_container && update->v2.data != NULL &&
           (update->version == 1 || update->version == 2) &&
           (message->encrypted || (update->sidecar_count == 0 && !update->compaction));
}

static void check_elsewhere(struct tp_session *session, struct deed *deed, uint8_t encoding,
                            struct tp_effects *out)
{
    deed->stage = DEED_CHECKED;
    if (deed->peer != NULL)
        deed->peer->checked_count++;
    deed->check = tp_session_work(session, TP_WORK_VALIDATE, STEP_CHECK, out);
    deed->check->owner = deed;
    deed->check->inputs = &deed->update;
    deed->check->input_count = 1;
    deed->check->encoding = encoding;
    deed->check->want_v1 = true;
    deed->check->want_v2 = session->counts[TP_DIALECT_TELEPORTAL] > 0 || session->bus != NULL;
    deed->check->encrypted = deed->message.encrypted;
    if (deed->message.encrypted)
        deed->check->hashed = &deed->message.update;
}

bool tp_saving_is_large(const struct tp_message_update *update)
{
    const size_t size = update->v2.data != NULL ? update->v2.size : update->v1.size;

    return size + update->sidecars.size > INLINE_SIZE_MAX;
}

/* Looks at an update that may be taken in, here or elsewhere, and judges it. */
static void take_in(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                    struct tp_effects *out)
{
    const struct tp_message_update *received = &message->update;
    const bool is_teleportal = received->v2.data != NULL; /* or another node's */
    struct tp_update_limits bounds = tp_update_limits_default;
    struct tp_update_range ranges[RANGE_ROOM];
    struct findings found = {0};

    bounds.update_size_max = session->env->limits->update_size_max;
    bounds.placeholders = message->encrypted;
    tp_message_keep(message, session->env->pool); /* the one copy */
    const struct tp_slice update = is_teleportal ? received->v2 : received->v1;
    const bool either = is_teleportal && received->version == 1 && !message->encrypted;
    const bool is_large = tp_saving_is_large(received);
    if (!is_large) {
        look_inline(update, is_teleportal ? TP_UPDATE_V2 : TP_UPDATE_V1, &bounds, ranges, &found);
        if (found.status == TP_MALFORMED && either)
            look_inline(update, TP_UPDATE_V1, &bounds, ranges, &found);
        if (message->encrypted && found.status == TP_OK) {
            found.digests = tp_buffer_growing(SIZE_MAX);
            tp_sidecars_hash(received, &found.digests);
        }
    }
    if (is_large || (found.status == TP_OK && found.range_count > RANGE_ROOM)) {
        struct deed *deed = deed_create(session, peer, message, update);
        const uint8_t encoding = is_teleportal ? TP_UPDATE_V2 : TP_UPDATE_V1;
        check_elsewhere(session, deed, either ? 0 : encoding, out);
    } else {
        judge(session, peer, message, update, NULL, &found, out);
    }
    tp_buffer_finish(&found.digests);
}

/* So much waits for the disk that whoever goes on in spite of PAUSE is not listened to. */
static bool is_overloaded(const struct tp_session *session)
{
    const struct tp_session_limits *limits = session->env->limits;

    return session->deed_count >= 2 * limits->store_count_max ||
           session->deed_size >= 2 * limits->store_size_max + limits->update_size_max;
}

void tp_saving_update(struct tp_session *session, struct tp_peer *peer, struct tp_message *message,
                      struct tp_effects *out)
{
    const struct tp_session_limits *limits = session->env->limits;
    const bool is_teleportal = peer->dialect == TP_DIALECT_TELEPORTAL;

    if (!may_write(session, peer, message, out))
        return;
    if (is_teleportal && !is_sound(message)) {
        refuse(session, peer, message->id, message->raw, out);
        return;
    }
    const struct tp_slice offered = is_teleportal ? message->update.v2 : message->update.v1;
    if (offered.size > limits->update_size_max) {
        refuse_size(session, peer, message, "message-too-large", out);
        return;
    }
    if (is_teleportal && offered.size == 0) {
        session->env->counters->updates_empty++;
        welcome(session, peer, message, out);
        return;
    }
    if (is_overloaded(session)) {
        tp_session_close(out, peer, TP_CLOSE_OVERLOAD);
        return;
    }
    if (tp_size_is_unclear(session, offered.size)) {
        session->measuring = true;
        tp_queue_put(session, &session->held, peer, message, out);
        return;
    }
    take_in(session, peer, message, out);
    if (session->deed_count >= limits->store_count_max ||
        session->deed_size >= limits->store_size_max)
        tp_session_pause(session, peer, out);
}

void tp_saving_orphan(struct tp_session *session, struct tp_message *message,
                      struct tp_effects *out)
{
    const struct tp_message_update *update = &message->update;
    const bool is_teleportal = message->dialect == TP_DIALECT_TELEPORTAL;
    const size_t size = is_teleportal ? update->v2.size : update->v1.size;

    if ((is_teleportal && !is_sound(message)) || is_overloaded(session) ||
        size > session->env->limits->update_size_max)
        session->env->counters->updates_refused++;
    else if (size > 0)
        take_in(session, NULL, message, out);
}

/* Nobody can be told to wait or that it was wrong. What there is no room for is asked for again. */
void tp_saving_heard(struct tp_session *session, struct tp_message *message, struct tp_effects *out)
{
    if (!is_sound(message)) {
        session->env->counters->bridge_refused++;
    } else if (message->update.v2.size == 0) {
        session->env->counters->updates_empty++;
    } else if (is_overloaded(session)) {
        tp_bus_missed(session);
    } else {
        take_in(session, NULL, message, out);
    }
}

void tp_saving_checked(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out)
{
    struct deed *deed = op->owner;
    struct findings found = {.status = op->status,
                             .encoding = op->found_encoding,
                             .is_empty = op->is_empty,
                             .relayable = op->relayable,
                             .delete_range_count = op->delete_range_count,
                             .ranges = (const struct tp_update_range *)op->ranges.data,
                             .range_count = op->ranges.size / sizeof(struct tp_update_range)};

    deed->check = NULL;
    if (deed->peer != NULL)
        deed->peer->checked_count--;
    found.digests = op->digests;
    op->digests = (struct tp_buffer){0};
    if (found.encoding == TP_UPDATE_V2) {
        found.v1 = op->v1;
        op->v1 = (struct tp_buffer){0};
    } else {
        found.v2 = op->v2;
        op->v2 = (struct tp_buffer){0};
    }
    judge(session, deed->peer, &deed->message, deed->update, deed, &found, out);
    tp_buffer_finish(&found.v1);
    tp_buffer_finish(&found.v2);
    tp_buffer_finish(&found.digests);
    tp_session_work_free(session, op);
}

/* Another node has created the document meanwhile: read again what it is now, and go on there. */
static void reopen(struct tp_session *session, struct deed *deed, struct tp_effects *out)
{
    deed->stage = DEED_WAITING;
    tp_buffer_finish(&deed->rows);
    session->number = 0;
    session->creating = false;
    session->joining_other = true;
    session->log_count = session->log_size = 0;
    tp_session_set_name_record(session, (struct tp_slice){0});
    tp_opening_start(session, out);
}

static void created(struct tp_session *session, struct tp_slice record)
{
    tp_session_set_name_record(session, record);
    session->news |= 1u << TP_NEWS_CREATED;
    session->env->counters->documents_created++;
}

void tp_saving_stored(struct tp_session *session, struct tp_store_op *op, struct tp_effects *out)
{
    session->inflight--;
    if (op->step == STEP_QUARANTINE) {
        tp_frame_unref(op->frame);
        tp_session_give(session, op, sizeof *op);
        return;
    }

    struct deed *deed = op->owner;
    const bool creates = op->part_count > 0;
    const bool ok = op->status == TP_OK;
    TP_ASSERT(deed->stage == DEED_STORING);
    if (creates && op->status == TP_DENIED) {
        reopen(session, deed, out);
        return;
    }
    if (!ok) {
        session->env->counters->store_failures++;
        note_unsaved(session);
    }
    if (deed->repairs && ok && deed->refusals == session->refusals)
        session->unsaved = false;
    if (creates) {
        session->creating = false;
        if (ok)
            created(session, op->parts[1].value);
        else
            session->number = 0; /* the next one tries again */
    }
    deed_finish(session, deed, !ok);
}

void tp_saving_repair(struct tp_session *session, struct tp_effects *out)
{
    session->repair_ns = session->now_ns + REPAIR_NS;
    if (session->deed_count > 0 || tp_content_is_empty(session) ||
        !tp_content_folded(session, session->version, out))
        return; /* what is under way may fail too: when it is through */

    struct tp_message message = {.kind = TP_MESSAGE_UPDATE};
    if (session->mode == TP_MODE_ENCRYPTED) {
        struct tp_buffer sealed = tp_buffer_growing(UINT32_MAX / 2);
        tp_sealed_encode(tp_buffer_slice(&session->merged->bytes),
                         tp_buffer_slice(&session->sidecars), &sealed);
        message.frame = tp_frame_create(session->env->pool, tp_buffer_slice(&sealed));
        tp_buffer_finish(&sealed);
    } else {
        message.frame =
            tp_frame_create(session->env->pool, tp_buffer_slice(&session->merged->bytes));
    }
    struct deed *deed = deed_create(session, NULL, &message, tp_frame_message(message.frame));
    tp_message_drop(&message); /* the deed has it */
    deed->repairs = true;
    deed->refusals = session->refusals;
    deed->encoding = TP_UPDATE_V1;
    submit(session, deed, out);
}

bool tp_saving_pump(struct tp_session *session, struct tp_effects *out)
{
    /* Submitted in their order: the first that waits stops at creation. */
    TP_LIST_EACH(link, &session->deeds)
    {
        struct deed *deed = TP_CONTAINER(link, struct deed, link);
        if (session->creating || session->stage != STAGE_OPEN)
            break;
        if (deed->stage != DEED_WAITING)
            continue;
        if (!tp_session_has_room(out, 1))
            return false;
        submit(session, deed, out);
    }

    const uint64_t under_way = tp_link_alone(&session->deeds)
                                   ? UINT64_MAX
                                   : TP_CONTAINER(session->deeds.next, struct deed, link)->ticket;
    TP_LIST_EACH_SAFE(link, &session->dues)
    {
        struct due *due = TP_CONTAINER(link, struct due, link);
        if (due->ticket >= under_way)
            break;
        if (!tp_session_has_room(out, 1))
            return false;
        pay(session, due, out);
        drop_due(session, due);
    }
    return true;
}

void tp_saving_forget(struct tp_session *session, struct tp_peer *peer)
{
    TP_LIST_EACH_SAFE(link, &session->dues)
    {
        struct due *due = TP_CONTAINER(link, struct due, link);
        if (due->peer == peer)
            drop_due(session, due);
    }
    TP_LIST_EACH(link, &session->deeds)
    {
        struct deed *deed = TP_CONTAINER(link, struct deed, link);
        if (deed->peer == peer)
            deed->peer = NULL;
    }
}

void tp_saving_quarantine(struct tp_session *session, const struct tp_peer *peer,
                          struct tp_slice bytes, struct tp_effects *out)
{
    if (session->now_ns < session->quarantine_ns)
        return;
    session->quarantine_ns = session->now_ns + QUARANTINE_PAUSE_NS;

    const struct tp_slice part = {bytes.data, tp_min(bytes.size, QUARANTINE_SIZE_MAX)};
    const size_t size_max = 8 + part.size + session->room.size + session->document.size +
                            peer->user_id.size + TP_UUID_SIZE + 6 * TP_VARUINT_SIZE_MAX;
    struct tp_store_op *op = tp_session_take(session, sizeof *op);
    op->verb = TP_STORE_WRITE;
    op->step = STEP_QUARANTINE;
    op->owner = session;
    tp_link_init(&op->link);
    tp_link_init(&op->inflight);
    op->frame = tp_frame_alloc(session->env->pool, size_max);
    struct tp_buffer row = tp_buffer_fixed(op->frame->data + TP_FRAME_HEAD_SIZE, size_max);
    /* A place in the ring, at random: nobody need know where the others are. */
    tp_write_big_endian(&row, tp_random_below(session->env->random, QUARANTINE_COUNT), 8);
    tp_write_varuint(&row, session->wall_ms);
    tp_write_bytes(&row, session->room);
    tp_write_bytes(&row, session->document);
    tp_write_bytes(&row, peer->user_id);
    tp_write_bytes(&row, tp_slice_of(peer->client_id, TP_UUID_SIZE));
    tp_write_bytes(&row, part);
    TP_ASSERT(!row.full);
    op->parts[0] = (struct tp_store_part){.kind = TP_PART_PUT,
                                          .table = TP_TABLE_QUARANTINE,
                                          .key = tp_slice_of(row.data, 8),
                                          .value = tp_slice_of(row.data + 8, row.size - 8)};
    op->part_count = 1;
    session->inflight++;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_STORE, .store_op = op});
}

void tp_saving_finish(struct tp_session *session)
{
    TP_ASSERT(tp_link_alone(&session->dues));
    TP_ASSERT(tp_link_alone(&session->deeds));
}
