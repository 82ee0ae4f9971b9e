/* What wire/record.h promises. */
#include <criterion/criterion.h>

#include "wire/record.h"

#define ROOM 4096

static struct tp_log_entry anonymous(struct tp_slice update)
{
    return (struct tp_log_entry){.sequence = 1234,
                                 .wall_ms = 1790000000000,
                                 .dialect = 2,
                                 .encoding = TP_RECORD_V1,
                                 .update = update};
}

static void add_entry(struct tp_buffer *out, const struct tp_log_entry *entry)
{
    tp_log_entry_head_encode(entry, out);
    tp_buffer_append(out, entry->update.data, entry->update.size);
}

Test(record, a_log_key_sorts_by_document_then_sequence)
{
    uint8_t first[16], second[16], third[16];
    tp_record_log_key(7, 255, first);
    tp_record_log_key(7, 256, second);
    tp_record_log_key(8, 0, third);

    cr_assert_lt(memcmp(first, second, 16), 0);
    cr_assert_lt(memcmp(second, third, 16), 0);

    uint64_t number, sequence;
    cr_assert_eq(tp_record_log_key_decode(tp_slice_of(second, 16), &number, &sequence), TP_OK);
    cr_assert_eq(number, 7);
    cr_assert_eq(sequence, 256);
    cr_assert_eq(tp_record_log_key_decode(tp_slice_of(second, 15), &number, &sequence),
                 TP_MALFORMED);
}

Test(record, a_name_key_comes_apart_as_it_was_put_together)
{
    struct tp_buffer key = tp_buffer_growing(ROOM);
    struct tp_slice room, document;

    cr_assert_eq(tp_record_name_key(TP_SLICE("acme"), TP_SLICE("notes"), &key), TP_OK);
    cr_assert(tp_slice_equal(tp_buffer_slice(&key), TP_SLICE("acme\0notes")));
    cr_assert_eq(tp_record_name_key_decode(tp_buffer_slice(&key), &room, &document), TP_OK);
    cr_assert(tp_slice_equal(room, TP_SLICE("acme")));
    cr_assert(tp_slice_equal(document, TP_SLICE("notes")));
    tp_buffer_finish(&key);
}

Test(record, a_name_key_may_lack_the_room_but_not_the_document)
{
    struct tp_buffer key = tp_buffer_growing(ROOM);

    cr_assert_eq(tp_record_name_key(TP_SLICE("acme"), (struct tp_slice){0}, &key), TP_DENIED);
    cr_assert_eq(tp_record_name_key((struct tp_slice){0}, TP_SLICE("n"), &key), TP_OK);
    cr_assert(tp_slice_equal(tp_buffer_slice(&key), TP_SLICE("\0n")));
    tp_buffer_finish(&key);
}

Test(record, a_name_with_nul_or_past_its_limit_is_denied)
{
    struct tp_buffer key = tp_buffer_growing(ROOM);
    uint8_t name[1025];
    memset(name, 'x', sizeof name);

    cr_assert_eq(tp_record_name_key(TP_SLICE("a\0b"), TP_SLICE("n"), &key), TP_DENIED);
    cr_assert_eq(tp_record_name_key(TP_SLICE("a"), TP_SLICE("n\0m"), &key), TP_DENIED);
    cr_assert_eq(tp_record_name_key(TP_SLICE("a"), tp_slice_of(name, 1025), &key), TP_DENIED);
    cr_assert_eq(tp_record_name_key(tp_slice_of(name, 1024), tp_slice_of(name, 1024), &key), TP_OK);
    tp_buffer_finish(&key);
}

