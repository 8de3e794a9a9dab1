/* SPDX-License-Identifier: MIT */
/*
 * loop.c - the loop object, and driving it: the only place from which turns are run.
 *
 * User values of a loop object: 1 the exception handler, 3 and 4 the metatables of its futures
 * and tasks (future.c), which keep it alive. Errors that leave the base level (memory) are caught
 * here, so that the core is put in order before they go on.
 */
#include "../state.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const lunl_type lunl_loop_type = {"Loop"};

lunl_loop *lunl_running_loop(lua_State *L, lunl_state *S)
{
    if (!S->loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "no running event loop");
    return S->loop;
}

static lunl_loop *check_any(lua_State *L, int arg)
{
    return lunl_check(L, arg, &lunl_loop_type);
}

lunl_loop *lunl_check_loop(lua_State *L, int arg)
{
    lunl_loop *loop = check_any(L, arg);
    if (loop->closed)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "Event loop is closed");
    lunl_loop_keep(L, loop, arg);
    return loop;
}

void lunl_push_loop(lua_State *L, lunl_loop *loop)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, loop->mt_future);
    lua_rawgeti(L, -1, 1);
    lua_replace(L, -2);
}

uint64_t lunl_deadline_at(double when)
{
    double ns = ceil(when * 1e9);
    return ns <= 0 ? 0 : ns >= 9e18 ? LUN_NEVER : (uint64_t)ns;
}

void lunl_report_slow(lua_State *L, lunl_loop *loop, uint64_t began, int idx)
{
    char line[512], seconds[32];
    size_t len;
    double took = (double)(uv_hrtime() - began) / 1e9;
    if (took < loop->slow_callback_duration)
        return;
    luaL_checkstack(L, 8, NULL);
    snprintf(seconds, sizeof seconds, "%.3f", took);
    const char *text = lunl_text(L, idx, &len);
    snprintf(line, sizeof line, "Executing %s took %s seconds", text, seconds);
    lun_say(line);
    lua_pop(L, 1);
}

/* ---- idle: finding lost errors ---- */

/* What bursts have left in the pool goes by halves, a second apart: the next burst may be near. */
static void trim(lunl_state *S, const lun_loop *core)
{
    enum { KEPT = 16, INTERVAL = 1000000000 };
    if (S->n_pool <= KEPT || core->now < S->trim_after)
        return;
    S->trim_after = core->now + INTERVAL;
    lunl_trim_pool(S->L, S, S->n_pool / 2 > KEPT ? S->n_pool / 2 : KEPT);
}

/*
 * An idle loop collects while failures that nobody has seen exist and Lua has run since: only so
 * are they found. Rationed: at most a tenth of the time, and never twice for one state of things.
 */
static bool on_idle(lun_loop *core, uint64_t *until)
{
    lunl_loop *loop = lunl_loop_of(core);
    lunl_state *S = loop->S;
    trim(S, core);
    if (!lun_list_alone(&core->faults) || (loop->probe && lunl_probe_idle(loop)))
        return true;
    if (S->owed == 0 || !S->ran)
        return false;
    uint64_t now = uv_hrtime();
    if (now < S->collect_after) {
        uint64_t after = S->collect_after + core->skew;
        if (!core->virtual_clock && after < *until)
            *until = after;
        return false;
    }
    S->ran = false;
    lunl_forget_origin(S->L, S);
    lunl_collect(S->L);
    uint64_t cost = uv_hrtime() - now;
    S->collect_after = now + cost * 10;
    return !lun_list_alone(&core->faults);
}

/* ---- driving ---- */

typedef struct drive {
    lunl_state *S;
    lunl_loop *loop;
    enum lun_ran ran;
} drive;

static int drive_protected(lua_State *L)
{
    drive *d = lua_touserdata(L, 1);
    luaL_checkstack(L, 40, NULL);
    lua_settop(L, 2);
    d->S->message_index = 2;
    d->ran = lun_loop_run(&d->loop->loop);
    return 0;
}

