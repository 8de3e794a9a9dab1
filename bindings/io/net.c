/* SPDX-License-Identifier: MIT */
/*
 * net.c - the module net: one table of the functions of its files, and what they share.
 *
 * libuv writes with write(2), which cannot be told to spare the process when the peer is
 * gone. So loading this module ignores SIGPIPE, if the process has left that at its default
 * (children that libuv starts have it back); hosts that want to die of it can put it back
 * afterwards.
 */
#include "net.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

int lunl_adopt(lunl_loop *loop, int fd, lunl_addr *peer, bool nodelay, lunl_socket **socket)
{
    bool local = peer->sa.sa_family == AF_UNIX;
    uv_loop_t *uv = loop->loop.uv;
    lunl_socket *k = lunl_socket_new(loop);
    int err = !k      ? UV_ENOMEM
              : local ? uv_pipe_init(uv, &k->uv.pipe, 0)
                      : uv_tcp_init(uv, &k->uv.tcp);
    if (err != 0) {
        if (k)
            lunl_handle_discard(&k->c.h);
        close(fd);
        return err;
    }
    lunl_handle_opened(&k->c.h, &k->uv.handle);
    lunl_polls_forget(loop, fd);
    err = local ? uv_pipe_open(&k->uv.pipe, fd) : uv_tcp_open(&k->uv.tcp, fd);
    if (err != 0) {
        lunl_handle_close(&k->c.h);
        close(fd);
        return err;
    }
    if (local)
        lunl_addr_credentials(peer, fd);
    else if (nodelay)
        uv_tcp_nodelay(&k->uv.tcp, 1);
    *socket = k;
    return 0;
}

_Noreturn void lunl_fail_at(lua_State *L, const lunl_addr *addr, int err, const char *what)
{
    char text[LUNL_ADDR_TEXT];
    if (err == UV_ENOMEM)
        lunl_throw_uv(L, err, NULL, NULL);
    lunl_error_addr(L, err, what, lunl_addr_text(addr, text));
    if (addr->sa.sa_family == AF_UNIX) {
        lua_pushlstring(L, addr->un.path, addr->un.len);
        lunl_error_set(L, -2, "path");
    }
    lua_error(L);
    abort();
}

bool lunl_flag(lua_State *L, int arg, const char *name, bool none)
{
    bool on =
        lunl_option(L, arg, name, LUA_TBOOLEAN) == LUA_TNIL ? none : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

lua_Integer lunl_integer_option(lua_State *L, int arg, const char *name, lua_Integer least,
                                lua_Integer most, lua_Integer none)
{
    if (lunl_option(L, arg, name, LUA_TNUMBER) != LUA_TNIL) {
        int isint;
        none = lua_tointegerx(L, -1, &isint);
        if (!isint)
            lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "field '%s': integer expected", name);
        if (none < least || none > most)
            lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "field '%s': out of range", name);
    }
    lua_pop(L, 1);
    return none;
}

int lunl_family_option(lua_State *L, int arg)
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

void lunl_ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) != 0)
        return;
    if ((now.sa_flags & SA_SIGINFO) || now.sa_handler != SIG_DFL)
        return;
    memset(&now, 0, sizeof now);
    now.sa_handler = SIG_IGN;
    sigemptyset(&now.sa_mask);
    sigaction(SIGPIPE, &now, NULL);
}

int luaopen_lunation_net(lua_State *L)
{
    lunl_ignore_sigpipe();
    lunl_open_stream_type(L);
    lunl_open_server_type(L);
    lunl_open_udp_type(L);
    lua_createtable(L, 0, 12);
    lunl_register(L, lunl_tcp_functions);
    lunl_register(L, lunl_listen_functions);
    lunl_register(L, lunl_unix_functions);
    lunl_register(L, lunl_udp_functions);
    lunl_register(L, lunl_dns_functions);
    return 1;
}
