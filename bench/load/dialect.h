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
    struct tp_slice document; /* its name, where the dialect says it; else empty */
    struct tp_slice bytes;    /* state vector, update (V1; V2 in Teleportal) or awareness update */
    uint64_t id;              /* LOAD_ACK: of the message that is acknowledged; 0: of the oldest */
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

/* `count` inserts of `size` characters each by one writer into root "t", the first at `clock`.
 * Typed ones follow each other and become one struct in a document; `apart`: each is put in front
 * of all others, and stays a struct of its own. */
void load_inserts(enum load_dialect dialect, uint64_t client, uint64_t clock, uint32_t size,
                  uint32_t count, bool apart, struct tp_buffer *out);
/* An awareness entry of one client: the cursor's `number`-th place. */
void load_cursor(uint64_t client, uint64_t number, struct tp_buffer *out);
/* Takes one cursor off the front of an awareness update whose count was read. False: none is left,
 * or it is no cursor (a client that is gone). */
bool load_cursor_next(struct tp_slice *entries, uint64_t *client, uint64_t *number);
