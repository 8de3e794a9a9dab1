/* SPDX-License-Identifier: MIT */
/*
 * base.c - the default allocator and the last word of a broken invariant.
 */
#include "base.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *default_alloc(void *ud, void *ptr, size_t old_size, size_t size)
{
    (void)ud;
    (void)old_size;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, size);
}

const lun_allocator lun_allocator_default = {default_alloc, NULL};

static lun_fatal_hook fatal_hook;

void lun_set_fatal(lun_fatal_hook hook)
{
    fatal_hook = hook;
}

static void say(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));
    (void)n;
}

void lun_say(const char *text)
{
    say(text);
    say("\n");
}

void lun_fatal(const char *file, int line, const char *text)
{
    if (fatal_hook)
        fatal_hook(file, line, text);
    char digits[16];
    char *p = digits + sizeof digits;
    *--p = '\0';
    for (unsigned n = (unsigned)line; n || p == digits + sizeof digits - 1; n /= 10)
        *--p = (char)('0' + n % 10);
    say("lunation: broken invariant at ");
    say(file);
    say(":");
    say(p);
    say(": ");
    say(text);
    say("\n");
    abort();
}
