/* What wire/file.h promises. */
#include <criterion/criterion.h>

#include "wire/file.h"

#define MIB (UINT64_C(1) << 20)
#define ID "n/XEndrerUD0u7nhVgCp5NRYER3dm5ytF7ypwS/BjrE="

static struct tp_file_shape shape(uint64_t size, bool encrypted)
{
    return (struct tp_file_shape){.size = size, .chunk_size = 1 << 20, .encrypted = encrypted};
}

Test(file, is_cut_into_whole_chunks_and_a_rest)
{
    const struct {
        uint64_t size;
        uint32_t count, last;
    } plain[] = {{0, 1, 0},     {1, 1, 1},       {MIB - 1, 1, MIB - 1},
                 {MIB, 1, MIB}, {MIB + 1, 2, 1}, {1024 * MIB, 1024, MIB}};

    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const struct tp_file_shape it = shape(plain[i].size, false);
        cr_assert_eq(tp_file_chunk_count(&it), plain[i].count);
        cr_assert_eq(tp_file_chunk_size(&it, plain[i].count - 1), plain[i].last);
        if (plain[i].count > 1)
            cr_assert_eq(tp_file_chunk_size(&it, 0), MIB);
    }
}

Test(file, leaves_room_for_the_seal_of_each_chunk)
{
    const struct tp_file_shape empty = shape(0, true), full = shape(MIB - 28, true),
                               more = shape(MIB - 27, true);

    cr_assert_eq(tp_file_chunk_count(&empty), 1);
    cr_assert_eq(tp_file_chunk_size(&empty, 0), 28);
    cr_assert_eq(tp_file_chunk_count(&full), 1);
    cr_assert_eq(tp_file_chunk_size(&full, 0), MIB);
    cr_assert_eq(tp_file_chunk_count(&more), 2);
    cr_assert_eq(tp_file_chunk_size(&more, 0), MIB);
    cr_assert_eq(tp_file_chunk_size(&more, 1), 29);
}

Test(file, has_a_largest_size_by_count_or_by_wish)
{
    cr_assert_eq(tp_file_size_max(1 << 20, false, 1024 * MIB), 1024 * MIB);
    cr_assert_eq(tp_file_size_max(64, false, 1024 * MIB), 4 * MIB);
    cr_assert_eq(tp_file_size_max(64, true, 1024 * MIB), 65536 * 36);

    const struct tp_file_shape largest = {.size = 65536 * 36, .chunk_size = 64, .encrypted = true};
    cr_assert_eq(tp_file_chunk_count(&largest), TP_FILE_CHUNK_COUNT_MAX);
}

Test(file, has_one_name_only)
{
    uint8_t id[TP_FILE_ID_SIZE], text[TP_FILE_ID_TEXT_SIZE];

    cr_assert_eq(tp_file_id_parse(TP_SLICE(ID), id), TP_OK);
    tp_file_id_write(id, text);
    cr_assert_arr_eq(text, ID, sizeof text);
    /* 'E' is 4, whose last two bits are not used; 'F' is 5 */
    cr_assert_eq(tp_file_id_parse(TP_SLICE("n/XEndrerUD0u7nhVgCp5NRYER3dm5ytF7ypwS/BjrF="), id),
                 TP_MALFORMED);
    cr_assert_eq(tp_file_id_parse(TP_SLICE(""), id), TP_MALFORMED);
    cr_assert_eq(tp_file_id_parse(TP_SLICE("AAAA"), id), TP_MALFORMED);
    cr_assert_eq(tp_file_id_parse(TP_SLICE("n/XEndrerUD0u7nhVgCp5NRYER3dm5ytF7ypwS/BjrEa"), id),
                 TP_MALFORMED);
    cr_assert_eq(tp_file_id_parse(TP_SLICE("n-XEndrerUD0u7nhVgCp5NRYER3dm5ytF7ypwS_BjrE="), id),
                 TP_MALFORMED);
}

Test(file, an_offer_lists_the_chunks_that_are_there)
{
    const uint8_t present[] = {0x82, 0x01};
    uint8_t room[128];
    struct tp_buffer out = tp_buffer_fixed(room, sizeof room);
    const struct tp_file_offer offer = {
        .file_id = TP_SLICE("x"), .chunk_size = 64, .present = present, .chunk_count = 9};

    tp_file_offer_write(&offer, &out);
    cr_assert(tp_slice_equal(tp_buffer_slice(&out),
                             TP_SLICE("\x76\x04\x06"
                                      "fileId\x77\x01x\x07"
                                      "allowed\x78\x0e"
                                      "existingChunks\x75\x03\x7d\x01\x7d\x07\x7d\x08\x09"
                                      "chunkSize\x7d\x80\x01")));
}
