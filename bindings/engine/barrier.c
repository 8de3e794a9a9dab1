/* SPDX-License-Identifier: MIT */
/*
 * barrier.c - Barrier: as many tasks as agreed wait for each other, round after round.
 *
 * It fills until all parties are inside, then drains: those inside pass, those that come
 * meanwhile wait outside, so nobody slips into the round before. reset() drains those
 * inside with an error; abort() breaks it until a reset.
 *
 * Laws:
 *  1. While it fills, everybody inside is queued in `inside`; every change to another state
 *     wakes all of them, and each looks at the state when it runs.
 *  2. `count` is who is inside. A cancelled one has left at once, so the round cannot be
 *     filled by somebody who is not there. Places are given out while it drains, so they
 *     are 0 to n-1 also after somebody left.
 */
#include "sync.h"

#include <string.h>

enum { FILLING, DRAINING, RESETTING, BROKEN };

typedef struct barrier {
    const lunl_type *type;
    lun_park inside, outside;
    uint32_t parties, count;
    uint32_t place; /* the next one to give out */
    uint8_t state;
} barrier;

static const lunl_type barrier_type = {"Barrier"};

static barrier *check_barrier(lua_State *L)
{
    return lunl_check(L, 1, &barrier_type);
}

static void inside_left(lun_park *park)
{
    lun_container(park, barrier, inside)->count--;
}

/* One that was inside has gone; with the last one the next round may begin. */
static void leave(barrier *b)
{
    if (--b->count > 0)
        return;
    if (b->state != BROKEN)
        b->state = FILLING;
    lun_park_grant_all(&b->outside);
}

static int inside_k(lua_State *L, int status, lua_KContext ctx)
{
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, lunl_S(L), &on);
    barrier *b = check_barrier(L);
    uint8_t state = b->state;
    uint32_t place = b->place++;
    leave(b);
    if (state != DRAINING)
        lunl_throw(L, LUNL_BROKEN_BARRIER_ERROR, "the barrier was %s",
                   state == BROKEN ? "aborted" : "reset");
    lua_pushinteger(L, place);
    return 1;
}

/* It belongs to the loop of `t` now; what a loop that is gone left behind is forgotten. */
static void adopt(lua_State *L, barrier *b, lun_task *t)
{
    if (b->inside.base.loop == t->done.loop)
        return;
    bool busy = lunl_park_busy(&b->inside) || lunl_park_busy(&b->outside);
    lunl_park_bind(L, &b->inside, t, busy, "Barrier");
    lunl_park_bind(L, &b->outside, t, busy, "Barrier");
    b->count = 0;
    if (b->state != BROKEN)
        b->state = FILLING;
}

static int arrive_k(lua_State *L, int status, lua_KContext ctx);

static int arrive(lua_State *L, lunl_state *S, lun_task *t, barrier *b, bool gave_way)
{
    adopt(L, b, t);
    switch (b->state) {
    case BROKEN:
        lunl_throw(L, LUNL_BROKEN_BARRIER_ERROR, "the barrier was aborted");
    case FILLING:
        break;
    default:
        lun_park_wait(&b->outside, t);
        return lunl_suspend(L, S, false, arrive_k);
    }
    if (b->count + 1 < b->parties) {
        b->count++;
        lun_park_wait(&b->inside, t);
        return lunl_suspend(L, S, 0, inside_k);
    }
    if (!gave_way && lunl_gives_way(S)) {
        lun_task_yield(t);
        return lunl_suspend(L, S, true, arrive_k);
    }
    if (b->count > 0) {
        b->state = DRAINING;
        b->place = 0;
        lun_park_grant_all(&b->inside);
    }
    lua_pushinteger(L, (lua_Integer)b->parties - 1);
    return 1;
}

static int arrive_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    (void)status;
    lun_task *t = lunl_resumed(L, S, &on);
    return arrive(L, S, t, check_barrier(L), ctx);
}

/* --- barrier:wait() -> place
 * Suspends until all parties are here; the last one does not suspend. Each gets another
 * place from 0 to parties - 1. Throws BrokenBarrierError if the barrier is or gets aborted,
 * or is reset meanwhile; RuntimeError outside a task or if tasks of another loop are in it.
 * Safe to cancel: the others go on waiting for somebody else. */
static int l_wait(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    return arrive(L, S, t, check_barrier(L), false);
}

/* --- barrier:abort()
 * Breaks the barrier: those in wait() and all that come later get BrokenBarrierError until
 * reset(). Never suspends. */
static int l_abort(lua_State *L)
{
    barrier *b = check_barrier(L);
    b->state = BROKEN;
    lun_park_grant_all(&b->inside);
    lun_park_grant_all(&b->outside);
    return 0;
}

/* --- barrier:reset()
 * Makes the barrier empty and whole; those inside get BrokenBarrierError. Never suspends.
 */
static int l_reset(lua_State *L)
{
    barrier *b = check_barrier(L);
    b->state = b->count > 0 ? RESETTING : FILLING;
    lun_park_grant_all(&b->inside);
    if (b->state == FILLING)
        lun_park_grant_all(&b->outside);
    return 0;
}

/* --- barrier.parties, barrier.n_waiting, barrier.broken
 * How many tasks pass together; how many of them are waiting now; whether it was aborted.
 */
static int l_index(lua_State *L)
{
    barrier *b = check_barrier(L);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (!strcmp(key, "parties")) {
        lua_pushinteger(L, b->parties);
    } else if (!strcmp(key, "n_waiting")) {
        lua_pushinteger(L, b->state == FILLING ? b->count : 0);
    } else if (!strcmp(key, "broken")) {
        lua_pushboolean(L, b->state == BROKEN);
    } else {
        lua_getmetatable(L, 1);
        lua_getfield(L, -1, "methods");
        lua_pushvalue(L, 2);
        lua_rawget(L, -2);
    }
    return 1;
}

/* --- async.Barrier(parties) -> Barrier
 * For that many tasks. Throws TypeError for what is no integer, ValueError below 1. Needs
 * no loop. */
static int l_Barrier(lua_State *L)
{
    lua_Integer n = lunl_check_integer(L, 1, 1, INT32_MAX);
    barrier *b = lunl_new(L, &barrier_type, sizeof *b, 0);
    b->parties = (uint32_t)n;
    lun_park_init(&b->inside, NULL, NULL);
    lun_park_init(&b->outside, NULL, NULL);
    b->inside.left = inside_left;
    return 1;
}

void lunl_open_barrier(lua_State *L)
{
    static const luaL_Reg functions[] = {{"Barrier", l_Barrier}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"wait", l_wait}, {"abort", l_abort}, {"reset", l_reset}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__index", l_index}, {NULL, NULL}};
    lunl_newtype(L, &barrier_type, methods, NULL);
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -2, "methods");
    lunl_register(L, meta);
    lua_pop(L, 1);
    lunl_register(L, functions);
}
