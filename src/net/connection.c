#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

static uint64_t now_ns(const struct tp_connection *connection)
{
    return tp_reactor_now_ns(connection->net->reactor);
}

static void set_timer(struct tp_connection *connection, uint64_t at_ns)
{
    tp_timer_set(connection->net->reactor, &connection->timer, at_ns);
}

/* To be called when the outbox has changed. */
static void count_outbox(struct tp_connection *connection)
{
    connection->net->unsent_size += connection->outbox.unsent_size - connection->counted_size;
    connection->counted_size = connection->outbox.unsent_size;
}

/* What may be queued to one connection. */
static uint64_t outbox_size_max(const struct tp_net *net)
{
    const uint64_t size_max = net->limits.outbox_size_max;

    return net->unsent_size > net->limits.output_size_max
               ? tp_min(size_max, (uint64_t)TP_NET_OUTBOX_SIZE_MIN)
               : size_max;
}

/* ---- life ---------------------------------------------------------------------------------------
 */

static void drop_bytes(struct tp_bytes **bytes)
{
    free(*bytes);
    *bytes = NULL;
}

static bool wants_input(const struct tp_connection *connection)
{
    return connection->state != STATE_ENDING && !connection->eof && connection->blocks == 0;
}

void tp_connection_look(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;

    if (!tp_link_alone(&connection->work))
        return;
    tp_link_insert(&net->to_work, &connection->work);
    if (net->work_timer.at_ns == 0)
        tp_timer_set(net->reactor, &net->work_timer, tp_reactor_now_ns(net->reactor));
}

/* Makes the kernel receive, or stop receiving, as it should. */
static void adjust(struct tp_connection *connection)
{
    struct tp_reactor *reactor = connection->net->reactor;

    if (wants_input(connection)) {
        if (connection->receive.pending == 0) {
            connection->cancelling = false;
            tp_reactor_receive(reactor, &connection->receive, connection->fd);
        }
    } else if (connection->receive.pending > 0 && !connection->cancelling) {
        connection->cancelling = true;
        tp_reactor_cancel(reactor, &connection->receive);
    }
}

void tp_connection_end(struct tp_connection *connection, uint16_t code)
{
    if (connection->state == STATE_ENDING)
        return;
    if (connection->close_code == 0)
        connection->close_code = code;
    connection->state = STATE_ENDING;
    adjust(connection);
    if (connection->send.pending > 0)
        tp_reactor_cancel(connection->net->reactor, &connection->send);
    tp_timer_stop(connection->net->reactor, &connection->timer);
}

void tp_connection_leave(struct tp_connection *connection, uint16_t code)
{
    if (connection->state >= STATE_LEAVING)
        return;
    if (connection->close_code == 0)
        connection->close_code = code;
    connection->state = STATE_LEAVING;
    connection->blocks = 0; /* input is read again, and thrown away */
    connection->notify = false;
    drop_bytes(&connection->kept);
    tp_connection_drop_message(connection);
    connection->progress_ns = now_ns(connection);
    set_timer(connection, now_ns(connection) + connection->net->limits.close_time_ns);
    tp_connection_look(connection);
}

static void release(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;

    TP_ASSERT(connection->receive.pending == 0 && connection->send.pending == 0);
    tp_link_remove(&connection->link);
    tp_link_remove(&connection->flush);
    tp_link_remove(&connection->work);
    tp_timer_stop(net->reactor, &connection->timer);
    tp_outbox_finish(&connection->outbox, net->pool);
    tp_secure_finish(connection->secure, net->pool);
    count_outbox(connection);
    tp_connection_drop_origin(connection);
    tp_http_parser_destroy(connection->http);
    tp_connection_drop_message(connection);
    drop_bytes(&connection->kept);
    tp_reactor_close(net->reactor, connection->fd);
    net->connection_count--;
    net->door_count -= connection->door != 0;
    net->counts.closed++;
    free(connection);
}

static void let_go(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;

    tp_link_remove(&connection->link);
    tp_link_remove(&connection->flush);
    tp_link_remove(&connection->work);
    tp_timer_stop(net->reactor, &connection->timer);
    tp_connection_drop_origin(connection);
    count_outbox(connection);
    if (connection->message != NULL)
        net->joined_size -= connection->message->capacity;
    net->connection_count--;
    connection->notify = false;
    connection->net = NULL;
    net->handler.detached(net->context, connection);
}

