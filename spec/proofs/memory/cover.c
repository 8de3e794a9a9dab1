/* SPDX-License-Identifier: MIT */
/*
 * cover.c - which functions of the library a script can reach, and which of them the programs
 * have called: a binding that no program calls would be one that the sweep says nothing about.
 *
 * Reachable is what lies in the module, in the modules of ours in package.preload that are
 * written in C, and in the metatables of our types, which the registry holds under numbers and
 * addresses. A call hook sees what is called; not finalisers, in which hooks are off: every
 * object's runs when its state is closed.
 */
#include "sweep.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST = 1024, DEEPEST = 8 };

typedef struct reached {
    lua_CFunction function;
    char name[80];
} reached;

static struct cover {
    int n_reached, n_called;
    reached reached[MOST];
    lua_CFunction called[MOST];
} * cover;

static bool covering;

void sweep_cover_prepare(void)
{
    cover = mmap(NULL, sizeof *cover, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
    if (cover == MAP_FAILED) {
        perror("mmap");
        _exit(2);
    }
}

/* ---- calls ---- */

static bool was_called(lua_CFunction function)
{
    for (int i = 0; i < cover->n_called; i++)
        if (cover->called[i] == function)
            return true;
    return false;
}

static void on_call(lua_State *L, lua_Debug *ar)
{
    lua_getinfo(L, "f", ar);
    lua_CFunction function = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    if (function && cover->n_called < MOST && !was_called(function))
        cover->called[cover->n_called++] = function;
}

void __real_lua_sethook(lua_State *L, lua_Hook hook, int mask, int count);
void __wrap_lua_sethook(lua_State *L, lua_Hook hook, int mask, int count);

/* The linker puts this in the place of lua_sethook: taking hooks off leaves ours. */
void __wrap_lua_sethook(lua_State *L, lua_Hook hook, int mask, int count)
{
    if (covering && !hook)
        __real_lua_sethook(L, on_call, LUA_MASKCALL, 0);
    else
        __real_lua_sethook(L, hook, mask, count);
}

/* ---- what can be reached ---- */

static void add(lua_CFunction function, const char *name)
{
    for (int i = 0; i < cover->n_reached; i++)
        if (cover->reached[i].function == function)
            return;
    if (cover->n_reached == MOST) {
        sweep_fault("more functions than the list of them has room for");
        return;
    }
    reached *r = &cover->reached[cover->n_reached++];
    r->function = function;
    snprintf(r->name, sizeof r->name, "%s", name);
}

static void visit(lua_State *L, int seen, int depth, const char *name);

/* Visits the fields of the table on top that have names. */
static void visit_fields(lua_State *L, int seen, int depth, const char *name)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        char field[160];
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        bool methods = key && strcmp(key, "__index") == 0 && lua_istable(L, -1);
        snprintf(field, sizeof field, "%s%s%s", name, key && !methods ? "." : "",
                 key && !methods ? key : "");
        if (key && strcmp(key, "__gc") != 0)
            visit(L, seen, depth + 1, field);
        lua_pop(L, 1);
    }
    if (lua_getmetatable(L, -1)) {
        visit(L, seen, depth + 1, name);
        lua_pop(L, 1);
    }
}

/* A function knows tables as upvalues, of which one may be its methods. */
static void visit_upvalues(lua_State *L, int seen, int depth, const char *name)
{
    for (int i = 1; lua_getupvalue(L, -1, i); i++) {
        if (lua_istable(L, -1))
            visit(L, seen, depth + 1, name);
        lua_pop(L, 1);
    }
}

/* Visits the value on top, which is known as `name`. */
static void visit(lua_State *L, int seen, int depth, const char *name)
{
    luaL_checkstack(L, 8, NULL);
    if (depth > DEEPEST || (!lua_istable(L, -1) && !lua_iscfunction(L, -1)))
        return;
    lua_pushvalue(L, -1);
    bool known = lua_rawget(L, seen) != LUA_TNIL;
    lua_pop(L, 1);
    if (known)
        return;
    lua_pushvalue(L, -1);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    if (lua_istable(L, -1)) {
        visit_fields(L, seen, depth, name);
    } else {
        add(lua_tocfunction(L, -1), name);
        visit_upvalues(L, seen, depth, name);
    }
}

/* The modules of ours that are written in C; those in Lua have their text as an upvalue. */
static void visit_modules(lua_State *L, int seen)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    int preload = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, preload)) {
        const char *name = lua_tostring(L, -2);
        bool ours = strncmp(name, "lunation", 8) == 0 && lua_iscfunction(L, -1);
        if (ours && !lua_getupvalue(L, -1, 1)) {
            luaL_requiref(L, name, lua_tocfunction(L, -1), 0);
            visit(L, seen, 0, name);
        }
        lua_settop(L, preload + 1);
    }
    lua_pop(L, 1);
}

static void visit_types(lua_State *L, int seen)
{
    lua_pushnil(L);
    while (lua_next(L, LUA_REGISTRYINDEX)) {
        if (lua_type(L, -2) != LUA_TSTRING && lua_istable(L, -1)) {
            lua_pushliteral(L, "__name");
            if (lua_rawget(L, -2) == LUA_TSTRING) {
                lua_pushvalue(L, -2);
                visit(L, seen, 0, lua_tostring(L, -2));
                lua_pop(L, 1);
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
}

void sweep_cover_begin(lua_State *L)
{
    covering = true;
    __real_lua_sethook(L, on_call, LUA_MASKCALL, 0);
}

void sweep_cover_end(lua_State *L)
{
    covering = false;
    __real_lua_sethook(L, NULL, 0, 0);
    lua_newtable(L);
    int seen = lua_gettop(L);
    /* The stock library is none of ours, though our tables may refer to it. */
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    lua_pushglobaltable(L);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    visit_modules(L, seen);
    visit_types(L, seen);
    lua_settop(L, seen - 1);
}

int sweep_cover_missing(void (*report)(const char *name))
{
    for (int i = 0; i < cover->n_reached; i++)
        if (!was_called(cover->reached[i].function))
            report(cover->reached[i].name);
    return cover->n_reached;
}
