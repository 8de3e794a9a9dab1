/* SPDX-License-Identifier: MIT */
/*
 * base.h - what every room of the core leans on: assertions that stay on in release, and the
 * one allocator.
 *
 * Law: the core allocates through lun_alloc alone, so that a test can count and fail every
 * allocation; a failed assertion reaches the host's fatal hook and never goes on.
 */
#ifndef LUN_BASE_H
#define LUN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The allocator of one loop, with the shape of Lua's: `size` 0 frees; NULL says no memory. */
typedef struct lun_allocator {
    void *(*alloc)(void *ud, void *ptr, size_t old_size, size_t size);
    void *ud; /* borrowed; handed to alloc */
} lun_allocator;

/* malloc's, used where a host names none. */
extern const lun_allocator lun_allocator_default;

/*
 * Sets what a broken invariant does; process-wide, to be called before any loop is made. The
 * hook gets the place and the text and must not return; the default writes them and aborts.
 */
typedef void (*lun_fatal_hook)(const char *file, int line, const char *text);
void lun_set_fatal(lun_fatal_hook hook);

/* What is rarely called stays out of the way of what often is. */
#if defined(__GNUC__)
#define LUN_COLD __attribute__((noinline, cold))
#else
#define LUN_COLD
#endif

/* A line to stderr, written raw: for when stdio or memory may be what is broken. */
void lun_say(const char *text);

/* Reports a broken invariant. Does not return. */
#if defined(__GNUC__)
__attribute__((noreturn, cold))
#endif
void lun_fatal(const char *file, int line, const char *text);

#define LUN_ASSERT(x) ((x) ? (void)0 : lun_fatal(__FILE__, __LINE__, #x))

#endif
