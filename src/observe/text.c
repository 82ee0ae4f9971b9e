#include "observe/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "wire/reader.h"

void tp_text_iso_time(uint64_t wall_ms, char out[TP_ISO_TIME_SIZE])
{
    const time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char date[32];

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, TP_ISO_TIME_SIZE, "%.19s.%03uZ", date, (unsigned)(wall_ms % 1000));
}

void tp_text_format(struct tp_buffer *out, const char *format, ...)
{
    va_list arguments, again;

    va_start(arguments, format);
    va_copy(again, arguments);
    const int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    TP_ASSERT(size >= 0);
    char *text = malloc((size_t)size + 1); /* the buffer itself may have no room for the NUL */
    TP_ASSERT(text != NULL);
    vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    tp_buffer_append(out, text, (size_t)size);
    free(text);
}

void tp_text_json(struct tp_buffer *out, struct tp_slice text)
{
    static const char digits[] = "0123456789abcdef";
    const bool is_utf8 = tp_utf8_valid(text);

    tp_buffer_append(out, "\"", 1);
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        if (c == '"' || c == '\\') {
            tp_buffer_append(out, (char[]){'\\', (char)c}, 2);
        } else if (c < 0x20 || c == 0x7f) {
            const char escape[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
            tp_buffer_append(out, escape, sizeof escape);
        } else if (c >= 0x80 && !is_utf8) {
            tp_buffer_append(out, "\\ufffd", 6);
        } else {
            tp_buffer_append(out, &c, 1);
        }
    }
    tp_buffer_append(out, "\"", 1);
}

void tp_text_html(struct tp_buffer *out, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '<')
            tp_buffer_append(out, "&lt;", 4);
        else if (*at == '>')
            tp_buffer_append(out, "&gt;", 4);
        else if (*at == '&')
            tp_buffer_append(out, "&amp;", 5);
        else if (*at == '"')
            tp_buffer_append(out, "&quot;", 6);
        else
            tp_buffer_append(out, at, 1);
    }
}
