/* SPDX-License-Identifier: MIT */
/*
 * read.c - reading with Lua's formats. A read looks into the buffer; if that does not hold
 * enough it says how many bytes would be worth another look, and waits. Bytes are consumed
 * when the whole read has succeeded, so a cancelled or failed read loses none.
 */
#include "stream.h"

#include <ctype.h>
#include <string.h>

enum {
    NUMERAL_MAX = 200, /* characters of a numeral, as in Lua's io library */
    SOME_MAX = 65536   /* bytes that read_some gives unless told otherwise */
};

enum kind { LINE, LINE_KEEP, ALL, COUNT, NUMBER, SOME, UNTIL };

/* What one format asks for. */
typedef struct want {
    enum kind kind;
    size_t n;        /* COUNT: bytes; SOME, UNTIL: at most */
    const char *sep; /* UNTIL: borrowed from the Lua stack */
    size_t sep_len;
} want;

/* What a look into the buffer found. */
enum found { GOT, MORE, END, FAILED, OVER, CUT };

typedef struct look {
    const char *p; /* what is there for this format ... */
    size_t n;
    size_t give,
        use;     /* GOT: bytes of the result, bytes to consume; OVER: give is `consumed` */
    size_t need; /* MORE: bytes that there must be */
} look;

/* Not enough there: the end, an error, or another look at `need` bytes. */
static enum found short_of(const lunl_conn *c, look *k, size_t need)
{
    if (c->eof)
        return END;
    if (c->read_error)
        return FAILED;
    k->need = need;
    return MORE;
}

static enum found got(look *k, size_t give, size_t use)
{
    k->give = give;
    k->use = use;
    return GOT;
}

static enum found look_line(lunl_stream *s, const want *w, look *k)
{
    const char *end = NULL;
    if (k->n > s->searched)
        end = memchr(k->p + s->searched, '\n', k->n - s->searched);
    size_t len = end ? (size_t)(end - k->p) : k->n;
    if (len > s->limit) {
        k->give = len;
        return OVER;
    }
    if (end)
        return got(k, w->kind == LINE ? len : len + 1, len + 1);
    s->searched = len;
    enum found f = short_of(s->c, k, len + 1);
    return f == END && len > 0 ? got(k, len, len) : f;
}

static enum found look_until(lunl_stream *s, const want *w, look *k)
{
    size_t from = s->searched;
    const char *at = NULL;
    if (k->n > from)
        at = memmem(k->p + from, k->n - from, w->sep, w->sep_len);
    size_t free_of = k->n < w->sep_len ? 0 : k->n - w->sep_len + 1;
    size_t len = at ? (size_t)(at - k->p) : free_of;
    if (len > w->n) {
        k->give = len;
        return OVER;
    }
    if (at)
        return got(k, len + w->sep_len, len + w->sep_len);
    s->searched = free_of;
    enum found f = short_of(s->c, k, k->n + 1);
    return f == END && k->n > 0 ? CUT : f;
}

static enum found look_count(lunl_stream *s, const want *w, look *k)
{
    if (k->n >= w->n && k->n > 0)
        return got(k, w->n, w->n);
    enum found f = short_of(s->c, k, w->n ? w->n : 1);
    return f == END && k->n > 0 ? got(k, k->n, k->n) : f;
}

static enum found look_some(lunl_stream *s, const want *w, look *k)
{
    if (k->n == 0)
        return short_of(s->c, k, 1);
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

/* The longest prefix that looks like a numeral: give..use; needs the character behind it.
 */
static enum found look_number(lunl_stream *s, look *k)
{
    numeral m = {.p = k->p, .n = k->n};
    while (peek(&m) >= 0 && isspace(peek(&m)))
        m.at++;
    size_t start = m.at;
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
        enum found f = short_of(s->c, k, k->n + 1);
        if (f != END)
            return f;
    }
    k->give = m.len > NUMERAL_MAX ? 0 : m.at - start;
    k->use = m.at;
    return GOT;
}

static enum found look_for(lunl_stream *s, const want *w, look *k)
{
    lunl_conn *c = s->c;
    k->p = c->in.p + c->in.start + s->taken;
    k->n = lunl_buffer_size(&c->in) - s->taken;
    switch (w->kind) {
    case LINE:
    case LINE_KEEP:
        return look_line(s, w, k);
    case UNTIL:
        return look_until(s, w, k);
    case COUNT:
        return look_count(s, w, k);
    case SOME:
        return look_some(s, w, k);
    case NUMBER:
        return look_number(s, k);
    default:
        break;
    }
    enum found f = short_of(c, k, SIZE_MAX - s->taken);
    return f == END ? got(k, k->n, k->n) : f;
}

