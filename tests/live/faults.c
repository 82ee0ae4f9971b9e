/* faults.c - a disk that fails when the test says so: preloaded into the server (faults.mjs).
 *
 *     the test ──writes──► a mapped file ◄──reads── every call on a file of the data directory
 *                          rules, clock, free space, who hangs; and counts of what was done
 *
 * Environment: FAULTS_CONTROL, the mapped file; FAULTS_DIRECTORY, whose files are meant. Calls on
 * anything else pass. FAULTS_NOFILE: so many files may be open, and no more. What the file holds is
 * `struct control`, all words of 64 bits. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum op { OP_OPEN = 1, OP_WRITE = 2, OP_SYNC = 4, OP_ALLOCATE = 8, OP_READ = 16, OP_RENAME = 32 };
enum kind {
    KIND_WAL = 1,
    KIND_TABLE = 2, /* .sst, .blob */
    KIND_MANIFEST = 4,
    KIND_LOG = 8, /* RocksDB's own, for people */
    KIND_OTHER = 16,
    KIND_DIRECTORY = 32,
};

struct rule {
    int64_t ops, kinds; /* masks; ops 0: no rule */
    int64_t error;      /* errno; 0: only the delay */
    int64_t room;       /* bytes that writes still get, the last of them short; -1: not counted */
    int64_t after;      /* calls that still pass */
    int64_t delay_ms;   /* the call waits, while the rule stands */
    int64_t hits;       /* calls that it met */
    int64_t unused;
};

struct control {
    int64_t clock_ns;  /* added to the wall clock */
    int64_t free_size; /* what statvfs says is free; -1: the truth */
    int64_t hang;      /* 1: threads of that name stop in clock_gettime */
    char hang_name[16];
    int64_t hung;      /* times that one did */
    int64_t watchdogs; /* answers to systemd's watchdog */
    int64_t unused;
    struct rule rules[8];
};

#define FD_COUNT 65536

static struct control *control;
static char directory[PATH_MAX];
static unsigned char kinds[FD_COUNT];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("FAULTS_CONTROL"), *where = getenv("FAULTS_DIRECTORY");
    if (path == NULL || where == NULL)
        return;
    snprintf(directory, sizeof directory, "%s", where);
    const char *count = getenv("FAULTS_NOFILE");
    if (count != NULL) {
        const struct rlimit limit = {(rlim_t)atoi(count), (rlim_t)atoi(count)};
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    const int fd = REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        abort();
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    close(fd);
    __atomic_store_n(&control, map, __ATOMIC_RELEASE);
}

static int64_t get(const int64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static int64_t add(int64_t *word, int64_t more)
{
    return __atomic_fetch_add(word, more, __ATOMIC_RELAXED);
}

static void pause_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static unsigned kind_of(const char *path)
{
    if (control == NULL || path == NULL || strncmp(path, directory, strlen(directory)) != 0)
        return 0;
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    const char *dot = strrchr(name, '.');
    if (strcmp(path, directory) == 0)
        return KIND_DIRECTORY;
    if (strncmp(name, "LOG", 3) == 0)
        return strcmp(name, "LOCK") == 0 ? KIND_OTHER : KIND_LOG;
    if (strncmp(name, "MANIFEST", 8) == 0)
        return KIND_MANIFEST;
    if (dot != NULL && strcmp(dot, ".log") == 0)
        return KIND_WAL;
    if (dot != NULL && (strcmp(dot, ".sst") == 0 || strcmp(dot, ".blob") == 0))
        return KIND_TABLE;
    return KIND_OTHER;
}

/* 0, or the errno to fail with. A write may be cut short first: *size. */
static int judge(enum op op, unsigned kind, size_t *size)
{
    if (control == NULL || kind == 0)
        return 0;
    for (int i = 0; i < 8; i++) {
        struct rule *rule = &control->rules[i];
        if (!(get(&rule->ops) & op) || !(get(&rule->kinds) & kind))
            continue;
        if (get(&rule->after) > 0 && add(&rule->after, -1) > 0)
            continue;
        if (size != NULL && get(&rule->room) >= 0) {
            const int64_t room = add(&rule->room, -(int64_t)*size);
            if (room >= (int64_t)*size)
                continue;
            if (room > 0) {
                *size = (size_t)room;
                continue;
            }
            __atomic_store_n(&rule->room, 0, __ATOMIC_RELAXED);
        }
        add(&rule->hits, 1);
        for (int64_t waited = 0; waited < get(&rule->delay_ms) && (get(&rule->ops) & op);
             waited += 5)
            pause_ms(5);
        const int error = (int)get(&rule->error);
        if (error != 0)
            return error;
    }
    return 0;
}

static unsigned kind_of_fd(int fd)
{
    return fd >= 0 && fd < FD_COUNT ? __atomic_load_n(&kinds[fd], __ATOMIC_RELAXED) : 0;
}

#define FAIL_IF(op, kind, size)                         \
    do {                                                \
        const int error_ = judge((op), (kind), (size)); \
        if (error_ != 0) {                              \
            errno = error_;                             \
            return -1;                                  \
        }                                               \
    } while (0)

static int opened(int fd, unsigned kind)
{
    if (fd >= 0 && fd < FD_COUNT)
        __atomic_store_n(&kinds[fd], (unsigned char)kind, __ATOMIC_RELAXED);
    return fd;
}

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...)                                        \
    {                                                                                 \
        va_list rest;                                                                 \
        va_start(rest, flags);                                                        \
        const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                                 \
        const unsigned kind = kind_of(path);                                          \
        FAIL_IF(OP_OPEN, kind, NULL);                                                 \
        return opened(REAL(name)(path, flags, mode), kind);                           \
    }
