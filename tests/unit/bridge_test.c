/* What a bridge promises: the loopback among ports of one thread, Redis against a broker played by
 * the test, which shares the thread, so that every step is taken on purpose. */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "bridge/bridge.h"
#include "bridge/url.h"
#include "reactor/reactor.h"

#define MS UINT64_C(1000000)
#define TURN_COUNT_MAX 2000 /* of at most 5 ms each */

struct node {
    const struct tp_bridge_kind *kind;
    struct tp_reactor *reactor;
    struct tp_timer tick; /* so that no wait lasts longer */
    struct tp_bridge *bridge;
    struct tp_bridge_port *port;
    struct tp_buffer said; /* "h:topic:payload\n", "l:topic\n", "c:\n" for contact, "c:why\n" */
};

static void tick(struct tp_timer *timer)
{
    struct node *node = TP_CONTAINER(timer, struct node, tick);
    tp_timer_set(node->reactor, timer, tp_reactor_now_ns(node->reactor) + 5 * MS);
}

static void note(struct node *node, const char *kind, struct tp_slice a, struct tp_slice b)
{
    tp_buffer_append(&node->said, kind, strlen(kind));
    tp_buffer_append(&node->said, a.data, a.size);
    if (b.data != NULL)
        tp_buffer_append(&node->said, ":", 1);
    tp_buffer_append(&node->said, b.data, b.size);
    tp_buffer_append(&node->said, "\n", 1);
}

static void heard(void *context, struct tp_slice topic, struct tp_slice payload)
{
    note(context, "h:", topic, payload);
}

static void linked(void *context, struct tp_slice topic)
{
    note(context, "l:", topic, (struct tp_slice){0});
}

static void contact(void *context, const char *why)
{
    note(context, "c:", tp_slice_of(why == NULL ? "" : why, why == NULL ? 0 : strlen(why)),
         (struct tp_slice){0});
}

static const struct tp_bridge_handler handler = {heard, linked, contact};

static void node_start(struct node *node, const char *location)
{
    const struct tp_reactor_config config = {
        .entry_count = 64, .buffer_count = 16, .buffer_size = 4096, .cpu = -1};
    char error[512] = "";

    *node = (struct node){.kind = tp_bridge_find(location), .said = tp_buffer_growing(1 << 24)};
    cr_assert_not_null(node->kind);
    node->reactor = tp_reactor_create(&config);
    tp_timer_init(&node->tick, tick);
    tick(&node->tick);
    node->bridge = node->kind->open(location, error, sizeof error);
    cr_assert_not_null(node->bridge, "%s", error);
    node->port = node->kind->attach(node->bridge, node->reactor, &handler, node);
}

static void node_finish(struct node *node)
{
    node->kind->detach(node->port);
    node->kind->close(node->bridge);
    tp_timer_stop(node->reactor, &node->tick);
    tp_reactor_destroy(node->reactor);
    tp_buffer_finish(&node->said);
}

static void turn(struct node *node)
{
    node->kind->flush(node->port);
    tp_reactor_wait(node->reactor);
    tp_reactor_poll(node->reactor);
}

static bool has_said(const struct node *node, const char *text)
{
    return node->said.size > 0 &&
           memmem(node->said.data, node->said.size, text, strlen(text)) != NULL;
}

static void until_said(struct node *node, const char *text)
{
    for (int i = 0; i < TURN_COUNT_MAX && !has_said(node, text); i++)
        turn(node);
    cr_assert(has_said(node, text), "never said %s, but %.*s", text, (int)node->said.size,
              (const char *)node->said.data);
}

static enum tp_status publish(struct node *node, const char *topic, const char *a, const char *b)
{
    const struct tp_slice parts[] = {tp_slice_of(a, strlen(a)), tp_slice_of(b, strlen(b))};

    return node->kind->publish(node->port, tp_slice_of(topic, strlen(topic)), parts, 2);
}

/* ---- the loopback -------------------------------------------------------------------------------
 */

Test(bridge, knows_its_kinds_by_scheme)
{
    cr_assert_not_null(tp_bridge_find("redis://host"));
    cr_assert_not_null(tp_bridge_find("loopback:"));
    cr_assert_null(tp_bridge_find("redi://host"));
    cr_assert_null(tp_bridge_find("rediss://host"));
    cr_assert_null(tp_bridge_find(""));
}

