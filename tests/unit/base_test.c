/* What base/ promises: pools, frames, buffers, digests. */
#include <criterion/criterion.h>
#include <malloc.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/frame.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/random.h"

Test(pool, gives_back_what_it_kept_without_asking_the_heap)
{
    struct tp_pool pool;
    tp_pool_init(&pool);
    void *first = tp_pool_take(&pool, 100);
    tp_pool_give(&pool, first, 100);

    void *second = tp_pool_take(&pool, 128);

    cr_assert_eq(first, second, "100 and 128 bytes are of one class");
    cr_assert_eq(pool.malloc_count, 1);
    tp_pool_give(&pool, second, 128);
    cr_assert_eq(pool.used_size, 0);
    tp_pool_finish(&pool);
}

Test(pool, asks_the_heap_once_for_many_small_pieces)
{
    enum { COUNT = 10000 };
    static uint8_t *pieces[COUNT];
    struct tp_pool pool;
    tp_pool_init(&pool);

    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = tp_pool_take(&pool, 64);
        memset(pieces[i], (int)i, 64);
        cr_assert_eq((uintptr_t)pieces[i] % 16, 0);
    }
    cr_assert_leq(pool.malloc_count, COUNT * 64 / (64 << 10) + 1);
    for (size_t i = 0; i < COUNT; i++)
        for (size_t at = 0; at < 64; at++)
            cr_assert_eq(pieces[i][at], (uint8_t)i, "no two share a byte");

    for (size_t i = 0; i < COUNT; i += 2)
        tp_pool_give(&pool, pieces[i], 64);
    const uint64_t before = pool.malloc_count;
    for (size_t i = 0; i < COUNT; i += 2)
        pieces[i] = tp_pool_take(&pool, 64);
    cr_assert_eq(pool.malloc_count, before);
    for (size_t i = 0; i < COUNT; i++)
        tp_pool_give(&pool, pieces[i], 64);
    cr_assert_eq(pool.used_size, 0);
    tp_pool_finish(&pool); /* the sanitizer looks for what was left */
}

Test(pool, gives_the_heap_back_what_it_does_not_keep)
{
    enum { COUNT = 10000, SIZE = 1000 };
    static void *pieces[COUNT];
    struct tp_pool pool;
    tp_pool_init(&pool);
    for (size_t i = 0; i < COUNT; i++)
        pieces[i] = tp_pool_take(&pool, SIZE);
    const size_t held = mallinfo2().uordblks + mallinfo2().hblkhd;

    for (size_t i = 0; i < COUNT; i++)
        tp_pool_give(&pool, pieces[i], SIZE);

    const size_t rest = mallinfo2().uordblks + mallinfo2().hblkhd;
    if (held > 0) /* else the heap is a sanitizer's */
        cr_assert_leq(rest + COUNT * SIZE, held + 2 * TP_POOL_KEPT_SIZE_MAX);
    tp_pool_finish(&pool);
}

Test(pool, has_a_class_at_least_as_large_as_every_size)
{
    for (size_t size = 0; size < 200000; size++) {
        cr_assert_geq(tp_pool_class_size(size), size);
        if (size > 32)
            cr_assert_leq(tp_pool_class_size(size), size + size / 2 + 1, "size %zu", size);
    }
}

Test(frame, goes_back_to_its_pool_with_the_last_reference)
{
    struct tp_pool pool;
    tp_pool_init(&pool);
    struct tp_frame *frame = tp_frame_create(&pool, TP_SLICE("hello"));
    tp_frame_ref(frame);

    tp_frame_unref(frame);
    cr_assert(tp_slice_equal(tp_frame_bytes(frame), TP_SLICE("hello")));
    tp_frame_unref(frame);

    cr_assert_eq(pool.used_size, 0);
    tp_pool_finish(&pool);
}

Test(buffer, refuses_past_its_limit_and_keeps_what_it_has)
{
    struct tp_buffer buffer = tp_buffer_growing(4);
    tp_buffer_append(&buffer, "abcd", 4);

    tp_buffer_append(&buffer, "e", 1);

    cr_assert(buffer.full);
    cr_assert(tp_slice_equal(tp_buffer_slice(&buffer), TP_SLICE("abcd")));
    tp_buffer_finish(&buffer);
}

Test(buffer, a_fixed_one_takes_exactly_its_room)
{
    uint8_t room[4];
    struct tp_buffer buffer = tp_buffer_fixed(room, sizeof room);

    tp_buffer_append(&buffer, "abcd", 4);
    cr_assert(!buffer.full);
    tp_buffer_append(&buffer, "e", 1);
    cr_assert(buffer.full);
}

Test(base64, takes_back_what_it_wrote_and_refuses_what_is_not_canonical)
{
    struct tp_buffer text = tp_buffer_growing(100), bytes = tp_buffer_growing(100);

    tp_base64_encode(TP_SLICE("ab\xff\x01"), &text);
    cr_assert(tp_slice_equal(tp_buffer_slice(&text), TP_SLICE("YWL/AQ==")));
    cr_assert_eq(tp_base64_decode(tp_buffer_slice(&text), &bytes), TP_OK);
    cr_assert(tp_slice_equal(tp_buffer_slice(&bytes), TP_SLICE("ab\xff\x01")));
    cr_assert_eq(tp_base64_decode(TP_SLICE("YWL/AQ"), &bytes), TP_MALFORMED);
    cr_assert_eq(tp_base64_decode(TP_SLICE("YW L/AQ="), &bytes), TP_MALFORMED);
    cr_assert_eq(tp_base64_decode(TP_SLICE("===="), &bytes), TP_MALFORMED);
    tp_buffer_finish(&text);
    tp_buffer_finish(&bytes);
}

Test(uuid, is_of_version_four)
{
    char text[TP_UUID_SIZE];
    tp_uuid_format((const uint8_t[16]){0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14},
                   text);
    cr_assert(memcmp(text, "ff000102-0304-4506-8708-090a0b0c0d0e", TP_UUID_SIZE) == 0);
}
