/* What wire/websocket promises, sentence by sentence after RFC 6455. The groups are those of the
 * usual conformance suite: framing, pings, reserved bits, opcodes, fragments, UTF-8, closing,
 * sizes; net_test.c asks the same of a real connection. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/random.h"
#include "wire/reader.h"
#include "wire/websocket.h"

#define MESSAGE_SIZE_MAX (1u << 20)

static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};

/* A client's frame, masked; `first` has FIN, RSV and the opcode. */
static void add_frame(struct tp_buffer *out, uint8_t first, struct tp_slice payload)
{
    uint8_t head[TP_WEBSOCKET_HEAD_SIZE_MAX];
    const size_t size = tp_websocket_head(head, TP_WEBSOCKET_TEXT, payload.size);

    head[0] = first;
    head[1] |= 0x80;
    tp_buffer_append(out, head, size);
    tp_buffer_append(out, mask, sizeof mask);
    for (size_t i = 0; i < payload.size; i++) {
        const uint8_t byte = payload.data[i] ^ mask[i % 4];
        tp_buffer_append(out, &byte, 1);
    }
}

/* All that was read, joined: "T:text|", "B:bytes|", "P:ping|", "O:pong|", "C:payload|", and at the
 * end "!code" when it was refused. */
static void read_into(struct tp_websocket_reader *reader, uint8_t *at, size_t size,
                      struct tp_buffer *log)
{
    uint8_t *const end = at + size;
    struct tp_websocket_piece piece;
    enum tp_status status;

    while ((status = tp_websocket_read(reader, &at, end, &piece)) == TP_OK) {
        const char *const names = "?TB?????CPO";
        if (piece.first) {
            tp_buffer_append(log, &names[piece.opcode], 1);
            tp_buffer_append(log, ":", 1);
        }
        tp_buffer_append(log, piece.data, piece.size);
        if (piece.last)
            tp_buffer_append(log, "|", 1);
    }
    if (status == TP_MALFORMED) {
        char text[16];
        tp_buffer_append(log, text, (size_t)snprintf(text, sizeof text, "!%u", reader->close_code));
    } else {
        cr_assert_eq(status, TP_MORE);
        cr_assert_eq(at, end, "everything was taken");
    }
}

/* Reads `input` in parts of `step` bytes, each in memory of its own size, so that a read behind its
 * end is seen by the sanitizer. */
static struct tp_buffer read_in_steps(struct tp_slice input, size_t step)
{
    struct tp_websocket_reader reader;
    struct tp_buffer log = tp_buffer_growing(64 << 20);

    tp_websocket_reader_init(&reader, MESSAGE_SIZE_MAX);
    for (size_t at = 0; at < input.size && reader.close_code == 0; at += step) {
        const size_t size = tp_min(step, input.size - at);
        uint8_t *part = malloc(size);
        memcpy(part, input.data + at, size);
        read_into(&reader, part, size, &log);
        free(part);
    }
    return log;
}

/* However the bytes arrive, the outcome is the same. */
static void expect(struct tp_slice input, struct tp_slice outcome)
{
    static const size_t steps[] = {1, 2, 3, 5, 7, 16, 127, 1000, SIZE_MAX / 2};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct tp_buffer log = read_in_steps(input, steps[i]);
        cr_assert(tp_slice_equal(tp_buffer_slice(&log), outcome),
                  "in steps of %zu: \"%.*s\" instead of \"%.*s\"", steps[i],
                  (int)tp_min(log.size, 200), (const char *)log.data,
                  (int)tp_min(outcome.size, 200), (const char *)outcome.data);
        tp_buffer_finish(&log);
    }
}

struct part {
    uint8_t first;
    struct tp_slice payload;
};

#define FRAME(first, literal) ((struct part){first, TP_SLICE(literal)})
#define EXPECT(outcome, ...)                                                       \
    expect_parts((const struct part[]){__VA_ARGS__},                               \
                 sizeof((const struct part[]){__VA_ARGS__}) / sizeof(struct part), \
                 TP_SLICE(outcome))

