#include "store/wal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_SIZE 32768u
#define HEAD_SIZE 7u
#define CRC_POLYNOMIAL 0x82f63b78u /* Castagnoli's, reflected */
#define CRC_MASK 0xa282ead8u

enum kind { WHOLE = 1, FIRST, MIDDLE, LAST };

struct crc {
    uint32_t table[256];
};

static struct crc crc_init(void)
{
    struct crc crc;

    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t rest = byte;
        for (unsigned bit = 0; bit < 8; bit++)
            rest = rest & 1 ? rest >> 1 ^ CRC_POLYNOMIAL : rest >> 1;
        crc.table[byte] = rest;
    }
    return crc;
}

static uint32_t masked_crc(const struct crc *crc, const uint8_t *data, size_t size)
{
    uint32_t rest = UINT32_MAX;

    for (size_t i = 0; i < size; i++)
        rest = rest >> 8 ^ crc->table[(uint8_t)rest ^ data[i]];
    rest = ~rest;
    return (rest >> 15 | rest << 17) + CRC_MASK;
}

static size_t left_in_block(size_t at)
{
    return BLOCK_SIZE - at % BLOCK_SIZE;
}

static size_t record_size(const uint8_t *head)
{
    return HEAD_SIZE + (head[4] | (size_t)head[5] << 8);
}

static bool is_record(const struct crc *crc, struct tp_slice file, size_t at)
{
    const uint8_t *head = file.data + at;

    if (file.size - at < HEAD_SIZE || left_in_block(at) < HEAD_SIZE)
        return false;
    const size_t size = record_size(head);
    if (head[6] < WHOLE || head[6] > LAST || size > left_in_block(at) || size > file.size - at)
        return false;
    const uint32_t sum =
        head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
    return masked_crc(crc, head + 6, size - 6) == sum;
}

/* The file ends before the record that begins here does. */
static bool is_cut(struct tp_slice file, size_t at)
{
    const size_t left = file.size - at;

    return left < HEAD_SIZE ||
           (record_size(file.data + at) > left && record_size(file.data + at) <= left_in_block(at));
}

static bool begins_one(const struct crc *crc, struct tp_slice file, size_t at)
{
    return is_record(crc, file, at) && (file.data[at + 6] == WHOLE || file.data[at + 6] == FIRST);
}

/* In the block of the bad record anything may be where one begins, since its size is bad, perhaps;
 * from the next block on records stand behind each other again. */
static bool goes_on(const struct crc *crc, struct tp_slice file, size_t bad)
{
    const size_t next = tp_min(bad + left_in_block(bad), file.size);

    for (size_t at = bad + 1; at < next; at++)
        if (begins_one(crc, file, at))
            return true;
    for (size_t block = next; block < file.size; block += BLOCK_SIZE)
        for (size_t at = block; at < file.size && is_record(crc, file, at);
             at += record_size(file.data + at))
            if (begins_one(crc, file, at))
                return true;
    return false;
}

enum tp_wal_verdict tp_wal_look(struct tp_slice file, size_t *sound_size)
{
    const struct crc crc = crc_init();
    size_t at = 0;

    while (at < file.size) {
        if (left_in_block(at) < HEAD_SIZE)
            at += tp_min(left_in_block(at), file.size - at);
        else if (is_record(&crc, file, at))
            at += record_size(file.data + at);
        else
            break;
    }
    *sound_size = at;
    if (at == file.size || is_cut(file, at))
        return TP_WAL_SOUND;
    return goes_on(&crc, file, at) ? TP_WAL_DAMAGED : TP_WAL_TORN;
}

/* ---- a directory --------------------------------------------------------------------------------
 */

static enum tp_wal_verdict look_at_file(int directory, const char *name, uint64_t *torn_size)
{
    const int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    enum tp_wal_verdict verdict = TP_WAL_DAMAGED;
    struct stat stat;
    size_t sound_size;

    *torn_size = 0;
    if (fd < 0)
        return TP_WAL_DAMAGED;
    if (fstat(fd, &stat) != 0) {
        close(fd);
        return TP_WAL_DAMAGED;
    }
    if (stat.st_size == 0) {
        verdict = TP_WAL_SOUND;
    } else {
        const size_t size = (size_t)stat.st_size;
        void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map != MAP_FAILED) {
            verdict = tp_wal_look((struct tp_slice){map, size}, &sound_size);
            *torn_size = size - sound_size;
            munmap(map, size);
        }
    }
    close(fd);
    return verdict;
}

enum tp_wal_verdict tp_wal_look_all(const char *directory, uint64_t *torn_size)
{
    DIR *stream = opendir(directory);
    uint64_t newest = 0, torn_in = 0, number;
    enum tp_wal_verdict all = TP_WAL_SOUND;
    struct dirent *entry;

    if (stream == NULL)
        return TP_WAL_DAMAGED;
    while ((entry = readdir(stream)) != NULL) {
        uint64_t size;
        int end = 0;
        if (sscanf(entry->d_name, "%" SCNu64 ".log%n", &number, &end) != 1 || end == 0 ||
            entry->d_name[end] != '\0')
            continue;
        newest = tp_max(newest, number);
        const enum tp_wal_verdict verdict = look_at_file(dirfd(stream), entry->d_name, &size);
        if (verdict == TP_WAL_SOUND)
            continue;
        all = all == TP_WAL_SOUND ? verdict : TP_WAL_DAMAGED; /* two of them were not torn */
        torn_in = number;
        *torn_size = size;
    }
    closedir(stream);
    return all == TP_WAL_TORN && torn_in != newest ? TP_WAL_DAMAGED : all;
}
