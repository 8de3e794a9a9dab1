/* SPDX-License-Identifier: MIT */
/*
 * queue.h - what queue.c and pqueue.c share: the struct of a queue and where its items lie.
 *
 * The entries of a small queue are user values of the queue itself, which costs least;
 * those of a larger one lie in a table. Either way the slots are all there before they are
 * used: writing one never allocates, so putting and taking cannot fail half way, and nil is
 * an item.
 */
#ifndef LUNL_QUEUE_H
#define LUNL_QUEUE_H

#include "lunl.h"

typedef struct lunl_queue lunl_queue;

/*
 * User values: 1 the table of items, or nil; 2 the comparator of a PriorityQueue, or nil.
 * Of the other queues, 2 to `small` + 1 are the entries while there is no table.
 */
struct lunl_queue {
    const lunl_type *type; /* first; says which of the three it is */
    lunl_state *S;         /* borrowed; nearer than the upvalue */
    uint32_t n;            /* items */
    uint32_t most;         /* items that fit; UINT32_MAX: any number */
    uint32_t room;         /* entries that there are, a power of two or 0 */
    uint32_t small;        /* entries without a table: there is one if room > small */
    uint32_t head;         /* FIFO: the oldest item's entry, from 0 */
    uint32_t changes;      /* a heap: counts them, to see what a comparator did */
    bool ordered, shut;
    uint64_t unfinished;       /* items put and not reported by task_done */
    uint64_t number;           /* a heap: of the last item put */
    lun_park getters, putters; /* at the front those that were woken in vain */
    lun_park joiners;
};

/* Wakes as many as can go on now. */
void lunl_queue_wake_getters(lunl_queue *q);
void lunl_queue_wake_putters(lunl_queue *q);

/* Makes room for one more item of the queue at index 1. May collect. */
void lunl_queue_reserve(lua_State *L, lunl_queue *q);

/*
 * A PriorityQueue's items, a stable binary heap. The comparator runs before anything is
 * changed; what it throws leaves the heap as it was. Both may run Lua and so change the
 * queue.
 */
void lunl_heap_push(lua_State *L, lunl_queue *q); /* the item at index 2 */
bool lunl_heap_pop(lua_State *L,
                   lunl_queue *q); /* onto the stack; false: there was none left */

#endif
