/* SPDX-License-Identifier: MIT */
/*
 * join.h - the one combinator: counts how its children end and settles when enough have.
 *
 * gather, wait, race, map, groups and shields are rules of one join. A join is awaited by at
 * most one task. It never cancels by itself, except that a request to the task that awaits an
 * owning join goes on to all children; what follows from a failure is decided by the task when
 * it runs, so that no policy lies in a callback.
 *
 * Memory: the join and its arms are one block, brought by the guest (lun_join_size). The guest
 * keeps the children alive as long as the arms are armed, and calls lun_join_fini before the
 * memory goes.
 */
#ifndef LUN_JOIN_H
#define LUN_JOIN_H

#include "task.h"

enum lun_join_rule {
    LUN_STOP_ERROR = 1,     /* settle when a child fails */
    LUN_STOP_CANCELLED = 2, /* settle when a child is cancelled */
    LUN_JOIN_OWNS = 4,      /* a cancel of the awaiting task asks and awaits all children */
    LUN_STOP_ASKED = 8,     /* ... or, with this, for the first that stops it */
    LUN_JOIN_WATCHES = 16,  /* a cancel of another waiter need not spare a child for it */
};

typedef struct lun_arm {
    lun_waiter w;
    lun_join *join; /* the block around it */
} lun_arm;

struct lun_join {
    lun_future done;   /* settles OK when the rule is met; lun_join_rearm: pending again */
    uint32_t n;        /* arms in use */
    uint32_t room;     /* arms there are */
    uint32_t left;     /* children still pending */
    uint32_t need;     /* settle when so many have ended; UINT32_MAX: when all have */
    uint32_t ended;    /* children that have ended since the last rearm */
    uint32_t cursor;   /* of the walk that is passing */
    uint8_t rule;      /* enum lun_join_rule */
    bool asked;        /* a cancel has passed through: settle when all have ended */
    bool stopped;      /* a child ended in a way that the rule stops at */
    bool walking;      /* in a walk's list */
    bool restart;      /* the walk has not looked at a child yet */
    lun_future *bad;   /* the child that stopped it, borrowed */
    lun_link finished; /* ring of lun_arm.w.link in order of completion */
    lun_join *walk;    /* the next join of that walk, borrowed */
    /* The next child that a walk has to visit, or NULL; at `restart`, which it clears, the first. */
    lun_future *(*child)(lun_join *j);
    lun_arm arm[];
};

extern const lun_kind lun_join_kind;

static inline bool lun_is_join(const lun_future *f)
{
    return f->kind == &lun_join_kind;
}

static inline size_t lun_join_size(uint32_t room)
{
    return sizeof(lun_join) + (size_t)room * sizeof(lun_arm);
}

/* Makes a join without children in memory of lun_join_size(room) bytes. */
void lun_join_init(lun_join *j, lun_loop *loop, uint32_t room, uint32_t need, uint8_t rule);

/*
 * The next arm waits for `f`; one that has settled counts at once, so the join may settle before
 * the last is added: who adds asks lun_join_met afterwards, and rearms if that says no. A pending
 * future that another arm of `j` watches already is a duplicate if nobody else began to watch it
 * in between: it counts, but is asked only once. The arm's index.
 */
uint32_t lun_join_add(lun_join *j, lun_future *f);

/* True if arm `i` was recognised as a duplicate. */
bool lun_arm_duplicate(const lun_join *j, uint32_t i);

/* A child that is no arm of the block has ended (groups count so); may settle `j`. */
void lun_join_count(lun_join *j, lun_future *child);

/* True if what has ended meets the rule (also before anybody waits). */
bool lun_join_met(const lun_join *j);

/* Makes a settled join pending again, with a new need and rule, for the next phase. */
void lun_join_rearm(lun_join *j, uint32_t need, uint8_t rule);

/* Puts `j` into a walk, unless it is in one. For the core's own files. */
void lun_join_visit(lun_join *j, lun_walk *walk);

/* Asks every child that is still pending. */
void lun_join_cancel(lun_join *j);

/* Drops all arms: the children go on unwatched. */
void lun_join_fini(lun_join *j);

#endif
