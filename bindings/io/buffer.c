/* SPDX-License-Identifier: MIT */
/*
 * buffer.c - growing, moving and emptying a lunl_buffer; its laws are in buffer.h.
 */
#include "buffer.h"

#include "handle.h"

#include <string.h>

/* Bytes of the first block, and up to which size an empty buffer keeps its block. */
#if defined(LUN_CHAOS)
enum { LEAST = 1, KEPT = 0 };
#else
enum { LEAST = 512, KEPT = 4096 };
#endif

/* A block changes hands if so much of it is full; else its bytes do. */
static const size_t WORTH_KEEPING = LUNL_CHUNK / 4;

/* A block of the read buffer's size; NULL: no memory. */
static char *new_chunk(lunl_io *io, lun_loop *loop)
{
    return io->n_spare > 0 ? io->spare[--io->n_spare] : lun_loop_alloc(loop, LUNL_CHUNK);
}

bool lunl_buffer_reserve(lun_loop *loop, lunl_buffer *b, size_t n)
{
    size_t size = lunl_buffer_size(b);
    if (n <= b->room - b->end)
        return true;
    if (n > SIZE_MAX / 4 - size)
        return false;
    if (b->start >= b->room / 2 && n <= b->room - size) {
        memmove(b->p, b->p + b->start, size);
    } else {
        size_t room = b->room ? b->room : LEAST;
        while (room < size + n + (size + n) / 2)
            room *= 2;
        char *p = lun_loop_alloc(loop, room);
        if (!p)
            return false;
        if (size)
            memcpy(p, b->p + b->start, size);
        lun_loop_free(loop, b->p, b->room);
        b->p = p;
        b->room = room;
    }
    b->start = 0;
    b->end = size;
    return true;
}

bool lunl_buffer_append(lun_loop *loop, lunl_buffer *b, const char *p, size_t n)
{
    if (!lunl_buffer_reserve(loop, b, n))
        return false;
    memcpy(b->p + b->end, p, n);
    b->end += n;
    return true;
}

void lunl_buffer_settle(lun_loop *loop, lunl_buffer *b)
{
    lunl_buffer small = {0};
    size_t size = lunl_buffer_size(b);
    if (b->room != LUNL_CHUNK || size >= WORTH_KEEPING)
        return;
    if (size > 0 && !lunl_buffer_append(loop, &small, b->p + b->start, size))
        return; /* without memory it stays where it is */
    lunl_buffer_free(loop, b);
    *b = small;
}

bool lunl_buffer_arrived(lun_loop *loop, lunl_buffer *b, const char *p, size_t n, bool lent)
{
    lunl_io *io = lunl_loop_of(loop)->io;
    char *other = NULL;
    if (p == io->chunk && (lent || n >= WORTH_KEEPING) && lunl_buffer_size(b) == 0)
        other = new_chunk(io, loop);
    if (!other)
        return lunl_buffer_append(loop, b, p, n);
    lunl_buffer_free(loop, b);
    *b = (lunl_buffer){.p = io->chunk, .end = n, .room = LUNL_CHUNK};
    io->chunk = other;
    return true;
}

void lunl_buffer_take(lun_loop *loop, lunl_buffer *b, size_t n)
{
    b->start += n;
    if (b->start < b->end)
        return;
    b->start = b->end = 0;
    if (b->room > KEPT)
        lunl_buffer_free(loop, b);
}

void lunl_buffer_free(lun_loop *loop, lunl_buffer *b)
{
    lunl_io *io = lunl_loop_of(loop)->io;
    if (b->room == LUNL_CHUNK && io && io->n_spare < LUNL_SPARES)
        io->spare[io->n_spare++] = b->p;
    else
        lun_loop_free(loop, b->p, b->room);
    *b = (lunl_buffer){0};
}
