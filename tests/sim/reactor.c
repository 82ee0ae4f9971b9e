/* include/reactor without a kernel: the same promises, in virtual time.
 *
 * The wheel is the product's own (src/reactor/timer.c); requests, completions and letters are lists
 * here. What the kernel may do, this does: complete late and in any order across sockets, take less
 * than offered, cut a stream anywhere, end a multishot receive, run out of buffers. Bytes that are
 * sent are read when the send completes, not when it is asked for. */
#include "reactor/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "reactor/check.h"
#include "sim/sim.h"

#define FLAG_BUFFER 1u
#define BUFFER_SHIFT 16u
#define IOV_COUNT_MAX 64u
#define BUFFERS_MIN 2u

enum kind { ACCEPT, RECEIVE, SEND, SHUTDOWN };

struct sim_request {
    struct tp_link link;
    struct reactor *reactor;
    struct tp_io *io;
    struct sim_socket *socket;
    enum kind kind;
    uint64_t at_ns;
    bool submitted, cancelled, last_look; /* cancelled, but something came just before */
    const struct msghdr *message;         /* until it is submitted */
    struct iovec iov[IOV_COUNT_MAX];
    size_t iov_count;
};

struct reactor {
    struct tp_reactor base; /* first: what the product holds, and the wheel's place */
    struct sim_task *task;
    struct tp_link requests;
    uint8_t **buffers; /* by number; NULL: free */
    uint32_t buffer_count, buffers_used;
};

static struct sim_task *tasks[TP_POST_ENDPOINT_COUNT_MAX];

void sim_reactor_task(uint32_t endpoint, struct sim_task *task)
{
    tasks[endpoint] = task;
}

void sim_reactor_poke(struct sim_request *request, uint64_t at_ns)
{
    if (request != NULL && request->submitted)
        sim_wake(request->reactor->task, tp_max(at_ns, request->at_ns));
}

/* ---- letters ------------------------------------------------------------------------------------
 */

struct mail {
    struct tp_link link;
    struct tp_letter *letter;
    uint64_t at_ns;
};

struct tp_post {
    uint32_t count;
    struct reactor **reactors;
    struct tp_link *pairs; /* [from * count + to] */
    uint64_t *last_at_ns;
};

struct tp_post *tp_post_create(uint32_t count)
{
    struct tp_post *post = calloc(1, sizeof *post);

    TP_ASSERT(post != NULL);
    post->count = count;
    post->reactors = calloc(count, sizeof(struct reactor *));
    post->pairs = calloc((size_t)count * count, sizeof *post->pairs);
    post->last_at_ns = calloc((size_t)count * count, sizeof(uint64_t));
    for (uint32_t i = 0; i < count * count; i++)
        tp_link_init(&post->pairs[i]);
    return post;
}

void tp_post_destroy(struct tp_post *post)
{
    if (post == NULL)
        return;
    for (uint32_t i = 0; i < post->count * post->count; i++)
        for (struct tp_link *link; (link = tp_list_pop(&post->pairs[i])) != NULL;)
            free(TP_CONTAINER(link, struct mail, link));
    free(post->reactors);
    free(post->pairs);
    free(post->last_at_ns);
    free(post);
}

void sim_post_tell(const struct tp_post *post)
{
    for (uint32_t i = 0; i < post->count * post->count; i++)
        TP_LIST_EACH(link, &post->pairs[i])
        {
            const struct mail *mail = TP_CONTAINER(link, struct mail, link);
            sim_say("a letter of kind %u from %u to %u is not read, due at %lu ms",
                    mail->letter->kind, i / post->count, i % post->count, mail->at_ns / MS);
        }
}

