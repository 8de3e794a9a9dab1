/* SPDX-License-Identifier: MIT */
/*
 * server.h - a listening socket: listen.c and unix.c make it, server.c accepts and closes, serve.c
 * runs a handler for each connection.
 *
 * libuv accepts by itself and, when descriptors run out, turns peers away without a word.
 * So the socket is ours and libuv only says when it is readable: connections that cannot be
 * taken stay in the system's queue, and the error is seen.
 */
#ifndef LUNL_IO_SERVER_H
#define LUNL_IO_SERVER_H

#include "box.h"
#include "net.h"

#include <sys/stat.h>

typedef struct lunl_server lunl_server;

typedef struct lunl_listener {
    lunl_handle h; /* first */
    uv_poll_t poll;
    int fd;             /* owned, closed as soon as the handle begins to close */
    lunl_server *box;   /* owned with others; NULL once the server is closed */
    lunl_socket *ready; /* accepted, but its Lua object could not be made; owned, or NULL */
    lunl_addr ready_peer;
    bool polling;
    struct stat
        made; /* of `file` when it was made; st_ino 0: there is none to be removed */
    char file[];
} lunl_listener;

/* Owned by its box, by the listener and by each connection of serve. */
struct lunl_server {
    lunl_core core;     /* first */
    lunl_listener *l;   /* NULL once closed */
    lun_park acceptors; /* who waits for a connection */
    lun_park leavers;   /* the task in serve that waits for the last connection to end */
    lun_link live;      /* ring of the connections of serve, in order of creation */
    lunl_addr addr;
    lunl_net_opts opts;        /* of accepted connections */
    uint64_t accepted, failed; /* how many accepts */
    uint64_t told;             /* of `failed`, when it was last reported ... */
    uint64_t reported;         /* ... and when that was: ns, 0 for never */
    bool serving;
    struct lunl_tls_config *tls; /* held: of connections from now on, or NULL */
};

/* Pushes a closed server. */
lunl_server *lunl_server_new(lua_State *L, lunl_loop *loop, const lunl_net_opts *opts);
/*
 * It owns the socket `fd`, which listens, from now on; and `file`, unless NULL, which goes with
 * it. 0, or libuv's code and the socket is closed.
 */
int lunl_server_listen(lunl_server *sv, lunl_loop *loop, int fd, const char *file);
/* The server that the box at `idx` has, which is known to be one. */
static inline lunl_server *lunl_server_at(lua_State *L, int idx)
{
    return lunl_unbox(L, idx);
}
/* The server at 1, whatever became of it. */
lunl_server *lunl_check_server(lua_State *L);
/* The same, open and of the running loop; else OSError EBADF or RuntimeError. */
lunl_server *lunl_open_server(lua_State *L, lunl_state *S, const char *what);
/* Pushes the stream of a new connection: 0; or libuv's code, UV_EAGAIN: there is none. */
int lunl_server_accept(lua_State *L, lunl_server *sv);
/* The running task joins those that wait for a connection: 0 or libuv's code. */
int lunl_server_wait(lunl_server *sv, lun_task *t);
/* Stops listening; harmless if it has. */
void lunl_server_close(lunl_server *sv);

extern const luaL_Reg lunl_serve_methods[]; /* serve.c */

#endif
