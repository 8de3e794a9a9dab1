/* SPDX-License-Identifier: MIT */
/*
 * future.h - the one waiting primitive: a future settles once, waiters hear of it.
 *
 * A future knows *that* it settled, never *what* with: the value lies with its owner. Both
 * structs are embedded in the memory of whoever brings them; nothing here allocates.
 *
 * Laws:
 *  1. A future settles exactly once. Settling fires its waiters in the order in which they came.
 *  2. A waiter's fire() links, counts and queues; it never runs user code and never waits.
 *  3. References run from the waiter to what it waits for; the ring of waiters runs back. So
 *     who waits keeps the future alive, and the future needs no count of references.
 *  4. The kind is the first word, so a future can be told from foreign memory by looking at it.
 */
#ifndef LUN_FUTURE_H
#define LUN_FUTURE_H

#include "base.h"
#include "list.h"

typedef struct lun_loop lun_loop;
typedef struct lun_task lun_task;
typedef struct lun_future lun_future;
typedef struct lun_waiter lun_waiter;
typedef struct lun_walk lun_walk;

enum lun_state {
    LUN_PENDING,
    LUN_OK,
    LUN_ERROR,
    LUN_CANCELLED,
};

/* What a kind says when a cancellation asks it to settle on behalf of its last waiter. */
typedef enum lun_answer {
    LUN_NO,   /* it will not: the waiter withdraws alone */
    LUN_YES,  /* it has settled, or will: the waiter stays and hears of it */
    LUN_NEXT, /* the request goes on to walk->next or walk->joins */
} lun_answer;

typedef struct lun_kind {
    const char *name;
    /*
     * Asks the pending `f` to end. `by` is the task that waits for it, or NULL for a child of a
     * join. May settle `f`; must not run user code.
     */
    lun_answer (*cancel)(lun_future *f, lun_task *by, lun_walk *walk);
} lun_kind;

enum lun_future_flag {
    LUN_SEEN = 1, /* somebody took the outcome */
};

struct lun_future {
    const lun_kind *kind; /* static */
    lun_link waiters;     /* ring of lun_waiter.link, borrowed */
    lun_loop *loop;       /* borrowed */
    uint32_t order; /* the guest's own while pending; then the number of its completion */
    uint8_t state;  /* enum lun_state */
    uint8_t flags;  /* enum lun_future_flag */
    uint16_t guest; /* the guest's own */
};

typedef struct lun_waiter_kind {
    void (*fire)(lun_waiter *w); /* `w` is out of the ring, w->on still names the future */
    bool holds; /* it needs the outcome: a cancel of another waiter spares it */
} lun_waiter_kind;

struct lun_waiter {
    lun_link link;               /* in on->waiters, or alone */
    lun_future *on;              /* borrowed; NULL while idle */
    const lun_waiter_kind *kind; /* static */
};

/* A future that only its owner settles: cancelling settles it CANCELLED at once. */
extern const lun_kind lun_future_kind;

/* Its cancel, for kinds of a guest's own. */
lun_answer lun_future_cancel_kind(lun_future *f, lun_task *by, lun_walk *walk);

/* Makes `f` a pending future of `loop`. */
void lun_future_init(lun_future *f, lun_loop *loop, const lun_kind *kind);

/* Gives the pending `f` its outcome and fires its waiters. Queues only; returns soon. */
void lun_future_settle(lun_future *f, enum lun_state state);

/*
 * Asks `f` to end, whoever else waits for it; a task gets a request. False if it had settled
 * already. Iterative: a chain of any length takes no C stack.
 */
bool lun_future_cancel(lun_future *f);

static inline bool lun_future_done(const lun_future *f)
{
    return f->state != LUN_PENDING;
}

static inline void lun_waiter_init(lun_waiter *w, const lun_waiter_kind *kind)
{
    lun_list_init(&w->link);
    w->on = NULL;
    w->kind = kind;
}

/* `w`, idle, begins to wait for the pending `f`. */
static inline void lun_waiter_watch(lun_waiter *w, lun_future *f)
{
    w->on = f;
    lun_list_push(&f->waiters, &w->link);
}

/* `w` no longer waits; harmless if it did not. */
static inline void lun_waiter_drop(lun_waiter *w)
{
    lun_list_drop(&w->link);
    w->on = NULL;
}

/* True if a waiter other than `but` needs the outcome of `f`. */
bool lun_future_shared(const lun_future *f, const lun_waiter *but);

#endif
