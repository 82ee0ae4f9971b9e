/* dialect/dialect.h - one way of speaking to Yjs clients over a message transport.
 *
 * A dialect is two translations between its own messages and seam/message.h, and the rules of its
 * connection: how it is recognised, what keeps an idle client, which close code says what. */
#pragma once

#include "base/buffer.h"
#include "seam/effect.h"
#include "seam/message.h"
#include "wire/teleportal.h"

/* What a connection remembers for its dialect. */
struct tp_dialect_state {
    struct tp_slice
        document; /* y-websocket: the document of this connection, decoded from the path */
};

/* Takes decoded messages one by one; each lives during the call only. */
struct tp_message_sink {
    void (*take)(void *context, struct tp_message *message);
    void *context;
};

struct tp_dialect {
    const char *name;
    enum tp_dialect_id id;
    /* True if `first`, the first message of a connection whose path did not decide, is of this
     * dialect. */
    bool (*claims)(struct tp_slice first);
    /* Decodes one transport message into none, one or several; each borrows from `bytes`. On
     * anything but TP_OK the connection is to be closed for `reason`; none was taken then. */
    enum tp_status (*decode)(const struct tp_dialect_state *state, struct tp_slice bytes,
                             struct tp_message_sink sink, enum tp_close_reason *reason);
    /* Writes `message` as this dialect says it to `out`, from its fields, never from `raw`.
     * TP_ABSENT: it cannot be said; nothing is sent. TP_FULL: `out` is. `document`: the name that
     * the receiving client uses. `message->update` must have the encoding that the dialect wants. A
     * step 2 of our own making (TP_DIALECT_NONE) is an answer; one that a client or a node sent is
     * news for the others, and written as an update: a client takes a step 2 for the end of its
     * first sync. */
    enum tp_status (*encode)(const struct tp_message *message, struct tp_slice document,
                             uint32_t variant, struct tp_buffer *out);
    /* True if the message may be relayed to other clients of this dialect as the bytes it came in:
     * they are this dialect's, and mean to a client what they mean to us. False without `raw`. */
    bool (*relays_raw)(const struct tp_message *message);
    uint8_t update_encoding;   /* TP_UPDATE_V1 or V2 (crdt/update.h): what `encode` needs, 1 or 2 */
    struct tp_slice keepalive; /* a whole message that keeps an idle client connected */
    uint64_t keepalive_ns;     /* sent after this long without anything sent */
    uint16_t (*close_code)(enum tp_close_reason reason);
};

/* NULL for TP_DIALECT_NONE and for what this build does not speak. */
const struct tp_dialect *tp_dialect_get(enum tp_dialect_id id);

/* The dialect of a first message when the path did not decide (architecture.md, "Recognising a
 * dialect"): Teleportal's magic; else y-protocols with the path as document. NULL: none claims it.
 */
const struct tp_dialect *tp_dialect_recognise(struct tp_slice first, bool path_names_document);
