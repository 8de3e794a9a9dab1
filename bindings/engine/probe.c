/* SPDX-License-Identifier: MIT */
/*
 * probe.c - lunation.probe: the seams that tests use. Clocks that are held, orders that are drawn
 * anew, what is alive and where it was made, and requests and errors that arrive at the n-th
 * suspension.
 *
 * lunation.testing and lunation.busted stand on it; it is not for scripts. Everything here acts on
 * the loop that runs. A loop that nobody probes pays for a test of a pointer.
 */
#include "../state.h"

#include <math.h>
#include <string.h>

typedef struct call {
    lun_job job;
    lunl_loop *loop;
    int fn; /* registry reference, LUA_NOREF: none */
    bool queued;
} call;

struct lunl_probe {
    lun_park blocked;  /* who waits until everybody does */
    call dry, dog;     /* Lua functions to be called: nothing is left; time is up */
    uint64_t dried_at; /* suspensions when `dry` was called last, plus 1 */
    /* The numbering. */
    bool counting, throws, delivered, swallowed;
    uint64_t since; /* number of the last task that does not count */
    uint64_t points, at;
    uint64_t task; /* number of the one that got it */
    int error;     /* registry reference: what is to be thrown */
    char where[LUNL_SITE];
};

/* ---- where code is ---- */

/* Is the code of that level part of the library? Its Lua modules are named "=lunation...". */
static bool is_ours(const lua_Debug *ar)
{
    return ar->currentline <= 0 || strncmp(ar->source, "=lunation.", 10) == 0;
}

bool lunl_site(lua_State *L, char *buf, size_t size)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        if (!lua_getinfo(L, "Sl", &ar) || is_ours(&ar))
            continue;
        snprintf(buf, size, "%s:%d", ar.short_src, ar.currentline);
        return true;
    }
    *buf = '\0';
    return false;
}

void lunl_push_site(lua_State *L)
{
    char site[LUNL_SITE];
    lua_pushstring(L, lunl_site(L, site, sizeof site) ? site : NULL);
}

/* ---- calling Lua ---- */

/* At the base level of a drain. */
static void make_call(lun_job *job)
{
    call *c = lun_container(job, call, job);
    lua_State *L = c->loop->S->L;
    c->queued = false;
    if (c->fn == LUA_NOREF)
        return;
    luaL_checkstack(L, 8, NULL);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->fn);
    c->loop->S->ran = true;
    lunl_callback(L, c->loop, 0, "callback", 0);
}

static void queue_call(call *c)
{
    if (c->queued || c->fn == LUA_NOREF)
        return;
    c->queued = true;
    lun_loop_queue(&c->loop->loop, &c->job);
}

static void init_call(call *c, lunl_loop *loop)
{
    c->job.run = make_call;
    c->loop = loop;
    c->fn = LUA_NOREF;
}

