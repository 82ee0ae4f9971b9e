/* bench/load/process.h - what a server process has used so far, all threads. */
#pragma once

#include <stdint.h>

struct process_usage {
    uint64_t cpu_ns;
    uint64_t switches;      /* context switches, voluntary or not */
    uint64_t resident_size; /* bytes */
};

/* Zeros for pid 0 or a process that is gone. */
struct process_usage process_usage(int pid);
