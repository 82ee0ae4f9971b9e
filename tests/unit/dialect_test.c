/* What the dialects promise: recognising, decoding, saying, relaying, closing. */
#include <criterion/criterion.h>

#include "dialect/dialect.h"
#include "wire/awareness.h"
#include "wire/writer.h"

#define MESSAGES_MAX 4

struct taken {
    struct tp_message messages[MESSAGES_MAX];
    size_t count;
    enum tp_close_reason reason;
    enum tp_status status;
};

static void take(void *context, struct tp_message *message)
{
    struct taken *taken = context;

    cr_assert_lt(taken->count, MESSAGES_MAX);
    taken->messages[taken->count++] = *message;
}

static struct taken decode(enum tp_dialect_id id, struct tp_slice bytes)
{
    const struct tp_dialect_state state = {.document = TP_SLICE("path")};
    struct taken taken = {.reason = TP_CLOSE_NORMAL};

    taken.status = tp_dialect_get(id)->decode(&state, bytes, (struct tp_message_sink){take, &taken},
                                              &taken.reason);
    return taken;
}

static void expect_said(enum tp_dialect_id id, const struct tp_message *message,
                        struct tp_slice want)
{
    struct tp_buffer out = tp_buffer_growing(1000);

    cr_assert_eq(tp_dialect_get(id)->encode(message, TP_SLICE("d"), 0, &out), TP_OK);
    cr_assert_eq(out.size, want.size, "%zu bytes", out.size);
    cr_assert_arr_eq(out.data, want.data, want.size);
    tp_buffer_finish(&out);
}

static void expect_unsaid(enum tp_dialect_id id, const struct tp_message *message)
{
    struct tp_buffer out = tp_buffer_growing(1000);

    cr_assert_eq(tp_dialect_get(id)->encode(message, TP_SLICE("d"), 0, &out), TP_ABSENT);
    cr_assert_eq(out.size, 0);
    tp_buffer_finish(&out);
}

static struct tp_message update_of(enum tp_message_kind kind, enum tp_dialect_id from)
{
    return (struct tp_message){
        .kind = kind,
        .dialect = from,
        .raw = from == TP_DIALECT_NONE ? (struct tp_slice){0} : TP_SLICE("raw"),
        .update = {.v1 = TP_SLICE("\0\0"), .v2 = TP_SLICE("\0\0\0\0\0\0\0\0\0\0\0\0\0")}};
}

#define TELEPORTAL_UPDATE "YJS\1\1d\0\0\2\2\x11\1\x0d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define TELEPORTAL_STEP_2 "YJS\1\1d\0\0\1\2\x11\1\x0d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

/* ---- recognising ------------------------------------------------------------------------------*/

Test(dialect, teleportal_is_known_by_its_magic_whatever_the_path)
{
    const struct tp_dialect *teleportal = tp_dialect_get(TP_DIALECT_TELEPORTAL);

    cr_assert_eq(tp_dialect_recognise(TP_SLICE("YJSping"), true), teleportal);
    cr_assert_eq(tp_dialect_recognise(TP_SLICE("YJS"), false), teleportal);
    cr_assert_null(tp_dialect_recognise(TP_SLICE("YJ"), false));
}

Test(dialect, a_y_protocols_message_needs_a_path_that_names_the_document)
{
    const struct tp_dialect *ywebsocket = tp_dialect_get(TP_DIALECT_YWEBSOCKET);

    cr_assert_eq(tp_dialect_recognise(TP_SLICE("\0\0\1\0"), true), ywebsocket);
    cr_assert_eq(tp_dialect_recognise(TP_SLICE("\1\5\1\7\0\1{"), true), ywebsocket);
    cr_assert_eq(tp_dialect_recognise(TP_SLICE("\3"), true), ywebsocket);
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\0\0\1\0"), false));
}

Test(dialect, what_is_no_whole_known_message_is_claimed_by_nobody)
{
    cr_assert_null(tp_dialect_recognise(TP_SLICE(""), true));
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\0\0\2\0"), true), "cut short");
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\0\0\1\0\0"), true), "something behind it");
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\4\0"), true), "an unknown type");
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\0\3\0"), true), "an unknown subtype");
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\1\2\2\0"), true), "no awareness update");
    cr_assert_null(tp_dialect_recognise(TP_SLICE("\x03"
                                                 "doc\0\0\1\0"),
                                        true),
                   "an address first");
}

