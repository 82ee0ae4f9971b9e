#include "crdt/sidecars.h"

#include "base/hash.h"
#include "wire/reader.h"
#include "wire/writer.h"

/* ---- entries ------------------------------------------------------------------------------------
 */

enum tp_status tp_sidecars_next(struct tp_slice *rest, struct tp_sidecar *out)
{
    struct tp_reader in = tp_reader_of(*rest);

    if (rest->size == 0)
        return TP_ABSENT;
    out->bytes = tp_read_bytes(&in);
    out->hash = tp_read_raw(&in, TP_SHA256_SIZE);
    const uint64_t count = tp_read_varuint(&in);
    const uint8_t *const index = in.at;
    in.bad |= count > tp_reader_left(&in) / 3;
    for (uint64_t i = 0; i < 3 * count && !in.bad; i++)
        tp_read_varuint(&in);
    if (in.bad)
        return TP_MALFORMED;
    out->index = (struct tp_container_walk){.rest = tp_slice_of(index, (size_t)(in.at - index)),
                                            .left = count};
    out->entry = tp_slice_of(rest->data, (size_t)(in.at - rest->data));
    *rest = tp_slice_of(in.at, tp_reader_left(&in));
    return TP_OK;
}

/* The entries of a list of ours are sound: they were looked at when they came in. */
static bool next(struct tp_slice *rest, struct tp_sidecar *out)
{
    const enum tp_status status = tp_sidecars_next(rest, out);

    TP_ASSERT(status == TP_OK || status == TP_ABSENT);
    return status == TP_OK;
}

static void write_range(struct tp_buffer *list, uint64_t client, uint64_t first, uint64_t last)
{
    tp_write_varuint(list, client);
    tp_write_varuint(list, first);
    tp_write_varuint(list, last);
}

void tp_sidecars_hash(const struct tp_message_update *update, struct tp_buffer *digests)
{
    struct tp_container_walk walk = tp_container_sidecars(update);
    uint8_t digest[TP_SHA256_SIZE];
    struct tp_slice bytes;

    while (tp_container_bytes_next(&walk, &bytes)) {
        tp_sha256(bytes, digest);
        tp_buffer_append(digests, digest, sizeof digest);
    }
    if (update->compaction) {
        tp_sha256(tp_container_compaction(update).sidecar, digest);
        tp_buffer_append(digests, digest, sizeof digest);
    }
}

/* ---- compactions --------------------------------------------------------------------------------
 */

static int order_of_hashes(const void *a, const void *b)
{
    return memcmp(((const struct tp_slice *)a)->data, ((const struct tp_slice *)b)->data,
                  TP_SHA256_SIZE);
}

static int order_of_ranges(const void *a, const void *b)
{
    const struct tp_container_range *one = a, *other = b;

    if (one->client != other->client)
        return one->client < other->client ? -1 : 1;
    return one->min_clock < other->min_clock ? -1 : one->min_clock > other->min_clock;
}

/* Ranges by client and clock; those of a client neither touch nor overlap. */
struct ranges {
    struct tp_container_range *items;
    size_t count;
};

static struct ranges read_ranges(struct tp_container_walk walk)
{
    struct ranges ranges = {.items = calloc(walk.left + 1, sizeof *ranges.items)};
    size_t count = 0;

    TP_ASSERT(ranges.items != NULL);
    while (tp_container_range_next(&walk, &ranges.items[count]))
        count += ranges.items[count].min_clock <= ranges.items[count].max_clock;
    qsort(ranges.items, count, sizeof *ranges.items, order_of_ranges);
    for (size_t i = 0; i < count; i++) {
        struct tp_container_range *last = &ranges.items[ranges.count - (ranges.count > 0)];
        const struct tp_container_range range = ranges.items[i];
        if (ranges.count > 0 && last->client == range.client &&
            range.min_clock <= last->max_clock + 1)
            last->max_clock = tp_max(last->max_clock, range.max_clock);
        else
            ranges.items[ranges.count++] = range;
    }
    return ranges;
}

