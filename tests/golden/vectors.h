/* golden/vectors.h - reading test vectors: JSON files with base64 fields, and keystroke traces.
 *
 * What a helper returns lives until the test's process ends: Criterion runs each test in a process
 * of its own, so nothing is freed one by one. A missing file or field fails the test. */
#pragma once

#include <jansson.h>

#include "base/buffer.h"

/* `path` is relative to tests/vectors. */
json_t *vectors_load(const char *path);

/* For each element of the array `name` in `object`. */
#define VECTORS_EACH(object, name, element)                                                   \
    for (size_t each_##element = 0, end_##element = vectors_count(object, name);              \
         each_##element < end_##element; each_##element++)                                    \
        for (json_t *element = json_array_get(json_object_get(object, name), each_##element); \
             element != NULL; element = NULL)

size_t vectors_count(const json_t *object, const char *name); /* 0 elements fail the test */

struct tp_slice vectors_base64(const json_t *text);
struct tp_slice vectors_bytes(const json_t *object, const char *name); /* a base64 field */
struct tp_slice vectors_hex(const json_t *object, const char *name);   /* a hexadecimal field */
const char *vectors_text(const json_t *object, const char *name);

/* The bytes of a text field, which may hold NUL. */
struct tp_slice vectors_string(const json_t *object, const char *name);
struct tp_slice vectors_unhex(const json_t *text);

/* An array of base64 texts. */
struct tp_slice *vectors_list(const json_t *array, size_t *count);

/* The updates of a trace: gzip of repeated (varuint size, bytes). `raw` may be NULL: all bytes. */
struct tp_slice *vectors_trace(const char *path, size_t *count, struct tp_slice *raw);

/* Lower case hexadecimal of the SHA-256. */
const char *vectors_sha256(struct tp_slice bytes);

/* Fails the test unless equal; says `what` and where they part. */
void vectors_expect(struct tp_slice got, struct tp_slice want, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