static void expect_parts(const struct part *parts, size_t count, struct tp_slice outcome)
{
    struct tp_buffer input = tp_buffer_growing(64 << 20);

    for (size_t i = 0; i < count; i++)
        add_frame(&input, parts[i].first, parts[i].payload);
    expect(tp_buffer_slice(&input), outcome);
    tp_buffer_finish(&input);
}

/* ---- 1: framing (RFC 6455 section 5.2) ----------------------------------------------------------
 */

Test(websocket, reads_messages_of_every_size_around_the_length_forms)
{
    static const size_t sizes[] = {0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537};
    static const uint8_t opcodes[] = {TP_WEBSOCKET_TEXT, TP_WEBSOCKET_BINARY};
    static uint8_t payload[65537], outcome[65540];

    for (size_t o = 0; o < 2; o++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct tp_buffer input = tp_buffer_growing(64 << 20);
            memset(payload, '*', sizes[i]);
            memcpy(outcome, opcodes[o] == TP_WEBSOCKET_TEXT ? "T:" : "B:", 2);
            memcpy(outcome + 2, payload, sizes[i]);
            outcome[2 + sizes[i]] = '|';
            add_frame(&input, 0x80 | opcodes[o], tp_slice_of(payload, sizes[i]));
            expect(tp_buffer_slice(&input), tp_slice_of(outcome, sizes[i] + 3));
            tp_buffer_finish(&input);
        }
}