Test(record, a_name_record_comes_back_whole)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM);
    struct tp_name_record record = {.number = 0x8000000000000001,
                                    .epoch = 3,
                                    .mode = TP_MODE_ENCRYPTED,
                                    .created_ms = 1790000000000,
                                    .deleted = true,
                                    .state_vector = TP_SLICE("\1\5\7")};
    struct tp_name_record back;

    tp_name_record_encode(&record, &bytes);
    cr_assert_eq(tp_name_record_decode(tp_buffer_slice(&bytes), &back), TP_OK);
    cr_assert_eq(back.number, record.number);
    cr_assert_eq(back.epoch, 3);
    cr_assert_eq(back.mode, TP_MODE_ENCRYPTED);
    cr_assert_eq(back.created_ms, 1790000000000);
    cr_assert(back.deleted);
    cr_assert(tp_slice_equal(back.state_vector, record.state_vector));
    record.deleted = false;
    bytes.size = 0;
    tp_name_record_encode(&record, &bytes);
    cr_assert_eq(tp_name_record_decode(tp_buffer_slice(&bytes), &back), TP_OK);
    cr_assert(!back.deleted);
    cr_assert(tp_slice_equal(back.state_vector, record.state_vector), "of epochs before");
    tp_buffer_finish(&bytes);
}

Test(record, a_name_record_cut_anywhere_or_longer_is_malformed)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM);
    struct tp_name_record record = {.number = 9, .mode = TP_MODE_PLAIN, .created_ms = 1000};
    struct tp_name_record back;

    tp_name_record_encode(&record, &bytes);
    for (size_t size = 0; size < bytes.size; size++)
        cr_assert_eq(tp_name_record_decode(tp_slice_of(bytes.data, size), &back), TP_MALFORMED,
                     "%zu bytes", size);
    tp_buffer_append(&bytes, "x", 1);
    cr_assert_eq(tp_name_record_decode(tp_buffer_slice(&bytes), &back), TP_MALFORMED);
    tp_buffer_finish(&bytes);
}

Test(record, metadata_carries_what_it_does_not_know)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM);
    struct tp_metadata_record record = {.name = TP_SLICE("\0doc"),
                                        .epoch = 1,
                                        .mode = TP_MODE_PLAIN,
                                        .created_ms = 5,
                                        .updated_ms = 6,
                                        .update_size = 7000,
                                        .entry_count = 8,
                                        .state_vector = TP_SLICE("\0"),
                                        .extra = TP_SLICE("{\"files\":[]}")};
    struct tp_metadata_record back;

    tp_metadata_record_encode(&record, &bytes);
    cr_assert_eq(tp_metadata_record_decode(tp_buffer_slice(&bytes), &back), TP_OK);
    cr_assert(tp_slice_equal(back.name, record.name));
    cr_assert_eq(back.updated_ms, 6);
    cr_assert_eq(back.update_size, 7000);
    cr_assert_eq(back.entry_count, 8);
    cr_assert(tp_slice_equal(back.state_vector, record.state_vector));
    cr_assert(tp_slice_equal(back.extra, record.extra));
    tp_buffer_finish(&bytes);
}

Test(record, no_metadata_begins_another)
{
    struct tp_buffer with = tp_buffer_growing(ROOM), without = tp_buffer_growing(ROOM);
    struct tp_metadata_record record = {.name = TP_SLICE("\0doc"), .mode = TP_MODE_PLAIN};
    struct tp_metadata_record back;

    tp_metadata_record_encode(&record, &without);
    record.extra = TP_SLICE("more");
    tp_metadata_record_encode(&record, &with);

    cr_assert_neq(memcmp(with.data, without.data, without.size), 0);
    for (size_t size = 0; size < with.size; size++)
        cr_assert_eq(tp_metadata_record_decode(tp_slice_of(with.data, size), &back), TP_MALFORMED);
    tp_buffer_append(&with, "x", 1);
    cr_assert_eq(tp_metadata_record_decode(tp_buffer_slice(&with), &back), TP_MALFORMED);
    tp_buffer_finish(&with);
    tp_buffer_finish(&without);
}

Test(record, the_head_of_an_anonymous_entry_has_at_most_sixteen_bytes)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM);
    struct tp_log_entry entry = anonymous(TP_SLICE("0123456789012345678901234567890123456789"));

    tp_log_entry_head_encode(&entry, &bytes);

    cr_assert_eq(bytes.size, 11);
    tp_buffer_finish(&bytes);
}

