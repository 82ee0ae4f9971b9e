/* What node/compact.h promises, on every backend. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "crdt/sidecars.h"
#include "node/compact.h"
#include "store_world.h"
#include "wire/record.h"
#include "wire/writer.h"

#define NOTHING ((struct tp_slice){0})
#define NUMBER 77u

/* Client 7 wrote "ab" into the root "t" at clock 0, "cd" behind it, "ef" behind that; then somebody
 * deleted "ab". */
#define AB TP_SLICE("\1\1\7\0\4\1\1t\2ab\0")
#define CD TP_SLICE("\1\1\7\2\x84\7\1\2cd\0")
#define EF TP_SLICE("\1\1\7\4\x84\7\3\2ef\0")
#define DELETE_AB TP_SLICE("\0\1\7\1\0\2")

/* A backend that does something of its own right before the first WRITE: what another thread might
 * do between a compaction's reading and its writing. */
static struct {
    struct world *world;
    void (*before_write)(struct world *world);
    uint32_t write_count;
} meddler;

static void meddling_run(struct tp_store *store, struct tp_store_op *op)
{
    if (op->verb == TP_STORE_WRITE && meddler.write_count++ == 0 && meddler.before_write != NULL)
        meddler.before_write(meddler.world);
    meddler.world->backend->run(store, op);
}

static struct tp_store_backend meddling;

static struct tp_compact compact_of(struct world *world, void (*before_write)(struct world *world))
{
    meddler.world = world;
    meddler.before_write = before_write;
    meddler.write_count = 0;
    meddling = *world->backend;
    meddling.run = meddling_run;
    return (struct tp_compact){.backend = &meddling,
                               .store = world->store,
                               .keep_deleted = true,
                               .sweep_row_count = 3,
                               .sweep_size = 1 << 20};
}

static void with_every_backend(void (*sentence)(struct world *world))
{
    for (size_t nth = 0; tp_store_backends[nth] != NULL; nth++) {
        struct world world;
        world_open(&world, tp_store_backends[nth], TP_DURABILITY_DISK);
        sentence(&world);
        world_close(&world);
    }
}

#define SENTENCE(name)                     \
    static void name(struct world *world); \
    Test(compact, name)                    \
    {                                      \
        with_every_backend(name);          \
    }                                      \
    static void name(struct world *world)

static void append(struct world *world, uint64_t number, uint64_t sequence, uint8_t encoding,
                   struct tp_slice update)
{
    const struct tp_log_entry entry = {
        .sequence = sequence, .wall_ms = 1000 + sequence, .encoding = encoding, .update = update};
    struct tp_buffer head = tp_buffer_growing(64);
    uint8_t key[16];

    tp_log_entry_head_encode(&entry, &head);
    struct tp_store_op op = append_op(key, number, sequence, tp_buffer_slice(&head));
    op.value[1] = update;
    tp_link_init(&op.link);
    world->backend->run(world->store, &op);
    cr_assert_eq(op.status, TP_OK);
    tp_buffer_finish(&head);
}

/* A client's update of an encrypted document. */
static void append_container(struct world *world, uint64_t number, uint64_t sequence,
                             struct tp_slice v1, struct tp_slice sidecar)
{
    struct tp_buffer v2 = tp_buffer_growing(1 << 10), sidecars = tp_buffer_growing(1 << 10),
                     row = tp_buffer_growing(1 << 10);
    uint8_t key[16];

