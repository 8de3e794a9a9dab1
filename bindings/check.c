/* SPDX-License-Identifier: MIT */
/*
 * check.c - what functions demand of their arguments, and how they say so.
 *
 * Bad input throws an error object whose message names the function and the argument, in
 * the words of Lua's own: "bad argument #1 to 'sleep' (number expected, got nil)". Nothing
 * is converted: a string of digits is no number, a number is no string.
 */
#include "lunl.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { METHODS = 3 }; /* the upvalue of an __index function that is the table of methods */

/* Pushes the key under which the table at `table` has the function at `fn`, or nothing. */
static bool find_function(lua_State *L, int table, int fn)
{
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_rawequal(L, -1, fn)) {
            lua_pop(L, 1);
            return true;
        }
    }
    return false;
}

/* The same in the table on top and in those that it holds; pops that table if not. */
static bool find_below(lua_State *L, int fn)
{
    int table = lua_gettop(L);
    if (find_function(L, table, fn))
        return true;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        if (lua_iscfunction(L, -1) && lua_getupvalue(L, -1, METHODS))
            lua_replace(L, -2);
        if (lua_istable(L, -1) && find_function(L, table + 2, fn))
            return true;
    }
    lua_pop(L, 1);
    return false;
}

/*
 * The name of the function at `fn` where a call does not tell it (through pcall, in a tail
 * call): from our modules, then from the methods of our types. It stays on the stack.
 */
static const char *search_name(lua_State *L, int fn)
{
    luaL_checkstack(L, 12, NULL);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    int from = lua_gettop(L);
    for (lua_pushnil(L); lua_istable(L, from) && lua_next(L, from); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1) ||
            strncmp(lua_tostring(L, -2), "lunation", 8) != 0)
            continue;
        lua_pushvalue(L, -1);
        if (find_below(L, fn))
            return lua_tostring(L, -1);
    }
    lua_settop(L, from);
    for (lua_pushnil(L); lua_next(L, LUA_REGISTRYINDEX); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TLIGHTUSERDATA || !lua_istable(L, -1))
            continue;
        lua_pushvalue(L, -1);
        if (find_below(L, fn))
            return lua_tostring(L, -1);
    }
    return "?";
}

_Noreturn void lunl_arg_error(lua_State *L, int arg, int cls, const char *fmt, ...)
{
    lua_Debug ar;
    va_list args;
    const char *name = "?";
    luaL_checkstack(L, 8, NULL);
    va_start(args, fmt);
    const char *text = lua_pushvfstring(L, fmt, args);
    va_end(args);
    if (lua_getstack(L, 0, &ar) && lua_getinfo(L, "nf", &ar)) {
        name = ar.name ? ar.name : search_name(L, lua_gettop(L));
        if (strcmp(ar.namewhat, "method") == 0)
            arg--; /* as the caller sees it, self is no argument */
    }
    if (arg == 0)
        lunl_throw(L, cls, "calling '%s' on bad self (%s)", name, text);
    lunl_throw(L, cls, "bad argument #%d to '%s' (%s)", arg, name, text);
}

_Noreturn void lunl_type_error(lua_State *L, int arg, const char *expected)
{
    const char *got;
    if (luaL_getmetafield(L, arg, "__name") == LUA_TSTRING)
        got = lua_tostring(L, -1);
    else if (lua_type(L, arg) == LUA_TLIGHTUSERDATA)
        got = "light userdata";
    else
        got = luaL_typename(L, arg);
    lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "%s expected, got %s", expected, got);
}

_Noreturn void lunl_bad_number(lua_State *L, int arg)
{
    if (lua_type(L, arg) != LUA_TNUMBER)
        lunl_type_error(L, arg, "number");
    lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "number expected, got NaN");
}

lua_Integer lunl_check_integer(lua_State *L, int arg, lua_Integer least, lua_Integer most)
{
    int is = 0;
    if (lua_type(L, arg) != LUA_TNUMBER)
        lunl_type_error(L, arg, "integer");
    lua_Integer n = lua_tointegerx(L, arg, &is);
    if (!is)
        lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "integer expected, got %f",
                       lua_tonumber(L, arg));
    if (n >= least && n <= most)
        return n;
    if (most == LUA_MAXINTEGER)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "%I is less than %I", n, least);
    if (least == LUA_MININTEGER)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "%I is more than %I", n, most);
    lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "%I is not from %I to %I", n, least, most);
}

double lunl_opt_number(lua_State *L, int arg, double none)
{
    return lua_isnoneornil(L, arg) ? none : lunl_check_number(L, arg);
}

const char *lunl_check_string(lua_State *L, int arg, size_t *len)
{
    if (lua_type(L, arg) != LUA_TSTRING)
        lunl_type_error(L, arg, "string");
    return lua_tolstring(L, arg, len);
}

bool lunl_callable(lua_State *L, int idx)
{
    if (lua_isfunction(L, idx))
        return true;
    if (luaL_getmetafield(L, idx, "__call") == LUA_TNIL)
        return false;
    lua_pop(L, 1);
    return true;
}

void lunl_check_callable(lua_State *L, int arg)
{
    if (!lunl_callable(L, arg))
        lunl_type_error(L, arg, "function");
}

bool lunl_opt_table(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg))
        return false;
    if (!lua_istable(L, arg))
        lunl_type_error(L, arg, "table");
    return true;
}

int lunl_option(lua_State *L, int arg, const char *name, int type)
{
    if (!lua_istable(L, arg)) {
        lua_pushnil(L);
        return LUA_TNIL;
    }
    arg = lua_absindex(L, arg);
    int got = lua_getfield(L, arg, name);
    if (got == LUA_TNIL || type == LUA_TNONE)
        return got;
    if (got != type)
        lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "%s: %s expected, got %s", name,
                       lua_typename(L, type), luaL_typename(L, -1));
    if (got == LUA_TNUMBER && lua_tonumber(L, -1) != lua_tonumber(L, -1))
        lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "%s: number expected, got NaN", name);
    return got;
}
