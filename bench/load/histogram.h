/* bench/load/histogram.h - latencies in logarithmic buckets, about 1.5 % wide, 1 us to over an
 * hour. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB 64u
#define HISTOGRAM_COUNT (40u * HISTOGRAM_SUB)

struct histogram {
    uint64_t buckets[HISTOGRAM_COUNT];
    uint64_t count, max_ns;
};

static inline uint32_t histogram_bucket(uint64_t ns)
{
    const uint64_t value = ns / 16 + HISTOGRAM_SUB; /* 16 ns are finer than any clock here */
    const uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - 6u;
    const uint32_t bucket = shift * HISTOGRAM_SUB + (uint32_t)(value >> shift) - HISTOGRAM_SUB;
    return bucket < HISTOGRAM_COUNT ? bucket : HISTOGRAM_COUNT - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->buckets[histogram_bucket(ns)]++;
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

/* The upper edge of the bucket that holds the quantile. */
static inline double histogram_us(const struct histogram *histogram, double quantile)
{
    uint64_t left = (uint64_t)((double)histogram->count * quantile);

    for (uint32_t i = 0; i < HISTOGRAM_COUNT; i++) {
        if (histogram->buckets[i] > left) {
            const uint32_t shift = i / HISTOGRAM_SUB;
            const uint64_t value = ((uint64_t)(i % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << shift);
            return (double)(value - HISTOGRAM_SUB) * 16 / 1000;
        }
        left -= histogram->buckets[i];
    }
    return (double)histogram->max_ns / 1000;
}
