#include "load/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void add_task(int pid, const char *task, struct process_usage *usage)
{
    char path[128], line[256];
    uint64_t cpu_ns = 0, value;

    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, task);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    if (fscanf(file, "%" SCNu64, &cpu_ns) == 1)
        usage->cpu_ns += cpu_ns;
    fclose(file);

    snprintf(path, sizeof path, "/proc/%d/task/%s/status", pid, task);
    file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &value) == 1 ||
            sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &value) == 1)
            usage->switches += value;
    if (file != NULL)
        fclose(file);
}

struct process_usage process_usage(int pid)
{
    struct process_usage usage = {0};
    char path[64];
    struct dirent *entry;
    uint64_t pages = 0;

    if (pid == 0)
        return usage;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && (entry = readdir(tasks)) != NULL)
        if (entry->d_name[0] != '.')
            add_task(pid, entry->d_name, &usage);
    if (tasks != NULL)
        closedir(tasks);

    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%*u %" SCNu64, &pages) == 1)
            usage.resident_size = pages * (uint64_t)sysconf(_SC_PAGESIZE);
        fclose(file);
    }
    return usage;
}
