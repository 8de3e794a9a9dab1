/* SPDX-License-Identifier: MIT */
/*
 * handle.c - callbacks: call_soon, call_later, call_at and done callbacks, all one kind of object.
 *
 * A Handle is held from its making until it ran or was cancelled; a done callback until then,
 * too, so a future needs no list of its own. User values: 1 the function, or a table of function
 * and arguments; 2 the future of a done callback.
 */
#include "../state.h"

#include <math.h>

typedef struct lunl_handle {
    const lunl_type *type;
    lun_job job; /* queued while at == READY */
    union {
        lun_timer timer;   /* WAITING, call_later */
        lun_waiter waiter; /* WAITING, done callback */
    } u;
    lun_link link; /* in loop->callbacks until it is over */
    lunl_loop *loop;
    double when;    /* loop time, for timers */
    uint32_t slot;  /* while it is held */
    uint8_t at;     /* enum handle_at */
    uint8_t packed; /* user value 1 is a table */
    uint8_t timed;  /* made by call_later or call_at */
    uint8_t cancelled;
} lunl_handle;

enum handle_at { READY, WAITING, OVER };

static const lunl_type handle_type = {"Handle"};

static lunl_handle *job_handle(lun_job *job)
{
    return lun_container(job, lunl_handle, job);
}

/* It will not run (again): its function and arguments go. */
static void over(lua_State *L, lunl_handle *h, int idx)
{
    h->at = OVER;
    lun_list_drop(&h->link);
    h->loop->loop.count.callbacks--;
    lua_pushnil(L);
    lua_setiuservalue(L, idx, 1);
    lunl_release_fast(L, h->loop->S, h->slot);
}

static void run(lun_job *job)
{
    lunl_handle *h = job_handle(job);
    lunl_state *S = h->loop->S;
    lua_State *L = S->L;
    int top = lua_gettop(L), n = 0;
    luaL_checkstack(L, 10, NULL);
    lunl_push_held(L, S, h->slot);
    if (h->cancelled) {
        over(L, h, top + 1);
        lua_settop(L, top);
        return;
    }
    lua_getiuservalue(L, top + 1, 1);
    if (h->packed) {
        int t = lua_gettop(L);
        lua_getfield(L, t, "n");
        n = (int)lua_tointeger(L, -1) - 1;
        lua_pop(L, 1);
        luaL_checkstack(L, n + 4, NULL);
        for (int i = 1; i <= n + 1; i++)
            lua_rawgeti(L, t, i);
        lua_remove(L, t);
    } else if (h->u.waiter.on && !h->timed) {
        lua_getiuservalue(L, top + 1, 2);
        n = lua_isnil(L, -1) ? (lua_pop(L, 1), 0) : 1;
    }
    over(L, h, top + 1);
    S->ran = true;
    uint64_t began = h->loop->debug ? uv_hrtime() : 0;
    lunl_callback(L, h->loop, n, "callback", top + 1);
    if (began)
        lunl_report_slow(L, h->loop, began, top + 1);
    lua_settop(L, top);
}

static void on_time(lun_timer *timer, lun_loop *loop)
{
    lunl_handle *h = lun_container(timer, lunl_handle, u.timer);
    h->at = READY;
    lun_loop_queue(loop, &h->job);
}

static void on_done(lun_waiter *w)
{
    lunl_handle *h = lun_container(w, lunl_handle, u.waiter);
    h->at = READY;
    lun_loop_queue(&h->loop->loop, &h->job);
}

/* A callback is no reason to spare a future from a cancel. */
static const lun_waiter_kind callback_waiter = {on_done, false};

/* User value of a handle made in debug mode: where that was. */
enum { SOURCE = 3 };

/*
 * New held handle for the function and arguments from index `fn` to the top, on the stack. Its
 * caller queues it or lets it wait.
 */
static lunl_handle *new_handle(lua_State *L, lunl_loop *loop, int fn, int nargs)
{
    lunl_handle *h = lunl_new(L, &handle_type, sizeof *h,
                              loop->debug || loop->sites ? SOURCE : SOURCE - 1);
    int at = lua_gettop(L);
    if (loop->debug || loop->sites) {
        lunl_push_site(L);
        lua_setiuservalue(L, at, SOURCE);
    }
    if (nargs == 0) {
        lua_pushvalue(L, fn);
    } else {
        lua_createtable(L, nargs + 1, 1);
        for (int i = 0; i <= nargs; i++) {
            lua_pushvalue(L, fn + i);
            lua_rawseti(L, -2, i + 1);
        }
        lua_pushinteger(L, nargs + 1);
        lua_setfield(L, -2, "n");
        h->packed = 1;
    }
    lua_setiuservalue(L, at, 1);
    h->loop = loop;
    h->job.run = run;
    h->at = READY;
    h->slot = lunl_hold_at(L, loop->S, at, NULL);
    lun_list_push(&loop->callbacks, &h->link);
    loop->loop.count.callbacks++;
    return h;
}

