/* SPDX-License-Identifier: MIT */
/*
 * net.c - the module net: one table of the functions in tcp.c, server.c and dns.c.
 *
 * libuv writes with write(2), which cannot be told to spare the process when the peer is
 * gone. So loading this module ignores SIGPIPE, if the process has left that at its default
 * (children that libuv starts have it back); hosts that want to die of it can put it back
 * afterwards.
 */
#include "net.h"

#include <signal.h>
#include <string.h>

static void ignore_sigpipe(void)
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
    ignore_sigpipe();
    lunl_open_stream_type(L);
    lunl_open_server_type(L);
    lua_createtable(L, 0, 8);
    lunl_register(L, lunl_tcp_functions);
    lunl_register(L, lunl_server_functions);
    lunl_register(L, lunl_dns_functions);
    return 1;
}
