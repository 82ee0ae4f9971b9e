#include <criterion/criterion.h>

#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "wire/writer.h"

/* Client 7 wrote "ab" into the root "t" at clock 0, then "cd" behind it. */
#define AB "\1\1\7\0\4\1\1t\2ab\0"
#define CD "\1\1\7\2\x84\7\1\2cd\0"
#define ABCD "\1\2\7\0\4\1\1t\2ab\x84\7\1\2cd\0"

static void merge_is(const struct tp_slice *updates, size_t count, struct tp_slice wanted)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_merge(updates, count, TP_UPDATE_V1, &out), TP_OK);
    cr_assert_eq(out.size, wanted.size);
    cr_assert_arr_eq(out.data, wanted.data, wanted.size);
    tp_buffer_finish(&out);
}

Test(update, merge_of_nothing_is_the_empty_update)
{
    merge_is(NULL, 0, tp_update_empty(TP_UPDATE_V1));
}

Test(update, merge_appends_what_comes_in_order)
{
    const struct tp_slice updates[] = {TP_SLICE(AB), TP_SLICE(CD)};

    merge_is(updates, 2, TP_SLICE(ABCD));
}

Test(update, merge_gives_the_same_whatever_the_order_and_however_often)
{
    const struct tp_slice updates[] = {TP_SLICE(CD), TP_SLICE(AB), TP_SLICE(CD), TP_SLICE(ABCD)};

    merge_is(updates, 4, TP_SLICE(ABCD));
}

Test(update, merge_shows_a_hole_as_a_skip)
{
    const struct tp_slice updates[] = {TP_SLICE(AB), TP_SLICE("\1\1\7\5\x84\7\4\1x\0")};

    merge_is(updates, 2, TP_SLICE("\1\3\7\0\4\1\1t\2ab\12\3\x84\7\4\1x\0"));
}

Test(update, merge_takes_blocks_of_one_client_for_updates_of_their_own)
{
    const struct tp_slice update = TP_SLICE("\2\1\7\2\x84\7\1\2cd\1\7\0\4\1\1t\2ab\0");

    merge_is(&update, 1, TP_SLICE(ABCD));
}

Test(update, merge_joins_delete_ranges_in_any_order)
{
    const struct tp_slice updates[] = {
        TP_SLICE("\0\1\7\1\4\2"),
        TP_SLICE("\0\1\7\1\0\1"),
        TP_SLICE("\0\1\11\1\0\1"),
        TP_SLICE("\0\1\7\1\1\3"),
    };

    merge_is(updates, 4, TP_SLICE("\0\2\11\1\0\1\7\1\0\6"));
}

Test(update, merge_of_more_clients_than_lanes_keeps_them_all)
{
    struct tp_slice updates[40];
    uint8_t bytes[40][10];
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    for (uint8_t i = 0; i < 40; i++) {
        memcpy(bytes[i], "\1\1\0\0\4\1\1t\1a", 10);
        bytes[i][2] = i;
        updates[i] = (struct tp_slice){bytes[i], 10};
    }
    cr_assert_eq(tp_update_merge(updates, 40, TP_UPDATE_V1, &out), TP_MALFORMED,
                 "the delete sets are missing");
    out.size = 0;
    uint8_t whole[40][11] = {0};
    for (uint8_t i = 0; i < 40; i++) {
        memcpy(whole[i], bytes[i], 10);
        updates[i] = (struct tp_slice){whole[i], 11};
    }

    cr_assert_eq(tp_update_merge(updates, 40, TP_UPDATE_V1, &out), TP_OK);

    cr_assert_eq(out.size, 1 + 40 * 9 + 1);
    cr_assert_eq(out.data[0], 40);
    for (uint8_t i = 0; i < 40; i++)
        cr_assert_eq(out.data[1 + i * 9 + 1], 39 - i, "clients are descending");
    tp_buffer_finish(&out);
}

Test(update, output_that_does_not_fit_is_refused_as_full)
{
    const struct tp_slice updates[] = {TP_SLICE(AB), TP_SLICE(CD)};
    uint8_t memory[sizeof ABCD - 2];
    struct tp_buffer out = tp_buffer_fixed(memory, sizeof memory);

    cr_assert_eq(tp_update_merge(updates, 2, TP_UPDATE_V1, &out), TP_FULL);
}