    cr_assert_eq(tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    tp_write_varuint(&sidecars, 1);
    tp_write_bytes(&sidecars, sidecar);
    tp_write_u8(&sidecars, 0);
    const struct tp_message_update update = {.v2 = tp_buffer_slice(&v2),
                                             .sidecars = tp_buffer_slice(&sidecars)};
    const struct tp_log_entry entry = {.sequence = sequence,
                                       .dialect = TP_DIALECT_TELEPORTAL,
                                       .encoding = TP_RECORD_CONTAINER,
                                       .update = {.size = tp_container_size(&update)}};
    tp_log_entry_head_encode(&entry, &row);
    tp_container_encode(&update, &row);
    struct tp_store_op op = append_op(key, number, sequence, tp_buffer_slice(&row));
    tp_link_init(&op.link);
    world->backend->run(world->store, &op);
    cr_assert_eq(op.status, TP_OK);
    tp_buffer_finish(&v2);
    tp_buffer_finish(&sidecars);
    tp_buffer_finish(&row);
}

static void put_metadata(struct world *world, uint64_t number, enum tp_record_mode mode,
                         struct tp_slice extra)
{
    const struct tp_metadata_record record = {
        .name = TP_SLICE("\0doc"), .mode = mode, .created_ms = 900, .extra = extra};
    struct tp_buffer value = tp_buffer_growing(1 << 20);
    uint8_t key[TP_RECORD_NUMBER_KEY_SIZE];

    tp_record_number_key(number, key);
    tp_metadata_record_encode(&record, &value);
    struct tp_store_op op =
        put_op(TP_TABLE_METADATA, tp_slice_of(key, sizeof key), tp_buffer_slice(&value));
    tp_link_init(&op.link);
    world->backend->run(world->store, &op);
    cr_assert_eq(op.status, TP_OK);
    tp_buffer_finish(&value);
}

/* The document as a session would load it. */
struct document {
    struct tp_store_op read;
    struct tp_base_record base; /* zero: none */
    struct tp_metadata_record metadata;
    bool has_metadata;
    size_t row_count;
    struct tp_buffer v1;
};

static struct document load(struct world *world, uint64_t number)
{
    static uint8_t key[TP_RECORD_NUMBER_KEY_SIZE], range[32];
    struct document document = {.read = log_op(range, number)};
    struct tp_slice inputs[64] = {0};
    size_t count = 1;

    tp_record_number_key(number, key);
    document.read.ranges[2] = document.read.ranges[0];
    document.read.ranges[0] =
        (struct tp_store_range){.table = TP_TABLE_BASES, .from = tp_slice_of(key, sizeof key)};
    document.read.ranges[1] =
        (struct tp_store_range){.table = TP_TABLE_METADATA, .from = tp_slice_of(key, sizeof key)};
    document.read.range_count = 3;
    world->backend->run(world->store, &document.read);
    cr_assert_eq(document.read.status, TP_OK);
    for (size_t nth = 0; nth < document.read.row_count; nth++) {
        const struct tp_store_row *row = &document.read.rows[nth];
        if (row->table == TP_TABLE_BASES) {
            inputs[0] = row->value;
            cr_assert_eq(tp_base_record_decode(row->value, &document.base), TP_OK);
        } else if (row->table == TP_TABLE_METADATA) {
            document.has_metadata = true;
            cr_assert_eq(tp_metadata_record_decode(row->value, &document.metadata), TP_OK);
        } else {
            document.row_count++;
            if (count < 64)
                inputs[count++] = row->value;
        }
    }
    struct tp_work_op op = {.kind = TP_WORK_LOAD, .inputs = inputs, .input_count = count};
    tp_work_run(&op);
    document.v1 = op.v1;
    tp_buffer_finish(&op.sv);
    return document;
}

static void drop(struct document *document)
{
    tp_store_op_finish(&document->read);
    tp_buffer_finish(&document->v1);
}

static void assert_content(struct document *document, const struct tp_slice *updates, size_t count)
{
    struct tp_buffer merged = tp_buffer_growing(1 << 20);

    cr_assert_eq(tp_update_merge(updates, count, TP_UPDATE_V1, &merged), TP_OK);
    cr_assert(tp_slice_equal(tp_buffer_slice(&document->v1), tp_buffer_slice(&merged)));
    tp_buffer_finish(&merged);
}

SENTENCE(moves_the_log_into_the_base_and_loses_nothing)
{
    struct tp_compact compact = compact_of(world, NULL);
    struct tp_buffer v2 = tp_buffer_growing(1 << 10);
    cr_assert_eq(tp_update_convert(CD, TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    put_metadata(world, NUMBER, TP_MODE_PLAIN, TP_SLICE("{}"));
    append(world, NUMBER, 1, TP_RECORD_V1, AB);
    append(world, NUMBER, 2, TP_RECORD_V2, tp_buffer_slice(&v2));

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.row_count, 0);
    cr_assert_eq(document.base.version, 1);
    cr_assert_eq(document.base.sequence, 2);
    assert_content(&document, (struct tp_slice[]){AB, CD}, 2);
    cr_assert_eq(document.metadata.updated_ms, 1002);
    cr_assert_eq(document.metadata.created_ms, 900);
    cr_assert_eq(document.metadata.entry_count, 2);
    cr_assert_eq(document.metadata.update_size, document.base.update.size);
    cr_assert(tp_slice_equal(document.metadata.state_vector, TP_SLICE("\1\7\4")));
    cr_assert(tp_slice_equal(document.metadata.extra, TP_SLICE("{}")));
    cr_assert_eq(compact.entry_count, 2);
    drop(&document);
    tp_buffer_finish(&v2);
}

SENTENCE(adds_to_an_older_base)
{
    struct tp_compact compact = compact_of(world, NULL);
    append(world, NUMBER, 1, TP_RECORD_V1, AB);
    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);
    append(world, NUMBER, 2, TP_RECORD_V1, CD);
    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);
    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_ABSENT, "nothing is left to fold");

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.base.version, 2);
    cr_assert_not(document.has_metadata, "compaction makes none where there is none");
    assert_content(&document, (struct tp_slice[]){AB, CD}, 2);
    drop(&document);
}

