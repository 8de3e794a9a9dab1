/* SPDX-License-Identifier: MIT */
/*
 * print.h - text for people, put together from pieces: used by the exception handler and by
 * dump.
 */
#ifndef LUNL_PRINT_H
#define LUNL_PRINT_H

#include "../lunl.h"

/* A text in the making. Between the calls the Lua stack is the caller's. */
typedef struct lunl_print {
    lua_State *L;
    int list; /* absolute index of the table of pieces, which print_begin pushes */
    int seen; /* absolute index of the set of errors that were printed, pushed as well */
    lua_Integer n; /* pieces */
    int errors;    /* that may still be printed */
} lunl_print;

/* Begins a text: pushes two tables. */
void lunl_print_begin(lunl_print *p, lua_State *L);

/* Adds the string on top (popped), each of its lines indented and ended. */
void lunl_print_lines(lunl_print *p, int indent);

/* The same for a C string. */
void lunl_print_text(lunl_print *p, int indent, const char *text);

/*
 * Adds the error at `idx` with its trace, the errors that it was raised from and, if it is
 * a group, its members: each error once, and no more than a screen or two of them. `trace`:
 * index of the text to print as its trace, 0 for what is recorded with it.
 */
void lunl_print_error(lunl_print *p, int idx, int trace, int indent);

/* Ends the text: what print_begin pushed is popped, with all that lies above; pushes the
 * text. */
const char *lunl_print_end(lunl_print *p, size_t *size);

/* Writes to stderr in one piece. Takes no memory of Lua's. */
void lunl_write_error(const char *text, size_t size);

#endif
