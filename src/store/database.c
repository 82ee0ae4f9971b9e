#include "store/database.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/answer.h"
#include "store/disk.h"
#include "store/wal.h"

#define MIB ((uint64_t)1 << 20)
#define MEMORY_SIZE_DEFAULT (128 * MIB)
#define MEMORY_SIZE_MIN (16 * MIB)
#define DOCUMENT_PREFIX_SIZE 8u /* the number that keys of the log start with */
#define BLOB_SIZE_MIN ((uint64_t)64 << 10)
#define PATH_SIZE_MAX 4096u
#define ROOM_TO_OPEN (4 * MIB)        /* free bytes that opening takes, beside those of the log */
#define INFO_LOG_HEADER 5             /* rocksdb::InfoLogLevel::HEADER_LEVEL */
#define DEFAULT_FAMILY TP_TABLE_COUNT /* its place among the handles */
#define FAMILY_COUNT (TP_TABLE_COUNT + 1)

/* What is stored under these names is not looked at by anybody else: changing one is a new format.
 */
static const char *const family_names[FAMILY_COUNT] = {
    [TP_TABLE_NAMES] = "documents-names",
    [TP_TABLE_BASES] = "documents-base",
    [TP_TABLE_LOG] = "documents-log",
    [TP_TABLE_METADATA] = "documents-metadata",
    [TP_TABLE_MILESTONES] = "milestones",
    [TP_TABLE_FILES] = "files",
    [TP_TABLE_UPLOADS] = "uploads",
    [TP_TABLE_ATTRIBUTION] = "attribution",
    [TP_TABLE_KEYS] = "keys",
    [TP_TABLE_RATES] = "rates",
    [TP_TABLE_QUARANTINE] = "quarantine",
    [DEFAULT_FAMILY] = "default",
};

struct tp_database {
    char location[PATH_SIZE_MAX];
    /* Read-locked by who reads, write-locked while `db` is replaced. The writer itself needs no
     * lock. */
    pthread_rwlock_t lock;
    rocksdb_t *db; /* NULL: could not be opened again, yet */
    rocksdb_column_family_handle_t *families[FAMILY_COUNT];

    rocksdb_options_t *options;
    rocksdb_options_t *family_options[FAMILY_COUNT];
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;
    rocksdb_readoptions_t *get_options;
    rocksdb_writebatch_t *batch;
    rocksdb_pinnableslice_t *got; /* what the last get answered */

    struct tp_trouble trouble; /* the writer's: why it failed last */
    bool without_compaction;   /* compaction found damage, and would again */
    _Atomic uint64_t damage_count;
    pthread_mutex_t damage_lock;
    char damage[TP_STORE_DETAIL_SIZE]; /* the first */

    /* a row's pieces, as the C interface wants them */
    struct tp_slice *pieces;
    const char **piece_data;
    size_t *piece_sizes;
    uint32_t piece_room;
};

/* ---- options ----------------------------------------------------------------------------------
 */

static bool has_large_values(uint32_t family)
{
    return family == TP_TABLE_BASES || family == TP_TABLE_FILES || family == TP_TABLE_UPLOADS ||
           family == TP_TABLE_MILESTONES;
}

/* The next entry of a document's log goes right behind its last one. A memtable that remembers
 * where that was finds the place without a walk through all documents. (The C interface has this
 * option in its textual form only. Refused, which a later version may do, it costs speed only.) */
static rocksdb_options_t *with_places(rocksdb_options_t *options)
{
    rocksdb_options_t *better = rocksdb_options_create();
    char *failure = NULL;

    rocksdb_get_options_from_string(
        options, "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.8", better,
        &failure);
    rocksdb_options_destroy(failure == NULL ? options : better);
    options = failure == NULL ? better : options;
    rocksdb_free(failure);
    return options;
}

