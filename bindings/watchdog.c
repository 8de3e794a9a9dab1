/* SPDX-License-Identifier: MIT */
/*
 * watchdog.c - a limit in real seconds around code that may wait for ever, or never wait at all.
 *
 * Two stages: a libuv timer tells the loop; if from then on Lua keeps the loop from making any
 * progress for a second, a signal arms a hook that throws in whatever Lua code runs. The timer is
 * none of the loop's own, so a virtual clock does not move it, and it is not counted, so a loop with
 * nothing else is idle.
 *
 * Laws: one watchdog of the process at a time has the second stage, and only on its main thread
 * while nobody else handles SIGVTALRM. The handler touches C facts alone (see interrupt.c).
 */
#include "state.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TICK = 1 };     /* seconds without progress that are too many */
enum { PATIENCE = 3 }; /* throws that code may catch and go on */

#if !defined(sigev_notify_thread_id)
#define sigev_notify_thread_id _sigev_un._tid /* glibc names it lately only */
#endif

typedef struct watch {
    uv_timer_t timer; /* first: freed by its close callback */
    lunl_loop *loop;
    void (*due)(lunl_loop *loop);
    double seconds;
    lun_allocator allocator;
    bool second_stage;
} watch;

static watch *volatile current; /* the one that has the second stage, borrowed */
static volatile sig_atomic_t armed;
static volatile sig_atomic_t throws; /* in a row, without any progress between */
static uint64_t progress;            /* of the loop at the last tick */
static timer_t alarm_clock;
static struct lunl_hook covered;

/*
 * Takes itself off, here and on threads that inherited it. Code that catches what is thrown and
 * goes on, again and again, gets it at each instruction in the end, until it has left its task.
 */
static void on_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    bool insists = armed && current && throws >= PATIENCE && L != current->loop->S->L;
    if (!insists)
        lunl_uncover(L, &covered);
    if (!armed || !current)
        return;
    armed = insists;
    throws++;
    char seconds[32];
    snprintf(seconds, sizeof seconds, "%g", current->seconds);
    lunl_throw(L, LUNL_TIMEOUT_ERROR, "the time limit of %s s is over", seconds);
}

static void tick(const lunl_loop *loop)
{
    const lun_counters *c = &loop->loop.count;
    uint64_t now = c->turns + c->suspensions;
    lua_State *L = loop->S->running ? loop->S->running : loop->S->L;
    /* Another loop may run in this state meanwhile, or none. */
    if (now != progress) {
        armed = throws = 0;
    } else if (loop->S->loop == loop && !loop->loop.polling && L) {
        armed = 1;
        lunl_cover(L, on_hook, &covered);
    }
    progress = now;
}

static void on_signal(int number)
{
    int error = errno;
    if (!lunl_on_main_thread())
        syscall(SYS_tgkill, getpid(), getpid(), number);
    else if (current)
        tick(current->loop);
    errno = error;
}

/* From the base of a poll: Lua is not busy, the second stage is not needed. */
static void on_due(uv_timer_t *timer)
{
    watch *w = (watch *)timer;
    w->due(w->loop);
}

static void on_closed(uv_handle_t *handle)
{
    watch *w = (watch *)handle;
    w->allocator.alloc(w->allocator.ud, w, sizeof *w, 0);
}

static void begin_second_stage(watch *w)
{
    struct sigaction now, ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM};
    double whole;
    sigemptyset(&ours.sa_mask);
    event.sigev_notify_thread_id = getpid(); /* the main thread's */
    if (current || !lunl_on_main_thread() || sigaction(SIGVTALRM, NULL, &now) != 0 ||
        (now.sa_flags & SA_SIGINFO) || now.sa_handler != SIG_DFL)
        return;
    if (sigaction(SIGVTALRM, &ours, NULL) != 0)
        return;
    if (timer_create(CLOCK_MONOTONIC, &event, &alarm_clock) != 0) {
        sigaction(SIGVTALRM, &now, NULL);
        return;
    }
    double part = modf(w->seconds, &whole);
    /* Again and again: the code may catch what is thrown and go on. */
    struct itimerspec when = {{TICK, 0}, {(time_t)whole, (long)(part * 999999998) + 1}};
    armed = throws = 0;
    progress = UINT64_MAX;
    current = w;
    timer_settime(alarm_clock, 0, &when, NULL);
    w->second_stage = true;
}

static void end_second_stage(watch *w)
{
    struct sigaction now;
    if (!w->second_stage)
        return;
    /* A signal of this thread's that is on its way arrives before that returns. */
    timer_delete(alarm_clock);
    armed = 0;
    current = NULL;
    if (sigaction(SIGVTALRM, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
        now.sa_handler == on_signal) {
        now.sa_handler = SIG_DFL;
        sigaction(SIGVTALRM, &now, NULL);
    }
}

void lunl_watchdog_on(lua_State *L, lunl_loop *loop, double seconds,
                      void (*due)(lunl_loop *loop))
{
    watch *w = lun_loop_alloc(&loop->loop, sizeof *w);
    if (!w)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(w, 0, sizeof *w);
    w->loop = loop;
    w->due = due;
    w->seconds = seconds;
    w->allocator = loop->loop.allocator;
    uv_timer_init(loop->loop.uv, &w->timer);
    uv_update_time(loop->loop.uv);
    uv_timer_start(&w->timer, on_due, (uint64_t)ceil(seconds * 1e3), 0);
    loop->watchdog = w;
    begin_second_stage(w);
}

void lunl_watchdog_off(lunl_loop *loop)
{
    watch *w = loop->watchdog;
    loop->watchdog = NULL;
    if (!w)
        return;
    end_second_stage(w);
    uv_close((uv_handle_t *)&w->timer, on_closed);
}