/* The function at `arg`, or none, is what will be called; what was to be called already is not. */
static void set_call(lua_State *L, call *c, int arg)
{
    int fn = LUA_NOREF;
    if (!lua_isnoneornil(L, arg)) {
        lunl_check_callable(L, arg);
        lua_pushvalue(L, arg);
        fn = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    if (c->queued)
        lun_loop_unqueue(&c->loop->loop, &c->job);
    c->queued = false;
    luaL_unref(L, LUA_REGISTRYINDEX, c->fn);
    c->fn = fn;
}

/* ---- the core's hooks ---- */

bool lunl_probe_idle(lunl_loop *loop)
{
    lun_loop *core = &loop->loop;
    lun_park *blocked = &loop->probe->blocked;
    if (!lun_park_waiting(blocked))
        return false;
    /* Whoever only waits for libuv to say something that it knows already is not blocked. */
    uv_run(core->uv, UV_RUN_NOWAIT);
    if (!core->ready && lun_timers_next(&core->timers) > lun_loop_time(core))
        lun_park_grant_all(blocked);
    return core->ready != NULL;
}

static bool on_dry(lun_loop *core)
{
    struct lunl_probe *p = lunl_loop_of(core)->probe;
    if (p->dry.fn == LUA_NOREF || p->dried_at == core->count.suspensions + 1)
        return false;
    p->dried_at = core->count.suspensions + 1;
    queue_call(&p->dry);
    return true;
}

static void on_time_up(lunl_loop *loop)
{
    queue_call(&loop->probe->dog);
}

/* Waits at which an error of their own can come out: not those for work that has its own points. */
static bool is_leaf(const lun_future *on, const lun_park *any)
{
    return !on || on->kind == &lunl_future_kinds[LUNL_KIND_FUTURE] ||
           on->kind == any->base.kind || on->kind->cancel == lun_op_cancel_kind;
}

/* Where the running `t` suspends; for one that is a C function alone, where it was made. */
static void note_place(const lunl_state *S, lunl_task *t, char *where)
{
    lua_State *L = S->running;
    int top = lua_gettop(L);
    if (lunl_site(L, where, LUNL_SITE) || !lua_checkstack(L, 6))
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    lua_rawgeti(L, -1, t->t.done.order);
    lunl_push_source(L, top + 2, t);
    if (lua_type(L, -1) == LUA_TSTRING)
        snprintf(where, LUNL_SITE, "%s", lua_tostring(L, -1));
    lua_settop(L, top);
}

static void on_suspends(lun_loop *core, lun_task *core_task, lun_future *on)
{
    lunl_loop *loop = lunl_loop_of(core);
    struct lunl_probe *p = loop->probe;
    lunl_task *t = (lunl_task *)core_task;
    if (!p->counting || !lunl_is_lua_task(core_task) || t->number <= p->since ||
        on == &p->blocked.base || (p->throws && !is_leaf(on, &p->blocked)))
        return;
    if (p->throws && (core_task->flags & LUN_MUST_CANCEL))
        return; /* a request arrives here, which an error would take the place of */
    if (++p->points != p->at)
        return;
    p->delivered = true;
    p->task = t->number;
    note_place(loop->S, t, p->where);
    loop->S->cancel_msg = 0;
    if (p->throws) {
        t->t.done.guest |= LUNL_INJECTED;
        lun_task_throw(core_task);
    } else {
        lun_task_cancel(core_task);
    }
}

void lunl_probe_push_error(lua_State *L, lunl_loop *loop)
{
    struct lunl_probe *p = loop->probe;
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->error);
    /* Thrown once, and from then on it leads to the task that it was thrown in. */
    luaL_unref(L, LUA_REGISTRYINDEX, p->error);
    p->error = LUA_NOREF;
}

void lunl_probe_swallowed(lunl_loop *loop, const lunl_task *t)
{
    struct lunl_probe *p = loop->probe;
    if (p->counting && p->delivered && !p->throws && t->number == p->task)
        p->swallowed = true;
}

void lunl_probe_close(lua_State *L, lunl_loop *loop)
{
    struct lunl_probe *p = loop->probe;
    if (!p)
        return;
    lunl_watchdog_off(loop);
    loop->loop.dry = NULL;
    loop->loop.suspends = NULL;
    const int refs[] = {p->dry.fn, p->dog.fn, p->error};
    for (int i = 0; i < 3; i++)
        luaL_unref(L, LUA_REGISTRYINDEX, refs[i]);
    lun_loop_unqueue(&loop->loop, &p->dry.job);
    lun_loop_unqueue(&loop->loop, &p->dog.job);
    loop->probe = NULL;
    lun_loop_free(&loop->loop, p, sizeof *p);
}

static struct lunl_probe *make_probe(lua_State *L, lunl_loop *loop)
{
    struct lunl_probe *p = lun_loop_alloc(&loop->loop, sizeof *p);
    if (!p)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(p, 0, sizeof *p);
    lun_park_init(&p->blocked, &loop->loop, NULL);
    init_call(&p->dry, loop);
    init_call(&p->dog, loop);
    p->error = LUA_NOREF;
    loop->loop.dry = on_dry;
    loop->loop.suspends = on_suspends;
    return loop->probe = p;
}

/* The running loop and its probe. */
static struct lunl_probe *probe_of(lua_State *L, lunl_loop **loop)
{
    *loop = lunl_running_loop(L, lunl_S(L));
    return (*loop)->probe ? (*loop)->probe : make_probe(L, *loop);
}

/* ---- clock and order ---- */

/* --- probe.clock(mode?) -> mode before
 * "real", "virtual" (jumps to the next deadline when nothing else can happen) or "held" (moves by
 * set_time alone); nil only asks. The loop's time goes on from where it is. ValueError for another
 * word, RuntimeError outside a loop. */
