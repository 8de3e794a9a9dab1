/* SPDX-License-Identifier: MIT */
/*
 * socket.c - streams over libuv's streams: TCP now; whatever else is a uv_stream_t will do.
 * libuv reads while somebody asks, and at most one piece more, which stays in the connection.
 */
#include "socket.h"

static const lunl_handle_kind socket_kind = {.closing = lunl_conn_closing,
                                             .lingers = lunl_conn_lingers};

int lunl_socket_fd(const lunl_socket *k)
{
    uv_os_fd_t fd = -1;
    uv_fileno(&k->uv.handle, &fd);
    return fd;
}

static lunl_socket *socket_of(lunl_conn *c)
{
    return (lunl_socket *)c;
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    lunl_conn *c = handle->data;
    const lunl_io *io = c->h.loop->io;
    bool tail = !c->layer && c->in.room - c->in.end >= LUNL_CHUNK / 2;
    buf->base = tail ? c->in.p + c->in.end : io->chunk;
    buf->len = tail ? c->in.room - c->in.end : LUNL_CHUNK;
}

/*
 * libuv calls it the end when a connection hangs up right behind some data, also when it
 * was reset: the socket knows better.
 */
static int end_of(lunl_conn *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(lunl_socket_fd(socket_of(c)), SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return 0;
    return error ? uv_translate_sys_error(error) : 0;
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf)
{
    lunl_conn *c = uv->data;
    if (n > 0)
        lunl_conn_arrived(c, buf->base, (size_t)n);
    else if (n < 0)
        lunl_conn_ended(c, n == UV_EOF ? end_of(c) : (int)n);
}

static int start(lunl_conn *c)
{
    lunl_io *io = c->h.loop->io;
    if (!io->chunk && !(io->chunk = lun_loop_alloc(&c->h.loop->loop, LUNL_CHUNK)))
        return UV_ENOMEM;
    return uv_read_start(&socket_of(c)->uv.stream, on_alloc, on_read);
}

static void stop(lunl_conn *c)
{
    uv_read_stop(&socket_of(c)->uv.stream);
}

/* ---- writing ---- */

static ssize_t offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    return uv_try_write(&socket_of(c)->uv.stream, bufs, n);
}

static void on_written(uv_write_t *uv, int status)
{
    lunl_output *o = lun_container(uv, lunl_output, uv);
    o->c->h.loop->loop.count.requests--;
    if (status < 0)
        lunl_output_failed(o, status);
    else
        lunl_output_sent(o, o->left);
}

static int send_output(lunl_conn *c, lunl_output *o)
{
    uv_buf_t buf = {.base = o->data, .len = o->size};
    int err = uv_write(&o->uv, &socket_of(c)->uv.stream, &buf, 1, on_written);
    if (err == 0)
        c->h.loop->loop.count.requests++;
    return err;
}

static int half_close(lunl_conn *c)
{
    return shutdown(lunl_socket_fd(socket_of(c)), SHUT_WR) == 0
               ? 0
               : uv_translate_sys_error(errno);
}

static int local(const lunl_conn *c, lunl_addr *a)
{
    struct sockaddr_storage sa;
    socklen_t size = sizeof sa;
    int fd = lunl_socket_fd((const lunl_socket *)c);
    if (getsockname(fd, (struct sockaddr *)&sa, &size) != 0)
        return uv_translate_sys_error(errno);
    lunl_addr_set(a, (const struct sockaddr *)&sa);
    return 0;
}

static const lunl_transport socket_transport = {.name = "socket",
                                                .start = start,
                                                .stop = stop,
                                                .offer = offer,
                                                .send = send_output,
                                                .half_close = half_close,
                                                .local = local};

lunl_socket *lunl_socket_new(lunl_loop *loop)
{
    lunl_socket *k = lunl_handle_new(loop, &socket_kind, sizeof *k);
    if (!k)
        return NULL;
    k->c.via = &socket_transport;
    k->c.high = LUNL_HIGH_WATER;
    k->c.low = LUNL_LOW_WATER;
    return k;
}
