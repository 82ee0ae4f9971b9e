/* The end of a document: a tombstone in place of what it held, in one commit; everybody is told.
 *
 *     told DELETE ──► nothing more is taken in, what is under way ends ──► the commit ──► reset:
 *                                                                          a document that is not
 *                                                                          there, of the next epoch
 *
 * Who had the old content open is of the old epoch: it is told, hears nothing of the new one and
 * adds nothing to it, until it asks like somebody who has nothing. We know it by its clients: the
 * tombstone remembers who wrote in any deleted epoch (architecture.md, "Keys and records"). */
#include "internal.h"

/* Tables whose keys begin with the document's number. */
static const enum tp_store_table tables[] = {TP_TABLE_METADATA, TP_TABLE_BASES, TP_TABLE_LOG,
                                             TP_TABLE_MILESTONES, TP_TABLE_ATTRIBUTION};
#define DELETED TP_SLICE("this document was deleted")
#define TABLE_COUNT (sizeof tables / sizeof *tables)

struct burial {
    struct tp_store_op op; /* first */
    struct tp_store_part parts[TABLE_COUNT];
    uint8_t from[TP_RECORD_NUMBER_KEY_SIZE], to[TP_RECORD_NUMBER_KEY_SIZE];
    struct tp_buffer rows; /* key, tombstone, key of the registry */
};

static void finish(struct tp_session *session, enum tp_status status, struct tp_effects *out)
{
    session->deletion = DELETION_NONE;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_DELETED, .status = status});
}

/* ---- the commit -------------------------------------------------------------------------------*/

/* What the document held, and what it had held in epochs before. */
static void bury(struct tp_session *session)
{
    for (uint32_t i = 0; i < session->state_vector.count; i++)
        tp_state_vector_raise(&session->buried, session->state_vector.entries[i].client,
                              session->state_vector.entries[i].clock);
}

static void submit(struct tp_session *session, struct tp_effects *out)
{
    struct burial *burial = tp_session_take(session, sizeof *burial);
    struct tp_store_op *op = &burial->op;
    struct tp_buffer vector = tp_buffer_growing(UINT32_MAX);
    struct tp_name_record record;

    bury(session);
    tp_state_vector_encode(&session->buried, &vector);
    TP_ASSERT(tp_name_record_decode(tp_buffer_slice(&session->name_record), &record) == TP_OK);
    TP_ASSERT(!record.deleted && record.number == session->number);
    record.deleted = true;
    record.state_vector = tp_buffer_slice(&vector);
    burial->rows = tp_buffer_growing(UINT32_MAX);
    TP_ASSERT(tp_record_name_key(session->room, session->document, &burial->rows) == TP_OK);
    const size_t key_size = burial->rows.size;
    tp_name_record_encode(&record, &burial->rows);
    tp_buffer_finish(&vector);
    const size_t row_size = burial->rows.size;
    tp_record_keys_key(session->room, session->document, session->epoch, &burial->rows);
    const struct tp_slice key = tp_slice_of(burial->rows.data, key_size);

    *op = (struct tp_store_op){.verb = TP_STORE_WRITE, .step = STEP_BURIAL, .owner = burial};
    tp_link_init(&op->link);
    tp_link_init(&op->inflight);
    op->parts[0] = (struct tp_store_part){.kind = TP_PART_EXPECT_VALUE,
                                          .table = TP_TABLE_NAMES,
                                          .key = key,
                                          .value = tp_buffer_slice(&session->name_record)};
    op->parts[1] = (struct tp_store_part){
        .kind = TP_PART_PUT,
        .table = TP_TABLE_NAMES,
        .key = key,
        .value = tp_slice_of(burial->rows.data + key_size, row_size - key_size)};
    op->parts[2] = (struct tp_store_part){
        .kind = TP_PART_DELETE,
        .table = TP_TABLE_KEYS,
        .key = tp_slice_of(burial->rows.data + row_size, burial->rows.size - row_size)};
    op->part_count = 3;
    tp_record_number_key(session->number, burial->from);
    tp_record_number_key(session->number + 1, burial->to); /* numbers end one before the last */
    for (size_t i = 0; i < TABLE_COUNT; i++)
        burial->parts[i] =
            (struct tp_store_part){.kind = TP_PART_DELETE_RANGE,
                                   .table = tables[i],
                                   .key = tp_slice_of(burial->from, sizeof burial->from),
                                   .value = tp_slice_of(burial->to, sizeof burial->to)};
    op->more_parts = burial->parts;
    op->more_part_count = TABLE_COUNT;
    session->deletion = DELETION_STORING;
    session->inflight++;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_STORE, .store_op = op});
}

/* ---- afterwards -------------------------------------------------------------------------------*/

/* As if it had just been read, and were not there. Nothing is in flight. */
static void reset(struct tp_session *session)
{
    TP_ASSERT(session->inflight == 0 && session->deed_count == 0);
    TP_LIST_EACH(link, &session->peers)
    tp_answers_forget(session, TP_CONTAINER(link, struct tp_peer, link));
    tp_passages_forget_idle(session, true); /* nobody may join one from before */
    tp_content_finish(session);
    session->tail = NULL;
    session->tail_count = session->tail_room = 0;
    session->tail_size = 0;
    session->merged = NULL;
    session->sidecars = tp_buffer_growing(UINT32_MAX);
    session->version++; /* no answer from before is one now */
    session->merged_version = session->version;
    session->changed_ns = session->now_ns;
    memset(session->known_deletes, 0, sizeof session->known_deletes);
    session->number = 0;
    session->mode = 0;
    session->log_count = session->log_size = 0;
    session->unsaved = false;
}