static int l_clock(lua_State *L)
{
    static const char *const modes[] = {"real", "virtual", "held"};
    lun_loop *loop = &lunl_running_loop(L, lunl_S(L))->loop;
    int before = loop->held_clock      ? LUN_CLOCK_HELD
                 : loop->virtual_clock ? LUN_CLOCK_VIRTUAL
                                       : LUN_CLOCK_REAL;
    if (!lua_isnoneornil(L, 1)) {
        const char *mode = lunl_check_string(L, 1, NULL);
        int clock = 0;
        while (clock < 3 && strcmp(mode, modes[clock]) != 0)
            clock++;
        if (clock == 3)
            lunl_arg_error(L, 1, LUNL_VALUE_ERROR,
                           "\"real\", \"virtual\" or \"held\" expected, got \"%s\"", mode);
        lun_loop_set_clock(loop, (enum lun_clock)clock);
    }
    lua_pushstring(L, modes[before]);
    return 1;
}

/* --- probe.deadline() -> loop time of the next timer, seconds, or nil */
static int l_deadline(lua_State *L)
{
    uint64_t next = lun_timers_next(&lunl_running_loop(L, lunl_S(L))->loop.timers);
    if (next == LUN_NEVER)
        lua_pushnil(L);
    else
        lua_pushnumber(L, (double)next / 1e9);
    return 1;
}

/* --- probe.set_time(when)
 * Moves a virtual or held clock on to the loop time `when`, seconds; what is due by then fires in
 * the next turn. ValueError for a time that has passed, RuntimeError on a real clock. */
static int l_set_time(lua_State *L)
{
    lun_loop *loop = &lunl_running_loop(L, lunl_S(L))->loop;
    double when = lunl_check_number(L, 1);
    if (!loop->virtual_clock)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "set_time: the clock is real");
    if (!(when < 9e9))
        lunl_arg_error(L, 1, LUNL_VALUE_ERROR, "a finite time expected");
    uint64_t ns = lunl_deadline_at(when), next = lun_timers_next(&loop->timers);
    /* Doubles are coarser than the clock; what `deadline` has said is met exactly. */
    if (when < (double)loop->now / 1e9)
        lunl_arg_error(L, 1, LUNL_VALUE_ERROR, "a time that has not passed expected");
    if (next != LUN_NEVER && when == (double)next / 1e9)
        ns = next;
    lun_loop_set_time(loop, ns > loop->now ? ns : loop->now);
    return 0;
}

/* --- probe.order(seed?) -> seed before, or false
 * An integer: ready tasks run in an order drawn from it, from now on; false: first in, first out;
 * nil only asks. */
static int l_order(lua_State *L)
{
    lun_loop *loop = &lunl_running_loop(L, lunl_S(L))->loop;
    bool shuffle = loop->shuffle;
    lua_Integer seed = (lua_Integer)loop->seed;
    if (lua_isboolean(L, 1) && !lua_toboolean(L, 1))
        lun_loop_set_order(loop, false, 0);
    else if (!lua_isnoneornil(L, 1))
        lun_loop_set_order(
            loop, true, (uint64_t)lunl_check_integer(L, 1, LUA_MININTEGER, LUA_MAXINTEGER));
    if (shuffle)
        lua_pushinteger(L, seed);
    else
        lua_pushboolean(L, false);
    return 1;
}

static int blocked_k(lua_State *L, int status, lua_KContext ctx)
{
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, lunl_S(L), &on);
    return 0;
}

/* --- probe.blocked()
 * Suspends until every other task waits: for I/O, for a timer, or for another task; and no callback
 * is due. Safe to cancel. */
static int l_blocked(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lunl_loop *loop;
    struct lunl_probe *p = probe_of(L, &loop);
    lun_park_wait(&p->blocked, t);
    return lunl_suspend(L, S, 0, blocked_k);
}

/* --- probe.on_dry(fn?) -> function before, or nil
 * fn() is called as a callback when a virtual clock has nothing left to wait for; if that makes
 * something happen, the run goes on, else it fails as it does without. nil: no such function. */
static int l_on_dry(lua_State *L)
{
    lunl_loop *loop;
    struct lunl_probe *p = probe_of(L, &loop);
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, p->dry.fn);
    set_call(L, &p->dry, 1);
    p->dried_at = 0;
    return 1;
}

/* --- probe.watchdog(seconds?, fn)
 * After so many real seconds fn() is called as a callback, whatever the loop's clock; if Lua is
 * still busy a second later, a TimeoutError is thrown in it. nil: off. One at a time. */
