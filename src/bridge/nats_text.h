/* bridge/nats_text.h - NATS's client protocol: lines, and messages of a size that their line tells.
 *
 *     INFO {json}     MSG subject sid [reply] size CRLF bytes CRLF     PING PONG +OK -ERR 'text'
 *
 * A subject is a topic, as the reference writes it, with %XX for what would mean something else:
 * blanks and control bytes, the percent sign, a dot that makes an empty token, and tokens that are
 * wildcards (spec 01 section 8.6). */
#pragma once

#include "base/buffer.h"
#include "bridge/bridge.h"

#define TP_NATS_LINE_SIZE_MAX ((size_t)64 << 10) /* INFO is some hundred bytes */
#define TP_NATS_PAYLOAD_SIZE_MAX ((size_t)256 << 20)
/* The server's limit of a control line is 4096 bytes by default, our longest verb beside it. */
#define TP_NATS_SUBJECT_SIZE_MAX 4000u

enum tp_nats_kind {
    TP_NATS_INFO,
    TP_NATS_MESSAGE,
    TP_NATS_PING,
    TP_NATS_PONG,
    TP_NATS_OK,
    TP_NATS_ERROR
};

struct tp_nats_said {
    enum tp_nats_kind kind;
    struct tp_slice text;    /* of INFO its JSON, of ERROR its words */
    struct tp_slice subject; /* of MESSAGE, as is `payload` */
    struct tp_slice payload;
};

struct tp_nats_reader {
    struct tp_buffer held; /* what has begun and has not ended */
    void (*said)(void *context, const struct tp_nats_said *said);
    void *context;
};

void tp_nats_reader_init(struct tp_nats_reader *reader,
                         void (*said)(void *context, const struct tp_nats_said *said),
                         void *context);
void tp_nats_reader_finish(struct tp_nats_reader *reader);
/* Says what is complete. False: that is not this protocol. */
TP_MUST_CHECK bool tp_nats_read(struct tp_nats_reader *reader, struct tp_slice bytes);

/* TP_FULL: longer than a subject may be. */
TP_MUST_CHECK enum tp_status tp_nats_subject_write(struct tp_slice topic, struct tp_buffer *out);
/* TP_MALFORMED: a percent sign without two digits, or longer than a topic may be. */
TP_MUST_CHECK enum tp_status tp_nats_subject_read(struct tp_slice subject, struct tp_buffer *out);
/* The number that INFO has for `name`; 0: none. */
uint64_t tp_nats_info_number(struct tp_slice json, const char *name);