static void somebody_appends(struct world *world)
{
    append(world, NUMBER, 3, TP_RECORD_V1, EF);
}

SENTENCE(keeps_an_entry_that_comes_between_its_reading_and_its_writing)
{
    struct tp_compact compact = compact_of(world, somebody_appends);
    append(world, NUMBER, 1, TP_RECORD_V1, AB);
    append(world, NUMBER, 2, TP_RECORD_V1, CD);

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.row_count, 1);
    cr_assert_eq(document.base.sequence, 2);
    cr_assert_eq(compact.conflict_count, 0);
    assert_content(&document, (struct tp_slice[]){AB, CD, EF}, 3);
    drop(&document);
}

static void somebody_compacts(struct world *world)
{
    struct tp_compact other = {
        .backend = world->backend, .store = world->store, .keep_deleted = true};

    append(world, NUMBER, 3, TP_RECORD_V1, EF);
    cr_assert_eq(tp_compact_document(&other, NUMBER), TP_OK);
    append(world, NUMBER, 4, TP_RECORD_V1, DELETE_AB);
}

SENTENCE(begins_again_when_another_was_faster)
{
    struct tp_compact compact = compact_of(world, somebody_compacts);
    append(world, NUMBER, 1, TP_RECORD_V1, AB);
    append(world, NUMBER, 2, TP_RECORD_V1, CD);

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.row_count, 0);
    cr_assert_eq(document.base.version, 2);
    cr_assert_eq(document.base.sequence, 4);
    cr_assert_eq(compact.conflict_count, 1);
    assert_content(&document, (struct tp_slice[]){AB, CD, EF, DELETE_AB}, 4);
    drop(&document);
}

static void somebody_deletes(struct world *world)
{
    static uint8_t number[TP_RECORD_NUMBER_KEY_SIZE], first[16], second[16];
    struct tp_store_op op = {.verb = TP_STORE_WRITE};

    tp_record_number_key(NUMBER, number);
    tp_record_log_key(NUMBER, 1, first);
    tp_record_log_key(NUMBER, 2, second);
    add_part(&op, TP_PART_DELETE, TP_TABLE_BASES, tp_slice_of(number, 8), NOTHING);
    add_part(&op, TP_PART_DELETE, TP_TABLE_METADATA, tp_slice_of(number, 8), NOTHING);
    add_part(&op, TP_PART_DELETE, TP_TABLE_LOG, tp_slice_of(first, 16), NOTHING);
    add_part(&op, TP_PART_DELETE, TP_TABLE_LOG, tp_slice_of(second, 16), NOTHING);
    tp_link_init(&op.link);
    world->backend->run(world->store, &op);
    cr_assert_eq(op.status, TP_OK);
}

