#include "net/net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

#define BACKLOG 4096
#define NOTSENT_SIZE (128 << 10)
#define SECONDS UINT64_C(1000000000)

const struct tp_net_limits tp_net_limits_default = {
    .connection_count_max = 65536,
    .header_size_max = 16 << 10,
    .request_size_max = 16 << 20,
    .message_size_max = (64 << 20) + 4096, /* the largest update, and room to name its document */
    .joined_size_max = (uint64_t)512 << 20,
    .outbox_size_max = 4 << 20,
    .output_size_max = (uint64_t)512 << 20,
    .header_time_ns = 10 * SECONDS,
    .request_time_ns = 300 * SECONDS,
    .idle_time_ns = 75 * SECONDS,
    .ping_time_ns = 25 * SECONDS,
    .dead_time_ns = 60 * SECONDS,
    .close_time_ns = 5 * SECONDS,
};

/* What was put off to the poll, so that no handler is called from inside another call. */
static void work(struct tp_timer *timer)
{
    struct tp_net *net = TP_CONTAINER(timer, struct tp_net, work_timer);
    struct tp_link now;

    tp_link_init(&now);
    tp_list_splice(&now, &net->to_work);
    for (struct tp_link *link; (link = tp_list_pop(&now)) != NULL;)
        tp_connection_work(TP_CONTAINER(link, struct tp_connection, work));
}

struct tp_net *tp_net_create(struct tp_reactor *reactor, struct tp_pool *pool,
                             const struct tp_net_limits *limits,
                             const struct tp_net_handler *handler, void *context)
{
    struct tp_net *net = calloc(1, sizeof *net);

    TP_ASSERT(net != NULL);
    net->reactor = reactor;
    net->pool = pool;
    net->limits = *limits;
    net->handler = *handler;
    net->context = context;
    net->date_s = UINT64_MAX;
    tp_link_init(&net->listeners);
    tp_link_init(&net->connections);
    tp_link_init(&net->to_flush);
    tp_link_init(&net->to_work);
    tp_origins_init(&net->origins);
    tp_timer_init(&net->work_timer, work);
    net->ping = tp_frame_alloc(pool, 0);
    tp_websocket_seal(net->ping, TP_WEBSOCKET_PING);
    return net;
}

void tp_net_destroy(struct tp_net *net)
{
    if (net == NULL)
        return;
    tp_net_stop_listening(net);
    TP_LIST_EACH(link, &net->connections)
    {
        struct tp_connection *connection = TP_CONTAINER(link, struct tp_connection, link);
        tp_connection_end(connection, TP_WEBSOCKET_LOST);
        tp_connection_look(connection);
    }
    while (net->connection_count > 0 || !tp_link_alone(&net->listeners)) {
        tp_reactor_wait(net->reactor);
        tp_reactor_poll(net->reactor);
    }
    tp_reactor_submit(net->reactor); /* what was closed in the last poll */
    tp_timer_stop(net->reactor, &net->work_timer);
    tp_frame_unref(net->ping);
    tp_origins_finish(&net->origins);
    free(net);
}

/* ---- listeners ----------------------------------------------------------------------------------
 */

static bool out_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

static void accepted(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_listener *listener = TP_CONTAINER(io, struct tp_listener, accept);
    struct tp_net *net = listener->net;

    if (result >= 0 && listener->stopping)
        tp_reactor_close(net->reactor, result);
    else if (result >= 0)
        tp_connection_open(net, result, listener);
    if (flags & TP_IO_MORE)
        return;

    if (listener->stopping) {
        tp_reactor_close(net->reactor, listener->fd);
        tp_link_remove(&listener->link);
        free(listener);
    } else if (result < 0 && out_of_resources(-result)) {
        /* The connections wait in the kernel's queue meanwhile. To ask again at once would spin. */
        net->counts.accept_failures++;
        tp_timer_set(net->reactor, &listener->retry,
                     tp_reactor_now_ns(net->reactor) + ACCEPT_RETRY_NS);
    } else {
        tp_reactor_accept(net->reactor, io, listener->fd);
    }
}

static void retry_accept(struct tp_timer *timer)
{
    struct tp_listener *listener = TP_CONTAINER(timer, struct tp_listener, retry);

    tp_reactor_accept(listener->net->reactor, &listener->accept, listener->fd);
}

static struct tp_listener *listen_on(struct tp_net *net, int fd)
{
    struct tp_listener *listener = calloc(1, sizeof *listener);

