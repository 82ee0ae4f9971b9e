/* What node/collect.h promises, on every backend. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "node/collect.h"
#include "store_world.h"

#define NOTHING ((struct tp_slice){0})
#define HOUR_MS UINT64_C(3600000)
#define BEGUN_MS UINT64_C(1790000000000)
#define CHUNK_COUNT 3u /* of 150 bytes in chunks of 64 */
#define NUMBER 77u

static const uint8_t file[TP_FILE_ID_SIZE] = {1, 2, 3};
static const uint8_t owner[TP_FILE_OWNER_SIZE] = {9};
static const struct tp_file_shape shape = {.size = 150, .chunk_size = 64};

static uint64_t wall_ms;

static uint64_t read_wall(void)
{
    return wall_ms;
}

/* A backend that does something of its own right before the first WRITE: what another thread might
 * do between reading and writing. */
static struct {
    struct world *world;
    void (*before_write)(struct world *world);
} meddler;

static void meddling_run(struct tp_store *store, struct tp_store_op *op)
{
    void (*const meddle)(struct world * world) = meddler.before_write;

    if (op->verb == TP_STORE_WRITE && meddle != NULL) {
        meddler.before_write = NULL;
        meddle(meddler.world);
    }
    meddler.world->backend->run(store, op);
}

static struct tp_store_backend meddling;

static struct tp_collect collect_of(struct world *world, void (*before_write)(struct world *world))
{
    meddler.world = world;
    meddler.before_write = before_write;
    meddling = *world->backend;
    meddling.run = meddling_run;
    return (struct tp_collect){
        .backend = &meddling, .store = world->store, .expiry_ms = HOUR_MS, .wall_ms = read_wall};
}

static void sweep(struct tp_collect *collect)
{
    while (!tp_collect_step(collect)) {
    }
}

#define SENTENCE(name)                                                      \
    static void name(struct world *world);                                  \
    Test(collect, name)                                                     \
    {                                                                       \
        for (size_t nth = 0; tp_store_backends[nth] != NULL; nth++) {       \
            struct world world;                                             \
            world_open(&world, tp_store_backends[nth], TP_DURABILITY_DISK); \
            name(&world);                                                   \
            world_close(&world);                                            \
        }                                                                   \
    }                                                                       \
    static void name(struct world *world)

static void put(struct world *world, enum tp_store_table table, struct tp_slice key,
                struct tp_slice value)
{
    struct tp_store_op op = put_op(table, key, value);

    tp_link_init(&op.link);
    world->backend->run(world->store, &op);
    cr_assert_eq(op.status, TP_OK);
}

static size_t count(struct world *world, enum tp_store_table table, uint8_t kind)
{
    const uint8_t end = (uint8_t)(kind + 1);
    struct tp_store_op op = scan_op(table, tp_slice_of(&kind, 1), tp_slice_of(&end, 1));

    world->backend->run(world->store, &op);
    cr_assert_eq(op.status, TP_OK);
    const size_t row_count = op.row_count;
    tp_store_op_finish(&op);
    return row_count;
}

static void put_chunks(struct world *world, uint64_t number, uint32_t chunk_count, uint64_t at_ms)
{
    uint8_t key[TP_CHUNK_KEY_SIZE], room[64];

    for (uint32_t index = 0; index < chunk_count; index++) {
        struct tp_buffer leaf = tp_buffer_fixed(room, sizeof room);
        tp_leaf_record_encode(&(struct tp_leaf_record){file, at_ms}, &leaf);
        tp_leaf_key(number, index, key);
        put(world, TP_TABLE_UPLOADS, tp_slice_of(key, sizeof key), tp_buffer_slice(&leaf));
        tp_chunk_key(number, index, key);
        put(world, TP_TABLE_FILES, tp_slice_of(key, sizeof key), TP_SLICE("chunk"));
    }
}

static void put_upload(struct world *world, uint8_t of, uint64_t begun_ms)
{
    uint8_t who[TP_FILE_OWNER_SIZE] = {of}, key[TP_UPLOAD_KEY_SIZE], room[256];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);
    const struct tp_upload_record record = {.number = NUMBER + of,
                                            .shape = shape,
                                            .begun_ms = begun_ms,
                                            .documents = {{TP_SLICE("\0d"), 0}},
                                            .document_count = 1};

    tp_upload_key(who, file, key);
    tp_upload_record_encode(&record, &value);
    put(world, TP_TABLE_UPLOADS, tp_slice_of(key, sizeof key), tp_buffer_slice(&value));
}

