/* SPDX-License-Identifier: MIT */
/*
 * timeout.c - time limits: the timeout scope, and wait_for, which is such a scope around
 * one owning wait.
 *
 * Law: a scope asks its own task to stop, at most once, and takes that one request back
 * when it ends. It throws TimeoutError only in place of a CancelledError, and only if no
 * more requests are left than there were at its beginning: whatever came from outside wins.
 *
 * The timer's fire is C alone; the scope keeps its task alive in user value 1, so that a
 * scope that nobody closed can still fire, and __gc takes the timer out.
 */
#include "../state.h"

#include <math.h>

struct scope {
    const lunl_type *type; /* first */
    lun_timer timer;
    lun_task *task;  /* user value 1 */
    double when;     /* seconds of the loop's clock, if limited */
    uint16_t before; /* requests at the beginning */
    bool limited;
    bool expired; /* the time came before the end */
    bool asked;   /* a request of ours is to be taken back */
    bool closed;
};

static const lunl_type scope_type = {"Timeout"};

/*
 * Scopes of wait_for that are over, for the next ones: in the user values, upvalue 3 of
 * wait_for. A userdata with a finaliser is the dearest thing to make here, and those no
 * script ever sees.
 */
struct spares {
    const lunl_type *type; /* first */
    int n;
};

enum { MOST_SPARES = 64, SPARES = 3 };

static const lunl_type spares_type = {"spares"};

unsigned lunl_take_back(lun_task *t, unsigned before)
{
    unsigned left = lun_task_uncancel(t);
    /*
     * To make this request `t` had to be suspended, and that delivered all that was pending
     * at the beginning; so with no more left than then, one that is pending now is the one
     * taken back.
     */
    if (left <= before)
        t->flags &= (uint8_t)~LUN_MUST_CANCEL;
    return left;
}

lun_task *lunl_scope_enter(lua_State *L, lunl_state *S, const char *what)
{
    if (!S->task)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s needs a running task", what);
    lunl_push_held(L, S, S->task->t.done.order);
    lua_setiuservalue(L, -2, 1);
    return &S->task->t;
}

void lunl_scope_leave(lua_State *L, lunl_state *S, lun_task *t, const char *what)
{
    /* A coroutine that is closed by force runs its closers without a running task. */
    lunl_task *owner = (lunl_task *)t;
    if (S->task != owner && (lun_future_done(&t->done) || lunl_task_co(S, owner) != L))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s is closed by another task than made it",
                   what);
}

static void expire(lun_timer *timer, lun_loop *loop)
{
    struct scope *s = lun_container(timer, struct scope, timer);
    s->expired = true;
    s->task->done.guest |= LUNL_TIMED_OUT;
    lunl_loop_of(loop)->S->cancel_msg = 0;
    s->asked = lun_task_cancel(s->task);
}

/* For wait_for: an outcome that is there already is what the task gets, so nothing expires.
 */
static void expire_work(lun_timer *timer, lun_loop *loop)
{
    lun_task *t = lun_container(timer, struct scope, timer)->task;
    if (t->at != LUN_AT_WAITING || !lun_future_done(t->u.wait.on))
        expire(timer, loop);
}

/* The scope on top begins, of the running task, its timer not started. */
static struct scope *begin(lua_State *L, lunl_state *S, const char *what,
                           void (*fire)(lun_timer *, lun_loop *))
{
    struct scope *s = lua_touserdata(L, -1);
    s->task = lunl_scope_enter(L, S, what);
    s->before = s->task->requests;
    lun_timer_init(&s->timer, fire);
    return s;
}

static struct scope *new_scope(lua_State *L, lunl_state *S, const char *what)
{
    lunl_new(L, &scope_type, sizeof(struct scope), 1);
    S->events.opened++;
    return begin(L, S, what, expire);
}

static void start(lua_State *L, struct scope *s, uint64_t deadline)
{
    if (lun_timer_start(s->task->done.loop, &s->timer, deadline) != 0)
        lunl_throw_uv(L, UV_ENOMEM, "timer", NULL);
}

static void stop(struct scope *s)
{
    if (lun_timer_active(&s->timer))
        lun_timer_stop(s->task->done.loop, &s->timer);
}

static int throw_timeout(lua_State *L, int cause)
{
    lunl_error_new(L, LUNL_TIMEOUT_ERROR, "timed out");
    lua_pushvalue(L, cause);
    lunl_error_set(L, lua_gettop(L) - 1, "cause");
    return lua_error(L);
}

/* --- async.timeout(delay) -> scope: a closable that throws TimeoutError out of its block
 * when `delay` seconds (nil: no limit; <= 0: at the first await that suspends) have passed,
 * by way of a CancelledError at the await in progress. The error's `cause` is that
 * CancelledError. Other errors pass, and a block that swallows the cancellation ends well.
 * RuntimeError outside a task, TypeError for NaN or anything but a number. Does not
 * suspend, neither does the end of the block. */
