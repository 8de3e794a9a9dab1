/* SPDX-License-Identifier: MIT */
/*
 * socket.c - streams over libuv's streams: TCP now; whatever else is a uv_stream_t will do.
 * Libuv only says that something is there (it offers to read and gets no room), and the task that
 * waits for it reads by itself: into the read buffer, which is still in the processor's cache when
 * the string is made from it a moment later. Libuv reads for a layer, and to drop what nobody wants.
 */
#include "socket.h"

#include <errno.h>
#include <unistd.h>

/* ns without progress after which what is left is given up; between this and twice as much. */
static const uint64_t LINGER = 30000000000;

/* A socket whose object is gone and whose output is not out. */
typedef struct lunl_lingering {
    lun_timer timer;
    lunl_socket *k; /* borrowed */
    size_t left;    /* bytes that libuv had when the timer was started */
} lunl_lingering;

static void socket_closing(lunl_handle *h)
{
    lunl_lingering *g = ((lunl_socket *)h)->lingering;
    if (g) {
        lun_timer_stop(&h->loop->loop, &g->timer);
        lun_loop_free(&h->loop->loop, g, sizeof *g);
    }
    lunl_conn_closing(h);
}

static const lunl_handle_kind socket_kind = {.closing = socket_closing,
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

/* Where the next bytes go: behind the others, if there is room enough, or into the read buffer. */
static uv_buf_t room_for(const lunl_conn *c)
{
    const lunl_io *io = c->h.loop->io;
    bool tail = !c->layer && c->in.room - c->in.end >= LUNL_CHUNK / 2;
    uv_buf_t buf = {.base = tail ? c->in.p + c->in.end : io->chunk,
                    .len = tail ? c->in.room - c->in.end : LUNL_CHUNK};
    if (buf.len > io->most_read)
        buf.len = io->most_read;
    return buf;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    lunl_conn *c = handle->data;
    if (c->layer || !c->box || !c->via->pull)
        *buf = room_for(c);
    else
        buf->len = 0; /* on_read gets UV_ENOBUFS */
}

/*
 * libuv calls it the end when a connection hangs up right behind some data, also when it
 * was reset: the socket knows better, unless a write was told first. EPIPE means that the end
 * had come before, and that what was written behind it is refused.
 */
static int end_of(lunl_conn *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(lunl_socket_fd(socket_of(c)), SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return 0;
    if (error == 0 || error == EPIPE)
        return c->write_error == UV_ECONNRESET ? UV_ECONNRESET : 0;
    return uv_translate_sys_error(error);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf)
{
    lunl_conn *c = uv->data;
    if (n > 0) {
        lunl_conn_arrived(c, buf->base, (size_t)n);
    } else if (n == UV_ENOBUFS) {
        socket_of(c)->more = true;
        lunl_conn_ready(c);
    } else if (n < 0) {
        lunl_conn_ended(c, n == UV_EOF ? end_of(c) : (int)n);
    }
}

int lunl_socket_start(lunl_conn *c)
{
    lunl_io *io = c->h.loop->io;
    if (!io->chunk && !(io->chunk = lun_loop_alloc(&c->h.loop->loop, LUNL_CHUNK)))
        return UV_ENOMEM;
    return uv_read_start(&socket_of(c)->uv.stream, on_alloc, on_read);
}

void lunl_socket_stop(lunl_conn *c)
{
    uv_read_stop(&socket_of(c)->uv.stream);
}

/*
 * A read that fills the read buffer may not have had everything; one that does not is not tried
 * again before libuv says so.
 */
bool lunl_socket_pull(lunl_conn *c)
{
    lunl_socket *k = socket_of(c);
    ssize_t n;
    if (!k->more || c->layer)
        return false;
    uv_buf_t buf = room_for(c);
    do
        n = read(lunl_socket_fd(k), buf.base, buf.len);
    while (n < 0 && errno == EINTR);
    k->more = n > 0 && (size_t)n == buf.len;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    /* A write that failed has had the socket's error, and libuv has yet to tell of it. */
    if (n == 0 && c->queued > 0 && !k->doubted) {
        k->doubted = true;
        return false;
    }
    if (n > 0)
        lunl_conn_add(c, buf.base, (size_t)n);
    else
        lunl_conn_over(c, n < 0 ? uv_translate_sys_error(errno) : end_of(c));
    return true;
}

/* ---- writing ---- */

ssize_t lunl_socket_offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    size_t most = ((const lunl_io *)c->h.loop->io)->most_write;
    uv_buf_t first = {.base = bufs[0].base, .len = most};
    if (most == SIZE_MAX || (n == 1 && bufs[0].len <= most))
        return uv_try_write(&socket_of(c)->uv.stream, bufs, n);
    if (bufs[0].len < most)
        first.len = bufs[0].len;
    return uv_try_write(&socket_of(c)->uv.stream, &first, 1);
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

int lunl_socket_send(lunl_conn *c, lunl_output *o)
{
    uv_buf_t buf = {.base = o->data, .len = o->size};
    int err = uv_write(&o->uv, &socket_of(c)->uv.stream, &buf, 1, on_written);
    if (err == 0)
        c->h.loop->loop.count.requests++;
    return err;
}

static void wait_on(lunl_lingering *g);

static void on_waited(lun_timer *timer, lun_loop *loop)
{
    (void)loop;
    static const struct linger at_once = {1, 0};
    lunl_lingering *g = lun_container(timer, lunl_lingering, timer);
    lunl_socket *k = g->k;
    if (uv_stream_get_write_queue_size(&k->uv.stream) < g->left) {
        wait_on(g);
        return;
    }
    /* A reset: the other end must not take what it has got for all there was. */
    setsockopt(lunl_socket_fd(k), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    lunl_handle_close(&k->c.h);
}

static void wait_on(lunl_lingering *g)
{
    lun_loop *loop = &g->k->c.h.loop->loop;
    g->left = uv_stream_get_write_queue_size(&g->k->uv.stream);
    /* Without memory it is waited for without end, as for a slow peer. */
    (void)lun_timer_start(loop, &g->timer, lun_loop_time(loop) + LINGER);
}

/* A peer that takes nothing could keep a closed connection for ever. */
void lunl_socket_lingers(lunl_conn *c)
{
    lunl_lingering *g = lun_loop_alloc(&c->h.loop->loop, sizeof *g);
    if (!g)
        return;
    lun_timer_init(&g->timer, on_waited);
    g->k = socket_of(c);
    g->k->lingering = g;
    wait_on(g);
}

int lunl_socket_half_close(lunl_conn *c)
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
    lunl_addr_set(a, (const struct sockaddr *)&sa, size);
    lunl_addr_unmap(a);
    return 0;
}

const lunl_transport lunl_socket_transport = {.name = "socket",
                                              .start = lunl_socket_start,
                                              .stop = lunl_socket_stop,
                                              .pull = lunl_socket_pull,
                                              .offer = lunl_socket_offer,
                                              .send = lunl_socket_send,
                                              .half_close = lunl_socket_half_close,
                                              .local = local,
                                              .lingers = lunl_socket_lingers};

lunl_socket *lunl_socket_new(lunl_loop *loop)
{
    lunl_socket *k = lunl_handle_new(loop, &socket_kind, sizeof *k);
    if (!k)
        return NULL;
    k->c.via = &lunl_socket_transport;
    lunl_socket_marks(k, LUNL_HIGH_WATER);
    return k;
}
