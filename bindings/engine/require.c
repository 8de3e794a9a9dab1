/* SPDX-License-Identifier: MIT */
/*
 * require.c - a `require` in which the top level of a module may await.
 *
 * Searchers, results and error texts are Lua's own. What is new follows from awaiting: a
 * module can be half loaded while other tasks run. Who requires it then joins that load:
 * waits until it has ended, and gets its results or its error. A load whose task was
 * cancelled or closed is begun again by the first who joined it.
 *
 * A load in progress is a future in the table of loads, by name: it keeps the results for
 * those who join, and the trace of a failure. They wait for the join inside it, which has
 * no arms: it ends with the load, and to the search for cycles it says that it waits for
 * the task that loads.
 *
 * Law: a load that ends leaves the table first and wakes who joined, and only then stores
 * what came of it, which may fail for lack of memory: who finds nothing stored begins
 * again.
 */
#include "../state.h"

struct load {
    lun_future f;   /* first; what came of it: the module and the loader's data */
    lun_waiter end; /* in by->done: the task ends, so its load does */
    lun_task *by;   /* whose load it is, borrowed; NULL once it has ended */
    lun_join over;  /* what those wait for who join */
};

enum {
    PACKAGE = 1
}; /* key of the package table in the table of loads; names are strings */

static const char loads_key = 0;

static void end_load(struct load *load)
{
    lun_waiter_drop(&load->end);
    load->by = NULL;
    if (!lun_future_done(&load->over.done))
        lun_future_settle(&load->over.done, LUN_OK);
}

static void task_ended(lun_waiter *w)
{
    end_load(lun_container(w, struct load, end));
}

/* The second: somebody has joined, so that other tasks depend on the one that loads. */
static const lun_waiter_kind end_waiter = {task_ended, false};
static const lun_waiter_kind joined_waiter = {task_ended, true};

/* For the search for cycles. */
static lun_future *loading_task(lun_join *over)
{
    struct load *load = lun_container(over, struct load, over);
    bool first = over->restart;
    over->restart = false;
    return first && load->by ? &load->by->done : NULL;
}

static int require(lua_State *L, lunl_state *S);

static int joined_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, S, &on);
    struct load *load = lua_touserdata(L, 2);
    if (load->f.state == LUN_OK || load->f.state == LUN_ERROR)
        return lunl_outcome(L, 2, &load->f);
    lua_settop(L, 1);
    return require(L, S);
}

/* Waits for a load of another task; the stack is the name and the load. */
static int join(lua_State *L, lunl_state *S, struct load *load)
{
    lun_task *t = lunl_enter(L, S);
    if (load->f.loop != t->done.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "module '%s' is being loaded in another loop",
                   lua_tostring(L, 1));
    load->end.kind = &joined_waiter;
    if (lun_task_would_cycle(t, &load->over.done))
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "module '%s' is being loaded by a task that waits for this one: "
                   "modules cannot require each other",
                   lua_tostring(L, 1));
    lun_task_wait(t, &load->over.done, false);
    return lunl_suspend(L, S, 0, joined_k);
}

/*
 * Puts the loader of the module at 1 and its data on the stack, or throws what Lua's own
 * throws: a text, since programs look into it.
 */
static void find_loader(lua_State *L)
{
    enum { SEARCHERS = 2, TEXT };
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loads_key);
    lua_rawgeti(L, -1, PACKAGE);
    if (!lua_istable(L, -1) || lua_getfield(L, -1, "searchers") != LUA_TTABLE)
        luaL_error(L, "'package.searchers' must be a table");
    lua_replace(L, SEARCHERS);
    lua_settop(L, SEARCHERS);
    lua_pushliteral(L, "");
    for (int i = 1;; i++) {
        if (lua_rawgeti(L, SEARCHERS, i) == LUA_TNIL)
            luaL_error(L, "module '%s' not found:%s", lua_tostring(L, 1),
                       lua_tostring(L, TEXT));
        lua_pushvalue(L, 1);
        lua_call(L, 1, 2);
        if (lua_isfunction(L, -2))
            break;
        if (lua_isstring(L, -2)) {
            lua_pushfstring(L, "%s\n\t%s", lua_tostring(L, TEXT), lua_tostring(L, -2));
            lua_replace(L, TEXT);
        }
        lua_settop(L, TEXT);
    }
    lua_replace(L, 3);
    lua_replace(L, 2);
}

/* The loader's result on top becomes what package.loaded says of the module at 1. */
static void store_module(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_insert(L, -2);
    lua_pushvalue(L, 1);
    lua_insert(L, -2);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        if (lua_gettable(L, -2) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushvalue(L, 1);
            lua_pushboolean(L, 1);
            lua_settable(L, -3);
            lua_pushboolean(L, 1);
        }
    } else {
        lua_settable(L, -3);
        lua_pushvalue(L, 1);
        lua_gettable(L, -2);
    }
    lua_replace(L, -2);
}

/* Runs where a module's top level throws: the load remembers the trace, for all who get it.
 */
