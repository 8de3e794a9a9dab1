/* SPDX-License-Identifier: MIT */
/*
 * alive.c - the part of lunation.probe that looks: what is alive in the running loop and where it
 * was made, what has been opened and not closed. The part that changes things is probe.c.
 *
 * Law: nothing here makes a probe, so looking costs a loop nothing afterwards.
 */
#include "../state.h"

/* --- probe.sites(boolean?) -> boolean before
 * Whether tasks, futures, Handles and handles made from now on remember where that was; handles
 * that are dropped unclosed are reported then, as in debug. nil only asks. */
static int l_sites(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    bool before = loop->sites;
    if (!lua_isnoneornil(L, 1) && !lua_isboolean(L, 1))
        lunl_type_error(L, 1, "boolean");
    if (!lua_isnoneornil(L, 1))
        loop->sites = lua_toboolean(L, 1);
    lua_pushboolean(L, before);
    return 1;
}

lua_Integer lunl_probe_row(lua_State *L, lua_Integer n, const char *kind, const char *text,
                           const char *where, int object)
{
    int list = lua_gettop(L);
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, text);
    lua_setfield(L, -2, "text");
    if (where && *where) {
        lua_pushstring(L, where);
        lua_setfield(L, -2, "where");
    }
    if (object) {
        lua_pushvalue(L, object);
        lua_setfield(L, -2, "object");
    }
    lua_rawseti(L, list, ++n);
    return n;
}

/* Appends the task in `slot` to the list on top. */
static lua_Integer list_task(lua_State *L, lunl_state *S, lunl_task *t, lua_Integer n)
{
    int top = lua_gettop(L);
    lunl_push_held(L, S, t->t.done.order);
    lunl_push_future_text(L, top + 1);
    lunl_push_source(L, top + 1, t);
    lua_pushvalue(L, top);
    n = lunl_probe_row(L, n, "task", lua_tostring(L, top + 2), lua_tostring(L, top + 3),
                       top + 1);
    lua_rawgeti(L, top, n);
    lua_pushinteger(L, (lua_Integer)t->number);
    lua_setfield(L, -2, "number");
    /* Last: it marks the tasks that it meets. */
    if (S->task && lun_task_would_cycle(&S->task->t, &t->t.done)) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "awaits");
    }
    lua_settop(L, top);
    return n;
}

/* Protected, while the collector stands still: finalisers could change what is listed. */
static int list_live(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_loop *loop = S->loop;
    lua_Integer n = 0;
    uint32_t n_tasks;
    lunl_task **tasks = lunl_list_tasks(L, S, loop, &n_tasks);
    lua_newtable(L);
    for (uint32_t i = 0; i < n_tasks; i++)
        n = list_task(L, S, tasks[i], n);
    n = lunl_list_callbacks(L, loop, n);
    n = lunl_list_handles(L, loop, n);
    if (loop->loop.count.requests > 0) {
        lua_pushfstring(L, "%d in flight", (int)loop->loop.count.requests);
        lua_insert(L, -2);
        lunl_probe_row(L, n, "request", lua_tostring(L, -2), NULL, 0);
    }
    return 1;
}

/* --- probe.live() -> list of {kind, text, where?, object?, number?, awaits?, id?, lingers?}
 * What is alive in the loop: every unfinished task, pending timer and callback, open handle, and
 * one row for requests in flight. `where` is "file:line" of its making, if sites were on; of
 * tasks, `number` tells them apart, and `awaits` is true for the running one and those that wait
 * for it. Of handles `id` is for probe.close, and `lingers` says that it closes by itself soon. */
static int l_live(lua_State *L)
{
    bool runs = lua_gc(L, LUA_GCISRUNNING);
    lunl_running_loop(L, lunl_S(L));
    lua_settop(L, 0);
    for (int i = 1; i <= 2; i++)
        lua_pushvalue(L, lua_upvalueindex(i));
    lua_pushcclosure(L, list_live, 2);
    lua_gc(L, LUA_GCSTOP);
    int status = lua_pcall(L, 0, 1, 0);
    if (runs)
        lua_gc(L, LUA_GCRESTART);
    return status == LUA_OK ? 1 : lua_error(L);
}

