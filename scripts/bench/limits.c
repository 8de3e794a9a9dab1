/* SPDX-License-Identifier: MIT */
/*
 * limits.c - what bare Lua and bare libuv cost on this machine, the yardsticks of the bars.
 *
 * A Lua C module, "bench_limits". Every limit makes a Lua state (or a uv loop) of its
 * own, does its operation n times and returns the CPU nanoseconds of one, so it measures
 * the stock libraries in the same process as Lunation but nothing of Lunation. The unit
 * of all speed bars, P, is pair(n).
 */
#define _POSIX_C_SOURCE 200809L

#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

int luaopen_bench_limits(lua_State *L);

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Returns the nanoseconds of one of n operations that began at `start`. */
static int push_each(lua_State *L, double start, lua_Integer n)
{
    lua_pushnumber(L, (cpu_seconds() - start) * 1e9 / (double)n);
    return 1;
}

static lua_Integer count_arg(lua_State *L, int arg, lua_Integer otherwise)
{
    lua_Integer n = luaL_optinteger(L, arg, otherwise);
    luaL_argcheck(L, n > 0, arg, "must be positive");
    return n;
}

static lua_State *bare_state(lua_State *L)
{
    lua_State *B = luaL_newstate();
    if (!B)
        luaL_error(L, "no memory for a bare Lua state");
    return B;
}

/* What a bare await is made of: a yield, and a continuation that goes back to Lua. */
static int woken(lua_State *co, int status, lua_KContext ctx)
{
    (void)co;
    (void)status;
    (void)ctx;
    return 0;
}

static int wait_once(lua_State *co)
{
    return lua_yieldk(co, 0, 0, woken);
}

/* A task of C alone: its continuation waits again, and no line of Lua is ever run. */
static int wait_again(lua_State *co, int status, lua_KContext ctx)
{
    (void)status;
    return lua_yieldk(co, 0, ctx, wait_again);
}

static int wait_for_ever(lua_State *co)
{
    return lua_yieldk(co, 0, 0, wait_again);
}

static void push_lua_waiter(lua_State *co)
{
    lua_pushcfunction(co, wait_once);
    lua_setglobal(co, "wait");
    if (luaL_loadstring(co, "local wait = wait while true do wait() end"))
        abort();
}

static void push_c_waiter(lua_State *co)
{
    lua_pushcfunction(co, wait_for_ever);
}

static int no_op(lua_State *co)
{
    (void)co;
    return 0;
}

static void resume(lua_State *co, lua_State *from, int status_wanted)
{
    int results;
    if (lua_resume(co, from, 0, &results) != status_wanted)
        abort(); /* nothing here throws: a broken yardstick must not print a figure */
    lua_pop(co, results);
}

/* Resumes waiters n times. They take turns, as the tasks of a round do. */
static int resume_in_turn(lua_State *L, void (*push_waiter)(lua_State *))
{
    lua_Integer n = count_arg(L, 1, 1000000);
    lua_Integer coroutines = count_arg(L, 2, 1);
    lua_State **co = lua_newuserdatauv(L, (size_t)coroutines * sizeof *co, 0);
    lua_State *B = bare_state(L);
    lua_createtable(B, (int)coroutines, 0);
    for (lua_Integer i = 0; i < coroutines; i++) {
        co[i] = lua_newthread(B);
        lua_rawseti(B, 1, i + 1);
        push_waiter(co[i]);
        resume(co[i], B, LUA_YIELD);
    }
    lua_Integer rounds = n / coroutines + 1;
    double start = cpu_seconds();
    for (lua_Integer round = 0; round < rounds; round++) {
        for (lua_Integer i = 0; i < coroutines; i++)
            resume(co[i], B, LUA_YIELD);
    }
    push_each(L, start, rounds * coroutines);
    lua_close(B);
    return 1;
}

/* pair(n, coroutines = 1): lua_resume + continuation + lua_yieldk of a Lua function that
 * waits in a loop. pair(n) is P: no await that suspends a script can be cheaper. */
static int l_pair(lua_State *L)
{
    return resume_in_turn(L, push_lua_waiter);
}

/* c_pair(n, coroutines = 1): the same without Lua code between two waits. */
static int l_c_pair(lua_State *L)
{
    return resume_in_turn(L, push_c_waiter);
}

/* fresh(n): lua_newthread, run a function in it to its end, drop it. */
static int l_fresh(lua_State *L)
{
    lua_Integer n = count_arg(L, 1, 200000);
    lua_State *B = bare_state(L);
    double start = cpu_seconds();
    for (lua_Integer i = 0; i < n; i++) {
        lua_State *co = lua_newthread(B);
        lua_pushcfunction(co, no_op);
        resume(co, B, LUA_OK);
        lua_pop(B, 1);
    }
    push_each(L, start, n);
    lua_close(B);
    return 1;
}

