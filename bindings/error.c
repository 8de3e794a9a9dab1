/* SPDX-License-Identifier: MIT */
/*
 * error.c - error objects: tables whose metatable is their class.
 *
 * A class is a callable table. It is the metatable of its instances and where they look for
 * what they do not have themselves (__index); its own metatable makes it callable and sends
 * it on to its parent. Two fields with light keys make it a class: the bits of the built-in
 * classes that it descends from, itself included, and its parent. So "is this a
 * CancelledError?" is a look at the metatable and one bit, whatever the user derived from
 * it.
 *
 * The built-in classes are found through one registry key, so errors can be made and told
 * apart without the state record, also before it is there and after it went.
 */
#include "lunl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char classes_key = 0; /* registry: list of the built-in classes, by id + 1 */
static const char bits_key = 0;    /* field of a class */
static const char parent_key = 0;  /* field of a class */

enum { MOST_NESTED = 150 }; /* exception groups within each other */

static bool is_class(lua_State *L, int idx)
{
    if (!lua_istable(L, idx))
        return false;
    bool is = lua_rawgetp(L, idx, &bits_key) == LUA_TNUMBER;
    lua_pop(L, 1);
    return is;
}

lua_Integer lunl_error_bits(lua_State *L, int idx)
{
    if (lua_type(L, idx) != LUA_TTABLE || !lua_getmetatable(L, idx))
        return 0;
    lua_rawgetp(L, -1, &bits_key);
    lua_Integer bits = lua_tointeger(L, -1);
    lua_pop(L, 2);
    return bits;
}

bool lunl_error_is(lua_State *L, int idx, enum lunl_class cls)
{
    return lunl_error_bits(L, idx) >> cls & 1;
}

static void push_class(lua_State *L, enum lunl_class cls)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key);
    lua_rawgeti(L, -1, (lua_Integer)cls + 1);
    lua_replace(L, -2);
}

/* ---- errors made in C ---- */

static void new_error(lua_State *L, enum lunl_class cls, const char *fmt, va_list args)
{
    luaL_checkstack(L, 6, NULL);
    lua_createtable(L, 0, fmt ? 3 : 0); /* the message and two more: a cause, the trace */
    if (fmt) {
        lua_pushvfstring(L, fmt, args);
        lua_setfield(L, -2, "message");
    }
    push_class(L, cls);
    lua_setmetatable(L, -2);
}

void lunl_error_new(lua_State *L, enum lunl_class cls, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    new_error(L, cls, fmt, args);
    va_end(args);
}

_Noreturn void lunl_throw(lua_State *L, enum lunl_class cls, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    new_error(L, cls, fmt, args);
    va_end(args);
    lua_error(L);
    abort();
}

void lunl_error_uv(lua_State *L, int err, const char *syscall, const char *object)
{
    enum {
        OTHER_NUMBERS = -3000
    }; /* from there on libuv's codes are no errno of the system */
    char code[64];
    uv_err_name_r(err, code, sizeof code);
    if (object)
        lunl_error_new(L, LUNL_OS_ERROR, "%s %s: %s", syscall, object, code);
    else
        lunl_error_new(L, LUNL_OS_ERROR, "%s: %s", syscall, code);
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, syscall);
    lua_setfield(L, -2, "syscall");
    if (err > OTHER_NUMBERS) {
        lua_pushinteger(L, -(lua_Integer)err);
        lua_setfield(L, -2, "errno");
    }
}

_Noreturn void lunl_throw_uv(lua_State *L, int err, const char *syscall, const char *object)
{
    if (err == UV_ENOMEM)
        lua_pushliteral(L, "not enough memory"); /* lua_error makes a memory error of it */
    else
        lunl_error_uv(L, err, syscall, object);
    lua_error(L);
    abort();
}

void lunl_error_set(lua_State *L, int idx, const char *name)
{
    idx = lua_absindex(L, idx);
    /* Whatever else was thrown is the user's: it is passed on as it is. */
    if (!lunl_error_is(L, idx, LUNL_BASE_ERROR)) {
        lua_pop(L, 1);
        return;
    }
    lua_pushstring(L, name);
    lua_insert(L, -2);
    lua_rawset(L, idx);
}

void lunl_error_group(lua_State *L, const char *message)
{
    lunl_error_new(L, LUNL_EXCEPTION_GROUP, "%s", message);
    lua_insert(L, -2);
    lua_setfield(L, -2, "errors");
}

static int text_of(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    return 1;
}

