/* SPDX-License-Identifier: MIT */
/*
 * interrupt.c - how a run is left before its time: SIGINT and what else the run's option
 * `signals` names, and os.exit in a script.
 *
 * Such a signal is taken only if its disposition is the default and the run is on the process's
 * main thread, and given back unless somebody else has taken it meanwhile. The handler
 * counts, wakes the loop and, at the second press, arms a hook that throws in whatever Lua
 * code runs. What a press, whichever signal it is, means is decided when the loop gets control:
 *
 *   first    the main task is cancelled; in a teardown: waiting for tasks ends
 *   second   KeyboardInterrupt leaves the run call, unless the hook has thrown it already
 *   third    the default disposition, raised again
 *
 * Laws: one loop of the process at a time is under interruption. The handler touches C
 * facts alone; lua_sethook counts as one (Lua says so). Whoever has our hook takes it off
 * when it fires, and puts back the one it took the place of.
 */
#include "io/signal.h"
#include "lunation_lua.h"
#include "state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST = 1, SECOND, THIRD };

static struct {
    /* Under interruption, borrowed; NULL: none. Other threads' runs compare theirs with it. */
    lunl_loop *_Atomic loop;
    uint64_t taken;              /* set of signals whose disposition we have changed */
    volatile sig_atomic_t armed; /* our hook is set and has not thrown yet */
    struct lunl_hook before;     /* what it took the place of */
    int seen;                    /* presses that have been dealt with */
} sigint;

bool lunl_on_main_thread(void)
{
    return syscall(SYS_gettid) == getpid();
}

