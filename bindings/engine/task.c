/* SPDX-License-Identifier: MIT */
/*
 * task.c - a task is a coroutine with a body of ours: its step, its end, and its coroutine's reuse.
 *
 * The user's function runs under lua_pcallk inside the coroutine, so closers run, and may await,
 * when an error passes, and the coroutine ends well enough to be used again. A task that has not
 * run yet is only its userdata: it gets a coroutine at its first step.
 *
 * User value 1 is the arguments, then the outcome. User value 2 is the function, or a table of
 * notes about the task (LUNL_NOTES) once something else has to be remembered.
 *
 * Law: a step allocates nothing outside of its coroutine but a coroutine, and that protected.
 */
#include "../state.h"

#include <stdlib.h>
#include <string.h>

int lunl_reset_thread(lua_State *co, lua_State *from)
{
#if LUA_VERSION_NUM > 504 || LUA_VERSION_RELEASE_NUM >= 50406
    int status = lua_closethread(co, from);
#else
    (void)from;
    int status = lua_resetthread(co);
#endif
#if LUN_STACK_RESERVE > 0
    lua_checkstack(co, LUN_STACK_RESERVE);
#endif
    return status;
}

/* ---- coroutines ---- */

/* Makes a coroutine with the two closures at its bottom; leaves it held. For lua_pcall. */
static int new_coroutine(lua_State *L)
{
    lunl_state *S = lua_touserdata(L, 1);
    uint32_t *slot = lua_touserdata(L, 2);
    lua_State *co = lua_newthread(L);
#if LUN_STACK_RESERVE > 0
    lua_checkstack(co, LUN_STACK_RESERVE);
#endif
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->body);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->msgh);
    lua_xmove(L, co, 2);
    *slot = lunl_hold(L, S, NULL);
    S->slots[*slot].task = (uintptr_t)co | 2;
    return 0;
}

/* Gives `t` a coroutine; false and the error on the stack if there is no memory. */
bool lunl_bind_coroutine(lua_State *L, lunl_state *S, lunl_task *t)
{
    uint32_t slot = 0;
    if (S->n_pool > 0) {
        slot = S->pool[--S->n_pool];
    } else {
        lua_pushcfunction(L, new_coroutine);
        lua_pushlightuserdata(L, S);
        lua_pushlightuserdata(L, &slot);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK)
            return false;
    }
    t->co_slot = slot & 0xffffff;
    return true;
}

/* The coroutine of an ended task goes to the pool, or, if it is not clean, away. */
static void recycle(lua_State *L, lunl_state *S, lua_State *co, uint32_t slot, bool clean)
{
    if (clean && S->n_pool < LUNL_POOL) {
        if (lua_gethook(co))
            lunl_reset_hook(co);
        S->pool[S->n_pool++] = slot;
    } else {
        lua_settop(co, 0); /* who has it must find it dead */
        lunl_release(L, S, slot);
    }
}

void lunl_trim_pool(lua_State *L, lunl_state *S, uint32_t keep)
{
    while (S->n_pool > keep)
        lunl_release(L, S, S->pool[--S->n_pool]);
}

/* ---- the end of a task ---- */

/* The slot goes; but while the job is queued the memory has to stay. */
static void let_go(lua_State *L, lunl_state *S, lunl_task *t, uint32_t slot)
{
    if (t->t.flags & LUN_QUEUED)
        t->co_slot = slot & 0xffffff;
    else
        lunl_release_fast(L, S, slot);
}

void lunl_let_go_queued(lua_State *L, lunl_state *S, lunl_task *t)
{
    if (t->t.at == LUN_AT_DONE && (t->t.flags & LUN_QUEUED)) {
        t->t.flags &= (uint8_t)~LUN_QUEUED;
        lunl_release(L, S, t->co_slot);
    }
}

static void finish(lua_State *L, lunl_state *S, lunl_task *t, enum lun_state state)
{
    uint32_t slot = t->t.done.order;
    t->t.done.guest &= (uint16_t)~LUNL_MESSAGE;
    if (t->t.at == LUN_AT_RUNNING || t->t.at == LUN_AT_NEW)
        lun_task_finish(&t->t, state);
    else
        lun_task_abandon(&t->t, state);
    let_go(L, S, t, slot);
}

