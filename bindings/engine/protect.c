/* SPDX-License-Identifier: MIT */
/*
 * protect.c - catching errors without catching cancellations, and cleanup on the way out.
 *
 * async.pcall and async.xpcall are what `except Exception` is in Python: error objects that
 * are no async.Error, that is CancelledError, KeyboardInterrupt and what users derive from
 * BaseError itself, pass through as if nobody stood in their way, and no code of the user's
 * runs for them. Everything called here may await: continuations carry on, nothing is kept
 * on the C stack.
 */
#include "../lunl.h"

/* Is the error one of those that pass? */
static bool passes(lua_State *L, int idx)
{
    return lunl_error_is(L, idx, LUNL_BASE_ERROR) && !lunl_error_is(L, idx, LUNL_ERROR);
}

/* The protected call is over; its results are all that is on the stack. */
static int pcall_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L);
    if (passes(L, -1))
        return lua_error(L);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* --- async.pcall(fn, ...) -> true, results or false, error
 * Calls fn(...) like pcall, but lets CancelledError and KeyboardInterrupt through. fn may
 * await. Throws TypeError if there is no argument. */
static int l_pcall(lua_State *L)
{
    if (lua_isnone(L, 1))
        lunl_type_error(L, 1, "value");
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, pcall_k);
    return pcall_k(L, status, 0);
}

/* The message handler of one xpcall: upvalue 1 the user's, 2 whether it kept out of this
 * error. */
static int filter(lua_State *L)
{
    bool pass = passes(L, 1);
    lua_pushboolean(L, pass);
    lua_replace(L, lua_upvalueindex(2));
    lua_settop(L, 1);
    if (pass)
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

enum { FILTER = 1, BEFORE_RESULTS = 1 };

static int xpcall_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - BEFORE_RESULTS;
    lua_getupvalue(L, FILTER, 2);
    bool passed = lua_toboolean(L, -1);
    lua_pop(L, 1);
    /* Looked at again: an error for want of memory comes without passing the filter. */
    if (passed && passes(L, -1))
        return lua_error(L);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* --- async.xpcall(fn, handler, ...) -> true, results or false, handler's result
 * Calls fn(...) like xpcall: handler(error) runs at the point of the error, with the stack
 * as it was, and cannot await; fn may. CancelledError and KeyboardInterrupt go through
 * without the handler being called. Throws TypeError if the handler cannot be called. */
static int l_xpcall(lua_State *L)
{
    lunl_check_callable(L, 2);
    lua_pushvalue(L, 2);
    lua_pushboolean(L, 0);
    lua_pushcclosure(L, filter, 2);
    lua_pushvalue(L, 1);
    lua_insert(L, 3);
    lua_replace(L, FILTER);
    lua_pushboolean(L, 1);
    lua_replace(L, 2);
    /* Now there are the filter, true, the function and its arguments. */
    int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, FILTER, 0, xpcall_k);
    return xpcall_k(L, status, 0);
}

/* What is to be done on the way out of a block; user value 1 is the function. */
struct defer {
    const lunl_type *type;
    bool called;
};

static const lunl_type defer_type = {"defer"};

/* --- async.defer(fn) -> closable
 * For `local _ <close> = async.defer(fn)`: fn(err) is called once, on the way out of the
 * block; err is the error that leaves it, or nil. fn may await; its results are ignored, an
 * error of its own takes the place of err and has that as its `context`. Throws TypeError if fn
 * cannot be called. */
static int l_defer(lua_State *L)
{
    lunl_check_callable(L, 1);
    lunl_new(L, &defer_type, sizeof(struct defer), 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    lunl_S(L)->events.opened++;
    return 1;
}

/* Message handler of the function: the stack is gone when its error is thrown again. */
static int record_throw(lua_State *L)
{
    lunl_record_throw(L, 1, true);
    lua_settop(L, 1);
    return 1;
}

enum { CLOSE_ERROR = 2, CLOSE_HANDLER = 3 };

/* The function has ended: an error of its own goes on, with the one before as its context. */
static int close_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD)
        return 0;
    if (lunl_error_is(L, -1, LUNL_BASE_ERROR) && !lua_rawequal(L, -1, CLOSE_ERROR)) {
        lua_pushliteral(L, "context");
        if (lua_rawget(L, -2) == LUA_TNIL) {
            lua_pushvalue(L, CLOSE_ERROR);
            lunl_error_set(L, -3, "context");
        }
        lua_pop(L, 1);
    }
    return lua_error(L);
}

/* --- defer:__close(err)
 * Calls the function, the first time. May suspend, as far as that function does. */
static int l_close(lua_State *L)
{
    struct defer *d = lunl_check(L, 1, &defer_type);
    if (d->called)
        return 0;
    d->called = true;
    lunl_S(L)->events.closed++;
    lua_settop(L, CLOSE_ERROR);
    lua_pushcfunction(L, record_throw);
    lua_getiuservalue(L, 1, 1);
    lua_pushnil(L);
    lua_setiuservalue(L, 1, 1);
    lua_pushvalue(L, CLOSE_ERROR);
    if (!lua_isnil(L, CLOSE_ERROR))
        return close_k(L, lua_pcallk(L, 1, 0, CLOSE_HANDLER, 0, close_k), 0);
    lua_callk(L, 1, 0, 0, close_k);
    return 0;
}

void lunl_open_protect(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"pcall", l_pcall}, {"xpcall", l_xpcall}, {"defer", l_defer}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", l_close}, {NULL, NULL}};
    lunl_newtype(L, &defer_type, NULL, meta);
    lua_pop(L, 1);
    lunl_register(L, functions);
}
