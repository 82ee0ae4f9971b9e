#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/watch.h"
#include "reactor/post.h"
#include "reactor/reactor.h"
#include "store/disk.h"

#define SECOND UINT64_C(1000000000)

/* A store whose health the test sets. */
struct tp_store {
    struct tp_store_health health;
    bool held;
};

static void read_health(struct tp_store *store, struct tp_store_health *out)
{
    *out = store->health;
}

static void explain(struct tp_store *store, char detail[TP_STORE_DETAIL_SIZE])
{
    (void)store;
    strcpy(detail, "because");
}

static void hold(struct tp_store *store, bool on)
{
    store->held = on;
}

static const struct tp_store_backend backend = {
    .name = "made up", .health = read_health, .explain = explain, .hold = hold};

static struct tp_store store;
static struct tp_watch watch;
static int log_pipe[2];
static struct tp_log log_lines;
static struct tp_post *post;
static struct tp_reactor *reactor;
static uint64_t now_ns;

static void set_up(void)
{
    cr_assert_eq(pipe2(log_pipe, O_NONBLOCK), 0);
    log_lines = (struct tp_log){.fd = log_pipe[1], .level = TP_LOG_DEBUG, .format = TP_LOG_JOURNAL};
    post = tp_post_create(2);
    reactor = tp_reactor_create(
        &(struct tp_reactor_config){.entry_count = 8, .cpu = -1, .post = post, .endpoint = 0});
    cr_assert_not_null(reactor);
    tp_reactor_poll(reactor);
    now_ns = tp_reactor_now_ns(reactor);
    watch = (struct tp_watch){.log = &log_lines,
                              .backend = &backend,
                              .store = &store,
                              .post = post,
                              .directory = "/",
                              .hang_ns = 10 * SECOND,
                              .shard_count = 1,
                              .first_worker = 2,
                              .thread_count = 2};
}

static void tear_down(void)
{
    tp_reactor_destroy(reactor);
    tp_post_destroy(post);
    close(log_pipe[0]);
    close(log_pipe[1]);
}

TestSuite(watch, .init = set_up, .fini = tear_down);

/* Looks twice a second for so long; returns what was logged. */
static const char *look_for(uint64_t time_ns)
{
    static char said[4096];

    for (const uint64_t end_ns = now_ns + time_ns; now_ns < end_ns;) {
        now_ns += TP_WATCH_PERIOD_NS;
        tp_watch_look(&watch, now_ns, watch.accept_failures);
    }
    const ssize_t size = read(log_pipe[0], said, sizeof said - 1);
    said[size > 0 ? size : 0] = '\0';
    return said;
}

Test(watch, says_once_that_the_store_takes_no_writes_and_once_that_it_does)
{
    watch.hang_ns = 0;
    cr_assert_str_eq(look_for(SECOND), "");
    store.health.state = TP_STORE_FULL;
    cr_assert_str_eq(look_for(5 * SECOND),
                     "<3>the store takes no writes reason=\"disk full\" detail=because\n");
    store.health.state = TP_STORE_OK;
    cr_assert_str_eq(look_for(5 * SECOND),
                     "<6>the store takes writes again after=\"disk full\" seconds=5\n");
}

Test(watch, tells_of_a_failure_that_was_over_before_it_looked)
{
    look_for(SECOND);
    store.health.stop_count = 1;

    cr_assert_str_eq(look_for(SECOND), "<4>the store took no writes for a moment detail=because\n");
}

Test(watch, gives_pages_their_reasons)
{
    struct tp_observed observed = {0};
    store.health.state = TP_STORE_CORRUPT;
    tp_watch_observe(&watch, &observed);
    cr_assert(observed.store_healthy, "damage is no reason to refuse others");
    cr_assert_eq(observed.reason_count, 0);

    store.health.state = TP_STORE_STALLED;
    watch.starved = true;
    watch.hung = 1;
    tp_watch_observe(&watch, &observed);

    cr_assert_eq(observed.reason_count, 3);
    cr_assert_str_eq(observed.reasons[0].why, "stalled");
    cr_assert_not(observed.store_healthy);
    cr_assert_str_eq(observed.store_states[observed.store_state], "stalled");
}

Test(watch, holds_the_store_while_less_than_the_reserve_is_free)
{
    watch.disk_reserve = UINT64_MAX / 2;
    look_for(SECOND);
    cr_assert(store.held);

    watch.disk_reserve = 1;
    look_for(SECOND);
    cr_assert_not(store.held);
}

Test(watch, says_that_accepts_fail_until_they_have_not_for_a_while)
{
    watch.accept_failures = 0;
    tp_watch_look(&watch, now_ns, 1);
    cr_assert(watch.starved);
    const char *said = look_for(5 * SECOND);

    cr_assert_not(watch.starved);
    cr_assert_not_null(strstr(said, "connections cannot be accepted"), "%s", said);
    cr_assert_not_null(strstr(said, "connections are accepted again"), "%s", said);
}

