/* SPDX-License-Identifier: MIT */
/*
 * shared.c - pipes, terminals and sockets whose open file we may share with other processes, as a
 * transport. libuv makes every descriptor that it watches non-blocking, and that would be seen by
 * all who share it; so it watches an epoll set of ours, in which the descriptor is alone.
 *
 * An open file that is ours alone is non-blocking. Of one that is not, a call takes no more than
 * what the kernel says there is room for, so it does not block: a socket is told so for the one
 * call, any other file is asked before. Only if somebody who shares it is quicker than we are
 * between question and call does the call wait.
 */
#include "stdio.h"

#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct shared {
    lunl_conn c;    /* first */
    uv_poll_t poll; /* of `set`; active while `mask` is not 0 */
    int fd, set;    /* ours */
    uint32_t mask;  /* what is asked of the set */
    bool alone;     /* the open file is ours alone */
    bool is_socket;
    bool in;          /* bytes are wanted */
    lun_link outputs; /* ring of lunl_output.link */
} shared;

static shared *shared_of(lunl_conn *c)
{
    return (shared *)c;
}

/* ---- the system calls ---- */

static bool ready(const shared *k, short events)
{
    struct pollfd p = {.fd = k->fd, .events = events};
    return poll(&p, 1, 0) > 0;
}

static ssize_t result(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EWOULDBLOCK || errno == EINTR ? UV_EAGAIN
                                                  : uv_translate_sys_error(errno);
}

static ssize_t take(const shared *k, char *p, size_t n)
{
    if (k->is_socket)
        return result(recv(k->fd, p, n, MSG_DONTWAIT));
    if (!k->alone && !ready(k, POLLIN))
        return UV_EAGAIN;
    return result(read(k->fd, p, n));
}

static ssize_t put(const shared *k, const uv_buf_t *bufs, unsigned n)
{
    struct iovec *io =
        (struct iovec *)(uintptr_t)bufs; /* which libuv promises that they are */
    if (k->is_socket) {
        struct msghdr m = {.msg_iov = io, .msg_iovlen = n};
        return result(sendmsg(k->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL));
    }
    if (k->alone)
        return result(writev(k->fd, io, (int)n));
    if (!ready(k, POLLOUT))
        return UV_EAGAIN;
    return result(write(k->fd, bufs->base, bufs->len < PIPE_BUF ? bufs->len : PIPE_BUF));
}

/* ---- the set ---- */

/*
 * Law 3 of stdio.h: while nobody waits for it, nothing outside of the loop moves it, so it keeps
 * no virtual clock from seeing that nothing is left to wait for.
 */
static void count_as(shared *k, bool outer)
{
    lun_counters *count = &k->c.h.loop->loop.count;
    count->handles += outer ? 1 : -1;
    count->inner -= outer ? 1 : -1;
}

static void on_ready(uv_poll_t *poll, int status, int events);

/* Asks for what is wanted now: 0 or libuv's code. */
static int arrange(shared *k)
{
    uint32_t mask =
        (k->in ? EPOLLIN : 0) | (lunl_outputs_first(&k->outputs) ? EPOLLOUT : 0);
    struct epoll_event e = {.events = mask};
    if (k->c.h.closing || mask == k->mask)
        return 0;
    if (epoll_ctl(k->set, EPOLL_CTL_MOD, k->fd, &e) != 0)
        return uv_translate_sys_error(errno);
    int err = 0;
    if (mask == 0)
        uv_poll_stop(&k->poll);
    else if (k->mask == 0)
        err = uv_poll_start(&k->poll, UV_READABLE, on_ready);
    if (err != 0)
        return err;
    if ((mask == 0) != (k->mask == 0))
        count_as(k, mask != 0);
    k->mask = mask;
    return 0;
}

/* ---- the transport ---- */

static void take_in(shared *k)
{
    lunl_io *io = k->c.h.loop->io;
    ssize_t n = take(k, io->chunk, LUNL_CHUNK);
    if (n > 0)
        lunl_conn_arrived(&k->c, io->chunk, (size_t)n);
    else if (n != UV_EAGAIN)
        lunl_conn_ended(&k->c, (int)n);
}

static void send_out(shared *k)
{
    lunl_output *o = lunl_outputs_first(&k->outputs);
    uv_buf_t buf = {.base = o->data + o->size - o->left, .len = o->left};
    ssize_t n = put(k, &buf, 1);
    if (n >= 0)
        lunl_outputs_sent(&k->outputs, (size_t)n);
    else if (n != UV_EAGAIN)
        lunl_outputs_fail(&k->outputs, (int)n);
}

