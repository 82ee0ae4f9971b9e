/* fileUpload: asking to upload a file, and its chunks. */
#include "rpc/files.h"

#define NOTHING ((struct tp_slice){0})
#define ID(filing) (int)(filing)->id.size, (const char *)(filing)->id.data

static void put(struct tp_rpc_call *call, enum tp_store_part_kind kind, enum tp_store_table table,
                struct tp_slice key, struct tp_slice value)
{
    TP_ASSERT(call->op.part_count < TP_STORE_PART_COUNT_MAX);
    call->op.parts[call->op.part_count++] =
        (struct tp_store_part){.kind = kind, .table = table, .key = key, .value = value};
}

/* ---- the request --------------------------------------------------------------------------------
 */

static tp_rpc_step look, looked, begun, resumed, already;

static void offer(struct tp_rpc *rpc, struct tp_rpc_call *call, const struct tp_file_offer *like,
                  struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);
    struct tp_file_offer offer = *like;

    offer.file_id = filing->id;
    offer.chunk_size = rpc->env->limits->file_chunk_size;
    tp_file_offer_write(&offer, &payload);
    tp_rpc_reply(rpc, call, &payload, out);
}

static void already(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    offer(rpc, call, &(struct tp_file_offer){.exists = true}, out);
}

void tp_rpc_file_upload(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_rpc_limits *limits = rpc->env->limits;
    struct tp_rpc_args args;

    tp_rpc_args_read(&args, call->request.rpc.payload);
    struct tp_filing *filing =
        tp_filing_begin(rpc, call, tp_rpc_text(&args, "fileId", TP_FILES_ID_SIZE_MAX));
    filing->name = tp_rpc_text(&args, "filename", TP_FILE_NAME_SIZE_MAX);
    filing->type = tp_rpc_text(&args, "mimeType", TP_FILE_TYPE_SIZE_MAX);
    filing->shape.size = tp_rpc_whole(&args, "size", TP_VARUINT_MAX);
    filing->shape.encrypted = tp_rpc_flag(&args, "encrypted");
    filing->shape.chunk_size = limits->file_chunk_size;
    const bool mismatch =
        tp_rpc_value(&args, "chunkSize").data != NULL &&
        tp_rpc_whole(&args, "chunkSize", TP_VARUINT_MAX) != limits->file_chunk_size;
    if (tp_rpc_refused(rpc, call, &args, out))
        return;
    if (mismatch) {
        offer(rpc, call, &(struct tp_file_offer){.mismatch = true}, out);
        return;
    }
    const uint64_t size_max =
        tp_file_size_max(limits->file_chunk_size, filing->shape.encrypted, limits->file_size_max);
    if (filing->shape.size > size_max)
        tp_filing_fail(rpc, call, 500, out, "File size %llu exceeds maximum %llu bytes",
                       (unsigned long long)filing->shape.size, (unsigned long long)size_max);
    else if (tp_filing_name(rpc, call) != TP_OK)
        tp_rpc_fail(rpc, call, 400, "Invalid request: fileId must be the base64 of 32 bytes", out);
    else
        look(rpc, call, out);
}

static void look(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const size_t size = 1 + TP_FILE_OWNER_SIZE;
    const struct tp_slice from = {filing->upload_key, size};
    uint8_t *to = tp_rpc_take(rpc, call, size + TP_FILE_ID_SIZE + 1);

    memcpy(to, filing->upload_key, size);
    memset(to + size, 0xff, TP_FILE_ID_SIZE + 1);
    tp_filing_range_upload(call);
    tp_filing_range_listed(call);
    tp_filing_range_files(call);
    /* All of the owner's uploads, as far as they count. */
    tp_filing_range(call, TP_TABLE_UPLOADS, from, tp_slice_of(to, size + TP_FILE_ID_SIZE + 1),
                    rpc->env->limits->upload_count_max);
    call->op.ranges[call->op.range_count - 1].without_values = true;
    tp_rpc_read(rpc, call, looked, out);
}

