/* SPDX-License-Identifier: MIT */
/*
 * trace.c - light traces: where each level of a stack is, without searching for global names.
 *
 * Taken at the moment of the throw, so it has to be cheap and must not allocate: text goes into
 * a buffer of the caller's, levels beyond a dozen at both ends are left out.
 */
#include "../state.h"

#include <string.h>

enum { HEAD = 10, TAIL = 6 };

static inline size_t append(char *buf, size_t size, size_t at, const char *text)
{
    size_t n = strlen(text);
    if (n > size - at)
        n = size - at;
    memcpy(buf + at, text, n);
    return at + n;
}

/* ":" and a number; printf would cost more than all the rest of a line. */
static size_t append_number(char *buf, size_t size, size_t at, int number)
{
    char digits[16], *p = digits + sizeof digits;
    *--p = '\0';
    do
        *--p = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    *--p = ':';
    return append(buf, size, at, p);
}

/* One line for one level: what Lua's own traceback says, but for the names of globals. */
static size_t add_level(lua_State *L1, lua_Debug *ar, char *buf, size_t size, size_t at)
{
    if (!lua_getinfo(L1, "Sln", ar))
        return at;
    at = append(buf, size, at, "\n\t");
    at = append(buf, size, at, ar->short_src);
    if (ar->currentline > 0)
        at = append_number(buf, size, at, ar->currentline);
    at = append(buf, size, at, ": in ");
    if (*ar->namewhat) {
        at = append(buf, size, at, ar->namewhat);
        at = append(buf, size, at, " '");
        at = append(buf, size, at, ar->name);
        at = append(buf, size, at, "'");
    } else if (*ar->what == 'm') {
        at = append(buf, size, at, "main chunk");
    } else if (*ar->what == 'C') {
        at = append(buf, size, at, "?");
    } else {
        at = append(buf, size, at, "function <");
        at = append(buf, size, at, ar->short_src);
        at = append_number(buf, size, at, ar->linedefined);
        at = append(buf, size, at, ">");
    }
    return at;
}

/* The number of the outermost level; asking for a level costs its distance, so by halving. */
static int last_level(lua_State *L1)
{
    lua_Debug ar;
    int low = 0, high = 1;
    while (lua_getstack(L1, high, &ar)) {
        low = high;
        high *= 2;
    }
    while (low + 1 < high) {
        int middle = low + (high - low) / 2;
        if (lua_getstack(L1, middle, &ar))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The levels from `level` to `last`, without the middle of a long stack. */
static size_t add_levels(lua_State *L1, int level, int last, char *buf, size_t size)
{
    lua_Debug ar;
    size_t at = 0;
    int from = level;
    for (; level <= last && lua_getstack(L1, level, &ar); level++) {
        if (level == from + HEAD && last - level > TAIL) {
            at = append(buf, size, at, "\n\t...");
            level = last - TAIL;
            continue;
        }
        at = add_level(L1, &ar, buf, size, at);
    }
    return at;
}

size_t lunl_trace_task(lua_State *L1, int level, char *buf, size_t size)
{
    int last = last_level(L1);
    return add_levels(L1, level, last > level ? last - 1 : last, buf, size);
}

size_t lunl_trace_text(lua_State *L1, int level, char *buf, size_t size)
{
    lua_Debug ar;
    int last = last_level(L1);
    /* The outermost one is mostly a C function that called what is of interest: the body of a
     * task, the driver of a loop. */
    if (last > level && lua_getstack(L1, last, &ar) && lua_getinfo(L1, "S", &ar) &&
        *ar.what == 'C')
        last--;
    return add_levels(L1, level, last, buf, size);
}

void lunl_trace_frames(lua_State *L1, int level, luaL_Buffer *b)
{
    char text[4096];
    luaL_addlstring(b, text, lunl_trace_text(L1, level, text, sizeof text));
}
