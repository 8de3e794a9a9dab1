/* SPDX-License-Identifier: MIT */
/*
 * addr.c - sockaddr <-> Lua. Families are called "inet", "inet6" and "unix"; an internet address
 * with its port is written as in URLs, so that an IPv6 one cannot be misread; an abstract name
 * with @ for its NULs, as the system's own lists write it.
 */
#include "addr.h"

#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

enum { PATH_AT = offsetof(struct sockaddr_un, sun_path) };

/* The number of a zone, which is the name or the number of an interface; 0: it is neither. */
static uint32_t zone_number(const char *zone)
{
    uint64_t n = if_nametoindex(zone);
    size_t digits = strspn(zone, "0123456789");
    if (n == 0 && digits < 11 && zone[digits] == '\0')
        n = strtoull(zone, NULL, 10);
    return n <= UINT32_MAX ? (uint32_t)n : 0;
}

/* libuv would cut what is in front of a zone, and take zones that it does not know for none. */
bool lunl_addr_parse(lunl_addr *a, const char *host, int port)
{
    char text[INET6_ADDRSTRLEN];
    size_t len = strcspn(host, "%");
    const char *zone = host[len] ? host + len + 1 : NULL;
    memset(a, 0, sizeof *a);
    if (len >= sizeof text)
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    if (!zone && uv_ip4_addr(text, port, &a->in) == 0)
        return true;
    memset(a, 0, sizeof *a);
    if (uv_ip6_addr(text, port, &a->in6) == 0 &&
        (!zone || (a->in6.sin6_scope_id = zone_number(zone)) != 0))
        return true;
    memset(a, 0, sizeof *a);
    return false;
}

int lunl_addr_unix(lunl_addr *a, const char *path, size_t len)
{
    memset(a, 0, sizeof *a);
    a->un.family = AF_UNIX;
    /* A path of no length need not be readable. */
    if (len > LUNL_PATH_MAX && (len > LUNL_PATH_MAX + 1 || *path != '\0'))
        return UV_ENAMETOOLONG;
    a->un.len = (uint8_t)len;
    memcpy(a->un.path, path, len);
    return 0;
}

void lunl_addr_set(lunl_addr *a, const struct sockaddr *sa, socklen_t size)
{
    memset(a, 0, sizeof *a);
    if (sa->sa_family == AF_INET) {
        memcpy(&a->in, sa, sizeof a->in);
    } else if (sa->sa_family == AF_INET6) {
        memcpy(&a->in6, sa, sizeof a->in6);
    } else if (sa->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)sa;
        size_t len = size > PATH_AT ? size - PATH_AT : 0;
        if (len > 0 && un->sun_path[0] != '\0')
            len = strnlen(un->sun_path, len);
        lunl_addr_unix(a, un->sun_path, len);
    }
}

void lunl_addr_unmap(lunl_addr *a)
{
    if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = a->in6.sin6_port};
    memcpy(&in.sin_addr, &a->in6.sin6_addr.s6_addr[12], sizeof in.sin_addr);
    memset(a, 0, sizeof *a);
    a->in = in;
}

void lunl_addr_set_port(lunl_addr *a, int port)
{
    if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons((uint16_t)port);
    else
        a->in.sin_port = htons((uint16_t)port);
}

void lunl_addr_credentials(lunl_addr *a, int fd)
{
    struct ucred who;
    socklen_t size = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
        return;
    a->un.known = true;
    a->un.pid = who.pid;
    a->un.uid = who.uid;
    a->un.gid = who.gid;
}

socklen_t lunl_addr_system(const lunl_addr *a, struct sockaddr_storage *sa)
{
    memset(sa, 0, sizeof *sa);
    if (a->sa.sa_family == AF_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)sa;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, a->un.path, a->un.len);
        return (socklen_t)(PATH_AT + a->un.len + (a->un.path[0] != '\0'));
    }
    socklen_t size = a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in;
    memcpy(sa, a, size);
    return size;
}

size_t lunl_addr_room(const lunl_addr *a)
{
    size_t room =
        a->sa.sa_family == AF_UNIX ? offsetof(lunl_unix_addr, path) + a->un.len : 0;
    return room > sizeof a->in6 ? room : sizeof a->in6;
}

