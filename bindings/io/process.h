/* SPDX-License-Identifier: MIT */
/*
 * process.h - what the files of the module lunation.process.core share: process.c starts, signals
 * and awaits children, process_ends.c makes and lends the descriptors that they get. Options are
 * checked and said in scripts/lunation/process.lua; here arguments are positional.
 */
#ifndef LUNL_IO_PROCESS_H
#define LUNL_IO_PROCESS_H

#include "pipe.h"
#include "stream.h"

/* A descriptor that a child is to get, borrowed from a Lua value. */
typedef struct lunl_lent {
    int fd;         /* -1: /dev/null instead */
    lunl_stream *s; /* it is this stream's, open; or NULL */
} lunl_lent;

/*
 * What the value at `arg` stands for, which errors call `name`: nil (/dev/null), the number of a
 * descriptor, a Descriptor, a Stream over one of the system's, an open file of Lua's io library,
 * which is flushed. TypeError; ValueError for a stream without a descriptor; RuntimeError for one
 * that is in use or holds bytes; OSError EBADF for what is closed.
 */
void lunl_lend(lua_State *L, lunl_state *S, int arg, const char *name, lunl_lent *lent);

/* Registers the type Descriptor, once. */
void lunl_open_descriptor_type(lua_State *L);

extern const luaL_Reg lunl_ends_functions[]; /* process_ends.c */

#endif
