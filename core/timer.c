/* SPDX-License-Identifier: MIT */
/*
 * timer.c - the 4-ary heap. heap[1] is the root, the children of i are 4i-2 .. 4i+1; a timer
 * knows its place, so it can be taken out of the middle.
 */
#include "timer.h"

#include "loop.h"

#include <uv.h>

static bool before(const lun_timer_entry *a, const lun_timer_entry *b)
{
    if (a->when != b->when)
        return a->when < b->when;
    return a->t->seq < b->t->seq;
}

static void put(lun_timers *ts, uint32_t i, lun_timer_entry e)
{
    ts->heap[i] = e;
    e.t->at = i;
}

static void sift_up(lun_timers *ts, uint32_t i, lun_timer_entry e)
{
    while (i > 1) {
        uint32_t parent = (i + 2) / 4;
        if (!before(&e, &ts->heap[parent]))
            break;
        put(ts, i, ts->heap[parent]);
        i = parent;
    }
    put(ts, i, e);
}

static void sift_down(lun_timers *ts, uint32_t i, lun_timer_entry e)
{
    for (;;) {
        uint64_t first = 4 * (uint64_t)i - 2;
        if (first > ts->n)
            break;
        uint32_t last = first + 3 < ts->n ? (uint32_t)first + 3 : ts->n;
        uint32_t least = (uint32_t)first;
        for (uint32_t c = least + 1; c <= last; c++)
            if (before(&ts->heap[c], &ts->heap[least]))
                least = c;
        if (!before(&ts->heap[least], &e))
            break;
        put(ts, i, ts->heap[least]);
        i = least;
    }
    put(ts, i, e);
}

static int grow(lun_timers *ts, const lun_allocator *a)
{
    uint32_t room = ts->room ? ts->room * 2 : 64;
    if (room < ts->room)
        return UV_ENOMEM;
    lun_timer_entry *heap =
        a->alloc(a->ud, ts->heap, ts->room * sizeof *heap, room * sizeof *heap);
    if (!heap)
        return UV_ENOMEM;
    ts->heap = heap;
    ts->room = room;
    return 0;
}

int lun_timer_start(lun_loop *loop, lun_timer *t, uint64_t when)
{
    lun_timers *ts = &loop->timers;
    LUN_ASSERT(t->at == 0);
    if (when == LUN_NEVER)
        return 0;
    if (ts->n + 1 >= ts->room && grow(ts, &loop->allocator) != 0)
        return UV_ENOMEM;
    t->seq = ts->seq++;
    sift_up(ts, ++ts->n, (lun_timer_entry){when, t});
    return 0;
}

void lun_timer_stop(lun_loop *loop, lun_timer *t)
{
    lun_timers *ts = &loop->timers;
    uint32_t i = t->at;
    if (i == 0)
        return;
    t->at = 0;
    lun_timer_entry last = ts->heap[ts->n--];
    if (last.t == t)
        return;
    if (i > 1 && before(&last, &ts->heap[(i + 2) / 4]))
        sift_up(ts, i, last);
    else
        sift_down(ts, i, last);
}

uint64_t lun_timer_when(const lun_loop *loop, const lun_timer *t)
{
    return t->at ? loop->timers.heap[t->at].when : LUN_NEVER;
}

uint64_t lun_timers_next(const lun_timers *ts)
{
    return ts->n ? ts->heap[1].when : LUN_NEVER;
}

void lun_timers_fire(lun_loop *loop, lun_timers *ts, uint64_t now)
{
    while (ts->n && ts->heap[1].when <= now) {
        lun_timer *t = ts->heap[1].t;
        lun_timer_stop(loop, t);
        t->fire(t, loop);
    }
}

void lun_timers_fini(lun_timers *ts, const lun_allocator *a)
{
    for (uint32_t i = 1; i <= ts->n; i++)
        ts->heap[i].t->at = 0;
    a->alloc(a->ud, ts->heap, ts->room * sizeof *ts->heap, 0);
    *ts = (lun_timers){0};
}
