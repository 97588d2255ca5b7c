/* An intrusive ring: a zeroed link is in no ring; a head that was opened points to itself when
 * empty. */
#ifndef PENSTOCK_UPSTREAM_LINK_H
#define PENSTOCK_UPSTREAM_LINK_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next;
    struct link *previous;
};

#define LINK_OWNER(link_, type_, member_) \
    ((type_ *)(void *)((char *)(link_)-offsetof(type_, member_)))

static inline void link_open(struct link *head)
{
    head->next = head;
    head->previous = head;
}

static inline bool link_is_empty(const struct link *head)
{
    return head->next == head;
}

static inline bool link_is_in(const struct link *link)
{
    return link->next != NULL;
}

/* At the end of the ring. */
static inline void link_add(struct link *head, struct link *link)
{
    link->next = head;
    link->previous = head->previous;
    head->previous->next = link;
    head->previous = link;
}

/* At the front of the ring. */
static inline void link_push(struct link *head, struct link *link)
{
    link_add(head->next, link);
}

static inline void link_remove(struct link *link)
{
    if (!link->next)
        return;
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link->next = NULL;
    link->previous = NULL;
}

/* Moves all members of from to the empty ring to. */
static inline void link_move_all(struct link *from, struct link *to)
{
    link_open(to);
    if (link_is_empty(from))
        return;
    *to = *from;
    to->next->previous = to;
    to->previous->next = to;
    link_open(from);
}

#endif
