/* observe/sums.h - the shards' numbers added up. */
#pragma once

#include "observe/pages.h"

struct tp_sums {
    struct tp_counters counters;
    struct tp_net_counts net;
    struct {
        TP_OBSERVED_SHARD(TP_OBSERVED_FIELD)
    } shard;
};

struct tp_sums tp_sums_of(const struct tp_observed *observed);
uint64_t tp_sums_messages(const struct tp_sums *sums); /* of all types */

/* Whether new clients should come here. */
bool tp_observed_ready(const struct tp_observed *observed);
