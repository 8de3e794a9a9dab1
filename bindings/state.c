/* SPDX-License-Identifier: MIT */
/*
 * state.c - the record of one Lua state, the table of held objects, and how types are made.
 *
 * The record and its arrays are userdata in the registry, without finalisers: their memory goes
 * with the Lua state, after the last finaliser of anybody has run. What is held is found by its slot: an index of the anchors table on the Lua
 * side and of `slots` on the C side, which also chains the free ones.
 */
#include "state.h"
#include "lunl.h"

#include <string.h>

static const char state_key = 0;
enum { STATE_SLOTS = 1, STATE_POOL }; /* user values of the record */

static lunl_state nowhere; /* nothing ever runs in it */
_Thread_local lunl_state *lunl_hot __attribute__((tls_model("initial-exec"))) = &nowhere;

lunl_state *lunl_make_hot(lunl_state *S)
{
    lunl_state *before = lunl_hot;
    lunl_hot = S ? S : &nowhere;
    return before;
}

lunl_state *lunl_get_state(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
    lunl_state *S = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return S;
}

static int new_ref(lua_State *L)
{
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

lunl_state *lunl_make_state(lua_State *L)
{
    lunl_state *S = lunl_get_state(L);
    if (S)
        return S;
    S = lua_newuserdatauv(L, sizeof *S, 2);
    memset(S, 0, sizeof *S);
    S->interrupt = S->lost = S->body = S->msgh = LUA_NOREF;
    S->pool = lua_newuserdatauv(L, LUNL_POOL * sizeof *S->pool, 0);
    lua_setiuservalue(L, -2, STATE_POOL);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    S->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    lua_createtable(L, 64, 0);
    S->anchors = new_ref(L);
    lua_newtable(L);
    S->messages = new_ref(L);
    lua_pushboolean(L, 0);
    S->origin = new_ref(L);
    lua_newtable(L);
    S->lost = new_ref(L);
    lun_list_init(&S->lost_fault.link);
    lun_list_init(&S->lost_handler.link);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
#if LUN_STACK_RESERVE > 0
    if (L == S->main)
        lua_checkstack(L, LUN_STACK_RESERVE);
#endif
#if defined(LUN_CHAOS)
    lunl_reset_hook(S->main);
#endif
    return S;
}

static int do_nothing(lua_State *L)
{
    (void)L;
    return 0;
}

void lunl_collect(lua_State *L)
{
    lua_pushcfunction(L, do_nothing);
    if (lua_pcall(L, 0, 0, 0) == LUA_OK)
        lua_gc(L, LUA_GCCOLLECT);
    else
        lua_pop(L, 1);
}

static void grow_slots(lua_State *L, lunl_state *S)
{
    enum { FIRST = 64, MOST = 1 << 24 };
    uint32_t had = S->room_slots, room = had ? had * 2 : FIRST;
    if (room > MOST)
        luaL_error(L, "not enough memory");
    luaL_checkstack(L, 4, NULL);
    struct lunl_slot *slots = lua_newuserdatauv(L, room * sizeof *slots, 0);
    if (S->room_slots != had) {
        /* A finaliser that ran meanwhile has needed more, too. */
        lua_pop(L, 1);
        return;
    }
    if (had > 0)
        memcpy(slots, S->slots, had * sizeof *slots);
    slots[0].task = 0; /* no slot: tasks without a coroutine refer to it */
    S->slots = slots;
    S->room_slots = room;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, STATE_SLOTS);
    lua_pop(L, 1);
}

uint32_t lunl_next_slot(lua_State *L, lunl_state *S)
{
    while (S->free_slot == 0 && S->n_slots + 1 >= S->room_slots)
        grow_slots(L, S);
    return S->free_slot ? S->free_slot : S->n_slots + 1;
}

uint32_t lunl_hold(lua_State *L, lunl_state *S, lunl_task *task)
{
    uint32_t slot = lunl_next_slot(L, S);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    lua_insert(L, -2);
    lua_rawseti(L, -2, slot);
    lua_pop(L, 1);
    lunl_take_slot(S, slot, task);
    return slot;
}

void lunl_push_held(lua_State *L, lunl_state *S, uint32_t slot)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    lua_rawgeti(L, -1, slot);
    lua_replace(L, -2);
}

void lunl_release(lua_State *L, lunl_state *S, uint32_t slot)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    lua_pushboolean(L, 0);
    lua_rawseti(L, -2, slot);
    lua_pop(L, 1);
    lunl_free_slot(S, slot);
}

void lunl_register(lua_State *L, const luaL_Reg *functions)
{
    lunl_state *S = lunl_get_state(L);
    luaL_checkstack(L, 8, NULL);
    lua_pushlightuserdata(L, S);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->anchors);
    luaL_setfuncs(L, functions, 2);
}

void lunl_newtype(lua_State *L, const lunl_type *type, const luaL_Reg *methods,
                  const luaL_Reg *meta)
{
    lua_createtable(L, 0, 8);
    lua_pushstring(L, type->name);
    lua_setfield(L, -2, "__name");
    lua_pushstring(L, type->name);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    if (methods)
        lunl_register(L, methods);
    lua_setfield(L, -2, "__index");
    if (meta)
        lunl_register(L, meta);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, type);
}

void *lunl_new(lua_State *L, const lunl_type *type, size_t size, int nuv)
{
    void *p = lua_newuserdatauv(L, size, nuv);
    memset(p, 0, size);
    *(const void **)p = type;
    lua_rawgetp(L, LUA_REGISTRYINDEX, type);
    lua_setmetatable(L, -2);
    return p;
}

void *lunl_check(lua_State *L, int idx, const lunl_type *type)
{
    void *p = lunl_test(L, idx, type);
    if (!p)
        lunl_type_error(L, idx, type->name);
    return p;
}