static uint32_t count_uploads(const struct tp_rpc_call *call)
{
    uint32_t count = 0;

    for (size_t nth = 0; nth < call->row_count; nth++)
        count += call->rows[nth].table == TP_TABLE_UPLOADS && call->rows[nth].value.data == NULL;
    return count;
}

/* The same bytes on the wire, cut the same way. */
static bool is_same(const struct tp_file_shape *a, const struct tp_file_shape *b)
{
    return a->size == b->size && a->encrypted == b->encrypted &&
           (a->chunk_size == b->chunk_size ||
            (tp_file_chunk_count(a) == 1 && tp_file_chunk_count(b) == 1));
}

/* The upload is for the document at hand, too. False: it is for too many already. */
static bool add_document(struct tp_filing *filing)
{
    struct tp_upload_record *upload = &filing->upload;
    uint32_t nth = 0;

    while (nth < upload->document_count &&
           !tp_slice_equal(upload->documents[nth].name, filing->document))
        nth++;
    if (nth == TP_UPLOAD_DOCUMENT_COUNT_MAX)
        return false;
    upload->documents[nth] =
        (struct tp_upload_document){.name = filing->document, .epoch = filing->epoch};
    if (nth == upload->document_count)
        upload->document_count++;
    return true;
}

/* Writes filing->upload in the place of what was read. */
static void write_upload(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const struct tp_slice key = {filing->upload_key, sizeof filing->upload_key};
    struct tp_buffer value = tp_buffer_growing(UINT32_MAX);

    filing->upload.begun_ms = rpc->wall_ms;
    tp_upload_record_encode(&filing->upload, &value);
    put(call, filing->upload_value.data == NULL ? TP_PART_EXPECT_ABSENT : TP_PART_EXPECT_VALUE,
        TP_TABLE_UPLOADS, key, filing->upload_value);
    put(call, TP_PART_PUT, TP_TABLE_UPLOADS, key,
        tp_filing_copy(rpc, call, tp_buffer_slice(&value)));
    tp_buffer_finish(&value);
    tp_rpc_write(rpc, call, begun, out);
}

static void looked(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    if (tp_rpc_broken(rpc, call, out))
        return;
    if (tp_filing_read_listed(call) == TP_OK) {
        already(rpc, call, out);
        return;
    }
    if (tp_filing_is_too_much(rpc, call, filing->shape.size)) {
        tp_filing_fail_too_much(rpc, call, out);
        return;
    }
    const enum tp_status status = tp_filing_read_upload(call);
    if (status == TP_ABSENT) {
        if (count_uploads(call) >= rpc->env->limits->upload_count_max) {
            tp_rpc_fail(rpc, call, 429, "Too many unfinished uploads", out);
            return;
        }
        filing->upload = (struct tp_upload_record){
            .number = 0, .shape = filing->shape, .name = filing->name, .type = filing->type};
        while (filing->upload.number == 0)
            filing->upload.number = tp_random_next(rpc->env->random);
    } else if (status != TP_OK) {
        tp_filing_fail(rpc, call, 500, out, "Upload session %.*s is damaged", ID(filing));
        return;
    } else if (!is_same(&filing->upload.shape, &filing->shape)) {
        tp_filing_fail(rpc, call, 500, out,
                       "Upload session %.*s already exists with conflicting metadata", ID(filing));
        return;
    }
    if (add_document(filing))
        write_upload(rpc, call, out);
    else
        tp_filing_fail(rpc, call, 413, out, "Upload session %.*s is for too many documents",
                       ID(filing));
}

static void begun(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;

    if (call->status == TP_DENIED && ++call->tries < TP_FILES_TRY_COUNT_MAX) {
        look(rpc, call, out);
    } else if (call->status == TP_DENIED) {
        tp_filing_later(rpc, call, out);
    } else if (!tp_rpc_broken(rpc, call, out)) {
        tp_filing_range_leaves(call, filing->upload.number);
        tp_rpc_read(rpc, call, resumed, out);
    }
}

