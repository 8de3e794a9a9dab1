/* SPDX-License-Identifier: MIT */
/*
 * list.h - the intrusive ring that every queue of waiters is made of.
 *
 * A head and its members are the same struct. A link that is in no ring points at itself, so
 * dropping is unconditional, never fails and may be done twice. The ring owns nothing: the
 * memory of a link belongs to the struct around it.
 */
#ifndef LUN_LIST_H
#define LUN_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lun_link lun_link;
struct lun_link {
    lun_link *next; /* borrowed; itself while alone */
    lun_link *prev; /* borrowed; itself while alone */
};

/* The struct of type `type` whose member `member` lies at `ptr`. */
#define lun_container(ptr, type, member)                                                   \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Makes `l` an empty ring, or a link that is in none. */
static inline void lun_list_init(lun_link *l)
{
    l->next = l->prev = l;
}

/* True if the ring is empty, or the link in none. */
static inline bool lun_list_alone(const lun_link *l)
{
    return l->next == l;
}

/* Puts `l`, which is in no ring, behind all members of `head`. */
static inline void lun_list_push(lun_link *head, lun_link *l)
{
    l->next = head;
    l->prev = head->prev;
    head->prev->next = l;
    head->prev = l;
}

/* Puts `l`, which is in no ring, before all members of `head`. */
static inline void lun_list_push_front(lun_link *head, lun_link *l)
{
    lun_list_push(head->next, l);
}

/* Takes `l` out of its ring; harmless if it is in none. */
static inline void lun_list_drop(lun_link *l)
{
    l->next->prev = l->prev;
    l->prev->next = l->next;
    lun_list_init(l);
}

/* Moves all members of `from` behind those of `to`. */
static inline void lun_list_splice(lun_link *to, lun_link *from)
{
    if (lun_list_alone(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    lun_list_init(from);
}

/* Walks the ring; the body must not drop the current member. */
#define lun_list_each(l, head) for (lun_link *l = (head)->next; l != (head); l = l->next)

#endif
