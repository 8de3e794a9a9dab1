/* SPDX-License-Identifier: MIT */
/*
 * pipe.c - descriptors as transports. Reading and writing are those of sockets; what differs is
 * that a pipe goes one way, and how its end is told: shutdown(2) knows sockets alone, so the only
 * descriptor of a pipe's writing end is replaced, under its number, by a harmless one.
 */
#include "pipe.h"

#include "oneway.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

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
    int err = lunl_socket_half_close(c);
    if (err != UV_ENOTSOCK)
        return err;
    epoll_ctl(backend, EPOLL_CTL_DEL, fd, &none);
    return dup3(backend, fd, O_CLOEXEC) >= 0 ? 0 : uv_translate_sys_error(errno);
}

static const lunl_transport two_way = {.name = "pipe",
                                       .start = lunl_socket_start,
                                       .stop = lunl_socket_stop,
                                       .pull = lunl_socket_pull,
                                       .offer = lunl_socket_offer,
                                       .send = lunl_socket_send,
                                       .half_close = lunl_socket_half_close,
                                       .lingers = lunl_socket_lingers};
static const lunl_transport in_only = {.name = "pipe",
                                       .start = lunl_socket_start,
                                       .stop = lunl_socket_stop,
                                       .pull = lunl_socket_pull,
                                       .offer = lunl_oneway_offer,
                                       .send = lunl_oneway_send,
                                       .half_close = lunl_oneway_start,
                                       .push_error = lunl_oneway_push_error};
static const lunl_transport out_only = {.name = "pipe",
                                        .start = lunl_oneway_start,
                                        .stop = lunl_socket_stop,
                                        .offer = lunl_socket_offer,
                                        .send = lunl_socket_send,
                                        .half_close = hang_up,
                                        .lingers = lunl_socket_lingers,
                                        .push_error = lunl_oneway_push_error};

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
