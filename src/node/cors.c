#include "node/cors.h"

#include <strings.h>

static void append(struct tp_buffer *out, struct tp_slice text)
{
    tp_buffer_append(out, text.data, text.size);
}

static bool allows_any(const struct tp_config *config)
{
    return strcmp(config->cors_origins, "*") == 0;
}

struct tp_slice tp_cors_allowed(const struct tp_config *config,
                                const struct tp_http_request *request)
{
    const struct tp_slice origin = tp_http_header(request, "origin");

    if (allows_any(config))
        return tp_slice_of(config->cors_origins, 1);
    if (origin.data == NULL)
        return (struct tp_slice){0};
    for (const char *at = config->cors_origins; *at != '\0';) {
        const size_t size = strcspn(at, " ");
        /* Browsers write scheme and host in lower case; operators may not. */
        if (size == origin.size && size > 0 &&
            strncasecmp(at, (const char *)origin.data, size) == 0)
            return tp_slice_of(at, size);
        at += size + strspn(at + size, " ");
    }
    return (struct tp_slice){0};
}

void tp_cors_head(const struct tp_config *config, struct tp_slice allowed, struct tp_buffer *out)
{
    if (config->cors_origins[0] != '\0' && !allows_any(config))
        append(out, TP_SLICE("Vary: Origin\r\n")); /* also without `allowed`: caches must know */
    if (allowed.data == NULL)
        return;
    append(out, TP_SLICE("Access-Control-Allow-Origin: "));
    append(out, allowed);
    append(out, TP_SLICE("\r\nAccess-Control-Expose-Headers: x-teleportal-client-id, "
                         "x-powered-by\r\n"));
}

void tp_cors_preflight_head(struct tp_slice allowed, struct tp_buffer *out)
{
    if (allowed.data == NULL)
        return;
    append(out, TP_SLICE("Access-Control-Allow-Methods: GET, HEAD, POST\r\n"
                         "Access-Control-Allow-Headers: authorization, cache-control, "
                         "content-type, last-event-id, x-powered-by, x-teleportal-client-id\r\n"
                         "Access-Control-Max-Age: 86400\r\n"));
}
