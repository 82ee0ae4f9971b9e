/* store/disk.h - the disk below a directory, asked without a database. */
#pragma once

#include "store/trouble.h"

/* Writes and syncs a small file in `directory` and removes it. Opening a database on a disk that
 * takes nothing may fail half way; while it stays open as it is, documents can be read. `room`
 * bytes must be free besides. */
struct tp_trouble tp_disk_try(const char *directory, uint64_t room);

/* Bytes of the files in `directory` whose name ends in `ending`. */
uint64_t tp_disk_files_size(const char *directory, const char *ending);

/* Links every file of `directory` whose name ends in `ending` into a new directory below it, whose
 * path is written to `kept`: they stay there when their owner removes them. 0 or an errno. */
TP_MUST_CHECK int tp_disk_keep(const char *directory, const char *ending, char *kept,
                               size_t kept_size);
