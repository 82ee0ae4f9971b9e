/* What the node tells about itself: pages and log lines. */
#include <criterion/criterion.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "observe/log.h"
#include "observe/pages.h"
#include "observe/text.h"

#define WALL_MS UINT64_C(1795509000123) /* 2026-11-24T08:30:00.123Z */

static struct tp_buffer out;

static void begin(void)
{
    out = tp_buffer_growing(1u << 20);
}

static void end(void)
{
    tp_buffer_finish(&out);
}

/* What was written so far, as a string. */
static const char *text(void)
{
    tp_buffer_append(&out, "", 1);
    cr_assert_not(out.full);
    out.size--;
    return (const char *)out.data;
}

TestSuite(pages, .init = begin, .fini = end);
TestSuite(log, .init = begin, .fini = end);

static struct tp_observed_shard shards[2] = {
    {.counters = {.sessions_active = 3,
                  .sessions_opened = 30,
                  .messages_doc = 1,
                  .messages_awareness = 2,
                  .messages_presence = 3,
                  .messages_rpc = 4,
                  .messages_ack = 5,
                  .updates_refused = 7},
     .net = {.messages_in = 100, .protocol_errors = 1},
     .clients_active = 10,
     .sessions_pending = 1,
     .session_bytes = 1000,
     .connections = 11},
    {.counters = {.sessions_active = 4, .sessions_opened = 40, .messages_doc = 10},
     .net = {.messages_in = 200},
     .clients_active = 20,
     .session_bytes = 2000,
     .connections = 22},
};

static const struct tp_observed observed = {
    .node_id = "node \"one\"",
    .shards = shards,
    .shard_count = 2,
    .store = {.appends = 9, .operations_failed = 6, .commit_ns_total = 1500000000},
    .process = {.cpu_ms = 1234, .resident_size = 4096, .open_file_count = 12},
    .wall_ms = WALL_MS,
    .uptime_ms = 61999,
    .store_states = {"ok", "full"},
    .store_state_count = 2,
    .store_state = 1,
    .store_healthy = true,
};

static void assert_has(const char *line)
{
    cr_assert_not_null(strstr(text(), line), "no %s in:\n%s", line, text());
}

Test(pages, sums_the_cores_in_metrics)
{
    tp_metrics_page(&observed, &out);

    assert_has("\nteleportal_clients_active 30\n");
    assert_has("\nteleportal_sessions_active 7\n");
    assert_has("\nteleportal_documents_opened_total 70\n");
    assert_has("\nteleportal_messages_total{type=\"doc\"} 11\n");
    assert_has("\nteleportal_messages_total{type=\"ack\"} 5\n");
    assert_has("\nteleportal_messages_total_all 25\n");
    assert_has("\nteleportal_errors_total{type=\"update\"} 7\n");
    assert_has("\nteleportald_updates_refused_total 7\n");
    assert_has("\nteleportald_net_messages_in_total 300\n");
    assert_has("\nteleportald_store_appends_total 9\n");
    assert_has("\nteleportald_store_commit_seconds_total 1.500000000\n");
    assert_has("\nteleportald_store_state{state=\"ok\"} 0\n");
    assert_has("\nteleportald_store_state{state=\"full\"} 1\n");
    assert_has("\nteleportald_shard_connections{shard=\"1\"} 22\n");
    assert_has("\nprocess_cpu_seconds_total 1.234000000\n");
    assert_has("node=\"node \\\"one\\\"\"} 1\n");
}

Test(pages, has_a_line_for_every_counter)
{
    tp_metrics_page(&observed, &out);

#define ASSERT(name, kind, help) assert_has("# HELP teleportald_" #name);
    TP_COUNTERS(ASSERT)
    TP_OBSERVED_SHARD(ASSERT)
#undef ASSERT
}