Test(update, validate_finds_the_ranges_and_what_is_normal)
{
    struct tp_update_range range;
    struct tp_update_info info;

    cr_assert_eq(tp_update_validate(TP_SLICE(CD), TP_UPDATE_V1, NULL, &range, 1, &info), TP_OK);

    cr_assert_eq(info.range_count, 1);
    cr_assert_eq(range.client, 7);
    cr_assert_eq(range.from, 2);
    cr_assert_eq(range.gapless_to, 4);
    cr_assert_eq(range.to, 4);
    cr_assert_eq(info.struct_count, 1);
    cr_assert(info.normal);
    cr_assert_not(info.empty);
}

Test(update, validate_names_what_is_wrong_and_where)
{
    struct tp_update_info info;

    cr_assert_eq(
        tp_update_validate(TP_SLICE("\1\1\7\0\4\1\1t\1\xff\0"), TP_UPDATE_V1, NULL, NULL, 0, &info),
        TP_MALFORMED);

    cr_assert_str_eq(info.error, "a text is not UTF-8");
    cr_assert_eq(info.error_at, 9);
}

Test(update, validate_refuses_what_is_past_a_limit)
{
    struct tp_update_limits limits = tp_update_limits_default;
    struct tp_update_info info;
    const struct tp_slice update = TP_SLICE(ABCD);

    limits.struct_count_max = 1;
    cr_assert_eq(tp_update_validate(update, TP_UPDATE_V1, &limits, NULL, 0, &info), TP_MALFORMED);
    limits.struct_count_max = 2;
    limits.update_size_max = update.size - 1;
    cr_assert_eq(tp_update_validate(update, TP_UPDATE_V1, &limits, NULL, 0, &info), TP_MALFORMED);
    limits.update_size_max = update.size;
    limits.root_name_size_max = 0;
    cr_assert_eq(tp_update_validate(update, TP_UPDATE_V1, &limits, NULL, 0, &info), TP_MALFORMED);
    limits.root_name_size_max = 1;
    limits.block_count_max = 0;
    cr_assert_eq(tp_update_validate(update, TP_UPDATE_V1, &limits, NULL, 0, &info), TP_MALFORMED);
    limits.block_count_max = 1;
    cr_assert_eq(tp_update_validate(update, TP_UPDATE_V1, &limits, NULL, 0, &info), TP_OK);
}

Test(update, diff_cuts_a_struct_where_the_peer_stands)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);
    const struct tp_slice wanted = TP_SLICE("\1\2\7\1\x84\7\0\1b\x84\7\1\2cd\0");

    cr_assert_eq(tp_update_diff(TP_SLICE(ABCD), TP_UPDATE_V1, TP_SLICE("\1\7\1"), &out), TP_OK);

    cr_assert_eq(out.size, wanted.size);
    cr_assert_arr_eq(out.data, wanted.data, wanted.size);
    tp_buffer_finish(&out);
}

Test(update, state_vector_stops_at_the_first_hole)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_state_vector(TP_SLICE("\1\3\7\0\4\1\1t\2ab\12\3\x84\7\4\1x\0"),
                                        TP_UPDATE_V1, &out),
                 TP_OK);

    cr_assert_eq(out.size, 3);
    cr_assert_arr_eq(out.data, "\1\7\2", 3);
    tp_buffer_finish(&out);
}

Test(update, converts_to_v2_and_back)
{
    struct tp_buffer v2 = tp_buffer_growing(SIZE_MAX);
    struct tp_buffer v1 = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_convert(TP_SLICE(ABCD), TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    cr_assert_eq(tp_update_convert(tp_buffer_slice(&v2), TP_UPDATE_V2, TP_UPDATE_V1, &v1), TP_OK);

    cr_assert_eq(v1.size, sizeof ABCD - 1);
    cr_assert_arr_eq(v1.data, ABCD, v1.size);
    tp_buffer_finish(&v1);
    tp_buffer_finish(&v2);
}

#define SUBDOCUMENT(options) \
    TP_SLICE("\0\0\1\11\0\0\1\51\13\7msubg-1\1\x43\0\1\1\0\0\1\1\0" options "\0")

Test(update, a_placeholder_of_a_subdocument_becomes_one_that_every_reader_takes)
{
    const struct tp_slice structure = SUBDOCUMENT("\x7e"); /* null */
    struct tp_update_limits limits = tp_update_limits_default;
    struct tp_update_info info;
    struct tp_buffer v1 = tp_buffer_growing(SIZE_MAX), v2 = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_validate(structure, TP_UPDATE_V2, &limits, NULL, 0, &info),
                 TP_MALFORMED);
    cr_assert_eq(tp_update_convert(structure, TP_UPDATE_V2, TP_UPDATE_V1, &v1), TP_MALFORMED);
    v1.size = 0;

    limits.placeholders = true;
    cr_assert_eq(tp_update_validate(structure, TP_UPDATE_V2, &limits, NULL, 0, &info), TP_OK);
    cr_assert(info.relayable && !info.normal);
    cr_assert_eq(tp_update_validate(SUBDOCUMENT("\x7d\1"), TP_UPDATE_V2, &limits, NULL, 0, &info),
                 TP_MALFORMED);
    cr_assert_eq(tp_update_convert_structure(structure, &v1), TP_OK);
    cr_assert_eq(tp_update_convert(tp_buffer_slice(&v1), TP_UPDATE_V1, TP_UPDATE_V2, &v2), TP_OK);
    cr_assert(tp_slice_equal(tp_buffer_slice(&v2), SUBDOCUMENT("\x76\0")));
    tp_buffer_finish(&v1);
    tp_buffer_finish(&v2);
}

