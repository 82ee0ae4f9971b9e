/* What wire/http promises: which requests are read, and which are refused, after RFC 9112. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "wire/http.h"

#define HEADER_SIZE_MAX 1024u
#define BODY_SIZE_MAX 64u

/* Everything that happened, in words: "GET /path?query [body] keep|", "upgrade|", "!400". */
static void feed(struct tp_http_parser *parser, struct tp_slice bytes, struct tp_buffer *log)
{
    while (bytes.size > 0) {
        size_t taken = 0;
        const enum tp_status status = tp_http_parser_feed(parser, bytes, &taken);
        if (status == TP_MALFORMED) {
            char text[16];
            const int size = snprintf(text, sizeof text, "!%u", tp_http_parser_refusal(parser));
            tp_buffer_append(log, text, (size_t)size);
            return;
        }
        cr_assert_leq(taken, bytes.size);
        bytes.data += taken;
        bytes.size -= taken;
        if (status == TP_MORE) {
            cr_assert_eq(bytes.size, 0);
            return;
        }
        const struct tp_http_request *request = tp_http_parser_request(parser);
        tp_buffer_append(log, request->method.data, request->method.size);
        tp_buffer_append(log, " ", 1);
        tp_buffer_append(log, request->path.data, request->path.size);
        if (request->query.size > 0)
            tp_buffer_append(log, "?", 1);
        tp_buffer_append(log, request->query.data, request->query.size);
        tp_buffer_append(log, " [", 2);
        tp_buffer_append(log, request->body.data, request->body.size);
        tp_buffer_append(log, "]", 1);
        if (request->keep_alive)
            tp_buffer_append(log, " keep", 5);
        if (request->upgrade)
            tp_buffer_append(log, " upgrade", 8);
        tp_buffer_append(log, "|", 1);
    }
}

/* However the bytes arrive, the outcome is the same. */
static void expect_bytes(struct tp_slice input, const char *outcome)
{
    static const size_t steps[] = {1, 2, 3, 7, 50, SIZE_MAX / 2};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct tp_http_parser *parser = tp_http_parser_create(HEADER_SIZE_MAX, BODY_SIZE_MAX);
        struct tp_buffer log = tp_buffer_growing(1 << 20);
        for (size_t at = 0; at < input.size; at += steps[i]) {
            const size_t size = tp_min(steps[i], input.size - at);
            uint8_t *part = malloc(size);
            memcpy(part, input.data + at, size);
            feed(parser, tp_slice_of(part, size), &log);
            free(part);
            if (memchr(log.data == NULL ? (uint8_t *)"" : log.data, '!', log.size) != NULL)
                break;
        }
        cr_assert(tp_slice_equal(tp_buffer_slice(&log), tp_slice_of(outcome, strlen(outcome))),
                  "steps of %zu: \"%.*s\" instead of \"%s\", for\n%.*s", steps[i], (int)log.size,
                  (const char *)log.data, outcome, (int)tp_min(input.size, 300),
                  (const char *)input.data);
        tp_buffer_finish(&log);
        tp_http_parser_destroy(parser);
    }
}

#define EXPECT(outcome, input) expect_bytes(TP_SLICE(input), outcome)

