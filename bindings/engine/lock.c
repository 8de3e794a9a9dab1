/* SPDX-License-Identifier: MIT */
/*
 * lock.c - Lock, Semaphore and BoundedSemaphore: permits, given out first come, first
 * served.
 *
 * Laws:
 *  1. While a permit is free nobody is queued, so whoever finds one free overtakes nobody.
 *  2. A permit given to a waiter is gone at once (a lock stays locked, a newcomer queues),
 *     but it is no outcome before the waiter runs: cancelled until then, it goes to the
 *     next.
 *  3. A task that has to have its lock back (a condition's) waits in the same queue and
 *     names another park, `again`. The ring is the queue's, so its turn comes in order; the
 *     kind of `again` answers a request with "later", so its place and its grant are never
 *     given up.
 */
#include "sync.h"

enum { LOCK, SEMAPHORE, BOUNDED, TYPES };
static const lunl_type semaphore_types[TYPES - 1] = {{"Semaphore"}, {"BoundedSemaphore"}};
const lunl_type lunl_lock_type = {"Lock"};

static const lunl_type *const types[TYPES] = {&lunl_lock_type, &semaphore_types[0],
                                              &semaphore_types[1]};

/* What guard() returns. User value 1: the object that the permit is of. */
typedef struct guard {
    const lunl_type *type;
    lunl_permits *permits; /* borrowed from user value 1 */
    bool holds;
} guard;

static const lunl_type guard_type = {"Guard"};

/* ---- permits ---- */

static void hand_on(lunl_permits *p)
{
    while (p->free > 0 && lun_park_grant(&p->queue)) {
        p->free--;
        p->passing++;
    }
}

static void pass_on(lunl_permits *p)
{
    p->passing--;
    lunl_permits_give(p);
}

static void queue_revoked(lun_park *park)
{
    pass_on(lun_container(park, lunl_permits, queue));
}

/* Only if the task was closed by force. */
static void again_revoked(lun_park *park)
{
    pass_on(lun_container(park, lunl_permits, again));
}

/* Law 3: the request stays with the task until it has what it waits for. */
static lun_answer put_off(lun_future *f, lun_task *by, lun_walk *walk)
{
    (void)f;
    (void)walk;
    by->flags |= LUN_MUST_CANCEL;
    return LUN_YES;
}

static const lun_kind deaf_kind = {"lock", put_off};

static void init_permits(lunl_permits *p, const lunl_type *type, lua_Integer n,
                         lua_Integer most)
{
    p->type = type;
    p->free = n;
    p->most = most;
    p->passing = 0;
    lun_park_init(&p->queue, NULL, queue_revoked);
    lun_park_init(&p->again, NULL, again_revoked);
    lun_future_init(&p->again.base, NULL, &deaf_kind);
}

void lunl_lock_init(lunl_permits *p)
{
    init_permits(p, &lunl_lock_type, 1, 1);
}

void lunl_permits_give(lunl_permits *p)
{
    p->free++;
    hand_on(p);
}

static bool is_busy(const lunl_permits *p)
{
    return lun_park_waiting(&p->queue) || p->passing > 0;
}

void lunl_permits_wait_deaf(lunl_permits *p, lun_task *t)
{
    /* Even if it belongs to another loop by now: this task must get its lock back. */
    if (!is_busy(p))
        p->queue.base.loop = t->done.loop;
    p->again.base.loop = t->done.loop;
    lun_task_wait(t, &p->again.base, true);
    lun_list_drop(&t->u.wait.link);
    lun_list_push(&p->queue.base.waiters, &t->u.wait.link);
}

void lunl_park_bind(lua_State *L, lun_park *park, const lun_task *t, bool busy,
                    const char *name)
{
    if (park->base.loop == t->done.loop)
        return;
    if (busy)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "this %s is bound to a different event loop",
                   name);
    park->base.loop = t->done.loop;
}

/* The permits of the Lock, Semaphore or Condition at `idx`, or TypeError. */
static lunl_permits *check_permits(lua_State *L, int idx)
{
    void *p = lua_touserdata(L, idx);
    if (p && lua_rawlen(L, idx) >= sizeof(void *)) {
        const lunl_type *type = *(const lunl_type **)p;
        if (type == types[LOCK] || type == types[SEMAPHORE] || type == types[BOUNDED])
            return p;
        if (type == &lunl_condition_type)
            return ((lunl_condition *)p)->lock;
    }
    lunl_type_error(L, idx, "Lock, Semaphore or Condition");
}

/* ---- acquiring ---- */

/* What a continuation knows: bits of its context. */
enum {
    GAVE_WAY = 1, /* it only gave a turn away and has to begin now */
    GUARDS = 2,   /* index 2 is the guard to return */
};

