/* SPDX-License-Identifier: MIT */
/*
 * transport.h - the border between a stream and what carries its bytes: the connection, which
 * every kind of stream has (conn.c), and the transport, which brings and takes the bytes. The
 * system's sockets are one (socket.c), memory is another (memory.c).
 *
 * Laws:
 *  1. A transport delivers between start and stop alone, from a callback of libuv or a job of
 *     the ready queue, never inside start.
 *  2. What was offered and not taken comes again as an output. Outputs go in order; each is
 *     given back once, and no later than its connection begins to close.
 *  3. A transport touches no Lua; only stream.c, read.c and write.c do.
 */
#ifndef LUNL_IO_TRANSPORT_H
#define LUNL_IO_TRANSPORT_H

#include "addr.h"
#include "buffer.h"
#include "handle.h"

typedef struct lunl_stream lunl_stream;
typedef struct lunl_conn lunl_conn;

/* Bytes that were accepted for writing and could not be taken at once. */
typedef struct lunl_output {
    lunl_conn *c; /* borrowed */
    size_t size;  /* of data */
    size_t left;  /* bytes at its end that are still counted in c->queued */
    union {       /* the transport's own */
        uv_write_t uv;
        lun_link link;
    };
    char data[];
} lunl_output;

typedef struct lunl_transport {
    const char *name; /* how a stream without an internet address is called */
    /* Bytes are wanted: 0 or libuv's code. */
    int (*start)(lunl_conn *c);
    /* They no longer are. */
    void (*stop)(lunl_conn *c);
    /* Takes what it can at once: how many bytes, UV_EAGAIN for none, or libuv's code. */
    ssize_t (*offer)(lunl_conn *c, const uv_buf_t *bufs, unsigned n);
    /* Takes `o`, which is counted in c->queued, over: 0, or libuv's code and `o` is still the
     * caller's. */
    int (*send)(lunl_conn *c, lunl_output *o);
    /* All outputs are done: the other end is to read the end of the stream. 0 or libuv's code. */
    int (*half_close)(lunl_conn *c);
    /* The address of this end: 0 or libuv's code; NULL: there are no addresses. */
    int (*local)(const lunl_conn *c, lunl_addr *a);
    /* The object is about to go: last words may become outputs; or NULL. */
    void (*part)(lunl_conn *c);
    /* Pushes the error that `err` stands for, as lunl_error_addr does; NULL: it is libuv's. */
    void (*push_error)(lua_State *L, const lunl_conn *c, int err, const char *what,
                       const char *text);
} lunl_transport;

/*
 * What may stand between a connection and its transport: its bytes are of another kind than the
 * reader's and the writer's. It has put a transport of its own in the connection's `via`, in
 * front of the one that was there, and lives until the connection begins to close.
 */
typedef struct lunl_layer {
    const lunl_transport *below; /* static: the one that was there */
    /* Bytes have come from below; deliver what they mean: lunl_conn_deliver. */
    void (*arrived)(lunl_conn *c, const char *p, size_t n);
    /* Nothing comes any more from below: the end (0) or libuv's code; ends in lunl_conn_end. */
    void (*ended)(lunl_conn *c, int error);
    /* The connection begins to close: the memory goes. */
    void (*closing)(lunl_conn *c);
} lunl_layer;

struct lunl_conn {
    lunl_handle h;             /* first */
    const lunl_transport *via; /* static */
    lunl_layer *layer;         /* owned, or NULL */
    lunl_stream *box;          /* law 1 of stream.h */
    lunl_buffer in;            /* what has arrived and was not taken */
    size_t need;   /* bytes in `in` that the reader waits for; SIZE_MAX: only the end */
    size_t queued; /* bytes accepted and not sent */
    size_t high,
        low; /* a writer waits above `high` of them until no more than `low` are left */
    int read_error, write_error; /* libuv's codes, 0 while all is well */
    bool reading;                /* between start and stop */
    bool eof;
    bool shut_due; /* half close when the queue is out */
};

/* ---- conn.c, for transports ---- */

/* For a connection's lunl_handle_kind: closing, and lingers where output can still go out. */
void lunl_conn_closing(lunl_handle *h);
bool lunl_conn_lingers(lunl_handle *h);

/* True if a task waits for bytes, or if they are only to be dropped. */
bool lunl_conn_asked(const lunl_conn *c);
/*
 * `n` bytes have come; without a layer they may lie behind those of c->in already. May call stop.
 * With a layer the connection may begin to close.
 */
void lunl_conn_arrived(lunl_conn *c, const char *p, size_t n);
/*
 * Nothing comes any more: the end of the stream (0), or libuv's code. Calls stop. The connection
 * may begin to close.
 */
void lunl_conn_ended(lunl_conn *c, int error);
/* The same from a layer: bytes for the reader, and their end; `error` may be the layer's own. */
void lunl_conn_deliver(lunl_conn *c, const char *p, size_t n);
void lunl_conn_end(lunl_conn *c, int error);
/*
 * The next `n` bytes of `o` were sent; with the last of them `o` is gone. The connection may
 * begin to close.
 */
void lunl_output_sent(lunl_output *o, size_t n);
/* `o` could not be sent, and is gone. The connection may begin to close. */
void lunl_output_failed(lunl_output *o, int error);

/* ---- conn.c, for stream.c, read.c and write.c ---- */

void lunl_conn_stop(lunl_conn *c);
/* True if nothing is left that could go out; where reading has failed, writing will. */
bool lunl_conn_spent(const lunl_conn *c);
/* The connection has lost its object and has output left. */
void lunl_conn_deafen(lunl_conn *c);

#endif
