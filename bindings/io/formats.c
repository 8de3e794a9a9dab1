/* SPDX-License-Identifier: MIT */
/*
 * formats.c - looking for lines, numbers, blocks and separators in bytes; see formats.h.
 */
#include "formats.h"

#include <ctype.h>
#include <string.h>

enum {
    NUMERAL_MAX = 200, /* characters of a numeral, as in Lua's io library */
    LINES_MAX = 200    /* formats of an iterator: upvalues that a C function may have */
};

/* Not enough there: the end, an error, or another look at `need` bytes. */
static enum lunl_found short_of(lunl_look *k, size_t need)
{
    if (k->ended)
        return LUNL_END;
    if (k->failed)
        return LUNL_FAILED;
    k->need = need;
    return LUNL_MORE;
}

static enum lunl_found got(lunl_look *k, size_t give, size_t use)
{
    k->give = give;
    k->use = use;
    return LUNL_GOT;
}

static enum lunl_found look_line(const lunl_want *w, lunl_look *k)
{
    const char *end = NULL;
    if (k->n > k->searched)
        end = memchr(k->p + k->searched, '\n', k->n - k->searched);
    size_t len = end ? (size_t)(end - k->p) : k->n;
    if (len > k->limit) {
        k->give = len;
        return LUNL_OVER;
    }
    if (end)
        return got(k, w->kind == LUNL_LINE ? len : len + 1, len + 1);
    k->searched = len;
    enum lunl_found f = short_of(k, len + 1);
    return f == LUNL_END && len > 0 ? got(k, len, len) : f;
}

static enum lunl_found look_until(const lunl_want *w, lunl_look *k)
{
    size_t from = k->searched;
    const char *at = NULL;
    if (k->n > from)
        at = memmem(k->p + from, k->n - from, w->sep, w->sep_len);
    size_t free_of = k->n < w->sep_len ? 0 : k->n - w->sep_len + 1;
    size_t len = at ? (size_t)(at - k->p) : free_of;
    if (len > w->n) {
        k->give = len;
        return LUNL_OVER;
    }
    if (at)
        return got(k, len + w->sep_len, len + w->sep_len);
    k->searched = free_of;
    enum lunl_found f = short_of(k, k->n + 1);
    return f == LUNL_END && k->n > 0 ? LUNL_CUT : f;
}

static enum lunl_found look_count(const lunl_want *w, lunl_look *k)
{
    if (k->n >= w->n && k->n > 0)
        return got(k, w->n, w->n);
    enum lunl_found f = short_of(k, w->n ? w->n : 1);
    return f == LUNL_END && k->n > 0 ? got(k, k->n, k->n) : f;
}

static enum lunl_found look_some(const lunl_want *w, lunl_look *k)
{
    if (k->n == 0)
        return short_of(k, 1);
    size_t n = k->n < w->n ? k->n : w->n;
    return got(k, n, n);
}

/* A numeral that is being read, after liolib's. */
typedef struct numeral {
    const char *p;
    size_t n, at;
    size_t len; /* characters of it; more than NUMERAL_MAX: none at all */
} numeral;

/* The next character, -1 behind the last one. */
static int peek(const numeral *m)
{
    return m->at < m->n ? (unsigned char)m->p[m->at] : -1;
}

static bool take(numeral *m)
{
    if (m->len >= NUMERAL_MAX) {
        m->len = NUMERAL_MAX + 1;
        return false;
    }
    m->len++;
    m->at++;
    return true;
}

static bool take_one_of(numeral *m, const char *set)
{
    int c = peek(m);
    return c > 0 && strchr(set, c) && take(m);
}

static int take_digits(numeral *m, bool hex)
{
    int n = 0;
    for (int c = peek(m); c >= 0 && (hex ? isxdigit(c) : isdigit(c)) && take(m);
         c = peek(m))
        n++;
    return n;
}

/* The longest prefix that looks like a numeral: give..use; needs the character behind it. */
static enum lunl_found look_number(lunl_look *k)
{
    numeral m = {.p = k->p, .n = k->n, .at = k->searched};
    while (peek(&m) >= 0 && isspace(peek(&m)))
        m.at++;
    size_t start = k->searched = m.at;
    if (start > k->limit) {
        k->give = start;
        return LUNL_OVER;
    }
    bool hex = false;
    int digits = 0;
    take_one_of(&m, "+-");
    if (take_one_of(&m, "0")) {
        hex = take_one_of(&m, "xX");
        digits = !hex;
    }
    digits += take_digits(&m, hex);
    if (take_one_of(&m, "."))
        digits += take_digits(&m, hex);
    if (digits > 0 && take_one_of(&m, hex ? "pP" : "eE")) {
        take_one_of(&m, "+-");
        take_digits(&m, false);
    }
    if (m.at == m.n && m.len <= NUMERAL_MAX) {
        enum lunl_found f = short_of(k, k->n + 1);
        if (f != LUNL_END)
            return f;
    }
    return got(k, m.len > NUMERAL_MAX ? 0 : m.at - start, m.at);
}

