/* SPDX-License-Identifier: MIT */
/*
 * run.c - run and Runner: a loop, a main task, and an end at which nothing is left.
 *
 * Law: the main task's outcome is never replaced by what happens in the teardown; what happens
 * there goes to the exception handler.
 */
#include "../state.h"

#include <string.h>

/* ---- running until something is done ---- */

static int make_interrupt(lua_State *L)
{
    lunl_error_interrupt(L, lua_touserdata(L, 1));
    return 1;
}

/* Pushes a KeyboardInterrupt, or what made that impossible: a run call must come to its end. */
static void push_interrupt(lua_State *L, lunl_state *S)
{
    lua_pushcfunction(L, make_interrupt);
    lua_pushlightuserdata(L, S);
    lua_pcall(L, 1, 1, 0);
}

/* Pushes the KeyboardInterrupt that is leaving the run call, if there is one. */
static bool take_interrupt(lua_State *L, lunl_state *S)
{
    if (!S->interrupted)
        return false;
    S->interrupted = false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->interrupt);
    luaL_unref(L, LUA_REGISTRYINDEX, S->interrupt);
    S->interrupt = LUA_NOREF;
    if (lua_isnil(L, -1))
        push_interrupt(L, S);
    return true;
}

void lunl_throw_interrupt(lua_State *L, lunl_state *S)
{
    if (take_interrupt(L, S))
        lua_error(L);
}

void lunl_throw_dry(lua_State *L, lunl_loop *loop)
{
    enum { SHOWN = 8 };
    lunl_state *S = loop->S;
    uint32_t n;
    lunl_task **list = lunl_list_tasks(L, S, loop, &n);
    lua_pushliteral(L, "");
    for (uint32_t i = 0; i < n && i < SHOWN; i++) {
        lunl_push_held(L, S, list[i]->t.done.order);
        lunl_push_future_text(L, -1);
        lua_pushfstring(L, "%s%s%s", lua_tostring(L, -3), i ? ", " : "",
                        lua_tostring(L, -1));
        lua_replace(L, -4);
        lua_pop(L, 2);
    }
    lunl_throw(
        L, LUNL_RUNTIME_ERROR,
        "nothing is left to wait for: no task is ready, no %s is live%s. Waiting: %s%s",
        loop->loop.timers.n ? "request or handle" : "timer, request or handle",
        loop->loop.timers.n ? ", and the clock stands still" : "", lua_tostring(L, -1),
        n > SHOWN ? ", ..." : "");
}

/* Ends a run one turn after its future: what was to be called soon then has been called. */
typedef struct stopper {
    lun_waiter w;
    lun_job job;
    lun_loop *loop;
} stopper;

static void on_stop(lun_job *job)
{
    lun_loop_stop(lun_container(job, stopper, job)->loop);
}

static void on_end(lun_waiter *w)
{
    stopper *s = lun_container(w, stopper, w);
    lun_loop_queue(s->loop, &s->job);
}

static const lun_waiter_kind end_waiter = {on_end, false};

int lunl_run_until(lua_State *L, lunl_state *S, int loop_idx, int idx)
{
    lunl_loop *loop = lua_touserdata(L, loop_idx);
    enum lun_ran ran;
    lunl_check_idle(L, S);
    lunl_loop_keep(L, loop, loop_idx);
    lun_future *f = lunl_ensure_future(L, loop, idx);
    stopper s = {.job = {NULL, on_stop}, .loop = &loop->loop};
    lun_waiter_init(&s.w, &end_waiter);
    if (lun_future_done(f))
        lun_loop_queue(&loop->loop, &s.job);
    else
        lun_waiter_watch(&s.w, f);
    int status = lunl_drive(L, S, loop_idx, &ran);
    lun_waiter_drop(&s.w);
    lun_loop_unqueue(&loop->loop, &s.job);
    if (status != LUA_OK)
        return lua_error(L);
    lunl_throw_interrupt(L, S);
    if (lun_future_done(f))
        return lunl_outcome(L, idx, f);
    if (ran == LUN_RAN_DRY)
        lunl_throw_dry(L, loop);
    lunl_throw(L, LUNL_RUNTIME_ERROR, "Event loop stopped before Future completed.");
}