/* Nothing more will come, and what came has been read. */
static void at_eof(struct tp_connection *connection)
{
    switch (connection->state) {
    case STATE_HTTP:
        if (!tp_connection_is_drained(connection) && !connection->broken)
            tp_connection_leave(connection, TP_WEBSOCKET_NORMAL); /* half closed: still reads */
        else
            tp_connection_end(connection, TP_WEBSOCKET_NORMAL);
        break;
    case STATE_STREAM:
    case STATE_WEBSOCKET:
    case STATE_CLOSING:
    case STATE_LINGERING:
        tp_connection_end(connection, TP_WEBSOCKET_LOST);
        break;
    case STATE_LEAVING:
        if (connection->broken)
            tp_connection_end(connection, TP_WEBSOCKET_LOST);
        break;
    }
}

/* Does what the connection's state calls for. May free it: the last step of whoever calls. */
void tp_connection_settle(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;

    if (connection->eof && connection->blocks == 0 && connection->kept == NULL)
        at_eof(connection);
    if (connection->state >= STATE_LEAVING && connection->heard && !connection->reported) {
        connection->reported = true;
        net->handler.closed(net->context, connection, connection->close_code);
    }
    if (connection->state == STATE_LEAVING && tp_connection_is_drained(connection) &&
        connection->send.pending == 0 &&
        (connection->secure == NULL || connection->broken || !tp_secure_end(connection))) {
        connection->state = STATE_LINGERING;
        if (connection->eof) {
            tp_connection_end(connection, TP_WEBSOCKET_LOST);
        } else {
            connection->shutting = true;
            tp_reactor_shutdown(net->reactor, &connection->send, connection->fd, SHUT_WR);
            set_timer(connection, now_ns(connection) + LINGER_TIME_NS);
        }
    }
    const bool kernel_has_let_go =
        connection->receive.pending == 0 && connection->send.pending == 0;
    if (connection->state == STATE_ENDING && kernel_has_let_go) {
        release(connection);
    } else if ((connection->blocks & BLOCK_DETACH) && connection->state == STATE_WEBSOCKET &&
               kernel_has_let_go && tp_connection_is_drained(connection)) {
        let_go(connection);
    } else {
        adjust(connection);
    }
}

/* ---- bytes in -----------------------------------------------------------------------------------
 */

static void feed(struct tp_connection *connection, uint8_t *data, size_t size)
{
    connection->feeding = true;
    while (size > 0) {
        if (connection->blocks != 0) {
            tp_bytes_append(&connection->kept, data, size);
            break;
        }
        size_t taken = size;
        if (connection->state == STATE_HTTP)
            taken = tp_connection_feed_http(connection, data, size);
        else if (connection->state == STATE_WEBSOCKET || connection->state == STATE_CLOSING)
            taken = tp_connection_feed_websocket(connection, data, size);
        data += taken;
        size -= taken;
    }
    connection->feeding = false;
}

/* Plain bytes that have just come. */
void tp_connection_take(struct tp_connection *connection, uint8_t *data, size_t size)
{
    if (connection->kept != NULL)
        tp_bytes_append(&connection->kept, data, size);
    else
        feed(connection, data, size);
}

static void received(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_connection *connection = TP_CONTAINER(io, struct tp_connection, receive);
    struct tp_net *net = connection->net;

    if (result > 0) {
        uint8_t *data = tp_reactor_buffer(net->reactor, flags);
        net->counts.bytes_in += (uint64_t)result;
        if (connection->state != STATE_HTTP || !connection->in_request ||
            (connection->http != NULL && tp_http_parser_in_body(connection->http)))
            connection->received_ns = now_ns(connection);
        connection->pinged = false;
        if (connection->secure != NULL)
            tp_secure_received(connection, tp_slice_of(data, (size_t)result));
        else
            tp_connection_take(connection, data, (size_t)result);
        tp_reactor_buffer_return(net->reactor, flags);
    } else if (result == 0) {
        connection->eof = true;
    } else if (result != -ENOBUFS && result != -ECANCELED && result != -EINTR &&
               result != -EAGAIN) {
        connection->eof = connection->broken = true;
    }
    tp_connection_settle(connection);
}

void tp_connection_work(struct tp_connection *connection)
{
    if (connection->kept != NULL && connection->blocks == 0) {
        struct tp_bytes *bytes = connection->kept;
        connection->kept = NULL;
        feed(connection, bytes->data, bytes->size);
        free(bytes);
    }
    tp_connection_settle(connection);
}

