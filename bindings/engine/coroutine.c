/* SPDX-License-Identifier: MIT */
/*
 * coroutine.c - async.coroutine: Lua's coroutine table, in whose coroutines an await
 * suspends the task around them.
 *
 * An await inside such a coroutine yields, as everywhere, to whoever resumed it. That is
 * `run` below: it sees that the task no longer runs, so the yield was no value for the
 * generator's caller, and yields outward itself, level by level up to the task's step. When
 * the task goes on, each level resumes the one inside. A user's own yields pass values as
 * ever.
 *
 * Laws: S->running is the innermost coroutine, as long as every level up to the task is one
 * of these; below a coroutine that the stock table resumed it stays behind, so that an
 * await there is refused. Who is suspended in an await belongs to its task: it counts as
 * "normal", as a coroutine does that has resumed another one, and nobody else can resume or
 * close it. That is read off its stack: it lies in a C function of ours that is not this
 * file's `yield`.
 */
#include "../state.h"

enum {
    FAILED = -1,       /* the error is on the resumer's stack */
    AWAITS = -2,       /* suspended with the whole task */
    MOST_CLOSES = 190, /* nested closes, which Lua 5.4.4 does not count as C calls */
    MOST_BODIES = 16   /* nested wraps with a bottom of ours: see body */
};

static int l_yield(lua_State *L);

static lua_State *check_coroutine(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    if (!co)
        lunl_type_error(L, 1, "coroutine");
    return co;
}

/* Is `co` suspended by an await, not by a yield to its resumer? */
static bool in_await(lunl_state *S, lua_State *co)
{
    lua_Debug ar;
    int top = lua_gettop(co);
    if (lua_status(co) != LUA_YIELD || !lua_getstack(co, 0, &ar))
        return false;
    if (!lua_checkstack(co, 2))
        return true;
    lua_getinfo(co, "f", &ar);
    bool ours;
    if (lua_tocfunction(co, -1) == l_yield) {
        /* All that a generator yields goes to its resumer; a task keeps something in its
         * place. */
        ours = top > 0;
    } else {
        ours = lua_iscfunction(co, -1) && lua_getupvalue(co, -1, 1) &&
               lua_touserdata(co, -1) == S;
    }
    lua_settop(co, top);
    return ours;
}

/* lua_resume, with the state saying where Lua runs. */
static int enter(lua_State *L, lunl_state *S, lua_State *co, int nargs, int *n)
{
    bool known = S->task && L == S->running, outer = S->outer_yieldable;
    if (known) {
        S->outer_yieldable = outer && lua_isyieldable(L);
        S->running = co;
    }
    S->nested++;
    int status = lua_resume(co, L, nargs, n);
    S->nested--;
    if (known) {
        S->running = L;
        S->outer_yieldable = outer;
    }
    return status;
}

/* Resumes `co`, which has its arguments. How many results are on L now, FAILED or AWAITS.
 */
static int run(lua_State *L, lunl_state *S, lua_State *co, int nargs)
{
    int n, status = enter(L, S, co, nargs, &n);
    if (S->task && L == S->running && S->task->t.at != LUN_AT_RUNNING) {
        if (status == LUA_YIELD)
            return AWAITS;
        /* Lua could not go back into it (C stack overflow): the await ends here. */
        lun_future *on;
        lunl_resumed(L, S, &on);
    }
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return FAILED;
    }
    if (!lua_checkstack(L, n + 1)) {
        lua_pop(co, n);
        lua_pushliteral(L, "too many results to resume");
        return FAILED;
    }
    lua_xmove(co, L, n);
    return n;
}

/* Resumes `co` with the `nargs` values on top of L, which are popped. */
static int resume(lua_State *L, lunl_state *S, lua_State *co, int nargs)
{
    if (in_await(S, co)) {
        lua_pop(L, nargs);
        lua_pushliteral(L, "cannot resume non-suspended coroutine");
        return FAILED;
    }
    if (!lua_checkstack(co, nargs)) {
        lua_pop(L, nargs);
        lua_pushliteral(L, "too many arguments to resume");
        return FAILED;
    }
    /* A wrapped body that begins has its function as the first argument. */
    bool begins = lua_status(co) == LUA_OK && lua_gettop(co) == 2;
    if (begins && S->nested >= MOST_BODIES) {
        lua_remove(co, 1);
        begins = false;
    }
    lua_xmove(L, co, nargs);
    return run(L, S, co, nargs + begins);
}

