/* observe/text.h - small pieces of text that pages and log lines are made of. */
#pragma once

#include "base/buffer.h"

#define TP_ISO_TIME_SIZE 25u /* with the final NUL */

/* 2026-11-24T08:30:00.000Z */
void tp_text_iso_time(uint64_t wall_ms, char out[TP_ISO_TIME_SIZE]);

void tp_text_format(struct tp_buffer *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void tp_text_json(struct tp_buffer *out, struct tp_slice text);

/* For HTML text and attributes in double quotes. */
void tp_text_html(struct tp_buffer *out, const char *text);