static int l_timeout(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    bool limited = !lua_isnoneornil(L, 1);
    double delay = lunl_opt_number(L, 1, INFINITY);
    struct scope *s = new_scope(L, S, "timeout");
    lun_loop *loop = s->task->done.loop;
    uint64_t deadline = limited ? lun_loop_deadline(loop, delay) : LUN_NEVER;
    s->limited = limited;
    s->when = deadline == LUN_NEVER ? INFINITY : (double)deadline / 1e9;
    start(L, s, deadline);
    return 1;
}

/* --- async.timeout_at(when) -> scope: the same with a time of loop:time(), in seconds;
 * nil: no limit. A time that has passed expires at the first await that suspends. */
static int l_timeout_at(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    bool limited = !lua_isnoneornil(L, 1);
    double when = lunl_opt_number(L, 1, INFINITY);
    struct scope *s = new_scope(L, S, "timeout_at");
    s->limited = limited;
    s->when = when;
    start(L, s, lunl_deadline_at(when));
    return 1;
}

/* --- scope:when() -> seconds: the deadline as a time of loop:time(), or nil without one.
 */
static int l_when(lua_State *L)
{
    struct scope *s = lunl_check(L, 1, &scope_type);
    if (s->limited)
        lua_pushnumber(L, s->when);
    else
        lua_pushnil(L);
    return 1;
}

/* --- scope:reschedule(when): moves the deadline to a time of loop:time(), in seconds; nil
 * switches it off, a time that has passed expires soon. RuntimeError if the scope has
 * expired or ended. Does not suspend. */
static int l_reschedule(lua_State *L)
{
    struct scope *s = lunl_check(L, 1, &scope_type);
    bool limited = !lua_isnoneornil(L, 2);
    double when = lunl_opt_number(L, 2, INFINITY);
    if (s->closed || s->expired)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "cannot reschedule a timeout that has %s",
                   s->closed ? "ended" : "expired");
    stop(s);
    s->limited = limited;
    s->when = when;
    start(L, s, lunl_deadline_at(when));
    return 0;
}

/* --- scope:expired() -> boolean: whether the time has come before the block ended. */
static int l_expired(lua_State *L)
{
    struct scope *s = lunl_check(L, 1, &scope_type);
    lua_pushboolean(L, s->expired);
    return 1;
}

/* --- scope:__close(err): the end of the block; throws TimeoutError if the scope's own
 * request ends it by CancelledError, RuntimeError in another task. Does not suspend. */
static int l_scope_close(lua_State *L)
{
    struct scope *s = lunl_check(L, 1, &scope_type);
    if (s->closed)
        return 0;
    lunl_state *S = lunl_S(L);
    lunl_scope_leave(L, S, s->task, "timeout");
    S->events.closed++;
    s->closed = true;
    stop(s);
    lua_settop(L, 2);
    lua_pushnil(L);
    lua_setiuservalue(L, 1, 1);
    if (!s->asked)
        return 0;
    unsigned left = lunl_take_back(s->task, s->before);
    if (left > s->before || !lunl_error_is(L, 2, LUNL_CANCELLED_ERROR))
        return 0;
    return throw_timeout(L, 2);
}

/* --- scope:__gc(): nobody closed it; its timer goes. */
static int l_scope_gc(lua_State *L)
{
    struct scope *s = lunl_check(L, 1, &scope_type);
    s->closed = true;
    stop(s);
    return 0;
}

/* An error that came instead of the cancellation keeps the timeout as its context. */
static void add_context(lua_State *L, lun_future *f)
{
    int at = lua_gettop(L) + 1;
    lunl_peek_error(L, 1, f);
    if (lunl_error_is(L, at, LUNL_BASE_ERROR)) {
        lua_pushliteral(L, "context");
        if (lua_rawget(L, at) == LUA_TNIL) {
            lunl_error_new(L, LUNL_TIMEOUT_ERROR, "timed out");
            lunl_error_set(L, at, "context");
        }
    }
    lua_settop(L, at - 1);
}

/* Pushes the scope of a wait. */
static struct scope *spare_scope(lua_State *L, lunl_state *S)
{
    struct spares *p = lua_touserdata(L, lua_upvalueindex(SPARES));
    if (p->n == 0) {
        lunl_new(L, &scope_type, sizeof(struct scope), 1);
    } else {
        /* Taken out, so that the scope of a task that is closed by force can be collected. */
        lua_getiuservalue(L, lua_upvalueindex(SPARES), p->n);
        lua_pushnil(L);
        lua_setiuservalue(L, lua_upvalueindex(SPARES), p->n--);
        struct scope *s = lua_touserdata(L, -1);
        s->expired = s->asked = s->closed = false;
    }
    return begin(L, S, "wait_for", expire_work);
}

