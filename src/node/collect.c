#include "node/collect.h"

#include <stdlib.h>

#include "wire/record.h"

#define ORDER_KEY UINT64_C(0x636f6c6c656374) /* of the jobs; as good as any */

static void add(struct tp_store_op *write, enum tp_store_part_kind kind, enum tp_store_table table,
                struct tp_slice key, struct tp_slice value)
{
    TP_ASSERT(write->part_count < TP_STORE_PART_COUNT_MAX);
    write->parts[write->part_count++] =
        (struct tp_store_part){.kind = kind, .table = table, .key = key, .value = value};
}

static enum tp_status run(struct tp_collect *collect, struct tp_store_op *op)
{
    tp_link_init(&op->link);
    collect->backend->run(collect->store, op);
    return op->status;
}

/* Takes away a row, which must still be as it was read, and leaves its chunks as garbage. */
static enum tp_status discard(struct tp_collect *collect, const struct tp_store_row *row,
                              uint64_t number, uint32_t chunk_count)
{
    struct tp_store_op write = {.verb = TP_STORE_WRITE};
    uint8_t key[TP_GARBAGE_KEY_SIZE], room[16];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);

    tp_garbage_key(number, key);
    tp_garbage_record_encode(chunk_count, &value);
    add(&write, TP_PART_EXPECT_VALUE, row->table, row->key, row->value);
    add(&write, TP_PART_DELETE, row->table, row->key, (struct tp_slice){0});
    add(&write, TP_PART_PUT, TP_TABLE_UPLOADS, tp_slice_of(key, sizeof key),
        tp_buffer_slice(&value));
    return run(collect, &write);
}

/* ---- uploads ------------------------------------------------------------------------------------
 */

/* When the last chunk of the upload came. Leaves of another form are not ours: as if just now. */
static enum tp_status last_stored(struct tp_collect *collect, uint64_t number, uint64_t *stored_ms)
{
    struct tp_store_op read = {.verb = TP_STORE_READ, .range_count = 1};
    uint8_t from[TP_CHUNK_KEY_SIZE], to[TP_CHUNK_KEY_SIZE];

    tp_leaf_key(number, 0, from);
    tp_leaf_key(number, UINT32_MAX, to);
    read.ranges[0] = (struct tp_store_range){.table = TP_TABLE_UPLOADS,
                                             .from = tp_slice_of(from, sizeof from),
                                             .to = tp_slice_of(to, sizeof to)};
    const enum tp_status status = run(collect, &read);
    for (size_t nth = 0; status == TP_OK && nth < read.row_count; nth++) {
        struct tp_leaf_record leaf;
        if (tp_leaf_record_decode(read.rows[nth].value, &leaf) == TP_OK)
            *stored_ms = tp_max(*stored_ms, leaf.stored_ms);
        else
            *stored_ms = UINT64_MAX;
    }
    tp_store_op_finish(&read);
    return status;
}

static bool is_expired(const struct tp_collect *collect, uint64_t touched_ms, uint64_t now_ms)
{
    return touched_ms <= now_ms && now_ms - touched_ms >= collect->expiry_ms;
}

static void look_at_upload(struct tp_collect *collect, const struct tp_store_row *row)
{
    const uint64_t now_ms = collect->wall_ms();
    struct tp_upload_record upload;

    if (tp_upload_record_decode(row->value, &upload) != TP_OK)
        return; /* damaged: left for those who can look at it */
    uint64_t touched_ms = upload.begun_ms;
    if (!is_expired(collect, touched_ms, now_ms) ||
        last_stored(collect, upload.number, &touched_ms) != TP_OK ||
        !is_expired(collect, touched_ms, now_ms))
        return;
    if (discard(collect, row, upload.number, tp_file_chunk_count(&upload.shape)) == TP_OK)
        atomic_fetch_add(&collect->expired_count, 1);
}

/* ---- files --------------------------------------------------------------------------------------
 */

/* True if the document has been deleted since it was of this epoch. */
static bool is_dead(struct tp_collect *collect, struct tp_slice name, uint64_t epoch)
{
    struct tp_store_op read = {.verb = TP_STORE_READ, .range_count = 1};
    struct tp_name_record record;
    bool dead = false;

    read.ranges[0] = (struct tp_store_range){.table = TP_TABLE_NAMES, .from = name};
    if (run(collect, &read) == TP_OK && read.row_count == 1 &&
        tp_name_record_decode(read.rows[0].value, &record) == TP_OK)
        dead = record.epoch > epoch || (record.deleted && record.epoch == epoch);
    tp_store_op_finish(&read);
    return dead;
}