Test(dialect, is_found_by_its_id)
{
    cr_assert_str_eq(tp_dialect_get(TP_DIALECT_TELEPORTAL)->name, "teleportal");
    cr_assert_str_eq(tp_dialect_get(TP_DIALECT_YWEBSOCKET)->name, "y-websocket");
    cr_assert_null(tp_dialect_get(TP_DIALECT_NONE));
    cr_assert_null(tp_dialect_get(TP_DIALECT_COUNT));
}

/* ---- Teleportal -------------------------------------------------------------------------------*/

Test(teleportal_dialect, takes_a_ping_and_answers_with_a_pong)
{
    const struct taken taken = decode(TP_DIALECT_TELEPORTAL, TP_SLICE("YJSping with more"));
    const struct tp_message pong = {.kind = TP_MESSAGE_PONG};

    cr_assert_eq(taken.count, 1);
    cr_assert_eq(taken.messages[0].kind, TP_MESSAGE_PING);
    expect_said(TP_DIALECT_TELEPORTAL, &pong, TP_SLICE("YJSpong"));
}

Test(teleportal_dialect, never_says_ping_on_a_websocket)
{
    const struct tp_message ping = {.kind = TP_MESSAGE_PING};

    expect_unsaid(TP_DIALECT_TELEPORTAL, &ping);
}

Test(teleportal_dialect, closes_for_the_reason_that_fits)
{
    static const struct {
        struct tp_slice bytes;
        uint16_t code;
    } cases[] = {
        {{(const uint8_t *)"", 0}, 1003},
        {{(const uint8_t *)"\0\0\1\0", 4}, 1003},
        {{(const uint8_t *)"YJSpong", 7}, 1008},
        {{(const uint8_t *)"YJS\1\1d\0\0\5", 9}, 1008},
        {{(const uint8_t *)"YJS\1\1\xff\0\0\3", 9}, 1007},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct taken taken = decode(TP_DIALECT_TELEPORTAL, cases[i].bytes);
        cr_assert_eq(taken.status, TP_MALFORMED, "case %zu", i);
        cr_assert_eq(taken.count, 0);
        cr_assert_eq(tp_dialect_get(TP_DIALECT_TELEPORTAL)->close_code(taken.reason), cases[i].code,
                     "case %zu", i);
    }
}

Test(teleportal_dialect, keeps_what_is_behind_a_frame_in_its_raw_bytes_and_its_id)
{
    const struct tp_slice bytes = TP_SLICE("YJS\1\1d\0\0\3\xaa\xbb");

    const struct taken taken = decode(TP_DIALECT_TELEPORTAL, bytes);

    cr_assert_eq(taken.count, 1);
    cr_assert_eq(taken.messages[0].raw.size, bytes.size);
    cr_assert_eq(taken.messages[0].id, 0x78a34c5fe5dd2d15);
}

Test(teleportal_dialect, gives_an_update_with_a_broken_container_to_be_refused)
{
    const struct taken taken = decode(TP_DIALECT_TELEPORTAL, TP_SLICE("YJS\1\1d\0\0\2\2\3\2\0\0"));

    cr_assert_eq(taken.status, TP_OK);
    cr_assert(taken.messages[0].update.bad_container);
    cr_assert_null(taken.messages[0].update.v2.data);
    cr_assert_neq(taken.messages[0].id, 0);
}

Test(teleportal_dialect, writes_an_update_as_version_2_in_a_container)
{
    const struct tp_message update = update_of(TP_MESSAGE_UPDATE, TP_DIALECT_NONE);

    expect_said(TP_DIALECT_TELEPORTAL, &update, TP_SLICE(TELEPORTAL_UPDATE));
}

Test(teleportal_dialect, keeps_the_sidecars_of_an_encrypted_update)
{
    const struct tp_message update = {
        .kind = TP_MESSAGE_UPDATE,
        .encrypted = true,
        .update = {.v2 = TP_SLICE("\7"), .sidecars = TP_SLICE("\1\2ab\0"), .sidecar_count = 1}};

    expect_said(TP_DIALECT_TELEPORTAL, &update, TP_SLICE("YJS\1\1d\1\0\2\2\x08\1\1\7\1\2ab\0"));
}

Test(teleportal_dialect, says_an_ack_without_a_document)
{
    const struct tp_message ack = {.kind = TP_MESSAGE_ACK,
                                   .document = TP_SLICE("d"),
                                   .encrypted = true,
                                   .ack = {.id = 0x0123456789abcdef}};

    expect_said(TP_DIALECT_TELEPORTAL, &ack,
                TP_SLICE("YJS\1\0\0\2\x10"
                         "0123456789abcdef\0"));
}

