/* SPDX-License-Identifier: MIT */
/*
 * state.c - the record of one Lua state, the table of held objects, and how types are made.
 *
 * The record is a userdata in the registry, so it dies with the Lua state, after everything that
 * was made later. What is held is found by its slot: an index of the anchors table on the Lua
 * side and of `slots` on the C side, which also chains the free ones.
 */
#include "state.h"
#include "lunl.h"

#include <string.h>

static const char state_key = 0;

static lunl_state nowhere; /* nothing ever runs in it */
_Thread_local lunl_state *lunl_hot __attribute__((tls_model("initial-exec"))) = &nowhere;

lunl_state *lunl_make_hot(lunl_state *S)
{
    lunl_state *before = lunl_hot;
    lunl_hot = S ? S : &nowhere;
    return before;
}

/* Memory outside of Lua's collector, from the allocator of the Lua state. */
static void *reallocate(lua_State *L, void *p, size_t old_size, size_t size)
{
    void *ud;
    lua_Alloc alloc = lua_getallocf(L, &ud);
    return alloc(ud, p, old_size, size);
}

static int state_gc(lua_State *L)
{
    lunl_state *S = lua_touserdata(L, 1);
    reallocate(L, S->slots, S->room_slots * sizeof *S->slots, 0);
    reallocate(L, S->pool, LUNL_POOL * sizeof *S->pool, 0);
    S->slots = NULL;
    S->pool = NULL;
    S->n_slots = S->room_slots = S->n_pool = 0;
    return 0;
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
    S = lua_newuserdatauv(L, sizeof *S, 0);
    memset(S, 0, sizeof *S);
    S->interrupt = S->lost = S->body = S->msgh = LUA_NOREF;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    S->main = lua_tothread(L, -1);
    lua_pop(L, 1);
    S->pool = reallocate(L, NULL, 0, LUNL_POOL * sizeof *S->pool);
    if (!S->pool)
        luaL_error(L, "not enough memory");
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
    return S;
}

static void grow_slots(lua_State *L, lunl_state *S)
{
    uint32_t room = S->room_slots ? S->room_slots * 2 : 64;
    void *p = room < (1u << 24) || room == (1u << 24)
                  ? reallocate(L, S->slots, S->room_slots * sizeof *S->slots,
                               room * sizeof *S->slots)
                  : NULL;
    if (!p)
        luaL_error(L, "not enough memory");
    S->slots = p;
    S->slots[0].task = 0; /* no slot: tasks without a coroutine refer to it */
    S->room_slots = room;
}

uint32_t lunl_next_slot(lua_State *L, lunl_state *S)
{
    if (S->free_slot != 0)
        return S->free_slot;
    if (S->n_slots + 1 >= S->room_slots)
        grow_slots(L, S);
    return S->n_slots + 1;
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