static void put_manifest(struct world *world, uint64_t generation)
{
    uint8_t key[TP_MANIFEST_KEY_SIZE], room[32];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);

    tp_manifest_key(file, key);
    tp_manifest_record_encode(&(struct tp_manifest_record){generation, NUMBER, CHUNK_COUNT},
                              &value);
    put(world, TP_TABLE_FILES, tp_slice_of(key, sizeof key), tp_buffer_slice(&value));
}

static void put_reference(struct world *world, struct tp_slice name, uint64_t epoch)
{
    uint8_t key[TP_FILE_LINK_KEY_SIZE_MAX], room[64];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);

    tp_reference_record_encode(epoch, &value);
    put(world, TP_TABLE_FILES, tp_reference_key(file, name, key), tp_buffer_slice(&value));
    value.size = 0;
    tp_listed_record_encode(&(struct tp_listed_record){.epoch = epoch, .shape = shape}, &value);
    put(world, TP_TABLE_FILES, tp_listed_key(name, file, key), tp_buffer_slice(&value));
}

static void put_name(struct world *world, struct tp_slice name, uint64_t epoch, bool deleted)
{
    uint8_t room[64];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);

    tp_name_record_encode(
        &(struct tp_name_record){.number = 5,
                                 .epoch = epoch,
                                 .mode = TP_MODE_PLAIN,
                                 .deleted = deleted,
                                 .state_vector = deleted ? TP_SLICE("\0") : NOTHING},
        &value);
    put(world, TP_TABLE_NAMES, name, tp_buffer_slice(&value));
}

SENTENCE(an_upload_that_nobody_touches_any_more_goes_with_its_chunks)
{
    struct tp_collect collect = collect_of(world, NULL);
    put_upload(world, 0, BEGUN_MS);
    put_chunks(world, NUMBER, 2, BEGUN_MS + 5);

    wall_ms = BEGUN_MS + 4 + HOUR_MS;
    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'S'), 1, "its last chunk came later");
    wall_ms = BEGUN_MS + 5 + HOUR_MS;
    sweep(&collect);

    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'S'), 0);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'L'), 0);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'G'), 0);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'C'), 0);
    cr_assert_eq(collect.expired_count, 1);
    cr_assert_eq(collect.chunk_count, CHUNK_COUNT);
}

SENTENCE(an_upload_begun_after_the_clock_was_set_back_stays)
{
    struct tp_collect collect = collect_of(world, NULL);
    put_upload(world, 0, BEGUN_MS);

    wall_ms = BEGUN_MS - 2 * HOUR_MS;
    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'S'), 1);
}

static void add_document(struct world *world)
{
    uint8_t key[TP_UPLOAD_KEY_SIZE], room[256];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);
    const struct tp_upload_record record = {
        .number = NUMBER,
        .shape = shape,
        .begun_ms = BEGUN_MS,
        .documents = {{TP_SLICE("\0d"), 0}, {TP_SLICE("\0e"), 0}},
        .document_count = 2};
    uint8_t who[TP_FILE_OWNER_SIZE] = {0};

    tp_upload_key(who, file, key);
    tp_upload_record_encode(&record, &value);
    put(world, TP_TABLE_UPLOADS, tp_slice_of(key, sizeof key), tp_buffer_slice(&value));
}

SENTENCE(an_upload_that_somebody_takes_up_meanwhile_stays)
{
    struct tp_collect collect = collect_of(world, add_document);
    put_upload(world, 0, BEGUN_MS);
    put_chunks(world, NUMBER, 1, BEGUN_MS);

    wall_ms = BEGUN_MS + HOUR_MS;
    sweep(&collect);
    cr_assert_eq(collect.expired_count, 0);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'C'), 1);
}

