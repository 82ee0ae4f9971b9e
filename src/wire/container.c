#include "wire/container.h"

#include "wire/any.h"

#define NOTHING_SIZE 2u /* no sidecars, no compaction: 00 00 */

static struct tp_slice between(const uint8_t *from, const uint8_t *to)
{
    return (struct tp_slice){from, (size_t)(to - from)};
}

/* Passes `count` byte strings. */
static void pass_bytes(struct tp_reader *in, uint64_t count)
{
    for (uint64_t i = 0; i < count && !in->bad; i++)
        tp_read_bytes(in);
}

static void pass_ranges(struct tp_reader *in, uint64_t count)
{
    for (uint64_t i = 0; i < 3 * count && !in->bad; i++)
        tp_read_varuint(in);
}

/* Reads the compaction behind its flag; `out` may be half filled when `in` is bad. */
static void read_compaction(struct tp_reader *in, struct tp_container_compaction *out)
{
    out->sidecar = tp_read_bytes(in);
    out->index.left = tp_read_count(in, 3);
    const uint8_t *const index = in->at;
    pass_ranges(in, out->index.left);
    out->index.rest = between(index, in->at);
    out->hash = tp_read_bytes(in);
    out->sources.left = tp_read_count(in, 1);
    const uint8_t *const sources = in->at;
    pass_bytes(in, out->sources.left);
    out->sources.rest = between(sources, in->at);
}

enum tp_status tp_container_decode(struct tp_slice container, struct tp_message_update *out)
{
    struct tp_reader in = tp_reader_of(container);
    struct tp_container_compaction compaction;

    in.bad |= tp_read_varuint(&in) != TP_CONTAINER_VERSION;
    const struct tp_slice structure = tp_read_bytes(&in);
    const uint8_t *const behind = in.at;
    const uint64_t sidecar_count = tp_read_count(&in, 1);
    pass_bytes(&in, sidecar_count);
    const uint8_t flag = in.at < in.end ? tp_read_u8(&in) : 0; /* may be missing; only 1 says yes */
    if (flag == 1)
        read_compaction(&in, &compaction);

    out->container = container;
    out->bad_container = in.bad;
    out->v2 = out->sidecars = (struct tp_slice){0};
    out->sidecar_count = 0;
    out->compaction = false;
    if (in.bad)
        return TP_MALFORMED;
    out->v2 = structure;
    out->sidecar_count = (uint32_t)sidecar_count;
    out->compaction = flag == 1;
    if (sidecar_count > 0 || flag == 1)
        out->sidecars = between(behind, in.at);
    return TP_OK;
}

void tp_container_encode(const struct tp_message_update *update, struct tp_buffer *out)
{
    tp_write_varuint(out, TP_CONTAINER_VERSION);
    tp_write_bytes(out, update->v2);
    if (update->sidecars.size > 0)
        tp_write_raw(out, update->sidecars);
    else
        tp_write_raw(out, TP_SLICE("\0\0"));
}

size_t tp_container_size(const struct tp_message_update *update)
{
    return tp_varuint_size(TP_CONTAINER_VERSION) + tp_varuint_size(update->v2.size) +
           update->v2.size + (update->sidecars.size > 0 ? update->sidecars.size : NOTHING_SIZE);
}

struct tp_container_walk tp_container_sidecars(const struct tp_message_update *update)
{
    struct tp_reader in = tp_reader_of(update->sidecars);

    if (update->sidecar_count == 0)
        return (struct tp_container_walk){0};
    const uint64_t count = tp_read_varuint(&in);
    TP_ASSERT(!in.bad && count == update->sidecar_count);
    return (struct tp_container_walk){.rest = between(in.at, in.end), .left = count};
}

bool tp_container_bytes_next(struct tp_container_walk *walk, struct tp_slice *out)
{
    struct tp_reader in = tp_reader_of(walk->rest);

    if (walk->left == 0)
        return false;
    *out = tp_read_bytes(&in);
    TP_ASSERT(!in.bad); /* decode has been here */
    *walk = (struct tp_container_walk){.rest = between(in.at, in.end), .left = walk->left - 1};
    return true;
}

bool tp_container_range_next(struct tp_container_walk *walk, struct tp_container_range *out)
{
    struct tp_reader in = tp_reader_of(walk->rest);

    if (walk->left == 0)
        return false;
    out->client = tp_read_varuint(&in);
    out->min_clock = tp_read_varuint(&in);
    out->max_clock = tp_read_varuint(&in);
    TP_ASSERT(!in.bad); /* decode has been here */
    *walk = (struct tp_container_walk){.rest = between(in.at, in.end), .left = walk->left - 1};
    return true;
}

struct tp_container_compaction tp_container_compaction(const struct tp_message_update *update)
{
    struct tp_reader in = tp_reader_of(update->sidecars);
    struct tp_container_compaction compaction;

    TP_ASSERT(update->compaction);
    pass_bytes(&in, tp_read_varuint(&in));
    tp_read_u8(&in);
    read_compaction(&in, &compaction);
    TP_ASSERT(!in.bad); /* decode has been here */
    return compaction;
}