Test(bridge, loopback_carries_what_is_said_to_every_subscriber_and_nobody_else)
{
    struct node one, two = {.said = tp_buffer_growing(1 << 20)};
    node_start(&one, "loopback:");
    two.kind = one.kind;
    two.port = one.kind->attach(one.bridge, one.reactor, &handler, &two);
    one.kind->subscribe(one.port, TP_SLICE("a"));
    one.kind->subscribe(two.port, TP_SLICE("a"));
    one.kind->subscribe(two.port, TP_SLICE("b"));
    until_said(&one, "l:a\n");

    cr_assert_eq(publish(&one, "a", "x", "y"), TP_OK);
    cr_assert_eq(publish(&one, "b", "z", ""), TP_OK);
    until_said(&one, "h:a:xy\n");

    cr_assert(has_said(&two, "l:b\n") && has_said(&two, "h:a:xy\n") && has_said(&two, "h:b:z\n"));
    cr_assert(!has_said(&one, "h:b"));
    one.kind->detach(two.port);
    tp_buffer_finish(&two.said);
    node_finish(&one);
}

/* ---- Redis --------------------------------------------------------------------------------------
 */

struct broker {
    int listener;
    uint16_t port;
    int fds[2];                /* in the order in which they came */
    struct tp_buffer heard[2]; /* what each said */
};

static void broker_start(struct broker *broker)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(broker->port)};
    socklen_t size = sizeof address;

    broker->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(broker->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    cr_assert_eq(bind(broker->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(broker->listener, 8), 0);
    getsockname(broker->listener, (struct sockaddr *)&address, &size);
    broker->port = ntohs(address.sin_port);
    broker->fds[0] = broker->fds[1] = -1;
    broker->heard[0] = broker->heard[1] = tp_buffer_growing(1 << 24);
}

static void broker_hang_up(struct broker *broker)
{
    for (int i = 0; i < 2; i++) {
        if (broker->fds[i] >= 0)
            close(broker->fds[i]);
        broker->fds[i] = -1;
        tp_buffer_finish(&broker->heard[i]);
        broker->heard[i] = tp_buffer_growing(1 << 24);
    }
}

static void broker_stop(struct broker *broker)
{
    broker_hang_up(broker);
    close(broker->listener);
}

/* One look at the sockets, and one turn of the node. */
static void step(struct broker *broker, struct node *node)
{
    uint8_t bytes[65536];

    turn(node);
    struct pollfd waiting = {.fd = broker->listener, .events = POLLIN};
    if (poll(&waiting, 1, 0) == 1) {
        const int which = broker->fds[0] < 0 ? 0 : 1;
        broker->fds[which] = accept4(broker->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
    for (int i = 0; i < 2; i++) {
        ssize_t got;
        while (broker->fds[i] >= 0 && (got = read(broker->fds[i], bytes, sizeof bytes)) > 0)
            tp_buffer_append(&broker->heard[i], bytes, (size_t)got);
    }
}

static bool was_told(const struct broker *broker, int which, const char *text)
{
    return broker->heard[which].size > 0 &&
           memmem(broker->heard[which].data, broker->heard[which].size, text, strlen(text)) != NULL;
}

static void until_told(struct broker *broker, struct node *node, int which, const char *text)
{
    for (int i = 0; i < TURN_COUNT_MAX && !was_told(broker, which, text); i++)
        step(broker, node);
    cr_assert(was_told(broker, which, text), "%d was never told %s, but %.*s", which, text,
              (int)broker->heard[which].size, (const char *)broker->heard[which].data);
}

static void say(struct broker *broker, int which, const char *text)
{
    cr_assert_eq(write(broker->fds[which], text, strlen(text)), (ssize_t)strlen(text));
}

/* The node has its two connections and has been greeted on both. */
static void greet(struct broker *broker, struct node *node)
{
    until_told(broker, node, 0, "PING\r\n");
    until_told(broker, node, 1, "PING\r\n");
    say(broker, 0, "+PONG\r\n");
    say(broker, 1, "+PONG\r\n");
}

static void start(struct broker *broker, struct node *node)
{
    char location[64];

    *broker = (struct broker){0};
    broker_start(broker);
    snprintf(location, sizeof location, "redis://127.0.0.1:%u", broker->port);
    node_start(node, location);
}

static void finish(struct broker *broker, struct node *node)
{
    node_finish(node);
    broker_stop(broker);
}

#define SUBSCRIBE_DOC "*2\r\n$9\r\nsubscribe\r\n$5\r\ndoc/a\r\n"
#define SUBSCRIBED_DOC "*3\r\n$9\r\nsubscribe\r\n$5\r\ndoc/a\r\n:1\r\n"
#define MESSAGE_DOC "*3\r\n$7\r\nmessage\r\n$5\r\ndoc/a\r\n$3\r\nx\r\n\r\n"

Test(bridge, redis_links_a_topic_when_the_broker_confirms_it_and_hears_its_messages)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    greet(&broker, &node);
    until_told(&broker, &node, 1, SUBSCRIBE_DOC);
    cr_assert(!has_said(&node, "l:"));

    say(&broker, 1, SUBSCRIBED_DOC MESSAGE_DOC);

    until_said(&node, "h:doc/a:x\r\n\n");
    cr_assert(has_said(&node, "c:\nl:doc/a\n"));
    finish(&broker, &node);
}

Test(bridge, redis_reads_messages_that_come_byte_by_byte)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    greet(&broker, &node);
    until_told(&broker, &node, 1, SUBSCRIBE_DOC);

    for (const char *at = SUBSCRIBED_DOC MESSAGE_DOC; *at != '\0'; at++) {
        char one[2] = {*at};
        say(&broker, 1, one);
        turn(&node);
    }

    until_said(&node, "h:doc/a:x\r\n\n");
    finish(&broker, &node);
}

Test(bridge, redis_pipelines_what_is_published_in_a_tick_into_one_write)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    greet(&broker, &node);
    until_said(&node, "c:\n");

    for (int i = 0; i < 100; i++)
        cr_assert_eq(publish(&node, "doc/a", "en", "velope"), TP_OK);
    cr_assert(!node.kind->quiet(node.port));

    static const char one[] = "*3\r\n$7\r\npublish\r\n$5\r\ndoc/a\r\n$8\r\nenvelope\r\n";
    char all[100 * sizeof one];
    all[0] = '\0';
    for (int i = 0; i < 100; i++)
        strcat(all, one);
    until_told(&broker, &node, 0, all);
    struct tp_bridge_counts counts;
    node.kind->counts(node.port, &counts);
    cr_assert(counts.published == 100 && counts.published_size == 800 && counts.lost == 0);
    cr_assert(node.kind->quiet(node.port));
    finish(&broker, &node);
}

