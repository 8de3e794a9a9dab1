/* SPDX-License-Identifier: MIT */
/*
 * file.h - an open file: the Lua object, a box (box.h) around a lunl_file, and the descriptor with
 * its buffers (lunl_desc). file.c: the three, and calls that read and write nothing; file_read.c,
 * file_write.c: what goes through; file_call.c: the one request that the descriptor has with
 * libuv's pool.
 *
 * Laws:
 *  1. One task uses a file at a time; it waits in the object's park.
 *  2. The request and its buffers are the descriptor's, not the task's: when the task is
 *     cancelled, what the pool reads still arrives in the buffer, what it writes still moves the
 *     position, and the next operation waits for it. One that has not begun never begins.
 *  3. What has no positions (FIFOs, terminals) does not block: a read or write goes to the pool
 *     when the system says that there is something to read, or room; so it keeps no thread.
 *  4. The number of the descriptor is closed when nothing of ours uses it any more, and no
 *     sooner, because the number is then given to others.
 *  5. Whoever has got the number (fileno) shares the position: the descriptor's own goes along with
 *     ours, and counts once nothing is read ahead.
 */
#ifndef LUNL_IO_FILE_H
#define LUNL_IO_FILE_H

#include "box.h"
#include "buffer.h"
#include "formats.h"
#include "fs.h"
#include "handle.h"

enum lunl_file_call {
    LUNL_FILE_READ,
    LUNL_FILE_WRITE,
    LUNL_FILE_STAT,
    LUNL_FILE_SYNC,
    LUNL_FILE_DATASYNC,
    LUNL_FILE_TRUNCATE
};

/* Bytes that one request writes at most. */
#if defined(LUN_CHAOS)
enum { LUNL_FILE_CHUNK = 1000 };
#else
enum { LUNL_FILE_CHUNK = 1 << 20 };
#endif

typedef struct lunl_file lunl_file;
typedef struct lunl_file_handle lunl_file_handle;

typedef struct lunl_desc {
    lunl_loop *loop;     /* borrowed */
    lunl_file_handle *h; /* in the ring of its loop; NULL once closed */
    lunl_file *file;     /* it is its descriptor; NULL once closed */
    int fd;              /* owned */
    bool append;         /* every write goes to the end */
    bool shared;         /* law 5 */
    bool in_flight;      /* the lane or libuv has the request, or it waits to be ready */
    struct lunl_ready *wait; /* what tells when it is, or NULL */
    enum lunl_file_call call;
    uv_fs_t req;
    lunl_lane_job job;
    ssize_t result;  /* of the last request: libuv's */
    int64_t pos;     /* behind the bytes in `in`; -1: the file has no positions */
    int64_t size;    /* to truncate to */
    lunl_buffer in;  /* bytes read ahead */
    lunl_buffer out; /* bytes of a write that have not been written */
    size_t room;     /* bytes that a read asks for */
} lunl_desc;

struct lunl_file_handle {
    lunl_handle h; /* first */
    lunl_desc *d;
};

/* An open or closed file; of its box user value 2 is the path. */
struct lunl_file {
    lunl_core core; /* first; owned by box and descriptor */
    lunl_desc *d;   /* NULL once closed */
    lun_park users; /* the task that waits for a request */
    size_t limit;   /* of a line, bytes */
    /* Of the operation in progress: */
    size_t taken;    /* read: bytes that it has used, but not yet consumed */
    size_t searched; /* read: bytes behind those that are known to hold no separator */
    size_t off;      /* write: bytes of the next argument that have been taken */
    bool mine;       /* the last request is its own, and it was not cancelled */
    bool ended;      /* read: the end was met */
    bool busy;       /* a task is suspended in one */
};

extern const lunl_type lunl_file_type;

/* Pushes a File that owns `fd`; *owned once it does. Raises if there is no memory. */
void lunl_file_push(lua_State *L, int fd, const char *path, int flags, size_t limit,
                    bool *owned);
/* Registers the type File. */
void lunl_open_file_type(lua_State *L);

/* The file at 1, whatever became of it; TypeError. */
lunl_file *lunl_check_file(lua_State *L);
/* The same, where it has been checked. */
static inline lunl_file *lunl_file_at(lua_State *L)
{
    return lunl_unbox(L, 1);
}

/*
 * The file at 1, open, of the running loop and unused, for an operation: OSError EBADF,
 * RuntimeError. The task in *t.
 */
lunl_file *lunl_file_enter(lua_State *L, lunl_state *S, const char *what, lun_task **t);
/* The task waits until the request is over: `return lunl_file_wait(...)`. */
int lunl_file_wait(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f, lua_KContext ctx,
                   lua_KFunction k);
/* In the continuation: CancelledError, or OSError ECANCELED if the file was closed meanwhile. */
lun_task *lunl_file_resumed(lua_State *L, lunl_state *S, lunl_file *f, const char *what);
/* Throws OSError "what path: CODE" for the file at 1. */
_Noreturn void lunl_file_fail(lua_State *L, int err, const char *what);
/* The file at 1 is still open, after something that ran finalisers; else OSError ECANCELED. */
void lunl_file_still(lua_State *L, const lunl_file *f, const char *what);

/* Begins a request; it may be over at once, then it is not in flight. */
void lunl_desc_call(lunl_desc *d, enum lunl_file_call call);
/* A cancelled task wanted it: it does not begin, if it has not. */
void lunl_desc_cancel(lunl_desc *d);
/* Nobody has the descriptor any more: it goes now or when its request is over. */
void lunl_desc_drop(lunl_desc *d);
/* What has been read ahead is forgotten, the position is where the reader was. */
void lunl_desc_unread(lunl_desc *d);
/* Goes to `to`; nothing is read ahead from there. */
void lunl_desc_move(lunl_desc *d, int64_t to);
/* The position of the reader. */
static inline int64_t lunl_desc_at(const lunl_desc *d)
{
    return d->pos - (int64_t)lunl_buffer_size(&d->in);
}

/* file_ready.c: calls lunl_desc_ready once there is something to read, or room; 0 or a code. */
int lunl_desc_await(lunl_desc *d);
void lunl_desc_ready(lunl_desc *d, int err);
/* ... or no more. */
void lunl_desc_forget(lunl_desc *d);

extern const luaL_Reg lunl_file_read_methods[];  /* file_read.c */
extern const luaL_Reg lunl_file_write_methods[]; /* file_write.c */

#endif
