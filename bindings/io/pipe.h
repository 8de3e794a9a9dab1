/* SPDX-License-Identifier: MIT */
/*
 * pipe.h - a descriptor that can be polled (a pipe, a FIFO, a socket, a terminal) as the transport
 * of a stream that goes both ways or one way only.
 */
#ifndef LUNL_IO_PIPE_H
#define LUNL_IO_PIPE_H

#include "socket.h"

/*
 * Makes a connection over `fd`, which becomes its own and non-blocking: bytes can be read from it,
 * written to it, or both. What is not open for reading or writing answers UV_EBADF there. NULL:
 * *err is libuv's code (UV_EPERM: it cannot be polled, as files and /dev/null) and `fd` is still
 * the caller's. lunl_io_of has been called. Touches no Lua.
 */
lunl_socket *lunl_pipe_open(lunl_loop *loop, int fd, bool readable, bool writable,
                            int *err);
/* The transport of such a one, for a stream that is made before it. */
const lunl_transport *lunl_pipe_transport(bool readable, bool writable);

#endif