void lunl_note_interrupt(lua_State *L, lunl_state *S, lun_loop *loop, int error)
{
    if (S->interrupted)
        return;
    lua_pushvalue(L, error);
    luaL_unref(L, LUA_REGISTRYINDEX, S->interrupt);
    S->interrupt = luaL_ref(L, LUA_REGISTRYINDEX);
    S->interrupted = true;
    lun_loop_break(loop);
}

/* The task at `idx` has failed with the error on top (popped). */
static void fail(lua_State *L, lunl_state *S, int idx, lunl_task *t)
{
    lun_future *f = &t->t.done;
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lunl_error_new(L, LUNL_ERROR, "nil");
    }
    int error = lua_gettop(L);
    /* The message handler has just asked, unless a closer has run other tasks since. */
    const void *p = lua_topointer(L, error);
    lua_Integer bits = p && p == S->thrown ? S->thrown_bits : lunl_error_bits(L, error);
    bool cancelled = bits >> LUNL_CANCELLED_ERROR & 1;
    bool interrupt = bits >> LUNL_KEYBOARD_INTERRUPT & 1;
    if (!cancelled && !(f->guest & LUNL_TRACED))
        lunl_record_failure(L, idx, f, error, bits != 0, 0);
    if (interrupt)
        lunl_note_interrupt(L, S, f->loop, error);
    enum lun_state state = lunl_store_failure(L, idx, f, cancelled);
    if (interrupt)
        lunl_seen(S, f); /* it leaves the run call: that is its delivery */
    finish(L, S, t, state);
}

/* Debug: a request was delivered, not taken back, and the task ended well all the same. */
static void report_swallowed(lua_State *L, lunl_task *t, int idx)
{
    lunl_loop *loop = lunl_loop_of(t->t.done.loop);
    if (t->t.requests == 0 || (t->t.flags & LUN_MUST_CANCEL))
        return;
    if (loop->probe)
        lunl_probe_swallowed(loop, t);
    if (!loop->debug)
        return;
    lunl_task_report(L, idx, "Cancellation was swallowed");
    lunl_report(L, loop, "swallowed");
}

/* ---- the body, in the task's own coroutine ---- */

/* Runs where the error was thrown, before any closer. Errors pass unchanged. */
static int body_msgh(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_task *t = S->task;
    lua_Integer bits = lunl_error_bits(L, 1);
    S->thrown = lua_topointer(L, 1);
    S->thrown_bits = bits;
    if (!t)
        return 1;
    /* Nobody asks where a task was cancelled, but where its time was up: the TimeoutError itself
     * is thrown by a closer, when the stack is gone. */
    if ((bits >> LUNL_CANCELLED_ERROR & 1) && !(t->t.done.guest & LUNL_TIMED_OUT))
        return 1;
    t->t.done.guest &= (uint16_t)~LUNL_TIMED_OUT;
    if (lua_isnil(L, 1)) {
        lua_settop(L, 0);
        lunl_error_new(L, LUNL_ERROR, "nil");
        bits = 1;
    }
    luaL_checkstack(L, 16, NULL);
    lua_rawgeti(L, lua_upvalueindex(2), t->t.done.order);
    lunl_record_failure(L, 2, &t->t.done, 1, bits != 0, 1);
    lua_settop(L, 1);
    return 1;
}

static int body_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lunl_task *t = lua_touserdata(L, 1);
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD) {
        int n = lua_gettop(L) - 2;
        if (t->t.requests > 0)
            report_swallowed(L, t, 1);
        if (n == 0 && !(t->t.done.guest & LUNL_KEEP_THREAD))
            t->t.done.guest |= LUNL_NO_VALUES; /* user value 1 is nil already */
        else
            lunl_store(L, 1, &t->t.done, 3, n);
        finish(L, S, t, LUN_OK);
    } else {
        fail(L, S, 1, t);
    }
    lua_settop(L, 0);
    return 0;
}