Test(pages, satisfies_prometheus)
{
    char path[] = P_tmpdir "/teleportald-metrics-XXXXXX", command[512], complaint[256] = "";
    tp_metrics_page(&observed, &out);
    const int fd = mkstemp(path);
    cr_assert_eq(write(fd, out.data, out.size), (ssize_t)out.size);
    close(fd);
    /* Two names are the reference's, for dashboards that know them: not those that we would choose.
     */
    snprintf(command, sizeof command,
             "promtool check metrics < %s 2>&1 | grep -v -e ^teleportal_rate_limit_exceeded_total "
             "-e ^teleportal_rate_limit_delay_ms_total",
             path);

    FILE *promtool = popen(command, "r");
    const size_t size = fread(complaint, 1, sizeof complaint - 1, promtool);
    pclose(promtool); /* that of grep */

    unlink(path);
    cr_assert(size == 0, "promtool says %s", complaint);
}

Test(pages, has_the_references_keys_in_its_order_in_status)
{
    static const char *const keys[] = {"nodeId",
                                       "activeClients",
                                       "activeSessions",
                                       "pendingSessions",
                                       "totalMessagesProcessed",
                                       "totalDocumentsOpened",
                                       "messageTypeBreakdown",
                                       "rateLimitExceededTotal",
                                       "rateLimitBreakdown",
                                       "rateLimitTopOffenders",
                                       "rateLimitRecentEvents",
                                       "uptime",
                                       "timestamp",
                                       "totalDocumentSizeBytes",
                                       "documentsOverWarningThreshold",
                                       "documentsOverLimit"};
    tp_status_page(&observed, &out);

    json_t *page = json_loads(text(), JSON_REJECT_DUPLICATES, NULL);

    cr_assert_not_null(page, "%s", text());
    size_t nth = 0;
    const char *key;
    json_t *value;
    json_object_foreach(page, key, value) cr_assert_str_eq(key, keys[nth++]);
    cr_assert_eq(nth, sizeof keys / sizeof *keys);
    cr_assert_str_eq(json_string_value(json_object_get(page, "nodeId")), "node \"one\"");
    cr_assert_eq(json_integer_value(json_object_get(page, "activeClients")), 30);
    cr_assert_eq(json_integer_value(json_object_get(page, "activeSessions")), 7);
    cr_assert_eq(json_integer_value(json_object_get(page, "pendingSessions")), 1);
    cr_assert_eq(json_integer_value(json_object_get(page, "totalMessagesProcessed")), 25);
    cr_assert_eq(json_integer_value(json_object_get(page, "uptime")), 61);
    cr_assert_str_eq(json_string_value(json_object_get(page, "timestamp")),
                     "2026-11-24T08:30:00.123Z");
    json_decref(page);
}

Test(pages, is_healthy_while_the_store_takes_writes)
{
    struct tp_observed sick = observed;
    sick.reasons[0] = (struct tp_observed_reason){"store", "disk full"};
    sick.reasons[1] = (struct tp_observed_reason){"threads", "one hangs"};
    sick.reason_count = 2;

    cr_assert_eq(tp_health_page(&observed, &out), 200);
    cr_assert_str_eq(text(), "{\"status\":\"healthy\",\"timestamp\":\"2026-11-24T08:30:00.123Z\","
                             "\"checks\":{},\"uptime\":61}");
    out.size = 0;
    cr_assert_eq(tp_health_page(&sick, &out), 500);
    assert_has("{\"status\":\"unhealthy\"");
    assert_has("\"checks\":{\"store\":\"disk full\",\"threads\":\"one hangs\"}");
}

Test(pages, is_ready_unless_draining_or_without_a_store)
{
    struct tp_observed other = observed;

    cr_assert_eq(tp_readyz_page(&observed, &out), 200);
    cr_assert_str_eq(text(), "ready\n");
    other.draining = true;
    cr_assert_eq(tp_readyz_page(&other, &out), 503);
    assert_has("draining\n");
    other = observed;
    other.reasons[0] = (struct tp_observed_reason){"store", "disk full"};
    other.reason_count = 1;
    cr_assert_eq(tp_readyz_page(&other, &out), 503);
    assert_has("store: disk full\n");
    cr_assert_eq(tp_livez_page(&out), 200, "live all the same");
}

Test(pages, tells_people_how_to_connect)
{
    const struct tp_index index = {.teleportal_path = "/tele", .yjs_path = "/<yjs>\"&"};
    tp_index_page(&index, &out);

    assert_has("<code>/tele</code>");
    assert_has("/&lt;yjs&gt;&quot;&amp;");
    cr_assert_null(strstr(text(), "/metrics"), "not linked when not public");
}

