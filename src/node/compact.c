#include "node/compact.h"

#include <stdlib.h>

#include "crdt/attribution.h"
#include "crdt/sidecars.h"
#include "crdt/update.h"
#include "wire/record.h"

#define OUTPUT_SIZE_MAX ((size_t)4 << 30)
#define ROW_HEAD_SIZE 16u /* bytes of the first row that must still be there when we write */
#define SWEEP_ORDER 0     /* the order key of sweep jobs; no document has this number */

/* ---- reading ----------------------------------------------------------------------------------
 */

struct keys {
    uint8_t number[TP_RECORD_NUMBER_KEY_SIZE];
    uint8_t from[TP_RECORD_LOG_KEY_SIZE], to[TP_RECORD_LOG_KEY_SIZE];
};

static void make_log_range(struct tp_store_range *range, uint8_t *from, uint8_t *to)
{
    *range = (struct tp_store_range){.table = TP_TABLE_LOG,
                                     .from = tp_slice_of(from, TP_RECORD_LOG_KEY_SIZE),
                                     .to = tp_slice_of(to, TP_RECORD_LOG_KEY_SIZE)};
}

static enum tp_status end_behind(struct tp_slice key, uint8_t *to)
{
    uint64_t number, sequence;

    if (tp_record_log_key_decode(key, &number, &sequence) != TP_OK || sequence == UINT64_MAX)
        return TP_MALFORMED;
    tp_record_log_key(number, sequence + 1, to);
    return TP_OK;
}

/* Narrows keys->to so that the rows below it are few and small enough for one pass. TP_ABSENT:
 * there are none, or they are not ours to fold. */
static enum tp_status choose_rows(struct tp_compact *compact, struct keys *keys, bool *is_all)
{
    struct tp_store_op read = {.verb = TP_STORE_READ, .range_count = 1};
    size_t size = 0, count = 0;

    make_log_range(&read.ranges[0], keys->from, keys->to);
    read.ranges[0].without_values = true;
    read.ranges[0].row_count_max = TP_COMPACT_ROW_COUNT_MAX;
    compact->backend->run(compact->store, &read);
    enum tp_status status = read.status;
    if (status == TP_OK) {
        while (count < read.row_count && (count == 0 || size < TP_COMPACT_SIZE_MAX))
            size += read.rows[count++].value.size;
        *is_all = count == read.row_count && read.row_count < TP_COMPACT_ROW_COUNT_MAX;
        if (count == 0)
            status = TP_ABSENT;
        else if (!*is_all)
            status = end_behind(read.rows[count - 1].key, keys->to);
    }
    tp_store_op_finish(&read);
    return status;
}

static enum tp_status read_rows(struct tp_compact *compact, struct keys *keys,
                                struct tp_store_op *read)
{
    *read = (struct tp_store_op){.verb = TP_STORE_READ, .range_count = 4};
    read->ranges[0] = (struct tp_store_range){
        .table = TP_TABLE_BASES, .from = tp_slice_of(keys->number, sizeof keys->number)};
    read->ranges[1] = (struct tp_store_range){
        .table = TP_TABLE_METADATA, .from = tp_slice_of(keys->number, sizeof keys->number)};
    read->ranges[2] = (struct tp_store_range){
        .table = TP_TABLE_ATTRIBUTION, .from = tp_slice_of(keys->number, sizeof keys->number)};
    make_log_range(&read->ranges[3], keys->from, keys->to);
    compact->backend->run(compact->store, read);
    return read->status;
}

/* ---- one pass ---------------------------------------------------------------------------------
 */

/* What was read of one document, and what is made of it. */
struct fold {
    const struct tp_store_row *base, *metadata, *attribution, *rows; /* NULL: there is none */
    size_t row_count;
    struct tp_base_record base_record; /* zero when there is none */
    struct tp_metadata_record metadata_record;
    uint64_t sequence, updated_ms, entry_count; /* of the entries */
    bool is_encrypted;
    struct tp_buffer update, state_vector; /* encrypted: sealed (crdt/sidecars.h) */
    struct tp_buffer attributed;           /* the row to keep; empty: as it is */
};

static enum tp_status read_entries(struct fold *fold)
{
    enum tp_status status = TP_ABSENT;