static void resumed(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    if (tp_rpc_broken(rpc, call, out))
        return;
    struct tp_upload *upload = tp_upload_keep(rpc, call);
    if (upload->present_count < upload->chunk_count) {
        offer(
            rpc, call,
            &(struct tp_file_offer){.present = upload->present, .chunk_count = upload->chunk_count},
            out);
    } else if (upload->is_finishing) {
        tp_filing_later(rpc, call, out);
    } else {
        filing->finished = already;
        tp_filing_finish(rpc, call, out);
    }
}

/* ---- a chunk ------------------------------------------------------------------------------------
 */

static tp_rpc_step find, found, present, take, hashed, stored, compare, compared, settle;

/* Another round, because somebody has changed what was read. */
static void again(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    tp_upload_forget(rpc, tp_upload_find(rpc, call->state));
    if (++call->tries < TP_FILES_TRY_COUNT_MAX)
        find(rpc, call, out);
    else
        tp_filing_later(rpc, call, out);
}

/* True if the operation failed: then the client is to send the chunk again. */
static bool is_broken(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->status == TP_OK)
        return false;
    rpc->env->counters->store_failures++;
    tp_filing_later(rpc, call, out);
    return true;
}

static bool is_whole(double number, double max)
{
    return number >= 0 && number <= max && number == (double)(uint64_t)number;
}

/* What any chunk of any upload must keep to. */
static bool is_possible(struct tp_rpc *rpc, struct tp_rpc_call *call, double index, double total,
                        struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;
    const uint32_t size_max = rpc->env->limits->file_chunk_size;

    if (filing->chunk.size > size_max) {
        tp_filing_fail(rpc, call, 500, out,
                       "Chunk %.17g for upload %.*s exceeds the negotiated chunk size of %u bytes",
                       index, ID(filing), size_max);
        return false;
    }
    if (is_whole(index, TP_FILE_CHUNK_COUNT_MAX - 1) && is_whole(total, TP_FILE_CHUNK_COUNT_MAX) &&
        total >= 1)
        return true;
    tp_filing_fail(rpc, call, 500, out,
                   "Chunk index %.17g (of %.17g) is out of range for upload %.*s", index, total,
                   ID(filing));
    return false;
}

static void not_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;

    tp_filing_fail(rpc, call, 500, out, "Upload session %.*s not found", ID(filing));
}

void tp_rpc_file_part(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_rpc_args args;

    tp_rpc_args_read(&args, call->request.rpc.payload);
    struct tp_filing *filing =
        tp_filing_begin(rpc, call, tp_rpc_text(&args, "fileId", TP_FILES_ID_SIZE_MAX));
    filing->chunk = tp_rpc_bytes(&args, "chunkData", UINT32_MAX);
    const double index = tp_rpc_number(&args, "chunkIndex");
    const double total = tp_rpc_number(&args, "totalChunks");
    if (tp_rpc_refused(rpc, call, &args, out) || !is_possible(rpc, call, index, total, out))
        return;
    filing->index = (uint32_t)index;
    if (tp_filing_name(rpc, call) != TP_OK)
        not_found(rpc, call, out);
    else if (tp_upload_find(rpc, filing) != NULL)
        take(rpc, call, out);
    else
        find(rpc, call, out);
}

static void find(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    tp_filing_range_upload(call);
    tp_filing_range_listed(call);
    tp_rpc_read(rpc, call, found, out);
}

static void found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;

    if (is_broken(rpc, call, out))
        return;
    if (tp_filing_read_listed(call) == TP_OK) {
        tp_rpc_done(rpc, call, out); /* a chunk that came late: the file is complete */
    } else if (tp_filing_read_upload(call) != TP_OK) {
        not_found(rpc, call, out);
    } else {
        tp_filing_range_leaves(call, filing->upload.number);
        tp_rpc_read(rpc, call, present, out);
    }
}

static void present(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (is_broken(rpc, call, out))
        return;
    tp_upload_keep(rpc, call);
    take(rpc, call, out);
}

