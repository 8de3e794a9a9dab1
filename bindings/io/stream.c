/* SPDX-License-Identifier: MIT */
/*
 * stream.c - the Lua object on top of a connection, and how the two part. The laws are in
 * stream.h; nothing here knows where the bytes come from.
 */
#include "stream.h"
#include "tls.h"

#include <stddef.h>
#include <string.h>

const lunl_type lunl_stream_type = {"Stream"};

static const lunl_transport nowhere = {.name = "stream"};
static const lunl_stream gone = {.via = &nowhere,
                                 .readers = LUNL_NO_PARK(gone.readers),
                                 .writers = LUNL_NO_PARK(gone.writers)};

lunl_stream *lunl_stream_new(lua_State *L, lunl_loop *loop, const lunl_transport *via,
                             const lunl_addr *peer, size_t limit)
{
    size_t size = offsetof(lunl_stream, peer) + lunl_addr_room(peer);
    lunl_stream *s = lunl_box_new(L, loop, &lunl_stream_type, size, 1, &gone.core);
    lun_park_init(&s->readers, &loop->loop, NULL);
    lun_park_init(&s->writers, &loop->loop, NULL);
    s->via = via;
    lunl_addr_copy(&s->peer, peer);
    s->limit = limit;
    return s;
}

void lunl_stream_own(lunl_stream *s, lunl_conn *c)
{
    s->c = c;
    c->box = s;
    lunl_core_own(&s->core);
}

lunl_stream *lunl_stream_push(lua_State *L, lunl_conn *c, const lunl_addr *peer,
                              size_t limit)
{
    lunl_stream *s = lunl_stream_new(L, c->h.loop, c->via, peer, limit);
    /* A finaliser that ran just now may have closed the server whose connection this is. */
    if (!c->h.closing)
        lunl_stream_own(s, c);
    return s;
}

void lunl_stream_close(lunl_stream *s)
{
    lunl_conn *c = s->c;
    if (!c)
        return;
    if (c->via->part)
        c->via->part(c);
    lunl_conn_part(c);
    if (lunl_conn_spent(c))
        lunl_handle_close(&c->h);
    else
        lunl_conn_deafen(c);
}

const char *lunl_stream_text(const lunl_stream *s, char *buf)
{
    if (s->via->local)
        return lunl_addr_text(&s->peer, buf);
    return strcpy(buf, s->via->name);
}

lunl_stream *lunl_check_stream(lua_State *L)
{
    return lunl_check_box(L, 1, &lunl_stream_type);
}

lunl_stream *lunl_open_stream(lua_State *L, lunl_state *S, const char *what)
{
    return lunl_stream_opened(L, S, lunl_check_stream(L), what);
}

lunl_stream *lunl_stream_opened(lua_State *L, lunl_state *S, lunl_stream *s,
                                const char *what)
{
    char text[LUNL_ADDR_TEXT];
    if (!s->c || S->loop != s->c->h.loop)
        lunl_throw_unusable(L, !s->c, what, "stream", lunl_stream_text(s, text));
    return s;
}

void lunl_stream_fail(lua_State *L, lunl_stream *s, int err, const char *what)
{
    char text[LUNL_ADDR_TEXT];
    lunl_stream_text(s, text);
    if (s->c && s->c->via->push_error)
        s->c->via->push_error(L, s->c, err, what, text);
    else
        lunl_error_addr(L, err, what, text);
    lua_error(L);
    abort();
}

lun_task *lunl_stream_resumed(lua_State *L, lunl_state *S, lunl_stream *s, bool *busy,
                              const char *what)
{
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    if (s->c)
        *busy = false;
    if (interrupted)
        lunl_throw_cancelled(L, S);
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, what);
    return t;
}

/* --- stream:close() closes the stream; output that `write` accepted still goes out, and what
 * arrives meanwhile is dropped; a socket's is given up, by a reset, when for half a minute the
 * other end has taken nothing. A task that waits in `read` or `write` gets OSError
 * ECANCELED. Closing twice is harmless. Does not suspend. Also called at the end of the block
 * of a `<close>` variable. */
static int l_close(lua_State *L)
{
    lunl_stream_close(lunl_check_stream(L));
    return 0;
}

/* --- stream:__gc(): a stream that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    lunl_stream *s = lunl_test_box(L, 1, &lunl_stream_type);
    if (!s || s == &gone)
        return 0;
    lunl_orphan_park(L, &s->readers);
    lunl_orphan_park(L, &s->writers);
    lunl_loop *loop = s->c ? s->c->h.loop : NULL;
    lunl_stream_close(s);
    lunl_box_leave(L, &gone.core, loop);
    return 0;
}

/* What there is of an address where there is none. */
static int push_family(lua_State *L, const lunl_stream *s)
{
    lua_createtable(L, 0, 1);
    lua_pushstring(L, s->via->name);
    lua_setfield(L, -2, "family");
    return 1;
}

/* --- stream:peer() -> {host = , port = , family = "inet" or "inet6"}, or {path = , family = "unix"}
 * with pid, uid and gid: the other end; only {family = "memory"} or "pipe" for what has no address.
 * Throws OSError on a closed stream. Does not suspend. */
static int l_peer(lua_State *L)
{
    lunl_stream *s = lunl_open_stream(L, lunl_S(L), "peer");
    if (!s->via->local)
        return push_family(L, s);
    lunl_addr_push(L, &s->peer);
    return 1;
}

/* --- stream:sock() -> {host = , port = , family = "inet" or "inet6"}, or {path = , family = "unix"}:
 * this end; only {family = "memory"} or "pipe" for what has no address. Throws OSError on a closed
 * stream. Does not suspend. */
static int l_sock(lua_State *L)
{
    lunl_stream *s = lunl_open_stream(L, lunl_S(L), "sock");
    lunl_addr a;
    if (!s->via->local)
        return push_family(L, s);
    int err = s->via->local(s->c, &a);
    if (err != 0)
        lunl_stream_fail(L, s, err, "sock");
    lunl_addr_push(L, &a);
    return 1;
}

/* --- stream:__tostring() -> "<Stream open 127.0.0.1:80>" or "<Stream closed
 * 127.0.0.1:80>". */
static int l_tostring(lua_State *L)
{
    lunl_stream *s = lunl_check_stream(L);
    char text[LUNL_ADDR_TEXT];
    if (lunl_box_text(L))
        return 1;
    lua_pushfstring(L, "<Stream %s %s>", s->c ? "open" : "closed",
                    lunl_stream_text(s, text));
    return 1;
}

void lunl_open_stream_type(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"close", l_close}, {"peer", l_peer}, {"sock", l_sock}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    bool known = lua_rawgetp(L, LUA_REGISTRYINDEX, &lunl_stream_type) != LUA_TNIL;
    lua_pop(L, 1);
    if (known)
        return;
    lunl_newtype(L, &lunl_stream_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_copy_methods);
    lunl_register(L, lunl_read_methods);
    lunl_register(L, lunl_write_methods);
    lunl_register(L, lunl_tls_methods);
    lua_pop(L, 2);
}