int lunl_at_base(lua_State *L, lunl_state *S, int idx, int fn, void *ud)
{
    lunl_loop *loop = lua_touserdata(L, idx);
    /* Another loop may run: it can close this one from a task or a callback of its own. */
    lunl_state around = *S;
    luaL_checkstack(L, 8, NULL);
    lunl_loop_keep(L, loop, idx);
    S->loop = loop;
    S->L = L;
    S->task = NULL;
    S->running = NULL;
    S->message_index = 0;
    S->ran = true;
    lunl_state *before = lunl_make_hot(S);
    if (!around.loop) {
        lun_handler_push(&loop->loop, &S->lost_handler);
        if (S->n_lost > 0) {
            /* Found while no loop ran: this one tells. */
            lun_list_drop(&S->lost_fault.link);
            lun_fault_raise(&loop->loop, &S->lost_fault);
        }
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, fn);
    lua_pushlightuserdata(L, ud);
    int status = lua_pcall(L, 1, 0, 0);
    if (!around.loop)
        lun_handler_drop(&S->lost_handler);
    lunl_make_hot(before);
    if (!around.loop)
        lunl_loop_let(L, loop);
    S->loop = around.loop;
    S->L = around.L;
    S->task = around.task;
    S->running = around.running;
    S->outer_yieldable = around.outer_yieldable;
    S->message_index = around.message_index;
    return status;
}

int lunl_drive(lua_State *L, lunl_state *S, int idx, enum lun_ran *ran)
{
    lunl_loop *loop = lua_touserdata(L, idx);
    drive d = {S, loop, LUN_RAN_STOPPED};
    lunl_check_idle(L, S);
    int status = lunl_at_base(L, S, idx, S->drive, &d);
    if (status != LUA_OK)
        lun_loop_left(&loop->loop);
    *ran = d.ran;
    return status;
}

void lunl_check_idle(lua_State *L, lunl_state *S)
{
    if (S->loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "an event loop is running already in this Lua state");
}

/* ---- making and closing ---- */

static void read_options(lua_State *L, int opts, lun_policy *policy, lunl_loop *loop)
{
    loop->shutdown_grace = 10;
    if (!opts || !lunl_opt_table(L, opts))
        return;
    if (lunl_option(L, opts, "debug", LUA_TBOOLEAN) != LUA_TNIL)
        loop->debug = lua_toboolean(L, -1);
    if (lunl_option(L, opts, "clock", LUA_TSTRING) != LUA_TNIL) {
        const char *clock = lua_tostring(L, -1);
        policy->virtual_clock = strcmp(clock, "virtual") == 0;
        if (!policy->virtual_clock && strcmp(clock, "real") != 0)
            lunl_arg_error(L, opts, LUNL_VALUE_ERROR,
                           "clock: \"real\" or \"virtual\" expected, got \"%s\"", clock);
    }
    if (lunl_option(L, opts, "seed", LUA_TNUMBER) != LUA_TNIL) {
        if (!lua_isinteger(L, -1))
            lunl_arg_error(L, opts, LUNL_TYPE_ERROR, "seed: integer expected, got number");
        policy->shuffle = true;
        policy->seed = (uint64_t)lua_tointeger(L, -1);
    }
    if (lunl_option(L, opts, "shutdown_grace", LUA_TNUMBER) != LUA_TNIL) {
        loop->shutdown_grace = lua_tonumber(L, -1);
        if (!(loop->shutdown_grace >= 0))
            lunl_arg_error(L, opts, LUNL_VALUE_ERROR, "shutdown_grace: 0 or more expected");
    }
    lua_pop(L, 4);
}

lunl_loop *lunl_new_loop(lua_State *L, int opts)
{
    lunl_state *S = lunl_S(L);
    lun_policy policy = {0};
    lunl_loop *loop = lunl_new(L, &lunl_loop_type, sizeof *loop, 4);
    int idx = lua_gettop(L);
    loop->closed = true;
    loop->S = S;
    loop->slow_callback_duration = 0.1;
    read_options(L, opts, &policy, loop);
    /* A host that counts or limits Lua's memory sees ours, too. */
    policy.allocator.alloc = lua_getallocf(L, &policy.allocator.ud);
    int err = lun_loop_init(&loop->loop, NULL, &policy);
    if (err != 0)
        lunl_throw_uv(L, err, "uv_loop_init", NULL);
    loop->closed = false;
    lun_list_init(&loop->callbacks);
    loop->loop.asked = lunl_asked;
    loop->loop.asking = lunl_asking;
    loop->loop.idle = on_idle;
    lunl_make_metatables(L, loop, idx);
    lunl_fault_init(loop);
    if (opts && lua_istable(L, opts)) {
        lua_getfield(L, opts, "exception_handler");
        if (!lua_isnil(L, -1) && !lunl_callable(L, -1)) {
            lunl_loop_shut(L, loop);
            lunl_arg_error(L, opts, LUNL_TYPE_ERROR,
                           "exception_handler: function expected, got %s",
                           luaL_typename(L, -1));
        }
        lua_setiuservalue(L, idx, 1);
    }
    return loop;
}