static int l_watchdog(lua_State *L)
{
    lunl_loop *loop;
    struct lunl_probe *p = probe_of(L, &loop);
    bool off = lua_isnoneornil(L, 1);
    double seconds = off ? 0 : lunl_check_number(L, 1);
    if (off)
        lua_settop(L, 0);
    else if (!(seconds > 0 && seconds < 1e6))
        lunl_arg_error(L, 1, LUNL_VALUE_ERROR,
                       "a number above 0 and below 1000000 expected, got %f", seconds);
    else
        lunl_check_callable(L, 2);
    lunl_watchdog_off(loop);
    set_call(L, &p->dog, 2);
    if (off)
        return 0;
    lunl_watchdog_on(L, loop, seconds, on_time_up);
    return 0;
}

/* ---- points ---- */

/* --- probe.start(opts)
 * Numbers every suspension of tasks made from now on. opts.mode "cancel" (default) or "throw";
 * opts.at: number N gets a cancel request that arrives exactly there, or, "throw", the await throws
 * opts.error instead. Awaits of tasks and combinators are no points for "throw": what they wait for
 * has points of its own. */
static int l_start(lua_State *L)
{
    lunl_loop *loop;
    struct lunl_probe *p = probe_of(L, &loop);
    lua_settop(L, 1);
    bool given = lunl_opt_table(L, 1), throws = false;
    uint64_t at = 0;
    lua_pushnil(L);
    if (given) {
        if (lunl_option(L, 1, "at", LUA_TNUMBER) != LUA_TNIL)
            at = (uint64_t)lunl_check_integer(L, -1, 1, LUA_MAXINTEGER);
        if (lunl_option(L, 1, "mode", LUA_TSTRING) != LUA_TNIL) {
            throws = strcmp(lua_tostring(L, -1), "throw") == 0;
            if (!throws && strcmp(lua_tostring(L, -1), "cancel") != 0)
                lunl_arg_error(L, 1, LUNL_VALUE_ERROR,
                               "mode: \"cancel\" or \"throw\" expected, got \"%s\"",
                               lua_tostring(L, -1));
        }
        lunl_option(L, 1, "error", LUA_TNONE);
    }
    int error = luaL_ref(L, LUA_REGISTRYINDEX);
    luaL_unref(L, LUA_REGISTRYINDEX, p->error);
    p->error = error;
    p->counting = true;
    p->throws = throws;
    p->delivered = p->swallowed = false;
    p->since = loop->S->tasks_made;
    p->points = p->task = 0;
    p->at = at;
    *p->where = '\0';
    return 0;
}

/* --- probe.stop() -> {points, where, task, delivered, swallowed}
 * Ends the numbering: how many points there were; for the one that start named: where it was
 * ("file:line"), the number of its task, whether it was reached, and whether the task ended with
 * values though the request had reached it and was not taken back. */
static int l_stop(lua_State *L)
{
    lunl_loop *loop;
    struct lunl_probe *p = probe_of(L, &loop);
    p->counting = false;
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, (lua_Integer)p->points);
    lua_setfield(L, -2, "points");
    if (p->delivered) {
        lua_pushstring(L, p->where);
        lua_setfield(L, -2, "where");
        lua_pushinteger(L, (lua_Integer)p->task);
        lua_setfield(L, -2, "task");
    }
    lua_pushboolean(L, p->delivered);
    lua_setfield(L, -2, "delivered");
    lua_pushboolean(L, p->swallowed);
    lua_setfield(L, -2, "swallowed");
    return 1;
}

/* --- probe.short_io(most?, most_write?)
 * The sockets of the running loop read at most so many bytes in one go, and write so many (as many
 * as they read, if it is not given); nil: as many as there are. Throws TypeError, ValueError;
 * RuntimeError if no loop runs. Does not suspend. */
static int l_short_io(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    size_t most[2] = {SIZE_MAX, SIZE_MAX};
    for (int i = 0; i < 2; i++) {
        if (!lua_isnoneornil(L, i + 1))
            most[i] = (size_t)lunl_check_integer(L, i + 1, 1, LUA_MAXINTEGER);
        else if (i > 0)
            most[i] = most[0];
    }
    lunl_short_io(L, loop, most[0], most[1]);
    return 0;
}

int luaopen_lunation_probe(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"clock", l_clock},
        {"deadline", l_deadline},
        {"set_time", l_set_time},
        {"order", l_order},
        {"blocked", l_blocked},
        {"on_dry", l_on_dry},
        {"watchdog", l_watchdog},
        {"start", l_start},
        {"stop", l_stop},
        {"short_io", l_short_io},
        {NULL, NULL},
    };
    lua_createtable(L, 0, 16);
    lunl_register(L, functions);
    lunl_register(L, lunl_alive_functions);
    return 1;
}
