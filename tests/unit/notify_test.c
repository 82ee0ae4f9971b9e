/* What systemd hears from us. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "node/notify.h"

/* A socket as systemd would have it, named in the environment. */
static int listen_as_systemd(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    cr_assert_geq(fd, 0);
    strcpy(address.sun_path, name);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    cr_assert_eq(bind(fd, (struct sockaddr *)&address,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static const char *hear(int fd)
{
    static char heard[1024];
    const ssize_t size = recv(fd, heard, sizeof heard - 1, MSG_DONTWAIT);

    heard[size > 0 ? size : 0] = '\0';
    return heard;
}

Test(notify, says_the_four_words_to_the_socket_in_the_environment)
{
    char path[64];
    snprintf(path, sizeof path, P_tmpdir "/teleportald-notify-%d", getpid());
    const int fd = listen_as_systemd(path);

    cr_assert(tp_notify_ready("serving 127.0.0.1:1234"));
    cr_assert_str_eq(hear(fd), "READY=1\nSTATUS=serving 127.0.0.1:1234");
    cr_assert(tp_notify_status("draining"));
    cr_assert_str_eq(hear(fd), "STATUS=draining");
    cr_assert(tp_notify_watchdog());
    cr_assert_str_eq(hear(fd), "WATCHDOG=1");
    cr_assert(tp_notify_stopping());
    cr_assert_str_eq(hear(fd), "STOPPING=1");
    close(fd);
    unlink(path);
}

Test(notify, reaches_a_socket_with_an_abstract_name)
{
    char name[64];
    snprintf(name, sizeof name, "@teleportald-notify-%d", getpid());
    const int fd = listen_as_systemd(name);

    cr_assert(tp_notify_stopping());
    cr_assert_str_eq(hear(fd), "STOPPING=1");
    close(fd);
}

Test(notify, says_nothing_when_nobody_asked)
{
    unsetenv("NOTIFY_SOCKET");
    cr_assert_not(tp_notify_stopping());
    setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
    cr_assert_not(tp_notify_stopping(), "an address of another kind");
}

Test(notify, barks_twice_as_often_as_the_watchdog_demands)
{
    char pid[32];

    unsetenv("WATCHDOG_USEC");
    cr_assert_eq(tp_notify_watchdog_ns(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    cr_assert_eq(tp_notify_watchdog_ns(), UINT64_C(15000000000));
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("WATCHDOG_PID", pid, 1);
    cr_assert_eq(tp_notify_watchdog_ns(), UINT64_C(15000000000));
    setenv("WATCHDOG_PID", "1", 1);
    cr_assert_eq(tp_notify_watchdog_ns(), 0, "meant for another process");
}
