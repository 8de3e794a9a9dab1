/* SPDX-License-Identifier: MIT */
/*
 * copy.c - from a stream to another stream, or to what has a method `write`. Between two streams
 * no string is made: what lies in the source's buffer is offered to the destination, and what
 * that has accepted is taken out of the buffer. So whatever ends a copy early, a cancel or an error
 * of either side, each byte is either accepted or can still be read.
 */
#include "stream.h"

/* A copy in progress has these on its stack; its context has the bits below. */
enum { SOURCE = 1, DEST, MOST, COPIED, WRITE, PIECE };

enum {
    SHUTDOWN = 1, /* the destination is half closed behind the end */
    FLUSHING = 2  /* the end has come, and the half close is to follow its queue */
};

enum {
    ROUNDS = 16 /* pieces in a row; then others have their turn */
};

static lunl_stream *source(lua_State *L)
{
    return lunl_stream_at(L, SOURCE);
}

/* NULL: it is no stream of ours. */
static lunl_stream *dest(lua_State *L)
{
    return lua_isnil(L, WRITE) ? lunl_stream_at(L, DEST) : NULL;
}

/* Bytes that are there and may be copied. */
static size_t at_hand(lua_State *L)
{
    size_t n = lunl_buffer_size(&source(L)->c->in);
    size_t left = (size_t)(lua_tointeger(L, MOST) - lua_tointeger(L, COPIED));
    return n < left ? n : left;
}

/* The destination has accepted `n` bytes. */
static void accepted(lua_State *L, size_t n)
{
    lunl_conn *c = source(L)->c;
    lunl_buffer_take(&c->h.loop->loop, &c->in, n);
    lua_pushinteger(L, lua_tointeger(L, COPIED) + (lua_Integer)n);
    lua_replace(L, COPIED);
}

/* Nobody else may use the two while it waits. */
static void occupy(lua_State *L, bool busy)
{
    lunl_stream *s = source(L), *d = dest(L);
    if (s->c)
        s->reader = busy;
    if (d && d->c)
        d->writer = busy;
}

static int copy_on(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx);

static int on_resumed(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_stream *s = source(L), *d = dest(L);
    occupy(L, false);
    lun_task *t = lunl_stream_resumed(L, S, s, &s->reader, "read");
    if (d && !d->c)
        lunl_stream_fail(L, d, UV_ECANCELED, "write");
    return copy_on(L, S, t, ctx);
}

static int give_way(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    occupy(L, true);
    lun_task_yield(t);
    return lunl_suspend(L, S, ctx, on_resumed);
}

static int wait_for_room(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    occupy(L, true);
    lun_park_wait(&dest(L)->writers, t);
    return lunl_suspend(L, S, ctx, on_resumed);
}

static int wait_for_bytes(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    lunl_stream_wait(L, t, source(L), 1, "read");
    occupy(L, true);
    return lunl_suspend(L, S, ctx, on_resumed);
}

/* All was accepted: now the half close, if one is wanted. */
static int end(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    lunl_stream *d = dest(L);
    if (d && (ctx & SHUTDOWN)) {
        bool later = d->c->shut_due;
        int err = ctx & FLUSHING ? d->c->write_error : lunl_stream_shut(d, &later);
        if (err != 0)
            lunl_stream_fail(L, d, err, "shutdown");
        if (later)
            return wait_for_room(L, S, t, ctx | FLUSHING);
    }
    lua_settop(L, COPIED);
    return 1;
}

enum step { MOVED, EMPTY, FULL, ENDED };

/* From a stream to a stream. */
static enum step move(lua_State *L)
{
    lunl_stream *s = source(L), *d = dest(L);
    lunl_conn *to = d->c;
    size_t n = at_hand(L), taken = 0;
    if (to->write_error)
        lunl_stream_fail(L, d, to->write_error, "write");
    if (to->queued > 0 && lunl_conn_weight(to) >= to->high)
        return FULL;
    if (n == 0)
        return EMPTY;
    int err = lunl_conn_write(to, s->c->in.p + s->c->in.start, n, &taken);
    accepted(L, taken);
    if (err != 0) {
        to->write_error = err;
        lunl_stream_fail(L, d, err, "write");
    }
    return lunl_conn_weight(to) > to->high ? FULL : MOVED;
}

/* The destination's `write` has returned or thrown. */
static void written(lua_State *L, int status)
{
    lunl_stream *s = source(L);
    if (s->c)
        s->reader = false;
    if (status != LUA_OK && status != LUA_YIELD)
        lua_error(L);
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, "read");
    accepted(L, (size_t)lua_tointeger(L, PIECE));
    lua_settop(L, WRITE);
}

static int on_written(lua_State *L, int status, lua_KContext ctx)
{
    written(L, status);
    lunl_state *S = lunl_S(L);
    return copy_on(L, S, &S->task->t, ctx);
}

