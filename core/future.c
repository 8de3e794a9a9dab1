/* SPDX-License-Identifier: MIT */
/*
 * future.c - settling a future and asking it to settle.
 */
#include "future.h"

#include "loop.h"

void lun_future_init(lun_future *f, lun_loop *loop, const lun_kind *kind)
{
    f->kind = kind;
    lun_list_init(&f->waiters);
    f->loop = loop;
    f->order = 0;
    f->state = LUN_PENDING;
    f->flags = 0;
    f->guest = 0;
}

void lun_future_settle(lun_future *f, enum lun_state state)
{
    LUN_ASSERT(f->state == LUN_PENDING && state != LUN_PENDING);
    f->state = (uint8_t)state;
    f->order = ++f->loop->order;
    while (!lun_list_alone(&f->waiters)) {
        lun_waiter *w = lun_container(f->waiters.next, lun_waiter, link);
        lun_list_drop(&w->link);
        w->kind->fire(w);
    }
}

bool lun_future_shared(const lun_future *f, const lun_waiter *but)
{
    lun_list_each(l, &f->waiters) {
        const lun_waiter *w = lun_container(l, lun_waiter, link);
        if (w != but && w->kind->holds)
            return true;
    }
    return false;
}

bool lun_future_cancel(lun_future *f)
{
    if (lun_future_done(f))
        return false;
    if (lun_is_task(f))
        return lun_task_cancel((lun_task *)f);
    lun_walk walk = {0};
    f->kind->cancel(f, NULL, &walk);
    lun_walk_run(&walk);
    return true;
}

lun_answer lun_future_cancel_kind(lun_future *f, lun_task *by, lun_walk *walk)
{
    (void)by;
    (void)walk;
    lun_future_settle(f, LUN_CANCELLED);
    return LUN_YES;
}

const lun_kind lun_future_kind = {"Future", lun_future_cancel_kind};
