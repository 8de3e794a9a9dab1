/* SPDX-License-Identifier: MIT */
/*
 * handle.h - what every libuv handle of ours begins with, and what io/ keeps per loop.
 *
 * A handle is C memory: libuv may need it longer than any Lua object lives. The Lua object
 * on top of it (a box) points to it until the handle begins to close; from then on each
 * lives by itself, so a box that outlives its loop is harmless.
 *
 * Laws:
 *  1. A handle is counted in loop->count.handles from lunl_handle_opened to its close
 *     callback, and in the ring of its loop until it begins to close.
 *  2. `closing` is called once, before uv_close: it cuts the links to the box, wakes who
 *     waits.
 *  3. The memory goes in the close callback and nowhere else.
 *
 * A handle of ours that libuv knows nothing of (`uv` is NULL) lives in jobs of the ready queue.
 * It is counted in loop->count.inner, and its memory goes when it closes or, if its job is
 * queued then, in that job, which calls lunl_handle_gone.
 */
#ifndef LUNL_IO_HANDLE_H
#define LUNL_IO_HANDLE_H

#include "../lunl.h"

/* Bytes of the read buffer that the streams of a loop share, and how many of them are kept. */
#if defined(LUN_CHAOS)
enum { LUNL_CHUNK = 1000, LUNL_SPARES = 1 };
#else
enum { LUNL_CHUNK = 65536, LUNL_SPARES = 8 };
#endif

typedef struct lunl_handle lunl_handle;
typedef struct lunl_polls lunl_polls;

typedef struct lunl_handle_kind {
    const char *name; /* without libuv: as lists of what is open name it */
    /* Law 2; may be NULL. */
    void (*closing)(lunl_handle *h);
    /* libuv knows its descriptor no more: the place to close one that is our own; may be NULL. */
    void (*parted)(lunl_handle *h);
    /* In the close callback, before the memory goes; may be NULL. */
    void (*closed)(lunl_handle *h);
    /* True: it closes by itself when its output is out; may be NULL. */
    bool (*lingers)(lunl_handle *h);
    /* Without libuv: its job if that is queued or running, else NULL. */
    lun_job *(*queued)(lunl_handle *h);
    /* It lives as long as its loop and is nobody's to close: what is left behind does not name it. */
    bool lasts;
} lunl_handle_kind;

struct lunl_handle {
    const lunl_handle_kind *kind; /* static */
    lun_link link;   /* in io->handles until it closes, then maybe in io->leaving */
    lunl_loop *loop; /* borrowed */
    uv_handle_t *uv; /* embedded in the struct around this one, or NULL */
    uint32_t size;   /* of the whole block */
    bool closing;
    char *site; /* owned: where it was made, if the loop remembers such things */
};

/* What io/ keeps per loop; made on first use, freed by lunl_handles_close. */
typedef struct lunl_io {
    lun_link handles;  /* ring of lunl_handle.link */
    lun_link leaving;  /* the same, of closing ones whose job is queued */
    lun_link ops;      /* ring of lun_op.link: those that are held, see op.c */
    lun_link watchers; /* ring of all functions that are waited for, see callback.c */
    lun_link records;  /* ring of lunl_record.link */
    char *chunk;       /* owned; LUNL_CHUNK bytes, or NULL until somebody reads */
    char *spare[LUNL_SPARES]; /* owned: more of them, for buffer.c */
    unsigned n_spare;
    size_t most_read, most_write; /* bytes of a socket in one go; the probe's short_io */
    lunl_polls *polls;            /* poll.c's own */
    uint64_t
        no_spare; /* ns: until then no collection is made for the sake of descriptors */
    const void *stdio[3]; /* stdio.c's own: kept streams by their boxes, or NULL */
    bool over;            /* the loop closes: what lingers now may be told to end */
} lunl_io;

/* The record of `loop`; raises if there is no memory. */
lunl_io *lunl_io_of(lua_State *L, lunl_loop *loop);

/* Registers a type that no room opens, on its first use. */
void lunl_need_type(lua_State *L, const lunl_type *type, const luaL_Reg *methods,
                    const luaL_Reg *meta);