/* recycled(n): run a function to its end in a coroutine that has returned before. */
static int l_recycled(lua_State *L)
{
    lua_Integer n = count_arg(L, 1, 1000000);
    lua_State *B = bare_state(L);
    lua_State *co = lua_newthread(B);
    double start = cpu_seconds();
    for (lua_Integer i = 0; i < n; i++) {
        lua_pushcfunction(co, no_op);
        resume(co, B, LUA_OK);
    }
    push_each(L, start, n);
    lua_close(B);
    return 1;
}

/* ref(n): luaL_ref + luaL_unref of one value. */
static int l_ref(lua_State *L)
{
    lua_Integer n = count_arg(L, 1, 1000000);
    lua_State *B = bare_state(L);
    lua_newtable(B);
    double start = cpu_seconds();
    for (lua_Integer i = 0; i < n; i++) {
        lua_pushvalue(B, 1);
        luaL_unref(B, LUA_REGISTRYINDEX, luaL_ref(B, LUA_REGISTRYINDEX));
    }
    push_each(L, start, n);
    lua_close(B);
    return 1;
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

static void open_loop(lua_State *L, uv_loop_t *loop)
{
    int failed = uv_loop_init(loop);
    if (failed)
        luaL_error(L, "uv_loop_init: %s", uv_strerror(failed));
}

static void close_timer(uv_handle_t *handle, void *unused)
{
    (void)unused;
    uv_close(handle, NULL);
}

static void shut_loop(uv_loop_t *loop)
{
    uv_walk(loop, close_timer, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    if (uv_loop_close(loop))
        abort();
}

/* uv_turn(n): one uv_run(UV_RUN_NOWAIT) that looks for I/O and finds none; a timer that
 * is not due keeps the loop alive. */
static int l_uv_turn(lua_State *L)
{
    lua_Integer n = count_arg(L, 1, 200000);
    uv_loop_t loop;
    uv_timer_t far;
    open_loop(L, &loop);
    uv_timer_init(&loop, &far);
    uv_timer_start(&far, on_timer, 3600 * 1000, 0);
    double start = cpu_seconds();
    for (lua_Integer i = 0; i < n; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    push_each(L, start, n);
    shut_loop(&loop);
    return 1;
}

/* Deadlines that fall anywhere among the live ones; the same in every run. */
static uint64_t next_deadline(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return 1000000 + (*seed >> 12);
}

/* uv_timer(n, live = 1): uv_timer_start + uv_timer_stop beside `live` other timers. */
static int l_uv_timer(lua_State *L)
{
    lua_Integer n = count_arg(L, 1, 1000000);
    lua_Integer live = count_arg(L, 2, 1);
    uv_timer_t *timers = lua_newuserdatauv(L, ((size_t)live + 1) * sizeof *timers, 0);
    uv_timer_t *one = &timers[live];
    uint32_t seed = 1;
    uv_loop_t loop;
    open_loop(L, &loop);
    for (lua_Integer i = 0; i <= live; i++)
        uv_timer_init(&loop, &timers[i]);
    for (lua_Integer i = 0; i < live; i++)
        uv_timer_start(&timers[i], on_timer, next_deadline(&seed), 0);
    double start = cpu_seconds();
    for (lua_Integer i = 0; i < n; i++) {
        uv_timer_start(one, on_timer, next_deadline(&seed), 0);
        uv_timer_stop(one);
    }
    push_each(L, start, n);
    shut_loop(&loop);
    return 1;
}

/* cpu(): CPU seconds this process has used, all threads. */
static int l_cpu(lua_State *L)
{
    lua_pushnumber(L, cpu_seconds());
    return 1;
}

/* resident(): bytes of this process that are in memory now. */
static int l_resident(lua_State *L)
{
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm)
        return luaL_error(L, "cannot open /proc/self/statm");
    unsigned long size, resident = 0;
    int fields = fscanf(statm, "%lu %lu", &size, &resident);
    fclose(statm);
    if (fields != 2)
        return luaL_error(L, "cannot read /proc/self/statm");
    lua_pushinteger(L, (lua_Integer)resident * (lua_Integer)sysconf(_SC_PAGESIZE));
    return 1;
}

/* peak(): the most that resident() has ever been. */
static int l_peak(lua_State *L)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    lua_pushinteger(L, (lua_Integer)usage.ru_maxrss * 1024);
    return 1;
}

static const luaL_Reg functions[] = {
    {"pair", l_pair},         {"c_pair", l_c_pair}, {"fresh", l_fresh},
    {"recycled", l_recycled}, {"ref", l_ref},       {"uv_turn", l_uv_turn},
    {"uv_timer", l_uv_timer}, {"cpu", l_cpu},       {"resident", l_resident},
    {"peak", l_peak},         {NULL, NULL},
};

int luaopen_bench_limits(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
