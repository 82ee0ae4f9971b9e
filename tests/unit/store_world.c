#include "store_world.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "wire/record.h"

static void letter(void *context, struct tp_letter *letter)
{
    struct world *world = context;

    world->backend->letter(world->port, letter);
}

static void answered(void *context, struct tp_store_op *op)
{
    struct world *world = context;

    world->answered_count++;
    world->last_answered = op;
}

bool world_open_store(struct world *world, char *error, size_t error_size)
{
    const struct tp_store_config config = {.location = world->directory,
                                           .durability = world->durability,
                                           .post = world->post,
                                           .first_endpoint = 1,
                                           .memory_size = 32 << 20};

    world->store = world->backend->open(&config, error, error_size);
    if (world->store == NULL)
        return false;
    world->port = world->backend->attach(world->store, world->reactor, answered, world);
    return true;
}

void world_close_store(struct world *world)
{
    world->backend->detach(world->port);
    world->backend->close(world->store);
}

bool world_open_at(struct world *world, const struct tp_store_backend *backend,
                   enum tp_durability durability, const char *directory)
{
    char error[256] = "";

    *world = (struct world){.backend = backend, .durability = durability};
    snprintf(world->directory, sizeof world->directory, "%s", directory);
    world->post = tp_post_create(1 + backend->endpoint_count);
    world->reactor = tp_reactor_create(&(struct tp_reactor_config){
        .entry_count = 64, .cpu = -1, .post = world->post, .letter = letter, .context = world});
    if (world->reactor == NULL || !world_open_store(world, error, sizeof error)) {
        fprintf(stderr, "%s: %s\n", backend->name, error);
        return false;
    }
    return true;
}

void world_open(struct world *world, const struct tp_store_backend *backend,
                enum tp_durability durability)
{
    char directory[sizeof world->directory];

    snprintf(directory, sizeof directory, "%s/tp-store-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : P_tmpdir);
    cr_assert_not_null(mkdtemp(directory));
    cr_assert(world_open_at(world, backend, durability, directory));
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

void world_close(struct world *world)
{
    world_close_store(world);
    tp_reactor_destroy(world->reactor);
    tp_post_destroy(world->post);
    nftw(world->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void world_submit(struct world *world, struct tp_store_op *ops, size_t count)
{
    struct tp_link list;

    tp_link_init(&list);
    for (size_t nth = 0; nth < count; nth++) {
        tp_link_init(&ops[nth].link);
        ops[nth].status = TP_MORE; /* no answer is this */
        tp_link_insert(&list, &ops[nth].link);
    }
    world->backend->submit(world->port, &list);
}

void world_wait(struct world *world, uint32_t count)
{
    while (world->answered_count < count) {
        tp_reactor_wait(world->reactor);
        tp_reactor_poll(world->reactor);
    }
}

void world_do(struct world *world, struct tp_store_op *ops, size_t count)
{
    const uint32_t before = world->answered_count;

    world_submit(world, ops, count);
    world_wait(world, before + (uint32_t)count);
    cr_assert_eq(world->answered_count, before + count);
}

void add_part(struct tp_store_op *op, enum tp_store_part_kind kind, enum tp_store_table table,
              struct tp_slice key, struct tp_slice value)
{
    op->parts[op->part_count++] =
        (struct tp_store_part){.kind = kind, .table = table, .key = key, .value = value};
}

struct tp_store_op put_op(enum tp_store_table table, struct tp_slice key, struct tp_slice value)
{
    struct tp_store_op op = {.verb = TP_STORE_WRITE};

    add_part(&op, TP_PART_PUT, table, key, value);
    return op;
}

struct tp_store_op get_op(enum tp_store_table table, struct tp_slice key)
{
    return (struct tp_store_op){
        .verb = TP_STORE_READ, .ranges = {{.table = table, .from = key}}, .range_count = 1};
}

struct tp_store_op scan_op(enum tp_store_table table, struct tp_slice from, struct tp_slice to)
{
    return (struct tp_store_op){.verb = TP_STORE_READ,
                                .ranges = {{.table = table, .from = from, .to = to}},
                                .range_count = 1};
}

struct tp_store_op append_op(uint8_t *key, uint64_t number, uint64_t sequence,
                             struct tp_slice value)
{
    tp_record_log_key(number, sequence, key);
    return (struct tp_store_op){
        .verb = TP_STORE_APPEND, .key = tp_slice_of(key, TP_RECORD_LOG_KEY_SIZE), .value = {value}};
}

struct tp_store_op log_op(uint8_t range[32], uint64_t number)
{
    tp_record_log_key(number, 0, range);
    tp_record_log_key(number + 1, 0, range + 16);
    return scan_op(TP_TABLE_LOG, tp_slice_of(range, 16), tp_slice_of(range + 16, 16));
}