static int load_msgh(lua_State *L)
{
    struct load *load = lua_touserdata(L, lua_upvalueindex(3));
    if (lunl_error_is(L, 1, LUNL_CANCELLED_ERROR))
        return 1;
    luaL_checkstack(L, 16, NULL);
    if (lua_isnil(L, 1)) {
        lua_settop(L, 0);
        lunl_error_new(L, LUNL_ERROR, "nil");
    }
    lua_pushvalue(L, lua_upvalueindex(3));
    lunl_record_failure(L, 2, &load->f, 1, lunl_error_bits(L, 1) != 0, 1);
    lua_settop(L, 1);
    return 1;
}

/* The loader has ended; the stack: name, load, data, handler, and its result or error. */
static int loaded_k(lua_State *L, int status, lua_KContext ctx)
{
    struct load *load = lua_touserdata(L, 2);
    (void)ctx;
    end_load(load);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loads_key);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, -2) == LUA_TUSERDATA && lua_touserdata(L, -1) == load) {
        lua_pushvalue(L, 1);
        lua_pushnil(L);
        lua_rawset(L, -4);
    }
    lua_settop(L, 5);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pushvalue(L, 5);
        lun_future_settle(&load->f, lunl_store_error(L, 2, &load->f));
        if (load->f.state == LUN_ERROR)
            return lunl_outcome(L, 2, &load->f);
        return lua_error(L);
    }
    store_module(L);
    lua_pushvalue(L, 3);
    lunl_store(L, 2, &load->f, 5, 2);
    lun_future_settle(&load->f, LUN_OK);
    return 2;
}

/* The stack: name, loader, data. Outside of tasks: as Lua's own. */
static int load_plainly(lua_State *L)
{
    lua_pushvalue(L, 3);
    lua_insert(L, 2);
    lua_pushvalue(L, 1);
    lua_insert(L, 4);
    lua_call(L, 2, 1);
    store_module(L);
    lua_rotate(L, 2, 1);
    return 2;
}

/* The same inside a task: notes the load, then runs the loader, which may await. */
static int load_awaiting(lua_State *L, lunl_state *S)
{
    static const int FUTURE = 2, UPVALUES = 3;
    lun_task *t = &S->task->t;
    lunl_loop *loop = lunl_loop_of(t->done.loop);
    lun_future *f = lunl_new_future(L, loop, LUNL_KIND_FUTURE, sizeof(struct load), 2);
    struct load *load = (struct load *)(void *)f;
    load->by = t;
    lun_join_init(&load->over, t->done.loop, 0, UINT32_MAX, 0);
    load->over.child = loading_task;
    lun_waiter_init(&load->end, &end_waiter);
    lua_insert(L, FUTURE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, FUTURE);
    lua_pushcclosure(L, load_msgh, UPVALUES);
    lua_rotate(L, 3, 2); /* name, load, data, handler, loader */
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loads_key);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, FUTURE);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    lun_waiter_watch(&load->end, &t->done);
    return loaded_k(L, lua_pcallk(L, 2, 1, 4, 0, loaded_k), 0);
}

/* Can the calling function suspend its task? */
static bool can_suspend(lua_State *L, lunl_state *S)
{
    return S->task && L == S->running && S->outer_yieldable && lua_isyieldable(L);
}

/* The stack is the name. */
static int require(lua_State *L, lunl_state *S)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &loads_key);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    struct load *load = lua_touserdata(L, -1);
    lua_replace(L, 2);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, 1);
    lua_gettable(L, 3);
    bool there = lua_toboolean(L, -1);
    if (!load || !load->by) {
        if (there)
            return 1;
        lua_settop(L, 1);
        find_loader(L);
        return S->task ? load_awaiting(L, S) : load_plainly(L);
    }
    /* A module may say early what it will be, and so allow a cycle. */
    bool own = S->task && load->by == &S->task->t;
    if (there &&
        (own || !can_suspend(L, S) || lun_task_would_cycle(&S->task->t, &load->by->done)))
        return 1;
    if (own)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "module '%s' requires itself: it is still being loaded",
                   lua_tostring(L, 1));
    lua_settop(L, 2);
    return join(L, S, load);
}

/* --- async.require(name) -> module, data
 * Loads the module as Lua's `require` does, with the same searchers and errors; its top
 * level may await, which suspends the calling task. Joins a load of the same module that
 * another task has begun. Throws RuntimeError for a module that requires itself, directly
 * or by others, unless it has set package.loaded before. Safe to cancel: the module is then
 * not loaded, and who joined the load begins again. */
static int l_require(lua_State *L)
{
    size_t len;
    lunl_check_string(L, 1, &len);
    lua_settop(L, 1);
    return require(L, lunl_S(L));
}

void lunl_open_require(lua_State *L)
{
    static const luaL_Reg functions[] = {{"require", l_require}, {NULL, NULL}};
    lua_newtable(L);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "package");
        lua_rawseti(L, -3, PACKAGE);
    }
    lua_pop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &loads_key);
    lunl_register(L, functions);
}
