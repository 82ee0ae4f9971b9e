/* store/wal.h - why a log of RocksDB's cannot be read to its end.
 *
 *     file    blocks of 32 KiB, the last one shorter
 *     block   records, then fewer than 7 bytes of nothing
 *     record  masked CRC-32C u32 of what follows the size | size u16 | kind u8 | bytes
 *     kind    1 whole; 2 first, 3 middle, 4 last part of one that crosses blocks
 *
 * RocksDB says that a record is bad. Whether that is the write that a power failure tore, which was
 * promised to nobody, or damage with promises behind it, is told by what follows: the begin of
 * another record, or none. */
#pragma once

#include "base/base.h"

enum tp_wal_verdict {
    TP_WAL_SOUND,   /* it may end in the middle of a record */
    TP_WAL_TORN,    /* after a bad record none begins */
    TP_WAL_DAMAGED, /* one does */
};

/* Writes the place of the first bad byte, the file's size if there is none. */
enum tp_wal_verdict tp_wal_look(struct tp_slice file, size_t *sound_size);

/* All logs of a directory: torn if nothing but the end of the newest is. TP_WAL_DAMAGED also when
 * one cannot be read. `torn_size` are the bytes from the bad one to the end. */
enum tp_wal_verdict tp_wal_look_all(const char *directory, uint64_t *torn_size);
