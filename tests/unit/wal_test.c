#include <criterion/criterion.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/wal.h"

#define VALUE_SIZE 3000u
#define RECORD_COUNT 30u /* about 90 KB: three blocks, and records that cross them */

static uint8_t *bytes;
static size_t size;

/* A log as RocksDB writes it. */
static void set_up(void)
{
    char directory[] = "/dev/shm/tp-wal-XXXXXX", command[64], value[VALUE_SIZE];
    char *failure = NULL, path[64] = "";
    cr_assert_not_null(mkdtemp(directory));
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_t *db = rocksdb_open(options, directory, &failure);
    cr_assert_null(failure);
    for (unsigned nth = 0; nth < RECORD_COUNT; nth++) {
        memset(value, (int)('a' + nth % 26), sizeof value);
        rocksdb_put(db, write, (char *)&nth, sizeof nth, value, sizeof value, &failure);
        cr_assert_null(failure);
    }
    for (unsigned number = 1; number < 20 && bytes == NULL; number++) {
        struct stat stat;
        snprintf(path, sizeof path, "%s/%06u.log", directory, number);
        FILE *file = fopen(path, "r");
        if (file == NULL)
            continue;
        fstat(fileno(file), &stat);
        size = (size_t)stat.st_size;
        bytes = malloc(size);
        cr_assert_eq(fread(bytes, 1, size, file), size);
        fclose(file);
    }
    rocksdb_close(db);
    rocksdb_writeoptions_destroy(write);
    rocksdb_options_destroy(options);
    cr_assert_gt(size, RECORD_COUNT * VALUE_SIZE);
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

static void tear_down(void)
{
    free(bytes);
}

TestSuite(wal, .init = set_up, .fini = tear_down);

static enum tp_wal_verdict look(size_t file_size, size_t *sound_size)
{
    return tp_wal_look((struct tp_slice){bytes, file_size}, sound_size);
}

Test(wal, finds_a_log_of_rocksdb_sound_wherever_it_is_cut)
{
    size_t sound_size;

    cr_assert_eq(look(size, &sound_size), TP_WAL_SOUND);
    cr_assert_eq(sound_size, size);
    for (size_t cut = 0; cut < size; cut += 97)
        cr_assert_eq(look(cut, &sound_size), TP_WAL_SOUND, "cut to %zu", cut);
}

Test(wal, finds_damage_wherever_a_record_follows)
{
    size_t sound_size;

    for (size_t at = 0; at < size - 2 * VALUE_SIZE; at += 97) {
        bytes[at] ^= 0x20;
        const enum tp_wal_verdict verdict = look(size, &sound_size);
        cr_assert_eq(verdict, TP_WAL_DAMAGED, "at %zu", at);
        cr_assert_leq(sound_size, at);
        bytes[at] ^= 0x20;
    }
}

Test(wal, finds_a_last_write_torn_that_has_zeros_in_it)
{
    size_t sound_size;

    memset(bytes + size - VALUE_SIZE / 2, 0, VALUE_SIZE / 2);
    cr_assert_eq(look(size, &sound_size), TP_WAL_TORN);
    cr_assert_geq(sound_size, size - VALUE_SIZE - 64);

    memset(bytes + size - VALUE_SIZE - 64, 0, VALUE_SIZE + 64);
    cr_assert_eq(look(size, &sound_size), TP_WAL_TORN, "nothing but zeros");
}

Test(wal, calls_a_later_part_of_the_torn_write_no_other_write)
{
    /* given: the end of the last record that crosses from one block to the next */
    const size_t block = size / 32768 * 32768;
    size_t sound_size;
    cr_assert_eq(bytes[block + 6], 4, "the last part of a record begins the block");
    const size_t end = block + 7 + (bytes[block + 4] | (size_t)bytes[block + 5] << 8);

    /* when: its first part did not reach the disk, and nothing was written after it */
    memset(bytes + block - 40, 0, 40);

    cr_assert_eq(look(end, &sound_size), TP_WAL_TORN);
    cr_assert_eq(look(size, &sound_size), TP_WAL_DAMAGED, "what follows was written after it");
}
