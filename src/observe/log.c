#include "observe/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "observe/text.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const unsigned journal_levels[] = {3, 4, 6, 7}; /* as in syslog(3) */

/* Does standard error lead to the journal? A child that redirected it inherits the variable too, so
 * the device and inode in it must be those of the descriptor (systemd.exec(5)). */
static bool journal_listens(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t device, inode;
    struct stat stat;

    return stream != NULL && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &stat) == 0 && stat.st_dev == device && stat.st_ino == inode;
}

struct tp_log tp_log_init(enum tp_log_level level, bool json)
{
    const enum tp_log_format text = journal_listens() ? TP_LOG_JOURNAL : TP_LOG_TEXT;

    return (struct tp_log){
        .fd = STDERR_FILENO, .level = level, .format = json ? TP_LOG_JSON : text};
}

/* Bare when nothing in it could be mistaken, else quoted as in JSON. */
static void put_value(struct tp_buffer *out, struct tp_slice text)
{
    bool bare = text.size > 0;

    for (size_t i = 0; i < text.size; i++)
        bare &= text.data[i] > ' ' && text.data[i] < 0x7f && strchr("\"\\=", text.data[i]) == NULL;
    if (bare)
        tp_buffer_append(out, text.data, text.size);
    else
        tp_text_json(out, text);
}

static void put_field(struct tp_buffer *out, enum tp_log_format format,
                      const struct tp_log_field *field)
{
    const bool json = format == TP_LOG_JSON;

    tp_text_format(out, json ? ",\"%s\":" : " %s=", field->key);
    if (field->is_number)
        tp_text_format(out, "%" PRId64, field->number);
    else if (json)
        tp_text_json(out, field->text);
    else
        put_value(out, field->text);
}

void tp_log_format_line(enum tp_log_format format, enum tp_log_level level, uint64_t wall_ms,
                        const char *event, const struct tp_log_field *fields, struct tp_buffer *out)
{
    const char *const end = format == TP_LOG_JSON ? "}\n" : "\n";
    const struct tp_log_field cut = {.key = "cut", .number = 1, .is_number = true};
    uint8_t memory[TP_LOG_LINE_SIZE];
    struct tp_buffer line = tp_buffer_fixed(memory, sizeof memory - 32); /* room for cut and end */
    char time[TP_ISO_TIME_SIZE];

    tp_text_iso_time(wall_ms, time);
    if (format == TP_LOG_JSON)
        tp_text_format(&line, "{\"timestamp\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", time,
                       level_names[level], event);
    else if (format == TP_LOG_JOURNAL)
        tp_text_format(&line, "<%u>%s", journal_levels[level], event);
    else
        tp_text_format(&line, "%s %s %s", time, level_names[level], event);

    for (const struct tp_log_field *field = fields; field->key != NULL && !line.full; field++) {
        const size_t size = line.size;
        put_field(&line, format, field);
        if (line.full)
            line.size = size;
    }
    if (line.full) {
        line.full = false;
        line.capacity = line.size_max = sizeof memory;
        put_field(&line, format, &cut);
    }
    tp_buffer_append(out, line.data, line.size);
    tp_buffer_append(out, end, strlen(end));
}

void tp_log_write(const struct tp_log *log, enum tp_log_level level, const char *event,
                  const struct tp_log_field *fields)
{
    uint8_t memory[TP_LOG_LINE_SIZE];
    struct tp_buffer line = tp_buffer_fixed(memory, sizeof memory);
    struct timespec now;

    if (level > log->level)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    tp_log_format_line(log->format, level,
                       (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, event, fields,
                       &line);
    /* A log that nobody takes must not stop the server: what is not written is lost. */
    const ssize_t written = write(log->fd, line.data, line.size);
    (void)written;
}
