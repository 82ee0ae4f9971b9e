#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bridge/multicast.h"
#include "bridge/url.h"

#define PORT_DEFAULT 7946
#define SOCKET_SIZE (8 << 20)       /* bytes the kernel may hold for us, if it lets us */
#define DATAGRAM_SIZE_DEFAULT 1472u /* what an Ethernet packet of 1500 bytes has room for */

static bool complain(char *error, size_t error_size, const char *what, const char *value)
{
    snprintf(error, error_size, "the bridge multicast://...: %s %s", what, value);
    return false;
}

static bool set_interface(struct tp_bridge *bridge, const char *value, char *error,
                          size_t error_size)
{
    if (inet_pton(AF_INET, value, &bridge->interface) == 1)
        return true;
    struct ifreq request = {.ifr_addr.sa_family = AF_INET};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", value);
    bridge->interface_index = if_nametoindex(value);
    const bool good = bridge->interface_index > 0 && fd >= 0 &&
                      strlen(value) < sizeof request.ifr_name &&
                      ioctl(fd, SIOCGIFADDR, &request) == 0;
    if (fd >= 0)
        close(fd);
    if (!good)
        return complain(error, error_size, "there is no interface with an IPv4 address called",
                        value);
    struct sockaddr_in address;
    memcpy(&address, &request.ifr_addr, sizeof address);
    bridge->interface = address.sin_addr;
    return true;
}

static bool set_secret(struct tp_bridge *bridge, const char *path, char *error, size_t error_size)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL)
        return complain(error, error_size, "cannot read the key file", path);
    uint8_t bytes[TP_MULTICAST_SECRET_SIZE_MAX + 1];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    while (size > 0 && (bytes[size - 1] == '\n' || bytes[size - 1] == '\r'))
        size--; /* editors add one */
    const bool good = size >= TP_MULTICAST_SECRET_SIZE_MIN && size <= TP_MULTICAST_SECRET_SIZE_MAX;
    if (good) {
        memcpy(bridge->secret_bytes, bytes, size);
        bridge->secret = tp_slice_of(bridge->secret_bytes, size);
    }
    memset(bytes, 0, sizeof bytes);
    return good || complain(error, error_size, "a key has 16 to 1024 bytes, unlike that in", path);
}

static bool set_number(const char *value, unsigned long min, unsigned long max, unsigned long *out)
{
    char *end;

    errno = 0;
    *out = strtoul(value, &end, 10);
    return errno == 0 && end != value && *end == '\0' && value[0] != '-' && *out >= min &&
           *out <= max;
}

static bool set_option(struct tp_bridge *bridge, const char *name, const char *value, char *error,
                       size_t error_size)
{
    unsigned long number;

    if (strcmp(name, "if") == 0)
        return set_interface(bridge, value, error, error_size);
    if (strcmp(name, "key_file") == 0)
        return set_secret(bridge, value, error, error_size);
    if (strcmp(name, "ttl") == 0) {
        if (!set_number(value, 0, 255, &number))
            return complain(error, error_size, "ttl is 0 to 255, not", value);
        bridge->ttl = (uint8_t)number;
        return true;
    }
    if (strcmp(name, "mtu") == 0) {
        if (!set_number(value, TP_DATAGRAM_SIZE_MIN + 28, TP_DATAGRAM_SIZE_MAX + 28, &number))
            return complain(error, error_size, "mtu is 540 to 3868, not", value);
        bridge->datagram_size = (uint32_t)number - 28; /* the heads of IP and UDP */
        return true;
    }
    return complain(error, error_size, "it knows if, ttl, mtu and key_file, not", name);
}

/* ?name=value&name=value */
static bool set_options(struct tp_bridge *bridge, char *text, char *error, size_t error_size)
{
    char *rest = NULL;

    if (text[0] == '\0' || strcmp(text, "/") == 0)
        return true;
    if (text[0] == '/')
        text++;
    if (text[0] != '?')
        return complain(error, error_size, "options follow a question mark, unlike", text);
    for (char *at = strtok_r(text + 1, "&", &rest); at != NULL; at = strtok_r(NULL, "&", &rest)) {
        char *equals = strchr(at, '=');
        if (equals == NULL)
            return complain(error, error_size, "an option has a value, unlike", at);
        *equals = '\0';
        if (!set_option(bridge, at, equals + 1, error, error_size))
            return false;
    }
    return true;
}

