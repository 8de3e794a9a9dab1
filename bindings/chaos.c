/* SPDX-License-Identifier: MIT */
/*
 * chaos.c - the hostile collector of the chaos build: a full collection at every few VM
 * instructions, in all Lua code.
 *
 * LUNATION_CHAOS_EVERY=N counts the instructions: from 1 to 2N - 1 of them pass between two
 * collections, as LUNATION_CHAOS_SEED draws it; more in a heap of many megabytes, where a
 * collection takes its time. LUNATION_CHAOS_SKIP=PREFIX spares functions
 * from sources that begin so (a test framework's, whose own steps prove nothing here and are
 * many). A count hook on the main thread is inherited by every coroutine made later.
 *
 * Law: whoever takes a hook off a coroutine puts this one in its place (lunl_reset_hook).
 */
#include "state.h"

#if defined(LUN_CHAOS)
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { ROOMY = 2048 }; /* kilobytes: a heap from which on collections are rationed */

static void collect(lua_State *L, lua_Debug *ar);

static uint64_t number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

void lunl_reset_hook(lua_State *L)
{
    static _Thread_local uint64_t drawn;
    uint64_t every = number("LUNATION_CHAOS_EVERY");
    if (every == 0 || every > 1 << 20) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (drawn == 0)
        drawn = number("LUNATION_CHAOS_SEED") * 2 + 1;
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    int kilobytes = lua_gc(L, LUA_GCCOUNT);
    if (kilobytes > ROOMY)
        every *= (uint64_t)(kilobytes / ROOMY) * (uint64_t)(kilobytes / ROOMY);
    uint64_t count = 1 + (drawn >> 33) % (2 * every - 1);
    lua_sethook(L, collect, LUA_MASKCOUNT, count < INT32_MAX ? (int)count : INT32_MAX);
}

static void collect(lua_State *L, lua_Debug *ar)
{
    const char *skip = getenv("LUNATION_CHAOS_SKIP");
    sigset_t all, before;
    /* Now, and unless a signal handler has armed a hook of its own meanwhile. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (lua_gethook(L) == collect)
        lunl_reset_hook(L);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!skip || !lua_getinfo(L, "S", ar) || strncmp(ar->source, skip, strlen(skip)) != 0)
        lua_gc(L, LUA_GCCOLLECT);
}
#else
void lunl_reset_hook(lua_State *L)
{
    lua_sethook(L, NULL, 0, 0);
}
#endif
