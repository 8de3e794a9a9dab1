/* SPDX-License-Identifier: MIT */
/*
 * task.c - where a task is, how it wakes, and the walk of a request to stop.
 *
 * The walk keeps no C stack: a chain of tasks is a loop, and a join that has several children is
 * put into the walk's own list with a cursor.
 */
#include "task.h"

#include "join.h"
#include "loop.h"

static lun_task *waiter_task(lun_waiter *w)
{
    return lun_container(w, lun_task, u.wait);
}

static void task_fire(lun_waiter *w)
{
    lun_task_wake(waiter_task(w));
}

static const lun_waiter_kind task_waiter = {task_fire, true};

static void task_slept(lun_timer *timer, lun_loop *loop)
{
    lun_task *t = lun_container(timer, lun_task, u.timer);
    t->at = LUN_AT_SLEPT;
    loop->count.sleepers--;
    lun_task_wake(t);
}

lun_answer lun_task_cancel_kind(lun_future *f, lun_task *by, lun_walk *walk)
{
    (void)by;
    walk->next = (lun_task *)f;
    return LUN_NEXT;
}

const lun_kind lun_task_kind = {"Task", lun_task_cancel_kind};

void lun_task_init(lun_task *t, lun_loop *loop, const lun_kind *kind,
                   void (*step)(lun_job *))
{
    lun_future_init(&t->done, loop, kind);
    t->job.run = step;
    t->since = loop->now;
    t->epoch = 0;
    t->requests = 0;
    t->at = LUN_AT_NEW;
    t->flags = 0;
    loop->count.tasks++;
    loop->count.spawned++;
    loop->task_step = step;
    lun_task_wake(t);
}

void lun_task_wake(lun_task *t)
{
    if (t->flags & LUN_QUEUED)
        return;
    t->flags |= LUN_QUEUED;
    lun_loop_queue(t->done.loop, &t->job);
}

/* The running task is about to suspend; here every suspension passes. */
static inline void suspending(lun_task *t, enum lun_task_at at, lun_future *on)
{
    lun_loop *loop = t->done.loop;
    LUN_ASSERT(t->at == LUN_AT_RUNNING);
    if (loop->suspends)
        loop->suspends(loop, t, on);
    t->at = (uint8_t)at;
    t->since = loop->now;
    loop->count.suspensions++;
}

/* It goes on at once, to throw. */
static void interrupt(lun_task *t)
{
    t->flags |= LUN_INTERRUPTED;
    lun_task_wake(t);
}

/* Brings a request, counted already, to where `t` is. */
static void deliver(lun_task *t, lun_walk *walk)
{
    lun_future *f;
    if (t->flags & LUN_INTERRUPTED)
        return;
    switch (t->at) {
    case LUN_AT_YIELDED:
        t->flags |= LUN_MUST_CANCEL;
        interrupt(t);
        return;
    case LUN_AT_SLEEPING:
        lun_timer_stop(t->done.loop, &t->u.timer);
        t->done.loop->count.sleepers--;
        t->at = LUN_AT_SLEPT;
        interrupt(t);
        return;
    case LUN_AT_WAITING:
        break;
    default:
        t->flags |= LUN_MUST_CANCEL;
        return;
    }
    f = t->u.wait.on;
    if (lun_future_done(f)) {
        t->flags |= LUN_MUST_CANCEL;
        return;
    }
    bool spare = !(t->flags & (LUN_OWNS | LUN_GRANTED)) &&
                 ((t->flags & LUN_THROWN) || lun_future_shared(f, &t->u.wait));
    if (spare || f->kind->cancel(f, t, walk) == LUN_NO) {
        lun_list_drop(&t->u.wait.link);
        interrupt(t);
    } else if (lun_is_task(f)) {
        t->flags |= LUN_PASSED;
    }
}

/*
 * What became of the request that the waiters of `t` have passed on to it: it was thrown there, or
 * it comes back to them.
 */
static void answer(lun_task *t, bool thrown)
{
    lun_list_each(l, &t->done.waiters) {
        lun_waiter *w = lun_container(l, lun_waiter, link);
        if (w->kind != &task_waiter || !(waiter_task(w)->flags & LUN_PASSED))
            continue;
        waiter_task(w)->flags &= (uint8_t)~LUN_PASSED;
        if (!thrown)
            waiter_task(w)->flags |= LUN_MUST_CANCEL;
    }
}

static void ask(lun_task *t, lun_walk *walk)
{
    lun_loop *loop = t->done.loop;
    if (walk->epoch == 0)
        walk->epoch = ++loop->epoch;
    if (t->epoch == walk->epoch)
        return;
    t->epoch = walk->epoch;
    if (t->requests < UINT16_MAX)
        t->requests++;
    if (loop->asked)
        loop->asked(loop, t);
    if (t->flags & LUN_THROWN)
        t->flags |=
            LUN_MUST_CANCEL; /* behind the error, which is an outcome like any other */
    else
        deliver(t, walk);
}

void lun_walk_run(lun_walk *walk)
{
    for (;;) {
        while (walk->next) {
            lun_task *t = walk->next;
            walk->next = NULL;
            if (!lun_future_done(&t->done))
                ask(t, walk);
        }
        lun_join *j = walk->joins;
        if (!j)
            return;
        lun_future *f = j->child(j);
        if (!f) {
            walk->joins = j->walk;
            j->walking = false;
        } else if (!lun_future_done(f)) {
            f->kind->cancel(f, NULL, walk);
        }
    }
}

