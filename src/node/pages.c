/* Plain HTTP: what the node tells about itself. */
#include "observe/pages.h"
#include "node/server.h"

#define TP_PAGE_SIZE_MAX ((size_t)4 << 20)

static bool is_path(const struct tp_http_request *request, const char *path)
{
    return tp_slice_equal(request->path, tp_slice_of(path, strlen(path)));
}

static bool is_method(const struct tp_http_request *request, const char *method)
{
    return tp_slice_equal(request->method, tp_slice_of(method, strlen(method)));
}

void tp_pages_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request, bool open)
{
    struct tp_buffer page = tp_buffer_growing(TP_PAGE_SIZE_MAX);
    struct tp_slice head = TP_SLICE("Cache-Control: no-store\r\n");
    const char *type = "text/plain; charset=utf-8";
    struct tp_observed observed;
    unsigned status = 200;

    if (is_path(request, "/route") && is_method(request, "GET")) {
        tp_route_request(shard, connection, request);
        return;
    }
    tp_server_observe(shard, &observed);
    if (!is_method(request, "GET") && !is_method(request, "HEAD")) {
        status = 405;
        head = TP_SLICE("Allow: GET, HEAD\r\n");
        tp_buffer_append(&page, "Method Not Allowed\n", 19);
    } else if (is_path(request, "/")) {
        type = TP_HTML_TYPE;
        tp_index_page(&(struct tp_index){.teleportal_path = shard->config->teleportal_path,
                                         .yjs_path = shard->config->yjs_path,
                                         .public_metrics = open},
                      &page);
    } else if (is_path(request, "/livez")) {
        status = tp_livez_page(&page);
    } else if (is_path(request, "/readyz")) {
        status = tp_readyz_page(&observed, &page);
    } else if (is_path(request, "/health")) {
        type = TP_JSON_TYPE;
        status = tp_health_page(&observed, &page);
    } else if (is_path(request, "/metrics") && open) {
        type = TP_METRICS_TYPE;
        tp_metrics_page(&observed, &page);
    } else if (is_path(request, "/status") && open) {
        type = TP_JSON_TYPE;
        tp_status_page(&observed, &page);
    } else {
        status = 404;
        tp_buffer_append(&page, "Not Found\n", 10);
    }
    tp_connection_respond(connection, status, type, head, tp_buffer_slice(&page));
    tp_buffer_finish(&page);
}