Test(update, a_value_that_json_cannot_say_has_no_v1_form)
{
    /* An embed that holds undefined. */
    const struct tp_slice update = TP_SLICE("\0\0\1\7\0\0\1\5\3\1t\1\1\1\0\0\1\1\0\177\0");
    struct tp_update_info info;
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_validate(update, TP_UPDATE_V2, NULL, NULL, 0, &info), TP_OK);
    cr_assert_not(info.has_v1_form);
    cr_assert_eq(tp_update_convert(update, TP_UPDATE_V2, TP_UPDATE_V1, &out), TP_DENIED);
    tp_buffer_finish(&out);
}

Test(state_vector, decodes_any_order_and_the_last_entry_of_a_client_wins)
{
    struct tp_state_vector vector = {0};
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_state_vector_decode(&vector, TP_SLICE("\4\1\5\7\3\1\4\3\0")), TP_OK);

    cr_assert_eq(tp_state_vector_get(&vector, 1), 4);
    cr_assert_eq(tp_state_vector_get(&vector, 7), 3);
    cr_assert_eq(tp_state_vector_get(&vector, 3), 0);
    tp_state_vector_encode(&vector, &out);
    cr_assert_eq(out.size, 5);
    cr_assert_arr_eq(out.data, "\2\7\3\1\4", 5);
    tp_buffer_finish(&out);
    tp_state_vector_finish(&vector);
}

Test(state_vector, stays_as_it_was_when_the_bytes_are_malformed)
{
    struct tp_state_vector vector = {0};

    tp_state_vector_raise(&vector, 5, 9);
    cr_assert_eq(tp_state_vector_decode(&vector, TP_SLICE("\2\1\5")), TP_MALFORMED);
    cr_assert_eq(tp_state_vector_decode(&vector, TP_SLICE("\377\377\377\377\17")), TP_MALFORMED);
    cr_assert_eq(tp_state_vector_get(&vector, 5), 9);
    tp_state_vector_finish(&vector);
}

Test(state_vector, raises_never_lowers_and_knows_what_covers_what)
{
    struct tp_state_vector more = {0};
    struct tp_state_vector less = {0};

    tp_state_vector_raise(&more, 5, 9);
    tp_state_vector_raise(&more, 8, 1);
    tp_state_vector_raise(&more, 5, 3);
    tp_state_vector_raise(&less, 5, 9);

    cr_assert_eq(tp_state_vector_get(&more, 5), 9);
    cr_assert(tp_state_vector_covers(&more, &less));
    cr_assert_not(tp_state_vector_covers(&less, &more));
    cr_assert(tp_state_vector_covers(&less, &(struct tp_state_vector){0}));
    tp_state_vector_finish(&more);
    tp_state_vector_finish(&less);
}

/* ---- content ids, snapshot, holes -------------------------------------------------------------*/

/* "ab" by client 7, a GC of 3 behind it, a hole of 2, "x"; the "b" is deleted. */
#define HOLED "\1\4\7\0\4\1\1t\2ab\0\3\12\2\x84\7\6\1x\1\7\1\1\1"

static void is(struct tp_buffer *got, struct tp_slice wanted)
{
    cr_assert_eq(got->size, wanted.size);
    cr_assert_arr_eq(got->data, wanted.data, wanted.size);
    tp_buffer_finish(got);
}

Test(update, content_ids_leave_out_what_is_collected_or_missing)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_content_ids(TP_SLICE(HOLED), TP_UPDATE_V1, &out), TP_OK);

    is(&out, TP_SLICE("\1\7\2\0\1\5\0\1\7\1\1\0"));
}

