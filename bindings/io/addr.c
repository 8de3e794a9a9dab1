/* SPDX-License-Identifier: MIT */
/*
 * addr.c - sockaddr <-> Lua. Families are called "inet" and "inet6"; an address with its
 * port is written as in URLs, so that an IPv6 one cannot be misread.
 */
#include "addr.h"

#include <stdio.h>
#include <string.h>

bool lunl_addr_parse(lunl_addr *a, const char *host, int port)
{
    memset(a, 0, sizeof *a);
    if (uv_ip4_addr(host, port, &a->in) == 0)
        return true;
    memset(a, 0, sizeof *a);
    if (strchr(host, ':') && uv_ip6_addr(host, port, &a->in6) == 0)
        return true;
    memset(a, 0, sizeof *a);
    return false;
}

void lunl_addr_set(lunl_addr *a, const struct sockaddr *sa)
{
    memset(a, 0, sizeof *a);
    if (sa->sa_family == AF_INET)
        memcpy(&a->in, sa, sizeof a->in);
    else if (sa->sa_family == AF_INET6)
        memcpy(&a->in6, sa, sizeof a->in6);
}

void lunl_addr_set_port(lunl_addr *a, int port)
{
    if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons((uint16_t)port);
    else
        a->in.sin_port = htons((uint16_t)port);
}

socklen_t lunl_addr_size(const lunl_addr *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in;
}

/* The host alone; false if there is no address. The port. */
static bool host_text(const lunl_addr *a, char *buf, size_t size, int *port)
{
    char zone[UV_IF_NAMESIZE];
    size_t room = sizeof zone;
    *port = 0;
    if (a->sa.sa_family == AF_INET) {
        *port = ntohs(a->in.sin_port);
        return uv_ip4_name(&a->in, buf, size) == 0;
    }
    if (a->sa.sa_family != AF_INET6 || uv_ip6_name(&a->in6, buf, size) != 0)
        return false;
    *port = ntohs(a->in6.sin6_port);
    size_t len = strlen(buf);
    if (a->in6.sin6_scope_id && uv_if_indextoiid(a->in6.sin6_scope_id, zone, &room) == 0)
        snprintf(buf + len, size - len, "%%%s", zone);
    return true;
}

const char *lunl_addr_text(const lunl_addr *a, char *buf)
{
    char host[INET6_ADDRSTRLEN + UV_IF_NAMESIZE + 2];
    int port;
    if (!host_text(a, host, sizeof host, &port))
        return strcpy(buf, "(no address)");
    snprintf(buf, LUNL_ADDR_TEXT, a->sa.sa_family == AF_INET6 ? "[%s]:%d" : "%s:%d", host,
             port);
    return buf;
}

void lunl_addr_push(lua_State *L, const lunl_addr *a)
{
    char host[INET6_ADDRSTRLEN + UV_IF_NAMESIZE + 2];
    int port;
    bool known = host_text(a, host, sizeof host, &port);
    lua_createtable(L, 0, 3);
    if (!known)
        return;
    lua_pushstring(L, host);
    lua_setfield(L, -2, "host");
    lua_pushinteger(L, port);
    lua_setfield(L, -2, "port");
    lua_pushstring(L, a->sa.sa_family == AF_INET6 ? "inet6" : "inet");
    lua_setfield(L, -2, "family");
}

const char *lunl_check_host(lua_State *L, int arg)
{
    size_t len;
    const char *host = lunl_check_string(L, arg, &len);
    if (strlen(host) != len)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "host name contains a NUL byte");
    if (len > LUNL_HOST_MAX)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "host name is longer than %d bytes",
                       LUNL_HOST_MAX);
    return host;
}

void lunl_error_addr(lua_State *L, int err, const char *syscall, const char *text)
{
    lunl_error_uv(L, err, syscall, text);
    if (!text)
        return;
    lua_pushstring(L, text);
    lunl_error_set(L, lua_absindex(L, -2), "address");
}
