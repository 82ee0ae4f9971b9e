#include "wire/http.h"

#include <llhttp.h>
#include <stdlib.h>
#include <strings.h>

#include "base/buffer.h"
#include "wire/websocket.h"

/* A chunked body may be mostly framing ("1\r\nx\r\n" carries one byte in six), and its chunk
 * extensions and trailers have no end of their own. A multiple of the largest body is honest. */
#define FRAMING_FACTOR 8u
#define FRAMING_SIZE 1024u

enum phase {
    PHASE_HEAD, /* gathering lines */
    PHASE_BODY,
    PHASE_WHOLE, /* `request` is valid */
    PHASE_BAD,
};

struct tp_http_parser {
    enum phase phase;
    unsigned refusal;
    uint32_t body_size_max;
    size_t scanned_size;  /* of `head`: its lines up to here were looked at */
    size_t line_start;    /* where the line under way begins */
    size_t request_start; /* behind empty lines before the request */
    uint64_t raw_body_size;
    bool wants_continue;
    struct tp_buffer head; /* bytes as they came, from the request line to the empty line */
    struct tp_buffer body;
    struct tp_http_request request;
    llhttp_t framing;
};

/* ---- llhttp's side ----------------------------------------------------------------------------
 */

static int on_headers_complete(llhttp_t *framing)
{
    /* Whether to change protocols is decided by the handler, after the whole request. */
    framing->upgrade = 0;
    return 0;
}

static int on_body(llhttp_t *framing, const char *at, size_t size)
{
    struct tp_http_parser *parser = framing->data;

    tp_buffer_append(&parser->body, at, size);
    if (!parser->body.full)
        return 0;
    parser->refusal = 413;
    return HPE_USER;
}

static int on_message_complete(llhttp_t *framing)
{
    struct tp_http_parser *parser = framing->data;

    parser->phase = PHASE_WHOLE;
    return HPE_PAUSED;
}

static const llhttp_settings_t *settings(void)
{
    static const llhttp_settings_t callbacks = {
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_message_complete,
    };
    return &callbacks;
}

/* ---- our side: the head's lines ---------------------------------------------------------------
 */

static bool is_token_byte(uint8_t c) /* RFC 9110 section 5.6.2 */
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct tp_slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_token_byte(text.data[i]))
            return false;
    return text.size > 0;
}

/* "name: value": the name directly before the colon, no control characters in the value. */
static bool header_line_allowed(struct tp_slice line)
{
    const uint8_t *const colon = memchr(line.data, ':', line.size);

    if (colon == NULL || !is_token(tp_slice_of(line.data, (size_t)(colon - line.data))))
        return false; /* a folded line begins with a blank, which is no token */
    for (const uint8_t *at = colon + 1; at < line.data + line.size; at++)
        if ((*at < 0x20 && *at != '\t') || *at == 0x7f)
            return false;
    return true;
}

/* How many headers of that name there are, and the value of the last one. */
static unsigned count_headers_to(const struct tp_http_request *request, const char *name,
                                 struct tp_slice *last)
{
    struct tp_http_request rest = *request;
    unsigned count = 0;

    for (struct tp_slice value; (value = tp_http_header(&rest, name)).data != NULL; count++) {
        *last = value;
        const uint8_t *const end = rest.headers.data + rest.headers.size;
        rest.headers =
            tp_slice_of(value.data + value.size, (size_t)(end - value.data) - value.size);
        /* Go on behind the line's end. */
        const uint8_t *const line_end = memchr(rest.headers.data, '\n', rest.headers.size);
        TP_ASSERT(line_end != NULL);
        rest.headers = tp_slice_of(line_end + 1, (size_t)(end - line_end) - 1);
    }
    return count;
}

static unsigned count_headers(const struct tp_http_request *request, const char *name)
{
    struct tp_slice last;

    return count_headers_to(request, name, &last);
}

struct tp_slice tp_http_header_last(const struct tp_http_request *request, const char *name)
{
    struct tp_slice last = {0};

    (void)count_headers_to(request, name, &last);
    return last;
}

