/* What reactor/ promises: timers, requests, the buffer pool, and the check before the start. */
#include <criterion/criterion.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/random.h"
#include "reactor/check.h"
#include "reactor/internal.h"

#define MS UINT64_C(1000000)
#define TICK_NS (UINT64_C(1) << TP_WHEEL_SHIFT)

/* ---- timers, in a time of the test's own
 * --------------------------------------------------------- */

struct bell {
    struct tp_timer timer;
    struct tp_wheel *wheel;
    uint64_t again_ns;  /* sets itself to this when it fires */
    struct bell *other; /* stops it when it fires */
    uint32_t count;
};

static void rang(struct tp_timer *timer)
{
    struct bell *bell = TP_CONTAINER(timer, struct bell, timer);

    bell->count++;
    if (bell->other != NULL && bell->other->timer.at_ns != 0)
        tp_wheel_stop(bell->wheel, &bell->other->timer);
    if (bell->again_ns != 0)
        tp_wheel_set(bell->wheel, timer, bell->again_ns);
}

static void init_bell(struct bell *bell, struct tp_wheel *wheel)
{
    *bell = (struct bell){.wheel = wheel};
    tp_timer_init(&bell->timer, rang);
}

Test(timer, fires_not_before_its_time_and_at_most_a_tick_after)
{
    static const uint64_t delays[] = {1,
                                      TICK_NS - 1,
                                      TICK_NS,
                                      TICK_NS + 1,
                                      63 * TICK_NS,
                                      64 * TICK_NS,
                                      65 * TICK_NS,
                                      4095 * TICK_NS,
                                      4096 * TICK_NS,
                                      4097 * TICK_NS,
                                      86400000 * MS,
                                      1000000 * TICK_NS};

    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++)
        for (uint64_t start = 12345 * MS; start < 12345 * MS + 70 * TICK_NS; start += 3 * MS) {
            static struct tp_wheel wheel;
            struct bell bell;
            tp_wheel_init(&wheel, start);
            init_bell(&bell, &wheel);
            tp_wheel_set(&wheel, &bell.timer, start + delays[i]);
            tp_wheel_advance(&wheel, start + delays[i] - 1);
            cr_assert_eq(bell.count, 0, "early by less than a tick, after %zu", i);
            tp_wheel_advance(&wheel, start + delays[i] + TICK_NS);
            cr_assert_eq(bell.count, 1);
            cr_assert_eq(bell.timer.at_ns, 0, "no longer armed");
        }
}

Test(timer, behaves_like_a_plain_list_of_times)
{
    enum { COUNT = 300 };
    static struct tp_wheel wheel;
    static struct bell bells[COUNT];
    static uint64_t due[COUNT]; /* 0: not armed */
    static uint32_t counts[COUNT];
    struct tp_random random = {42};
    uint64_t now = 5000 * MS;
    tp_wheel_init(&wheel, now);
    for (int i = 0; i < COUNT; i++)
        init_bell(&bells[i], &wheel);

    for (int step = 0; step < 20000; step++) {
        const uint32_t i = (uint32_t)tp_random_below(&random, COUNT);
        const uint64_t dice = tp_random_below(&random, 10);
        if (dice < 5) {
            /* From now to minutes, mostly near. */
            const uint64_t range = UINT64_C(1) << (16 + tp_random_below(&random, 22));
            due[i] = now + tp_random_below(&random, range);
            tp_wheel_set(&wheel, &bells[i].timer, due[i]);
        } else if (dice < 7) {
            if (due[i] != 0)
                tp_wheel_stop(&wheel, &bells[i].timer);
            due[i] = 0;
        } else {
            now += tp_random_below(&random, UINT64_C(1) << (15 + tp_random_below(&random, 18)));
            tp_wheel_advance(&wheel, now);
            uint64_t next = UINT64_MAX;
            for (int n = 0; n < COUNT; n++) {
                if (due[n] != 0 && bells[n].count != counts[n]) {
                    cr_assert_leq(due[n], now, "early");
                    cr_assert_eq(bells[n].count, ++counts[n], "twice");
                    due[n] = 0;
                }
                cr_assert(due[n] == 0 || due[n] + TICK_NS > now, "forgotten");
                if (due[n] != 0 && due[n] < next)
                    next = due[n];
            }
            cr_assert(tp_wheel_next_ns(&wheel) < next + TICK_NS || next == UINT64_MAX,
                      "it would sleep through the next one");
            cr_assert(next != UINT64_MAX || tp_wheel_next_ns(&wheel) == UINT64_MAX);
        }
    }
}

