/* SPDX-License-Identifier: MIT */
/*
 * print.c - how errors and reports look to people.
 *
 * An error is its text, then its trace, then in the same manner what it was raised from;
 * members of a group follow, indented. Errors refer to each other as the user likes, in
 * circles too: each is printed once, their number and their nesting are bounded, and chains
 * are loops.
 *
 * A text is a table of pieces that is joined at the end, so that values, which may run code
 * of the user's to become text, can be pushed in between.
 */
#include "print.h"

#include <stdio.h>
#include <string.h>

enum {
    MOST_ERRORS = 60,  /* in one text */
    MOST_MEMBERS = 20, /* of one group */
    MOST_NESTED = 8,   /* groups in groups */
    MOST_CONTEXTS = 3, /* reports about reports */
    STEP = 2           /* columns of indentation */
};

void lunl_write_error(const char *text, size_t size)
{
    fwrite(text, 1, size, stderr);
    fflush(stderr);
}

void lunl_print_begin(lunl_print *p, lua_State *L)
{
    luaL_checkstack(L, 20, NULL);
    lua_createtable(L, 16, 0);
    lua_newtable(L);
    *p = (lunl_print){
        .L = L, .list = lua_gettop(L) - 1, .seen = lua_gettop(L), .errors = MOST_ERRORS};
}

void lunl_print_lines(lunl_print *p, int indent)
{
    lua_State *L = p->L;
    size_t size;
    const char *s = lua_tolstring(L, -1, &size), *end = s + size;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (;;) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        stop = stop ? stop : end;
        for (int i = 0; i < indent; i++)
            luaL_addchar(&b, ' ');
        luaL_addlstring(&b, s, (size_t)(stop - s));
        luaL_addchar(&b, '\n');
        if (stop == end)
            break;
        s = stop + 1;
    }
    luaL_pushresult(&b);
    lua_rawseti(L, p->list, ++p->n);
    lua_pop(L, 1);
}

void lunl_print_text(lunl_print *p, int indent, const char *text)
{
    lua_pushstring(p->L, text);
    lunl_print_lines(p, indent);
}