Test(websocket, reads_the_examples_of_the_rfc) /* section 5.7 */
{
    expect(TP_SLICE("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), TP_SLICE("T:Hello|"));
    expect(TP_SLICE("\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), TP_SLICE("P:Hello|"));
}

Test(websocket, takes_lengths_that_are_longer_than_needed)
{
    /* "the minimal number of bytes MUST be used" binds the sender; ws and browsers read these. */
    expect(TP_SLICE("\x82\xfe\x00\x01\0\0\0\0A"), TP_SLICE("B:A|"));
    expect(TP_SLICE("\x82\xff\0\0\0\0\0\0\x00\x01\0\0\0\0A"), TP_SLICE("B:A|"));
}

Test(websocket, refuses_a_length_with_the_highest_bit_set)
{
    expect(TP_SLICE("\x82\xff\x80\0\0\0\0\0\x00\x01\0\0\0\0A"), TP_SLICE("!1002"));
}

Test(websocket, refuses_a_frame_without_mask) /* section 5.1 */
{
    expect(TP_SLICE("\x81\x05Hello"), TP_SLICE("!1002"));
    expect(TP_SLICE("\x89\x00"), TP_SLICE("!1002"));
}

/* ---- 2: pings and pongs (sections 5.5.2, 5.5.3)
 * -------------------------------------------------- */

Test(websocket, hands_out_pings_and_pongs_whole)
{
    static char longest[TP_WEBSOCKET_CONTROL_SIZE_MAX + 1];
    struct tp_buffer input = tp_buffer_growing(1000), outcome = tp_buffer_growing(1000);
    memset(longest, 0xfe, sizeof longest);

    EXPECT("P:|O:|P:Hello|O:unasked|", FRAME(0x89, ""), FRAME(0x8a, ""), FRAME(0x89, "Hello"),
           FRAME(0x8a, "unasked"));
    EXPECT("P:\x00\xff\xfe\xfd\xfc\xfb\x00\xff|", FRAME(0x89, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"));
    add_frame(&input, 0x89, tp_slice_of(longest, TP_WEBSOCKET_CONTROL_SIZE_MAX));
    tp_buffer_append(&outcome, "P:", 2);
    tp_buffer_append(&outcome, longest, TP_WEBSOCKET_CONTROL_SIZE_MAX);
    tp_buffer_append(&outcome, "|", 1);
    expect(tp_buffer_slice(&input), tp_buffer_slice(&outcome));
    tp_buffer_finish(&input);
    tp_buffer_finish(&outcome);
}

Test(websocket, refuses_a_control_frame_of_more_than_125_bytes) /* section 5.5 */
{
    static char payload[126];
    struct tp_buffer input = tp_buffer_growing(1000);

    add_frame(&input, 0x89, tp_slice_of(payload, sizeof payload));
    expect(tp_buffer_slice(&input), TP_SLICE("!1002"));
    tp_buffer_finish(&input);
}

/* ---- 3: reserved bits (section 5.2)
 * --------------------------------------------------------------- */

Test(websocket, refuses_every_reserved_bit_in_every_kind_of_frame)
{
    static const uint8_t opcodes[] = {1, 2, 8, 9, 10};

    for (uint8_t bits = 0x10; bits <= 0x70; bits += 0x10)
        for (size_t i = 0; i < sizeof opcodes; i++) {
            struct tp_buffer input = tp_buffer_growing(1000);
            add_frame(&input, 0x80 | bits | opcodes[i], TP_SLICE("x"));
            expect(tp_buffer_slice(&input), TP_SLICE("!1002"));
            tp_buffer_finish(&input);
        }
    EXPECT("T:before|!1002", FRAME(0x81, "before"), FRAME(0xc1, "after"), FRAME(0x89, ""));
}

/* ---- 4: opcodes (section 5.2)
 * ---------------------------------------------------------------------- */

Test(websocket, refuses_opcodes_that_mean_nothing)
{
    static const uint8_t opcodes[] = {3, 4, 5, 6, 7, 11, 12, 13, 14, 15};

    for (size_t i = 0; i < sizeof opcodes; i++) {
        struct tp_buffer input = tp_buffer_growing(1000);
        add_frame(&input, 0x81, TP_SLICE("ok"));
        add_frame(&input, 0x80 | opcodes[i], TP_SLICE(""));
        expect(tp_buffer_slice(&input), TP_SLICE("T:ok|!1002"));
        tp_buffer_finish(&input);
    }
}

/* ---- 5: fragments (section 5.4)
 * --------------------------------------------------------------------- */

Test(websocket, refuses_a_control_frame_in_fragments) /* section 5.5 */
{
    EXPECT("!1002", FRAME(0x09, "fragment1"), FRAME(0x80, "fragment2"));
    EXPECT("!1002", FRAME(0x0a, "fragment1"), FRAME(0x80, "fragment2"));
    EXPECT("!1002", FRAME(0x08, ""));
}

Test(websocket, joins_fragments_with_control_frames_in_between)
{
    EXPECT("T:fragment1fragment2|", FRAME(0x01, "fragment1"), FRAME(0x80, "fragment2"));
    EXPECT("B:one|", FRAME(0x02, ""), FRAME(0x00, ""), FRAME(0x00, "on"), FRAME(0x80, "e"));
    EXPECT("T:|", FRAME(0x01, ""), FRAME(0x00, ""), FRAME(0x80, ""));
}

Test(websocket, lets_a_ping_pass_a_message_in_fragments)
{
    /* The log shows the ping's text amid the message's, which is what the wire did. */
    EXPECT("T:aP:ping|b|", FRAME(0x01, "a"), FRAME(0x89, "ping"), FRAME(0x80, "b"));
    EXPECT("T:aP:1|bO:2|c|T:next|", FRAME(0x01, "a"), FRAME(0x89, "1"), FRAME(0x00, "b"),
           FRAME(0x8a, "2"), FRAME(0x80, "c"), FRAME(0x81, "next"));
}

Test(websocket, refuses_a_continuation_of_nothing)
{
    EXPECT("!1002", FRAME(0x80, "x"));
    EXPECT("!1002", FRAME(0x00, "x"));
    EXPECT("T:x|!1002", FRAME(0x81, "x"), FRAME(0x80, "y"));
    EXPECT("T:ab|!1002", FRAME(0x01, "a"), FRAME(0x80, "b"), FRAME(0x80, "c"));
}

Test(websocket, refuses_a_new_message_inside_another)
{
    EXPECT("T:a!1002", FRAME(0x01, "a"), FRAME(0x81, "b"));
    EXPECT("T:a!1002", FRAME(0x01, "a"), FRAME(0x02, "b"));
    EXPECT("B:a!1002", FRAME(0x02, "a"), FRAME(0x81, "b"));
}

/* ---- 6: UTF-8 (section 8.1; Unicode table 3-7)
 * ------------------------------------------------------- */

struct text {
    struct tp_slice bytes;
    bool valid;
};

#define GOOD(literal)           \
    {                           \
        TP_SLICE(literal), true \
    }
#define BAD(literal)             \
    {                            \
        TP_SLICE(literal), false \
    }

/* clang-format off */
static const struct text texts[] = {
    GOOD(""), GOOD("a"), GOOD("\0"), GOOD("Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!"),
    GOOD("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"),
    BAD("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64"),
    /* the first and last character of each length */
    GOOD("\x7f"), GOOD("\xc2\x80"), GOOD("\xdf\xbf"), GOOD("\xe0\xa0\x80"), GOOD("\xef\xbf\xbf"),
    GOOD("\xf0\x90\x80\x80"), GOOD("\xf4\x8f\xbf\xbf"), BAD("\xf4\x90\x80\x80"),
    BAD("\xf7\xbf\xbf\xbf"), BAD("\xf8\x88\x80\x80\x80"), BAD("\xfb\xbf\xbf\xbf\xbf"),
    BAD("\xfc\x84\x80\x80\x80\x80"), BAD("\xfd\xbf\xbf\xbf\xbf\xbf"),
    GOOD("\xed\x9f\xbf"), GOOD("\xee\x80\x80"), GOOD("\xef\xbf\xbd"),
    /* continuations without a lead, leads without continuations */
    BAD("\x80"), BAD("\xbf"), BAD("\x80\xbf"), BAD("\x80\xbf\x80\xbf\x80\xbf"),
    BAD("\xc0 "), BAD("\xdf "), BAD("\xe0 "), BAD("\xef "), BAD("\xf0 "), BAD("\xf7 "), BAD("\xfd "),
    /* cut off at the end */
    BAD("\xc2"), BAD("\xe0\xa0"), BAD("\xe1\x80"), BAD("\xf0\x90\x80"), BAD("\xf1\x80"), BAD("\xf4"),
    /* never a byte of UTF-8 */
    BAD("\xfe"), BAD("\xff"), BAD("\xfe\xfe\xff\xff"),
    /* longer than needed */
    BAD("\xc0\xaf"), BAD("\xe0\x80\xaf"), BAD("\xf0\x80\x80\xaf"), BAD("\xf8\x80\x80\x80\xaf"),
    BAD("\xc1\xbf"), BAD("\xe0\x9f\xbf"), BAD("\xf0\x8f\xbf\xbf"), BAD("\xc0\x80"), BAD("\xe0\x80\x80"),
    /* surrogates, alone and in pairs */
    BAD("\xed\xa0\x80"), BAD("\xed\xad\xbf"), BAD("\xed\xae\x80"), BAD("\xed\xaf\xbf"),
    BAD("\xed\xb0\x80"), BAD("\xed\xbe\x80"), BAD("\xed\xbf\xbf"), BAD("\xed\xa0\x80\xed\xb0\x80"),
    BAD("\xed\xaf\xbf\xed\xbf\xbf"),
    /* noncharacters are characters */
    GOOD("\xef\xbf\xbe"), GOOD("\xf0\x9f\xbf\xbe"), GOOD("\xf4\x8f\xbf\xbe"), GOOD("\xf3\xaf\xbf\xbf"),
};
/* clang-format on */

Test(websocket, takes_well_formed_text_only_however_it_is_cut)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const struct tp_slice text = texts[i].bytes;
        cr_assert_eq(tp_utf8_valid(text), texts[i].valid, "text %zu in one piece", i);
        /* In one frame, in two fragments cut anywhere, and in fragments of one byte. */
        for (size_t cut = 0; cut <= text.size + 1; cut++) {
            struct tp_buffer input = tp_buffer_growing(1000);
            if (cut <= text.size) {
                add_frame(&input, 0x01, tp_slice_of(text.data, cut));
                add_frame(&input, 0x80, tp_slice_of(text.data + cut, text.size - cut));
            } else {
                add_frame(&input, 0x01, (struct tp_slice){0});
                for (size_t n = 0; n < text.size; n++)
                    add_frame(&input, 0x00, tp_slice_of(text.data + n, 1));
                add_frame(&input, 0x80, (struct tp_slice){0});
            }
            for (size_t step = 1; step < 40; step += 6) {
                struct tp_buffer log = read_in_steps(tp_buffer_slice(&input), step);
                const bool refused =
                    log.size >= 5 && memcmp(log.data + log.size - 5, "!1007", 5) == 0;
                cr_assert_eq(refused, !texts[i].valid, "text %zu cut at %zu, steps of %zu", i, cut,
                             step);
                tp_buffer_finish(&log);
            }
            tp_buffer_finish(&input);
        }
    }
}

Test(websocket, refuses_bad_text_at_the_first_byte_that_cannot_be) /* "fail fast" */
{
    struct tp_websocket_reader reader;
    struct tp_buffer input = tp_buffer_growing(1000), log = tp_buffer_growing(1000);
    tp_websocket_reader_init(&reader, MESSAGE_SIZE_MAX);
    add_frame(&input, 0x01, TP_SLICE("abc\xf4\x90 and much more that is still to come"));
    const size_t head_size = 2 + 4;

    read_into(&reader, input.data, head_size + 4, &log);
    cr_assert_eq(reader.close_code, 0, "F4 may begin a character");
    read_into(&reader, input.data + head_size + 4, 1, &log);

    cr_assert_eq(reader.close_code, 1007, "F4 90 does not, and nobody waits for the rest");
    tp_buffer_finish(&input);
    tp_buffer_finish(&log);
}

Test(websocket, does_not_look_into_binary_messages)
{
    EXPECT("B:\xff\xfe\x80|", FRAME(0x82, "\xff\xfe\x80"));
}

Test(websocket, begins_every_text_anew)
{
    EXPECT("T:\xc2\xb5|T:\xc2\xb5|!1007", FRAME(0x81, "\xc2\xb5"), FRAME(0x81, "\xc2\xb5"),
           FRAME(0x81, "\xb5"));
}

/* ---- 7: closing (sections 5.5.1, 7.4)
 * ------------------------------------------------------------------ */

static enum tp_status decode_close(struct tp_slice payload, uint16_t *code)
{
    struct tp_slice reason;
    return tp_websocket_close_decode(payload, code, &reason);
}

Test(websocket, reads_close_codes_and_reasons)
{
    struct tp_slice reason;
    uint16_t code;

    cr_assert_eq(tp_websocket_close_decode(TP_SLICE(""), &code, &reason), TP_OK);
    cr_assert_eq(code, 1005);
    cr_assert_eq(tp_websocket_close_decode(TP_SLICE("\x03\xe8"), &code, &reason), TP_OK);
    cr_assert_eq(code, 1000);
    cr_assert_eq(reason.size, 0);
    cr_assert_eq(tp_websocket_close_decode(TP_SLICE("\x0f\xa0"
                                                    "bye \xc3\xa4"),
                                           &code, &reason),
                 TP_OK);
    cr_assert_eq(code, 4000);
    cr_assert(tp_slice_equal(reason, TP_SLICE("bye \xc3\xa4")));
}

Test(websocket, refuses_a_close_of_one_byte_or_with_bad_text)
{
    uint16_t code;

    cr_assert_eq(decode_close(TP_SLICE("\x03"), &code), TP_MALFORMED);
    cr_assert_eq(code, 1002);
    cr_assert_eq(decode_close(TP_SLICE("\x03\xe8\xed\xa0\x80"), &code), TP_MALFORMED);
    cr_assert_eq(code, 1007);
}

Test(websocket, knows_the_codes_that_may_be_sent)
{
    static const uint16_t valid[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
                                     1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
    static const uint16_t invalid[] = {0,    1,    999,  1004, 1005, 1006, 1015,
                                       1016, 1100, 2000, 2999, 5000, 65535};

    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        cr_assert(tp_websocket_close_code_valid(valid[i]), "%u", valid[i]);
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        uint16_t code;
        const uint8_t payload[2] = {(uint8_t)(invalid[i] >> 8), (uint8_t)invalid[i]};
        cr_assert_not(tp_websocket_close_code_valid(invalid[i]), "%u", invalid[i]);
        cr_assert_eq(decode_close(tp_slice_of(payload, 2), &code), TP_MALFORMED);
        cr_assert_eq(code, 1002);
    }
}

Test(websocket, hands_out_a_close_amid_fragments)
{
    EXPECT("T:aC:\x03\xe8|b|", FRAME(0x01, "a"), FRAME(0x88, "\x03\xe8"), FRAME(0x80, "b"));
}

/* ---- sizes
 * -----------------------------------------------------------------------------------------------
 */

Test(websocket, takes_a_message_at_the_limit_and_refuses_one_byte_more_by_its_header)
{
    struct tp_websocket_reader reader;
    struct tp_websocket_piece piece;
    struct tp_buffer log = tp_buffer_growing(1000);
    uint8_t at_limit[] = "\x82\x84\0\0\0\0abcd", above[] = "\x82\x85\0\0\0\0";
    uint8_t in_parts[] = "\x02\x83\0\0\0\0abc\x80\x82\0\0\0\0";

    tp_websocket_reader_init(&reader, 4);
    read_into(&reader, at_limit, sizeof at_limit - 1, &log);
    cr_assert(tp_slice_equal(tp_buffer_slice(&log), TP_SLICE("B:abcd|")));
    uint8_t *at = above;
    cr_assert_eq(tp_websocket_read(&reader, &at, above + sizeof above - 1, &piece), TP_MALFORMED);
    cr_assert_eq(reader.close_code, 1009);

    tp_websocket_reader_init(&reader, 4);
    log.size = 0;
    read_into(&reader, in_parts, sizeof in_parts - 1, &log);
    cr_assert(tp_slice_equal(tp_buffer_slice(&log), TP_SLICE("B:abc!1009")));
    tp_buffer_finish(&log);
}

Test(websocket, is_not_fooled_by_lengths_that_add_up_past_64_bits)
{
    struct tp_websocket_reader reader;
    struct tp_buffer log = tp_buffer_growing(1000);
    uint8_t input[] = "\x02\x83\0\0\0\0abc\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";

    tp_websocket_reader_init(&reader, UINT64_MAX >> 1);
    read_into(&reader, input, sizeof input - 1, &log);
    cr_assert(tp_slice_equal(tp_buffer_slice(&log), TP_SLICE("B:abc!1009")));
    tp_buffer_finish(&log);
}

Test(websocket, reads_nothing_more_after_a_refusal)
{
    struct tp_websocket_reader reader;
    struct tp_buffer input = tp_buffer_growing(1000), log = tp_buffer_growing(1000);
    uint8_t bad[] = "\x83\x80\0\0\0\0";
    tp_websocket_reader_init(&reader, MESSAGE_SIZE_MAX);
    read_into(&reader, bad, sizeof bad - 1, &log);

    log.size = 0;
    add_frame(&input, 0x81, TP_SLICE("hello"));
    read_into(&reader, input.data, input.size, &log);

    cr_assert(tp_slice_equal(tp_buffer_slice(&log), TP_SLICE("!1002")));
    tp_buffer_finish(&input);
    tp_buffer_finish(&log);
}

Test(websocket, leaves_a_whole_message_where_it_was_received)
{
    struct tp_websocket_reader reader;
    struct tp_websocket_piece piece;
    struct tp_buffer input = tp_buffer_growing(1000);
    tp_websocket_reader_init(&reader, MESSAGE_SIZE_MAX);
    add_frame(&input, 0x82, TP_SLICE("hello"));
    uint8_t *at = input.data;

    cr_assert_eq(tp_websocket_read(&reader, &at, input.data + input.size, &piece), TP_OK);

    cr_assert(piece.first && piece.last);
    cr_assert_eq(piece.data, input.data + 6, "no copy");
    tp_buffer_finish(&input);
}

/* ---- what we write
 * ------------------------------------------------------------------------------------------ */

Test(websocket, unmasks_any_size_at_any_phase_and_alignment)
{
    static uint8_t plain[300], work[300 + 64];
    struct tp_random random = {7};

    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)tp_random_next(&random);
    for (size_t size = 0; size <= sizeof plain; size += size < 70 ? 1 : 23)
        for (uint64_t phase = 0; phase < 5; phase++)
            for (size_t align = 0; align < 33; align += 3) {
                memset(work, 0xee, sizeof work);
                memcpy(work + align, plain, size);
                tp_websocket_unmask(work + align, size, mask, phase);
                for (size_t i = 0; i < size; i++)
                    cr_assert_eq(work[align + i], plain[i] ^ mask[(phase + i) % 4]);
                cr_assert_eq(work[align + size], 0xee, "not one byte more");
            }
}

Test(websocket, writes_the_shortest_header)
{
    static const struct {
        uint64_t size;
        struct tp_slice head;
    } heads[] = {
        {0, TP_SLICE("\x82\x00")},
        {125, TP_SLICE("\x82\x7d")},
        {126, TP_SLICE("\x82\x7e\x00\x7e")},
        {65535, TP_SLICE("\x82\x7e\xff\xff")},
        {65536, TP_SLICE("\x82\x7f\0\0\0\0\0\x01\0\0")},
    };
    uint8_t out[TP_WEBSOCKET_HEAD_SIZE_MAX];

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        const size_t size = tp_websocket_head(out, TP_WEBSOCKET_BINARY, heads[i].size);
        cr_assert(tp_slice_equal(tp_slice_of(out, size), heads[i].head));
    }
}

Test(websocket, seals_a_frame_once)
{
    struct tp_pool pool;
    tp_pool_init(&pool);
    struct tp_frame *frame = tp_frame_create(&pool, TP_SLICE("hi"));

    tp_websocket_seal(frame, TP_WEBSOCKET_TEXT);
    tp_websocket_seal(frame, TP_WEBSOCKET_TEXT);

    cr_assert(tp_slice_equal(tp_frame_bytes(frame), TP_SLICE("\x81\x02hi")));
    cr_assert(tp_slice_equal(tp_frame_message(frame), TP_SLICE("hi")));
    tp_frame_unref(frame);
    tp_pool_finish(&pool);
}

Test(websocket, accepts_a_key_as_the_rfc_shows) /* section 1.3 */
{
    char accept[28];

    tp_websocket_accept(TP_SLICE("dGhlIHNhbXBsZSBub25jZQ=="), accept);
    cr_assert_arr_eq(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28);
}

Test(websocket, knows_keys_of_sixteen_bytes) /* section 4.2.1 */
{
    cr_assert(tp_websocket_key_valid(TP_SLICE("dGhlIHNhbXBsZSBub25jZQ==")));
    cr_assert_not(tp_websocket_key_valid(TP_SLICE("")));
    cr_assert_not(tp_websocket_key_valid(TP_SLICE("dGhlIHNhbXBsZSBub25jZQ")));
    cr_assert_not(tp_websocket_key_valid(TP_SLICE("dGhlIHNhbXBsZSBub25jZWU=")), "17 bytes");
    cr_assert_not(tp_websocket_key_valid(TP_SLICE("dGhlIHNhbXBsZSBub25j")), "15 bytes");
    cr_assert_not(tp_websocket_key_valid(TP_SLICE("dGhlIHNhbXBsZSBub2 jZQ==")));
}
