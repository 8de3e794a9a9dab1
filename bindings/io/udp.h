/* SPDX-License-Identifier: MIT */
/*
 * udp.h - a socket for datagrams: udp_open.c makes one and sets it up, udp.c sends and receives.
 *
 * The socket is ours and libuv only says when it is ready. A datagram is taken from the system by
 * the task that asked for it, so there is no queue but the system's, which is bounded, a cancelled
 * recv has taken nothing, and an error meets whoever made the call.
 */
#ifndef LUNL_IO_UDP_H
#define LUNL_IO_UDP_H

#include "box.h"
#include "net.h"

typedef struct lunl_udp lunl_udp;

typedef struct lunl_endpoint {
    lunl_handle h; /* first */
    uv_poll_t poll;
    int fd;        /* owned, closed as soon as the handle begins to close */
    lunl_udp *box; /* owned with its object; NULL once the socket is closed */
    int events;    /* that libuv looks for */
} lunl_endpoint;

struct lunl_udp {
    lunl_core core;   /* first */
    lunl_endpoint *e; /* NULL once closed */
    lun_park receivers, senders;
    lunl_addr addr; /* where it is bound */
    lunl_addr peer; /* AF_UNSPEC: not connected */
};

/* Pushes a closed socket. */
lunl_udp *lunl_udp_new(lua_State *L, lunl_loop *loop);
/* It owns the descriptor from now on: 0, or libuv's code and the descriptor is closed. */
int lunl_udp_own(lunl_udp *u, lunl_loop *loop, int fd);
/* The socket at 1, open and of the running loop; else OSError EBADF or RuntimeError. */
lunl_udp *lunl_open_udp(lua_State *L, lunl_state *S, const char *what);

/* The first address of a lookup's list, which is on top; OSError if there is none. */
void lunl_udp_found(lua_State *L, lunl_addr *a, const char *host);

extern const luaL_Reg lunl_udp_group_methods[]; /* udp_open.c: join, leave */

#endif