const char *lunl_text(lua_State *L, int idx, size_t *len)
{
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 4, NULL);
    if (lua_type(L, idx) == LUA_TSTRING) {
        lua_pushvalue(L, idx);
        return lua_tolstring(L, -1, len);
    }
    lua_pushcfunction(L, text_of);
    lua_pushvalue(L, idx);
    int status = lua_pcall(L, 1, 1, 0);
    if (status == LUA_ERRMEM)
        lua_error(L);
    if (status != LUA_OK) {
        lua_pop(L, 1);
        lua_pushfstring(L, "<%s whose tostring fails>", luaL_typename(L, idx));
    }
    return lua_tolstring(L, -1, len);
}

/* ---- classes and instances as scripts see them ---- */

/* Throws for argument `arg` of the constructor of the class at index 1. */
static _Noreturn void bad_argument(lua_State *L, int arg, const char *expected, int got)
{
    lua_getfield(L, 1, "name");
    const char *name = lua_tostring(L, -1);
    lunl_throw(L, LUNL_TYPE_ERROR, "bad argument #%d to '%s' (%s expected, got %s)", arg,
               name ? name : "?", expected, luaL_typename(L, got));
}

/* Copies the fields of the table at `from` to the one at `to`, raw. */
static void copy_fields(lua_State *L, int from, int to)
{
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, to);
    }
}

/* --- Class(message, fields) -> error object
 * A new object of the class: `message` is any value or nil, the fields of the table
 * `fields` are copied into it; a message among them counts if the first argument is nil,
 * and `name` is always the class's. ExceptionGroup and what is derived from it demand
 * `fields.errors`, a list of errors. Throws TypeError. Does not suspend. */
static int l_construct(lua_State *L)
{
    enum { CLASS = 1, MESSAGE, FIELDS, ERROR };
    lua_settop(L, FIELDS);
    if (!lua_istable(L, CLASS) || lua_rawgetp(L, CLASS, &bits_key) != LUA_TNUMBER)
        lunl_type_error(L, CLASS, "class");
    bool group = lua_tointeger(L, -1) >> LUNL_EXCEPTION_GROUP & 1;
    lua_settop(L, FIELDS);
    int fields = lua_type(L, FIELDS);
    if (fields != LUA_TNIL && fields != LUA_TTABLE)
        bad_argument(L, 2, "table", FIELDS);
    lua_createtable(L, 0, fields == LUA_TNIL ? 2 : 6);
    if (fields != LUA_TNIL) {
        copy_fields(L, FIELDS, ERROR);
        lua_pushnil(L);
        lua_setfield(L, ERROR, "name");
    }
    if (!lua_isnil(L, MESSAGE)) {
        lua_pushvalue(L, MESSAGE);
        lua_setfield(L, ERROR, "message");
    }
    if (group) {
        lua_getfield(L, ERROR, "errors");
        if (!lua_istable(L, -1) || lunl_error_is(L, -1, LUNL_BASE_ERROR))
            bad_argument(L, 2, "a table with a list 'errors'", lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_pushvalue(L, CLASS);
    lua_setmetatable(L, ERROR);
    return 1;
}

/* --- tostring(error object) -> string
 * `name: message`, or the name alone if there is no message. */
static int l_tostring(lua_State *L)
{
    luaL_Buffer b;
    if (!lunl_error_is(L, 1, LUNL_BASE_ERROR))
        lunl_type_error(L, 1, "error object");
    lua_settop(L, 1);
    lua_getmetatable(L, 1);
    lua_getfield(L, 2, "name");
    if (lua_type(L, 3) != LUA_TSTRING) {
        lua_pushliteral(L, "?");
        lua_replace(L, 3);
    }
    if (lua_getfield(L, 1, "message") == LUA_TNIL) {
        lua_settop(L, 3);
        return 1;
    }
    size_t size;
    luaL_tolstring(L, 4, &size);
    if (size == 0) {
        lua_settop(L, 3);
        return 1;
    }
    luaL_buffinit(L, &b);
    lua_pushvalue(L, 3);
    luaL_addvalue(&b);
    luaL_addstring(&b, ": ");
    lua_pushvalue(L, 5);
    luaL_addvalue(&b);
    luaL_pushresult(&b);
    return 1;
}

/* --- tostring(class) -> string */
static int l_class_tostring(lua_State *L)
{
    if (!is_class(L, 1))
        lunl_type_error(L, 1, "class");
    lua_getfield(L, 1, "name");
    lua_pushfstring(L, "<class %s>", lua_tostring(L, -1));
    return 1;
}

/* What a class inherits as the metatable of its instances: Lua looks there without __index.
 */
static void copy_metamethods(lua_State *L, int from, int to)
{
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || strncmp(lua_tostring(L, -2), "__", 2) != 0)
            continue;
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, to);
    }
}

