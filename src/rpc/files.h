/* src/rpc/files.h - files of a document, for this folder (spec 03 section 3).
 *
 *     fileUpload     request ──► look ──► begin or resume ──► offer
 *                    part ──► known? ──► hash ──► store ──► all there? ──► finish
 *     finish         leaves ──► tree ──► root = name? ──► manifest, references
 *     fileDownload   listed? ──► leaves ──► tree ──► (chunk ──► drained ──► part) ... ──► facts
 *
 * All that is promised stands in the store (wire/file_record.h), and every write expects what was
 * read before: so any core may serve any document's part of a file, without asking another one.
 * What is kept here of an upload, the set of its stored chunks, only saves reading it again. */
#pragma once

#include "rpc/methods.h"
#include "wire/file_record.h"
#include "wire/merkle.h"

#define TP_FILES_TRY_COUNT_MAX 8u /* of a write that others were faster with; then: come again */
#define TP_FILES_RETRY_MS 250u    /* what who comes again is told to wait */
#define TP_FILES_UPLOAD_COUNT_MAX 64u   /* kept in memory of a document; the oldest is read again */
#define TP_FILES_LISTED_COUNT_MAX 4096u /* files of a document; one more is refused */
#define TP_FILES_ID_SIZE_MAX 256u       /* of a name as a client writes it; longer: 400 */
#define TP_FILES_WORDS_SIZE 640u

/* An upload that chunks come for. Found by owner and file, never held on to across a wait. */
struct tp_upload {
    struct tp_link link; /* in rpc->uploads, used last at the end */
    uint8_t owner[TP_FILE_OWNER_SIZE];
    uint8_t file[TP_FILE_ID_SIZE];
    uint64_t number;
    struct tp_file_shape shape;
    uint32_t chunk_count, present_count;
    bool is_finishing;
    uint8_t present[]; /* a bit for each chunk */
};

/* What a call about a file has in mind. */
struct tp_filing {
    struct tp_slice id; /* as the client wrote it */
    uint8_t file[TP_FILE_ID_SIZE];
    uint8_t owner[TP_FILE_OWNER_SIZE];
    struct tp_slice document; /* room 00 document */
    uint64_t epoch;
    tp_rpc_step *finished; /* where finishing goes on when all is stored */

    /* a request */
    struct tp_slice name, type;
    struct tp_file_shape shape;

    /* a chunk */
    struct tp_slice chunk;
    uint32_t index;
    uint64_t number; /* of the upload that it went to */
    uint8_t leaf[TP_SHA256_SIZE];
    struct tp_slice input; /* of work */

    /* what was read; lies in the store's answers */
    struct tp_upload_record upload;
    struct tp_slice upload_value;   /* data NULL: there is none */
    struct tp_slice manifest_value; /* data NULL: there is no such file */
    struct tp_manifest_record manifest;
    struct tp_listed_record listed;

    /* a download */
    struct tp_buffer nodes; /* the tree */
    uint64_t sent_size;

    /* keys */
    uint8_t upload_key[TP_UPLOAD_KEY_SIZE];
    uint8_t manifest_key[TP_MANIFEST_KEY_SIZE];
    uint8_t garbage_key[TP_GARBAGE_KEY_SIZE];
    uint8_t chunk_key[TP_CHUNK_KEY_SIZE], leaf_key[TP_CHUNK_KEY_SIZE], leaf_end[TP_CHUNK_KEY_SIZE];
    struct tp_slice listed_key, listed_from, listed_to;
};

/* ---- filing.c -----------------------------------------------------------------------------------
 */

/* The call's filing, with what is known of the document and of who asks. */
struct tp_filing *tp_filing_begin(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_slice id);
/* Sets filing->file and the keys that follow from it. TP_MALFORMED: no file has this name. */
TP_MUST_CHECK enum tp_status tp_filing_name(struct tp_rpc *rpc, struct tp_rpc_call *call);
struct tp_slice tp_filing_copy(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_slice bytes);

void tp_filing_range(struct tp_rpc_call *call, enum tp_store_table table, struct tp_slice from,
                     struct tp_slice to, uint32_t row_count_max);
/* The rows of upload, file and leaf that the call's filing names. */
void tp_filing_range_upload(struct tp_rpc_call *call);
void tp_filing_range_manifest(struct tp_rpc_call *call);
void tp_filing_range_listed(struct tp_rpc_call *call); /* this file */
void tp_filing_range_files(struct tp_rpc_call *call);  /* all files of the document */
void tp_filing_range_leaves(struct tp_rpc_call *call, uint64_t number);
/* The first row of this key that was read; NULL: there is none. */
const struct tp_store_row *tp_filing_row(const struct tp_rpc_call *call, enum tp_store_table table,
                                         struct tp_slice key);
/* Sets upload and upload_value. TP_ABSENT; TP_MALFORMED: the row is damaged. */
TP_MUST_CHECK enum tp_status tp_filing_read_upload(struct tp_rpc_call *call);
/* Sets `listed`: the document has this file. TP_ABSENT: it has not, or an earlier epoch had. */
TP_MUST_CHECK enum tp_status tp_filing_read_listed(struct tp_rpc_call *call);
/* True if `more` bytes in one more file would be too much for the document, as far as its files are
 * among the rows that were read last. And the answer then. */
bool tp_filing_is_too_much(const struct tp_rpc *rpc, const struct tp_rpc_call *call, uint64_t more);
void tp_filing_fail_too_much(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);

struct tp_upload *tp_upload_find(struct tp_rpc *rpc, const struct tp_filing *filing);
/* Of the upload and the leaves that were read. */
struct tp_upload *tp_upload_keep(struct tp_rpc *rpc, struct tp_rpc_call *call);
void tp_upload_forget(struct tp_rpc *rpc, struct tp_upload *upload); /* NULL is allowed */
void tp_uploads_finish(struct tp_rpc *rpc);
bool tp_upload_has(const struct tp_upload *upload, uint32_t index);
void tp_upload_set(struct tp_upload *upload, uint32_t index);

/* Ends a call whose write others were faster with, again and again, or that the store refused. */
void tp_filing_later(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);
void tp_filing_fail(struct tp_rpc *rpc, struct tp_rpc_call *call, uint32_t status,
                    struct tp_effects *out, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- finish.c -----------------------------------------------------------------------------------
 */

/* Every chunk of the call's upload is stored: makes it a file of every document that it is for,
 * then goes on with filing->finished. */
void tp_filing_finish(struct tp_rpc *rpc, struct tp_rpc_call *call, struct tp_effects *out);
