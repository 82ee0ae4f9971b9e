/* wire/sse.h - server-sent events as Teleportal's HTTP transport writes them (spec 01 section 5.2).
 *
 *     event:message\n
 *     id:<message id>\n
 *     data: <base64 of one frame>\n
 *     \n
 *
 * Exact bytes: a blank behind "data:" and none behind "event:" and "id:", LF line ends, the
 * standard base64 alphabet with padding. */
#pragma once

#include "base/base.h"

#define TP_SSE_TYPE "text/event-stream"

/* The whole event; to the client it is the frame "YJSping". */
#define TP_SSE_PING TP_SLICE("event:ping\nid:ping\ndata: WUpTcGluZw==\n\n")

/* What tp_sse_message_write and tp_sse_client_id_write write. */
size_t tp_sse_message_size(size_t frame_size);
size_t tp_sse_client_id_size(size_t id_size);

/* One frame as an event; `id` is the frame's message id (wire/teleportal.h). */
void tp_sse_message_write(struct tp_slice frame, uint64_t id, uint8_t *out);
/* The first event of a stream. */
void tp_sse_client_id_write(struct tp_slice id, uint8_t *out);

/* A document to join at once. */
struct tp_sse_document {
    struct tp_slice name;
    bool encrypted;
};

/* Reads every `documents` parameter of GET /sse: names between commas, without the blanks around
 * them, ending in ":plaintext" or ":unencrypted" when they are not encrypted; of two that are the
 * same the first has the place, and encrypted wins. Names are not judged. `memory` has room for
 * query.size bytes and holds the names. TP_MALFORMED: "%" without two hexadecimal digits. TP_FULL:
 * more than `count_max`. */
TP_MUST_CHECK enum tp_status tp_sse_documents(struct tp_slice query, uint8_t *memory,
                                              struct tp_sse_document *out, size_t count_max,
                                              size_t *count);
