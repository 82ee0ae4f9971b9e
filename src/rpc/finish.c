/* Every chunk of an upload is stored: now it becomes a file, or it does not. */
#include "rpc/files.h"

#define NOTHING ((struct tp_slice){0})
#define ID(filing) (int)(filing)->id.size, (const char *)(filing)->id.data
/* Upload, manifest and garbage: expectations, puts and deletes; and two rows of each document. */
#define PART_COUNT_MAX (6u + 2u * TP_UPLOAD_DOCUMENT_COUNT_MAX)

static tp_rpc_step read_all, grow, rooted, written, discarded;

static void set_finishing(struct tp_rpc *rpc, const struct tp_rpc_call *call, bool is_finishing)
{
    struct tp_upload *upload = tp_upload_find(rpc, call->state);

    if (upload != NULL)
        upload->is_finishing = is_finishing;
}

/* Somebody else changes the same rows, or the store does not answer: the client is to come again.
 * What is stored stays. */
static void give_up(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    set_finishing(rpc, call, false);
    tp_filing_later(rpc, call, out);
}

void tp_filing_finish(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    set_finishing(rpc, call, true);
    call->tries = 0;
    read_all(rpc, call, out);
}

static void read_all(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_upload *upload = tp_upload_find(rpc, call->state);

    if (upload == NULL) {
        tp_filing_later(rpc, call, out);
        return;
    }
    tp_filing_range_upload(call);
    tp_filing_range_manifest(call);
    tp_filing_range_files(call);
    tp_filing_range_leaves(call, upload->number);
    tp_rpc_read(rpc, call, grow, out);
}

/* ---- the tree -----------------------------------------------------------------------------------
 */

/* The hashes of all chunks in their order. Returns how many there are up to the first gap. */
static uint32_t gather(const struct tp_rpc_call *call, uint8_t *leaves)
{
    const struct tp_filing *filing = call->state;
    const uint32_t count = tp_file_chunk_count(&filing->upload.shape);
    uint32_t at = 0;

    for (size_t nth = 0; nth < call->row_count && at < count; nth++) {
        struct tp_leaf_record leaf;
        uint64_t number;
        uint32_t index;

        if (call->rows[nth].table != TP_TABLE_UPLOADS ||
            tp_leaf_key_decode(call->rows[nth].key, &number, &index) != TP_OK)
            continue;
        if (index != at || tp_leaf_record_decode(call->rows[nth].value, &leaf) != TP_OK)
            break;
        memcpy(leaves + (size_t)at++ * TP_SHA256_SIZE, leaf.hash, TP_SHA256_SIZE);
    }
    return at;
}

static void grow(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const struct tp_store_row *manifest = tp_filing_row(
        call, TP_TABLE_FILES, tp_slice_of(filing->manifest_key, sizeof filing->manifest_key));

    if (call->status != TP_OK) {
        rpc->env->counters->store_failures++;
        give_up(rpc, call, out);
        return;
    }
    filing->manifest_value = manifest == NULL ? NOTHING : manifest->value;
    if (tp_filing_read_upload(call) != TP_OK ||
        (manifest != NULL &&
         tp_manifest_record_decode(manifest->value, &filing->manifest) != TP_OK)) {
        /* Another core was faster: then the file is listed by now, and what we know is of no use.
         */
        tp_upload_forget(rpc, tp_upload_find(rpc, filing));
        give_up(rpc, call, out);
        return;
    }
    const uint32_t count = tp_file_chunk_count(&filing->upload.shape);
    uint8_t *leaves = tp_rpc_take(rpc, call, (size_t)count * TP_SHA256_SIZE);
    const uint32_t at = gather(call, leaves);
    if (at < count) {
        tp_upload_forget(rpc, tp_upload_find(rpc, filing));
        tp_filing_fail(rpc, call, 500, out, "Missing chunk %u for upload %.*s", at, ID(filing));
        return;
    }
    filing->input = tp_slice_of(leaves, (size_t)count * TP_SHA256_SIZE);
    call->work.inputs = &filing->input;
    call->work.input_count = 1;
    tp_rpc_work(rpc, call, TP_WORK_TREE, rooted, out);
}

/* ---- what is written ----------------------------------------------------------------------------
 */

static void put(struct tp_rpc_call *call, enum tp_store_part_kind kind, enum tp_store_table table,
                struct tp_slice key, struct tp_slice value)
{
    struct tp_store_part *parts = (struct tp_store_part *)call->op.more_parts;

    TP_ASSERT(call->op.more_part_count < PART_COUNT_MAX);
    parts[call->op.more_part_count++] =
        (struct tp_store_part){.kind = kind, .table = table, .key = key, .value = value};
}

/* The upload, which must still be as it was read, is over. */
static void put_end(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;
    const struct tp_slice key = {filing->upload_key, sizeof filing->upload_key};

    call->op.more_parts = tp_rpc_take(rpc, call, PART_COUNT_MAX * sizeof(struct tp_store_part));
    put(call, TP_PART_EXPECT_VALUE, TP_TABLE_UPLOADS, key, filing->upload_value);
    put(call, TP_PART_DELETE, TP_TABLE_UPLOADS, key, NOTHING);
}

