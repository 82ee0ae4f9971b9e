/* The multicast bridge: its datagrams and windows alone, then ports that really hear each other
 * over the loopback interface, and over a relay that loses, repeats and swaps datagrams. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/random.h"
#include "bridge/multicast.h"

#define MS UINT64_C(1000000)

/* ---- windows ------------------------------------------------------------------------------------
 */

static struct tp_window window;

static uint32_t missing(struct tp_span spans[8])
{
    return tp_window_missing(&window, spans, 8);
}

Test(window, takes_each_number_once_in_any_order)
{
    window = (struct tp_window){0};

    cr_assert(tp_window_take(&window, 100));
    cr_assert(tp_window_take(&window, 103));
    cr_assert(tp_window_take(&window, 101));
    cr_assert_not(tp_window_take(&window, 100), "came");
    cr_assert_not(tp_window_take(&window, 103), "came");
    cr_assert_not(tp_window_take(&window, 99), "before the first");

    struct tp_span spans[8];
    cr_assert_eq(missing(spans), 1);
    cr_assert(spans[0].first == 102 && spans[0].count == 1);
    cr_assert(tp_window_take(&window, 102));
    cr_assert(tp_window_is_whole(&window) && window.given_up == 0);
}

Test(window, misses_what_a_beat_says_was_said)
{
    window = (struct tp_window){0};
    struct tp_span spans[8];
    tp_window_expect(&window, 7);
    cr_assert(tp_window_is_whole(&window), "what was said before we heard it first is not missed");

    tp_window_expect(&window, 10);
    cr_assert(tp_window_take(&window, 8));

    cr_assert_eq(missing(spans), 2);
    cr_assert(spans[0].first == 7 && spans[0].count == 1 && spans[1].first == 9);
    tp_window_give_up(&window, (struct tp_span){0, 100});
    cr_assert(tp_window_is_whole(&window) && window.given_up == 2);
    cr_assert_not(tp_window_take(&window, 7), "given up");
    cr_assert(tp_window_take(&window, 10));
}

Test(window, gives_up_what_is_too_far_back)
{
    window = (struct tp_window){0};
    cr_assert(tp_window_take(&window, 0));

    cr_assert(tp_window_take(&window, TP_WINDOW_SIZE + 9));
    cr_assert_eq(window.given_up, 9, "%lu", window.given_up);
    cr_assert(tp_window_take(&window, 10));
    cr_assert_not(tp_window_take(&window, 9));

    cr_assert(tp_window_take(&window, UINT64_C(1) << 60), "a jump far ahead costs no time");
    tp_window_expect(&window, UINT64_MAX);
    tp_window_give_up(&window, (struct tp_span){UINT64_MAX - 3, UINT32_MAX});
}

/* Against a plain set of numbers. */
Test(window, agrees_with_a_list_of_numbers_under_any_order)
{
    static uint8_t here[4 * TP_WINDOW_SIZE];
    struct tp_random random = {4};
    uint64_t top = 0;
    window = (struct tp_window){0};
    tp_window_expect(&window, 0);

    for (int i = 0; i < 300000; i++) {
        const uint64_t back = tp_random_below(&random, 300);
        const uint64_t number = top > back ? top - back : tp_random_below(&random, top + 3);
        const uint64_t at =
            tp_random_below(&random, 8) == 0 ? top + tp_random_below(&random, 4) : number;
        if (at >= sizeof here)
            break;
        cr_assert_eq(tp_window_take(&window, at), here[at] == 0, "%lu", at);
        here[at] = 1;
        top = tp_max(top, at + 1);
        cr_assert_eq(window.top, top);
        if (top - window.base > TP_WINDOW_SIZE / 2) {
            tp_window_give_up(&window, (struct tp_span){window.base, 100});
            for (uint64_t k = 0; k < window.base; k++)
                here[k] = 1;
        }
    }
    for (uint64_t k = 0; k < window.base; k++)
        cr_assert(here[k]);
}

/* ---- datagrams ----------------------------------------------------------------------------------
 */

static const struct tp_slice secret = {(const uint8_t *)"0123456789abcdef", 16};