Test(bridge, redis_subscribes_anew_and_links_again_when_the_broker_comes_back)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    greet(&broker, &node);
    until_told(&broker, &node, 1, SUBSCRIBE_DOC);
    say(&broker, 1, SUBSCRIBED_DOC);
    until_said(&node, "l:doc/a\n");
    node.said.size = 0;

    close(broker.fds[0]); /* one of the two is enough */
    broker.fds[0] = -1;
    until_said(&node, "c:it closed the connection\n");
    cr_assert_eq(publish(&node, "doc/a", "lost", ""), TP_IO);
    broker_hang_up(&broker);
    greet(&broker, &node);
    for (int i = 0; i < TURN_COUNT_MAX && !was_told(&broker, 0, SUBSCRIBE_DOC) &&
                    !was_told(&broker, 1, SUBSCRIBE_DOC);
         i++)
        step(&broker, &node);
    say(&broker, was_told(&broker, 1, SUBSCRIBE_DOC), SUBSCRIBED_DOC); /* chance orders them */

    until_said(&node, "c:\nl:doc/a\n");
    struct tp_bridge_counts counts;
    node.kind->counts(node.port, &counts);
    cr_assert(counts.lost == 1 && counts.connected == 1 && counts.reconnects >= 1);
    finish(&broker, &node);
}

Test(bridge, redis_tries_again_and_says_once_that_nobody_is_there)
{
    struct broker broker = {0};
    struct node node;
    char location[64];
    broker_start(&broker);
    broker_stop(&broker); /* a port that was free a moment ago */
    snprintf(location, sizeof location, "redis://127.0.0.1:%u", broker.port);
    node_start(&node, location);

    struct tp_bridge_counts counts = {0};
    for (int i = 0; i < TURN_COUNT_MAX && counts.reconnects < 6; i++) {
        turn(&node);
        node.kind->counts(node.port, &counts);
    }

    cr_assert_geq(counts.reconnects, 6);
    const struct tp_slice said = tp_buffer_slice(&node.said);
    cr_assert(has_said(&node, "c:cannot connect: Connection refused\n"));
    cr_assert_eq(memchr(said.data, '\n', said.size), said.data + said.size - 1, "said once");
    node_finish(&node);
}