void tp_post_send(struct tp_reactor *reactor, uint32_t to, struct tp_letter *letter)
{
    struct tp_post *post = reactor->config.post;
    const uint32_t from = reactor->config.endpoint;
    const uint32_t pair = from * post->count + to;
    struct mail *mail = malloc(sizeof *mail);

    TP_ASSERT(mail != NULL && to < post->count);
    letter->from = from;
    reactor->counts.letters_out++;
    post->last_at_ns[pair] =
        tp_max(post->last_at_ns[pair],
               sim.now_ns + (from == to ? 0 : sim_delay(sim.calm ? 2 * MS : 100 * MS)));
    *mail = (struct mail){.letter = letter, .at_ns = post->last_at_ns[pair]};
    tp_link_insert(&post->pairs[pair], &mail->link);
    if (post->reactors[to] != NULL)
        sim_wake(post->reactors[to]->task, mail->at_ns);
}

static uint64_t letters_next_ns(const struct reactor *reactor)
{
    const struct tp_post *post = reactor->base.config.post;
    uint64_t next_ns = NEVER;

    for (uint32_t from = 0; post != NULL && from < post->count; from++) {
        const struct tp_link *pair =
            &post->pairs[from * post->count + reactor->base.config.endpoint];
        if (!tp_link_alone(pair))
            next_ns = tp_min(next_ns, TP_CONTAINER(pair->next, struct mail, link)->at_ns);
    }
    return next_ns;
}

static void read_letters(struct reactor *reactor)
{
    struct tp_post *post = reactor->base.config.post;
    struct tp_link due;

    if (post == NULL)
        return;
    tp_link_init(&due);
    const uint32_t first = (uint32_t)sim_below(post->count);
    for (uint32_t nth = 0; nth < post->count; nth++) {
        const uint32_t from = (first + nth) % post->count;
        struct tp_link *pair = &post->pairs[from * post->count + reactor->base.config.endpoint];
        while (!tp_link_alone(pair) &&
               (sim.hurry || TP_CONTAINER(pair->next, struct mail, link)->at_ns <= sim.now_ns))
            tp_link_insert(&due, tp_list_pop(pair));
    }
    for (struct tp_link *link; (link = tp_list_pop(&due)) != NULL;) {
        struct mail *mail = TP_CONTAINER(link, struct mail, link);
        struct tp_letter *letter = mail->letter;
        free(mail);
        reactor->base.counts.letters_in++;
        sim_note(letter->from, letter->kind);
        reactor->base.config.letter(reactor->base.config.context, letter);
    }
}

/* ---- life ---------------------------------------------------------------------------------------
 */

bool tp_reactor_check(uint32_t thread_count, uint64_t fd_wanted, char *error, size_t error_size)
{
    (void)thread_count, (void)fd_wanted, (void)error, (void)error_size;
    return true;
}

static void read_clocks(struct reactor *reactor)
{
    reactor->base.now_ns = sim.now_ns;
    reactor->base.wall_ms = WALL_START_MS + sim.now_ns / MS;
}

struct tp_reactor *tp_reactor_create(const struct tp_reactor_config *config)
{
    struct reactor *reactor = calloc(1, sizeof *reactor);

    TP_ASSERT(reactor != NULL);
    reactor->base.config = *config;
    reactor->task = tasks[config->endpoint];
    tp_link_init(&reactor->requests);
    if (config->buffer_count > 0) {
        reactor->buffer_count = BUFFERS_MIN + (uint32_t)sim_below(16);
        reactor->buffers = calloc(reactor->buffer_count, sizeof(uint8_t *));
    }
    read_clocks(reactor);
    tp_wheel_init(&reactor->base.wheel, sim.now_ns);
    if (config->post != NULL) {
        TP_ASSERT(config->post->reactors[config->endpoint] == NULL);
        config->post->reactors[config->endpoint] = reactor;
    }
    return &reactor->base;
}

void tp_reactor_destroy(struct tp_reactor *base)
{
    struct reactor *reactor = (struct reactor *)base;

    if (reactor == NULL)
        return;
    TP_ASSERT(reactor->buffers_used == 0);
    TP_ASSERT(tp_link_alone(&reactor->requests));
    if (base->config.post != NULL)
        base->config.post->reactors[base->config.endpoint] = NULL;
    free(reactor->buffers);
    free(reactor);
}

/* ---- completions --------------------------------------------------------------------------------
 */

