/* wire/awareness.h - y-protocols' awareness update: who is there (spec 05 section 3).
 *
 *     count | client, clock, JSON text | client, clock, JSON text | ...
 *                            "null": gone
 *
 * The JSON is whatever the application wrote: opaque but for being UTF-8 and not too long. */
#pragma once

#include "base/buffer.h"
#include "wire/reader.h"

#define TP_AWARENESS_ENTRY_COUNT_MAX 16384u            /* more in one update are malformed */
#define TP_AWARENESS_STATE_SIZE_MAX ((size_t)64 << 10) /* a longer JSON text is malformed */

struct tp_awareness_entry {
    uint64_t client;
    uint64_t clock;
    struct tp_slice state; /* JSON text */
};

/* A walk over an update's entries, in order. Borrows from the update. */
struct tp_awareness_walk {
    struct tp_reader in;
    uint64_t left; /* entries */
};

/* True if the walk over `update` will meet nothing malformed. Bytes behind it are ignored. */
bool tp_awareness_valid(struct tp_slice update);

TP_MUST_CHECK enum tp_status tp_awareness_walk(struct tp_slice update,
                                               struct tp_awareness_walk *out);
/* TP_ABSENT: that was all. */
TP_MUST_CHECK enum tp_status tp_awareness_next(struct tp_awareness_walk *walk,
                                               struct tp_awareness_entry *out);

/* True for the text `null`: the client is gone. */
bool tp_awareness_is_gone(const struct tp_awareness_entry *entry);

/* An update is its count, then its entries. */
void tp_awareness_write_count(struct tp_buffer *out, uint64_t entry_count);
void tp_awareness_write_entry(struct tp_buffer *out, const struct tp_awareness_entry *entry);
size_t tp_awareness_entry_size(const struct tp_awareness_entry *entry); /* bytes it takes */