static rocksdb_options_t *create_family_options(uint32_t family, rocksdb_cache_t *cache,
                                                uint64_t memtable_size)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_block_size(table, (size_t)16 << 10);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);

    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_write_buffer_size(options, family == TP_TABLE_LOG ? memtable_size
                                                                          : memtable_size / 4);
    if (family == TP_TABLE_LOG) {
        /* A document without a log is told from the filter, without reading a block. */
        rocksdb_options_set_prefix_extractor(
            options, rocksdb_slicetransform_create_fixed_prefix(DOCUMENT_PREFIX_SIZE));
        options = with_places(options);
    }
    if (has_large_values(family)) {
        /* A large value is written once, not again with each compaction of its level. */
        rocksdb_options_set_enable_blob_files(options, 1);
        rocksdb_options_set_min_blob_size(options, BLOB_SIZE_MIN);
        rocksdb_options_set_blob_compression_type(options, rocksdb_lz4_compression);
        rocksdb_options_set_enable_blob_gc(options, 1);
    }
    return options;
}

/* One budget for everything: a quarter for what is not yet in files, the rest to read through. */
static void create_options(struct tp_database *database, uint64_t memory_size)
{
    const uint64_t size =
        tp_max(memory_size == 0 ? MEMORY_SIZE_DEFAULT : memory_size, MEMORY_SIZE_MIN);
    const uint64_t memtable_size = tp_min(size / 4, 256 * MIB);
    rocksdb_options_t *options = rocksdb_options_create();

    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_manual_wal_flush(options, 1);
    rocksdb_options_set_wal_recovery_mode(options,
                                          rocksdb_tolerate_corrupted_tail_records_recovery);
    rocksdb_options_set_db_write_buffer_size(options, memtable_size);
    /* Tables that are seldom written hold on to old logs: beyond this they are flushed. It bounds
     * the time to start after a crash. */
    rocksdb_options_set_max_total_wal_size(options, 4 * memtable_size);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_open_files(options, 512);
    rocksdb_options_set_keep_log_file_num(options, 4);
    rocksdb_options_set_max_log_file_size(options, 4 * MIB);
    /* Its LOG has the options that it was opened with, and not a line more: where its assertions
     * are compiled in, as in Debian, the line after one that found the disk full ends the process.
     * What it complains of comes back from its calls and goes into our log. */
    rocksdb_options_set_info_log_level(options, INFO_LOG_HEADER);
    rocksdb_options_set_stats_dump_period_sec(options, 0);

    /* The shards' cores are worth more than the compaction's hurry. */
    rocksdb_env_t *env = rocksdb_create_default_env();
    rocksdb_env_lower_thread_pool_cpu_priority(env);
    rocksdb_options_set_env(options, env);
    rocksdb_env_destroy(env); /* the default one lives on */

    database->options = options;
    database->cache = rocksdb_cache_create_lru(size - memtable_size);
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        database->family_options[family] =
            create_family_options(family, database->cache, memtable_size / 2);
    database->write_options = rocksdb_writeoptions_create();
    database->get_options = rocksdb_readoptions_create();
    database->batch = rocksdb_writebatch_create();
}

/* ---- open and close ---------------------------------------------------------------------------
 */

/* Of a write: says what stopped it. Takes `error`. */
static enum tp_status judge(struct tp_database *database, char *error)
{
    if (error == NULL)
        return TP_OK;
    database->trouble = tp_trouble_from(error);
    rocksdb_free(error);
    return tp_trouble_status(&database->trouble);
}

/* Of a read: the rest of the database may be well. Takes `error`. */
static enum tp_status judge_read(struct tp_database *database, char *error)
{
    if (error == NULL)
        return TP_OK;
    if (tp_trouble_from(error).state == TP_STORE_CORRUPT) {
        pthread_mutex_lock(&database->damage_lock);
        if (database->damage[0] == '\0')
            snprintf(database->damage, sizeof database->damage, "%s", error);
        pthread_mutex_unlock(&database->damage_lock);
        atomic_fetch_add(&database->damage_count, 1);
    }
    rocksdb_free(error);
    return TP_IO;
}