static uint64_t due_ns(const struct sim_request *request)
{
    const struct sim_socket *socket = request->socket;
    uint64_t at_ns = NEVER;

    if (!request->submitted)
        return NEVER;
    if (request->cancelled && !request->last_look)
        return request->at_ns;
    if (socket->reset && request->kind != ACCEPT)
        return tp_max(request->at_ns, socket->reset_ns);
    switch (request->kind) {
    case ACCEPT:
        if (!tp_link_alone(&socket->queue))
            at_ns = TP_CONTAINER(socket->queue.next, struct sim_socket, queue)->queued_at_ns;
        break;
    case RECEIVE:
        at_ns = sim_stream_next_ns(&socket->up);
        if (at_ns == NEVER && socket->up_ended)
            at_ns = socket->up_end_ns;
        break;
    case SEND:
        if (socket->down.size < socket->down_size_max)
            at_ns = 0;
        break;
    case SHUTDOWN:
        at_ns = 0;
        break;
    }
    return at_ns == NEVER ? NEVER : tp_max(at_ns, request->at_ns);
}

static bool due_now(const struct sim_request *request)
{
    struct sim_request free_to_go = *request;

    free_to_go.cancelled = false;
    return due_ns(&free_to_go) <= sim.now_ns;
}

static void finish(struct sim_request *request, int32_t result, uint32_t flags)
{
    struct tp_io *io = request->io;

    request->reactor->base.counts.completions++;
    sim_note((uint64_t)request->kind << 32 | flags, (uint64_t)(uint32_t)result);
    if (flags & TP_IO_MORE) {
        io->done(io, result, flags);
        return;
    }
    if (request->kind == ACCEPT)
        request->socket->accepting = NULL;
    else if (request->kind == RECEIVE)
        request->socket->receiving = NULL;
    else
        request->socket->sending = NULL;
    tp_link_remove(&request->link);
    free(request);
    TP_ASSERT(io->pending > 0);
    io->pending--;
    io->done(io, result, flags);
}

static void complete_receive(struct sim_request *request)
{
    struct reactor *reactor = request->reactor;
    struct sim_socket *socket = request->socket;
    uint32_t number = 0;

    if (socket->reset) {
        finish(request, -ECONNRESET, 0);
        return;
    }
    if (socket->up.first == NULL) {
        finish(request, 0, 0);
        return;
    }
    while (number < reactor->buffer_count && reactor->buffers[number] != NULL)
        number++;
    if (number == reactor->buffer_count || (!sim.calm && sim_chance(5))) {
        reactor->base.counts.buffers_short++;
        finish(request, -ENOBUFS, 0);
        return;
    }
    uint8_t *buffer = malloc(reactor->base.config.buffer_size);
    TP_ASSERT(buffer != NULL);
    size_t size = reactor->base.config.buffer_size;
    if (!sim.calm && sim_chance(300))
        size = 1 + sim_below(size);
    size = sim_stream_take(&socket->up, buffer, size);
    reactor->buffers[number] = buffer;
    reactor->buffers_used++;
    const uint32_t more = sim_chance(20) ? 0 : TP_IO_MORE;
    finish(request, (int32_t)size, number << BUFFER_SHIFT | FLAG_BUFFER | more);
}

static void complete_send(struct sim_request *request)
{
    struct sim_socket *socket = request->socket;
    const size_t room = socket->down_size_max - tp_min(socket->down.size, socket->down_size_max);
    size_t size = 0, taken = 0;

    if (socket->reset) {
        finish(request, sim_chance(500) ? -EPIPE : -ECONNRESET, 0);
        return;
    }
    for (size_t i = 0; i < request->iov_count; i++)
        size += request->iov[i].iov_len;
    size = tp_min(size, room);
    if (!sim.calm && size > 1 && sim_chance(200))
        size = 1 + sim_below(size);
    for (size_t i = 0; taken < size; i++) {
        const size_t part = tp_min(size - taken, request->iov[i].iov_len);
        sim_stream_put(&socket->down, request->iov[i].iov_base, part);
        taken += part;
    }
    if (socket->client_gone)
        sim_socket_refuse(socket);
    else
        sim_wake(socket->client, sim_stream_next_ns(&socket->down));
    finish(request, (int32_t)size, 0);
}

