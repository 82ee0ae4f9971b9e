/* Addresses as text, ranges of them, and what an origin may have. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../../src/net/origin.h"

static struct tp_address parse(const char *text)
{
    struct tp_address address = {0};

    cr_assert_eq(tp_address_parse(tp_slice_of(text, strlen(text)), &address), TP_OK, "%s", text);
    return address;
}

Test(address, is_read_as_proxies_write_it)
{
    static const char *const same[][2] = {
        {"10.0.0.1", "10.0.0.1:4711"},
        {"10.0.0.1", "::ffff:10.0.0.1"},
        {"2001:db8::1", "[2001:db8::1]"},
        {"2001:db8::1", "[2001:db8::1]:4711"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const struct tp_address one = parse(same[i][0]), other = parse(same[i][1]);
        cr_assert_arr_eq(one.bytes, other.bytes, 16, "%s", same[i][1]);
    }

    static const char *const wrong[] = {"",  "unknown", "10.0.0",  "10.0.0.256", "[::1", "[",
                                        ":", "1:2",     "_hidden", "10.0.0.1 ",  "::1::"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tp_address out = parse("1.2.3.4");
        cr_assert_eq(tp_address_parse(tp_slice_of(wrong[i], strlen(wrong[i])), &out), TP_MALFORMED,
                     "%s", wrong[i]);
        const struct tp_address before = parse("1.2.3.4");
        cr_assert_arr_eq(out.bytes, before.bytes, 16, "untouched");
    }
}

Test(address, is_in_a_range_by_its_first_bits)
{
    struct tp_address_ranges ranges;

    cr_assert(tp_address_ranges_parse("10.0.0.0/9, ::1,192.168.1.7 2001:db8::/33", &ranges));
    cr_assert_eq(ranges.count, 4);
    static const struct {
        const char *address;
        bool in;
    } cases[] = {{"10.127.255.255", true}, {"10.128.0.0", false},      {"::1", true},
                 {"::2", false},           {"192.168.1.7", true},      {"192.168.1.8", false},
                 {"2001:db8::1", true},    {"2001:db8:8000::", false}, {"::a00:0", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tp_address address = parse(cases[i].address);
        cr_assert_eq(tp_address_ranges_have(&ranges, &address), cases[i].in, "%s",
                     cases[i].address);
    }

    char text[64];
    tp_address_range_format(&ranges.items[0], text);
    cr_assert_str_eq(text, "10.0.0.0/9");
    tp_address_range_format(&ranges.items[1], text);
    cr_assert_str_eq(text, "::1");
    tp_address_range_format(&ranges.items[3], text);
    cr_assert_str_eq(text, "2001:db8::/33");
}

Test(address, ranges_that_are_none_are_refused)
{
    static const char *const wrong[] = {"10.0.0.0/33", "::/129",    "10.0.0.0/",    "/8",
                                        "10.0.0.0/x",  "somewhere", "10.0.0.0/1000"};
    struct tp_address_ranges ranges = {.count = 7};
    char many[512] = "";

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_not(tp_address_ranges_parse(wrong[i], &ranges), "%s", wrong[i]);
    for (size_t i = 0; i <= TP_ADDRESS_RANGE_COUNT_MAX; i++)
        strcat(many, "1.2.3.4,");
    cr_assert_not(tp_address_ranges_parse(many, &ranges));
    cr_assert_eq(ranges.count, 7, "untouched");
    cr_assert(tp_address_ranges_parse("", &ranges));
    cr_assert_eq(ranges.count, 0);
}

#define SECOND_NS UINT64_C(1000000000)

Test(origin, pays_for_ten_seconds_of_handshakes_at_once_and_then_for_each)
{
    struct tp_origins origins;
    const struct tp_address address = parse("10.0.0.1");
    uint64_t now_ns = 5 * SECOND_NS;
    uint32_t count = 0;

    tp_origins_init(&origins);
    struct tp_origin *origin = tp_origins_enter(&origins, &address);
    while (count < 1000 && tp_origin_pay(origin, 4, now_ns))
        count++;
    cr_assert_eq(count, 40);

    now_ns += SECOND_NS / 4;
    cr_assert(tp_origin_pay(origin, 4, now_ns));
    cr_assert_not(tp_origin_pay(origin, 4, now_ns));
    now_ns += 3600 * SECOND_NS;
    for (count = 0; tp_origin_pay(origin, 4, now_ns); count++)
        ;
    cr_assert_eq(count, 40, "no more is saved up in an hour");
    tp_origins_leave(&origins, origin);
    tp_origins_finish(&origins);
}

Test(origin, is_one_for_all_addresses_of_a_64_bit_prefix)
{
    struct tp_origins origins;
    const struct tp_address one = parse("2001:db8::1"), two = parse("2001:db8::ffff:1"),
                            other = parse("2001:db8:0:1::1"), four = parse("10.0.0.1"),
                            five = parse("10.0.0.2");

    tp_origins_init(&origins);
    struct tp_origin *origin = tp_origins_enter(&origins, &one);
    cr_assert_eq(tp_origins_enter(&origins, &two), origin);
    cr_assert_eq(origin->connection_count, 2);
    cr_assert_neq(tp_origins_enter(&origins, &other), origin);
    cr_assert_neq(tp_origins_enter(&origins, &four), tp_origins_enter(&origins, &five));
    tp_origins_finish(&origins);
}

Test(origin, of_no_connection_remembers_what_it_paid_until_4096_others_were_there)
{
    struct tp_origins origins;
    struct tp_address address = parse("10.0.0.1");

    tp_origins_init(&origins);
    struct tp_origin *origin = tp_origins_enter(&origins, &address);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert(tp_origin_pay(origin, 1, SECOND_NS));
    tp_origins_leave(&origins, origin);

    for (uint32_t i = 0; i < TP_ORIGIN_IDLE_COUNT_MAX; i++) {
        origin = tp_origins_enter(&origins, &address);
        cr_assert_not(tp_origin_pay(origin, 1, SECOND_NS), "it came back, and is not forgotten");
        tp_origins_leave(&origins, origin);
        struct tp_address other = parse("10.1.0.0");
        other.bytes[14] = (uint8_t)(i >> 8);
        other.bytes[15] = (uint8_t)i;
        tp_origins_leave(&origins, tp_origins_enter(&origins, &other));
    }
    cr_assert_eq(HASH_COUNT(origins.table), TP_ORIGIN_IDLE_COUNT_MAX, "the oldest other went");

    for (uint32_t i = 0; i < TP_ORIGIN_IDLE_COUNT_MAX; i++) {
        struct tp_address other = parse("10.2.0.0");
        other.bytes[14] = (uint8_t)(i >> 8);
        other.bytes[15] = (uint8_t)i;
        tp_origins_leave(&origins, tp_origins_enter(&origins, &other));
    }
    origin = tp_origins_enter(&origins, &address);
    cr_assert(tp_origin_pay(origin, 1, SECOND_NS), "forgotten");
    tp_origins_finish(&origins);
}