Test(bridge, redis_shows_its_password_and_says_when_it_is_refused)
{
    struct broker broker = {0};
    struct node node;
    char location[64];
    broker_start(&broker);
    snprintf(location, sizeof location, "redis://me:p%%40ss@127.0.0.1:%u/0", broker.port);
    node_start(&node, location);

    until_told(&broker, &node, 0, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\np@ss\r\n*1\r\n$4\r\nPING");
    say(&broker, 0, "-WRONGPASS invalid\r\n-NOAUTH\r\n");

    until_said(&node, "c:WRONGPASS invalid\n");
    finish(&broker, &node);
}

Test(bridge, redis_gives_up_a_broker_that_makes_no_sense)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    greet(&broker, &node);
    until_said(&node, "c:\n");
    node.said.size = 0;

    say(&broker, 1, "HTTP/1.1 400 Bad Request\r\n\r\n");

    until_said(&node, "c:it says what makes no sense\n");
    finish(&broker, &node);
}

Test(bridge, redis_refuses_what_a_broker_that_does_not_read_cannot_take_and_links_again_after)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    greet(&broker, &node);
    until_told(&broker, &node, 1, SUBSCRIBE_DOC);
    say(&broker, 1, SUBSCRIBED_DOC);
    until_said(&node, "l:doc/a\n");
    node.said.size = 0;
    char *large = malloc(1 << 20);
    memset(large, 'x', (1 << 20) - 1);
    large[(1 << 20) - 1] = '\0';

    enum tp_status status = TP_OK;
    for (int i = 0; i < 100 && status == TP_OK; i++) {
        status = publish(&node, "doc/a", large, "");
        turn(&node);
    }
    cr_assert_eq(status, TP_FULL);
    cr_assert(!has_said(&node, "l:"));
    for (int i = 0; i < TURN_COUNT_MAX && !has_said(&node, "l:doc/a\n"); i++) {
        step(&broker, &node);
        broker.heard[0].size = 0;
    }

    cr_assert(has_said(&node, "l:doc/a\n"));
    free(large);
    finish(&broker, &node);
}

Test(bridge, redis_leaves_a_topic_with_its_last_subscriber)
{
    struct broker broker;
    struct node node;
    start(&broker, &node);
    greet(&broker, &node);
    until_said(&node, "c:\n");

    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    node.kind->unsubscribe(node.port, TP_SLICE("doc/a"));
    until_told(&broker, &node, 1, SUBSCRIBE_DOC);
    cr_assert(!was_told(&broker, 1, "unsubscribe"));
    node.kind->unsubscribe(node.port, TP_SLICE("doc/a"));

    until_told(&broker, &node, 1, "*2\r\n$11\r\nunsubscribe\r\n$5\r\ndoc/a\r\n");
    finish(&broker, &node);
}

/* ---- NATS: the same broker with one connection --------------------------------------------------
 */

#define INFO "INFO {\"server_id\":\"x\",\"max_payload\":1000}\r\n"

static void start_nats(struct broker *broker, struct node *node)
{
    char location[64];

    *broker = (struct broker){0};
    broker_start(broker);
    snprintf(location, sizeof location, "nats://me:p%%22w@127.0.0.1:%u", broker->port);
    node_start(node, location);
    for (int i = 0; i < TURN_COUNT_MAX && broker->fds[0] < 0; i++)
        step(broker, node);
    say(broker, 0, INFO);
    until_told(broker, node, 0, "\"echo\":false");
    until_told(broker, node, 0, "\"user\":\"me\",\"pass\":\"p\\u0022w\"}\r\nPING\r\n");
    say(broker, 0, "PONG\r\n");
    until_said(node, "c:\n");
    broker->heard[0].size = 0;
}

