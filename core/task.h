/* SPDX-License-Identifier: MIT */
/*
 * task.h - a future that has steps, and how a request to stop travels.
 *
 * A task waits for one thing at a time, and the memory for that lies inside it: awaiting
 * allocates nothing. The guest's step resumes a coroutine or advances a C state machine; it
 * starts one of the lun_task_wait.. functions and returns, or it ends with lun_task_finish.
 *
 * Laws of cancellation:
 *  1. The request travels down the edge to what the task waits for; the outcome travels up the
 *     same edge. Iteratively, also through joins.
 *  2. Value first: what has settled is delivered; the request stays for the next suspension. A task
 *     that ends without one hands the request back to the task that had passed it on.
 *  3. A borrowed future that others need is spared: this task alone withdraws.
 *  4. A grant of a park is no outcome until the task runs: it passes to the next in the queue.
 */
#ifndef LUN_TASK_H
#define LUN_TASK_H

#include "future.h"
#include "timer.h"

/* Something that the ready queue can run. */
typedef struct lun_job lun_job;
struct lun_job {
    lun_job *next;             /* in loop->ready */
    void (*run)(lun_job *job); /* from the base level of the loop's drain alone */
};

enum lun_task_at {
    LUN_AT_NEW,      /* queued for its first step */
    LUN_AT_RUNNING,  /* its step is on the C stack */
    LUN_AT_YIELDED,  /* gave its turn away; queued */
    LUN_AT_SLEEPING, /* `timer` is live */
    LUN_AT_SLEPT,    /* its time came; queued */
    LUN_AT_WAITING,  /* `wait.on` names what for; settled or not */
    LUN_AT_DONE,
};

enum lun_task_flag {
    LUN_QUEUED = 1,      /* in the ready queue */
    LUN_MUST_CANCEL = 2, /* a request is not delivered yet */
    LUN_INTERRUPTED = 4, /* it is to be delivered at the resumption */
    LUN_OWNS = 8,        /* it owns what it waits for: a cancel ends that in any case */
    LUN_GRANTED = 16,    /* a park has chosen it; it has not run yet */
    LUN_THROWN = 32,     /* lun_task_throw has cut the wait that is to be resumed */
    LUN_PASSED = 64,     /* a request has gone on to the task that it waits for */
};

struct lun_task {
    lun_future done; /* first: a task is a future */
    lun_job job;     /* in loop->ready while LUN_QUEUED */
    union {
        lun_waiter wait; /* LUN_AT_WAITING */
        lun_timer timer; /* LUN_AT_SLEEPING */
    } u;
    uint64_t since;    /* when it was last suspended: the loop's `now` */
    uint32_t epoch;    /* of the last walk that passed here */
    uint16_t requests; /* cancel requests not taken back */
    uint8_t at;        /* enum lun_task_at */
    uint8_t flags;     /* enum lun_task_flag */
};

/* The kind of tasks; a guest may have one of its own with lun_task_cancel_kind as cancel. */
extern const lun_kind lun_task_kind;
lun_answer lun_task_cancel_kind(lun_future *f, lun_task *by, lun_walk *walk);

static inline bool lun_is_task(const lun_future *f)
{
    return f->kind->cancel == lun_task_cancel_kind;
}

/*
 * Makes `t` a new task whose steps are `step`, and queues its first one. A step begins by clearing
 * LUN_QUEUED, and returns at once if the task is at LUN_AT_DONE: it was ended while it was queued.
 */
void lun_task_init(lun_task *t, lun_loop *loop, const lun_kind *kind,
                   void (*step)(lun_job *));

/* Queues `t`, once; harmless if it is queued. */
void lun_task_wake(lun_task *t);

/* The running task waits for the pending `f`; `owns`: a cancel of the task ends `f` in any case. */
void lun_task_wait(lun_task *t, lun_future *f, bool owns);

/* The running task sleeps until `when`. 0, or UV_ENOMEM and nothing changed. */
int lun_task_sleep(lun_task *t, uint64_t when);

/* The running task gives one turn away. */
void lun_task_yield(lun_task *t);

/*
 * For a step that begins again: the task is running; what it waited for is in `*on` (NULL after
 * sleep and yield). True if a request is to be thrown instead of the outcome; the request is then
 * delivered.
 */
bool lun_task_resume(lun_task *t, lun_future **on);

/*
 * The same, short, for one that slept or yielded: it is running again. False, and nothing
 * happened, if a request is to be thrown: lun_task_resume then does all.
 */
static inline bool lun_task_go_on(lun_task *t)
{
    if (t->flags & (LUN_INTERRUPTED | LUN_THROWN))
        return false;
    t->at = LUN_AT_RUNNING;
    return true;
}

/* Ends the running or new task with `state`; its waiters hear of it. */
void lun_task_finish(lun_task *t, enum lun_state state);

/*
 * Ends an unfinished task that is not running, wherever it waits, without asking it: the last
 * resort of a shutdown, for a guest that has done away with the coroutine.
 */
void lun_task_abandon(lun_task *t, enum lun_state state);

/*
 * The first half of that: it no longer waits for anything, and counts as running. If it is queued
 * it stays so: finish it, or take its job out with lun_loop_unqueue.
 */
void lun_task_detach(lun_task *t);

/* Asks `t` to stop. False if it is done. */
bool lun_task_cancel(lun_task *t);

/*
 * For the hook `suspends`: the wait of `t` that is beginning ends at once, and its resumption says
 * so as for a request: the guest throws an error of its own there. No request is counted; one that
 * comes meanwhile waits for the next suspension. Where a request arrives already, nothing happens.
 */
void lun_task_throw(lun_task *t);

/* Takes one request back; at zero an undelivered one is dropped. What is left. */
unsigned lun_task_uncancel(lun_task *t);

/* True if `f` waits, over tasks and joins, for `t`: awaiting it from `t` would close a cycle. */
bool lun_task_would_cycle(lun_task *t, lun_future *f);

/* A walk in progress; the kinds' cancel functions write where it goes on. */
typedef struct lun_join lun_join;
struct lun_walk {
    lun_task *next;  /* a task to ask now, or NULL */
    lun_join *joins; /* joins whose children are still to be asked, newest first */
    uint32_t epoch;  /* marks the tasks that were asked: none is asked twice in one walk */
};

/* Carries a walk to its end; for the core's own files. */
void lun_walk_run(lun_walk *walk);

#endif