SENTENCE(a_file_stays_as_long_as_one_document_refers_to_it)
{
    struct tp_collect collect = collect_of(world, NULL);
    put_manifest(world, 1);
    put_chunks(world, NUMBER, CHUNK_COUNT, BEGUN_MS);
    put_reference(world, TP_SLICE("\0d"), 0);
    put_reference(world, TP_SLICE("r\0e"), 4);
    put_reference(world, TP_SLICE("\0never stored"), 0);
    put_name(world, TP_SLICE("\0d"), 0, false);
    put_name(world, TP_SLICE("r\0e"), 4, false);

    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'R'), 3);
    put_name(world, TP_SLICE("\0d"), 0, true);
    put_name(world, TP_SLICE("r\0e"), 5, false); /* deleted, and created again */
    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'R'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'D'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'M'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'C'), CHUNK_COUNT);
    put_name(world, TP_SLICE("\0never stored"), 0, true);
    sweep(&collect);

    cr_assert_eq(count(world, TP_TABLE_FILES, 'R'), 0);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'D'), 0);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'M'), 0);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'C'), 0);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'L'), 0);
    cr_assert_eq(collect.reference_count, 3);
    cr_assert_eq(collect.file_count, 1);
}

/* What completing an upload of the same content does. */
static void refer(struct world *world)
{
    put_manifest(world, 2);
    put_reference(world, TP_SLICE("\0new"), 0);
}

SENTENCE(a_file_that_is_referred_to_meanwhile_stays)
{
    struct tp_collect collect = collect_of(world, refer);
    put_manifest(world, 1);
    put_chunks(world, NUMBER, CHUNK_COUNT, BEGUN_MS);

    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'M'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'C'), CHUNK_COUNT);
    cr_assert_eq(collect.file_count, 0);
}

static void renew(struct world *world)
{
    put_reference(world, TP_SLICE("\0d"), 1);
}

SENTENCE(a_reference_of_a_later_epoch_is_not_taken_for_the_dead_one)
{
    struct tp_collect collect = collect_of(world, renew);
    put_manifest(world, 1);
    put_reference(world, TP_SLICE("\0d"), 0);
    put_name(world, TP_SLICE("\0d"), 0, true);

    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'R'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'D'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'M'), 1);
}

SENTENCE(garbage_that_was_left_by_a_crash_is_deleted)
{
    struct tp_collect collect = collect_of(world, NULL);
    uint8_t key[TP_GARBAGE_KEY_SIZE], room[16];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);

    tp_garbage_key(NUMBER, key);
    tp_garbage_record_encode(1200, &value); /* more than one write's worth */
    put(world, TP_TABLE_UPLOADS, tp_slice_of(key, sizeof key), tp_buffer_slice(&value));
    put_chunks(world, NUMBER, 3, BEGUN_MS);
    put_chunks(world, NUMBER + 1, 1, BEGUN_MS);

    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'C'), 1, "of another number");
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'G'), 0);
    cr_assert_eq(collect.chunk_count, 1200);
}

SENTENCE(a_sweep_looks_at_every_row_once)
{
    struct tp_collect collect = collect_of(world, NULL);
    uint32_t step_count = 0;

    for (uint32_t of = 0; of < 2 * TP_COLLECT_ROW_COUNT_MAX + 1; of++)
        put_upload(world, (uint8_t)of, BEGUN_MS);
    wall_ms = BEGUN_MS + HOUR_MS;
    do
        step_count++;
    while (!tp_collect_step(&collect));
    cr_assert_eq(collect.expired_count, 2 * TP_COLLECT_ROW_COUNT_MAX + 1);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'S'), 0);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'G'), 0);
    cr_assert_eq(collect.sweep_count, 1);
    cr_assert_eq(step_count, 7, "three of uploads, one of files, three of garbage");
}

SENTENCE(damaged_rows_are_left_alone)
{
    struct tp_collect collect = collect_of(world, NULL);
    uint8_t key[TP_UPLOAD_KEY_SIZE];

    tp_upload_key(owner, file, key);
    put(world, TP_TABLE_UPLOADS, tp_slice_of(key, sizeof key), TP_SLICE("?"));
    tp_manifest_key(file, key);
    put(world, TP_TABLE_FILES, tp_slice_of(key, TP_MANIFEST_KEY_SIZE), TP_SLICE("?"));
    tp_garbage_key(NUMBER, key);
    put(world, TP_TABLE_UPLOADS, tp_slice_of(key, TP_GARBAGE_KEY_SIZE), TP_SLICE("?"));

    wall_ms = UINT64_C(1) << 50;
    sweep(&collect);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'S'), 1);
    cr_assert_eq(count(world, TP_TABLE_UPLOADS, 'G'), 1);
    cr_assert_eq(count(world, TP_TABLE_FILES, 'M'), 1);
}