/* False: somebody has renewed it meanwhile, or the store failed. */
static bool drop_reference(struct tp_collect *collect, const struct tp_store_row *row,
                           const uint8_t *file, struct tp_slice name)
{
    struct tp_store_op write = {.verb = TP_STORE_WRITE};
    uint8_t listed[TP_FILE_LINK_KEY_SIZE_MAX];

    add(&write, TP_PART_EXPECT_VALUE, TP_TABLE_FILES, row->key, row->value);
    add(&write, TP_PART_DELETE, TP_TABLE_FILES, row->key, (struct tp_slice){0});
    add(&write, TP_PART_DELETE, TP_TABLE_FILES, tp_listed_key(name, file, listed),
        (struct tp_slice){0});
    if (run(collect, &write) != TP_OK)
        return false;
    atomic_fetch_add(&collect->reference_count, 1);
    return true;
}

/* Drops what is dead. True: nothing is left, and nobody was missed. */
static bool is_unreferenced(struct tp_collect *collect, const uint8_t *file)
{
    struct tp_store_op read = {.verb = TP_STORE_READ, .range_count = 1};
    uint8_t from[TP_MANIFEST_KEY_SIZE], to[TP_MANIFEST_KEY_SIZE];
    bool none = true;

    /* Up to the next that is not like the manifest's key with a name behind it. */
    tp_manifest_key(file, from);
    from[0] = TP_KEY_REFERENCE;
    memcpy(to, from, sizeof from);
    for (size_t at = sizeof to; ++to[at - 1] == 0;)
        at--;
    read.ranges[0] = (struct tp_store_range){.table = TP_TABLE_FILES,
                                             .from = tp_slice_of(from, sizeof from),
                                             .to = tp_slice_of(to, sizeof to),
                                             .row_count_max = TP_COLLECT_REFERENCE_COUNT_MAX};
    if (run(collect, &read) != TP_OK || read.row_count == TP_COLLECT_REFERENCE_COUNT_MAX)
        none = false;
    for (size_t nth = 0; read.status == TP_OK && nth < read.row_count; nth++) {
        const struct tp_store_row *row = &read.rows[nth];
        struct tp_slice name;
        const uint8_t *id;
        uint64_t epoch;

        if (tp_reference_key_decode(row->key, &id, &name) != TP_OK ||
            tp_reference_record_decode(row->value, &epoch) != TP_OK ||
            !is_dead(collect, name, epoch) || !drop_reference(collect, row, id, name))
            none = false;
    }
    tp_store_op_finish(&read);
    return none;
}

static void look_at_file(struct tp_collect *collect, const struct tp_store_row *row)
{
    struct tp_manifest_record manifest;
    const uint8_t *file;

    if (tp_manifest_key_decode(row->key, &file) != TP_OK ||
        tp_manifest_record_decode(row->value, &manifest) != TP_OK)
        return;
    if (is_unreferenced(collect, file) &&
        discard(collect, row, manifest.number, manifest.chunk_count) == TP_OK)
        atomic_fetch_add(&collect->file_count, 1);
}

/* ---- garbage ------------------------------------------------------------------------------------
 */

static enum tp_status delete_chunks(struct tp_collect *collect, uint64_t number, uint32_t from,
                                    uint32_t to)
{
    struct tp_store_part parts[2 * TP_COLLECT_DELETE_COUNT_MAX];
    uint8_t keys[2 * TP_COLLECT_DELETE_COUNT_MAX][TP_CHUNK_KEY_SIZE];
    size_t count = 0;

    for (uint32_t index = from; index < to; index++) {
        tp_chunk_key(number, index, keys[count]);
        parts[count] = (struct tp_store_part){.kind = TP_PART_DELETE, .table = TP_TABLE_FILES};
        count++;
        tp_leaf_key(number, index, keys[count]);
        parts[count] = (struct tp_store_part){.kind = TP_PART_DELETE, .table = TP_TABLE_UPLOADS};
        count++;
    }
    for (size_t nth = 0; nth < count; nth++)
        parts[nth].key = tp_slice_of(keys[nth], TP_CHUNK_KEY_SIZE);
    struct tp_store_op write = {
        .verb = TP_STORE_WRITE, .more_parts = parts, .more_part_count = count};
    return run(collect, &write);
}