/* Pushes what was found; false: nil, and no further format is read. */
static bool push(lua_State *L, const want *w, const look *k)
{
    if (w->kind != NUMBER) {
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

static _Noreturn void fail_over(lua_State *L, lunl_stream *s, const want *w,
                                size_t consumed)
{
    char text[LUNL_ADDR_TEXT];
    lunl_stream_text(s, text);
    if (w->kind == UNTIL)
        lunl_error_new(L, LUNL_LIMIT_OVERRUN_ERROR,
                       "read_until %s: no separator within %I bytes", text,
                       (LUAI_UACINT)w->n);
    else
        lunl_error_new(L, LUNL_LIMIT_OVERRUN_ERROR,
                       "read %s: the line is longer than %I bytes", text,
                       (LUAI_UACINT)s->limit);
    lua_pushinteger(L, (lua_Integer)consumed);
    lunl_error_set(L, lua_absindex(L, -2), "consumed");
    lua_error(L);
    abort();
}

static _Noreturn void fail_cut(lua_State *L, lunl_stream *s, const want *w, const look *k)
{
    char text[LUNL_ADDR_TEXT];
    lunl_error_new(L, LUNL_INCOMPLETE_READ_ERROR,
                   "read_until %s: the stream ended before the separator, after %I bytes",
                   lunl_stream_text(s, text), (LUAI_UACINT)k->n);
    lua_pushlstring(L, k->p, k->n);
    lunl_error_set(L, lua_absindex(L, -2), "partial");
    lua_pushlstring(L, w->sep, w->sep_len);
    lunl_error_set(L, lua_absindex(L, -2), "expected");
    lua_error(L);
    abort();
}

/*
 * A read in progress has its arguments at 1 .. base and its results behind them; the
 * context of its continuation is base * 4 + how the arguments are to be understood.
 */
enum call { FORMATS, CALL_SOME, CALL_UNTIL };

static const char *const call_name[] = {"read", "read_some", "read_until"};

static void check_format(lua_State *L, int arg, want *w)
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        w->kind = COUNT;
        w->n = (size_t)lunl_check_integer(L, arg, 0, LUA_MAXINTEGER);
        return;
    }
    if (lua_type(L, arg) != LUA_TSTRING)
        lunl_type_error(L, arg, "format or number of bytes");
    const char *f = lua_tostring(L, arg);
    switch (f[*f == '*']) {
    case 'l':
        w->kind = LINE;
        break;
    case 'L':
        w->kind = LINE_KEEP;
        break;
    case 'a':
        w->kind = ALL;
        break;
    case 'n':
        w->kind = NUMBER;
        break;
    default:
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "unknown format '%s'", f);
    }
}

/* The `i`th wish of a call whose arguments have been checked. */
static void wish(lua_State *L, const lunl_stream *s, enum call call, int i, want *w)
{
    *w = (want){0};
    if (call == FORMATS) {
        check_format(L, 2 + i, w);
    } else if (call == CALL_SOME) {
        w->kind = SOME;
        w->n = lua_isnil(L, 2) ? SOME_MAX : (size_t)lua_tointeger(L, 2);
    } else {
        w->kind = UNTIL;
        w->sep = lua_tolstring(L, 2, &w->sep_len);
        w->n = lua_isnil(L, 3) ? s->limit : (size_t)lua_tointeger(L, 3);
    }
}

static int on_readable(lua_State *L, int status, lua_KContext ctx);

static int wait_for_bytes(lua_State *L, lunl_state *S, lun_task *t, lunl_stream *s,
                          size_t need, lua_KContext ctx)
{
    lunl_conn *c = s->c;
    c->need = s->taken + need;
    if (!c->reading) {
        int err = c->via->start(c);
        if (err == UV_ENOMEM)
            lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
        if (err != 0)
            lunl_stream_fail(L, s, err, call_name[ctx & 3]);
        c->reading = true;
    }
    s->reader = true;
    lun_park_wait(&s->readers, t);
    return lunl_suspend(L, S, ctx, on_readable);
}

/* Goes on with the first wish that has no result yet. */
static int read_on(lua_State *L, lunl_state *S, lun_task *t, lunl_stream *s,
                   lua_KContext ctx)
{
    enum call call = ctx & 3;
    int base = (int)(ctx >> 2), n = call == FORMATS ? base - 1 : 1;
    for (int i = lua_gettop(L) - base; i < n; i++) {
        want w;
        look k = {0};
        wish(L, s, call, i, &w);
        bool goes_on = true;
        switch (look_for(s, &w, &k)) {
        case MORE:
            return wait_for_bytes(L, S, t, s, k.need, ctx);
        case GOT:
            goes_on = push(L, &w, &k);
            s->taken += k.use;
            s->searched = 0;
            break;
        case END:
            lua_pushnil(L);
            goes_on = false;
            break;
        case FAILED:
            lunl_stream_fail(L, s, s->c->read_error, call_name[call]);
        case OVER:
            fail_over(L, s, &w, k.give);
        case CUT:
            fail_cut(L, s, &w, &k);
        }
        if (!goes_on)
            break;
    }
    lunl_buffer_take(&s->c->h.loop->loop, &s->c->in, s->taken);
    return lua_gettop(L) - base;
}

