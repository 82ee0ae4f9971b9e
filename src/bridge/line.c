#include "bridge/line.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define CONNECT_TIME_NS (3000 * MS)
#define RETRY_NS_MIN (50 * MS) /* doubles with every attempt, half of it at random ... */
#define RETRY_NS_MAX (5000 * MS)
#define KEPT_SIZE_MAX ((size_t)1 << 20) /* an empty queue keeps no more memory than this */

static void start(struct tp_line *line);

/* The kernel works on nothing of ours any more: close, and try again later. */
static void settle(struct tp_line *line)
{
    if (line->state != TP_LINE_BREAKING || line->connect.pending > 0 || line->receive.pending > 0 ||
        line->send.pending > 0)
        return;
    if (line->fd >= 0)
        tp_reactor_close(line->reactor, line->fd);
    line->fd = -1;
    tp_buffer_finish(&line->out);
    tp_buffer_finish(&line->sending);
    line->out = line->sending = tp_buffer_growing(SIZE_MAX / 2);
    line->sent_size = 0;
    if (line->ending) {
        line->state = TP_LINE_CLOSED;
        return;
    }
    const uint64_t most = RETRY_NS_MIN << (line->attempt < 8 ? line->attempt : 8);
    const uint64_t whole = most < RETRY_NS_MAX ? most : RETRY_NS_MAX;
    line->attempt++;
    line->state = TP_LINE_WAITING;
    tp_timer_set(line->reactor, &line->timer,
                 tp_reactor_now_ns(line->reactor) + whole / 2 +
                     tp_random_below(&line->random, whole / 2));
}

void tp_line_break(struct tp_line *line, const char *reason)
{
    if (line->state != TP_LINE_CONNECTING && line->state != TP_LINE_OPEN)
        return;
    snprintf(line->reason, sizeof line->reason, "%s", reason);
    line->state = TP_LINE_BREAKING;
    tp_timer_stop(line->reactor, &line->timer);
    if (line->fd >= 0)
        (void)shutdown(line->fd, SHUT_RDWR); /* ends what is under way without waiting for it */
    tp_reactor_cancel(line->reactor, &line->connect);
    tp_reactor_cancel(line->reactor, &line->receive);
    tp_reactor_cancel(line->reactor, &line->send);
    line->handler->broken(line);
    /* Now and not later: nobody may call again for a line on which nothing is under way. */
    settle(line);
}

static void break_for(struct tp_line *line, const char *what, int error)
{
    char reason[TP_LINE_REASON_SIZE];

    snprintf(reason, sizeof reason, "%s: %s", what, strerror(error));
    tp_line_break(line, reason);
}

static void connected(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_line *line = TP_CONTAINER(io, struct tp_line, connect);

    (void)flags;
    if (line->state == TP_LINE_BREAKING) {
        settle(line);
        return;
    }
    if (result < 0) {
        break_for(line, "cannot connect", -result);
        return;
    }
    tp_timer_stop(line->reactor, &line->timer);
    line->state = TP_LINE_OPEN;
    line->heard_ns = tp_reactor_now_ns(line->reactor);
    tp_reactor_receive(line->reactor, &line->receive, line->fd);
    line->handler->opened(line);
}

static void received(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_line *line = TP_CONTAINER(io, struct tp_line, receive);
    bool good = true;

    if (result > 0) {
        line->heard_ns = tp_reactor_now_ns(line->reactor);
        if (line->state == TP_LINE_OPEN)
            good = line->handler->received(
                line, tp_slice_of(tp_reactor_buffer(line->reactor, flags), (size_t)result));
        tp_reactor_buffer_return(line->reactor, flags);
    }
    if (line->state == TP_LINE_OPEN && !good)
        tp_line_break(line, "it says what makes no sense");
    if (flags & TP_IO_MORE)
        return;
    if (line->state == TP_LINE_BREAKING)
        settle(line);
    else if (line->state == TP_LINE_OPEN && (result > 0 || result == -ENOBUFS))
        tp_reactor_receive(line->reactor, io, line->fd);
    else if (result == 0)
        tp_line_break(line, "it closed the connection");
    else
        break_for(line, "the connection broke", -result);
}

