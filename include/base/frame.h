/* base/frame.h - one encoded message, shared by everyone it is sent to.
 *
 *     data: [ head room ][ bytes ......... ]
 *                        ^ start            ^ size
 *
 * A frame is filled once and never changes again, so a broadcast to a thousand peers is one
 * frame and a thousand references. References are plain integers: a frame lives and dies on
 * the core that made it, and another core gets a copy, by letter.
 *
 * The head room lets one copy of a received message serve everybody: the transport's own header
 * (WebSocket: at most TP_FRAME_HEAD_SIZE bytes) is written right before the message. */
#pragma once

#include "base/base.h"
#include "base/pool.h"

#define TP_FRAME_HEAD_SIZE 16u

struct tp_frame {
    struct tp_pool *pool;
    uint32_t refs;
    uint32_t start; /* where the bytes to send begin */
    uint32_t size;  /* where they end */
    uint32_t room;  /* bytes that data[] has: at least `size` */
    uint8_t data[];
};

/* A frame with one reference, which the caller owns: room for the head and `size` bytes behind it
 * (at most UINT32_MAX - TP_FRAME_HEAD_SIZE), start = TP_FRAME_HEAD_SIZE, size set. Who fills less
 * than it asked for lowers `size`. */
struct tp_frame *tp_frame_alloc(struct tp_pool *pool, size_t size);

/* As tp_frame_alloc, with a copy of `bytes`. */
struct tp_frame *tp_frame_create(struct tp_pool *pool, struct tp_slice bytes);

void tp_frame_release(struct tp_frame *frame); /* for tp_frame_unref alone */

static inline struct tp_frame *tp_frame_ref(struct tp_frame *frame)
{
    frame->refs++;
    return frame;
}

static inline void tp_frame_unref(struct tp_frame *frame) /* NULL is allowed and does nothing */
{
    if (frame != NULL && --frame->refs == 0)
        tp_frame_release(frame);
}

/* The bytes to send. */
static inline struct tp_slice tp_frame_bytes(const struct tp_frame *frame)
{
    return (struct tp_slice){frame->data + frame->start, frame->size - frame->start};
}

/* The message itself, without the transport's header. */
static inline struct tp_slice tp_frame_message(const struct tp_frame *frame)
{
    return (struct tp_slice){frame->data + TP_FRAME_HEAD_SIZE, frame->size - TP_FRAME_HEAD_SIZE};
}
