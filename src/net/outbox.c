#include "outbox.h"

#define FIRST_CAPACITY 4u

static struct tp_outbox_entry *nth(const struct tp_outbox *box, uint32_t n)
{
    return &box->entries[(box->head + n) & (box->capacity - 1)];
}

static size_t size_of(const struct tp_outbox_entry *entry)
{
    return tp_frame_bytes(entry->frame).size;
}

static void check(const struct tp_outbox *box)
{
    TP_ASSERT_HOT(box->count <= box->capacity);
    TP_ASSERT_HOT(box->offered_count <= box->count);
    TP_ASSERT_HOT((box->count == 0) == (box->unsent_size == 0));
    TP_ASSERT_HOT(box->count == 0 || box->head_sent < size_of(nth(box, 0)));
}

static void release(struct tp_outbox *box, struct tp_pool *pool)
{
    tp_pool_give(pool, box->entries, box->capacity * sizeof *box->entries);
    *box = (struct tp_outbox){0};
}

static void grow(struct tp_outbox *box, struct tp_pool *pool)
{
    const uint32_t capacity = box->capacity == 0 ? FIRST_CAPACITY : box->capacity * 2;
    struct tp_outbox_entry *entries = tp_pool_take(pool, capacity * sizeof *entries);

    for (uint32_t n = 0; n < box->count; n++)
        entries[n] = *nth(box, n);
    tp_pool_give(pool, box->entries, box->capacity * sizeof *entries);
    box->entries = entries;
    box->capacity = capacity;
    box->head = 0;
}

void tp_outbox_push(struct tp_outbox *box, struct tp_pool *pool, struct tp_frame *frame,
                    uint64_t document, uint32_t class, uint32_t mark)
{
    TP_ASSERT(tp_frame_bytes(frame).size > 0); /* an empty frame could never be consumed */

    if (box->count == box->capacity)
        grow(box, pool);
    *nth(box, box->count++) = (struct tp_outbox_entry){
        .frame = tp_frame_ref(frame), .document = document, .class = class, .mark = mark};
    box->unsent_size += tp_frame_bytes(frame).size;
    check(box);
}

size_t tp_outbox_gather(struct tp_outbox *box, struct iovec *iov, size_t iov_count_max)
{
    const uint32_t count = (uint32_t)tp_min(box->count, iov_count_max);
    size_t skip = box->head_sent;

    TP_ASSERT(box->offered_count == 0);
    for (uint32_t n = 0; n < count; n++) {
        const struct tp_slice bytes = tp_frame_bytes(nth(box, n)->frame);
        iov[n] = (struct iovec){(void *)(bytes.data + skip), bytes.size - skip};
        skip = 0; /* only the oldest frame can be half gone */
    }
    box->offered_count = count;
    return count;
}

void tp_outbox_consume(struct tp_outbox *box, struct tp_pool *pool, size_t sent)
{
    TP_ASSERT(sent <= box->unsent_size);

    box->offered_count = 0;
    box->unsent_size -= sent;
    box->head_sent += sent;
    while (box->count > 0 && box->head_sent >= size_of(nth(box, 0))) {
        struct tp_frame *frame = nth(box, 0)->frame;
        box->head_sent -= tp_frame_bytes(frame).size;
        tp_frame_unref(frame);
        box->head++;
        box->count--;
    }
    check(box);
    if (box->count == 0)
        release(box, pool);
}

uint32_t tp_outbox_drop(struct tp_outbox *box, struct tp_pool *pool, uint64_t document,
                        uint32_t class, uint32_t *mark)
{
    /* What was half sent must go on, or the other side's framing breaks. */
    const uint32_t fixed = (uint32_t)tp_max(box->offered_count, box->head_sent > 0 ? 1 : 0);
    uint32_t kept = fixed;

    for (uint32_t n = fixed; n < box->count; n++) {
        const struct tp_outbox_entry entry = *nth(box, n);
        if (entry.document == document && entry.class == class) {
            box->unsent_size -= size_of(&entry);
            *mark = tp_min(*mark, entry.mark);
            tp_frame_unref(entry.frame);
        } else {
            *nth(box, kept++) = entry;
        }
    }
    const uint32_t dropped = box->count > kept ? box->count - kept : 0;
    box->count -= dropped;
    check(box);
    if (box->count == 0 && box->capacity > 0)
        release(box, pool);
    return dropped;
}

void tp_outbox_finish(struct tp_outbox *box, struct tp_pool *pool)
{
    for (uint32_t n = 0; n < box->count; n++)
        tp_frame_unref(nth(box, n)->frame);
    release(box, pool);
}
