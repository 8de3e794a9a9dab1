/* SPDX-License-Identifier: MIT */
/*
 * await.c - the one place where Lua suspends, and the await and the sleep of scripts.
 */
#include "state.h"

#include <string.h>

/* C functions that may be between: Lua can yield across them. */
static bool yields_across(const char *name)
{
    static const char *const names[] = {"pcall", "xpcall", "dofile", "error", NULL};
    for (int i = 0; names[i]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "lunation.", 9) == 0 || strncmp(name, "coroutine.", 10) == 0;
}

/* Pushes the name of the C function that most likely is in the way. */
static void push_obstacle(lua_State *L)
{
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sf", &ar);
        if (*ar.what != 'C') {
            lua_pop(L, 1);
            continue;
        }
        lunl_push_where(L, -1);
        lua_replace(L, -2);
        if (!yields_across(lua_tostring(L, -1)))
            return;
        lua_pop(L, 1);
    }
    lua_pushliteral(L, "a C function");
}

_Noreturn void lunl_refuse(lua_State *L, lunl_state *S)
{
    lua_Debug ar;
    const char *name = NULL;
    if (lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar))
        name = ar.name;
    name = name ? name : "await";
    if (!S->task)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   S->loop ? "%s outside a task (in a callback)"
                           : "%s outside a task (no running event loop)",
                   name);
    if (!lua_isyieldable(L) || (L == S->running && !S->outer_yieldable)) {
        luaL_checkstack(L, 16, NULL);
        push_obstacle(L);
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s where Lua cannot yield (inside %s)", name,
                   lua_tostring(L, -1));
    }
    lunl_throw(L, LUNL_RUNTIME_ERROR,
               "%s inside a plain coroutine (coroutines of async.coroutine can await)",
               name);
}

/* Values of a suspending function that are kept without asking for memory. */
enum { FRAME = 32 };

void lunl_make_frame(lua_State *L, int idx)
{
    lua_createtable(L, FRAME, 0);
    lua_setiuservalue(L, idx < 0 ? idx - 1 : idx, 1);
}

/* Protected: a task and any values, which its user value 1 keeps from now on. */
static int keep_values(lua_State *L)
{
    int n = lua_gettop(L) - 1;
    lua_createtable(L, n < FRAME ? FRAME : n, 0);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, i + 1);
        lua_rawseti(L, n + 2, i);
    }
    lua_setiuservalue(L, 1, 1);
    return 0;
}

/*
 * Somebody has the task's coroutine and might close it. What the task waits for must survive
 * that, so it is kept in user value 1, too, as the whole stack of the suspending function.
 * Without the memory for that the task does not wait, but goes on with the error.
 */
LUN_COLD static void keep_frame(lua_State *L, lunl_state *S)
{
    lun_task *t = &S->task->t;
    int n = lua_gettop(L);
    if (n <= FRAME && lua_checkstack(L, 3)) {
        lua_rawgeti(L, lua_upvalueindex(2), t->done.order);
        bool made = lua_getiuservalue(L, n + 1, 1) == LUA_TTABLE;
        for (int i = 1; made && i <= FRAME; i++) {
            if (i <= n)
                lua_pushvalue(L, i);
            else
                lua_pushnil(L);
            lua_rawseti(L, n + 2, i);
        }
        lua_settop(L, n);
        if (made)
            return;
    }
    if (lua_checkstack(L, n + 4)) {
        lua_pushcfunction(L, keep_values);
        lua_rawgeti(L, lua_upvalueindex(2), t->done.order);
        for (int i = 1; i <= n; i++)
            lua_pushvalue(L, i);
        if (lua_pcall(L, n + 1, 0, 0) == LUA_OK)
            return;
    }
    lun_task_detach(t);
    lun_loop_unqueue(t->done.loop, &t->job);
    t->flags &= (uint8_t)~LUN_QUEUED;
    luaL_error(L, "not enough memory");
}

void lunl_keep_suspended(lua_State *L, lunl_state *S, int idx, lunl_task *t)
{
    lua_State *co = lunl_task_co(S, t);
    if (t->t.at == LUN_AT_NEW || !co)
        return;
    if (lua_status(co) != LUA_YIELD) {
        lunl_make_frame(L, idx);
        return;
    }
    int n = lua_gettop(co);
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, n < FRAME ? FRAME : n, 0);
    if (!lua_checkstack(co, 1))
        luaL_error(L, "not enough memory");
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(co, i);
        lua_xmove(co, L, 1);
        lua_rawseti(L, -2, i);
    }
    lua_setiuservalue(L, idx, 1);
}

int lunl_suspend(lua_State *L, lunl_state *S, lua_KContext ctx, lua_KFunction k)
{
    S->streak = 0;
    if (S->task->t.done.guest & LUNL_KEEP_THREAD)
        keep_frame(L, S);
#if defined(LUN_CHAOS)
    lunl_collect(L);
#endif
    return lua_yieldk(L, 0, ctx, k);
}

/* The message of the running task's last request, popped off its place; nil if there is none. */
static void take_message(lua_State *L, lunl_state *S, lunl_task *t)
{
    if (!(t->t.done.guest & LUNL_MESSAGE)) {
        lua_pushnil(L);
        return;
    }
    t->t.done.guest &= (uint16_t)~LUNL_MESSAGE;
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->messages);
    lua_rawgeti(L, -1, t->t.done.order);
    lua_pushboolean(L, 0);
    lua_rawseti(L, -3, t->t.done.order);
    lua_replace(L, -2);
}

void lunl_push_cancelled(lua_State *L, lunl_state *S)
{
    lunl_push_cancelled_of(L, S, S->task);
}

