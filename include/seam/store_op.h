/* seam/store_op.h - one read or write of durable bytes.
 *
 * Who needs a store fills an operation and hands it over (effect STORE); it is the store's until it
 * comes back, answered exactly once, as TP_EVENT_STORED. Keys and values are bytes to the store;
 * wire/record.h says what is in them.
 *
 *     READ    ranges[] -> rows, all of one moment
 *     APPEND  key, value: one entry of a log. Entries whose keys share the prefix and that land in
 *             one commit may be joined into one row under the first one's key, values end to end
 *     WRITE   expectations, puts and deletes, in any order: all or nothing
 *
 * An APPEND or WRITE answered TP_FULL or TP_IO is not promised to be stored, and not promised to be
 * absent either: the disk failed somewhere on the way. */
#pragma once

#include "base/frame.h"
#include "base/list.h"

/* One column family, one table, or one bucket each. */
enum tp_store_table {
    TP_TABLE_NAMES,    /* room 00 document -> number, epoch, mode, created */
    TP_TABLE_BASES,    /* number -> base */
    TP_TABLE_LOG,      /* number, sequence -> log entries */
    TP_TABLE_METADATA, /* number -> metadata; also the reverse of names */
    TP_TABLE_MILESTONES,
    TP_TABLE_FILES,
    TP_TABLE_UPLOADS,
    TP_TABLE_ATTRIBUTION,
    TP_TABLE_KEYS,
    TP_TABLE_RATES,
    TP_TABLE_QUARANTINE,
    TP_TABLE_COUNT,
};

enum tp_store_verb {
    TP_STORE_READ,
    TP_STORE_APPEND,
    TP_STORE_WRITE,
};

#define TP_STORE_KEY_SIZE_MAX 2200u /* room and document, each at most 1024 bytes, and a prefix */
#define TP_STORE_RANGE_COUNT_MAX 4u
#define TP_STORE_PART_COUNT_MAX 6u

struct tp_store_range {
    enum tp_store_table table;
    struct tp_slice from;   /* first key */
    struct tp_slice to;     /* first key behind it; empty: only the key `from` itself */
    uint32_t row_count_max; /* 0: all */
    bool without_values;    /* rows tell the size of their values, and have NULL for their bytes */
};

/* One row read. Key and value lie in the operation's `answer` memory. */
struct tp_store_row {
    enum tp_store_table table;
    struct tp_slice key, value;
};

enum tp_store_part_kind {
    TP_PART_PUT,
    TP_PART_DELETE,
    /* every row from `key` on and below `value`; the same operation puts none there */
    TP_PART_DELETE_RANGE,
    TP_PART_EXPECT_ABSENT, /* else the whole WRITE answers TP_DENIED and changes nothing */
    TP_PART_EXPECT_VALUE,  /* the row's value starts with `value`; as above */
};

struct tp_store_part {
    enum tp_store_part_kind kind;
    enum tp_store_table table;
    struct tp_slice key, value;
};

struct tp_store_op {
    struct tp_link
        link; /* its holder's queue: the session's, then the store's, then the session's */
    enum tp_store_verb verb;

    /* READ */
    struct tp_store_range ranges[TP_STORE_RANGE_COUNT_MAX];
    uint32_t range_count;

    /* APPEND: `key` ends with the 8 byte sequence; `value` in up to two pieces, gathered by the
     * store. `parts` go into the same commit, before the entry (creating a document's rows). WRITE:
     * `parts` alone, `more_parts` for long lists. */
    struct tp_slice key;
    struct tp_slice value[2];
    struct tp_store_part parts[TP_STORE_PART_COUNT_MAX];
    uint32_t part_count;
    const struct tp_store_part *more_parts;
    size_t more_part_count;

    /* the answer; rows and their bytes belong to the store until tp_store_op_finish */
    enum tp_status status; /* TP_OK; TP_DENIED: an expectation failed; TP_FULL, TP_IO: not stored */
    struct tp_store_row *rows; /* in the order of the ranges, keys ascending in each */
    size_t row_count;
    void *answer; /* one heap block that holds rows and their bytes; freed by the asker: free() */
    size_t answer_size;

    /* the asker's and the shard's: the store does not look */
    void *owner;
    bool of_call;            /* the asker is an rpc call, not the session */
    uint32_t step;           /* what the asker does next */
    void *route;             /* the shard's: whose answer this is */
    uint32_t shard_index;    /* where the answer goes */
    struct tp_link inflight; /* the asker's list of open operations */
    struct tp_frame *frame;  /* keeps the bytes that key and value point to */
};
