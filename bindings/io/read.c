/* SPDX-License-Identifier: MIT */
/*
 * read.c - reading with Lua's formats. A read looks into the buffer; if that does not hold
 * enough it says how many bytes would be worth another look, and waits. Bytes are consumed
 * when the whole read has succeeded, so a cancelled or failed read loses none.
 */
#include "stream.h"

/*
 * A read in progress has its arguments at 1 .. base and its results behind them; the
 * context of its continuation is base * 4 + how the arguments are to be understood.
 */
enum call { FORMATS, CALL_SOME, CALL_UNTIL, CALL_PEEK };

static const char *const call_name[] = {"read", "read_some", "read_until", "peek"};

/* The `i`th wish of a call whose arguments have been checked. */
static void wish(lua_State *L, const lunl_stream *s, enum call call, int i, lunl_want *w)
{
    *w = (lunl_want){0};
    if (call == FORMATS) {
        lunl_check_format(L, 2 + i, w);
    } else if (call == CALL_SOME || call == CALL_PEEK) {
        w->kind = LUNL_SOME;
        w->n = lua_isnil(L, 2) ? LUNL_SOME_MAX : (size_t)lua_tointeger(L, 2);
    } else {
        w->kind = LUNL_UNTIL;
        w->sep = lua_tolstring(L, 2, &w->sep_len);
        w->n = lua_isnil(L, 3) ? s->limit : (size_t)lua_tointeger(L, 3);
    }
}

enum {
    PULLS =
        16 /* so often in a row a read takes more at once, then others have their turn */
};

static int on_readable(lua_State *L, int status, lua_KContext ctx);

void lunl_stream_wait(lua_State *L, lun_task *t, lunl_stream *s, size_t need,
                      const char *what)
{
    lunl_conn *c = s->c;
    lunl_buffer_settle(&c->h.loop->loop, &c->in);
    c->need = need > SIZE_MAX - s->taken ? SIZE_MAX : s->taken + need;
    if (!c->reading) {
        int err = c->via->start(c);
        if (err == UV_ENOMEM)
            lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
        if (err != 0)
            lunl_stream_fail(L, s, err, what);
        c->reading = true;
    }
    s->reader = true;
    lun_park_wait(&s->readers, t);
}

/* What the buffer holds for `w`, the next wish. */
static enum lunl_found look(lunl_stream *s, const lunl_want *w, lunl_look *k)
{
    const lunl_conn *c = s->c;
    *k = (lunl_look){.p = c->in.p + c->in.start + s->taken,
                     .n = lunl_buffer_size(&c->in) - s->taken,
                     .limit = s->limit,
                     .searched = s->searched,
                     .ended = c->eof,
                     .failed = c->read_error != 0};
    enum lunl_found found = lunl_look_for(w, k);
    s->searched = k->searched;
    return found;
}

/*
 * A string of `n` bytes was made. The collector's work grows with the number of objects, its pace
 * with their bytes: in a small heap through which much data flows it would do little else. There
 * three bytes of four in a big string are not counted.
 */
static void discount(lua_State *L, size_t n)
{
#if LUA_VERSION_NUM == 504
    enum { BIG = 8192, SMALL_HEAP = 4096 /* KiB */, MOST = 1 << 20 };
    if (n >= BIG && n <= MOST && lua_gc(L, LUA_GCCOUNT) < SMALL_HEAP &&
        lua_gc(L, LUA_GCISRUNNING))
        lua_gc(L, LUA_GCSTEP, -(int)(n / 1024 * 3 / 4));
#else
    (void)L;
    (void)n;
#endif
}

/* The wish that was granted; false: no further one is looked at. */
static bool take(lua_State *L, lunl_stream *s, enum call call, const lunl_want *w,
                 const lunl_look *k)
{
    bool goes_on = lunl_push_found(L, w, k);
    discount(L, k->give);
    /* A finaliser that ran just now may have closed the stream. */
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, call_name[call]);
    s->taken += k->use;
    s->searched = 0;
    return goes_on;
}

