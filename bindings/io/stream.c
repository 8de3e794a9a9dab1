/* SPDX-License-Identifier: MIT */
/*
 * stream.c - the connection, the Lua object on top of it, and how the two part. The laws
 * are in stream.h; nothing here knows where the bytes come from.
 */
#include "stream.h"

#include <string.h>

const lunl_type lunl_stream_type = {"Stream"};

/* Law 1: whoever waits finds the object without a connection. */
static void part(lunl_conn *c)
{
    lunl_stream *s = c->box;
    if (!s)
        return;
    s->c = NULL;
    c->box = NULL;
    lun_park_grant_all(&s->readers);
    lun_park_grant_all(&s->writers);
}

static void conn_closing(lunl_handle *h)
{
    lunl_conn *c = (lunl_conn *)h;
    part(c);
    lunl_buffer_free(&h->loop->loop, &c->in);
}

/* A connection without an object is in the ring only because it still sends. */
static bool conn_lingers(lunl_handle *h)
{
    lunl_conn *c = (lunl_conn *)h;
    if (c->queued == 0 || c->write_error)
        return false;
    if (c->box)
        lunl_stream_close(c->box);
    return true;
}

static const lunl_handle_kind conn_kind = {conn_closing, NULL, conn_lingers};

lunl_conn *lunl_conn_new(lunl_loop *loop)
{
    return lunl_handle_new(loop, &conn_kind, sizeof(lunl_conn));
}

int lunl_conn_fd(const lunl_conn *c)
{
    uv_os_fd_t fd = -1;
    uv_fileno(&c->uv.handle, &fd);
    return fd;
}

lunl_stream *lunl_stream_push(lua_State *L, lunl_conn *c, const lunl_addr *peer,
                              size_t limit)
{
    lunl_stream *s = lunl_new(L, &lunl_stream_type, sizeof *s, 1);
    lunl_box_made(L, c->h.loop);
    lun_park_init(&s->readers, &c->h.loop->loop, NULL);
    lun_park_init(&s->writers, &c->h.loop->loop, NULL);
    s->peer = *peer;
    s->limit = limit;
    /* A finaliser that ran just now may have closed the server whose connection this is. */
    if (!c->h.closing) {
        s->c = c;
        c->box = s;
    }
    return s;
}

void lunl_stream_close(lunl_stream *s)
{
    lunl_conn *c = s->c;
    if (!c)
        return;
    part(c);
    if (c->queued == 0 || c->write_error) {
        lunl_handle_close(&c->h);
        return;
    }
    uv_read_stop(&c->uv.stream);
    c->reading = false;
    lunl_buffer_free(&c->h.loop->loop, &c->in);
}

lunl_stream *lunl_check_stream(lua_State *L)
{
    return lunl_check(L, 1, &lunl_stream_type);
}

lunl_stream *lunl_open_stream(lua_State *L, lunl_state *S, const char *what)
{
    lunl_stream *s = lunl_check_stream(L);
    if (!s->c) {
        char text[LUNL_ADDR_TEXT];
        lunl_addr_text(&s->peer, text);
        lunl_error_addr(L, UV_EBADF, what, text);
        lua_pushfstring(L, "%s %s: the stream is closed", what, text);
        lunl_error_set(L, lua_absindex(L, -2), "message");
        lua_error(L);
    }
    if (S->loop != s->c->h.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: the stream belongs to another event loop",
                   what);
    return s;
}

void lunl_stream_fail(lua_State *L, lunl_stream *s, int err, const char *what)
{
    char text[LUNL_ADDR_TEXT];
    lunl_error_addr(L, err, what, lunl_addr_text(&s->peer, text));
    lua_error(L);
    abort();
}

lun_task *lunl_stream_resumed(lua_State *L, lunl_state *S, lunl_stream *s, bool *busy,
                              const char *what)
{
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    *busy = false;
    if (interrupted)
        lunl_throw_cancelled(L, S);
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, what);
    return t;
}

/* --- stream:close() closes the stream; output that `write` accepted still goes out. A task
 * that waits in `read` or `write` gets OSError ECANCELED. Closing twice is harmless. Does
 * not suspend. Also called at the end of the block of a `<close>` variable. */
static int l_close(lua_State *L)
{
    lunl_stream_close(lunl_check_stream(L));
    return 0;
}

/* --- stream:__gc(): a stream that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    lunl_stream *s = lunl_test(L, 1, &lunl_stream_type);
    if (!s)
        return 0;
    lunl_orphan(&s->readers.base);
    lunl_orphan(&s->writers.base);
    lunl_loop *loop = s->c ? s->c->h.loop : NULL;
    lunl_stream_close(s);
    if (loop)
        lunl_box_dropped(L, loop, 1);
    return 0;
}

/* --- stream:peer() -> {host = , port = , family = "inet" or "inet6"}: the other end.
 * Throws OSError on a closed stream. Does not suspend. */
static int l_peer(lua_State *L)
{
    lunl_stream *s = lunl_open_stream(L, lunl_S(L), "peer");
    lunl_addr_push(L, &s->peer);
    return 1;
}

/* --- stream:sock() -> {host = , port = , family = "inet" or "inet6"}: this end. Throws
 * OSError on a closed stream. Does not suspend. */
static int l_sock(lua_State *L)
{
    lunl_stream *s = lunl_open_stream(L, lunl_S(L), "sock");
    struct sockaddr_storage sa;
    socklen_t size = sizeof sa;
    lunl_addr a;
    if (getsockname(lunl_conn_fd(s->c), (struct sockaddr *)&sa, &size) != 0)
        lunl_stream_fail(L, s, uv_translate_sys_error(errno), "sock");
    lunl_addr_set(&a, (const struct sockaddr *)&sa);
    lunl_addr_push(L, &a);
    return 1;
}

/* --- stream:__tostring() -> "<Stream open 127.0.0.1:80>" or "<Stream closed
 * 127.0.0.1:80>". */
static int l_tostring(lua_State *L)
{
    lunl_stream *s = lunl_check_stream(L);
    char text[LUNL_ADDR_TEXT];
    lua_pushfstring(L, "<Stream %s %s>", s->c ? "open" : "closed",
                    lunl_addr_text(&s->peer, text));
    return 1;
}

void lunl_open_stream_type(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"close", l_close}, {"peer", l_peer}, {"sock", l_sock}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_newtype(L, &lunl_stream_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_read_methods);
    lunl_register(L, lunl_write_methods);
    lua_pop(L, 2);
}
