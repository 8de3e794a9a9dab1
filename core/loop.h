/* SPDX-License-Identifier: MIT */
/*
 * loop.h - the ready queue, the timers and libuv, in turns.
 *
 * A turn runs a snapshot of the ready queue: what it adds runs in the next one. Between turns
 * I/O and timers are looked at: every 61 turns, every millisecond, or when nothing is ready,
 * whichever comes first. In one look: I/O callbacks settle and queue, then due timers queue,
 * then the drain. Faults are delivered between jobs.
 *
 * Clock, random source, allocator and the order of ready tasks are policies of the loop.
 * Everything here belongs to the loop's thread, but for lun_loop_post.
 */
#ifndef LUN_LOOP_H
#define LUN_LOOP_H

#include "fault.h"
#include "op.h"
#include "park.h"

#include <uv.h>

typedef struct lun_policy {
    lun_allocator allocator; /* alloc NULL: lun_allocator_default */
    bool virtual_clock; /* time jumps to the next deadline when nothing else can happen */
    bool shuffle;       /* ready tasks run in an order drawn from the seed */
    uint64_t seed;      /* of the random source */
} lun_policy;

typedef struct lun_counters {
    uint64_t spawned, suspensions, turns, polls;
    uint32_t tasks, sleepers, handles, requests, callbacks;
    uint32_t inner; /* the guest's handles that nothing outside of the loop moves */
    size_t bytes;   /* of lun_loop_alloc's blocks */
} lun_counters;

/* Work handed over from another thread; embedded in the poster's memory until `run` begins. */
typedef struct lun_post {
    struct lun_post *next;
    void (*run)(struct lun_post *p, lun_loop *loop); /* on the loop's thread; queues only */
} lun_post;

struct lun_loop {
    uv_loop_t *uv; /* own_uv, or the host's, borrowed */
    uv_loop_t own_uv;
    uv_timer_t alarm; /* the head of the heap */
    uv_async_t async; /* lun_loop_post and lun_loop_wakeup */
    uv_mutex_t mutex; /* guards posts and closed */
    lun_post *posts;  /* newest first */

    lun_job *ready, **ready_end; /* queue, jobs borrowed */
    uint32_t n_ready;
    lun_job *rest; /* of the turn that runs */
    lun_timers timers;
    lun_link faults, handlers;
    lun_allocator allocator;
    lun_counters count;

    uint64_t now;       /* nanoseconds; the clock when it was last read, or virtual time */
    uint64_t skew;      /* what the loop's clock is ahead of the real one, modulo 2^64 */
    uint64_t alarm_at;  /* what the alarm is set to; LUN_NEVER while off */
    uint64_t polled_at; /* real nanoseconds */
    uint64_t seed, random;
    uint64_t fault_seq;
    uint32_t order; /* number of completions */
    uint32_t epoch; /* of the last walk */
    lun_job **shuffle_buf;
    uint32_t shuffle_room;
    uint32_t last_turn;   /* jobs of the last turn */
    uint32_t turns_left;  /* until I/O is looked at */
    uint32_t clock_skip;  /* short turns until the clock is read */
    uint32_t own_handles; /* that are still to be closed */
    bool virtual_clock, held_clock, shuffle;
    bool own, stopping, breaking, running, closed;
    volatile bool polling; /* libuv has control; for signal handlers */

    void *guest;                     /* the guest's own, borrowed */
    void (*task_step)(lun_job *job); /* tells tasks from other jobs when shuffling */
    /* The guest's hooks, each may be NULL. */

    /* A request has reached `t`; must not raise. */
    void (*asked)(lun_loop *loop, lun_task *t);
    /* `t` hands on a request that it got earlier. */
    void (*asking)(lun_loop *loop, lun_task *t);
    /* lun_loop_wakeup or a post came; called from the base of a poll. */
    void (*woken)(lun_loop *loop);
    /* libuv is about to get control, and to tell the kernel what it is to watch. */
    void (*polls)(lun_loop *loop);
    /*
     * Nothing is ready. `*until` (nanoseconds) may be made earlier to be asked again. True: there
     * is something to run after all.
     */
    bool (*idle)(lun_loop *loop, uint64_t *until);
    /* Virtual clock: nothing is left that could happen. True: there is after all. */
    bool (*dry)(lun_loop *loop);
    /*
     * The running `t` is about to suspend, for `on` (NULL: a sleep or a turn given away). A request
     * made here, lun_task_cancel or lun_task_throw, arrives at exactly this suspension.
     */
    void (*suspends)(lun_loop *loop, lun_task *t, lun_future *on);
};