/* From a stream to a method; what that has not accepted for sure stays in the buffer. */
static enum step call_write(lua_State *L, lua_KContext ctx)
{
    lunl_stream *s = source(L);
    size_t n = at_hand(L);
    if (n == 0)
        return EMPTY;
    if (n > LUNL_SOME_MAX)
        n = LUNL_SOME_MAX;
    lua_pushinteger(L, (lua_Integer)n);
    lua_pushvalue(L, WRITE);
    lua_pushvalue(L, DEST);
    lua_pushlstring(L, s->c->in.p + s->c->in.start, n);
    /* A finaliser that ran just now may have closed the stream. */
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, "read");
    s->reader = true;
    written(L, lua_pcallk(L, 2, 0, 0, ctx, on_written));
    return MOVED;
}

/* Nothing is there that may be copied. */
static enum step look_for_more(lua_State *L)
{
    lunl_stream *s = source(L);
    lunl_conn *c = s->c;
    if (c->eof || lua_tointeger(L, MOST) == lua_tointeger(L, COPIED))
        return ENDED;
    if (c->read_error)
        lunl_stream_fail(L, s, c->read_error, "read");
    return c->via->pull && c->via->pull(c) ? MOVED : EMPTY;
}

static int copy_on(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    if (ctx & FLUSHING)
        return end(L, S, t, ctx);
    for (int rounds = 0; rounds < ROUNDS; rounds++) {
        enum step step = dest(L) ? move(L) : call_write(L, ctx);
        if (step == FULL)
            return wait_for_room(L, S, t, ctx);
        if (step == EMPTY)
            step = look_for_more(L);
        if (step == EMPTY)
            return wait_for_bytes(L, S, t, ctx);
        if (step == ENDED) {
            lunl_conn *c = source(L)->c;
            lunl_buffer_settle(&c->h.loop->loop, &c->in);
            return end(L, S, t, c->eof && lunl_buffer_size(&c->in) == 0 ? ctx : 0);
        }
    }
    return give_way(L, S, t, ctx);
}

/* The arguments, checked, and what else a copy has on its stack; the bits of its context. */
static lua_KContext arguments(lua_State *L, lunl_state *S)
{
    lunl_stream *d = lunl_test_box(L, DEST, &lunl_stream_type);
    lua_Integer most = LUA_MAXINTEGER;
    bool shutdown = false;
    lua_settop(L, 3);
    if (lunl_opt_table(L, 3)) {
        if (lunl_option(L, 3, "max", LUA_TNONE) != LUA_TNIL) {
            int is = 0;
            most = lua_tointegerx(L, -1, &is);
            if (!is || most < 0)
                lunl_arg_error(L, 3, LUNL_TYPE_ERROR,
                               "field 'max': a number of bytes expected");
        }
        lunl_option(L, 3, "shutdown", LUA_TBOOLEAN);
        shutdown = lua_toboolean(L, -1);
    }
    lua_settop(L, DEST);
    lua_pushinteger(L, most);
    lua_pushinteger(L, 0);
    if (d) {
        lunl_stream_opened(L, S, d, "copy_to");
        lua_pushnil(L);
    } else {
        if (lua_type(L, DEST) != LUA_TTABLE && lua_type(L, DEST) != LUA_TUSERDATA)
            lunl_type_error(L, DEST, "Stream or object with a method write");
        lua_getfield(L, DEST, "write");
        if (!lunl_callable(L, WRITE))
            lunl_type_error(L, DEST, "Stream or object with a method write");
        if (shutdown)
            lunl_arg_error(L, 3, LUNL_VALUE_ERROR, "field 'shutdown': only for a Stream");
    }
    return shutdown ? SHUTDOWN : 0;
}

/* --- stream:copy_to(dest, opts) -> bytes copied: passes on what the stream brings up to its end.
 * `dest` is a Stream or an object with a method write, which is called with one string at a time
 * and may suspend. opts: max (bytes, then it ends, too), shutdown (true: behind the end of the
 * stream `dest`, a Stream, is half closed, as its shutdown does). Nobody else may read the
 * stream or write to that meanwhile. Suspends; it holds what a write to `dest` may queue and one
 * chunk. Throws OSError "read address: CODE" and "write address: CODE" for the two sides, what
 * dest:write throws, and RuntimeError if another task reads or writes there. However it ends, what
 * `dest` has not accepted can still be read, a string whose dest:write has thrown included. A
 * `dest` that is closed, or fails, while no bytes come is noticed with the next ones. */
static int l_copy_to(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_open_stream(L, S, "copy_to");
    lua_KContext ctx = arguments(L, S);
    lunl_stream *d = dest(L);
    lun_task *t = lunl_enter(L, S);
    /* What looked for the method may have closed it. */
    lunl_stream_opened(L, S, s, "copy_to");
    if (s->reader)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "copy_to: another task is reading from this stream");
    if (d && d->writer)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "copy_to: another task is writing to the other");
    if (d && d->shut)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "copy_to: the other was shut down for writing");
    s->taken = s->searched = 0;
    return lunl_gives_way(S) ? give_way(L, S, t, ctx) : copy_on(L, S, t, ctx);
}

const luaL_Reg lunl_copy_methods[] = {{"copy_to", l_copy_to}, {NULL, NULL}};
