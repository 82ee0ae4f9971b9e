/* crdt/any.h - the tags of lib0's `any` (spec 04 section 2). */
#pragma once

#include "base/base.h"

enum {
    TP_ANY_BYTES = 116,  /* varuint size, bytes */
    TP_ANY_ARRAY = 117,  /* varuint count, values */
    TP_ANY_OBJECT = 118, /* varuint count, keys and values by turns */
    TP_ANY_STRING = 119,
    TP_ANY_TRUE = 120,
    TP_ANY_FALSE = 121,
    TP_ANY_BIGINT = 122, /* 8 bytes, big endian */
    TP_ANY_F64 = 123,    /* 8 bytes, big endian */
    TP_ANY_F32 = 124,    /* 4 bytes, big endian */
    TP_ANY_INTEGER = 125,
    TP_ANY_NULL = 126,
    TP_ANY_UNDEFINED = 127,
};

/* lib0 writes integers above this, and below its negative, as floats. */
#define TP_ANY_INTEGER_MAX 0x7fffffff