/* Pushes the arguments that the task was made with; how many. */
static int push_arguments(lua_State *L, lunl_task *t)
{
    uint16_t guest = t->t.done.guest;
    if (guest & LUNL_ONE_ARG) {
        lua_getiuservalue(L, 1, 1);
        return 1;
    }
    return guest & LUNL_PACKED ? lunl_push_values(L, 1, &t->t.done) : 0;
}

static int body(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_task *t = S->task;
    lua_rawgeti(L, lua_upvalueindex(2), t->t.done.order);
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_getiuservalue(L, 1, 2);
    if (t->t.done.guest & LUNL_NOTES) {
        lua_rawgeti(L, 3, LUNL_NOTE_FN);
        lua_replace(L, 3);
    }
    int n = push_arguments(L, t);
    if (n > 0) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, 1);
    }
    t->t.done.guest &= (uint16_t) ~(LUNL_ONE_ARG | LUNL_PACKED | LUNL_NO_VALUES);
    if (t->t.done.guest & LUNL_KEEP_THREAD)
        lunl_make_frame(L, 1);
    return body_k(L, lua_pcallk(L, n, LUA_MULTRET, 2, 0, body_k), 0);
}

/* ---- the step ---- */

/* For what must happen at the base level though it allocates: fails the task protected. */
static int fail_protected(lua_State *L)
{
    lunl_task *t = lua_touserdata(L, 2);
    lunl_state *S = lunl_S(L);
    lunl_push_held(L, S, t->t.done.order);
    lua_pushvalue(L, 1);
    fail(L, S, 3, t);
    return 0;
}

/* Fails `t` at the base level with the error on top (popped), whatever it was doing. */
static void fail_at_base(lua_State *L, lunl_state *S, lunl_task *t)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->fail);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, t);
    if (lua_pcall(L, 2, 0, 0) == LUA_OK)
        return;
    /* Not even that: keep the memory error itself; it needs nothing. */
    if (!lun_future_done(&t->t.done)) {
        lunl_push_held(L, S, t->t.done.order);
        lua_insert(L, -2);
        lua_setiuservalue(L, -2, 1);
        lua_pop(L, 1);
        lun_say("lunation: Task failed for lack of memory");
        lunl_seen(S, &t->t.done);
        finish(L, S, t, LUN_ERROR);
    } else {
        lua_pop(L, 1);
    }
}

static void drop_coroutine(lua_State *L, lunl_state *S, lunl_task *t, lua_State *co,
                           uint32_t slot, bool clean)
{
    /* That of a main task has a larger stack, which no other needs. */
    bool usual = &t->t != S->main_task && !(t->t.done.guest & LUNL_KEEP_THREAD);
    recycle(L, S, co, slot, clean && usual);
}

/* Somebody has closed or finished the coroutine from outside. */
static void closed_outside(lua_State *L, lunl_state *S, lunl_task *t)
{
    uint32_t slot = t->co_slot;
    lua_State *co = lunl_task_co(S, t);
    lunl_error_new(L, LUNL_RUNTIME_ERROR, "the task's coroutine was closed from outside");
    fail_at_base(L, S, t);
    drop_coroutine(L, S, t, co, slot, false);
}

/* The coroutine has ended: by itself, or by an error that its body could not handle. */
static void ended(lua_State *L, lunl_state *S, lunl_task *t, lua_State *co, uint32_t slot,
                  int status)
{
    if (status == LUA_OK) {
        drop_coroutine(L, S, t, co, slot, true);
        return;
    }
    if (t->t.at != LUN_AT_RUNNING && !lun_future_done(&t->t.done)) {
        closed_outside(L, S, t);
        return;
    }
    /* Packing the results failed, or the like: the frames are still there. */
    lua_xmove(co, L, 1);
    lunl_reset_thread(co, L);
    if (lun_future_done(&t->t.done))
        lua_pop(L, 1);
    else
        fail_at_base(L, S, t);
    drop_coroutine(L, S, t, co, slot, false);
}

