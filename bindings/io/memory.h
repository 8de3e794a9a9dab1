/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the options of a pair of streams in memory: read in memory_opts.c, obeyed in memory.c.
 */
#ifndef LUNL_IO_MEMORY_H
#define LUNL_IO_MEMORY_H

#include "stream.h"

/* Behind `at` bytes it fails. */
typedef struct lunl_fault {
    uint64_t at; /* UINT64_MAX: never */
    int error;   /* libuv's code; 0: the end of the stream */
} lunl_fault;

/* How one end behaves. */
typedef struct lunl_end_opts {
    size_t max_read, max_write;
    size_t capacity; /* bytes on the way from it */
    size_t limit;    /* of a line */
    double delay;    /* seconds, of what is on the way to it */
    lunl_fault read_fault, write_fault;
    bool lockstep;
} lunl_end_opts;

/* Reads the options at 1, nil or a table, for both ends. */
void lunl_pair_options(lua_State *L, lunl_end_opts opts[2]);

#endif
