/* What anybody may send to the group. No datagram reads past its end, whatever it claims; what is
 * sound opens with the right checksum only; messages and spans lie inside the body; and a window
 * keeps its order under any numbers.
 *
 * An input is datagrams, each behind its length. */
#include "bridge/window.h"
#include "fuzz.h"

static void look_inside(const struct tp_datagram *datagram, struct tp_window *window)
{
    const uint8_t *const end = datagram->body.data + datagram->body.size;
    struct tp_slice rest = datagram->body, topic, payload;
    struct tp_span span, spans[8];

    while (tp_datagram_message(&rest, &topic, &payload)) {
        TP_ASSERT(topic.data >= datagram->body.data && topic.data + topic.size == payload.data);
        TP_ASSERT(payload.data + payload.size <= end);
    }
    rest = datagram->body;
    while (tp_datagram_span(&rest, &span))
        tp_window_give_up(window, span);
    if (datagram->kind == TP_DATAGRAM_DATA) {
        const bool is_new = tp_window_take(window, datagram->sequence);
        TP_ASSERT(!tp_window_take(window, datagram->sequence) || !is_new);
    } else {
        tp_window_expect(window, datagram->sequence);
    }
    TP_ASSERT(window->base <= window->top && window->top - window->base <= TP_WINDOW_SIZE);
    const uint32_t count = tp_window_missing(window, spans, 8);
    for (uint32_t i = 0; i < count; i++) {
        TP_ASSERT(spans[i].first >= window->base && spans[i].count > 0);
        TP_ASSERT(spans[i].first + spans[i].count <= window->top);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tp_reader in = tp_reader_of(tp_slice_of(data, size));
    static struct tp_window window;
    uint8_t written[TP_DATAGRAM_SIZE_MAX + TP_SEAL_TAG_SIZE];
    struct tp_datagram datagram, again;

    window = (struct tp_window){0};
    while (!in.bad && tp_reader_left(&in) > 0) {
        const struct tp_slice bytes = tp_read_bytes(&in);
        uint8_t *const copy = malloc(bytes.size + 1);
        memcpy(copy, bytes.data, bytes.size);
        const struct tp_slice own = tp_slice_of(copy, bytes.size);
        if (tp_datagram_peek(own, true, &datagram) == TP_OK) {
            const uint8_t key[TP_SEAL_KEY_SIZE] = {1};
            TP_ASSERT(tp_datagram_open(&datagram, own, key) != TP_OK);
        }
        if (tp_datagram_peek(own, false, &datagram) == TP_OK) {
            /* With its checksum put right it is as good as any. */
            tp_datagram_write(&datagram, NULL, written);
            const struct tp_slice all =
                tp_slice_of(written, tp_datagram_size(datagram.body.size, false));
            TP_ASSERT(tp_datagram_peek(all, false, &again) == TP_OK);
            TP_ASSERT(tp_datagram_open(&again, all, NULL) == TP_OK);
            look_inside(&again, &window);
        }
        free(copy);
    }
    return 0;
}
