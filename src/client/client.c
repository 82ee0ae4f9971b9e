#include "client/client.h"

#include <stdlib.h>

#include "wire/http.h"
#include "wire/reader.h"

#define SECOND_NS (UINT64_C(1000) * 1000 * 1000)

bool tp_client_name_valid(struct tp_slice name)
{
    if (name.size == 0 || name.size > TP_CLIENT_NAME_SIZE_MAX)
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] < 0x20)
            return false;
    return tp_utf8_valid(name);
}

/* ---- paths ------------------------------------------------------------------------------------*/

static struct tp_slice behind(struct tp_slice text, size_t size)
{
    return (struct tp_slice){text.data + size, text.size - size};
}

/* True if `path` is `mount`, or continues it with a slash. */
static bool is_under(struct tp_slice path, struct tp_slice mount)
{
    return path.size >= mount.size && memcmp(path.data, mount.data, mount.size) == 0 &&
           (path.size == mount.size || path.data[mount.size] == '/');
}

/* The document that `text` names, on the heap; data NULL: none. */
static struct tp_slice decode_name(struct tp_slice text)
{
    uint8_t *const name = malloc(text.size + 1);
    size_t size = 0;

    TP_ASSERT(name != NULL);
    if (tp_http_percent_decode(text, name, &size) == TP_OK &&
        tp_client_name_valid(tp_slice_of(name, size)))
        return tp_slice_of(name, size);
    free(name);
    return (struct tp_slice){0};
}

enum tp_status tp_client_init(struct tp_client *client, const struct tp_client_paths *paths,
                              struct tp_slice path)
{
    *client = (struct tp_client){0};
    if (is_under(path, paths->teleportal) && path.size <= paths->teleportal.size + 1) {
        client->dialect = tp_dialect_get(TP_DIALECT_TELEPORTAL);
        return TP_OK;
    }
    if (is_under(path, paths->yjs)) {
        if (path.size > paths->yjs.size)
            client->state.document = decode_name(behind(path, paths->yjs.size + 1));
        if (client->state.document.data == NULL)
            return TP_MALFORMED;
        client->dialect = tp_dialect_get(TP_DIALECT_YWEBSOCKET);
        return TP_OK;
    }
    if (path.size > 1 && path.data[0] == '/')
        client->state.document = decode_name(behind(path, 1));
    return TP_OK;
}

void tp_client_finish(struct tp_client *client)
{
    free((void *)client->state.document.data);
    *client = (struct tp_client){0};
}

struct tp_slice tp_client_document(const struct tp_client *client)
{
    if (client->dialect == NULL || client->dialect->id != TP_DIALECT_YWEBSOCKET)
        return (struct tp_slice){0};
    return client->state.document;
}

/* ---- messages ---------------------------------------------------------------------------------*/

enum tp_status tp_client_recognise(struct tp_client *client, struct tp_slice first)
{
    if (client->dialect != NULL)
        return TP_OK;
    client->dialect = tp_dialect_recognise(first, client->state.document.size > 0);
    return client->dialect != NULL ? TP_OK : TP_DENIED;
}

/* Stands between the dialect and whom the messages are for. */
struct filter {
    struct tp_client *client;
    uint64_t now_ns;
    struct tp_message_sink sink;
    bool is_flooded;
};

static bool ping_is_due(struct tp_client *client, uint64_t now_ns)
{
    if (now_ns - client->ping_from_ns >= SECOND_NS) {
        client->ping_from_ns = now_ns;
        client->ping_count = 0;
    }
    if (client->ping_count == TP_CLIENT_PING_COUNT_MAX)
        return false;
    client->ping_count++;
    return true;
}

static void filter_message(void *context, struct tp_message *message)
{
    struct filter *filter = context;
    struct tp_client *client = filter->client;

    if (message->kind == TP_MESSAGE_PING && !ping_is_due(client, filter->now_ns))
        return;
    if (message->kind == TP_MESSAGE_ACK &&
        ++client->ack_count > 2 * client->sent_count + TP_CLIENT_ACK_ALLOWANCE) {
        filter->is_flooded = true;
        return;
    }
    filter->sink.take(filter->sink.context, message);
}

enum tp_status tp_client_said(struct tp_client *client, struct tp_slice bytes, uint64_t now_ns,
                              struct tp_message_sink sink, enum tp_close_reason *reason)
{
    struct filter filter = {.client = client, .now_ns = now_ns, .sink = sink};

    TP_ASSERT(client->dialect != NULL);
    const enum tp_status status = client->dialect->decode(
        &client->state, bytes, (struct tp_message_sink){filter_message, &filter}, reason);
    if (status != TP_OK)
        return status;
    if (filter.is_flooded) {
        *reason = TP_CLOSE_POLICY;
        return TP_DENIED;
    }
    return TP_OK;
}
