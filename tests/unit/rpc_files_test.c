/* What src/rpc/files.h promises when the store is slow, fails, or somebody else is faster. */
#include <criterion/criterion.h>

#include "rpc/files.h"
#include "session_driver.h"

#define HEARS(client, line) cr_assert_str_eq(test_hears(client), line)
#define SIZE 150u
#define CHUNK 64u
#define COUNT 3u

static struct test_world world;
static struct test_client ann, bob;
static uint8_t content[SIZE], id[TP_FILE_ID_SIZE], id_text[TP_FILE_ID_TEXT_SIZE];
static uint8_t payload[1024]; /* of what was said last */

static struct tp_slice chunk(uint32_t index)
{
    return tp_slice_of(content + index * CHUNK, tp_min(CHUNK, SIZE - index * CHUNK));
}

static void begin(void)
{
    uint8_t nodes[16 * TP_SHA256_SIZE];

    test_world_init(&world);
    world.rpc_limits.file_chunk_size = CHUNK;
    test_world_open(&world, "doc");
    for (uint32_t i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 7);
    for (uint32_t i = 0; i < COUNT; i++)
        tp_merkle_leaf(chunk(i), nodes + i * TP_SHA256_SIZE);
    memcpy(id, tp_merkle_build(nodes, COUNT), sizeof id);
    tp_file_id_write(id, id_text);
    test_join(&world, &ann, TP_DIALECT_TELEPORTAL, "ann");
}

static void finish(void)
{
    test_world_finish(&world);
}

TestSuite(rpc_files, .init = begin, .fini = finish);

/* ---- what clients say ---------------------------------------------------------------------------
 */

static void text(struct tp_buffer *out, struct tp_slice key, struct tp_slice value)
{
    tp_write_bytes(out, key);
    tp_any_write_string(out, value);
}

static void number(struct tp_buffer *out, struct tp_slice key, double value)
{
    tp_write_bytes(out, key);
    tp_any_write_number(out, value);
}

static void say(struct test_client *client, struct tp_slice method, uint8_t type,
                const struct tp_buffer *object)
{
    struct tp_message message = {.kind = TP_MESSAGE_RPC};

    cr_assert(!object->full);
    message.rpc.method = method;
    message.rpc.type = type;
    message.rpc.request_id = tp_slice_of(id_text, sizeof id_text);
    message.rpc.payload = tp_buffer_slice(object);
    test_say(client, message);
}

static void ask(struct test_client *client, double size)
{
    struct tp_buffer out = tp_buffer_fixed(payload, sizeof payload);

    tp_any_write_object(&out, 5);
    text(&out, TP_SLICE("fileId"), tp_slice_of(id_text, sizeof id_text));
    text(&out, TP_SLICE("filename"), TP_SLICE("a.bin"));
    text(&out, TP_SLICE("mimeType"), TP_SLICE("t/x"));
    number(&out, TP_SLICE("size"), size);
    tp_write_bytes(&out, TP_SLICE("encrypted"));
    tp_write_u8(&out, TP_ANY_FALSE);
    say(client, TP_SLICE("fileUpload"), 0, &out);
}

static void send_bytes(struct test_client *client, uint32_t index, struct tp_slice bytes)
{
    struct tp_buffer out = tp_buffer_fixed(payload, sizeof payload);

    tp_any_write_object(&out, 4);
    text(&out, TP_SLICE("fileId"), tp_slice_of(id_text, sizeof id_text));
    number(&out, TP_SLICE("chunkIndex"), index);
    number(&out, TP_SLICE("totalChunks"), COUNT);
    tp_write_bytes(&out, TP_SLICE("chunkData"));
    tp_any_write_bytes(&out, bytes);
    say(client, TP_SLICE("fileUpload"), 1, &out);
}

static void send(struct test_client *client, uint32_t index)
{
    send_bytes(client, index, chunk(index));
}

static void fetch(struct test_client *client)
{
    struct tp_buffer out = tp_buffer_fixed(payload, sizeof payload);

    tp_any_write_object(&out, 1);
    text(&out, TP_SLICE("fileId"), tp_slice_of(id_text, sizeof id_text));
    say(client, TP_SLICE("fileDownload"), 0, &out);
}

static void upload(struct test_client *client)
{
    ask(client, SIZE);
    for (uint32_t index = 0; index < COUNT; index++)
        send(client, index);
    test_deaf(client);
}

static size_t count(enum tp_store_table table, uint8_t kind)
{
    size_t found = 0;

    for (size_t nth = 0; nth < world.row_count; nth++)
        found += world.rows[nth].table == table && world.rows[nth].key.data[0] == kind;
    return found;
}

/* ---- uploads ------------------------------------------------------------------------------------
 */

