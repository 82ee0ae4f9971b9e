/* fileDownload: one chunk after the other, each when the peer has taken the one before.
 *
 *     read chunk 0 ──► drained ──► part 0, read chunk 1 ──► drained ──► part 1 ...
 *
 * While one chunk is on its way to the peer the next is read, and waits here: that is all of a file
 * that is ever in memory. */
#include "rpc/files.h"

#define NOTHING ((struct tp_slice){0})

static tp_rpc_step listed, grow, grown, next, chunk, send;

static void not_found(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    tp_rpc_fail(rpc, call, 404, "File not found", out);
}

static void finish(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    (void)rpc;
    (void)out;
    tp_buffer_finish(&filing->nodes);
}

/* Downloads under way to the same peer. */
static uint32_t count_downloads(const struct tp_rpc *rpc, const struct tp_rpc_call *like)
{
    uint32_t count = 0;

    TP_LIST_EACH(link, &rpc->calls)
    {
        const struct tp_rpc_call *call = TP_CONTAINER(link, struct tp_rpc_call, link);
        count += call->peer == like->peer && call->method == like->method && call->state != NULL;
    }
    return count;
}

void tp_rpc_file_download(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_rpc_args args;

    if (count_downloads(rpc, call) >= rpc->env->limits->download_per_peer_max) {
        tp_rpc_fail(rpc, call, 429, "Too many downloads at once", out);
        return;
    }
    tp_rpc_args_read(&args, call->request.rpc.payload);
    tp_filing_begin(rpc, call, tp_rpc_text(&args, "fileId", TP_FILES_ID_SIZE_MAX));
    call->finish = finish;
    if (tp_rpc_refused(rpc, call, &args, out))
        return;
    if (tp_filing_name(rpc, call) != TP_OK) {
        not_found(rpc, call, out);
        return;
    }
    tp_filing_range_listed(call);
    tp_filing_range_manifest(call);
    tp_rpc_read(rpc, call, listed, out);
}

/* What the document does not list is not there, whether there is such a file or not. */
static void listed(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    if (tp_rpc_broken(rpc, call, out))
        return;
    const struct tp_store_row *manifest = tp_filing_row(
        call, TP_TABLE_FILES, tp_slice_of(filing->manifest_key, sizeof filing->manifest_key));
    if (tp_filing_read_listed(call) != TP_OK || manifest == NULL ||
        tp_manifest_record_decode(manifest->value, &filing->manifest) != TP_OK) {
        not_found(rpc, call, out);
        return;
    }
    filing->listed.name = tp_filing_copy(rpc, call, filing->listed.name);
    filing->listed.type = tp_filing_copy(rpc, call, filing->listed.type);
    tp_filing_range_leaves(call, filing->manifest.number);
    tp_rpc_read(rpc, call, grow, out);
}

static void grow(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const uint32_t count = filing->manifest.chunk_count;
    uint32_t at = 0;

    if (tp_rpc_broken(rpc, call, out))
        return;
    uint8_t *leaves = tp_rpc_take(rpc, call, (size_t)count * TP_SHA256_SIZE);
    for (; at < call->row_count && at < count; at++) {
        struct tp_leaf_record leaf;
        uint64_t number;
        uint32_t index;
        if (tp_leaf_key_decode(call->rows[at].key, &number, &index) != TP_OK || index != at ||
            tp_leaf_record_decode(call->rows[at].value, &leaf) != TP_OK)
            break;
        memcpy(leaves + (size_t)at * TP_SHA256_SIZE, leaf.hash, TP_SHA256_SIZE);
    }
    if (at < count) {
        not_found(rpc, call, out); /* deleted a moment ago */
        return;
    }
    filing->input = tp_slice_of(leaves, (size_t)count * TP_SHA256_SIZE);
    call->work.inputs = &filing->input;
    call->work.input_count = 1;
    tp_rpc_work(rpc, call, TP_WORK_TREE, grown, out);
}

static void grown(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    filing->nodes = call->work.digests;
    call->work.digests = (struct tp_buffer){0};
    filing->index = 0;
    rpc->env->counters->files_downloaded++;
    next(rpc, call, out);
}

static void next(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;

    if (call->peer == NULL) {
        tp_rpc_done(rpc, call, out);
        return;
    }
    tp_rpc_drop_rows(call);
    tp_chunk_key(filing->manifest.number, filing->index, filing->chunk_key);
    tp_filing_range(call, TP_TABLE_FILES, tp_slice_of(filing->chunk_key, TP_CHUNK_KEY_SIZE),
                    NOTHING, 0);
    tp_rpc_read(rpc, call, chunk, out);
}

static void chunk(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    if (tp_rpc_broken(rpc, call, out))
        return;
    if (call->row_count == 0)
        not_found(rpc, call, out);
    else
        tp_rpc_drained(rpc, call, send, out);
}

static void tell_facts(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    const struct tp_filing *filing = call->state;
    const struct tp_file_facts facts = {.file_id = filing->id,
                                        .name = filing->listed.name,
                                        .type = filing->listed.type,
                                        .size = filing->listed.shape.size,
                                        .modified_ms = filing->listed.stored_ms,
                                        .chunk_count = filing->manifest.chunk_count,
                                        .encrypted = filing->listed.shape.encrypted};
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);

    tp_file_facts_write(&facts, &payload);
    tp_rpc_reply(rpc, call, &payload, out);
}

static void send(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out)
{
    struct tp_filing *filing = call->state;
    const uint8_t *siblings[TP_MERKLE_LEVEL_COUNT_MAX];
    struct tp_file_piece piece = {.file_id = filing->id,
                                  .chunk_index = filing->index,
                                  .chunk_count = filing->manifest.chunk_count,
                                  .bytes = call->rows[0].value,
                                  .siblings = siblings,
                                  .encrypted = filing->listed.shape.encrypted};
    struct tp_buffer payload = tp_buffer_growing(UINT32_MAX);

    piece.sibling_count =
        tp_merkle_proof(filing->nodes.data, piece.chunk_count, piece.chunk_index, siblings);
    filing->sent_size += piece.bytes.size;
    piece.sent_size = filing->sent_size;
    TP_ASSERT(tp_buffer_reserve(&payload, tp_file_piece_size(&piece)));
    tp_file_piece_write(&piece, &payload);
    tp_rpc_send_part(rpc, call, &payload, out);
    rpc->env->counters->file_bytes_sent += piece.bytes.size;
    if (++filing->index < piece.chunk_count)
        next(rpc, call, out);
    else
        tell_facts(rpc, call, out);
}
