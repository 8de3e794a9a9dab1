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
    lunl_loop *loop;
    lunl_net_opts opts;
    int port, backlog;
    bool share, dual;
    int error; /* the first one, with call and address */
    const char *call;
    lunl_addr bad;
} request;

/* From the arguments of the call, which are checked. */
static void check_request(lua_State *L, request *r)
{
    bool given = lunl_opt_table(L, 3);
    *r = (request){.backlog = LUNL_BACKLOG};
    r->port = (int)lunl_check_integer(L, 2, 0, 65535);
    r->loop = lunl_running_loop(L, lunl_S(L));
    lunl_net_options(L, 3, given, &r->opts);
    if (!given)
        return;
    r->share = lunl_flag(L, 3, "reuse_port", false);
    r->backlog = (int)lunl_integer_option(L, 3, "backlog", 1, 65535, LUNL_BACKLOG);
}

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

static int on_found(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    request r;
    lunl_addr addr;
    check_request(L, &r);
    for (int i = 1; lunl_looked_up(L, i, &addr); i++) {
        if (try_listen(L, &r, &addr))
            return 1;
    }
    if (r.error != 0)
        lunl_fail_at(L, &r.bad, r.error, r.call);
    lunl_error_addr(L, UV_EAI_NODATA, "getaddrinfo", lua_tostring(L, 1));
    return lua_error(L);
}

/* Every address of this machine, by one socket for both families if there are both. */
static int listen_everywhere(lua_State *L, request *r)
{
    lunl_addr addr;
    lunl_addr_parse(&addr, "::", r->port);
    r->dual = true;
    if (try_listen(L, r, &addr))
        return 1;
    if (r->error == UV_EAFNOSUPPORT || r->error == UV_EADDRNOTAVAIL) { /* no IPv6 */
        r->error = 0;
        lunl_addr_parse(&addr, "0.0.0.0", r->port);
        if (try_listen(L, r, &addr))
            return 1;
    }
    lunl_fail_at(L, &r->bad, r->error, r->call);
}

/* --- net.listen(host, port, opts) -> Server: listens for TCP connections. host: a numeric
 * address, a name (the first of its addresses that works), or nil, "" or "*" for all of
 * this machine, IPv4 and IPv6; port 0: any free one. opts: backlog (128), reuse_port (false);
 * nodelay (true), limit (65536 bytes of a line), high_water (65536, see connect) of these streams;
 * tls (a TLSContext with a certificate, or a table: see tls.context): streams are accepted at once,
 * and their reads and writes wait for the handshake. Throws OSError "bind address: CODE" or
 * "getaddrinfo host: CODE". Suspends only to look up a name, safe to cancel. */
static int l_listen(lua_State *L)
{
    request r;
    lunl_addr addr;
    if (lunl_tls_asked(L, 3))
        return lunl_tls_listen(L, 3);
    const char *host = lua_isnoneornil(L, 1) ? "" : lunl_check_host(L, 1);
    check_request(L, &r);
    lunl_spare_descriptors(L, r.loop, 1);
    lua_settop(L, 3);
    if (*host == '\0' || strcmp(host, "*") == 0)
        return listen_everywhere(L, &r);
    if (!lunl_addr_parse(&addr, host, r.port))
        return lunl_look_up(L, 1, 2, AF_UNSPEC, false, 0, on_found);
    if (!try_listen(L, &r, &addr))
        lunl_fail_at(L, &r.bad, r.error, r.call);
    return 1;
}

const luaL_Reg lunl_listen_functions[] = {{"listen", l_listen}, {NULL, NULL}};