Test(timer, that_sets_itself_to_the_past_waits_for_the_next_turn)
{
    static struct tp_wheel wheel;
    struct bell bell;
    tp_wheel_init(&wheel, 1000 * MS);
    init_bell(&bell, &wheel);
    bell.again_ns = 1;
    tp_wheel_set(&wheel, &bell.timer, 1000 * MS);

    tp_wheel_advance(&wheel, 1000 * MS);
    cr_assert_eq(bell.count, 1);
    cr_assert_eq(tp_wheel_next_ns(&wheel), 0, "nobody sleeps meanwhile");
    tp_wheel_advance(&wheel, 1000 * MS);
    cr_assert_eq(bell.count, 2);
}

Test(timer, stopped_by_one_that_fires_in_the_same_turn_stays_silent)
{
    static struct tp_wheel wheel;
    struct bell first, second;
    tp_wheel_init(&wheel, 1000 * MS);
    init_bell(&first, &wheel);
    init_bell(&second, &wheel);
    first.other = &second;
    second.other = &first;
    tp_wheel_set(&wheel, &first.timer, 1001 * MS);
    tp_wheel_set(&wheel, &second.timer, 1001 * MS);

    tp_wheel_advance(&wheel, 1010 * MS);

    cr_assert_eq(first.count + second.count, 1);
    cr_assert_eq(tp_wheel_next_ns(&wheel), UINT64_MAX);
}

/* ---- the ring
 * -------------------------------------------------------------------------------------- */

struct call {
    struct tp_io io;
    int32_t result;
    uint32_t flags;
    uint32_t count;
};

static void done(struct tp_io *io, int32_t result, uint32_t flags)
{
    struct call *call = TP_CONTAINER(io, struct call, io);

    call->result = result;
    call->flags = flags;
    call->count++;
}

static struct call call_of(void)
{
    return (struct call){.io.done = done};
}

static struct tp_reactor *reactor_of(uint32_t entry_count, uint32_t buffer_count)
{
    const struct tp_reactor_config config = {
        .entry_count = entry_count, .buffer_count = buffer_count, .buffer_size = 64, .cpu = -1};
    struct tp_reactor *reactor = tp_reactor_create(&config);

    cr_assert_not_null(reactor, "%s", strerror(errno));
    return reactor;
}

static void turn(struct tp_reactor *reactor)
{
    tp_reactor_wait(reactor);
    tp_reactor_poll(reactor);
}

/* One turn that does not sleep: what is ready shows, what is not does not. */
static void look(struct tp_reactor *reactor)
{
    tp_reactor_stay_awake(reactor);
    turn(reactor);
}

struct real_bell {
    struct tp_timer timer;
    bool rang;
};

static void rang_really(struct tp_timer *timer)
{
    TP_CONTAINER(timer, struct real_bell, timer)->rang = true;
}

Test(reactor, sleeps_until_the_next_timer_and_enters_the_kernel_once)
{
    struct tp_reactor *reactor = reactor_of(8, 0);
    struct real_bell bell = {0};
    const uint64_t start = tp_reactor_now_ns(reactor);
    tp_timer_init(&bell.timer, rang_really);
    tp_timer_set(reactor, &bell.timer, start + 20 * MS);

    int turns = 0;
    for (; !bell.rang && turns < 10; turns++)
        turn(reactor);

    cr_assert(bell.rang);
    cr_assert_geq(tp_reactor_now_ns(reactor), start + 20 * MS);
    cr_assert_leq(turns, 3, "a wait is not a spin: %d turns", turns);
    cr_assert_eq(tp_reactor_counts(reactor).enters, (uint64_t)turns);
    tp_reactor_destroy(reactor);
}

static struct tp_reactor *bell_reactor;
static struct real_bell late_bell;

