/* Intrusive doubly-linked lists: a ring of links through the objects themselves, so that putting in
 * and taking out need no memory and no search. A list owns nothing.
 *
 *     struct request { struct list link; … };
 *     struct list waiting;                       list_init(&waiting);
 *     list_push_back(&waiting, &request->link);  list_remove(&request->link);
 *     LIST_OWNER(list_first(&waiting), struct request, link)
 */
#ifndef PENSTOCK_BASE_LIST_H
#define PENSTOCK_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *previous;
};

/* The object around a link, which must not be NULL. */
#define LIST_OWNER(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* Walks a list; the link just visited may be taken out, others may not. */
#define LIST_EACH(link, head)                                                         \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head); \
         link = link##_next, link##_next = link->next)

/* An empty list, or a link that is in none. */
static inline void list_init(struct list *list)
{
    list->next = list;
    list->previous = list;
}

/* Of a link: whether it is in no list. Zeroed memory counts as such. */
static inline bool list_is_empty(const struct list *list)
{
    return list->next == list || list->next == NULL;
}

static inline void list_insert_before(struct list *place, struct list *link)
{
    link->next = place;
    link->previous = place->previous;
    place->previous->next = link;
    place->previous = link;
}

static inline void list_push_back(struct list *list, struct list *link)
{
    list_insert_before(list, link);
}

static inline void list_push_front(struct list *list, struct list *link)
{
    list_insert_before(list->next, link);
}

/* Harmless on a link that is in no list. */
static inline void list_remove(struct list *link)
{
    if (list_is_empty(link))
        return;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}

/* NULL when empty. */
static inline struct list *list_first(const struct list *list)
{
    return list_is_empty(list) ? NULL : list->next;
}

/* Takes the first out; NULL when empty. */
static inline struct list *list_pop_front(struct list *list)
{
    struct list *first = list_first(list);
    if (first)
        list_remove(first);
    return first;
}

/* Moves everything to the end of another list, in order. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

#endif