/* The task goes on: back into `co`, which awaits. */
static int run_on(lua_State *L, lunl_state *S, lua_State *co)
{
    if (!S->task || L != S->running)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "a task's coroutine was resumed by somebody else");
    if (in_await(S, co))
        return run(L, S, co, 0);
    /* The stock table has closed or resumed it meanwhile: the await ends here, without it.
     */
    lun_future *on;
    lunl_resumed(L, S, &on);
    lua_pushliteral(L, "cannot resume dead coroutine");
    return FAILED;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx);

/* What resume returns: the stack is the coroutine and `n` results, or it and the error. */
static int resumed(lua_State *L, int n)
{
    if (n == AWAITS)
        return lua_yieldk(L, 0, 0, resume_k);
    lua_pushboolean(L, n != FAILED);
    lua_replace(L, 1);
    return n == FAILED ? 2 : n + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return resumed(L, run_on(L, lunl_S(L), lua_tothread(L, 1)));
}

/* --- async.coroutine.resume(co, ...) -> true, values | false, error
 * Starts or continues a coroutine, as Lua's own. An await inside it suspends the calling
 * task. A coroutine that is suspended in an await is not suspended for its resumers: false.
 */
static int l_resume(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    return resumed(L, resume(L, lunl_S(L), co, lua_gettop(L) - 1));
}

/* Pushes a new coroutine for the function at 1, below `bottom` if that is one. */
static void push_new(lua_State *L, lua_CFunction bottom)
{
    if (lua_type(L, 1) != LUA_TFUNCTION)
        lunl_type_error(L, 1, "function");
    lua_State *co = lua_newthread(L);
#if LUN_STACK_RESERVE > 0
    lua_checkstack(co, LUN_STACK_RESERVE);
#endif
    if (bottom)
        lua_pushcfunction(co, bottom);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
}

/* --- async.coroutine.create(fn) -> coroutine
 * A coroutine with the body `fn`. Throws TypeError if that is no function. */
static int l_create(lua_State *L)
{
    push_new(L, NULL);
    return 1;
}

/* Runs the closers of `co`, which cannot await: their task is not suspended with them. */
static int close_thread(lua_State *L, lunl_state *S, lua_State *co)
{
    if (S->closing >= MOST_CLOSES)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "too many nested calls of 'close' (C stack overflow)");
    bool inside = S->task && L == S->running, outer = S->outer_yieldable;
    if (inside) {
        S->outer_yieldable = false;
        S->running = co;
    }
    S->closing++;
    int status = lunl_reset_thread(co, L);
    S->closing--;
    if (inside) {
        S->running = L;
        S->outer_yieldable = outer;
    }
    return status;
}

/* Throws the error on top, as Lua's own wrap does: the body's closers first, a place for
 * texts. */
static int propagate(lua_State *L, lunl_state *S, lua_State *co)
{
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) {
        /* The closers get the error, and may replace it. */
        lua_xmove(L, co, 1);
        status = close_thread(L, S, co);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        bool traced = S->origin_error && S->origin_error == lua_topointer(L, -1);
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
        if (traced)
            S->origin_error = lua_topointer(L, -1);
    }
    return lua_error(L);
}

static int wrapped_k(lua_State *L, int status, lua_KContext ctx);

static int wrapped(lua_State *L, lunl_state *S, lua_State *co, int n)
{
    if (n == AWAITS)
        return lua_yieldk(L, 0, 0, wrapped_k);
    return n == FAILED ? propagate(L, S, co) : n;
}

static int wrapped_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lua_State *co = lua_tothread(L, lua_upvalueindex(3));
    (void)status;
    (void)ctx;
    return wrapped(L, S, co, run_on(L, S, co));
}

static int body_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    return status == LUA_OK || status == LUA_YIELD ? lua_gettop(L) - 1 : lua_error(L);
}

/* Message handler: whoever resumes throws the error again, on another stack. */
static int record_throw(lua_State *L)
{
    if (!lunl_error_is(L, 1, LUNL_CANCELLED_ERROR))
        lunl_record_throw(L, 1, false);
    lua_settop(L, 1);
    return 1;
}

/*
 * At the bottom of a wrapped coroutine, with the function and its arguments: an error
 * passes the body's closers inside the coroutine, where they can await. It costs a level of
 * Lua's 200 nested C calls, so deeply nested generators do without.
 */
static int body(lua_State *L)
{
    lua_pushcfunction(L, record_throw);
    lua_insert(L, 1);
    return body_k(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 0, body_k), 0);
}

