/* SPDX-License-Identifier: MIT */
/*
 * write.c - writing and half closing. What the transport takes at once is never copied; the
 * rest goes into one block of C memory that it works off, whatever becomes of the task. Above
 * the high-water mark the task waits, so a slow peer costs one write and the mark, no more.
 */
#include "stream.h"

#include <string.h>

enum {
    BUFS = 16 /* strings that are offered in one call */
};

/* The next strings from argument *i, byte *off, up to `last`. How many; *total: their
 * bytes. */
static unsigned gather(lua_State *L, int i, int last, size_t off, uv_buf_t *bufs,
                       size_t *total)
{
    unsigned n = 0;
    *total = 0;
    for (; i <= last && n < BUFS; i++, off = 0) {
        size_t len;
        const char *p = lua_tolstring(L, i, &len);
        if (len == off)
            continue;
        bufs[n].base = (char *)p + off;
        bufs[n++].len = len - off;
        *total += len - off;
    }
    return n;
}

/* Goes `n` bytes on in the strings from argument *i, byte *off. */
static void advance(lua_State *L, int *i, int last, size_t *off, size_t n)
{
    for (; *i <= last; ++*i, *off = 0) {
        size_t len = lua_rawlen(L, *i) - *off;
        if (n < len)
            break;
        n -= len;
    }
    *off += n;
}

static int send_whole(lunl_conn *c, lunl_output *o)
{
    size_t n = o->size;
    c->queued += n;
    int err = c->via->send(c, o);
    if (err != 0) {
        c->queued -= n;
        lunl_output_free(o);
    }
    return err;
}

/* With short I/O (lunl_short_io) an output for each piece. */
static int send_output(lunl_conn *c, lunl_output *o)
{
    size_t most = ((const lunl_io *)c->h.loop->io)->most_write, size = o->size;
    int err = 0;
    if (size <= most)
        return send_whole(c, o);
    for (size_t at = 0; err == 0 && at < size; at += most) {
        size_t n = size - at < most ? size - at : most;
        lunl_output *piece = lunl_output_new(c, n);
        if (piece)
            memcpy(piece->data, o->data + at, n);
        err = piece ? send_whole(c, piece) : UV_ENOMEM;
    }
    lunl_output_free(o);
    return err;
}

/* Copies what is left and hands it over. */
static int enqueue(lua_State *L, lunl_conn *c, int i, int last, size_t off)
{
    size_t n = 0;
    for (int k = i; k <= last; k++)
        n += lua_rawlen(L, k);
    n -= off;
    if (n == 0)
        return 0;
    lunl_output *o = lunl_output_new(c, n);
    if (!o)
        return UV_ENOMEM;
    char *to = o->data;
    for (; i <= last; i++, off = 0) {
        size_t len;
        const char *p = lua_tolstring(L, i, &len);
        memcpy(to, p + off, len - off);
        to += len - off;
    }
    return send_output(c, o);
}

int lunl_conn_write(lunl_conn *c, const char *p, size_t n, size_t *taken)
{
    *taken = 0;
    if (c->queued == 0) {
        uv_buf_t buf = {.base = (char *)p, .len = n};
        ssize_t sent = c->via->offer(c, &buf, 1);
        if (sent < 0 && sent != UV_EAGAIN)
            return (int)sent;
        *taken = sent > 0 ? (size_t)sent : 0;
    }
    size_t left = n - *taken;
    if (left == 0)
        return 0;
    lunl_output *o = lunl_output_new(c, left);
    if (!o)
        return UV_ENOMEM;
    memcpy(o->data, p + *taken, left);
    int err = send_output(c, o);
    if (err == 0)
        *taken = n;
    return err;
}

/* Takes all strings from 2 to `last`, now or into the queue. */
static int accept_all(lua_State *L, lunl_state *S, lunl_conn *c, int last)
{
    int i = 2;
    size_t off = 0, total;
    uv_buf_t bufs[BUFS];
    while (c->queued == 0) {
        unsigned n = gather(L, i, last, off, bufs, &total);
        if (n == 0)
            return 0;
        ssize_t sent = c->via->offer(c, bufs, n);
        if (sent == UV_EAGAIN)
            break;
        if (sent < 0)
            return (int)sent;
        advance(L, &i, last, &off, (size_t)sent);
        lunl_moved(S, (size_t)sent);
        if ((size_t)sent < total)
            break;
    }
    return enqueue(L, c, i, last, off);
}

