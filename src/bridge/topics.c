#include "bridge/topics.h"

#include <stdlib.h>

struct tp_topic *tp_topics_find(const struct tp_topics *topics, struct tp_slice text)
{
    struct tp_topic *topic;

    HASH_FIND(hh, topics->all, text.data, text.size, topic);
    return topic;
}

struct tp_topic *tp_topics_add(struct tp_topics *topics, struct tp_slice text, bool *first)
{
    struct tp_topic *topic = tp_topics_find(topics, text);

    if (topic == NULL) {
        topic = calloc(1, sizeof *topic + text.size);
        TP_ASSERT(topic != NULL && text.size > 0);
        topic->size = text.size;
        tp_link_init(&topic->pending);
        memcpy(topic->text, text.data, text.size);
        HASH_ADD_KEYPTR(hh, topics->all, topic->text, topic->size, topic);
        topics->count++;
    }
    *first = topic->uses++ == 0;
    return topic;
}

static void forget(struct tp_topics *topics, struct tp_topic *topic)
{
    topics->lost_count -= topic->lost;
    topics->count--;
    tp_link_remove(&topic->pending);
    HASH_DEL(topics->all, topic);
    free(topic);
}

bool tp_topics_drop(struct tp_topics *topics, struct tp_topic *topic)
{
    TP_ASSERT(topic->uses > 0);
    if (--topic->uses > 0)
        return false;
    forget(topics, topic);
    return true;
}

void tp_topics_note_lost(struct tp_topics *topics, struct tp_slice text)
{
    struct tp_topic *topic = tp_topics_find(topics, text);

    if (topic == NULL || topic->lost)
        return;
    topic->lost = true;
    topics->lost_count++;
}

void tp_topics_finish(struct tp_topics *topics)
{
    struct tp_topic *topic = topics->all;

    HASH_CLEAR(hh, topics->all); /* the topics and their order stay */
    while (topic != NULL) {
        struct tp_topic *next = topic->hh.next;
        free(topic);
        topic = next;
    }
    *topics = (struct tp_topics){0};
}
