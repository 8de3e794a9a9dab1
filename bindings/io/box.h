/* SPDX-License-Identifier: MIT */
/*
 * box.h - objects of Lua that something in C points at: the object is a box around its core,
 * C memory which it owns together with what points there.
 *
 * Laws:
 *  1. Nothing in C points at a box: it may go without a word, because Lua forgets a finaliser that
 *     it has no memory to call.
 *  2. A core has one owner for the box and one for each thing that points at it, and goes with
 *     the last of them, which may be later than its loop.
 *  3. A box that was finalised may still be used, by other finalisers above all: it then has the
 *     core of its type that stands for such ones. That is closed, and nobody writes to it.
 */
#ifndef LUNL_IO_BOX_H
#define LUNL_IO_BOX_H

#include "handle.h"

/* The first member of every core. */
typedef struct lunl_core {
    lun_allocator from; /* whom its memory goes back to */
    uint32_t size;      /* of the whole block */
    uint32_t owners;    /* law 2; 0: law 3 */
} lunl_core;

typedef struct lunl_box {
    const lunl_type *type;
    lunl_core *core; /* owned, or of law 3 */
} lunl_box;

/* A park that nobody ever waits in, for the cores of law 3. */
#define LUNL_NO_PARK(park)                                                                 \
    {                                                                                      \
        .base = {                                                                          \
            .waiters = {(lun_link *)&(park).base.waiters,                                  \
                        (lun_link *)&(park).base.waiters}                                  \
        }                                                                                  \
    }

/*
 * Pushes a box of `type` with `nuv` user values, around a zeroed core of `size` bytes, which it
 * returns; debug: user value 1 remembers where it was made. `gone` is the core of law 3. Raises if
 * there is no memory. What the finaliser looks at is to be set up before anything else that may
 * raise.
 */
void *lunl_box_new(lua_State *L, lunl_loop *loop, const lunl_type *type, size_t size,
                   int nuv, const lunl_core *gone);
/* The core of the box at `idx`, which is known to be one. */
static inline void *lunl_unbox(lua_State *L, int idx)
{
    return ((lunl_box *)lua_touserdata(L, idx))->core;
}
/* The same, or NULL if it is no box of this type. */
static inline void *lunl_test_box(lua_State *L, int idx, const lunl_type *type)
{
    lunl_box *box = lunl_test(L, idx, type);
    return box ? box->core : NULL;
}
/* The same, or TypeError. */
static inline void *lunl_check_box(lua_State *L, int idx, const lunl_type *type)
{
    return ((lunl_box *)lunl_check(L, idx, type))->core;
}

/* One owner more; one less, the core may go. */
static inline void lunl_core_own(lunl_core *core)
{
    core->owners++;
}
void lunl_core_drop(lunl_core *core);

/*
 * For the finaliser of the box at 1, whose core is closed: it goes over to `gone`. `loop`: where it
 * was dropped unclosed, which is reported in debug, or NULL. May raise, with all of this done.
 */
void lunl_box_leave(lua_State *L, const lunl_core *gone, lunl_loop *loop);
/* For __tostring of the box at 1: pushes what it was if it has left and that was reported. */
bool lunl_box_text(lua_State *L);

#endif
