/* SPDX-License-Identifier: MIT */
/*
 * join.c - counting children.
 */
#include "join.h"

#include "loop.h"

static lun_arm *waiter_arm(lun_waiter *w)
{
    return lun_container(w, lun_arm, w);
}

static void arm_fire(lun_waiter *w)
{
    lun_join *j = waiter_arm(w)->join;
    lun_list_push(&j->finished, &w->link);
    lun_join_count(j, w->on);
}

/* Kinds with one behaviour: the last marks an arm whose child another arm watches, too. */
static const lun_waiter_kind arm_waiter = {arm_fire, true};
static const lun_waiter_kind watching_waiter = {arm_fire, false};
static const lun_waiter_kind duplicate_waiter = {arm_fire, true};

static lun_future *arm_child(lun_join *j)
{
    if (j->restart)
        j->cursor = 0;
    j->restart = false;
    while (j->cursor < j->n) {
        lun_waiter *w = &j->arm[j->cursor++].w;
        if (w->kind != &duplicate_waiter && !lun_future_done(w->on))
            return w->on;
    }
    return NULL;
}

void lun_join_visit(lun_join *j, lun_walk *walk)
{
    if (j->walking)
        return;
    j->walking = true;
    j->walk = walk->joins;
    walk->joins = j;
    j->restart = true;
}

static lun_answer join_cancel(lun_future *f, lun_task *by, lun_walk *walk)
{
    lun_join *j = (lun_join *)f;
    (void)by;
    if (!(j->rule & LUN_JOIN_OWNS))
        return LUN_NO;
    j->asked = true;
    lun_join_visit(j, walk);
    return LUN_NEXT;
}

const lun_kind lun_join_kind = {"join", join_cancel};

void lun_join_init(lun_join *j, lun_loop *loop, uint32_t room, uint32_t need, uint8_t rule)
{
    *j = (lun_join){.room = room, .need = need, .rule = rule, .child = arm_child};
    lun_future_init(&j->done, loop, &lun_join_kind);
    lun_list_init(&j->finished);
}

bool lun_join_met(const lun_join *j)
{
    if (j->left == 0)
        return true;
    if (j->asked && !(j->rule & LUN_STOP_ASKED))
        return false;
    return j->stopped || j->ended >= j->need;
}

void lun_join_count(lun_join *j, lun_future *child)
{
    j->left--;
    j->ended++;
    bool stops = (child->state == LUN_ERROR && (j->rule & LUN_STOP_ERROR)) ||
                 (child->state == LUN_CANCELLED && (j->rule & LUN_STOP_CANCELLED));
    if (stops && !j->stopped) {
        j->stopped = true;
        j->bad = child;
    }
    if (!lun_future_done(&j->done) && lun_join_met(j))
        lun_future_settle(&j->done, LUN_OK);
}

uint32_t lun_join_add(lun_join *j, lun_future *f)
{
    LUN_ASSERT(j->n < j->room);
    uint32_t i = j->n++;
    lun_arm *a = &j->arm[i];
    a->join = j;
    a->w.on = f;
    a->w.kind = j->rule & LUN_JOIN_WATCHES ? &watching_waiter : &arm_waiter;
    j->left++;
    if (lun_future_done(f)) {
        arm_fire(&a->w);
        return i;
    }
    if (!lun_list_alone(&f->waiters)) {
        lun_waiter *last = lun_container(f->waiters.prev, lun_waiter, link);
        if (last->kind->fire == arm_fire && waiter_arm(last)->join == j)
            a->w.kind = &duplicate_waiter;
    }
    lun_list_push(&f->waiters, &a->w.link);
    return i;
}

bool lun_arm_duplicate(const lun_join *j, uint32_t i)
{
    return j->arm[i].w.kind == &duplicate_waiter;
}

void lun_join_rearm(lun_join *j, uint32_t need, uint8_t rule)
{
    lun_future_init(&j->done, j->done.loop, &lun_join_kind);
    j->need = need;
    j->rule = rule;
    j->ended = 0;
    j->stopped = false;
}

void lun_join_cancel(lun_join *j)
{
    lun_walk walk = {0};
    lun_join_visit(j, &walk);
    lun_walk_run(&walk);
}

void lun_join_fini(lun_join *j)
{
    for (uint32_t i = 0; i < j->n; i++)
        lun_list_drop(&j->arm[i].w.link);
    j->n = 0;
}
