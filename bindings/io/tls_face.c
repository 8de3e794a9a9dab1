/* SPDX-License-Identifier: MIT */
/*
 * tls_face.c - TLS as scripts call it: connections and servers that begin with it, start_tls on a
 * stream that is there, waiting for the handshake. All waiting is one park: a task that waits for
 * the handshake is writer and reader of the stream until it is over.
 */
#include "oneway.h"
#include "server.h"
#include "tls.h"

#include <math.h>
#include <string.h>

/* ValueError unless there is a certificate to show. */
static void check_server(lua_State *L, int arg, const lunl_tls_config *config)
{
    if (!config->certified)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR,
                       "tls.cert: a server needs a certificate and its key");
}

/* Who waits: the context of the continuation is index of the stream * 4 + this. */
enum call { CALL_CONNECT, CALL_START, CALL_HANDSHAKE, CALL_SERVE };

static const char *const call_name[] = {"connect", "start_tls", "handshake", "handshake"};

/* ---- waiting ---- */

static int on_shaken(lua_State *L, int status, lua_KContext ctx);

/* A connection that its caller will never see is closed. */
static void let_go(lunl_stream *s, enum call call)
{
    if (call == CALL_CONNECT)
        lunl_stream_close(s);
}

/* Throws what the handshake has failed with. */
static _Noreturn void fail(lua_State *L, lunl_stream *s, enum call call)
{
    char text[LUNL_ADDR_TEXT];
    lunl_conn *c = s->c;
    int err = c->read_error ? c->read_error : c->write_error;
    c->via->push_error(L, c, err, call_name[call], lunl_stream_text(s, text));
    let_go(s, call);
    lua_error(L);
    abort();
}

/* The handler, at 1, runs with the stream. */
static int serve_stream(lua_State *L);

static int wait_on(lua_State *L, lunl_state *S, lun_task *t, lua_KContext ctx)
{
    int idx = (int)(ctx >> 2);
    enum call call = ctx & 3;
    lunl_stream *s = lunl_stream_at(L, idx);
    enum lunl_tls_state state = lunl_tls_state(lunl_tls_of(s->c));
    if (state == LUNL_TLS_BROKEN && call == CALL_SERVE)
        return 0;
    if (state == LUNL_TLS_BROKEN)
        fail(L, s, call);
    if (state == LUNL_TLS_OPEN) {
        if (call == CALL_SERVE)
            return serve_stream(L);
        lua_pushvalue(L, idx);
        return 1;
    }
    s->reader = s->writer = true;
    lun_park_wait(&s->writers, t);
    return lunl_suspend(L, S, ctx, on_shaken);
}

static int on_shaken(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    enum call call = ctx & 3;
    lunl_stream *s = lunl_stream_at(L, (int)(ctx >> 2));
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    if (s->c)
        s->reader = s->writer = false;
    if (interrupted) {
        let_go(s, call);
        lunl_throw_cancelled(L, S);
    }
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, call_name[call]);
    return wait_on(L, S, t, ctx);
}

/* ---- connections ---- */

/* Says that a function of net is called for what it does without TLS. */
static const char plainly = 0;

bool lunl_tls_asked(lua_State *L, int opts)
{
    if (lua_gettop(L) == opts + 1 && lua_touserdata(L, opts + 1) == &plainly) {
        lua_settop(L, opts);
        return false;
    }
    lua_settop(L, opts);
    if (!lunl_opt_table(L, opts))
        return false;
    lua_getfield(L, opts, "tls");
    bool asked = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return asked;
}

/* Calls the running function once more with its first `n` arguments, for one result at the top. */
static int call_plainly(lua_State *L, int n, lua_KContext ctx, lua_KFunction k)
{
    lua_Debug ar;
    lua_getstack(L, 0, &ar);
    lua_getinfo(L, "f", &ar);
    for (int i = 1; i <= n; i++)
        lua_pushvalue(L, i);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&plainly);
    lua_callk(L, n + 1, 1, ctx, k);
    return k(L, LUA_OK, ctx);
}

/* Behind the arguments, the last of which are the options. */
enum { NAME = 1, CONTEXT, DEADLINE, STREAM };

static int on_connected(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    int opts = (int)ctx, stream = opts + STREAM;
    lun_loop *loop = &S->loop->loop;
    lunl_tls_config *config = lunl_tls_push_context(L, opts, opts + CONTEXT);
    lunl_stream *s = lunl_stream_at(L, stream);
    uint64_t deadline = (uint64_t)lua_tointeger(L, opts + DEADLINE);
    uint64_t now = lun_loop_time(loop);
    double left = deadline > now ? (double)(deadline - now) / 1e9 : 0;
    const char *name = lua_tostring(L, opts + NAME);
    lua_settop(L, stream);
    lun_task *t = lunl_enter(L, S);
    bool late = deadline != LUN_NEVER && left < config->handshake_timeout;
    lunl_tls_start start = {.config = config,
                            .name = *name ? name : NULL,
                            .limit = late ? left : config->handshake_timeout,
                            .late = late};
    if (!s->c)
        lunl_stream_fail(L, s, UV_ECANCELED, "connect");
    if (lunl_tls_begin(s, &start) != 0) {
        lunl_stream_close(s);
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    }
    return wait_on(L, S, t, (lua_KContext)stream << 2 | CALL_CONNECT);
}

