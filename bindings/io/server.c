/* SPDX-License-Identifier: MIT */
/*
 * server.c - listening and accepting. A connection is accepted by the task that asks for
 * it, in its own coroutine; libuv is asked to tell of the next one only while somebody
 * waits.
 */
#include "server.h"

#include <string.h>
#include <unistd.h>

enum {
    BACKLOG = 128,
    BAD_PEERS = 64 /* connections in a row that had died before they could be accepted */
};

static const lunl_type server_type = {"Server"};

static void part(lunl_listener *l)
{
    lunl_server *sv = l->box;
    if (!sv)
        return;
    sv->l = NULL;
    l->box = NULL;
    lun_park_grant_all(&sv->acceptors);
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
    close(((lunl_listener *)h)->fd);
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
    return lunl_check(L, 1, &server_type);
}

static _Noreturn void fail(lua_State *L, const lunl_addr *addr, int err, const char *what)
{
    char text[LUNL_ADDR_TEXT];
    lunl_error_addr(L, err, what, lunl_addr_text(addr, text));
    lua_error(L);
    abort();
}

lunl_server *lunl_open_server(lua_State *L, lunl_state *S, const char *what)
{
    lunl_server *sv = lunl_check_server(L);
    if (!sv->l) {
        char text[LUNL_ADDR_TEXT];
        lunl_addr_text(&sv->addr, text);
        lunl_error_addr(L, UV_EBADF, what, text);
        lua_pushfstring(L, "%s %s: the server is closed", what, text);
        lunl_error_set(L, -2, "message");
        lua_error(L);
    }
    if (S->loop != sv->l->h.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: the server belongs to another event loop",
                   what);
    return sv;
}

/* ---- listening ---- */

/* A socket that listens, its number in *fd: 0, or libuv's code with the call that failed.
 */
