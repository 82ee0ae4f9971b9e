#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "observe/pages.h"

static uint64_t resident_size(void)
{
    FILE *file = fopen("/proc/self/statm", "re"); /* pages: whole, resident, ... */
    uint64_t pages = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*s %" SCNu64, &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_file_count(void)
{
    DIR *directory = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (directory == NULL)
        return 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count - 1; /* the directory itself */
}

static uint64_t ms_of(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_usec / 1000;
}

void tp_observe_process(struct tp_observed_process *out)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_SELF, &usage);
    *out = (struct tp_observed_process){
        .cpu_ms = ms_of(usage.ru_utime) + ms_of(usage.ru_stime),
        .resident_size = resident_size(),
        .open_file_count = open_file_count(),
    };
}