static void close_families(rocksdb_t *db, rocksdb_column_family_handle_t **families, size_t count)
{
    for (size_t family = 0; family < count; family++)
        if (families[family] != NULL)
            rocksdb_column_family_handle_destroy(families[family]);
    rocksdb_close(db);
}

static void drop_got(struct tp_database *database)
{
    if (database->got != NULL)
        rocksdb_pinnableslice_destroy(database->got);
    database->got = NULL;
}

static void close_db(struct tp_database *database)
{
    drop_got(database);
    if (database->db != NULL)
        close_families(database->db, database->families, FAMILY_COUNT);
    memset(database->families, 0, sizeof database->families);
    database->db = NULL;
}

static bool is_ours(const char *name)
{
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        if (strcmp(family_names[family], name) == 0)
            return true;
    return false;
}

/* Somebody else's directory, or that of a later version: a table that we do not know. */
static bool has_foreign_family(struct tp_database *database, char *name, size_t name_size)
{
    size_t count = 0;
    char *failure = NULL;
    bool foreign = false;
    char **names =
        rocksdb_list_column_families(database->options, database->location, &count, &failure);

    if (failure != NULL) /* no database there yet; anything else the open will say */
        count = 0;
    rocksdb_free(failure);
    for (size_t nth = 0; nth < count && !foreign; nth++) {
        foreign = !is_ours(names[nth]);
        if (foreign)
            snprintf(name, name_size, "%s", names[nth]);
    }
    rocksdb_list_column_families_destroy(names, count);
    return foreign;
}

static bool is_empty(struct tp_database *database)
{
    bool empty = true;

    for (uint32_t family = 0; family < FAMILY_COUNT && empty; family++) {
        rocksdb_iterator_t *rows = rocksdb_create_iterator_cf(database->db, database->get_options,
                                                              database->families[family]);
        rocksdb_iter_seek_to_first(rows);
        empty = !rocksdb_iter_valid(rows);
        rocksdb_iter_destroy(rows);
    }
    return empty;
}

static char *write_format(struct tp_database *database)
{
    char *failure = NULL;

    rocksdb_put_cf(database->db, database->write_options, database->families[DEFAULT_FAMILY],
                   "format", 6, TP_DATABASE_FORMAT, strlen(TP_DATABASE_FORMAT), &failure);
    if (failure == NULL)
        rocksdb_flush_wal(database->db, 1, &failure);
    return failure;
}

static bool check_format(struct tp_database *database, char *error, size_t error_size)
{
    char *failure = NULL;
    size_t size = 0;
    char *format = rocksdb_get_cf(database->db, database->get_options,
                                  database->families[DEFAULT_FAMILY], "format", 6, &size, &failure);
    bool good = false;

    if (failure == NULL && format == NULL && !is_empty(database)) {
        snprintf(error, error_size,
                 "%s holds a database that is not ours: it has no format version",
                 database->location);
    } else if (failure == NULL && format == NULL) {
        failure = write_format(database);
        good = failure == NULL;
    } else if (failure == NULL) {
        good = tp_slice_equal(tp_slice_of(format, size), TP_SLICE(TP_DATABASE_FORMAT));
        if (!good)
            snprintf(error, error_size,
                     "%s has format %.*s, and this version reads and writes only format %s",
                     database->location, (int)tp_min(size, 20), format, TP_DATABASE_FORMAT);
    }
    if (failure != NULL)
        snprintf(error, error_size, "%s: %s", database->location, failure);
    rocksdb_free(format);
    rocksdb_free(failure);
    return good;
}