Test(watch, finds_the_thread_that_does_not_come_back)
{
    look_for(10 * SECOND);
    cr_assert(tp_watch_all_turn(&watch), "not yet");

    const char *said = look_for(SECOND);
    cr_assert_not(tp_watch_all_turn(&watch));
    cr_assert_str_eq(said, "<3>a thread hangs thread=shard-0 seconds=10\n");

    tp_reactor_destroy(reactor);
    reactor = NULL;
    cr_assert_str_eq(look_for(SECOND), "<4>every thread runs again\n", "nobody is there any more");
    cr_assert(tp_watch_all_turn(&watch));
}

Test(watch, blames_nobody_when_it_did_not_run_itself)
{
    look_for(SECOND);
    now_ns += 60 * SECOND;

    tp_watch_look(&watch, now_ns, 0);
    cr_assert(tp_watch_all_turn(&watch));
}

static void fired(struct tp_timer *timer)
{
    (void)timer;
}

Test(watch, lets_a_thread_sleep_until_its_next_timer)
{
    struct tp_timer timer;
    tp_timer_init(&timer, fired);
    tp_timer_set(reactor, &timer, now_ns + SECOND / 100);

    tp_reactor_wait(reactor);

    cr_assert_gt(tp_post_due_ns(post, 0), now_ns, "it slept, and should be back now");
    cr_assert_leq(tp_post_due_ns(post, 0), now_ns + SECOND / 50);
    cr_assert_eq(tp_post_due_ns(post, 1), UINT64_MAX, "nobody has joined there");
    tp_reactor_poll(reactor);
}

Test(trouble, knows_the_states_from_what_rocksdb_says)
{
    static const struct {
        const char *sentence;
        enum tp_store_state state;
        enum tp_status status;
    } rows[] = {
        {"IO error: No space left on device: While appending to file: 000012.log", TP_STORE_FULL,
         TP_FULL},
        {"IO error: While appending to file: 000012.log: Disk quota exceeded", TP_STORE_FULL,
         TP_FULL},
        {"IO error: While open a file for appending: Read-only file system", TP_STORE_READ_ONLY,
         TP_IO},
        {"Corruption: block checksum mismatch: stored = 1, computed = 2", TP_STORE_CORRUPT, TP_IO},
        {"IO error: While fdatasync: 000012.log: Input/output error", TP_STORE_FAILED, TP_IO},
        {"something that no version has said before", TP_STORE_FAILED, TP_IO},
    };

    for (size_t nth = 0; nth < sizeof rows / sizeof *rows; nth++) {
        const struct tp_trouble trouble = tp_trouble_from(rows[nth].sentence);
        cr_assert_eq(trouble.state, rows[nth].state, "%s", rows[nth].sentence);
        cr_assert_eq(tp_trouble_status(&trouble), rows[nth].status);
        cr_assert_str_eq(trouble.detail, rows[nth].sentence);
    }
    cr_assert_eq(tp_trouble_errno(EROFS, "trying").state, TP_STORE_READ_ONLY);
    cr_assert_eq(tp_trouble_status(&(struct tp_trouble){0}), TP_OK);
}

Test(trouble, cuts_a_sentence_that_is_too_long)
{
    char sentence[2 * TP_STORE_DETAIL_SIZE];
    memset(sentence, 'x', sizeof sentence - 1);
    sentence[sizeof sentence - 1] = '\0';

    cr_assert_eq(strlen(tp_trouble_from(sentence).detail), TP_STORE_DETAIL_SIZE - 1);
}

Test(disk, takes_a_trial_and_wants_room)
{
    char directory[] = "/dev/shm/tp-disk-XXXXXX";
    cr_assert_not_null(mkdtemp(directory));

    cr_assert_eq(tp_disk_try(directory, 0).state, TP_STORE_OK);
    cr_assert_eq(tp_disk_try(directory, UINT64_MAX).state, TP_STORE_FULL);
    cr_assert_eq(tp_disk_files_size(directory, "trial"), 0, "it leaves nothing");
    rmdir(directory);
    cr_assert_eq(tp_disk_try(directory, 0).state, TP_STORE_FAILED);
}

Test(disk, keeps_files_though_their_owner_removes_them)
{
    char directory[] = "/dev/shm/tp-disk-XXXXXX", path[128], other[128], kept[256], copy[300];
    struct stat stat;
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/000007.log", directory);
    snprintf(other, sizeof other, "%s/000008.sst", directory);
    cr_assert_eq(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    cr_assert_eq(close(open(other, O_CREAT | O_WRONLY, 0600)), 0);

    cr_assert_eq(tp_disk_keep(directory, ".log", kept, sizeof kept), 0);

    unlink(path);
    snprintf(copy, sizeof copy, "%s/000007.log", kept);
    cr_assert_eq(lstat(copy, &stat), 0);
    unlink(copy);
    cr_assert_eq(rmdir(kept), 0, "only what was asked for");
    unlink(other);
    rmdir(directory);
    cr_assert_eq(tp_disk_keep(directory, ".log", kept, sizeof kept), ENOENT);
}