const char *lunl_print_end(lunl_print *p, size_t *size)
{
    lua_State *L = p->L;
    luaL_Buffer b;
    lua_settop(L, p->seen);
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= p->n; i++) {
        lua_rawgeti(L, p->list, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    lua_replace(L, p->list);
    lua_settop(L, p->list);
    return lua_tolstring(L, -1, size);
}

/* Adds `label` and the text of the value at `idx`. */
static void print_value(lunl_print *p, int indent, const char *label, int idx)
{
    lua_State *L = p->L;
    luaL_Buffer b;
    int text = lua_gettop(L) + 1;
    lunl_text(L, idx, NULL);
    luaL_buffinit(L, &b);
    luaL_addstring(&b, label);
    lua_pushvalue(L, text);
    luaL_addvalue(&b);
    luaL_pushresult(&b);
    lunl_print_lines(p, indent);
    lua_pop(L, 1);
}

/* Has the error at `idx` been printed? From now on it has. Strings and the like never have.
 */
static bool seen(lunl_print *p, int idx)
{
    lua_State *L = p->L;
    if (!lua_istable(L, idx) && !lua_isuserdata(L, idx))
        return false;
    lua_pushvalue(L, idx);
    bool was = lua_rawget(L, p->seen) != LUA_TNIL;
    lua_pop(L, 1);
    lua_pushvalue(L, idx);
    lua_pushboolean(L, 1);
    lua_rawset(L, p->seen);
    return was;
}

/* Pushes field `name` of the error object at `idx`, without calling anybody; its type. */
static int raw_field(lua_State *L, int idx, const char *name)
{
    lua_pushstring(L, name);
    return lua_rawget(L, idx);
}

static void print_chain(lunl_print *p, int idx, int trace, int indent, int depth);

/* Adds the members of the group at `idx`. */
static void print_members(lunl_print *p, int idx, int indent, int depth)
{
    lua_State *L = p->L;
    if (raw_field(L, idx, "errors") != LUA_TTABLE || depth >= MOST_NESTED) {
        lua_pop(L, 1);
        return;
    }
    int list = lua_gettop(L);
    int n = (int)lua_rawlen(L, list);
    for (int i = 1; i <= n && p->errors > 0; i++) {
        if (i > MOST_MEMBERS) {
            lua_pushfstring(L, "... and %d more", n - MOST_MEMBERS);
            lunl_print_lines(p, indent);
            break;
        }
        lua_pushfstring(L, "[%d]", i);
        lunl_print_lines(p, indent);
        lua_rawgeti(L, list, i);
        print_chain(p, list + 1, 0, indent + STEP, depth + 1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Replaces the error at `at` by what it was raised from; what to call that, or NULL for
 * nothing. */
static const char *next_error(lua_State *L, int at)
{
    static const char *const fields[] = {"cause", "context"};
    static const char *const labels[] = {"caused by: ", "while handling: "};
    if (!lunl_error_is(L, at, LUNL_BASE_ERROR))
        return NULL;
    for (int i = 0; i < 2; i++) {
        if (raw_field(L, at, fields[i]) != LUA_TNIL) {
            lua_replace(L, at);
            return labels[i];
        }
        lua_pop(L, 1);
    }
    return NULL;
}

/* Adds the error at `idx` and those behind it. */
static void print_chain(lunl_print *p, int idx, int trace, int indent, int depth)
{
    lua_State *L = p->L;
    const char *label = "";
    luaL_checkstack(L, 20, NULL);
    lua_pushvalue(L, idx);
    int at = lua_gettop(L);
    for (; label; label = next_error(L, at), trace = 0) {
        if (p->errors-- <= 0) {
            lunl_print_text(p, indent, "... and more errors");
            break;
        }
        print_value(p, indent, label, at);
        if (seen(p, at)) {
            lunl_print_text(p, indent, "(see above)");
            break;
        }
        if (trace)
            lua_pushvalue(L, trace);
        else
            lunl_push_error_trace(L, at);
        if (lua_type(L, -1) == LUA_TSTRING)
            lunl_print_lines(p, indent);
        else
            lua_pop(L, 1);
        if (lunl_error_is(L, at, LUNL_EXCEPTION_GROUP))
            print_members(p, at, indent + STEP, depth);
    }
    lua_settop(L, at - 1);
}

void lunl_print_error(lunl_print *p, int idx, int trace, int indent)
{
    print_chain(p, lua_absindex(p->L, idx), trace ? lua_absindex(p->L, trace) : 0, indent,
                0);
}

/* ---- reports: the context tables of exception handlers ---- */

/* Is the key something that has its own place in a report, or that people need not see? */
static bool own_place(const char *key)
{
    static const char *const keys[] = {"message",          "exception", "traceback",
                                       "context",          "future",    "kind",
                                       "source_traceback", NULL};
    for (const char *const *k = keys; *k; k++)
        if (strcmp(*k, key) == 0)
            return true;
    return false;
}

/*
 * Pushes the least string key of the table at `ctx` that comes after `last`, with its
 * value; false and nothing if there is none. Quadratic, for tables of a few keys, but
 * without a list to sort.
 */
static bool next_key(lua_State *L, int ctx, const char *last)
{
    const char *best = NULL;
    for (lua_pushnil(L); lua_next(L, ctx); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        const char *key = lua_tostring(L, -2);
        if (!own_place(key) && strcmp(key, last) > 0 && (!best || strcmp(key, best) < 0))
            best = key; /* the table keeps it alive */
    }
    if (!best)
        return false;
    lua_pushstring(L, best);
    lua_pushvalue(L, -1);
    lua_rawget(L, ctx);
    return true;
}

/* Adds the lines `key: value` of the report at `ctx`. */
static void print_keys(lunl_print *p, int ctx, int indent)
{
    lua_State *L = p->L;
    int top = lua_gettop(L);
    if (raw_field(L, ctx, "future") != LUA_TNIL)
        print_value(p, indent, "future: ", top + 1);
    lua_pushliteral(L, "");
    while (next_key(L, ctx, lua_tostring(L, top + 2))) {
        bool same = strcmp(lua_tostring(L, top + 3), "task") == 0 &&
                    lua_rawequal(L, top + 4, top + 1);
        if (!same) {
            lua_pushfstring(L, "%s: ", lua_tostring(L, top + 3));
            print_value(p, indent, lua_tostring(L, top + 5), top + 4);
        }
        lua_settop(L, top + 3);
        lua_replace(L, top + 2);
    }
    lua_settop(L, top);
}

/* Adds the report at `ctx`, and the one that it is about. */
static void print_report(lunl_print *p, int ctx, int indent, int depth)
{
    lua_State *L = p->L;
    int top = lua_gettop(L);
    luaL_checkstack(L, 20, NULL);
    if (raw_field(L, ctx, "message") == LUA_TNIL)
        lunl_print_text(p, indent, "Unhandled exception in event loop");
    else
        print_value(p, indent, "", top + 1);
    print_keys(p, ctx, indent);
    lua_settop(L, top);
    bool failed = raw_field(L, ctx, "exception") != LUA_TNIL;
    bool traced = raw_field(L, ctx, "traceback") == LUA_TSTRING;
    if (failed)
        lunl_print_error(p, top + 1, traced ? top + 2 : 0, indent);
    else if (traced)
        lunl_print_lines(p, indent);
    lua_settop(L, top);
    if (raw_field(L, ctx, "source_traceback") == LUA_TSTRING) {
        lunl_print_text(p, indent, "made at:");
        lunl_print_lines(p, indent);
    }
    lua_settop(L, top);
    if (raw_field(L, ctx, "context") == LUA_TTABLE && depth < MOST_CONTEXTS) {
        lunl_print_text(p, indent, "while handling:");
        print_report(p, top + 1, indent + STEP, depth + 1);
    }
    lua_settop(L, top);
}

void lunl_print_context(lua_State *L, int ctx)
{
    lunl_print p;
    size_t size;
    ctx = lua_absindex(L, ctx);
    lunl_print_begin(&p, L);
    print_report(&p, ctx, 0, 0);
    const char *text = lunl_print_end(&p, &size);
    lunl_write_error(text, size);
    lua_pop(L, 1);
}
