/* SPDX-License-Identifier: MIT */
/*
 * open.c - luaopen_lunation: one table of rooms.
 *
 * Modules of their own (async.net is require "lunation.net") are found through package.preload
 * and loaded on first use.
 */
#include "embedded.h"
#include "lunation_lua.h"
#include "state.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const struct module {
    const char *name;
    lua_CFunction open;
} modules[] = {
    {"lunation.net", luaopen_lunation_net},
    {"lunation.signal", luaopen_lunation_signal},
    {"lunation.tty", luaopen_lunation_tty},
    {"lunation.tls", luaopen_lunation_tls},
    {"lunation.probe", luaopen_lunation_probe},
    {"lunation.memory", luaopen_lunation_memory},
    {"lunation.fs.core", luaopen_lunation_fs_core},
    {"lunation.process.core", luaopen_lunation_process_core},
};

enum { MODULES = sizeof modules / sizeof *modules };

/* What of these, and of the modules written in Lua, is a field of the module, too. */
static const char *const fields[] = {"net",    "tls", "fs",     "process",
                                     "signal", "tty", "testing"};

/* What is another one in each loop: looked up each time. */
static const char *const stdio[] = {"stdin", "stdout", "stderr"};

static void (*const rooms[])(lua_State *L) = {
    lunl_open_error,   lunl_open_protect,   lunl_open_value,   lunl_open_future,
    lunl_open_task,    lunl_open_await,     lunl_open_join,    lunl_open_race,
    lunl_open_timeout, lunl_open_shield,    lunl_open_group,   lunl_open_sync,
    lunl_open_queue,   lunl_open_loop,      lunl_open_run,     lunl_open_fault,
    lunl_open_dump,    lunl_open_coroutine, lunl_open_require,
};

/* A module written in Lua; its text lies in the library. */
static int open_embedded(lua_State *L)
{
    const struct lunl_embedded *e = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushfstring(L, "=%s", e->name);
    if (luaL_loadbufferx(L, (const char *)e->code, e->size, lua_tostring(L, -1), "t") !=
        LUA_OK)
        return lua_error(L);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* Sets the openers of all modules into the table on top, by name. */
static void set_openers(lua_State *L)
{
    for (int i = 0; i < MODULES; i++) {
        lua_pushcfunction(L, modules[i].open);
        lua_setfield(L, -2, modules[i].name);
    }
    for (const struct lunl_embedded *e = lunl_embedded; e->name; e++) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)e);
        lua_pushcclosure(L, open_embedded, 1);
        lua_setfield(L, -2, e->name);
    }
}

/* Pushes the module of that name as `require` would, whatever became of package.preload. */
static void push_module(lua_State *L, const char *name)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, -1, name) != LUA_TNIL)
        return;
    lua_newtable(L);
    set_openers(L);
    lua_getfield(L, -1, name);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, -5, name);
}

/* --- async.net and the like: the module of that field, loaded now. async.stdin, async.stdout and
 * async.stderr: these streams of the running loop; RuntimeError if none runs. */
static int l_lazy(lua_State *L)
{
    const char *field = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(field, fields[i]) != 0)
            continue;
        push_module(L, lua_pushfstring(L, "lunation.%s", field));
        lua_pushvalue(L, -1);
        lua_setfield(L, 1, field);
        return 1;
    }
    for (size_t i = 0; i < sizeof stdio / sizeof *stdio; i++)
        if (strcmp(field, stdio[i]) == 0)
            return lunl_push_stdio(L, lunl_S(L), field);
    return 0;
}

static void preload(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    set_openers(L);
    lua_pop(L, 1);
}

/*
 * What is closed gets a file that answers as if it were: its number must not become that of
 * something of ours, which io.write would then write to, children take for their input, and libuv
 * not close.
 */
static void fill_closed(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            return;
}

int luaopen_lunation(lua_State *L)
{
    static const luaL_Reg lazy[] = {{"__index", l_lazy}, {NULL, NULL}};
    luaL_checkversion(L);
    fill_closed();
    lua_settop(L, 0);
    lunl_make_state(L);
    lua_createtable(L, 0, 80);
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        rooms[i](L);
        lua_settop(L, 1);
    }
    lua_pushliteral(L, LUNATION_VERSION);
    lua_setfield(L, 1, "_VERSION");
    lua_createtable(L, 0, 1);
    lunl_register(L, lazy);
    lua_setmetatable(L, 1);
    preload(L);
    return 1;
}
