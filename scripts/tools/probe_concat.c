/* SPDX-License-Identifier: MIT
 *
 * Is the Lua at hand sound when a __concat metamethod grows the stack?
 *
 * Some builds of Lua 5.4 (Debian's 5.4.4 among them, which took half of the fix for
 * CVE-2022-33099) keep a pointer into the old stack across the call: a wrong value, a read of
 * freed memory, a crash. A fresh coroutine has the smallest stack, so it is hit first, and
 * only a chain of three operands surely goes on with the stale pointer. The build runs this
 * program as a child, because it may die: exit 0 means sound, anything else (a signal, a
 * time-out) means that coroutines need a stack reserve. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static const char script[] =
    "local mt = {}\n"
    "local function deep(n) if n == 0 then return 0 end return 1 + deep(n - 1) end\n"
    "mt.__concat = function(a, b)\n"
    "  local n = deep(500)\n"
    "  return n == 500 and 'joined' or 'wrong depth'\n"
    "end\n"
    "local value = setmetatable({}, mt)\n"
    "for round = 1, 200 do\n"
    "  local co = coroutine.create(function()\n"
    "    local front = 'front' .. round\n"
    "    local chain = 'a' .. front .. value\n"
    "    local text = front .. value\n"
    "    return text, chain, front\n"
    "  end)\n"
    "  local ok, text, chain, front = coroutine.resume(co)\n"
    "  assert(ok and text == 'joined' and front == 'front' .. round, text)\n"
    "  assert(chain == 'ajoined', chain)\n"
    "  if round % 50 == 0 then collectgarbage() end\n"
    "end\n";

/* Freed memory is scribbled over and every block moves when it is resized: a stale pointer
 * then reads rubbish at once, rather than the old value that happened to be still there. */
static void *moving(void *ud, void *block, size_t osize, size_t nsize)
{
    (void)ud;
    unsigned char *fresh = NULL;
    if (nsize > 0) {
        fresh = malloc(nsize);
        if (fresh == NULL)
            return NULL;
        for (size_t i = 0; block != NULL && i < osize && i < nsize; i++)
            fresh[i] = ((unsigned char *)block)[i];
    }
    for (volatile unsigned char *p = block; block != NULL && osize > 0; osize--)
        *p++ = 0x5a;
    free(block);
    return fresh;
}

int main(void)
{
    lua_State *L = lua_newstate(moving, NULL);
    if (L == NULL)
        return 2;
    luaL_openlibs(L);
    if (luaL_loadstring(L, script) != LUA_OK || lua_pcall(L, 0, 0, 0) != LUA_OK) {
        fprintf(stderr, "%s\n", luaL_tolstring(L, -1, NULL));
        return 1;
    }
    lua_close(L);
    return 0;
}
