/* HTTP requests. The first byte says how the rest is cut: cut or whole, the same requests are read
 * and the same is refused. */
#include <stdlib.h>

#include "base/random.h"
#include "fuzz/fuzz.h"
#include "wire/http.h"

#define HEADER_SIZE_MAX 512u
#define BODY_SIZE_MAX 64u

static void log_slice(struct tp_buffer *log, struct tp_slice slice)
{
    tp_buffer_append(log, &slice.size, sizeof slice.size);
    if (slice.size > 0)
        tp_buffer_append(log, slice.data, slice.size);
}

/* Returns false when the parser refused. */
static bool feed(struct tp_http_parser *parser, struct tp_slice bytes, struct tp_buffer *log)
{
    while (bytes.size > 0) {
        size_t taken = 0;
        const enum tp_status status = tp_http_parser_feed(parser, bytes, &taken);
        TP_ASSERT(taken <= bytes.size);
        if (status == TP_MALFORMED) {
            const unsigned refusal = tp_http_parser_refusal(parser);
            TP_ASSERT(refusal >= 400);
            tp_buffer_append(log, &refusal, sizeof refusal);
            return false;
        }
        TP_ASSERT(status == TP_OK || taken == bytes.size);
        bytes = tp_slice_of(bytes.data + taken, bytes.size - taken);
        if (status != TP_OK)
            continue;

        const struct tp_http_request *request = tp_http_parser_request(parser);
        TP_ASSERT(request->body.size <= BODY_SIZE_MAX);
        TP_ASSERT(request->headers.size <= HEADER_SIZE_MAX);
        TP_ASSERT(request->key.size == (request->upgrade ? 24 : 0));
        log_slice(log, request->method);
        log_slice(log, request->path);
        log_slice(log, request->query);
        log_slice(log, request->headers);
        log_slice(log, request->body);
        tp_buffer_append(log, &request->keep_alive, 1);
        tp_buffer_append(log, &request->upgrade, 1);

        uint8_t decoded[HEADER_SIZE_MAX];
        size_t size;
        if (tp_http_percent_decode(request->path, decoded, &size) == TP_OK)
            TP_ASSERT(size <= request->path.size);
        (void)tp_http_query(request->query, "a");
    }
    return true;
}

static struct tp_buffer read_in_parts(struct tp_slice bytes, struct tp_random *random)
{
    struct tp_http_parser *parser = tp_http_parser_create(HEADER_SIZE_MAX, BODY_SIZE_MAX);
    struct tp_buffer log = fuzz_room();

    while (bytes.size > 0) {
        const uint64_t wanted = random == NULL ? bytes.size : 1 + tp_random_below(random, 40);
        const size_t size = tp_min(bytes.size, wanted);
        uint8_t *part = malloc(size); /* of its own, so that reading behind it is seen */
        memcpy(part, bytes.data, size);
        const bool goes_on = feed(parser, tp_slice_of(part, size), &log);
        free(part);
        if (!goes_on)
            break;
        bytes = tp_slice_of(bytes.data + size, bytes.size - size);
    }
    tp_http_parser_destroy(parser);
    return log;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct tp_random random = {data[0]};
    const struct tp_slice bytes = tp_slice_of(data + 1, size - 1);

    struct tp_buffer whole = read_in_parts(bytes, NULL);
    struct tp_buffer parts = read_in_parts(bytes, &random);
    fuzz_claim_equal(&whole, &parts);
    tp_buffer_finish(&whole);
    tp_buffer_finish(&parts);
    return 0;
}
