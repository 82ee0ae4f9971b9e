/* Every remote method, by its name on the wire: rpc/methods.h has the list. */
#include "rpc/methods.h"

#define ENTRY(name, needs, turn, handle, part) {name, needs, turn, handle, part},

/* The last one ends the list, so that there may be none. */
const struct tp_rpc_method tp_rpc_methods[] = {
    TP_RPC_METHODS(ENTRY){NULL, 0, TP_RPC_ANY_TIME, NULL, NULL}};
const size_t tp_rpc_method_count = sizeof tp_rpc_methods / sizeof *tp_rpc_methods - 1;