static bool open_db(struct tp_database *database, char *error, size_t error_size)
{
    rocksdb_column_family_handle_t *families[FAMILY_COUNT] = {0};
    const rocksdb_options_t *family_options[FAMILY_COUNT];
    char foreign[64];
    char *failure = NULL;

    if (has_foreign_family(database, foreign, sizeof foreign)) {
        snprintf(error, error_size,
                 "%s has a table %s, which this version does not know: a later one wrote it",
                 database->location, foreign);
        return false;
    }
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        family_options[family] = database->family_options[family];
    rocksdb_t *db =
        rocksdb_open_column_families(database->options, database->location, FAMILY_COUNT,
                                     family_names, family_options, families, &failure);
    if (failure != NULL) {
        if (strstr(failure, "lock") != NULL && strstr(failure, "LOCK") != NULL)
            snprintf(error, error_size, "%s is in use by another process", database->location);
        else
            snprintf(error, error_size, "%s: %s", database->location, failure);
        rocksdb_free(failure);
        return false;
    }
    database->db = db;
    memcpy(database->families, families, sizeof families);
    if (check_format(database, error, error_size))
        return true;
    close_db(database);
    return false;
}

static int make_directories(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const int result = mkdir(path, 0750);
        *slash = '/';
        if (result != 0 && errno != EEXIST)
            return -1;
    }
    return mkdir(path, 0750) != 0 && errno != EEXIST ? -1 : 0;
}

/* Keeps the log aside and opens with another way to read it. `error` says what is damaged, and then
 * how it went. */
static bool open_damaged(struct tp_database *database, int recovery_mode, char *error,
                         size_t error_size)
{
    char kept[1024], damage[TP_STORE_DETAIL_SIZE];

    snprintf(damage, sizeof damage, "%s", error);
    const int failure = tp_disk_keep(database->location, ".log", kept, sizeof kept);
    if (failure != 0) {
        snprintf(error, error_size, "the damaged log cannot be kept in %s: %s", kept,
                 strerror(failure));
        return false;
    }
    rocksdb_options_set_wal_recovery_mode(database->options, recovery_mode);
    const bool opened = open_db(database, error, error_size);
    rocksdb_options_set_wal_recovery_mode(database->options,
                                          rocksdb_tolerate_corrupted_tail_records_recovery);
    if (opened)
        snprintf(error, error_size, "%s; what was readable is taken, the log is kept in %s", damage,
                 kept);
    return opened;
}

static bool open_or_salvage(struct tp_database *database, bool salvage, char *error,
                            size_t error_size)
{
    char damage[TP_STORE_DETAIL_SIZE];
    uint64_t torn_size = 0;

    if (open_db(database, error, error_size))
        return true;
    if (tp_trouble_from(error).state != TP_STORE_CORRUPT)
        return false;
    if (tp_wal_look_all(database->location, &torn_size) == TP_WAL_TORN) {
        snprintf(error, error_size, "the last write, %" PRIu64 " bytes of the log, is torn",
                 torn_size);
        return open_damaged(database, rocksdb_point_in_time_recovery, error, error_size);
    }
    if (salvage)
        return open_damaged(database, rocksdb_skip_any_corrupted_records_recovery, error,
                            error_size);
    snprintf(damage, sizeof damage, "%s", error);
    snprintf(
        error, error_size,
        "the database is damaged, and nothing was changed: %s. Restore a backup, or start with "
        "--salvage=on to keep what is damaged aside and take what is readable",
        damage);
    return false;
}

struct tp_database *tp_database_open(const char *location, uint64_t memory_size, bool salvage,
                                     char *error, size_t error_size)
{
    struct tp_database *database = calloc(1, sizeof *database);

    TP_ASSERT(database != NULL);
    pthread_rwlock_init(&database->lock, NULL);
    pthread_mutex_init(&database->damage_lock, NULL);
    create_options(database, memory_size);
    if (location == NULL || *location == '\0' || strlen(location) >= PATH_SIZE_MAX - 16) {
        snprintf(error, error_size, "the store needs a directory");
        goto fail;
    }
    strcpy(database->location, location);
    if (make_directories(database->location) != 0) {
        snprintf(error, error_size, "%s cannot be made: %s", location, strerror(errno));
        goto fail;
    }
    if (!open_or_salvage(database, salvage, error, error_size))
        goto fail;
    return database;

fail:
    tp_database_close(database);
    return NULL;
}

