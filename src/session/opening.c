/* From a name to the document's content: names, then base and log, then one computation. */
#include "internal.h"

#define RETRY_NS SECOND_NS /* after a failure the next try waits this long */

static struct tp_store_op *read_op(struct tp_session *session, uint32_t step,
                                   struct tp_effects *out)
{
    struct tp_store_op *op = tp_session_take(session, sizeof *op);

    op->verb = TP_STORE_READ;
    op->step = step;
    op->owner = session;
    tp_link_init(&op->link);
    tp_link_init(&op->inflight);
    session->read = op;
    session->inflight++;
    tp_effect_add(out, (struct tp_effect){.kind = TP_EFFECT_STORE, .store_op = op});
    return op;
}

/* Keys of an operation live in a frame that it holds: it may outlive the event. */
static uint8_t *key_room(struct tp_session *session, struct tp_store_op *op, size_t size)
{
    op->frame = tp_frame_alloc(session->env->pool, size);
    return op->frame->data + TP_FRAME_HEAD_SIZE;
}

static void finish_read(struct tp_session *session)
{
    struct tp_store_op *op = session->read;

    if (op == NULL)
        return;
    session->read = NULL;
    session->inflight--;
    free(op->answer);
    tp_frame_unref(op->frame);
    tp_session_give(session, op, sizeof *op);
}

static void opened(struct tp_session *session)
{
    session->stage = STAGE_OPEN;
    session->changed_ns = session->now_ns;
    session->env->counters->sessions_loading--;
    if (session->number != 0)
        session->news |= 1u << TP_NEWS_LOADED;
}

void tp_opening_fail(struct tp_session *session)
{
    if (session->stage != STAGE_OPEN)
        session->env->counters->sessions_loading--;
    session->env->counters->store_failures++;
    session->stage = STAGE_REFUSED;
    session->retry_ns = session->now_ns + RETRY_NS;
    tp_saving_fail(session);
    tp_session_doom(session, TP_CLOSE_LOAD_FAILED, false);
}

void tp_opening_start(struct tp_session *session, struct tp_effects *out)
{
    const size_t size = session->room.size + 1 + session->document.size;

    session->stage = STAGE_NAMING;
    session->env->counters->sessions_loading++;
    struct tp_store_op *op = read_op(session, STEP_NAMES, out);
    struct tp_buffer key = tp_buffer_fixed(key_room(session, op, size), size);
    const enum tp_status status = tp_record_name_key(session->room, session->document, &key);
    TP_ASSERT(status == TP_OK); /* the shard refuses names that are none */
    op->ranges[0] = (struct tp_store_range){.table = TP_TABLE_NAMES, .from = tp_buffer_slice(&key)};
    op->range_count = 1;
}

static void read_rows(struct tp_session *session, struct tp_effects *out)
{
    struct tp_store_op *op = read_op(session, STEP_ROWS, out);
    uint8_t *keys = key_room(session, op, TP_RECORD_NUMBER_KEY_SIZE + 2 * TP_RECORD_LOG_KEY_SIZE);
    uint8_t *from = keys + TP_RECORD_NUMBER_KEY_SIZE;
    uint8_t *to = from + TP_RECORD_LOG_KEY_SIZE;

    session->stage = STAGE_READING;
    tp_record_number_key(session->number, keys);
    tp_record_log_key(session->number, 0, from);
    tp_record_log_key(session->number, UINT64_MAX, to);
    op->ranges[0] = (struct tp_store_range){.table = TP_TABLE_BASES,
                                            .from = tp_slice_of(keys, TP_RECORD_NUMBER_KEY_SIZE)};
    op->ranges[1] = (struct tp_store_range){.table = TP_TABLE_LOG,
                                            .from = tp_slice_of(from, TP_RECORD_LOG_KEY_SIZE),
                                            .to = tp_slice_of(to, TP_RECORD_LOG_KEY_SIZE)};
    op->range_count = 2;
}

static void named(struct tp_session *session, struct tp_store_op *op, struct tp_effects *out)
{
    struct tp_name_record record = {0};

    if (op->row_count == 0) {
        finish_read(session);
        session->sequence = 1;
        opened(session);
        return;
    }
    if (tp_name_record_decode(op->rows[0].value, &record) != TP_OK) {
        finish_read(session);
        tp_opening_fail(session);
        return;
    }
    const enum tp_status status = tp_state_vector_decode(&session->buried, record.state_vector);
    tp_session_set_name_record(session, op->rows[0].value);
    session->epoch = record.epoch;
    if (record.deleted) {
        session->epoch++;
        finish_read(session);
        session->sequence = 1;
        if (status == TP_OK)
            opened(session);
        else
            tp_opening_fail(session);
        return;
    }
    if (status != TP_OK) {
        finish_read(session);
        tp_opening_fail(session);
        return;
    }
    session->number = record.number;
    if (session->joining_other && session->mode != record.mode) {
        /* Another node's client was first, and decided otherwise. */
        finish_read(session);
        tp_opening_fail(session);
        tp_session_doom(session, TP_CLOSE_RESTARTING, true);
        return;
    }
    session->mode = (uint8_t)record.mode;
    finish_read(session);
    read_rows(session, out);
}

/* What comes after the last log entry, and how long the log is. */
static enum tp_status count_rows(struct tp_session *session, const struct tp_store_op *op)
{
    uint64_t last = 0;