OPEN(open)
OPEN(open64)

FILE *fopen(const char *path, const char *mode)
{
    const int error = judge(OP_OPEN, kind_of(path), NULL);
    if (error == 0)
        return REAL(fopen)(path, mode);
    errno = error;
    return NULL;
}

int close(int fd)
{
    opened(fd, 0);
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *data, size_t size)
{
    FAIL_IF(OP_WRITE, kind_of_fd(fd), &size);
    return REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    FAIL_IF(OP_WRITE, kind_of_fd(fd), &size);
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    FAIL_IF(OP_WRITE, kind_of_fd(fd), &size);
    return REAL(pwrite64)(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    FAIL_IF(OP_WRITE, kind_of_fd(fd), NULL);
    return REAL(writev)(fd, parts, count);
}

ssize_t read(int fd, void *data, size_t size)
{
    FAIL_IF(OP_READ, kind_of_fd(fd), NULL);
    return REAL(read)(fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    FAIL_IF(OP_READ, kind_of_fd(fd), NULL);
    return REAL(pread)(fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off_t at)
{
    FAIL_IF(OP_READ, kind_of_fd(fd), NULL);
    return REAL(pread64)(fd, data, size, at);
}

int fsync(int fd)
{
    FAIL_IF(OP_SYNC, kind_of_fd(fd), NULL);
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    FAIL_IF(OP_SYNC, kind_of_fd(fd), NULL);
    return REAL(fdatasync)(fd);
}

int sync_file_range(int fd, off_t at, off_t size, unsigned flags)
{
    FAIL_IF(OP_SYNC, kind_of_fd(fd), NULL);
    return REAL(sync_file_range)(fd, at, size, flags);
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    FAIL_IF(OP_ALLOCATE, kind_of_fd(fd), NULL);
    return REAL(fallocate)(fd, mode, at, size);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    const int error = judge(OP_ALLOCATE, kind_of_fd(fd), NULL);
    return error != 0 ? error : REAL(posix_fallocate)(fd, at, size);
}

int rename(const char *from, const char *to)
{
    FAIL_IF(OP_RENAME, kind_of(to), NULL);
    return REAL(rename)(from, to);
}

static void pretend(uint64_t block, uint64_t *free_blocks, uint64_t *available)
{
    if (control != NULL && get(&control->free_size) >= 0)
        *free_blocks = *available = (uint64_t)get(&control->free_size) / block;
}

int statvfs(const char *path, struct statvfs *out)
{
    const int result = REAL(statvfs)(path, out);
    if (result == 0)
        pretend(out->f_frsize, &out->f_bfree, &out->f_bavail);
    return result;
}

/* Stands for systemd's socket too: there need not be one. */
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
               socklen_t to_size)
{
    if (control == NULL || to == NULL || to->sa_family != AF_UNIX)
        return REAL(sendto)(fd, data, size, flags, to, to_size);
    if (size == 10 && memcmp(data, "WATCHDOG=1", 10) == 0)
        add(&control->watchdogs, 1);
    return (ssize_t)size;
}

static void hang(void)
{
    char name[16] = "";
    if (pthread_getname_np(pthread_self(), name, sizeof name) != 0 ||
        strncmp(name, control->hang_name, strlen(control->hang_name)) != 0)
        return;
    add(&control->hung, 1);
    while (get(&control->hang) != 0)
        pause_ms(5);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    static __typeof__(&clock_gettime)
        real; /* the same whoever finds it; asked for too often to look */
    if (real == NULL)
        real = REAL(clock_gettime);
    if (control == NULL)
        return real(clock, out);
    if (get(&control->hang) != 0)
        hang();
    const int result = real(clock, out);
    const int64_t more = clock == CLOCK_REALTIME ? get(&control->clock_ns) : 0;
    if (result == 0 && more != 0) {
        const int64_t ns = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec + more;
        out->tv_sec = ns / 1000000000;
        out->tv_nsec = ns % 1000000000;
    }
    return result;
}