/* Goes on with the first wish that has no result yet. */
static int read_on(lua_State *L, lunl_state *S, lun_task *t, lunl_stream *s,
                   lua_KContext ctx)
{
    enum call call = ctx & 3;
    int base = (int)(ctx >> 2), n = call == FORMATS ? base - 1 : 1;
    bool goes_on = true;
    int pulls = 0;
    for (int i = lua_gettop(L) - base; goes_on && i < n;) {
        char text[LUNL_ADDR_TEXT];
        lunl_want w;
        lunl_look k;
        wish(L, s, call, i, &w);
        enum lunl_found found = look(s, &w, &k);
        switch (found) {
        case LUNL_MORE:
            if (pulls++ < PULLS && s->c->via->pull && s->c->via->pull(s->c))
                continue;
            lunl_stream_wait(L, t, s, k.need, call_name[call]);
            return lunl_suspend(L, S, ctx, on_readable);
        case LUNL_GOT:
            goes_on = take(L, s, call, &w, &k);
            i++;
            break;
        case LUNL_END:
            lua_pushnil(L);
            goes_on = false;
            break;
        case LUNL_FAILED:
            lunl_stream_fail(L, s, s->c->read_error, call_name[call]);
        default:
            lunl_throw_found(L, found, &w, &k, lunl_stream_text(s, text));
        }
    }
    if (call != CALL_PEEK)
        lunl_buffer_take(&s->c->h.loop->loop, &s->c->in, s->taken);
    lunl_buffer_settle(&s->c->h.loop->loop, &s->c->in);
    lunl_moved(S, s->taken);
    return lua_gettop(L) - base;
}

static int on_readable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_stream_at(L, 1);
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
    lunl_want w;
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    for (int i = 2; i <= lua_gettop(L); i++)
        lunl_check_format(L, i, &w);
    return begin(L, S, s, FORMATS);
}

/* --- stream:read(...) -> one value per format: "l" a line without its end (the default),
 * "L" with it, "a" all up to the end of the stream, "n" a number, an integer that many
 * bytes or, at the end, fewer. nil at the end of the stream, after which no further format
 * is read; "a" gives "". A line over the stream's limit (64 KiB unless set), and more blanks than
 * that in front of a number, throw LimitOverrunError with the field consumed; a failing connection
 * OSError "read address: CODE", after all that had arrived; a second reader RuntimeError. Suspends;
 * cancelled or failed, it has consumed nothing. */
static int l_read(lua_State *L)
{
    return read_formats(L, lunl_S(L));
}

static int read_some(lua_State *L, lunl_state *S, enum call call)
{
    lunl_stream *s = lunl_open_stream(L, S, call_name[call]);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        lunl_check_integer(L, 2, 1, LUA_MAXINTEGER);
    return begin(L, S, s, call);
}

/* --- stream:read_some(max) -> the bytes that are there, at least one, at most `max` (64
 * KiB if nil), or nil at the end of the stream. Throws as read does. Suspends until there
 * is a byte; cancelled, it has consumed nothing. */
static int l_read_some(lua_State *L)
{
    return read_some(L, lunl_S(L), CALL_SOME);
}

/* --- stream:peek(max) -> what read_some(max) would give, which stays there to be read. Throws and
 * suspends as that does. */
static int l_peek(lua_State *L)
{
    return read_some(L, lunl_S(L), CALL_PEEK);
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
    lunl_lines_args(L);
    return read_formats(L, lunl_S(L));
}

/* --- stream:lines(...) -> an iterator that reads with these formats ("l" if none), at most
 * 200, each time it is called; a `for` loop over it ends at the end of the stream. Does not
 * suspend itself; the iterator does and throws as read does. */
static int l_lines(lua_State *L)
{
    lunl_open_stream(L, lunl_S(L), "lines");
    return lunl_push_lines(L, l_next);
}

const luaL_Reg lunl_read_methods[] = {
    {"read", l_read}, {"read_some", l_read_some}, {"read_until", l_read_until},
    {"peek", l_peek}, {"lines", l_lines},         {NULL, NULL}};