enum lunl_found lunl_look_for(const lunl_want *w, lunl_look *k)
{
    switch (w->kind) {
    case LUNL_LINE:
    case LUNL_LINE_KEEP:
        return look_line(w, k);
    case LUNL_UNTIL:
        return look_until(w, k);
    case LUNL_COUNT:
        return look_count(w, k);
    case LUNL_SOME:
        return look_some(w, k);
    case LUNL_NUMBER:
        return look_number(k);
    default:
        break;
    }
    enum lunl_found f = short_of(k, SIZE_MAX);
    return f == LUNL_END ? got(k, k->n, k->n) : f;
}

bool lunl_push_found(lua_State *L, const lunl_want *w, const lunl_look *k)
{
    if (w->kind != LUNL_NUMBER) {
        lua_pushlstring(L, k->p, k->give);
        return true;
    }
    char text[NUMERAL_MAX + 1];
    if (k->give > 0)
        memcpy(text, k->p + k->use - k->give, k->give);
    text[k->give] = '\0';
    if (lua_stringtonumber(L, text) == k->give + 1)
        return true;
    lua_pushnil(L);
    return false;
}

static void push_over(lua_State *L, const lunl_want *w, const lunl_look *k,
                      const char *text)
{
    if (w->kind == LUNL_UNTIL)
        lunl_error_new(L, LUNL_LIMIT_OVERRUN_ERROR,
                       "read_until %s: no separator within %I bytes", text,
                       (LUAI_UACINT)w->n);
    else
        lunl_error_new(L, LUNL_LIMIT_OVERRUN_ERROR,
                       w->kind == LUNL_NUMBER ? "read %s: no number within %I bytes"
                                              : "read %s: the line is longer than %I bytes",
                       text, (LUAI_UACINT)k->limit);
    lua_pushinteger(L, (lua_Integer)k->give);
    lunl_error_set(L, -2, "consumed");
}

static void push_cut(lua_State *L, const lunl_want *w, const lunl_look *k, const char *text)
{
    lunl_error_new(L, LUNL_INCOMPLETE_READ_ERROR,
                   "read_until %s: the stream ended before the separator, after %I bytes",
                   text, (LUAI_UACINT)k->n);
    lua_pushlstring(L, k->p, k->n);
    lunl_error_set(L, -2, "partial");
    lua_pushlstring(L, w->sep, w->sep_len);
    lunl_error_set(L, -2, "expected");
}

_Noreturn void lunl_throw_found(lua_State *L, enum lunl_found found, const lunl_want *w,
                                const lunl_look *k, const char *text)
{
    if (found == LUNL_OVER)
        push_over(L, w, k, text);
    else
        push_cut(L, w, k, text);
    lua_error(L);
    abort();
}

void lunl_check_format(lua_State *L, int arg, lunl_want *w)
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        w->kind = LUNL_COUNT;
        w->n = (size_t)lunl_check_integer(L, arg, 0, LUA_MAXINTEGER);
        return;
    }
    if (lua_type(L, arg) != LUA_TSTRING)
        lunl_type_error(L, arg, "format or number of bytes");
    const char *f = lua_tostring(L, arg);
    switch (f[*f == '*']) {
    case 'l':
        w->kind = LUNL_LINE;
        break;
    case 'L':
        w->kind = LUNL_LINE_KEEP;
        break;
    case 'a':
        w->kind = LUNL_ALL;
        break;
    case 'n':
        w->kind = LUNL_NUMBER;
        break;
    default:
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "unknown format '%s'", f);
    }
}

int lunl_push_lines(lua_State *L, lua_CFunction next)
{
    lunl_want w;
    int n = lua_gettop(L);
    for (int i = 2; i <= n; i++)
        lunl_check_format(L, i, &w);
    if (n > LINES_MAX + 1)
        lunl_arg_error(L, LINES_MAX + 2, LUNL_VALUE_ERROR, "too many formats");
    luaL_checkstack(L, 4, NULL);
    /* In front of them what every function of ours has (law 1 of lunl.h), then their number. */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 2);
    lua_pushinteger(L, n);
    lua_insert(L, 3);
    lua_pushcclosure(L, next, 3 + n);
    return 1;
}

void lunl_lines_args(lua_State *L)
{
    int n = (int)lua_tointeger(L, lua_upvalueindex(3));
    lua_settop(L, 0);
    luaL_checkstack(L, n, "too many formats");
    for (int i = 0; i < n; i++)
        lua_pushvalue(L, lua_upvalueindex(4 + i));
}
