/* SPDX-License-Identifier: MIT */
/*
 * sync.h - what the files behind Lock, Semaphore, Event, Condition and Barrier share.
 *
 * All of them are userdata with parks inside. Whoever waits has the object on the stack of
 * its suspended C function, so a park with waiters is alive; an object belongs to the loop
 * that waits in it, and to none while nobody waits.
 */
#ifndef LUNL_SYNC_H
#define LUNL_SYNC_H

#include "lunl.h"

/* A number of permits; a lock is one permit. Invariant: while one is free, nobody is
 * queued. */
typedef struct lunl_permits {
    const lunl_type *type; /* first; static */
    lun_park queue;        /* who waits for a permit, in order */
    lun_park again;        /* named by those in `queue` that put requests off: see lock.c */
    lua_Integer free;      /* permits for anybody to take */
    lua_Integer most;      /* `free` never exceeds it */
    uint32_t passing;      /* permits given to tasks that have not run since */
} lunl_permits;

/* User value 1: the lock it was made with, or nil. */
typedef struct lunl_condition {
    const lunl_type *type; /* first; static */
    lunl_permits *lock;    /* `own`, or borrowed from user value 1 */
    lun_park waiters;      /* who waits for a notification */
    lunl_permits own;
} lunl_condition;

extern const lunl_type lunl_lock_type, lunl_condition_type;

/* acquire, release, locked and guard, of Lock, Semaphore and Condition. */
extern const luaL_Reg lunl_permit_methods[];

/* Makes `p` a lock that nobody holds. */
void lunl_lock_init(lunl_permits *p);

/* True if the lock is held by a task that knows it: not free, and not on its way to a
 * waiter. */
static inline bool lunl_lock_held(const lunl_permits *p)
{
    return p->free == 0 && p->passing == 0;
}

/* Takes a permit if one is free. */
static inline bool lunl_permits_take(lunl_permits *p)
{
    if (p->free == 0)
        return false;
    p->free--;
    return true;
}

/* Gives one permit back: to the first in the queue, else to anybody. */
void lunl_permits_give(lunl_permits *p);

/* The running `t` joins the queue and keeps its place there whatever is asked of it
 * meanwhile. */
void lunl_permits_wait_deaf(lunl_permits *p, lun_task *t);

/* The running task was queued and has got its permit. */
static inline void lunl_permits_arrived(lunl_permits *p)
{
    p->passing--;
}

/*
 * The running `t` is about to wait in `park`, part of a `name`: it belongs to the task's
 * loop from now on. RuntimeError if tasks of another loop are in it (`busy`).
 */
void lunl_park_bind(lua_State *L, lun_park *park, const lun_task *t, bool busy,
                    const char *name);

static inline bool lunl_park_busy(const lun_park *park)
{
    return lun_park_waiting(park) || park->granted > 0;
}

void lunl_open_lock(lua_State *L);      /* lock.c: Lock, Semaphore, BoundedSemaphore */
void lunl_open_condition(lua_State *L); /* condition.c */
void lunl_open_barrier(lua_State *L);   /* barrier.c */

#endif
