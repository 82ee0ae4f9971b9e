/* tests/sim/scenario.h - one seed, from its first client to the comparison of all that is left. */
#pragma once

#include "sim/sim.h"

struct scenario {
    uint64_t seed;
    uint64_t step_count;  /* of the time of faults, at most */
    uint32_t shard_count; /* 0: from the seed */
    enum sim_bug bug;
    bool verbose;
    const struct tp_config *config; /* the product's defaults */
};

/* Returns the trace: the same for the same scenario. What is wrong ends the process (sim_fail). */
uint64_t scenario_run(const struct scenario *scenario);
