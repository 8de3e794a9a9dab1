/* SPDX-License-Identifier: MIT */
/*
 * stdio.c - async.stdin, async.stdout, async.stderr: made when they are first asked for in a loop,
 * and which file is behind a descriptor. The laws are in stdio.h.
 *
 * A pipe or terminal is opened once more, through /proc, which makes an open file of our own; where
 * that is refused (the file of another user, a socket, a pipe without a reader) the descriptor is
 * duplicated. write() returns when the system has taken all of it, so that what a task prints
 * afterwards, through Lua's own library, comes behind it.
 */
#include "stdio.h"

#include "socket.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[LUNL_STDIOS] = {"stdin", "stdout", "stderr"};

/* ---- for the transports ---- */

void lunl_stdio_flush(const lunl_conn *c)
{
    if (c->via->name == lunl_shared_transports[LUNL_STDOUT].name ||
        c->via->name == lunl_blocking_transports[LUNL_STDOUT].name)
        fflush(stdout);
}

/* ---- descriptors ---- */

/* Opening the master of a pair of terminals once more would make a new pair. */
static bool can_be_opened_again(int fd)
{
    struct stat st;
    unsigned number;
    if (fstat(fd, &st) != 0)
        return false;
    return S_ISFIFO(st.st_mode) || (isatty(fd) && ioctl(fd, TIOCGPTN, &number) != 0);
}

/* A descriptor of our own for what is behind `n`, or libuv's code. */
static int open_own(int n, bool *alone)
{
    char path[32];
    int flags = fcntl(n, F_GETFL), mode = n == LUNL_STDIN ? O_RDONLY : O_WRONLY;
    if (flags < 0)
        return uv_translate_sys_error(errno);
    if ((flags & O_ACCMODE) != O_RDWR && (flags & O_ACCMODE) != mode)
        return UV_EBADF;
    snprintf(path, sizeof path, "/proc/self/fd/%d", n);
    int fd =
        can_be_opened_again(n) ? open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    *alone = fd >= 0;
    if (fd < 0)
        fd = fcntl(n, F_DUPFD_CLOEXEC, LUNL_STDIOS);
    return fd >= 0 ? fd : uv_translate_sys_error(errno);
}

static int open_conn(lunl_loop *loop, int n, lunl_conn **c)
{
    bool alone = false;
    int fd = open_own(n, &alone);
    if (fd < 0)
        return fd;
    lunl_polls_forget(loop, fd);
    int err = lunl_shared_open(loop, n, fd, alone, c);
    if (err == UV_EPERM)
        err = lunl_blocking_open(loop, n, fd, c);
    if (err != 0)
        close(fd);
    return err;
}

static void make(lua_State *L, lunl_loop *loop, lunl_io *io, int n)
{
    static const lunl_addr nowhere;
    lunl_conn *c;
    lunl_ignore_sigpipe();
    lunl_open_stream_type(L);
    lunl_stream *s =
        lunl_stream_new(L, loop, &lunl_shared_transports[n], &nowhere, LUNL_LINE_LIMIT);
    lunl_keep(L, loop, -1);
    const void *box = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (io->stdio[n]) { /* a finaliser that ran just now has asked for it, too */
        lunl_let_go(L, loop, box);
        return;
    }
    int err = open_conn(loop, n, &c);
    if (err != 0) {
        lunl_let_go(L, loop, box);
        lunl_throw_uv(L, err, "open", names[n]);
    }
    c->high = c->low = 0;
    lunl_stream_own(s, c);
    io->stdio[n] = box;
}

int lunl_push_stdio(lua_State *L, lunl_state *S, const char *name)
{
    int n = LUNL_STDIN;
    while (strcmp(names[n], name) != 0)
        n++;
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_io *io = lunl_io_of(L, loop);
    if (!io->stdio[n])
        make(L, loop, io, n);
    lunl_push_kept(L, loop, io->stdio[n]);
    return 1;
}