/* A hang-up or an error is for whoever waits: reading or writing tells what it is. */
static void on_ready(uv_poll_t *poll, int status, int events)
{
    shared *k = lun_container(poll, shared, poll);
    struct epoll_event e;
    (void)status;
    (void)events;
    if (epoll_wait(k->set, &e, 1, 0) <= 0)
        return;
    if (k->in && (e.events & ~(uint32_t)EPOLLOUT))
        take_in(k);
    if (!k->c.h.closing && lunl_outputs_first(&k->outputs) &&
        (e.events & ~(uint32_t)EPOLLIN))
        send_out(k);
    arrange(k);
}

static int start(lunl_conn *c)
{
    shared *k = shared_of(c);
    lunl_io *io = c->h.loop->io;
    if (!io->chunk && !(io->chunk = lun_loop_alloc(&c->h.loop->loop, LUNL_CHUNK)))
        return UV_ENOMEM;
    k->in = true;
    int err = arrange(k);
    k->in = err == 0;
    return err;
}

static void stop(lunl_conn *c)
{
    shared_of(c)->in = false;
    arrange(shared_of(c));
}

static ssize_t offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    lunl_stdio_flush(c);
    return put(shared_of(c), bufs, n);
}

static int send_output(lunl_conn *c, lunl_output *o)
{
    shared *k = shared_of(c);
    lun_list_init(&o->link);
    lun_list_push(&k->outputs, &o->link);
    int err = arrange(k);
    if (err != 0)
        lun_list_drop(&o->link);
    return err;
}

/* Who reads from a pipe or terminal sees its end when the last process has closed it. */
static int half_close(lunl_conn *c)
{
    const shared *k = shared_of(c);
    if (!k->is_socket)
        return UV_ENOTSUP;
    return shutdown(k->fd, SHUT_WR) == 0 ? 0 : uv_translate_sys_error(errno);
}

static void shared_closing(lunl_handle *h)
{
    shared *k = (shared *)h;
    lunl_conn_closing(h);
    if (k->mask == 0)
        count_as(k, true);
    lunl_outputs_fail(&k->outputs, UV_ECANCELED);
}

static void shared_parted(lunl_handle *h)
{
    close(((shared *)h)->set);
    close(((shared *)h)->fd);
}

static const lunl_handle_kind shared_kind = {.closing = shared_closing,
                                             .parted = shared_parted,
                                             .lingers = lunl_conn_lingers,
                                             .lasts = true};

#define READS(what)                                                                        \
    {                                                                                      \
        .name = what, .start = start, .stop = stop, .offer = lunl_oneway_offer,            \
        .send = lunl_oneway_send, .half_close = lunl_oneway_start,                         \
        .push_error = lunl_oneway_push_error                                               \
    }
#define WRITES(what)                                                                       \
    {                                                                                      \
        .name = what, .start = lunl_oneway_start, .stop = stop, .offer = offer,            \
        .send = send_output, .half_close = half_close,                                     \
        .push_error = lunl_oneway_push_error                                               \
    }

const lunl_transport lunl_shared_transports[LUNL_STDIOS] = {
    READS("stdin"), WRITES("stdout"), WRITES("stderr")};

/* The set, or libuv's code. */
static int make_set(int fd)
{
    struct epoll_event nothing = {.events = 0};
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        return uv_translate_sys_error(errno);
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &nothing) == 0)
        return set;
    int err = uv_translate_sys_error(errno);
    close(set);
    return err;
}

int lunl_shared_open(lunl_loop *loop, int n, int fd, bool alone, lunl_conn **c)
{
    int type;
    socklen_t size = sizeof type;
    int set = make_set(fd);
    if (set < 0)
        return set;
    lunl_polls_forget(loop, set);
    shared *k = lunl_handle_new(loop, &shared_kind, sizeof *k);
    int err = k ? uv_poll_init(loop->loop.uv, &k->poll, set) : UV_ENOMEM;
    if (err != 0) {
        if (k)
            lunl_handle_discard(&k->c.h);
        close(set);
        return err;
    }
    k->c.via = &lunl_shared_transports[n];
    k->fd = fd;
    k->set = set;
    k->alone = alone;
    k->is_socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
    lun_list_init(&k->outputs);
    lunl_handle_opened(&k->c.h, (uv_handle_t *)&k->poll);
    count_as(k, false);
    *c = &k->c;
    return 0;
}
