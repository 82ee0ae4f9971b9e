#include "reactor/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "internal.h"

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1

static bool kernel_is_new_enough(const char *release)
{
    int major = 0, minor = 0;

    if (sscanf(release, "%d.%d", &major, &minor) != 2)
        return true; /* whoever names kernels so knows; the rings will tell */
    return major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);
}

/* The value of kernel.io_uring_disabled, or -1: not there, or not to be seen. */
static int disabled_setting(void)
{
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = -1;

    if (file == NULL)
        return -1;
    if (fscanf(file, "%d", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

static uint64_t limit_of(int resource)
{
    struct rlimit limit = {0};

    getrlimit(resource, &limit);
    return limit.rlim_cur;
}

static void explain(int error, uint32_t opened, uint32_t wanted, char *text, size_t size)
{
    const int disabled = disabled_setting();

    switch (error) {
    case EPERM:
        if (disabled == 2)
            snprintf(text, size,
                     "io_uring is switched off on this machine: set kernel.io_uring_disabled to 0 "
                     "(sysctl -w kernel.io_uring_disabled=0).");
        else if (disabled == 1)
            snprintf(text, size,
                     "io_uring is reserved for a group on this machine: add the service's user to "
                     "the group that kernel.io_uring_group names, or set "
                     "kernel.io_uring_disabled to 0.");
        else
            snprintf(text, size,
                     "io_uring is refused to this process: allow io_uring_setup, io_uring_enter "
                     "and io_uring_register in its seccomp filter (container profile, or "
                     "SystemCallFilter of the unit).");
        break;
    case ENOSYS:
        snprintf(text, size,
                 "this kernel is built without io_uring, or a seccomp filter hides it: use a "
                 "kernel with CONFIG_IO_URING, and allow the io_uring system calls.");
        break;
    case ENOMEM:
        snprintf(text, size,
                 "the limit of locked memory is too low: it is %" PRIu64
                 " KiB, which sufficed for %u of %u rings; raise it (LimitMEMLOCK= in the unit, "
                 "memlock in limits.conf), or use fewer cores.",
                 limit_of(RLIMIT_MEMLOCK) >> 10, opened, wanted);
        break;
    case EMFILE:
    case ENFILE:
        snprintf(text, size,
                 "there are too few file descriptors even for the rings: raise the limit of open "
                 "files (LimitNOFILE= in the unit, ulimit -n).");
        break;
    default:
        snprintf(text, size,
                 "io_uring does not work here (%s): a kernel of %d.%d or newer is needed.",
                 strerror(error), KERNEL_MAJOR, KERNEL_MINOR);
    }
}

/* All rings at once, as the threads will have them: the limit of locked memory counts for all. */
static bool rings_can_be_had(uint32_t wanted, char *text, size_t size)
{
    struct io_uring *rings = calloc(wanted, sizeof *rings);
    uint32_t opened = 0;
    int result = 0;

    TP_ASSERT(rings != NULL);
    while (opened < wanted) {
        result = tp_reactor_ring_setup(&rings[opened], TP_REACTOR_ENTRY_COUNT);
        if (result < 0)
            break;
        opened++;
    }
    for (uint32_t i = 0; i < opened; i++)
        io_uring_queue_exit(&rings[i]);
    free(rings);
    if (result < 0)
        explain(-result, opened, wanted, text, size);
    return result >= 0;
}

static void raise_file_limit(uint64_t wanted, char *text, size_t size)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit_of(RLIMIT_NOFILE) < wanted)
        snprintf(text, size,
                 "the limit of open files is %" PRIu64 ", but %" PRIu64
                 " are wanted: there will be fewer connections unless it is raised "
                 "(LimitNOFILE= in the unit, ulimit -n).",
                 limit_of(RLIMIT_NOFILE), wanted);
}

bool tp_reactor_check(uint32_t thread_count, uint64_t fd_wanted, char *error, size_t error_size)
{
    struct utsname name;

    TP_ASSERT(thread_count > 0 && error_size > 0);
    error[0] = '\0';
    if (uname(&name) == 0 && !kernel_is_new_enough(name.release)) {
        snprintf(error, error_size,
                 "this kernel is %s, but %d.%d or newer is needed: install a newer kernel.",
                 name.release, KERNEL_MAJOR, KERNEL_MINOR);
        return false;
    }
    raise_file_limit(fd_wanted, error, error_size);
    return rings_can_be_had(thread_count, error, error_size);
}
