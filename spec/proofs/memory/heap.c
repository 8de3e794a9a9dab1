/* SPDX-License-Identifier: MIT */
/*
 * heap.c - the checking heap. Every block has a header that says what it is and a footer that must
 * stay as it is; a block that is given back is filled and kept for a while, so that writing to it
 * or giving it back once more is seen. A block that grows or shrinks always moves, so that
 * pointers into the old one are stale at once.
 */
#include "heap.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

typedef struct block {
    uint64_t magic;            /* LIVE or FREED, mixed with the address */
    struct block *prev, *next; /* in the ring of live ones, or of freed ones */
    size_t size;               /* of what was given, behind this header */
    long number;               /* of the request; 0: before the counting began */
    uint64_t spare;            /* what is given is aligned to 16 */
} block;

enum {
    LONG_BURST = 20,
    FOOTER = 16,
    FILL = 0xdd,
    KEPT_BLOCKS = 4096,
    KEPT_BYTES = 4 << 20
};

static const uint64_t LIVE = 0x6c6976655f626c6bull, FREED = 0x667265655f626c6bull;
static const unsigned char footer[FOOTER] = "\xf0\x07\xe5 unchanged \x0f";

const char *const heap_mode_names[] = {
#define X(id, name) name,
    HEAP_MODES(X)
#undef X
};

typedef struct request {
    const void *ptr;
    size_t old_size, size;
} request;

static struct heap {
    block live, freed; /* heads of the rings; the oldest freed one comes first */
    size_t freed_blocks, freed_bytes;
    bool armed;
    enum heap_mode mode;
    long point, requests, refused;
    request last; /* that was refused */
    void (*report)(const char *text);
} heap;

static void fault(const char *what, const block *b)
{
    char text[160];
    snprintf(text, sizeof text, "%s (%zu bytes, request %ld)", what, b->size, b->number);
    heap.report(text);
}

void heap_on_fault(void (*report)(const char *text))
{
    heap.report = report;
}

/* ---- rings ---- */

static void append(block *ring, block *b)
{
    b->prev = ring->prev;
    b->next = ring;
    ring->prev->next = b;
    ring->prev = b;
}

static void take_out(block *b)
{
    b->prev->next = b->next;
    b->next->prev = b->prev;
}

/* ---- blocks ---- */

static uint64_t mark(const block *b, uint64_t as)
{
    return as ^ (uint64_t)(uintptr_t)b;
}

static unsigned char *bytes_of(block *b)
{
    return (unsigned char *)(b + 1);
}

static void check_footer(block *b)
{
    if (memcmp(bytes_of(b) + b->size, footer, FOOTER) != 0)
        fault("block written behind its end", b);
}

static void check_fill(block *b)
{
    const unsigned char *p = bytes_of(b);
    ASAN_UNPOISON_MEMORY_REGION(p, b->size);
    for (size_t i = 0; i < b->size; i++) {
        if (p[i] != FILL) {
            fault("block written to after it was freed", b);
            return;
        }
    }
}

static void *make(size_t size)
{
    block *b = malloc(sizeof *b + size + FOOTER);
    if (!b) {
        heap.report("the machine itself has no memory left");
        return NULL;
    }
    *b = (block){.size = size};
    b->magic = mark(b, LIVE);
    b->number = heap.armed ? heap.requests : 0;
    memcpy(bytes_of(b) + size, footer, FOOTER);
    append(&heap.live, b);
    return b + 1;
}

/* The block of what was given, if it is to be given back or moved: else a fault and NULL. */
static block *block_of(void *ptr)
{
    block *b = (block *)ptr - 1;
    if (b->magic == mark(b, LIVE))
        return b;
    if (b->magic == mark(b, FREED))
        fault("block freed twice", b);
    else
        heap.report(
            "something freed that is no block, or one whose header was overwritten");
    return NULL;
}

static void let_oldest_go(void)
{
    block *b = heap.freed.next;
    take_out(b);
    heap.freed_blocks--;
    heap.freed_bytes -= b->size;
    check_fill(b);
    b->magic = 0;
    free(b);
}

