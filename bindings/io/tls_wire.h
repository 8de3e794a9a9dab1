/* SPDX-License-Identifier: MIT */
/*
 * tls_wire.h - the layer of a connection with TLS, for tls.c, and what goes from OpenSSL to the
 * transport below: tls_wire.c.
 */
#ifndef LUNL_IO_TLS_WIRE_H
#define LUNL_IO_TLS_WIRE_H

#include "tls.h"

enum {
    LUNL_RECORD = 16384,         /* bytes of plain text that a record holds */
    LUNL_BATCH = 4 * LUNL_RECORD /* ... and that go down in one go */
};

struct lunl_tls {
    lunl_layer layer; /* first */
    lunl_conn *c;     /* borrowed */
    lunl_loop *loop;  /* borrowed */
    lunl_tls_config *config;
    SSL *ssl;        /* owned, and with it the BIO */
    const char *fed; /* borrowed: what has arrived and OpenSSL has not read ... */
    size_t n_fed;    /* ... in bytes */
    lunl_buffer out; /* what it has written and is still to go down */
    lun_link held;   /* lunl_output.link: plain ones that wait for the handshake */
    size_t n_held;   /* bytes of theirs in c->queued */
    size_t
        answers; /* bytes that OpenSSL has written for a reader since the queue was empty */
    lun_timer timer; /* the handshake's limit */
    lunl_tls_fault fault;
    enum lunl_tls_state state;
    unsigned depth; /* law 1 */
    size_t size;    /* of this block */
    bool late;      /* see lunl_tls_start */
    bool counted;   /* in loop->count.requests */
    bool dead;      /* the connection closes: freed when depth is 0 */
    bool
        flying; /* the handshake's last words may be in c->queued, and the peer needs them */
    bool notified; /* our close_notify is out or in c->queued */
    char name[];   /* whom the other end has to be, or "" */
};

static inline lun_loop *lunl_tls_loop(const lunl_tls *t)
{
    return &t->loop->loop;
}

/* Makes the SSL of a layer that has its context and its name: false if there is no memory. */
bool lunl_tls_prepare(lunl_tls *t, bool server);
/* Hands on what OpenSSL has written: 0, or libuv's code and it is lost. */
int lunl_tls_flush(lunl_tls *t);
/* Encrypts at most a record of plain text: 0, or a code. */
int lunl_tls_seal_record(lunl_tls *t, const char *p, size_t n);
/* Encrypts and hands on `n` bytes: 0, or a code. */
int lunl_tls_seal(lunl_tls *t, const char *p, size_t n);
/* Our close_notify goes out behind what is queued: 0, or libuv's code. */
int lunl_tls_notify(lunl_tls *t);

#endif
