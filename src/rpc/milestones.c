/* Milestones: states of the document that people have named, or that were kept by themselves (spec
 * 03 section 4, 02 section 13).
 *
 *     number, 00, nth -> mode, size of the snapshot, meta (wire/milestone.h)
 *     number, 01, nth -> the snapshot: plain documents a V2 update, encrypted ones a container
 *
 * nth grows by one from milestone to milestone: rows lie in the order of creation. A list is the
 * metas alone, however large the snapshots are. */
#include <stdio.h>

#include "rpc/methods.h"
#include "rpc/milestones.h"
#include "wire/milestone.h"

#define KEY_SIZE TP_MILESTONE_KEY_SIZE
#define KIND_META 0u
#define KIND_SNAPSHOT 1u
#define ID_SIZE_MAX 256u
#define NAME_SIZE_MAX 1024u
#define TRY_COUNT_MAX 3u

struct entry {
    uint64_t nth;
    uint8_t mode; /* enum tp_record_mode: what the snapshot is */
    uint64_t snapshot_size;
    struct tp_milestone meta; /* borrows from the row */
    struct tp_slice key, value;
};

void tp_rpc_milestone_free(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;

    (void)rpc;
    (void)out;
    if (state == NULL) /* it never began */
        return;
    tp_buffer_finish(&state->value);
    tp_buffer_finish(&state->made);
    tp_session_content_drop(&state->content);
}

struct tp_milestone_state *tp_rpc_milestone_begin(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_milestone_state *state = tp_rpc_take(rpc, call, sizeof *state);

    call->state = state;
    call->finish = tp_rpc_milestone_free;
    return state;
}

static struct tp_slice make_key(uint8_t out[KEY_SIZE], uint64_t number, uint8_t kind, uint64_t nth)
{
    tp_record_number_key(number, out);
    out[8] = kind;
    tp_record_number_key(nth, out + 9);
    return tp_slice_of(out, KEY_SIZE);
}

/* ---- rows ---------------------------------------------------------------------------------------
 */

static bool read_entry(const struct tp_store_row *row, struct entry *out)
{
    struct tp_reader in = tp_reader_of(row->value);

    in.bad |= tp_read_u8(&in) != TP_RECORD_MILESTONE;
    const uint8_t mode = tp_read_u8(&in);
    const uint64_t snapshot_size = tp_read_varuint(&in);
    struct tp_slice rest = tp_slice_of(in.at, tp_reader_left(&in));
    if (in.bad || row->key.size != KEY_SIZE)
        return false;
    *out = (struct entry){
        .mode = mode, .snapshot_size = snapshot_size, .key = row->key, .value = row->value};
    struct tp_reader key = tp_reader_of(tp_slice_of(row->key.data + 9, 8));
    out->nth = tp_read_big_endian(&key, 8);
    return tp_milestone_next(&rest, &out->meta) == TP_OK && rest.size == 0;
}

static void write_entry(struct tp_buffer *out, uint8_t mode, uint64_t snapshot_size,
                        const struct tp_milestone *meta)
{
    tp_buffer_finish(out);
    *out = tp_buffer_growing(UINT32_MAX);
    tp_write_u8(out, TP_RECORD_MILESTONE);
    tp_write_u8(out, mode);
    tp_write_varuint(out, snapshot_size);
    tp_milestone_encode(meta, out);
}

static bool find(const struct tp_rpc_call *call, struct tp_slice id, struct entry *out)
{
    for (size_t i = 0; i < call->row_count; i++)
        if (read_entry(&call->rows[i], out) && tp_slice_equal(out->meta.id, id))
            return true;
    return false;
}

/* Reads all metas. A document of which nothing is stored has none. */
static void read_metas(struct tp_rpc *rpc, struct tp_rpc_call *call, tp_rpc_step *next,
                       struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;
    const uint64_t number = tp_session_facts(rpc->session).number;

    call->op.ranges[0] =
        (struct tp_store_range){.table = TP_TABLE_MILESTONES,
                                .from = make_key(state->keys[0], number, KIND_META, 0),
                                .to = make_key(state->keys[1], number, KIND_META, UINT64_MAX)};
    call->op.range_count = 1;
    tp_rpc_read(rpc, call, next, out);
}

static void not_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;

    tp_rpc_fail_with(rpc, call, 404, "Milestone not found", "milestoneId", state->id, out);
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static void write_text(struct tp_buffer *out, const char *name, struct tp_slice text)
{
    tp_write_bytes(out, tp_slice_of(name, strlen(name)));
    tp_any_write_string(out, text);
}

