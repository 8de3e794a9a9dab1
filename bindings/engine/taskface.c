/* SPDX-License-Identifier: MIT */
/*
 * taskface.c - tasks as scripts see them: their methods, their names, the stock yield, cancel.
 */
#include "../lunation_lua.h"
#include "../state.h"

#include <string.h>

static lunl_task *check_task(lua_State *L)
{
    lun_future *f = lunl_to_future(L, 1);
    if (!f || !lun_is_task(f))
        lunl_type_error(L, 1, "Task");
    return (lunl_task *)f;
}

/* ---- notes ---- */

/* Pushes the table of notes of the task at `idx`, made if there is none. */
static void push_notes(lua_State *L, int idx, lunl_task *t)
{
    lunl_push_second(L, idx, &t->t.done);
    if (t->t.done.guest & LUNL_NOTES)
        return;
    lua_createtable(L, 4, 0);
    lua_insert(L, -2);
    lua_rawseti(L, -2, LUNL_NOTE_FN);
    lua_pushvalue(L, -1);
    lunl_set_second(L, idx, &t->t.done);
    t->t.done.guest |= LUNL_NOTES;
}

/* Pushes one note, or nil. */
static void push_note(lua_State *L, int idx, lunl_task *t, int note)
{
    lunl_push_second(L, idx, &t->t.done);
    if (t->t.done.guest & LUNL_NOTES) {
        lua_rawgeti(L, -1, note);
        lua_replace(L, -2);
    } else if (note != LUNL_NOTE_FN) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

uint16_t lunl_note_source(lua_State *L, int idx)
{
    lua_createtable(L, 4, 0);
    lua_getiuservalue(L, idx, 2);
    lua_rawseti(L, -2, LUNL_NOTE_FN);
    lunl_push_site(L);
    lua_rawseti(L, -2, LUNL_NOTE_SOURCE);
    lua_setiuservalue(L, idx, 2);
    return LUNL_NOTES;
}

void lunl_show_as(lua_State *L, int idx)
{
    lunl_state *S = lunl_get_state(L);
    lunl_task *t = S ? S->task : NULL;
    idx = lua_absindex(L, idx);
    if (!t || lun_future_done(&t->t.done))
        return;
    luaL_checkstack(L, 4, NULL);
    lunl_push_held(L, S, t->t.done.order);
    push_notes(L, lua_gettop(L), t);
    lua_pushvalue(L, idx);
    lua_rawseti(L, -2, LUNL_NOTE_FN);
    lua_pop(L, 2);
}

void lunl_push_source(lua_State *L, int idx, lunl_task *t)
{
    push_note(L, idx, t, LUNL_NOTE_SOURCE);
}

static void push_name(lua_State *L, int idx, lunl_task *t)
{
    push_note(L, idx, t, LUNL_NOTE_NAME);
    if (!lua_isnil(L, -1))
        return;
    lua_pop(L, 1);
    lua_pushfstring(L, "Task-%I", (LUAI_UACINT)t->number);
}

/* Pushes the name under which the function at `fn` is known in a loaded module, or nil. */
static void push_global_name(lua_State *L, int fn)
{
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    for (lua_pushnil(L); lua_next(L, top + 1); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1))
            continue;
        for (lua_pushnil(L); lua_next(L, top + 3); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING || !lua_rawequal(L, -1, fn))
                continue;
            const char *module = lua_tostring(L, top + 2);
            if (strcmp(module, LUA_GNAME) == 0)
                lua_pushvalue(L, -2);
            else
                lua_pushfstring(L, "%s.%s", module, lua_tostring(L, -2));
            lua_replace(L, top + 1);
            lua_settop(L, top + 1);
            return;
        }
    }
    lua_settop(L, top);
    lua_pushnil(L);
}

void lunl_push_where(lua_State *L, int idx)
{
    lua_Debug ar;
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 12, NULL);
    if (!lua_isfunction(L, idx)) {
        lua_pushstring(L, luaL_typename(L, idx));
        return;
    }
    push_global_name(L, idx);
    lua_pushvalue(L, idx);
    lua_getinfo(L, ">S", &ar);
    if (*ar.what == 'C') {
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushliteral(L, "[C]");
        }
    } else {
        const char *name = lua_tostring(L, -1);
        if (*ar.what == 'm')
            name = "main chunk";
        lua_pushfstring(L, "%s%s%s:%d", name ? name : "", name ? "@" : "", ar.short_src,
                        ar.linedefined);
        lua_replace(L, -2);
    }
}

