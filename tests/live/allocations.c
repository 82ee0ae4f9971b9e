/* Counts what the threads called shard-N allocate from the heap: LD_PRELOAD, for allocations.mjs.
 *
 * The counts lie in the file that ALLOCATIONS names, so that the test reads them at any moment: how
 * many, how many bytes, and of the first callers the addresses, each with its number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CALLER_COUNT 64
#define DEPTH 8

static struct counts {
    uint64_t count, size;
    uint64_t recording; /* the test's: note callers */
    uint64_t caller_count;
    struct caller {
        uint64_t count, size;
        uint64_t addresses[DEPTH];
    } callers[CALLER_COUNT];
} * counts;

static uint64_t base; /* of the program: addresses are told relative to it */

__attribute__((constructor)) static void map_counts(void)
{
    const char *name = getenv("ALLOCATIONS");
    const int fd = name == NULL ? -1 : open(name, O_RDWR);
    char line[256] = {0};

    if (fd < 0)
        return;
    const int maps = open("/proc/self/maps", O_RDONLY);
    if (read(maps, line, sizeof line - 1) > 0)
        base = strtoull(line, NULL, 16);
    close(maps);
    void *memory = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        counts = memory;
}

static int is_shard(void)
{
    static __thread signed char known; /* a thread that has the name keeps it */
    static __thread unsigned asked;
    char name[16] = "";

    if (known == 0 && asked < 1000) {
        asked++;
        prctl(PR_GET_NAME, name);
        known = memcmp(name, "shard-", 6) == 0;
    }
    return known;
}

static void note_caller(size_t size)
{
    static __thread int busy;
    void *frames[DEPTH + 2] = {NULL};
    struct caller *caller = counts->callers;

    if (busy)
        return;
    busy = 1;
    const int depth = backtrace(frames, DEPTH + 2);
    for (uint64_t i = 0; i < counts->caller_count; i++, caller++)
        if (caller->addresses[0] == (uint64_t)frames[2] - base &&
            caller->addresses[1] == (uint64_t)frames[3] - base &&
            caller->addresses[2] == (uint64_t)frames[4] - base)
            break;
    if (caller < counts->callers + CALLER_COUNT) {
        if (caller == counts->callers + counts->caller_count)
            for (int i = 2; i < depth; i++)
                caller->addresses[i - 2] = (uint64_t)frames[i] - base;
        if (caller == counts->callers + counts->caller_count)
            counts->caller_count++;
        caller->count++;
        caller->size += size;
    }
    busy = 0;
}

static void count(size_t size)
{
    if (counts == NULL || !is_shard())
        return;
    __atomic_fetch_add(&counts->count, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counts->size, size, __ATOMIC_RELAXED);
    if (counts->recording)
        note_caller(size);
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count(number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *block, size_t size)
{
    count(size);
    return __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count(size);
    return __libc_memalign(alignment, size);
}