static void write_time(struct tp_buffer *out, const char *name, double ms)
{
    tp_write_bytes(out, tp_slice_of(name, strlen(name)));
    tp_any_write_number(out, ms);
}

/* `is_full`: with what there is of its life. */
static void write_meta(struct tp_buffer *out, const struct tp_milestone *meta, bool is_full)
{
    const uint8_t fields = is_full ? meta->fields : 0;
    const uint8_t shown = TP_MILESTONE_DELETED_AT | TP_MILESTONE_STATE | TP_MILESTONE_EXPIRES;

    tp_any_write_object(out, 5 + (uint64_t)__builtin_popcount(fields & shown));
    write_text(out, "id", meta->id);
    write_text(out, "name", meta->name);
    write_text(out, "documentId", meta->document_id);
    write_time(out, "createdAt", meta->created_ms);
    if (fields & TP_MILESTONE_DELETED_AT)
        write_time(out, "deletedAt", meta->deleted_ms);
    if (fields & TP_MILESTONE_STATE)
        write_text(out, "lifecycleState", meta->state);
    if (fields & TP_MILESTONE_EXPIRES)
        write_time(out, "expiresAt", meta->expires_ms);
    tp_write_bytes(out, TP_SLICE("createdBy"));
    tp_any_write_object(out, 2);
    write_text(out, "type", meta->by_user ? TP_SLICE("user") : TP_SLICE("system"));
    write_text(out, "id", meta->creator);
}

static void reply_meta(struct tp_rpc *rpc, struct tp_rpc_call *call,
                       const struct tp_milestone *meta, bool is_full, struct tp_effects *out)
{
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);

    tp_any_write_object(&payload, 1);
    tp_write_bytes(&payload, TP_SLICE("milestone"));
    write_meta(&payload, meta, is_full);
    tp_rpc_reply(rpc, call, &payload, out);
}

/* ---- list ---------------------------------------------------------------------------------------
 */

static void list_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX), items = tp_buffer_growing(UINT32_MAX);
    uint64_t count = 0;

    if (tp_rpc_broken(rpc, call, out))
        return;
    for (size_t i = 0; i < call->row_count; i++) {
        struct entry entry;
        if (!read_entry(&call->rows[i], &entry) ||
            (tp_milestone_is_deleted(&entry.meta) && !state->include_deleted))
            continue;
        write_meta(&items, &entry.meta, true);
        count++;
    }
    tp_any_write_object(&payload, 1);
    tp_write_bytes(&payload, TP_SLICE("milestones"));
    tp_any_write_array(&payload, count);
    tp_write_raw(&payload, tp_buffer_slice(&items));
    tp_buffer_finish(&items);
    tp_rpc_reply(rpc, call, &payload, out);
}

void tp_rpc_milestone_list(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = tp_rpc_milestone_begin(rpc, call);
    struct tp_rpc_args args;
    uint64_t count = 0;

    tp_rpc_args_read(&args, call->request.rpc.payload);
    if (tp_rpc_has(&args, "snapshotIds")) { /* nobody looks at them, but they are what they are */
        struct tp_reader in = tp_rpc_array(&args, "snapshotIds", UINT32_MAX, &count);
        while (count-- > 0)
            tp_rpc_array_text(&args, "snapshotIds", &in, SIZE_MAX);
    }
    state->include_deleted =
        tp_rpc_has(&args, "includeDeleted") && tp_rpc_flag(&args, "includeDeleted");
    if (!tp_rpc_refused(rpc, call, &args, out))
        read_metas(rpc, call, list_read, out);
}

/* ---- get ----------------------------------------------------------------------------------------
 */

static void snapshot_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (call->row_count == 0) { /* deleted for good meanwhile */
        not_found(rpc, call, out);
        return;
    }
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
    tp_buffer_reserve(&payload, call->rows[0].value.size + state->id.size + 64);
    tp_any_write_object(&payload, 2);
    write_text(&payload, "milestoneId", state->id);
    tp_write_bytes(&payload, TP_SLICE("snapshot"));
    tp_any_write_bytes(&payload, call->rows[0].value);
    tp_rpc_reply(rpc, call, &payload, out);
}

static void get_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;
    struct entry entry;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (!find(call, state->id, &entry) || tp_milestone_is_deleted(&entry.meta)) {
        not_found(rpc, call, out);
        return;
    }
    call->encrypted = entry.mode == TP_MODE_ENCRYPTED; /* whether the snapshot is */
    call->op.ranges[0] = (struct tp_store_range){
        .table = TP_TABLE_MILESTONES,
        .from = make_key(state->keys[0], tp_session_facts(rpc->session).number, KIND_SNAPSHOT,
                         entry.nth)};
    call->op.range_count = 1;
    tp_rpc_read(rpc, call, snapshot_read, out);
}