Test(teleportal_dialect, relays_what_documents_share_and_nothing_else)
{
    for (int kind = 0; kind < TP_MESSAGE_COUNT; kind++) {
        struct tp_message message = {
            .kind = kind, .dialect = TP_DIALECT_TELEPORTAL, .raw = TP_SLICE("raw")};
        const bool want = kind == TP_MESSAGE_UPDATE || kind == TP_MESSAGE_SYNC_STEP_2 ||
                          kind == TP_MESSAGE_AWARENESS || kind == TP_MESSAGE_AWARENESS_QUERY;
        cr_assert_eq(tp_dialect_get(TP_DIALECT_TELEPORTAL)->relays_raw(&message), want, "%d", kind);
        cr_assert_not(tp_dialect_get(TP_DIALECT_YWEBSOCKET)->relays_raw(&message));
        message.raw = (struct tp_slice){0};
        cr_assert_not(tp_dialect_get(TP_DIALECT_TELEPORTAL)->relays_raw(&message));
    }
}

/* ---- y-websocket ------------------------------------------------------------------------------*/

Test(ywebsocket_dialect, decodes_every_message_of_y_protocols)
{
    static const struct {
        struct tp_slice bytes;
        enum tp_message_kind kind;
    } cases[] = {
        {{(const uint8_t *)"\0\0\1\0", 4}, TP_MESSAGE_SYNC_STEP_1},
        {{(const uint8_t *)"\0\1\2\0\0", 5}, TP_MESSAGE_SYNC_STEP_2},
        {{(const uint8_t *)"\0\2\2\0\0", 5}, TP_MESSAGE_UPDATE},
        {{(const uint8_t *)"\1\1\0", 3}, TP_MESSAGE_AWARENESS},
        {{(const uint8_t *)"\2\0\2no", 5}, TP_MESSAGE_AUTH},
        {{(const uint8_t *)"\3", 1}, TP_MESSAGE_AWARENESS_QUERY},
        {{(const uint8_t *)"f\3abc", 5}, TP_MESSAGE_ECHO},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct taken taken = decode(TP_DIALECT_YWEBSOCKET, cases[i].bytes);
        const struct tp_message *message = &taken.messages[0];
        cr_assert_eq(taken.count, 1, "case %zu", i);
        cr_assert_eq(message->kind, cases[i].kind, "case %zu", i);
        cr_assert(tp_slice_equal(message->document, TP_SLICE("path")));
        cr_assert(tp_slice_equal(message->raw, cases[i].bytes));
        cr_assert_eq(message->dialect, TP_DIALECT_YWEBSOCKET);
        if (message->kind != TP_MESSAGE_SYNC_STEP_2) /* which becomes an update for the others */
            expect_said(TP_DIALECT_YWEBSOCKET, message, cases[i].bytes);
    }
}

Test(ywebsocket_dialect, closes_with_4400_when_a_message_is_cut_short)
{
    static const struct tp_slice cases[] = {
        {(const uint8_t *)"", 0},           {(const uint8_t *)"\0", 1},
        {(const uint8_t *)"\0\0", 2},       {(const uint8_t *)"\0\2\3ab", 5},
        {(const uint8_t *)"\1\2\0", 3},     {(const uint8_t *)"f", 1},
        {(const uint8_t *)"\2\0\1\xff", 4}, {(const uint8_t *)"\x80", 1},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct taken taken = decode(TP_DIALECT_YWEBSOCKET, cases[i]);
        cr_assert_eq(taken.status, TP_MALFORMED, "case %zu", i);
        cr_assert_eq(taken.count, 0);
        cr_assert_eq(tp_dialect_get(TP_DIALECT_YWEBSOCKET)->close_code(taken.reason), 4400);
    }
}

Test(ywebsocket_dialect, ignores_types_and_subtypes_that_it_does_not_know)
{
    static const struct tp_slice cases[] = {
        {(const uint8_t *)"\4", 1},
        {(const uint8_t *)"\x7f\1\2\3", 4},
        {(const uint8_t *)"\0\3\1\0", 4},
        {(const uint8_t *)"\2\1", 2},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct taken taken = decode(TP_DIALECT_YWEBSOCKET, cases[i]);
        cr_assert_eq(taken.status, TP_OK, "case %zu", i);
        cr_assert_eq(taken.count, 0);
    }
}

Test(ywebsocket_dialect, leaves_what_is_behind_a_message_out_of_what_is_relayed)
{
    const struct taken taken = decode(TP_DIALECT_YWEBSOCKET, TP_SLICE("\0\2\2\0\0 and more"));

    cr_assert_eq(taken.count, 1);
    cr_assert_eq(taken.messages[0].raw.size, 5);
}

