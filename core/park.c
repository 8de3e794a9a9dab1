/* SPDX-License-Identifier: MIT */
/*
 * park.c - granting, and taking a grant back.
 */
#include "park.h"

static lun_answer park_cancel(lun_future *f, lun_task *by, lun_walk *walk)
{
    lun_park *p = (lun_park *)f;
    (void)walk;
    if (!(by->flags & LUN_GRANTED)) {
        if (p->left)
            p->left(p);
        return LUN_NO;
    }
    if (!p->revoked) {
        by->flags |= LUN_MUST_CANCEL;
        return LUN_YES;
    }
    by->flags &= (uint8_t)~LUN_GRANTED;
    by->flags |= LUN_INTERRUPTED;
    p->granted--;
    p->revoked(p);
    return LUN_YES;
}

/* Several tasks wait in one park, yet each cancel concerns its own place: see lun_park_wait. */
static const lun_kind park_kind = {"park", park_cancel};

void lun_park_init(lun_park *p, lun_loop *loop, void (*revoked)(lun_park *))
{
    lun_future_init(&p->base, loop, &park_kind);
    p->revoked = revoked;
    p->left = NULL;
    p->granted = 0;
}

void lun_park_wait(lun_park *p, lun_task *t)
{
    /* Owning, because the others in the queue do not share this task's place. */
    lun_task_wait(t, &p->base, true);
}

void lun_park_wait_front(lun_park *p, lun_task *t)
{
    lun_task_wait(t, &p->base, true);
    if (lun_list_alone(&t->u.wait.link))
        return;
    lun_list_drop(&t->u.wait.link);
    lun_list_push_front(&p->base.waiters, &t->u.wait.link);
}

bool lun_park_grant(lun_park *p)
{
    if (!lun_park_waiting(p))
        return false;
    lun_waiter *w = lun_container(p->base.waiters.next, lun_waiter, link);
    lun_task *t = lun_container(w, lun_task, u.wait);
    lun_list_drop(&w->link);
    t->flags |= LUN_GRANTED;
    p->granted++;
    lun_task_wake(t);
    return true;
}

uint32_t lun_park_grant_all(lun_park *p)
{
    uint32_t n = 0;
    while (lun_park_grant(p))
        n++;
    return n;
}