/*
 * For a finaliser: whoever still waits for `f` (also a park's), which is about to go, is a
 * task whose coroutine was closed by force (a live one would keep it alive). It runs once
 * more, to end.
 */
void lunl_orphan(lun_future *f);
/* The same for a park, also of those that were granted and have not run. */
void lunl_orphan_park(lua_State *L, lun_park *p);

/* Debug: the box on top, which has a user value for it, remembers where it was made. */
void lunl_box_made(lua_State *L, const lunl_loop *loop);
/* For a finaliser: the box at `idx` was dropped unclosed; reported in debug. */
void lunl_box_dropped(lua_State *L, lunl_loop *loop, int idx);

/* Zeroed memory for a handle; NULL says no memory. For lunl_handle_opened or
 * lunl_handle_discard. */
void *lunl_handle_new(lunl_loop *loop, const lunl_handle_kind *kind, size_t size);
/* Remembers where the calling Lua code is as where `h` was made, if the loop does such things. */
void lunl_handle_made(lua_State *L, lunl_handle *h);
/* `uv`, inside `h`, has been initialised (NULL: there is none): `h` exists from here on. */
void lunl_handle_opened(lunl_handle *h, uv_handle_t *uv);
/* Frees a handle that was never opened. */
void lunl_handle_discard(lunl_handle *h);
/* Begins to close `h`; harmless if it closes already. Queues only. */
void lunl_handle_close(lunl_handle *h);
/* For the job of a closing one without libuv: the memory goes. */
void lunl_handle_gone(lunl_handle *h);

/*
 * Before `n` descriptors are asked for: if there are not so many, a full collection gives back those
 * of what was dropped unclosed. One that was in vain is not repeated for a while. Finalisers may run,
 * so nothing may be half done.
 */
void lunl_spare_descriptors(lua_State *L, lunl_loop *loop, int n);

/* op.c: the loop closes: releases the ops that dead coroutines hold. */
void lunl_ops_close(lunl_io *io);

/* poll.c: a descriptor of ours has number `fd`: a watch on a closed one of that number is
 * over. */
void lunl_polls_forget(lunl_loop *loop, int fd);

/* signal.c: the number of "SIGTERM" or "TERM", 0 if there is none; and the other way round. */
enum { LUNL_SIGNAL_NAME = 16 };
int lunl_signal_number(const char *name);
const char *lunl_signal_name(int number, char *buf); /* LUNL_SIGNAL_NAME bytes */

/* A userdata that the runtime holds for as long as something in C points at it. */
typedef struct lunl_record {
    lun_link link; /* in io->records while held */
    uint32_t slot;
    /* The loop closes: cuts the links into it; may be NULL. */
    void (*over)(struct lunl_record *r);
} lunl_record;

/* Holds the value on top, popping it, around `r`; raises if there is no memory. */
void lunl_record_hold(lua_State *L, lunl_loop *loop, lunl_record *r);
void lunl_record_release(lua_State *L, lunl_loop *loop, lunl_record *r);

/* callback.c: a Lua function with arguments that something outside of Lua calls. */
typedef struct lunl_watcher lunl_watcher;

/* Takes function and arguments from index `first` on; raises if there is no memory. */
lunl_watcher *lunl_watcher_new(lua_State *L, lunl_loop *loop, int first);
/* One more call is due; touches no Lua. */
void lunl_watcher_due(lunl_watcher *w);
/* True if a call is due that has not been made. */
bool lunl_watcher_busy(const lunl_watcher *w);
/* Lets the function go; calls that are due are dropped, and `w` is no longer the caller's.
 */
void lunl_watcher_free(lua_State *L, lunl_watcher *w);
/* The same where Lua must not be touched: the function goes in the next turn. */
void lunl_watcher_drop(lunl_watcher *w);
/* The loop closes: lets go of all functions and all records; harmless the second time. */
void lunl_records_close(lua_State *L, lunl_loop *loop);
/* ... and frees the memory of all watchers. */
void lunl_watchers_close(lunl_io *io);

#endif
