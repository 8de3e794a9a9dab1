/* SPDX-License-Identifier: MIT */
/*
 * server.c - the Server, and accepting. A connection is accepted by the task that asks for
 * it, in its own coroutine; libuv is asked to tell of the next one only while somebody
 * waits.
 */
#include "server.h"
#include "tls.h"

#include <string.h>
#include <unistd.h>

enum {
    BAD_PEERS = 64 /* connections in a row that had died before they could be accepted */
};

static const lunl_type server_type = {"Server"};

static const lunl_server gone = {.acceptors = LUNL_NO_PARK(gone.acceptors),
                                 .leavers = LUNL_NO_PARK(gone.leavers),
                                 .live = {(lun_link *)&gone.live, (lun_link *)&gone.live}};

static void part(lunl_listener *l)
{
    lunl_server *sv = l->box;
    if (!sv)
        return;
    sv->l = NULL;
    l->box = NULL;
    lun_park_grant_all(&sv->acceptors);
    lunl_core_drop(&sv->core);
}

static void listener_closing(lunl_handle *h)
{
    lunl_listener *l = (lunl_listener *)h;
    part(l);
    if (l->ready)
        lunl_handle_close(&l->ready->c.h);
}

/* Not before: libuv would name a number to the kernel that another thread may have by then. */
static void listener_parted(lunl_handle *h)
{
    lunl_listener *l = (lunl_listener *)h;
    struct stat now;
    /* Somebody may have put another file there, a server of his own above all. */
    if (l->made.st_ino && stat(l->file, &now) == 0 && now.st_ino == l->made.st_ino &&
        now.st_dev == l->made.st_dev)
        unlink(l->file);
    close(l->fd);
}

static const lunl_handle_kind listener_kind = {.closing = listener_closing,
                                               .parted = listener_parted};

void lunl_server_close(lunl_server *sv)
{
    if (sv->l)
        lunl_handle_close(&sv->l->h);
}

lunl_server *lunl_check_server(lua_State *L)
{
    return lunl_check_box(L, 1, &server_type);
}

lunl_server *lunl_open_server(lua_State *L, lunl_state *S, const char *what)
{
    lunl_server *sv = lunl_check_server(L);
    char text[LUNL_ADDR_TEXT];
    if (!sv->l || S->loop != sv->l->h.loop)
        lunl_throw_unusable(L, !sv->l, what, "server", lunl_addr_text(&sv->addr, text));
    return sv;
}

/* ---- listening ---- */

lunl_server *lunl_server_new(lua_State *L, lunl_loop *loop, const lunl_net_opts *opts)
{
    lunl_server *sv = lunl_box_new(L, loop, &server_type, sizeof *sv, 1, &gone.core);
    lun_park_init(&sv->acceptors, &loop->loop, NULL);
    lun_park_init(&sv->leavers, &loop->loop, NULL);
    lun_list_init(&sv->live);
    sv->opts = *opts;
    return sv;
}

int lunl_server_listen(lunl_server *sv, lunl_loop *loop, int fd, const char *file)
{
    struct sockaddr_storage sa;
    socklen_t size = sizeof sa;
    size_t name = file ? strlen(file) + 1 : 0;
    lunl_polls_forget(loop, fd);
    getsockname(fd, (struct sockaddr *)&sa, &size);
    lunl_addr_set(&sv->addr, (const struct sockaddr *)&sa, size);
    lunl_listener *l = lunl_handle_new(loop, &listener_kind, sizeof *l + name);
    int err = l ? uv_poll_init(loop->loop.uv, &l->poll, fd) : UV_ENOMEM;
    if (err != 0) {
        if (l)
            lunl_handle_discard(&l->h);
        close(fd);
        return err;
    }
    lunl_handle_opened(&l->h, (uv_handle_t *)&l->poll);
    l->fd = fd;
    l->box = sv;
    sv->l = l;
    lunl_core_own(&sv->core);
    if (file && stat(file, &l->made) == 0)
        memcpy(l->file, file, name);
    else
        l->made.st_ino = 0;
    return 0;
}

/* ---- accepting ---- */

/* Readable, or in trouble: either way an accept tells. Libuv is asked again by who still
 * waits. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    lunl_listener *l = poll->data;
    (void)events;
    if (status >= 0 && l->box && lun_park_grant(&l->box->acceptors))
        return;
    uv_poll_stop(poll);
    l->polling = false;
    if (l->box)
        lun_park_grant_all(&l->box->acceptors);
}

int lunl_server_wait(lunl_server *sv, lun_task *t)
{
    lunl_listener *l = sv->l;
    if (!l->polling) {
        int err = uv_poll_start(&l->poll, UV_READABLE, on_poll);
        if (err != 0)
            return err;
        l->polling = true;
    }
    lun_park_wait(&sv->acceptors, t);
    return 0;
}

/* Errors of the connection, which is dead already, not of the listening socket. */
static bool peer_failed(int e)
{
    switch (e) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    }
    return false;
}

