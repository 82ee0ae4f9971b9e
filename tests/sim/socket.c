/* Connections of memory: bytes travel in segments, each with a time of arrival. */
#include <stdlib.h>

#include "sim/sim.h"

#define SOCKET_COUNT_MAX 65536u

struct sim_segment {
    struct sim_segment *next;
    uint64_t at_ns;
    size_t size, taken;
    uint8_t data[];
};

static struct sim_socket *sockets[SOCKET_COUNT_MAX];
static uint32_t socket_count;

/* ---- streams ------------------------------------------------------------------------------------
 */

static void stream_init(struct sim_stream *stream)
{
    *stream = (struct sim_stream){.last = &stream->first};
}

static void stream_drop(struct sim_stream *stream)
{
    for (struct sim_segment *segment; (segment = stream->first) != NULL;) {
        stream->first = segment->next;
        free(segment);
    }
    stream_init(stream);
}

uint64_t sim_stream_next_ns(const struct sim_stream *stream)
{
    return stream->first == NULL ? NEVER : stream->first->at_ns;
}

/* As it travels: in one piece, or in several that come at different times. */
void sim_stream_put(struct sim_stream *stream, const uint8_t *data, size_t size)
{
    struct sim_heap *before = sim_heap_use(NULL);

    while (size > 0) {
        size_t part = size;
        if (!sim.hurry && size > 1 && sim_chance(sim.calm ? 20 : 200))
            part = 1 + sim_below(size - 1);
        struct sim_segment *segment = malloc(sizeof *segment + part);
        TP_ASSERT(segment != NULL);
        stream->last_at_ns =
            tp_max(stream->last_at_ns, sim.now_ns + sim_delay(sim.calm ? 5 * MS : 200 * MS));
        *segment = (struct sim_segment){.at_ns = stream->last_at_ns, .size = part};
        memcpy(segment->data, data, part);
        *stream->last = segment;
        stream->last = &segment->next;
        stream->size += part;
        data += part;
        size -= part;
    }
    sim_heap_use(before);
}

size_t sim_stream_take(struct sim_stream *stream, uint8_t *out, size_t size)
{
    size_t taken = 0;

    while (stream->first != NULL && stream->first->at_ns <= sim.now_ns && taken < size) {
        struct sim_segment *segment = stream->first;
        const size_t part = tp_min(size - taken, segment->size - segment->taken);
        memcpy(out + taken, segment->data + segment->taken, part);
        segment->taken += part;
        taken += part;
        if (segment->taken < segment->size)
            break;
        stream->first = segment->next;
        if (stream->first == NULL)
            stream->last = &stream->first;
        free(segment);
    }
    stream->size -= taken;
    return taken;
}

/* ---- sockets ------------------------------------------------------------------------------------
 */

static struct sim_socket *open_socket(void)
{
    struct sim_heap *before = sim_heap_use(NULL);
    struct sim_socket *socket = calloc(1, sizeof *socket);

    TP_ASSERT(socket != NULL && socket_count < SOCKET_COUNT_MAX);
    socket->fd = SIM_FD_FIRST + (int)socket_count;
    tp_link_init(&socket->queue);
    stream_init(&socket->up);
    stream_init(&socket->down);
    sockets[socket_count++] = socket;
    sim_heap_use(before);
    return socket;
}

struct sim_socket *sim_socket_of(int fd)
{
    TP_ASSERT(fd >= SIM_FD_FIRST && (uint32_t)(fd - SIM_FD_FIRST) < socket_count);
    struct sim_socket *socket = sockets[fd - SIM_FD_FIRST];
    TP_ASSERT(socket != NULL);
    return socket;
}

static void let_go(struct sim_socket *socket)
{
    if (!socket->client_gone || !socket->server_gone)
        return;
    TP_ASSERT(socket->receiving == NULL && socket->sending == NULL && socket->accepting == NULL);
    stream_drop(&socket->up);
    stream_drop(&socket->down);
    tp_link_remove(&socket->queue);
    sockets[socket->fd - SIM_FD_FIRST] = NULL;
    free(socket);
}

static void reset(struct sim_socket *socket)
{
    if (socket->reset)
        return;
    socket->reset = true;
    socket->reset_ns = sim.now_ns + sim_delay(50 * MS);
    stream_drop(&socket->up);
    stream_drop(&socket->down);
    sim_reactor_poke(socket->receiving, socket->reset_ns);
    sim_reactor_poke(socket->sending, socket->reset_ns);
    if (!socket->client_gone)
        sim_wake(socket->client, socket->reset_ns);
}

