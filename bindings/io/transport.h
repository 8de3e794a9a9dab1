/* SPDX-License-Identifier: MIT */
/*
 * transport.h - the border between a stream and what carries its bytes: the connection, which
 * every kind of stream has (conn.c), and the transport, which brings and takes the bytes. The
 * system's sockets are one (socket.c), memory is another (memory.c).
 *
 * Laws:
 *  1. A transport delivers between start and stop alone, from a callback of libuv or a job of
 *     the ready queue, never inside start; or it is asked to at once, by pull.
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
    /*
     * The reader, who runs, would wait next. Calls lunl_conn_add or lunl_conn_over if it is
     * likely that something is there and it is, and then returns true; NULL: it never is.
     */
    bool (*pull)(lunl_conn *c);
    /* Takes what it can at once: how many bytes, UV_EAGAIN for none, or libuv's code. */
    ssize_t (*offer)(lunl_conn *c, const uv_buf_t *bufs, unsigned n);
    /* Takes `o`, which is counted in c->queued, over: 0, or libuv's code and `o` is still the
     * caller's. */
    int (*send)(lunl_conn *c, lunl_output *o);
    /* All outputs are done: the other end is to read the end of the stream. 0 or libuv's code. */
    int (*half_close)(lunl_conn *c);
    /* The address of this end: 0 or libuv's code; NULL: there are no addresses. */
    int (*local)(const lunl_conn *c, lunl_addr *a);
    /* The connection has lost its object and has output left: what it may linger for; or NULL. */
    void (*lingers)(lunl_conn *c);
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
    /* Writing has failed below: see c->write_error. */
    void (*broken)(lunl_conn *c);
    /* The connection begins to close: the memory goes. */
    void (*closing)(lunl_conn *c);
    bool urgent; /* it needs bytes for itself, whoever asks for them */
} lunl_layer;

struct lunl_conn {
    lunl_handle h;             /* first */
    const lunl_transport *via; /* static */
    lunl_layer *layer;         /* owned, or NULL */
    lunl_stream *box;          /* law 1 of stream.h */
    lunl_buffer in;            /* what has arrived and was not taken */
    size_t need;    /* bytes in `in` that the reader waits for; SIZE_MAX: only the end */
    size_t queued;  /* bytes accepted and not sent */
    size_t outputs; /* how many there are of them */
    size_t high,
        low; /* a writer waits from a weight above `high` on until it is `low` again */
    int read_error, write_error; /* libuv's codes, 0 while all is well */
    bool reading;                /* between start and stop */
    bool turned_away;            /* the last lunl_conn_ready found nobody */
    bool eof;
    bool shut_due; /* half close when the queue is out */
};

/* What its queue costs: with many small outputs their headers count for more than the bytes. */
static inline size_t lunl_conn_weight(const lunl_conn *c)
{
    return c->queued + c->outputs * sizeof(lunl_output);
}

/* ---- conn.c, for transports ---- */

/* For a connection's lunl_handle_kind: closing, and lingers where output can still go out. */
void lunl_conn_closing(lunl_handle *h);
bool lunl_conn_lingers(lunl_handle *h);

/* True if a task waits for bytes, or if they are only to be dropped. */
bool lunl_conn_asked(const lunl_conn *c);
/*
 * Bytes can be had by pull: the reader is woken. If there is none it may only not have had its
 * turn yet; the second time in a row calls stop. There is an object and no layer.
 */
void lunl_conn_ready(lunl_conn *c);
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
/* In pull: the same two, and nobody is woken. */
void lunl_conn_add(lunl_conn *c, const char *p, size_t n);
void lunl_conn_over(lunl_conn *c, int error);
/* The same from a layer: bytes for the reader, and their end; `error` may be the layer's own. */
void lunl_conn_deliver(lunl_conn *c, const char *p, size_t n);
void lunl_conn_end(lunl_conn *c, int error);
/* An output of `n` bytes, to be filled, counted in c->queued and sent; NULL: no memory. */
lunl_output *lunl_output_new(lunl_conn *c, size_t n);
/* One that nobody has taken over is gone, as if it had never been. */
void lunl_output_free(lunl_output *o);
/*
 * The next `n` bytes of `o` were sent; with the last of them `o` is gone. The connection may
 * begin to close.
 */
void lunl_output_sent(lunl_output *o, size_t n);
/* `o` could not be sent, and is gone. The connection may begin to close. */
void lunl_output_failed(lunl_output *o, int error);

/* For a transport that keeps its outputs in a ring of their links: the first one, or NULL. */
lunl_output *lunl_outputs_first(const lun_link *ring);
/* The next `n` bytes of them were sent; none of them can be. As the two above. */
void lunl_outputs_sent(lun_link *ring, size_t n);
void lunl_outputs_fail(lun_link *ring, int error);

/* ---- conn.c, for stream.c, read.c and write.c ---- */

void lunl_conn_stop(lunl_conn *c);
/* True if nothing is left that could go out; where reading has failed, writing will. */
bool lunl_conn_spent(const lunl_conn *c);
/* The connection has lost its object and has output left. */
void lunl_conn_deafen(lunl_conn *c);

#endif
