/* Files: trees of hashes and what is said about files, as the reference does (spec 03 2 and 3). */
#include <criterion/criterion.h>

#include "golden/vectors.h"
#include "seam/message.h"
#include "wire/file.h"
#include "wire/merkle.h"
#include "wire/teleportal.h"
#include "work/work.h"

static struct tp_buffer content(uint32_t size, uint32_t seed)
{
    struct tp_buffer bytes = tp_buffer_growing(SIZE_MAX);

    cr_assert(tp_buffer_reserve(&bytes, size + 1));
    for (uint32_t i = 0; i < size; i++)
        bytes.data[i] = (uint8_t)((i * UINT32_C(2654435761) + seed) >> 24);
    bytes.size = size;
    return bytes;
}

static uint32_t whole(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    cr_assert(json_is_integer(value), "%s", name);
    return (uint32_t)json_integer_value(value);
}

/* The nodes of a file's tree, by the workers' operations. */
static struct tp_work_op tree_of(const struct tp_buffer *file, uint32_t chunk_size, uint32_t count)
{
    struct tp_buffer leaves = tp_buffer_growing(SIZE_MAX);

    for (uint32_t index = 0; index < count; index++) {
        const size_t at = (size_t)index * chunk_size;
        const struct tp_slice chunk = {file->data + at, tp_min(chunk_size, file->size - at)};
        struct tp_work_op op = {.kind = TP_WORK_HASH, .inputs = &chunk, .input_count = 1};

        tp_work_run(&op);
        cr_assert_eq(op.status, TP_OK);
        tp_buffer_append(&leaves, op.digests.data, op.digests.size);
        tp_work_op_finish(&op);
    }
    const struct tp_slice input = tp_buffer_slice(&leaves);
    struct tp_work_op op = {.kind = TP_WORK_TREE, .inputs = &input, .input_count = 1};
    tp_work_run(&op);
    cr_assert_eq(op.status, TP_OK);
    cr_assert_eq(op.digests.size, tp_merkle_node_count(count) * TP_SHA256_SIZE);
    tp_buffer_finish(&leaves);
    return op;
}

static const uint8_t *root_of(const uint8_t *nodes, uint32_t count)
{
    return nodes + (tp_merkle_node_count(count) - 1) * TP_SHA256_SIZE;
}

static void expect_proof(const json_t *proof, const uint8_t *nodes, uint32_t count)
{
    const uint8_t *siblings[TP_MERKLE_LEVEL_COUNT_MAX];
    struct tp_slice slices[TP_MERKLE_LEVEL_COUNT_MAX];
    const uint32_t index = whole(proof, "index");
    const json_t *want = json_object_get(proof, "siblings");
    const uint32_t sibling_count = tp_merkle_proof(nodes, count, index, siblings);
    const uint8_t *leaf = nodes + (size_t)index * TP_SHA256_SIZE;

    cr_assert_eq(sibling_count, json_array_size(want));
    for (uint32_t nth = 0; nth < sibling_count; nth++) {
        slices[nth] = tp_slice_of(siblings[nth], TP_SHA256_SIZE);
        vectors_expect(slices[nth], vectors_unhex(json_array_get(want, nth)), "%u of %u", nth,
                       index);
    }
    cr_assert(tp_merkle_verify(leaf, index, count, slices, sibling_count, root_of(nodes, count)));
    if (sibling_count > 0)
        cr_assert_not(
            tp_merkle_verify(leaf, index, count, slices, sibling_count - 1, root_of(nodes, count)));
}

Test(files, trees_are_those_of_the_reference)
{
    json_t *vectors = vectors_load("rpc/merkle.json");

    VECTORS_EACH(vectors, "cases", each)
    {
        const struct tp_file_shape shape = {.size = whole(each, "size"),
                                            .chunk_size = whole(each, "chunkSize")};
        const uint32_t count = whole(each, "leafCount");
        uint8_t id[TP_FILE_ID_TEXT_SIZE];

        if (shape.chunk_size >= TP_FILE_CHUNK_SIZE_MIN)
            cr_assert_eq(tp_file_chunk_count(&shape), count);
        struct tp_buffer file = content((uint32_t)shape.size, whole(each, "seed"));
        struct tp_work_op tree = tree_of(&file, shape.chunk_size, count);
        const struct tp_slice root = {root_of(tree.digests.data, count), TP_SHA256_SIZE};
        vectors_expect(root, vectors_hex(each, "root"), "root of %u", count);
        tp_file_id_write(root.data, id);
        vectors_expect(tp_slice_of(id, sizeof id), vectors_string(each, "fileId"), "id");
        VECTORS_EACH(each, "proofs", proof)
        expect_proof(proof, tree.digests.data, count);
        tp_work_op_finish(&tree);
        tp_buffer_finish(&file);
    }
}

Test(files, proofs_that_do_not_prove_are_refused)
{
    json_t *vectors = vectors_load("rpc/merkle.json");

    VECTORS_EACH(vectors, "verify", each)
    {
        const json_t *siblings = json_object_get(each, "proof");
        struct tp_slice proof[TP_MERKLE_LEVEL_COUNT_MAX];
        uint8_t leaf[TP_SHA256_SIZE];

        for (size_t nth = 0; nth < json_array_size(siblings); nth++)
            proof[nth] = vectors_unhex(json_array_get(siblings, nth));
        tp_merkle_leaf(vectors_hex(each, "chunk"), leaf);
        cr_assert_eq(tp_merkle_verify(leaf, whole(each, "index"), whole(each, "leafCount"), proof,
                                      json_array_size(siblings), vectors_hex(each, "root").data),
                     json_is_true(json_object_get(each, "valid")), "%s", vectors_text(each, "why"));
    }
}