    for (size_t nth = 0; nth < fold->row_count; nth++) {
        struct tp_slice rest = fold->rows[nth].value;
        struct tp_log_entry entry;

        while ((status = tp_log_entry_next(&rest, &entry)) == TP_OK) {
            fold->sequence = tp_max(fold->sequence, entry.sequence);
            fold->updated_ms = tp_max(fold->updated_ms, entry.wall_ms);
            fold->entry_count++;
            fold->is_encrypted |= entry.encoding == TP_RECORD_CONTAINER;
        }
        if (status != TP_ABSENT)
            return status;
    }
    return TP_OK;
}

static enum tp_status sort_out(struct fold *fold, const struct tp_store_op *read)
{
    enum tp_status status = TP_OK;
    size_t nth = 0;

    if (nth < read->row_count && read->rows[nth].table == TP_TABLE_BASES) {
        fold->base = &read->rows[nth++];
        status = tp_base_record_decode(fold->base->value, &fold->base_record);
        fold->is_encrypted |= fold->base_record.encoding == TP_RECORD_CONTAINER;
    }
    if (status == TP_OK && nth < read->row_count && read->rows[nth].table == TP_TABLE_METADATA) {
        fold->metadata = &read->rows[nth++];
        status = tp_metadata_record_decode(fold->metadata->value, &fold->metadata_record);
    }
    if (nth < read->row_count && read->rows[nth].table == TP_TABLE_ATTRIBUTION)
        fold->attribution = &read->rows[nth++];
    if (status != TP_OK)
        return status;
    fold->rows = read->rows + nth;
    fold->row_count = read->row_count - nth;
    fold->sequence = fold->base_record.sequence;
    fold->updated_ms = fold->metadata_record.updated_ms;
    status = read_entries(fold);
    if (status == TP_OK && fold->row_count == 0)
        status = TP_ABSENT; /* folded or deleted since we looked */
    return status;
}

/* Merges as a session does that loads the document, then drops what nobody needs any more. */
static enum tp_status merge(struct fold *fold, bool keep_deleted)
{
    struct tp_slice *inputs = calloc(fold->row_count + 1, sizeof *inputs);
    struct tp_work_op load = {
        .kind = TP_WORK_LOAD, .inputs = inputs, .encrypted = fold->is_encrypted};

    TP_ASSERT(inputs != NULL);
    if (fold->base != NULL)
        inputs[0] = fold->base->value;
    for (size_t nth = 0; nth < fold->row_count; nth++)
        inputs[nth + 1] = fold->rows[nth].value;
    load.input_count = fold->row_count + 1;
    tp_work_run(&load);
    free(inputs);

    enum tp_status status = load.status;
    fold->update = tp_buffer_growing(OUTPUT_SIZE_MAX);
    if (status == TP_OK && fold->is_encrypted) {
        /* What is deleted is the clients' to judge: we do not know what is whose content. */
        tp_sealed_encode(tp_buffer_slice(&load.v1), tp_buffer_slice(&load.sidecars), &fold->update);
    } else if (status == TP_OK && !keep_deleted) {
        status = tp_update_compact(tp_buffer_slice(&load.v1), TP_UPDATE_V1, &fold->update, NULL);
    } else {
        fold->update = load.v1;
        load.v1 = (struct tp_buffer){0};
    }
    fold->state_vector = load.sv; /* dropping content keeps the clocks */
    load.sv = (struct tp_buffer){0};
    tp_work_op_finish(&load);
    return status;
}

/* Who made what, before anything is collected. A map that has become too large stays as it is. */
static enum tp_status attribute(struct fold *fold)
{
    struct tp_content_map *map = tp_content_map_create();
    enum tp_status status = TP_OK;

    if (fold->attribution != NULL)
        status = tp_attribution_add_kept(map, fold->attribution->value);
    for (size_t nth = 0; nth < fold->row_count && status == TP_OK; nth++)
        status = tp_attribution_add_log(map, fold->rows[nth].value);
    if (status == TP_OK) {
        fold->attributed = tp_buffer_growing(TP_ATTRIBUTION_SIZE_MAX);
        tp_attribution_encode(map, &fold->attributed);
        if (fold->attributed.full)
            tp_buffer_finish(&fold->attributed);
    }
    tp_content_map_destroy(map);
    return status;
}

static void add(struct tp_store_part *parts, size_t *count, enum tp_store_part_kind kind,
                enum tp_store_table table, struct tp_slice key, struct tp_slice value)
{
    parts[(*count)++] =
        (struct tp_store_part){.kind = kind, .table = table, .key = key, .value = value};
}

