/* SPDX-License-Identifier: MIT */
/*
 * dns.c - names to addresses and back, by the system's resolver in libuv's pool, so /etc/hosts and
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
        lunl_addr_set(&a, ai->ai_addr, ai->ai_addrlen);
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

/* The option `type`: true for "datagram". */
static bool datagram_option(lua_State *L, int arg)
{
    bool datagram = false;
    if (lunl_option(L, arg, "type", LUA_TSTRING) != LUA_TNIL) {
        const char *name = lua_tostring(L, -1);
        datagram = strcmp(name, "datagram") == 0;
        if (!datagram && strcmp(name, "stream") != 0)
            lunl_arg_error(L, arg, LUNL_VALUE_ERROR,
                           "field 'type': 'stream' or 'datagram' expected, got '%s'", name);
    }
    lua_pop(L, 1);
    return datagram;
}

/* --- net.getaddrinfo(host, service, opts) -> list of {host = , port = , family = "inet" or
 * "inet6"}: the addresses of a name, in the order of the system. service: a port number, a
 * name such as "http", or nil (port 0). opts: family; type, "stream" or "datagram", for services
 * that differ in that. Throws OSError "getaddrinfo host: CODE". Suspends; cancelled, the lookup's
 * result is dropped. */
static int l_getaddrinfo(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    const char *host = lunl_check_host(L, 1);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    lua_settop(L, 3);
    if (!lua_isnoneornil(L, 2) && lua_type(L, 2) != LUA_TNUMBER &&
        lua_type(L, 2) != LUA_TSTRING)
        lunl_type_error(L, 2, "port number or name of a service");
    if (lunl_opt_table(L, 3)) {
        hints.ai_family = lunl_family_option(L, 3);
        if (datagram_option(L, 3))
            hints.ai_socktype = SOCK_DGRAM;
    }
    /* In a place of its own, because a number becomes a string; not that of a float. */
    if (lua_type(L, 2) == LUA_TNUMBER)
        lua_pushinteger(L, lunl_check_integer(L, 2, 0, 65535));
    else
        lua_pushvalue(L, 2);
    size_t len;
    const char *service = lua_tolstring(L, -1, &len);
    if (service && strlen(service) != len)
        lunl_arg_error(L, 2, LUNL_VALUE_ERROR, "service contains a NUL byte");
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_enter(L, S);
    resolve *r = lunl_op_new(L, loop, &resolve_kind, sizeof *r);
    int err = uv_getaddrinfo(loop->loop.uv, &r->req, on_resolved, host, service, &hints);
    return lunl_op_await(L, S, &r->op, err, 1);
}

int lunl_look_up(lua_State *L, int host, int port, int family, bool datagrams,
                 lua_KContext ctx, lua_KFunction k)
{
    lunl_enter(L, lunl_S(L));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushcclosure(L, l_getaddrinfo, 2);
    lua_pushvalue(L, host);
    lua_pushvalue(L, port);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, datagrams ? "datagram" : "stream");
    lua_setfield(L, -2, "type");
    if (family != AF_UNSPEC) {
        lua_pushstring(L, family == AF_INET ? "inet" : "inet6");
        lua_setfield(L, -2, "family");
    }
    lua_callk(L, 3, 1, ctx, k);
    return k(L, LUA_OK, ctx);
}

bool lunl_looked_up(lua_State *L, int i, lunl_addr *a)
{
    bool is = lua_rawgeti(L, -1, i) == LUA_TTABLE;
    if (is) {
        lua_getfield(L, -1, "port");
        lua_getfield(L, -2, "host");
        is = lunl_addr_parse(a, lua_tostring(L, -1), (int)lua_tointeger(L, -2));
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return is;
}

/* ---- names of addresses ---- */

typedef struct naming {
    lun_op op; /* first */
    uv_getnameinfo_t req;
} naming;

static void naming_abort(lun_op *op)
{
    uv_cancel((uv_req_t *)&((naming *)op)->req);
}

static void on_named(uv_getnameinfo_t *req, int status, const char *host,
                     const char *service)
{
    (void)host; /* req->host */
    (void)service;
    lun_op_done(&lun_container(req, naming, req)->op, status);
}

static int naming_push(lua_State *L, lun_op *op)
{
    const naming *n = (const naming *)op;
    lua_pushstring(L, n->req.host);
    lua_pushstring(L, n->req.service);
    return 2;
}

static const lunl_op_kind naming_kind = {
    {{"getnameinfo", lun_op_cancel_kind}, naming_abort, NULL}, naming_push, "getnameinfo"};

/* The address table at 1. */
static void check_address(lua_State *L, lunl_addr *a)
{
    if (!lua_istable(L, 1))
        lunl_type_error(L, 1, "address table");
    if (lunl_option(L, 1, "host", LUA_TSTRING) == LUA_TNIL)
        lunl_arg_error(L, 1, LUNL_TYPE_ERROR, "host: string expected, got nil");
    int port = (int)lunl_integer_option(L, 1, "port", 0, 65535, 0);
    if (!lunl_addr_parse(a, lunl_check_host_value(L, 1), port))
        lunl_arg_error(L, 1, LUNL_VALUE_ERROR, "host: numeric address expected, got '%s'",
                       lua_tostring(L, -1));
}

/* --- net.getnameinfo(address, opts) -> host, service: the names of an address {host = "127.0.0.1",
 * port = 80}, as peer() and recv() give it; its numbers where it has none. opts: numeric_host,
 * numeric_service (false): do not ask for that name; name_required (false): an address without a
 * name is an error; type, "stream" or "datagram". Throws OSError "getnameinfo address: CODE".
 * Suspends; cancelled, the result is dropped. */
static int l_getnameinfo(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    char text[LUNL_ADDR_TEXT];
    int flags = 0;
    lunl_addr a;
    lua_settop(L, 2);
    check_address(L, &a);
    lua_settop(L, 2);
    if (lunl_opt_table(L, 2)) {
        flags |= lunl_flag(L, 2, "numeric_host", false) ? NI_NUMERICHOST : 0;
        flags |= lunl_flag(L, 2, "numeric_service", false) ? NI_NUMERICSERV : 0;
        flags |= lunl_flag(L, 2, "name_required", false) ? NI_NAMEREQD : 0;
        flags |= datagram_option(L, 2) ? NI_DGRAM : 0;
    }
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_enter(L, S);
    lua_pushstring(L, lunl_addr_text(&a, text));
    naming *n = lunl_op_new(L, loop, &naming_kind, sizeof *n);
    int err = uv_getnameinfo(loop->loop.uv, &n->req, on_named, &a.sa, flags);
    return lunl_op_await(L, S, &n->op, err, 3);
}

const luaL_Reg lunl_dns_functions[] = {
    {"getaddrinfo", l_getaddrinfo}, {"getnameinfo", l_getnameinfo}, {NULL, NULL}};