static void complete(struct sim_request *request)
{
    struct sim_socket *socket = request->socket;

    if (request->cancelled && !request->last_look) {
        finish(request, -ECANCELED, 0);
        return;
    }
    request->last_look = false;
    switch (request->kind) {
    case ACCEPT: {
        struct tp_link *link = tp_list_pop(&socket->queue);
        finish(request, TP_CONTAINER(link, struct sim_socket, queue)->fd, TP_IO_MORE);
        break;
    }
    case RECEIVE:
        complete_receive(request);
        break;
    case SEND:
        complete_send(request);
        break;
    case SHUTDOWN:
        if (!socket->reset && !socket->down_ended) {
            socket->down_ended = true;
            socket->down_end_ns = tp_max(socket->down.last_at_ns, sim.now_ns);
            if (!socket->client_gone)
                sim_wake(socket->client, socket->down_end_ns);
        }
        finish(request, socket->reset ? -ENOTCONN : 0, 0);
        break;
    }
}

void tp_reactor_poll(struct tp_reactor *base)
{
    struct reactor *reactor = (struct reactor *)base;
    struct sim_request *due[256];
    uint32_t count = 0;

    base->counts.turns++;
    base->awake = false;
    read_clocks(reactor);
    base->wheel.now_ns = base->now_ns;
    read_letters(reactor);
    /* A request goes only by its own completion, so all of them stay until their turn. */
    TP_LIST_EACH(link, &reactor->requests)
    {
        struct sim_request *request = TP_CONTAINER(link, struct sim_request, link);
        if (due_ns(request) <= sim.now_ns && count < sizeof due / sizeof *due)
            due[count++] = request;
    }
    while (count > 0) {
        const uint32_t nth = (uint32_t)sim_below(count);
        struct sim_request *request = due[nth];
        due[nth] = due[--count];
        if (due_ns(request) <= sim.now_ns)
            complete(request);
    }
    tp_wheel_advance(&base->wheel, base->now_ns);
}

void tp_reactor_submit(struct tp_reactor *base)
{
    struct reactor *reactor = (struct reactor *)base;

    base->counts.enters++;
    TP_LIST_EACH(link, &reactor->requests)
    {
        struct sim_request *request = TP_CONTAINER(link, struct sim_request, link);
        if (request->submitted)
            continue;
        request->submitted = true;
        request->at_ns = sim.now_ns + sim_delay(sim.calm ? 2 * MS : 50 * MS);
        if (request->message == NULL)
            continue;
        TP_ASSERT(request->message->msg_iovlen <= IOV_COUNT_MAX);
        request->iov_count = request->message->msg_iovlen;
        memcpy(request->iov, request->message->msg_iov, request->iov_count * sizeof(struct iovec));
        request->message = NULL;
    }
}

/* Never sleeps: says to its task when something will happen. */
void tp_reactor_wait(struct tp_reactor *base)
{
    struct reactor *reactor = (struct reactor *)base;

    tp_reactor_submit(base);
    uint64_t next_ns = tp_min(letters_next_ns(reactor), tp_wheel_next_ns(&base->wheel));
    TP_LIST_EACH(link, &reactor->requests)
    next_ns = tp_min(next_ns, due_ns(TP_CONTAINER(link, struct sim_request, link)));
    if (base->awake)
        next_ns = 0;
    if (sim.hurry && next_ns == NEVER)
        sim_fail("a thread waits for ever");
    if (sim.hurry) /* it waits in the middle of something */
        sim.now_ns = tp_max(sim.now_ns, next_ns);
    if (next_ns != NEVER)
        sim_wake(reactor->task, tp_max(next_ns, sim.now_ns + 1000)); /* a turn takes time */
}

void tp_reactor_stay_awake(struct tp_reactor *reactor)
{
    reactor->awake = true;
}

uint64_t tp_reactor_now_ns(const struct tp_reactor *reactor)
{
    return reactor->now_ns;
}

