/* SPDX-License-Identifier: MIT */
/*
 * heap.h - the checking heap of the memory sweep: it counts requests, refuses the one that the
 * sweep is at, and sees what becomes of every block.
 *
 * Lua, the loop and libuv all ask it. One heap in the process, one thread; what shrinks or frees
 * is never refused and not counted, nor is libuv's realloc, whose failure libuv answers by an
 * abort.
 */
#ifndef SWEEP_HEAP_H
#define SWEEP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* Which requests are refused, seen from the number of one of them, the point. */
#define HEAP_MODES(X)                                                                      \
    X(ONCE, "once")       /* that one, also when Lua asks again after a collection */      \
    X(EVER, "ever")       /* that one and all that follow */                               \
    X(BURST, "burst")     /* that one and the next few */                                  \
    X(COLLECT, "collect") /* that one, but not when Lua asks again */

enum heap_mode {
#define X(id, name) HEAP_##id,
    HEAP_MODES(X)
#undef X
        HEAP_MODE_COUNT,
    HEAP_CALM = HEAP_MODE_COUNT /* none: requests are only counted */
};
extern const char *const heap_mode_names[HEAP_MODE_COUNT];

/* Called with a text for every fault that is found; the heap goes on as well as it can. */
void heap_on_fault(void (*report)(const char *text));

/* Empties the heap for a new run; all that was left in it is forgotten. */
void heap_begin(void);
/* From here on requests are counted, from 1, and refused by mode and point. */
void heap_arm(enum heap_mode mode, long point);
/* Memory is there again. */
void heap_disarm(void);
/* How many requests came while it was armed, and how many of them were refused. */
long heap_requests(void);
long heap_refused(void);
/* Was the one that was refused last for a call: room on a stack, or what Lua keeps per level? */
bool heap_refused_call(void);
/* Looks at every block, live or freed, for bytes written outside of what was given. */
void heap_check(void);
/* The same at the end, when nothing may be left; `pardoned`: a leak is no fault. False: it leaks. */
bool heap_end(bool pardoned);

/* Of Lua's own shape, for lua_newstate. */
void *heap_lua(void *ud, void *ptr, size_t old_size, size_t size);
/* For uv_replace_allocator. */
void *heap_uv_malloc(size_t size);
void *heap_uv_calloc(size_t count, size_t size);
void *heap_uv_realloc(void *ptr, size_t size);
void heap_uv_free(void *ptr);

#endif
