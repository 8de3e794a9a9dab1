/* SPDX-License-Identifier: MIT */
/*
 * keep.c - what lives as long as its loop needs it: groups and shields that C points at.
 *
 * lunl_hold is for what will surely be released. A shield of a future that nobody settles,
 * or a group whose job was queued when the loop stopped, never is; so these lie in a table
 * that the loop's own metatable refers to, and go with the loop.
 *
 * Law: keyed by the address of the userdata; only while the loop is open.
 */
#include "../lunl.h"

static const char kept_key = 0; /* field of the loop's metatable of futures: the table */

/* Pushes the table, or nil. */
static int push_table(lua_State *L, lunl_loop *loop)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, loop->mt_future);
    int type = lua_rawgetp(L, -1, &kept_key);
    lua_remove(L, -2);
    return type;
}

static void make_table(lua_State *L, lunl_loop *loop)
{
    lua_newtable(L);
    /* That may have run a finaliser, which kept something. */
    if (push_table(L, loop) == LUA_TNIL) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, loop->mt_future);
        lua_pushvalue(L, -3);
        lua_rawsetp(L, -2, &kept_key);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
}

void lunl_keep(lua_State *L, lunl_loop *loop, int idx)
{
    const void *p = lua_touserdata(L, idx);
    idx = lua_absindex(L, idx);
    if (push_table(L, loop) == LUA_TNIL) {
        lua_pop(L, 1);
        make_table(L, loop);
        push_table(L, loop);
    }
    lua_pushvalue(L, idx);
    lua_rawsetp(L, -2, p);
    lua_pop(L, 1);
}

void lunl_push_kept(lua_State *L, lunl_loop *loop, const void *p)
{
    push_table(L, loop);
    lua_rawgetp(L, -1, p);
    lua_replace(L, -2);
}

void lunl_let_go(lua_State *L, lunl_loop *loop, const void *p)
{
    push_table(L, loop);
    lua_pushnil(L);
    lua_rawsetp(L, -2, p);
    lua_pop(L, 1);
}
