#include "crdt/json.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/any.h"

struct level {
    bool is_object;
    bool is_begun; /* something is written already: a comma goes before the next */
    uint64_t left; /* elements or members to come */
};

/* ---- numbers, as ECMAScript prints them -------------------------------------------------------*/

/* A decimal: 0.DIGITS x 10^exponent, without zeros at the end. */
struct decimal {
    char digits[20];
    int count;
    int exponent;
};

static double decimal_value(const struct decimal *decimal)
{
    char text[48];

    snprintf(text, sizeof text, "0.%.*se%d", decimal->count, decimal->digits, decimal->exponent);
    return strtod(text, NULL);
}

/* The nearest one of `count` digits. `value` is positive and finite. */
static struct decimal decimal_nearest(double value, int count)
{
    struct decimal decimal = {.count = count};
    char text[40];

    snprintf(text, sizeof text, "%.*e", count - 1, value);
    decimal.digits[0] = text[0];
    if (count > 1)
        memcpy(decimal.digits + 1, text + 2, (size_t)count - 1);
    decimal.exponent = atoi(text + (count > 1 ? count + 1 : 1) + 1) + 1;
    return decimal;
}

/* One more in the last place. */
static struct decimal decimal_above(struct decimal decimal)
{
    int at = decimal.count - 1;

    for (; at >= 0 && decimal.digits[at] == '9'; at--)
        decimal.digits[at] = '0';
    if (at >= 0) {
        decimal.digits[at]++;
    } else {
        decimal.digits[0] = '1';
        decimal.exponent++;
    }
    return decimal;
}

/* The shortest decimal that reads back as `value`; of several, the nearest. Any decimal of up to
 * DBL_DIG digits survives the way to a normal double and back, so if there is one, that many digits
 * show it. A power of two lies nearer to its lower neighbour than to its upper one: there the
 * nearest decimal may miss where the next one above still hits. */
static struct decimal decimal_shortest(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool is_power = (bits & ((UINT64_C(1) << 52) - 1)) == 0;
    int count = value < DBL_MIN ? 1 : DBL_DIG;
    struct decimal decimal;

    for (;; count++) {
        decimal = decimal_nearest(value, count);
        if (count == 17 || decimal_value(&decimal) == value)
            break;
        if (is_power) {
            decimal = decimal_above(decimal);
            if (decimal_value(&decimal) == value)
                break;
        }
    }
    while (decimal.count > 1 && decimal.digits[decimal.count - 1] == '0')
        decimal.count--;
    return decimal;
}

static void write_zeros(struct tp_buffer *out, int count)
{
    for (int i = 0; i < count; i++)
        tp_write_u8(out, '0');
}

static void write_text(struct tp_buffer *out, const char *text)
{
    tp_buffer_append(out, text, strlen(text));
}

/* ECMAScript Number::toString of a positive number. */
static void write_decimal(struct tp_buffer *out, const struct decimal *decimal)
{
    const int point = decimal->exponent, count = decimal->count;
    char text[16];

    if (point >= count && point <= 21) {
        tp_buffer_append(out, decimal->digits, (size_t)count);
        write_zeros(out, point - count);
    } else if (point > 0 && point <= 21) {
        tp_buffer_append(out, decimal->digits, (size_t)point);
        write_text(out, ".");
        tp_buffer_append(out, decimal->digits + point, (size_t)(count - point));
    } else if (point > -6 && point <= 0) {
        write_text(out, "0.");
        write_zeros(out, -point);
        tp_buffer_append(out, decimal->digits, (size_t)count);
    } else {
        tp_buffer_append(out, decimal->digits, 1);
        if (count > 1) {
            write_text(out, ".");
            tp_buffer_append(out, decimal->digits + 1, (size_t)count - 1);
        }
        snprintf(text, sizeof text, "e%+d", point - 1);
        write_text(out, text);
    }
}

static void write_integer(struct tp_buffer *out, int64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)value);
    write_text(out, text);
}

static void write_double(struct tp_buffer *out, double value)
{
    if (!__builtin_isfinite(value)) {
        write_text(out, "null");
        return;
    }
    if (__builtin_fabs(value) <= TP_VARUINT_MAX && value == (double)(int64_t)value) {
        write_integer(out, (int64_t)value); /* -0 is 0 there */
        return;
    }
    if (value < 0)
        write_text(out, "-");
    const struct decimal decimal = decimal_shortest(__builtin_fabs(value));
    write_decimal(out, &decimal);
}

/* ---- writing JSON -----------------------------------------------------------------------------*/