void lunl_push_cancelled_of(lua_State *L, lunl_state *S, lunl_task *t)
{
    luaL_checkstack(L, 6, NULL);
    if (t->t.done.guest & LUNL_INJECTED) {
        t->t.done.guest &= (uint16_t)~LUNL_INJECTED;
        lunl_probe_push_error(L, lunl_loop_of(t->t.done.loop));
        return;
    }
    take_message(L, S, t);
    lunl_make_cancelled(L);
}

void lunl_throw_cancelled(lua_State *L, lunl_state *S)
{
    lunl_push_cancelled(L, S);
    lua_error(L);
    abort();
}

lun_task *lunl_resumed_quietly(lua_State *L, lunl_state *S, lun_future **on,
                               bool *interrupted)
{
    if (!S->task || L != S->running)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "a task's coroutine was resumed by somebody else");
    lun_task *t = &S->task->t;
    *interrupted = lun_task_resume(t, on);
    return t;
}

lun_task *lunl_resumed(lua_State *L, lunl_state *S, lun_future **on)
{
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, on, &interrupted);
    if (interrupted)
        lunl_throw_cancelled(L, S);
    /* The request went to what it waited for, and that ended otherwise: its message is stale. */
    if ((t->done.guest & LUNL_MESSAGE) && !(t->flags & LUN_MUST_CANCEL) &&
        (!*on || (*on)->state == LUN_OK))
        t->done.guest &= (uint16_t)~LUNL_MESSAGE;
    return t;
}

void lunl_share_message(lua_State *L, lunl_state *S, lunl_task *t, int idx, lun_future *f)
{
    if (f->state == LUN_CANCELLED && (t->t.done.guest & LUNL_MESSAGE) && !lun_is_task(f) &&
        !(f->guest & LUNL_MADE_ERROR)) {
        lua_getiuservalue(L, idx, 1);
        if (lua_isnil(L, -1)) {
            take_message(L, S, t);
            lua_setiuservalue(L, idx, 1);
        }
        lua_pop(L, 1);
    }
    if (!(t->t.flags & LUN_MUST_CANCEL))
        t->t.done.guest &= (uint16_t)~LUNL_MESSAGE;
}

/* What the task at hand gets from the settled future at `idx`. */
static int deliver(lua_State *L, lunl_state *S, int idx, lun_future *f)
{
    lunl_share_message(L, S, S->task, idx, f);
    return lunl_outcome(L, idx, f);
}

static int await_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *f;
    bool interrupted;
    (void)status;
    lunl_resumed_quietly(L, S, &f, &interrupted);
    if (interrupted)
        lunl_throw_cancelled(L, S);
    f = f ? f : lua_touserdata(L, (int)ctx); /* NULL after a turn that fairness demanded */
    return deliver(L, S, (int)ctx, f);
}

int lunl_await(lua_State *L, lunl_state *S, int idx, lun_future *f)
{
    lun_task *t = &S->task->t;
    if (f->loop != t->done.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "a future of another loop cannot be awaited here");
    if (lun_future_done(f)) {
        if (!lunl_gives_way(S))
            return deliver(L, S, idx, f);
        lun_task_yield(t);
        return lunl_suspend(L, S, idx, await_k);
    }
    if (lun_task_would_cycle(t, f))
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   f == &t->done
                       ? "a task cannot await itself"
                       : "these tasks would await each other in a cycle, for ever");
    lun_task_wait(t, f, false);
    return lunl_suspend(L, S, idx, await_k);
}

static int in_place_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L);
}

/* --- async.await(awaitable) -> results
 * Suspends until the Future or Task is done and returns its results or throws its error. A
 * function is called in place, with no arguments and no new task; a value with __await has that
 * called with itself. Throws TypeError for anything else; RuntimeError outside a task, for a
 * future of another loop, and if a cycle of tasks would await each other. Cancelling the
 * suspended task cancels what it waits for, unless others wait for that too. */
static int l_await(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_enter(L, S);
    lun_future *f = lunl_to_future(L, 1);
    if (f)
        return lunl_await(L, S, 1, f);
    lua_settop(L, 1);
    if (lua_isfunction(L, 1)) {
        lua_callk(L, 0, LUA_MULTRET, 0, in_place_k);
        return lua_gettop(L);
    }
    if (luaL_getmetafield(L, 1, "__await") == LUA_TNIL)
        lunl_type_error(L, 1, "awaitable");
    lua_insert(L, 1);
    lua_callk(L, 1, LUA_MULTRET, 0, in_place_k);
    return lua_gettop(L);
}

static int sleep_k(lua_State *L, int status, lua_KContext n)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    (void)status;
    if (L != S->running || (S->task->t.done.guest & LUNL_MESSAGE) ||
        !lun_task_go_on(&S->task->t))
        lunl_resumed(L, S, &on);
    return (int)n;
}

/* The loop's heap of timers could not grow. */
LUN_COLD static int no_memory(lua_State *L)
{
    return luaL_error(L, "not enough memory");
}

/* --- async.sleep(seconds, ...) -> ...
 * Suspends for that time; zero or less gives every ready task one turn. Returns the further
 * arguments. Throws TypeError for what is no number and for NaN; RuntimeError outside a task.
 * Safe to cancel. */
static int l_sleep(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    /* sleep(0) is what is done a million times; an integer is told without a conversion. */
    double seconds =
        lua_isinteger(L, 1) ? (double)lua_tointeger(L, 1) : lunl_check_number(L, 1);
    if (!(seconds > 0))
        lun_task_yield(t);
    else if (lun_task_sleep(t, lun_loop_deadline(t->done.loop, seconds)) != 0)
        return no_memory(L);
    return lunl_suspend(L, S, lua_gettop(L) - 1, sleep_k);
}

void lunl_open_await(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"await", l_await}, {"sleep", l_sleep}, {NULL, NULL}};
    lunl_register(L, functions);
}