static int acquired(lua_State *L, lua_KContext ctx)
{
    lunl_S(L)->events.acquired++;
    if (!(ctx & GUARDS)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    ((guard *)lua_touserdata(L, 2))->holds = true;
    lua_settop(L, 2);
    return 1;
}

static int acquire_k(lua_State *L, int status, lua_KContext ctx);

/* A turn given away comes before the permit is taken: a cancel then loses nothing. */
static int acquire(lua_State *L, lunl_state *S, lun_task *t, lunl_permits *p,
                   lua_KContext ctx)
{
    if (p->free == 0) {
        lunl_park_bind(L, &p->queue, t, is_busy(p), p->type->name);
        lun_park_wait(&p->queue, t);
        return lunl_suspend(L, S, ctx & GUARDS, acquire_k);
    }
    if (!(ctx & GAVE_WAY) && lunl_gives_way(S)) {
        lun_task_yield(t);
        return lunl_suspend(L, S, ctx | GAVE_WAY, acquire_k);
    }
    p->free--;
    return acquired(L, ctx);
}

static int acquire_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    (void)status;
    lun_task *t = lunl_resumed(L, S, &on);
    lunl_permits *p = check_permits(L, 1);
    if (ctx & GAVE_WAY)
        return acquire(L, S, t, p, ctx);
    lunl_permits_arrived(p);
    return acquired(L, ctx);
}

/* --- lock:acquire() -> true
 * Takes the lock (or a permit of a semaphore, or a condition's lock), suspending until it
 * is this task's turn: first come, first served. A Lock is not re-entrant. Throws
 * RuntimeError outside a task or if tasks of another loop wait for it. Safe to cancel: a
 * lock or permit that was given to the cancelled task, which had not run yet, goes to the
 * next. */
static int l_acquire(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    return acquire(L, S, t, check_permits(L, 1), 0);
}

/* --- lock:guard() -> guard
 * Acquires as acquire() does and returns a closable that releases, however its block is
 * left: `local _ <close> = lock:guard()`. Suspends; safe to cancel: who never got it
 * releases nothing. */
static int l_guard(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lunl_permits *p = check_permits(L, 1);
    lua_settop(L, 1);
    /* Made before anything is taken: a failing allocation then loses no permit. */
    guard *g = lunl_new(L, &guard_type, sizeof *g, 1);
    g->permits = p;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1);
    return acquire(L, S, t, p, GUARDS);
}

/* ---- releasing ---- */

static void release(lua_State *L, lunl_permits *p)
{
    if (p->type == &lunl_lock_type) {
        if (!lunl_lock_held(p))
            lunl_throw(L, LUNL_RUNTIME_ERROR, "Lock is not acquired");
    } else if (p->free >= p->most) {
        lunl_throw(L, LUNL_VALUE_ERROR, "%s released too many times", p->type->name);
    }
    lunl_S(L)->events.released++;
    lunl_permits_give(p);
}

/* --- lock:release()
 * Gives the lock or permit back: the first that waits gets it. Any task or callback may.
 * Throws RuntimeError for a lock that nobody holds, ValueError for a BoundedSemaphore that
 * has all its permits. Never suspends. */
static int l_release(lua_State *L)
{
    release(L, check_permits(L, 1));
    return 0;
}

/* --- lock:locked() -> boolean
 * True if acquire() would have to wait, also while the lock is on its way to a task that
 * has not run yet. */
static int l_locked(lua_State *L)
{
    lua_pushboolean(L, check_permits(L, 1)->free == 0);
    return 1;
}

/* --- guard:__close()
 * Releases what guard() took, once. Throws as release() does. */
static int l_close(lua_State *L)
{
    guard *g = lunl_check(L, 1, &guard_type);
    if (!g->holds)
        return 0;
    g->holds = false;
    release(L, g->permits);
    return 0;
}

const luaL_Reg lunl_permit_methods[] = {
    {"acquire", l_acquire}, {"release", l_release}, {"locked", l_locked},
    {"guard", l_guard},     {NULL, NULL},
};

/* ---- making ---- */

/* --- async.Lock() -> Lock
 * A lock that nobody holds. Needs no loop. */
static int l_Lock(lua_State *L)
{
    lunl_lock_init(lunl_new(L, &lunl_lock_type, sizeof(lunl_permits), 0));
    return 1;
}

static int new_semaphore(lua_State *L, const lunl_type *type, bool bounded)
{
    lua_Integer n = lua_isnoneornil(L, 1) ? 1 : lunl_check_integer(L, 1, 0, LUA_MAXINTEGER);
    lunl_permits *p = lunl_new(L, type, sizeof *p, 0);
    init_permits(p, type, n, bounded ? n : LUA_MAXINTEGER);
    return 1;
}

/* --- async.Semaphore(n) -> Semaphore
 * n permits (1 by default). Throws TypeError for what is no integer, ValueError below zero.
 */
static int l_Semaphore(lua_State *L)
{
    return new_semaphore(L, types[SEMAPHORE], false);
}

/* --- async.BoundedSemaphore(n) -> BoundedSemaphore
 * The same; more releases than acquisitions throw ValueError. */
static int l_BoundedSemaphore(lua_State *L)
{
    return new_semaphore(L, types[BOUNDED], true);
}

void lunl_open_lock(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"Lock", l_Lock},
        {"Semaphore", l_Semaphore},
        {"BoundedSemaphore", l_BoundedSemaphore},
        {NULL, NULL},
    };
    static const luaL_Reg guard_meta[] = {{"__close", l_close}, {NULL, NULL}};
    lunl_newtype(L, &guard_type, NULL, guard_meta);
    for (int i = 0; i < TYPES; i++)
        lunl_newtype(L, types[i], lunl_permit_methods, NULL);
    lua_pop(L, TYPES + 1);
    lunl_register(L, functions);
}