static int call_wrapped(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lua_State *co = lua_tothread(L, lua_upvalueindex(3));
    return wrapped(L, S, co, resume(L, S, co, lua_gettop(L)));
}

/* --- async.coroutine.wrap(fn) -> function
 * A function that resumes a new coroutine with the body `fn` and returns what it yields. It
 * throws the body's error, and suspends the calling task while the body awaits. Throws
 * TypeError if `fn` is no function. */
static int l_wrap(lua_State *L)
{
    push_new(L, body);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_rotate(L, -3, -1);
    lua_pushcclosure(L, call_wrapped, 3);
    return 1;
}

static int yielded_k(lua_State *L, int status, lua_KContext ctx)
{
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, lunl_S(L), &on);
    return 0;
}

/* --- async.coroutine.yield(...) -> values
 * Suspends the coroutine and hands the values to its resumer; returns what the next resume
 * brings. In a task's own coroutine there is no resumer: yield() gives way like sleep(0),
 * yield(future) awaits it, and both are safe to cancel; anything else throws RuntimeError.
 */
static int l_yield(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    int n = lua_gettop(L);
    if (!S->task || L != lunl_task_co(S, S->task))
        return lua_yield(L, n);
    lun_task *t = lunl_enter(L, S);
    if (n == 0) {
        lua_pushnil(L); /* see in_await */
        lun_task_yield(t);
        return lunl_suspend(L, S, 0, yielded_k);
    }
    lun_future *f = n == 1 ? lunl_to_future(L, 1) : NULL;
    if (!f)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "a task can yield nothing or one future (got %s)",
                   n > 1 ? "several values" : luaL_typename(L, 1));
    return lunl_await(L, S, 1, f);
}

static const char *status_of(lua_State *L, lunl_state *S, lua_State *co)
{
    lua_Debug ar;
    if (L == co)
        return "running";
    switch (lua_status(co)) {
    case LUA_YIELD:
        return in_await(S, co) ? "normal" : "suspended";
    case LUA_OK:
        if (lua_getstack(co, 0, &ar))
            return "normal";
        return lua_gettop(co) == 0 ? "dead" : "suspended";
    default:
        return "dead";
    }
}

/* --- async.coroutine.status(co) -> string
 * "running", "suspended", "normal" or "dead". One that is suspended in an await is
 * "normal". */
static int l_status(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    lua_pushstring(L, status_of(L, lunl_S(L), co));
    return 1;
}

/* --- async.coroutine.running() -> coroutine, boolean
 * The running coroutine, and whether it is the main thread of the Lua state. */
static int l_running(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    int is_main = lua_pushthread(L);
    if (S->task && L == lunl_task_co(S, S->task) &&
        !(S->task->t.done.guest & LUNL_KEEP_THREAD)) {
        lunl_push_held(L, S, S->task->t.done.order);
        lunl_make_frame(L, -1);
        lua_pop(L, 1);
        S->task->t.done.guest |= LUNL_KEEP_THREAD;
    }
    lua_pushboolean(L, is_main);
    return 2;
}

/* --- async.coroutine.isyieldable(co?) -> boolean
 * Whether the coroutine, by default the running one, can yield. */
static int l_isyieldable(lua_State *L)
{
    lua_State *co = lua_isnone(L, 1) ? L : check_coroutine(L);
    lua_pushboolean(L, lua_isyieldable(co));
    return 1;
}

/* --- async.coroutine.close(co) -> true | false, error
 * Ends a suspended or dead coroutine: its pending <close> variables are closed. Throws
 * RuntimeError for one that runs, that has resumed another one, or that awaits. */
static int l_close(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lua_State *co = check_coroutine(L);
    if (in_await(S, co))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "cannot close a coroutine that awaits");
    const char *status = status_of(L, S, co);
    if (*status == 'r' || *status == 'n')
        lunl_throw(L, LUNL_RUNTIME_ERROR, "cannot close a %s coroutine", status);
    if (close_thread(L, S, co) == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

void lunl_open_coroutine(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"create", l_create}, {"wrap", l_wrap},
        {"resume", l_resume}, {"yield", l_yield},
        {"status", l_status}, {"running", l_running},
        {"close", l_close},   {"isyieldable", l_isyieldable},
        {NULL, NULL},
    };
    lua_createtable(L, 0, 8);
    lunl_register(L, functions);
    lua_setfield(L, -2, "coroutine");
}
