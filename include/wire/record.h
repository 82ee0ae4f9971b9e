/* wire/record.h - what is in the store's keys and values (architecture.md, "Keys and records").
 *
 *     names     room 00 document          -> { number, epoch, mode, created }
 *     metadata  number                    -> { room 00 document, what compaction derives, extra }
 *     log       number, sequence (8 + 8)  -> entries, end to end
 *     bases     number                    -> { version, log sequence it covers, update }
 *
 * Numbers are 64 bit, big-endian in keys, so that rows of a document lie together in order. Every
 * value starts with a byte of its own that tells what it is and in which format (high and low four
 * bits). Inside, integers are lib0 varuints below 2^53 in their shortest form. Decoders borrow, are
 * strict, and answer TP_MALFORMED for every deviation: what they read we wrote ourselves, so
 * anything else is damage. */
#pragma once

#include "base/buffer.h"

#define TP_RECORD_NUMBER_KEY_SIZE 8u
#define TP_RECORD_LOG_KEY_SIZE 16u
#define TP_RECORD_NAME_SIZE_MAX 1024u /* bytes, of a room and of a document */

enum tp_record_format {
    TP_RECORD_NAME = 0x11,
    TP_RECORD_METADATA = 0x21,
    TP_RECORD_LOG_ENTRY = 0x31,
    TP_RECORD_BASE = 0x41,
    TP_RECORD_MILESTONE = 0x51,   /* what follows: rpc/milestones.c */
    TP_RECORD_ATTRIBUTION = 0x61, /* crdt/attribution.h */
    TP_RECORD_KEYS = 0x71,        /* rpc/keys.c */
};

enum tp_record_mode { TP_MODE_PLAIN = 1, TP_MODE_ENCRYPTED = 2 };
enum tp_record_encoding { TP_RECORD_V1 = 1, TP_RECORD_V2 = 2, TP_RECORD_CONTAINER = 3 };

struct tp_name_record {
    uint64_t number; /* never 0 */
    uint64_t epoch;
    enum tp_record_mode mode;
    uint64_t created_ms;
    bool deleted;                 /* a tombstone */
    struct tp_slice state_vector; /* of what deleted epochs held; empty: there are none */
};

/* One received update, as it came. Encrypted documents (TP_RECORD_CONTAINER): a container, or, of
 * our own making (dialect 0) and in bases, all there was, sealed (crdt/sidecars.h). */
struct tp_log_entry {
    uint64_t sequence;
    uint64_t wall_ms;
    struct tp_slice user, client;
    struct tp_slice
        origin;         /* node / boot / sequence of the first node that took it; empty: this one */
    uint8_t dialect;    /* enum tp_dialect_id */
    bool is_first_sync; /* said in answer to a step 1: it may hold what others have made */
    uint8_t encoding;   /* enum tp_record_encoding */
    struct tp_slice update; /* the bytes as received */
};

struct tp_base_record {
    uint64_t version;  /* one more at each compaction: what compare-and-set compares; never 0 */
    uint64_t sequence; /* log entries up to here are in it */
    uint8_t encoding;  /* TP_RECORD_V1, or CONTAINER for encrypted documents */
    struct tp_slice update;
};

/* Written when the document is created, and by each compaction. No record is the beginning of
 * another, so that a whole one can be expected (TP_PART_EXPECT_VALUE). */
struct tp_metadata_record {
    struct tp_slice name; /* the key in names */
    uint64_t epoch;
    enum tp_record_mode mode;
    uint64_t created_ms;
    /* derived by compaction; 0 and empty before the first */
    uint64_t updated_ms;  /* of the newest entry in the base */
    uint64_t update_size; /* of the base, bytes */
    uint64_t entry_count; /* log entries folded into the base so far */
    struct tp_slice state_vector;
    struct tp_slice extra; /* what others keep here; compaction carries it over as it is */
};

/* TP_DENIED: NUL in a name, or longer than 1024 bytes, or no document name. */
TP_MUST_CHECK enum tp_status tp_record_name_key(struct tp_slice room, struct tp_slice document,
                                                struct tp_buffer *out);
/* Of the key registry: room 00 document 00 epoch. The names are sound. */
void tp_record_keys_key(struct tp_slice room, struct tp_slice document, uint64_t epoch,
                        struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_record_name_key_decode(struct tp_slice key, struct tp_slice *room,
                                                       struct tp_slice *document);
void tp_record_number_key(uint64_t number, uint8_t out[TP_RECORD_NUMBER_KEY_SIZE]);
void tp_record_log_key(uint64_t number, uint64_t sequence, uint8_t out[TP_RECORD_LOG_KEY_SIZE]);
TP_MUST_CHECK enum tp_status tp_record_log_key_decode(struct tp_slice key, uint64_t *number,
                                                      uint64_t *sequence);

void tp_name_record_encode(const struct tp_name_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_name_record_decode(struct tp_slice bytes,
                                                   struct tp_name_record *out);

void tp_metadata_record_encode(const struct tp_metadata_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_metadata_record_decode(struct tp_slice bytes,
                                                       struct tp_metadata_record *out);

/* The head of an entry; the update's bytes follow it directly (entry->update.size of them). 12 to
 * 16 bytes for a user and client without names: 2, sequence, 6 of time, size. */
void tp_log_entry_head_encode(const struct tp_log_entry *entry, struct tp_buffer *out);
/* Takes one entry off the front of `rest`. TP_ABSENT: nothing is left. */
TP_MUST_CHECK enum tp_status tp_log_entry_next(struct tp_slice *rest, struct tp_log_entry *out);

/* The update's bytes follow the head directly, and nothing follows them. */
void tp_base_record_head_encode(const struct tp_base_record *record, struct tp_buffer *out);
TP_MUST_CHECK enum tp_status tp_base_record_decode(struct tp_slice bytes,
                                                   struct tp_base_record *out);
/* What exactly the records of this version start with: for TP_PART_EXPECT_VALUE. */
void tp_base_record_version_encode(uint64_t version, struct tp_buffer *out);