Test(ywebsocket_dialect, says_nothing_of_what_y_protocols_has_no_words_for)
{
    static const enum tp_message_kind kinds[] = {
        TP_MESSAGE_SYNC_DONE,      TP_MESSAGE_ACK, TP_MESSAGE_PRESENCE_JOIN,
        TP_MESSAGE_PRESENCE_LEAVE, TP_MESSAGE_RPC, TP_MESSAGE_PONG,
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct tp_message message = {.kind = kinds[i]};
        expect_unsaid(TP_DIALECT_YWEBSOCKET, &message);
    }
    const struct tp_message welcome = {.kind = TP_MESSAGE_AUTH, .auth = {.allowed = true}};
    expect_unsaid(TP_DIALECT_YWEBSOCKET, &welcome);
    const struct tp_message secret = {
        .kind = TP_MESSAGE_AWARENESS, .encrypted = true, .awareness = TP_SLICE("?")};
    expect_unsaid(TP_DIALECT_YWEBSOCKET, &secret);
}

Test(ywebsocket_dialect, relays_updates_and_awareness_but_no_step_2)
{
    for (int kind = 0; kind < TP_MESSAGE_COUNT; kind++) {
        const struct tp_message message = {
            .kind = kind, .dialect = TP_DIALECT_YWEBSOCKET, .raw = TP_SLICE("raw")};
        const bool want = kind == TP_MESSAGE_UPDATE || kind == TP_MESSAGE_AWARENESS ||
                          kind == TP_MESSAGE_AWARENESS_QUERY;
        cr_assert_eq(tp_dialect_get(TP_DIALECT_YWEBSOCKET)->relays_raw(&message), want, "%d", kind);
        cr_assert_not(tp_dialect_get(TP_DIALECT_TELEPORTAL)->relays_raw(&message));
    }
}

/* ---- both -------------------------------------------------------------------------------------*/

Test(dialect, answers_with_a_step_2_but_tells_others_of_it_as_an_update)
{
    const struct tp_message answer = update_of(TP_MESSAGE_SYNC_STEP_2, TP_DIALECT_NONE);
    const struct tp_message theirs = update_of(TP_MESSAGE_SYNC_STEP_2, TP_DIALECT_YWEBSOCKET);
    const struct tp_message ours = update_of(TP_MESSAGE_SYNC_STEP_2, TP_DIALECT_TELEPORTAL);

    expect_said(TP_DIALECT_YWEBSOCKET, &answer, TP_SLICE("\0\1\2\0\0"));
    expect_said(TP_DIALECT_YWEBSOCKET, &theirs, TP_SLICE("\0\2\2\0\0"));
    expect_said(TP_DIALECT_YWEBSOCKET, &ours, TP_SLICE("\0\2\2\0\0"));
    expect_said(TP_DIALECT_TELEPORTAL, &answer, TP_SLICE(TELEPORTAL_STEP_2));
    expect_said(TP_DIALECT_TELEPORTAL, &theirs, TP_SLICE(TELEPORTAL_UPDATE));
}

Test(dialect, says_no_more_than_the_buffer_takes)
{
    const struct tp_message update = update_of(TP_MESSAGE_UPDATE, TP_DIALECT_NONE);

    for (int id = TP_DIALECT_TELEPORTAL; id <= TP_DIALECT_YWEBSOCKET; id++) {
        uint8_t room[4];
        struct tp_buffer out = tp_buffer_fixed(room, sizeof room);
        cr_assert_eq(tp_dialect_get(id)->encode(&update, TP_SLICE("d"), 0, &out), TP_FULL);
        cr_assert_leq(out.size, sizeof room);
    }
}

Test(dialect, keeps_clients_connected_with_a_message_that_they_understand)
{
    const struct tp_dialect *teleportal = tp_dialect_get(TP_DIALECT_TELEPORTAL);
    const struct tp_dialect *ywebsocket = tp_dialect_get(TP_DIALECT_YWEBSOCKET);

    cr_assert(tp_teleportal_is_pong(teleportal->keepalive));
    cr_assert(tp_slice_equal(ywebsocket->keepalive, TP_SLICE("\1\1\0")));
    cr_assert_lt(teleportal->keepalive_ns, UINT64_C(15) * 1000000000);
    cr_assert_lt(ywebsocket->keepalive_ns, UINT64_C(15) * 1000000000);
}

