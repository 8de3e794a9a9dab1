/* SPDX-License-Identifier: MIT */
/*
 * tls.c - the layer of one connection: bytes from below go into OpenSSL, what it makes of them
 * goes to the reader; what is written goes the other way.
 *
 * Laws:
 *  1. Whatever calls up (a delivery, an end, an output given back) may close the connection; so
 *     everything that does runs between enter and leave, and looks at `dead` before it goes on.
 *  2. Until the handshake is over plain outputs wait in `held`; nothing of them is sent if it
 *     fails.
 */
#include "tls_wire.h"

#include <openssl/err.h>

#include <string.h>

static const lunl_transport tls_transport;

/* Bytes: a peer that reads nothing and asks for answers, as by renegotiating, gets no more. */
static const size_t MOST_ANSWERS = 65536;

lunl_tls *lunl_tls_of(const lunl_conn *c)
{
    return c->via == &tls_transport ? (lunl_tls *)c->layer : NULL;
}

enum lunl_tls_state lunl_tls_state(const lunl_tls *t)
{
    return t->state;
}

SSL *lunl_tls_ssl(const lunl_tls *t)
{
    return t->ssl;
}

/* ---- the state ---- */

static void enter(lunl_tls *t)
{
    t->depth++;
}

static void destroy(lunl_tls *t)
{
    lun_loop *loop = lunl_tls_loop(t);
    SSL_free(t->ssl);
    lunl_buffer_free(loop, &t->out);
    lunl_tls_drop(t->config);
    lun_loop_free(loop, t, t->size);
}

static void leave(lunl_tls *t)
{
    if (--t->depth == 0 && t->dead)
        destroy(t);
}

static lunl_output *first_held(const lunl_tls *t)
{
    return lun_list_alone(&t->held) ? NULL : lun_container(t->held.next, lunl_output, link);
}

static lunl_output *take_held(lunl_tls *t)
{
    lunl_output *o = first_held(t);
    if (o) {
        lun_list_drop(&o->link);
        t->n_held -= o->left;
    }
    return o;
}

/* Nobody waits for the handshake any more. */
static void shaken(lunl_tls *t)
{
    t->layer.urgent = false;
    lun_timer_stop(lunl_tls_loop(t), &t->timer);
    if (t->counted)
        lunl_tls_loop(t)->count.requests--;
    t->counted = false;
}

/* It is over: both directions fail with `err` from here on. */
static void fail(lunl_tls *t, int err)
{
    lunl_conn *c = t->c;
    t->state = LUNL_TLS_BROKEN;
    shaken(t);
    if (!c->write_error)
        c->write_error = err;
    for (lunl_output *o; (o = take_held(t)) != NULL;) {
        lunl_output_failed(o, err);
        if (t->dead)
            return;
    }
    if (c->box)
        lun_park_grant_all(&c->box->writers);
    lunl_conn_end(c, err);
}

static int half_close(lunl_conn *c)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    int err = t->state == LUNL_TLS_SHAKING || t->notified ? 0 : lunl_tls_notify(t);
    if (err != 0)
        return err;
    if (t->notified && c->queued == 0)
        return t->layer.below->half_close(c);
    c->shut_due = true;
    return 0;
}

/* Nothing more can be sent; what the other end has sent can still be read. */
static void fall_silent(lunl_tls *t, int err)
{
    lunl_conn *c = t->c;
    if (!c->write_error)
        c->write_error = err;
    for (lunl_output *o; !t->dead && (o = take_held(t)) != NULL;)
        lunl_output_failed(o, c->write_error);
    if (!t->dead && c->box)
        lun_park_grant_all(&c->box->writers);
}

/* The handshake is over: what has waited for that goes on; `err`: or cannot go out. */
static void established(lunl_tls *t, int err)
{
    lunl_conn *c = t->c;
    t->state = LUNL_TLS_OPEN;
    shaken(t);
    for (lun_link *l = t->held.next; l != &t->held && err == 0; l = l->next) {
        lunl_output *o = lun_container(l, lunl_output, link);
        err = lunl_tls_seal(t, o->data, o->size);
    }
    /* Before they are given back: with the last of them a connection without an object ends. */
    if (err == 0 && !c->box)
        err = lunl_tls_notify(t);
    if (err == 0 && c->shut_due && c->queued == 0) {
        c->shut_due = false;
        err = half_close(c);
    }
    if (err != 0) {
        fall_silent(t, err);
        return;
    }
    for (lunl_output *o; !t->dead && (o = take_held(t)) != NULL;)
        lunl_output_sent(o, o->left);
    if (!t->dead && c->box)
        lun_park_grant_all(&c->box->writers);
}

/* Ciphers without certificates are there for who asks for them, but then nobody was checked. */
static bool anonymous(const lunl_tls *t)
{
    return !SSL_is_server(t->ssl) && t->config->verify &&
           !SSL_get0_peer_certificate(t->ssl);
}