/* The methods that are about one milestone; false: refused. */
static bool read_id(struct tp_rpc *rpc, struct tp_rpc_call *call, bool with_name,
                    struct tp_effects *out)
{
    struct tp_milestone_state *state = tp_rpc_milestone_begin(rpc, call);
    struct tp_rpc_args args;

    tp_rpc_args_read(&args, call->request.rpc.payload);
    state->id = tp_rpc_text(&args, "milestoneId", ID_SIZE_MAX);
    if (with_name)
        state->name = tp_rpc_text(&args, "name", NAME_SIZE_MAX);
    return !tp_rpc_refused(rpc, call, &args, out);
}

void tp_rpc_milestone_get(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (read_id(rpc, call, false, out))
        read_metas(rpc, call, get_found, out);
}

/* ---- create -------------------------------------------------------------------------------------
 */

/* What is there already. */
struct census {
    uint64_t next; /* nth of the next one */
    uint32_t count, live_count;
    uint64_t size;
    bool has_automatic;
    struct entry oldest_automatic;
};

static struct census take_census(const struct tp_rpc_call *call)
{
    struct census census = {.next = 1};

    for (size_t i = 0; i < call->row_count; i++) {
        struct entry entry;
        if (!read_entry(&call->rows[i], &entry))
            continue;
        census.next = entry.nth + 1;
        census.count++;
        census.live_count += !tp_milestone_is_deleted(&entry.meta);
        census.size += entry.snapshot_size;
        if (!entry.meta.by_user && !census.has_automatic &&
            tp_slice_equal(entry.meta.creator, TP_SLICE("auto"))) {
            census.has_automatic = true;
            census.oldest_automatic = entry;
        }
    }
    return census;
}

static struct tp_store_part part(enum tp_store_part_kind kind, struct tp_slice key,
                                 struct tp_slice value)
{
    return (struct tp_store_part){
        .kind = kind, .table = TP_TABLE_MILESTONES, .key = key, .value = value};
}

static void create_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);

static struct tp_milestone new_meta(struct tp_rpc *rpc, struct tp_rpc_call *call,
                                    const struct census *census)
{
    struct tp_milestone_state *state = call->state;
    const struct tp_slice room = tp_session_room(rpc->session),
                          document = tp_session_document(rpc->session);
    struct tp_milestone meta = {
        .name = state->name, .created_ms = (double)rpc->wall_ms, .by_user = call->user.size > 0};

    if (state->name.data == NULL) {
        char *name = tp_rpc_take(rpc, call, 32);
        const int size = state->is_automatic
                             ? snprintf(name, 32, "Milestone %u", census->live_count + 1)
                             : snprintf(name, 32, "Version %u", census->count + 1);
        meta.name = tp_slice_of(name, (size_t)size);
    }
    meta.creator = meta.by_user ? call->user : TP_SLICE("system");
    if (state->is_automatic)
        meta.creator = TP_SLICE("auto");
    uint64_t random[2];
    tp_random_secret(random, sizeof random);
    tp_uuid_format((const uint8_t *)random, state->new_id);
    meta.id = tp_slice_of(state->new_id, TP_UUID_SIZE);
    struct tp_buffer id = tp_buffer_fixed(tp_rpc_take(rpc, call, room.size + document.size + 1),
                                          room.size + document.size + 1);
    if (room.size > 0) {
        tp_write_raw(&id, room);
        tp_write_u8(&id, '/');
    }
    tp_write_raw(&id, document);
    meta.document_id = tp_buffer_slice(&id);
    return meta;
}

static void created(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;
    struct entry entry;
    const struct tp_store_row row = {.key = tp_slice_of(state->keys[0], KEY_SIZE),
                                     .value = tp_buffer_slice(&state->value)};

    if (call->status == TP_DENIED && call->tries++ < TRY_COUNT_MAX) {
        tp_rpc_drop_rows(call);
        read_metas(rpc, call, create_read, out);
        return;
    }
    if (tp_rpc_broken(rpc, call, out))
        return;
    rpc->env->counters->milestones_created++;
    TP_ASSERT(read_entry(&row, &entry));
    reply_meta(rpc, call, &entry.meta, false, out);
}

/* Named limits of a document. An automatic one makes room by dropping the oldest of its kind. */
static const char *no_room(const struct tp_rpc *rpc, struct census *census,
                           struct tp_milestone_state *state, bool *drops)
{
    const struct tp_rpc_limits *limits = rpc->env->limits;