/* ---- bytes out ----------------------------------------------------------------------------------
 */

static void sent(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct tp_connection *connection = TP_CONTAINER(io, struct tp_connection, send);
    struct tp_net *net = connection->net;
    struct tp_outbox *box =
        connection->secure != NULL ? &connection->secure->sealed : &connection->outbox;

    (void)flags;
    if (connection->shutting) {
        connection->shutting = false;
    } else if (result >= 0) {
        tp_outbox_consume(box, net->pool, (size_t)result);
        net->counts.bytes_out += (uint64_t)result;
        connection->progress_ns = now_ns(connection);
    } else {
        tp_outbox_consume(box, net->pool, 0);
        if (result != -EINTR && result != -EAGAIN && result != -ECANCELED) {
            /* What the other side sent before it broke off may still be unread: so it is the
             * receive that says when the connection is over, within a time. */
            connection->broken = true;
            tp_outbox_finish(&connection->outbox, net->pool);
            tp_outbox_finish(box, net->pool);
            if (connection->state != STATE_ENDING)
                set_timer(connection, now_ns(connection) + net->limits.close_time_ns);
        }
    }
    count_outbox(connection);
    if ((connection->blocks & BLOCK_OUTPUT) &&
        connection->outbox.unsent_size <= outbox_size_max(net) / 2) {
        connection->blocks &= (uint8_t)~BLOCK_OUTPUT;
        if (connection->state != STATE_HTTP)
            connection->received_ns = now_ns(connection); /* we did not listen */
        tp_connection_look(connection);
    }
    if ((!tp_connection_is_drained(connection) || connection->notify) &&
        tp_link_alone(&connection->flush) && connection->state != STATE_ENDING)
        tp_link_insert(&net->to_flush, &connection->flush);
    tp_connection_settle(connection);
}

void tp_connection_queue(struct tp_connection *connection, struct tp_frame *frame,
                         uint64_t document, enum tp_outbox_class class, uint32_t mark)
{
    struct tp_net *net = connection->net;

    if (connection->broken || connection->state == STATE_ENDING)
        return;
    if (connection->outbox.count == 0)
        connection->progress_ns = now_ns(connection);
    tp_outbox_push(&connection->outbox, net->pool, frame, document, class, mark);
    count_outbox(connection);
    if (connection->state == STATE_WEBSOCKET &&
        connection->outbox.unsent_size > outbox_size_max(net)) {
        connection->blocks |= BLOCK_OUTPUT; /* it asks, and does not read the answers */
        adjust(connection);
    }
    if (tp_link_alone(&connection->flush))
        tp_link_insert(&net->to_flush, &connection->flush);
}

/* The vectors of one send, valid until the next submission. */
static struct iovec *take_vectors(struct tp_net *net)
{
    const uint64_t enters = tp_reactor_counts(net->reactor).enters;

    if (enters != net->iov_enters) /* all that were lent have been submitted */
        net->iov_count = net->message_count = 0;
    net->iov_enters = enters;
    if (IOV_ROOM - net->iov_count < IOV_COUNT_MAX ||
        net->message_count == sizeof net->messages / sizeof *net->messages) {
        tp_reactor_submit(net->reactor);
        net->iov_count = net->message_count = 0;
        net->iov_enters = tp_reactor_counts(net->reactor).enters;
    }
    return net->iov + net->iov_count;
}

void tp_connection_flush(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;

    if (connection->state == STATE_ENDING || connection->send.pending > 0)
        return;
    if (connection->notify && tp_connection_is_drained(connection)) {
        connection->notify = false;
        net->handler.drained(net->context, connection);
    }
    struct tp_outbox *box = &connection->outbox;
    if (connection->secure != NULL) {
        tp_secure_fill(connection);
        count_outbox(connection);
        box = &connection->secure->sealed;
    }
    if (connection->state == STATE_ENDING || box->count == 0)
        return;

    struct iovec *iov = take_vectors(net);
    struct msghdr *message = &net->messages[net->message_count];
    *message =
        (struct msghdr){.msg_iov = iov, .msg_iovlen = tp_outbox_gather(box, iov, IOV_COUNT_MAX)};
    tp_reactor_send(net->reactor, &connection->send, connection->fd, message);
    net->counts.sends++;
    if (message->msg_iovlen > 1) { /* a single one has been copied already */
        net->iov_count += (uint32_t)message->msg_iovlen;
        net->message_count++;
    }
}

