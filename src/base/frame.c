#include "base/frame.h"

struct tp_frame *tp_frame_alloc(struct tp_pool *pool, size_t size)
{
    TP_ASSERT(size <= UINT32_MAX - TP_FRAME_HEAD_SIZE);

    struct tp_frame *frame =
        tp_pool_take(pool, sizeof(struct tp_frame) + TP_FRAME_HEAD_SIZE + size);
    frame->pool = pool;
    frame->refs = 1;
    frame->start = TP_FRAME_HEAD_SIZE;
    frame->size = frame->room = TP_FRAME_HEAD_SIZE + (uint32_t)size;
    return frame;
}

struct tp_frame *tp_frame_create(struct tp_pool *pool, struct tp_slice bytes)
{
    struct tp_frame *frame = tp_frame_alloc(pool, bytes.size);

    if (bytes.size > 0)
        memcpy(frame->data + TP_FRAME_HEAD_SIZE, bytes.data, bytes.size);
    return frame;
}

void tp_frame_release(struct tp_frame *frame)
{
    TP_ASSERT(frame->refs == 0);
    tp_pool_give(frame->pool, frame, sizeof(struct tp_frame) + frame->room);
}