Test(rpc_files, stores_a_file_and_leaves_nothing_of_the_upload)
{
    ask(&ann, SIZE);
    HEARS(&ann, "rpc 0 ");
    HEARS(&ann, "ack 1");
    send(&ann, 2);
    HEARS(&ann, "ack 2");
    send(&ann, 0);
    HEARS(&ann, "ack 3");
    send(&ann, 1);
    HEARS(&ann, "ack 4");

    cr_assert_eq(count(TP_TABLE_UPLOADS, 'S'), 0);
    cr_assert_eq(count(TP_TABLE_UPLOADS, 'G'), 0);
    cr_assert_eq(count(TP_TABLE_UPLOADS, 'L'), COUNT);
    cr_assert_eq(count(TP_TABLE_FILES, 'C'), COUNT);
    cr_assert_eq(count(TP_TABLE_FILES, 'M'), 1);
    cr_assert_eq(count(TP_TABLE_FILES, 'D'), 1);
    cr_assert_eq(count(TP_TABLE_FILES, 'R'), 1);
    cr_assert_eq(world.counters.files_stored, 1);
}

Test(rpc_files, acknowledges_the_last_chunk_when_the_store_has_the_file)
{
    ask(&ann, SIZE);
    send(&ann, 0);
    send(&ann, 1);
    test_deaf(&ann);
    world.hold_store = true;
    send(&ann, 2);

    for (uint32_t steps = 0; count(TP_TABLE_FILES, 'M') == 0; steps++) {
        cr_assert_lt(steps, 10);
        HEARS(&ann, "");
        /* what the store did in this step is not answered before the next */
        struct tp_link *const first = world.stored.next;
        cr_assert_neq(first, &world.stored);
        test_store_go(&world);
    }
    HEARS(&ann, "ack 4");
}

Test(rpc_files, lets_a_chunk_be_sent_again_that_the_store_did_not_take)
{
    ask(&ann, SIZE);
    send(&ann, 0);
    test_deaf(&ann);
    world.store_status = TP_FULL;
    send(&ann, 1);
    HEARS(&ann, "later 3");
    world.store_status = TP_OK;
    send(&ann, 1);
    HEARS(&ann, "ack 3");
    world.read_status = TP_IO;
    send(&ann, 1);
    HEARS(&ann, "later 3");
    world.read_status = TP_OK;
    cr_assert_eq(count(TP_TABLE_FILES, 'C'), 2);
}

Test(rpc_files, keeps_all_chunks_when_the_file_cannot_be_stored_and_goes_on_when_it_can)
{
    ask(&ann, SIZE);
    for (uint32_t index = 0; index < COUNT - 1; index++)
        send(&ann, index);
    test_deaf(&ann);
    world.hold_store = true;
    send(&ann, COUNT - 1);
    test_store_go(&world); /* the chunk */
    world.store_status = TP_IO;
    world.hold_store = false;
    test_store_go(&world); /* the rows to finish with, and then the write */
    HEARS(&ann, "later 4");
    cr_assert_eq(count(TP_TABLE_FILES, 'M'), 0);
    cr_assert_eq(count(TP_TABLE_FILES, 'C'), COUNT);
    world.store_status = TP_OK;

    ask(&ann, SIZE);
    HEARS(&ann, "rpc 0 ");
    HEARS(&ann, "ack 1");
    cr_assert_eq(count(TP_TABLE_FILES, 'M'), 1);
    cr_assert_eq(count(TP_TABLE_FILES, 'C'), COUNT);
}

Test(rpc_files, takes_wrong_bytes_of_one_user_for_that_users_mistake)
{
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    ann.peer.user_id = TP_SLICE("ann");
    bob.peer.user_id = TP_SLICE("bob");
    const uint8_t wrong[CHUNK] = {1};

    ask(&bob, SIZE);
    send_bytes(&bob, 0, tp_slice_of(wrong, sizeof wrong));
    test_deaf(&bob);
    upload(&ann);
    cr_assert_eq(count(TP_TABLE_FILES, 'M'), 1);
    send_bytes(&bob, 1, chunk(1));
    HEARS(&bob, "ack 3");
    fetch(&bob);
    test_ready(&bob);
    HEARS(&bob, "part");
}

Test(rpc_files, finishes_for_who_has_left)
{
    ask(&ann, SIZE);
    send(&ann, 0);
    send(&ann, 1);
    world.hold_store = true;
    send(&ann, 2);
    test_leave(&ann);
    for (uint32_t steps = 0; steps < 10; steps++)
        test_store_go(&world);
    world.hold_store = false;
    cr_assert_eq(count(TP_TABLE_FILES, 'M'), 1);
}

