/* client/client.h - one client connection, as far as it is a matter of what was said, not of
 * sockets.
 *
 *     path of the upgrade -> [ undecided ] -> first message -> Teleportal, or y-websocket
 *              |                                                  ^
 *              `---- /teleportal, /yjs/<document> ----------------'
 *
 * Which dialect the connection speaks, which document its path names, and the limits on what costs
 * a client nothing: pings and acks. No clock and no memory but the document's name; the struct may
 * be moved by copying it, as when its connection moves to another core. */
#pragma once

#include "dialect/dialect.h"

#define TP_CLIENT_NAME_SIZE_MAX 1024u /* bytes of a document's name (spec 01 section 1.4) */

/* Application pings that are answered in one second; more are passed over in silence. */
#define TP_CLIENT_PING_COUNT_MAX 10u

/* A client acks every frame once; who sends more than twice as many acks as it was sent frames, and
 * this many on top, is closed (spec 01 section 9 item 10). */
#define TP_CLIENT_ACK_ALLOWANCE 256u

/* What the operator configured. Each begins with a slash and does not end in one. */
struct tp_client_paths {
    struct tp_slice teleportal; /* "/teleportal": this path speaks Teleportal */
    struct tp_slice yjs;        /* "/yjs": what follows, percent-decoded once, is a document */
};

struct tp_client {
    const struct tp_dialect *dialect; /* NULL: undecided */
    struct tp_dialect_state state;    /* the name in it is on the heap, and ours */
    uint64_t sent_count;              /* frames sent to the client */
    uint64_t ack_count;               /* acks that it sent */
    uint64_t ping_from_ns;            /* when the second began in which pings are counted */
    uint32_t ping_count;
};
static_assert(sizeof(struct tp_client) <= 128, "part of every idle connection");

/* True for a name that a document may have: strict UTF-8 of 1 to TP_CLIENT_NAME_SIZE_MAX bytes,
 * without control characters (U+0000 to U+001F). */
bool tp_client_name_valid(struct tp_slice name);

/* `path` as in the request, without its query. TP_MALFORMED: the path is under paths->yjs and names
 * no valid document; refuse the upgrade. Any other path leaves the dialect to the first message; it
 * names a document for y-websocket if it is a valid name without its leading slash, percent-decoded
 * once. */
TP_MUST_CHECK enum tp_status
tp_client_init(struct tp_client *client, const struct tp_client_paths *paths, struct tp_slice path);
void tp_client_finish(struct tp_client *client); /* a zeroed client is fine */

/* NULL while it is undecided. */
static inline const struct tp_dialect *tp_client_dialect(const struct tp_client *client)
{
    return client->dialect;
}

/* The one document of the connection, if it is of a dialect whose messages name none; else empty.
 * Lives as long as the client. */
struct tp_slice tp_client_document(const struct tp_client *client);

/* Decides by the first message. Does nothing when the path decided. TP_DENIED: no dialect claims
 * it; close with TP_CLOSE_UNSUPPORTED. */
TP_MUST_CHECK enum tp_status tp_client_recognise(struct tp_client *client, struct tp_slice first);

/* Decodes what the client said, once it is decided, into `sink`: as the dialect's decode, but for
 * the pings above their limit. A ping that is taken is to be answered at once. On anything but
 * TP_OK the connection is to be closed for `reason`. */
TP_MUST_CHECK enum tp_status tp_client_said(struct tp_client *client, struct tp_slice bytes,
                                            uint64_t now_ns, struct tp_message_sink sink,
                                            enum tp_close_reason *reason);

/* A message was queued for the client. */
static inline void tp_client_sent(struct tp_client *client)
{
    client->sent_count++;
}
