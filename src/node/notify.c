#include "node/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool send_words(const char *words)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path == NULL || (path[0] != '/' && path[0] != '@'))
        return false;
    const size_t size = strlen(path);
    if (size >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(address.sun_path, path, size);
    if (path[0] == '@') /* an abstract name begins with NUL and does not end in one */
        address.sun_path[0] = '\0';

    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    const ssize_t sent = sendto(fd, words, strlen(words), MSG_NOSIGNAL, (struct sockaddr *)&address,
                                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
    const int why = errno;
    close(fd);
    errno = why;
    return sent == (ssize_t)strlen(words);
}

bool tp_notify_ready(const char *status)
{
    char words[512];

    snprintf(words, sizeof words, "READY=1\nSTATUS=%.400s", status);
    return send_words(words);
}

bool tp_notify_status(const char *status)
{
    char words[512];

    snprintf(words, sizeof words, "STATUS=%.400s", status);
    return send_words(words);
}

bool tp_notify_stopping(void)
{
    return send_words("STOPPING=1");
}

bool tp_notify_watchdog(void)
{
    return send_words("WATCHDOG=1");
}

uint64_t tp_notify_watchdog_ns(void)
{
    const char *us = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID"); /* set: the variable is meant for that process only */
    uint64_t limit_us;

    if (us == NULL || sscanf(us, "%" SCNu64, &limit_us) != 1)
        return 0;
    if (pid != NULL && strtol(pid, NULL, 10) != getpid())
        return 0;
    return limit_us * 1000 / 2;
}
