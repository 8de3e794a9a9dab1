/* SPDX-License-Identifier: MIT */
/*
 * udp_open.c - making a socket for datagrams and setting it up: addresses, which may be names that
 * are looked up first, options, multicast groups.
 */
#include "udp.h"

#include <net/if.h>
#include <string.h>
#include <unistd.h>

/*
 * A call of udp has its options at 1 and, once they are known, the bytes of the addresses here; nil:
 * there is none.
 */
enum { OPTIONS = 1, LOCAL, PEER };

/* An address at `idx`, or "none". */
static void get_address(lua_State *L, int idx, lunl_addr *a)
{
    memset(a, 0, sizeof *a);
    if (!lua_isnil(L, idx))
        memcpy(a, lua_tostring(L, idx), lua_rawlen(L, idx));
}

static void set_address(lua_State *L, int idx, const lunl_addr *a)
{
    lua_pushlstring(L, (const char *)a, lunl_addr_room(a));
    lua_replace(L, idx);
}

/* The family that the socket has so far: AF_UNSPEC if nothing says. */
static int family_so_far(lua_State *L)
{
    lunl_addr a;
    int family = lunl_family_option(L, OPTIONS);
    for (int idx = LOCAL; family == AF_UNSPEC && idx <= PEER; idx++) {
        get_address(L, idx, &a);
        family = a.sa.sa_family;
    }
    return family;
}

/* ---- setting up ---- */

typedef struct setting {
    int fd, family;
    const char *failed; /* the option that could not be set, or NULL */
    int error;
} setting;

static void set(setting *s, const char *what, int level, int name, const void *p,
                socklen_t size)
{
    if (s->failed || setsockopt(s->fd, level, name, p, size) == 0)
        return;
    s->failed = what;
    s->error = uv_translate_sys_error(errno);
}

static void set_flag(lua_State *L, setting *s, const char *option, int name)
{
    int on = 1;
    if (lunl_flag(L, OPTIONS, option, false))
        set(s, option, SOL_SOCKET, name, &on, sizeof on);
}

static void set_number(lua_State *L, setting *s, const char *option, lua_Integer least,
                       int name4, int name6)
{
    int n = (int)lunl_integer_option(L, OPTIONS, option, least, 255, -1);
    bool six = s->family == AF_INET6;
    if (n >= 0)
        set(s, option, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? name6 : name4, &n, sizeof n);
}

/* The interface called `name`, for IPv4 also by its address; false: there is none. */
static bool find_interface(const char *name, int family, struct ip_mreqn *is)
{
    lunl_addr a;
    is->imr_ifindex = 0;
    if (family == AF_INET && lunl_addr_parse(&a, name, 0) && a.sa.sa_family == AF_INET) {
        is->imr_address = a.in.sin_addr;
        return true;
    }
    is->imr_ifindex = (int)if_nametoindex(name);
    return is->imr_ifindex != 0;
}

static void set_interface(lua_State *L, setting *s)
{
    struct ip_mreqn is = {0};
    static const char option[] = "multicast_interface";
    const char *name = NULL;
    if (lunl_option(L, OPTIONS, option, LUA_TSTRING) != LUA_TNIL)
        name = lunl_check_host_value(L, OPTIONS);
    if (name && !s->failed) {
        if (!find_interface(name, s->family, &is)) {
            s->failed = option;
            s->error = UV_ENODEV;
        } else if (s->family == AF_INET6) {
            set(s, option, IPPROTO_IPV6, IPV6_MULTICAST_IF, &is.imr_ifindex,
                sizeof is.imr_ifindex);
        } else {
            set(s, option, IPPROTO_IP, IP_MULTICAST_IF, &is, sizeof is);
        }
    }
    lua_pop(L, 1);
}

