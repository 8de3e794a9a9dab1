/* SPDX-License-Identifier: MIT */
/*
 * socket.h - the system's byte streams, as libuv knows them, as the transport of streams.
 */
#ifndef LUNL_IO_SOCKET_H
#define LUNL_IO_SOCKET_H

#include "transport.h"

enum {
    LUNL_HIGH_WATER = 65536, /* a writer waits above this many queued bytes ... */
    LUNL_LOW_WATER = 16384   /* ... until no more than these are left */
};

typedef struct lunl_socket {
    lunl_conn c; /* first */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
} lunl_socket;

/*
 * Makes a connection whose handle is not initialised; NULL: no memory. To be opened, or
 * lunl_handle_discard.
 */
lunl_socket *lunl_socket_new(lunl_loop *loop);
/* The descriptor of an open one. */
int lunl_socket_fd(const lunl_socket *k);

#endif
