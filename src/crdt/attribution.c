#include "crdt/attribution.h"

#include <stdlib.h>

#include "crdt/update.h"
#include "wire/any.h"
#include "wire/container.h"
#include "wire/record.h"

#define ANY_DEPTH_MAX 64u
#define JOIN_MS 1000.0 /* entries of one user that are closer than this are one */

/* ---- from the store -----------------------------------------------------------------------------
 */

enum tp_status tp_attribution_add_kept(struct tp_content_map *map, struct tp_slice value)
{
    if (value.size == 0)
        return TP_OK;
    if (value.data[0] != TP_RECORD_ATTRIBUTION)
        return TP_MALFORMED;
    return tp_content_map_add(map, tp_slice_of(value.data + 1, value.size - 1));
}

static enum tp_status add_entry(struct tp_content_map *map, const struct tp_log_entry *entry)
{
    struct tp_message_update update = {.v2 = entry->update};
    struct tp_buffer ids = tp_buffer_growing(SIZE_MAX);
    enum tp_status status = TP_OK;

    if (entry->user.size == 0 || entry->is_first_sync)
        return TP_OK;
    if (entry->encoding == TP_RECORD_CONTAINER)
        status = tp_container_decode(entry->update, &update);
    if (status == TP_OK)
        status = tp_update_content_ids(
            update.v2, entry->encoding == TP_RECORD_V1 ? TP_UPDATE_V1 : TP_UPDATE_V2, &ids);
    if (status == TP_OK)
        status = tp_content_map_add_ids(map, tp_buffer_slice(&ids), entry->user, entry->wall_ms);
    tp_buffer_finish(&ids);
    return status;
}

enum tp_status tp_attribution_add_log(struct tp_content_map *map, struct tp_slice value)
{
    struct tp_log_entry entry;
    enum tp_status status;

    while ((status = tp_log_entry_next(&value, &entry)) == TP_OK) {
        status = add_entry(map, &entry);
        if (status != TP_OK)
            return status;
    }
    return status == TP_ABSENT ? TP_OK : status;
}

void tp_attribution_encode(struct tp_content_map *map, struct tp_buffer *out)
{
    if (tp_content_map_is_empty(map))
        return;
    tp_write_u8(out, TP_RECORD_ATTRIBUTION);
    tp_content_map_encode(map, out);
}

/* ---- conditions ---------------------------------------------------------------------------------
 */

static const char *const users[TP_CONTENT_COUNT] = {"insert", "delete"};
static const char *const times[TP_CONTENT_COUNT] = {"insertAt", "deleteAt"};

/* False: it is no number. */
static bool number_of(struct tp_slice value, double *out)
{
    struct tp_reader in = tp_reader_of(value);
    struct tp_any any;

    if (value.data == NULL || tp_any_read(&in, &any) != TP_OK)
        return false;
    if (any.tag == TP_ANY_BIGINT)
        *out = (double)any.bigint;
    else if (any.tag == TP_ANY_INTEGER || any.tag == TP_ANY_F32 || any.tag == TP_ANY_F64)
        *out = any.number;
    else
        return false;
    return true;
}

/* Data NULL: it is no text. */
static struct tp_slice text_of(struct tp_slice value)
{
    struct tp_reader in = tp_reader_of(value);
    struct tp_any any;

    if (value.data == NULL || tp_any_read(&in, &any) != TP_OK || any.tag != TP_ANY_STRING)
        return (struct tp_slice){0};
    return any.bytes;
}

/* Equal as bytes, or as numbers: one number may be written in several ways. */
static bool is_equal(struct tp_slice a, struct tp_slice b)
{
    double x, y;

    if (number_of(a, &x) && number_of(b, &y))
        return x == y;
    return tp_slice_equal(a, b);
}

static bool has_attributes(const struct tp_content_map *map, const struct tp_content_range *range,
                           struct tp_slice wanted)
{
    struct tp_reader in = tp_reader_of(wanted);
    struct tp_any head;

    if (tp_any_read(&in, &head) != TP_OK || head.tag != TP_ANY_OBJECT)
        return false;
    for (uint64_t i = 0; i < head.count; i++) {
        const struct tp_slice name = tp_read_string(&in);
        const uint8_t *value = in.at;
        bool found = false;
        if (in.bad || tp_any_skip(&in, ANY_DEPTH_MAX) != TP_OK)
            return false;
        for (uint32_t k = 0; k < range->attribute_count && !found; k++) {
            const struct tp_content_attribute attribute =
                tp_content_map_attribute(map, range->attributes[k]);
            found = tp_slice_equal(attribute.name, name) &&
                    is_equal(attribute.value, tp_slice_of(value, (size_t)(in.at - value)));
        }
        if (!found)
            return false;
    }
    return true;
}

static bool keeps(const void *context, const struct tp_content_map *map,
                  const struct tp_content_range *range)
{
    const struct tp_attribution_query *query = context;
    double at;

    if (query->user.data != NULL) {
        const struct tp_slice user =
            text_of(tp_content_map_find(map, range, users[range->content]).value);
        if (user.data == NULL || !tp_slice_equal(user, query->user))
            return false;
    }
    if (number_of(tp_content_map_find(map, range, times[range->content]).value, &at) &&
        ((query->has_from && at < query->from_ms) || (query->has_to && at > query->to_ms)))
        return false;
    return query->attributes.data == NULL || has_attributes(map, range, query->attributes);
}

/* ---- activity -----------------------------------------------------------------------------------
 */

