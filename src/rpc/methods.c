/* Every remote method, by its name on the wire: add a line. */
#include "rpc/call.h"

/* name, right, turn, function for requests, function for parts of a client's stream or NULL */
#define METHODS(X)

#define DECLARE(name, needs, turn, handle, part) tp_rpc_step handle;
#define ENTRY(name, needs, turn, handle, part) {name, needs, turn, handle, part},

METHODS(DECLARE)

/* The last one ends the list, so that there may be none. */
const struct tp_rpc_method tp_rpc_methods[] = {
    METHODS(ENTRY){NULL, 0, TP_RPC_ANY_TIME, NULL, NULL}};
const size_t tp_rpc_method_count = sizeof tp_rpc_methods / sizeof *tp_rpc_methods - 1;