static struct tp_datagram example(void)
{
    struct tp_datagram datagram = {.kind = TP_DATAGRAM_DATA,
                                   .fragment_size = 1000,
                                   .sender = "one of 16 bytes",
                                   .stamp = 0x0102030405060708,
                                   .sequence = 77,
                                   .index = 2,
                                   .count = 5,
                                   .answer_address = htonl(INADDR_LOOPBACK),
                                   .answer_port = htons(99),
                                   .body = TP_SLICE("a body")};
    return datagram;
}

static void read_back(const uint8_t *key)
{
    const struct tp_datagram datagram = example();
    uint8_t bytes[256];
    const struct tp_slice all =
        tp_slice_of(bytes, tp_datagram_size(datagram.body.size, key != NULL));
    struct tp_datagram out;
    tp_datagram_write(&datagram, key, bytes);

    cr_assert_eq(tp_datagram_peek(all, key != NULL, &out), TP_OK);
    cr_assert_eq(tp_datagram_open(&out, all, key), TP_OK);
    cr_assert(tp_slice_equal(out.body, datagram.body));
    cr_assert(out.kind == datagram.kind && out.stamp == datagram.stamp && out.sequence == 77);
    cr_assert(out.index == 2 && out.count == 5 && out.fragment_size == 1000);
    cr_assert(out.answer_address == datagram.answer_address && out.answer_port == htons(99));
    cr_assert_eq(memcmp(out.sender, datagram.sender, sizeof out.sender), 0);
    cr_assert_neq(tp_datagram_peek(all, key == NULL, &out), TP_OK, "sealed and open do not mix");
}

/* Any bit that changes on the way is noticed. */
static void notice_changes(const uint8_t *key)
{
    const struct tp_datagram datagram = example();
    uint8_t bytes[256], changed[256];
    const size_t size = tp_datagram_size(datagram.body.size, key != NULL);
    tp_datagram_write(&datagram, key, bytes);

    for (size_t bit = 0; bit < 8 * size; bit++) {
        struct tp_datagram out;
        memcpy(changed, bytes, size);
        changed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const struct tp_slice all = tp_slice_of(changed, size);
        cr_assert(tp_datagram_peek(all, key != NULL, &out) != TP_OK ||
                      tp_datagram_open(&out, all, key) != TP_OK,
                  "bit %zu", bit);
    }
}

Test(datagram, reads_back_what_was_written_and_notices_every_change)
{
    uint8_t key[TP_SEAL_KEY_SIZE];
    tp_datagram_key(secret, example().sender, key);

    read_back(NULL);
    read_back(key);
    notice_changes(NULL);
    notice_changes(key);
}

Test(datagram, sealed_shows_nothing_of_its_body_and_opens_with_that_key_alone)
{
    uint8_t key[TP_SEAL_KEY_SIZE], other[TP_SEAL_KEY_SIZE], bytes[256];
    struct tp_datagram datagram = example(), out;
    tp_datagram_key(secret, datagram.sender, key);
    tp_datagram_key(TP_SLICE("0123456789abcdeF"), datagram.sender, other);
    const struct tp_slice all = tp_slice_of(bytes, tp_datagram_size(datagram.body.size, true));

    tp_datagram_write(&datagram, key, bytes);

    cr_assert_null(memmem(bytes, all.size, "a body", 6));
    cr_assert_eq(tp_datagram_peek(all, true, &out), TP_OK);
    cr_assert_eq(tp_datagram_open(&out, all, other), TP_MALFORMED);
}

/* ---- ports --------------------------------------------------------------------------------------
 */

struct heard {
    uint64_t count, hash;
    uint32_t linked, contacts;
    bool lost_contact;
    uint8_t seen[4096]; /* how often each number of "n NUMBER ..." came */
    size_t last_size;
};

struct node {
    struct tp_reactor *reactor;
    struct tp_timer tick;
    struct tp_bridge *bridge;
    struct tp_bridge_port *port;
    struct heard heard;
};

static void tick(struct tp_timer *timer)
{
    struct node *node = TP_CONTAINER(timer, struct node, tick);
    tp_timer_set(node->reactor, timer, tp_reactor_now_ns(node->reactor) + 2 * MS);
}