/* Makes a loop; `uv` NULL: it owns one. 0 or libuv's code (nothing is left behind). */
int lun_loop_init(lun_loop *loop, uv_loop_t *uv, const lun_policy *policy);

/*
 * Closes a loop that is not running: the caller has ended all tasks and begun to close all
 * handles; waits for their callbacks and for requests in flight. 0, or libuv's code if handles of
 * an own loop were left open.
 */
int lun_loop_close(lun_loop *loop);

/* Runs turns until lun_loop_stop, or (0 virtual clock only) nothing is left that could happen. */
enum lun_ran {
    LUN_RAN_STOPPED, /* lun_loop_stop was called */
    LUN_RAN_DRY, /* virtual clock: nothing is ready, no deadline, no request, no handle */
};
enum lun_ran lun_loop_run(lun_loop *loop);

/* A guest's long jump has left lun_loop_run: puts the loop in order for the next one. */
void lun_loop_left(lun_loop *loop);

/* Ends lun_loop_run after the turn that runs. */
void lun_loop_stop(lun_loop *loop);

/* Ends it before the next job of the turn; the rest stays queued. */
void lun_loop_break(lun_loop *loop);

/* Queues a job that is not queued. */
static inline void lun_loop_queue(lun_loop *loop, lun_job *job)
{
    job->next = NULL;
    *loop->ready_end = job;
    loop->ready_end = &job->next;
    loop->n_ready++;
}

/* Takes a job out again, wherever it is queued; harmless if it is not. Linear. */
void lun_loop_unqueue(lun_loop *loop, lun_job *job);

/*
 * For a `run` that is running: the next job of the turn, if it has the same `run` and nothing has
 * to be done before it; NULL: return to the drain. Going on without returning matters because
 * the long jump of a yield leaves every return above it to be mispredicted.
 */
static inline lun_job *lun_loop_next(lun_loop *loop, void (*run)(lun_job *job))
{
    lun_job *next = loop->rest;
    if (!next || next->run != run || loop->breaking || !lun_list_alone(&loop->faults))
        return NULL;
    loop->rest = next->next;
    return next;
}

/* Reads the clock: nanoseconds, real or virtual. */
uint64_t lun_loop_time(lun_loop *loop);

/* Seconds from now as a deadline; negative is now, infinity LUN_NEVER. Never early. */
uint64_t lun_loop_deadline(lun_loop *loop, double seconds);

/* A number of the loop's random source. */
uint64_t lun_loop_random(lun_loop *loop);

/*
 * Changes the clock policy; the time goes on from where it is. A held clock is a virtual one that
 * does not jump by itself. lun_loop_set_time moves a virtual clock forward.
 */
enum lun_clock { LUN_CLOCK_REAL, LUN_CLOCK_VIRTUAL, LUN_CLOCK_HELD };
void lun_loop_set_clock(lun_loop *loop, enum lun_clock clock);
void lun_loop_set_time(lun_loop *loop, uint64_t now);

/* Changes the order of ready tasks: drawn from `seed`, anew, or first in, first out. */
void lun_loop_set_order(lun_loop *loop, bool shuffle, uint64_t seed);

/*
 * From any thread: `p->run` will be called on the loop's thread. false: the loop is closed and
 * `p` is still the caller's. The caller keeps the lun_loop itself from being freed meanwhile.
 */
bool lun_loop_post(lun_loop *loop, lun_post *p);

/* Makes a poll in progress return; safe in a signal handler on the loop's thread. */
void lun_loop_wakeup(lun_loop *loop);

void *lun_loop_alloc(lun_loop *loop, size_t size);
void lun_loop_free(lun_loop *loop, void *p, size_t size);

#endif
