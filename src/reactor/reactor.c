#include "reactor/reactor.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "internal.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(memory, size) ASAN_POISON_MEMORY_REGION(memory, size)
#define UNPOISON(memory, size) ASAN_UNPOISON_MEMORY_REGION(memory, size)
#else
#define POISON(memory, size) ((void)0)
#define UNPOISON(memory, size) ((void)0)
#endif

static_assert(TP_IO_MORE == IORING_CQE_F_MORE, "the header does without liburing");

#define COMPLETION_FACTOR 4u
#define NS_PER_S UINT64_C(1000000000)

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static void read_clocks(struct tp_reactor *reactor)
{
    reactor->now_ns = clock_ns(CLOCK_MONOTONIC);
    reactor->wall_ms = clock_ns(CLOCK_REALTIME) / 1000000;
}

int tp_reactor_ring_setup(struct io_uring *ring, uint32_t entry_count)
{
    /* One thread, and completions only when it asks: no interrupts of the loop, no locks inside.
     * SUBMIT_ALL: one bad request must not hold back those behind it. CLAMP is not asked for: too
     * large a queue should be an error, not a surprise. */
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = entry_count * COMPLETION_FACTOR,
    };
    return io_uring_queue_init_params(entry_count, ring, &params);
}

static size_t buffer_ring_size(const struct tp_reactor *reactor)
{
    return reactor->config.buffer_count * sizeof(struct io_uring_buf);
}

static size_t buffer_memory_size(const struct tp_reactor *reactor)
{
    return (size_t)reactor->config.buffer_count * reactor->config.buffer_size;
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int create_buffers(struct tp_reactor *reactor)
{
    const uint32_t count = reactor->config.buffer_count;

    if (count == 0)
        return 0;
    TP_ASSERT((count & (count - 1)) == 0 && count <= 32768);
    reactor->buffers = map(buffer_ring_size(reactor));
    reactor->buffer_memory = map(buffer_memory_size(reactor));
    if (reactor->buffers == NULL || reactor->buffer_memory == NULL)
        return -ENOMEM;

    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)reactor->buffers,
        .ring_entries = count,
        .bgid = TP_REACTOR_BUFFER_GROUP,
    };
    const int result = io_uring_register_buf_ring(&reactor->ring, &registration, 0);
    if (result < 0)
        return result;
    io_uring_buf_ring_init(reactor->buffers);
    for (uint32_t i = 0; i < count; i++)
        io_uring_buf_ring_add(
            reactor->buffers, reactor->buffer_memory + (size_t)i * reactor->config.buffer_size,
            reactor->config.buffer_size, (unsigned short)i, (int)count - 1, (int)i);
    io_uring_buf_ring_advance(reactor->buffers, (int)count);
    POISON(reactor->buffer_memory, buffer_memory_size(reactor));
    return 0;
}

static void destroy_buffers(struct tp_reactor *reactor)
{
    if (reactor->buffer_memory != NULL) {
        UNPOISON(reactor->buffer_memory, buffer_memory_size(reactor));
        munmap(reactor->buffer_memory, buffer_memory_size(reactor));
    }
    if (reactor->buffers != NULL)
        munmap(reactor->buffers, buffer_ring_size(reactor));
}

