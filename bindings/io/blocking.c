/* SPDX-License-Identifier: MIT */
/*
 * blocking.c - regular files and what else the kernel cannot poll (/dev/null), as a transport: each
 * piece is read or written by libuv's pool, in the lane of files. The descriptor shares its place
 * in the file with who has it, too: pieces go where a program's that blocks would go.
 *
 * Law: a piece in the pool is memory of its own. The connection and the piece point at each other
 * until either is gone; a piece that has lost its connection closes the descriptor.
 */
#include "lane.h"
#include "stdio.h"

#include <string.h>
#include <unistd.h>

typedef struct blocking blocking;

typedef struct piece {
    lunl_lane_job job;
    uv_fs_t req;
    blocking *k; /* NULL: closed meanwhile */
    lunl_loop *loop;
    int fd;
    size_t size; /* of data: what is to be written, or room */
    char data[];
} piece;

struct blocking {
    lunl_conn c; /* first */
    int fd;      /* ours */
    piece *piece;
    bool in;          /* bytes are wanted */
    bool guarded;     /* a callback of ours is on the C stack */
    lun_job guard;    /* never queued; stands for that */
    lun_link outputs; /* ring of lunl_output.link */
};

static blocking *blocking_of(lunl_conn *c)
{
    return (blocking *)c;
}

/* ---- pieces ---- */

static void discard(piece *p)
{
    lunl_loop *loop = p->loop;
    loop->loop.count.requests--;
    lun_loop_free(&loop->loop, p, sizeof *p + p->size);
}

static int go_on(blocking *k);

/* A piece of an open connection is done; that may begin to close. */
static void dispatch(blocking *k, piece *p, ssize_t n)
{
    if (k->c.via->offer == lunl_oneway_offer) {
        if (n > 0)
            lunl_conn_arrived(&k->c, p->data, (size_t)n);
        else
            lunl_conn_ended(&k->c, (int)n);
    } else if (n >= 0) {
        lunl_outputs_sent(&k->outputs, (size_t)n);
    } else {
        lunl_outputs_fail(&k->outputs, (int)n);
    }
    if (k->c.h.closing)
        return;
    int err = go_on(k);
    if (err != 0 && k->in)
        lunl_conn_ended(&k->c, err);
    else if (err != 0)
        lunl_outputs_fail(&k->outputs, err);
}

static void done(piece *p, ssize_t n)
{
    blocking *k = p->k;
    if (!k) {
        close(p->fd);
        discard(p);
        return;
    }
    k->piece = NULL;
    k->guarded = true;
    dispatch(k, p, n);
    k->guarded = false;
    discard(p);
    if (k->c.h.closing)
        lunl_handle_gone(&k->c.h);
}

static void on_done(uv_fs_t *req)
{
    piece *p = lun_container(req, piece, req);
    ssize_t n = req->result;
    uv_fs_req_cleanup(req);
    lunl_lane_done(&p->job);
    done(p, n);
}

static void failed(lunl_lane_job *j, int err)
{
    done(lun_container(j, piece, job), err);
}

static int begin_reading(lunl_lane_job *j)
{
    piece *p = lun_container(j, piece, job);
    uv_buf_t buf = {.base = p->data, .len = p->size};
    return uv_fs_read(p->loop->loop.uv, &p->req, p->fd, &buf, 1, -1, on_done);
}

static int begin_writing(lunl_lane_job *j)
{
    piece *p = lun_container(j, piece, job);
    uv_buf_t buf = {.base = p->data, .len = p->size};
    return uv_fs_write(p->loop->loop.uv, &p->req, p->fd, &buf, 1, -1, on_done);
}

/* Copies the beginning of the outputs, LUNL_CHUNK bytes at most; how many, or only counts them. */
static size_t gather(const blocking *k, char *to)
{
    size_t n = 0;
    for (lun_link *l = k->outputs.next; l != &k->outputs && n < LUNL_CHUNK; l = l->next) {
        const lunl_output *o = lun_container(l, lunl_output, link);
        size_t part = o->left < LUNL_CHUNK - n ? o->left : LUNL_CHUNK - n;
        if (to)
            memcpy(to + n, o->data + o->size - o->left, part);
        n += part;
    }
    return n;
}