/* Pushes what the unfinished `t` waits for, as a text, or nil. */
static void push_wait_for(lua_State *L, lunl_state *S, lunl_task *t)
{
    lun_future *on = t->t.at == LUN_AT_WAITING ? t->t.u.wait.on : NULL;
    if (!on || lun_future_done(on)) {
        lua_pushnil(L);
    } else if (lun_is_task(on) && lunl_is_lua_task((lun_task *)on)) {
        lunl_task *inner = (lunl_task *)on;
        lunl_push_held(L, S, inner->t.done.order);
        push_name(L, lua_gettop(L), inner);
        push_note(L, lua_gettop(L) - 1, inner, LUNL_NOTE_FN);
        lunl_push_where(L, -1);
        lua_pushfstring(L, "<Task pending name='%s' fn=<%s>>", lua_tostring(L, -3),
                        lua_tostring(L, -1));
        lua_replace(L, -5);
        lua_pop(L, 3);
    } else {
        lua_pushfstring(L, "<%s pending>", on->kind->name);
    }
}

void lunl_push_task_parts(lua_State *L, int idx, lunl_task *t)
{
    push_name(L, idx, t);
    push_note(L, idx, t, LUNL_NOTE_FN);
    lunl_push_where(L, -1);
    lua_replace(L, -2);
    push_wait_for(L, lunl_S(L), t);
}

/* ---- the stock coroutine.yield ---- */

static const char throw_key = 0; /* registry: what the hook below is to throw */

static void throw_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lunl_reset_hook(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &throw_key);
    lua_error(L);
}

/*
 * The stock yield is a C function without a continuation, so nothing of ours runs when it goes
 * on: the error on top of L (popped) is thrown by a hook before the next instruction.
 */
static int throw_into(lua_State *L, lua_State *co)
{
    lua_rawsetp(L, LUA_REGISTRYINDEX, &throw_key);
    lua_sethook(co, throw_hook, LUA_MASKCOUNT, 1);
    return 0;
}

/* The outcome of the settled future on top of co's stack, in its place: how many values. */
static int deliver_foreign(lunl_state *S, lunl_task *t, lua_State *co, lun_future *f)
{
    int at = lua_gettop(co), n = 0;
    lunl_share_message(co, S, t, at, f);
    if (f->state == LUN_OK) {
        n = lunl_push_values(co, at, f);
        lua_remove(co, at);
        return n;
    }
    lua_xmove(co, S->L, 1);
    lunl_push_error_of(S->L, S, lua_gettop(S->L), f);
    throw_into(S->L, co);
    lua_pop(S->L, 1);
    return 0;
}

int lunl_foreign_yield(lunl_state *S, lunl_task *t, int n)
{
    lua_State *co = lunl_task_co(S, t);
    lun_future *f = n == 1 ? lunl_to_future(co, -1) : NULL;
    luaL_checkstack(co, 8, NULL);
    if (n == 0) {
        lun_task_yield(&t->t);
    } else if (f && f->loop == t->t.done.loop && lun_future_done(f)) {
        return deliver_foreign(S, t, co, f);
    } else if (f && f->loop == t->t.done.loop && !lun_task_would_cycle(&t->t, f)) {
        lun_task_wait(&t->t, f, false);
        if (t->t.done.guest & LUNL_KEEP_THREAD) {
            lunl_push_held(S->L, S, t->t.done.order);
            lua_pushvalue(co, -1);
            lua_xmove(co, S->L, 1);
            lua_setiuservalue(S->L, -2, 1);
            lua_pop(S->L, 1);
        }
    } else {
        lua_pop(co, n);
        lunl_error_new(
            S->L, LUNL_RUNTIME_ERROR,
            f ? "a task yielded a future that it cannot await"
              : "a task yielded what is no Future (coroutine.yield with arguments)");
        return throw_into(S->L, co);
    }
    t->t.done.guest |= LUNL_FOREIGN;
    return -1;
}