/* What completing the same upload by way of another core does. */
static void store_manifest(uint64_t generation)
{
    uint8_t key[TP_MANIFEST_KEY_SIZE], room[32];
    struct tp_buffer value = tp_buffer_fixed(room, sizeof room);

    tp_manifest_key(id, key);
    tp_manifest_record_encode(&(struct tp_manifest_record){generation, 4711, COUNT}, &value);
    test_put_row(&world, TP_TABLE_FILES, tp_slice_of(key, sizeof key), tp_buffer_slice(&value));
}

Test(rpc_files, drops_its_copy_when_somebody_else_was_faster)
{
    ask(&ann, SIZE);
    send(&ann, 0);
    send(&ann, 1);
    test_deaf(&ann);
    world.hold_store = true;
    send(&ann, 2);
    test_store_go(&world); /* the chunk */
    test_store_go(&world); /* what there is to finish with */
    store_manifest(7);
    for (uint32_t steps = 0; steps < 6; steps++)
        test_store_go(&world);
    world.hold_store = false;

    HEARS(&ann, "ack 4");
    cr_assert_eq(count(TP_TABLE_FILES, 'M'), 1);
    cr_assert_eq(count(TP_TABLE_FILES, 'R'), 1);
    cr_assert_eq(count(TP_TABLE_UPLOADS, 'G'), 1, "of its own chunks");
    cr_assert_eq(world.counters.files_deduplicated, 1);
    for (size_t nth = 0; nth < world.row_count; nth++) {
        struct tp_manifest_record manifest;
        if (world.rows[nth].table != TP_TABLE_FILES || world.rows[nth].key.data[0] != 'M')
            continue;
        cr_assert_eq(tp_manifest_record_decode(world.rows[nth].value, &manifest), TP_OK);
        cr_assert_eq(manifest.number, 4711);
        cr_assert_eq(manifest.generation, 8, "who counts references must notice");
    }
}

Test(rpc_files, stops_reading_from_who_sends_more_than_the_store_takes)
{
    world.rpc_limits.call_per_peer_max = 8;
    ask(&ann, SIZE);
    test_deaf(&ann);
    world.hold_store = true;
    for (uint32_t nth = 0; nth < 4; nth++)
        send(&ann, nth % 2);
    cr_assert(ann.paused);
    world.hold_store = false;
    for (uint32_t steps = 0; steps < 10; steps++)
        test_store_go(&world);
    cr_assert(!ann.paused);
}

/* ---- downloads ----------------------------------------------------------------------------------
 */

Test(rpc_files, sends_one_chunk_whenever_the_reader_has_taken_the_last)
{
    upload(&ann);
    fetch(&ann);
    for (uint32_t index = 0; index < COUNT; index++) {
        HEARS(&ann, "");
        cr_assert(ann.wants_ready);
        test_ready(&ann);
        HEARS(&ann, "part");
    }
    HEARS(&ann, "rpc 0 ");
    HEARS(&ann, "ack 5");
    HEARS(&ann, "");
}

Test(rpc_files, takes_turns_between_downloads_of_one_reader)
{
    upload(&ann);
    fetch(&ann);
    ann.id_count++;
    fetch(&ann);
    for (uint32_t turn = 0; turn < 2 * COUNT; turn++) {
        cr_assert(ann.wants_ready);
        test_ready(&ann);
        HEARS(&ann, "part");
        if (turn < 2 * COUNT - 2)
            HEARS(&ann, "");
        else
            test_deaf(&ann);
    }
}

Test(rpc_files, refuses_more_downloads_than_a_reader_may_have)
{
    upload(&ann);
    world.rpc_limits.download_per_peer_max = 1;
    fetch(&ann);
    fetch(&ann);
    HEARS(&ann, "rpc 429 Too many downloads at once");
}

Test(rpc_files, lets_go_of_a_download_whose_reader_leaves)
{
    upload(&ann);
    fetch(&ann);
    test_ready(&ann);
    test_leave(&ann);
    cr_assert(!tp_rpc_is_busy(world.rpc));
}

Test(rpc_files, finds_no_file_of_a_deleted_epoch)
{
    uint8_t memory[64];
    struct tp_buffer value = tp_buffer_fixed(memory, sizeof memory);
    struct tp_buffer name = tp_buffer_fixed(memory + 32, 32);

    upload(&ann);
    test_leave(&ann);
    cr_assert_eq(tp_record_name_key((struct tp_slice){0}, TP_SLICE("doc"), &name), TP_OK);
    tp_name_record_encode(&(struct tp_name_record){.number = 5,
                                                   .epoch = 0,
                                                   .mode = TP_MODE_PLAIN,
                                                   .deleted = true,
                                                   .state_vector = TP_SLICE("\0")},
                          &value);
    test_put_row(&world, TP_TABLE_NAMES, tp_buffer_slice(&name), tp_buffer_slice(&value));
    test_world_reopen(&world);
    test_join(&world, &bob, TP_DIALECT_TELEPORTAL, "bob");
    fetch(&bob);
    HEARS(&bob, "rpc 404 File not found");
}
