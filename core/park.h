/* SPDX-License-Identifier: MIT */
/*
 * park.h - a queue of tasks that wait without an outcome: locks, semaphores, queues, conditions.
 *
 * A park is chosen from, it never settles. Its owner grants: the first in the queue is woken and
 * marked. A grant is no outcome until the task runs: if a cancel comes first, the park's
 * `revoked` hands it to the next, and no newcomer gets in between. A park without `revoked`
 * (event, barrier) has nothing to pass on: there the grant counts as an outcome, value first.
 */
#ifndef LUN_PARK_H
#define LUN_PARK_H

#include "task.h"

typedef struct lun_park lun_park;
struct lun_park {
    lun_future base;              /* first; never settles; its waiters are the queue */
    void (*revoked)(lun_park *p); /* a granted task was cancelled unrun; may be NULL */
    void (*left)(lun_park *p);    /* a queued task was cancelled; may be NULL */
    uint32_t granted;             /* tasks chosen that have not run yet */
};

void lun_park_init(lun_park *p, lun_loop *loop, void (*revoked)(lun_park *));

/* The running `t` joins the queue, at its end or, to keep a place that it had, at its front. */
void lun_park_wait(lun_park *p, lun_task *t);
void lun_park_wait_front(lun_park *p, lun_task *t);

/* True if somebody is queued that has not been granted. */
static inline bool lun_park_waiting(const lun_park *p)
{
    return !lun_list_alone(&p->base.waiters);
}

/* Grants to the first in the queue; false if there is none. */
bool lun_park_grant(lun_park *p);

/* Grants to all that wait now. How many. */
uint32_t lun_park_grant_all(lun_park *p);

#endif
