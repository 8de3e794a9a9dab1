/* SPDX-License-Identifier: MIT */
/*
 * net.h - what the files of the module net share.
 */
#ifndef LUNL_IO_NET_H
#define LUNL_IO_NET_H

#include "socket.h"
#include "stream.h"

enum { LUNL_BACKLOG = 128 };

/* Options that connections have in common, from the table at `arg`, or the defaults. */
typedef struct lunl_net_opts {
    size_t limit;      /* of a line, bytes */
    size_t high_water; /* a writer waits above this many queued bytes */
    bool nodelay;
} lunl_net_opts;

void lunl_net_options(lua_State *L, int arg, bool given, lunl_net_opts *opts);
/* The boolean field `name` of the options at `arg`, or `none`. */
bool lunl_flag(lua_State *L, int arg, const char *name, bool none);

/* The integer field `name`, in [least, most], or `none`. */
lua_Integer lunl_integer_option(lua_State *L, int arg, const char *name, lua_Integer least,
                                lua_Integer most, lua_Integer none);

/*
 * A connected descriptor becomes a connection; of a Unix socket, `peer` gets to know the process.
 * 0, or libuv's code and the descriptor is closed.
 */
int lunl_adopt(lunl_loop *loop, int fd, lunl_addr *peer, bool nodelay,
               lunl_socket **socket);

/* The option `family` of the table at `arg`: "inet", "inet6", or none: AF_UNSPEC. */
int lunl_family_option(lua_State *L, int arg);

/* Throws the OSError "what address: CODE". */
_Noreturn void lunl_fail_at(lua_State *L, const lunl_addr *addr, int err, const char *what);

/*
 * Calls getaddrinfo for the host and the port (indices) and goes on in `k`, with `ctx` and its list
 * on top; `family` may be AF_UNSPEC. RuntimeError where the caller cannot wait.
 * `return lunl_look_up(...)`.
 */
int lunl_look_up(lua_State *L, int host, int port, int family, bool datagrams,
                 lua_KContext ctx, lua_KFunction k);
/* The `i`th address of that list, still on top; false: it has no more. */
bool lunl_looked_up(lua_State *L, int i, lunl_addr *a);

/* Functions of the module, each in the file of that name. */
extern const luaL_Reg lunl_tcp_functions[];
extern const luaL_Reg lunl_listen_functions[];
extern const luaL_Reg lunl_unix_functions[];
extern const luaL_Reg lunl_udp_functions[];
extern const luaL_Reg lunl_dns_functions[];

/* Register the types Server and UDPSocket. */
void lunl_open_server_type(lua_State *L);
void lunl_open_udp_type(lua_State *L);

#endif