    *drops = false;
    if (state->is_automatic && census->has_automatic &&
        (census->count >= limits->milestone_count_max ||
         census->size + state->snapshot.size > limits->milestone_size_max)) {
        *drops = true;
        census->count--;
        census->size -= census->oldest_automatic.snapshot_size;
    }
    if (census->count >= limits->milestone_count_max)
        return "This document has as many milestones as it may have";
    if (census->size + state->snapshot.size > limits->milestone_size_max)
        return "The milestones of this document take as much room as they may";
    return NULL;
}

static void create_read(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;
    const struct tp_session_facts facts = tp_session_facts(rpc->session);
    bool drops;

    if (tp_rpc_broken(rpc, call, out))
        return;
    struct census census = take_census(call);
    const struct tp_milestone meta = new_meta(rpc, call, &census);
    const char *why = no_room(rpc, &census, state, &drops);
    if (why != NULL) {
        tp_rpc_fail(rpc, call, 413, why, out);
        return;
    }

    const struct tp_slice key = make_key(state->keys[0], facts.number, KIND_META, census.next);
    write_entry(&state->value, facts.mode, state->snapshot.size, &meta);
    struct tp_store_op *op = &call->op;
    op->parts[0] = part(TP_PART_EXPECT_ABSENT, key, (struct tp_slice){0});
    op->parts[1] = part(TP_PART_PUT, key, tp_buffer_slice(&state->value));
    op->parts[2] =
        part(TP_PART_PUT, make_key(state->keys[1], facts.number, KIND_SNAPSHOT, census.next),
             state->snapshot);
    op->part_count = 3;
    if (drops) {
        const uint64_t nth = census.oldest_automatic.nth;
        op->parts[3] = part(TP_PART_DELETE, make_key(state->keys[2], facts.number, KIND_META, nth),
                            (struct tp_slice){0});
        op->parts[4] =
            part(TP_PART_DELETE, make_key(state->keys[3], facts.number, KIND_SNAPSHOT, nth),
                 (struct tp_slice){0});
        op->part_count = 5;
    }
    tp_rpc_write(rpc, call, created, out);
}

/* Milestones are kept by the document's number, which the first update gives it. */
static bool is_empty(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (tp_session_facts(rpc->session).number != 0)
        return false;
    tp_rpc_fail(rpc, call, 409, "The document is empty", out);
    return true;
}

void tp_rpc_milestone_keep(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (!is_empty(rpc, call, out))
        read_metas(rpc, call, create_read, out);
}

static void checked(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->status != TP_OK) {
        tp_rpc_fail(rpc, call, 400, "Invalid request: snapshot is no update", out);
        return;
    }
    tp_rpc_milestone_keep(rpc, call, out);
}

void tp_rpc_milestone_create(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_rpc_args args;

    if (tp_rpc_awaits_document(rpc, call, tp_rpc_milestone_create))
        return;
    struct tp_milestone_state *state = tp_rpc_milestone_begin(rpc, call);
    const struct tp_session_facts facts = tp_session_facts(rpc->session);
    tp_rpc_args_read(&args, call->request.rpc.payload);
    if (tp_rpc_has(&args, "name"))
        state->name = tp_rpc_text(&args, "name", NAME_SIZE_MAX);
    state->snapshot =
        tp_rpc_bytes(&args, "snapshot", tp_min(rpc->env->limits->milestone_size_max, SIZE_MAX));
    state->container.v2 = state->snapshot;
    if (facts.mode == TP_MODE_ENCRYPTED && args.wrong[0] == 0 &&
        tp_container_decode(state->snapshot, &state->container) != TP_OK)
        tp_rpc_wrong(&args, "snapshot", "is no container, and the document is encrypted");
    if (tp_rpc_refused(rpc, call, &args, out))
        return;
    if (is_empty(rpc, call, out))
        return;
    call->work.inputs = &state->container.v2;
    call->work.input_count = 1;
    call->work.encoding = 2;
    tp_rpc_work(rpc, call, TP_WORK_VALIDATE, checked, out);
}

/* ---- rename, delete, restore --------------------------------------------------------------------
 */

static void replaced(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);

/* Writes `meta` in place of what was read. */
static void replace(struct tp_rpc *rpc, struct tp_rpc_call *call, const struct entry *entry,
                    const struct tp_milestone *meta, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;

    write_entry(&state->value, entry->mode, entry->snapshot_size, meta);
    call->op.parts[0] = part(TP_PART_EXPECT_VALUE, entry->key, entry->value);
    call->op.parts[1] = part(TP_PART_PUT, entry->key, tp_buffer_slice(&state->value));
    call->op.part_count = 2;
    tp_rpc_write(rpc, call, replaced, out);
}