static bool has(const struct ranges *ranges, struct tp_container_range want)
{
    size_t low = 0, high = ranges->count; /* the first that begins behind `want` */

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (order_of_ranges(&ranges->items[middle], &want) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && ranges->items[low - 1].client == want.client &&
           ranges->items[low - 1].max_clock >= want.max_clock;
}

static bool covers(const struct ranges *ranges, struct tp_container_walk index)
{
    struct tp_container_range range;

    while (tp_container_range_next(&index, &range))
        if (!has(ranges, range))
            return false;
    return true;
}

static bool is_source(const struct tp_slice *sources, size_t count, struct tp_slice hash)
{
    return bsearch(&hash, sources, count, sizeof *sources, order_of_hashes) != NULL;
}

/* False: a source has a clock that the compaction says nothing about, or none is here. */
static bool may_replace(struct tp_slice list, const struct tp_slice *sources, size_t count,
                        const struct ranges *ranges)
{
    struct tp_sidecar sidecar;
    bool any = false;

    while (next(&list, &sidecar)) {
        if (!is_source(sources, count, sidecar.hash))
            continue;
        any = true;
        if (!covers(ranges, sidecar.index))
            return false;
    }
    return any;
}

static void replace(struct tp_buffer *list, const struct tp_slice *sources, size_t count,
                    const struct tp_container_compaction *compaction, const struct ranges *ranges)
{
    struct tp_buffer replaced = tp_buffer_growing(list->size_max);
    struct tp_slice rest = tp_buffer_slice(list);
    struct tp_sidecar sidecar;

    tp_write_bytes(&replaced, compaction->sidecar);
    tp_write_raw(&replaced, compaction->hash);
    tp_write_varuint(&replaced, ranges->count);
    for (size_t i = 0; i < ranges->count; i++)
        write_range(&replaced, ranges->items[i].client, ranges->items[i].min_clock,
                    ranges->items[i].max_clock);
    while (next(&rest, &sidecar))
        if (!is_source(sources, count, sidecar.hash))
            tp_write_raw(&replaced, sidecar.entry);
    tp_buffer_finish(list);
    *list = replaced;
}

static void compact(struct tp_buffer *list, const struct tp_message_update *update,
                    struct tp_slice digest)
{
    const struct tp_container_compaction compaction = tp_container_compaction(update);
    struct tp_container_walk walk = compaction.sources;
    struct tp_slice hash;
    size_t count = 0;

    if (compaction.sources.left > TP_COMPACTION_SOURCE_COUNT_MAX ||
        compaction.index.left > TP_COMPACTION_RANGE_COUNT_MAX ||
        !tp_slice_equal(compaction.hash, digest))
        return;
    struct tp_slice *sources = calloc(compaction.sources.left + 1, sizeof *sources);
    TP_ASSERT(sources != NULL);
    while (tp_container_bytes_next(&walk, &hash))
        if (hash.size == TP_SHA256_SIZE)
            sources[count++] = hash;
    qsort(sources, count, sizeof *sources, order_of_hashes);
    struct ranges ranges = read_ranges(compaction.index);
    if (may_replace(tp_buffer_slice(list), sources, count, &ranges))
        replace(list, sources, count, &compaction, &ranges);
    free(ranges.items);
    free(sources);
}

/* ---- lists --------------------------------------------------------------------------------------
 */

static bool is_listed(struct tp_slice list, struct tp_slice entry)
{
    struct tp_sidecar sidecar;

    while (next(&list, &sidecar))
        if (tp_slice_equal(sidecar.entry, entry))
            return true;
    return false;
}

void tp_sidecars_fold(struct tp_buffer *list, const struct tp_message_update *update,
                      struct tp_slice digests, const struct tp_update_range *ranges,
                      size_t range_count)
{
    struct tp_container_walk walk = tp_container_sidecars(update);
    struct tp_slice bytes;
    const uint8_t *digest = digests.data;

    TP_ASSERT(digests.size ==
              TP_SHA256_SIZE * ((size_t)update->sidecar_count + update->compaction));
    if (update->compaction)
        compact(
            list, update,
            tp_slice_of(digest + TP_SHA256_SIZE * (size_t)update->sidecar_count, TP_SHA256_SIZE));
    for (; tp_container_bytes_next(&walk, &bytes); digest += TP_SHA256_SIZE) {
        const size_t from = list->size;
        if (range_count == 0)
            continue;
        tp_write_bytes(list, bytes);
        tp_buffer_append(list, digest, TP_SHA256_SIZE);
        tp_write_varuint(list, range_count);
        for (size_t i = 0; i < range_count; i++)
            write_range(list, ranges[i].client, ranges[i].from, ranges[i].to - 1);
        /* A client that was not told sends the same again. */
        if (is_listed(tp_slice_of(list->data, from),
                      tp_slice_of(list->data + from, list->size - from)))
            list->size = from;
    }
}

void tp_sidecars_join(struct tp_buffer *list, struct tp_slice more)
{
    const size_t size = list->size;
    struct tp_sidecar sidecar;

    while (next(&more, &sidecar))
        if (!is_listed(tp_slice_of(list->data, size), sidecar.entry))
            tp_write_raw(list, sidecar.entry);
}

static bool says_of(struct tp_container_walk index, const struct ranges *ranges)
{
    struct tp_container_range range;

    while (tp_container_range_next(&index, &range)) {
        size_t low = 0, high = ranges->count; /* the first that ends at or behind its first clock */
        while (low < high) {
            const size_t middle = low + (high - low) / 2;
            const struct tp_container_range *item = &ranges->items[middle];
            if (item->client < range.client ||
                (item->client == range.client && item->max_clock < range.min_clock))
                low = middle + 1;
            else
                high = middle;
        }
        if (low < ranges->count && ranges->items[low].client == range.client &&
            ranges->items[low].min_clock <= range.max_clock)
            return true;
    }
    return false;
}

uint32_t tp_sidecars_select(struct tp_slice list, const struct tp_update_range *ranges,
                            size_t range_count, struct tp_buffer *out)
{
    struct ranges wanted = {.items = calloc(range_count + 1, sizeof *wanted.items),
                            .count = range_count};
    struct tp_sidecar sidecar;
    uint32_t count = 0;

    TP_ASSERT(wanted.items != NULL);
    for (size_t i = 0; i < range_count; i++)
        wanted.items[i] =
            (struct tp_container_range){ranges[i].client, ranges[i].from, ranges[i].to - 1};
    qsort(wanted.items, range_count, sizeof *wanted.items, order_of_ranges);
    for (struct tp_slice rest = list; next(&rest, &sidecar);)
        count += says_of(sidecar.index, &wanted);
    tp_write_varuint(out, count);
    for (struct tp_slice rest = list; next(&rest, &sidecar);)
        if (says_of(sidecar.index, &wanted))
            tp_write_bytes(out, sidecar.bytes);
    tp_write_u8(out, 0); /* no compaction */
    free(wanted.items);
    return count;
}

/* ---- a whole document ---------------------------------------------------------------------------
 */

void tp_sealed_encode(struct tp_slice v1, struct tp_slice list, struct tp_buffer *out)
{
    tp_write_bytes(out, v1);
    tp_write_raw(out, list);
}

enum tp_status tp_sealed_decode(struct tp_slice bytes, struct tp_slice *v1, struct tp_slice *list)
{
    struct tp_reader in = tp_reader_of(bytes);
    struct tp_sidecar sidecar;
    enum tp_status status;

    *v1 = tp_read_bytes(&in);
    if (in.bad)
        return TP_MALFORMED;
    *list = tp_slice_of(in.at, tp_reader_left(&in));
    struct tp_slice rest = *list;
    while ((status = tp_sidecars_next(&rest, &sidecar)) == TP_OK)
        continue;
    return status == TP_ABSENT ? TP_OK : status;
}
