/* What client/ promises: which dialect, which document, and what costs too much. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "client/client.h"

#define SECOND_NS (UINT64_C(1000) * 1000 * 1000)

static const struct tp_client_paths paths = {
    .teleportal = {(const uint8_t *)"/teleportal", 11},
    .yjs = {(const uint8_t *)"/yjs", 4},
};

static struct tp_slice text(const char *string)
{
    return tp_slice_of(string, strlen(string));
}

static struct tp_client client_at(const char *path)
{
    struct tp_client client;

    cr_assert_eq(tp_client_init(&client, &paths, text(path)), TP_OK, "%s", path);
    return client;
}

static enum tp_dialect_id dialect_of(const struct tp_client *client)
{
    return tp_client_dialect(client) != NULL ? tp_client_dialect(client)->id : TP_DIALECT_NONE;
}

static void expect_document(const struct tp_client *client, const char *want)
{
    const struct tp_slice got = tp_client_document(client);

    cr_assert(tp_slice_equal(got, text(want)), "\"%.*s\" is not \"%s\"", (int)got.size, got.data,
              want);
}

/* ---- paths ------------------------------------------------------------------------------------*/

Test(client, speaks_teleportal_on_its_path)
{
    static const char *const teleportal[] = {"/teleportal", "/teleportal/"};

    for (size_t i = 0; i < 2; i++) {
        struct tp_client client = client_at(teleportal[i]);
        cr_assert_eq(dialect_of(&client), TP_DIALECT_TELEPORTAL);
        expect_document(&client, "");
        tp_client_finish(&client);
    }
}

Test(client, speaks_y_websocket_below_its_path_about_the_document_named_there)
{
    static const struct {
        const char *path, *document;
    } cases[] = {
        {"/yjs/doc", "doc"},
        {"/yjs/org/project/doc", "org/project/doc"},
        {"/yjs/a%20b%2Fc", "a b/c"},
        {"/yjs/%D0%B4", "\xd0\xb4"},
        {"/yjs/100%2525", "100%25"}, /* decoded once */
        {"/yjs//", "/"},
        {"/yjs/a+b", "a+b"}, /* no form */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tp_client client = client_at(cases[i].path);
        cr_assert_eq(dialect_of(&client), TP_DIALECT_YWEBSOCKET, "%s", cases[i].path);
        expect_document(&client, cases[i].document);
        tp_client_finish(&client);
    }
}

Test(client, refuses_a_y_websocket_path_without_a_valid_document)
{
    static const char *const bad[] = {"/yjs",        "/yjs/",         "/yjs/a%00b", "/yjs/%0a",
                                      "/yjs/%ff",    "/yjs/a%2",      "/yjs/a%zz",  "/yjs/%1f",
                                      "/yjs/%c0%80", "/yjs/%ed%a0%80"};
    struct tp_client client;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(tp_client_init(&client, &paths, text(bad[i])), TP_MALFORMED, "%s", bad[i]);
        tp_client_finish(&client);
    }
}

Test(client, takes_names_of_up_to_1024_bytes_after_decoding)
{
    char path[5 + 3 * (TP_CLIENT_NAME_SIZE_MAX + 1) + 1] = "/yjs/";
    struct tp_client client;

    for (size_t i = 0; i < TP_CLIENT_NAME_SIZE_MAX; i++)
        strcat(path, "%61");
    cr_assert_eq(tp_client_init(&client, &paths, text(path)), TP_OK);
    cr_assert_eq(tp_client_document(&client).size, TP_CLIENT_NAME_SIZE_MAX);
    tp_client_finish(&client);

    strcat(path, "%61");
    cr_assert_eq(tp_client_init(&client, &paths, text(path)), TP_MALFORMED);
    tp_client_finish(&client);
}