static void pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    /* A refusal (a container without that core, a service manager that forbids it) costs speed
     * only. */
    (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

struct tp_reactor *tp_reactor_create(const struct tp_reactor_config *config)
{
    struct tp_reactor *reactor = calloc(1, sizeof *reactor);

    TP_ASSERT(reactor != NULL);
    reactor->config = *config;
    tp_link_init(&reactor->to_self);
    pin(config->cpu); /* first: memory that is touched from here on lies near that core */
    int result = tp_reactor_ring_setup(&reactor->ring, config->entry_count);
    if (result < 0) {
        free(reactor);
        errno = -result;
        return NULL;
    }
    result = create_buffers(reactor);
    if (result < 0)
        goto fail;
    (void)io_uring_register_ring_fd(&reactor->ring); /* spares a look-up per call; may fail */

    read_clocks(reactor);
    tp_wheel_init(&reactor->wheel, reactor->now_ns);
    if (config->post != NULL)
        tp_post_join(config->post, reactor);
    return reactor;

fail:
    io_uring_queue_exit(&reactor->ring);
    destroy_buffers(reactor);
    free(reactor);
    errno = -result;
    return NULL;
}

void tp_reactor_destroy(struct tp_reactor *reactor)
{
    if (reactor == NULL)
        return;
    if (reactor->config.post != NULL)
        tp_post_leave(reactor->config.post, reactor);
    io_uring_queue_exit(&reactor->ring);
    destroy_buffers(reactor);
    free(reactor);
}

static void complete(struct tp_reactor *reactor, uint64_t data, int32_t result, uint32_t flags)
{
    reactor->counts.completions++;
    if (data <= TP_REACTOR_WAKE)
        return; /* a wake-up, or the failure of something that nobody waits for */

    struct tp_io *io = (struct tp_io *)(uintptr_t)data;
    TP_ASSERT(io->pending > 0);
    if (!(flags & IORING_CQE_F_MORE))
        io->pending--;
    if (flags & IORING_CQE_F_BUFFER)
        UNPOISON(tp_reactor_buffer(reactor, flags), reactor->config.buffer_size);
    if (result == -ENOBUFS)
        reactor->counts.buffers_short++;
    io->done(io, result, flags);
}

void tp_reactor_poll(struct tp_reactor *reactor)
{
    struct io_uring_cqe *cqe;

    reactor->counts.turns++;
    reactor->awake = false;
    read_clocks(reactor);
    tp_post_set_due(reactor, reactor->now_ns);
    reactor->wheel.now_ns = reactor->now_ns; /* a timer for now is due in this poll already */
    tp_post_read(reactor);
    /* At most what is there now: more can only come when somebody enters the kernel. */
    for (unsigned left = io_uring_cq_ready(&reactor->ring); left > 0; left--) {
        if (io_uring_peek_cqe(&reactor->ring, &cqe) != 0)
            break;
        /* Copied and freed first: a callback that fills the submission queue enters the kernel,
         * which then has room to post what overflowed. */
        const struct io_uring_cqe copy = {
            .user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};
        io_uring_cqe_seen(&reactor->ring, cqe);
        complete(reactor, copy.user_data, copy.res, copy.flags);
    }
    tp_wheel_advance(&reactor->wheel, reactor->now_ns);
}

static struct __kernel_timespec time_until(uint64_t at_ns)
{
    const uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    const uint64_t left_ns = at_ns > now_ns ? at_ns - now_ns : 0;

    return (struct __kernel_timespec){.tv_sec = (int64_t)(left_ns / NS_PER_S),
                                      .tv_nsec = (long long)(left_ns % NS_PER_S)};
}

/* What the kernel answers when it is asked to come again: not a failure of any request. */
static bool passing(int result)
{
    return result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY;
}

void tp_reactor_wait(struct tp_reactor *reactor)
{
    const uint64_t next_ns = tp_wheel_next_ns(&reactor->wheel);
    const bool wants_sleep =
        !reactor->awake && next_ns != 0 && io_uring_cq_ready(&reactor->ring) == 0;
    const bool sleep = tp_post_before_wait(reactor, wants_sleep);
    int result;

    if (sleep)
        tp_post_set_due(reactor, next_ns);
    if (!sleep) {
        result = io_uring_submit_and_get_events(&reactor->ring);
    } else if (next_ns == UINT64_MAX) {
        result = io_uring_submit_and_wait(&reactor->ring, 1);
    } else {
        struct __kernel_timespec left = time_until(next_ns);
        struct io_uring_cqe *cqe;
        result = io_uring_submit_and_wait_timeout(&reactor->ring, &cqe, 1, &left, NULL);
    }
    reactor->counts.enters++;
    TP_ASSERT(result >= 0 || passing(result));
    tp_post_after_wait(reactor);
    /* The kernel may take fewer than offered (out of memory for a moment). The owner is promised
     * that what it lent for this tick is no longer needed. */
    if (io_uring_sq_ready(&reactor->ring) > 0)
        tp_reactor_submit(reactor);
}

void tp_reactor_stay_awake(struct tp_reactor *reactor)
{
    reactor->awake = true;
}

void tp_reactor_submit(struct tp_reactor *reactor)
{
    while (io_uring_sq_ready(&reactor->ring) > 0) {
        const int result = io_uring_submit_and_get_events(&reactor->ring);
        reactor->counts.enters++;
        TP_ASSERT(result >= 0 || passing(result));
    }
}

struct io_uring_sqe *tp_reactor_sqe(struct tp_reactor *reactor)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&reactor->ring);

    if (sqe == NULL) {
        tp_reactor_submit(reactor);
        sqe = io_uring_get_sqe(&reactor->ring);
        TP_ASSERT(sqe != NULL);
    }
    return sqe;
}

