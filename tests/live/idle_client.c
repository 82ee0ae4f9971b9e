/* idle_client.c - many idle y-websocket clients in one small process, for tests/live/idle.mjs.
 *
 *     idle_client PORT          commands on stdin, one answer line each on stdout
 *
 *     open COUNT DOCUMENTS NAME   opens COUNT connections, spread over DOCUMENTS documents NAME-0,
 *                                 NAME-1, ..., and syncs each: "opened COUNT"
 *     cycle COUNT NAME            opens, syncs and closes COUNT documents in turn: "cycled COUNT"
 *     count                       how many connections are open: "count N"
 *
 * A connection is synced when a step 2 (00 01 ...) has come. Frames to the server are masked with
 * zero, which costs nothing. Every connection reads and throws away what comes later. Source
 * addresses 127.0.0.2 to 127.0.0.17 are used in turn, so that ports do not run out. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTION_COUNT_MAX 19000
#define AT_ONCE 64 /* handshakes under way: below any listen backlog */

enum phase { FREE, CONNECTING, UPGRADING, SYNCING, IDLE };

struct connection {
    int fd;
    enum phase phase;
    uint32_t document; /* number behind the name */
    uint32_t seen_size;
    char seen[1536]; /* response head and the first frames, until synced */
};

static struct connection *connections;
static uint32_t open_count, opened_count, under_way_count;
static char name[64];
static bool closes; /* the current command closes what it has synced */
static int epoll_fd, port;

static void fail(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    exit(1);
}

static void begin(uint32_t slot, uint32_t document)
{
    static uint32_t turn;
    struct connection *c = &connections[slot];
    struct sockaddr_in from = {.sin_family = AF_INET},
                       to = {.sin_family = AF_INET, .sin_port = htons(port)};
    from.sin_addr.s_addr = htonl(0x7f000002 + turn++ % 16);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Small buffers on our side; the kernel's memory is not what the test measures. */
    int size = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) < 0)
        fail("bind");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        fail("connect");
    c->phase = CONNECTING;
    c->document = document;
    c->seen_size = 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = slot};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl");
    under_way_count++;
}

static void end(struct connection *c)
{
    if (c->phase == IDLE)
        open_count--;
    close(c->fd);
    c->phase = FREE;
}

/* Sends the upgrade request. */
static void upgrade(uint32_t slot)
{
    struct connection *c = &connections[slot];
    char request[256];
    int size =
        snprintf(request, sizeof request,
                 "GET /yjs/%s-%u HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: "
                 "websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                 name, c->document, port);
    if (write(c->fd, request, size) != size)
        fail("write");
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = slot};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
    c->phase = UPGRADING;
}

/* True when the frames in seen[] contain a step 2. */
static bool has_step2(const struct connection *c, uint32_t at)
{
    while (c->seen_size - at >= 4) {
        const uint8_t *frame = (const uint8_t *)c->seen + at;
        uint32_t size = frame[1] & 0x7f, head = 2;
        if (size > 125)
            fail("a frame larger than this tool expects");
        if (frame[0] == 0x82 && size >= 2 && frame[head] == 0 && frame[head + 1] == 1)
            return true;
        at += head + size;
        if (at > c->seen_size)
            return false;
    }
    return false;
}

static void readable(struct connection *c)
{
    char scratch[4096];

    if (c->phase == IDLE) {
        ssize_t got = read(c->fd, scratch, sizeof scratch);
        if (got <= 0 && errno != EAGAIN) {
            printf("failed: an idle connection ended\n");
            fflush(stdout);
            end(c);
        }
        return;
    }
    ssize_t got = read(c->fd, c->seen + c->seen_size, sizeof c->seen - 1 - c->seen_size);
    if (got <= 0)
        fail(got == 0 ? "ended before it was synced" : "read");
    c->seen_size += got;
    c->seen[c->seen_size] = 0;
    char *body = memmem(c->seen, c->seen_size, "\r\n\r\n", 4);
    if (!body)
        return;
    if (c->phase == UPGRADING) {
        if (strncmp(c->seen, "HTTP/1.1 101", 12) != 0)
            fail(c->seen);
        /* step 1 with the empty state vector, masked with zero */
        static const uint8_t step1[] = {0x82, 0x84, 0, 0, 0, 0, 0, 0, 1, 0};
        if (write(c->fd, step1, sizeof step1) != sizeof step1)
            fail("write");
        c->phase = SYNCING;
    }
    if (!has_step2(c, body + 4 - c->seen))
        return;
    c->phase = IDLE;
    open_count++;
    opened_count++;
    under_way_count--;
    if (closes)
        end(c);
}

static uint32_t free_slot(void)
{
    static uint32_t at;
    for (uint32_t tried = 0; tried < CONNECTION_COUNT_MAX; tried++) {
        at = (at + 1) % CONNECTION_COUNT_MAX;
        if (connections[at].phase == FREE)
            return at;
    }
    fail("too many connections");
    return 0;
}

static void turn(int timeout_ms)
{
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[events[i].data.u32];
        if (c->phase == CONNECTING)
            upgrade(events[i].data.u32);
        else if (c->phase != FREE)
            readable(c);
    }
}

static void run(uint32_t count, uint32_t documents)
{
    uint32_t begun = 0;
    opened_count = 0;
    while (opened_count < count) {
        while (begun < count && under_way_count < AT_ONCE) {
            begin(free_slot(), begun % documents);
            begun++;
        }
        turn(1000);
    }
}

int main(int argc, char **argv)
{
    char line[256];
    uint32_t count, documents;
    struct rlimit limit;

    if (argc != 2)
        return 2;
    port = atoi(argv[1]);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    connections = calloc(CONNECTION_COUNT_MAX, sizeof *connections);
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    setvbuf(stdin, NULL, _IONBF, 0);

    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.u32 != UINT32_MAX) {
                if (connections[events[i].data.u32].phase == IDLE)
                    readable(&connections[events[i].data.u32]);
                continue;
            }
            epoll_ctl(epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
            if (!fgets(line, sizeof line, stdin))
                return 0;
            if (sscanf(line, "open %u %u %63s", &count, &documents, name) == 3) {
                closes = false;
                run(count, documents);
                printf("opened %u\n", count);
            } else if (sscanf(line, "cycle %u %63s", &count, name) == 2) {
                closes = true;
                run(count, count);
                printf("cycled %u\n", count);
            } else if (strncmp(line, "count", 5) == 0) {
                printf("count %u\n", open_count);
            } else {
                printf("failed: what is %s", line);
            }
            fflush(stdout);
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
        }
    }
}