/* That the group can be joined is tried before anything starts. */
static bool try_sockets(const struct tp_bridge *bridge, char *error, size_t error_size)
{
    struct sockaddr_in answer;
    int listener, speaker;

    tp_multicast_open_sockets(bridge, &listener, &speaker, &answer);
    const int why = errno;
    if (listener >= 0)
        close(listener);
    if (speaker >= 0)
        close(speaker);
    if (listener >= 0 && speaker >= 0)
        return true;
    return complain(error, error_size, "cannot join the group there:", strerror(why));
}

struct tp_bridge *tp_multicast_open(const char *location, char *error, size_t error_size)
{
    struct tp_url url;
    struct tp_bridge *bridge;

    if (tp_url_parse(location, PORT_DEFAULT, &url, error, error_size) != TP_OK)
        return NULL;
    bridge = calloc(1, sizeof *bridge);
    TP_ASSERT(bridge != NULL);
    bridge->ttl = 1;
    bridge->datagram_size = DATAGRAM_SIZE_DEFAULT;
    bridge->group = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(url.port)};
    bool good = inet_pton(AF_INET, url.host, &bridge->group.sin_addr) == 1 &&
                IN_MULTICAST(ntohl(bridge->group.sin_addr.s_addr));
    if (!good)
        complain(error, error_size,
                 "a group is an IPv4 address from 224.0.0.0 to 239.255.255.255, "
                 "not",
                 url.host);
    good = good && set_options(bridge, url.rest, error, error_size) &&
           try_sockets(bridge, error, error_size);
    if (good)
        return bridge;
    tp_multicast_close(bridge);
    return NULL;
}

void tp_multicast_close(struct tp_bridge *bridge)
{
    memset(bridge->secret_bytes, 0, sizeof bridge->secret_bytes);
    free(bridge);
}

static void enlarge(int fd, int option, int forced)
{
    const int size = SOCKET_SIZE;

    if (setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) != 0)
        (void)setsockopt(fd, SOL_SOCKET, option, &size, sizeof size);
}

static int open_listener(const struct tp_bridge *bridge)
{
    const struct ip_mreqn join = {.imr_multiaddr = bridge->group.sin_addr,
                                  .imr_address = bridge->interface,
                                  .imr_ifindex = (int)bridge->interface_index};
    const int on = 1, off = 0;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* Every core of every node on this host has such a socket, and each hears everything. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof off) == 0 &&
        bind(fd, (const struct sockaddr *)&bridge->group, sizeof bridge->group) == 0 &&
        setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0) {
        enlarge(fd, SO_RCVBUF, SO_RCVBUFFORCE);
        return fd;
    }
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* The address of the interface over which the group is reached. */
static bool own_address(const struct tp_bridge *bridge, struct in_addr *out)
{
    struct sockaddr_in own;
    socklen_t size = sizeof own;

    *out = bridge->interface;
    if (out->s_addr != 0)
        return true;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool good =
        fd >= 0 &&
        connect(fd, (const struct sockaddr *)&bridge->group, sizeof bridge->group) == 0 &&
        getsockname(fd, (struct sockaddr *)&own, &size) == 0;
    const int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    if (good)
        *out = own.sin_addr;
    return good;
}

static int open_speaker(const struct tp_bridge *bridge, struct sockaddr_in *answer)
{
    const struct ip_mreqn through = {.imr_address = bridge->interface,
                                     .imr_ifindex = (int)bridge->interface_index};
    const int on = 1, ttl = bridge->ttl;
    struct sockaddr_in own = {.sin_family = AF_INET};
    socklen_t size = sizeof own;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (own_address(bridge, &own.sin_addr) &&
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &through, sizeof through) == 0 &&
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl) == 0 &&
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof on) == 0 &&
        bind(fd, (const struct sockaddr *)&own, sizeof own) == 0 &&
        getsockname(fd, (struct sockaddr *)answer, &size) == 0) {
        enlarge(fd, SO_SNDBUF, SO_SNDBUFFORCE);
        return fd;
    }
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

void tp_multicast_open_sockets(const struct tp_bridge *bridge, int *listener, int *speaker,
                               struct sockaddr_in *answer)
{
    *listener = open_listener(bridge);
    *speaker = *listener >= 0 ? open_speaker(bridge, answer) : -1;
}
