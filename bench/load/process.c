#include "load/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 256u

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

    if (pid == 0)
        return usage;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && (entry = readdir(tasks)) != NULL)
        if (entry->d_name[0] != '.')
            add_task(pid, entry->d_name, &usage);
    if (tasks != NULL)
        closedir(tasks);

    usage.resident_size = process_resident_size(pid);
    return usage;
}

uint64_t process_resident_size(int pid)
{
    char path[64];
    uint64_t pages = 0;

    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = pid == 0 ? NULL : fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- system calls ---- */

static int counters[THREADS_MAX];
static uint32_t counter_count;

static uint64_t tracepoint_id(void)
{
    uint64_t id = 0;
    FILE *file = fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "r");

    if (file == NULL)
        file = fopen("/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id", "r");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &id) != 1)
        id = 0;
    fclose(file);
    return id;
}

bool process_count_start(int pid)
{
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_TRACEPOINT, .size = sizeof attributes, .config = tracepoint_id()};
    char path[64];
    struct dirent *entry;

    counter_count = 0;
    if (pid == 0 || attributes.config == 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && counter_count < THREADS_MAX && (entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        const int fd =
            (int)syscall(SYS_perf_event_open, &attributes, atoi(entry->d_name), -1, -1, 0);
        if (fd >= 0)
            counters[counter_count++] = fd;
    }
    if (tasks != NULL)
        closedir(tasks);
    return counter_count > 0;
}

uint64_t process_count_stop(void)
{
    uint64_t sum = 0, value;

    for (uint32_t i = 0; i < counter_count; i++) {
        if (read(counters[i], &value, sizeof value) == sizeof value)
            sum += value;
        close(counters[i]);
    }
    counter_count = 0;
    return sum;
}

/* ---- what the server counts ---- */

static double metric(const char *page, const char *name)
{
    const size_t size = strlen(name);

    for (const char *at = page; at != NULL && *at != 0; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, size) == 0 && at[size] == ' ')
            return strtod(at + size, NULL);
    }
    return 0;
}

bool server_counters(const struct sockaddr_in *address, struct server_counters *out)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n";
    static char page[1 << 17];
    size_t size = 0;
    ssize_t got;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = 2};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0)
        while (size < sizeof page - 1 &&
               (got = recv(fd, page + size, sizeof page - 1 - size, 0)) > 0)
            size += (size_t)got;
    close(fd);
    page[size] = 0;
    *out = (struct server_counters){.enters = metric(page, "teleportald_enters_total"),
                                    .turns = metric(page, "teleportald_turns_total"),
                                    .sends = metric(page, "teleportald_net_sends_total"),
                                    .syncs = metric(page, "teleportald_store_syncs_total"),
                                    .commits = metric(page, "teleportald_store_commits_total")};
    return out->turns > 0;
}
