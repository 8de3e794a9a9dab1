/* SPDX-License-Identifier: MIT */
/*
 * future.c - futures as scripts see them, and what futures and tasks have in common.
 *
 * Each loop has metatables of its own for its futures and tasks: they keep the loop object alive
 * as long as one of them is, so a future may outlive the run without a reference count.
 */
#include "../state.h"

#include <string.h>

const lun_kind lunl_future_kinds[LUNL_KIND_COUNT] = {
    [LUNL_KIND_FUTURE] = {"Future", lun_future_cancel_kind},
    [LUNL_KIND_TASK] = {"Task", lun_task_cancel_kind},
    [LUNL_KIND_SHIELD] = {"Future", lun_future_cancel_kind},
};

static lun_future *check_future(lua_State *L)
{
    lun_future *f = lunl_to_future(L, 1);
    if (!f)
        lunl_type_error(L, 1, "Future");
    return f;
}

static lun_future *check_plain(lua_State *L, const char *what)
{
    lun_future *f = check_future(L);
    if (lun_is_task(f))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "Task does not support %s operation", what);
    if (lun_future_done(f))
        lunl_throw(L, LUNL_INVALID_STATE_ERROR, "%s: the future is done already", what);
    return f;
}

lun_future *lunl_new_future(lua_State *L, lunl_loop *loop, int kind, size_t size, int nuv)
{
    LUN_ASSERT(nuv >= 2);
    lun_future *f = lua_newuserdatauv(L, size, nuv);
    memset(f, 0, size);
    lun_future_init(f, &loop->loop, &lunl_future_kinds[kind]);
    lua_rawgeti(L, LUA_REGISTRYINDEX,
                kind == LUNL_KIND_TASK ? loop->mt_task : loop->mt_future);
    lua_setmetatable(L, -2);
    if ((loop->debug || loop->sites) && kind != LUNL_KIND_TASK) {
        lunl_push_site(L); /* where it is made; a failure record takes this with it */
        lua_setiuservalue(L, -2, 2);
    }
    return f;
}

/* --- future:done() -> boolean: it has a result or an error, or was cancelled. */
static int l_done(lua_State *L)
{
    lua_pushboolean(L, lun_future_done(check_future(L)));
    return 1;
}

/* --- future:cancelled() -> boolean: it ended by cancellation. */
static int l_cancelled(lua_State *L)
{
    lua_pushboolean(L, check_future(L)->state == LUN_CANCELLED);
    return 1;
}

/* --- future:result() -> values
 * The results. Throws the error if it failed, CancelledError if it was cancelled,
 * InvalidStateError while it is pending. The error counts as retrieved. Does not suspend. */
static int l_result(lua_State *L)
{
    return lunl_outcome(L, 1, check_future(L));
}

/* --- future:exception() -> error value or nil
 * The error, which counts as retrieved. Throws CancelledError if it was cancelled,
 * InvalidStateError while it is pending. Does not suspend. */
static int l_exception(lua_State *L)
{
    lun_future *f = check_future(L);
    if (f->state == LUN_PENDING)
        lunl_throw(L, LUNL_INVALID_STATE_ERROR, "Exception is not set.");
    if (f->state == LUN_OK) {
        lua_pushnil(L);
        return 1;
    }
    lunl_push_error(L, 1, f);
    return f->state == LUN_CANCELLED ? lua_error(L) : 1;
}

/* --- future:cancel(message?) -> boolean
 * Cancels a future at once; asks a task to stop: see the section on cancellation. False if it is
 * done already. Does not suspend. */
static int l_cancel(lua_State *L)
{
    lun_future *f = check_future(L);
    lua_settop(L, 2);
    lua_pushboolean(L, lunl_cancel(L, lunl_S(L), f, 1, lua_isnil(L, 2) ? 0 : 2));
    return 1;
}