/* ---- time ---------------------------------------------------------------------------------------
 */

/* One timer per connection, set lazily: what is received only notes the time, and the timer looks
 * at the notes when it fires. */
static void fired(struct tp_timer *timer)
{
    struct tp_connection *connection = TP_CONTAINER(timer, struct tp_connection, timer);
    struct tp_net *net = connection->net;
    const struct tp_net_limits *limits = &net->limits;
    const uint64_t now = now_ns(connection);
    const uint64_t silent_ns = now - connection->received_ns;

    if (connection->broken) {
        net->counts.slow_closed++;
        tp_connection_end(connection, TP_WEBSOCKET_LOST);
        tp_connection_settle(connection);
        return;
    }
    switch (connection->state) {
    case STATE_HTTP:
        if (connection->blocks != 0) {
            set_timer(connection, now + limits->idle_time_ns); /* it is our turn, not theirs */
        } else if (connection->in_request && silent_ns < limits->header_time_ns &&
                   now - connection->request_ns < limits->request_time_ns) {
            set_timer(connection, tp_min(connection->received_ns + limits->header_time_ns,
                                         connection->request_ns + limits->request_time_ns));
        } else {
            net->counts.slow_closed++;
            if (connection->in_request)
                tp_connection_refuse(connection, 408);
            else
                tp_connection_end(connection, TP_WEBSOCKET_NORMAL);
        }
        break;
    case STATE_WEBSOCKET:
        if ((connection->blocks & BLOCK_OUTPUT) &&
            now - connection->progress_ns >= limits->dead_time_ns) {
            net->counts.slow_closed++; /* we do not listen because it does not */
            tp_connection_end(connection, TP_WEBSOCKET_LOST);
        } else if (connection->blocks != 0) {
            set_timer(connection, now + limits->ping_time_ns); /* we do not listen */
        } else if (silent_ns >= limits->dead_time_ns) {
            net->counts.slow_closed++;
            tp_connection_end(connection, TP_WEBSOCKET_LOST);
        } else if (silent_ns < limits->ping_time_ns) {
            set_timer(connection, connection->received_ns + limits->ping_time_ns);
        } else {
            if (!connection->pinged)
                tp_connection_queue(connection, net->ping, 0, TP_OUTBOX_CONTROL, 0);
            connection->pinged = true;
            set_timer(connection, connection->received_ns + limits->dead_time_ns);
        }
        break;
    case STATE_STREAM: /* the other side says nothing: all there is to see is that it reads */
        if (connection->outbox.count > 0 && now - connection->progress_ns >= limits->dead_time_ns) {
            net->counts.slow_closed++;
            tp_connection_end(connection, TP_WEBSOCKET_LOST);
        } else {
            set_timer(connection, now + limits->ping_time_ns);
        }
        break;
    case STATE_LEAVING: /* a long answer may take as long as it goes on */
        if (now - connection->progress_ns < limits->close_time_ns) {
            set_timer(connection, connection->progress_ns + limits->close_time_ns);
            break;
        }
        __attribute__((fallthrough));
    case STATE_CLOSING:
        net->counts.slow_closed++;
        tp_connection_end(connection, TP_WEBSOCKET_LOST);
        break;
    case STATE_LINGERING:
        tp_connection_end(connection, TP_WEBSOCKET_LOST);
        break;
    }
    tp_connection_settle(connection);
}

/* ---- beginning ----------------------------------------------------------------------------------
 */

static void note_peer(struct tp_connection *connection)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    uint8_t *const bytes = connection->peer_address.bytes;

    if (getpeername(connection->fd, (struct sockaddr *)&address, &size) != 0)
        return;
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        memcpy(bytes, &in6->sin6_addr, 16);
        connection->peer_port = ntohs(in6->sin6_port);
    } else if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;
        memset(bytes + 10, 0xff, 2);
        memcpy(bytes + 12, &in4->sin_addr, 4);
        connection->peer_port = ntohs(in4->sin_port);
    }
}

/* One too many of its address, or of all. Each door has a number of its own, so that many clients
 * cannot keep the operator out. False: it is not even to be told. */