SENTENCE(brings_nothing_back_of_a_document_that_is_deleted_meanwhile)
{
    for (uint32_t nth = 0; nth < 2; nth++) {
        struct tp_compact compact = compact_of(world, somebody_deletes);
        if (nth == 0)
            put_metadata(world, NUMBER, TP_MODE_PLAIN, NOTHING);
        append(world, NUMBER, 1, TP_RECORD_V1, AB);
        append(world, NUMBER, 2, TP_RECORD_V1, CD);

        cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_ABSENT);

        struct document document = load(world, NUMBER);
        cr_assert_eq(document.read.row_count, 0);
        drop(&document);
    }
}

static void somebody_changes_the_metadata(struct world *world)
{
    put_metadata(world, NUMBER, TP_MODE_PLAIN, TP_SLICE("a file"));
}

SENTENCE(keeps_what_others_write_into_the_metadata)
{
    struct tp_compact compact = compact_of(world, somebody_changes_the_metadata);
    put_metadata(world, NUMBER, TP_MODE_PLAIN, NOTHING);
    append(world, NUMBER, 1, TP_RECORD_V1, AB);

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);

    struct document document = load(world, NUMBER);
    cr_assert(tp_slice_equal(document.metadata.extra, TP_SLICE("a file")));
    cr_assert_eq(document.metadata.entry_count, 1);
    drop(&document);
}

SENTENCE(drops_deleted_content_unless_it_is_to_be_kept)
{
    for (uint64_t number = 1; number <= 2; number++) {
        struct tp_compact compact = compact_of(world, NULL);
        compact.keep_deleted = number == 1;
        append(world, number, 1, TP_RECORD_V1, AB);
        append(world, number, 2, TP_RECORD_V1, CD);
        append(world, number, 3, TP_RECORD_V1, DELETE_AB);

        cr_assert_eq(tp_compact_document(&compact, number), TP_OK);

        struct document document = load(world, number);
        const struct tp_slice update = document.base.update;
        cr_assert_eq(memmem(update.data, update.size, "ab", 2) != NULL, number == 1);
        cr_assert_not_null(memmem(update.data, update.size, "cd", 2));
        drop(&document);
    }
}

SENTENCE(leaves_a_damaged_document_as_it_is)
{
    struct tp_compact compact = compact_of(world, NULL);
    append(world, NUMBER, 1, TP_RECORD_V1, AB);
    append(world, NUMBER, 2, TP_RECORD_V1, TP_SLICE("\5\5\5"));

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_MALFORMED);

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.row_count, 2);
    cr_assert_eq(document.base.version, 0);
    cr_assert_eq(compact.failed_count, 1);
    drop(&document);
}

SENTENCE(merges_the_structure_of_an_encrypted_document_and_keeps_its_sidecars)
{
    struct tp_compact compact = compact_of(world, NULL);
    struct tp_slice v1, list;
    struct tp_sidecar sidecar;
    compact.keep_deleted = false;
    put_metadata(world, NUMBER, TP_MODE_ENCRYPTED, NOTHING);
    append_container(world, NUMBER, 1, AB, TP_SLICE("first"));
    append_container(world, NUMBER, 2, DELETE_AB, TP_SLICE("about nothing"));
    append_container(world, NUMBER, 3, CD, TP_SLICE("second"));

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.row_count, 0);
    cr_assert_eq(document.base.encoding, TP_RECORD_CONTAINER);
    cr_assert_eq(tp_sealed_decode(document.base.update, &v1, &list), TP_OK);
    cr_assert(tp_slice_equal(v1, TP_SLICE("\1\2\7\0\4\1\1t\2ab\x84\7\1\2cd\1\7\1\0\2")),
              "what is deleted is kept");
    cr_assert_eq(tp_sidecars_next(&list, &sidecar), TP_OK);
    cr_assert(tp_slice_equal(sidecar.bytes, TP_SLICE("first")));
    cr_assert_eq(tp_sidecars_next(&list, &sidecar), TP_OK);
    cr_assert(tp_slice_equal(sidecar.bytes, TP_SLICE("second")));
    cr_assert_eq(tp_sidecars_next(&list, &sidecar), TP_ABSENT);
    drop(&document);

    append_container(world, NUMBER, 4, EF, TP_SLICE("third"));
    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK, "and once more upon that base");
    document = load(world, NUMBER);
    cr_assert_eq(tp_sealed_decode(document.base.update, &v1, &list), TP_OK);
    for (size_t nth = 0; nth < 3; nth++)
        cr_assert_eq(tp_sidecars_next(&list, &sidecar), TP_OK);
    cr_assert(tp_slice_equal(sidecar.bytes, TP_SLICE("third")));
    drop(&document);
}

