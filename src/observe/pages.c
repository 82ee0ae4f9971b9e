#include "observe/pages.h"

#include <inttypes.h>

#include "observe/sums.h"
#include "observe/text.h"

static void put(struct tp_buffer *out, const char *text)
{
    tp_buffer_append(out, text, strlen(text));
}

/* Offenders and events would name users: their number has no bound, and this is no place for names.
 */
static void rates(const struct tp_counters *counters, struct tp_buffer *out)
{
    const struct {
        const char *track;
        uint64_t count;
    } rates[] = {{"transport", counters->rate_exceeded_transport},
                 {"user", counters->rate_exceeded_user},
                 {"document", counters->rate_exceeded_document},
                 {"user-document", counters->rate_exceeded_user_document}};
    uint64_t total = 0;
    const char *comma = "";

    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        total += rates[i].count;
    tp_text_format(out, ",\"rateLimitExceededTotal\":%" PRIu64 ",\"rateLimitBreakdown\":{", total);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        if (rates[i].count == 0)
            continue;
        tp_text_format(out, "%s\"%s\":%" PRIu64, comma, rates[i].track, rates[i].count);
        comma = ",";
    }
    put(out, "},\"rateLimitTopOffenders\":[],\"rateLimitRecentEvents\":[]");
}

void tp_status_page(const struct tp_observed *observed, struct tp_buffer *out)
{
    const struct tp_sums sums = tp_sums_of(observed);
    char time[TP_ISO_TIME_SIZE];

    tp_text_iso_time(observed->wall_ms, time);
    put(out, "{\"nodeId\":");
    tp_text_json(out, tp_slice_of(observed->node_id, strlen(observed->node_id)));
    tp_text_format(out, ",\"activeClients\":%" PRIu64, sums.shard.clients_active);
    tp_text_format(out, ",\"activeSessions\":%" PRIu64, sums.counters.sessions_active);
    tp_text_format(out, ",\"pendingSessions\":%" PRIu64, sums.shard.sessions_pending);
    tp_text_format(out, ",\"totalMessagesProcessed\":%" PRIu64, tp_sums_messages(&sums));
    tp_text_format(out, ",\"totalDocumentsOpened\":%" PRIu64, sums.counters.sessions_opened);
    tp_text_format(out, ",\"messageTypeBreakdown\":{\"doc\":%" PRIu64, sums.counters.messages_doc);
    tp_text_format(out, ",\"awareness\":%" PRIu64, sums.counters.messages_awareness);
    tp_text_format(out, ",\"presence\":%" PRIu64, sums.counters.messages_presence);
    tp_text_format(out, ",\"rpc\":%" PRIu64, sums.counters.messages_rpc);
    tp_text_format(out, ",\"ack\":%" PRIu64 "}", sums.counters.messages_ack);
    rates(&sums.counters, out);
    tp_text_format(out, ",\"uptime\":%" PRIu64, observed->uptime_ms / 1000);
    tp_text_format(out, ",\"timestamp\":\"%s\"", time);
    tp_text_format(out, ",\"totalDocumentSizeBytes\":%" PRIu64, sums.counters.document_bytes);
    tp_text_format(out, ",\"documentsOverWarningThreshold\":%" PRIu64,
                   sums.counters.documents_over_warning);
    tp_text_format(out, ",\"documentsOverLimit\":%" PRIu64 "}", sums.counters.documents_over_limit);
}

unsigned tp_health_page(const struct tp_observed *observed, struct tp_buffer *out)
{
    const bool healthy = observed->reason_count == 0;
    char time[TP_ISO_TIME_SIZE];

    tp_text_iso_time(observed->wall_ms, time);
    tp_text_format(out, "{\"status\":\"%s\",\"timestamp\":\"%s\",\"checks\":{",
                   healthy ? "healthy" : "unhealthy", time);
    for (uint32_t nth = 0; nth < observed->reason_count; nth++)
        tp_text_format(out, "%s\"%s\":\"%s\"", nth == 0 ? "" : ",", observed->reasons[nth].what,
                       observed->reasons[nth].why);
    tp_text_format(out, "},\"uptime\":%" PRIu64 "}", observed->uptime_ms / 1000);
    return healthy ? 200 : 500;
}

unsigned tp_livez_page(struct tp_buffer *out)
{
    put(out, "live\n");
    return 200;
}

unsigned tp_readyz_page(const struct tp_observed *observed, struct tp_buffer *out)
{
    if (tp_observed_ready(observed)) {
        put(out, "ready\n");
        return 200;
    }
    for (uint32_t nth = 0; nth < observed->reason_count; nth++)
        tp_text_format(out, "%s: %s\n", observed->reasons[nth].what, observed->reasons[nth].why);
    if (observed->draining)
        put(out, "draining\n");
    return 503;
}

void tp_index_page(const struct tp_index *index, struct tp_buffer *out)
{
    put(out, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width\">\n<title>teleportald</title>\n"
             "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;"
             "padding:0 1rem}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>\n"
             "<h1>teleportald</h1>\n"
             "<p>A server for collaborative editing with Yjs, version " TP_VERSION ". It keeps "
             "documents and joins everybody who edits them.</p>\n"
             "<h2>Connect with y-websocket</h2>\n<pre>import * as Y from \"yjs\";\n"
             "import { WebsocketProvider } from \"y-websocket\";\n\n"
             "const doc = new Y.Doc();\n"
             "const url = location.origin.replace(/^http/, \"ws\") + \"");
    tp_text_html(out, index->yjs_path);
    put(out, "\";\nnew WebsocketProvider(url, \"my-document\", doc);</pre>\n"
             "<h2>Connect with Teleportal</h2>\n<p>Point its WebSocket connection to <code>");
    tp_text_html(out, index->teleportal_path);
    put(out,
        "</code> on this host.</p>\n<h2>How it is doing</h2>\n<p><a href=\"/health\">/health</a>"
        " <a href=\"/livez\">/livez</a> <a href=\"/readyz\">/readyz</a>");
    if (index->public_metrics)
        put(out, " <a href=\"/metrics\">/metrics</a> <a href=\"/status\">/status</a>");
    put(out, "</p>\n</html>\n");
}
