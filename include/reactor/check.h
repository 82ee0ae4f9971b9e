/* reactor/check.h - can this machine run the reactors? Asked once, before anything starts.
 *
 * Raises the soft limit of open files to the hard one, then tries what the shards will need: one
 * ring per thread, all at once. */
#pragma once

#include "base/base.h"

/* For `thread_count` reactors and `fd_wanted` open files. False: `error` says in one sentence what
 * is missing and what to change. True with a non-empty `error`: it works, but not for as many
 * connections as wanted; a warning to log. */
bool tp_reactor_check(uint32_t thread_count, uint64_t fd_wanted, char *error, size_t error_size);