static bool is_word(struct tp_slice text, const char *word)
{
    return text.size == strlen(word) && strncasecmp((const char *)text.data, word, text.size) == 0;
}

static bool all_digits(struct tp_slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return text.size > 0;
}

/* METHOD SP target SP HTTP/1.x; returns 0 or the status to refuse with. */
static unsigned read_request_line(struct tp_http_request *request, struct tp_slice line,
                                  bool *is_1_0)
{
    const uint8_t *const end = line.data + line.size;
    const uint8_t *const first = memchr(line.data, ' ', line.size);

    if (first == NULL)
        return 400;
    const uint8_t *const second = memchr(first + 1, ' ', (size_t)(end - first) - 1);
    if (second == NULL || memchr(second + 1, ' ', (size_t)(end - second) - 1) != NULL)
        return 400;
    request->method = tp_slice_of(line.data, (size_t)(first - line.data));
    request->target = tp_slice_of(first + 1, (size_t)(second - first) - 1);
    const struct tp_slice version = tp_slice_of(second + 1, (size_t)(end - second) - 1);

    if (!is_token(request->method) || request->target.size == 0)
        return 400;
    for (size_t i = 0; i < request->target.size; i++)
        if (request->target.data[i] <= 0x20 || request->target.data[i] >= 0x7f ||
            request->target.data[i] == '#')
            return 400;
    *is_1_0 = tp_slice_equal(version, TP_SLICE("HTTP/1.0"));
    if (!*is_1_0 && !tp_slice_equal(version, TP_SLICE("HTTP/1.1")))
        return version.size == 8 && memcmp(version.data, "HTTP/", 5) == 0 ? 505 : 400;
    if (tp_slice_equal(request->method, TP_SLICE("CONNECT")))
        return 501; /* we are no proxy */
    return 0;
}

static bool begins_with(struct tp_slice text, const char *word)
{
    const size_t size = strlen(word);
    return text.size >= size && strncasecmp((const char *)text.data, word, size) == 0;
}

/* RFC 9112 section 3.2: origin form, absolute form, or "*". */
static bool split_target(struct tp_http_request *request)
{
    struct tp_slice rest = request->target;

    if (rest.data[0] != '/' && !tp_slice_equal(rest, TP_SLICE("*"))) {
        size_t scheme_size = 0;
        if (begins_with(rest, "http://"))
            scheme_size = strlen("http://");
        else if (begins_with(rest, "https://"))
            scheme_size = strlen("https://");
        else
            return false;
        const uint8_t *const path = memchr(rest.data + scheme_size, '/', rest.size - scheme_size);
        if (path == NULL)
            return false;
        rest = tp_slice_of(path, rest.size - (size_t)(path - rest.data));
    }
    const uint8_t *const mark = memchr(rest.data, '?', rest.size);
    if (mark == NULL) {
        request->path = rest;
        request->query = tp_slice_of(rest.data + rest.size, 0);
    } else {
        request->path = tp_slice_of(rest.data, (size_t)(mark - rest.data));
        request->query = tp_slice_of(mark + 1, rest.size - request->path.size - 1);
    }
    return true;
}

/* The opening handshake (RFC 6455 section 4.2.1), if this is one. 0, or the status to refuse with.
 */
static unsigned read_handshake(struct tp_http_request *request, bool is_1_0, bool has_body)
{
    if (!tp_http_header_has(request, "upgrade", "websocket"))
        return 0; /* another protocol is no error: RFC 9110 section 7.8 lets us ignore it */
    if (is_1_0 || has_body || !tp_slice_equal(request->method, TP_SLICE("GET")) ||
        !tp_http_header_has(request, "connection", "upgrade"))
        return 400;
    if (count_headers(request, "sec-websocket-version") != 1 ||
        !tp_slice_equal(tp_http_header(request, "sec-websocket-version"), TP_SLICE("13")))
        return 426;
    request->key = tp_http_header(request, "sec-websocket-key");
    if (count_headers(request, "sec-websocket-key") != 1 || !tp_websocket_key_valid(request->key))
        return 400;
    request->protocols = tp_http_header(request, "sec-websocket-protocol");
    request->upgrade = true;
    return 0;
}

