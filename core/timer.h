/* SPDX-License-Identifier: MIT */
/*
 * timer.h - deadlines of one loop: a 4-ary heap of (deadline, timer), the timers in their
 * owners' memory.
 *
 * Laws: a timer never fires early; equal deadlines fire in the order in which they were started;
 * a stopped timer leaves the heap at once. Sixteen bytes an entry, so four children are one
 * cache line; the order number is looked at for equal deadlines only.
 */
#ifndef LUN_TIMER_H
#define LUN_TIMER_H

#include "base.h"

typedef struct lun_loop lun_loop;
typedef struct lun_timer lun_timer;

struct lun_timer {
    void (*fire)(lun_timer *t, lun_loop *loop); /* out of the heap; queues, settles only */
    uint64_t seq;                               /* order among equal deadlines */
    uint32_t at;                                /* place in the heap, 0 while idle */
};

typedef struct lun_timer_entry {
    uint64_t when; /* nanoseconds of the loop's clock */
    lun_timer *t;  /* borrowed */
} lun_timer_entry;

typedef struct lun_timers {
    lun_timer_entry *heap; /* owned; the root is heap[1] */
    uint32_t n, room;
    uint64_t seq;
} lun_timers;

#define LUN_NEVER UINT64_MAX

static inline void lun_timer_init(lun_timer *t, void (*fire)(lun_timer *, lun_loop *))
{
    t->fire = fire;
    t->seq = 0;
    t->at = 0;
}

static inline bool lun_timer_active(const lun_timer *t)
{
    return t->at != 0;
}

/*
 * Starts the idle `t` for `when` (nanoseconds of the loop's clock; LUN_NEVER stays out of the
 * heap). 0, or UV_ENOMEM and nothing changed.
 */
int lun_timer_start(lun_loop *loop, lun_timer *t, uint64_t when);

/* Stops `t`; harmless if it is idle. */
void lun_timer_stop(lun_loop *loop, lun_timer *t);

/* The deadline of the active `t`. */
uint64_t lun_timer_when(const lun_loop *loop, const lun_timer *t);

/* For loop.c: the earliest deadline or LUN_NEVER; fires what is due at `now`; frees the heap. */
uint64_t lun_timers_next(const lun_timers *ts);
void lun_timers_fire(lun_loop *loop, lun_timers *ts, uint64_t now);
void lun_timers_fini(lun_timers *ts, const lun_allocator *a);

#endif
