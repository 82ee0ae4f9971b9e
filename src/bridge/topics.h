/* bridge/topics.h - what a port has subscribed to: topics, counted. */
#pragma once

#include "base/hash.h"
#include "base/list.h"
#ifndef HASH_FUNCTION
#define HASH_FUNCTION(key, size, hash) (hash) = (unsigned)tp_hash64(tp_slice_of((key), (size)))
#endif
#include <uthash.h>

struct tp_topic {
    UT_hash_handle hh;
    uint32_t uses;
    bool lost; /* a publication on it could not go out */
    /* for bridges whose broker confirms no subscription by name */
    uint64_t number;        /* what the broker knows it by */
    uint64_t after;         /* linked when the broker has answered that many times */
    struct tp_link pending; /* until then */
    size_t size;
    uint8_t text[];
};

struct tp_topics {
    struct tp_topic *all; /* uthash, by text */
    uint32_t count;
    uint32_t lost_count; /* topics with `lost` */
};

/* One use more; `*first` says whether it is the only one. */
struct tp_topic *tp_topics_add(struct tp_topics *topics, struct tp_slice text, bool *first);
struct tp_topic *tp_topics_find(const struct tp_topics *topics, struct tp_slice text);
/* One use less of a topic that is there; true if none is left and it is gone. */
bool tp_topics_drop(struct tp_topics *topics, struct tp_topic *topic);
void tp_topics_note_lost(struct tp_topics *topics, struct tp_slice text);
void tp_topics_finish(struct tp_topics *topics);

static inline struct tp_slice tp_topic_text(const struct tp_topic *topic)
{
    return (struct tp_slice){topic->text, topic->size};
}
