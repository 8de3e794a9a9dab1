/* SPDX-License-Identifier: MIT */
/*
 * box.c - how a box gets its core and how it loses it. The laws are in box.h.
 */
#include "box.h"

#include <string.h>

void *lunl_box_new(lua_State *L, lunl_loop *loop, const lunl_type *type, size_t size,
                   int nuv, const lunl_core *gone)
{
    const lun_allocator *from = &loop->loop.allocator;
    lunl_box *box = lunl_new(L, type, sizeof *box, nuv);
    box->core = (lunl_core *)(uintptr_t)gone;
    lunl_box_made(L, loop);
    lunl_core *core = from->alloc(from->ud, NULL, 0, size);
    if (!core)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(core, 0, size);
    *core = (lunl_core){.from = *from, .size = (uint32_t)size, .owners = 1};
    return box->core = core;
}

void lunl_core_drop(lunl_core *core)
{
    LUN_ASSERT(core->owners > 0);
    if (--core->owners == 0)
        core->from.alloc(core->from.ud, core, core->size, 0);
}

/* (box, loop); what it was is still told when the report is read. */
static int report(lua_State *L)
{
    lunl_box_dropped(L, lua_touserdata(L, 2), 1);
    luaL_tolstring(L, 1, NULL);
    lua_setiuservalue(L, 1, 1);
    return 0;
}

bool lunl_box_text(lua_State *L)
{
    const lunl_core *core = lunl_unbox(L, 1);
    return core->owners == 0 && lua_getiuservalue(L, 1, 1) == LUA_TSTRING;
}

void lunl_box_leave(lua_State *L, const lunl_core *gone, lunl_loop *loop)
{
    lunl_box *box = lua_touserdata(L, 1);
    lunl_core *core = box->core;
    bool reports = loop && (loop->debug || loop->sites);
    int status = LUA_OK;
    if (reports) { /* while it still has its core, because the report names it */
        lua_pushcfunction(L, report);
        lua_pushvalue(L, 1);
        lua_pushlightuserdata(L, loop);
        status = lua_pcall(L, 2, 0, 0);
    } else {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, 1);
    }
    box->core = (lunl_core *)(uintptr_t)gone;
    lunl_core_drop(core);
    if (status != LUA_OK)
        lua_error(L);
}
