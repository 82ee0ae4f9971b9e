/* What uploads and downloads have in common: names, rows, and the uploads kept in memory. */
#include <stdarg.h>
#include <stdio.h>

#include "rpc/files.h"

#define NOTHING ((struct tp_slice){0})

/* ---- names and keys -----------------------------------------------------------------------------
 */

struct tp_slice tp_filing_copy(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_slice bytes)
{
    uint8_t *copy = tp_rpc_take(rpc, call, bytes.size + 1);

    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    return tp_slice_of(copy, bytes.size);
}

struct tp_filing *tp_filing_begin(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_slice id)
{
    const struct tp_slice room = tp_session_room(rpc->session);
    const struct tp_slice document = tp_session_document(rpc->session);
    struct tp_filing *filing = tp_rpc_take(rpc, call, sizeof *filing);
    uint8_t *name = tp_rpc_take(rpc, call, room.size + 1 + document.size);

    if (room.size > 0)
        memcpy(name, room.data, room.size);
    memcpy(name + room.size + 1, document.data, document.size);
    filing->id = id;
    filing->document = tp_slice_of(name, room.size + 1 + document.size);
    filing->epoch = tp_session_facts(rpc->session).epoch;
    tp_file_owner(room, call->user, document, filing->owner);
    call->state = filing;
    return filing;
}

enum tp_status tp_filing_name(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;
    const size_t key_size = filing->document.size + 2 + TP_FILE_ID_SIZE;

    if (tp_file_id_parse(filing->id, filing->file) != TP_OK)
        return TP_MALFORMED;
    tp_upload_key(filing->owner, filing->file, filing->upload_key);
    tp_manifest_key(filing->file, filing->manifest_key);
    filing->listed_key =
        tp_listed_key(filing->document, filing->file, tp_rpc_take(rpc, call, key_size));
    /* All keys of the document have a 0 behind its name. */
    uint8_t *to = tp_rpc_take(rpc, call, key_size);
    filing->listed_from = tp_listed_key(filing->document, NULL, tp_rpc_take(rpc, call, key_size));
    filing->listed_to = tp_listed_key(filing->document, NULL, to);
    to[filing->listed_to.size - 1] = 1;
    return TP_OK;
}

/* ---- reading rows -------------------------------------------------------------------------------
 */

void tp_filing_range(struct tp_rpc_call *call, enum tp_store_table table, struct tp_slice from,
                     struct tp_slice to, uint32_t row_count_max)
{
    TP_ASSERT(call->op.range_count < TP_STORE_RANGE_COUNT_MAX);
    call->op.ranges[call->op.range_count++] = (struct tp_store_range){
        .table = table, .from = from, .to = to, .row_count_max = row_count_max};
}

void tp_filing_range_upload(struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;

    tp_filing_range(call, TP_TABLE_UPLOADS,
                    tp_slice_of(filing->upload_key, sizeof filing->upload_key), NOTHING, 0);
}

void tp_filing_range_manifest(struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;

    tp_filing_range(call, TP_TABLE_FILES,
                    tp_slice_of(filing->manifest_key, sizeof filing->manifest_key), NOTHING, 0);
}

void tp_filing_range_listed(struct tp_rpc_call *call)
{
    const struct tp_filing *filing = call->state;

    tp_filing_range(call, TP_TABLE_FILES, filing->listed_key, NOTHING, 0);
}

void tp_filing_range_files(struct tp_rpc_call *call)
{
    const struct tp_filing *filing = call->state;

    tp_filing_range(call, TP_TABLE_FILES, filing->listed_from, filing->listed_to,
                    TP_FILES_LISTED_COUNT_MAX + 1);
}

void tp_filing_range_leaves(struct tp_rpc_call *call, uint64_t number)
{
    struct tp_filing *filing = call->state;

    tp_leaf_key(number, 0, filing->leaf_key);
    tp_leaf_key(number, UINT32_MAX, filing->leaf_end);
    tp_filing_range(call, TP_TABLE_UPLOADS, tp_slice_of(filing->leaf_key, TP_CHUNK_KEY_SIZE),
                    tp_slice_of(filing->leaf_end, TP_CHUNK_KEY_SIZE), 0);
}

const struct tp_store_row *tp_filing_row(const struct tp_rpc_call *call, enum tp_store_table table,
                                         struct tp_slice key)
{
    for (size_t nth = 0; nth < call->row_count; nth++)
        if (call->rows[nth].table == table && call->rows[nth].value.data != NULL &&
            tp_slice_equal(call->rows[nth].key, key))
            return &call->rows[nth];
    return NULL;
}

enum tp_status tp_filing_read_upload(struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;
    const struct tp_store_row *row = tp_filing_row(
        call, TP_TABLE_UPLOADS, tp_slice_of(filing->upload_key, sizeof filing->upload_key));

    filing->upload_value = row == NULL ? NOTHING : row->value;
    return row == NULL ? TP_ABSENT : tp_upload_record_decode(row->value, &filing->upload);
}

enum tp_status tp_filing_read_listed(struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;
    const struct tp_store_row *row = tp_filing_row(call, TP_TABLE_FILES, filing->listed_key);

    if (row == NULL)
        return TP_ABSENT;
    const enum tp_status status = tp_listed_record_decode(row->value, &filing->listed);
    return status == TP_OK && filing->listed.epoch < filing->epoch ? TP_ABSENT : status;
}