Test(dialect, has_a_close_code_for_every_reason)
{
    for (int id = TP_DIALECT_TELEPORTAL; id <= TP_DIALECT_YWEBSOCKET; id++) {
        for (int reason = TP_CLOSE_NORMAL; reason <= TP_CLOSE_RATE; reason++) {
            const uint16_t code = tp_dialect_get(id)->close_code(reason);
            cr_assert((code >= 1000 && code <= 1013) || (code >= 4400 && code < 4600));
            cr_assert_neq(code, 1005, "never sent (RFC 6455 section 7.4.1)");
            cr_assert_neq(code, 1006, "never sent");
        }
    }
}

Test(dialect, close_codes_that_stop_a_y_websocket_client_are_permanent_ones_only)
{
    uint16_t (*code)(enum tp_close_reason) = tp_dialect_get(TP_DIALECT_YWEBSOCKET)->close_code;

    cr_assert_eq(code(TP_CLOSE_UNAUTHORIZED), 4401);
    cr_assert_eq(code(TP_CLOSE_TOO_BIG), 4413);
    cr_assert_eq(code(TP_CLOSE_LOAD_FAILED), 4503);
    cr_assert_eq(code(TP_CLOSE_OVERLOAD), 1013);
    cr_assert_eq(code(TP_CLOSE_GOING_AWAY), 1001);
}

/* ---- awareness --------------------------------------------------------------------------------*/

Test(awareness, walks_over_the_entries_that_were_written)
{
    const struct tp_awareness_entry entries[] = {
        {1234567, 1, TP_SLICE("{\"name\":\"Ada\"}")},
        {TP_VARUINT_MAX, 0, TP_SLICE("null")},
    };
    struct tp_buffer out = tp_buffer_growing(1000);
    struct tp_awareness_walk walk;
    struct tp_awareness_entry entry;
    tp_awareness_write_count(&out, 2);
    for (size_t i = 0; i < 2; i++) {
        const size_t before = out.size;
        tp_awareness_write_entry(&out, &entries[i]);
        cr_assert_eq(out.size - before, tp_awareness_entry_size(&entries[i]));
    }

    cr_assert(tp_awareness_valid(tp_buffer_slice(&out)));
    cr_assert_eq(tp_awareness_walk(tp_buffer_slice(&out), &walk), TP_OK);
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(tp_awareness_next(&walk, &entry), TP_OK);
        cr_assert_eq(entry.client, entries[i].client);
        cr_assert_eq(entry.clock, entries[i].clock);
        cr_assert(tp_slice_equal(entry.state, entries[i].state));
        cr_assert_eq(tp_awareness_is_gone(&entry), i == 1);
    }
    cr_assert_eq(tp_awareness_next(&walk, &entry), TP_ABSENT);
    tp_buffer_finish(&out);
}

Test(awareness, refuses_what_is_cut_short_no_text_or_too_much)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);
    static const char state[TP_AWARENESS_STATE_SIZE_MAX + 1];

    cr_assert_not(tp_awareness_valid(TP_SLICE("")));
    cr_assert(tp_awareness_valid(TP_SLICE("\0")));
    cr_assert_not(tp_awareness_valid(TP_SLICE("\1\1\1")));
    cr_assert_not(tp_awareness_valid(TP_SLICE("\2\1\1\1a")));
    cr_assert_not(tp_awareness_valid(TP_SLICE("\1\1\1\1\xff")));

    tp_awareness_write_count(&out, 1);
    tp_write_raw(&out, TP_SLICE("\1\1"));
    tp_write_bytes(&out, tp_slice_of(state, TP_AWARENESS_STATE_SIZE_MAX));
    cr_assert(tp_awareness_valid(tp_buffer_slice(&out)));
    out.size = 3;
    tp_write_bytes(&out, tp_slice_of(state, TP_AWARENESS_STATE_SIZE_MAX + 1));
    cr_assert_not(tp_awareness_valid(tp_buffer_slice(&out)));
    tp_buffer_finish(&out);
}

Test(awareness, limits_how_many_entries_one_update_has)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);

    for (size_t count = TP_AWARENESS_ENTRY_COUNT_MAX; count <= TP_AWARENESS_ENTRY_COUNT_MAX + 1;
         count++) {
        out.size = 0;
        tp_awareness_write_count(&out, count);
        for (size_t i = 0; i < count; i++)
            tp_write_raw(&out, TP_SLICE("\1\1\0"));
        cr_assert_eq(tp_awareness_valid(tp_buffer_slice(&out)),
                     count <= TP_AWARENESS_ENTRY_COUNT_MAX);
    }
    tp_buffer_finish(&out);
}