SENTENCE(folds_a_long_log_in_several_passes)
{
    enum { COUNT = TP_COMPACT_ROW_COUNT_MAX + 10 };
    struct tp_compact compact = compact_of(world, NULL);
    uint8_t key[16];
    struct tp_buffer head = tp_buffer_growing(64);
    for (uint64_t sequence = 1; sequence <= COUNT; sequence++) {
        /* by hand and not durably one by one: rows as commits of their own would leave them */
        const struct tp_log_entry entry = {
            .sequence = sequence, .encoding = TP_RECORD_V1, .update = AB};
        head.size = 0;
        tp_log_entry_head_encode(&entry, &head);
        tp_buffer_append(&head, AB.data, AB.size);
        tp_record_log_key(NUMBER, sequence, key);
        struct tp_store_op op = put_op(TP_TABLE_LOG, tp_slice_of(key, 16), tp_buffer_slice(&head));
        tp_link_init(&op.link);
        world->backend->run(world->store, &op);
        cr_assert_eq(op.status, TP_OK);
    }
    tp_buffer_finish(&head);

    cr_assert_eq(tp_compact_document(&compact, NUMBER), TP_OK);

    struct document document = load(world, NUMBER);
    cr_assert_eq(document.row_count, 0);
    cr_assert_eq(document.base.version, 2);
    cr_assert_eq(document.base.sequence, COUNT);
    assert_content(&document, (struct tp_slice[]){AB}, 1);
    drop(&document);
}

SENTENCE(sweeps_through_all_logs_and_folds_the_long_ones)
{
    struct tp_compact compact = compact_of(world, NULL);
    for (uint64_t number = 1; number <= 500; number++)
        for (uint64_t sequence = 1; sequence <= (number % 100 == 0 ? 3 : 2); sequence++)
            append(world, number, sequence, TP_RECORD_V1, AB);

    uint32_t step_count = 1;
    while (!tp_compact_sweep(&compact))
        step_count++;

    cr_assert_eq(compact.folded_count, 5, "one of a hundred was long");
    cr_assert_leq(step_count, 5 + 2, "each step folds one at most, and there are few rows");
    for (uint64_t number = 99; number <= 101; number++) {
        struct document document = load(world, number);
        cr_assert_eq(document.row_count, number == 100 ? 0 : 2);
        drop(&document);
    }
    cr_assert(tp_compact_sweep(&compact), "nothing is long any more: one step is enough");
    cr_assert_eq(compact.folded_count, 5);
}

SENTENCE(sweeps_a_log_whose_rows_are_few_and_large)
{
    struct tp_compact compact = compact_of(world, NULL);
    compact.sweep_size = 20;
    append(world, NUMBER, 1, TP_RECORD_V1, AB);

    while (!tp_compact_sweep(&compact)) {
    }
    cr_assert_eq(compact.folded_count, 0);
    append(world, NUMBER, 2, TP_RECORD_V1, CD);
    while (!tp_compact_sweep(&compact)) {
    }
    cr_assert_eq(compact.folded_count, 1);
}