static void look_at_garbage(struct tp_collect *collect, const struct tp_store_row *row)
{
    struct tp_store_op write = {.verb = TP_STORE_WRITE};
    uint32_t chunk_count;
    uint64_t number;

    if (tp_garbage_key_decode(row->key, &number) != TP_OK ||
        tp_garbage_record_decode(row->value, &chunk_count) != TP_OK)
        return;
    for (uint32_t from = 0; from < chunk_count; from += TP_COLLECT_DELETE_COUNT_MAX) {
        const uint32_t to = (uint32_t)tp_min(chunk_count, from + TP_COLLECT_DELETE_COUNT_MAX);
        if (delete_chunks(collect, number, from, to) != TP_OK)
            return; /* the next sweep begins again */
        atomic_fetch_add(&collect->chunk_count, to - from);
    }
    add(&write, TP_PART_DELETE, row->table, row->key, (struct tp_slice){0});
    (void)run(collect, &write);
}

/* ---- steps --------------------------------------------------------------------------------------
 */

static const struct {
    enum tp_store_table table;
    uint8_t kind; /* the first byte of the keys */
    void (*look)(struct tp_collect *collect, const struct tp_store_row *row);
} stages[TP_COLLECT_STAGE_COUNT] = {
    [TP_COLLECT_UPLOADS] = {TP_TABLE_UPLOADS, TP_KEY_UPLOAD, look_at_upload},
    [TP_COLLECT_FILES] = {TP_TABLE_FILES, TP_KEY_MANIFEST, look_at_file},
    [TP_COLLECT_GARBAGE] = {TP_TABLE_UPLOADS, TP_KEY_GARBAGE, look_at_garbage},
};

static void next_behind(struct tp_collect *collect, struct tp_slice key)
{
    TP_ASSERT(key.size < sizeof collect->cursor);
    memcpy(collect->cursor, key.data, key.size);
    collect->cursor[key.size] = 0;
    collect->cursor_size = key.size + 1;
}

bool tp_collect_step(struct tp_collect *collect)
{
    const enum tp_collect_stage stage = collect->stage;
    const uint8_t first = stages[stage].kind, end = (uint8_t)(first + 1);
    struct tp_store_op read = {.verb = TP_STORE_READ, .range_count = 1};
    bool is_last = false;

    read.ranges[0] = (struct tp_store_range){
        .table = stages[stage].table,
        .from = collect->cursor_size > 0 ? tp_slice_of(collect->cursor, collect->cursor_size)
                                         : tp_slice_of(&first, 1),
        .to = tp_slice_of(&end, 1),
        .row_count_max = TP_COLLECT_ROW_COUNT_MAX};
    if (run(collect, &read) != TP_OK)
        return false; /* the next step tries the same again */
    for (size_t nth = 0; nth < read.row_count; nth++)
        stages[stage].look(collect, &read.rows[nth]);
    if (read.row_count == TP_COLLECT_ROW_COUNT_MAX) {
        next_behind(collect, read.rows[read.row_count - 1].key);
    } else {
        collect->cursor_size = 0;
        collect->stage = (collect->stage + 1) % TP_COLLECT_STAGE_COUNT;
        is_last = collect->stage == 0;
        atomic_fetch_add(&collect->sweep_count, is_last);
    }
    tp_store_op_finish(&read);
    return is_last;
}

struct job {
    struct tp_work_job job;
    struct tp_collect *collect;
};

static void run_job(struct tp_work_job *base)
{
    struct job *job = TP_CONTAINER(base, struct job, job);

    if (!base->cancelled)
        (void)tp_collect_step(job->collect);
    atomic_store(&job->collect->sweeping, false);
    free(job);
}

void tp_collect_submit(struct tp_collect *collect, struct tp_work_port *port)
{
    if (atomic_exchange(&collect->sweeping, true))
        return;
    struct job *job = malloc(sizeof *job);
    TP_ASSERT(job != NULL);
    *job = (struct job){.job.run = run_job, .collect = collect};
    tp_work_submit_job(port, &job->job, ORDER_KEY);
}
