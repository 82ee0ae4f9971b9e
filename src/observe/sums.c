#include "observe/sums.h"

struct tp_sums tp_sums_of(const struct tp_observed *observed)
{
    struct tp_sums sums = {0};

    for (uint32_t i = 0; i < observed->shard_count; i++) {
        const struct tp_observed_shard *shard = &observed->shards[i];
#define ADD(name, kind, help) sums.counters.name += shard->counters.name;
        TP_COUNTERS(ADD)
#undef ADD
#define ADD(name, kind, help) sums.net.name += shard->net.name;
        TP_OBSERVED_NET(ADD)
#undef ADD
#define ADD(name, kind, help) sums.shard.name += shard->name;
        TP_OBSERVED_SHARD(ADD)
#undef ADD
    }
    return sums;
}

uint64_t tp_sums_messages(const struct tp_sums *sums)
{
    return sums->counters.messages_doc + sums->counters.messages_awareness +
           sums->counters.messages_presence + sums->counters.messages_rpc +
           sums->counters.messages_ack;
}

bool tp_observed_ready(const struct tp_observed *observed)
{
    return observed->reason_count == 0 && !observed->draining;
}
