/* What Teleportal's HTTP transport parses besides frames: `documents` of GET /sse, and the array of
 * frames that a POST carries. Names found lie in the memory given, are distinct and not empty; an
 * array that is accepted reads frame by frame to its end and is written back byte for byte.
 *
 * An input is a flag byte, bit 0: a query (0) or an array (1); the rest of it are limits. */
#include "fuzz.h"
#include "wire/sse.h"
#include "wire/teleportal.h"

#define DOCUMENT_COUNT_MAX 64u

static void try_query(struct tp_slice query, size_t count_max)
{
    struct tp_sse_document documents[DOCUMENT_COUNT_MAX];
    uint8_t *const memory = malloc(query.size + 1);
    size_t count = SIZE_MAX;

    const enum tp_status status = tp_sse_documents(query, memory, documents, count_max, &count);
    TP_ASSERT(status == TP_OK || status == TP_MALFORMED || status == TP_FULL);
    TP_ASSERT(count <= count_max);
    for (size_t i = 0; i < count; i++) {
        const struct tp_slice name = documents[i].name;
        TP_ASSERT(name.size > 0 && name.data >= memory);
        TP_ASSERT(name.data + name.size <= memory + query.size);
        for (size_t j = 0; j < i; j++)
            TP_ASSERT(!tp_slice_equal(name, documents[j].name));
    }
    free(memory);
}

/* An array's lengths need not be in their shortest form: what is written is not longer, and reads
 * as the same frames. */
static void try_array(struct tp_slice array, size_t count_max)
{
    struct tp_buffer written = tp_buffer_growing(2 * array.size + 64);
    struct tp_slice rest = array, frame, again;
    size_t count = 0;
    uint64_t id;

    const enum tp_status status = tp_teleportal_array_check(array, count_max);
    TP_ASSERT(status == TP_OK || status == TP_MALFORMED || status == TP_FULL);
    while (tp_teleportal_array_next(&rest, &frame) == TP_OK) {
        (void)tp_teleportal_is_ack(frame, &id);
        tp_teleportal_array_write(frame, &written);
        count++;
    }
    if (status == TP_OK) {
        TP_ASSERT(rest.size == 0 && count <= count_max && written.size <= array.size);
        rest = tp_buffer_slice(&written);
        struct tp_slice original = array;
        while (tp_teleportal_array_next(&original, &frame) == TP_OK) {
            TP_ASSERT(tp_teleportal_array_next(&rest, &again) == TP_OK);
            TP_ASSERT(tp_slice_equal(frame, again));
        }
    }
    tp_buffer_finish(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    const uint8_t flags = tp_read_u8(&in);
    const size_t count_max = tp_min((size_t)flags >> 1, DOCUMENT_COUNT_MAX);

    if (flags & 1)
        try_array(fuzz_rest(&in), count_max);
    else
        try_query(fuzz_rest(&in), count_max);
    return 0;
}