enum phase {
    BEFORE, /* the queue is too long to take more */
    AFTER,  /* everything is taken, the queue is too long to go on */
};

static int write_on(lua_State *L, lunl_state *S, lun_task *t, lunl_stream *s,
                    enum phase at);

static int on_writable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_stream_at(L, 1);
    lun_task *t = lunl_stream_resumed(L, S, s, &s->writer, "write");
    return write_on(L, S, t, s, (enum phase)ctx);
}

static int write_on(lua_State *L, lunl_state *S, lun_task *t, lunl_stream *s, enum phase at)
{
    lunl_conn *c = s->c;
    if (c->write_error)
        lunl_stream_fail(L, s, c->write_error, "write");
    if (at == BEFORE && (c->queued == 0 || lunl_conn_weight(c) < c->high)) {
        int err = accept_all(L, S, c, lua_gettop(L));
        if (err != 0) {
            c->write_error = err;
            lunl_stream_fail(L, s, err, "write");
        }
        lua_settop(L, 1);
        at = AFTER;
        if (lunl_conn_weight(c) <= c->high)
            return 1;
    }
    if (at == AFTER && lunl_conn_weight(c) <= c->low)
        return 1;
    s->writer = true;
    lun_park_wait(&s->writers, t);
    return lunl_suspend(L, S, at, on_writable);
}

/* --- stream:write(...) -> stream: sends strings and numbers, in order. Suspends while more
 * than 64 KiB are waiting to be sent (in memory: what opts.capacity says). Cancelled, it throws
 * CancelledError, and what it has accepted still goes out: all arguments, unless the queue was
 * full before. Throws OSError "write address: CODE", also for a failure of an earlier write's
 * rest; RuntimeError if another task is writing or after shutdown(). */
static int l_write(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_open_stream(L, S, "write");
    int last = lua_gettop(L);
    for (int i = 2; i <= last; i++) {
        int type = lua_type(L, i);
        if (type != LUA_TSTRING && type != LUA_TNUMBER)
            lunl_type_error(L, i, "string");
        if (type == LUA_TNUMBER) {
            lua_tolstring(L, i, NULL);
            /* A finaliser that ran just now may have closed it. */
            lunl_stream_opened(L, S, s, "write");
        }
    }
    lun_task *t = lunl_enter(L, S);
    if (s->writer)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "write: another task is writing to this stream");
    if (s->shut)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "write: the stream was shut down for writing");
    if (!lunl_gives_way(S))
        return write_on(L, S, t, s, BEFORE);
    s->writer = true;
    lun_task_yield(t);
    return lunl_suspend(L, S, BEFORE, on_writable);
}

static int on_out(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_stream_at(L, 1);
    lun_task *t = lunl_stream_resumed(L, S, s, &s->writer, "shutdown");
    if (s->c->write_error)
        lunl_stream_fail(L, s, s->c->write_error, "shutdown");
    if (!s->c->shut_due)
        return 0;
    s->writer = true;
    lun_park_wait(&s->writers, t);
    return lunl_suspend(L, S, 0, on_out);
}

int lunl_stream_shut(lunl_stream *s, bool *later)
{
    lunl_conn *c = s->c;
    *later = !c->write_error && c->queued > 0;
    if (c->write_error)
        return c->write_error;
    bool again = s->shut;
    s->shut = true;
    if (*later)
        c->shut_due = true;
    if (*later || again)
        return 0;
    int err = c->via->half_close(c);
    *later = c->shut_due; /* a layer has last words of its own */
    return err;
}

/* --- stream:shutdown() half close: after all that was written the other end reads the end
 * of the stream; reading goes on. Suspends until the queue is out; cancelled, it throws
 * CancelledError and the half close still comes. Calling it twice is harmless. Throws
 * OSError "shutdown address: CODE", RuntimeError if another task is writing. */
static int l_shutdown(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_open_stream(L, S, "shutdown");
    lun_task *t = lunl_enter(L, S);
    bool later;
    if (s->writer)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "shutdown: another task is writing to this stream");
    lua_settop(L, 1);
    int err = lunl_stream_shut(s, &later);
    if (err != 0)
        lunl_stream_fail(L, s, err, "shutdown");
    if (!later)
        return 0;
    s->writer = true;
    lun_park_wait(&s->writers, t);
    return lunl_suspend(L, S, 0, on_out);
}

const luaL_Reg lunl_write_methods[] = {
    {"write", l_write}, {"shutdown", l_shutdown}, {NULL, NULL}};
