/* SPDX-License-Identifier: MIT */
/*
 * wrap.c - functions that take a callback, as functions that wait.
 *
 * Law: one future per call; the callback's first call settles it, all others, and those
 * that come after a cancel, do nothing. A callback that comes before the function returns
 * costs no suspension.
 */
#include "../lunl.h"

enum { MOST_POSITION = 200 };

/* --- callback(...): the first call gives the waiting wrapper its results. */
static int l_callback(lua_State *L)
{
    int n = lua_gettop(L);
    lun_future *f = lua_touserdata(L, lua_upvalueindex(3));
    if (lun_future_done(f))
        return 0;
    lua_pushvalue(L, lua_upvalueindex(3));
    lunl_store(L, n + 1, f, 1, n);
    /* A finaliser may have come in between, with another call or a cancel. */
    if (!lun_future_done(f))
        lun_future_settle(f, LUN_OK);
    return 0;
}

/* The function has been called; its future lies at 1. */
static int called(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lunl_await(L, lunl_S(L), 1, lua_touserdata(L, 1));
}

/* --- wrapped(...) -> what the callback got: calls the function with `...` and a callback
 * among them, and waits for the callback. Throws what the function throws; RuntimeError
 * outside a task. Suspends unless the callback came at once; safe to cancel: the callback
 * then does nothing. */
static int l_wrapped(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    int n = lua_gettop(L), at = (int)lua_tointeger(L, lua_upvalueindex(4));
    lunl_enter(L, S);
    /* Negative: behind all others, but not behind the function's last parameter. */
    if (at <= 0)
        at = at == 0 || n < -at ? n + 1 : -at;
    if (!lua_checkstack(L, MOST_POSITION + 8))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "too many arguments");
    if (n < at - 1) {
        n = at - 1;
        lua_settop(L, n);
    }
    lunl_new_future(L, S->loop, LUNL_KIND_FUTURE, sizeof(lun_future), 2);
    lua_insert(L, 1);
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_insert(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_callback, 3);
    lua_insert(L, at + 2);
    lua_callk(L, n + 1, 0, 0, called);
    return called(L, LUA_OK, 0);
}

/* How many parameters the function at 1 has, if that is a fixed number; else 0. */
static int parameters(lua_State *L)
{
    lua_Debug ar;
    if (!lua_isfunction(L, 1) || lua_iscfunction(L, 1))
        return 0;
    lua_pushvalue(L, 1);
    lua_getinfo(L, ">u", &ar);
    return ar.isvararg ? 0 : ar.nparams;
}

/* --- async.wrap(fn, pos?) -> function: `fn`, which takes a callback as its argument number
 * `pos` (1 to 200), as a function that waits and returns what the callback got. By default
 * the callback comes behind all other arguments, or, if a Lua function gets more than it
 * has parameters, as its last parameter. It may come at once, later, or never; its first
 * call counts. What `fn` itself returns is dropped. TypeError if `fn` cannot be called or
 * `pos` is no integer, ValueError if it is out of range. Does not suspend. */
static int l_wrap(lua_State *L)
{
    lunl_check_callable(L, 1);
    lua_Integer at =
        lua_isnoneornil(L, 2) ? -parameters(L) : lunl_check_integer(L, 2, 1, MOST_POSITION);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushinteger(L, at);
    lua_pushcclosure(L, l_wrapped, 4);
    return 1;
}

void lunl_open_wrap(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"wrap", l_wrap},
        {NULL, NULL},
    };
    lunl_register(L, functions);
}