void lunl_addr_copy(lunl_addr *to, const lunl_addr *a)
{
    memcpy(to, a, lunl_addr_room(a));
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

static const char *unix_text(const lunl_unix_addr *a, char *buf)
{
    if (a->len == 0)
        return strcpy(buf, "unix socket");
    memcpy(buf, a->path, a->len);
    buf[a->len] = '\0';
    for (size_t i = 0; i < a->len; i++)
        if (buf[i] == '\0')
            buf[i] = '@';
    return buf;
}

const char *lunl_addr_text(const lunl_addr *a, char *buf)
{
    if (a->sa.sa_family == AF_UNIX)
        return unix_text(&a->un, buf);
    char host[INET6_ADDRSTRLEN + UV_IF_NAMESIZE + 2];
    int port;
    if (!host_text(a, host, sizeof host, &port))
        return strcpy(buf, "(no address)");
    snprintf(buf, LUNL_ADDR_TEXT, a->sa.sa_family == AF_INET6 ? "[%s]:%d" : "%s:%d", host,
             port);
    return buf;
}

static void set_integer(lua_State *L, const char *name, lua_Integer n)
{
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

static void push_unix(lua_State *L, const lunl_unix_addr *a)
{
    lua_createtable(L, 0, 5);
    lua_pushliteral(L, "unix");
    lua_setfield(L, -2, "family");
    if (a->len > 0) {
        lua_pushlstring(L, a->path, a->len);
        lua_setfield(L, -2, "path");
    }
    if (a->known) {
        set_integer(L, "pid", a->pid);
        set_integer(L, "uid", a->uid);
        set_integer(L, "gid", a->gid);
    }
}

void lunl_addr_push(lua_State *L, const lunl_addr *a)
{
    if (a->sa.sa_family == AF_UNIX) {
        push_unix(L, &a->un);
        return;
    }
    char host[INET6_ADDRSTRLEN + UV_IF_NAMESIZE + 2];
    int port;
    bool known = host_text(a, host, sizeof host, &port);
    lua_createtable(L, 0, 3);
    if (!known)
        return;
    lua_pushstring(L, host);
    lua_setfield(L, -2, "host");
    set_integer(L, "port", port);
    lua_pushstring(L, a->sa.sa_family == AF_INET6 ? "inet6" : "inet");
    lua_setfield(L, -2, "family");
}

const char *lunl_check_host_value(lua_State *L, int arg)
{
    size_t len;
    const char *host = lua_tolstring(L, -1, &len);
    if (strlen(host) != len)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "host name contains a NUL byte");
    if (len > LUNL_HOST_MAX)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "host name is longer than %d bytes",
                       LUNL_HOST_MAX);
    return host;
}

const char *lunl_check_host(lua_State *L, int arg)
{
    lunl_check_string(L, arg, NULL);
    lua_pushvalue(L, arg);
    const char *host = lunl_check_host_value(L, arg);
    lua_pop(L, 1);
    return host;
}

const char *lunl_check_socket_path(lua_State *L, int arg, size_t *len)
{
    const char *path = lunl_check_string(L, arg, len);
    if (*len == 0)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "empty path");
    if (*path != '\0' && strlen(path) != *len)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "path contains a NUL byte");
    return path;
}

void lunl_error_addr(lua_State *L, int err, const char *syscall, const char *text)
{
    lunl_error_uv(L, err, syscall, text);
    if (!text)
        return;
    lua_pushstring(L, text);
    lunl_error_set(L, lua_absindex(L, -2), "address");
}

_Noreturn void lunl_throw_unusable(lua_State *L, bool closed, const char *what,
                                   const char *noun, const char *text)
{
    if (!closed)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: the %s belongs to another event loop", what,
                   noun);
    lunl_error_addr(L, UV_EBADF, what, text);
    lua_pushfstring(L, "%s %s: the %s is closed", what, text, noun);
    lunl_error_set(L, -2, "message");
    lua_error(L);
    abort();
}
