#include "store/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define PATH_SIZE_MAX 4096u
#define TRIAL_SIZE ((size_t)64 << 10) /* bytes written to see whether the disk takes any */

static int write_trial(const char *path)
{
    static const uint8_t zeros[TRIAL_SIZE];
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640);
    int error = 0;

    if (fd < 0)
        return errno;
    const ssize_t written = write(fd, zeros, sizeof zeros);
    if (written < 0)
        error = errno;
    else if (written < (ssize_t)sizeof zeros)
        error = ENOSPC; /* nothing else cuts a write to a file short */
    else if (fsync(fd) != 0)
        error = errno;
    close(fd);
    unlink(path);
    return error;
}

struct tp_trouble tp_disk_try(const char *directory, uint64_t room)
{
    char path[PATH_SIZE_MAX];
    struct statvfs space;

    snprintf(path, sizeof path, "%.*s/trial", (int)(sizeof path - 16), directory);
    const int error = write_trial(path);
    if (error != 0)
        return tp_trouble_errno(error, "writing a file to try the disk");
    if (statvfs(directory, &space) == 0 && space.f_bavail * space.f_frsize < room)
        return tp_trouble_errno(ENOSPC, "opening the database again needs more room");
    return (struct tp_trouble){0};
}

static bool ends_in(const char *name, const char *ending)
{
    const size_t size = strlen(name), ending_size = strlen(ending);

    return size > ending_size && strcmp(name + size - ending_size, ending) == 0;
}

uint64_t tp_disk_files_size(const char *directory, const char *ending)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    struct stat stat;
    uint64_t size = 0;

    if (stream == NULL)
        return 0;
    while ((entry = readdir(stream)) != NULL)
        if (ends_in(entry->d_name, ending) && fstatat(dirfd(stream), entry->d_name, &stat, 0) == 0)
            size += (uint64_t)stat.st_size;
    closedir(stream);
    return size;
}

static int link_all(DIR *stream, int to, const char *ending)
{
    struct dirent *entry;

    while ((entry = readdir(stream)) != NULL)
        if (ends_in(entry->d_name, ending) &&
            linkat(dirfd(stream), entry->d_name, to, entry->d_name, 0) != 0)
            return errno;
    return fsync(to) == 0 ? 0 : errno;
}

static int link_into(DIR *stream, const char *kept, const char *ending)
{
    if (mkdir(kept, 0750) != 0 && errno != EEXIST)
        return errno;
    const int to = open(kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to < 0)
        return errno;
    const int error = link_all(stream, to, ending);
    close(to);
    return error;
}

int tp_disk_keep(const char *directory, const char *ending, char *kept, size_t kept_size)
{
    snprintf(kept, kept_size, "%.900s/damaged-%lld", directory, (long long)time(NULL));
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return errno;
    const int error = link_into(stream, kept, ending);
    closedir(stream);
    return error;
}
