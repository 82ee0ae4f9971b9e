#include "wire/any.h"

static double float_of(uint64_t bits, uint8_t tag)
{
    if (tag == TP_ANY_F32) {
        const uint32_t narrow_bits = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &narrow_bits, sizeof narrow);
        return (double)narrow;
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double read_integer(struct tp_reader *in)
{
    bool negative;
    const double magnitude = (double)tp_read_varint(in, &negative);

    return negative ? -magnitude : magnitude; /* -0 too */
}

enum tp_status tp_any_read(struct tp_reader *in, struct tp_any *out)
{
    struct tp_any any = {.tag = tp_read_u8(in)};

    switch (any.tag) {
    case TP_ANY_UNDEFINED:
    case TP_ANY_NULL:
    case TP_ANY_TRUE:
    case TP_ANY_FALSE:
        break;
    case TP_ANY_INTEGER:
        any.number = read_integer(in);
        break;
    case TP_ANY_F32:
        any.number = float_of(tp_read_big_endian(in, 4), any.tag);
        break;
    case TP_ANY_F64:
        any.number = float_of(tp_read_big_endian(in, 8), any.tag);
        break;
    case TP_ANY_BIGINT:
        any.bigint = (int64_t)tp_read_big_endian(in, 8);
        break;
    case TP_ANY_STRING:
        any.bytes = tp_read_string(in);
        break;
    case TP_ANY_BYTES:
        any.bytes = tp_read_bytes(in);
        break;
    case TP_ANY_ARRAY:
        any.count = tp_read_count(in, 1);
        break;
    case TP_ANY_OBJECT:
        any.count = tp_read_count(in, 2);
        break;
    default:
        in->bad = true;
    }
    if (in->bad)
        return TP_MALFORMED;
    *out = any;
    return TP_OK;
}

struct level {
    bool is_object;
    uint64_t left; /* elements or members to come */
};

enum tp_status tp_any_skip(struct tp_reader *in, uint32_t depth_max)
{
    struct level levels[TP_ANY_DEPTH_MAX];
    uint32_t depth = 0;
    struct tp_any any;

    depth_max = depth_max < TP_ANY_DEPTH_MAX ? depth_max : TP_ANY_DEPTH_MAX;
    do {
        if (tp_any_read(in, &any) != TP_OK)
            return TP_MALFORMED;
        if (any.tag == TP_ANY_ARRAY || any.tag == TP_ANY_OBJECT) {
            if (depth == depth_max) {
                in->bad = true;
                return TP_MALFORMED;
            }
            levels[depth++] = (struct level){any.tag == TP_ANY_OBJECT, any.count};
        }
        while (depth > 0 && levels[depth - 1].left == 0)
            depth--;
        if (depth > 0) {
            levels[depth - 1].left--;
            if (levels[depth - 1].is_object)
                tp_read_string(in);
        }
    } while (depth > 0 && !in->bad);
    return in->bad ? TP_MALFORMED : TP_OK;
}

void tp_any_write_number(struct tp_buffer *out, double value)
{
    const double magnitude = __builtin_fabs(value);
    const float narrow = (float)value;

    if (magnitude <= TP_ANY_INTEGER_MAX && magnitude == (uint32_t)magnitude) {
        tp_write_u8(out, TP_ANY_INTEGER);
        tp_write_varint(out, __builtin_signbit(value) != 0, (uint64_t)magnitude);
    } else if ((double)narrow == value) {
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        tp_write_u8(out, TP_ANY_F32);
        tp_write_big_endian(out, bits, 4);
    } else {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        tp_write_u8(out, TP_ANY_F64);
        tp_write_big_endian(out, bits, 8);
    }
}

void tp_any_write_bigint(struct tp_buffer *out, int64_t value)
{
    tp_write_u8(out, TP_ANY_BIGINT);
    tp_write_big_endian(out, (uint64_t)value, 8);
}

void tp_any_write_string(struct tp_buffer *out, struct tp_slice text)
{
    tp_write_u8(out, TP_ANY_STRING);
    tp_write_bytes(out, text);
}

void tp_any_write_bytes(struct tp_buffer *out, struct tp_slice bytes)
{
    tp_write_u8(out, TP_ANY_BYTES);
    tp_write_bytes(out, bytes);
}

void tp_any_write_array(struct tp_buffer *out, uint64_t count)
{
    tp_write_u8(out, TP_ANY_ARRAY);
    tp_write_varuint(out, count);
}

void tp_any_write_object(struct tp_buffer *out, uint64_t count)
{
    tp_write_u8(out, TP_ANY_OBJECT);
    tp_write_varuint(out, count);
}
