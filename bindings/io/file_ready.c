/* SPDX-License-Identifier: MIT */
/*
 * file_ready.c - waiting until a descriptor without positions can be read or written. The watch
 * is made for one wait and closed with it, so a file at rest has none. Where the system cannot
 * watch a descriptor, that never blocks either.
 */
#include "file.h"

typedef struct lunl_ready {
    lunl_handle h; /* first */
    uv_poll_t poll;
    lunl_desc *d; /* NULL once it closes */
} lunl_ready;

static lunl_desc *part(lunl_ready *r)
{
    lunl_desc *d = r->d;
    r->d = NULL;
    if (d)
        d->wait = NULL;
    return d;
}

/* Not by us: its loop ends, or a test has left it behind. */
static void closing(lunl_handle *h)
{
    lunl_desc *d = part((lunl_ready *)h);
    if (d)
        lunl_desc_ready(d, UV_ECANCELED);
}

static const lunl_handle_kind ready_kind = {.closing = closing};

/* Readable, writable, or in trouble: either way the call tells. */
static void on_ready(uv_poll_t *poll, int status, int events)
{
    lunl_ready *r = lun_container(poll, lunl_ready, poll);
    lunl_desc *d = part(r);
    (void)status;
    (void)events;
    lunl_handle_close(&r->h);
    lunl_desc_ready(d, 0);
}

int lunl_desc_await(lunl_desc *d)
{
    lunl_ready *r = lunl_handle_new(d->loop, &ready_kind, sizeof *r);
    if (!r)
        return UV_ENOMEM;
    int err = uv_poll_init(d->loop->loop.uv, &r->poll, d->fd);
    if (err != 0) {
        lunl_handle_discard(&r->h);
        return err == UV_EPERM ? 0 : err;
    }
    lunl_handle_opened(&r->h, (uv_handle_t *)&r->poll);
    err = uv_poll_start(&r->poll, d->call == LUNL_FILE_READ ? UV_READABLE : UV_WRITABLE,
                        on_ready);
    if (err != 0) {
        lunl_handle_close(&r->h);
        return err;
    }
    r->d = d;
    d->wait = r;
    return 0;
}

void lunl_desc_forget(lunl_desc *d)
{
    lunl_ready *r = d->wait;
    part(r);
    lunl_handle_close(&r->h);
}
