/* How many threads: affinity, and the quotas of both cgroup versions, on made-up systems. */
#include <criterion/criterion.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "node/cpus.h"

static char root[64];

static void make_root(void)
{
    strcpy(root, P_tmpdir "/teleportald-cpus-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -r %s", root);
    cr_assert_eq(system(command), 0);
}

/* A file below `root`, with its directories. */
static void put(const char *path, const char *text)
{
    char full[512];

    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    cr_assert_not_null(file, "%s", full);
    fputs(text, file);
    fclose(file);
}

TestSuite(cpus, .init = make_root, .fini = remove_root);

Test(cpus, grants_all_without_a_quota)
{
    cr_assert_eq(tp_cpu_quota(root), UINT32_MAX, "no cgroups at all");
    put("/proc/self/cgroup", "0::/\n");
    cr_assert_eq(tp_cpu_quota(root), UINT32_MAX, "no file");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    cr_assert_eq(tp_cpu_quota(root), UINT32_MAX);
}

Test(cpus, rounds_a_quota_down_to_whole_cpus_but_never_to_none)
{
    put("/proc/self/cgroup", "0::/service\n");
    put("/sys/fs/cgroup/service/cpu.max", "350000 100000\n");
    cr_assert_eq(tp_cpu_quota(root), 3);
    put("/sys/fs/cgroup/service/cpu.max", "50000 100000\n");
    cr_assert_eq(tp_cpu_quota(root), 1);
}

Test(cpus, takes_the_least_quota_of_the_group_and_those_around_it)
{
    put("/proc/self/cgroup", "0::/outer/middle/inner\n");
    put("/sys/fs/cgroup/outer/middle/inner/cpu.max", "800000 100000\n");
    put("/sys/fs/cgroup/outer/middle/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/outer/cpu.max", "200000 100000\n");

    cr_assert_eq(tp_cpu_quota(root), 2);
}

Test(cpus, reads_version_1_too)
{
    put("/proc/self/cgroup", "4:memory:/box\n3:cpuset:/box\n2:cpuacct,cpu:/box\n0::/\n");
    put("/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
    cr_assert_eq(tp_cpu_quota(root), UINT32_MAX);

    put("/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "200000\n");
    cr_assert_eq(tp_cpu_quota(root), 2);
}

Test(cpus, finds_the_quota_of_a_container_whose_group_has_a_path_of_the_host)
{
    put("/proc/self/cgroup", "2:cpu:/host/path/of/container\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");

    cr_assert_eq(tp_cpu_quota(root), 4);
}

Test(cpus, pins_only_when_there_is_a_thread_for_every_cpu)
{
    int cpus[TP_CPU_COUNT_MAX];
    cpu_set_t set;
    cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
    const uint32_t allowed = (uint32_t)CPU_COUNT(&set);

    cr_assert_eq(tp_cpu_list(allowed, cpus), allowed);
    for (uint32_t i = 0; i < allowed; i++)
        cr_assert(CPU_ISSET(cpus[i], &set));
    cr_assert_eq(tp_cpu_list(allowed + 1, cpus), allowed + 1);
    for (uint32_t i = 0; i <= allowed; i++)
        cr_assert_eq(cpus[i], -1);
}

Test(cpus, runs_one_thread_when_affinity_leaves_one_cpu)
{
    int cpus[TP_CPU_COUNT_MAX];
    cpu_set_t set;
    cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
    int last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &set))
        last--;
    CPU_ZERO(&set);
    CPU_SET(last, &set);
    cr_assert_eq(sched_setaffinity(0, sizeof set, &set), 0);

    cr_assert_eq(tp_cpu_list(0, cpus), 1);
    cr_assert_eq(cpus[0], last);
}