int lunl_tls_connect(lua_State *L, int opts, int host)
{
    double timeout = HUGE_VAL;
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    luaL_checkstack(L, 20, NULL);
    if (lunl_option(L, opts, "timeout", LUA_TNUMBER) != LUA_TNIL)
        timeout = lua_tonumber(L, -1);
    const char *expected = host && !lua_istable(L, host) ? lunl_check_host(L, host) : NULL;
    lua_settop(L, opts);
    lua_getfield(L, opts, "tls");
    lunl_tls_config *config = lunl_tls_push_context(L, opts, opts + 1);
    lunl_tls_push_name(L, opts, opts + 1, config, expected);
    lua_replace(L, opts + NAME);
    lua_settop(L, opts + CONTEXT);
    lua_pushinteger(L, (lua_Integer)lun_loop_deadline(&loop->loop, timeout));
    return call_plainly(L, opts, opts, on_connected);
}

/* --- stream:start_tls(opts) -> stream: from here on the bytes of the stream are encrypted; both
 * ends have to call it. opts: true, a TLSContext, or a table with the options of tls.context, or
 * with a `context`, and with
 *   server        true: this end is the server, and needs a certificate
 *   server_name   clients: whom the other end has to be; needed unless verify is false
 * What was written before still goes out in plain text; bytes that have arrived and were not read
 * are taken for TLS. Suspends until the handshake is over; cancelled, that goes on, and what is
 * written waits for it. Throws SSLError "start_tls address: reason" and OSError, after which
 * reading and writing throw the same; OSError EBADF, and nothing is sent, for a stream that goes one
 * way; RuntimeError if another task reads or writes, after shutdown(), and for a stream that has
 * TLS. */
static int l_start_tls(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_open_stream(L, S, "start_tls");
    lua_settop(L, 2);
    if (lua_isnil(L, 2))
        lunl_type_error(L, 2, "true, table or TLSContext");
    lunl_tls_start start = {0};
    if (lua_istable(L, 2))
        start.server = lunl_flag(L, 2, "server", false);
    start.config = lunl_tls_push_context(L, 2, 2);
    if (start.server)
        check_server(L, 2, start.config);
    else
        start.name = lunl_tls_push_name(L, 2, 2, start.config, NULL);
    start.name = start.name && *start.name ? start.name : NULL;
    start.limit = start.config->handshake_timeout;
    lun_task *t = lunl_enter(L, S);
    lunl_stream *s = lunl_open_stream(L, S, "start_tls");
    if (s->reader || s->writer)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "start_tls: another task is %s this stream",
                   s->reader ? "reading from" : "writing to");
    if (s->shut)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "start_tls: the stream was shut down for writing");
    if (s->c->layer)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "start_tls: the stream has TLS already");
    if (s->c->via->push_error == lunl_oneway_push_error)
        lunl_stream_fail(L, s, UV_EBADF, "start_tls");
    if (s->c->write_error)
        lunl_stream_fail(L, s, s->c->write_error, "start_tls");
    int err = lunl_tls_begin(s, &start);
    if (err != 0)
        lunl_throw_uv(L, err, "start_tls", NULL);
    return wait_on(L, S, t, 1 << 2 | CALL_START);
}

/* --- stream:handshake() -> stream: waits until the TLS handshake is over, which goes on by itself;
 * reading and writing wait for it, too. Throws SSLError "handshake address: reason", OSError;
 * RuntimeError if another task reads or writes, and for a stream without TLS. Suspends; cancelled,
 * the handshake goes on. */
static int l_handshake(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_stream *s = lunl_open_stream(L, S, "handshake");
    lua_settop(L, 1);
    lun_task *t = lunl_enter(L, S);
    if (!lunl_tls_of(s->c))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "handshake: the stream has no TLS");
    if (s->reader || s->writer)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "handshake: another task is %s this stream",
                   s->reader ? "reading from" : "writing to");
    return wait_on(L, S, t, 1 << 2 | CALL_HANDSHAKE);
}

/* The SSL of the stream at 1 once its handshake is over; NULL: there is no TLS. */
static SSL *established(lua_State *L, const char *what)
{
    const lunl_stream *s = lunl_open_stream(L, lunl_S(L), what);
    const lunl_tls *t = lunl_tls_of(s->c);
    if (!t)
        return NULL;
    if (lunl_tls_state(t) == LUNL_TLS_SHAKING)
        lunl_throw(L, LUNL_INVALID_STATE_ERROR, "%s: the handshake is not over", what);
    return lunl_tls_ssl(t);
}