    session->log_count = session->log_size = 0;
    for (size_t i = 0; i < op->row_count; i++) {
        const struct tp_store_row *row = &op->rows[i];
        if (row->table == TP_TABLE_BASES) {
            struct tp_base_record base;
            if (tp_base_record_decode(row->value, &base) != TP_OK)
                return TP_MALFORMED;
            last = base.sequence > last ? base.sequence : last;
            continue;
        }
        struct tp_slice rest = row->value;
        struct tp_log_entry entry;
        enum tp_status status;
        while ((status = tp_log_entry_next(&rest, &entry)) == TP_OK) {
            last = entry.sequence > last ? entry.sequence : last;
            session->log_count++;
        }
        if (status != TP_ABSENT)
            return status;
        session->log_size += row->value.size;
    }
    session->sequence = last + 1;
    return TP_OK;
}

static void rows_read(struct tp_session *session, struct tp_store_op *op, struct tp_effects *out)
{
    if (count_rows(session, op) != TP_OK) {
        finish_read(session);
        tp_opening_fail(session);
        return;
    }
    /* The base first, or nothing in its place. The rows stay, in the answered operation, until the
     * computation is done. */
    const bool has_base = op->row_count > 0 && op->rows[0].table == TP_TABLE_BASES;
    session->load_input_count = op->row_count + !has_base;
    session->load_inputs =
        tp_session_take(session, session->load_input_count * sizeof(struct tp_slice));
    for (size_t i = 0; i < op->row_count; i++)
        session->load_inputs[i + !has_base] = op->rows[i].value;
    session->stage = STAGE_LOADING;
    session->load = tp_session_work(session, TP_WORK_LOAD, STEP_LOAD, out);
    session->load->inputs = session->load_inputs;
    session->load->input_count = session->load_input_count;
    session->load->encrypted = session->mode == TP_MODE_ENCRYPTED;
}

void tp_opening_read(struct tp_session *session, struct tp_store_op *op, struct tp_effects *out)
{
    TP_ASSERT(op == session->read);
    if (op->status != TP_OK) {
        finish_read(session);
        tp_opening_fail(session);
        return;
    }
    if (op->step == STEP_NAMES)
        named(session, op, out);
    else
        rows_read(session, op, out);
}

/* Reopened because another node had created the document: our peers lack what it has stored, and
 * what we have goes beside it. */
static void join_other(struct tp_session *session, const struct tp_work_op *op,
                       struct tp_effects *out)
{
    struct tp_frame *frame = tp_frame_create(session->env->pool, tp_buffer_slice(&op->v1));
    const struct tp_slice v1 = tp_frame_message(frame);

    session->joining_other = false;
    tp_content_add(session, frame, v1, NULL, 0);
    tp_sidecars_join(&session->sidecars, tp_buffer_slice(&op->sidecars));
    if (session->mode == TP_MODE_ENCRYPTED) {
        tp_frame_unref(frame);
        TP_LIST_EACH(link, &session->peers)
        tp_answers_catch_up(session, TP_CONTAINER(link, struct tp_peer, link));
        return;
    }
    struct said *news = tp_session_say(session, TP_MESSAGE_UPDATE);
    news->hold = frame;
    news->message.update.v1 = v1;
    uint32_t audience = TP_AUDIENCE_YWEBSOCKET | TP_AUDIENCE_HOCUSPOCUS;
    if (session->counts[TP_DIALECT_TELEPORTAL] > 0) {
        struct tp_buffer v2 = tp_buffer_growing(UINT32_MAX / 2);
        if (tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2) == TP_OK) {
            struct tp_frame *second = tp_frame_create(session->env->pool, tp_buffer_slice(&v2));
            tp_session_say(session, TP_MESSAGE_PING)->hold = second;
            news->message.update.v2 = tp_frame_message(second);
            audience = TP_AUDIENCE_ALL;
        }
        tp_buffer_finish(&v2);
    }
    tp_session_broadcast(out, NULL, audience, news);
}

void tp_opening_loaded(struct tp_session *session, struct tp_work_op *op, struct tp_effects *out)
{
    struct tp_state_vector known = {0};
    enum tp_status status = op->status;
    const bool has_rows = session->read->row_count > 0;

    TP_ASSERT(op == session->load);
    if (status == TP_OK)
        status = tp_state_vector_decode(&known, tp_buffer_slice(&op->sv));
    tp_session_give(session, session->load_inputs,
                    session->load_input_count * sizeof(struct tp_slice));
    session->load_inputs = NULL;
    session->load = NULL;
    finish_read(session);
    if (status != TP_OK) {
        tp_state_vector_finish(&known);
        tp_opening_fail(session);
    } else if (session->joining_other) {
        tp_checkpoint_before(session, 0); /* the peers are still to be told of it */
        for (uint32_t i = 0; i < known.count; i++)
            tp_state_vector_raise(&session->state_vector, known.entries[i].client,
                                  known.entries[i].clock);
        tp_state_vector_finish(&known);
        opened(session);
        if (has_rows)
            join_other(session, op, out);
    } else {
        tp_checkpoint_finish(session);
        tp_state_vector_finish(&session->state_vector);
        session->state_vector = known;
        tp_blob_unref(session->merged);
        session->merged = !has_rows ? NULL : tp_blob_create(&op->v1);
        session->merged_version = session->version;
        tp_buffer_finish(&session->sidecars);
        session->sidecars = op->sidecars;
        op->sidecars = (struct tp_buffer){0};
        opened(session);
    }
    tp_session_work_free(session, op);
}

void tp_opening_finish(struct tp_session *session)
{
    TP_ASSERT(session->read == NULL && session->load == NULL);
    tp_buffer_finish(&session->name_record);
    tp_state_vector_finish(&session->buried);
}
