/* bridge/url.h - scheme://[user[:password]@]host[:port][/path][?name=value&...] */
#pragma once

#include <sys/socket.h>

#include "base/base.h"

#define TP_URL_TEXT_SIZE 256u
#define TP_URL_ADDRESS_COUNT_MAX 8u

struct tp_url {
    char scheme[32];
    char user[TP_URL_TEXT_SIZE], password[TP_URL_TEXT_SIZE]; /* without percent signs */
    bool has_password;
    char host[TP_URL_TEXT_SIZE]; /* without the brackets of an IPv6 address */
    uint16_t port;
    char rest[TP_URL_TEXT_SIZE]; /* from the slash or question mark on */
};

struct tp_addresses {
    struct sockaddr_storage all[TP_URL_ADDRESS_COUNT_MAX];
    socklen_t sizes[TP_URL_ADDRESS_COUNT_MAX];
    uint32_t count;
};

/* TP_MALFORMED: `error` says what is wrong; it repeats no password. */
TP_MUST_CHECK enum tp_status tp_url_parse(const char *text, uint16_t port, struct tp_url *out,
                                          char *error, size_t error_size);
/* Blocks while names are looked up: before the cores start. TP_IO: `error` says why. */
TP_MUST_CHECK enum tp_status tp_url_resolve(const struct tp_url *url, struct tp_addresses *out,
                                            char *error, size_t error_size);