/* --- stream:tls() -> {version = "TLSv1.3", cipher = , bits = , alpn = , server_name = , server = ,
 * resumed = , verified = } or nil without TLS. alpn: the protocol chosen, server_name: what the
 * client has asked for, or nil; verified: the peer has shown a certificate and it was checked.
 * Throws InvalidStateError before the handshake is over, OSError on a closed stream. Does not
 * suspend. */
static int l_tls(lua_State *L)
{
    SSL *ssl = established(L, "tls");
    if (!ssl)
        return 0;
    lunl_tls_push_info(L, ssl);
    return 1;
}

/* --- stream:peer_certificate() -> {subject = , issuer = , serial = , san = {"DNS:example.com", "IP
 * Address:127.0.0.1", ...}, not_before = , not_after = , fingerprint = , pem = } or nil: what the
 * other end has shown. Times are seconds since the epoch, the fingerprint is SHA-256 in hex.
 * Throws InvalidStateError before the handshake is over, OSError on a closed stream. Does not
 * suspend. */
static int l_peer_certificate(lua_State *L)
{
    lunl_open_stream(L, lunl_S(L), "peer_certificate");
    lunl_tls_reading *r = lunl_tls_new_reading(L);
    SSL *ssl = established(L, "peer_certificate");
    return ssl && lunl_tls_push_peer(L, r, ssl) ? 1 : 0;
}

const luaL_Reg lunl_tls_methods[] = {{"start_tls", l_start_tls},
                                     {"handshake", l_handshake},
                                     {"tls", l_tls},
                                     {"peer_certificate", l_peer_certificate},
                                     {NULL, NULL}};

/* ---- servers ---- */

/* The server on top has the context at opts + 1. */
static int on_listening(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    int opts = (int)ctx;
    lunl_server *sv = lunl_server_at(L, -1);
    sv->tls = lunl_tls_push_context(L, opts, opts + 1);
    sv->tls->refs++;
    lua_pop(L, 1);
    return 1;
}

int lunl_tls_listen(lua_State *L, int opts)
{
    luaL_checkstack(L, 20, NULL);
    lua_getfield(L, opts, "tls");
    check_server(L, opts, lunl_tls_push_context(L, opts, opts + 1));
    lua_replace(L, opts + 1);
    return call_plainly(L, opts, opts, on_listening);
}

int lunl_tls_accepted(lua_State *L, lunl_tls_config *config)
{
    lunl_stream *s = lunl_stream_at(L, -1);
    lunl_tls_start start = {
        .config = config, .server = true, .limit = config->handshake_timeout};
    int err = s->c ? lunl_tls_begin(s, &start) : 0;
    if (err != 0) {
        lunl_stream_close(s);
        lua_pop(L, 1);
    }
    return err;
}

/* The handler at 1 runs with the stream at 2. */
static int on_served(lua_State *L, int status, lua_KContext ctx)
{
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

static int serve_stream(lua_State *L)
{
    lua_settop(L, 2);
    lua_callk(L, 1, 0, 0, on_served);
    return 0;
}

/* --- (handler, stream): the task of a connection that is served: the handshake, then the handler.
 * A handshake that fails is the peer's affair. */
static int l_serve(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lunl_stream *s = lunl_stream_at(L, 2);
    if (!s->c)
        return 0;
    return wait_on(L, S, t, 2 << 2 | CALL_SERVE);
}

bool lunl_tls_push_serve(lua_State *L)
{
    static const luaL_Reg functions[] = {{"serve", l_serve}, {NULL, NULL}};
    lua_createtable(L, 0, 1);
    lunl_register(L, functions);
    lua_getfield(L, -1, "serve");
    lua_replace(L, -2);
    return true;
}

/* --- server:reload(tls): connections that come from here on get this context, what `listen` takes
 * as its option `tls`; those that are there keep theirs. Throws as listen does, then nothing has
 * changed; RuntimeError for a server without TLS. Does not suspend. */
static int l_reload(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_open_server(L, S, "reload");
    lua_settop(L, 2);
    lunl_tls_config *config = lunl_tls_push_context(L, 2, 2);
    check_server(L, 2, config);
    lunl_server *sv = lunl_open_server(L, S, "reload");
    if (!sv->tls)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "reload: the server has no TLS");
    config->refs++;
    lunl_tls_drop(sv->tls);
    sv->tls = config;
    return 0;
}

const luaL_Reg lunl_tls_server_methods[] = {{"reload", l_reload}, {NULL, NULL}};

int luaopen_lunation_tls(lua_State *L)
{
    static const luaL_Reg functions[] = {{"context", lunl_tls_context}, {NULL, NULL}};
    lunl_open_tls_context(L);
    lua_createtable(L, 0, 1);
    lunl_register(L, functions);
    return 1;
}