/* The scope at 2, whose timer is stopped, is over. */
static void spare(lua_State *L)
{
    struct spares *p = lua_touserdata(L, lua_upvalueindex(SPARES));
    if (p->n == MOST_SPARES)
        return;
    lua_pushnil(L);
    lua_setiuservalue(L, 2, 1);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, lua_upvalueindex(SPARES), ++p->n);
}

/* The wait is over, or there was none: the future lies at 1, the scope (or nil) at 2. */
static int conclude(lua_State *L, lunl_state *S, lun_task *t, bool interrupted)
{
    lun_future *f = lua_touserdata(L, 1);
    struct scope *s = lua_touserdata(L, 2);
    bool expired = false, ours = false;
    if (s) {
        s->closed = true;
        stop(s);
        unsigned left = s->asked ? lunl_take_back(t, s->before) : t->requests;
        expired = s->expired;
        ours = expired && left <= s->before;
        spare(L);
    }
    if (interrupted) {
        lunl_push_cancelled(L, S);
    } else if (ours && f->state == LUN_CANCELLED) {
        lunl_push_error(L, 1, f);
    } else {
        if (expired && f->state == LUN_ERROR)
            add_context(L, f);
        return lunl_await(L, S, 1, f);
    }
    return ours ? throw_timeout(L, lua_gettop(L)) : lua_error(L);
}

static int wait_for_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    bool interrupted;
    (void)status;
    (void)ctx;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    return conclude(L, S, t, interrupted);
}

static int wait(lua_State *L, lunl_state *S, lun_task *t, lun_future *f)
{
    lun_task_wait(t, f, true);
    return lunl_suspend(L, S, 0, wait_for_k);
}

/* The time is up before it began: the work that is there, or just made, is cancelled. */
static int expire_now(lua_State *L, lunl_state *S, lun_task *t, lun_future *f,
                      struct scope *s)
{
    s->expired = true;
    lunl_cancel(L, S, f, 1, 0);
    if (!lun_future_done(f))
        return wait(L, S, t, f);
    if (!lunl_gives_way(S))
        return conclude(L, S, t, false);
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, wait_for_k);
}

/* --- async.wait_for(aw, timeout) -> results of aw: waits at most `timeout` seconds (nil:
 * for ever) for an awaitable; a function or __await value becomes a new task. When the time
 * is up, or the caller is cancelled, `aw` is cancelled, whoever else waits for it, and its
 * real end awaited: then TimeoutError (its `cause` the CancelledError), or CancelledError.
 * A value or error of `aw` wins over both. <= 0: done already, or cancelled at once.
 * TypeError for what is no awaitable or number, RuntimeError outside a task. Suspends; safe
 * to cancel. */
static int l_wait_for(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    if (!lunl_awaitable(L, 1))
        lunl_type_error(L, 1, "awaitable");
    bool limited = !lua_isnoneornil(L, 2), made = lunl_to_future(L, 1) == NULL;
    double limit = lunl_opt_number(L, 2, INFINITY);
    struct scope *s = NULL;
    lua_settop(L, 1);
    lun_future *f = made ? NULL : lunl_ensure_future(L, S->loop, 1);
    if (f && lun_future_done(f))
        return lunl_await(L, S, 1, f);
    if (f && lun_task_would_cycle(t, f))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "a task cannot wait_for what waits for it");
    if (limited)
        s = spare_scope(L, S);
    else
        lua_pushnil(L);
    if (made)
        f = lunl_ensure_future(L, S->loop, 1);
    if (s && limit <= 0)
        return expire_now(L, S, t, f, s);
    if (s &&
        lun_timer_start(t->done.loop, &s->timer, lun_loop_deadline(t->done.loop, limit))) {
        if (made)
            lunl_cancel(L, S, f, 1, 0);
        lunl_throw_uv(L, UV_ENOMEM, "timer", NULL);
    }
    /* A finaliser may have settled it meanwhile. */
    return lun_future_done(f) ? conclude(L, S, t, false) : wait(L, S, t, f);
}

void lunl_open_timeout(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"timeout", l_timeout},
        {"timeout_at", l_timeout_at},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"when", l_when},
        {"reschedule", l_reschedule},
        {"expired", l_expired},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {
        {"__close", l_scope_close},
        {"__gc", l_scope_gc},
        {NULL, NULL},
    };
    lunl_newtype(L, &scope_type, methods, meta);
    lunl_newtype(L, &spares_type, NULL, NULL);
    lua_pop(L, 2);
    lunl_register(L, functions);
    lua_getfield(L, -1, "timeout");
    lua_getupvalue(L, -1, 1);
    lua_getupvalue(L, -2, 2);
    lunl_new(L, &spares_type, sizeof(struct spares), MOST_SPARES);
    lua_pushcclosure(L, l_wait_for, 3);
    lua_setfield(L, -3, "wait_for");
    lua_pop(L, 1);
}