/* The head is whole: [request_start, head.size). Returns 0 or the status to refuse with. */
static unsigned read_head(struct tp_http_parser *parser)
{
    const uint8_t *const start = parser->head.data + parser->request_start;
    const uint8_t *const end = parser->head.data + parser->head.size - 2; /* the empty line */
    struct tp_http_request *request = &parser->request;
    bool is_1_0 = false;

    *request = (struct tp_http_request){0};
    const uint8_t *line_end = memchr(start, '\n', (size_t)(end - start));
    const struct tp_slice line = tp_slice_of(start, (size_t)(line_end - start) - 1);
    unsigned refusal = read_request_line(request, line, &is_1_0);
    if (refusal != 0)
        return refusal;
    if (!split_target(request))
        return 400;
    request->headers = tp_slice_of(line_end + 1, (size_t)(end - line_end) - 1);
    request->head = tp_slice_equal(request->method, TP_SLICE("HEAD"));
    for (const uint8_t *at = line_end + 1; at < end; at = line_end + 1) {
        line_end = memchr(at, '\n', (size_t)(end - at));
        if (!header_line_allowed(tp_slice_of(at, (size_t)(line_end - at) - 1)))
            return 400;
    }

    const unsigned host_count = count_headers(request, "host");
    if (host_count > 1 || (host_count == 0 && !is_1_0)) /* RFC 9112 section 3.2 */
        return 400;
    const unsigned length_count = count_headers(request, "content-length");
    const unsigned coding_count = count_headers(request, "transfer-encoding");
    if (length_count + coding_count > 1) /* section 6.3: the classical smuggling */
        return 400;
    if (length_count == 1 && !all_digits(tp_http_header(request, "content-length")))
        return 400;
    if (coding_count == 1) {
        if (is_1_0)
            return 400;
        if (!is_word(tp_http_header(request, "transfer-encoding"), "chunked"))
            return 501;
    }
    const struct tp_slice expect = tp_http_header(request, "expect");
    if (expect.data != NULL && !is_1_0) {
        if (!is_word(expect, "100-continue"))
            return 417;
        parser->wants_continue = true;
    }

    /* The other opinion. */
    llhttp_init(&parser->framing, HTTP_REQUEST, settings());
    parser->framing.data = parser;
    parser->phase = PHASE_BODY;
    const llhttp_errno_t result = llhttp_execute(&parser->framing, (const char *)start,
                                                 parser->head.size - parser->request_start);
    if (result != HPE_OK && result != HPE_PAUSED)
        return parser->refusal != 0 ? parser->refusal : 400;
    if (parser->phase == PHASE_BODY && length_count == 1 &&
        parser->framing.content_length > parser->body_size_max)
        return 413;
    request->keep_alive = llhttp_should_keep_alive(&parser->framing) != 0;
    return read_handshake(request, is_1_0, parser->phase == PHASE_BODY);
}

/* ---- together ---------------------------------------------------------------------------------
 */

struct tp_http_parser *tp_http_parser_create(uint32_t header_size_max, uint32_t body_size_max)
{
    struct tp_http_parser *parser = calloc(1, sizeof *parser);

    TP_ASSERT(parser != NULL);
    parser->body_size_max = body_size_max;
    parser->head = tp_buffer_growing(header_size_max);
    parser->body = tp_buffer_growing(body_size_max);
    return parser;
}

void tp_http_parser_destroy(struct tp_http_parser *parser)
{
    if (parser == NULL)
        return;
    tp_buffer_finish(&parser->head);
    tp_buffer_finish(&parser->body);
    free(parser);
}

static enum tp_status refuse(struct tp_http_parser *parser, unsigned status)
{
    parser->phase = PHASE_BAD;
    parser->refusal = status;
    return TP_MALFORMED;
}

/* Takes bytes into `head` up to and including the empty line. TP_OK: the head is whole. */
static enum tp_status feed_head(struct tp_http_parser *parser, struct tp_slice bytes, size_t *taken)
{
    struct tp_buffer *head = &parser->head;