uint64_t tp_reactor_wall_ms(const struct tp_reactor *reactor)
{
    return reactor->wall_ms;
}

struct tp_reactor_counts tp_reactor_counts(const struct tp_reactor *reactor)
{
    return reactor->counts;
}

/* ---- requests -----------------------------------------------------------------------------------
 */

static struct sim_request *begin(struct tp_reactor *base, struct tp_io *io, int fd, enum kind kind)
{
    struct reactor *reactor = (struct reactor *)base;
    struct sim_socket *socket = sim_socket_of(fd);
    struct sim_request *request = calloc(1, sizeof *request);

    TP_ASSERT(request != NULL);
    *request = (struct sim_request){.reactor = reactor, .io = io, .socket = socket, .kind = kind};
    tp_link_init(&request->link);
    tp_link_insert(&reactor->requests, &request->link);
    io->pending++;
    struct sim_request **place = kind == ACCEPT    ? &socket->accepting
                                 : kind == RECEIVE ? &socket->receiving
                                                   : &socket->sending;
    TP_ASSERT(*place == NULL);
    *place = request;
    return request;
}

void tp_reactor_accept(struct tp_reactor *reactor, struct tp_io *io, int fd)
{
    begin(reactor, io, fd, ACCEPT);
}

void tp_reactor_receive(struct tp_reactor *reactor, struct tp_io *io, int fd)
{
    begin(reactor, io, fd, RECEIVE);
}

void tp_reactor_send(struct tp_reactor *reactor, struct tp_io *io, int fd,
                     const struct msghdr *message)
{
    struct sim_request *request = begin(reactor, io, fd, SEND);

    request->message = message;
    if (message->msg_iovlen == 1) { /* that one is copied at once, its vector may be used again */
        request->iov[0] = message->msg_iov[0];
        request->iov_count = 1;
        request->message = NULL;
    }
}

void tp_reactor_connect(struct tp_reactor *reactor, struct tp_io *io, int fd,
                        const struct sockaddr *address, socklen_t size)
{
    (void)reactor, (void)io, (void)fd, (void)address, (void)size;
    sim_fail("nothing connects yet");
}

void tp_reactor_watch(struct tp_reactor *reactor, struct tp_io *io, int fd, uint32_t events)
{
    (void)reactor, (void)io, (void)fd, (void)events;
    sim_fail("nothing watches yet");
}

void tp_reactor_shutdown(struct tp_reactor *reactor, struct tp_io *io, int fd, int how)
{
    (void)how;
    begin(reactor, io, fd, SHUTDOWN);
}

void tp_reactor_close(struct tp_reactor *reactor, int fd)
{
    (void)reactor;
    sim_close(fd);
}

void tp_reactor_cancel(struct tp_reactor *base, struct tp_io *io)
{
    struct reactor *reactor = (struct reactor *)base;

    TP_LIST_EACH(link, &reactor->requests)
    {
        struct sim_request *request = TP_CONTAINER(link, struct sim_request, link);
        if (request->io != io || request->cancelled)
            continue;
        request->cancelled = true;
        /* The kernel may have been quicker: the request completes as if nobody had asked. */
        request->last_look = !sim.hurry && due_now(request) && sim_chance(300);
        if (request->submitted)
            request->at_ns = sim.now_ns + sim_delay(5 * MS);
    }
}

uint8_t *tp_reactor_buffer(struct tp_reactor *base, uint32_t flags)
{
    struct reactor *reactor = (struct reactor *)base;

    TP_ASSERT((flags & FLAG_BUFFER) && flags >> BUFFER_SHIFT < reactor->buffer_count);
    TP_ASSERT(reactor->buffers[flags >> BUFFER_SHIFT] != NULL);
    return reactor->buffers[flags >> BUFFER_SHIFT];
}

void tp_reactor_buffer_return(struct tp_reactor *base, uint32_t flags)
{
    struct reactor *reactor = (struct reactor *)base;

    free(tp_reactor_buffer(base, flags));
    reactor->buffers[flags >> BUFFER_SHIFT] = NULL;
    reactor->buffers_used--;
}