static void set_for_now(struct tp_io *io, int32_t result, uint32_t flags)
{
    done(io, result, flags);
    tp_timer_set(bell_reactor, &late_bell.timer, tp_reactor_now_ns(bell_reactor));
}

Test(reactor, does_not_sleep_before_what_is_due_now)
{
    bell_reactor = reactor_of(8, 0);
    struct call watch = {.io.done = set_for_now};
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    cr_assert_eq(write(fds[1], "x", 1), 1);
    tp_timer_init(&late_bell.timer, rang_really);
    tp_reactor_watch(bell_reactor, &watch.io, fds[0], POLLIN);

    turn(bell_reactor);

    cr_assert_eq(watch.count, 1);
    cr_assert(late_bell.rang, "set by a completion, it fires in the same poll");
    close(fds[0]);
    close(fds[1]);
    tp_reactor_destroy(bell_reactor);
}

Test(reactor, receives_into_its_buffers_until_the_other_side_ends)
{
    struct tp_reactor *reactor = reactor_of(8, 4);
    struct call receive = call_of();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    tp_reactor_receive(reactor, &receive.io, fds[0]);

    cr_assert_eq(write(fds[1], "hello", 5), 5);
    turn(reactor);
    cr_assert_eq(receive.result, 5);
    cr_assert(receive.flags & TP_IO_MORE);
    cr_assert_eq(receive.io.pending, 1);
    cr_assert_arr_eq(tp_reactor_buffer(reactor, receive.flags), "hello", 5);
    tp_reactor_buffer_return(reactor, receive.flags);

    close(fds[1]);
    turn(reactor);
    cr_assert_eq(receive.result, 0);
    cr_assert_eq(receive.io.pending, 0);
    close(fds[0]);
    tp_reactor_destroy(reactor);
}

static uint32_t held[8];
static uint32_t held_count, short_count;

static void hold(struct tp_io *io, int32_t result, uint32_t flags)
{
    (void)io;
    if (result > 0)
        held[held_count++] = flags;
    else if (result == -ENOBUFS)
        short_count++;
}

Test(reactor, says_when_the_buffers_are_used_up_and_goes_on_when_they_are_back)
{
    struct tp_reactor *reactor = reactor_of(8, 2);
    struct tp_io receive = {.done = hold};
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    tp_reactor_receive(reactor, &receive, fds[0]);
    for (int i = 0; i < 3; i++) { /* three times a buffer's size, for two buffers */
        char part[64];
        memset(part, 'a' + i, sizeof part);
        cr_assert_eq(write(fds[1], part, sizeof part), (ssize_t)sizeof part);
    }

    while (short_count == 0)
        turn(reactor);
    cr_assert_eq(held_count, 2);
    cr_assert_eq(receive.pending, 0, "the receive has ended");
    cr_assert_eq(tp_reactor_counts(reactor).buffers_short, 1);

    tp_reactor_buffer_return(reactor, held[0]);
    tp_reactor_buffer_return(reactor, held[1]);
    tp_reactor_receive(reactor, &receive, fds[0]);
    turn(reactor);
    cr_assert_eq(held_count, 3);
    cr_assert_eq(tp_reactor_buffer(reactor, held[2])[0], 'c', "nothing was lost");
    close(fds[0]);
    close(fds[1]);
    tp_reactor_destroy(reactor);
}

Test(reactor, takes_more_requests_in_a_turn_than_its_queue_holds)
{
    enum { COUNT = 100 };
    struct tp_reactor *reactor = reactor_of(4, 0);
    static struct call sends[COUNT];
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);

    for (int i = 0; i < COUNT; i++) {
        sends[i] = call_of();
        struct iovec iov = {"x", 1};
        const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        tp_reactor_send(reactor, &sends[i].io, fds[0], &message);
    }
    uint32_t finished = 0;
    for (int turns = 0; finished < COUNT && turns < 100; turns++) {
        look(reactor);
        finished = 0;
        for (int i = 0; i < COUNT; i++)
            finished += sends[i].count;
    }

    cr_assert_eq(finished, COUNT);
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(sends[i].result, 1);
    close(fds[0]);
    close(fds[1]);
    tp_reactor_destroy(reactor);
}

