/* store/database.h - one RocksDB directory: a column family per table, and a format version.
 *
 *     default           "format" -> "1"
 *     documents-names, documents-base, documents-log, documents-metadata, milestones, files, ...
 *
 * Writing (write, get, sync, probe, recover) is for one thread at a time, whichever; reading is for
 * any thread at any time, also while the database is closed and opened again to recover. Writes are
 * in the process's memory until tp_database_sync. */
#pragma once

#include "store/batch.h"
#include "store/store.h"
#include "store/trouble.h"

#define TP_DATABASE_FORMAT "1"

struct tp_database;

/* Makes the directory, and those above it, if there is none. A log of writes that ends in the
 * middle of one is as a crash leaves it; one with damage before its end is not opened, since what
 * was acknowledged may lie behind, unless `salvage`: then it is kept aside, what is readable in it
 * is taken, and `error` says so. NULL: `error` says why in a sentence. */
struct tp_database *tp_database_open(const char *location, uint64_t memory_size, bool salvage,
                                     char *error, size_t error_size);
/* Syncs, then closes. NULL is allowed. */
void tp_database_close(struct tp_database *database);

/* All rows, or none. TP_FULL: the disk is full; TP_IO: it fails otherwise. After either, every
 * later write fails too, until tp_database_recover. */
TP_MUST_CHECK enum tp_status tp_database_write(struct tp_database *database,
                                               const struct tp_batch *batch);
/* What was written is with the kernel (OS), on the disk (DISK), or nothing happens (MEMORY). */
TP_MUST_CHECK enum tp_status tp_database_sync(struct tp_database *database,
                                              enum tp_durability durability);
/* The newest value, valid until the next call; TP_ABSENT; TP_IO: this one cannot be read. */
enum tp_status tp_database_get(struct tp_database *database, enum tp_store_table table,
                               struct tp_slice key, struct tp_slice *value);

/* Fills the answer of a READ, all ranges as of one moment. */
void tp_database_read(struct tp_database *database, struct tp_store_op *op);

/* Reads that found damage: a block or a file that is not what was written. Any thread. */
uint64_t tp_database_damage_count(const struct tp_database *database);
/* What the first of them said; empty: there was none. Any thread. */
void tp_database_damage(struct tp_database *database, char detail[TP_STORE_DETAIL_SIZE]);

/* What stopped writing: said by the last write, sync or recovery that failed. The writer's. */
const struct tp_trouble *tp_database_trouble(const struct tp_database *database);

/* After a failure: tries the disk, and opens the database again. RocksDB stops at the first failed
 * write, and its C interface has no call to resume it; what it mends by itself leaves the torn end
 * of a write in the middle of a log that it goes on with. When it was stopped by a compaction that
 * found damage, it is opened without compaction: everybody else's documents go on. TP_OK: it works.
 */
TP_MUST_CHECK enum tp_status tp_database_recover(struct tp_database *database);