/* ---- teardown ---- */

/* One round: all tasks that are left are cancelled and waited for. */
struct round {
    lun_loop *loop;
    lun_timer grace;
    lun_waiter over;
    bool expired;
    lun_join join;
};

static void on_grace(lun_timer *timer, lun_loop *loop)
{
    lun_container(timer, struct round, grace)->expired = true;
    lun_loop_stop(loop);
}

static void on_over(lun_waiter *w)
{
    lun_loop_stop(lun_container(w, struct round, over)->loop);
}

static const lun_waiter_kind over_waiter = {on_over, true};

static int deliver_protected(lua_State *L)
{
    enum { MOST = 10000 };
    lun_faults_deliver(lua_touserdata(L, 1), MOST);
    return 0;
}

/* Delivers what has been reported; what reporting reports, too, a few times over. */
static void deliver_faults(lua_State *L, lunl_state *S, int idx)
{
    lunl_loop *loop = lua_touserdata(L, idx);
    enum { ROUNDS = 10 };
    for (int i = 0; i < 2 * ROUNDS && !lun_list_alone(&loop->loop.faults); i++) {
        if (i == ROUNDS) {
            /* A handler that reports for ever: the default one ends it. */
            lua_pushnil(L);
            lua_setiuservalue(L, idx, 1);
        }
        if (lunl_at_base(L, S, idx, S->deliver, &loop->loop) != LUA_OK)
            lua_pop(L, 1);
    }
}

/* A leftover failed while it was torn down: reported, unless somebody got the error. */
static void report_leftover(lua_State *L, lunl_state *S, lunl_loop *loop, int idx)
{
    lun_future *f = lua_touserdata(L, idx);
    if (f->state != LUN_ERROR || (f->flags & LUN_SEEN))
        return;
    lunl_task_report(L, idx, "unhandled exception during loop shutdown");
    lunl_peek_error(L, idx, f);
    lua_setfield(L, -2, "exception");
    lunl_push_trace(L, idx, f);
    lua_setfield(L, -2, "traceback");
    lunl_seen(S, f);
    lunl_report(L, loop, "shutdown");
}

/* Closes what refuses to end, newest first, and reports it. */
static void destroy_all(lua_State *L, lunl_state *S, int idx)
{
    enum { ROUNDS = 100 };
    lunl_loop *loop = lua_touserdata(L, idx);
    int top = lua_gettop(L);
    for (int r = 0; r < ROUNDS && loop->loop.count.tasks > 0; r++) {
        uint32_t n;
        lunl_task **list = lunl_list_tasks(L, S, loop, &n);
        for (uint32_t i = n; i-- > 0;) {
            lunl_task *t = list[i];
            if (lun_future_done(&t->t.done))
                continue;
            lunl_push_held(L, S, t->t.done.order);
            int task = lua_gettop(L);
            lunl_task_report(L, task, "Task was destroyed but it is pending!");
            luaL_Buffer b;
            luaL_buffinit(L, &b);
            luaL_addstring(&b, "suspended at:");
            if (t->t.at != LUN_AT_NEW)
                lunl_trace_frames(lunl_task_co(S, t), 0, &b);
            luaL_pushresult(&b);
            lua_setfield(L, task + 1, "traceback");
            lunl_report(L, loop, "destroyed");
            lunl_task_destroy(L, S, t);
            lua_settop(L, task - 1);
        }
        lua_settop(L, top);
    }
}