static int on_readable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lua_touserdata(L, 1);
    lun_task *t = lunl_stream_resumed(L, S, s, &s->reader, call_name[ctx & 3]);
    return read_on(L, S, t, s, ctx);
}

/* Begins a read whose checked arguments are the whole stack. */
static int begin(lua_State *L, lunl_state *S, lunl_stream *s, enum call call)
{
    lua_KContext ctx = (lua_KContext)lua_gettop(L) << 2 | call;
    lun_task *t = lunl_enter(L, S);
    if (s->reader)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: another task is reading from this stream",
                   call_name[call]);
    luaL_checkstack(L, lua_gettop(L), "too many formats");
    s->taken = s->searched = 0;
    if (!lunl_gives_way(S))
        return read_on(L, S, t, s, ctx);
    s->reader = true;
    lun_task_yield(t);
    return lunl_suspend(L, S, ctx, on_readable);
}

static int read_formats(lua_State *L, lunl_state *S)
{
    lunl_stream *s = lunl_open_stream(L, S, "read");
    want w;
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    for (int i = 2; i <= lua_gettop(L); i++)
        check_format(L, i, &w);
    return begin(L, S, s, FORMATS);
}

/* --- stream:read(...) -> one value per format: "l" a line without its end (the default),
 * "L" with it, "a" all up to the end of the stream, "n" a number, an integer that many
 * bytes or, at the end, fewer. nil at the end of the stream, after which no further format
 * is read; "a" gives
 * "". A line over the stream's limit (64 KiB unless set) throws LimitOverrunError with the
 * field consumed; a failing connection OSError "read address: CODE", after all that had
 * arrived; a second reader RuntimeError. Suspends; cancelled or failed, it has consumed
 * nothing. */
static int l_read(lua_State *L)
{
    return read_formats(L, lunl_S(L));
}

/* --- stream:read_some(max) -> the bytes that are there, at least one, at most `max` (64
 * KiB if nil), or nil at the end of the stream. Throws as read does. Suspends until there
 * is a byte; cancelled, it has consumed nothing. */
static int l_read_some(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_open_stream(L, S, "read_some");
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        lunl_check_integer(L, 2, 1, LUA_MAXINTEGER);
    return begin(L, S, s, CALL_SOME);
}

/* --- stream:read_until(sep, max) -> all bytes up to and with the string `sep`, or nil at
 * the end of the stream. More than `max` bytes before it (the stream's limit if nil) throw
 * LimitOverrunError with the field consumed; the end of the stream before it throws
 * IncompleteReadError with the fields partial and expected. Suspends; cancelled or failed,
 * it has consumed nothing. */
static int l_read_until(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_open_stream(L, S, "read_until");
    size_t len;
    lua_settop(L, 3);
    lunl_check_string(L, 2, &len);
    if (len == 0)
        lunl_arg_error(L, 2, LUNL_VALUE_ERROR, "empty separator");
    if (!lua_isnil(L, 3))
        lunl_check_integer(L, 3, 0, LUA_MAXINTEGER);
    return begin(L, S, s, CALL_UNTIL);
}

/* --- iterator of stream:lines(...): one read with its formats. */
static int l_next(lua_State *L)
{
    int n = (int)lua_tointeger(L, lua_upvalueindex(3));
    lua_settop(L, 0);
    luaL_checkstack(L, n, "too many formats");
    for (int i = 0; i < n; i++)
        lua_pushvalue(L, lua_upvalueindex(4 + i));
    return read_formats(L, lunl_S(L));
}

/* --- stream:lines(...) -> an iterator that reads with these formats ("l" if none), at most
 * 200, each time it is called; a `for` loop over it ends at the end of the stream. Does not
 * suspend itself; the iterator does and throws as read does. */
static int l_lines(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    want w;
    int n = lua_gettop(L);
    lunl_open_stream(L, S, "lines");
    for (int i = 2; i <= n; i++)
        check_format(L, i, &w);
    if (n > 201)
        lunl_arg_error(L, 202, LUNL_VALUE_ERROR, "too many formats");
    luaL_checkstack(L, 4, NULL);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 2);
    lua_pushinteger(L, n);
    lua_insert(L, 3);
    lua_pushcclosure(L, l_next, 3 + n);
    return 1;
}

const luaL_Reg lunl_read_methods[] = {{"read", l_read},
                                      {"read_some", l_read_some},
                                      {"read_until", l_read_until},
                                      {"lines", l_lines},
                                      {NULL, NULL}};