static bool refuse_if_crowded(struct tp_connection *connection)
{
    struct tp_net *net = connection->net;
    const uint32_t max = net->limits.connection_count_max;
    const uint32_t origin_max = net->limits.origin_connection_count_max;
    const uint32_t count = net->connection_count - net->door_count; /* with this one */
    uint32_t excess = 0;

    if (connection->door != 0)
        return net->door_count <= TP_NET_DOOR_COUNT_MAX;
    if (count > max) {
        net->counts.refused++;
        excess = count - max;
    } else if (connection->origin != NULL && origin_max > 0 &&
               connection->origin->connection_count > origin_max) {
        net->counts.refused_origin++;
        excess = connection->origin->connection_count - origin_max;
    }
    connection->refused = excess > 0;
    return excess <= TP_NET_REFUSED_COUNT_MAX;
}

void tp_connection_open(struct tp_net *net, int fd, const struct tp_listener *by)
{
    struct tp_connection *connection = calloc(1, sizeof *connection);
    TP_ASSERT(connection != NULL);
    connection->net = net;
    connection->fd = fd;
    connection->door = by->door;
    connection->receive.done = received;
    connection->send.done = sent;
    connection->received_ns = connection->progress_ns = tp_reactor_now_ns(net->reactor);
    tp_link_init(&connection->link);
    tp_link_init(&connection->flush);
    tp_link_init(&connection->work);
    tp_timer_init(&connection->timer, fired);
    note_peer(connection);
    tp_link_insert(&net->connections, &connection->link);
    net->connection_count++;
    net->door_count += by->door != 0;
    net->counts.accepted++;
    if (connection->door == 0 && !tp_net_trusts(net, &connection->peer_address))
        tp_connection_set_origin(connection, &connection->peer_address);
    if (!refuse_if_crowded(connection) ||
        (by->tls != NULL && !tp_connection_secure(connection, by->tls))) {
        release(connection);
        return;
    }
    set_timer(connection, now_ns(connection) + net->limits.header_time_ns);
    adjust(connection);
}

/* ---- what the handler calls ---------------------------------------------------------------------
 */

static bool has_room(const struct tp_connection *connection, size_t size,
                     enum tp_outbox_class class)
{
    const struct tp_outbox *box = &connection->outbox;
    const uint64_t size_max = outbox_size_max(connection->net);

    if (class == TP_OUTBOX_CONTROL)
        return box->unsent_size <= TP_NET_CONTROL_FACTOR * size_max;
    return box->count == 0 || box->unsent_size + size <= size_max;
}

enum tp_status tp_connection_send(struct tp_connection *connection, struct tp_frame *frame,
                                  uint64_t document, enum tp_outbox_class class, uint32_t mark)
{
    const size_t size = tp_frame_bytes(frame).size;

    TP_ASSERT(connection->net != NULL); /* not while detached */
    if ((connection->state != STATE_WEBSOCKET && connection->state != STATE_STREAM) ||
        connection->broken)
        return TP_ABSENT;
    if (!has_room(connection, size, class))
        return TP_FULL;
    tp_connection_queue(connection, frame, document, class, mark);
    connection->queued_ns = now_ns(connection);
    connection->net->counts.messages_out++;
    return TP_OK;
}

uint32_t tp_connection_drop(struct tp_connection *connection, uint64_t document,
                            enum tp_outbox_class class, uint32_t *mark)
{
    const uint32_t count =
        tp_outbox_drop(&connection->outbox, connection->net->pool, document, class, mark);

    count_outbox(connection);
    return count;
}

void tp_connection_notify(struct tp_connection *connection)
{
    if (connection->state >= STATE_CLOSING)
        return;
    connection->notify = true;
    if (tp_link_alone(&connection->flush))
        tp_link_insert(&connection->net->to_flush, &connection->flush);
}

void tp_connection_close(struct tp_connection *connection, uint16_t code, struct tp_slice reason)
{
    switch (connection->state) {
    case STATE_HTTP:
        connection->keep_alive = false;
        if (!(connection->blocks & BLOCK_ANSWER))
            tp_connection_leave(connection, TP_WEBSOCKET_NORMAL);
        break;
    case STATE_STREAM:
        tp_connection_leave(connection, TP_WEBSOCKET_NORMAL);
        break;
    case STATE_WEBSOCKET:
        tp_connection_send_close(connection, code, reason);
        connection->close_code = code;
        connection->state = STATE_CLOSING;
        connection->blocks = 0;
        connection->notify = false;
        tp_connection_drop_message(connection);
        set_timer(connection, now_ns(connection) + connection->net->limits.close_time_ns);
        tp_connection_look(connection);
        break;
    default:
        break;
    }
}