static void on_heard(void *context, struct tp_slice topic, struct tp_slice payload)
{
    struct node *node = context;
    unsigned number;

    cr_assert(tp_slice_equal(topic, TP_SLICE("document/a")));
    cr_assert_eq(sscanf((const char *)payload.data, "n %u ", &number), 1);
    cr_assert_lt(number, sizeof node->heard.seen);
    for (size_t i = 16; i < payload.size; i++)
        cr_assert_eq(payload.data[i], (uint8_t)(number + i), "byte %zu of %u", i, number);
    node->heard.seen[number]++;
    node->heard.count++;
    node->heard.last_size = payload.size;
}

static void on_linked(void *context, struct tp_slice topic)
{
    (void)topic;
    ((struct node *)context)->heard.linked++;
}

static void on_contact(void *context, const char *why)
{
    struct node *node = context;
    node->heard.contacts++;
    node->heard.lost_contact = why != NULL;
}

static const struct tp_bridge_handler handler = {on_heard, on_linked, on_contact};
extern const struct tp_bridge_kind tp_bridge_multicast;

static unsigned free_port(void)
{
    static unsigned last;
    return 20000 + ((unsigned)getpid() * 8 + last++) % 20000;
}

static void node_start(struct node *node, const char *location)
{
    const struct tp_reactor_config config = {
        .entry_count = 256, .buffer_count = 256, .buffer_size = 4096, .cpu = -1};
    char error[512] = "";

    *node = (struct node){.reactor = tp_reactor_create(&config)};
    cr_assert_not_null(node->reactor);
    tp_timer_init(&node->tick, tick);
    tick(&node->tick);
    node->bridge = tp_bridge_multicast.open(location, error, sizeof error);
    cr_assert_not_null(node->bridge, "%s", error);
    node->port = tp_bridge_multicast.attach(node->bridge, node->reactor, &handler, node);
    tp_bridge_multicast.subscribe(node->port, TP_SLICE("document/a"));
}

static void node_finish(struct node *node)
{
    tp_bridge_multicast.detach(node->port);
    tp_bridge_multicast.close(node->bridge);
    tp_timer_stop(node->reactor, &node->tick);
    tp_reactor_destroy(node->reactor);
}

static void turn(struct node *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tp_bridge_multicast.flush(nodes[i].port);
        tp_reactor_wait(nodes[i].reactor);
        tp_reactor_poll(nodes[i].reactor);
    }
}

static enum tp_status say(struct node *node, unsigned number, size_t size)
{
    uint8_t *payload = malloc(size);
    enum tp_status status;

    memset(payload, ' ', size);
    snprintf((char *)payload, 16, "n %u ", number);
    for (size_t i = 16; i < size; i++)
        payload[i] = (uint8_t)(number + i);
    const struct tp_slice parts[] = {{payload, 16}, {payload + 16, size - 16}};
    status = tp_bridge_multicast.publish(node->port, TP_SLICE("document/a"), parts, 2);
    free(payload);
    return status;
}

static void until_heard(struct node *nodes, size_t count, struct node *who, uint64_t wanted)
{
    for (int i = 0; i < 4000 && who->heard.count < wanted; i++)
        turn(nodes, count);
    cr_assert_eq(who->heard.count, wanted, "%lu of %lu", who->heard.count, wanted);
}

static void locate(char out[128], const char *group, unsigned port, const char *more)
{
    snprintf(out, 128, "multicast://%s:%u?if=127.0.0.1&ttl=0%s", group, port, more);
}

Test(multicast, refuses_a_location_that_makes_no_sense_and_says_why)
{
    static const char *const bad[] = {
        "multicast://10.0.0.1:80",
        "multicast://239.1.1.1?ttl=256",
        "multicast://239.1.1.1?ttl=",
        "multicast://239.1.1.1?mtu=100",
        "multicast://239.1.1.1?if=nothing0",
        "multicast://239.1.1.1?key_file=/nowhere/at/all",
        "multicast://239.1.1.1?what=ever",
        "multicast://239.1.1.1?ttl",
        "multicast://239.1.1.1/path",
        "multicast://[ff02::1]:80",
        "multicast://",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char error[512] = "";
        cr_assert_null(tp_bridge_multicast.open(bad[i], error, sizeof error), "%s", bad[i]);
        cr_assert_neq(error[0], '\0', "%s", bad[i]);
    }
}