static enum tp_status write_fold(struct tp_compact *compact, const struct keys *keys,
                                 const struct fold *fold)
{
    const struct tp_slice number = tp_slice_of(keys->number, sizeof keys->number);
    const struct tp_slice first = fold->rows[0].value;
    struct tp_buffer expected = tp_buffer_growing(64), base = tp_buffer_growing(SIZE_MAX),
                     metadata = tp_buffer_growing(SIZE_MAX);
    struct tp_store_part *parts = calloc(fold->row_count + 6, sizeof *parts);
    size_t count = 0;

    const enum tp_record_encoding encoding =
        fold->is_encrypted ? TP_RECORD_CONTAINER : TP_RECORD_V1;
    TP_ASSERT(parts != NULL);
    if (fold->base == NULL) {
        add(parts, &count, TP_PART_EXPECT_ABSENT, TP_TABLE_BASES, number, (struct tp_slice){0});
    } else {
        tp_base_record_version_encode(fold->base_record.version, &expected);
        add(parts, &count, TP_PART_EXPECT_VALUE, TP_TABLE_BASES, number,
            tp_buffer_slice(&expected));
    }
    /* A document that is deleted loses its rows, and a base must not come back without it. */
    add(parts, &count, TP_PART_EXPECT_VALUE, TP_TABLE_LOG, fold->rows[0].key,
        tp_slice_of(first.data, tp_min(first.size, ROW_HEAD_SIZE)));

    tp_base_record_head_encode(&(struct tp_base_record){.version = fold->base_record.version + 1,
                                                        .sequence = fold->sequence,
                                                        .encoding = encoding},
                               &base);
    tp_buffer_append(&base, fold->update.data, fold->update.size);
    add(parts, &count, TP_PART_PUT, TP_TABLE_BASES, number, tp_buffer_slice(&base));

    if (fold->metadata != NULL) {
        struct tp_metadata_record record = fold->metadata_record;
        record.updated_ms = fold->updated_ms;
        record.update_size = fold->update.size;
        record.entry_count += fold->entry_count;
        record.state_vector = tp_buffer_slice(&fold->state_vector);
        tp_metadata_record_encode(&record, &metadata);
        add(parts, &count, TP_PART_EXPECT_VALUE, TP_TABLE_METADATA, number, fold->metadata->value);
        add(parts, &count, TP_PART_PUT, TP_TABLE_METADATA, number, tp_buffer_slice(&metadata));
    }
    if (fold->attributed.size > 0)
        add(parts, &count, TP_PART_PUT, TP_TABLE_ATTRIBUTION, number,
            tp_buffer_slice(&fold->attributed));
    for (size_t nth = 0; nth < fold->row_count; nth++)
        add(parts, &count, TP_PART_DELETE, TP_TABLE_LOG, fold->rows[nth].key, (struct tp_slice){0});

    struct tp_store_op write = {
        .verb = TP_STORE_WRITE, .more_parts = parts, .more_part_count = count};
    tp_link_init(&write.link);
    compact->backend->run(compact->store, &write);
    free(parts);
    tp_buffer_finish(&expected);
    tp_buffer_finish(&base);
    tp_buffer_finish(&metadata);
    return write.status;
}

static enum tp_status fold_once(struct tp_compact *compact, uint64_t number, bool *is_all)
{
    struct keys keys;
    struct tp_store_op read;
    struct fold fold = {0};

    tp_record_number_key(number, keys.number);
    tp_record_log_key(number, 0, keys.from);
    tp_record_log_key(number + 1, 0, keys.to);
    enum tp_status status = choose_rows(compact, &keys, is_all);
    if (status != TP_OK)
        return status;
    status = read_rows(compact, &keys, &read);
    if (status == TP_OK)
        status = sort_out(&fold, &read);
    if (status == TP_OK) {
        status = merge(&fold, compact->keep_deleted);
        /* Here it would mean a value without a V1 form, and is for us what it is for a session. */
        status = status == TP_DENIED ? TP_MALFORMED : status;
    }
    if (status == TP_OK)
        status = attribute(&fold);
    if (status == TP_OK)
        status = write_fold(compact, &keys, &fold);
    if (status == TP_OK) {
        atomic_fetch_add(&compact->folded_count, 1);
        atomic_fetch_add(&compact->entry_count, fold.entry_count);
    }
    tp_buffer_finish(&fold.update);
    tp_buffer_finish(&fold.state_vector);
    tp_buffer_finish(&fold.attributed);
    tp_store_op_finish(&read);
    return status;
}

/* ---- a document, and all of them --------------------------------------------------------------
 */