/* A cancelled task that never started: nothing of it runs. */
static void never_starts(lua_State *L, lunl_state *S, lunl_task *t)
{
    uint32_t slot = t->t.done.order;
    lunl_push_held(L, S, slot);
    if (t->t.done.guest & LUNL_MESSAGE) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, S->messages);
        lua_rawgeti(L, -1, slot);
        lua_replace(L, -2);
    } else {
        lua_pushnil(L);
    }
    lua_setiuservalue(L, -2, 1);
    t->t.done.guest &= (uint16_t) ~(LUNL_ONE_ARG | LUNL_PACKED | LUNL_NO_VALUES);
    if (t->co_slot)
        drop_coroutine(L, S, t, lunl_task_co(S, t), t->co_slot, true);
    finish(L, S, t, LUN_CANCELLED);
    lua_pop(L, 1);
}

/* Makes a new task ready to be resumed; false if it has ended instead. */
static bool start(lua_State *L, lunl_state *S, lunl_task *t)
{
    if (t->t.flags & LUN_MUST_CANCEL) {
        never_starts(L, S, t);
        return false;
    }
    if (!t->co_slot && !lunl_bind_coroutine(L, S, t)) {
        fail_at_base(L, S, t);
        return false;
    }
    t->t.at = LUN_AT_RUNNING;
    lua_pushvalue(lunl_task_co(S, t), 1);
    return true;
}

/* Makes `t` ready to be resumed, with `*n` values; false if nothing is left to resume. */
static inline bool ready(lua_State *L, lunl_state *S, lunl_task *t, int *n)
{
    t->t.flags &= (uint8_t)~LUN_QUEUED;
    *n = 0;
    if (t->t.at == LUN_AT_DONE) {
        lunl_release(L, S, t->co_slot);
        return false;
    }
    if (t->t.at == LUN_AT_NEW)
        return start(L, S, t);
    if (t->t.done.guest & LUNL_FOREIGN)
        *n = lunl_foreign_resume(S, t);
    return true;
}

/*
 * Debug: the same with a look at the clock. The task is kept on the stack meanwhile, since it
 * may end and be let go.
 */
static int resume_timed(lua_State *L, lunl_state *S, lunl_task *t, int n, int *results)
{
    lunl_loop *loop = S->loop;
    int top = lua_gettop(L);
    lunl_push_held(L, S, t->t.done.order);
    uint64_t began = uv_hrtime();
    int status = lua_resume(lunl_task_co(S, t), L, n, results);
    lunl_report_slow(L, loop, began, top + 1);
    lua_settop(L, top);
    return status;
}

void lunl_step(lun_job *job)
{
    lun_loop *loop = lun_container(job, lunl_task, t.job)->t.done.loop;
    lunl_state *S = lunl_loop_of(loop)->S;
    lua_State *L = S->L;
    bool timed = S->loop->debug;
    S->ran = true;
    do {
        lunl_task *t = lun_container(job, lunl_task, t.job);
        int n, status;
        if (!ready(L, S, t, &n))
            continue;
        uint32_t slot = t->co_slot;
        lua_State *co = lunl_task_co(S, t);
        S->task = t;
        S->streak = 0;
        do {
            S->running = co;
            S->outer_yieldable = true;
            status = timed ? resume_timed(L, S, t, n, &n) : lua_resume(co, L, n, &n);
            /* A yield that no await of ours made is one of the stock coroutine table. */
        } while (status == LUA_YIELD && t->t.at == LUN_AT_RUNNING &&
                 (n = lunl_foreign_yield(S, t, n)) >= 0);
        S->task = NULL;
        S->running = NULL;
        if (status != LUA_YIELD)
            ended(L, S, t, co, slot, status);
    } while ((job = lun_loop_next(loop, lunl_step)) != NULL);
}

/* ---- making and ending tasks from outside ---- */

lunl_task *lunl_spawn_above(lua_State *L, lunl_loop *loop, int nargs, size_t extra)
{
    return lunl_spawn_of(L, loop, lua_gettop(L) - nargs, nargs, extra);
}

