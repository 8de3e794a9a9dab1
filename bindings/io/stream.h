/* SPDX-License-Identifier: MIT */
/*
 * stream.h - a two-way stream of bytes: the Lua object, a box (box.h) around a lunl_stream, on top
 * of a connection (lunl_conn, transport.h). stream.c: the object and how the two part; read.c and
 * write.c: what goes through; conn.c: the connection.
 *
 * Laws:
 *  1. The connection and the lunl_stream point at each other until either is closed or the
 *     object collected; then both pointers are NULL. A connection that still has output lives on
 *     without one.
 *  2. One task reads and one writes at a time; they wait in its parks, which are alive because
 *     the object lies on their stack, however early the connection goes.
 *  3. What has been accepted for writing goes out, whatever becomes of the writer.
 */
#ifndef LUNL_IO_STREAM_H
#define LUNL_IO_STREAM_H

#include "box.h"
#include "formats.h"
#include "transport.h"

struct lunl_stream {
    lunl_core core;            /* first */
    lunl_conn *c;              /* NULL once closed; law 1 */
    const lunl_transport *via; /* of the connection that it has or had; static */
    lun_park readers, writers;
    size_t limit;    /* of a line, bytes */
    size_t taken;    /* bytes that the read in progress has used, but not yet consumed */
    size_t searched; /* bytes behind those that are known to hold no separator */
    bool reader, writer; /* a task is suspended in a read; in a write or shutdown */
    bool shut;           /* no more writing */
    lunl_addr peer;      /* last: there is only as much of it as it needs */
};

extern const lunl_type lunl_stream_type;

/*
 * New stream on the stack that owns the opened `c`. If it raises, `c` is still the
 * caller's.
 */
lunl_stream *lunl_stream_push(lua_State *L, lunl_conn *c, const lunl_addr *peer,
                              size_t limit);
/* The same in two steps: a closed stream, which then becomes the owner of `c`; never raises. */
lunl_stream *lunl_stream_new(lua_State *L, lunl_loop *loop, const lunl_transport *via,
                             const lunl_addr *peer, size_t limit);
void lunl_stream_own(lunl_stream *s, lunl_conn *c);
/* Closes it for Lua; output that is queued still goes out. Harmless if it is closed. */
void lunl_stream_close(lunl_stream *s);
/* The connection loses its object, and who waits in that hears of it; harmless if it has. */
void lunl_conn_part(lunl_conn *c);
/* What it is called in errors: "127.0.0.1:80"; `buf` has LUNL_ADDR_TEXT bytes. */
const char *lunl_stream_text(const lunl_stream *s, char *buf);

/* The stream at `idx`, where it is known to be one. */
static inline lunl_stream *lunl_stream_at(lua_State *L, int idx)
{
    return lunl_unbox(L, idx);
}
/* The stream at 1, whatever became of it. */
lunl_stream *lunl_check_stream(lua_State *L);
/* The same, open and of the running loop; else OSError EBADF "what address: closed" or
 * RuntimeError. */
lunl_stream *lunl_open_stream(lua_State *L, lunl_state *S, const char *what);
/* `s`, if it is open and of the running loop; else as above. */
lunl_stream *lunl_stream_opened(lua_State *L, lunl_state *S, lunl_stream *s,
                                const char *what);
/*
 * In a continuation: the task, which has waited in `s` and taken its mark `busy` off. Throws the
 * CancelledError, or OSError ECANCELED "what address: CODE" if the stream was closed meanwhile.
 */
lun_task *lunl_stream_resumed(lua_State *L, lunl_state *S, lunl_stream *s, bool *busy,
                              const char *what);
/* Throws the OSError "what address: CODE". */
_Noreturn void lunl_stream_fail(lua_State *L, lunl_stream *s, int err, const char *what);

/*
 * read.c: the running task, which then suspends, will be woken when there are `need` bytes behind
 * s->taken, perhaps earlier, or no more come. Throws if the system refuses.
 */
void lunl_stream_wait(lua_State *L, lun_task *t, lunl_stream *s, size_t need,
                      const char *what);
/* write.c: accepts `n` bytes at `p`, now or into the queue: 0 or libuv's code; *taken: how many. */
int lunl_conn_write(lunl_conn *c, const char *p, size_t n, size_t *taken);
/* write.c: half closes, or does it later, when the queue is out: 0 or libuv's code. */
int lunl_stream_shut(lunl_stream *s, bool *later);

extern const luaL_Reg lunl_copy_methods[];  /* copy.c */
extern const luaL_Reg lunl_read_methods[];  /* read.c */
extern const luaL_Reg lunl_write_methods[]; /* write.c */

/* Registers the type Stream, once. */
void lunl_open_stream_type(lua_State *L);

#endif