enum tp_status tp_compact_document(struct tp_compact *compact, uint64_t number)
{
    enum tp_status status = TP_DENIED;
    bool is_all = false, any = false;

    /* The last number has no successor to end its range with; numbers are drawn at random, so
     * nothing is lost by leaving that one alone. */
    if (number == 0 || number == UINT64_MAX)
        return TP_ABSENT;
    for (uint32_t tries = 0; tries < TP_COMPACT_TRY_COUNT_MAX && !(status == TP_OK && is_all);) {
        status = fold_once(compact, number, &is_all);
        if (status == TP_DENIED) {
            atomic_fetch_add(&compact->conflict_count, 1);
            tries++;
        } else if (status == TP_OK) {
            any = true;
            tries = 0;
        } else {
            break;
        }
    }
    if (status == TP_ABSENT && any)
        status = TP_OK;
    if (status != TP_OK && status != TP_ABSENT && status != TP_DENIED)
        atomic_fetch_add(&compact->failed_count, 1);
    return status;
}

static bool is_long(const struct tp_compact *compact)
{
    return compact->cursor.row_count >= compact->sweep_row_count ||
           compact->cursor.size >= compact->sweep_size;
}

bool tp_compact_sweep(struct tp_compact *compact)
{
    struct tp_compact_cursor *cursor = &compact->cursor;
    struct tp_store_op read = {.verb = TP_STORE_READ, .range_count = 1};
    uint8_t from[TP_RECORD_LOG_KEY_SIZE], to[TP_RECORD_LOG_KEY_SIZE];
    bool found = false;

    tp_record_log_key(cursor->number, cursor->sequence, from);
    tp_record_log_key(UINT64_MAX, UINT64_MAX, to);
    make_log_range(&read.ranges[0], from, to);
    read.ranges[0].without_values = true;
    read.ranges[0].row_count_max = TP_COMPACT_SWEEP_ROW_COUNT_MAX;
    compact->backend->run(compact->store, &read);
    if (read.status != TP_OK)
        return false; /* the next step tries the same again */

    const size_t row_count = read.row_count;
    for (size_t nth = 0; nth < row_count && !found; nth++) {
        uint64_t number, sequence;
        if (tp_record_log_key_decode(read.rows[nth].key, &number, &sequence) != TP_OK)
            continue; /* not ours; nothing else is ever written there */
        if (number != cursor->number)
            *cursor = (struct tp_compact_cursor){.number = number};
        cursor->sequence = sequence + 1;
        cursor->row_count++;
        cursor->size += read.rows[nth].value.size;
        found = is_long(compact);
    }
    tp_store_op_finish(&read);
    if (found) {
        (void)tp_compact_document(compact, cursor->number); /* counted there; the sweep goes on */
        *cursor = (struct tp_compact_cursor){.number = cursor->number + 1};
        return false;
    }
    if (row_count == TP_COMPACT_SWEEP_ROW_COUNT_MAX)
        return false;
    *cursor = (struct tp_compact_cursor){0};
    atomic_fetch_add(&compact->sweep_count, 1);
    return true;
}

/* ---- jobs -------------------------------------------------------------------------------------
 */

struct job {
    struct tp_work_job job;
    struct tp_compact *compact;
    uint64_t number; /* SWEEP_ORDER: a step of the sweep */
};

static void run(struct tp_work_job *base)
{
    struct job *job = TP_CONTAINER(base, struct job, job);

    if (!base->cancelled && job->number == SWEEP_ORDER)
        (void)tp_compact_sweep(job->compact);
    else if (!base->cancelled)
        (void)tp_compact_document(job->compact, job->number);
    if (job->number == SWEEP_ORDER)
        atomic_store(&job->compact->sweeping, false);
    free(job);
}

static void submit(struct tp_compact *compact, struct tp_work_port *port, uint64_t number)
{
    struct job *job = malloc(sizeof *job);

    TP_ASSERT(job != NULL);
    *job = (struct job){.job.run = run, .compact = compact, .number = number};
    tp_work_submit_job(port, &job->job, number);
}

void tp_compact_submit(struct tp_compact *compact, struct tp_work_port *port, uint64_t number)
{
    TP_ASSERT(number != SWEEP_ORDER);
    submit(compact, port, number);
}

void tp_compact_sweep_submit(struct tp_compact *compact, struct tp_work_port *port)
{
    if (!atomic_exchange(&compact->sweeping, true))
        submit(compact, port, SWEEP_ORDER);
}