Test(client, leaves_any_other_path_to_the_first_message)
{
    static const struct {
        const char *path, *document; /* of a y-websocket client; NULL: it would name none */
    } cases[] = {
        {"/doc", "doc"},       {"/teleportal2", "teleportal2"}, {"/teleportal/x", "teleportal/x"},
        {"/yjsdoc", "yjsdoc"}, {"/ws/a%20b", "ws/a b"},         {"/", NULL},
        {"/a%00b", NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tp_client client = client_at(cases[i].path);
        cr_assert_eq(dialect_of(&client), TP_DIALECT_NONE, "%s", cases[i].path);
        expect_document(&client, "");
        if (cases[i].document != NULL) {
            cr_assert_eq(tp_client_recognise(&client, TP_SLICE("\0\0\1\0")), TP_OK);
            cr_assert_eq(dialect_of(&client), TP_DIALECT_YWEBSOCKET);
            expect_document(&client, cases[i].document);
        } else {
            cr_assert_eq(tp_client_recognise(&client, TP_SLICE("\0\0\1\0")), TP_DENIED);
        }
        tp_client_finish(&client);

        client = client_at(cases[i].path);
        cr_assert_eq(tp_client_recognise(&client, TP_SLICE("YJSping")), TP_OK);
        cr_assert_eq(dialect_of(&client), TP_DIALECT_TELEPORTAL, "%s", cases[i].path);
        expect_document(&client, "");
        tp_client_finish(&client);
    }
}

Test(client, keeps_the_dialect_that_its_path_decided)
{
    struct tp_client client = client_at("/yjs/doc");

    cr_assert_eq(tp_client_recognise(&client, TP_SLICE("YJSping")), TP_OK);
    cr_assert_eq(dialect_of(&client), TP_DIALECT_YWEBSOCKET);
    tp_client_finish(&client);
}

/* ---- messages ---------------------------------------------------------------------------------*/

static void count(void *context, struct tp_message *message)
{
    unsigned *counts = context;

    counts[message->kind]++;
}

static enum tp_status say(struct tp_client *client, struct tp_slice bytes, uint64_t now_ns,
                          unsigned counts[TP_MESSAGE_COUNT])
{
    enum tp_close_reason reason = TP_CLOSE_NORMAL;
    const enum tp_status status =
        tp_client_said(client, bytes, now_ns, (struct tp_message_sink){count, counts}, &reason);

    cr_assert_eq(status == TP_OK, reason == TP_CLOSE_NORMAL, "a close has a reason");
    return status;
}

Test(client, gives_y_websocket_messages_the_document_of_the_path)
{
    struct tp_client client = client_at("/yjs/doc");
    unsigned counts[TP_MESSAGE_COUNT] = {0};

    cr_assert_eq(say(&client, TP_SLICE("\0\0\1\0"), 0, counts), TP_OK);
    cr_assert_eq(counts[TP_MESSAGE_SYNC_STEP_1], 1);
    cr_assert_eq(say(&client, TP_SLICE("\0\0\2\0"), 0, counts), TP_MALFORMED);
    tp_client_finish(&client);
}

Test(client, passes_ten_pings_a_second_and_no_more)
{
    struct tp_client client = client_at("/teleportal");
    unsigned counts[TP_MESSAGE_COUNT] = {0};
    const uint64_t start_ns = 5 * SECOND_NS + 7;

    for (unsigned i = 0; i < 3 * TP_CLIENT_PING_COUNT_MAX; i++)
        cr_assert_eq(say(&client, TP_SLICE("YJSping"), start_ns + i, counts), TP_OK);
    cr_assert_eq(counts[TP_MESSAGE_PING], TP_CLIENT_PING_COUNT_MAX);

    say(&client, TP_SLICE("YJSping"), start_ns + SECOND_NS - 1, counts);
    cr_assert_eq(counts[TP_MESSAGE_PING], TP_CLIENT_PING_COUNT_MAX, "not a second yet");
    say(&client, TP_SLICE("YJSping"), start_ns + SECOND_NS, counts);
    cr_assert_eq(counts[TP_MESSAGE_PING], TP_CLIENT_PING_COUNT_MAX + 1);
    tp_client_finish(&client);
}

#define ACK TP_SLICE("YJS\1\0\0\2\1a\0")

Test(client, closes_who_acks_more_than_twice_what_it_was_sent_and_an_allowance)
{
    struct tp_client client = client_at("/teleportal");
    unsigned counts[TP_MESSAGE_COUNT] = {0};
    const unsigned sent = 3;

    for (unsigned i = 0; i < sent; i++)
        tp_client_sent(&client);
    for (unsigned i = 0; i < 2 * sent + TP_CLIENT_ACK_ALLOWANCE; i++)
        cr_assert_eq(say(&client, ACK, 0, counts), TP_OK, "ack %u", i);
    cr_assert_neq(say(&client, ACK, 0, counts), TP_OK);
    cr_assert_eq(counts[TP_MESSAGE_ACK], 2 * sent + TP_CLIENT_ACK_ALLOWANCE);
    tp_client_finish(&client);
}

Test(client, never_closes_who_acks_every_frame_once)
{
    struct tp_client client = client_at("/teleportal");
    unsigned counts[TP_MESSAGE_COUNT] = {0};

    for (unsigned i = 0; i < 10000; i++) {
        tp_client_sent(&client);
        cr_assert_eq(say(&client, ACK, 0, counts), TP_OK);
    }
    tp_client_finish(&client);
}

Test(client, may_be_copied_to_another_place)
{
    struct tp_client client = client_at("/yjs/doc");
    const struct tp_client moved = client;
    memset(&client, 0xff, sizeof client);

    expect_document(&moved, "doc");
    client = moved;
    tp_client_finish(&client);
    tp_client_finish(&client); /* a zeroed one is fine */
}
