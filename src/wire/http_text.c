/* What is looked up in a request that has been read, and what is written into answers. */
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "wire/http.h"

static struct tp_slice trim(struct tp_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text.data++, text.size--;
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

static bool same_word(struct tp_slice text, const char *word)
{
    const size_t size = strlen(word);
    return text.size == size && strncasecmp((const char *)text.data, word, size) == 0;
}

/* Cuts one line off `lines` and splits it at the colon. The lines were checked by the parser. */
static bool next_header(struct tp_slice *lines, struct tp_slice *name, struct tp_slice *value)
{
    if (lines->size == 0)
        return false;
    const uint8_t *const end = memchr(lines->data, '\n', lines->size);
    const size_t size = end == NULL ? lines->size : (size_t)(end - lines->data) + 1;
    struct tp_slice line = {lines->data, size};
    lines->data += size;
    lines->size -= size;
    while (line.size > 0 && (line.data[line.size - 1] == '\n' || line.data[line.size - 1] == '\r'))
        line.size--;
    const uint8_t *const colon = line.size == 0 ? NULL : memchr(line.data, ':', line.size);
    if (colon == NULL)
        return false;
    *name = tp_slice_of(line.data, (size_t)(colon - line.data));
    *value = trim(tp_slice_of(colon + 1, line.size - name->size - 1));
    return true;
}

struct tp_slice tp_http_header(const struct tp_http_request *request, const char *name)
{
    struct tp_slice lines = request->headers, found, value;

    while (next_header(&lines, &found, &value))
        if (same_word(found, name))
            return value;
    return (struct tp_slice){0};
}

bool tp_http_header_has(const struct tp_http_request *request, const char *name, const char *token)
{
    struct tp_slice lines = request->headers, found, value;

    while (next_header(&lines, &found, &value)) {
        if (!same_word(found, name))
            continue;
        while (value.size > 0) {
            const uint8_t *const comma = memchr(value.data, ',', value.size);
            const size_t size = comma == NULL ? value.size : (size_t)(comma - value.data);
            if (same_word(trim(tp_slice_of(value.data, size)), token))
                return true;
            const size_t step = tp_min(size + 1, value.size);
            value.data += step;
            value.size -= step;
        }
    }
    return false;
}

struct tp_slice tp_http_query(struct tp_slice query, const char *name)
{
    const size_t name_size = strlen(name);

    while (query.size > 0) {
        const uint8_t *const end = memchr(query.data, '&', query.size);
        const size_t size = end == NULL ? query.size : (size_t)(end - query.data);
        if (size >= name_size && memcmp(query.data, name, name_size) == 0) {
            if (size == name_size)
                return tp_slice_of(query.data + size, 0);
            if (query.data[name_size] == '=')
                return tp_slice_of(query.data + name_size + 1, size - name_size - 1);
        }
        const size_t step = tp_min(size + 1, query.size);
        query.data += step;
        query.size -= step;
    }
    return (struct tp_slice){0};
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum tp_status tp_http_percent_decode(struct tp_slice text, uint8_t *out, size_t *size)
{
    size_t written = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != '%') {
            out[written++] = text.data[i];
            continue;
        }
        if (text.size - i < 3)
            return TP_MALFORMED;
        const int high = hex_digit(text.data[i + 1]), low = hex_digit(text.data[i + 2]);
        if (high < 0 || low < 0)
            return TP_MALFORMED;
        out[written++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    *size = written;
    return TP_OK;
}

const char *tp_http_reason(unsigned status)
{
    switch (status) {
    case 100:
        return "Continue";
    case 101:
        return "Switching Protocols";
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 307:
        return "Temporary Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 421:
        return "Misdirected Request";
    case 422:
        return "Unprocessable Content";
    case 426:
        return "Upgrade Required";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

void tp_http_date(uint64_t wall_ms, char out[TP_HTTP_DATE_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    char text[64]; /* gcc counts with years of eleven digits */

    gmtime_r(&seconds, &tm);
    snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
             months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    memcpy(out, text, TP_HTTP_DATE_SIZE - 1);
    out[TP_HTTP_DATE_SIZE - 1] = '\0';
}