void tp_database_close(struct tp_database *database)
{
    if (database == NULL)
        return;
    if (database->db != NULL) {
        char *failure = NULL;
        rocksdb_flush_wal(database->db, 1, &failure);
        rocksdb_free(
            failure); /* what was promised is on the disk already; the rest was not promised */
    }
    close_db(database);
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        rocksdb_options_destroy(database->family_options[family]);
    rocksdb_options_destroy(database->options);
    rocksdb_cache_destroy(database->cache);
    rocksdb_writeoptions_destroy(database->write_options);
    rocksdb_readoptions_destroy(database->get_options);
    rocksdb_writebatch_destroy(database->batch);
    pthread_rwlock_destroy(&database->lock);
    pthread_mutex_destroy(&database->damage_lock);
    free(database->pieces);
    free(database->piece_data);
    free(database->piece_sizes);
    free(database);
}

/* ---- write ------------------------------------------------------------------------------------
 */

static void make_room(struct tp_database *database, uint32_t piece_count)
{
    if (piece_count <= database->piece_room)
        return;
    database->piece_room = piece_count * 2;
    free(database->pieces);
    free(database->piece_data);
    free(database->piece_sizes);
    database->pieces = calloc(database->piece_room, sizeof *database->pieces);
    database->piece_data = calloc(database->piece_room, sizeof *database->piece_data);
    database->piece_sizes = calloc(database->piece_room, sizeof *database->piece_sizes);
    TP_ASSERT(database->pieces && database->piece_data && database->piece_sizes);
}

static void put_row(struct tp_database *database, const struct tp_batch *batch,
                    const struct tp_batch_row *row)
{
    const char *key = (const char *)row->key.data;
    const size_t key_size = row->key.size;

    make_room(database, row->piece_count);
    const uint32_t count = tp_batch_gather(batch, row, database->pieces, database->piece_room);
    for (uint32_t nth = 0; nth < count; nth++) {
        database->piece_data[nth] = (const char *)database->pieces[nth].data;
        database->piece_sizes[nth] = database->pieces[nth].size;
    }
    rocksdb_writebatch_putv_cf(database->batch, database->families[row->table], 1, &key, &key_size,
                               (int)count, database->piece_data, database->piece_sizes);
}

/* Row by row: RocksDB's own range deletion breaks its memtable where entries are inserted by hint
 * (the log), and slows every later read down until it is compacted away. */
static void delete_rows(struct tp_database *database, const struct tp_batch_row *row,
                        char **failure)
{
    rocksdb_column_family_handle_t *family = database->families[row->table];
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();

    if (*failure == NULL) {
        rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)row->to.data,
                                                    row->to.size);
        rocksdb_readoptions_set_total_order_seek(options, 1);
        rocksdb_iterator_t *rows = rocksdb_create_iterator_cf(database->db, options, family);
        for (rocksdb_iter_seek(rows, (const char *)row->key.data, row->key.size);
             rocksdb_iter_valid(rows); rocksdb_iter_next(rows)) {
            size_t key_size;
            const char *key = rocksdb_iter_key(rows, &key_size);
            rocksdb_writebatch_delete_cf(database->batch, family, key, key_size);
        }
        rocksdb_iter_get_error(rows, failure);
        rocksdb_iter_destroy(rows);
    }
    rocksdb_readoptions_destroy(options);
}

enum tp_status tp_database_write(struct tp_database *database, const struct tp_batch *batch)
{
    char *failure = NULL;

