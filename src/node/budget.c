/* What a core takes on, and when it has enough. Each budget's limit is an option; what happens when
 * it is reached stands in docs/operating.md under the option's name. */
#include "node/server.h"

/* Documents are trimmed to session_memory at every tick: it is exceeded for longer only by those
 * that have clients. */
bool tp_shard_is_full(const struct tp_shard *shard)
{
    return shard->sessions_size > shard->config->session_memory ||
           tp_net_unsent_size(shard->net) > shard->config->outbox_memory;
}

bool tp_shard_has_all_connections(const struct tp_shard *shard)
{
    return tp_net_connection_count(shard->net) >= shard->config->max_connections;
}

bool tp_channel_is_unwelcome(const struct tp_channel *channel, uint32_t owner)
{
    struct tp_shard *shard = channel->shard;
    const bool is_full =
        owner == shard->index ? tp_shard_is_full(shard) : tp_server_is_full(shard->server, owner);

    shard->counters.refused_budget += is_full;
    return is_full;
}

/* ---- updates on their way to the store ----------------------------------------------------------
 */

static uint64_t size_of(const struct tp_store_op *op)
{
    return op->key.size + op->value[0].size + op->value[1].size;
}

void tp_budget_store(struct tp_shard *shard, const struct tp_store_op *op)
{
    shard->store_inflight++;
    shard->store_size += size_of(op);
}

void tp_budget_stored(struct tp_shard *shard, const struct tp_store_op *op)
{
    TP_ASSERT(shard->store_inflight > 0 && shard->store_size >= size_of(op));
    shard->store_inflight--;
    shard->store_size -= size_of(op);
}

bool tp_budget_store_is_full(const struct tp_shard *shard)
{
    return shard->store_size > shard->config->store_queue;
}

void tp_budget_resume(struct tp_shard *shard)
{
    if (shard->store_size > shard->config->store_queue / 2)
        return;
    for (struct tp_link *link; (link = tp_list_pop(&shard->waiting)) != NULL;)
        tp_document_resume(TP_CONTAINER(link, struct tp_document, in_waiting));
}
