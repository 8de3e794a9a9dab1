/* SPDX-License-Identifier: MIT */
/*
 * pipe.c - descriptors as transports. Reading and writing are those of sockets; what differs is
 * that a pipe goes one way, and how its end is told: shutdown(2) knows sockets alone, so the only
 * descriptor of a pipe's writing end is replaced, under its number, by a harmless one.
 */
#include "pipe.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int start(lunl_conn *c)
{
    return lunl_socket_transport.start(c);
}

static void stop(lunl_conn *c)
{
    lunl_socket_transport.stop(c);
}

static bool pull(lunl_conn *c)
{
    return lunl_socket_transport.pull(c);
}

static void lingers(lunl_conn *c)
{
    lunl_socket_transport.lingers(c);
}

static ssize_t offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    return lunl_socket_transport.offer(c, bufs, n);
}

static int send_output(lunl_conn *c, lunl_output *o)
{
    return lunl_socket_transport.send(c, o);
}

/* ---- what a one-way stream does not do ---- */

static int no_start(lunl_conn *c)
{
    (void)c;
    return UV_EBADF;
}

static void no_stop(lunl_conn *c)
{
    (void)c;
}

static ssize_t no_offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    (void)c;
    (void)bufs;
    (void)n;
    return UV_EBADF;
}

static int no_send(lunl_conn *c, lunl_output *o)
{
    (void)c;
    (void)o;
    return UV_EBADF;
}

static int no_half_close(lunl_conn *c)
{
    (void)c;
    return UV_EBADF;
}

/* ---- the end of what is written ---- */

static int half_close(lunl_conn *c)
{
    int fd = lunl_socket_fd((lunl_socket *)c);
    return shutdown(fd, SHUT_WR) == 0 ? 0 : uv_translate_sys_error(errno);
}

/*
 * Nothing is written any more and nothing was ever read, so libuv will not touch the number but to
 * close it. The descriptor of the loop's own poll takes its place because it is always there: it
 * needs no new one. The kernel is to forget the pipe first, should a child that is just being
 * forked hold it, too.
 */
static int hang_up(lunl_conn *c)
{
    int fd = lunl_socket_fd((lunl_socket *)c), backend = uv_backend_fd(c->h.loop->loop.uv);
    struct epoll_event none;
    if (shutdown(fd, SHUT_WR) == 0)
        return 0;
    if (errno != ENOTSOCK)
        return uv_translate_sys_error(errno);
    epoll_ctl(backend, EPOLL_CTL_DEL, fd, &none);
    return dup3(backend, fd, O_CLOEXEC) >= 0 ? 0 : uv_translate_sys_error(errno);
}

/* A stream that goes one way is asked to go the other, or the system has refused something. */
static void push_error(lua_State *L, const lunl_conn *c, int err, const char *what,
                       const char *text);

static const lunl_transport two_way = {.name = "pipe",
                                       .start = start,
                                       .stop = stop,
                                       .pull = pull,
                                       .offer = offer,
                                       .send = send_output,
                                       .half_close = half_close,
                                       .lingers = lingers};
static const lunl_transport in_only = {.name = "pipe",
                                       .start = start,
                                       .stop = stop,
                                       .pull = pull,
                                       .offer = no_offer,
                                       .send = no_send,
                                       .half_close = no_half_close,
                                       .push_error = push_error};
static const lunl_transport out_only = {.name = "pipe",
                                        .start = no_start,
                                        .stop = no_stop,
                                        .offer = offer,
                                        .send = send_output,
                                        .half_close = hang_up,
                                        .lingers = lingers,
                                        .push_error = push_error};

static void push_error(lua_State *L, const lunl_conn *c, int err, const char *what,
                       const char *text)
{
    lunl_error_addr(L, err, what, text);
    if (err != UV_EBADF)
        return;
    const lunl_transport *via = c->layer ? c->layer->below : c->via;
    lua_pushfstring(L, "%s %s: the stream is %s-only", what, text,
                    via == &in_only ? "read" : "write");
    lunl_error_set(L, lua_absindex(L, -2), "message");
}

const lunl_transport *lunl_pipe_transport(bool readable, bool writable)
{
    return readable && writable ? &two_way : readable ? &in_only : &out_only;
}

/* libuv aborts when the kernel cannot poll what it is to watch. */
static int pollable(lunl_loop *loop, int fd)
{
    struct epoll_event none = {0};
    int backend = uv_backend_fd(loop->loop.uv);
    if (epoll_ctl(backend, EPOLL_CTL_ADD, fd, &none) == 0)
        epoll_ctl(backend, EPOLL_CTL_DEL, fd, &none);
    else if (errno != EEXIST)
        return uv_translate_sys_error(errno);
    return 0;
}

lunl_socket *lunl_pipe_open(lunl_loop *loop, int fd, bool readable, bool writable, int *err)
{
    lunl_polls_forget(loop, fd);
    *err = pollable(loop, fd);
    lunl_socket *k = *err == 0 ? lunl_socket_new(loop) : NULL;
    if (!k) {
        if (*err == 0)
            *err = UV_ENOMEM;
        return NULL;
    }
    *err = uv_pipe_init(loop->loop.uv, &k->uv.pipe, 0);
    if (*err != 0) {
        lunl_handle_discard(&k->c.h);
        return NULL;
    }
    k->c.via = lunl_pipe_transport(readable, writable);
    lunl_handle_opened(&k->c.h, &k->uv.handle);
    *err = uv_pipe_open(&k->uv.pipe, fd);
    if (*err == 0)
        return k;
    lunl_handle_close(&k->c.h);
    return NULL;
}
