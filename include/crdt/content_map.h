/* crdt/content_map.h - who made which part of a document, and when (spec 03 section 5).
 *
 *     IdSet       clients | client | ranges | gap, length - 1 | ...         clocks, gaps between
 * them ContentIds  IdSet of what is inserted, IdSet of what is deleted (tp_update_content_ids)
 *     IdMap       as IdSet, clients ascending as differences; each range with its attributes:
 *                     count | index into those seen so far, or a new one: name, `any` value
 *     ContentMap  IdMap of what is inserted, IdMap of what is deleted
 *
 * A map is put together from any number of others, in order: where two speak of the same clocks the
 * later one wins. Attributes are compared as bytes; equal ones are kept once. Inputs are a
 * stranger's: TP_MALFORMED for anything that cannot be read, and no allocation is larger than what
 * is really there. */
#pragma once

#include "base/buffer.h"

enum tp_content { TP_CONTENT_INSERTS, TP_CONTENT_DELETES, TP_CONTENT_COUNT };

struct tp_content_map;

struct tp_content_map *tp_content_map_create(void);
void tp_content_map_destroy(struct tp_content_map *map);

/* Puts a ContentMap over what is there. */
TP_MUST_CHECK enum tp_status tp_content_map_add(struct tp_content_map *map, struct tp_slice bytes);
/* Puts ContentIds over what is there, as made by `user` at `wall_ms` (spec 02 section 12). */
TP_MUST_CHECK enum tp_status tp_content_map_add_ids(struct tp_content_map *map, struct tp_slice ids,
                                                    struct tp_slice user, uint64_t wall_ms);

/* Keeps what is in ContentIds, or what is not. */
TP_MUST_CHECK enum tp_status tp_content_map_cut(struct tp_content_map *map, struct tp_slice ids,
                                                bool keep_inside);

struct tp_content_attribute {
    struct tp_slice name;
    struct tp_slice value; /* one `any` */
};

/* One range of a normal map. */
struct tp_content_range {
    enum tp_content content;
    uint64_t client, from, to;
    uint32_t attribute_count;
    const uint32_t *attributes; /* for tp_content_map_attribute */
};

struct tp_content_attribute tp_content_map_attribute(const struct tp_content_map *map,
                                                     uint32_t index);
/* The attribute of this name; value.data NULL: none. The last of several. */
struct tp_content_attribute tp_content_map_find(const struct tp_content_map *map,
                                                const struct tp_content_range *range,
                                                const char *name);

/* In order: inserts before deletes, clients and clocks ascending. `at` starts with 0. */
bool tp_content_map_next(struct tp_content_map *map, size_t *at, struct tp_content_range *out);
/* Keeps what `keep` says true of. */
void tp_content_map_filter(struct tp_content_map *map,
                           bool (*keep)(const void *context, const struct tp_content_map *map,
                                        const struct tp_content_range *range),
                           const void *context);

bool tp_content_map_is_empty(const struct tp_content_map *map);
void tp_content_map_encode(struct tp_content_map *map, struct tp_buffer *out);
