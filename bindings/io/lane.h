/* SPDX-License-Identifier: MIT */
/*
 * lane.h - admission to libuv's pool for requests about files.
 *
 * The pool is the process's, and whoever fills it keeps all others waiting: a slow disk would
 * delay the lookup of a name. So at most half of its threads work on files; libuv itself gives
 * lookups at most the other half. What is over that waits here, in the ring of its loop.
 *
 * Laws:
 *  1. A loop that has nothing in the pool may always start one job, so its progress never
 *     depends on another loop, which could not wake it.
 *  2. A job that waits here can be withdrawn: it never starts.
 *  3. `begin` and `failed` run in the loop's thread and touch no Lua.
 *  4. Opening a file waits behind all else, 64 times in a row at the most: of many tasks that open,
 *     read and close, the first ones then get to their close before the last ones open, and
 *     descriptors do not run out.
 */
#ifndef LUNL_IO_LANE_H
#define LUNL_IO_LANE_H

#include "../lunl.h"

typedef struct lunl_lane_job lunl_lane_job;
struct lunl_lane_job {
    lun_link link;                             /* in a ring of loop->lane, or alone */
    lunl_loop *loop;                           /* borrowed */
    bool opens;                                /* law 4 */
    int (*begin)(lunl_lane_job *j);            /* the call to libuv: 0 or its code */
    void (*failed)(lunl_lane_job *j, int err); /* begin did not: no callback will come */
};

/* The job, embedded in the caller's memory, begins now or later; `failed` may come from here. */
void lunl_lane_start(lunl_loop *loop, lunl_lane_job *j);
/* The first thing in libuv's callback, unless the callback is that of a job that failed. */
void lunl_lane_done(lunl_lane_job *j);
/* True: it was still waiting and never starts. False: libuv has it. */
bool lunl_lane_withdraw(lunl_lane_job *j);

#endif