void lunl_loop_shut(lua_State *L, lunl_loop *loop)
{
    if (loop->closed)
        return;
    lunl_probe_close(L, loop);
    lunl_signals_close(L, loop);
    lunl_polls_close(L, loop);
    lunl_release_callbacks(L, loop);
    lunl_handles_close(loop); /* last: the ready queue led through memory that goes here */
    loop->closed = true;
    lunl_interrupt_stuck(loop);
    lun_loop_close(&loop->loop);
    lunl_loop_let(L, loop);
}

/* ---- methods ---- */

lunl_loop *lunl_check_runnable(lua_State *L, int arg)
{
    lunl_loop *loop = lunl_check_loop(L, arg);
    if (loop->ending)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "Event loop is closing");
    return loop;
}

/* --- loop:run_until_complete(fn_or_future) -> results
 * Runs the loop until it is done; a function runs as a new task. Its results, or its error thrown.
 * RuntimeError if a loop runs already in this Lua state, or if the loop was stopped before. */
static int l_run_until_complete(lua_State *L)
{
    lunl_loop *loop = lunl_check_runnable(L, 1);
    lua_settop(L, 2);
    if (!lunl_awaitable(L, 2))
        lunl_type_error(L, 2, "awaitable");
    return lunl_run_until(L, loop->S, 1, 2);
}

/* --- loop:run_forever(): runs until loop:stop(). RuntimeError as run_until_complete. */
static int l_run_forever(lua_State *L)
{
    lunl_loop *loop = lunl_check_runnable(L, 1);
    lunl_state *S = loop->S;
    enum lun_ran ran;
    if (lunl_drive(L, S, 1, &ran) != LUA_OK)
        return lua_error(L);
    lunl_throw_interrupt(L, S);
    if (ran == LUN_RAN_DRY)
        lunl_throw_dry(L, loop);
    return 0;
}

/* --- loop:stop(): ends the run call after this turn; before a run, after its first turn. */
static int l_stop(lua_State *L)
{
    lun_loop_stop(&lunl_check_loop(L, 1)->loop);
    return 0;
}

/* --- loop:close()
 * Closes a loop that is not running; harmless if it is closed. Unfinished tasks are closed by
 * force and reported. */
static int l_close(lua_State *L)
{
    lunl_loop *loop = check_any(L, 1);
    if (loop->closed || loop->ending)
        return 0;
    if (loop->loop.running)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "Cannot close a running event loop");
    lunl_close_loop(L, loop->S, 1);
    return 0;
}

/* --- loop:is_running() -> boolean */
static int l_is_running(lua_State *L)
{
    lua_pushboolean(L, check_any(L, 1)->loop.running);
    return 1;
}

/* --- loop:is_closed() -> boolean */
static int l_is_closed(lua_State *L)
{
    lua_pushboolean(L, check_any(L, 1)->closed);
    return 1;
}

/* --- loop:time() -> number: monotonic seconds of the loop's clock. */
static int l_time(lua_State *L)
{
    lua_pushnumber(L, (double)lun_loop_time(&check_any(L, 1)->loop) / 1e9);
    return 1;
}

/* --- loop:create_task(fn, ...) -> Task: as async.create_task, on this loop, also before it runs. */
static int l_create_task(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    lunl_check_callable(L, 2);
    lunl_spawn(L, loop, lua_gettop(L) - 2, 0);
    return 1;
}

/* --- loop:create_future() -> Future: pending. */
static int l_create_future(lua_State *L)
{
    lunl_new_future(L, lunl_check_loop(L, 1), LUNL_KIND_FUTURE, sizeof(lun_future), 2);
    return 1;
}

/* --- loop:set_debug(boolean) */
static int l_set_debug(lua_State *L)
{
    lunl_loop *loop = check_any(L, 1);
    if (!lua_isboolean(L, 2))
        lunl_type_error(L, 2, "boolean");
    loop->debug = lua_toboolean(L, 2);
    return 0;
}

/* --- loop:get_debug() -> boolean */
static int l_get_debug(lua_State *L)
{
    lua_pushboolean(L, check_any(L, 1)->debug);
    return 1;
}

/* --- loop:stats() -> table
 * Live objects: tasks, sleepers, timers, callbacks, handles, requests, ready. Totals of the loop:
 * spawned, suspensions, turns, polls. bytes: memory that the loop has outside of Lua's, that of
 * streams and requests above all. */