Test(files, sealed_chunks_have_the_sizes_and_the_root_of_the_reference)
{
    const json_t *vectors = json_object_get(vectors_load("rpc/merkle.json"), "encryptedChunks");

    VECTORS_EACH(vectors, "cases", each)
    {
        const struct tp_file_shape shape = {.size = whole(each, "size"),
                                            .chunk_size = whole(each, "wireChunkSize"),
                                            .encrypted = true};
        const json_t *chunks = json_object_get(each, "chunkCiphertexts");
        struct tp_buffer file = tp_buffer_growing(1 << 20);

        cr_assert_eq(tp_file_chunk_count(&shape), whole(each, "totalChunks"));
        for (uint32_t index = 0; index < json_array_size(chunks); index++) {
            const struct tp_slice chunk = vectors_unhex(json_array_get(chunks, index));
            cr_assert_eq(tp_file_chunk_size(&shape, index), chunk.size);
            tp_buffer_append(&file, chunk.data, chunk.size);
        }
        const uint32_t count = tp_file_chunk_count(&shape);
        if (json_array_size(chunks) == count) {
            struct tp_work_op tree = tree_of(&file, shape.chunk_size, count);
            vectors_expect(tp_slice_of(root_of(tree.digests.data, count), TP_SHA256_SIZE),
                           vectors_hex(each, "root"), "root of %u", count);
            tp_work_op_finish(&tree);
        }
        tp_buffer_finish(&file);
    }
}

/* ---- messages -----------------------------------------------------------------------------------
 */

static void expect_piece(const struct tp_slice payload, const json_t *want)
{
    const json_t *proof = json_object_get(want, "merkleProof");
    const uint8_t *siblings[TP_MERKLE_LEVEL_COUNT_MAX];
    struct tp_buffer out = tp_buffer_growing(1 << 20);
    const struct tp_file_piece piece = {
        .file_id = vectors_string(want, "fileId"),
        .chunk_index = whole(want, "chunkIndex"),
        .chunk_count = whole(want, "totalChunks"),
        .bytes = vectors_hex(json_object_get(want, "chunkData"), "$hex"),
        .siblings = siblings,
        .sibling_count = (uint32_t)json_array_size(proof),
        .sent_size = whole(want, "bytesUploaded"),
        .encrypted = json_is_true(json_object_get(want, "encrypted"))};

    for (uint32_t nth = 0; nth < piece.sibling_count; nth++)
        siblings[nth] = vectors_hex(json_array_get(proof, nth), "$hex").data;
    tp_file_piece_write(&piece, &out);
    vectors_expect(tp_buffer_slice(&out), payload, "piece %u", piece.chunk_index);
    cr_assert_leq(out.size, tp_file_piece_size(&piece));
    tp_buffer_finish(&out);
}

static void expect_facts(const struct tp_slice payload, const json_t *want)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);
    const struct tp_file_facts facts = {
        .file_id = vectors_string(want, "fileId"),
        .name = vectors_string(want, "filename"),
        .type = vectors_string(want, "mimeType"),
        .size = whole(want, "size"),
        .modified_ms = (uint64_t)json_integer_value(json_object_get(want, "lastModified")),
        .chunk_count = whole(want, "totalChunks"),
        .encrypted = json_is_true(json_object_get(want, "encrypted"))};

    tp_file_facts_write(&facts, &out);
    vectors_expect(tp_buffer_slice(&out), payload, "facts");
    tp_buffer_finish(&out);
}

static void expect_offer(const struct tp_slice payload, const json_t *want)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);
    const struct tp_file_offer offer = {.file_id = vectors_string(want, "fileId"),
                                        .chunk_size = whole(want, "chunkSize"),
                                        .mismatch =
                                            json_object_get(want, "chunkSizeMismatch") != NULL,
                                        .exists = json_object_get(want, "alreadyExists") != NULL};

    tp_file_offer_write(&offer, &out);
    vectors_expect(tp_buffer_slice(&out), payload, "offer");
    tp_buffer_finish(&out);
}

Test(files, what_we_say_about_files_is_what_the_reference_says)
{
    json_t *vectors = vectors_load("rpc/rpc-messages.json");
    uint32_t pieces = 0, offers = 0, facts = 0;

    VECTORS_EACH(vectors, "messages", each)
    {
        const json_t *want = json_object_get(each, "decodedPayload");
        const bool upload = strcmp(vectors_text(each, "method"), "fileUpload") == 0;
        const bool stream = strcmp(vectors_text(each, "requestType"), "stream") == 0;

        if (strncmp(vectors_text(each, "method"), "file", 4) != 0 ||
            strcmp(vectors_text(each, "kind"), "success") != 0 ||
            strcmp(vectors_text(each, "direction"), "s2c") != 0)
            continue;
        const struct tp_slice payload = vectors_hex(each, "payloadHex");
        if (stream) {
            expect_piece(payload, want);
            pieces++;
        } else if (upload && json_object_get(want, "existingChunks") == NULL) {
            expect_offer(payload, want);
            offers++;
        } else if (!upload && json_is_true(json_object_get(want, "allowed"))) {
            expect_facts(payload, want);
            facts++;
        }
    }
    cr_assert(pieces > 2 && offers > 3 && facts > 2);
}
