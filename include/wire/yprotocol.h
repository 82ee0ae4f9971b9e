/* wire/yprotocol.h - the messages of y-protocols (spec 05 section 3): bytes <-> seam/message.h.
 *
 *     00 00 sv      sync step 1            01 awareness       03       awareness query
 *     00 01 update  sync step 2, V1        02 00 reason       66 echo  y-sweet's (102)
 *     00 02 update  update, V1                auth: denied
 *
 * y-websocket sends them as they are; Hocuspocus has an address before and some types of its own.
 */
#pragma once

#include "base/buffer.h"
#include "seam/message.h"
#include "wire/reader.h"

enum tp_yprotocol_type {
    TP_YPROTOCOL_SYNC = 0,
    TP_YPROTOCOL_AWARENESS = 1,
    TP_YPROTOCOL_AUTH = 2,
    TP_YPROTOCOL_AWARENESS_QUERY = 3,
    TP_YPROTOCOL_ECHO = 102,
};

/* Reads one message. Fills kind and payload of `out` and nothing else. TP_ABSENT: a type or subtype
 * that nobody here knows, to be ignored: where it ends is not known then. TP_MALFORMED: cut short.
 */
TP_MUST_CHECK enum tp_status tp_yprotocol_read(struct tp_reader *in, struct tp_message *out);

/* Writes one message; updates need v1. TP_ABSENT: y-protocols cannot say this. TP_FULL: `out` is.
 */
TP_MUST_CHECK enum tp_status tp_yprotocol_write(const struct tp_message *message,
                                                struct tp_buffer *out);