Test(reactor, sends_many_vectors_in_order)
{
    struct tp_reactor *reactor = reactor_of(8, 0);
    struct call send = call_of();
    struct iovec iov[3] = {{"one ", 4}, {"two ", 4}, {"three", 5}};
    const struct msghdr message = {.msg_iov = iov, .msg_iovlen = 3};
    char room[16];
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);

    tp_reactor_send(reactor, &send.io, fds[0], &message);
    turn(reactor);

    cr_assert_eq(send.result, 13);
    cr_assert_eq(read(fds[1], room, sizeof room), 13);
    cr_assert_arr_eq(room, "one two three", 13);
    close(fds[0]);
    close(fds[1]);
    tp_reactor_destroy(reactor);
}

Test(reactor, ends_a_cancelled_request_with_its_last_completion)
{
    struct tp_reactor *reactor = reactor_of(8, 2);
    struct call receive = call_of();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    tp_reactor_receive(reactor, &receive.io, fds[0]);
    look(reactor);

    tp_reactor_cancel(reactor, &receive.io);
    while (receive.io.pending > 0)
        turn(reactor);

    cr_assert_eq(receive.result, -ECANCELED);
    tp_reactor_cancel(reactor, &receive.io);
    look(reactor);
    cr_assert_eq(receive.count, 1, "to cancel what is over does nothing");
    close(fds[0]);
    close(fds[1]);
    tp_reactor_destroy(reactor);
}

Test(reactor, watches_a_file_for_a_library)
{
    struct tp_reactor *reactor = reactor_of(8, 0);
    struct call watch = call_of();
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    tp_reactor_watch(reactor, &watch.io, fds[0], POLLIN);
    look(reactor);
    cr_assert_eq(watch.count, 0);

    cr_assert_eq(write(fds[1], "x", 1), 1);
    turn(reactor);

    cr_assert_eq(watch.count, 1);
    cr_assert(watch.result & POLLIN);
    close(fds[0]);
    close(fds[1]);
    tp_reactor_destroy(reactor);
}

Test(reactor, may_end_with_requests_under_way)
{
    struct tp_reactor *reactor = reactor_of(8, 2);
    struct call receive = call_of();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    tp_reactor_receive(reactor, &receive.io, fds[0]);
    look(reactor);

    tp_reactor_destroy(reactor);

    cr_assert_eq(receive.count, 0);
    close(fds[0]);
    close(fds[1]);
}

/* ---- the check before the start
 * ----------------------------------------------------------------------- */

static char text[512];

Test(check, is_content_with_a_machine_that_runs_the_other_tests)
{
    cr_assert(tp_reactor_check(2, 1, text, sizeof text), "%s", text);
    cr_assert_str_empty(text);
}

Test(check, raises_the_limit_of_open_files_and_warns_when_that_is_not_enough)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 100;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);

    cr_assert(tp_reactor_check(1, (uint64_t)limit.rlim_max + 1, text, sizeof text));

    cr_assert_not_null(strstr(text, "LimitNOFILE="), "%s", text);
    getrlimit(RLIMIT_NOFILE, &limit);
    cr_assert_eq(limit.rlim_cur, limit.rlim_max);
}

Test(check, says_that_locked_memory_is_short)
{
    const struct rlimit limit = {.rlim_cur = 65536, .rlim_max = 65536};
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (getuid() == 0)
        cr_assert_eq(setuid(65534), 0, "the limit does not count for root");

    cr_assert_not(tp_reactor_check(64, 1, text, sizeof text));

    cr_assert_not_null(strstr(text, "LimitMEMLOCK="), "%s", text);
}

static void forbid_io_uring(int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = 4, .filter = filter};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

Test(check, says_that_a_filter_forbids_io_uring)
{
    forbid_io_uring(EPERM);

    cr_assert_not(tp_reactor_check(1, 1, text, sizeof text));

    cr_assert_not_null(strstr(text, "seccomp"), "%s", text);
    cr_assert_not_null(strstr(text, "io_uring_setup"), "%s", text);
}

Test(check, says_that_the_kernel_has_no_io_uring)
{
    forbid_io_uring(ENOSYS);

    cr_assert_not(tp_reactor_check(1, 1, text, sizeof text));

    cr_assert_not_null(strstr(text, "CONFIG_IO_URING"), "%s", text);
}