static void write_escape(struct tp_buffer *out, uint8_t byte)
{
    static const char shorts[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    char text[8];

    for (const char *pair = shorts; *pair != 0; pair += 2) {
        if ((uint8_t)pair[0] == byte) {
            tp_write_u8(out, '\\');
            tp_write_u8(out, (uint8_t)pair[1]);
            return;
        }
    }
    snprintf(text, sizeof text, "\\u%04x", byte);
    write_text(out, text);
}

static void write_string(struct tp_buffer *out, struct tp_slice string)
{
    const uint8_t *at = string.data, *const end = string.data + string.size;

    tp_write_u8(out, '"');
    while (at < end) {
        const uint8_t *const start = at;
        while (at < end && *at >= 0x20 && *at != '"' && *at != '\\')
            at++;
        tp_buffer_append(out, start, (size_t)(at - start));
        if (at < end)
            write_escape(out, *at++);
    }
    tp_write_u8(out, '"');
}

/* A Uint8Array prints as an object with its indexes for keys. */
static void write_byte_object(struct tp_buffer *out, struct tp_slice bytes)
{
    char text[48];

    tp_write_u8(out, '{');
    for (size_t i = 0; i < bytes.size && !out->full; i++) {
        snprintf(text, sizeof text, "%s\"%zu\":%u", i > 0 ? "," : "", i, bytes.data[i]);
        write_text(out, text);
    }
    tp_write_u8(out, '}');
}

/* A value that is no container. `inside` an array, undefined is null. */
static enum tp_status write_scalar(const struct tp_any *any, bool inside, struct tp_buffer *out)
{
    switch (any->tag) {
    case TP_ANY_UNDEFINED:
        if (!inside)
            return TP_DENIED;
        write_text(out, "null");
        break;
    case TP_ANY_NULL:
        write_text(out, "null");
        break;
    case TP_ANY_TRUE:
        write_text(out, "true");
        break;
    case TP_ANY_FALSE:
        write_text(out, "false");
        break;
    case TP_ANY_INTEGER:
    case TP_ANY_F32:
    case TP_ANY_F64:
        write_double(out, any->number);
        break;
    case TP_ANY_STRING:
        write_string(out, any->bytes);
        break;
    case TP_ANY_BYTES:
        write_byte_object(out, any->bytes);
        break;
    default: /* a bigint */
        return TP_DENIED;
    }
    return TP_OK;
}

/* Goes to the next element or member that is written, if the level has one. */
static bool next_in_level(struct tp_reader *any, struct level *level, struct tp_buffer *out)
{
    while (level->left > 0 && !any->bad) {
        struct tp_slice key = {0};
        level->left--;
        if (level->is_object) {
            key = tp_read_string(any);
            if (!any->bad && any->at < any->end && *any->at == TP_ANY_UNDEFINED) {
                any->at++; /* JSON.stringify leaves such members out */
                continue;
            }
        }
        if (level->is_begun)
            tp_write_u8(out, ',');
        level->is_begun = true;
        if (level->is_object) {
            write_string(out, key);
            tp_write_u8(out, ':');
        }
        return true;
    }
    return false;
}

enum tp_status tp_any_to_json(struct tp_reader *any, uint32_t depth_max, struct tp_buffer *out)
{
    struct level levels[TP_JSON_DEPTH_MAX];
    struct tp_any value;
    uint32_t depth = 0;

    depth_max = depth_max < TP_JSON_DEPTH_MAX ? depth_max : TP_JSON_DEPTH_MAX;
    do {
        if (tp_any_read(any, &value) != TP_OK)
            return TP_MALFORMED;
        if (value.tag == TP_ANY_ARRAY || value.tag == TP_ANY_OBJECT) {
            const bool is_object = value.tag == TP_ANY_OBJECT;
            if (depth == depth_max)
                return TP_MALFORMED;
            levels[depth++] = (struct level){.is_object = is_object, .left = value.count};
            tp_write_u8(out, is_object ? '{' : '[');
        } else if (value.tag == TP_ANY_BYTES && depth == depth_max) {
            return TP_DENIED; /* as JSON they are an object, one level too deep for our own check */
        } else {
            const enum tp_status status = write_scalar(&value, depth > 0, out);
            if (status != TP_OK)
                return status;
        }
        while (depth > 0 && !next_in_level(any, &levels[depth - 1], out))
            tp_write_u8(out, levels[--depth].is_object ? '}' : ']');
    } while (depth > 0 && !any->bad && !out->full);
    return any->bad ? TP_MALFORMED : out->full ? TP_FULL : TP_OK;
}