/* A request that could not be delivered before goes to what the task waits for now. */
static void deliver_late(lun_task *t)
{
    lun_walk walk = {0};
    t->flags &= (uint8_t)~LUN_MUST_CANCEL;
    if (t->done.loop->asking)
        t->done.loop->asking(t->done.loop, t);
    deliver(t, &walk);
    lun_walk_run(&walk);
}

void lun_task_wait(lun_task *t, lun_future *f, bool owns)
{
    suspending(t, LUN_AT_WAITING, f);
    lun_waiter_init(&t->u.wait, &task_waiter);
    lun_waiter_watch(&t->u.wait, f);
    if (owns)
        t->flags |= LUN_OWNS;
    if (t->flags & LUN_MUST_CANCEL)
        deliver_late(t);
}

int lun_task_sleep(lun_task *t, uint64_t when)
{
    lun_timer_init(&t->u.timer, task_slept);
    if (lun_timer_start(t->done.loop, &t->u.timer, when) != 0)
        return UV_ENOMEM;
    suspending(t, LUN_AT_SLEEPING, NULL);
    t->done.loop->count.sleepers++;
    if (t->flags & LUN_MUST_CANCEL)
        deliver_late(t);
    return 0;
}

void lun_task_yield(lun_task *t)
{
    suspending(t, LUN_AT_YIELDED, NULL);
    lun_task_wake(t);
    if (t->flags & LUN_MUST_CANCEL)
        t->flags |= LUN_INTERRUPTED;
    if (t->flags & LUN_THROWN)
        t->flags &= (uint8_t)~LUN_MUST_CANCEL;
}

bool lun_task_resume(lun_task *t, lun_future **on)
{
    *on = NULL;
    if (t->at == LUN_AT_WAITING) {
        *on = t->u.wait.on;
        t->u.wait.on = NULL;
        if (t->flags & LUN_GRANTED)
            ((lun_park *)*on)->granted--;
    }
    t->at = LUN_AT_RUNNING;
    bool interrupted = t->flags & (LUN_INTERRUPTED | LUN_THROWN);
    if (!(t->flags & LUN_THROWN) &&
        (interrupted || (*on && (*on)->state == LUN_CANCELLED))) {
        t->flags &= (uint8_t)~LUN_MUST_CANCEL;
        answer(t, true);
    }
    t->flags &=
        (uint8_t) ~(LUN_INTERRUPTED | LUN_OWNS | LUN_GRANTED | LUN_THROWN | LUN_PASSED);
    return interrupted;
}

void lun_task_finish(lun_task *t, enum lun_state state)
{
    if ((t->flags & LUN_MUST_CANCEL) && state != LUN_CANCELLED)
        answer(t, false);
    t->at = LUN_AT_DONE;
    t->flags &= (uint8_t)~LUN_MUST_CANCEL;
    t->done.loop->count.tasks--;
    lun_future_settle(&t->done, state);
}

void lun_task_detach(lun_task *t)
{
    if (t->at == LUN_AT_SLEEPING) {
        lun_timer_stop(t->done.loop, &t->u.timer);
        t->done.loop->count.sleepers--;
    } else if (t->at == LUN_AT_WAITING) {
        lun_park *park = (lun_park *)t->u.wait.on;
        bool granted = t->flags & LUN_GRANTED;
        lun_waiter_drop(&t->u.wait);
        if (granted) {
            park->granted--;
            if (park->revoked)
                park->revoked(park);
        }
    }
    t->flags &=
        (uint8_t) ~(LUN_INTERRUPTED | LUN_OWNS | LUN_GRANTED | LUN_THROWN | LUN_PASSED);
    t->at = LUN_AT_RUNNING;
}

void lun_task_abandon(lun_task *t, enum lun_state state)
{
    lun_task_detach(t);
    lun_task_finish(t, state);
}

bool lun_task_cancel(lun_task *t)
{
    if (lun_future_done(&t->done))
        return false;
    lun_walk walk = {.next = t};
    lun_walk_run(&walk);
    return true;
}

void lun_task_throw(lun_task *t)
{
    LUN_ASSERT(t->at == LUN_AT_RUNNING);
    if (!(t->flags & LUN_MUST_CANCEL))
        t->flags |= LUN_THROWN | LUN_MUST_CANCEL;
}

unsigned lun_task_uncancel(lun_task *t)
{
    if (t->requests > 0)
        t->requests--;
    if (t->requests == 0) {
        t->flags &= (uint8_t)~LUN_MUST_CANCEL;
        if (t->at == LUN_AT_YIELDED)
            t->flags &= (uint8_t)~LUN_INTERRUPTED;
    }
    return t->requests;
}

/* One step of the search: what `f` itself waits for; joins go into the walk's list. */
static lun_future *waits_for(lun_future *f, uint32_t epoch, lun_walk *walk)
{
    if (lun_future_done(f))
        return NULL;
    if (lun_is_task(f)) {
        lun_task *t = (lun_task *)f;
        if (t->epoch == epoch || t->at != LUN_AT_WAITING)
            return NULL;
        t->epoch = epoch;
        return t->u.wait.on;
    }
    if (lun_is_join(f))
        lun_join_visit((lun_join *)f, walk);
    return NULL;
}

bool lun_task_would_cycle(lun_task *t, lun_future *f)
{
    if (f == &t->done)
        return true;
    if (!lun_future_shared(&t->done, NULL))
        return false;
    lun_walk walk = {0};
    uint32_t epoch = ++t->done.loop->epoch;
    bool found = false;
    for (;;) {
        while (f && f != &t->done)
            f = waits_for(f, epoch, &walk);
        found = found || f != NULL;
        lun_join *j = walk.joins;
        if (!j)
            return found;
        f = found ? NULL : j->child(j);
        if (!f) {
            walk.joins = j->walk;
            j->walking = false;
        }
    }
}
