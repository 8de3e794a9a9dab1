/* SPDX-License-Identifier: MIT */
/*
 * planted.c - faults that only show when memory is refused, one program for each: whoever looks
 * at the sweep can see it find them.
 */
#include "sweep.h"

#include <string.h>
#include <unistd.h>

enum { FIRST = 48, SECOND = 32 };

static char *ask(lua_State *L, size_t size)
{
    void *ud;
    lua_Alloc alloc = lua_getallocf(L, &ud);
    return alloc(ud, NULL, 0, size);
}

static void give(lua_State *L, char *p, size_t size)
{
    void *ud;
    lua_Alloc alloc = lua_getallocf(L, &ud);
    alloc(ud, p, size, 0);
}

/* planted.double_free(): its way out frees what is freed already. */
static int l_double_free(lua_State *L)
{
    char *first = ask(L, FIRST), *second = first ? ask(L, SECOND) : NULL;
    if (first && !second)
        give(L, first, FIRST);
    if (first)
        give(L, first, FIRST);
    if (!second)
        return luaL_error(L, "not enough memory");
    give(L, second, SECOND);
    return 0;
}

/* planted.leak(): its way out forgets what it has. */
static int l_leak(lua_State *L)
{
    char *first = ask(L, FIRST), *second = first ? ask(L, SECOND) : NULL;
    if (!second)
        return luaL_error(L, "not enough memory");
    give(L, first, FIRST);
    give(L, second, SECOND);
    return 0;
}

/* planted.crash(): uses what it did not get. */
static int l_crash(lua_State *L)
{
    char *volatile p = ask(L, FIRST);
    memset(p, 0, FIRST);
    give(L, p, FIRST);
    return 0;
}

/* planted.overrun(): makes do with less, but writes as much. */
static int l_overrun(lua_State *L)
{
    char *small = ask(L, SECOND), *big = small ? ask(L, FIRST) : NULL;
    char *volatile at = big ? big : small;
    if (at)
        at[big ? FIRST - 1 : SECOND] = 'x';
    if (big)
        give(L, big, FIRST);
    if (small)
        give(L, small, SECOND);
    return 0;
}

/* planted.stale(): writes to what it has just freed. */
static int l_stale(lua_State *L)
{
    char *volatile first = ask(L, FIRST);
    char *second = first ? ask(L, SECOND) : NULL;
    if (second)
        give(L, second, SECOND);
    if (first)
        give(L, first, FIRST);
    if (first && !second)
        first[FIRST / 2] = 'x';
    return 0;
}

/* planted.descriptor(): its way out leaves a pipe open. */
static int l_descriptor(lua_State *L)
{
    int ends[2];
    if (pipe(ends) != 0)
        return 0;
    char *p = ask(L, FIRST);
    if (!p)
        return luaL_error(L, "not enough memory");
    give(L, p, FIRST);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* planted.handle(): its way out ends a loop whose timer it has not closed. */
static int l_handle(lua_State *L)
{
    uv_loop_t loop;
    uv_timer_t timer;
    if (uv_loop_init(&loop) != 0)
        return luaL_error(L, "not enough memory");
    uv_timer_init(&loop, &timer);
    char *p = ask(L, FIRST);
    if (p) {
        uv_close((uv_handle_t *)&timer, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        give(L, p, FIRST);
    }
    uv_loop_close(&loop);
    return 0;
}

/* planted.hang(): asks until it gets it. */
static int l_hang(lua_State *L)
{
    char *p;
    do
        p = ask(L, FIRST);
    while (!p);
    give(L, p, FIRST);
    return 0;
}

/* planted.spoil(): without memory, the library can be used no more in this state. */
static int l_spoil(lua_State *L)
{
    char *p = ask(L, FIRST);
    if (p) {
        give(L, p, FIRST);
        return 0;
    }
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "lunation");
    return 0;
}

static const luaL_Reg functions[] = {
    {"double_free", l_double_free},
    {"leak", l_leak},
    {"crash", l_crash},
    {"overrun", l_overrun},
    {"stale", l_stale},
    {"descriptor", l_descriptor},
    {"handle", l_handle},
    {"hang", l_hang},
    {"spoil", l_spoil},
    {NULL, NULL},
};

#define PLANTED(fault)                                                                     \
    {                                                                                      \
        .name = "planted." fault, .text = "planted." fault "()",                           \
        .size = sizeof "planted." fault "()" - 1                                           \
    }

const program sweep_planted[] = {
    PLANTED("double_free"), PLANTED("leak"),  PLANTED("crash"),
    PLANTED("overrun"),     PLANTED("stale"), PLANTED("descriptor"),
    PLANTED("handle"),      PLANTED("hang"),  PLANTED("spoil"),
};
const int sweep_planted_count = sizeof sweep_planted / sizeof *sweep_planted;

void sweep_planted_open(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_setglobal(L, "planted");
}