static int open_socket(const lunl_addr *addr, bool dual, bool share, int backlog, int *fd,
                       const char **call)
{
    int on = 1, off = 0, err;
    *call = "socket";
    *fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return uv_translate_sys_error(errno);
    *call = "bind";
    if (setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        goto failed;
    if (share && setsockopt(*fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        goto failed;
    if (addr->sa.sa_family == AF_INET6 &&
        setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, dual ? &off : &on, sizeof on) != 0)
        goto failed;
    if (bind(*fd, &addr->sa, lunl_addr_size(addr)) != 0)
        goto failed;
    *call = "listen";
    if (listen(*fd, backlog) == 0)
        return 0;
failed:
    err = uv_translate_sys_error(errno);
    close(*fd);
    return err;
}

/* What listen() was asked for. */
typedef struct request {
    lun_op op; /* first */
    uv_getaddrinfo_t req;
    lunl_loop *loop;
    lunl_net_opts opts;
    int port, backlog;
    bool share, dual;
    int error; /* the first one, with call and address */
    const char *call;
    lunl_addr bad;
} request;

/* Pushes a server at `addr`; false: it could not be, the first error is noted. */
static bool try_listen(lua_State *L, request *r, const lunl_addr *addr)
{
    int fd;
    const char *call;
    lunl_server *sv = lunl_new(L, &server_type, sizeof *sv, 1);
    lun_park_init(&sv->acceptors, &r->loop->loop, NULL);
    lun_park_init(&sv->leavers, &r->loop->loop, NULL);
    lun_list_init(&sv->live);
    lunl_box_made(L, r->loop);
    sv->opts = r->opts;
    int err = open_socket(addr, r->dual, r->share, r->backlog, &fd, &call);
    if (err == 0) {
        struct sockaddr_storage sa;
        socklen_t size = sizeof sa;
        lunl_polls_forget(r->loop, fd);
        getsockname(fd, (struct sockaddr *)&sa, &size);
        lunl_addr_set(&sv->addr, (const struct sockaddr *)&sa);
        lunl_listener *l = lunl_handle_new(r->loop, &listener_kind, sizeof *l);
        err = l ? uv_poll_init(r->loop->loop.uv, &l->poll, fd) : UV_ENOMEM;
        if (err == 0) {
            lunl_handle_opened(&l->h, (uv_handle_t *)&l->poll);
            l->fd = fd;
            l->box = sv;
            sv->l = l;
            return true;
        }
        if (l)
            lunl_handle_discard(&l->h);
        close(fd);
    }
    if (r->error == 0) {
        r->error = err;
        r->call = call;
        r->bad = *addr;
    }
    lua_pop(L, 1);
    return false;
}

static void request_abort(lun_op *op)
{
    uv_cancel((uv_req_t *)&((request *)op)->req);
}

static void request_fini(lun_op *op)
{
    uv_freeaddrinfo(((request *)op)->req.addrinfo);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    (void)found; /* req->addrinfo */
    lun_op_done(&lun_container(req, request, req)->op, status);
}

static int request_push(lua_State *L, lun_op *op)
{
    request *r = (request *)op;
    for (const struct addrinfo *ai = r->req.addrinfo; ai; ai = ai->ai_next) {
        lunl_addr addr;
        lunl_addr_set(&addr, ai->ai_addr);
        if (addr.sa.sa_family == AF_UNSPEC)
            continue;
        lunl_addr_set_port(&addr, r->port);
        if (try_listen(L, r, &addr))
            return 1;
    }
    fail(L, &r->bad, r->error ? r->error : UV_EAI_NODATA,
         r->error ? r->call : "getaddrinfo");
}

static const lunl_op_kind request_kind = {
    {{"getaddrinfo", lun_op_cancel_kind}, request_abort, request_fini},
    request_push,
    "getaddrinfo"};

static void listen_options(lua_State *L, int arg, request *r)
{
    bool given = lunl_opt_table(L, arg);
    lunl_net_options(L, arg, given, &r->opts);
    r->backlog = BACKLOG;
    if (!given)
        return;
    r->share = lunl_flag(L, arg, "reuse_port", false);
    r->backlog = (int)lunl_integer_option(L, arg, "backlog", 1, 65535, BACKLOG);
}

/* Every address of this machine, by one socket for both families if there are both. */
static int listen_everywhere(lua_State *L, request *r)
{
    lunl_addr addr;
    lunl_addr_parse(&addr, "::", r->port);
    r->dual = true;
    if (try_listen(L, r, &addr))
        return 1;
    r->error = 0;
    lunl_addr_parse(&addr, "0.0.0.0", r->port);
    if (try_listen(L, r, &addr))
        return 1;
    fail(L, &r->bad, r->error, r->call);
}

/* --- net.listen(host, port, opts) -> Server: listens for TCP connections. host: a numeric
 * address, a name (the first of its addresses that works), or nil, "" or "*" for all of
 * this machine; port 0: any free one. opts: backlog (128), reuse_port (false); nodelay
 * (true) and limit (65536 bytes of a line) of the accepted streams. Throws OSError "bind
 * address: CODE" or "getaddrinfo host: CODE". Suspends only to look up a name, safe to
 * cancel. */
static int l_listen(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    request fields = {.port = 0};
    const char *host = lua_isnoneornil(L, 1) ? "" : lunl_check_host(L, 1);
    fields.port = (int)lunl_check_integer(L, 2, 0, 65535);
    listen_options(L, 3, &fields);
    fields.loop = lunl_running_loop(L, S);
    lunl_io_of(L, fields.loop);
    lua_settop(L, 2);
    if (*host == '\0' || strcmp(host, "*") == 0)
        return listen_everywhere(L, &fields);
    lunl_addr addr;
    if (lunl_addr_parse(&addr, host, fields.port)) {
        if (!try_listen(L, &fields, &addr))
            fail(L, &fields.bad, fields.error, fields.call);
        return 1;
    }
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                          .ai_flags = AI_PASSIVE};
    lunl_enter(L, S);
    request *r = lunl_op_new(L, fields.loop, &request_kind, sizeof *r);
    r->loop = fields.loop;
    r->opts = fields.opts;
    r->port = fields.port;
    r->backlog = fields.backlog;
    r->share = fields.share;
    int err = uv_getaddrinfo(r->loop->loop.uv, &r->req, on_resolved, host, NULL, &hints);
    return lunl_op_await(L, S, &r->op, err, 1);
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

/* A descriptor becomes a connection: 0, or libuv's code and the descriptor is closed. */
static int adopt(lunl_server *sv, int fd)
{
    lunl_loop *loop = sv->l->h.loop;
    lunl_socket *socket = lunl_socket_new(loop);
    int err = socket ? uv_tcp_init(loop->loop.uv, &socket->uv.tcp) : UV_ENOMEM;
    if (err != 0) {
        if (socket)
            lunl_handle_discard(&socket->c.h);
        close(fd);
        return err;
    }
    lunl_handle_opened(&socket->c.h, &socket->uv.handle);
    lunl_polls_forget(loop, fd);
    err = uv_tcp_open(&socket->uv.tcp, fd);
    if (err != 0) {
        lunl_handle_close(&socket->c.h);
        close(fd);
        return err;
    }
    if (sv->opts.nodelay)
        uv_tcp_nodelay(&socket->uv.tcp, 1);
    sv->l->ready = socket;
    return 0;
}

int lunl_server_accept(lua_State *L, lunl_server *sv)
{
    lunl_listener *l = sv->l;
    for (int i = 0; !l->ready && i < BAD_PEERS; i++) {
        struct sockaddr_storage sa;
        socklen_t size = sizeof sa;
        int fd =
            accept4(l->fd, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (peer_failed(errno))
                continue;
            return uv_translate_sys_error(errno);
        }
        lunl_addr_set(&l->ready_peer, (const struct sockaddr *)&sa);
        int err = adopt(sv, fd);
        if (err != 0)
            return err;
    }
    if (!l->ready)
        return UV_EAGAIN;
    lunl_stream_push(L, &l->ready->c, &l->ready_peer, sv->opts.limit);
    if (!sv->l) { /* a finaliser has closed the server, and the connection with it */
        lua_pop(L, 1);
        return UV_ECANCELED;
    }
    l->ready = NULL;
    return 0;
}

static int accept_on(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv);

static int on_acceptable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lunl_server *sv = lua_touserdata(L, 1);
    lun_future *on;
    lun_task *t = lunl_resumed(L, S, &on);
    if (!sv->l)
        fail(L, &sv->addr, UV_ECANCELED, "accept");
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
        fail(L, &sv->addr, err, "accept");
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

/* --- server:address() -> {host = , port = , family = "inet" or "inet6"}: where it listens.
 * Throws OSError on a closed server. Does not suspend. */
static int l_address(lua_State *L)
{
    lunl_addr_push(L, &lunl_open_server(L, lunl_S(L), "address")->addr);
    return 1;
}

/* --- server:close() stops listening: new connections are refused, those that are there go
 * on, and `serve` returns when its last one has ended; a task in `accept` gets OSError
 * ECANCELED. Closing twice is harmless. Does not suspend. Also called at the end of the
 * block of a
 * `<close>` variable. */
static int l_close(lua_State *L)
{
    lunl_server_close(lunl_check_server(L));
    return 0;
}

/* --- server:__gc(): a server that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    lunl_server *sv = lunl_test(L, 1, &server_type);
    if (!sv)
        return 0;
    lunl_orphan(&sv->acceptors.base);
    lunl_orphan(&sv->leavers.base);
    lunl_loop *loop = sv->l ? sv->l->h.loop : NULL;
    lunl_server_close(sv);
    if (loop)
        lunl_box_dropped(L, loop, 1);
    return 0;
}

/* --- server:__tostring() -> "<Server open 127.0.0.1:80>" or "<Server closed
 * 127.0.0.1:80>". */
static int l_tostring(lua_State *L)
{
    lunl_server *sv = lunl_check_server(L);
    char text[LUNL_ADDR_TEXT];
    lua_pushfstring(L, "<Server %s %s>", sv->l ? "open" : "closed",
                    lunl_addr_text(&sv->addr, text));
    return 1;
}

const luaL_Reg lunl_server_functions[] = {{"listen", l_listen}, {NULL, NULL}};

void lunl_open_server_type(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"accept", l_accept}, {"address", l_address}, {"close", l_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_newtype(L, &server_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_serve_methods);
    lua_pop(L, 2);
}