/* --- loop:call_soon(callback, ...) -> Handle
 * Calls `callback(...)` on the next turn, first in, first out. TypeError if it cannot be called,
 * RuntimeError if the loop is closed. */
static int l_call_soon(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    lunl_check_callable(L, 2);
    lunl_handle *h = new_handle(L, loop, 2, lua_gettop(L) - 2);
    lun_loop_queue(&loop->loop, &h->job);
    return 1;
}

static int start_timer(lua_State *L, lunl_loop *loop, uint64_t deadline, double when)
{
    lunl_handle *h = new_handle(L, loop, 3, lua_gettop(L) - 3);
    lun_timer_init(&h->u.timer, on_time);
    h->timed = 1;
    h->when = when;
    h->at = WAITING;
    if (lun_timer_start(&loop->loop, &h->u.timer, deadline) != 0) {
        over(L, h, lua_gettop(L));
        return luaL_error(L, "not enough memory");
    }
    return 1;
}

/* --- loop:call_later(seconds, callback, ...) -> Handle
 * Calls it after that time, never early; equal deadlines in the order of scheduling. Negative is
 * zero, which comes after what is ready now; math.huge never comes. */
static int l_call_later(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    double delay = lunl_check_number(L, 2);
    lunl_check_callable(L, 3);
    uint64_t deadline = lun_loop_deadline(&loop->loop, delay);
    return start_timer(L, loop, deadline,
                       deadline == LUN_NEVER ? HUGE_VAL : (double)deadline / 1e9);
}

/* --- loop:call_at(when, callback, ...) -> Handle
 * The same at a time of loop:time(), in seconds. */
static int l_call_at(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    double when = lunl_check_number(L, 2);
    lunl_check_callable(L, 3);
    return start_timer(L, loop, lunl_deadline_at(when), when);
}

static lunl_handle *check_handle(lua_State *L)
{
    return lunl_check(L, 1, &handle_type);
}

/* The callback of the Handle at `idx` will not run. */
static void cancel_handle(lua_State *L, int idx)
{
    lunl_handle *h = lua_touserdata(L, idx);
    h->cancelled = 1;
    if (h->at == WAITING) {
        if (h->timed)
            lun_timer_stop(&h->loop->loop, &h->u.timer);
        else
            lun_waiter_drop(&h->u.waiter);
        over(L, h, idx);
    } else if (h->at == READY) {
        /* The function goes now, the memory when its turn comes. */
        lua_pushboolean(L, 0);
        lua_setiuservalue(L, idx, 1);
    }
}

void lunl_release_callbacks(lua_State *L, lunl_loop *loop)
{
    lunl_state *S = loop->S;
    /* Ended tasks first: the queue leads through Handles, which go after that. */
    for (lun_job *job = loop->loop.ready, *next; job; job = next) {
        next = job->next;
        if (job->run == lunl_step)
            lunl_let_go_queued(L, S, lun_container(job, lunl_task, t.job));
    }
    loop->loop.ready = NULL;
    loop->loop.ready_end = &loop->loop.ready;
    loop->loop.n_ready = 0;
    while (!lun_list_alone(&loop->callbacks)) {
        lunl_handle *h = lun_container(loop->callbacks.next, lunl_handle, link);
        lunl_push_held(L, S, h->slot);
        h->cancelled = 1;
        if (h->at == WAITING && h->timed)
            lun_timer_stop(&loop->loop, &h->u.timer);
        else if (h->at == WAITING)
            lun_waiter_drop(&h->u.waiter);
        over(L, h, lua_gettop(L));
        lua_pop(L, 1);
    }
}

/* --- handle:cancel(): the callback will not run; harmless if it ran or was cancelled. */
static int l_cancel(lua_State *L)
{
    check_handle(L);
    cancel_handle(L, 1);
    return 0;
}

/* --- handle:cancelled() -> boolean */
static int l_cancelled(lua_State *L)
{
    lua_pushboolean(L, check_handle(L)->cancelled);
    return 1;
}

