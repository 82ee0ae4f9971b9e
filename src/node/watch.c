#include "node/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "reactor/post.h"

static_assert(TP_STORE_STATE_COUNT <= TP_OBSERVED_STATE_COUNT_MAX, "room for every state");

/* Accepts are tried again every 100 ms while they fail: silence for this long means it is over. */
#define STARVED_NS UINT64_C(1500000000)
/* Space must be this part of the reserve above it before writes are taken again. */
#define RESERVE_MARGIN 8u

/* ---- the store ----------------------------------------------------------------------------------
 */

static bool takes_writes(enum tp_store_state state)
{
    return state < TP_STORE_STALLED;
}

/* Free bytes for this user; UINT64_MAX when the file system does not say. */
static uint64_t free_size(const char *directory)
{
    struct statvfs space;

    return statvfs(directory, &space) == 0 ? (uint64_t)space.f_bavail * space.f_frsize : UINT64_MAX;
}

static void look_at_space(struct tp_watch *watch)
{
    if (watch->disk_reserve == 0)
        return;
    const uint64_t size = free_size(watch->directory);
    if (size < watch->disk_reserve)
        watch->backend->hold(watch->store, true);
    else if (size >= watch->disk_reserve + watch->disk_reserve / RESERVE_MARGIN)
        watch->backend->hold(watch->store, false);
}

static void say_store(struct tp_watch *watch, const struct tp_store_health *health, uint64_t now_ns)
{
    char detail[TP_STORE_DETAIL_SIZE] = "";

    if (takes_writes(health->state) && !takes_writes(watch->said))
        tp_log(watch->log, TP_LOG_INFO, "the store takes writes again",
               tp_log_text("after", tp_store_state_name(watch->said)),
               tp_log_number("seconds", (int64_t)((now_ns - watch->said_ns) / 1000000000)));
    if (health->state == TP_STORE_OK)
        return;
    watch->backend->explain(watch->store, detail);
    if (health->state == TP_STORE_RESERVED)
        snprintf(detail, sizeof detail,
                 "%" PRIu64 " bytes are free in %.100s, disk_reserve is %" PRIu64,
                 free_size(watch->directory), watch->directory, watch->disk_reserve);
    if (health->state == TP_STORE_STALLED)
        snprintf(detail, sizeof detail, "a commit has not come back for %u s",
                 (unsigned)(TP_STORE_STALL_NS / 1000000000));
    tp_log(watch->log, takes_writes(health->state) ? TP_LOG_WARN : TP_LOG_ERROR,
           takes_writes(health->state) ? "the store is damaged" : "the store takes no writes",
           tp_log_text("reason", tp_store_state_name(health->state)),
           tp_log_text("detail", detail));
}

static void look_at_store(struct tp_watch *watch, uint64_t now_ns)
{
    struct tp_store_health health;

    watch->backend->health(watch->store, &health);
    if (health.state != watch->said) {
        say_store(watch, &health, now_ns);
        watch->said = health.state;
        watch->said_ns = now_ns;
    } else if (health.state == TP_STORE_OK && health.stop_count != watch->stop_count) {
        char detail[TP_STORE_DETAIL_SIZE] = ""; /* over before it was seen */
        watch->backend->explain(watch->store, detail);
        tp_log(watch->log, TP_LOG_WARN, "the store took no writes for a moment",
               tp_log_text("detail", detail));
    }
    watch->stop_count = health.stop_count;
}

/* ---- accepting ----------------------------------------------------------------------------------
 */

static void look_at_accepts(struct tp_watch *watch, uint64_t now_ns, uint64_t accept_failures)
{
    const bool was = atomic_load(&watch->starved);

    if (accept_failures != watch->accept_failures)
        watch->starved_until_ns = now_ns + STARVED_NS;
    watch->accept_failures = accept_failures;
    const bool is = now_ns < watch->starved_until_ns;
    if (is && !was)
        tp_log(watch->log, TP_LOG_ERROR, "connections cannot be accepted",
               tp_log_text("reason", "no file descriptor or memory is left; raise LimitNOFILE"));
    if (was && !is)
        tp_log(watch->log, TP_LOG_INFO, "connections are accepted again");
    atomic_store(&watch->starved, is);
}