static void take(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const struct tp_upload *upload = tp_upload_find(rpc, filing);

    if (filing->index >= upload->chunk_count) {
        tp_filing_fail(rpc, call, 500, out,
                       "Chunk index %u (of %u) is out of range for upload %.*s", filing->index,
                       upload->chunk_count, ID(filing));
        return;
    }
    const uint32_t size = tp_file_chunk_size(&upload->shape, filing->index);
    if (filing->chunk.size != size) {
        tp_filing_fail(rpc, call, 500, out, "Chunk %u for upload %.*s has %zu bytes instead of %u",
                       filing->index, ID(filing), filing->chunk.size, size);
        return;
    }
    filing->input = filing->chunk;
    call->work.inputs = &filing->input;
    call->work.input_count = 1;
    tp_rpc_work(rpc, call, TP_WORK_HASH, hashed, out);
}

static void hashed(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const struct tp_upload *upload = tp_upload_find(rpc, filing);
    struct tp_buffer leaf = tp_buffer_growing(256), expected = tp_buffer_growing(16);

    memcpy(filing->leaf, call->work.digests.data, sizeof filing->leaf);
    if (upload == NULL) {
        again(rpc, call, out);
        return;
    }
    filing->number = upload->number;
    tp_leaf_key(upload->number, filing->index, filing->leaf_key);
    if (tp_upload_has(upload, filing->index)) {
        compare(rpc, call, out);
        return;
    }
    tp_chunk_key(upload->number, filing->index, filing->chunk_key);
    tp_leaf_record_encode(&(struct tp_leaf_record){filing->leaf, rpc->wall_ms}, &leaf);
    tp_upload_record_number_encode(upload->number, &expected);
    const struct tp_slice leaf_key = {filing->leaf_key, TP_CHUNK_KEY_SIZE};
    put(call, TP_PART_EXPECT_VALUE, TP_TABLE_UPLOADS,
        tp_slice_of(filing->upload_key, sizeof filing->upload_key),
        tp_filing_copy(rpc, call, tp_buffer_slice(&expected)));
    put(call, TP_PART_EXPECT_ABSENT, TP_TABLE_UPLOADS, leaf_key, NOTHING);
    put(call, TP_PART_PUT, TP_TABLE_UPLOADS, leaf_key,
        tp_filing_copy(rpc, call, tp_buffer_slice(&leaf)));
    put(call, TP_PART_PUT, TP_TABLE_FILES, tp_slice_of(filing->chunk_key, TP_CHUNK_KEY_SIZE),
        filing->chunk);
    tp_buffer_finish(&leaf);
    tp_buffer_finish(&expected);
    tp_rpc_write(rpc, call, stored, out);
}

static void stored(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (call->status == TP_DENIED)
        again(rpc, call, out); /* the upload is over, or this chunk has come another way */
    else if (!is_broken(rpc, call, out))
        settle(rpc, call, out);
}

/* The chunk was there before. */
static void compare(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    tp_filing_range(call, TP_TABLE_UPLOADS, tp_slice_of(filing->leaf_key, TP_CHUNK_KEY_SIZE),
                    NOTHING, 0);
    tp_rpc_read(rpc, call, compared, out);
}

static void compared(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;
    struct tp_leaf_record leaf;

    if (is_broken(rpc, call, out))
        return;
    if (call->row_count == 0 || tp_leaf_record_decode(call->rows[0].value, &leaf) != TP_OK)
        again(rpc, call, out);
    else if (memcmp(leaf.hash, filing->leaf, sizeof filing->leaf) != 0)
        tp_filing_fail(rpc, call, 500, out,
                       "Chunk %u for upload %.*s conflicts with already-stored data", filing->index,
                       ID(filing));
    else
        settle(rpc, call, out);
}

/* The chunk is stored. The one that completes the upload is acknowledged when the file is. */
static void settle(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    struct tp_upload *upload = tp_upload_find(rpc, filing);

    if (upload == NULL || upload->number != filing->number) { /* what else is stored is not known */
        again(rpc, call, out);
        return;
    }
    tp_upload_set(upload, filing->index);
    rpc->env->counters->file_bytes_stored += filing->chunk.size;
    if (upload->present_count < upload->chunk_count) {
        tp_rpc_done(rpc, call, out);
    } else if (upload->is_finishing) {
        tp_filing_later(rpc, call, out);
    } else {
        filing->finished = tp_rpc_done;
        tp_filing_finish(rpc, call, out);
    }
}
