/* crdt/json.h - JSON text and lib0's `any` (wire/any.h), turned into each other.
 *
 * V1 updates carry embeds and formats as JSON text, V2 updates as `any` (spec 04 sections 2 and
 * 8.3). The rules are those of a JavaScript peer, so that a value that went through us and one that
 * went through JSON.parse and JSON.stringify have the same bytes.
 *
 * Depth counts open arrays and objects: a number has 0, [] has 1. Past `depth_max`, or past
 * TP_JSON_DEPTH_MAX whatever `depth_max` says, a value is TP_MALFORMED. Nothing here recurses: the
 * stack needed is a few kilobytes for any input, the time is linear in the text (n log n in the
 * keys of one object). Text of 2 GiB and more is TP_MALFORMED. */
#pragma once

#include "wire/any.h"

#define TP_JSON_DEPTH_MAX TP_ANY_DEPTH_MAX

/* TP_OK if `text` is one strict RFC 8259 value in valid UTF-8, white space around it allowed. */
TP_MUST_CHECK enum tp_status tp_json_check(struct tp_slice text, uint32_t depth_max);

/* Appends the `any` of what JSON.parse makes of `text`: integer-like keys first and in order, the
 * last of equal keys in the place of the first, half surrogate escapes as U+FFFD. TP_MALFORMED as
 * tp_json_check, and nothing is written then. TP_FULL: `out` became full. */
TP_MUST_CHECK enum tp_status tp_json_to_any(struct tp_slice text, uint32_t depth_max,
                                            struct tp_buffer *out);

/* Passes one `any` and appends what JSON.stringify makes of it. TP_DENIED: it has no JSON form (a
 * bigint, undefined outside of arrays and objects, bytes where their object would nest too deep).
 * TP_MALFORMED as tp_any_skip, TP_FULL as above. In all three cases the tail of `out` is to be
 * thrown away, and `any` has not reached the value's end. Keys keep their order; a key that is
 * there twice is written twice. */
TP_MUST_CHECK enum tp_status tp_any_to_json(struct tp_reader *any, uint32_t depth_max,
                                            struct tp_buffer *out);