static void set_up(lua_State *L, setting *s)
{
    int loops = lunl_flag(L, OPTIONS, "multicast_loop", true), on = 1;
    bool six = s->family == AF_INET6;
    if (six)
        set(s, "family", IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    set_flag(L, s, "reuse_address", SO_REUSEADDR);
    set_flag(L, s, "reuse_port", SO_REUSEPORT);
    set_flag(L, s, "broadcast", SO_BROADCAST);
    set_number(L, s, "ttl", 1, IP_TTL, IPV6_UNICAST_HOPS);
    set_number(L, s, "multicast_ttl", 0, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS);
    set(s, "multicast_loop", six ? IPPROTO_IPV6 : IPPROTO_IP,
        six ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP, &loops, sizeof loops);
    set_interface(L, s);
}

/* ---- opening ---- */

/* Binds and connects: 0, or libuv's code with the call that failed and its address. */
static int place(lunl_udp *u, int fd, const char **call, lunl_addr *at)
{
    struct sockaddr_storage sa;
    socklen_t size;
    *call = "bind";
    *at = u->addr;
    if (u->addr.sa.sa_family != AF_UNSPEC) {
        size = lunl_addr_system(&u->addr, &sa);
        if (bind(fd, (const struct sockaddr *)&sa, size) != 0)
            return uv_translate_sys_error(errno);
    }
    *call = "connect";
    *at = u->peer;
    if (u->peer.sa.sa_family != AF_UNSPEC) {
        size = lunl_addr_system(&u->peer, &sa);
        if (connect(fd, (const struct sockaddr *)&sa, size) != 0)
            return uv_translate_sys_error(errno);
    }
    size = sizeof sa;
    getsockname(fd, (struct sockaddr *)&sa, &size);
    lunl_addr_set(&u->addr, (const struct sockaddr *)&sa, size);
    return 0;
}

/* All addresses are known. */
static int open_socket(lua_State *L, lunl_loop *loop)
{
    setting s = {.family = family_so_far(L)}, look = {.failed = ""};
    const char *call;
    lunl_addr at;
    lunl_udp *u = lunl_udp_new(L, loop);
    int port = (int)lunl_integer_option(L, OPTIONS, "port", 0, 65535, 0);
    if (s.family == AF_UNSPEC)
        s.family = AF_INET;
    get_address(L, LOCAL, &u->addr);
    get_address(L, PEER, &u->peer);
    if (lua_isnil(L, LOCAL) && (lua_isnil(L, PEER) || port != 0))
        lunl_addr_parse(&u->addr, s.family == AF_INET ? "0.0.0.0" : "::", port);
    /* Looks at all options and sets none: what is wrong with them is thrown before there is a
     * socket. */
    set_up(L, &look);
    s.fd = socket(s.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s.fd < 0)
        lunl_throw_uv(L, uv_translate_sys_error(errno), "udp", "socket");
    int err = lunl_udp_own(u, loop, s.fd);
    if (err != 0)
        lunl_throw_uv(L, err, "udp", "socket");
    set_up(L, &s);
    if (s.failed) {
        lunl_handle_close(&u->e->h);
        lunl_throw_uv(L, s.error, "udp", s.failed);
    }
    err = place(u, s.fd, &call, &at);
    if (err != 0) {
        lunl_handle_close(&u->e->h);
        lunl_fail_at(L, &at, err, call);
    }
    return 1;
}

/* The option `connect`, a table {host, port} or {host = , port = }: pushes both. */
static void push_peer(lua_State *L)
{
    int t = lua_gettop(L);
    if (lua_getfield(L, t, "host") == LUA_TNIL)
        lua_rawgeti(L, t, 1);
    if (lua_type(L, -1) != LUA_TSTRING)
        lunl_arg_error(L, OPTIONS, LUNL_TYPE_ERROR, "connect: {host, port} expected");
    lua_replace(L, t);
    lua_settop(L, t);
    lua_getfield(L, OPTIONS, "connect");
    if (lua_getfield(L, t + 1, "port") == LUA_TNIL)
        lua_rawgeti(L, t + 1, 2);
    int is;
    lua_Integer port = lua_tointegerx(L, -1, &is);
    if (lua_type(L, -1) != LUA_TNUMBER || !is || port < 0 || port > 65535)
        lunl_arg_error(L, OPTIONS, LUNL_VALUE_ERROR,
                       "connect: a port from 0 to 65535 expected");
    lua_replace(L, t + 1);
    lua_settop(L, t + 1);
}

/* Pushes host and port of the address that goes to `idx`; false: there is none. */
static bool push_wish(lua_State *L, int idx)
{
    if (idx == PEER) {
        if (lunl_option(L, OPTIONS, "connect", LUA_TTABLE) == LUA_TNIL)
            return false;
        push_peer(L);
        return true;
    }
    if (lunl_option(L, OPTIONS, "host", LUA_TSTRING) == LUA_TNIL)
        return false;
    const char *host = lua_tostring(L, -1);
    if (*host == '\0' || strcmp(host, "*") == 0)
        return false;
    lua_pushinteger(L, lunl_integer_option(L, OPTIONS, "port", 0, 65535, 0));
    return true;
}

static int open_on(lua_State *L, int idx);

static int on_found(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_addr a;
    lunl_udp_found(L, &a, lua_tostring(L, PEER + 1));
    set_address(L, (int)ctx, &a);
    lua_settop(L, PEER);
    return open_on(L, (int)ctx + 1);
}

/* Goes on with the address for `idx`. */
static int open_on(lua_State *L, int idx)
{
    enum { HOST = PEER + 1, PORT };
    for (; idx <= PEER; idx++) {
        lunl_addr a;
        if (push_wish(L, idx)) {
            lua_settop(L, HOST + 1);
            lua_pushvalue(L, HOST);
            const char *host = lunl_check_host_value(L, OPTIONS);
            lua_settop(L, PORT);
            if (!lunl_addr_parse(&a, host, (int)lua_tointeger(L, PORT)))
                return lunl_look_up(L, HOST, PORT, family_so_far(L), true, idx, on_found);
            set_address(L, idx, &a);
        }
        lua_settop(L, PEER);
    }
    return open_socket(L, lunl_running_loop(L, lunl_S(L)));
}

/* --- net.udp(opts) -> UDPSocket: a socket for datagrams. opts: host and port to bind (any free
 * port of all addresses; host numeric or a name); family "inet" (unless an address says
 * otherwise) or "inet6"; connect = {host, port}: the only peer, whose refusals are then heard of;
 * reuse_address, reuse_port, broadcast (false); ttl (1 to 255); multicast_ttl (0 to 255),
 * multicast_loop (true), multicast_interface (a name, for IPv4 also an address). Throws OSError
 * "bind address: CODE", "connect address: CODE", "getaddrinfo host: CODE", "udp option: CODE".
 * Suspends only to look up names, safe to cancel. */
static int l_udp(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_opt_table(L, OPTIONS);
    lua_settop(L, OPTIONS);
    lunl_spare_descriptors(L, lunl_running_loop(L, S), 1);
    lua_settop(L, PEER);
    return open_on(L, LOCAL);
}

/* ---- groups ---- */

static int change_group(lua_State *L, const char *call, int name4, int name6)
{
    lunl_udp *u = lunl_open_udp(L, lunl_S(L), call);
    lunl_addr group;
    const char *text = lunl_check_host(L, 2), *name = NULL;
    int family = u->addr.sa.sa_family, err = 0;
    if (!lunl_addr_parse(&group, text, 0) || group.sa.sa_family != family)
        lunl_arg_error(L, 2, LUNL_VALUE_ERROR,
                       "numeric address of the socket's family expected, got '%s'", text);
    if (!lua_isnoneornil(L, 3))
        name = lunl_check_host(L, 3);
    struct ip_mreqn is = {.imr_multiaddr = group.in.sin_addr};
    if (family == AF_INET6)
        is.imr_ifindex = (int)group.in6.sin6_scope_id;
    if (name && !find_interface(name, family, &is))
        lunl_throw_uv(L, UV_ENODEV, call, name);
    if (family == AF_INET6) {
        struct ipv6_mreq six = {group.in6.sin6_addr, (unsigned)is.imr_ifindex};
        err = setsockopt(u->e->fd, IPPROTO_IPV6, name6, &six, sizeof six);
    } else {
        err = setsockopt(u->e->fd, IPPROTO_IP, name4, &is, sizeof is);
    }
    if (err != 0)
        lunl_throw_uv(L, uv_translate_sys_error(errno), call, text);
    return 0;
}

/* --- socket:join(group, interface): receives what is sent to the multicast group, a numeric
 * address, on that interface (a name, for IPv4 also an address; nil: the group's zone or the
 * system's choice). Throws OSError "join group: CODE". Does not suspend. */
static int l_join(lua_State *L)
{
    return change_group(L, "join", IP_ADD_MEMBERSHIP, IPV6_ADD_MEMBERSHIP);
}

/* --- socket:leave(group, interface): no longer. Throws OSError "leave group: CODE". Does not
 * suspend. */
static int l_leave(lua_State *L)
{
    return change_group(L, "leave", IP_DROP_MEMBERSHIP, IPV6_DROP_MEMBERSHIP);
}

const luaL_Reg lunl_udp_functions[] = {{"udp", l_udp}, {NULL, NULL}};
const luaL_Reg lunl_udp_group_methods[] = {
    {"join", l_join}, {"leave", l_leave}, {NULL, NULL}};
