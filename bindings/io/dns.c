/* SPDX-License-Identifier: MIT */
/*
 * dns.c - names to addresses, by the system's resolver in libuv's pool, so /etc/hosts and
 * nsswitch are obeyed. A lookup that runs cannot be stopped: cancelled, its result is
 * dropped.
 */
#include "net.h"

#include <string.h>

typedef struct resolve {
    lun_op op; /* first */
    uv_getaddrinfo_t req;
} resolve;

static void resolve_abort(lun_op *op)
{
    uv_cancel((uv_req_t *)&((resolve *)op)->req);
}

static void resolve_fini(lun_op *op)
{
    uv_freeaddrinfo(((resolve *)op)->req.addrinfo);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    (void)found; /* req->addrinfo */
    lun_op_done(&lun_container(req, resolve, req)->op, status);
}

static int resolve_push(lua_State *L, lun_op *op)
{
    const resolve *r = (const resolve *)op;
    int n = 0;
    lua_newtable(L);
    for (const struct addrinfo *ai = r->req.addrinfo; ai; ai = ai->ai_next) {
        lunl_addr a;
        lunl_addr_set(&a, ai->ai_addr);
        if (a.sa.sa_family == AF_UNSPEC)
            continue;
        lunl_addr_push(L, &a);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const lunl_op_kind resolve_kind = {
    {{"getaddrinfo", lun_op_cancel_kind}, resolve_abort, resolve_fini},
    resolve_push,
    "getaddrinfo"};

/* The family option: "inet", "inet6", or both. */
static int family_option(lua_State *L, int arg)
{
    int family = AF_UNSPEC;
    if (lunl_option(L, arg, "family", LUA_TSTRING) != LUA_TNIL) {
        const char *name = lua_tostring(L, -1);
        family = strcmp(name, "inet") == 0    ? AF_INET
                 : strcmp(name, "inet6") == 0 ? AF_INET6
                                              : -1;
        if (family < 0)
            lunl_arg_error(L, arg, LUNL_VALUE_ERROR,
                           "field 'family': 'inet' or 'inet6' expected, got '%s'", name);
    }
    lua_pop(L, 1);
    return family;
}

/* --- net.getaddrinfo(host, service, opts) -> list of {host = , port = , family = "inet" or
 * "inet6"}: the addresses of a name, in the order of the system. service: a port number, a
 * name such as "http", or nil (port 0). opts: family. Throws OSError "getaddrinfo host:
 * CODE". Suspends; cancelled, the lookup's result is dropped. */
static int l_getaddrinfo(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    const char *host = lunl_check_host(L, 1);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    lua_settop(L, 3);
    if (lua_type(L, 2) == LUA_TNUMBER)
        lunl_check_integer(L, 2, 0, 65535);
    else if (!lua_isnil(L, 2) && lua_type(L, 2) != LUA_TSTRING)
        lunl_type_error(L, 2, "port number or name of a service");
    if (lunl_opt_table(L, 3))
        hints.ai_family = family_option(L, 3);
    /* A copy, because a number must not turn into a string in the caller's place. */
    lua_pushvalue(L, 2);
    const char *service = lua_tostring(L, -1);
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_enter(L, S);
    resolve *r = lunl_op_new(L, loop, &resolve_kind, sizeof *r);
    int err = uv_getaddrinfo(loop->loop.uv, &r->req, on_resolved, host, service, &hints);
    return lunl_op_await(L, S, &r->op, err, 1);
}

const luaL_Reg lunl_dns_functions[] = {{"getaddrinfo", l_getaddrinfo}, {NULL, NULL}};