/* True when the round came to its end, false when it has to be ended by force. */
static bool run_round(lua_State *L, lunl_state *S, int idx, uint64_t deadline)
{
    lunl_loop *loop = lua_touserdata(L, idx);
    uint32_t n;
    enum lun_ran ran = LUN_RAN_STOPPED;
    int top = lua_gettop(L);
    lunl_task **list = lunl_list_tasks(L, S, loop, &n);
    struct round *r = lua_newuserdatauv(L, sizeof *r + n * sizeof(lun_arm), 0);
    lua_createtable(L, (int)n, 0);
    int tasks = lua_gettop(L);
    *r = (struct round){.loop = &loop->loop};
    lun_join_init(&r->join, &loop->loop, n, UINT32_MAX, LUN_JOIN_OWNS | LUN_JOIN_WATCHES);
    for (uint32_t i = 0; i < n; i++) {
        lunl_push_held(L, S, list[i]->t.done.order);
        lua_rawseti(L, tasks, i + 1);
    }
    for (uint32_t i = n; i-- > 0;)
        lun_join_add(&r->join, &list[i]->t.done);
    lunl_cancel_join(L, S, &r->join);
    lun_waiter_init(&r->over, &over_waiter);
    lun_timer_init(&r->grace, on_grace);
    if (!lun_future_done(&r->join.done)) {
        lun_waiter_watch(&r->over, &r->join.done);
        lun_timer_start(&loop->loop, &r->grace, deadline);
    }
    bool runs = true;
    while (!lun_future_done(&r->join.done) && !r->expired && !S->interrupted && runs &&
           ran == LUN_RAN_STOPPED) {
        uint64_t turns = loop->loop.count.turns;
        if (lunl_drive(L, S, idx, &ran) != LUA_OK) {
            lua_pop(L, 1);
            runs = loop->loop.count.turns >
                   turns; /* no memory even to begin: by force, then */
        }
    }
    lun_timer_stop(&loop->loop, &r->grace);
    lun_waiter_drop(&r->over);
    bool over = lun_future_done(&r->join.done);
    lun_join_fini(&r->join);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, tasks, i + 1);
        report_leftover(L, S, loop, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_settop(L, top);
    return over;
}

static void run_turn(lua_State *L, lunl_state *S, int idx)
{
    enum lun_ran ran;
    lun_loop_stop(&((lunl_loop *)lua_touserdata(L, idx))->loop);
    if (lunl_drive(L, S, idx, &ran) != LUA_OK)
        lua_pop(L, 1);
}

/* Errors that nobody has looked at and nobody can any more are reported before the loop goes. */
static void collect_owed(lua_State *L, lunl_state *S, int idx)
{
    if (S->owed > 0) {
        lunl_forget_origin(L, S);
        lunl_collect(L);
    }
    if (S->n_lost > 0)
        lunl_flush_lost(L, S, lua_touserdata(L, idx));
    deliver_faults(L, S, idx);
}

/* The end without asking anybody: all of loop:close(), and the last part of a teardown. */
static int close_protected(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    destroy_all(L, S, 1);
    deliver_faults(L, S, 1);
    collect_owed(L, S, 1);
    return 0;
}

static int teardown_protected(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_loop *loop = lua_touserdata(L, 1);
    uint64_t deadline = lun_loop_deadline(&loop->loop, S->hurry ? 0 : loop->shutdown_grace);
    enum { LAST_TURNS = 16 };
    bool over = true;
    lunl_exit_unwind(L, S);
    /* Callbacks that were to be called soon still are; what they start is ended as well. */
    for (int turns = 0; over && !S->interrupted;) {
        if (loop->loop.count.tasks > 0)
            over = run_round(L, S, 1, deadline);
        else if (loop->loop.ready && turns++ < LAST_TURNS)
            run_turn(L, S, 1);
        else
            break;
    }
    destroy_all(L, S, 1);
    if (loop->loop.ready)
        run_turn(L, S, 1); /* what was to be told of those ends is told */
    return close_protected(L);
}

/*
 * The teardown itself had no memory: what is left is closed without lists and reports, which
 * takes none and gives back what the tasks hold.
 */
static void destroy_quietly(lua_State *L, lunl_state *S, lunl_loop *loop)
{
    for (uint32_t i = 1; i <= S->n_slots && loop->loop.count.tasks > 0; i++) {
        lunl_task *t = lunl_slot_task(S, i);
        if (t && t->t.done.loop == &loop->loop)
            lunl_task_destroy(L, S, t);
    }
    lunl_collect(L);
}

