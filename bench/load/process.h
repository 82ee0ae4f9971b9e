/* bench/load/process.h - what a server process has used so far, all threads. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct process_usage {
    uint64_t cpu_ns;
    uint64_t switches;      /* context switches, voluntary or not */
    uint64_t resident_size; /* bytes */
};

/* Zeros for pid 0 or a process that is gone. */
struct process_usage process_usage(int pid);
uint64_t process_resident_size(int pid);

/* System calls of all threads that exist at the start, by a kernel tracepoint: wants root, and
 * costs each call a little. False where that is not to be had. */
bool process_count_start(int pid);
uint64_t process_count_stop(void);

/* What a teleportald counts of itself (/metrics, which must be public). */
struct server_counters {
    double enters;  /* system calls of the shards' loops */
    double turns;   /* of the shards' loops */
    double sends;   /* sends given to the kernel */
    double syncs;   /* of the disk */
    double commits; /* batches */
};

bool server_counters(const struct sockaddr_in *address, struct server_counters *out);