Test(record, entries_end_to_end_come_back_one_by_one)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM);
    struct tp_log_entry first = anonymous(TP_SLICE("one"));
    struct tp_log_entry second = {.sequence = 1235,
                                  .wall_ms = 1790000000001,
                                  .user = TP_SLICE("ann"),
                                  .client = TP_SLICE("c1"),
                                  .origin = TP_SLICE("n/b/3"),
                                  .dialect = 1,
                                  .encoding = TP_RECORD_CONTAINER,
                                  .update = TP_SLICE("")};
    add_entry(&bytes, &first);
    add_entry(&bytes, &second);

    struct tp_slice rest = tp_buffer_slice(&bytes);
    struct tp_log_entry back;
    cr_assert_eq(tp_log_entry_next(&rest, &back), TP_OK);
    cr_assert_eq(back.sequence, 1234);
    cr_assert_eq(back.encoding, TP_RECORD_V1);
    cr_assert_eq(back.dialect, 2);
    cr_assert_eq(back.user.size, 0);
    cr_assert(tp_slice_equal(back.update, first.update));
    cr_assert_eq(tp_log_entry_next(&rest, &back), TP_OK);
    cr_assert_eq(back.sequence, 1235);
    cr_assert_eq(back.wall_ms, 1790000000001);
    cr_assert(tp_slice_equal(back.user, second.user));
    cr_assert(tp_slice_equal(back.client, second.client));
    cr_assert(tp_slice_equal(back.origin, second.origin));
    cr_assert_eq(back.update.size, 0);
    cr_assert_eq(tp_log_entry_next(&rest, &back), TP_ABSENT);
    tp_buffer_finish(&bytes);
}

Test(record, an_entry_cut_anywhere_is_malformed_and_takes_nothing_off)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM);
    struct tp_log_entry entry = anonymous(TP_SLICE("update")), back;
    entry.user = TP_SLICE("ann");
    add_entry(&bytes, &entry);

    for (size_t size = 1; size < bytes.size; size++) {
        struct tp_slice rest = tp_slice_of(bytes.data, size);
        cr_assert_eq(tp_log_entry_next(&rest, &back), TP_MALFORMED, "%zu bytes", size);
        cr_assert_eq(rest.size, size);
    }
    tp_buffer_finish(&bytes);
}

Test(record, overlong_numbers_unknown_formats_and_encodings_are_malformed)
{
    const struct tp_slice wrong[] = {
        TP_SLICE("\x31\x0a\x81\x00\x01\x00"), /* sequence 1 in two bytes */
        TP_SLICE("\x32\x0a\x01\x01\x00"),     /* format 2 */
        TP_SLICE("\x31\x02\x01\x01\x00"),     /* encoding 0 */
        TP_SLICE("\x31\x2a\x01\x01\x00\x00"), /* a user that is there and empty */
    };
    struct tp_log_entry back;
    struct tp_slice right = TP_SLICE("\x31\x0a\x01\x01\x00");

    cr_assert_eq(tp_log_entry_next(&right, &back), TP_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tp_slice rest = wrong[i];
        cr_assert_eq(tp_log_entry_next(&rest, &back), TP_MALFORMED, "case %zu", i);
    }
}

Test(record, a_base_starts_with_its_version_and_with_no_other)
{
    struct tp_buffer bytes = tp_buffer_growing(ROOM), version = tp_buffer_growing(ROOM);
    struct tp_base_record record = {
        .version = 300, .sequence = 77, .encoding = TP_RECORD_V1, .update = TP_SLICE("\0\0")};
    struct tp_base_record back;

    tp_base_record_head_encode(&record, &bytes);
    tp_buffer_append(&bytes, record.update.data, record.update.size);
    cr_assert_eq(tp_base_record_decode(tp_buffer_slice(&bytes), &back), TP_OK);
    cr_assert_eq(back.version, 300);
    cr_assert_eq(back.sequence, 77);
    cr_assert_eq(back.encoding, TP_RECORD_V1);
    cr_assert(tp_slice_equal(back.update, record.update));

    for (uint64_t other = 1; other < 40000; other++) {
        version.size = 0;
        tp_base_record_version_encode(other, &version);
        const bool starts = memcmp(bytes.data, version.data, version.size) == 0;
        cr_assert_eq(starts, other == 300, "version %lu", (unsigned long)other);
    }
    tp_buffer_finish(&bytes);
    tp_buffer_finish(&version);
}
