/* SPDX-License-Identifier: MIT */
/*
 * formats.h - Lua's formats of reading over bytes that lie in memory: a look says what they
 * give, or how many there must be for another look. Whose bytes they are (a stream's, a
 * file's), and how more of them come, is the caller's business.
 */
#ifndef LUNL_IO_FORMATS_H
#define LUNL_IO_FORMATS_H

#include "../lunl.h"

enum {
    LUNL_LINE_LIMIT = 65536, /* bytes of a line, unless opts.limit says otherwise */
    LUNL_SOME_MAX = 65536    /* bytes that read_some gives unless told otherwise */
};

enum lunl_want_kind {
    LUNL_LINE,
    LUNL_LINE_KEEP,
    LUNL_ALL,
    LUNL_COUNT,
    LUNL_NUMBER,
    LUNL_SOME,
    LUNL_UNTIL
};

/* What one format asks for. */
typedef struct lunl_want {
    enum lunl_want_kind kind;
    size_t n;        /* COUNT: bytes; SOME, UNTIL: at most */
    const char *sep; /* UNTIL: borrowed from the Lua stack */
    size_t sep_len;
} lunl_want;

enum lunl_found {
    LUNL_GOT,
    LUNL_MORE,   /* another look at `need` bytes */
    LUNL_END,    /* nothing at all, and nothing comes */
    LUNL_FAILED, /* not enough, and nothing comes but an error */
    LUNL_OVER,   /* a line, or what is before a separator or a number, is too long */
    LUNL_CUT     /* the end came before the separator */
};

typedef struct lunl_look {
    /* Set by the caller: */
    const char *p; /* what is there for this format ... */
    size_t n;      /* ... so many bytes */
    size_t limit;  /* of a line, and of blanks in front of a number: bytes */
    bool ended;    /* no more bytes will come: the end ... */
    bool failed;   /* ... or an error */
    size_t
        searched; /* bytes at p that are known to hold no separator, or blanks alone: 0 at
                     first, then kept */
    /* What was found: */
    size_t give,
        use;     /* GOT: bytes of the result, bytes to consume; OVER: give is `consumed` */
    size_t need; /* MORE: bytes that there must be; SIZE_MAX: only the end will do */
} lunl_look;

/* Looks for what `w` asks for. */
enum lunl_found lunl_look_for(const lunl_want *w, lunl_look *k);
/* Pushes what was GOT; false: it is nil, and no further format is read. */
bool lunl_push_found(lua_State *L, const lunl_want *w, const lunl_look *k);
/*
 * Throws LimitOverrunError for OVER, IncompleteReadError for CUT; `text` is the name of what was
 * read.
 */
_Noreturn void lunl_throw_found(lua_State *L, enum lunl_found found, const lunl_want *w,
                                const lunl_look *k, const char *text);
/* The format at `arg`: a number of bytes or "l", "L", "a", "n"; TypeError, ValueError. */
void lunl_check_format(lua_State *L, int arg, lunl_want *w);
/*
 * For a method `lines`, whose whole stack are the object and its formats, which are checked: leaves
 * an iterator, the closure of `next`, which begins with lunl_lines_args.
 */
int lunl_push_lines(lua_State *L, lua_CFunction next);
/* Puts object and formats onto the empty stack again. */
void lunl_lines_args(lua_State *L);

#endif
