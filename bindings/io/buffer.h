/* SPDX-License-Identifier: MIT */
/*
 * buffer.h - the bytes that have arrived and that nobody has taken yet: one block of C
 * memory, filled at its end, emptied at its start.
 *
 * Growing doubles and moving waits until half is free, so that any sequence of small pieces
 * is linear; an empty buffer keeps at most a page, so that idle connections are small. What has
 * arrived in the loop's read buffer need not be copied: the two change places, and blocks of
 * that size go round (lunl_io.spare).
 */
#ifndef LUNL_IO_BUFFER_H
#define LUNL_IO_BUFFER_H

#include "../lunl.h"

typedef struct lunl_buffer {
    char *p;           /* owned; NULL while room is 0 */
    size_t start, end; /* the bytes are p[start] .. p[end - 1] */
    size_t room;
} lunl_buffer;

static inline size_t lunl_buffer_size(const lunl_buffer *b)
{
    return b->end - b->start;
}

/* Room for `n` more bytes behind p[end]. False: no memory, nothing changed. */
bool lunl_buffer_reserve(lun_loop *loop, lunl_buffer *b, size_t n);
/* Puts `n` bytes behind the others. False: no memory, nothing changed. */
bool lunl_buffer_append(lun_loop *loop, lunl_buffer *b, const char *p, size_t n);
/*
 * The same for bytes that have arrived in the loop's read buffer, which is another one then if they
 * fill a good part of it; or, with `lent`, whatever they fill: lunl_buffer_settle follows.
 */
bool lunl_buffer_arrived(lun_loop *loop, lunl_buffer *b, const char *p, size_t n,
                         bool lent);
/* What is left for long in a block of that size, and fills little of it, gets one of its own. */
void lunl_buffer_settle(lun_loop *loop, lunl_buffer *b);
/* Takes the first `n` bytes away. */
void lunl_buffer_take(lun_loop *loop, lunl_buffer *b, size_t n);
void lunl_buffer_free(lun_loop *loop, lunl_buffer *b);

#endif
