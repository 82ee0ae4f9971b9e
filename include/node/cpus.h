/* node/cpus.h - how many server threads, and on which CPUs.
 *
 * The threads are pinned when there is one for every CPU that this process may run on. Fewer than
 * that are left to the scheduler: two servers of one thread each, both pinned to the first CPU,
 * would share it while the others idle. Who wants few and pinned threads narrows the CPUs
 * (CPUAffinity= of the unit, a cpuset, taskset). */
#pragma once

#include "base/base.h"

#define TP_CPU_COUNT_MAX 240u /* below TP_POST_ENDPOINT_COUNT_MAX, with room for the store */

/* `wanted` threads, 0: auto, one per CPU that affinity allows, bounded by the cgroup's quota.
 * Returns their number, 1 to TP_CPU_COUNT_MAX, and the CPU of each, -1: not pinned. */
uint32_t tp_cpu_list(uint32_t wanted, int cpus[TP_CPU_COUNT_MAX]);

/* Whole CPUs that the quotas of cgroup version 1 or 2 grant this process, at least 1; UINT32_MAX
 * without a quota. A broken part of a CPU is left to the committer and the workers. `root` is empty
 * for the running system, else the directory that holds its proc/ and sys/ (tests). */
uint32_t tp_cpu_quota(const char *root);
