/* SPDX-License-Identifier: MIT */
/*
 * chaos.c - the hostile collector of the chaos build: a full collection at every few VM
 * instructions, in all Lua code.
 *
 * LUNATION_CHAOS_EVERY=N counts the instructions; LUNATION_CHAOS_SKIP=PREFIX spares functions
 * from sources that begin so (a test framework's, whose own steps prove nothing here and are
 * many). A count hook on the main thread is inherited by every coroutine made later.
 *
 * Law: whoever takes a hook off a coroutine puts this one in its place (lunl_reset_hook).
 */
#include "state.h"

#if defined(LUN_CHAOS)
#include <string.h>

static void collect(lua_State *L, lua_Debug *ar)
{
    const char *skip = getenv("LUNATION_CHAOS_SKIP");
    if (skip && lua_getinfo(L, "S", ar) && strncmp(ar->source, skip, strlen(skip)) == 0)
        return;
    lua_gc(L, LUA_GCCOLLECT);
}

void lunl_reset_hook(lua_State *L)
{
    const char *text = getenv("LUNATION_CHAOS_EVERY");
    int every = text ? atoi(text) : 0;
    if (every > 0)
        lua_sethook(L, collect, LUA_MASKCOUNT, every);
    else
        lua_sethook(L, NULL, 0, 0);
}
#else
void lunl_reset_hook(lua_State *L)
{
    lua_sethook(L, NULL, 0, 0);
}
#endif