/* --- handle:when() -> number or nil: the loop time it is due at; nil for call_soon. */
static int l_when(lua_State *L)
{
    lunl_handle *h = check_handle(L);
    if (h->timed)
        lua_pushnumber(L, h->when);
    else
        lua_pushnil(L);
    return 1;
}

/* --- tostring(handle) -> "<Handle pending>" */
static int l_tostring(lua_State *L)
{
    lunl_handle *h = check_handle(L);
    lua_pushfstring(L, "<Handle %s>",
                    h->cancelled    ? "cancelled"
                    : h->at == OVER ? "done"
                                    : "pending");
    return 1;
}

void lunl_add_callback(lua_State *L, lunl_loop *loop, int idx, lun_future *f, int cb)
{
    if (loop->closed)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "Event loop is closed");
    lunl_handle *h = new_handle(L, loop, cb, 0);
    lua_pushvalue(L, idx);
    lua_setiuservalue(L, -2, 2);
    lun_waiter_init(&h->u.waiter, &callback_waiter);
    h->u.waiter.on = f;
    if (lun_future_done(f)) {
        lun_loop_queue(&loop->loop, &h->job);
    } else {
        h->at = WAITING;
        lun_waiter_watch(&h->u.waiter, f);
    }
}

int lunl_remove_callbacks(lua_State *L, lun_future *f, int cb)
{
    lunl_state *S = lunl_S(L);
    int n = 0;
    for (lun_link *l = f->waiters.next, *next; l != &f->waiters; l = next) {
        lun_waiter *w = lun_container(l, lun_waiter, link);
        next = l->next;
        if (w->kind != &callback_waiter)
            continue;
        lunl_handle *h = lun_container(w, lunl_handle, u.waiter);
        lunl_push_held(L, S, h->slot);
        lua_getiuservalue(L, -1, 1);
        bool same = lua_rawequal(L, -1, cb);
        lua_pop(L, 1);
        if (same) {
            lun_waiter_drop(w);
            h->cancelled = 1;
            over(L, h, lua_gettop(L));
            n++;
        }
        lua_pop(L, 1);
    }
    return n;
}

void lunl_handle_context(lua_State *L, int idx, int context)
{
    lua_pushvalue(L, idx);
    lua_setfield(L, context, "handle");
    lua_getiuservalue(L, idx, SOURCE);
    lua_setfield(L, context, "source_traceback");
    lua_getiuservalue(L, idx, 2);
    if (lunl_to_future(L, -1)) {
        lua_pushvalue(L, -1);
        lua_setfield(L, context, "future");
        if (lun_is_task(lunl_to_future(L, -1))) {
            lua_pushvalue(L, -1);
            lua_setfield(L, context, "task");
        }
    }
    lua_pop(L, 1);
}

void lunl_push_handle_source(lua_State *L, int idx)
{
    if (lunl_test(L, idx, &handle_type))
        lua_getiuservalue(L, idx, SOURCE);
    else
        lua_pushnil(L);
}

lua_Integer lunl_list_callbacks(lua_State *L, lunl_loop *loop, lua_Integer n)
{
    int top = lua_gettop(L);
    for (lun_link *l = loop->callbacks.next; l != &loop->callbacks; l = l->next) {
        lunl_handle *h = lun_container(l, lunl_handle, link);
        luaL_checkstack(L, 8, NULL);
        lunl_push_held(L, loop->S, h->slot);
        lua_getiuservalue(L, top + 1, 1);
        if (h->packed) {
            lua_rawgeti(L, -1, 1);
            lua_replace(L, -2);
        }
        lunl_push_where(L, -1);
        lua_pushfstring(L, "<Handle %s %s>", h->timed ? "timer" : "callback",
                        lua_tostring(L, -1));
        lua_getiuservalue(L, top + 1, SOURCE);
        lua_pushvalue(L, top);
        n = lunl_probe_row(L, n, h->timed ? "timer" : "callback", lua_tostring(L, -3),
                           lua_tostring(L, -2), top + 1);
        lua_settop(L, top);
    }
    return n;
}

const luaL_Reg lunl_handle_methods[] = {
    {"call_soon", l_call_soon},
    {"call_later", l_call_later},
    {"call_at", l_call_at},
    {NULL, NULL},
};

void lunl_open_handle(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"cancel", l_cancel}, {"cancelled", l_cancelled}, {"when", l_when}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__tostring", l_tostring}, {NULL, NULL}};
    lunl_newtype(L, &handle_type, methods, meta);
    lua_pop(L, 1);
}
