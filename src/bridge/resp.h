/* bridge/resp.h - Redis's protocol: what its pub/sub says, and what we say.
 *
 * The reader is hiredis's, with object functions of ours: nothing is allocated per message, and a
 * payload is handed over where the reader has it. Commands are written straight to where they are
 * sent from: hiredis's formatter would allocate and copy each. */
#pragma once

#include <hiredis/read.h>

#include "base/buffer.h"
#include "bridge/bridge.h"

#define TP_RESP_WORD_SIZE_MAX 16u
/* Bytes of an answer that has begun: above this the broker makes no sense. */
#define TP_RESP_PENDING_SIZE_MAX ((size_t)256 << 20)

enum tp_resp_kind {
    TP_RESP_TEXT,  /* +OK, a lone string, a number, nothing: all that says yes */
    TP_RESP_ERROR, /* `payload` is its text */
    TP_RESP_PUSH,  /* message, subscribe, unsubscribe, pong */
};

struct tp_resp_reply {
    enum tp_resp_kind kind;
    struct tp_slice word;    /* of PUSH */
    struct tp_slice topic;   /* empty: none, or longer than any of ours */
    struct tp_slice payload; /* of a message */
};

struct tp_resp {
    redisReader *reader;
    void (*reply)(void *context, const struct tp_resp_reply *reply);
    void *context;
    /* of a push that is being read */
    uint8_t word[TP_RESP_WORD_SIZE_MAX];
    uint8_t topic[TP_BRIDGE_TOPIC_SIZE_MAX];
    size_t word_size, topic_size;
};

/* `reply` is called for every answer inside tp_resp_feed; it must not feed or finish. */
void tp_resp_init(struct tp_resp *resp,
                  void (*reply)(void *context, const struct tp_resp_reply *reply), void *context);
void tp_resp_finish(struct tp_resp *resp);
void tp_resp_reset(struct tp_resp *resp); /* another connection begins */
/* False: that is no RESP, or none that pub/sub speaks. */
TP_MUST_CHECK bool tp_resp_feed(struct tp_resp *resp, struct tp_slice bytes);

/* A command of `count` words begins; then its words. */
void tp_resp_write_command(struct tp_buffer *out, uint32_t count);
void tp_resp_write_word(struct tp_buffer *out, struct tp_slice word);
/* A word whose bytes the caller appends, and behind them tp_resp_write_end. */
void tp_resp_write_size(struct tp_buffer *out, size_t size);
void tp_resp_write_end(struct tp_buffer *out);