static void shake(lunl_tls *t)
{
    int code = 0;
    ERR_clear_error();
    int done = SSL_do_handshake(t->ssl);
    int why = done == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, done);
    if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ)
        code = lunl_tls_take(&t->fault, t->ssl, why);
    else if (why == SSL_ERROR_NONE && anonymous(t))
        code = lunl_tls_say(&t->fault, SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE);
    int lost = lunl_tls_flush(t);
    /* What a server of TLS 1.3 sends at last is not needed by anybody. */
    bool needed = !SSL_is_server(t->ssl) || SSL_version(t->ssl) < TLS1_3_VERSION;
    if (code != 0 || (lost != 0 && (needed || why != SSL_ERROR_NONE))) {
        fail(t, code ? code : lost);
    } else if (why == SSL_ERROR_NONE) {
        t->flying = needed && t->c->queued > t->n_held;
        established(t, lost);
    }
}

static void on_limit(lun_timer *timer, lun_loop *loop)
{
    (void)loop;
    lunl_tls *t = lun_container(timer, lunl_tls, timer);
    enter(t);
    fail(t, t->late ? LUNL_TLS_LATE : LUNL_TLS_SLOW);
    leave(t);
}

/* ---- upwards ---- */

/* What OpenSSL answers to a read, and how its own words went out: false if that was all. */
static bool goes_on(lunl_tls *t, int why, int lost)
{
    if (why == SSL_ERROR_ZERO_RETURN)
        lunl_conn_end(t->c, 0);
    else if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ)
        fail(t, lunl_tls_take(&t->fault, t->ssl, why));
    else if (lost != 0)
        fall_silent(t, lost);
    else if (t->answers > MOST_ANSWERS)
        fail(t, lunl_tls_say(&t->fault, SSL_R_TOO_MANY_WARN_ALERTS));
    return why == SSL_ERROR_NONE && t->state == LUNL_TLS_OPEN;
}

/* Reads what there is for the connection's reader. */
static void drain(lunl_tls *t)
{
    lunl_conn *c = t->c;
    int why = SSL_ERROR_NONE, lost = 0;
    do {
        char scrap[512]; /* without an object all of it is dropped */
        char *to = scrap;
        size_t n, room = sizeof scrap;
        if (c->box) {
            if (!lunl_buffer_reserve(lunl_tls_loop(t), &c->in, LUNL_RECORD)) {
                fail(t, UV_ENOMEM);
                return;
            }
            to = c->in.p + c->in.end;
            room = c->in.room - c->in.end;
        }
        ERR_clear_error();
        int ok = SSL_read_ex(t->ssl, to, room, &n);
        why = ok ? SSL_ERROR_NONE : SSL_get_error(t->ssl, ok);
        t->answers += lunl_buffer_size(&t->out);
        lost = lunl_tls_flush(t);
        if (c->queued == 0)
            t->answers = 0;
        t->flying = t->flying && !ok;
        if (ok)
            lunl_conn_deliver(c, to, n);
    } while (!t->dead && goes_on(t, why, lost) && !t->dead);
    if (!t->dead && c->box && lunl_buffer_size(&c->in) == 0)
        lunl_buffer_take(lunl_tls_loop(t), &c->in, 0);
}

/* `n` bytes have come from below. */
static void feed(lunl_tls *t, const char *p, size_t n)
{
    lunl_conn *c = t->c;
    t->fed = p;
    t->n_fed = n;
    if (t->state == LUNL_TLS_SHAKING)
        shake(t);
    if (!t->dead && t->state == LUNL_TLS_OPEN && !c->eof)
        drain(t);
    t->n_fed = 0;
    /* Reads pull, but for the handshake. */
    if (!t->dead && c->reading && !lunl_conn_asked(c))
        lunl_conn_stop(c);
}

static void arrived(lunl_conn *c, const char *p, size_t n)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    enter(t);
    feed(t, p, n);
    leave(t);
}

static void ended(lunl_conn *c, int error)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    enter(t);
    if (t->state == LUNL_TLS_SHAKING)
        fail(t, error ? error : LUNL_TLS_CUT);
    else if (!c->eof && !c->read_error)
        lunl_conn_end(c, error || !c->box || t->config->ignore_eof ? error : LUNL_TLS_CUT);
    leave(t);
}

static void broken(lunl_conn *c)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    enter(t);
    if (t->state == LUNL_TLS_SHAKING || (t->state == LUNL_TLS_OPEN && t->flying))
        fail(t, c->write_error);
    leave(t);
}

static void closing(lunl_conn *c)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    c->layer = NULL;
    c->via = t->layer.below;
    shaken(t);
    for (lunl_output *o; (o = take_held(t)) != NULL;)
        lunl_output_failed(o, UV_ECANCELED);
    t->dead = true;
    if (t->depth == 0)
        destroy(t);
}

/* ---- the transport in front of the one below ---- */

static int start(lunl_conn *c)
{
    return c->layer->below->start(c);
}

static void stop(lunl_conn *c)
{
    c->layer->below->stop(c);
}

