/* The list of bridges. Add a line; the build finds the file. */
#include <string.h>

#include "bridge/bridge.h"

#define BRIDGES(X) \
    X(loopback)    \
    X(multicast)   \
    X(redis)       \
    X(nats)

#define DECLARE(name) extern const struct tp_bridge_kind tp_bridge_##name;
#define ENTRY(name) &tp_bridge_##name,

BRIDGES(DECLARE)
const struct tp_bridge_kind *const tp_bridge_kinds[] = {BRIDGES(ENTRY) NULL};

const struct tp_bridge_kind *tp_bridge_find(const char *location)
{
    const size_t size = strcspn(location, ":");

    for (size_t i = 0; tp_bridge_kinds[i] != NULL; i++)
        if (strlen(tp_bridge_kinds[i]->name) == size &&
            memcmp(tp_bridge_kinds[i]->name, location, size) == 0)
            return tp_bridge_kinds[i];
    return NULL;
}
