/* SPDX-License-Identifier: MIT */
/*
 * echo_libuv.c - the server that scripts/bench/echo.lua measures the others by: bare callbacks of
 * libuv, one read buffer for all connections, writing at once what the socket takes and queueing
 * the rest, no reading while it is queued. Its argument is echo, sink or source.
 */
#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { CHUNK = 65536, BACKLOG = 1024 };

typedef struct peer {
    uv_tcp_t tcp; /* first */
    uv_write_t write;
    char *left; /* owned: what the socket did not take, or NULL */
} peer;

static char chunk[CHUNK];
static const char *serves;

static void on_closed(uv_handle_t *h)
{
    free(((peer *)h)->left);
    free(h);
}

static void leave(peer *p)
{
    if (!uv_is_closing((uv_handle_t *)p))
        uv_close((uv_handle_t *)p, on_closed);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)h;
    (void)suggested;
    *buf = uv_buf_init(chunk, CHUNK);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf);

static void on_written(uv_write_t *w, int status)
{
    peer *p = (peer *)w->handle;
    free(p->left);
    p->left = NULL;
    if (status < 0)
        leave(p);
    else if (!uv_is_closing((uv_handle_t *)p))
        uv_read_start((uv_stream_t *)p, on_alloc, on_read);
}

static void answer(peer *p, const char *data, size_t n)
{
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)n);
    int sent = uv_try_write((uv_stream_t *)p, &buf, 1);
    if (sent == (int)n)
        return;
    if (sent < 0 && sent != UV_EAGAIN) {
        leave(p);
        return;
    }
    n -= sent > 0 ? (size_t)sent : 0;
    data += sent > 0 ? sent : 0;
    p->left = malloc(n);
    if (!p->left)
        abort();
    memcpy(p->left, data, n);
    buf = uv_buf_init(p->left, (unsigned)n);
    uv_read_stop((uv_stream_t *)p);
    uv_write(&p->write, (uv_stream_t *)p, &buf, 1, on_written);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    if (n < 0)
        leave((peer *)s);
    else if (n > 0 && *serves == 'e')
        answer((peer *)s, buf->base, (size_t)n);
}

static void on_gone(uv_write_t *w, int status)
{
    peer *p = (peer *)w->handle;
    uv_buf_t buf = uv_buf_init(chunk, CHUNK);
    if (status < 0)
        leave(p);
    else if (!uv_is_closing((uv_handle_t *)p))
        uv_write(&p->write, (uv_stream_t *)p, &buf, 1, on_gone);
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status < 0)
        return;
    peer *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    uv_tcp_init(listener->loop, &p->tcp);
    if (uv_accept(listener, (uv_stream_t *)p) != 0) {
        leave(p);
        return;
    }
    uv_tcp_nodelay(&p->tcp, 1);
    if (strcmp(serves, "source") != 0) {
        uv_read_start((uv_stream_t *)p, on_alloc, on_read);
    } else {
        p->write.handle = (uv_stream_t *)p;
        on_gone(&p->write, 0);
    }
}

int main(int argc, char **argv)
{
    uv_tcp_t listener;
    struct sockaddr_in addr;
    int size = sizeof addr;
    if (argc < 2)
        return 2;
    serves = argv[1];
    uv_tcp_init(uv_default_loop(), &listener);
    uv_ip4_addr("127.0.0.1", 0, &addr);
    if (uv_tcp_bind(&listener, (struct sockaddr *)&addr, 0) != 0 ||
        uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection) != 0)
        return 1;
    uv_tcp_getsockname(&listener, (struct sockaddr *)&addr, &size);
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
