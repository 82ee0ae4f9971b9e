/* base/list.h - circular lists whose links live inside the listed objects.
 *
 * Joining allocates nothing, leaving is O(1), and leaving twice is harmless. */
#pragma once

#include "base/base.h"

struct tp_link {
    struct tp_link *next, *prev; /* never NULL: a link that is in no list points to itself */
};

static inline void tp_link_init(struct tp_link *link)
{
    link->next = link->prev = link;
}

static inline bool tp_link_alone(const struct tp_link *link)
{
    return link->next == link;
}

/* Puts `link`, which is in no list, right before `at`: at the end, when `at` is the list's head. */
static inline void tp_link_insert(struct tp_link *at, struct tp_link *link)
{
    link->prev = at->prev;
    link->next = at;
    at->prev->next = link;
    at->prev = link;
}

static inline void tp_link_remove(struct tp_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = link;
}

/* Moves everything on `from` to the end of `to`. */
static inline void tp_list_splice(struct tp_link *to, struct tp_link *from)
{
    if (tp_link_alone(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    tp_link_init(from);
}

/* Takes the first link out; NULL if there is none. */
static inline struct tp_link *tp_list_pop(struct tp_link *head)
{
    struct tp_link *link = head->next;

    if (link == head)
        return NULL;
    tp_link_remove(link);
    return link;
}

#define TP_LIST_EACH(link, head) \
    for (struct tp_link *link = (head)->next; link != (head); link = link->next)

/* As TP_LIST_EACH; the body may take `link` out of the list. */
#define TP_LIST_EACH_SAFE(link, head)                                                    \
    for (struct tp_link *link = (head)->next, *link##_next = link->next; link != (head); \
         link = link##_next, link##_next = link->next)
