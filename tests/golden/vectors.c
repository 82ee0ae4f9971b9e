#include "golden/vectors.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <zlib.h>

#include "base/hash.h"
#include "wire/reader.h"

#define PATH_SIZE_MAX 256

/* Holds on to what lives until the process ends, so that the leak check reports only leaks. */
static void *keep(void *memory)
{
    static struct tp_buffer kept = {.size_max = SIZE_MAX / 2};

    tp_buffer_append(&kept, &memory, sizeof memory);
    return memory;
}

json_t *vectors_load(const char *path)
{
    char whole[PATH_SIZE_MAX];
    json_error_t error;

    snprintf(whole, sizeof whole, "tests/vectors/%s", path);
    /* ALLOW_NUL: some expected contents hold U+0000 */
    json_t *root = json_load_file(whole, JSON_ALLOW_NUL, &error);
    cr_assert_not_null(root, "%s:%d: %s", whole, error.line, error.text);
    return keep(root);
}

size_t vectors_count(const json_t *object, const char *name)
{
    const size_t count = json_array_size(json_object_get(object, name));

    cr_assert(count > 0, "no elements in \"%s\"", name);
    return count;
}

struct tp_slice vectors_base64(const json_t *text)
{
    struct tp_buffer bytes = tp_buffer_growing(SIZE_MAX / 2);

    cr_assert(json_is_string(text));
    cr_assert_eq(
        tp_base64_decode(tp_slice_of(json_string_value(text), json_string_length(text)), &bytes),
        TP_OK);
    /* exactly as large as its contents, so that the sanitizer sees each byte read past the end */
    uint8_t *exact = keep(malloc(bytes.size));
    const struct tp_slice slice = tp_slice_of(exact, bytes.size);
    if (bytes.size > 0)
        memcpy(exact, bytes.data, bytes.size);
    tp_buffer_finish(&bytes);
    return slice;
}

struct tp_slice vectors_bytes(const json_t *object, const char *name)
{
    const json_t *text = json_object_get(object, name);

    cr_assert_not_null(text, "no field \"%s\"", name);
    return vectors_base64(text);
}

static unsigned hex_digit(char c)
{
    cr_assert((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'), "'%c' is no digit", c);
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

struct tp_slice vectors_unhex(const json_t *text)
{
    const size_t size = json_string_length(text) / 2;
    const char *digits = json_string_value(text);

    cr_assert_not_null(digits);
    uint8_t *bytes = keep(malloc(size)); /* exact, as above */
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(hex_digit(digits[2 * i]) << 4 | hex_digit(digits[2 * i + 1]));
    return tp_slice_of(bytes, size);
}

struct tp_slice vectors_hex(const json_t *object, const char *name)
{
    const json_t *text = json_object_get(object, name);

    cr_assert(json_is_string(text), "no hexadecimal \"%s\"", name);
    return vectors_unhex(text);
}

struct tp_slice vectors_string(const json_t *object, const char *name)
{
    const json_t *text = json_object_get(object, name);

    cr_assert(json_is_string(text), "no text \"%s\"", name);
    return tp_slice_of(json_string_value(text), json_string_length(text));
}

const char *vectors_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    cr_assert_not_null(text, "no text \"%s\"", name);
    return text;
}

struct tp_slice *vectors_list(const json_t *array, size_t *count)
{
    *count = json_array_size(array);
    struct tp_slice *list = keep(calloc(*count + 1, sizeof *list));

    for (size_t i = 0; i < *count; i++)
        list[i] = vectors_base64(json_array_get(array, i));
    return list;
}

struct tp_slice *vectors_trace(const char *path, size_t *count, struct tp_slice *raw)
{
    char whole[PATH_SIZE_MAX];
    struct tp_buffer bytes = tp_buffer_growing(SIZE_MAX / 2);
    struct tp_buffer updates = tp_buffer_growing(SIZE_MAX / 2);
    int size;

    snprintf(whole, sizeof whole, "tests/vectors/%s", path);
    gzFile file = gzopen(whole, "rb");
    cr_assert_not_null(file, "%s", whole);
    do {
        tp_buffer_reserve(&bytes, 1 << 16);
        size = gzread(file, bytes.data + bytes.size, 1 << 16);
        cr_assert_geq(size, 0, "%s is no gzip file", whole);
        bytes.size += (size_t)size;
    } while (size > 0);
    gzclose(file);

    struct tp_reader in = tp_reader_of(tp_buffer_slice(&bytes));
    while (in.at < in.end) {
        const struct tp_slice update = tp_read_bytes(&in);
        cr_assert(!in.bad);
        tp_buffer_append(&updates, &update, sizeof update);
    }
    *count = updates.size / sizeof(struct tp_slice);
    if (raw != NULL)
        *raw = tp_buffer_slice(&bytes);
    keep(bytes.data);
    return keep(updates.data);
}

const char *vectors_sha256(struct tp_slice bytes)
{
    static char text[2 * TP_SHA256_SIZE + 1];
    uint8_t digest[TP_SHA256_SIZE];

    tp_sha256(bytes, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        sprintf(text + 2 * i, "%02x", digest[i]);
    return text;
}

static void print_hex(const char *name, struct tp_slice bytes, size_t from)
{
    fprintf(stderr, "  %s %6zu bytes, from %zu:", name, bytes.size, from);
    for (size_t i = from; i < bytes.size && i < from + 24; i++)
        fprintf(stderr, " %02x", bytes.data[i]);
    fputc('\n', stderr);
}

void vectors_expect(struct tp_slice got, struct tp_slice want, const char *format, ...)
{
    char what[256];
    size_t at = 0;
    va_list arguments;

    if (tp_slice_equal(got, want))
        return;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    while (at < got.size && at < want.size && got.data[at] == want.data[at])
        at++;
    const size_t from = at < 4 ? 0 : at - 4;
    print_hex("got ", got, from);
    print_hex("want", want, from);
    cr_assert_fail("%s: they part at byte %zu", what, at);
}
