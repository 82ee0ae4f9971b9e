/* No bytes make a decoder of file records or names crash, overrun or loop; what one accepts, the
 * encoder writes again as the same bytes. And no proof proves a leaf that is not in the tree. */
#include "rpc/call.h"
#include "wire/file_record.h"
#include "wire/merkle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(struct tp_buffer *again, struct tp_slice bytes)
{
    TP_ASSERT(tp_slice_equal(tp_buffer_slice(again), bytes));
    again->size = 0;
}

static void uploads(struct tp_slice bytes, struct tp_buffer *again)
{
    struct tp_upload_record upload;
    struct tp_leaf_record leaf;
    uint32_t count;

    if (tp_upload_record_decode(bytes, &upload) == TP_OK) {
        tp_upload_record_encode(&upload, again);
        same(again, bytes);
        const uint32_t chunk_count = tp_file_chunk_count(&upload.shape);
        TP_ASSERT(tp_file_chunk_size(&upload.shape, chunk_count - 1) <= upload.shape.chunk_size);
    }
    if (tp_leaf_record_decode(bytes, &leaf) == TP_OK) {
        tp_leaf_record_encode(&leaf, again);
        same(again, bytes);
    }
    if (tp_garbage_record_decode(bytes, &count) == TP_OK) {
        tp_garbage_record_encode(count, again);
        same(again, bytes);
    }
}

static void files(struct tp_slice bytes, struct tp_buffer *again)
{
    struct tp_manifest_record manifest;
    struct tp_listed_record listed;
    uint64_t epoch;

    if (tp_manifest_record_decode(bytes, &manifest) == TP_OK) {
        tp_manifest_record_encode(&manifest, again);
        same(again, bytes);
    }
    if (tp_listed_record_decode(bytes, &listed) == TP_OK) {
        tp_listed_record_encode(&listed, again);
        same(again, bytes);
    }
    if (tp_reference_record_decode(bytes, &epoch) == TP_OK) {
        tp_reference_record_encode(epoch, again);
        same(again, bytes);
    }
}

static void names(struct tp_slice bytes)
{
    uint8_t id[TP_FILE_ID_SIZE], text[TP_FILE_ID_TEXT_SIZE], key[TP_FILE_LINK_KEY_SIZE_MAX];
    struct tp_slice name;
    const uint8_t *file;
    uint64_t number;
    uint32_t index;

    if (tp_file_id_parse(bytes, id) == TP_OK) {
        tp_file_id_write(id, text);
        TP_ASSERT(tp_slice_equal(bytes, tp_slice_of(text, sizeof text)));
    }
    if (tp_reference_key_decode(bytes, &file, &name) == TP_OK)
        TP_ASSERT(tp_slice_equal(bytes, tp_reference_key(file, name, key)));
    if (tp_manifest_key_decode(bytes, &file) == TP_OK)
        tp_manifest_key(file, key);
    if (tp_leaf_key_decode(bytes, &number, &index) == TP_OK) {
        tp_leaf_key(number, index, key);
        TP_ASSERT(tp_slice_equal(bytes, tp_slice_of(key, TP_CHUNK_KEY_SIZE)));
    }
    if (tp_garbage_key_decode(bytes, &number) == TP_OK) {
        tp_garbage_key(number, key);
        TP_ASSERT(tp_slice_equal(bytes, tp_slice_of(key, TP_GARBAGE_KEY_SIZE)));
    }
}

/* What calls about files ask of their arguments. */
static void arguments(struct tp_slice bytes)
{
    struct tp_rpc_args args;

    tp_rpc_args_read(&args, bytes);
    const struct tp_slice id = tp_rpc_text(&args, "fileId", 256);
    const struct tp_slice name = tp_rpc_text(&args, "filename", TP_FILE_NAME_SIZE_MAX);
    const struct tp_slice chunk = tp_rpc_bytes(&args, "chunkData", UINT32_MAX);
    const uint64_t size = tp_rpc_whole(&args, "size", TP_VARUINT_MAX);
    (void)tp_rpc_flag(&args, "encrypted");
    (void)tp_rpc_number(&args, "chunkIndex");
    TP_ASSERT(id.size <= 256 && name.size <= TP_FILE_NAME_SIZE_MAX && size <= TP_VARUINT_MAX);
    TP_ASSERT(chunk.size <= bytes.size);
    TP_ASSERT(args.wrong[0] == 0 || memchr(args.wrong, 0, sizeof args.wrong) != NULL);
}

/* Leaves of one byte each; the first bytes say how many, which one, and what to change. */
static void proofs(struct tp_slice bytes)
{
    const uint8_t *siblings[TP_MERKLE_LEVEL_COUNT_MAX];
    struct tp_slice proof[TP_MERKLE_LEVEL_COUNT_MAX];
    uint8_t other[TP_SHA256_SIZE];

    if (bytes.size < 4)
        return;
    const uint32_t leaf_count = bytes.data[0] + 1u, index = bytes.data[1] % leaf_count;
    const uint32_t claimed = bytes.data[2] % (leaf_count + 1);
    uint8_t *nodes = malloc(tp_merkle_node_count(leaf_count) * TP_SHA256_SIZE);
    TP_ASSERT(nodes != NULL);
    for (uint32_t nth = 0; nth < leaf_count; nth++)
        tp_merkle_leaf(tp_slice_of(&nth, sizeof nth), nodes + nth * TP_SHA256_SIZE);
    const uint8_t *root = tp_merkle_build(nodes, leaf_count);
    const uint8_t *leaf = nodes + index * TP_SHA256_SIZE;
    const uint32_t count = tp_merkle_proof(nodes, leaf_count, index, siblings);
    for (uint32_t nth = 0; nth < count; nth++)
        proof[nth] = tp_slice_of(siblings[nth], TP_SHA256_SIZE);

    TP_ASSERT(tp_merkle_verify(leaf, index, leaf_count, proof, count, root));
    if (claimed != index)
        TP_ASSERT(!tp_merkle_verify(leaf, claimed, leaf_count, proof, count, root));
    memcpy(other, leaf, sizeof other);
    other[bytes.data[3] % sizeof other] ^= 1;
    TP_ASSERT(!tp_merkle_verify(other, index, leaf_count, proof, count, root));
    if (count > 0) {
        proof[bytes.data[3] % count] = tp_slice_of(other, sizeof other);
        TP_ASSERT(!tp_merkle_verify(leaf, index, leaf_count, proof, count, root));
    }
    free(nodes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tp_slice bytes = {data, size};
    struct tp_buffer again = tp_buffer_growing(size + 64);

    uploads(bytes, &again);
    files(bytes, &again);
    names(bytes);
    arguments(bytes);
    proofs(bytes);
    tp_buffer_finish(&again);
    return 0;
}
