/* SPDX-License-Identifier: MIT */
/*
 * coverage_dump.c - for builds with LUNATION_COVERAGE: a process that dies by its own hand writes
 * its counts first. The linker puts these functions before the C library's (--wrap).
 */
#include <signal.h>
#include <stdlib.h>

void __gcov_dump(void);
void __gcov_reset(void);
void __real_abort(void);
void __wrap_abort(void);
int __real_raise(int number);
int __wrap_raise(int number);

void __wrap_abort(void)
{
    __gcov_dump();
    __real_abort();
}

int __wrap_raise(int number)
{
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    /* Not within a signal's handler, which may have come in the middle of anything. */
    if (!sigismember(&blocked, number)) {
        __gcov_dump();
        __gcov_reset();
    }
    return __real_raise(number);
}