static void reply_id(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);

    tp_any_write_object(&payload, 1);
    write_text(&payload, "milestoneId", state->id);
    tp_rpc_reply(rpc, call, &payload, out);
}

static void removed(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->status == TP_DENIED && call->tries++ < TRY_COUNT_MAX) {
        tp_rpc_drop_rows(call);
        read_metas(rpc, call, call->again, out);
        return;
    }
    if (!tp_rpc_broken(rpc, call, out))
        reply_id(rpc, call, out);
}

static void replaced(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;
    struct tp_reader in = tp_reader_of(tp_buffer_slice(&state->value));
    struct tp_milestone meta;

    if (call->status == TP_DENIED && call->tries++ < TRY_COUNT_MAX) {
        tp_rpc_drop_rows(call);
        read_metas(rpc, call, call->again, out);
        return;
    }
    if (tp_rpc_broken(rpc, call, out))
        return;
    (void)tp_read_u8(&in);
    (void)tp_read_u8(&in);
    (void)tp_read_varuint(&in);
    struct tp_slice rest = tp_slice_of(in.at, tp_reader_left(&in));
    TP_ASSERT(tp_milestone_next(&rest, &meta) == TP_OK);
    if (tp_milestone_is_deleted(&meta) && state->name.data == NULL)
        reply_id(rpc, call, out);
    else
        reply_meta(rpc, call, &meta, state->name.data == NULL, out);
}

static void rename_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;
    struct entry entry;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (!find(call, state->id, &entry)) {
        not_found(rpc, call, out);
        return;
    }
    struct tp_milestone meta = entry.meta;
    meta.name = state->name;
    replace(rpc, call, &entry, &meta, out);
}

void tp_rpc_milestone_update_name(struct tp_rpc *rpc, struct tp_rpc_call *call,
                                  struct tp_effects *out)
{
    call->again = rename_found;
    if (read_id(rpc, call, true, out))
        read_metas(rpc, call, rename_found, out);
}

/* The first time it can be restored, the second time it is gone. */
static void delete_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_milestone_state *state = call->state;
    struct entry entry;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (!find(call, state->id, &entry)) {
        reply_id(rpc, call, out);
        return;
    }
    if (tp_milestone_is_deleted(&entry.meta)) {
        const uint64_t number = tp_session_facts(rpc->session).number;
        call->op.parts[0] = part(TP_PART_EXPECT_VALUE, entry.key, entry.value);
        call->op.parts[1] = part(TP_PART_DELETE, entry.key, (struct tp_slice){0});
        call->op.parts[2] =
            part(TP_PART_DELETE, make_key(state->keys[0], number, KIND_SNAPSHOT, entry.nth),
                 (struct tp_slice){0});
        call->op.part_count = 3;
        tp_rpc_write(rpc, call, removed, out);
        return;
    }
    struct tp_milestone meta = entry.meta;
    meta.fields |= TP_MILESTONE_STATE | TP_MILESTONE_DELETED_AT;
    meta.state = TP_SLICE("deleted");
    meta.deleted_ms = (double)rpc->wall_ms;
    meta.fields &= (uint8_t)~TP_MILESTONE_DELETED_BY;
    if (call->user.size > 0)
        meta.fields |= TP_MILESTONE_DELETED_BY;
    meta.deleted_by = call->user;
    replace(rpc, call, &entry, &meta, out);
}

void tp_rpc_milestone_delete(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    call->again = delete_found;
    if (read_id(rpc, call, false, out))
        read_metas(rpc, call, delete_found, out);
}

static void restore_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_milestone_state *state = call->state;
    struct entry entry;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (!find(call, state->id, &entry)) {
        not_found(rpc, call, out);
        return;
    }
    if (!tp_milestone_is_deleted(&entry.meta)) {
        reply_meta(rpc, call, &entry.meta, true, out);
        return;
    }
    struct tp_milestone meta = entry.meta;
    meta.state = TP_SLICE("active");
    meta.fields &= (uint8_t) ~(TP_MILESTONE_DELETED_AT | TP_MILESTONE_DELETED_BY);
    replace(rpc, call, &entry, &meta, out);
}

void tp_rpc_milestone_restore(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    call->again = restore_found;
    if (read_id(rpc, call, false, out))
        read_metas(rpc, call, restore_found, out);
}
