/* SPDX-License-Identifier: MIT */
/*
 * tls_wire.c - between OpenSSL and the transport below. The BIO is our own and copies nothing: it
 * reads from the bytes that have just arrived and writes into a buffer that is handed on after
 * every call.
 */
#include "tls_wire.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <string.h>

enum {
    OVERHEAD = 64 /* bytes: more than what a record costs */
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *to, size_t size, size_t *n)
{
    lunl_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->n_fed == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *n = size < t->n_fed ? size : t->n_fed;
    memcpy(to, t->fed, *n);
    t->fed += *n;
    t->n_fed -= *n;
    return 1;
}

static int bio_write(BIO *bio, const char *p, size_t size, size_t *n)
{
    lunl_tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!lunl_buffer_append(lunl_tls_loop(t), &t->out, p, size))
        return 0;
    *n = size;
    return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long n, void *p)
{
    (void)bio;
    (void)n;
    (void)p;
    return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *lunl_tls_bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "lunation");
    if (!m)
        return NULL;
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    return m;
}

/* Gives the connection's SSL its BIO: false if there is no memory. */
static bool plug(lunl_tls *t)
{
    BIO *bio = BIO_new(t->config->bio);
    if (!bio)
        return false;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    return true;
}

/* Whom the other end has to be: a name, which it is told, too, or an address. */
static bool expect(SSL *ssl, const char *name)
{
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

bool lunl_tls_prepare(lunl_tls *t, bool server)
{
    lunl_tls_config *config = t->config;
    ERR_clear_error();
    lunl_tls_config *from = config->system ? config->system : config;
    if (from->system_due && (server ? config->ask != SSL_VERIFY_NONE : config->verify)) {
        if (SSL_CTX_set_default_verify_paths(from->ctx) != 1)
            return false;
        from->system_due = false;
    }
    t->ssl = SSL_new(t->config->ctx);
    if (!t->ssl || !plug(t))
        return false;
    if (server) {
        SSL_set_accept_state(t->ssl);
        SSL_set_verify(t->ssl, t->config->ask, NULL);
        return true;
    }
    SSL_set_connect_state(t->ssl);
    SSL_set_verify(t->ssl, t->config->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    return *t->name == '\0' || expect(t->ssl, t->name);
}

/* ---- downwards ---- */

int lunl_tls_flush(lunl_tls *t)
{
    lunl_conn *c = t->c;
    const lunl_transport *below = t->layer.below;
    size_t n = lunl_buffer_size(&t->out);
    ssize_t sent = 0;
    int err = 0;
    if (n == 0)
        return 0;
    uv_buf_t buf = {.base = t->out.p + t->out.start, .len = n};
    if (c->queued == t->n_held)
        sent = below->offer(c, &buf, 1);
    if (sent == UV_EAGAIN)
        sent = 0;
    if (sent < 0)
        err = (int)sent;
    else if ((n -= (size_t)sent) > 0) {
        lunl_output *o = lunl_output_new(c, n);
        err = o ? 0 : UV_ENOMEM;
        if (o) {
            memcpy(o->data, buf.base + sent, n);
            c->queued += n;
            err = below->send(c, o);
        }
        if (o && err != 0) {
            c->queued -= n;
            lunl_output_free(o);
        }
    }
    lunl_buffer_take(lunl_tls_loop(t), &t->out, lunl_buffer_size(&t->out));
    return err;
}

int lunl_tls_seal_record(lunl_tls *t, const char *p, size_t n)
{
    size_t done;
    /* Room for this one and, if there are more, for the batch. */
    size_t room = n < LUNL_RECORD ? n + OVERHEAD : LUNL_BATCH + LUNL_BATCH / 64;
    if (lunl_buffer_size(&t->out) == 0 &&
        !lunl_buffer_reserve(lunl_tls_loop(t), &t->out, room))
        return UV_ENOMEM;
    ERR_clear_error();
    int ok = SSL_write_ex(t->ssl, p, n, &done);
    return ok ? 0 : lunl_tls_take(&t->fault, t->ssl, SSL_get_error(t->ssl, ok));
}

int lunl_tls_seal(lunl_tls *t, const char *p, size_t n)
{
    int err = 0, lost;
    while (n > 0 && err == 0) {
        for (size_t batch = 0; n > 0 && batch < LUNL_BATCH && err == 0;
             batch += LUNL_RECORD) {
            size_t size = n < LUNL_RECORD ? n : LUNL_RECORD;
            err = lunl_tls_seal_record(t, p, size);
            p += size;
            n -= size;
        }
        lost = lunl_tls_flush(t);
        err = err ? err : lost;
    }
    return err;
}

int lunl_tls_notify(lunl_tls *t)
{
    t->notified = true;
    ERR_clear_error();
    SSL_shutdown(t->ssl);
    ERR_clear_error();
    return lunl_tls_flush(t);
}
