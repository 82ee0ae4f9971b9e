/* observe/log.h - events, one line each, to standard error.
 *
 *     text      2026-11-24T08:30:00.000Z info serving address=127.0.0.1:1234 cores=2
 *     journal   <6>serving address=127.0.0.1:1234 cores=2       (systemd adds time and severity)
 *     JSON      {"timestamp":"2026-11-24T08:30:00.000Z","level":"info","event":"serving",...}
 *
 * Only the roof logs (src/node, main.c), and only changes of state: never one line per message.
 * Values are escaped, so that no client can forge a line. */
#pragma once

#include "base/buffer.h"

#define TP_LOG_LINE_SIZE 2048u /* a longer line loses its last fields and says so: cut=1 */

enum tp_log_level { TP_LOG_ERROR, TP_LOG_WARN, TP_LOG_INFO, TP_LOG_DEBUG };
enum tp_log_format { TP_LOG_TEXT, TP_LOG_JOURNAL, TP_LOG_JSON };

/* Shared by all threads: each line is one write. Nothing changes after init. */
struct tp_log {
    int fd;
    enum tp_log_level level; /* less severe lines are dropped */
    enum tp_log_format format;
};

struct tp_log_field {
    const char *key;      /* NULL: the list ends here */
    struct tp_slice text; /* of text fields */
    int64_t number;
    bool is_number;
};

/* To standard error; as the journal likes it, when systemd says (JOURNAL_STREAM) that it listens
 * there. */
struct tp_log tp_log_init(enum tp_log_level level, bool json);

/* tp_log(&log, TP_LOG_INFO, "serving", tp_log_text("address", a), tp_log_number("cores", 2)); */
#define tp_log(log, level, event, ...)    \
    tp_log_write((log), (level), (event), \
                 (const struct tp_log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}})

static inline struct tp_log_field tp_log_slice(const char *key, struct tp_slice text)
{
    return (struct tp_log_field){.key = key, .text = text};
}

static inline struct tp_log_field tp_log_text(const char *key, const char *text)
{
    return tp_log_slice(key, tp_slice_of(text, strlen(text)));
}

static inline struct tp_log_field tp_log_number(const char *key, int64_t number)
{
    return (struct tp_log_field){.key = key, .number = number, .is_number = true};
}

/* `fields` end with one without a key. */
void tp_log_write(const struct tp_log *log, enum tp_log_level level, const char *event,
                  const struct tp_log_field *fields);

/* The line itself with its line end, at most TP_LOG_LINE_SIZE bytes. */
void tp_log_format_line(enum tp_log_format format, enum tp_log_level level, uint64_t wall_ms,
                        const char *event, const struct tp_log_field *fields,
                        struct tp_buffer *out);
