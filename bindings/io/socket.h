/* SPDX-License-Identifier: MIT */
/*
 * socket.h - the system's byte streams, as libuv knows them, as the transport of streams.
 */
#ifndef LUNL_IO_SOCKET_H
#define LUNL_IO_SOCKET_H

#include "transport.h"

enum {
    LUNL_HIGH_WATER =
        65536 /* a writer waits above this many queued bytes, unless told otherwise */
};

typedef struct lunl_socket {
    lunl_conn c;                      /* first */
    struct lunl_lingering *lingering; /* owned; NULL: it does not linger */
    bool more;                        /* a read may find something */
    bool doubted;                     /* an end was met whose cause is still on its way */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
} lunl_socket;

extern const lunl_transport lunl_socket_transport;
/* Its functions, for pipe.c. */
int lunl_socket_start(lunl_conn *c);
void lunl_socket_stop(lunl_conn *c);
bool lunl_socket_pull(lunl_conn *c);
ssize_t lunl_socket_offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n);
int lunl_socket_send(lunl_conn *c, lunl_output *o);
int lunl_socket_half_close(lunl_conn *c);
void lunl_socket_lingers(lunl_conn *c);

/* Its writer waits above `high`, until a quarter of that is left. */
static inline void lunl_socket_marks(lunl_socket *k, size_t high)
{
    k->c.high = high;
    k->c.low = high / 4;
}

/*
 * Makes a connection whose handle is not initialised; NULL: no memory. To be opened, or
 * lunl_handle_discard.
 */
lunl_socket *lunl_socket_new(lunl_loop *loop);
/* The descriptor of an open one. */
int lunl_socket_fd(const lunl_socket *k);

/*
 * libuv writes with write(2), which cannot be told to spare the process when the other end is gone:
 * from now on SIGPIPE is ignored, if the process has left it at its default (net.c).
 */
void lunl_ignore_sigpipe(void);

#endif
