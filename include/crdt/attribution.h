/* crdt/attribution.h - what a document's log says of who made what, and questions about it (spec 02
 * section 12, 03 section 5.4).
 *
 *     kept:  61 | ContentMap of what is folded into the base       compaction adds to it
 *     log:   entries with user and time                            the rest
 *
 * Only updates of users that are known count, as received: not first syncs, which may hold what
 * others have made. Nothing is kept per update but the log entry, which there is anyway. */
#pragma once

#include "crdt/content_map.h"

/* Above this, what is new is not attributed any more. */
#define TP_ATTRIBUTION_SIZE_MAX ((size_t)64 << 20)

/* Adds a kept row's value; empty: there is none. */
TP_MUST_CHECK enum tp_status tp_attribution_add_kept(struct tp_content_map *map,
                                                     struct tp_slice value);
/* Adds what a row of the log says. */
TP_MUST_CHECK enum tp_status tp_attribution_add_log(struct tp_content_map *map,
                                                    struct tp_slice value);
/* Writes a row to keep; nothing for an empty map. */
void tp_attribution_encode(struct tp_content_map *map, struct tp_buffer *out);

struct tp_attribution_query {
    enum { TP_ATTRIBUTION_GET, TP_ATTRIBUTION_INCREMENTAL, TP_ATTRIBUTION_ACTIVITY } kind;
    struct tp_slice known_ids; /* INCREMENTAL: ContentIds */
    struct tp_slice user;      /* data NULL: anybody */
    bool has_from, has_to;
    double from_ms, to_ms;
    struct tp_slice
        attributes; /* an `any` object: each member is there and equal; data NULL: any */
};

/* GET and INCREMENTAL: a ContentMap. ACTIVITY: an `any` array. Changes `map`. */
TP_MUST_CHECK enum tp_status tp_attribution_answer(struct tp_content_map *map,
                                                   const struct tp_attribution_query *query,
                                                   struct tp_buffer *out);
