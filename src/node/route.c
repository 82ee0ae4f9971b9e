#include "node/route.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/hash.h"

static bool is_id(const char *text, size_t size)
{
    if (size == 0 || size >= TP_ROUTE_ID_SIZE)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)text[i]) && strchr("-._", text[i]) == NULL)
            return false;
    return true;
}

/* HOST:PORT of `size` bytes. */
static bool is_address(const char *text, size_t size)
{
    const char *const colon = memrchr(text, ':', size);
    uint32_t port = 0;

    if (size >= TP_ROUTE_ADDRESS_SIZE || colon == NULL || colon == text)
        return false;
    if (memchr(text, ':', (size_t)(colon - text)) != NULL && (text[0] != '[' || colon[-1] != ']'))
        return false; /* IPv6 without brackets: where would the port begin? */
    if (colon + 1 == text + size || colon + 6 < text + size)
        return false;
    for (const char *at = colon + 1; at < text + size; at++) {
        if (!isdigit((unsigned char)*at))
            return false;
        port = port * 10 + (uint32_t)(*at - '0');
    }
    return port > 0 && port <= 65535;
}

static bool take_weight(const char *text, size_t size, uint32_t *weight)
{
    if (size == 0 || size > 3)
        return false;
    *weight = 0;
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        *weight = *weight * 10 + (uint32_t)(text[i] - '0');
    }
    return *weight >= 1 && *weight <= TP_ROUTE_WEIGHT_MAX;
}

/* One item between commas. */
static const char *take_node(const char *text, size_t size, struct tp_route *route)
{
    const char *const equals = memchr(text, '=', size);

    if (equals == NULL || !is_id(text, (size_t)(equals - text)))
        return "ID=HOST:PORT with an ID of letters, digits, '-', '.' and '_'";
    if (route->count == TP_ROUTE_NODE_COUNT_MAX)
        return "at most 64 nodes";

    struct tp_route_node *const node = &route->nodes[route->count];
    *node = (struct tp_route_node){.weight = 1};
    memcpy(node->id, text, (size_t)(equals - text));
    for (uint32_t i = 0; i < route->count; i++)
        if (strcmp(route->nodes[i].id, node->id) == 0)
            return "each ID once";

    const char *const end = text + size;
    const char *star = memchr(equals, '*', (size_t)(end - equals));
    if (star == NULL)
        star = end;
    else if (!take_weight(star + 1, (size_t)(end - star - 1), &node->weight))
        return "a weight of 1 to 100 behind '*'";
    if (!is_address(equals + 1, (size_t)(star - equals - 1)))
        return "HOST:PORT behind '='";
    memcpy(node->address, equals + 1, (size_t)(star - equals - 1));
    route->count++;
    return NULL;
}

bool tp_route_parse(const char *text, struct tp_route *route, const char **why)
{
    *why = NULL;
    route->count = 0;
    for (const char *at = text;;) {
        at += strspn(at, ", \t");
        if (*at == '\0')
            return true;
        const size_t size = strcspn(at, ", \t");
        *why = take_node(at, size, route);
        if (*why != NULL)
            return false;
        at += size;
    }
}

void tp_route_print(const struct tp_route *route, FILE *out)
{
    for (uint32_t i = 0; i < route->count; i++) {
        const struct tp_route_node *const node = &route->nodes[i];
        fprintf(out, "%s%s=%s", i > 0 ? ", " : "", node->id, node->address);
        if (node->weight > 1)
            fprintf(out, "*%u", node->weight);
    }
}

static uint64_t score(const struct tp_route_node *node, uint64_t document)
{
    const struct tp_slice id = tp_slice_of(node->id, strlen(node->id));
    uint64_t best = 0;

    for (uint32_t i = 0; i < node->weight; i++)
        best = tp_max(best, tp_hash64_seeded(id, document + i));
    return best;
}

void tp_route_order(const struct tp_route *route, struct tp_slice document_key,
                    uint8_t order[TP_ROUTE_NODE_COUNT_MAX])
{
    uint64_t scores[TP_ROUTE_NODE_COUNT_MAX];
    const uint64_t document = tp_hash64(document_key);

    for (uint32_t i = 0; i < route->count; i++) {
        uint32_t at = i;
        const uint64_t own = score(&route->nodes[i], document);
        for (; at > 0 && scores[at - 1] < own; at--) {
            scores[at] = scores[at - 1];
            order[at] = order[at - 1];
        }
        scores[at] = own;
        order[at] = (uint8_t)i;
    }
}