    TP_ASSERT(listener != NULL);
    listener->net = net;
    listener->fd = fd;
    listener->accept.done = accepted;
    tp_timer_init(&listener->retry, retry_accept);
    tp_link_init(&listener->link);
    tp_link_insert(&net->listeners, &listener->link);
    /* Inherited by what it accepts: small frames must not wait for the last one's receipt. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    /* What the kernel has cannot be dropped any more, and it would take megabytes for a reader that
     * does not read. Sent and not yet received does not count: that is as much as the way takes. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){NOTSENT_SIZE}, sizeof(int));
    tp_reactor_accept(net->reactor, &listener->accept, fd);
    return listener;
}

void tp_net_listen_fd(struct tp_net *net, int fd)
{
    (void)listen_on(net, fd);
}

/* Splits HOST:PORT or [IPv6]:PORT; `host` has room for the whole address. */
static bool split_address(const char *address, char *host, const char **port)
{
    const char *const colon = strrchr(address, ':');

    if (colon == NULL || colon[1] == '\0')
        return false;
    size_t size = (size_t)(colon - address);
    if (size >= 2 && address[0] == '[' && address[size - 1] == ']') {
        address++;
        size -= 2;
    } else if (memchr(address, ':', size) != NULL) {
        return false; /* IPv6 without brackets: where would the port begin? */
    }
    memcpy(host, address, size);
    host[size] = '\0';
    *port = colon + 1;
    return strspn(*port, "0123456789") == strlen(*port) && strlen(*port) <= 5 &&
           atoi(*port) <= 65535;
}

static int open_listener(const struct addrinfo *info, bool shared)
{
    const int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){shared}, sizeof(int)) != 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static uint16_t port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } address = {0};
    socklen_t size = sizeof address;

    if (getsockname(fd, &address.any, &size) != 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in4.sin_port);
}

static enum tp_status listen_at(struct tp_net *net, const char *address, struct tp_tls_context *tls,
                                uint8_t door, uint16_t *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    const char *service;
    char host[256];

    if (strlen(address) >= sizeof host || !split_address(address, host, &service))
        return TP_MALFORMED;
    const int result = getaddrinfo(host[0] == '\0' ? NULL : host, service, &hints, &found);
    if (result != 0) {
        if (result != EAI_SYSTEM)
            errno = EADDRNOTAVAIL;
        return TP_IO;
    }
    const int fd = open_listener(found, door == 0);
    freeaddrinfo(found);
    if (fd < 0)
        return TP_IO;
    *port = port_of(fd);
    struct tp_listener *listener = listen_on(net, fd);
    listener->tls = tls;
    listener->door = door;
    return TP_OK;
}

enum tp_status tp_net_listen(struct tp_net *net, const char *address, uint16_t *port)
{
    return listen_at(net, address, NULL, 0, port);
}

enum tp_status tp_net_listen_tls(struct tp_net *net, const char *address,
                                 struct tp_tls_context *tls, uint16_t *port)
{
    return listen_at(net, address, tls, 0, port);
}

enum tp_status tp_net_listen_alone(struct tp_net *net, const char *address, uint8_t door,
                                   uint16_t *port)
{
    return listen_at(net, address, NULL, door, port);
}

void tp_net_stop_listening(struct tp_net *net)
{
    net->draining = true;
    TP_LIST_EACH_SAFE(link, &net->listeners)
    {
        struct tp_listener *listener = TP_CONTAINER(link, struct tp_listener, link);
        if (listener->stopping)
            continue;
        listener->stopping = true;
        tp_timer_stop(net->reactor, &listener->retry);
        if (listener->accept.pending > 0) {
            tp_reactor_cancel(net->reactor, &listener->accept);
            continue;
        }
        tp_reactor_close(net->reactor, listener->fd);
        tp_link_remove(&listener->link);
        free(listener);
    }
}

/* ---- all connections ----------------------------------------------------------------------------
 */

void tp_net_flush(struct tp_net *net)
{
    struct tp_link now;

    /* What `drained` queues is sent in this round if its connection is still to come, else in the
     * next, and then this tick does not wait. */
    tp_link_init(&now);
    tp_list_splice(&now, &net->to_flush);
    for (struct tp_link *link; (link = tp_list_pop(&now)) != NULL;)
        tp_connection_flush(TP_CONTAINER(link, struct tp_connection, flush));
    if (!tp_link_alone(&net->to_flush))
        tp_reactor_stay_awake(net->reactor);
}

void tp_net_each(struct tp_net *net, void (*each)(void *context, struct tp_connection *connection),
                 void *context)
{
    TP_LIST_EACH_SAFE(link, &net->connections)
    {
        struct tp_connection *connection = TP_CONTAINER(link, struct tp_connection, link);
        if (connection->state < STATE_CLOSING)
            each(context, connection);
    }
}

uint32_t tp_net_connection_count(const struct tp_net *net)
{
    return net->connection_count;
}

uint64_t tp_net_unsent_size(const struct tp_net *net)
{
    return net->unsent_size;
}

uint64_t tp_net_joined_size(const struct tp_net *net)
{
    return net->joined_size;
}

struct tp_net_counts tp_net_counts(const struct tp_net *net)
{
    return net->counts;
}