Test(bridge, nats_links_a_topic_when_the_broker_has_answered_the_ping_behind_it)
{
    struct broker broker;
    struct node node;
    start_nats(&broker, &node);
    node.kind->subscribe(node.port, TP_SLICE("doc/x.>"));
    until_told(&broker, &node, 0, "SUB doc/x.%3E 1\r\nPING\r\n");
    turn(&node);
    cr_assert(!has_said(&node, "l:"));

    say(&broker, 0, "PONG\r\nMSG doc/x.%3E 1 3\r\nx\r\n\r\nPING\r\n");

    until_said(&node, "l:doc/x.>\nh:doc/x.>:x\r\n\n");
    until_told(&broker, &node, 0, "PONG\r\n");
    node.kind->unsubscribe(node.port, TP_SLICE("doc/x.>"));
    until_told(&broker, &node, 0, "UNSUB 1\r\n");
    finish(&broker, &node);
}

Test(bridge, nats_says_nothing_that_the_broker_would_hang_up_for)
{
    struct broker broker;
    struct node node;
    start_nats(&broker, &node);
    char large[1001] = {0};
    memset(large, 'x', 1000);

    cr_assert_eq(publish(&node, "doc/a", large, "y"), TP_DENIED);
    cr_assert_eq(publish(&node, "doc/a", large, ""), TP_OK);

    until_told(&broker, &node, 0, "PUB doc/a 1000\r\nxxx");
    struct tp_bridge_counts counts;
    node.kind->counts(node.port, &counts);
    cr_assert(counts.lost == 1 && counts.published == 1);
    finish(&broker, &node);
}

Test(bridge, nats_subscribes_anew_when_the_broker_comes_back)
{
    struct broker broker;
    struct node node;
    start_nats(&broker, &node);
    node.kind->subscribe(node.port, TP_SLICE("doc/a"));
    until_told(&broker, &node, 0, "SUB doc/a 1\r\nPING\r\n");
    say(&broker, 0, "PONG\r\n");
    until_said(&node, "l:doc/a\n");
    node.said.size = 0;

    say(&broker, 0, "-ERR 'Authorization Violation'\r\n");
    broker_hang_up(&broker);
    until_said(&node, "c: 'Authorization Violation'\n");
    for (int i = 0; i < TURN_COUNT_MAX && broker.fds[0] < 0; i++)
        step(&broker, &node);
    say(&broker, 0, INFO);
    until_told(&broker, &node, 0, "PING\r\n");
    say(&broker, 0, "PONG\r\n");
    until_told(&broker, &node, 0, "SUB doc/a 2\r\nPING\r\n");
    say(&broker, 0, "PONG\r\n");

    until_said(&node, "c:\nl:doc/a\n");
    finish(&broker, &node);
}

/* ---- locations ----------------------------------------------------------------------------------
 */

Test(bridge, reads_locations)
{
    struct tp_url url;
    char error[512];

    cr_assert_eq(tp_url_parse("redis://u:a%2fb@[::1]:7000/3?x", 1, &url, error, sizeof error),
                 TP_OK);
    cr_assert_str_eq(url.user, "u");
    cr_assert_str_eq(url.password, "a/b");
    cr_assert_str_eq(url.host, "::1");
    cr_assert_eq(url.port, 7000);
    cr_assert_str_eq(url.rest, "/3?x");
    cr_assert_eq(tp_url_parse("nats://h", 4222, &url, error, sizeof error), TP_OK);
    cr_assert(url.port == 4222 && !url.has_password && strcmp(url.host, "h") == 0);
    cr_assert_eq(tp_url_parse("redis://:p%40@h:1", 2, &url, error, sizeof error), TP_OK);
    cr_assert(url.user[0] == '\0' && strcmp(url.password, "p@") == 0 && url.port == 1);
}

Test(bridge, refuses_bad_locations_without_repeating_a_password)
{
    static const char *const bad[] = {"redis",
                                      "redis://",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://h:x",
                                      "redis://u:secret%4@h",
                                      "redis://u:secret%00@h",
                                      "redis://[::1:9",
                                      "redis://u:secret@",
                                      "redis://h:",
                                      "redis://[::1]x"};
    struct tp_url url;
    char error[512];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error[0] = '\0';
        cr_assert_eq(tp_url_parse(bad[i], 1, &url, error, sizeof error), TP_MALFORMED, "%s",
                     bad[i]);
        cr_assert(error[0] != '\0' && strstr(error, "secret") == NULL, "%s", error);
    }
}
