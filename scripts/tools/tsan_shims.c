/* SPDX-License-Identifier: MIT */
/*
 * tsan_shims.c - for the thread sanitizer's build only: two calls of system libraries that gcc's
 * sanitizer cannot see, turned into ones that it can.
 *
 * Debian's Lua is built with fortified functions, so it throws by __longjmp_chk: every error and
 * every yield would leave frames on the sanitizer's own stack until that overflows. And libuv
 * closes descriptors by syscall(SYS_close): a number that another thread gets next would look
 * like one that both use.
 *
 * Law: this is a library of its own that is loaded before libc. Preloaded into a stock Lua it
 * keeps itself out of that one's children: a shell does not survive the sanitizer.
 */
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

_Noreturn void __longjmp_chk(jmp_buf place, int value);

_Noreturn void __longjmp_chk(jmp_buf place, int value)
{
    longjmp(place, value);
}

static long (*next_syscall)(long number, ...);

/* Early: signal handlers make system calls, and must not be the first to look for this. */
__attribute__((constructor)) static void find_next(void)
{
    *(void **)&next_syscall = dlsym(RTLD_NEXT, "syscall");
    unsetenv("LD_PRELOAD");
}

long syscall(long number, ...)
{
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_close)
        return close((int)a[0]);
    if (!next_syscall)
        find_next();
    return next_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