Test(pages, knows_the_memory_and_files_of_the_process)
{
    struct tp_observed_process before, after;

    tp_observe_process(&before);
    const int fd = dup(0);
    tp_observe_process(&after);

    cr_assert_gt(before.resident_size, 1u << 20);
    cr_assert_eq(after.open_file_count, before.open_file_count + 1);
    close(fd);
}

static const struct tp_log_field fields[] = {
    {.key = "address", .text = {(const uint8_t *)"127.0.0.1:1234", 14}},
    {.key = "why", .text = {(const uint8_t *)"no \"room\"\n<3>forged", 19}},
    {.key = "cores", .number = -2, .is_number = true},
    {0},
};

Test(log, writes_text_that_no_value_can_break)
{
    tp_log_format_line(TP_LOG_TEXT, TP_LOG_WARN, WALL_MS, "serving", fields, &out);

    cr_assert_str_eq(text(), "2026-11-24T08:30:00.123Z warn serving address=127.0.0.1:1234 "
                             "why=\"no \\\"room\\\"\\u000a<3>forged\" cores=-2\n");
}

Test(log, leaves_time_and_severity_to_the_journal)
{
    tp_log_format_line(TP_LOG_JOURNAL, TP_LOG_ERROR, WALL_MS, "stopped", &fields[3], &out);

    cr_assert_str_eq(text(), "<3>stopped\n");
}

Test(log, writes_json)
{
    tp_log_format_line(TP_LOG_JSON, TP_LOG_INFO, WALL_MS, "serving", fields, &out);

    json_t *line = json_loads(text(), JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(line, "%s", text());
    cr_assert_str_eq(json_string_value(json_object_get(line, "level")), "info");
    cr_assert_str_eq(json_string_value(json_object_get(line, "event")), "serving");
    cr_assert_str_eq(json_string_value(json_object_get(line, "why")), "no \"room\"\n<3>forged");
    cr_assert_eq(json_integer_value(json_object_get(line, "cores")), -2);
    json_decref(line);
}

Test(log, cuts_a_line_that_is_too_long_between_fields)
{
    static uint8_t much[TP_LOG_LINE_SIZE];
    memset(much, 'x', sizeof much);

    for (size_t size = sizeof much - 200; size <= sizeof much; size++) {
        const struct tp_log_field large[] = {tp_log_number("first", 1),
                                             tp_log_slice("much", tp_slice_of(much, size)),
                                             tp_log_number("last", 1),
                                             {0}};
        out.size = 0;
        tp_log_format_line(TP_LOG_JSON, TP_LOG_INFO, WALL_MS, "large", large, &out);
        json_t *line = json_loads(text(), JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(line, "%zu: %s", size, text());
        cr_assert_leq(out.size, TP_LOG_LINE_SIZE);
        cr_assert_not_null(json_object_get(line, "first"));
        cr_assert_neq(json_object_get(line, "cut") != NULL, json_object_get(line, "last") != NULL);
        json_decref(line);
    }
}

Test(log, keeps_to_utf8_whatever_a_client_sends)
{
    tp_text_json(&out, TP_SLICE("gr\xc3\xbc\xc3\x9f"));
    cr_assert_str_eq(text(), "\"gr\xc3\xbc\xc3\x9f\"");
    out.size = 0;
    tp_text_json(&out, TP_SLICE("a\xff"));
    cr_assert_str_eq(text(), "\"a\\ufffd\"");
}

Test(log, drops_what_is_less_severe_than_its_level)
{
    int ends[2];
    char line[TP_LOG_LINE_SIZE];
    cr_assert_eq(pipe(ends), 0);
    const struct tp_log log = {.fd = ends[1], .level = TP_LOG_WARN};

    tp_log(&log, TP_LOG_INFO, "chatter");
    tp_log(&log, TP_LOG_WARN, "trouble", tp_log_text("where", "here"), tp_log_number("n", 1));

    const ssize_t size = read(ends[0], line, sizeof line);
    cr_assert_gt(size, 25);
    cr_assert_eq(memcmp(line + 24, " warn trouble where=here n=1\n", (size_t)size - 24), 0);
    close(ends[0]);
    close(ends[1]);
}
