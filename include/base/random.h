/* base/random.h - numbers from a seed: the same seed, the same numbers (SplitMix64).
 *
 * For ids that need not be secret, for jitter and for the simulator. What must not be guessed comes
 * from tp_random_secret, which the daemon fills from the kernel and the simulator from its seed. */
#pragma once

#include "base/base.h"

struct tp_random {
    uint64_t state;
};

static inline uint64_t tp_random_next(struct tp_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A number below `limit`, which is not 0. The bias for limits far below 2^64 is negligible. */
static inline uint64_t tp_random_below(struct tp_random *random, uint64_t limit)
{
    return tp_random_next(random) % limit;
}

/* Bytes from the kernel. Stops the process when the kernel has none. */
void tp_random_secret(void *bytes, size_t size);

#define TP_UUID_SIZE 36u

/* A version 4 UUID in lower case from 16 random bytes; no final NUL. */
void tp_uuid_format(const uint8_t random[16], char out[TP_UUID_SIZE]);
