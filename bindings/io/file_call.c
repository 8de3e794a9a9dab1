/* SPDX-License-Identifier: MIT */
/*
 * file_call.c - the request that a descriptor has with libuv's pool: one at a time, its outcome
 * stored here in the descriptor, whoever still waits for it. The laws are in file.h.
 */
#include "file.h"

#include <poll.h>
#include <unistd.h>

static void destroy(lunl_desc *d)
{
    lunl_buffer_free(&d->loop->loop, &d->in);
    lunl_buffer_free(&d->loop->loop, &d->out);
    if (d->fd >= 0)
        close(d->fd);
    lun_loop_free(&d->loop->loop, d, sizeof *d);
}

/* The system knows where a write goes. */
static bool is_its_own(const lunl_desc *d)
{
    return d->append || d->shared;
}

void lunl_desc_move(lunl_desc *d, int64_t to)
{
    d->pos = to;
    if (d->shared)
        lseek(d->fd, to, SEEK_SET);
}

/* What the request did to buffers and position. */
static void note(lunl_desc *d, ssize_t n)
{
    if (d->call == LUNL_FILE_READ) {
        d->in.end += (size_t)n;
        if (d->pos >= 0)
            lunl_desc_move(d, d->pos + n);
    } else if (d->call == LUNL_FILE_WRITE) {
        lunl_buffer_take(&d->loop->loop, &d->out, (size_t)n);
        if (d->pos >= 0)
            d->pos = is_its_own(d) ? lseek(d->fd, 0, SEEK_CUR) : d->pos + n;
    }
}

/* The request is over. */
static void over(lunl_desc *d, ssize_t result)
{
    d->in_flight = false;
    d->result = result;
    if (result > 0)
        note(d, result);
    if (d->h)
        lun_park_grant(&d->file->users);
    else
        destroy(d);
}

static bool goes_through(const lunl_desc *d)
{
    return d->call == LUNL_FILE_READ || d->call == LUNL_FILE_WRITE;
}

static void on_done(uv_fs_t *req)
{
    lunl_desc *d = lun_container(req, lunl_desc, req);
    ssize_t result = req->result;
    d->loop->loop.count.requests--;
    lunl_lane_done(&d->job);
    uv_fs_req_cleanup(req); /* leaves the facts of a stat in place */
    if (result == UV_EAGAIN && d->h && d->file->mine && goes_through(d)) {
        int err = lunl_desc_await(d);
        result = err ? err : result;
    }
    if (!d->wait)
        over(d, result);
}

static int begin(lunl_lane_job *j)
{
    lunl_desc *d = lun_container(j, lunl_desc, job);
    uv_loop_t *uv = d->loop->loop.uv;
    uv_buf_t buf;
    switch (d->call) {
    case LUNL_FILE_READ:
        buf = uv_buf_init(d->in.p + d->in.end, (unsigned)d->room);
        return uv_fs_read(uv, &d->req, d->fd, &buf, 1, d->pos, on_done);
    case LUNL_FILE_WRITE:
        buf = uv_buf_init(d->out.p + d->out.start, (unsigned)lunl_buffer_size(&d->out));
        return uv_fs_write(uv, &d->req, d->fd, &buf, 1, is_its_own(d) ? -1 : d->pos,
                           on_done);
    case LUNL_FILE_STAT:
        return uv_fs_fstat(uv, &d->req, d->fd, on_done);
    case LUNL_FILE_SYNC:
        return uv_fs_fsync(uv, &d->req, d->fd, on_done);
    case LUNL_FILE_DATASYNC:
        return uv_fs_fdatasync(uv, &d->req, d->fd, on_done);
    case LUNL_FILE_TRUNCATE:
        return uv_fs_ftruncate(uv, &d->req, d->fd, d->size, on_done);
    }
    return UV_ENOSYS;
}

static void failed(lunl_lane_job *j, int err)
{
    lunl_desc *d = lun_container(j, lunl_desc, job);
    d->loop->loop.count.requests--;
    over(d, err);
}

void lunl_desc_ready(lunl_desc *d, int err)
{
    if (err != 0) {
        over(d, err);
        return;
    }
    d->loop->loop.count.requests++;
    lunl_lane_start(d->loop, &d->job);
}

/* Would it block? Asked of the system without waiting. */
static bool blocks(const lunl_desc *d)
{
    struct pollfd p = {.fd = d->fd, .events = d->call == LUNL_FILE_READ ? POLLIN : POLLOUT};
    return poll(&p, 1, 0) == 0;
}

void lunl_desc_call(lunl_desc *d, enum lunl_file_call call)
{
    LUN_ASSERT(!d->in_flight);
    int err = 0;
    d->call = call;
    d->in_flight = true;
    d->job.begin = begin;
    d->job.failed = failed;
    if (d->pos < 0 && goes_through(d) && blocks(d))
        err = lunl_desc_await(d);
    if (!d->wait)
        lunl_desc_ready(d, err);
}

void lunl_desc_cancel(lunl_desc *d)
{
    if (!d->in_flight)
        return;
    if (d->wait)
        lunl_desc_forget(d);
    else if (lunl_lane_withdraw(&d->job))
        d->loop->loop.count.requests--;
    else
        return;
    d->in_flight = false;
}

void lunl_desc_drop(lunl_desc *d)
{
    lunl_desc_cancel(d);
    if (!d->in_flight)
        destroy(d);
}

void lunl_desc_unread(lunl_desc *d)
{
    if (d->pos < 0 || lunl_buffer_size(&d->in) == 0)
        return;
    lunl_desc_move(d, lunl_desc_at(d));
    lunl_buffer_take(&d->loop->loop, &d->in, lunl_buffer_size(&d->in));
}