int lunl_foreign_resume(lunl_state *S, lunl_task *t)
{
    lua_State *co = lunl_task_co(S, t);
    lun_future *f;
    t->t.done.guest &= (uint16_t)~LUNL_FOREIGN;
    if (lua_status(co) != LUA_YIELD)
        return 0; /* closed from outside: resuming it says so */
    if (lun_task_resume(&t->t, &f)) {
        if (f)
            lua_pop(co, 1);
        lunl_push_cancelled_of(S->L, S, t);
        return throw_into(S->L, co);
    }
    return f ? deliver_foreign(S, t, co, f) : 0;
}

/* ---- cancelling ---- */

/* The table of messages gets room for every slot, so that the walk itself allocates nothing. */
static void reserve_messages(lua_State *L, lunl_state *S)
{
    if (S->room_messages >= S->n_slots)
        return;
    lua_createtable(L, (int)S->room_slots, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->messages);
    for (uint32_t i = 1; i <= S->room_messages; i++) {
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -3, i);
    }
    for (uint32_t i = S->room_messages + 1; i <= S->room_slots; i++) {
        lua_pushboolean(L, 0);
        lua_rawseti(L, -3, i);
    }
    lua_pop(L, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, S->messages);
    S->room_messages = S->room_slots;
}

bool lunl_cancel(lua_State *L, lunl_state *S, lun_future *f, int idx, int msg)
{
    if (lun_future_done(f))
        return false;
    if (lunl_loop_of(f->loop)->closed)
        return false;
    luaL_checkstack(L, 8, NULL);
    if (msg) {
        reserve_messages(L, S);
        if (!lun_is_task(f)) {
            lua_pushvalue(L, msg);
            lua_setiuservalue(L, idx, 1);
        }
    }
    S->cancel_L = L;
    S->cancel_msg = msg;
    bool asked = lun_future_cancel(f);
    S->cancel_msg = 0;
    return asked;
}

void lunl_cancel_join(lua_State *L, lunl_state *S, lun_join *j)
{
    (void)L;
    S->cancel_msg = 0;
    lun_join_cancel(j);
}

void lunl_asked(lun_loop *loop, lun_task *task)
{
    lunl_state *S = lunl_loop_of(loop)->S;
    lunl_task *t = (lunl_task *)task;
    if (!lunl_is_lua_task(task))
        return;
    if (!S->cancel_msg) {
        t->t.done.guest &= (uint16_t)~LUNL_MESSAGE;
        return;
    }
    lua_State *L = S->cancel_L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->messages);
    lua_pushvalue(L, S->cancel_msg);
    lua_rawseti(L, -2, t->t.done.order);
    lua_pop(L, 1);
    t->t.done.guest |= LUNL_MESSAGE;
}

/* A task hands on a request that it got while it ran: with the message that it came with. */
void lunl_asking(lun_loop *loop, lun_task *task)
{
    lunl_state *S = lunl_loop_of(loop)->S;
    S->cancel_msg = 0;
    if (!lunl_is_lua_task(task) || !(task->done.guest & LUNL_MESSAGE) || !S->message_index)
        return;
    lua_rawgeti(S->L, LUA_REGISTRYINDEX, S->messages);
    lua_rawgeti(S->L, -1, task->done.order);
    lua_replace(S->L, S->message_index);
    lua_pop(S->L, 1);
    S->cancel_L = S->L;
    S->cancel_msg = S->message_index;
}

/* ---- methods ---- */

/* --- task:get_name() -> string */
static int l_get_name(lua_State *L)
{
    push_name(L, 1, check_task(L));
    return 1;
}

/* --- task:set_name(name) -> task: TypeError if it is no string. */
static int l_set_name(lua_State *L)
{
    lunl_task *t = check_task(L);
    lunl_check_string(L, 2, NULL);
    push_notes(L, 1, t);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, LUNL_NOTE_NAME);
    lua_settop(L, 1);
    return 1;
}

/* --- task:get_coro() -> thread
 * Its Lua thread; nil if the task ended before anybody asked, since the coroutine of an ended
 * task serves the next one. */