static void begin(struct io_uring_sqe *sqe, struct tp_io *io)
{
    io_uring_sqe_set_data(sqe, io);
    io->pending++;
}

void tp_reactor_accept(struct tp_reactor *reactor, struct tp_io *io, int fd)
{
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);

    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    begin(sqe, io);
}

void tp_reactor_receive(struct tp_reactor *reactor, struct tp_io *io, int fd)
{
    TP_ASSERT(reactor->buffers != NULL);

    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = TP_REACTOR_BUFFER_GROUP;
    begin(sqe, io);
}

void tp_reactor_send(struct tp_reactor *reactor, struct tp_io *io, int fd,
                     const struct msghdr *message)
{
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);

    if (message->msg_iovlen == 1 && message->msg_name == NULL && message->msg_control == NULL)
        io_uring_prep_send(sqe, fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len,
                           MSG_NOSIGNAL);
    else
        io_uring_prep_sendmsg(sqe, fd, message, MSG_NOSIGNAL);
    begin(sqe, io);
}

void tp_reactor_connect(struct tp_reactor *reactor, struct tp_io *io, int fd,
                        const struct sockaddr *address, socklen_t size)
{
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);

    io_uring_prep_connect(sqe, fd, address, size);
    begin(sqe, io);
}

void tp_reactor_watch(struct tp_reactor *reactor, struct tp_io *io, int fd, uint32_t events)
{
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);

    io_uring_prep_poll_add(sqe, fd, events);
    begin(sqe, io);
}

void tp_reactor_shutdown(struct tp_reactor *reactor, struct tp_io *io, int fd, int how)
{
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);

    io_uring_prep_shutdown(sqe, fd, how);
    begin(sqe, io);
}

void tp_reactor_close(struct tp_reactor *reactor, int fd)
{
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);

    io_uring_prep_close(sqe, fd);
    io_uring_sqe_set_data64(sqe, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void tp_reactor_cancel(struct tp_reactor *reactor, struct tp_io *io)
{
    if (io->pending == 0)
        return;
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);
    io_uring_prep_cancel64(sqe, (uintptr_t)io, IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data64(sqe, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

uint8_t *tp_reactor_buffer(struct tp_reactor *reactor, uint32_t flags)
{
    const uint32_t index = flags >> IORING_CQE_BUFFER_SHIFT;

    TP_ASSERT((flags & IORING_CQE_F_BUFFER) && index < reactor->config.buffer_count);
    return reactor->buffer_memory + (size_t)index * reactor->config.buffer_size;
}

void tp_reactor_buffer_return(struct tp_reactor *reactor, uint32_t flags)
{
    uint8_t *memory = tp_reactor_buffer(reactor, flags);

    POISON(memory, reactor->config.buffer_size);
    io_uring_buf_ring_add(reactor->buffers, memory, reactor->config.buffer_size,
                          (unsigned short)(flags >> IORING_CQE_BUFFER_SHIFT),
                          (int)reactor->config.buffer_count - 1, 0);
    io_uring_buf_ring_advance(reactor->buffers, 1);
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