struct entry {
    double from_ms, to_ms;
    struct tp_slice user; /* data NULL: nobody */
    struct tp_content_range range;
    size_t nth;
};

static int by_time(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;

    if (a->from_ms != b->from_ms)
        return a->from_ms < b->from_ms ? -1 : 1;
    return a->nth < b->nth ? -1 : 1;
}

static bool says_who_or_when(struct tp_slice name)
{
    for (unsigned i = 0; i < TP_CONTENT_COUNT; i++)
        if (tp_slice_equal(name, tp_slice_of(users[i], strlen(users[i]))) ||
            tp_slice_equal(name, tp_slice_of(times[i], strlen(times[i]))))
            return true;
    return false;
}

/* Whatever else `a` says, `b` says too. */
static bool covers(const struct tp_content_map *map, const struct tp_content_range *a,
                   const struct tp_content_range *b)
{
    for (uint32_t i = 0; i < a->attribute_count; i++) {
        const struct tp_content_attribute one = tp_content_map_attribute(map, a->attributes[i]);
        bool found = says_who_or_when(one.name);
        for (uint32_t k = 0; k < b->attribute_count && !found; k++) {
            const struct tp_content_attribute other =
                tp_content_map_attribute(map, b->attributes[k]);
            found = tp_slice_equal(one.name, other.name) && is_equal(one.value, other.value);
        }
        if (!found)
            return false;
    }
    return true;
}

static bool is_same(const struct tp_content_map *map, const struct entry *a, const struct entry *b)
{
    if (a->user.data == NULL || b->user.data == NULL) {
        if (a->user.data != b->user.data)
            return false;
    } else if (!tp_slice_equal(a->user, b->user)) {
        return false;
    }
    return covers(map, &a->range, &b->range) && covers(map, &b->range, &a->range);
}

static void write_name(struct tp_buffer *out, const char *name)
{
    tp_write_bytes(out, tp_slice_of(name, strlen(name)));
}

static void write_entry(const struct tp_content_map *map, const struct entry *entry,
                        struct tp_buffer *out)
{
    const struct tp_content_range *range = &entry->range;
    uint64_t count = 0;

    tp_any_write_object(out, 4);
    write_name(out, "from");
    tp_any_write_number(out, entry->from_ms);
    write_name(out, "to");
    tp_any_write_number(out, entry->to_ms);
    write_name(out, "userId");
    if (entry->user.data == NULL)
        tp_write_u8(out, TP_ANY_NULL);
    else
        tp_any_write_string(out, entry->user);
    write_name(out, "attributes");
    for (int writing = 0; writing < 2; writing++) { /* of equal names the last counts */
        if (writing)
            tp_any_write_object(out, count);
        for (uint32_t i = 0; i < range->attribute_count; i++) {
            const struct tp_content_attribute attribute =
                tp_content_map_attribute(map, range->attributes[i]);
            bool again = false;
            for (uint32_t k = i + 1; k < range->attribute_count && !again; k++)
                again = tp_slice_equal(tp_content_map_attribute(map, range->attributes[k]).name,
                                       attribute.name);
            if (again)
                continue;
            count += !writing;
            if (writing) {
                tp_write_bytes(out, attribute.name);
                tp_write_raw(out, attribute.value);
            }
        }
    }
}

/* All ranges that say when, as entries. */
static struct entry *list_entries(struct tp_content_map *map, size_t *count)
{
    struct entry *entries = NULL;
    struct tp_content_range range;
    size_t at = 0, room = 0;

    *count = 0;
    while (tp_content_map_next(map, &at, &range)) {
        struct entry entry = {.range = range, .nth = *count};
        if (!number_of(tp_content_map_find(map, &range, times[range.content]).value,
                       &entry.from_ms))
            continue;
        entry.to_ms = entry.from_ms;
        entry.user = text_of(tp_content_map_find(map, &range, users[range.content]).value);
        if (*count == room) {
            room = room == 0 ? 64 : 2 * room;
            entries = realloc(entries, room * sizeof *entries);
            TP_ASSERT(entries != NULL);
        }
        entries[(*count)++] = entry;
    }
    return entries;
}

static void write_activity(struct tp_content_map *map, struct tp_buffer *out)
{
    size_t count, kept = 0;
    struct entry *entries = list_entries(map, &count);

    if (count > 0)
        qsort(entries, count, sizeof *entries, by_time);
    for (size_t i = 0; i < count; i++) {
        struct entry *last = kept == 0 ? NULL : &entries[kept - 1];
        if (last != NULL && entries[i].from_ms - last->to_ms < JOIN_MS &&
            is_same(map, last, &entries[i]))
            last->to_ms = entries[i].to_ms;
        else
            entries[kept++] = entries[i];
    }
    tp_any_write_array(out, kept);
    for (size_t i = 0; i < kept; i++)
        write_entry(map, &entries[i], out);
    free(entries);
}

enum tp_status tp_attribution_answer(struct tp_content_map *map,
                                     const struct tp_attribution_query *query,
                                     struct tp_buffer *out)
{
    tp_content_map_filter(map, keeps, query);
    if (query->kind == TP_ATTRIBUTION_INCREMENTAL) {
        const enum tp_status status = tp_content_map_cut(map, query->known_ids, false);
        if (status != TP_OK)
            return status;
    }
    if (query->kind == TP_ATTRIBUTION_ACTIVITY)
        write_activity(map, out);
    else
        tp_content_map_encode(map, out);
    return out->full ? TP_FULL : TP_OK;
}
