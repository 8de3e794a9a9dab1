/* SPDX-License-Identifier: MIT */
/*
 * listen.c - sockets that listen for TCP. A name is looked up, and the first of its addresses that
 * works is taken; everything else happens at once.
 */
#include "server.h"
#include "tls.h"

#include <string.h>
#include <unistd.h>

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
    struct sockaddr_storage sa;
    socklen_t size = lunl_addr_system(addr, &sa);
    if (bind(*fd, (const struct sockaddr *)&sa, size) != 0)
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
    lunl_server *sv = lunl_server_new(L, r->loop, &r->opts);
    int err = open_socket(addr, r->dual, r->share, r->backlog, &fd, &call);
    if (err == 0)
        err = lunl_server_listen(sv, r->loop, fd, NULL);
    if (err == 0)
        return true;
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
        lunl_addr_set(&addr, ai->ai_addr, ai->ai_addrlen);
        if (addr.sa.sa_family == AF_UNSPEC)
            continue;
        lunl_addr_set_port(&addr, r->port);
        if (try_listen(L, r, &addr))
            return 1;
    }
    lunl_fail_at(L, &r->bad, r->error ? r->error : UV_EAI_NODATA,
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
    r->backlog = LUNL_BACKLOG;
    if (!given)
        return;
    r->share = lunl_flag(L, arg, "reuse_port", false);
    r->backlog = (int)lunl_integer_option(L, arg, "backlog", 1, 65535, LUNL_BACKLOG);
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
    lunl_fail_at(L, &r->bad, r->error, r->call);
}

/* --- net.listen(host, port, opts) -> Server: listens for TCP connections. host: a numeric
 * address, a name (the first of its addresses that works), or nil, "" or "*" for all of
 * this machine; port 0: any free one. opts: backlog (128), reuse_port (false); nodelay
 * (true), limit (65536 bytes of a line), high_water (65536, see connect) of these streams; tls (a TLSContext with a
 * certificate, or a table: see tls.context): streams are accepted at once, and their reads and
 * writes wait for the handshake. Throws OSError "bind address: CODE" or "getaddrinfo host: CODE". Suspends only to look up a name, safe to
 * cancel. */
static int l_listen(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    request fields = {.port = 0};
    if (lunl_tls_asked(L, 3))
        return lunl_tls_listen(L, 3);
    const char *host = lua_isnoneornil(L, 1) ? "" : lunl_check_host(L, 1);
    fields.port = (int)lunl_check_integer(L, 2, 0, 65535);
    listen_options(L, 3, &fields);
    fields.loop = lunl_running_loop(L, S);
    lunl_spare_descriptors(L, fields.loop, 1);
    lua_settop(L, 2);
    if (*host == '\0' || strcmp(host, "*") == 0)
        return listen_everywhere(L, &fields);
    lunl_addr addr;
    if (lunl_addr_parse(&addr, host, fields.port)) {
        if (!try_listen(L, &fields, &addr))
            lunl_fail_at(L, &fields.bad, fields.error, fields.call);
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

const luaL_Reg lunl_listen_functions[] = {{"listen", l_listen}, {NULL, NULL}};
