/* SPDX-License-Identifier: MIT */
/*
 * tls.h - TLS between a stream and its transport, by OpenSSL. tls_context.c: what is shared by
 * connections, made from the options; tls.c: the layer of one connection; tls_wire.c: what goes
 * from that to the transport; tls_error.c: errors; tls_face.c: what scripts call; tls_info.c: what
 * they may know.
 *
 * Laws:
 *  1. The layer has no task and touches no Lua: bytes from below move the handshake on, whoever
 *     waits for it; while it lasts plain outputs wait, and nothing is read as plain text.
 *  2. Whatever OpenSSL has written goes down after every call of it, a failed one, too: alerts
 *     leave that way.
 *  3. OpenSSL's queue of errors, which belongs to the thread, is empty before each call.
 *  4. A context lives as long as somebody uses it; it belongs to one Lua state.
 */
#ifndef LUNL_IO_TLS_H
#define LUNL_IO_TLS_H

#include "stream.h"

#include <openssl/ssl.h>

/* What connections have in common. */
typedef struct lunl_tls_config {
    unsigned refs;
    SSL_CTX *ctx;             /* owned */
    BIO_METHOD *bio;          /* owned: see tls.c */
    char *name;               /* owned: whom a client expects, or NULL */
    unsigned char *alpn;      /* owned: the protocols as they go over the wire, or NULL */
    unsigned alpn_size;       /* bytes */
    char *keylog;             /* owned, or NULL */
    double handshake_timeout; /* seconds */
    int ask;                  /* servers: SSL_VERIFY_... */
    bool verify;              /* clients */
    bool ignore_eof;          /* an end without a close_notify is an end */
    struct lunl_tls_config *system; /* held: whose authorities these are, or NULL */
    bool system_due; /* the system's authorities are to be read before anybody is checked */
    bool certified;  /* has a certificate with its key */
} lunl_tls_config;

/* Codes of connections' errors that are no codes of libuv. */
enum {
    LUNL_TLS_FAILED = -20001, /* see lunl_tls_fault */
    LUNL_TLS_CUT = -20002,    /* the end came without a close_notify */
    LUNL_TLS_SLOW = -20003,   /* the handshake took too long */
    LUNL_TLS_LATE = -20004    /* so did the whole, connecting included */
};

enum { LUNL_TLS_NAME = 255 }; /* bytes of a server name */

/* What OpenSSL had to say. */
typedef struct lunl_tls_fault {
    unsigned long code; /* of its queue */
    long verify;        /* X509_V_..., X509_V_OK if the certificate was not the matter */
} lunl_tls_fault;

/* ---- tls_error.c ---- */

/* Takes the error of the call that has just failed with the answer `why` of SSL_get_error: one of
 * the codes above, or UV_ENOMEM. */
int lunl_tls_take(lunl_tls_fault *f, const SSL *ssl, int why);
/* The same for a reason of our own, SSL_R_... */
int lunl_tls_say(lunl_tls_fault *f, int reason);
/* Pushes the SSLError "what text: reason"; `err` is one of the codes above, `name` whom the other
 * end was to be, or NULL. */
void lunl_tls_push_error(lua_State *L, int err, const lunl_tls_fault *f, const char *what,
                         const char *text, const char *name);
/* Throws the SSLError "what: text: reason" of the call that has just failed; text may be NULL. */
_Noreturn void lunl_tls_throw(lua_State *L, const char *what, const char *text);

/* ---- tls_context.c ---- */

extern const lunl_type lunl_tls_context_type;

/* Pushes the context that the option at absolute index `idx` asks for: true, a table, a
 * TLSContext. `arg` is named in errors. Kept alive by what it has pushed. */
lunl_tls_config *lunl_tls_push_context(lua_State *L, int arg, int idx);
void lunl_tls_drop(lunl_tls_config *config);
/* Pushes a string without the NULs that would cut it: the name to check for a client, given by
 * the option at `idx`, the context, or `host` (may be NULL). ValueError if there is none. */
const char *lunl_tls_push_name(lua_State *L, int arg, int idx,
                               const lunl_tls_config *config, const char *host);
/* --- tls.context(opts), see there. */
int lunl_tls_context(lua_State *L);
void lunl_open_tls_context(lua_State *L);

/* ---- tls.c ---- */

typedef struct lunl_tls lunl_tls;

enum lunl_tls_state { LUNL_TLS_SHAKING, LUNL_TLS_OPEN, LUNL_TLS_BROKEN };

typedef struct lunl_tls_start {
    lunl_tls_config *config; /* borrowed; the layer holds it for itself */
    const char *name;        /* clients: whom the other end has to be, or NULL; copied */
    double limit;            /* seconds for the handshake */
    bool late;               /* it is what was left of a limit for more */
    bool server;
} lunl_tls_start;

/* The kind of BIOs that stand between OpenSSL and connections; NULL: no memory. */
BIO_METHOD *lunl_tls_bio_method(void);
/* Puts TLS between the open stream and its transport, which has none yet, and begins: 0 or
 * libuv's code, then nothing has changed. What fails later is found by who waits, reads, writes. */
int lunl_tls_begin(lunl_stream *s, const lunl_tls_start *start);
/* The layer of a connection, or NULL. */
lunl_tls *lunl_tls_of(const lunl_conn *c);
enum lunl_tls_state lunl_tls_state(const lunl_tls *t);
SSL *lunl_tls_ssl(const lunl_tls *t);

/* ---- tls_face.c: hooks for the files of net ---- */

/* True if the options at `opts`, the last argument, ask for TLS: then the function returns what
 * the next two return, each for its kind, which call it once more and get false. */
bool lunl_tls_asked(lua_State *L, int opts);
/* `host`: the argument with the name of the other end, or 0. */
int lunl_tls_connect(lua_State *L, int opts, int host);
int lunl_tls_listen(lua_State *L, int opts);
/* The stream on top has come in: 0, or libuv's code and it is popped. */
int lunl_tls_accepted(lua_State *L, lunl_tls_config *config);
/* Pushes what runs as the task of a connection that is served, with the handler and the stream: it
 * waits for the handshake first. True. */
bool lunl_tls_push_serve(lua_State *L);

extern const luaL_Reg lunl_tls_methods[];        /* of Stream */
extern const luaL_Reg lunl_tls_server_methods[]; /* of Server */

/* ---- tls_info.c ---- */

/* The secrets of connections are appended to config->keylog, as Wireshark reads them: 0 or libuv's
 * code. */
int lunl_tls_log_keys(const lunl_tls_config *config);
/* Pushes the table of stream:tls(). */
void lunl_tls_push_info(lua_State *L, SSL *ssl);

/* A place for a certificate while it is read, pushed; and the table of stream:peer_certificate();
 * false, and nothing is pushed, if there is none. */
typedef struct lunl_tls_reading lunl_tls_reading;
lunl_tls_reading *lunl_tls_new_reading(lua_State *L);
bool lunl_tls_push_peer(lua_State *L, lunl_tls_reading *r, SSL *ssl);

#endif