void tp_connection_abort(struct tp_connection *connection)
{
    tp_connection_end(connection, TP_WEBSOCKET_LOST);
    tp_connection_look(connection);
}

static void unblock(struct tp_connection *connection, unsigned block)
{
    if (!(connection->blocks & block))
        return;
    connection->blocks &= (uint8_t)~block;
    if (connection->feeding)
        return;                                   /* whoever feeds goes on, and settles */
    connection->received_ns = now_ns(connection); /* we did not listen: it may have spoken */
    tp_connection_look(connection);
}

void tp_connection_pause(struct tp_connection *connection)
{
    if (connection->state >= STATE_CLOSING || (connection->blocks & BLOCK_USER))
        return;
    connection->net->counts.pauses++;
    connection->blocks |= BLOCK_USER;
    adjust(connection);
}

void tp_connection_resume(struct tp_connection *connection)
{
    unblock(connection, BLOCK_USER);
}

void tp_connection_detach(struct tp_connection *connection)
{
    TP_ASSERT(connection->state >= STATE_WEBSOCKET);
    if (connection->state != STATE_WEBSOCKET)
        return; /* `closed` is on its way */
    connection->blocks |= BLOCK_DETACH;
    adjust(connection);
    tp_connection_look(connection);
}

void tp_net_attach(struct tp_net *net, struct tp_connection *connection)
{
    TP_ASSERT(connection->net == NULL && (connection->blocks & BLOCK_DETACH));
    connection->net = net;
    tp_link_insert(&net->connections, &connection->link);
    net->connection_count++;
    if (connection->has_client_address)
        tp_connection_set_origin(connection, &connection->client_address);
    if (connection->message != NULL)
        net->joined_size += connection->message->capacity;
    connection->blocks &= (uint8_t)~BLOCK_DETACH;
    connection->cancelling = false;
    connection->received_ns = now_ns(connection);
    set_timer(connection, now_ns(connection) + net->limits.ping_time_ns);
    tp_connection_look(connection);
}

void tp_connection_abandon(struct tp_connection *connection)
{
    TP_ASSERT(connection->net == NULL);
    free(connection->message);
    free(connection->kept);
    tp_secure_finish(connection->secure, NULL);
    close(connection->fd);
    free(connection);
}

void tp_connection_set_user(struct tp_connection *connection, void *user)
{
    connection->user = user;
}

void *tp_connection_user(const struct tp_connection *connection)
{
    return connection->user;
}

uint8_t tp_connection_door(const struct tp_connection *connection)
{
    return connection->door;
}

bool tp_connection_is_websocket(const struct tp_connection *connection)
{
    return connection->state == STATE_WEBSOCKET || connection->state == STATE_CLOSING;
}

uint64_t tp_connection_sent_ns(const struct tp_connection *connection)
{
    return connection->queued_ns;
}

size_t tp_connection_unsent_size(const struct tp_connection *connection)
{
    const struct tp_secure *secure = connection->secure;

    return connection->outbox.unsent_size + (secure == NULL ? 0 : secure->sealed.unsent_size);
}

void tp_connection_peer_address(const struct tp_connection *connection, char out[64])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char host[INET6_ADDRSTRLEN];
    const uint8_t *const bytes = connection->peer_address.bytes;
    const bool is_4 = memcmp(bytes, mapped, sizeof mapped) == 0;

    inet_ntop(is_4 ? AF_INET : AF_INET6, bytes + (is_4 ? 12 : 0), host, sizeof host);
    snprintf(out, 64, is_4 ? "%s:%u" : "[%s]:%u", host, connection->peer_port);
}

size_t tp_connection_memory_size(const struct tp_connection *connection)
{
    size_t size = sizeof *connection;

    if (connection->secure != NULL) /* what wolfSSL holds it does not tell */
        size += sizeof *connection->secure + connection->secure->sealed.unsent_size;
    if (connection->outbox.capacity > 0)
        size += tp_pool_class_size(connection->outbox.capacity * sizeof(struct tp_outbox_entry));
    if (connection->message != NULL)
        size += sizeof(struct tp_bytes) + connection->message->capacity;
    if (connection->kept != NULL)
        size += sizeof(struct tp_bytes) + connection->kept->capacity;
    return size;
}