/* --- future:set_result(...): gives the pending future its results; InvalidStateError when done. */
static int l_set_result(lua_State *L)
{
    check_plain(L, "set_result");
    uint16_t how = lunl_pack(L, 2, lua_gettop(L) - 1);
    lun_future *f = check_plain(L, "set_result");
    f->guest |= how;
    lua_setiuservalue(L, 1, 1);
    lun_future_settle(f, LUN_OK);
    return 0;
}

/* --- future:set_exception(error)
 * Fails the pending future with any value; nil becomes an Error "nil", a CancelledError cancels
 * it. InvalidStateError when done. */
static int l_set_exception(lua_State *L)
{
    lun_future *f = check_plain(L, "set_exception");
    lua_settop(L, 2);
    lunl_fail(L, 1, f, 1);
    return 0;
}

/* --- future:add_done_callback(callback)
 * `callback(future)` is called soon after the future is done, in order with others and with the
 * tasks that wait; also if it is done already. TypeError if it cannot be called. */
static int l_add_done_callback(lua_State *L)
{
    lun_future *f = check_future(L);
    lunl_check_callable(L, 2);
    lunl_add_callback(L, lunl_loop_of(f->loop), 1, f, 2);
    lua_pop(L, 1);
    return 0;
}

/* --- future:remove_done_callback(callback) -> integer: how many were removed. */
static int l_remove_done_callback(lua_State *L)
{
    lun_future *f = check_future(L);
    lunl_check_callable(L, 2);
    lua_pushinteger(L, lunl_remove_callbacks(L, f, 2));
    return 1;
}

/* --- future:get_loop() -> Loop */
static int l_get_loop(lua_State *L)
{
    lun_future *f = check_future(L);
    (void)f;
    lua_getmetatable(L, 1);
    lua_rawgeti(L, -1, 1);
    return 1;
}

/* Text of a result for tostring: short, on one line. */
static void push_short(lua_State *L, int idx)
{
    size_t len;
    const char *s = lunl_text(L, idx, &len);
    enum { MOST = 80 };
    if (len > MOST) {
        lua_pushlstring(L, s, MOST);
        lua_pushliteral(L, "...");
        lua_concat(L, 2);
        lua_replace(L, -2);
    }
}

/* Adds " result=..." or " exception=..." of a done future to the buffer's string. */
static void add_outcome(lua_State *L, int idx, lun_future *f, luaL_Buffer *b)
{
    if (f->state == LUN_ERROR) {
        luaL_addstring(b, " exception=");
        lua_getiuservalue(L, idx, 1);
    } else if (f->state == LUN_OK && !(f->guest & LUNL_NO_VALUES)) {
        luaL_addstring(b, " result=");
        lunl_push_first(L, idx, f);
    } else {
        return;
    }
    push_short(L, -1);
    lua_remove(L, -2);
    luaL_addvalue(b);
}

static const char *state_name(const lun_future *f)
{
    return f->state == LUN_PENDING     ? "pending"
           : f->state == LUN_CANCELLED ? "cancelled"
                                       : "finished";
}

void lunl_push_future_text(lua_State *L, int idx)
{
    luaL_Buffer b;
    lun_future *f = lunl_to_future(L, idx);
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 12, NULL);
    /* Pieces that call back into Lua come first: the buffer may hold a place on the stack. */
    int top = lua_gettop(L);
    if (lun_is_task(f))
        lunl_push_task_parts(L, idx,
                             (lunl_task *)f); /* name, fn, what it waits for or nil */
    else
        lua_settop(L, top + 3);
    luaL_buffinit(L, &b);
    lua_pushfstring(L, "<%s %s", f->kind->name, state_name(f));
    luaL_addvalue(&b);
    if (lun_is_task(f)) {
        lua_pushfstring(L, " name='%s' fn=<%s>", lua_tostring(L, top + 1),
                        lua_tostring(L, top + 2));
        luaL_addvalue(&b);
        if (lua_isstring(L, top + 3)) {
            lua_pushfstring(L, " wait_for=%s", lua_tostring(L, top + 3));
            luaL_addvalue(&b);
        }
    }
    add_outcome(L, idx, f, &b);
    luaL_addchar(&b, '>');
    luaL_pushresult(&b);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
}