Test(update, snapshot_counts_collected_structs_as_deleted)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_snapshot(TP_SLICE(HOLED), TP_UPDATE_V1, &out), TP_OK);

    is(&out, TP_SLICE("\1\7\1\1\4\1\7\5"));
}

struct seen {
    unsigned count;
    uint64_t client, from, to;
};

static void see(void *context, uint64_t client, uint64_t from, uint64_t to)
{
    struct seen *seen = context;

    *seen = (struct seen){seen->count + 1, client, from, to};
}

Test(update, gaps_are_holes_between_structs_and_before_the_first)
{
    struct seen seen = {0};

    cr_assert_eq(tp_update_gaps(TP_SLICE(HOLED), TP_UPDATE_V1, see, &seen), TP_OK);
    cr_assert_eq(seen.count, 1);
    cr_assert_eq(seen.from, 5);
    cr_assert_eq(seen.to, 7);

    cr_assert_eq(tp_update_gaps(TP_SLICE(CD), TP_UPDATE_V1, see, &seen), TP_OK);
    cr_assert_eq(seen.count, 2);
    cr_assert_eq(seen.from, 0);
    cr_assert_eq(seen.to, 2);
}

/* ---- compaction -------------------------------------------------------------------------------*/

static void compacts_to(struct tp_slice update, struct tp_slice wanted)
{
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);
    bool guarded = true;

    cr_assert_eq(tp_update_compact(update, TP_UPDATE_V1, &out, &guarded), TP_OK);
    cr_assert_not(guarded);
    is(&out, wanted);
}

Test(update, compaction_of_nothing_is_nothing)
{
    compacts_to(TP_SLICE("\0\0"), TP_SLICE("\0\0"));
}

Test(update, compaction_joins_what_was_typed_in_a_row)
{
    compacts_to(TP_SLICE(ABCD), TP_SLICE("\1\1\7\0\4\1\1t\4abcd\0"));
}

Test(update, compaction_keeps_the_links_of_deleted_text_but_not_the_text)
{
    compacts_to(TP_SLICE("\1\2\7\0\4\1\1t\2ab\x84\7\1\2cd\1\7\1\1\2"),
                TP_SLICE("\1\3\7\0\4\1\1t\1a\x81\7\0\2\x84\7\2\1d\1\7\1\1\2"));
}

Test(update, compaction_collects_what_was_in_a_deleted_type)
{
    /* A map at clock 0, deleted; in it under "k" a text, and in that "a". */
    compacts_to(TP_SLICE("\1\3\7\0\7\1\1t\1\x27\0\7\0\1k\2\4\0\7\1\1a\1\7\1\0\1"),
                TP_SLICE("\1\2\7\0\1\1\1t\1\0\2\1\7\1\0\3"));
}

Test(update, compaction_holds_back_when_live_content_hangs_on_what_would_go)
{
    /* In the deleted map of client 7 is an "a". Client 9 wrote "bc" into the root, and the "c"
     * names that "a" as its right neighbour. */
    const struct tp_slice update = TP_SLICE("\2\2\11\0\4\1\1t\1b\xc4\11\0\7\1\1c"
                                            "\2\7\0\7\1\1t\1\4\0\7\0\1a\1\7\1\0\1");
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);
    bool guarded;

    cr_assert_eq(tp_update_compact(update, TP_UPDATE_V1, &out, &guarded), TP_OK);

    cr_assert(guarded);
    is(&out, TP_SLICE("\2\2\11\0\4\1\1t\1b\xc4\11\0\7\1\1c"
                      "\2\7\0\1\1\1t\1\4\0\7\0\1a\1\7\1\0\1"));
}

/* ---- the report -------------------------------------------------------------------------------*/

Test(update, report_counts_and_names_what_is_missing)
{
    struct tp_update_report report;

    cr_assert_eq(tp_update_inspect(TP_SLICE(HOLED), TP_UPDATE_V1, &report), TP_OK);

    cr_assert_eq(report.struct_count, 3);
    cr_assert_eq(report.gc_count, 1);
    cr_assert_eq(report.skip_count, 1);
    cr_assert_eq(report.gap_count, 1);
    cr_assert_eq(report.pending_link_count, 1, "the origin of x is in the hole");
    cr_assert_not(report.complete);
}

