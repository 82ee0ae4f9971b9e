#include "node/route.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define DOCUMENT_COUNT 20000u

static struct tp_route route;
static const char *why;

static struct tp_slice document(uint32_t number, char out[32])
{
    return tp_slice_of(out, (size_t)snprintf(out, 32, "document-%u", number));
}

static const struct tp_route_node *owner(const struct tp_route *of, uint32_t number)
{
    uint8_t order[TP_ROUTE_NODE_COUNT_MAX];
    char name[32];

    tp_route_order(of, document(number, name), order);
    return &of->nodes[order[0]];
}

Test(route, reads_nodes_addresses_and_weights)
{
    cr_assert(tp_route_parse("a=10.0.0.1:1234, b=[fd00::2]:443*3,c.d-e_9=host:1", &route, &why));

    cr_assert_eq(route.count, 3);
    cr_assert_str_eq(route.nodes[0].id, "a");
    cr_assert_eq(route.nodes[0].weight, 1);
    cr_assert_str_eq(route.nodes[1].address, "[fd00::2]:443");
    cr_assert_eq(route.nodes[1].weight, 3);
    cr_assert_str_eq(route.nodes[2].id, "c.d-e_9");
    cr_assert(tp_route_parse("", &route, &why) && route.count == 0);
}

Test(route, refuses_what_is_no_node_and_says_why)
{
    static const char *const bad[] = {
        "a",         "=h:1",    "a=h",       "a=:1",       "a=h:",    "a=h:0",
        "a=h:65536", "a=h:1*0", "a=h:1*101", "a=h:1*",     "a=h:1*x", "a=h:1,a=g:2",
        "a b=h:1",   "a/b=h:1", "a=::1:80",  "a=h:999999", "a=h:-1",  "a=h:1*1*1",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_not(tp_route_parse(bad[i], &route, &why), "%s", bad[i]);
        cr_assert_not_null(why, "%s", bad[i]);
    }
}

Test(route, takes_64_nodes_and_not_one_more)
{
    char text[4096];
    size_t size = 0;

    for (uint32_t i = 0; i < TP_ROUTE_NODE_COUNT_MAX; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "n%u=h:%u,", i, i + 1);
    cr_assert(tp_route_parse(text, &route, &why), "%s", why);
    snprintf(text + size, sizeof text - size, "more=h:1");
    cr_assert_not(tp_route_parse(text, &route, &why));
}

Test(route, gives_each_node_its_share_by_weight)
{
    uint32_t counts[3] = {0};
    cr_assert(tp_route_parse("a=h:1,b=h:2,c=h:3*2", &route, &why));

    for (uint32_t i = 0; i < DOCUMENT_COUNT; i++)
        counts[owner(&route, i) - route.nodes]++;

    const uint32_t share = DOCUMENT_COUNT / 4;
    cr_assert(counts[0] > share * 95 / 100 && counts[0] < share * 105 / 100, "%u", counts[0]);
    cr_assert(counts[1] > share * 95 / 100 && counts[1] < share * 105 / 100, "%u", counts[1]);
    cr_assert(counts[2] > share * 190 / 100 && counts[2] < share * 210 / 100, "%u", counts[2]);
}

Test(route, moves_only_the_documents_of_a_node_that_goes_to_the_next_in_order)
{
    static struct tp_route fewer;
    uint8_t order[TP_ROUTE_NODE_COUNT_MAX];
    char name[32];
    cr_assert(tp_route_parse("a=h:1,b=h:2,c=h:3,d=h:4", &route, &why));
    cr_assert(tp_route_parse("d=h:4,a=h:1,c=h:3", &fewer, &why), "their order does not matter");

    for (uint32_t i = 0; i < DOCUMENT_COUNT; i++) {
        tp_route_order(&route, document(i, name), order);
        const char *was = route.nodes[order[0]].id;
        if (strcmp(was, "b") == 0)
            was = route.nodes[order[1]].id;
        cr_assert_str_eq(owner(&fewer, i)->id, was);
    }
}

Test(route, is_the_same_everywhere_and_for_ever)
{
    uint8_t order[TP_ROUTE_NODE_COUNT_MAX];
    char text[8] = "";
    cr_assert(tp_route_parse("a=h:1,b=h:2,c=h:3*5", &route, &why));

    for (uint32_t i = 0; i < 7; i++)
        text[i] = owner(&route, i)->id[0];
    tp_route_order(&route, tp_slice_of("", 0), order);

    cr_assert_str_eq(text, "bccccca", "%s: balancers and clients keep what they were told", text);
}
