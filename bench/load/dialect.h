/* bench/load/dialect.h - what the generator says and hears, in the three dialects (spec 01, 05,
 * 06). */
#pragma once

#include "base/buffer.h"
#include "load/client.h"

enum load_kind {
    LOAD_OTHER,
    LOAD_STEP_1,
    LOAD_STEP_2,
    LOAD_UPDATE,
    LOAD_AWARENESS,
    LOAD_ACK,     /* Teleportal's ack, Hocuspocus' SyncStatus 1 */
    LOAD_REFUSED, /* a NACK, a denial */
};

struct load_message {
    enum load_kind kind;
    struct tp_slice bytes; /* state vector, update (V1; V2 in Teleportal) or awareness update */
};

/* What a server sent. TP_MALFORMED: not of this dialect. */
enum tp_status load_decode(enum load_dialect dialect, struct tp_slice payload,
                           struct load_message *out);
/* Appends the message to `out`. `document` is the document's name. Updates in the dialect's
 * encoding. */
void load_encode(enum load_dialect dialect, struct tp_slice document, enum load_kind kind,
                 struct tp_slice bytes, struct tp_buffer *out);
/* What is said first, before step 1: Hocuspocus' empty token; else nothing. */
void load_greeting(enum load_dialect dialect, struct tp_slice document, struct tp_buffer *out);

/* Update number `number` of one writer: `size` characters typed after the previous ones, into root
 * "t". */
void load_typing_update(enum load_dialect dialect, uint64_t client, uint64_t number, uint32_t size,
                        struct tp_buffer *out);