Test(update, report_finds_clients_that_wait_for_each_other_but_not_who_waits_for_them)
{
    /* 9 waits for 3 and 3 for 9; 2 waits for 3. */
    const struct tp_slice update =
        TP_SLICE("\3\1\11\0\x84\3\0\1a\1\3\0\x84\11\0\1b\1\2\0\x84\3\0\1c\0");
    struct tp_update_report report;

    cr_assert_eq(tp_update_inspect(update, TP_UPDATE_V1, &report), TP_OK);

    cr_assert_eq(report.cycle_client_count, 2);
    cr_assert_eq(report.pending_link_count, 0);
}

Test(update, report_has_one_hash_for_both_encodings)
{
    struct tp_update_report v1, v2;
    struct tp_buffer other = tp_buffer_growing(SIZE_MAX);

    cr_assert_eq(tp_update_convert(TP_SLICE(ABCD), TP_UPDATE_V1, TP_UPDATE_V2, &other), TP_OK);
    cr_assert_eq(tp_update_inspect(TP_SLICE(ABCD), TP_UPDATE_V1, &v1), TP_OK);
    cr_assert_eq(tp_update_inspect(tp_buffer_slice(&other), TP_UPDATE_V2, &v2), TP_OK);

    cr_assert_eq(v1.hash, v2.hash);
    tp_buffer_finish(&other);
}

/* ---- texts ------------------------------------------------------------------------------------*/

/* An insert of `text` by client 7. */
static void write_text(struct tp_buffer *out, struct tp_slice text)
{
    out->size = 0;
    tp_write_raw(out, TP_SLICE("\1\1\7\0\4\1\1t"));
    tp_write_bytes(out, text);
    tp_write_u8(out, 0);
}

Test(update, counts_utf_16_units_wherever_wide_characters_stand)
{
    static const struct {
        const char *bytes;
        uint64_t units;
    } wide[] = {{"\xc3\xa9", 1}, {"\xe2\x82\xac", 1}, {"\xf0\x9f\x98\x80", 2}};
    uint8_t text[160];
    struct tp_buffer out = tp_buffer_growing(SIZE_MAX);
    struct tp_update_range range;
    struct tp_update_info info;

    for (size_t size = 1; size + 8 <= sizeof text; size += 1 + size / 16)
        for (size_t at = 0; at <= size; at++)
            for (size_t i = 0; i < 3; i++) {
                const size_t bytes = strlen(wide[i].bytes);
                memset(text, 'a', size + 2 * bytes);
                memcpy(text + at, wide[i].bytes, bytes);
                memcpy(text + size + bytes, wide[i].bytes, bytes);
                write_text(&out, tp_slice_of(text, size + 2 * bytes));
                cr_assert_eq(
                    tp_update_validate(tp_buffer_slice(&out), TP_UPDATE_V1, NULL, &range, 1, &info),
                    TP_OK);
                cr_assert_eq(range.to, size + 2 * wide[i].units, "%zu of %zu", at, size);

                text[at] = 0xff;
                write_text(&out, tp_slice_of(text, size + 2 * bytes));
                cr_assert_eq(
                    tp_update_validate(tp_buffer_slice(&out), TP_UPDATE_V1, NULL, &range, 1, &info),
                    TP_MALFORMED);
            }
    tp_buffer_finish(&out);
}

/* ---- pieces -----------------------------------------------------------------------------------*/

Test(update, pieces_follow_what_they_depend_on)
{
    /* 9 wrote "x" behind the second of 7's structs, so that 7 comes first though 9 stands first. */
    const struct tp_slice update =
        TP_SLICE("\2\1\11\0\x84\7\3\1x\2\7\0\4\1\1t\2ab\x84\7\1\2cd\1\7\1\0\1");
    struct tp_buffer piece = tp_buffer_growing(SIZE_MAX), next = tp_buffer_growing(SIZE_MAX);
    bool is_last;

    cr_assert_eq(tp_update_piece(update, TP_SLICE("\0"), 1, &piece, &next, &is_last), TP_OK);
    cr_assert_not(is_last);
    is(&piece, TP_SLICE(AB));
    is(&next, TP_SLICE("\1\7\2"));

    piece = next = tp_buffer_growing(SIZE_MAX);
    cr_assert_eq(tp_update_piece(update, TP_SLICE("\1\7\2"), 1, &piece, &next, &is_last), TP_OK);
    cr_assert_not(is_last);
    is(&piece, TP_SLICE(CD));
    is(&next, TP_SLICE("\1\7\4"));

    piece = next = tp_buffer_growing(SIZE_MAX);
    cr_assert_eq(tp_update_piece(update, TP_SLICE("\1\7\4"), 100, &piece, &next, &is_last), TP_OK);
    cr_assert(is_last);
    is(&piece, TP_SLICE("\1\1\11\0\x84\7\3\1x\1\7\1\0\1"));
    is(&next, TP_SLICE("\2\11\1\7\4"));
}

