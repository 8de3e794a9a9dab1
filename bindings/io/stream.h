/* SPDX-License-Identifier: MIT */
/*
 * stream.h - a two-way stream of bytes: the connection in C (lunl_conn) and the Lua object
 * on top (lunl_stream). stream.c: the two and their end; read.c and write.c: what goes
 * through.
 *
 * Laws:
 *  1. The connection and the object point at each other until either is closed or
 *     collected; then both pointers are NULL. A connection that still has output lives on
 *     without an object.
 *  2. One task reads and one writes at a time; they wait in the object's parks, which are
 *     alive because the object lies on their stack, however early the connection goes.
 *  3. libuv reads while somebody asks, and at most one piece more, which stays in `in`.
 *  4. What has been accepted for writing goes out, whatever becomes of the writer.
 */
#ifndef LUNL_IO_STREAM_H
#define LUNL_IO_STREAM_H

#include "addr.h"
#include "buffer.h"
#include "handle.h"

enum {
    LUNL_LINE_LIMIT = 65536, /* bytes of a line, unless opts.limit says otherwise */
    LUNL_HIGH_WATER = 65536, /* a writer waits above this many queued bytes ... */
    LUNL_LOW_WATER = 16384   /* ... until no more than these are left */
};

typedef struct lunl_stream lunl_stream;

typedef struct lunl_conn {
    lunl_handle h; /* first */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    lunl_stream *box; /* law 1 */
    lunl_buffer in;   /* what has arrived and was not taken */
    size_t need;      /* bytes in `in` that the reader waits for; SIZE_MAX: only the end */
    size_t queued;    /* bytes accepted and not sent */
    int read_error, write_error; /* libuv's codes, 0 while all is well */
    bool reading;                /* libuv reads */
    bool eof;
    bool shut_due; /* half close when the queue is out */
} lunl_conn;

struct lunl_stream {
    const lunl_type *type;
    lunl_conn *c; /* NULL once closed; law 1 */
    lun_park readers, writers;
    lunl_addr peer;
    size_t limit;    /* of a line, bytes */
    size_t taken;    /* bytes that the read in progress has used, but not yet consumed */
    size_t searched; /* bytes behind those that are known to hold no separator */
    bool reader, writer; /* a task is suspended in a read; in a write or shutdown */
    bool shut;           /* no more writing */
};

extern const lunl_type lunl_stream_type;

/* Makes a connection without a socket; NULL: no memory. To be opened, or
 * lunl_handle_discard. */
lunl_conn *lunl_conn_new(lunl_loop *loop);
/*
 * New stream on the stack that owns the opened `c`. If it raises, `c` is still the
 * caller's.
 */
lunl_stream *lunl_stream_push(lua_State *L, lunl_conn *c, const lunl_addr *peer,
                              size_t limit);
/* Closes it for Lua; output that is queued still goes out. Harmless if it is closed. */
void lunl_stream_close(lunl_stream *s);
/* The descriptor of an open connection. */
int lunl_conn_fd(const lunl_conn *c);

/* The stream at 1, whatever became of it. */
lunl_stream *lunl_check_stream(lua_State *L);
/* The same, open and of the running loop; else OSError EBADF "what address: closed" or
 * RuntimeError. */
lunl_stream *lunl_open_stream(lua_State *L, lunl_state *S, const char *what);
/*
 * In a continuation: the task, which has waited in `s` and taken its mark `busy` off. Throws the
 * CancelledError, or OSError ECANCELED "what address: CODE" if the stream was closed meanwhile.
 */
lun_task *lunl_stream_resumed(lua_State *L, lunl_state *S, lunl_stream *s, bool *busy,
                              const char *what);
/* Throws the OSError "what address: CODE". */
_Noreturn void lunl_stream_fail(lua_State *L, lunl_stream *s, int err, const char *what);

extern const luaL_Reg lunl_read_methods[];  /* read.c */
extern const luaL_Reg lunl_write_methods[]; /* write.c */

/* Registers the type Stream. */
void lunl_open_stream_type(lua_State *L);

#endif