/* --- tostring(future) -> "<Future finished result=42>" */
static int l_tostring(lua_State *L)
{
    check_future(L);
    lunl_push_future_text(L, 1);
    return 1;
}

/* --- async.Future(loop?) -> Future
 * A pending future of that loop, or of the running one. RuntimeError if none runs or it is
 * closed. */
static int l_future(lua_State *L)
{
    lunl_loop *loop =
        lua_isnoneornil(L, 1) ? lunl_running_loop(L, lunl_S(L)) : lunl_check_loop(L, 1);
    lunl_new_future(L, loop, LUNL_KIND_FUTURE, sizeof(lun_future), 2);
    return 1;
}

static const luaL_Reg common[] = {
    {"done", l_done},
    {"cancelled", l_cancelled},
    {"result", l_result},
    {"exception", l_exception},
    {"cancel", l_cancel},
    {"set_result", l_set_result},
    {"set_exception", l_set_exception},
    {"add_done_callback", l_add_done_callback},
    {"remove_done_callback", l_remove_done_callback},
    {"get_loop", l_get_loop},
    {NULL, NULL},
};

/* Registry keys of the method tables that all loops share. */
static const char future_methods = 0, task_methods = 0;

/* User values of a loop object. */
enum { LOOP_MT_FUTURE = 3, LOOP_MT_TASK };

/* A metatable for futures of the loop object at `loop`, as its user value `uv`. */
static void make_metatable(lua_State *L, const char *name, const void *methods, int loop,
                           int uv)
{
    static const luaL_Reg meta[] = {{"__tostring", l_tostring}, {NULL, NULL}};
    lua_createtable(L, 1, 4);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    lua_rawgetp(L, LUA_REGISTRYINDEX, methods);
    lua_setfield(L, -2, "__index");
    lunl_register(L, meta);
    lua_pushvalue(L, loop);
    lua_rawseti(L, -2, 1);
    lua_setiuservalue(L, loop, uv);
}

void lunl_make_metatables(lua_State *L, lunl_loop *loop, int idx)
{
    make_metatable(L, "Future", &future_methods, idx, LOOP_MT_FUTURE);
    make_metatable(L, "Task", &task_methods, idx, LOOP_MT_TASK);
    loop->mt_future = loop->mt_task = LUA_NOREF;
}

void lunl_loop_keep(lua_State *L, lunl_loop *loop, int idx)
{
    if (loop->mt_future != LUA_NOREF)
        return;
    /* One after the other: the second may find no memory. */
    if (loop->mt_task == LUA_NOREF) {
        lua_getiuservalue(L, idx, LOOP_MT_TASK);
        loop->mt_task = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_getiuservalue(L, idx, LOOP_MT_FUTURE);
    loop->mt_future = luaL_ref(L, LUA_REGISTRYINDEX);
}

void lunl_loop_let(lua_State *L, lunl_loop *loop)
{
    const lun_counters *c = &loop->loop.count;
    if (!loop->closed && c->tasks + c->callbacks + c->handles + c->requests > 0)
        return;
    luaL_unref(L, LUA_REGISTRYINDEX, loop->mt_future);
    luaL_unref(L, LUA_REGISTRYINDEX, loop->mt_task);
    loop->mt_future = loop->mt_task = LUA_NOREF;
}

void lunl_open_future(lua_State *L)
{
    static const luaL_Reg functions[] = {{"Future", l_future}, {NULL, NULL}};
    lunl_register(L, functions);
    lua_newtable(L);
    lunl_register(L, common);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &future_methods);
    lua_newtable(L);
    lunl_register(L, common);
    lunl_register(L, lunl_task_methods);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &task_methods);
}
