/* golden/any_vectors.h - lib0's `any` against the value notation of the wire vectors: plain JSON,
 * and objects with a member "$" for what JSON lacks. */
#pragma once

#include "golden/vectors.h"
#include "wire/any.h"

/* Reads one value and fails the test unless it is `want`. */
void any_vectors_expect(struct tp_reader *in, const json_t *want, const char *name);

/* Writes `value` as lib0 does. */
void any_vectors_write(const json_t *value, struct tp_buffer *out);
