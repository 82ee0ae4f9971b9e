/* What guard/rate.h promises. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "guard/rate.h"

#define MS_NS UINT64_C(1000000)
#define START_NS (1000 * MS_NS)

static struct tp_rate *rate_of(const char *text)
{
    struct tp_rate_rules rules;

    cr_assert(tp_rate_rules_parse(text, &rules), "%s", text);
    return tp_rate_create(&rules, 42);
}

static uint64_t take(struct tp_rate *rate, uint64_t user, uint64_t connection, uint64_t at_ms)
{
    const struct tp_rate_who who = {.connection = connection, .user = user, .document = 9};
    enum tp_rate_track track;

    return tp_rate_take(rate, TP_RATE_OF_SENDER, TP_RATE_SYNC, &who, START_NS + at_ms * MS_NS,
                        &track);
}

Test(rate, rules_are_read_from_a_line)
{
    struct tp_rate_rules rules;

    cr_assert(tp_rate_rules_parse("off", &rules));
    cr_assert_eq(rules.count, 0);
    cr_assert(tp_rate_rules_parse("sync:user:300/1000,file:user-document:1/86400000", &rules));
    cr_assert_eq(rules.count, 2);
    cr_assert_eq(rules.rules[0].class, TP_RATE_SYNC);
    cr_assert_eq(rules.rules[0].track, TP_RATE_USER);
    cr_assert_eq(rules.rules[1].track, TP_RATE_USER_DOCUMENT);
    cr_assert_eq(rules.rules[1].window_ms, 86400000);
    static const char *const bad[] = {
        "",
        "on",
        "sync",
        "sync:user",
        "sync:user:0/1000",
        "sync:user:1/0",
        "sync:user:1000001/1",
        "sync:user:1/86400001",
        "all:user:1/1",
        "sync:room:1/1",
        "sync:user:1/1,",
        "sync:user:1/1 sync:user:1/1",
        "sync:user:-1/1",
        "sync:user:1/1x",
        "sync:user:99999999999999999999/1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(tp_rate_rules_parse(bad[i], &rules), "%s", bad[i]);
}

Test(rate, a_user_has_one_bucket_for_all_its_connections)
{
    struct tp_rate *rate = rate_of("sync:user:3/1000");

    for (uint64_t i = 0; i < 3; i++)
        cr_assert_eq(take(rate, 5, i + 1, 0), 0);
    cr_assert_eq(take(rate, 5, 9, 0), 334 * MS_NS);
    cr_assert_eq(take(rate, 6, 9, 0), 0, "another user");
    cr_assert_eq(take(rate, 5, 9, 333), MS_NS);
    cr_assert_eq(take(rate, 5, 9, 334), 0);
    tp_rate_destroy(rate);
}

Test(rate, who_has_no_user_is_counted_by_connection)
{
    struct tp_rate *rate = rate_of("sync:user:1/1000");

    cr_assert_eq(take(rate, 0, 1, 0), 0);
    cr_assert_neq(take(rate, 0, 1, 0), 0);
    cr_assert_eq(take(rate, 0, 2, 0), 0);
    cr_assert_eq(take(rate, 1, 3, 0), 0, "a user whose hash is a connection's number");
    tp_rate_destroy(rate);
}

Test(rate, a_refused_message_takes_nothing_of_the_other_rules)
{
    struct tp_rate *rate = rate_of("sync:transport:10/1000000,sync:user:1/1000");

    cr_assert_eq(take(rate, 5, 1, 0), 0);
    for (unsigned i = 0; i < 20; i++)
        cr_assert_neq(take(rate, 5, 1, 0), 0);
    for (uint64_t user = 6; user < 15; user++)
        cr_assert_eq(take(rate, user, 1, 0), 0, "nine are left");
    cr_assert_neq(take(rate, 15, 1, 0), 0);
    tp_rate_destroy(rate);
}

/* Over ten windows never more than the bucket and what flowed in; and no less, asked often. */
Test(rate, over_time_as_many_pass_as_the_rule_says)
{
    struct tp_rate *rate = rate_of("sync:user:300/1000");
    unsigned passed = 0;

    for (uint64_t ms = 0; ms < 10000; ms++)
        for (unsigned i = 0; i < 3; i++)
            passed += take(rate, 5, 1, ms) == 0;

    cr_assert(passed <= 300 + 3000 && passed >= 300 + 2990, "%u", passed);
    tp_rate_destroy(rate);
}

/* More keys than there are places: those that have used up their tokens stay as long as there is
 * somebody in their place who has not. */
Test(rate, the_table_keeps_whom_it_has_to_hold_back)
{
    struct tp_rate *rate = rate_of("sync:user:2/100000");
    unsigned kept = 0;

    for (uint64_t user = 1; user <= 1000; user++) {
        cr_assert_eq(take(rate, user, 1, 0), 0);
        cr_assert_eq(take(rate, user, 1, 0), 0);
    }
    for (uint64_t user = 1001; user < 200000; user++)
        cr_assert_eq(take(rate, user, 1, 0), 0);
    for (uint64_t user = 1; user <= 1000; user++)
        kept += take(rate, user, 1, 0) != 0;

    cr_assert_eq(kept, 1000);
    tp_rate_destroy(rate);
}