/* Everybody who has it open has what is not there any more. */
static void dismiss(struct tp_session *session)
{
    TP_LIST_EACH_SAFE(link, &session->peers)
    {
        struct tp_peer *peer = TP_CONTAINER(link, struct tp_peer, link);
        peer->told_denied = false;
        tp_burial_mark(peer);
        if (peer->dialect == TP_DIALECT_TELEPORTAL)
            continue;
        tp_link_remove(link);
        tp_link_insert(&session->doomed, link);
    }
    session->doom_reason = TP_CLOSE_DELETED;
    session->mourning = true;
}

void tp_burial_stored(struct tp_session *session, struct tp_store_op *op)
{
    session->inflight--;
    session->burial = op->owner;
    session->deletion = DELETION_STORED;
}

/* The store has answered, and nothing else is under way. */
static void complete(struct tp_session *session, struct tp_effects *out)
{
    struct burial *burial = session->burial;
    const enum tp_status status = burial->op.status;

    session->burial = NULL;
    session->was_encrypted = session->mode == TP_MODE_ENCRYPTED;
    reset(session);
    if (status == TP_OK) {
        session->epoch++;
        session->sequence = 1;
        tp_session_set_name_record(session, burial->op.parts[1].value);
        session->news |= 1u << TP_NEWS_DELETED;
        session->env->counters->documents_deleted++;
        dismiss(session);
    } else { /* the store may have it all the same: read again what is there */
        tp_state_vector_finish(&session->buried);
        tp_session_set_name_record(session, (struct tp_slice){0});
        tp_opening_fail(session);
        tp_session_doom(session, TP_CLOSE_RESTARTING, true);
    }
    finish(session, status, out);
    tp_buffer_finish(&burial->rows);
    tp_session_give(session, burial, sizeof *burial);
}

void tp_burial_want(struct tp_session *session, struct tp_effects *out)
{
    if (session->deletion == DELETION_NONE)
        session->deletion = DELETION_WANTED;
    if (session->stage == STAGE_REFUSED && session->now_ns >= session->retry_ns)
        session->stage = STAGE_NEW;
    if (session->stage == STAGE_NEW)
        tp_opening_start(session, out);
}

/* Tells who stays connected; each is one effect. */
static bool mourn(struct tp_session *session, struct tp_effects *out)
{
    TP_LIST_EACH(link, &session->peers)
    {
        struct tp_peer *peer = TP_CONTAINER(link, struct tp_peer, link);
        if (peer->dialect != TP_DIALECT_TELEPORTAL || !peer->stale || peer->told_denied)
            continue;
        if (!tp_session_has_room(out, 1))
            return false;
        tp_replies_deny(session, peer, session->was_encrypted, DELETED, out);
    }
    session->mourning = false;
    return true;
}

bool tp_burial_pump(struct tp_session *session, struct tp_effects *out)
{
    if (session->mourning && !mourn(session, out))
        return false;
    if (session->deletion != DELETION_WANTED && session->deletion != DELETION_STORED)
        return true;
    if (!tp_session_has_room(out, 1))
        return false;
    if (session->deletion == DELETION_STORED) {
        if (session->inflight > 0 || session->deed_count > 0)
            return true;
        complete(session, out);
        return false; /* there is somebody to tell */
    }
    if (session->stage == STAGE_REFUSED) {
        finish(session, TP_IO, out);
        return true;
    }
    if (session->stage != STAGE_OPEN || session->inflight > 0 || session->deed_count > 0 ||
        !tp_link_alone(&session->dues))
        return true; /* what is under way comes to its end first */
    if (session->number == 0) {
        finish(session, TP_ABSENT, out);
        return true;
    }
    /* Merged, the state vector is exact, whatever order the updates came in. */
    if (!tp_content_is_empty(session) && !tp_content_folded(session, session->version, out))
        return true;
    submit(session, out);
    return true;
}

/* ---- who is of a deleted epoch ----------------------------------------------------------------*/

void tp_burial_mark(struct tp_peer *peer)
{
    peer->stale = true;
    peer->audience = 0;
}

bool tp_burial_has(const struct tp_session *session, uint64_t client)
{
    return tp_state_vector_get(&session->buried, client) > 0;
}

void tp_burial_refuse(struct tp_session *session, struct tp_peer *peer,
                      const struct tp_message *message, struct tp_effects *out)
{
    if (peer->dialect != TP_DIALECT_TELEPORTAL) {
        tp_session_close(out, peer, TP_CLOSE_STALE_EPOCH);
        return;
    }
    if (!peer->stale)
        peer->told_denied = false;
    tp_burial_mark(peer);
    if (!peer->told_denied || message->kind == TP_MESSAGE_SYNC_STEP_1)
        tp_replies_deny(session, peer, message->encrypted, DELETED, out);
    tp_replies_ack(session, peer, message->id, out);
}

bool tp_burial_asks(struct tp_session *session, struct tp_peer *peer,
                    const struct tp_message *message, struct tp_effects *out)
{
    struct tp_state_vector known = {0};
    bool is_old = false;

    if (session->buried.count == 0 ||
        tp_state_vector_decode(&known, message->state_vector) != TP_OK)
        return false;
    for (uint32_t i = 0; i < known.count; i++)
        is_old |= tp_burial_has(session, known.entries[i].client);
    tp_state_vector_finish(&known);
    if (is_old) {
        tp_burial_refuse(session, peer, message, out);
    } else if (peer->stale) { /* it begins anew, on the same connection */
        peer->stale = peer->told_denied = false;
        peer->audience = tp_session_audience(peer);
    }
    return is_old;
}
