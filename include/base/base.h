/* base/base.h - words that every module uses. Includes nothing of ours. */
#pragma once

#include <assert.h> /* for static_assert; claims about running code use TP_ASSERT */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TP_MUST_CHECK __attribute__((warn_unused_result))

/* Tells the caller what to do next, not what went wrong inside. */
enum tp_status {
    TP_OK = 0,
    TP_MORE,      /* the input stops in the middle: keep it, call again with more */
    TP_FULL,      /* a named limit is reached: slow the sender down, or drop it */
    TP_MALFORMED, /* the peer broke the format: close it, never retry */
    TP_DENIED,    /* the peer may not do this: tell it, keep the connection */
    TP_ABSENT,    /* no such document, file or key: often a normal answer */
    TP_IO,        /* the kernel or a backend failed: errno or its own report says how */
};

/* Bytes that somebody else owns, valid for as long as that owner promises. */
struct tp_slice {
    const uint8_t *data;
    size_t size; /* bytes */
};

/* A slice of a string literal, without its final NUL. */
#define TP_SLICE(literal) ((struct tp_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct tp_slice tp_slice_of(const void *data, size_t size)
{
    return (struct tp_slice){data, size};
}

static inline bool tp_slice_equal(struct tp_slice a, struct tp_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline size_t tp_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t tp_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* A claim about our own code. Stays on in production: a server that is wrong must stop. */
_Noreturn void tp_panic(const char *file, int line, const char *claim);
#define TP_ASSERT(claim) ((claim) ? (void)0 : tp_panic(__FILE__, __LINE__, #claim))

/* For claims too dear for a hot path: on in tests, fuzzing and simulation only. */
#ifdef TP_CHECK_HOT
#define TP_ASSERT_HOT(claim) TP_ASSERT(claim)
#else
#define TP_ASSERT_HOT(claim) ((void)sizeof(claim))
#endif

/* The object that holds `member` at `pointer`. */
#define TP_CONTAINER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