Test(http, reads_requests_one_after_the_other)
{
    EXPECT("GET / [] keep|", "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("GET /a?x=1&y [] keep|POST /p [hello] keep|GET /b [] keep|",
           "GET /a?x=1&y HTTP/1.1\r\nHost: a\r\n\r\n"
           "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
           "GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
}

Test(http, reads_bodies_in_chunks)
{
    EXPECT("POST / [hello world] keep|GET /next [] keep|",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           "5\r\nhello\r\n6;name=value\r\n world\r\n0\r\n\r\n"
           "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("POST / [x] keep|GET /next [] keep|",
           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
           "1\r\nx\r\n0\r\nTrailer: value\r\n\r\n"
           "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
}

Test(http, knows_when_the_connection_stays) /* RFC 9112 section 9.3 */
{
    EXPECT("GET / []|", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    EXPECT("GET / []|", "GET / HTTP/1.0\r\n\r\n");
    EXPECT("GET / [] keep|", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
}

Test(http, ignores_empty_lines_before_a_request) /* RFC 9112 section 2.2 */
{
    EXPECT("GET / [] keep|GET / [] keep|",
           "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

Test(http, reads_targets_with_scheme_and_host) /* RFC 9112 section 3.2.2 */
{
    EXPECT("GET /x?y [] keep|", "GET http://a:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("OPTIONS * [] keep|", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("!400", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("!400", "GET x HTTP/1.1\r\nHost: a\r\n\r\n");
}

Test(http, refuses_lines_that_two_servers_could_read_differently)
{
    EXPECT("!400", "GET / HTTP/1.1\nHost: a\n\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost : a\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\n Host: a\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n");
    EXPECT("!400", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n");
    EXPECT("!400", "GET /\r\nHost: a\r\n\r\n");
    EXPECT("!400", "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("!400", "G=T / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT("!400", "NOSUCH / HTTP/1.1\r\nHost: a\r\n\r\n");
}

Test(http, refuses_two_opinions_about_the_length) /* RFC 9112 section 6.3: smuggling */
{
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\n"
                   "Content-Length: 99999999999999999999999999\r\n\r\n");
    EXPECT("!501", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n");
    EXPECT("!501", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n");
    EXPECT("!501", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n");
    EXPECT("!400", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

Test(http, refuses_chunks_that_are_no_chunks) /* RFC 9112 section 7.1 */
{
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    EXPECT("!400", CHUNKED "x\r\n");
    EXPECT("!400", CHUNKED "\r\n0\r\n\r\n");
    EXPECT("!400", CHUNKED "-1\r\n");
    EXPECT("!400", CHUNKED "0x1\r\na\r\n");
    EXPECT("!400", CHUNKED "1 \r\na\r\n0\r\n\r\n");
    EXPECT("!400", CHUNKED "1\r\nab\r\n0\r\n\r\n");
    EXPECT("!400", CHUNKED "1\na\n0\n\n");
    EXPECT("!400", CHUNKED "1\r\na\n0\r\n\r\n");
    EXPECT("!400", CHUNKED "fffffffffffffffff\r\n");
}

Test(http, wants_exactly_one_host) /* RFC 9112 section 3.2 */
{
    EXPECT("!400", "GET / HTTP/1.1\r\n\r\n");
    EXPECT("!400", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
}

Test(http, refuses_versions_it_does_not_speak)
{
    EXPECT("!505", "GET / HTTP/2.0\r\nHost: a\r\n\r\n");
    EXPECT("!505", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    EXPECT("!505", "GET / HTTP/1.2\r\nHost: a\r\n\r\n");
    EXPECT("!400", "GET / http/1.1\r\nHost: a\r\n\r\n");
    EXPECT("!501", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void expect_padded(size_t head_size, const char *outcome)
{
    static const char start[] = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    struct tp_buffer input = tp_buffer_growing(1 << 20);

    tp_buffer_append(&input, start, sizeof start - 1);
    while (input.size < head_size - 4)
        tp_buffer_append(&input, "x", 1);
    tp_buffer_append(&input, "\r\n\r\n", 4);
    expect_bytes(tp_buffer_slice(&input), outcome);
    tp_buffer_finish(&input);
}

Test(http, takes_a_head_at_the_limit_and_refuses_one_byte_more)
{
    expect_padded(HEADER_SIZE_MAX, "GET / [] keep|");
    expect_padded(HEADER_SIZE_MAX + 1, "!431");
}

Test(http, takes_a_body_at_the_limit_and_refuses_one_byte_more)
{
#define B64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    EXPECT("POST / [" B64 "] keep|",
           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 64\r\n\r\n" B64);
    EXPECT("!413", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n");
    EXPECT("POST / [" B64 "] keep|", CHUNKED "40\r\n" B64 "\r\n0\r\n\r\n");
    EXPECT("!413", CHUNKED "40\r\n" B64 "\r\n1\r\nx\r\n0\r\n\r\n");
}

Test(http, refuses_chunks_that_are_nearly_all_framing)
{
    struct tp_buffer input = tp_buffer_growing(1 << 20);
    tp_buffer_append(&input, CHUNKED, sizeof CHUNKED - 1);
    tp_buffer_append(&input, "1;", 2);
    for (int i = 0; i < 4000; i++)
        tp_buffer_append(&input, "x", 1);

    expect_bytes(tp_buffer_slice(&input), "!400");
    tp_buffer_finish(&input);
}

Test(http, says_once_that_the_client_waits_before_its_body) /* RFC 9110 section 10.1.1 */
{
    struct tp_http_parser *parser = tp_http_parser_create(HEADER_SIZE_MAX, BODY_SIZE_MAX);
    size_t taken;

    cr_assert_eq(tp_http_parser_feed(parser,
                                     TP_SLICE("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                                              "Expect: 100-continue\r\n\r\n"),
                                     &taken),
                 TP_MORE);
    cr_assert(tp_http_parser_continue(parser));
    cr_assert_not(tp_http_parser_continue(parser));
    cr_assert_eq(tp_http_parser_feed(parser, TP_SLICE("x"), &taken), TP_OK);
    tp_http_parser_destroy(parser);
    EXPECT("!417", "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n");
}

/* ---- the opening handshake (RFC 6455 section 4.2.1)
 * ----------------------------------------------- */

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define GET "GET /d HTTP/1.1\r\nHost: a\r\n"

Test(http, knows_a_handshake)
{
    EXPECT("GET /d [] keep upgrade|",
           GET "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY VERSION "\r\n");
    EXPECT("GET /d [] keep upgrade|",
           GET "upgrade: h2c, WebSocket\r\nconnection: keep-alive , "
               "UPGRADE\r\n" KEY VERSION "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
}

Test(http, refuses_a_broken_handshake)
{
    EXPECT("!426", GET "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY "\r\n");
    EXPECT("!426", GET "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY
                       "Sec-WebSocket-Version: 8\r\n\r\n");
    EXPECT("!400", GET "Upgrade: websocket\r\nConnection: Upgrade\r\n" VERSION "\r\n");
    EXPECT("!400", GET "Upgrade: websocket\r\nConnection: Upgrade\r\n" VERSION
                       "Sec-WebSocket-Key: short\r\n\r\n");
    EXPECT("!400", GET "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY KEY VERSION "\r\n");
    EXPECT("!400", GET "Upgrade: websocket\r\n" KEY VERSION "\r\n");
    EXPECT("!400", GET "Upgrade: websocket\r\nConnection: xUpgrade\r\n" KEY VERSION "\r\n");
    EXPECT("!400", "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: "
                   "Upgrade\r\n" KEY VERSION "\r\n");
    EXPECT("!400", "GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: "
                   "Upgrade\r\n" KEY VERSION "\r\n");
    EXPECT("!400", GET "Content-Length: 1\r\nUpgrade: websocket\r\nConnection: "
                       "Upgrade\r\n" KEY VERSION "\r\nx");
}

Test(http, ignores_an_upgrade_to_what_it_does_not_speak) /* RFC 9110 section 7.8 */
{
    EXPECT("GET /d [] keep|GET /d [] keep|",
           GET "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n" GET "\r\n");
}

/* ---- looking things up
 * ------------------------------------------------------------------------------ */

Test(http, finds_headers_in_any_case)
{
    const struct tp_http_request request = {
        .headers = TP_SLICE("Accept:\r\nX-Name: \t the value \t\r\nx-name: second\r\n")};

    cr_assert(tp_slice_equal(tp_http_header(&request, "x-NAME"), TP_SLICE("the value")));
    cr_assert_eq(tp_http_header(&request, "accept").size, 0);
    cr_assert_not_null(tp_http_header(&request, "accept").data);
    cr_assert_null(tp_http_header(&request, "x-nam").data);
    cr_assert(tp_http_header_has(&request, "X-Name", "SECOND"), "every header of the name counts");
    cr_assert_not(tp_http_header_has(&request, "X-Name", "value"));
}

Test(http, finds_query_parameters)
{
    const struct tp_slice query = TP_SLICE("xa=0&a=1&b&c=&a=2");

    cr_assert(tp_slice_equal(tp_http_query(query, "a"), TP_SLICE("1")));
    cr_assert_eq(tp_http_query(query, "b").size, 0);
    cr_assert_not_null(tp_http_query(query, "b").data);
    cr_assert_eq(tp_http_query(query, "c").size, 0);
    cr_assert_null(tp_http_query(query, "d").data);
    cr_assert_null(tp_http_query(TP_SLICE(""), "a").data);
}

Test(http, decodes_percents_once)
{
    uint8_t out[16];
    size_t size;

    cr_assert_eq(tp_http_percent_decode(TP_SLICE("a%20%2fB%2F%2525+"), out, &size), TP_OK);
    cr_assert(tp_slice_equal(tp_slice_of(out, size), TP_SLICE("a /B/%25+")));
    cr_assert_eq(tp_http_percent_decode(TP_SLICE("%"), out, &size), TP_MALFORMED);
    cr_assert_eq(tp_http_percent_decode(TP_SLICE("%2"), out, &size), TP_MALFORMED);
    cr_assert_eq(tp_http_percent_decode(TP_SLICE("%2g"), out, &size), TP_MALFORMED);
    cr_assert_eq(tp_http_percent_decode(TP_SLICE(""), out, &size), TP_OK);
    cr_assert_eq(size, 0);
}

Test(http, writes_dates_as_the_rfc_shows) /* RFC 9110 section 5.6.7 */
{
    char date[TP_HTTP_DATE_SIZE];

    tp_http_date(UINT64_C(784111777000), date);
    cr_assert_str_eq(date, "Sun, 06 Nov 1994 08:49:37 GMT");
}
