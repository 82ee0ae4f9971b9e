/* What wire/file_record.h promises. */
#include <criterion/criterion.h>

#include "wire/file_record.h"

static const uint8_t file[TP_FILE_ID_SIZE] = {1, 2, 3};
static const uint8_t owner[TP_FILE_OWNER_SIZE] = {9};

static const struct tp_file_shape shape = {.size = 200, .chunk_size = 64};

Test(file_record, keys_of_chunks_sort_by_number_then_index)
{
    uint8_t first[TP_CHUNK_KEY_SIZE], second[TP_CHUNK_KEY_SIZE], third[TP_CHUNK_KEY_SIZE];
    uint64_t number;
    uint32_t index;

    tp_leaf_key(7, 255, first);
    tp_leaf_key(7, 256, second);
    tp_leaf_key(8, 0, third);
    cr_assert_lt(memcmp(first, second, sizeof first), 0);
    cr_assert_lt(memcmp(second, third, sizeof first), 0);
    cr_assert_eq(tp_leaf_key_decode(tp_slice_of(second, sizeof second), &number, &index), TP_OK);
    cr_assert_eq(number, 7);
    cr_assert_eq(index, 256);
    tp_chunk_key(7, 256, first);
    cr_assert_eq(tp_leaf_key_decode(tp_slice_of(first, sizeof first), &number, &index),
                 TP_MALFORMED);
}

Test(file_record, a_reference_key_comes_apart_as_it_was_put_together)
{
    uint8_t room[TP_FILE_LINK_KEY_SIZE_MAX];
    const struct tp_slice key = tp_reference_key(file, TP_SLICE("acme\0notes"), room);
    struct tp_slice name;
    const uint8_t *id;

    cr_assert_eq(tp_reference_key_decode(key, &id, &name), TP_OK);
    cr_assert_arr_eq(id, file, sizeof file);
    cr_assert(tp_slice_equal(name, TP_SLICE("acme\0notes")));
    cr_assert_eq(tp_reference_key_decode(tp_slice_of(key.data, 33), &id, &name), TP_MALFORMED);
}

Test(file_record, the_longest_names_have_keys_that_the_store_takes)
{
    uint8_t name[2 * TP_RECORD_NAME_SIZE_MAX + 1], room[TP_FILE_LINK_KEY_SIZE_MAX];
    memset(name, 'n', sizeof name);

    cr_assert_eq(tp_listed_key(tp_slice_of(name, sizeof name), file, room).size, sizeof room);
    cr_assert_leq(sizeof room, 2200);
}

Test(file_record, no_document_lists_what_another_one_lists)
{
    uint8_t room[TP_FILE_LINK_KEY_SIZE_MAX], other[TP_FILE_LINK_KEY_SIZE_MAX];
    const struct tp_slice all = tp_listed_key(TP_SLICE("\0a"), NULL, room);
    const struct tp_slice longer = tp_listed_key(TP_SLICE("\0ab"), file, other);

    cr_assert_neq(memcmp(all.data, longer.data, all.size), 0);
}

Test(file_record, an_upload_is_its_users_or_without_user_its_documents)
{
    uint8_t a[TP_FILE_OWNER_SIZE], b[TP_FILE_OWNER_SIZE];
    const struct tp_slice none = {0};

    tp_file_owner(TP_SLICE("r"), TP_SLICE("u"), TP_SLICE("d"), a);
    tp_file_owner(TP_SLICE("r"), TP_SLICE("u"), TP_SLICE("e"), b);
    cr_assert_arr_eq(a, b, sizeof a, "one user, two documents");
    tp_file_owner(TP_SLICE("s"), TP_SLICE("u"), TP_SLICE("d"), b);
    cr_assert_arr_neq(a, b, sizeof a, "two rooms");
    tp_file_owner(TP_SLICE("r"), none, TP_SLICE("u"), b);
    cr_assert_arr_neq(a, b, sizeof a, "a document that is called like the user");
    tp_file_owner(TP_SLICE("r"), none, TP_SLICE("v"), a);
    cr_assert_arr_neq(a, b, sizeof a, "two documents without user");
}