    TP_ASSERT(database->db != NULL); /* nothing is written before a recovery that worked */
    for (uint32_t nth = 0; nth < batch->row_count; nth++) {
        const struct tp_batch_row *row = &batch->rows[nth];

        if (row->to.size > 0)
            delete_rows(database, row, &failure);
        else if (row->is_delete)
            rocksdb_writebatch_delete_cf(database->batch, database->families[row->table],
                                         (const char *)row->key.data, row->key.size);
        else
            put_row(database, batch, row);
    }
    if (failure == NULL)
        rocksdb_write(database->db, database->write_options, database->batch, &failure);
    rocksdb_writebatch_clear(database->batch);
    return judge(database, failure);
}

enum tp_status tp_database_sync(struct tp_database *database, enum tp_durability durability)
{
    char *failure = NULL;

    if (durability == TP_DURABILITY_MEMORY)
        return TP_OK;
    TP_ASSERT(database->db != NULL);
    rocksdb_flush_wal(database->db, durability == TP_DURABILITY_DISK, &failure);
    return judge(database, failure);
}

/* ---- read -------------------------------------------------------------------------------------
 */

static struct tp_slice pinned(const rocksdb_pinnableslice_t *slice)
{
    size_t size = 0;
    const char *data = rocksdb_pinnableslice_value(slice, &size);

    return tp_slice_of(data, size);
}

enum tp_status tp_database_get(struct tp_database *database, enum tp_store_table table,
                               struct tp_slice key, struct tp_slice *value)
{
    char *failure = NULL;

    drop_got(database);
    if (database->db == NULL)
        return TP_IO;
    database->got =
        rocksdb_get_pinned_cf(database->db, database->get_options, database->families[table],
                              (const char *)key.data, key.size, &failure);
    if (failure != NULL)
        return judge_read(database, failure);
    if (database->got == NULL)
        return TP_ABSENT;
    *value = pinned(database->got);
    return TP_OK;
}

static enum tp_status read_single(struct tp_database *database, rocksdb_readoptions_t *options,
                                  const struct tp_store_range *range, struct tp_answer *answer)
{
    char *failure = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned_cf(database->db, options, database->families[range->table],
                              (const char *)range->from.data, range->from.size, &failure);

    if (failure != NULL)
        return judge_read(database, failure);
    if (slice == NULL)
        return TP_OK;
    tp_answer_add(answer, range, range->from, pinned(slice));
    rocksdb_pinnableslice_destroy(slice);
    return TP_OK;
}

/* True if every key of the range starts with the same document number, so that the log's filter may
 * be asked: `to` is at most the smallest key behind that number. */
static bool is_one_document(const struct tp_store_range *range)
{
    uint8_t end[DOCUMENT_PREFIX_SIZE];
    uint32_t at = DOCUMENT_PREFIX_SIZE;

    if (range->table != TP_TABLE_LOG || range->from.size < DOCUMENT_PREFIX_SIZE ||
        range->to.size < DOCUMENT_PREFIX_SIZE)
        return false;
    if (memcmp(range->from.data, range->to.data, DOCUMENT_PREFIX_SIZE) == 0)
        return true;
    memcpy(end, range->from.data, DOCUMENT_PREFIX_SIZE);
    while (at > 0 && ++end[at - 1] == 0)
        at--;
    if (at == 0 || memcmp(range->to.data, end, DOCUMENT_PREFIX_SIZE) != 0)
        return false;
    for (size_t i = DOCUMENT_PREFIX_SIZE; i < range->to.size; i++)
        if (range->to.data[i] != 0)
            return false; /* keys of the next document lie below `to` */
    return true;
}

