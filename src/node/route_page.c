/* GET /route?document=NAME&room=ROOM: on which node a client should open a document. */
#include <stdlib.h>

#include "client/client.h"
#include "node/cors.h"
#include "node/route.h"
#include "node/shard.h"
#include "observe/pages.h"
#include "observe/text.h"

#define PAGE_SIZE_MAX ((size_t)64 << 10)

/* A query parameter, decoded into `out`; data NULL: there is none, or none that a name can be. */
static struct tp_slice parameter(const struct tp_http_request *request, const char *name,
                                 uint8_t out[TP_CLIENT_NAME_SIZE_MAX])
{
    const struct tp_slice text = tp_http_query(request->query, name);
    struct tp_slice value = {0};
    size_t size;

    if (text.data == NULL || text.size > 3u * TP_CLIENT_NAME_SIZE_MAX)
        return value;
    uint8_t *const memory = malloc(text.size + 1);
    TP_ASSERT(memory != NULL);
    if (tp_http_percent_decode(text, memory, &size) == TP_OK &&
        tp_client_name_valid(tp_slice_of(memory, size))) {
        memcpy(out, memory, size);
        value = tp_slice_of(out, size);
    }
    free(memory);
    return value;
}

static void write_route(const struct tp_route *route, struct tp_slice key, struct tp_buffer *out)
{
    uint8_t order[TP_ROUTE_NODE_COUNT_MAX];

    tp_route_order(route, key, order);
    for (uint32_t i = 0; i < route->count; i++) {
        const struct tp_route_node *const node = &route->nodes[order[i]];
        tp_text_format(out, "%s{\"node\":\"%s\",\"address\":\"%s\"}", i > 0 ? "," : "{\"nodes\":[",
                       node->id, node->address);
    }
    tp_text_format(out, "]}\n");
}

void tp_route_request(struct tp_shard *shard, struct tp_connection *connection,
                      const struct tp_http_request *request)
{
    uint8_t names[2][TP_CLIENT_NAME_SIZE_MAX], key[TP_DOCUMENT_KEY_SIZE_MAX];
    struct tp_buffer page = tp_buffer_growing(PAGE_SIZE_MAX);
    struct tp_buffer head = tp_buffer_growing(PAGE_SIZE_MAX);
    const bool has_room = tp_http_query(request->query, "room").size > 0;
    const struct tp_slice document = parameter(request, "document", names[0]);
    const struct tp_slice room = has_room ? parameter(request, "room", names[1]) : TP_SLICE("");
    unsigned status = 200;

    tp_text_format(&head, "Cache-Control: no-store\r\n");
    tp_cors_head(shard->config, tp_cors_allowed(shard->config, request), &head);
    if (shard->config->cluster_nodes.count == 0) {
        status = 404;
        tp_text_format(&page,
                       "{\"error\":\"this server has no option cluster_nodes: every document "
                       "is served right here\"}\n");
    } else if (document.data == NULL || room.data == NULL) {
        status = 400;
        tp_text_format(&page,
                       "{\"error\":\"/route?document=NAME or /route?document=NAME&room=ROOM, "
                       "percent-encoded UTF-8 of 1 to 1024 bytes each\"}\n");
    } else {
        write_route(&shard->config->cluster_nodes, tp_document_key(room, document, key), &page);
    }
    tp_connection_respond(connection, status, TP_JSON_TYPE, tp_buffer_slice(&head),
                          tp_buffer_slice(&page));
    tp_buffer_finish(&page);
    tp_buffer_finish(&head);
}