/* The next bytes of `bufs` from *i, *off on: in `stage` if there are several; how many, at *p. */
static size_t next_record(const uv_buf_t *bufs, unsigned n, unsigned *i, size_t *off,
                          char *stage, const char **p)
{
    size_t size = 0;
    *p = stage;
    while (*i < n && size < LUNL_RECORD) {
        size_t left = bufs[*i].len - *off, room = LUNL_RECORD - size;
        size_t share = left < room ? left : room;
        const char *from = bufs[*i].base + *off;
        if (size == 0 && (share == LUNL_RECORD || *i + 1 == n))
            *p = from;
        else
            memcpy(stage + size, from, share);
        size += share;
        *off += share;
        if (share == left) {
            ++*i;
            *off = 0;
        }
    }
    return size;
}

static ssize_t offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    char stage[LUNL_RECORD];
    unsigned i = 0;
    size_t off = 0, taken = 0;
    int err = 0, lost;
    if (t->state == LUNL_TLS_SHAKING)
        return UV_EAGAIN;
    while (i < n && err == 0 && c->queued == 0) {
        for (size_t batch = 0; i < n && batch < LUNL_BATCH && err == 0;
             batch += LUNL_RECORD) {
            const char *p;
            size_t size = next_record(bufs, n, &i, &off, stage, &p);
            err = lunl_tls_seal_record(t, p, size);
            taken += size;
        }
        lost = lunl_tls_flush(t);
        err = err ? err : lost;
    }
    return err ? err : (ssize_t)taken;
}

static int send_output(lunl_conn *c, lunl_output *o)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    t->n_held += o->left;
    if (t->state == LUNL_TLS_SHAKING) {
        lun_list_init(&o->link);
        lun_list_push(&t->held, &o->link);
        return 0;
    }
    int err = lunl_tls_seal(t, o->data, o->size);
    t->n_held -= o->left;
    if (err == 0)
        lunl_output_sent(o, o->left);
    return err;
}

/* Last words; those of a handshake in progress come behind it, if anything waits for that. */
static void part(lunl_conn *c)
{
    lunl_tls *t = (lunl_tls *)c->layer;
    if (t->layer.below->part)
        t->layer.below->part(c);
    if (t->state != LUNL_TLS_OPEN || t->notified || c->write_error)
        return;
    c->write_error = lunl_tls_notify(t);
}

static void push_error(lua_State *L, const lunl_conn *c, int err, const char *what,
                       const char *text)
{
    const lunl_tls *t = (const lunl_tls *)c->layer;
    if (err <= LUNL_TLS_FAILED && err >= LUNL_TLS_LATE) {
        /* Copies: making the error may run a finaliser that closes the connection. */
        lunl_tls_fault fault = t->fault;
        char name[LUNL_TLS_NAME + 1];
        strcpy(name, t->name);
        lunl_tls_push_error(L, err, &fault, what, text, *name ? name : NULL);
    } else {
        lunl_error_addr(L, err, what, text);
    }
}

static const lunl_transport tls_transport = {.name = "tls",
                                             .start = start,
                                             .stop = stop,
                                             .offer = offer,
                                             .send = send_output,
                                             .half_close = half_close,
                                             .part = part,
                                             .push_error = push_error};

/* ---- the beginning ---- */

static lunl_tls *make(lunl_conn *c, const lunl_tls_start *start)
{
    const char *name = start->name ? start->name : "";
    size_t size = sizeof(lunl_tls) + strlen(name) + 1;
    lunl_tls *t = lun_loop_alloc(&c->h.loop->loop, size);
    if (!t)
        return NULL;
    memset(t, 0, size);
    strcpy(t->name, name);
    t->layer = (lunl_layer){c->via, arrived, ended, broken, closing, true};
    t->c = c;
    t->loop = c->h.loop;
    t->size = size;
    t->late = start->late;
    t->config = start->config;
    t->config->refs++;
    lun_list_init(&t->held);
    lun_timer_init(&t->timer, on_limit);
    lun_loop *loop = lunl_tls_loop(t);
    if (lunl_tls_prepare(t, start->server) &&
        lun_timer_start(loop, &t->timer, lun_loop_deadline(loop, start->limit)) == 0)
        return t;
    ERR_clear_error();
    destroy(t);
    return NULL;
}

int lunl_tls_begin(lunl_stream *s, const lunl_tls_start *start)
{
    lunl_conn *c = s->c;
    lunl_tls *t = make(c, start);
    if (!t)
        return UV_ENOMEM;
    /* What has arrived is no plain text, whoever sent it too early. */
    lunl_buffer early = c->in;
    c->in = (lunl_buffer){0};
    c->layer = &t->layer;
    c->via = &tls_transport;
    /* As connecting, it is a request to the world outside, for which a virtual clock waits. */
    t->counted = c->h.uv != NULL;
    if (t->counted)
        lunl_tls_loop(t)->count.requests++;
    enter(t);
    feed(t, early.p + early.start, lunl_buffer_size(&early));
    lunl_buffer_free(lunl_tls_loop(t), &early);
    if (c->eof || c->read_error) {
        int error = c->read_error;
        if (t->state == LUNL_TLS_SHAKING)
            ended(c, error);
    } else if (t->state == LUNL_TLS_SHAKING && !c->reading) {
        int err = c->via->start(c);
        c->reading = err == 0;
        if (err != 0)
            fail(t, err);
    }
    leave(t);
    return 0;
}