static enum tp_status read_range(struct tp_database *database, rocksdb_readoptions_t *options,
                                 const struct tp_store_range *range, struct tp_answer *answer)
{
    const bool one = is_one_document(range);
    uint32_t count = 0;
    char *failure = NULL;

    rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)range->to.data,
                                                range->to.size);
    rocksdb_readoptions_set_prefix_same_as_start(options, one);
    rocksdb_readoptions_set_total_order_seek(options, !one);
    rocksdb_iterator_t *rows =
        rocksdb_create_iterator_cf(database->db, options, database->families[range->table]);
    for (rocksdb_iter_seek(rows, (const char *)range->from.data, range->from.size);
         rocksdb_iter_valid(rows); rocksdb_iter_next(rows)) {
        size_t key_size, value_size;
        const char *key = rocksdb_iter_key(rows, &key_size);
        const char *value = rocksdb_iter_value(rows, &value_size);

        tp_answer_add(answer, range, tp_slice_of(key, key_size), tp_slice_of(value, value_size));
        if (++count == range->row_count_max || answer->bytes.full)
            break;
    }
    rocksdb_iter_get_error(rows, &failure);
    rocksdb_iter_destroy(rows);
    return judge_read(database, failure);
}

void tp_database_read(struct tp_database *database, struct tp_store_op *op)
{
    struct tp_answer answer = tp_answer_start();
    enum tp_status status = TP_IO;

    pthread_rwlock_rdlock(&database->lock);
    if (database->db != NULL) {
        rocksdb_readoptions_t *options = rocksdb_readoptions_create();
        const rocksdb_snapshot_t *snapshot = rocksdb_create_snapshot(database->db);

        status = TP_OK;
        rocksdb_readoptions_set_snapshot(options, snapshot);
        for (uint32_t nth = 0; nth < op->range_count && status == TP_OK; nth++)
            status = op->ranges[nth].to.size == 0
                         ? read_single(database, options, &op->ranges[nth], &answer)
                         : read_range(database, options, &op->ranges[nth], &answer);
        rocksdb_release_snapshot(database->db, snapshot);
        rocksdb_readoptions_destroy(options);
    }
    pthread_rwlock_unlock(&database->lock);
    tp_answer_finish(&answer, op, status);
}

/* ---- recovery ---------------------------------------------------------------------------------
 */

uint64_t tp_database_damage_count(const struct tp_database *database)
{
    return atomic_load(&database->damage_count);
}

void tp_database_damage(struct tp_database *database, char detail[TP_STORE_DETAIL_SIZE])
{
    pthread_mutex_lock(&database->damage_lock);
    memcpy(detail, database->damage, TP_STORE_DETAIL_SIZE);
    pthread_mutex_unlock(&database->damage_lock);
}

const struct tp_trouble *tp_database_trouble(const struct tp_database *database)
{
    return &database->trouble;
}

static void stop_compaction(struct tp_database *database)
{
    database->without_compaction = true;
    for (uint32_t family = 0; family < FAMILY_COUNT; family++)
        rocksdb_options_set_disable_auto_compactions(database->family_options[family], 1);
}

/* `trouble` becomes what stands in the way now. */
enum tp_status tp_database_recover(struct tp_database *database)
{
    char error[TP_STORE_DETAIL_SIZE];
    /* What is in the log is written to tables when it is opened. */
    const uint64_t room = tp_disk_files_size(database->location, ".log") + ROOM_TO_OPEN;
    const struct tp_trouble disk = tp_disk_try(database->location, room);

    if (disk.state != TP_STORE_OK) {
        database->trouble = disk;
        return tp_trouble_status(&disk);
    }
    if (database->trouble.state == TP_STORE_CORRUPT && !database->without_compaction) {
        stop_compaction(database);
        (void)judge_read(database, strdup(database->trouble.detail));
    }
    pthread_rwlock_wrlock(&database->lock);
    close_db(database);
    const bool opened = open_db(database, error, sizeof error);
    pthread_rwlock_unlock(&database->lock);
    database->trouble = opened ? (struct tp_trouble){0} : tp_trouble_from(error);
    return tp_trouble_status(&database->trouble);
}