/*
 * Replaces the name on top by a new class below the one at `parent` (0: none), with the
 * bits of its parent and `own`.
 */
static void new_class(lua_State *L, int parent, lua_Integer own)
{
    static const luaL_Reg meta[] = {
        {"__call", l_construct}, {"__tostring", l_class_tostring}, {NULL, NULL}};
    static const luaL_Reg root[] = {{"__tostring", l_tostring}, {NULL, NULL}};
    int name = lua_gettop(L), class = name + 1;
    lua_createtable(L, 0, 8);
    if (parent) {
        copy_metamethods(L, parent, class);
        lua_rawgetp(L, parent, &bits_key);
        own |= lua_tointeger(L, -1);
        lua_pop(L, 1);
        lua_pushvalue(L, parent);
        lua_rawsetp(L, class, &parent_key);
    } else {
        lunl_register(L, root);
    }
    lua_pushinteger(L, own);
    lua_rawsetp(L, class, &bits_key);
    lua_pushvalue(L, name);
    lua_setfield(L, class, "name");
    lua_pushvalue(L, name);
    lua_setfield(L, class, "__name");
    lua_pushvalue(L, class);
    lua_setfield(L, class, "__index");
    lua_createtable(L, 0, 4);
    lunl_register(L, meta);
    lua_pushliteral(L, "class");
    lua_setfield(L, -2, "__name");
    if (parent) {
        lua_pushvalue(L, parent);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, class);
    lua_replace(L, name);
}

/* --- async.exception(name, parent) -> class
 * A new class of errors named `name`, derived from `parent` (async.Error). Throws
 * TypeError, and ValueError for an empty name. Does not suspend. */
static int l_exception(lua_State *L)
{
    size_t size;
    lunl_check_string(L, 1, &size);
    if (size == 0)
        lunl_arg_error(L, 1, LUNL_VALUE_ERROR, "a class needs a name");
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        push_class(L, LUNL_ERROR);
        lua_replace(L, 2);
    } else if (!is_class(L, 2)) {
        lunl_type_error(L, 2, "class");
    }
    lua_pushvalue(L, 1);
    new_class(L, 2, 0);
    return 1;
}

/* ---- isinstance and groups ---- */

/* A class, or a list of classes; TypeError. */
static void check_classes(lua_State *L, int arg)
{
    if (is_class(L, arg))
        return;
    if (!lua_istable(L, arg) || lunl_error_is(L, arg, LUNL_BASE_ERROR))
        lunl_type_error(L, arg, "class");
    lua_Unsigned n = lua_rawlen(L, arg);
    for (lua_Unsigned i = 1; i <= n; i++) {
        lua_rawgeti(L, arg, (lua_Integer)i);
        if (!is_class(L, -1))
            lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "element %d: class expected, got %s",
                           (int)i, luaL_typename(L, -1));
        lua_pop(L, 1);
    }
}

/* Is the class on top, which is popped, the one at `class` or derived from it? */
static bool descends(lua_State *L, int class)
{
    bool found = false;
    while (lua_istable(L, -1) && !(found = lua_rawequal(L, -1, class))) {
        lua_rawgetp(L, -1, &parent_key);
        lua_replace(L, -2);
    }
    lua_pop(L, 1);
    return found;
}

/* Is the value at `idx` of one of the classes at `classes`, checked before? */
static bool matches(lua_State *L, int idx, int classes)
{
    if (!lunl_error_is(L, idx, LUNL_BASE_ERROR))
        return false;
    if (is_class(L, classes)) {
        lua_getmetatable(L, idx);
        return descends(L, classes);
    }
    lua_Unsigned n = lua_rawlen(L, classes);
    bool found = false;
    for (lua_Unsigned i = 1; i <= n && !found; i++) {
        lua_rawgeti(L, classes, (lua_Integer)i);
        lua_getmetatable(L, idx);
        found = descends(L, lua_gettop(L) - 1);
        lua_pop(L, 1);
    }
    return found;
}

/* --- async.isinstance(value, class) -> boolean
 * Is the value an error object of that class, or of one derived from it? A list of classes
 * asks for any of them. False for every value that is no error object. Throws TypeError if
 * the second argument is no class. Does not suspend. */
static int l_isinstance(lua_State *L)
{
    check_classes(L, 2);
    lua_pushboolean(L, matches(L, 1, 2));
    return 1;
}

struct nest {
    const struct nest *outer;
    const void *group;
    int depth;
};

/* Replaces the list of errors on top by a group like the one at `group`, or by nil if
 * empty. */