static int l_stats(lua_State *L)
{
    lunl_loop *loop = check_any(L, 1);
    const lun_counters *c = &loop->loop.count;
    const struct {
        const char *name;
        uint64_t n;
    } rows[] = {
        {"tasks", c->tasks},
        {"sleepers", c->sleepers},
        {"timers", loop->loop.timers.n},
        {"callbacks", c->callbacks},
        {"handles", (uint64_t)c->handles + c->inner},
        {"requests", c->requests},
        {"ready", loop->loop.n_ready},
        {"held", loop->S->n_held - loop->S->n_pool},
        {"spawned", c->spawned},
        {"suspensions", c->suspensions},
        {"turns", c->turns},
        {"polls", c->polls},
        {"bytes", c->bytes},
    };
    lua_createtable(L, 0, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lua_pushinteger(L, (lua_Integer)rows[i].n);
        lua_setfield(L, -2, rows[i].name);
    }
    return 1;
}

/* --- tostring(loop) -> "<Loop running>" */
static int l_tostring(lua_State *L)
{
    lunl_loop *loop = check_any(L, 1);
    lua_pushfstring(L, "<Loop %s>",
                    loop->closed         ? "closed"
                    : loop->loop.running ? "running"
                                         : "idle");
    return 1;
}

/* --- loop.slow_callback_duration: seconds; the only field, the rest are methods. */
static int l_index(lua_State *L)
{
    lunl_loop *loop = check_any(L, 1);
    if (lua_type(L, 2) == LUA_TSTRING &&
        strcmp(lua_tostring(L, 2), "slow_callback_duration") == 0) {
        lua_pushnumber(L, loop->slow_callback_duration);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(3));
    return 1;
}

/* --- loop.slow_callback_duration = seconds */
static int l_newindex(lua_State *L)
{
    lunl_loop *loop = check_any(L, 1);
    if (lua_type(L, 2) != LUA_TSTRING ||
        strcmp(lua_tostring(L, 2), "slow_callback_duration") != 0)
        lunl_throw(L, LUNL_TYPE_ERROR, "a Loop has no field '%s' that can be set",
                   lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2)
                                                 : luaL_typename(L, 2));
    loop->slow_callback_duration = lunl_check_number(L, 3);
    return 0;
}

/* A loop that nobody closed: at least its descriptors go. Its tasks went with it. */
static int finalise(lua_State *L)
{
    lunl_loop *loop = lua_touserdata(L, 1);
    if (loop->loop.running) {
        /* os.exit of the stock table closes the state around it, and nothing returns into it. No
         * signal may find a module that is unloaded. */
        lunl_interrupt_end(loop);
        lun_loop_left(&loop->loop);
    }
    if (!loop->closed)
        lunl_loop_shut(L, loop);
    return 0;
}

/* --- async.get_running_loop() -> Loop: RuntimeError if none runs. */
static int l_get_running_loop(lua_State *L)
{
    lunl_push_loop(L, lunl_running_loop(L, lunl_S(L)));
    return 1;
}

/* --- async.new_event_loop(opts?) -> Loop: opts as Runner's: debug, clock, seed, ... */
static int l_new_event_loop(lua_State *L)
{
    lua_settop(L, 1);
    lunl_new_loop(L, 1);
    return 1;
}

void lunl_open_loop(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"get_running_loop", l_get_running_loop},
        {"new_event_loop", l_new_event_loop},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"run_until_complete", l_run_until_complete},
        {"run_forever", l_run_forever},
        {"stop", l_stop},
        {"close", l_close},
        {"is_running", l_is_running},
        {"is_closed", l_is_closed},
        {"time", l_time},
        {"create_task", l_create_task},
        {"create_future", l_create_future},
        {"set_debug", l_set_debug},
        {"get_debug", l_get_debug},
        {"stats", l_stats},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__tostring", l_tostring},
                                    {"__gc", finalise},
                                    {"__newindex", l_newindex},
                                    {NULL, NULL}};
    static const luaL_Reg driver[] = {{"drive", drive_protected}, {NULL, NULL}};
    lunl_state *S = lunl_get_state(L);
    lunl_register(L, functions);
    lunl_newtype(L, &lunl_loop_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_handle_methods);
    lunl_register(L, lunl_fault_methods);
    lunl_register(L, lunl_poll_methods);
    lunl_register(L, lunl_signal_methods);
    lua_pushlightuserdata(L, S);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, l_index, 3);
    lua_setfield(L, -3, "__index");
    lua_pop(L, 2);
    lunl_open_handle(L);
    lua_newtable(L);
    lunl_register(L, driver);
    lua_getfield(L, -1, "drive");
    S->drive = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}
