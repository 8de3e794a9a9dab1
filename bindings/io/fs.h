/* SPDX-License-Identifier: MIT */
/*
 * fs.h - requests about files by path: one op for all of them (fsop.c), which a kind tells what
 * to ask libuv, what to give to Lua, and what to take back if nobody came for the result.
 *
 * Laws:
 *  1. The op has copies of its paths: it may begin long after the task that made it is gone.
 *  2. A cancelled request that has not begun never begins; one that runs goes on in the pool,
 *     unless it can be told to stop, and what it opened or made under a name of its own is undone
 *     when it is over.
 */
#ifndef LUNL_IO_FS_H
#define LUNL_IO_FS_H

#include "lane.h"

#include <stdatomic.h>

enum { LUNL_MODE_MOST = 07777 }; /* all permission bits */

typedef struct lunl_fsop {
    lun_op op; /* first */
    lunl_lane_job job;
    union {
        uv_fs_t fs;
        uv_work_t work;
    } req;
    const char *path; /* in text */
    const char *dest; /* in text, of requests with two paths; or NULL */
    int flags, mode;  /* or owner and group */
    struct timespec times[2];
    int64_t size;
    size_t limit;     /* open: of a line */
    int result;       /* of work of ours in the pool: 0 or a code ... */
    char *found;      /* ... and what it found; owned, malloc's, or NULL */
    bool made;        /* copyfile: `dest` was not there before */
    atomic_bool stop; /* nobody wants it: long work in the pool may end */
    bool came;        /* libuv has succeeded */
    bool taken;       /* Lua has what it made */
    char text[];
} lunl_fsop;

typedef struct lunl_fskind {
    lunl_op_kind kind; /* first; its syscall is NULL */
    const char *name;  /* of the call, for errors */
    int (*begin)(uv_loop_t *uv, lunl_fsop *o);
    int (*push)(lua_State *L, lunl_fsop *o); /* the results; NULL: there are none */
    void (*undo)(lunl_fsop *o);              /* it came, nobody took it; may be NULL */
    bool stubborn;                           /* a cancel does not keep it from starting */
    bool opens;                              /* law 4 of lane.h */
} lunl_fskind;

/* The functions that all kinds have in common. */
#define LUNL_FSKIND(call)                                                                  \
    .kind = {{{call, lun_op_cancel_kind}, lunl_fsop_abort, lunl_fsop_fini},                \
             lunl_fsop_push,                                                               \
             NULL},                                                                        \
    .name = call

void lunl_fsop_abort(lun_op *op);
void lunl_fsop_fini(lun_op *op);
int lunl_fsop_push(lua_State *L, lun_op *op);
/* libuv's callback of a uv_fs_ call. */
void lunl_fsop_on(uv_fs_t *req);
/* Any other request is over, with this code. */
void lunl_fsop_over(lunl_fsop *o, int status);

/*
 * The path at `arg`: a string without NUL, or a value whose __fspath, a function of it, gives one
 * and is replaced by that; TypeError, ValueError.
 */
const char *lunl_check_path(lua_State *L, int arg);

/*
 * A new op, on top of the stack, for the path at 1 and, unless `dest` is 0, the other path at
 * `dest`. RuntimeError outside a task. Then its fields are set, and
 * `return lunl_fsop_await(L, o);`.
 */
lunl_fsop *lunl_fsop_new(lua_State *L, const lunl_fskind *kind, int dest);
int lunl_fsop_await(lua_State *L, lunl_fsop *o);

/* The answer to opts.follow at `arg`: false: the call is about a link itself. */
bool lunl_fs_follows(lua_State *L, int arg);

/* Throws the OSError "call path: CODE", or "call path -> dest: CODE", with its fields. */
_Noreturn void lunl_fs_throw(lua_State *L, int err, const char *call, const char *path,
                             const char *dest);
/* Pushes the table of facts about a file. */
void lunl_fs_push_stat(lua_State *L, const uv_stat_t *st);

/* A call about the path at 1, which needs nothing else: `return lunl_fsop_about(...)`. */
int lunl_fsop_about(lua_State *L, const lunl_fskind *kind);
/* A new op, as lunl_fsop_new's, for the paths at 1 and 2, which it checks. */
lunl_fsop *lunl_fsop_about_two(lua_State *L, const lunl_fskind *kind);

extern const luaL_Reg lunl_fs_name_functions[];  /* fsname.c */
extern const luaL_Reg lunl_fs_work_functions[];  /* fswork.c */
extern const luaL_Reg lunl_fs_watch_functions[]; /* fswatch.c */

#endif
