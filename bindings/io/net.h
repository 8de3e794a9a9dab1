/* SPDX-License-Identifier: MIT */
/*
 * net.h - what the files of the module net share: tcp.c, server.c, dns.c.
 */
#ifndef LUNL_IO_NET_H
#define LUNL_IO_NET_H

#include "socket.h"
#include "stream.h"

/* Options that connections have in common, from the table at `arg`, or the defaults. */
typedef struct lunl_net_opts {
    size_t limit; /* of a line, bytes */
    bool nodelay;
} lunl_net_opts;

void lunl_net_options(lua_State *L, int arg, bool given, lunl_net_opts *opts);
/* The boolean field `name` of the options at `arg`, or `none`. */
bool lunl_flag(lua_State *L, int arg, const char *name, bool none);

/* The integer field `name`, in [least, most], or `none`. */
lua_Integer lunl_integer_option(lua_State *L, int arg, const char *name, lua_Integer least,
                                lua_Integer most, lua_Integer none);

/* Functions of the module, defined in tcp.c, server.c and dns.c. */
extern const luaL_Reg lunl_tcp_functions[];
extern const luaL_Reg lunl_server_functions[];
extern const luaL_Reg lunl_dns_functions[];

/* Registers the type Server. */
void lunl_open_server_type(lua_State *L);

#endif
