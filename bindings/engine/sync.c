/* SPDX-License-Identifier: MIT */
/*
 * sync.c - the door of the synchronisation primitives, and the simplest of them: Event.
 *
 * An event's park has nothing to pass on: who was waiting when it was set has its outcome,
 * even if the event is cleared, or the task cancelled, before it runs.
 */
#include "sync.h"

typedef struct event {
    const lunl_type *type;
    lun_park waiters;
    bool set;
} event;

static const lunl_type event_type = {"Event"};

static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, lunl_S(L), &on);
    lua_pushboolean(L, 1);
    return 1;
}

/* --- event:wait() -> true
 * Suspends until the event is set; returns at once if it is. Throws RuntimeError outside a
 * task or if tasks of another loop wait for it. Safe to cancel. */
static int l_wait(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    event *e = lunl_check(L, 1, &event_type);
    if (!e->set) {
        lunl_park_bind(L, &e->waiters, t, lunl_park_busy(&e->waiters), "Event");
        lun_park_wait(&e->waiters, t);
    } else if (lunl_gives_way(S)) {
        lun_task_yield(t);
    } else {
        lua_pushboolean(L, 1);
        return 1;
    }
    return lunl_suspend(L, S, 0, wait_k);
}

/* --- event:set()
 * Sets the event and wakes all that wait now. Never suspends. */
static int l_set(lua_State *L)
{
    event *e = lunl_check(L, 1, &event_type);
    e->set = true;
    lun_park_grant_all(&e->waiters);
    return 0;
}

/* --- event:clear()
 * From now on wait() suspends again; those woken already are not called back. */
static int l_clear(lua_State *L)
{
    event *e = lunl_check(L, 1, &event_type);
    e->set = false;
    return 0;
}

/* --- event:is_set() -> boolean */
static int l_is_set(lua_State *L)
{
    event *e = lunl_check(L, 1, &event_type);
    lua_pushboolean(L, e->set);
    return 1;
}

/* --- async.Event() -> Event
 * An event that is not set. Needs no loop. */
static int l_Event(lua_State *L)
{
    event *e = lunl_new(L, &event_type, sizeof *e, 0);
    lun_park_init(&e->waiters, NULL, NULL);
    return 1;
}

void lunl_open_sync(lua_State *L)
{
    static const luaL_Reg functions[] = {{"Event", l_Event}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"wait", l_wait},     {"set", l_set}, {"clear", l_clear},
        {"is_set", l_is_set}, {NULL, NULL},
    };
    lunl_newtype(L, &event_type, methods, NULL);
    lua_pop(L, 1);
    lunl_register(L, functions);
    lunl_open_lock(L);
    lunl_open_condition(L);
    lunl_open_barrier(L);
}
