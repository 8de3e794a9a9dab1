/* SPDX-License-Identifier: MIT */
/*
 * stdio.h - the process's standard streams as streams of a loop. stdio.c decides what carries
 * them: what the kernel can poll is shared.c's, what it cannot (files, /dev/null) blocking.c's.
 *
 * Laws:
 *  1. A flag of an open file that others may have, too, is never changed: the shell, our parent
 *     and the other end of a redirection see nothing of us.
 *  2. Descriptors 0, 1 and 2 are never closed; ours are beside them.
 *  3. A stream of these lives as long as its loop, and is nobody's to close.
 */
#ifndef LUNL_IO_STDIO_H
#define LUNL_IO_STDIO_H

#include "oneway.h"
#include "stream.h"

/* The number of a standard stream is its descriptor's. */
enum { LUNL_STDIN, LUNL_STDOUT, LUNL_STDERR, LUNL_STDIOS };

extern const lunl_transport lunl_shared_transports[LUNL_STDIOS];
extern const lunl_transport lunl_blocking_transports[LUNL_STDIOS];

/*
 * Each opens a connection over `fd`, which becomes its own: 0, or libuv's code and `fd` is still
 * the caller's. `alone`: the open file is ours alone, and non-blocking. UV_EPERM: the kernel
 * cannot poll it.
 */
int lunl_shared_open(lunl_loop *loop, int n, int fd, bool alone, lunl_conn **c);
int lunl_blocking_open(lunl_loop *loop, int n, int fd, lunl_conn **c);

/* What was printed by Lua's own library goes out before anything else does. */
void lunl_stdio_flush(const lunl_conn *c);

#endif
