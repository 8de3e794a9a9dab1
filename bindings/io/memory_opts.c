/* SPDX-License-Identifier: MIT */
/*
 * memory_opts.c - the options of a pair of streams in memory. A typing error in a test must not
 * pass for a test, so names that nobody knows are refused.
 */
#include "memory.h"

#include <math.h>
#include <string.h>

enum {
    CAPACITY = 65536 /* bytes on the way, unless told otherwise */
};

/* The options that are being read: a table on the stack, and how it is called in errors. */
typedef struct place {
    lua_State *L;
    int at;           /* absolute index */
    const char *path; /* "", "a.", "b.fail_read." ... */
} place;

static _Noreturn void refuse(const place *p, int cls, const char *name, const char *what)
{
    char text[100];
    int n = snprintf(text, sizeof text, "field '%s%.40s': ", p->path, name);
    snprintf(text + n, sizeof text - (size_t)n, "%s", what);
    lunl_arg_error(p->L, 1, cls, "%s", text);
}

/* Refuses what is not in the list, which ends with NULL. */
static void check_names(const place *p, const char *const *names)
{
    lua_State *L = p->L;
    lua_pushnil(L);
    while (lua_next(L, p->at)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            lunl_arg_error(L, 1, LUNL_VALUE_ERROR,
                           "an option is called by name, not by a %s",
                           luaL_typename(L, -1));
        const char *const *known = names;
        while (*known && strcmp(*known, lua_tostring(L, -1)) != 0)
            known++;
        if (!*known)
            refuse(p, LUNL_VALUE_ERROR, lua_tostring(L, -1), "unknown option");
    }
}

/* Pushes the field; false, and nothing is pushed, if it is nil. */
static bool field(const place *p, const char *name, int type)
{
    lua_pushstring(p->L, name);
    lua_rawget(p->L, p->at);
    if (lua_isnil(p->L, -1)) {
        lua_pop(p->L, 1);
        return false;
    }
    if (lua_type(p->L, -1) != type) {
        char text[60];
        snprintf(text, sizeof text, "%s expected, got %s", lua_typename(p->L, type),
                 luaL_typename(p->L, -1));
        refuse(p, LUNL_TYPE_ERROR, name, text);
    }
    return true;
}

static void size_field(const place *p, const char *name, lua_Integer least, uint64_t *to)
{
    int exact;
    if (!field(p, name, LUA_TNUMBER))
        return;
    lua_Integer n = lua_tointegerx(p->L, -1, &exact);
    if (!exact)
        refuse(p, LUNL_TYPE_ERROR, name, "integer expected");
    if (n < least || n > LUA_MAXINTEGER / 4)
        refuse(p, LUNL_VALUE_ERROR, name, "out of range");
    *to = (uint64_t)n;
    lua_pop(p->L, 1);
}

static void count_field(const place *p, const char *name, size_t *to)
{
    uint64_t n = *to;
    size_field(p, name, 1, &n);
    *to = (size_t)n;
}

/* The code of libuv that is called so, or 0. */
static int code_named(const char *name)
{
#define CODE(id, text) {#id, UV_##id},
    static const struct {
        const char *name;
        int code;
    } codes[] = {UV_ERRNO_MAP(CODE)};
#undef CODE
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].name, name) == 0)
            return codes[i].code;
    return 0;
}

static void fault_field(const place *p, const char *name, lunl_fault *fault)
{
    static const char *const names[] = {"at", "error", NULL};
    char path[40];
    if (!field(p, name, LUA_TTABLE))
        return;
    snprintf(path, sizeof path, "%s%s.", p->path, name);
    place in = {p->L, lua_gettop(p->L), path};
    check_names(&in, names);
    *fault = (lunl_fault){0, UV_ECONNRESET};
    size_field(&in, "at", 0, &fault->at);
    if (field(&in, "error", LUA_TSTRING)) {
        fault->error = code_named(lua_tostring(p->L, -1));
        if (fault->error == 0 || (fault->error == UV_EOF && name[5] != 'r'))
            refuse(&in, LUNL_VALUE_ERROR, "error", "a code such as 'ECONNRESET' expected");
        if (fault->error == UV_EOF)
            fault->error = 0;
        lua_pop(p->L, 1);
    }
    lua_pop(p->L, 1);
}

static void end_fields(const place *p, lunl_end_opts *o)
{
    if (field(p, "lockstep", LUA_TBOOLEAN)) {
        o->lockstep = lua_toboolean(p->L, -1);
        lua_pop(p->L, 1);
    }
    count_field(p, "max_read", &o->max_read);
    count_field(p, "max_write", &o->max_write);
    count_field(p, "capacity", &o->capacity);
    count_field(p, "limit", &o->limit);
    if (field(p, "delay", LUA_TNUMBER)) {
        o->delay = lua_tonumber(p->L, -1);
        if (!(o->delay >= 0) || isinf(o->delay))
            refuse(p, LUNL_VALUE_ERROR, "delay", "seconds expected, zero or more");
        lua_pop(p->L, 1);
    }
    fault_field(p, "fail_read", &o->read_fault);
    fault_field(p, "fail_write", &o->write_fault);
    if (o->lockstep && o->capacity > 0)
        refuse(p, LUNL_VALUE_ERROR, "capacity", "there is none in lockstep");
}

/* The last two have no place in the tables that they name. */
static const char *const pair_names[] = {"lockstep", "max_read", "max_write", "capacity",
                                         "limit",    "delay",    "fail_read", "fail_write",
                                         "a",        "b",        NULL};
static const char *const end_names[] = {"lockstep",  "max_read",   "max_write",
                                        "capacity",  "limit",      "delay",
                                        "fail_read", "fail_write", NULL};

void lunl_pair_options(lua_State *L, lunl_end_opts opts[2])
{
    place p = {L, 1, ""};
    lunl_end_opts o = {.max_read = SIZE_MAX,
                       .max_write = SIZE_MAX,
                       .limit = LUNL_LINE_LIMIT,
                       .read_fault = {UINT64_MAX, 0},
                       .write_fault = {UINT64_MAX, 0}};
    bool given = lunl_opt_table(L, 1);
    luaL_checkstack(L, 8, NULL);
    if (given) {
        check_names(&p, pair_names);
        end_fields(&p, &o);
    }
    for (int i = 0; i < 2; i++) {
        opts[i] = o;
        if (given && field(&p, i == 0 ? "a" : "b", LUA_TTABLE)) {
            place in = {L, lua_gettop(L), i == 0 ? "a." : "b."};
            check_names(&in, end_names);
            end_fields(&in, &opts[i]);
            lua_pop(L, 1);
        }
        if (opts[i].capacity == 0)
            opts[i].capacity = CAPACITY;
    }
}
