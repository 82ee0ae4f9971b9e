/* wire/file.h - how a file is cut and named, and what is said of it (spec 03 sections 2.2 and 3.1).
 *
 *     offer    {fileId, allowed, chunkSize, existingChunks}     to who wants to upload it
 *     piece    {fileId, chunkIndex, chunkData, merkleProof}     to who downloads it
 *     facts    {fileId, filename, size, ...}                    after the last piece
 *
 * Each is one `any` object, and the bytes are the reference server's. */
#pragma once

#include "base/hash.h"
#include "wire/any.h"

#define TP_FILE_ID_SIZE TP_SHA256_SIZE
#define TP_FILE_ID_TEXT_SIZE 44u    /* base64 with padding */
#define TP_FILE_NAME_SIZE_MAX 1024u /* bytes of a name; a longer one is malformed */
#define TP_FILE_TYPE_SIZE_MAX 256u  /* and of a media type */
#define TP_FILE_SEAL_SIZE 28u       /* what sealing adds to a chunk: initial vector and tag */
#define TP_FILE_CHUNK_SIZE_MIN 64u  /* sealed chunks hold something, too */
#define TP_FILE_CHUNK_COUNT_MAX \
    65536u /* a file of more is refused: its size is above the maximum */

/* How a file is cut. An empty one has one chunk. */
struct tp_file_shape {
    uint64_t size;       /* before sealing, bytes */
    uint32_t chunk_size; /* on the wire, bytes */
    bool encrypted;
};

/* The largest size that TP_FILE_CHUNK_COUNT_MAX chunks can have, and `size_max`, if that is less.
 */
uint64_t tp_file_size_max(uint32_t chunk_size, bool encrypted, uint64_t size_max);
uint32_t tp_file_chunk_count(const struct tp_file_shape *shape);
/* Bytes of chunk `index` on the wire. */
uint32_t tp_file_chunk_size(const struct tp_file_shape *shape, uint32_t index);

/* TP_MALFORMED: not the base64, in its one canonical form, of 32 bytes. */
TP_MUST_CHECK enum tp_status tp_file_id_parse(struct tp_slice text, uint8_t out[TP_FILE_ID_SIZE]);
void tp_file_id_write(const uint8_t id[TP_FILE_ID_SIZE], uint8_t out[TP_FILE_ID_TEXT_SIZE]);

/* ---- to clients ---------------------------------------------------------------------------------
 */

struct tp_file_offer {
    struct tp_slice file_id;
    uint32_t chunk_size;
    bool mismatch;          /* of chunk sizes: nothing has begun */
    bool exists;            /* nothing is to be sent */
    const uint8_t *present; /* a bit for each chunk, the lowest first; NULL: none is there */
    uint32_t chunk_count;   /* of `present` */
};

struct tp_file_piece {
    struct tp_slice file_id;
    uint32_t chunk_index, chunk_count;
    struct tp_slice bytes;
    const uint8_t *const *siblings; /* TP_SHA256_SIZE bytes each */
    uint32_t sibling_count;
    uint64_t sent_size; /* of the file up to and including this piece */
    bool encrypted;
};

struct tp_file_facts {
    struct tp_slice file_id, name, type;
    uint64_t size;
    uint64_t modified_ms;
    uint32_t chunk_count;
    bool encrypted;
};

void tp_file_offer_write(const struct tp_file_offer *offer, struct tp_buffer *out);
void tp_file_piece_write(const struct tp_file_piece *piece, struct tp_buffer *out);
size_t tp_file_piece_size(const struct tp_file_piece *piece); /* at most, written */
void tp_file_facts_write(const struct tp_file_facts *facts, struct tp_buffer *out);
