/* node/notify.h - a word to systemd (sd_notify(3)), without its library.
 *
 * Each call is one datagram to the socket that NOTIFY_SOCKET names. Without that variable nothing
 * happens, so the caller need not know who started it. */
#pragma once

#include "base/base.h"

/* False: nobody listens, or the datagram was refused (errno says why). */
bool tp_notify_ready(const char *status); /* READY=1, and a line for `systemctl status` */
bool tp_notify_status(const char *status);
bool tp_notify_stopping(void);
bool tp_notify_watchdog(void);

/* How often tp_notify_watchdog is due: half of what the unit's WatchdogSec allows. 0: never. */
uint64_t tp_notify_watchdog_ns(void);