Test(multicast, carries_small_and_large_messages_to_all_the_others_once_and_not_back)
{
    struct node nodes[3];
    char location[128];
    locate(location, "239.7.7.1", free_port(), "");
    for (int i = 0; i < 3; i++)
        node_start(&nodes[i], location);
    turn(nodes, 3);
    cr_assert(nodes[0].heard.linked == 1 && nodes[0].heard.contacts == 1);

    unsigned number = 0;
    for (; number < 500; number++)
        cr_assert_eq(say(&nodes[0], number, 16 + number % 90), TP_OK);
    for (size_t size = 1300; size <= 1420; size++) /* around a datagram's end */
        cr_assert_eq(say(&nodes[0], number++, size), TP_OK);
    cr_assert_eq(say(&nodes[0], number++, 300000), TP_OK);

    until_heard(nodes, 3, &nodes[1], number);
    until_heard(nodes, 3, &nodes[2], number);
    cr_assert_eq(nodes[0].heard.count, 0);
    for (unsigned i = 0; i < number; i++)
        cr_assert(nodes[1].heard.seen[i] == 1 && nodes[2].heard.seen[i] == 1, "%u", i);
    struct tp_bridge_counts counts;
    tp_bridge_multicast.counts(nodes[0].port, &counts);
    cr_assert(counts.published == number && counts.lost == 0 && counts.connected);
    cr_assert_leq(nodes[0].port->next, 500 * 130 / 1300 + 2 * 121 + 240,
                  "messages share datagrams");
    for (int i = 0; i < 3; i++)
        node_finish(&nodes[i]);
}

Test(multicast, hears_what_it_missed_when_it_asks)
{
    struct node nodes[2];
    char location[128];
    locate(location, "239.7.7.2", free_port(), "");
    node_start(&nodes[0], location);
    node_start(&nodes[1], location);
    cr_assert_eq(say(&nodes[0], 0, 100), TP_OK);
    until_heard(nodes, 2, &nodes[1], 1);

    for (unsigned number = 1; number <= 100; number++) {
        cr_assert_eq(say(&nodes[0], number, 1300), TP_OK);
        if (number % 3 == 0 || number == 100) { /* said, and never on the wire */
            tp_bridge_multicast.flush(nodes[0].port);
            turn(nodes, 2);
            continue;
        }
        nodes[0].port->next += nodes[0].port->open_size > 0;
        nodes[0].port->sent[(nodes[0].port->next - 1) % TP_SENT_COUNT] =
            (struct tp_sent){.size = (uint32_t)nodes[0].port->open_size, .count = 1};
        nodes[0].port->open_size = 0;
        nodes[0].port->to_send = nodes[0].port->next;
    }

    until_heard(nodes, 2, &nodes[1], 101);
    cr_assert_gt(nodes[1].port->counts_more.wanted, 0);
    cr_assert_eq(nodes[1].heard.linked, 1, "nothing was lost");
    node_finish(&nodes[0]);
    node_finish(&nodes[1]);
}

Test(multicast, links_all_topics_anew_when_something_is_gone_for_good)
{
    struct node nodes[2];
    char location[128];
    locate(location, "239.7.7.3", free_port(), "");
    node_start(&nodes[0], location);
    node_start(&nodes[1], location);
    cr_assert_eq(say(&nodes[0], 0, 100), TP_OK);
    until_heard(nodes, 2, &nodes[1], 1);
    const uint32_t linked = nodes[1].heard.linked;

    nodes[0].port->next = nodes[0].port->to_send += TP_SENT_COUNT + 5; /* so much was never heard */
    cr_assert_eq(say(&nodes[0], 1, 100), TP_OK);
    until_heard(nodes, 2, &nodes[1], 2);

    for (int i = 0; i < 2000 && nodes[1].heard.linked == linked; i++)
        turn(nodes, 2);
    cr_assert_eq(nodes[1].heard.linked, linked + 1);
    node_finish(&nodes[0]);
    node_finish(&nodes[1]);
}