static void release(block *b)
{
    check_footer(b);
    take_out(b);
    b->magic = mark(b, FREED);
    memset(bytes_of(b), FILL, b->size);
    ASAN_POISON_MEMORY_REGION(bytes_of(b), b->size);
    append(&heap.freed, b);
    heap.freed_blocks++;
    heap.freed_bytes += b->size;
    while (heap.freed_blocks > KEPT_BLOCKS || heap.freed_bytes > KEPT_BYTES)
        let_oldest_go();
}

static void *move(block *b, size_t size)
{
    void *p = make(size);
    if (!p)
        return NULL;
    memcpy(p, bytes_of(b), b->size < size ? b->size : size);
    release(b);
    return p;
}

/* ---- runs ---- */

void heap_begin(void)
{
    void (*report)(const char *text) = heap.report;
    heap = (struct heap){.report = report};
    heap.live.prev = heap.live.next = &heap.live;
    heap.freed.prev = heap.freed.next = &heap.freed;
}

void heap_arm(enum heap_mode mode, long point)
{
    heap.mode = mode;
    heap.point = point;
    heap.armed = true;
}

void heap_disarm(void)
{
    heap.armed = false;
}

long heap_requests(void)
{
    return heap.requests;
}

long heap_refused(void)
{
    return heap.refused;
}

bool heap_refused_call(void)
{
    /* For a new object, Lua passes its type where the old size would be. */
    return heap.refused > 0 && (heap.last.ptr || heap.last.old_size == 0);
}

void heap_check(void)
{
    for (block *b = heap.live.next; b != &heap.live; b = b->next)
        check_footer(b);
    for (block *b = heap.freed.next; b != &heap.freed; b = b->next) {
        check_fill(b);
        ASAN_POISON_MEMORY_REGION(bytes_of(b), b->size);
    }
}

bool heap_end(bool pardoned)
{
    size_t blocks = 0, bytes = 0;
    heap_check();
    for (block *b = heap.live.next; b != &heap.live; b = b->next) {
        blocks++;
        bytes += b->size;
    }
    if (blocks > 0 && !pardoned) {
        char text[160];
        snprintf(text, sizeof text,
                 "leak: %zu blocks, %zu bytes; the first has %zu bytes (request %ld)",
                 blocks, bytes, heap.live.next->size, heap.live.next->number);
        heap.report(text);
    }
    while (heap.freed.next != &heap.freed)
        let_oldest_go();
    return blocks == 0;
}

/* ---- requests ---- */

static bool same(const request *a, const request *b)
{
    return a->ptr == b->ptr && a->old_size == b->old_size && a->size == b->size;
}

static bool in_turn(const request *r)
{
    long n = heap.requests, at = heap.point;
    switch (heap.mode) {
    case HEAP_ONCE:
        return n == at || (n == at + 1 && same(r, &heap.last));
    case HEAP_EVER:
        return n >= at;
    case HEAP_BURST:
        return n >= at && n < at + LONG_BURST;
    case HEAP_COLLECT:
        return n == at;
    case HEAP_CALM:
        break;
    }
    return false;
}

static bool refuse(const void *ptr, size_t old_size, size_t size)
{
    request r = {ptr, old_size, size};
    if (!heap.armed)
        return false;
    heap.requests++;
    if (!in_turn(&r))
        return false;
    heap.last = r;
    heap.refused++;
    return true;
}

void *heap_lua(void *ud, void *ptr, size_t old_size, size_t size)
{
    (void)ud;
    if (!ptr)
        return size == 0 || refuse(ptr, old_size, size) ? NULL : make(size);
    block *b = block_of(ptr);
    if (!b)
        return NULL;
    if (b->size != old_size)
        fault("block given back with another size", b);
    if (size == 0) {
        release(b);
        return NULL;
    }
    return size > b->size && refuse(ptr, old_size, size) ? NULL : move(b, size);
}

void *heap_uv_malloc(size_t size)
{
    return refuse(NULL, 0, size) ? NULL : make(size);
}

void *heap_uv_calloc(size_t count, size_t size)
{
    void *p = heap_uv_malloc(count * size);
    return p ? memset(p, 0, count * size) : NULL;
}

void *heap_uv_realloc(void *ptr, size_t size)
{
    block *b = ptr ? block_of(ptr) : NULL;
    return b ? move(b, size) : make(size);
}

void heap_uv_free(void *ptr)
{
    block *b = ptr ? block_of(ptr) : NULL;
    if (b)
        release(b);
}