/* ---- threads ------------------------------------------------------------------------------------
 */

static void name_thread(const struct tp_watch *watch, uint32_t endpoint, char *out, size_t size)
{
    if (endpoint < watch->shard_count)
        snprintf(out, size, "shard-%" PRIu32, endpoint);
    else if (endpoint == watch->shard_count)
        snprintf(out, size, "store-commit");
    else if (endpoint < watch->first_worker)
        snprintf(out, size, "store-read");
    else
        snprintf(out, size, "worker");
}

static uint32_t find_hung(const struct tp_watch *watch, uint64_t now_ns)
{
    for (uint32_t endpoint = 0; endpoint < watch->thread_count; endpoint++) {
        const uint64_t due_ns = tp_post_due_ns(watch->post, endpoint);
        if (now_ns > due_ns && now_ns - due_ns > watch->hang_ns)
            return endpoint + 1;
    }
    return 0;
}

static void look_at_threads(struct tp_watch *watch, uint64_t now_ns)
{
    const uint64_t gap_ns = now_ns - watch->last_look_ns;
    const uint32_t was = atomic_load(&watch->hung);
    char name[24];

    /* When we did not run ourselves (SIGSTOP, a machine that slept), nobody did: the others get
     * until the next look. */
    if (watch->hang_ns == 0 || watch->last_look_ns == 0 || gap_ns > 4 * TP_WATCH_PERIOD_NS)
        return;
    const uint32_t is = find_hung(watch, now_ns);
    if (is != was && is != 0) {
        name_thread(watch, is - 1, name, sizeof name);
        tp_log(watch->log, TP_LOG_ERROR, "a thread hangs", tp_log_text("thread", name),
               tp_log_number("seconds", (int64_t)((now_ns - tp_post_due_ns(watch->post, is - 1)) /
                                                  1000000000)));
    }
    if (was != 0 && is == 0)
        tp_log(watch->log, TP_LOG_WARN, "every thread runs again");
    atomic_store(&watch->hung, is);
}

void tp_watch_look(struct tp_watch *watch, uint64_t now_ns, uint64_t accept_failures)
{
    look_at_space(watch);
    look_at_store(watch, now_ns);
    look_at_accepts(watch, now_ns, accept_failures);
    look_at_threads(watch, now_ns);
    watch->last_look_ns = now_ns;
}

bool tp_watch_all_turn(const struct tp_watch *watch)
{
    return atomic_load(&watch->hung) == 0;
}

/* ---- pages --------------------------------------------------------------------------------------
 */

static void add_reason(struct tp_observed *out, const char *what, const char *why)
{
    TP_ASSERT(out->reason_count < TP_OBSERVED_REASON_COUNT_MAX);
    out->reasons[out->reason_count++] = (struct tp_observed_reason){what, why};
}

void tp_watch_observe(struct tp_watch *watch, struct tp_observed *out)
{
    struct tp_store_health health;

    watch->backend->health(watch->store, &health);
    out->store_state = (uint32_t)health.state;
    out->store_state_count = TP_STORE_STATE_COUNT;
    for (uint32_t state = 0; state < TP_STORE_STATE_COUNT; state++)
        out->store_states[state] = tp_store_state_name((enum tp_store_state)state);
    out->store_healthy = takes_writes(health.state);
    out->store.stops = health.stop_count;
    out->store.damaged_reads = health.damage_count;
    out->accept_starved = atomic_load(&watch->starved);
    out->thread_hangs = atomic_load(&watch->hung) != 0;
    if (!out->store_healthy)
        add_reason(out, "store", tp_store_state_name(health.state));
    if (out->accept_starved)
        add_reason(out, "connections", "no file descriptor or memory is left");
    if (out->thread_hangs)
        add_reason(out, "threads", "one hangs");
}