void sim_socket_refuse(struct sim_socket *socket)
{
    reset(socket);
}

int sim_listen(void)
{
    struct sim_socket *socket = open_socket();

    socket->listening = socket->client_gone = true;
    return socket->fd;
}

void sim_close(int fd)
{
    struct sim_socket *socket = sim_socket_of(fd);

    TP_ASSERT(!socket->server_gone);
    if (socket->listening) {
        TP_LIST_EACH_SAFE(link, &socket->queue)
        {
            struct sim_socket *waiting = TP_CONTAINER(link, struct sim_socket, queue);
            tp_link_remove(link);
            sim_close(waiting->fd);
        }
    } else if (socket->up.size > 0) {
        reset(socket); /* as kernels do when input is left unread */
    } else if (!socket->down_ended) {
        socket->down_ended = true;
        socket->down_end_ns = tp_max(socket->down.last_at_ns, sim.now_ns);
        if (!socket->client_gone)
            sim_wake(socket->client, socket->down_end_ns);
    }
    socket->server_gone = true;
    let_go(socket);
}

void sim_sockets_reset(void)
{
    for (uint32_t i = 0; i < socket_count; i++) {
        struct sim_socket *socket = sockets[i];
        if (socket == NULL || socket->server_gone)
            continue;
        socket->receiving = socket->sending = socket->accepting = NULL;
        if (!socket->listening) {
            tp_link_remove(&socket->queue);
            reset(socket);
        }
    }
    for (uint32_t i = 0; i < socket_count; i++)
        if (sockets[i] != NULL && !sockets[i]->server_gone) {
            sockets[i]->server_gone = true;
            let_go(sockets[i]);
        }
}

void sim_sockets_finish(void)
{
    for (uint32_t i = 0; i < socket_count; i++)
        if (sockets[i] != NULL && !sockets[i]->server_gone)
            sim_fail("the server has not closed socket %u", i);
    socket_count = 0;
}

/* ---- the client's side --------------------------------------------------------------------------
 */

struct sim_socket *sim_connect(struct sim_task *client, size_t down_size_max)
{
    struct sim_socket *listeners[SHARD_COUNT_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < socket_count; i++)
        if (sockets[i] != NULL && sockets[i]->listening && !sockets[i]->server_gone)
            listeners[count++] = sockets[i];
    if (count == 0)
        return NULL;
    struct sim_socket *listener = listeners[sim_below(count)];
    struct sim_socket *socket = open_socket();
    socket->client = client;
    socket->down_size_max = down_size_max;
    socket->queued_at_ns = sim.now_ns + sim_delay(50 * MS);
    tp_link_insert(&listener->queue, &socket->queue);
    sim_reactor_poke(listener->accepting, socket->queued_at_ns);
    return socket;
}

void sim_socket_write(struct sim_socket *socket, struct tp_slice bytes)
{
    if (socket->reset || socket->server_gone)
        return;
    sim_stream_put(&socket->up, bytes.data, bytes.size);
    sim_reactor_poke(socket->receiving, sim_stream_next_ns(&socket->up));
}

bool sim_socket_read(struct sim_socket *socket, struct tp_buffer *out, size_t size_max)
{
    const bool was_full = socket->down.size >= socket->down_size_max;

    if (socket->reset)
        return sim.now_ns < socket->reset_ns;
    if (size_max > 0 && tp_buffer_reserve(out, size_max))
        out->size += sim_stream_take(&socket->down, out->data + out->size, size_max);
    if (was_full)
        sim_reactor_poke(socket->sending, sim.now_ns);
    return !(socket->down_ended && socket->down.first == NULL && sim.now_ns >= socket->down_end_ns);
}

uint64_t sim_socket_next_ns(const struct sim_socket *socket)
{
    if (socket->reset)
        return socket->reset_ns;
    if (socket->down.first == NULL && socket->down_ended)
        return socket->down_end_ns;
    return sim_stream_next_ns(&socket->down);
}

void sim_socket_break(struct sim_socket *socket, bool abruptly)
{
    socket->client_gone = true;
    if (abruptly || socket->down.size > 0) {
        if (!socket->server_gone)
            reset(socket);
    } else {
        socket->up_ended = true;
        socket->up_end_ns = tp_max(socket->up.last_at_ns, sim.now_ns + sim_delay(50 * MS));
        sim_reactor_poke(socket->receiving, socket->up_end_ns);
    }
    let_go(socket);
}
