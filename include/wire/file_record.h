/* wire/file_record.h - files in the store's keys and values.
 *
 *     uploads  'S' owner, file          -> { number, shape, begun, name, type, documents }
 *     uploads  'L' number, index        -> { hash of the chunk, when }
 *     uploads  'G' number               -> { chunk count }                  to be deleted
 *     files    'C' number, index        -> the chunk's bytes
 *     files    'M' file                 -> { generation, number, chunk count }
 *     files    'D' room 00 document 00 file  -> { epoch, shape, stored, name, type }
 *     files    'R' file, room 00 document    -> { epoch }
 *
 * A chunk is written once, under the number that its upload has drawn, and never moves: what makes
 * an upload a file is the manifest (M) that names the number. So 'L' rows are the leaves of the
 * upload's tree first and those of the file's later. Who may read a file is said by rows: a
 * document lists it (D), and is listed by it (R). What a document calls the file, and whether it
 * takes it for encrypted, is the document's own: the same bytes may have come from somebody it must
 * not hear of.
 *
 * A reference holds in its epoch of the document. After a deletion the document has a later epoch,
 * and what it referred to is out of reach at once; the rows go when the sweep finds them. Adding a
 * reference raises the manifest's generation, so that the sweep, which deletes a file that it saw
 * no reference to, fails when there is one meanwhile.
 *
 * The general rules are those of wire/record.h. */
#pragma once

#include "wire/file.h"
#include "wire/record.h"

#define TP_FILE_OWNER_SIZE 16u
#define TP_UPLOAD_KEY_SIZE (1 + TP_FILE_OWNER_SIZE + TP_FILE_ID_SIZE)
#define TP_CHUNK_KEY_SIZE (1 + 8 + 4)
#define TP_GARBAGE_KEY_SIZE (1 + 8)
#define TP_MANIFEST_KEY_SIZE (1 + TP_FILE_ID_SIZE)
/* 'D' and 'R': the document's name key and a file's id. */
#define TP_FILE_LINK_KEY_SIZE_MAX (2 + 2 * TP_RECORD_NAME_SIZE_MAX + 1 + TP_FILE_ID_SIZE)

#define TP_UPLOAD_DOCUMENT_COUNT_MAX 8u /* that one upload is for; another one is refused */

enum tp_file_key {
    TP_KEY_CHUNK = 'C',
    TP_KEY_LISTED = 'D',
    TP_KEY_GARBAGE = 'G',
    TP_KEY_LEAF = 'L',
    TP_KEY_MANIFEST = 'M',
    TP_KEY_REFERENCE = 'R',
    TP_KEY_UPLOAD = 'S',
};

/* Next to those of enum tp_record_format. */
enum tp_file_record_format {
    TP_RECORD_UPLOAD = 0x81,
    TP_RECORD_LEAF = 0x91,
    TP_RECORD_GARBAGE = 0xa1,
    TP_RECORD_MANIFEST = 0xb1,
    TP_RECORD_LISTED = 0xc1,
    TP_RECORD_REFERENCE = 0xd1,
};

struct tp_upload_document {
    struct tp_slice name; /* room 00 document */
    uint64_t epoch;
};

struct tp_upload_record {
    uint64_t number; /* never 0 */
    struct tp_file_shape shape;
    uint64_t begun_ms;
    struct tp_slice name, type;
    struct tp_upload_document documents[TP_UPLOAD_DOCUMENT_COUNT_MAX]; /* at least one */
    uint32_t document_count;
};

struct tp_leaf_record {
    const uint8_t *hash; /* TP_SHA256_SIZE bytes */
    uint64_t stored_ms;
};

struct tp_manifest_record {
    uint64_t generation; /* never 0 */
    uint64_t number;
    uint32_t chunk_count;
};

struct tp_listed_record {
    uint64_t epoch;
    struct tp_file_shape shape;
    uint64_t stored_ms;
    struct tp_slice name, type;
};

/* Whose upload it is: a user's, of a room; without a user, a document's. */
void tp_file_owner(struct tp_slice room, struct tp_slice user, struct tp_slice document,
                   uint8_t out[TP_FILE_OWNER_SIZE]);

void tp_upload_key(const uint8_t owner[TP_FILE_OWNER_SIZE], const uint8_t file[TP_FILE_ID_SIZE],
                   uint8_t out[TP_UPLOAD_KEY_SIZE]);
void tp_leaf_key(uint64_t number, uint32_t index, uint8_t out[TP_CHUNK_KEY_SIZE]);
void tp_chunk_key(uint64_t number, uint32_t index, uint8_t out[TP_CHUNK_KEY_SIZE]);
void tp_garbage_key(uint64_t number, uint8_t out[TP_GARBAGE_KEY_SIZE]);
void tp_manifest_key(const uint8_t file[TP_FILE_ID_SIZE], uint8_t out[TP_MANIFEST_KEY_SIZE]);
/* `name` is room 00 document, as tp_record_name_key writes it. Into `out` of
 * TP_FILE_LINK_KEY_SIZE_MAX bytes. `file` NULL: what all keys of the document begin with. */
struct tp_slice tp_listed_key(struct tp_slice name, const uint8_t *file, uint8_t *out);
struct tp_slice tp_reference_key(const uint8_t file[TP_FILE_ID_SIZE], struct tp_slice name,
                                 uint8_t *out);

TP_MUST_CHECK enum tp_status tp_leaf_key_decode(struct tp_slice key, uint64_t *number,
                                                uint32_t *index);
TP_MUST_CHECK enum tp_status tp_garbage_key_decode(struct tp_slice key, uint64_t *number);
TP_MUST_CHECK enum tp_status tp_manifest_key_decode(struct tp_slice key, const uint8_t **file);
TP_MUST_CHECK enum tp_status tp_reference_key_decode(struct tp_slice key, const uint8_t **file,
                                                     struct tp_slice *name);

void tp_upload_record_encode(const struct tp_upload_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_upload_record_decode(struct tp_slice bytes,
                                                     struct tp_upload_record *out);
/* What exactly the records of this number start with: for TP_PART_EXPECT_VALUE. */
void tp_upload_record_number_encode(uint64_t number, struct tp_buffer *out);
void tp_leaf_record_encode(const struct tp_leaf_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_leaf_record_decode(struct tp_slice bytes,
                                                   struct tp_leaf_record *out);
void tp_garbage_record_encode(uint32_t chunk_count, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_garbage_record_decode(struct tp_slice bytes, uint32_t *chunk_count);
void tp_manifest_record_encode(const struct tp_manifest_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_manifest_record_decode(struct tp_slice bytes,
                                                       struct tp_manifest_record *out);
void tp_listed_record_encode(const struct tp_listed_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_listed_record_decode(struct tp_slice bytes,
                                                     struct tp_listed_record *out);
void tp_reference_record_encode(uint64_t epoch, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_reference_record_decode(struct tp_slice bytes, uint64_t *epoch);