/* --- probe.site(object) -> "file:line" or nil: where a task or Handle was made, if sites were on. */
static int l_site(lua_State *L)
{
    lua_settop(L, 1);
    lun_future *f = lunl_to_future(L, 1);
    if (f && lun_is_task(f))
        lunl_push_source(L, 1, (lunl_task *)f);
    else
        lunl_push_handle_source(L, 1);
    return 1;
}

/* --- probe.events() -> {acquired, released, opened, closed}
 * How many locks and permits were taken and given back, and how many closables (timeout, TaskGroup,
 * defer) were opened and closed, since the state was made. */
static int l_events(lua_State *L)
{
    const lunl_state *S = lunl_S(L);
    const struct {
        const char *name;
        uint64_t n;
    } rows[] = {{"acquired", S->events.acquired},
                {"released", S->events.released},
                {"opened", S->events.opened},
                {"closed", S->events.closed}};
    lua_createtable(L, 0, 4);
    for (int i = 0; i < 4; i++) {
        lua_pushinteger(L, (lua_Integer)rows[i].n);
        lua_setfield(L, -2, rows[i].name);
    }
    return 1;
}

/* --- probe.destroy(task)
 * Closes an unfinished task by force: its closers run but cannot await; it ends cancelled. Harmless
 * if it is done; RuntimeError for the running one. */
static int l_destroy(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_future *f = lunl_to_future(L, 1);
    lua_settop(L, 1);
    if (!f || !lun_is_task(f))
        lunl_type_error(L, 1, "Task");
    if (lun_future_done(f))
        return 0;
    lunl_task *t = (lunl_task *)f;
    if (t->t.at == LUN_AT_RUNNING)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "destroy: the task is running");
    lunl_task_destroy(L, S, t);
    return 0;
}

/* --- probe.collect(): a full collection that finds every error that nobody can look at any more. */
static int l_collect(lua_State *L)
{
    lunl_forget_origin(L, lunl_S(L));
    lunl_collect(L);
    return 0;
}

/* --- probe.close(id) -> boolean: closes the handle that live() listed; false if it closes already. */
static int l_close(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    lua_pushboolean(L, lunl_close_listed(loop, lua_touserdata(L, 1)));
    return 1;
}

static int roomy_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L);
}

/* --- probe.roomy(fn, ...) -> results
 * fn(...) on a stack that need not move before code is nested deeply: some builds of Lua do not
 * bear that inside __concat, and error messages in colour are made with it. Suspends if fn does. */
static int l_roomy(lua_State *L)
{
    enum { SLOTS = 900 }; /* more are not kept when the coroutine is used again */
    luaL_checkstack(L, SLOTS, NULL);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, roomy_k);
    return roomy_k(L, LUA_OK, 0);
}

/* --- probe.noticed() -> {interrupts, failures, unretrieved, reports, alive}
 * How many SIGINTs have come under this run, how many futures have failed since the state was
 * made, how many errors nobody has looked at yet, whether there is something that the exception
 * handler has not been told yet, and how many things live() would list, those that close already
 * included: cheap. */
static int l_noticed(lua_State *L)
{
    const lunl_state *S = lunl_S(L);
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, S->interrupts);
    lua_setfield(L, -2, "interrupts");
    lua_pushinteger(L, (lua_Integer)S->failures);
    lua_setfield(L, -2, "failures");
    lua_pushinteger(L, S->owed);
    lua_setfield(L, -2, "unretrieved");
    lua_pushboolean(L, S->loop && !lun_list_alone(&S->loop->loop.faults));
    lua_setfield(L, -2, "reports");
    if (S->loop) {
        const lun_counters *c = &S->loop->loop.count;
        uint64_t alive =
            (uint64_t)c->tasks + c->callbacks + c->handles + c->inner + c->requests;
        lua_pushinteger(L, (lua_Integer)alive);
        lua_setfield(L, -2, "alive");
    }
    return 1;
}

const luaL_Reg lunl_alive_functions[] = {
    {"sites", l_sites},     {"site", l_site},       {"live", l_live},
    {"events", l_events},   {"destroy", l_destroy}, {"roomy", l_roomy},
    {"noticed", l_noticed}, {"close", l_close},     {"collect", l_collect},
    {NULL, NULL},
};