/* Sends the next piece to the pool if there is none and one is wanted: 0 or UV_ENOMEM. */
static int go_on(blocking *k)
{
    lunl_loop *loop = k->c.h.loop;
    if (k->piece || (!k->in && !lunl_outputs_first(&k->outputs)))
        return 0;
    size_t size = k->in ? LUNL_CHUNK : gather(k, NULL);
    piece *p = lun_loop_alloc(&loop->loop, sizeof *p + size);
    if (!p)
        return UV_ENOMEM;
    *p = (piece){.k = k, .loop = loop, .fd = k->fd, .size = size};
    p->job.begin = k->in ? begin_reading : begin_writing;
    p->job.failed = failed;
    if (!k->in)
        gather(k, p->data);
    k->piece = p;
    loop->loop.count.requests++;
    lunl_lane_start(loop, &p->job);
    return 0;
}

/* ---- the transport ---- */

static int start(lunl_conn *c)
{
    blocking *k = blocking_of(c);
    k->in = true;
    int err = go_on(k);
    k->in = err == 0;
    return err;
}

static void stop(lunl_conn *c)
{
    blocking_of(c)->in = false;
}

static ssize_t offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    (void)bufs;
    (void)n;
    lunl_stdio_flush(c);
    return UV_EAGAIN;
}

static int send_output(lunl_conn *c, lunl_output *o)
{
    blocking *k = blocking_of(c);
    lun_list_init(&o->link);
    lun_list_push(&k->outputs, &o->link);
    int err = go_on(k);
    if (err != 0)
        lun_list_drop(&o->link);
    return err;
}

/* A file has no reader that could be told. */
static int half_close(lunl_conn *c)
{
    (void)c;
    return UV_ENOTSUP;
}

static void blocking_closing(lunl_handle *h)
{
    blocking *k = (blocking *)h;
    piece *p = k->piece;
    lunl_conn_closing(h);
    lunl_outputs_fail(&k->outputs, UV_ECANCELED);
    k->piece = NULL;
    if (p && !lunl_lane_withdraw(&p->job)) {
        p->k = NULL;
        return;
    }
    if (p)
        discard(p);
    close(k->fd);
}

static lun_job *blocking_queued(lunl_handle *h)
{
    blocking *k = (blocking *)h;
    return k->guarded ? &k->guard : NULL;
}

static const lunl_handle_kind blocking_kind = {.closing = blocking_closing,
                                               .lingers = lunl_conn_lingers,
                                               .queued = blocking_queued,
                                               .lasts = true};

#define WRITES(what)                                                                       \
    {                                                                                      \
        .name = what, .start = lunl_oneway_start, .stop = stop, .offer = offer,            \
        .send = send_output, .half_close = half_close,                                     \
        .push_error = lunl_oneway_push_error                                               \
    }

const lunl_transport lunl_blocking_transports[LUNL_STDIOS] = {
    {.name = "stdin",
     .start = start,
     .stop = stop,
     .offer = lunl_oneway_offer,
     .send = lunl_oneway_send,
     .half_close = lunl_oneway_start,
     .push_error = lunl_oneway_push_error},
    WRITES("stdout"),
    WRITES("stderr")};

int lunl_blocking_open(lunl_loop *loop, int n, int fd, lunl_conn **c)
{
    blocking *k = lunl_handle_new(loop, &blocking_kind, sizeof *k);
    if (!k)
        return UV_ENOMEM;
    k->c.via = &lunl_blocking_transports[n];
    k->fd = fd;
    lun_list_init(&k->outputs);
    lunl_handle_opened(&k->c.h, NULL);
    *c = &k->c;
    return 0;
}