static int l_get_coro(lua_State *L)
{
    lunl_task *t = check_task(L);
    push_note(L, 1, t, LUNL_NOTE_CORO);
    if (!lua_isnil(L, -1) || lun_future_done(&t->t.done))
        return 1;
    if (!t->co_slot && !lunl_bind_coroutine(L, lunl_S(L), t))
        return lua_error(L);
    push_notes(L, 1, t);
    lunl_keep_suspended(L, lunl_S(L), 1, t);
    lunl_push_held(L, lunl_S(L), t->co_slot);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, LUNL_NOTE_CORO);
    t->t.done.guest |= LUNL_KEEP_THREAD;
    return 1;
}

/* --- task:cancelling() -> integer: requests to cancel it that were not taken back. */
static int l_cancelling(lua_State *L)
{
    lua_pushinteger(L, check_task(L)->t.requests);
    return 1;
}

/* --- task:uncancel() -> integer
 * Takes one request back; what is left. At zero a request not yet delivered is dropped. */
static int l_uncancel(lua_State *L)
{
    lua_pushinteger(L, lun_task_uncancel(&check_task(L)->t));
    return 1;
}

/* --- task:traceback() -> string or nil
 * Where the error was thrown, then each await that it crossed. Nil unless the task failed. */
static int l_traceback(lua_State *L)
{
    lunl_task *t = check_task(L);
    lunl_push_trace(L, 1, &t->t.done);
    return 1;
}

/* --- task:get_stack() -> string
 * The stack of the unfinished task where it is suspended now, as text; of a task that has not
 * started or has ended, the empty string. */
static int l_get_stack(lua_State *L)
{
    lunl_task *t = check_task(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    if (!lun_future_done(&t->t.done) && t->t.at != LUN_AT_NEW)
        lunl_trace_frames(lunl_task_co(lunl_S(L), t), 0, &b);
    luaL_pushresult(&b);
    return 1;
}

const luaL_Reg lunl_task_methods[] = {
    {"get_name", l_get_name},   {"set_name", l_set_name},
    {"get_coro", l_get_coro},   {"cancelling", l_cancelling},
    {"uncancel", l_uncancel},   {"traceback", l_traceback},
    {"get_stack", l_get_stack}, {NULL, NULL},
};

/* ---- functions ---- */

/* --- async.current_task() -> Task or nil: the task that runs now; nil in callbacks and outside. */
static int l_current_task(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    if (S->task && !lun_future_done(&S->task->t.done))
        lunl_push_held(L, S, S->task->t.done.order);
    else
        lua_pushnil(L);
    return 1;
}

/* --- async.all_tasks(loop?) -> list: the unfinished tasks of the loop in order of creation. */
static int l_all_tasks(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_loop *loop =
        lua_isnoneornil(L, 1) ? lunl_running_loop(L, S) : lunl_check_loop(L, 1);
    uint32_t n;
    lunl_task **list = lunl_list_tasks(L, S, loop, &n);
    lua_createtable(L, (int)n, 0);
    for (uint32_t i = 0; i < n; i++) {
        lunl_push_held(L, S, list[i]->t.done.order);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

bool lunl_awaitable(lua_State *L, int idx)
{
    if (lunl_to_future(L, idx) || lua_isfunction(L, idx))
        return true;
    if (luaL_getmetafield(L, idx, "__await") == LUA_TNIL)
        return false;
    lua_pop(L, 1);
    return true;
}

lun_future *lunl_ensure_future(lua_State *L, lunl_loop *loop, int idx)
{
    lun_future *f = lunl_to_future(L, idx);
    if (f) {
        if (f->loop != &loop->loop)
            lunl_throw(L, LUNL_RUNTIME_ERROR,
                       "a future of another loop cannot be awaited here");
        return f;
    }
    if (lua_isfunction(L, idx)) {
        luaL_checkstack(L, 8, NULL);
        f = &lunl_spawn_of(L, loop, idx, 0, 0)->t.done;
    } else if (luaL_getmetafield(L, idx, "__await") != LUA_TNIL) {
        lua_pushvalue(L, idx);
        f = &lunl_spawn(L, loop, 1, 0)->t.done;
    } else {
        lunl_throw(L, LUNL_TYPE_ERROR, "awaitable expected, got %s", luaL_typename(L, idx));
    }
    lua_replace(L, idx);
    return f;
}

void lunl_open_task(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"create_task", lunl_create_task},
        {"current_task", l_current_task},
        {"all_tasks", l_all_tasks},
        {NULL, NULL},
    };
    lunl_register(L, functions);
    lunl_open_body(L);
}
