/* SPDX-License-Identifier: MIT */
/*
 * conn.c - what connections of every transport have in common: who is woken when bytes have
 * come or gone, and when a connection without an object is over. Touches no Lua.
 */
#include "stream.h"

/* Law 1 of stream.h: whoever waits finds the object without a connection. */
void lunl_conn_part(lunl_conn *c)
{
    lunl_stream *s = c->box;
    if (!s)
        return;
    s->c = NULL;
    c->box = NULL;
    lun_park_grant_all(&s->readers);
    lun_park_grant_all(&s->writers);
    lunl_core_drop(&s->core);
}

void lunl_conn_closing(lunl_handle *h)
{
    lunl_conn *c = (lunl_conn *)h;
    lunl_conn_part(c);
    lunl_buffer_free(&h->loop->loop, &c->in);
    if (c->layer)
        c->layer->closing(c);
}

bool lunl_conn_spent(const lunl_conn *c)
{
    return c->queued == 0 || c->write_error || c->read_error;
}

/* A connection without an object is in the ring only because it still sends. */
bool lunl_conn_lingers(lunl_handle *h)
{
    lunl_conn *c = (lunl_conn *)h;
    const lunl_io *io = h->loop->io;
    if (lunl_conn_spent(c))
        return false;
    if (c->box && io->over)
        lunl_stream_close(c->box);
    return true;
}

/* ---- reading ---- */

bool lunl_conn_asked(const lunl_conn *c)
{
    return !c->box || (c->layer && c->layer->urgent) || lun_park_waiting(&c->box->readers);
}

void lunl_conn_stop(lunl_conn *c)
{
    c->reading = false;
    c->via->stop(c);
}

/*
 * Nobody will read any more. What comes is taken and dropped: a peer that waited for somebody to
 * read would not take what is still to go out.
 */
void lunl_conn_deafen(lunl_conn *c)
{
    const lunl_transport *t = c->layer ? c->layer->below : c->via;
    lunl_buffer_free(&c->h.loop->loop, &c->in);
    if (!c->reading && !c->eof)
        c->reading = c->via->start(c) == 0;
    if (t->lingers)
        t->lingers(c);
}

void lunl_conn_ready(lunl_conn *c)
{
    if (lunl_conn_asked(c)) {
        c->turned_away = false;
        lun_park_grant(&c->box->readers);
        return;
    }
    if (c->turned_away)
        lunl_conn_stop(c);
    c->turned_away = !c->turned_away;
}

/* Something has come, or all: the reader looks if it is worth it. */
static void look_again(lunl_conn *c)
{
    bool over = c->eof || c->read_error;
    bool asked = lunl_conn_asked(c);
    if (over || !asked)
        lunl_conn_stop(c);
    if (c->box && asked && (over || lunl_buffer_size(&c->in) >= c->need))
        lun_park_grant(&c->box->readers);
}

static void add(lunl_conn *c, const char *p, size_t n, bool lent)
{
    /* Another block may begin where this one ends. */
    if (c->in.p && p == c->in.p + c->in.end && n <= c->in.room - c->in.end)
        c->in.end += n;
    else if (!lunl_buffer_arrived(&c->h.loop->loop, &c->in, p, n, lent))
        c->read_error = UV_ENOMEM;
}

void lunl_conn_add(lunl_conn *c, const char *p, size_t n)
{
    add(c, p, n, true);
}

void lunl_conn_over(lunl_conn *c, int error)
{
    c->eof = error == 0;
    c->read_error = error;
    lunl_conn_stop(c);
}

void lunl_conn_deliver(lunl_conn *c, const char *p, size_t n)
{
    if (!c->box)
        return;
    add(c, p, n, false);
    look_again(c);
}

void lunl_conn_end(lunl_conn *c, int error)
{
    c->eof = error == 0;
    c->read_error = error;
    look_again(c);
    if (!c->box && error)
        lunl_handle_close(&c->h);
}

void lunl_conn_arrived(lunl_conn *c, const char *p, size_t n)
{
    if (c->layer)
        c->layer->arrived(c, p, n);
    else
        lunl_conn_deliver(c, p, n);
}

void lunl_conn_ended(lunl_conn *c, int error)
{
    if (c->layer)
        c->layer->ended(c, error);
    else
        lunl_conn_end(c, error);
}

/* ---- writing ---- */

lunl_output *lunl_output_new(lunl_conn *c, size_t n)
{
    lunl_output *o = lun_loop_alloc(&c->h.loop->loop, sizeof *o + n);
    if (!o)
        return NULL;
    o->c = c;
    o->size = o->left = n;
    c->outputs++;
    return o;
}

void lunl_output_free(lunl_output *o)
{
    o->c->outputs--;
    lun_loop_free(&o->c->h.loop->loop, o, sizeof *o + o->size);
}

/* Less is queued than before, or nothing will go out any more. */
static void went_on(lunl_conn *c)
{
    if (c->h.closing)
        return;
    if (c->write_error && c->layer) {
        c->layer->broken(c);
        if (c->h.closing)
            return;
    }
    if (c->queued == 0 && c->shut_due && !c->write_error) {
        c->shut_due = false;
        c->write_error = c->via->half_close(c);
    }
    if (!c->box) {
        if (lunl_conn_spent(c))
            lunl_handle_close(&c->h);
    } else if (c->write_error || lunl_conn_weight(c) <= c->low) {
        lun_park_grant_all(&c->box->writers);
    }
}

void lunl_output_sent(lunl_output *o, size_t n)
{
    lunl_conn *c = o->c;
    o->left -= n;
    c->queued -= n;
    if (o->left == 0)
        lunl_output_free(o);
    went_on(c);
}

void lunl_output_failed(lunl_output *o, int error)
{
    lunl_conn *c = o->c;
    c->queued -= o->left;
    lunl_output_free(o);
    if (!c->write_error)
        c->write_error = error;
    went_on(c);
}

lunl_output *lunl_outputs_first(const lun_link *ring)
{
    return lun_list_alone(ring) ? NULL : lun_container(ring->next, lunl_output, link);
}

void lunl_outputs_sent(lun_link *ring, size_t n)
{
    for (lunl_output *o; n > 0 && (o = lunl_outputs_first(ring)) != NULL;) {
        size_t part = n < o->left ? n : o->left;
        n -= part;
        if (part == o->left)
            lun_list_drop(&o->link);
        lunl_output_sent(o, part);
    }
}

void lunl_outputs_fail(lun_link *ring, int error)
{
    for (lunl_output *o; (o = lunl_outputs_first(ring)) != NULL;) {
        lun_list_drop(&o->link);
        lunl_output_failed(o, error);
    }
}