Test(update, pieces_cut_at_a_time_are_those_cut_one_by_one)
{
    /* Texts of three clients, each behind one of another; a hole; deletions. */
    struct tp_buffer update = tp_buffer_growing(SIZE_MAX);
    tp_write_raw(&update, TP_SLICE("\3\3\11\0\4\1\1t\2ab\x84\10\1\2cd\x84\7\2\1e"));
    tp_write_raw(&update, TP_SLICE("\2\10\0\x84\11\1\2fg\x84\7\1\2hi"));
    tp_write_raw(&update, TP_SLICE("\3\7\0\x84\10\1\2jk\x84\11\3\2lm\x84\12\5\1n\1\7\1\0\1"));

    for (size_t size_max = 1; size_max < 60; size_max++)
        for (uint32_t count_max = 2; count_max < 6; count_max++) {
            struct tp_update_pieces many = {tp_buffer_growing(SIZE_MAX),
                                            tp_buffer_growing(SIZE_MAX),
                                            tp_buffer_growing(SIZE_MAX), false};
            cr_assert_eq(tp_update_cut(tp_buffer_slice(&update), TP_SLICE("\1\11\1"), size_max,
                                       count_max, &many),
                         TP_OK);
            const struct tp_update_piece_end *ends = (const void *)many.ends.data;
            const size_t count = many.ends.size / sizeof *ends;
            struct tp_update_piece_end from = {0};
            struct tp_slice sv = TP_SLICE("\1\11\1");
            cr_assert(count == count_max || (count < count_max && many.is_last));
            for (size_t i = 0; i < count; i++) {
                struct tp_buffer one = tp_buffer_growing(SIZE_MAX);
                struct tp_buffer next = tp_buffer_growing(SIZE_MAX);
                bool is_last;
                cr_assert_eq(
                    tp_update_piece(tp_buffer_slice(&update), sv, size_max, &one, &next, &is_last),
                    TP_OK);
                is(&one,
                   tp_slice_of(many.updates.data + from.update, ends[i].update - from.update));
                sv = tp_slice_of(many.state_vectors.data + from.state_vector,
                                 ends[i].state_vector - from.state_vector);
                is(&next, sv);
                cr_assert_eq(is_last, i + 1 == count && many.is_last);
                from = ends[i];
                tp_buffer_finish(&one);
                tp_buffer_finish(&next);
            }
            tp_buffer_finish(&many.updates);
            tp_buffer_finish(&many.state_vectors);
            tp_buffer_finish(&many.ends);
        }
    tp_buffer_finish(&update);
}

Test(update, the_last_piece_has_what_waits_for_something_that_is_not_there)
{
    struct tp_buffer piece = tp_buffer_growing(SIZE_MAX), next = tp_buffer_growing(SIZE_MAX);
    bool is_last;

    cr_assert_eq(tp_update_piece(TP_SLICE(HOLED), TP_SLICE("\0"), 14, &piece, &next, &is_last),
                 TP_OK);
    cr_assert_not(is_last);
    is(&piece, TP_SLICE("\1\2\7\0\4\1\1t\2ab\0\3\0"));
    is(&next, TP_SLICE("\1\7\5"));

    piece = next = tp_buffer_growing(SIZE_MAX);
    cr_assert_eq(tp_update_piece(TP_SLICE(HOLED), TP_SLICE("\1\7\5"), 14, &piece, &next, &is_last),
                 TP_OK);
    cr_assert(is_last);
    is(&piece, TP_SLICE("\1\1\7\7\x84\7\6\1x\1\7\1\1\1"));
    is(&next, TP_SLICE("\1\7\5"));
}

Test(update, a_piece_is_never_without_progress_though_a_struct_is_larger)
{
    struct tp_buffer piece = tp_buffer_growing(SIZE_MAX), next = tp_buffer_growing(SIZE_MAX);
    bool is_last;

    cr_assert_eq(tp_update_piece(TP_SLICE(ABCD), TP_SLICE("\0"), 0, &piece, &next, &is_last),
                 TP_OK);

    cr_assert_not(is_last);
    is(&piece, TP_SLICE(AB));
    is(&next, TP_SLICE("\1\7\2"));
}