Test(multicast, with_a_key_hears_only_who_has_it)
{
    struct node nodes[4];
    char location[128], keys[2][64], more[96];
    const unsigned port = free_port();
    for (int i = 0; i < 2; i++) {
        snprintf(keys[i], sizeof keys[i], P_tmpdir "/teleportald-multicast-%d-%d", getpid(), i);
        FILE *file = fopen(keys[i], "w");
        fprintf(file, "a shared secret, number %d\n", i);
        fclose(file);
        snprintf(more, sizeof more, "&key_file=%s", keys[i]);
        locate(location, "239.7.7.4", port, more);
        node_start(&nodes[i], location);
        if (i == 0)
            node_start(&nodes[2], location);
        unlink(keys[i]);
    }
    locate(location, "239.7.7.4", port, "");
    node_start(&nodes[3], location);

    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(say(&nodes[i], i, 200), TP_OK);
    until_heard(nodes, 4, &nodes[0], 1);
    until_heard(nodes, 4, &nodes[2], 1);
    for (int i = 0; i < 20; i++)
        turn(nodes, 4);

    cr_assert(nodes[0].heard.seen[2] == 1 && nodes[2].heard.seen[0] == 1);
    cr_assert(nodes[1].heard.count == 0 && nodes[3].heard.count == 0);
    cr_assert_gt(nodes[3].port->counts.refused, 0);
    for (int i = 0; i < 4; i++)
        node_finish(&nodes[i]);
}

/* ---- a bad network ------------------------------------------------------------------------------
 */

struct relay {
    int in, out;
    struct sockaddr_in to;
    struct tp_random random;
    uint8_t held[TP_DATAGRAM_SIZE_MAX]; /* one that others overtake */
    ssize_t held_size;
};

static int relay_socket(const char *group, unsigned port, struct sockaddr_in *address)
{
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct ip_mreqn join = {.imr_address.s_addr = htonl(INADDR_LOOPBACK)};

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, group, &address->sin_addr);
    join.imr_multiaddr = address->sin_addr;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){8 << 20}, sizeof(int));
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &join, sizeof join);
    cr_assert_eq(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), 0);
    return fd;
}

static void pass(struct relay *relay, const uint8_t *bytes, ssize_t size)
{
    (void)!sendto(relay->out, bytes, (size_t)size, 0, (struct sockaddr *)&relay->to,
                  sizeof relay->to);
}

/* Loses a fifth, repeats a fifth, and lets a fifth be overtaken. */
static void relay_step(struct relay *relay)
{
    uint8_t bytes[TP_DATAGRAM_SIZE_MAX];
    ssize_t size;

    while ((size = recv(relay->in, bytes, sizeof bytes, 0)) > 0) {
        switch (tp_random_below(&relay->random, 5)) {
        case 0:
            continue;
        case 1:
            pass(relay, bytes, size);
            break;
        case 2:
            if (relay->held_size > 0)
                pass(relay, relay->held, relay->held_size);
            memcpy(relay->held, bytes, (size_t)size);
            relay->held_size = size;
            continue;
        default:
            break;
        }
        pass(relay, bytes, size);
    }
}

Test(multicast, delivers_everything_once_over_a_network_that_loses_repeats_and_swaps)
{
    struct node nodes[2];
    char location[128];
    const unsigned port = free_port();
    struct relay relay = {.random = {7}};
    struct sockaddr_in from;
    unsigned number = 0;
    locate(location, "239.7.7.5", port, "");
    node_start(&nodes[0], location);
    locate(location, "239.7.7.6", port, "");
    node_start(&nodes[1], location);
    relay.in = relay_socket("239.7.7.5", port, &from);
    relay.out = relay_socket("239.7.7.6", port, &relay.to);
    /* Beats go through the relay, too: the first one that comes begins the window. */
    for (int i = 0; i < 2000 && HASH_COUNT(nodes[1].port->senders) == 0; i++) {
        turn(nodes, 2);
        relay_step(&relay);
    }

    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 20; i++)
            cr_assert_eq(say(&nodes[0], number++, 16 + (size_t)i * 100), TP_OK);
        turn(nodes, 2);
        relay_step(&relay);
    }
    for (int i = 0; i < 5000 && nodes[1].heard.count < number; i++) {
        turn(nodes, 2);
        relay_step(&relay);
    }

    cr_assert_eq(nodes[1].heard.count, number, "%lu of %u", nodes[1].heard.count, number);
    for (unsigned i = 0; i < number; i++)
        cr_assert_eq(nodes[1].heard.seen[i], 1, "%u", i);
    cr_assert_gt(nodes[1].port->counts_more.wanted, 0);
    cr_assert_gt(nodes[1].port->counts_more.twice, 0);
    close(relay.in);
    close(relay.out);
    node_finish(&nodes[0]);
    node_finish(&nodes[1]);
}
