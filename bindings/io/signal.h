/* SPDX-License-Identifier: MIT */
/*
 * signal.h - signals of the process as a loop sees them: names and watches (signal.c), which
 * tell the loop's handlers, and the ears of tasks that wait for signals (signal_wait.c).
 *
 * Laws:
 *  1. A loop has one watch for a signal, for as long as a handler or an ear wants it.
 *  2. An ear lies in the memory of a Lua object that the runtime holds. It is in the ring of its
 *     loop until it is closed; the loop, or who closes a watch by force, closes it too.
 */
#ifndef LUNL_IO_SIGNAL_H
#define LUNL_IO_SIGNAL_H

#include "handle.h"

enum {
    LUNL_SIGNALS = 65 /* numbers 1 to 64 */
};

/* The number of the signal at `arg`: TypeError, ValueError. */
int lunl_check_signal(lua_State *L, int arg);
/* RuntimeError for one that cannot be caught, or is the runtime's own; `what` names the call. */
void lunl_check_catchable(lua_State *L, int number, const char *what);

/* In sets of signals. */
static inline uint64_t lunl_signal_bit(int number)
{
    return (uint64_t)1 << (number - 1);
}

typedef struct lunl_ear {
    lun_link link;   /* in the ring of the loop's ears while open */
    lunl_loop *loop; /* borrowed; NULL: closed */
    uint64_t wanted;
    /* One of `wanted` has come; touches no Lua. */
    void (*heard)(struct lunl_ear *e, int number);
    /* It was closed, also from outside; touches no Lua. */
    void (*closed)(struct lunl_ear *e);
} lunl_ear;

/* What opening needs and may raise: memory, and RuntimeError for what cannot be caught. */
void lunl_ear_prepare(lua_State *L, lunl_loop *loop, uint64_t wanted, const char *what);
/* Opens an ear whose functions are set: 0, or libuv's code and *bad is the signal. */
int lunl_ear_open(lunl_loop *loop, lunl_ear *e, uint64_t wanted, int *bad);
/* Throws what that means. */
_Noreturn void lunl_signal_fail(lua_State *L, int err, int number, const char *what);
/* Harmless if it is closed. */
void lunl_ear_close(lunl_ear *e);

#endif
