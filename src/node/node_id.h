/* node/node_id.h - what other nodes know this one by. */
#pragma once

#include "node/config.h"

/* As configured; else as kept in the data directory, which must be there; else made and kept.
 * False: `error` says why. */
bool tp_node_id_load(const struct tp_config *config, char out[TP_NODE_ID_SIZE_MAX + 1], char *error,
                     size_t error_size);
