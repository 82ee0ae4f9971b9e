#include "bridge/url.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* False: too long, a NUL, or a percent sign without two digits. */
static bool take(const char *from, size_t size, char out[TP_URL_TEXT_SIZE])
{
    size_t count = 0;

    for (size_t i = 0; i < size; i++) {
        char c = from[i];
        if (c == '%') {
            const int high = size - i > 2 ? hex_digit(from[i + 1]) : -1;
            const int low = size - i > 2 ? hex_digit(from[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0' || count + 1 >= TP_URL_TEXT_SIZE)
            return false;
        out[count++] = c;
    }
    out[count] = '\0';
    return true;
}

static bool parse_port(const char *from, const char *end, uint16_t *out)
{
    unsigned long value = 0;

    if (from == end || end - from > 5)
        return false;
    for (; from < end; from++) {
        if (*from < '0' || *from > '9')
            return false;
        value = value * 10 + (unsigned long)(*from - '0');
    }
    *out = (uint16_t)value;
    return value > 0 && value <= UINT16_MAX;
}

static bool parse_credentials(const char *from, const char *at, struct tp_url *out)
{
    const char *colon = memchr(from, ':', (size_t)(at - from));

    out->has_password = colon != NULL;
    return take(from, (size_t)((colon != NULL ? colon : at) - from), out->user) &&
           (colon == NULL || take(colon + 1, (size_t)(at - colon - 1), out->password));
}

static bool parse_host(const char *from, const char *end, struct tp_url *out)
{
    const char *close = *from == '[' ? memchr(from, ']', (size_t)(end - from)) : NULL;
    const char *host_end;

    if (*from == '[') {
        if (close == NULL)
            return false;
        host_end = close + 1;
        if (!take(from + 1, (size_t)(close - from - 1), out->host))
            return false;
    } else {
        host_end = memchr(from, ':', (size_t)(end - from));
        host_end = host_end == NULL ? end : host_end;
        if (!take(from, (size_t)(host_end - from), out->host))
            return false;
    }
    if (out->host[0] == '\0')
        return false;
    return host_end == end || (*host_end == ':' && parse_port(host_end + 1, end, &out->port));
}

enum tp_status tp_url_parse(const char *text, uint16_t port, struct tp_url *out, char *error,
                            size_t error_size)
{
    struct tp_url url = {.port = port};
    const char *from = strstr(text, "://");

    if (from == NULL || (size_t)(from - text) >= sizeof url.scheme) {
        snprintf(error, error_size, "a bridge is none or like redis://HOST:PORT");
        return TP_MALFORMED;
    }
    memcpy(url.scheme, text, (size_t)(from - text));
    from += 3;
    const char *end = from + strcspn(from, "/?");
    const char *at = memrchr(from, '@', (size_t)(end - from));

    if (at != NULL && !parse_credentials(from, at, &url)) {
        snprintf(error, error_size,
                 "the user or password of the bridge %s://... is not well put: "
                 "write %%XX for bytes that mean something in a URL",
                 url.scheme);
        return TP_MALFORMED;
    }
    from = at == NULL ? from : at + 1;
    if (!parse_host(from, end, &url) || strlen(end) >= sizeof url.rest) {
        snprintf(error, error_size,
                 "the bridge %s://... needs a host and may have a port, as in "
                 "%s://HOST:%u",
                 url.scheme, url.scheme, port);
        return TP_MALFORMED;
    }
    strcpy(url.rest, end);
    *out = url;
    return TP_OK;
}

enum tp_status tp_url_resolve(const struct tp_url *url, struct tp_addresses *out, char *error,
                              size_t error_size)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    char port[8];

    snprintf(port, sizeof port, "%u", url->port);
    int result = getaddrinfo(url->host, port, &hints, &list);
    if (result != 0) { /* a machine with nothing but a loopback has no configured address */
        const struct addrinfo any = {.ai_socktype = SOCK_STREAM};
        result = getaddrinfo(url->host, port, &any, &list);
    }
    if (result != 0) {
        snprintf(error, error_size, "the bridge's host %s is not known: %s", url->host,
                 gai_strerror(result));
        return TP_IO;
    }
    *out = (struct tp_addresses){0};
    for (const struct addrinfo *info = list; info != NULL && out->count < TP_URL_ADDRESS_COUNT_MAX;
         info = info->ai_next) {
        memcpy(&out->all[out->count], info->ai_addr, info->ai_addrlen);
        out->sizes[out->count++] = info->ai_addrlen;
    }
    freeaddrinfo(list);
    return TP_OK;
}