/* Takes the next connection into l->ready: 0 or libuv's code. */
static int take(lunl_server *sv)
{
    lunl_listener *l = sv->l;
    for (int i = 0; i < BAD_PEERS; i++) {
        struct sockaddr_storage sa;
        socklen_t size = sizeof sa;
        int fd =
            accept4(l->fd, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (peer_failed(errno))
                continue;
            return uv_translate_sys_error(errno);
        }
        lunl_addr_set(&l->ready_peer, (const struct sockaddr *)&sa, size);
        lunl_addr_unmap(&l->ready_peer);
        return lunl_adopt(l->h.loop, fd, &l->ready_peer, sv->opts.nodelay, &l->ready);
    }
    return UV_EAGAIN;
}

int lunl_server_accept(lua_State *L, lunl_server *sv)
{
    lunl_listener *l = sv->l;
    if (!l->ready) {
        int err = take(sv);
        if (err == UV_EMFILE) {
            lunl_spare_descriptors(L, l->h.loop, 1);
            err = sv->l ? take(sv) : UV_ECANCELED;
        }
        if (err != 0) {
            sv->failed += err != UV_EAGAIN;
            return err;
        }
    }
    lunl_socket_marks(l->ready, sv->opts.high_water);
    lunl_stream_push(L, &l->ready->c, &l->ready_peer, sv->opts.limit);
    if (!sv->l) { /* a finaliser has closed the server, and the connection with it */
        lua_pop(L, 1);
        return UV_ECANCELED;
    }
    l->ready = NULL;
    sv->accepted++;
    return sv->tls ? lunl_tls_accepted(L, sv->tls) : 0;
}

static int accept_on(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv);

static int on_acceptable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lunl_server *sv = lunl_server_at(L, 1);
    lun_future *on;
    lun_task *t = lunl_resumed(L, S, &on);
    if (!sv->l)
        lunl_fail_at(L, &sv->addr, UV_ECANCELED, "accept");
    return accept_on(L, S, t, sv);
}

static int accept_on(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv)
{
    int err = lunl_server_accept(L, sv);
    if (err == 0)
        return 1;
    if (err == UV_EAGAIN)
        err = lunl_server_wait(sv, t);
    if (err != 0)
        lunl_fail_at(L, &sv->addr, err, "accept");
    return lunl_suspend(L, S, 0, on_acceptable);
}

/* --- server:accept() -> Stream: the next connection. Throws OSError "accept address:
 * CODE", ECANCELED if the server is closed meanwhile. Suspends; cancelled, no connection is
 * lost. */
static int l_accept(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_server *sv = lunl_open_server(L, S, "accept");
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, 1);
    if (!lunl_gives_way(S))
        return accept_on(L, S, t, sv);
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, on_acceptable);
}

/* --- server:address() -> {host = , port = , family = "inet" or "inet6"}, or {path = , family =
 * "unix"}: where it listens. Throws OSError on a closed server. Does not suspend. */
static int l_address(lua_State *L)
{
    lunl_addr_push(L, &lunl_open_server(L, lunl_S(L), "address")->addr);
    return 1;
}

/* --- server:stats() -> {accepted = , failed = , live = }: connections that were taken, attempts
 * to take one that failed (for want of descriptors, say: its client waits in the system's queue
 * and is not turned away), connections of `serve` that have not ended. Also on a closed server.
 * Does not suspend. */
static int l_stats(lua_State *L)
{
    lunl_server *sv = lunl_check_server(L);
    lua_Integer live = 0;
    lun_list_each(l, &sv->live)
        live++;
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)sv->accepted);
    lua_setfield(L, -2, "accepted");
    lua_pushinteger(L, (lua_Integer)sv->failed);
    lua_setfield(L, -2, "failed");
    lua_pushinteger(L, live);
    lua_setfield(L, -2, "live");
    return 1;
}

/* --- server:close() stops listening: new connections are refused, those that are there go
 * on, and `serve` returns when its last one has ended; a task in `accept` gets OSError
 * ECANCELED. The file of a Unix socket is removed, unless another one has taken its place.
 * Closing twice is harmless. Does not suspend. Also called at the end of the block of a `<close>`
 * variable. */
static int l_close(lua_State *L)
{
    lunl_server_close(lunl_check_server(L));
    return 0;
}

/* --- server:__gc(): a server that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    lunl_server *sv = lunl_test_box(L, 1, &server_type);
    if (!sv || sv == &gone)
        return 0;
    lunl_orphan_park(L, &sv->acceptors);
    lunl_orphan_park(L, &sv->leavers);
    lunl_loop *loop = sv->l ? sv->l->h.loop : NULL;
    lunl_server_close(sv);
    lunl_tls_drop(sv->tls);
    sv->tls = NULL;
    lunl_box_leave(L, &gone.core, loop);
    return 0;
}

/* --- server:__tostring() -> "<Server open 127.0.0.1:80>" or "<Server closed
 * 127.0.0.1:80>". */
static int l_tostring(lua_State *L)
{
    lunl_server *sv = lunl_check_server(L);
    char text[LUNL_ADDR_TEXT];
    if (lunl_box_text(L))
        return 1;
    lua_pushfstring(L, "<Server %s %s>", sv->l ? "open" : "closed",
                    lunl_addr_text(&sv->addr, text));
    return 1;
}

void lunl_open_server_type(lua_State *L)
{
    static const luaL_Reg methods[] = {{"accept", l_accept},
                                       {"address", l_address},
                                       {"close", l_close},
                                       {"stats", l_stats},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_newtype(L, &server_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_serve_methods);
    lunl_register(L, lunl_tls_server_methods);
    lua_pop(L, 2);
}
