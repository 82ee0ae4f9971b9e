/* bridge/line.h - one TCP connection to a broker, made again whenever it breaks.
 *
 *     CLOSED ── open ──► CONNECTING ──► OPEN ── error, silence, tp_line_break ──► BREAKING
 *        ▲                                                                          │
 *        └── WAITING ◄── when the kernel has let go of everything ──────────────────┘
 *               └── back-off with jitter ──► CONNECTING
 *
 * What is to be said is appended to `out`; one write a tick takes all of it. */
#pragma once

#include "base/buffer.h"
#include "base/random.h"
#include "bridge/url.h"
#include "reactor/reactor.h"

#define TP_LINE_QUEUE_SIZE_MAX                                         \
    ((size_t)16 << 20) /* bytes that wait; above: refused by the owner \
                        */
#define TP_LINE_REASON_SIZE 160u

enum tp_line_state {
    TP_LINE_CLOSED,
    TP_LINE_CONNECTING,
    TP_LINE_OPEN,
    TP_LINE_BREAKING,
    TP_LINE_WAITING,
};

struct tp_line;

struct tp_line_handler {
    void (*opened)(struct tp_line *line); /* connected: say hello */
    /* False: the broker makes no sense; the line breaks. */
    bool (*received)(struct tp_line *line, struct tp_slice bytes);
    void (*broken)(struct tp_line *line);  /* was connecting or open and is no more */
    void (*written)(struct tp_line *line); /* all that was flushed is with the kernel */
};

struct tp_line {
    const struct tp_line_handler *handler;
    struct tp_reactor *reactor;
    const struct tp_addresses *addresses;
    enum tp_line_state state;
    bool ending; /* no new attempt */
    int fd;
    uint32_t attempt; /* since it was open last */
    uint64_t heard_ns;
    struct tp_io connect, receive, send;
    struct tp_timer timer; /* CONNECTING: too long; WAITING: again */
    struct tp_buffer out;  /* not flushed yet */
    struct tp_buffer sending;
    size_t sent_size; /* of `sending` */
    struct tp_random random;
    char reason[TP_LINE_REASON_SIZE]; /* why it broke last */
};

void tp_line_init(struct tp_line *line, const struct tp_line_handler *handler,
                  struct tp_reactor *reactor, const struct tp_addresses *addresses);
void tp_line_open(struct tp_line *line);
/* Writes what was appended to `out`, unless the last write is still under way. */
void tp_line_flush(struct tp_line *line);
/* Gives the connection up, and tries anew after a while. */
void tp_line_break(struct tp_line *line, const char *reason);
/* Nothing waits to be written, or there is nobody to write to. */
bool tp_line_quiet(const struct tp_line *line);
size_t tp_line_waiting_size(const struct tp_line *line); /* bytes not with the kernel yet */
/* Ends it for good; polls the reactor until the kernel has let go. */
void tp_line_finish(struct tp_line *line);