/* And its chunks are of no use. */
static void put_garbage(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;
    uint8_t memory[16];
    struct tp_buffer value = tp_buffer_fixed(memory, sizeof memory);

    tp_garbage_key(filing->upload.number, filing->garbage_key);
    tp_garbage_record_encode(tp_file_chunk_count(&filing->upload.shape), &value);
    put(call, TP_PART_PUT, TP_TABLE_UPLOADS,
        tp_slice_of(filing->garbage_key, sizeof filing->garbage_key),
        tp_filing_copy(rpc, call, tp_buffer_slice(&value)));
}

/* The file is what was uploaded; if there is one already, what was uploaded is not needed. Either
 * way the row changes: who counts references must notice. */
static void put_manifest(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    struct tp_filing *filing = call->state;
    const bool is_new = filing->manifest_value.data == NULL;
    const struct tp_slice key = {filing->manifest_key, sizeof filing->manifest_key};
    struct tp_manifest_record record = {.generation = 1,
                                        .number = filing->upload.number,
                                        .chunk_count = tp_file_chunk_count(&filing->upload.shape)};
    uint8_t memory[32];
    struct tp_buffer value = tp_buffer_fixed(memory, sizeof memory);

    if (!is_new) {
        record = filing->manifest;
        record.generation++;
        put_garbage(rpc, call);
    }
    tp_manifest_record_encode(&record, &value);
    put(call, is_new ? TP_PART_EXPECT_ABSENT : TP_PART_EXPECT_VALUE, TP_TABLE_FILES, key,
        filing->manifest_value);
    put(call, TP_PART_PUT, TP_TABLE_FILES, key, tp_filing_copy(rpc, call, tp_buffer_slice(&value)));
}

static void put_references(struct tp_rpc *rpc, struct tp_rpc_call *call)
{
    const struct tp_filing *filing = call->state;

    for (uint32_t nth = 0; nth < filing->upload.document_count; nth++) {
        const struct tp_upload_document *document = &filing->upload.documents[nth];
        const size_t key_size = 2 + document->name.size + TP_FILE_ID_SIZE;
        struct tp_buffer value = tp_buffer_growing(UINT32_MAX);

        tp_listed_record_encode(&(struct tp_listed_record){.epoch = document->epoch,
                                                           .shape = filing->upload.shape,
                                                           .stored_ms = rpc->wall_ms,
                                                           .name = filing->upload.name,
                                                           .type = filing->upload.type},
                                &value);
        put(call, TP_PART_PUT, TP_TABLE_FILES,
            tp_listed_key(document->name, filing->file, tp_rpc_take(rpc, call, key_size)),
            tp_filing_copy(rpc, call, tp_buffer_slice(&value)));
        value.size = 0;
        tp_reference_record_encode(document->epoch, &value);
        put(call, TP_PART_PUT, TP_TABLE_FILES,
            tp_reference_key(filing->file, document->name, tp_rpc_take(rpc, call, key_size)),
            tp_filing_copy(rpc, call, tp_buffer_slice(&value)));
        tp_buffer_finish(&value);
    }
}

static void discard(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    put_end(rpc, call);
    put_garbage(rpc, call);
    tp_rpc_write(rpc, call, discarded, out);
}

static const uint8_t *root_of(const struct tp_rpc_call *call)
{
    return call->work.digests.data + call->work.digests.size - TP_SHA256_SIZE;
}

static bool has_right_root(const struct tp_rpc_call *call)
{
    const struct tp_filing *filing = call->state;

    return memcmp(root_of(call), filing->file, TP_FILE_ID_SIZE) == 0;
}

static void rooted(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;

    /* It can never become this file, or not now, and must not take up room until it expires. */
    if (!has_right_root(call) || tp_filing_is_too_much(rpc, call, filing->upload.shape.size)) {
        discard(rpc, call, out);
        return;
    }
    put_end(rpc, call);
    put_manifest(rpc, call);
    put_references(rpc, call);
    tp_rpc_write(rpc, call, written, out);
}

static void written(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    if (call->status == TP_DENIED && ++call->tries < TP_FILES_TRY_COUNT_MAX) {
        read_all(rpc, call, out);
    } else if (call->status != TP_OK) {
        rpc->env->counters->store_failures += call->status != TP_DENIED;
        give_up(rpc, call, out);
    } else {
        rpc->env->counters->files_stored++;
        rpc->env->counters->files_deduplicated += filing->manifest_value.data != NULL;
        tp_upload_forget(rpc, tp_upload_find(rpc, filing));
        filing->finished(rpc, call, out);
    }
}

static void discarded(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;
    uint8_t root[TP_FILE_ID_TEXT_SIZE];

    if (call->status == TP_DENIED && ++call->tries < TP_FILES_TRY_COUNT_MAX) {
        read_all(rpc, call, out);
    } else if (call->status != TP_OK) {
        give_up(rpc, call, out);
    } else if (has_right_root(call)) {
        tp_upload_forget(rpc, tp_upload_find(rpc, filing));
        tp_filing_fail_too_much(rpc, call, out);
    } else {
        tp_file_id_write(root_of(call), root);
        tp_upload_forget(rpc, tp_upload_find(rpc, filing));
        tp_filing_fail(rpc, call, 500, out,
                       "Merkle root mismatch for upload %.*s. Expected %.*s, got %.*s", ID(filing),
                       ID(filing), (int)sizeof root, (const char *)root);
    }
}
