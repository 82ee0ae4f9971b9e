/* Which address a connection counts for, and whether that address may have more. */
#include "internal.h"

bool tp_net_trusts(const struct tp_net *net, const struct tp_address *address)
{
    return net->limits.trusted_proxies != NULL &&
           tp_address_ranges_have(net->limits.trusted_proxies, address);
}

void tp_connection_set_origin(struct tp_connection *connection, const struct tp_address *address)
{
    struct tp_net *net = connection->net;

    if (net->limits.origin_connection_count_max == 0 && net->limits.origin_handshakes_per_s == 0)
        return;
    tp_connection_drop_origin(connection);
    connection->origin = tp_origins_enter(&net->origins, address);
    connection->client_address = *address;
    connection->has_client_address = true;
}

void tp_connection_drop_origin(struct tp_connection *connection)
{
    if (connection->origin != NULL)
        tp_origins_leave(&connection->net->origins, connection->origin);
    connection->origin = NULL;
}

/* The last of the addresses in X-Forwarded-For that is no proxy of ours: further to the left stands
 * what a client may have made up. */
static bool find_forwarded(const struct tp_net *net, const struct tp_http_request *request,
                           struct tp_address *out)
{
    struct tp_slice rest = tp_http_header_last(request, "x-forwarded-for");

    while (rest.size > 0) {
        const uint8_t *const comma = memrchr(rest.data, ',', rest.size);
        const uint8_t *at = comma == NULL ? rest.data : comma + 1;
        const uint8_t *end = rest.data + rest.size;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        if (tp_address_parse(tp_slice_of(at, (size_t)(end - at)), out) != TP_OK)
            return false;
        if (!tp_net_trusts(net, out))
            return true;
        rest.size = comma == NULL ? 0 : (size_t)(comma - rest.data);
    }
    return false;
}

enum tp_status tp_connection_admit(struct tp_connection *connection,
                                   const struct tp_http_request *request)
{
    struct tp_net *net = connection->net;
    const uint32_t count_max = net->limits.origin_connection_count_max;
    const uint32_t per_s = net->limits.origin_handshakes_per_s;
    struct tp_address client;

    if (tp_net_trusts(net, &connection->peer_address)) {
        tp_connection_drop_origin(connection);
        connection->has_client_address = false;
        if (find_forwarded(net, request, &client))
            tp_connection_set_origin(connection, &client);
    }
    if (connection->origin == NULL)
        return TP_OK;
    if (count_max > 0 && connection->origin->connection_count > count_max) {
        net->counts.refused_origin++;
        return TP_FULL;
    }
    if (per_s > 0 && !tp_origin_pay(connection->origin, per_s, tp_reactor_now_ns(net->reactor))) {
        net->counts.refused_handshake++;
        return TP_FULL;
    }
    return TP_OK;
}