    while (*taken < bytes.size) {
        const uint8_t *const at = bytes.data + *taken;
        const uint8_t *const end = memchr(at, '\n', bytes.size - *taken);
        const size_t offered = end == NULL ? bytes.size - *taken : (size_t)(end - at) + 1;
        const size_t size = tp_min(offered, head->size_max - head->size);
        tp_buffer_append(head, at, size);
        *taken += size;
        /* A lone CR must not end a line here and not there: it is allowed before LF only. */
        for (size_t i = parser->scanned_size; i + 1 < head->size; i++)
            if (head->data[i] == '\r' && head->data[i + 1] != '\n')
                return refuse(parser, 400);
        parser->scanned_size = head->size > 0 ? head->size - 1 : 0;
        if (size < offered)
            return refuse(parser, 431);
        if (end == NULL)
            return TP_MORE;
        if (head->size - parser->line_start < 2 || head->data[head->size - 2] != '\r')
            return refuse(parser, 400);
        const bool empty = head->size - parser->line_start == 2;
        if (empty && parser->line_start > parser->request_start)
            return TP_OK;
        parser->line_start = head->size;
        if (empty) /* before the request line: RFC 9112 section 2.2 says to ignore it */
            parser->request_start = head->size;
    }
    return TP_MORE;
}

static enum tp_status feed_body(struct tp_http_parser *parser, struct tp_slice bytes, size_t *taken)
{
    const char *const at = (const char *)bytes.data + *taken;
    const uint64_t raw_size_max = FRAMING_SIZE + FRAMING_FACTOR * (uint64_t)parser->body_size_max;
    const size_t size = tp_min(bytes.size - *taken, raw_size_max - parser->raw_body_size);
    const llhttp_errno_t result = llhttp_execute(&parser->framing, at, size);

    if (result == HPE_PAUSED) {
        *taken += (size_t)(llhttp_get_error_pos(&parser->framing) - at);
        return TP_OK;
    }
    if (result != HPE_OK)
        return refuse(parser, parser->refusal != 0 ? parser->refusal : 400);
    parser->raw_body_size += size;
    *taken += size;
    if (*taken < bytes.size)
        return refuse(parser, 400);
    return TP_MORE;
}

enum tp_status tp_http_parser_feed(struct tp_http_parser *parser, struct tp_slice bytes,
                                   size_t *taken)
{
    *taken = 0;
    if (parser->phase == PHASE_BAD)
        return TP_MALFORMED;
    if (parser->phase == PHASE_WHOLE) {
        parser->phase = PHASE_HEAD;
        parser->head.size = parser->body.size = 0;
        parser->scanned_size = parser->line_start = parser->request_start = 0;
        parser->raw_body_size = 0;
        parser->wants_continue = false;
    }
    if (parser->phase == PHASE_HEAD) {
        const enum tp_status status = feed_head(parser, bytes, taken);
        if (status != TP_OK)
            return status;
        const unsigned refusal = read_head(parser);
        if (refusal != 0)
            return refuse(parser, refusal);
    }
    if (parser->phase == PHASE_BODY) {
        if (*taken == bytes.size)
            return TP_MORE;
        const enum tp_status status = feed_body(parser, bytes, taken);
        if (status != TP_OK)
            return status;
    }
    parser->request.body = tp_buffer_slice(&parser->body);
    return TP_OK;
}

const struct tp_http_request *tp_http_parser_request(const struct tp_http_parser *parser)
{
    TP_ASSERT(parser->phase == PHASE_WHOLE);
    return &parser->request;
}

unsigned tp_http_parser_refusal(const struct tp_http_parser *parser)
{
    return parser->refusal;
}

bool tp_http_parser_continue(struct tp_http_parser *parser)
{
    const bool wants =
        parser->phase == PHASE_BODY && parser->wants_continue && parser->raw_body_size == 0;

    parser->wants_continue = false;
    return wants;
}

bool tp_http_parser_idle(const struct tp_http_parser *parser)
{
    return parser->phase == PHASE_WHOLE ||
           (parser->phase == PHASE_HEAD && parser->head.size == parser->request_start);
}

bool tp_http_parser_in_body(const struct tp_http_parser *parser)
{
    return parser->phase == PHASE_BODY;
}