lunl_task *lunl_spawn_of(lua_State *L, lunl_loop *loop, int fn, int nargs, size_t extra)
{
    lunl_state *S = loop->S;
    int at = lua_gettop(L) + 1;
    lunl_task *t = lua_newuserdatauv(L, sizeof *t + extra, 2);
    uint16_t guest = 0;
    memset(t, 0, sizeof *t + extra);
    lua_pushvalue(L, fn);
    lua_setiuservalue(L, at, 2);
    if (nargs == 1) {
        lua_pushvalue(L, fn + 1);
        lua_setiuservalue(L, at, 1);
        guest = LUNL_ONE_ARG;
    } else if (nargs > 1) {
        lunl_store(L, at, &t->t.done, fn + 1, nargs);
        guest = LUNL_PACKED;
    }
    if (loop->debug || loop->sites)
        guest |= lunl_note_source(L, at);
    lua_rawgeti(L, LUA_REGISTRYINDEX, loop->mt_task);
    lua_setmetatable(L, at);
    uint32_t slot = lunl_hold_at(L, S, at, t);
    lun_task_init(&t->t, &loop->loop, &lunl_future_kinds[LUNL_KIND_TASK], lunl_step);
    t->t.done.order = slot;
    t->t.done.guest = guest;
    t->number = ++S->tasks_made;
    return t;
}

lunl_task *lunl_spawn(lua_State *L, lunl_loop *loop, int nargs, size_t extra)
{
    int fn = lua_gettop(L) - nargs;
    luaL_checkstack(L, 8, NULL);
    lunl_task *t = lunl_spawn_above(L, loop, nargs, extra);
    lua_replace(L, fn);
    lua_settop(L, fn);
    return t;
}

/* --- async.create_task(fn, ...) -> Task
 * Schedules `fn(...)` to start on the next turn of the running loop. TypeError if it cannot be
 * called; RuntimeError if no loop runs. Does not suspend. */
int lunl_create_task(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    if (!lua_isfunction(L, 1))
        lunl_check_callable(L, 1);
    lunl_spawn_above(L, lunl_running_loop(L, S), lua_gettop(L) - 1, 0);
    return 1;
}

void lunl_task_destroy(lua_State *L, lunl_state *S, lunl_task *t)
{
    uint32_t slot = t->co_slot;
    lua_State *co = lunl_task_co(S, t);
    bool fresh = t->t.at == LUN_AT_NEW;
    if (!lun_future_done(&t->t.done))
        lun_task_detach(&t->t); /* first: what it waits for may go with its stack */
    if (co && !fresh) {
        /* While its closers run, it is nobody's current task: an await in them is refused. */
        lunl_reset_thread(co, L);
        lua_settop(co, 0);
    }
    if (!lun_future_done(&t->t.done)) {
        lunl_push_held(L, S, t->t.done.order);
        lua_pushnil(L);
        lua_setiuservalue(L, -2, 1);
        lua_pop(L, 1);
        finish(L, S, t, LUN_CANCELLED);
    }
    if (co)
        drop_coroutine(L, S, t, co, slot, fresh);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = (*(lunl_task *const *)a)->number, y = (*(lunl_task *const *)b)->number;
    return x < y ? -1 : x > y;
}

lunl_task **lunl_list_tasks(lua_State *L, lunl_state *S, lunl_loop *loop, uint32_t *n)
{
    lunl_task **list = lua_newuserdatauv(L, (loop->loop.count.tasks + 1) * sizeof *list, 0);
    *n = 0;
    for (uint32_t i = 1; i <= S->n_slots && *n < loop->loop.count.tasks; i++) {
        lunl_task *t = lunl_slot_task(S, i);
        if (t && t->t.done.loop == &loop->loop)
            list[(*n)++] = t;
    }
    qsort(list, *n, sizeof *list, by_number);
    return list;
}

void lunl_open_body(lua_State *L)
{
    lunl_state *S = lunl_get_state(L);
    static const luaL_Reg functions[] = {
        {"msgh", body_msgh}, {"fail", fail_protected}, {NULL, NULL}};
    lua_newtable(L);
    lunl_register(L, functions);
    lua_pushlightuserdata(L, S);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    lua_getfield(L, -3, "msgh");
    lua_pushvalue(L, -1);
    S->msgh = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcclosure(L, body, 3);
    S->body = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "fail");
    S->fail = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}
