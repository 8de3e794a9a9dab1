/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - what the parts of the memory sweep share: a run of a program at one point, the list of
 * the functions that the programs have to call, and the planted faults.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "heap.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/* A Lua program that is swept. */
typedef struct program {
    const char *name;
    const char *text; /* owned by whoever lists it */
    size_t size;
    bool opens; /* it opens the library itself: the others find it open */
    bool debug; /* it is told to run its loops in debug mode */
} program;

/* What a run tells the process that started it: memory that both see. */
typedef struct cell {
    long point;              /* that runs now */
    const char *phase;       /* what it is doing: static */
    long requests;           /* of the run that ended last */
    long refused;            /* of those */
    long points;             /* runs that were refused something, and ended well */
    long lost;               /* of those: Lua lost a finaliser, and something leaked */
    char outcome[160];       /* how the program ended that ran last */
    char fault[256];         /* the first that was found; "" while all is well */
    const char *fault_phase; /* what it was doing then */
} cell;
extern cell *sweep_cell;

enum { SWEEP_FAULTY = 3, SWEEP_HUNG = 4 }; /* exit statuses of a process that runs points */

/* Notes a fault, if it is the first. Safe in a signal handler. */
void sweep_fault(const char *text);

/* run.c: once in a process, before anything of the library or of libuv is used. */
void sweep_prepare(void);
/* One run in a new Lua state; what it finds is in the cell. `cover`: notes what is called. */
void sweep_run(const program *p, enum heap_mode mode, long point, bool cover);

/* cover.c: the functions that can be reached; in memory that all processes see. */
void sweep_cover_prepare(void);
/* Begins to note what the functions of this state call. */
void sweep_cover_begin(lua_State *L);
/* Adds what can be reached now; ends the noting. */
void sweep_cover_end(lua_State *L);
/* Calls `report` for every function that was never called; how many functions there are. */
int sweep_cover_missing(void (*report)(const char *name));

/* planted.c: programs with a fault each, to see that the sweep finds them. */
extern const program sweep_planted[];
extern const int sweep_planted_count;
/* Sets the global `planted`: the functions with the faults. */
void sweep_planted_open(lua_State *L);

#endif