/* True if a KeyboardInterrupt came up meanwhile; it is then on the stack. */
static bool shut_with(lua_State *L, lunl_state *S, int idx, int fn)
{
    lunl_loop *loop = lua_touserdata(L, idx);
    loop->ending = true;
    lunl_loop_keep(L, loop, idx);
    lua_rawgeti(L, LUA_REGISTRYINDEX, fn);
    lua_pushvalue(L, idx);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        lun_say("lunation: Error while a loop was closed");
        lua_pop(L, 1);
        destroy_quietly(L, S, loop);
        lua_rawgeti(L, LUA_REGISTRYINDEX, S->close);
        lua_pushvalue(L, idx);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            lua_pop(L, 1);
    }
    bool interrupted = take_interrupt(L, S);
    lun_list_drop(&S->lost_fault.link);
    lunl_loop_shut(L, loop);
    lunl_trim_pool(L, S, 16);
    S->trim_after = 0;
    return interrupted;
}

/*
 * Cancels and awaits what is left on the loop object at `idx`, in rounds, then closes it. True if a
 * KeyboardInterrupt came up meanwhile (thrown by an exception handler, say): it is on the stack.
 */
static bool tear_down(lua_State *L, lunl_state *S, int idx)
{
    return shut_with(L, S, idx, S->teardown);
}

void lunl_close_loop(lua_State *L, lunl_state *S, int idx)
{
    if (shut_with(L, S, idx, S->close))
        lua_error(L);
}

/* ---- run and Runner ---- */

static int run_until_protected(lua_State *L)
{
    return lunl_run_until(L, lunl_S(L), 1, 2);
}

/*
 * On a Lua whose __concat does not survive a growing stack, whole programs (a test framework, say)
 * run in the main task, deeper than the reserve of other tasks: it gets a larger one.
 */
static void reserve_main(lua_State *L, lunl_state *S, lunl_task *main)
{
#if LUN_STACK_RESERVE > 0
    enum { RESERVE = 8000 };
    if (lunl_bind_coroutine(L, S, main))
        lua_checkstack(lunl_task_co(S, main), RESERVE);
    else
        lua_pop(L, 1);
#else
    (void)L, (void)S, (void)main;
#endif
}

/*
 * Runs the function at `fn` with the values above it as main task of the loop object at `idx`;
 * lua_pcall's status, with the results or the error above `fn`.
 */
static int run_main(lua_State *L, lunl_state *S, int idx, int fn)
{
    lunl_loop *loop = lua_touserdata(L, idx);
    lunl_loop_keep(L, loop, idx);
    lunl_task *main = lunl_spawn(L, loop, lua_gettop(L) - fn, 0);
    reserve_main(L, S, main);
    lunl_interrupt_begin(loop, &main->t);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->run_until);
    lua_pushvalue(L, idx);
    lua_pushvalue(L, fn);
    int status = lua_pcall(L, 2, LUA_MULTRET, 0);
    if (status != LUA_OK && S->interrupts > 0 &&
        lunl_error_is(L, -1, LUNL_CANCELLED_ERROR)) {
        lua_pop(L, 1);
        push_interrupt(L, S);
    }
    return status;
}

/* --- async.run(fn, ...) -> results
 * A new loop with `fn(...)` as the main task; its results, or its error thrown. Before that the
 * tasks that are left are cancelled and awaited, in rounds; the loop is closed. RuntimeError if a
 * loop runs already in this Lua state, TypeError if it is no function. */
static int l_run(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_check_callable(L, 1);
    lunl_check_idle(L, S);
    lunl_loop *loop = lunl_new_loop(L, 0);
    lua_insert(L, 1);
    int status = run_main(L, S, 1, 2);
    bool interrupted = tear_down(L, S, 1);
    lunl_interrupt_end(loop);
    if (status != LUA_OK) {
        /* An error of main's own is not replaced. */
        lua_settop(L, interrupted ? lua_gettop(L) - 1 : lua_gettop(L));
        return lua_error(L);
    }
    return interrupted ? lua_error(L) : lua_gettop(L) - 2;
}

