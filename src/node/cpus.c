#include "node/cpus.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

#define PATH_SIZE 4096

static bool read_first_line(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    const bool read = fgets(out, (int)size, file) != NULL;
    fclose(file);
    return read;
}

static uint32_t whole_cpus(int64_t quota, int64_t period)
{
    if (quota <= 0 || period <= 0)
        return UINT32_MAX;
    return (uint32_t)tp_max(1, tp_min((size_t)(quota / period), UINT32_MAX));
}

/* Version 2: "max 100000" or "150000 100000". */
static uint32_t quota_v2(const char *directory)
{
    char path[PATH_SIZE + 32], line[128];
    int64_t quota, period;

    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (!read_first_line(path, line, sizeof line) ||
        sscanf(line, "%" SCNd64 " %" SCNd64, &quota, &period) != 2)
        return UINT32_MAX;
    return whole_cpus(quota, period);
}

/* Version 1: two files; a quota of -1 is none. */
static uint32_t quota_v1(const char *directory)
{
    char path[PATH_SIZE + 32], line[128];
    int64_t quota, period;

    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
    if (!read_first_line(path, line, sizeof line) || sscanf(line, "%" SCNd64, &quota) != 1)
        return UINT32_MAX;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
    if (!read_first_line(path, line, sizeof line) || sscanf(line, "%" SCNd64, &period) != 1)
        return UINT32_MAX;
    return whole_cpus(quota, period);
}

/* The least of the group's quota and those of the groups around it. In a container the group's path
 * is often that of the host and not there; what is there is found on the way up. */
static uint32_t least_quota(const char *mount, const char *group,
                            uint32_t (*quota)(const char *directory))
{
    char directory[PATH_SIZE];
    const size_t mount_size = strlen(mount);
    uint32_t least = UINT32_MAX;

    if ((size_t)snprintf(directory, sizeof directory, "%s%s", mount, group) >= sizeof directory)
        return UINT32_MAX;
    for (;;) {
        least = (uint32_t)tp_min(least, quota(directory));
        char *slash = strrchr(directory + mount_size, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

/* Is `name` in the comma-separated `list` of `size` bytes? */
static bool has_controller(const char *list, size_t size, const char *name)
{
    for (size_t at = 0; at < size;) {
        const size_t length = tp_min(strcspn(list + at, ","), size - at);
        if (length == strlen(name) && memcmp(list + at, name, length) == 0)
            return true;
        at += length + 1;
    }
    return false;
}

uint32_t tp_cpu_quota(const char *root)
{
    char path[PATH_SIZE], line[PATH_SIZE];
    uint32_t least = UINT32_MAX;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return UINT32_MAX;
    while (fgets(line, sizeof line, file) != NULL) { /* hierarchy:controllers:group */
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(++controllers, ':') : NULL;
        if (group == NULL)
            continue;
        const size_t controllers_size = (size_t)(group++ - controllers);
        group[strcspn(group, "\n")] = '\0';
        if (controllers_size == 0) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup", root);
            least = (uint32_t)tp_min(least, least_quota(path, group, quota_v2));
        } else if (has_controller(controllers, controllers_size, "cpu")) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup/cpu", root);
            least = (uint32_t)tp_min(least, least_quota(path, group, quota_v1));
        }
    }
    fclose(file);
    return least;
}

/* The CPUs that affinity allows, ascending; at most TP_CPU_COUNT_MAX are listed. On a machine with
 * more than CPU_SETSIZE CPUs the kernel refuses our set, and nothing is pinned. */
static uint32_t allowed_cpus(int cpus[TP_CPU_COUNT_MAX])
{
    cpu_set_t set;
    uint32_t count = 0;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < TP_CPU_COUNT_MAX; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    return count;
}

uint32_t tp_cpu_list(uint32_t wanted, int cpus[TP_CPU_COUNT_MAX])
{
    const uint32_t allowed_count = allowed_cpus(cpus);
    uint32_t count = wanted;

    if (wanted == 0)
        count = (uint32_t)tp_min(tp_max(allowed_count, 1), tp_cpu_quota(""));
    count = (uint32_t)tp_min(count, TP_CPU_COUNT_MAX);
    if (count != allowed_count)
        for (uint32_t i = 0; i < count; i++)
            cpus[i] = -1;
    return count;
}
