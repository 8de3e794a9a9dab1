/* SPDX-License-Identifier: MIT */
/*
 * condition.c - Condition: a lock, and tasks that gave it up until they are notified.
 *
 * Laws:
 *  1. wait() ends with the lock held, however it ends. So a task that was notified or
 *     cancelled queues for the lock, and puts off what is asked of it until it has it
 *     (lock.c, law 3).
 *  2. A notification is not lost with the task that it hit: cancelled before it ran, or
 *     while it queued for the lock, it passes the notification to the next that waits.
 */
#include "sync.h"

const lunl_type lunl_condition_type = {"Condition"};

/* Bits of a continuation's context. */
enum {
    JUDGES = 1,   /* index 2 is the predicate of a wait_for */
    NOTIFIED = 2, /* a notification was taken */
    THROWS = 4,   /* a request is to be thrown once the lock is there */
};

static lunl_condition *check_condition(lua_State *L)
{
    return lunl_check(L, 1, &lunl_condition_type);
}

/* The same with its lock held by somebody who runs; RuntimeError. */
static lunl_condition *check_held(lua_State *L, const char *what)
{
    lunl_condition *c = check_condition(L);
    if (!lunl_lock_held(c->lock))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "cannot %s: the condition's lock is not acquired",
                   what);
    return c;
}

static void waiters_revoked(lun_park *park)
{
    lun_park_grant(park);
}

static int judge(lua_State *L);

/* The lock is ours again and there is nothing to throw. */
static int held_again(lua_State *L, lua_KContext ctx)
{
    if (ctx & JUDGES)
        return judge(L);
    lua_pushboolean(L, 1);
    return 1;
}

/* What was asked while it queued for the lock is thrown now. */
static int thrown_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    bool interrupted;
    (void)status;
    lunl_resumed_quietly(L, S, &on, &interrupted);
    if (interrupted && (ctx & NOTIFIED))
        lun_park_grant(&check_condition(L)->waiters);
    if (interrupted || (ctx & THROWS))
        lunl_throw_cancelled(L, S);
    return held_again(L, ctx);
}

static int regained_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    bool interrupted;
    (void)status;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    lunl_permits_arrived(check_condition(L)->lock);
    if (t->flags & LUN_MUST_CANCEL) {
        /* A suspension is where a request that was put off gets delivered. */
        lun_task_yield(t);
        return lunl_suspend(L, S, ctx, thrown_k);
    }
    if (ctx & THROWS)
        lunl_throw_cancelled(L, S);
    return held_again(L, ctx);
}

static int notified_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    bool interrupted;
    (void)status;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    lunl_condition *c = check_condition(L);
    ctx |= interrupted ? THROWS : NOTIFIED;
    if (!lunl_permits_take(c->lock)) {
        lunl_permits_wait_deaf(c->lock, t);
        return lunl_suspend(L, S, ctx, regained_k);
    }
    if (interrupted)
        lunl_throw_cancelled(L, S);
    return held_again(L, ctx);
}

static int begin(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    lunl_condition *c = check_held(L, "wait");
    lunl_park_bind(L, &c->waiters, t, lunl_park_busy(&c->waiters), "Condition");
    lunl_permits_give(c->lock);
    lun_park_wait(&c->waiters, t);
    return lunl_suspend(L, S, ctx, notified_k);
}

/* --- condition:wait() -> true
 * Releases the lock, suspends until notified, and takes the lock again. May wake without a
 * notification, so look at what you wait for in a loop, or use wait_for. Throws
 * RuntimeError if the lock is not acquired and outside a task. Safe to cancel: the
 * CancelledError is thrown once the lock is held again, and a notification that had come
 * passes to the next. */
static int l_wait(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    return begin(L, S, t, 0);
}

static int judged_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    if (lua_toboolean(L, -1))
        return 1;
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, 2);
    return begin(L, S, t, JUDGES);
}

static int judge(lua_State *L)
{
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_callk(L, 0, 1, 0, judged_k);
    return judged_k(L, LUA_OK, 0);
}

static int turn_k(lua_State *L, int status, lua_KContext ctx)
{
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, lunl_S(L), &on);
    return judge(L);
}

/* --- condition:wait_for(predicate) -> value
 * Calls predicate() with the lock held until it returns something true, which is the
 * result; waits, as wait() does, after each time that it did not. The predicate may await.
 * Throws what wait() and the predicate throw, TypeError if it cannot be called. Safe to
 * cancel as wait(). */
static int l_wait_for(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    check_condition(L);
    lunl_check_callable(L, 2);
    if (!lunl_gives_way(S))
        return judge(L);
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, turn_k);
}

/* --- condition:notify(n)
 * Wakes at most n (1 by default) of those that wait now, in their order. They go on when
 * they get the lock, so release it. Throws RuntimeError if the lock is not acquired,
 * TypeError or ValueError for an n that is no integer or below zero. Never suspends. */
static int l_notify(lua_State *L)
{
    lunl_condition *c = check_held(L, "notify");
    lua_Integer n = lua_isnoneornil(L, 2) ? 1 : lunl_check_integer(L, 2, 0, LUA_MAXINTEGER);
    while (n-- > 0 && lun_park_grant(&c->waiters))
        continue;
    return 0;
}

/* --- condition:notify_all()
 * Wakes all that wait now. Throws RuntimeError if the lock is not acquired. Never suspends.
 */
static int l_notify_all(lua_State *L)
{
    lun_park_grant_all(&check_held(L, "notify")->waiters);
    return 0;
}

/* --- async.Condition(lock) -> Condition
 * A condition over that Lock, or over a new one. Throws TypeError for anything but a Lock.
 * Needs no loop. */
static int l_Condition(lua_State *L)
{
    lunl_permits *lock = lua_isnoneornil(L, 1) ? NULL : lunl_check(L, 1, &lunl_lock_type);
    lua_settop(L, 1);
    lunl_condition *c = lunl_new(L, &lunl_condition_type, sizeof *c, 1);
    lun_park_init(&c->waiters, NULL, waiters_revoked);
    lunl_lock_init(&c->own);
    c->lock = lock ? lock : &c->own;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 1);
    return 1;
}

void lunl_open_condition(lua_State *L)
{
    static const luaL_Reg functions[] = {{"Condition", l_Condition}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"wait", l_wait},     {"wait_for", l_wait_for},
        {"notify", l_notify}, {"notify_all", l_notify_all},
        {NULL, NULL},
    };
    lunl_newtype(L, &lunl_condition_type, methods, NULL);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_permit_methods);
    lua_pop(L, 2);
    lunl_register(L, functions);
}