typedef struct lunl_runner {
    const lunl_type *type;
    bool closed;
} lunl_runner; /* user value: the loop */

static const lunl_type runner_type = {"Runner"};

/* --- async.Runner(opts?) -> Runner
 * opts: debug (boolean), clock ("real" or "virtual"), seed (integer: an order of ready tasks drawn
 * from it), exception_handler (function), shutdown_grace (seconds, 10), signals (list of names:
 * these interrupt a run as Ctrl-C does: the first one cancels the main task, and KeyboardInterrupt
 * is thrown, with the name of the signal in its field `signal`). Closable. */
static int l_runner(lua_State *L)
{
    lua_settop(L, 1);
    uint64_t interrupting = lunl_opt_table(L, 1) ? lunl_interrupt_option(L, 1) : 0;
    lunl_new(L, &runner_type, sizeof(lunl_runner), 1);
    lunl_new_loop(L, 1)->interrupting = interrupting;
    lua_setiuservalue(L, 2, 1);
    return 1;
}

static lunl_runner *check_runner(lua_State *L)
{
    lunl_runner *r = lunl_check(L, 1, &runner_type);
    if (r->closed)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "Runner is closed");
    return r;
}

/* --- runner:run(fn, ...) -> results: as async.run, on the runner's loop, any number of times. */
static int l_runner_run(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    check_runner(L);
    lunl_check_callable(L, 2);
    lunl_check_idle(L, S);
    lua_getiuservalue(L, 1, 1);
    lua_replace(L, 1);
    lunl_loop *loop = lunl_check_runnable(L, 1);
    int status = run_main(L, S, 1, 2);
    lunl_interrupt_end(loop);
    return status == LUA_OK ? lua_gettop(L) - 2 : lua_error(L);
}

/* --- runner:get_loop() -> Loop */
static int l_runner_get_loop(lua_State *L)
{
    check_runner(L);
    lua_getiuservalue(L, 1, 1);
    return 1;
}

/* --- runner:close(): ends what is left as async.run does, and closes the loop. */
static int l_runner_close(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_runner *r = lunl_check(L, 1, &runner_type);
    if (r->closed)
        return 0;
    lua_getiuservalue(L, 1, 1);
    lunl_loop *loop = lua_touserdata(L, -1);
    if (loop->closed || loop->ending) {
        r->closed = true;
        return 0;
    }
    if (S->loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "a Runner cannot be closed while a loop runs");
    r->closed = true;
    lunl_interrupt_begin(loop, NULL);
    bool interrupted = tear_down(L, S, lua_gettop(L));
    lunl_interrupt_end(loop);
    return interrupted ? lua_error(L) : 0;
}

/* --- tostring(runner) */
static int l_runner_tostring(lua_State *L)
{
    lunl_runner *r = lunl_check(L, 1, &runner_type);
    lua_pushfstring(L, "<Runner %s>", r->closed ? "closed" : "open");
    return 1;
}

void lunl_open_run(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"run", l_run}, {"Runner", l_runner}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"run", l_runner_run},
                                       {"get_loop", l_runner_get_loop},
                                       {"close", l_runner_close},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_runner_close}, {"__tostring", l_runner_tostring}, {NULL, NULL}};
    static const luaL_Reg parts[] = {
        {"deliver", deliver_protected},
        {"run_until", run_until_protected},
        {"teardown", teardown_protected},
        {"close", close_protected},
        {NULL, NULL},
    };
    lunl_state *S = lunl_get_state(L);
    int *const refs[] = {&S->deliver, &S->run_until, &S->teardown, &S->close};
    lunl_register(L, functions);
    lunl_newtype(L, &runner_type, methods, meta);
    lua_pop(L, 1);
    lua_newtable(L);
    lunl_register(L, parts);
    for (size_t i = 0; i < sizeof refs / sizeof *refs; i++) {
        lua_getfield(L, -1, parts[i].name);
        *refs[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_pop(L, 1);
}