static bool is_listed(const struct tp_filing *filing, const struct tp_store_row *row)
{
    return row->table == TP_TABLE_FILES && row->key.size > filing->listed_from.size &&
           memcmp(row->key.data, filing->listed_from.data, filing->listed_from.size) == 0 &&
           !tp_slice_equal(row->key, filing->listed_key);
}

static void count_files(const struct tp_rpc_call *call, uint64_t *size, uint32_t *count)
{
    const struct tp_filing *filing = call->state;

    *size = *count = 0;
    for (size_t nth = 0; nth < call->row_count; nth++) {
        struct tp_listed_record listed;
        if (!is_listed(filing, &call->rows[nth]) ||
            tp_listed_record_decode(call->rows[nth].value, &listed) != TP_OK ||
            listed.epoch < filing->epoch)
            continue;
        *size += listed.shape.size;
        *count += 1;
    }
}

bool tp_filing_is_too_much(const struct tp_rpc *rpc, const struct tp_rpc_call *call, uint64_t more)
{
    const uint64_t size_max = rpc->env->limits->document_files_size_max;
    uint64_t size;
    uint32_t count;

    count_files(call, &size, &count);
    return count >= TP_FILES_LISTED_COUNT_MAX || (size_max != 0 && size + more > size_max);
}

void tp_filing_fail_too_much(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    uint64_t size;
    uint32_t count;

    count_files(call, &size, &count);
    if (count >= TP_FILES_LISTED_COUNT_MAX)
        tp_filing_fail(rpc, call, 413, out, "The document has %u files, and may have no more",
                       count);
    else
        tp_filing_fail(rpc, call, 413, out,
                       "The files of the document would exceed %llu bytes: there are %llu",
                       (unsigned long long)rpc->env->limits->document_files_size_max,
                       (unsigned long long)size);
}

/* ---- uploads in memory --------------------------------------------------------------------------
 */

static size_t upload_size(uint32_t chunk_count)
{
    return sizeof(struct tp_upload) + (chunk_count + 7) / 8;
}

struct tp_upload *tp_upload_find(struct tp_rpc *rpc, const struct tp_filing *filing)
{
    TP_LIST_EACH(link, &rpc->uploads)
    {
        struct tp_upload *upload = TP_CONTAINER(link, struct tp_upload, link);
        if (memcmp(upload->file, filing->file, sizeof upload->file) != 0 ||
            memcmp(upload->owner, filing->owner, sizeof upload->owner) != 0)
            continue;
        tp_link_remove(link);
        tp_link_insert(&rpc->uploads, link);
        return upload;
    }
    return NULL;
}

void tp_upload_forget(struct tp_rpc *rpc, struct tp_upload *upload)
{
    if (upload == NULL)
        return;
    tp_link_remove(&upload->link);
    rpc->upload_count--;
    rpc->upload_size -= upload_size(upload->chunk_count);
    tp_pool_give(rpc->env->pool, upload, upload_size(upload->chunk_count));
}

void tp_uploads_finish(struct tp_rpc *rpc)
{
    while (!tp_link_alone(&rpc->uploads))
        tp_upload_forget(rpc, TP_CONTAINER(rpc->uploads.next, struct tp_upload, link));
}

bool tp_upload_has(const struct tp_upload *upload, uint32_t index)
{
    return upload->present[index / 8] >> index % 8 & 1;
}

void tp_upload_set(struct tp_upload *upload, uint32_t index)
{
    if (tp_upload_has(upload, index))
        return;
    upload->present[index / 8] |= (uint8_t)(1u << index % 8);
    upload->present_count++;
}

struct tp_upload *tp_upload_keep(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    const struct tp_filing *filing = call->state;
    const uint32_t chunk_count = tp_file_chunk_count(&filing->upload.shape);
    struct tp_upload *upload = tp_upload_find(rpc, filing);

    if (upload != NULL && upload->number != filing->upload.number) {
        tp_upload_forget(rpc, upload);
        upload = NULL;
    }
    if (upload == NULL) {
        if (rpc->upload_count == TP_FILES_UPLOAD_COUNT_MAX)
            tp_upload_forget(rpc, TP_CONTAINER(rpc->uploads.next, struct tp_upload, link));
        upload = tp_pool_take_zeroed(rpc->env->pool, upload_size(chunk_count));
        memcpy(upload->owner, filing->owner, sizeof upload->owner);
        memcpy(upload->file, filing->file, sizeof upload->file);
        upload->number = filing->upload.number;
        upload->shape = filing->upload.shape;
        upload->chunk_count = chunk_count;
        tp_link_init(&upload->link);
        tp_link_insert(&rpc->uploads, &upload->link);
        rpc->upload_count++;
        rpc->upload_size += upload_size(chunk_count);
    }
    for (size_t nth = 0; nth < call->row_count; nth++) {
        uint64_t number;
        uint32_t index;
        if (call->rows[nth].table == TP_TABLE_UPLOADS &&
            tp_leaf_key_decode(call->rows[nth].key, &number, &index) == TP_OK &&
            number == upload->number && index < chunk_count)
            tp_upload_set(upload, index);
    }
    return upload;
}

/* ---- refusing -----------------------------------------------------------------------------------
 */

void tp_filing_later(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    tp_rpc_later(rpc, call, TP_FILES_RETRY_MS, out);
}

void tp_filing_fail(struct tp_rpc *rpc, struct tp_rpc_call *call, uint32_t status,
                    struct tp_effects *out, const char *format, ...)
{
    char words[TP_FILES_WORDS_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    tp_rpc_fail(rpc, call, status, words, out);
}