Test(file_record, an_upload_comes_back_as_it_was_written)
{
    const struct tp_upload_record record = {
        .number = UINT64_MAX,
        .shape = {.size = 5, .chunk_size = 64, .encrypted = 1},
        .begun_ms = 1790000000000,
        .name = TP_SLICE("a.bin"),
        .type = TP_SLICE("t/x"),
        .documents = {{TP_SLICE("r\0d"), 3}, {TP_SLICE("\0e"), 0}},
        .document_count = 2};
    uint8_t room[256], head[16];
    struct tp_buffer out = tp_buffer_fixed(room, sizeof room),
                     number = tp_buffer_fixed(head, sizeof head);
    struct tp_upload_record back;

    tp_upload_record_encode(&record, &out);
    cr_assert_eq(tp_upload_record_decode(tp_buffer_slice(&out), &back), TP_OK);
    cr_assert_eq(back.number, record.number);
    cr_assert_eq(back.shape.size, 5);
    cr_assert(back.shape.encrypted);
    cr_assert_eq(back.begun_ms, record.begun_ms);
    cr_assert(tp_slice_equal(back.name, record.name));
    cr_assert(tp_slice_equal(back.type, record.type));
    cr_assert_eq(back.document_count, 2);
    cr_assert(tp_slice_equal(back.documents[0].name, TP_SLICE("r\0d")));
    cr_assert_eq(back.documents[0].epoch, 3);
    tp_upload_record_number_encode(UINT64_MAX, &number);
    cr_assert_arr_eq(room, head, number.size);

    for (size_t size = 0; size < out.size; size++)
        cr_assert_eq(tp_upload_record_decode(tp_slice_of(room, size), &back), TP_MALFORMED);
}

Test(file_record, the_others_come_back_as_they_were_written)
{
    uint8_t room[256];
    struct tp_buffer out = tp_buffer_fixed(room, sizeof room);
    struct tp_leaf_record leaf;
    struct tp_manifest_record manifest;
    struct tp_listed_record listed;
    uint32_t count;
    uint64_t epoch;

    tp_leaf_record_encode(&(struct tp_leaf_record){file, 1790000000000}, &out);
    cr_assert_eq(tp_leaf_record_decode(tp_buffer_slice(&out), &leaf), TP_OK);
    cr_assert_arr_eq(leaf.hash, file, sizeof file);
    cr_assert_eq(leaf.stored_ms, 1790000000000);

    out.size = 0;
    tp_manifest_record_encode(&(struct tp_manifest_record){2, 77, 4}, &out);
    cr_assert_eq(tp_manifest_record_decode(tp_buffer_slice(&out), &manifest), TP_OK);
    cr_assert(manifest.generation == 2 && manifest.number == 77 && manifest.chunk_count == 4);

    out.size = 0;
    tp_listed_record_encode(&(struct tp_listed_record){.epoch = 1,
                                                       .shape = shape,
                                                       .stored_ms = 8,
                                                       .name = TP_SLICE("n"),
                                                       .type = TP_SLICE("")},
                            &out);
    cr_assert_eq(tp_listed_record_decode(tp_buffer_slice(&out), &listed), TP_OK);
    cr_assert(listed.epoch == 1 && listed.shape.size == 200 && listed.stored_ms == 8);
    cr_assert(tp_slice_equal(listed.name, TP_SLICE("n")));

    out.size = 0;
    tp_garbage_record_encode(4, &out);
    cr_assert_eq(tp_garbage_record_decode(tp_buffer_slice(&out), &count), TP_OK);
    cr_assert_eq(count, 4);

    out.size = 0;
    tp_reference_record_encode(300, &out);
    cr_assert_eq(tp_reference_record_decode(tp_buffer_slice(&out), &epoch), TP_OK);
    cr_assert_eq(epoch, 300);
}

Test(file_record, damage_is_seen)
{
    struct tp_manifest_record manifest;
    struct tp_listed_record listed;
    struct tp_upload_record upload;
    uint32_t count;
    uint8_t key[TP_UPLOAD_KEY_SIZE];

    tp_upload_key(owner, file, key);
    cr_assert_eq(key[0], 'S');
    cr_assert_eq(tp_manifest_record_decode(TP_SLICE("\xb1\0\0\0\0\0\0\0\0\1\1"), &manifest),
                 TP_MALFORMED, "generation 0");
    cr_assert_eq(tp_manifest_record_decode(TP_SLICE("\xb1\1\0\0\0\0\0\0\0\1\0"), &manifest),
                 TP_MALFORMED, "no chunk");
    cr_assert_eq(tp_garbage_record_decode(TP_SLICE("\xa1\x81\x80\x04"), &count), TP_MALFORMED,
                 "more chunks than a file can have");
    cr_assert_eq(tp_garbage_record_decode(TP_SLICE("\xa1\x81\x00"), &count), TP_MALFORMED,
                 "not the shortest form");
    cr_assert_eq(tp_listed_record_decode(TP_SLICE("\xc1\1\5\x3f\0\0\0\0"), &listed), TP_MALFORMED,
                 "chunks of 63 bytes");
    cr_assert_eq(tp_listed_record_decode(TP_SLICE("\xc1\1\5\x40\2\0\0\0"), &listed), TP_MALFORMED,
                 "neither encrypted nor not");
    cr_assert_eq(tp_upload_record_decode(TP_SLICE("\x81\0\0\0\0\0\0\0\1\5\x40\0\0\0\0\0"), &upload),
                 TP_MALFORMED, "for no document");
}
