/* SPDX-License-Identifier: MIT
 *
 * Compiles and links with the Lua that the build found only if that is 5.4.3 or newer: older
 * ones cannot close a thread while an error unwinds (lua_resetthread, `<close>`). */
#include <lauxlib.h>
#include <lua.h>

#if LUA_VERSION_NUM < 504 || (LUA_VERSION_NUM == 504 && LUA_VERSION_RELEASE_NUM < 50403)
#error "this Lua is older than 5.4.3"
#endif

int main(void)
{
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return 1;
    lua_close(L);
    return 0;
}