static void send_rest(struct tp_line *line)
{
    struct iovec part = {line->sending.data + line->sent_size,
                         line->sending.size - line->sent_size};
    const struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    tp_reactor_send(line->reactor, &line->send, line->fd, &message);
}

static void sent(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_line *line = TP_CONTAINER(io, struct tp_line, send);

    (void)flags;
    if (line->state == TP_LINE_BREAKING) {
        settle(line);
        return;
    }
    if (result < 0) {
        break_for(line, "cannot write", -result);
        return;
    }
    line->sent_size += (size_t)result;
    if (line->sent_size < line->sending.size) {
        send_rest(line);
        return;
    }
    if (line->sending.capacity > KEPT_SIZE_MAX)
        tp_buffer_finish(&line->sending);
    line->sending.size_max = SIZE_MAX / 2;
    line->sending.size = line->sent_size = 0;
    tp_line_flush(line);
    if (line->send.pending == 0)
        line->handler->written(line);
}

void tp_line_flush(struct tp_line *line)
{
    if (line->state != TP_LINE_OPEN || line->send.pending > 0 || line->out.size == 0)
        return;
    const struct tp_buffer empty = line->sending;
    line->sending = line->out;
    line->out = empty;
    line->sent_size = 0;
    send_rest(line);
}

bool tp_line_quiet(const struct tp_line *line)
{
    return line->state != TP_LINE_OPEN || tp_line_waiting_size(line) == 0;
}

size_t tp_line_waiting_size(const struct tp_line *line)
{
    return line->out.size + line->sending.size - line->sent_size;
}

static void start(struct tp_line *line)
{
    const uint32_t which = line->attempt % line->addresses->count;
    const struct sockaddr *address = (const struct sockaddr *)&line->addresses->all[which];

    line->state = TP_LINE_CONNECTING;
    line->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (line->fd < 0) {
        break_for(line, "no socket", errno);
        return;
    }
    (void)setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    tp_timer_set(line->reactor, &line->timer, tp_reactor_now_ns(line->reactor) + CONNECT_TIME_NS);
    tp_reactor_connect(line->reactor, &line->connect, line->fd, address,
                       line->addresses->sizes[which]);
}

static void fired(struct tp_timer *timer)
{
    struct tp_line *line = TP_CONTAINER(timer, struct tp_line, timer);

    if (line->state == TP_LINE_WAITING)
        start(line);
    else
        tp_line_break(line, "cannot connect: no answer");
}

void tp_line_init(struct tp_line *line, const struct tp_line_handler *handler,
                  struct tp_reactor *reactor, const struct tp_addresses *addresses)
{
    *line = (struct tp_line){.handler = handler,
                             .reactor = reactor,
                             .addresses = addresses,
                             .fd = -1,
                             .connect.done = connected,
                             .receive.done = received,
                             .send.done = sent,
                             .out = tp_buffer_growing(SIZE_MAX / 2),
                             .sending = tp_buffer_growing(SIZE_MAX / 2)};
    tp_timer_init(&line->timer, fired);
    tp_random_secret(&line->random.state, sizeof line->random.state);
}

void tp_line_open(struct tp_line *line)
{
    TP_ASSERT(line->state == TP_LINE_CLOSED);
    start(line);
}

void tp_line_finish(struct tp_line *line)
{
    line->ending = true;
    tp_line_break(line, "the server ends");
    if (line->state == TP_LINE_WAITING)
        line->state = TP_LINE_CLOSED;
    tp_timer_stop(line->reactor, &line->timer);
    while (line->state != TP_LINE_CLOSED) {
        tp_reactor_wait(line->reactor);
        tp_reactor_poll(line->reactor);
    }
    tp_reactor_submit(line->reactor); /* the close */
    tp_buffer_finish(&line->out);
    tp_buffer_finish(&line->sending);
}