static void derive(lua_State *L, int group)
{
    int list = lua_gettop(L);
    if (lua_rawlen(L, list) == 0) {
        lua_pushnil(L);
    } else {
        lua_createtable(L, 0, 4);
        copy_fields(L, group, list + 1);
        lua_pushvalue(L, list);
        lua_setfield(L, list + 1, "errors");
        lua_getmetatable(L, group);
        lua_setmetatable(L, list + 1);
    }
    lua_replace(L, list);
}

/* Appends the value on top, which is popped, to a list unless it is nil. */
static void append(lua_State *L, int list)
{
    if (lua_isnil(L, -1))
        lua_pop(L, 1);
    else
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
}

/* Pushes what matches in the group at `group`, then the rest; nil where there is nothing.
 */
static void split(lua_State *L, int group, int classes, const struct nest *outer)
{
    struct nest here = {outer, lua_topointer(L, group), outer ? outer->depth + 1 : 0};
    luaL_checkstack(L, 16, NULL);
    if (matches(L, group, classes)) {
        lua_pushvalue(L, group);
        lua_pushnil(L);
        return;
    }
    for (const struct nest *n = outer; n; n = n->outer)
        if (n->group == here.group)
            lunl_throw(L, LUNL_RUNTIME_ERROR, "an exception group contains itself");
    if (here.depth > MOST_NESTED)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "exception groups are nested too deeply");
    int match = lua_gettop(L) + 1, rest = match + 1, errors = match + 2;
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "errors");
    lua_Unsigned n = lua_rawget(L, group) == LUA_TTABLE ? lua_rawlen(L, errors) : 0;
    for (lua_Unsigned i = 1; i <= n; i++) {
        lua_rawgeti(L, errors, (lua_Integer)i);
        if (lunl_error_is(L, -1, LUNL_EXCEPTION_GROUP)) {
            split(L, errors + 1, classes, &here);
            append(L, rest);
            append(L, match);
            lua_pop(L, 1);
        } else {
            append(L, matches(L, errors + 1, classes) ? match : rest);
        }
    }
    lua_settop(L, rest);
    derive(L, group);
    lua_insert(L, match);
    derive(L, group);
    lua_insert(L, match);
}

static void check_group(lua_State *L)
{
    if (!lunl_error_is(L, 1, LUNL_EXCEPTION_GROUP))
        lunl_type_error(L, 1, "ExceptionGroup");
    check_classes(L, 2);
    lua_settop(L, 2);
}

/* --- group:split(class) -> match, rest
 * Two ExceptionGroups with the structure of this one: one of the errors of that class (or
 * of a list of classes), one of all others; nil where there are none. The group itself is
 * the match if it is of that class. Throws TypeError; RuntimeError for groups that contain
 * themselves. Does not suspend. */
static int l_split(lua_State *L)
{
    check_group(L);
    split(L, 1, 2, NULL);
    return 2;
}

/* --- group:subgroup(class) -> match
 * The first result of split alone. */
static int l_subgroup(lua_State *L)
{
    check_group(L);
    split(L, 1, 2, NULL);
    lua_settop(L, 3);
    return 1;
}

/* Makes the list of the built-in classes on the stack. */
static void make_classes(lua_State *L)
{
    enum { LUNL_NONE = -1 };
    static const luaL_Reg group[] = {
        {"split", l_split}, {"subgroup", l_subgroup}, {NULL, NULL}};
    static const struct {
        const char *name;
        int parent;
    } rows[] = {
#define X(id, name, parent) {name, LUNL_##parent},
        LUNL_CLASSES(X)
#undef X
    };
    lua_createtable(L, LUNL_CLASS_COUNT, 0);
    int list = lua_gettop(L);
    for (int i = 0; i < LUNL_CLASS_COUNT; i++) {
        int parent = rows[i].parent;
        lua_rawgeti(L, list, parent + 1);
        lua_pushstring(L, rows[i].name);
        new_class(L, parent < 0 ? 0 : list + 1, (lua_Integer)1 << i);
        if (i == LUNL_EXCEPTION_GROUP)
            lunl_register(L, group);
        lua_rawseti(L, list, i + 1);
        lua_settop(L, list);
    }
}

void lunl_open_error(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"exception", l_exception}, {"isinstance", l_isinstance}, {NULL, NULL}};
    static const char *const names[] = {
#define X(id, name, parent) name,
        LUNL_CLASSES(X)
#undef X
    };
    luaL_checkstack(L, 12, NULL);
    lunl_register(L, functions);
    /* Loaded a second time, the classes of the first time are still those of live errors.
     */
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        make_classes(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &classes_key);
    }
    for (int i = 0; i < LUNL_CLASS_COUNT; i++) {
        lua_rawgeti(L, -1, i + 1);
        lua_setfield(L, -3, names[i]);
    }
    lua_pop(L, 1);
}