void lunl_cover(lua_State *L, lua_Hook hook, struct lunl_hook *before)
{
    if (lua_gethook(L) != hook) {
        before->hook = lua_gethook(L);
        before->mask = lua_gethookmask(L);
        before->count = lua_gethookcount(L);
    }
    /* Lines, too: a signal in the middle of Lua's counting for another hook would lose the
     * count. */
    lua_sethook(L, hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* ---- the second press: throwing in running code ---- */

/*
 * Also on threads that inherited it while it was armed elsewhere, and where it is left
 * over. It is never taken off from outside: the thread may be gone.
 */
static void on_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lunl_uncover(L, &sigint.before);
    if (!sigint.armed)
        return;
    sigint.armed = 0;
    sigint.seen = SECOND;
    lunl_error_interrupt(L, lunl_get_state(L));
    lua_error(L);
}

static void arm(lunl_state *S)
{
    lua_State *L = S->running ? S->running : S->L;
    if (!L || sigint.armed)
        return;
    sigint.armed = 1;
    lunl_cover(L, on_hook, &sigint.before);
}

/* ---- the handler ---- */

static void set_disposition(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* Whether `handler` is what a signal does now. */
static bool does(int number, void (*handler)(int))
{
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
           now.sa_handler == handler;
}

static void on_signal(int number);

/* Ours, for all that were taken and that nobody else has taken from us. */
static void set_flags(int flags)
{
    for (int i = 1; i < LUNL_SIGNALS; i++)
        if ((sigint.taken & lunl_signal_bit(i)) && does(i, on_signal))
            set_disposition(i, on_signal, flags);
}

static void on_signal(int number)
{
    int error = errno;
    lunl_loop *loop = sigint.loop;
    if (!lunl_on_main_thread()) {
        syscall(SYS_tgkill, getpid(), getpid(), number);
    } else if (!loop) {
        /* Put back, by one who had saved it, after the run that it belonged to: nobody's any more. */
        set_disposition(number, SIG_DFL, 0);
        raise(number);
    } else {
        int pressed = ++loop->S->interrupts;
        if (pressed == FIRST)
            loop->S->interrupted_by = number;
        if (pressed >= THIRD) {
            set_disposition(number, SIG_DFL, 0);
            raise(number);
        } else if (pressed == SECOND) {
            arm(loop->S);
        } else {
            /* A call that blocks goes on after the first press; the second makes it return.
             */
            set_flags(0);
        }
        if (!loop->loop.closed)
            lun_loop_wakeup(&loop->loop);
    }
    errno = error;
}

void lunl_error_interrupt(lua_State *L, const lunl_state *S)
{
    char name[LUNL_SIGNAL_NAME];
    int number = S->interrupts > 0 ? S->interrupted_by : 0;
    lunl_signal_name(number, name);
    if (number == 0 || number == SIGINT)
        lunl_error_new(L, LUNL_KEYBOARD_INTERRUPT, NULL);
    else
        lunl_error_new(L, LUNL_KEYBOARD_INTERRUPT, "%s", name);
    if (number == 0)
        return;
    lua_pushstring(L, name);
    lunl_error_set(L, -2, "signal");
}

/* ---- the loop has control ---- */

static void leave(lunl_state *S, lunl_loop *loop)
{
    S->interrupted = true;
    lun_loop_break(&loop->loop);
}

static void on_woken(lun_loop *core)
{
    lunl_loop *loop = lunl_loop_of(core);
    lunl_state *S = loop->S;
    if (loop != sigint.loop)
        return;
    if (S->interrupts >= FIRST && sigint.seen < FIRST) {
        sigint.seen = FIRST;
        S->cancel_msg = 0;
        if (!S->main_task || !lun_task_cancel(S->main_task))
            leave(S, loop);
    }
    if (S->interrupts >= SECOND && sigint.seen < SECOND) {
        sigint.seen = SECOND;
        S->hurry = true;
        sigint.armed = 0;
        leave(S, loop);
    }
}

void lunl_interrupt_begin(lunl_loop *loop, lun_task *main)
{
    lunl_state *S = loop->S;
    S->interrupts = 0;
    S->interrupted_by = 0;
    S->main_task = main;
    if (main)
        S->hurry = false;
    if (sigint.loop || !lunl_on_main_thread())
        return;
    uint64_t set = loop->interrupting | lunl_signal_bit(SIGINT);
    sigint.taken = 0;
    for (int i = 1; i < LUNL_SIGNALS; i++)
        if ((set & lunl_signal_bit(i)) && does(i, SIG_DFL))
            sigint.taken |= lunl_signal_bit(i);
    if (sigint.taken == 0)
        return;
    sigint.seen = 0;
    sigint.loop = loop;
    loop->loop.woken = on_woken;
    for (int i = 1; i < LUNL_SIGNALS; i++)
        if (sigint.taken & lunl_signal_bit(i))
            set_disposition(i, on_signal, SA_RESTART);
}

static void give_back(void)
{
    for (int i = 1; i < LUNL_SIGNALS; i++)
        if ((sigint.taken & lunl_signal_bit(i)) && does(i, on_signal))
            set_disposition(i, SIG_DFL, 0);
}

void lunl_interrupt_end(lunl_loop *loop)
{
    loop->S->main_task = NULL;
    if (sigint.loop != loop)
        return;
    give_back();
    sigint.loop = NULL;
    sigint.armed = 0;
}

void lunl_interrupt_stuck(lunl_loop *loop)
{
    const lunl_state *S = loop->S;
    if (sigint.loop != loop || loop->loop.count.requests == 0)
        return;
    give_back();
    if (!S->hurry || !S->dies)
        return;
    fflush(NULL);
    raise(S->interrupted_by ? S->interrupted_by : SIGINT);
}

void lunl_interrupt_kills(lua_State *L)
{
    lunl_get_state(L)->dies = true;
}

/* ---- the option ---- */

/* Whether a signal can ask a run to end: not what cannot be caught, nor what tells of a fault. */
static bool asks(int number)
{
    switch (number) {
    case 0:
    case SIGKILL:
    case SIGSTOP:
    case SIGCHLD:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGSEGV:
    case SIGSYS:
        return false;
    }
    return number < SIGSYS || number >= SIGRTMIN;
}

int lunl_interrupt_number(const char *name)
{
    int number = lunl_signal_number(name);
    return asks(number) ? number : 0;
}

uint64_t lunl_interrupt_option(lua_State *L, int arg)
{
    uint64_t set = 0;
    if (lunl_option(L, arg, "signals", LUA_TTABLE) != LUA_TNIL) {
        lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
        for (lua_Integer i = 1; i <= n; i++) {
            if (lua_rawgeti(L, -1, i) != LUA_TSTRING)
                lunl_arg_error(L, arg, LUNL_TYPE_ERROR,
                               "field 'signals': name of a signal expected, got %s",
                               luaL_typename(L, -1));
            int number = lunl_interrupt_number(lua_tostring(L, -1));
            if (number == 0)
                lunl_arg_error(L, arg, LUNL_VALUE_ERROR,
                               "field 'signals': '%s' is no signal that can end a run",
                               lua_tostring(L, -1));
            set |= lunl_signal_bit(number);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return set;
}

/* ---- os.exit ---- */

static int exit_code(lua_State *L)
{
    if (lua_isboolean(L, 1))
        return lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    if (lua_isnoneornil(L, 1))
        return EXIT_SUCCESS;
    int is_integer;
    lua_Integer code = lua_tointegerx(L, 1, &is_integer);
    if (!is_integer)
        lunl_type_error(L, 1, "integer or boolean");
    return (int)code;
}

/* Suspends the task for ever. */
static int never(lua_State *L, lunl_state *S)
{
    lun_future *f = lunl_new_future(L, S->loop, LUNL_KIND_FUTURE, sizeof *f, 2);
    S->exit_task = S->task;
    return lunl_await(L, S, lua_gettop(L), f);
}

/* Closed, not cancelled: no pcall around the call of os.exit may see it return. */
void lunl_exit_unwind(lua_State *L, lunl_state *S)
{
    lunl_task *t = S->exit_task;
    S->exit_task = NULL;
    if (t && !lun_future_done(&t->t.done))
        lunl_task_destroy(L, S, t);
}

/* --- os.exit(code?, close?): as Lua's own; inside a loop all tasks are unwound and the
 * loop is closed first. It does not return: the closers of the calling task run, without
 * awaiting; all other tasks are cancelled. Called in the course of that it throws
 * CancelledError. Where the caller cannot be suspended (a message handler, a comparison of
 * table.sort) the process ends at once. */
static int l_exit(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    int code = exit_code(L);
    bool close_state = lua_toboolean(L, 2);
    if (!S->loop) {
        if (close_state)
            lua_close(L);
        exit(code);
    }
    bool in_teardown = S->exiting || !S->main_task || lun_future_done(&S->main_task->done);
    S->exiting = true;
    S->exit_code = code;
    S->exit_close = close_state;
    if (!S->task) {
        lun_loop_break(&S->loop->loop);
        lunl_throw(L, LUNL_KEYBOARD_INTERRUPT, "os.exit");
    }
    if (L != S->running || !S->outer_yieldable || !lua_isyieldable(L))
        exit(code);
    if (in_teardown)
        lunl_throw_cancelled(L, S);
    lun_loop_break(&S->loop->loop);
    return never(L, S);
}

void lunl_push_exit(lua_State *L)
{
    static const luaL_Reg functions[] = {{"exit", l_exit}, {NULL, NULL}};
    lua_createtable(L, 0, 1);
    lunl_register(L, functions);
    lua_getfield(L, -1, "exit");
    lua_replace(L, -2);
}

bool lunl_exiting(lua_State *L, int *code, bool *close)
{
    lunl_state *S = lunl_get_state(L);
    if (!S || !S->exiting)
        return false;
    *code = S->exit_code;
    *close = S->exit_close;
    return true;
}
