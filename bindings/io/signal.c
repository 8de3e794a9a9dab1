/* SPDX-License-Identifier: MIT */
/*
 * signal.c - loop:add_signal_handler: signals as callbacks of the loop.
 *
 * libuv shares dispositions between all loops of the process and sets the default when its
 * last watch of a signal stops, whatever was there before. So this file remembers, for the
 * whole process, what was there before the first watch, and puts it back after the last,
 * unless somebody else has changed it meanwhile.
 */
#include "handle.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum {
    SIGNALS = 65 /* numbers 1 to 64 */
};

static const struct name {
    const char *name;
    int number;
} names[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT},     {"ILL", SIGILL},
    {"TRAP", SIGTRAP}, {"ABRT", SIGABRT}, {"BUS", SIGBUS},       {"FPE", SIGFPE},
    {"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},     {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM},     {"CHLD", SIGCHLD},
    {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},     {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU}, {"URG", SIGURG},   {"XCPU", SIGXCPU},     {"XFSZ", SIGXFSZ},
    {"PROF", SIGPROF}, {"SYS", SIGSYS},   {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH},
#ifdef SIGIO
    {"IO", SIGIO},
#endif
#ifdef SIGPWR
    {"PWR", SIGPWR},
#endif
};

/* What was there before libuv, for all loops of the process. */
static struct disposition {
    unsigned watches;
    struct sigaction before; /* while there are watches */
    struct sigaction libuvs;
} dispositions[SIGNALS];
static pthread_mutex_t dispositions_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct watch {
    lunl_handle h; /* first */
    uv_signal_t signal;
    int number;
    bool started;
    lunl_watcher *fn; /* owned */
} watch;

/* loop->signals. */
typedef struct signals {
    watch *by_number[SIGNALS];
} signals;

int lunl_signal_number(const char *name)
{
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].number;
    return 0;
}

static bool same(const struct sigaction *a, const struct sigaction *b)
{
    if ((a->sa_flags & SA_SIGINFO) != (b->sa_flags & SA_SIGINFO))
        return false;
    return a->sa_flags & SA_SIGINFO ? a->sa_sigaction == b->sa_sigaction
                                    : a->sa_handler == b->sa_handler;
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    lunl_watcher_due(lun_container(signal, watch, signal)->fn);
}

static int start(watch *w)
{
    struct disposition *d = &dispositions[w->number];
    pthread_mutex_lock(&dispositions_lock);
    if (d->watches == 0)
        sigaction(w->number, NULL, &d->before);
    int err = uv_signal_start(&w->signal, on_signal, w->number);
    if (err == 0 && d->watches++ == 0)
        sigaction(w->number, NULL, &d->libuvs);
    pthread_mutex_unlock(&dispositions_lock);
    return err;
}

/* The signal is held back meanwhile, so that none meets the default in between. */
static void stop(watch *w)
{
    struct disposition *d = &dispositions[w->number];
    struct sigaction now, after;
    sigset_t this_one, mask;
    sigemptyset(&this_one);
    sigaddset(&this_one, w->number);
    pthread_sigmask(SIG_BLOCK, &this_one, &mask);
    pthread_mutex_lock(&dispositions_lock);
    sigaction(w->number, NULL, &now);
    uv_signal_stop(&w->signal);
    sigaction(w->number, NULL, &after);
    if (--d->watches == 0 && !same(&now, &d->libuvs))
        sigaction(w->number, &now, NULL);
    else if (d->watches == 0 && !same(&after, &d->libuvs))
        sigaction(w->number, &d->before, NULL);
    pthread_mutex_unlock(&dispositions_lock);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void watch_closing(lunl_handle *h)
{
    watch *w = (watch *)h;
    signals *s = h->loop->signals;
    if (w->started)
        stop(w);
    if (!s || s->by_number[w->number] != w)
        return;
    /* Not closed from here: `lunation test` closes what a test has left. */
    s->by_number[w->number] = NULL;
    lunl_watcher_drop(w->fn);
}

static const lunl_handle_kind watch_kind = {.closing = watch_closing};

/* The number of the signal at `arg`: TypeError, ValueError. */
static int check_signal(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER)
        return (int)lunl_check_integer(L, arg, 1, SIGNALS - 1);
    if (lua_type(L, arg) != LUA_TSTRING)
        lunl_type_error(L, arg, "name or number of a signal");
    int number = lunl_signal_number(lua_tostring(L, arg));
    if (number == 0)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "unknown signal '%s'",
                       lua_tostring(L, arg));
    return number;
}

static signals *signals_of(lua_State *L, lunl_loop *loop)
{
    if (loop->signals)
        return loop->signals;
    signals *s = lun_loop_alloc(&loop->loop, sizeof *s);
    if (!s)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(s, 0, sizeof *s);
    loop->signals = s;
    return s;
}

static watch *open_watch(lua_State *L, lunl_loop *loop)
{
    lunl_io_of(L, loop);
    watch *w = lunl_handle_new(loop, &watch_kind, sizeof *w);
    int err = w ? uv_signal_init(loop->loop.uv, &w->signal) : UV_ENOMEM;
    if (err == 0)
        return w;
    if (w)
        lunl_handle_discard(&w->h);
    lunl_throw_uv(L, err, "add_signal_handler", NULL);
}

/* --- loop:add_signal_handler(signal, callback, ...): callback(...) is called in the loop
 * for every such signal that arrives. signal: a name, "SIGTERM" or "TERM", or a number. It
 * replaces the callback that was there; one for SIGINT also replaces what a run does on
 * Ctrl-C. Throws ValueError for an unknown signal, RuntimeError for one that cannot be
 * caught (SIGKILL, SIGSTOP) or is the runtime's own (SIGCHLD). Does not suspend. */
static int l_add_signal_handler(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    int number = check_signal(L, 2);
    lunl_check_callable(L, 3);
    if (number == SIGKILL || number == SIGSTOP)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "add_signal_handler: %s cannot be caught",
                   number == SIGKILL ? "SIGKILL" : "SIGSTOP");
    if (number == SIGCHLD)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "add_signal_handler: SIGCHLD belongs to the runtime");
    signals *s = signals_of(L, loop);
    lunl_watcher *fn = lunl_watcher_new(L, loop, 3);
    watch *w = s->by_number[number];
    if (w) {
        lunl_watcher_free(L, w->fn);
        w->fn = fn;
        return 0;
    }
    w = open_watch(L, loop);
    w->number = number;
    w->fn = fn;
    lunl_handle_opened(&w->h, (uv_handle_t *)&w->signal);
    if (start(w) == 0) {
        w->started = true;
        s->by_number[number] = w;
        return 0;
    }
    lunl_watcher_free(L, fn);
    lunl_handle_close(&w->h);
    lunl_throw(L, LUNL_RUNTIME_ERROR, "add_signal_handler: signal %d cannot be caught",
               number);
}

static bool take_away(lua_State *L, lunl_loop *loop, int number)
{
    signals *s = loop->signals;
    watch *w = s ? s->by_number[number] : NULL;
    if (!w)
        return false;
    s->by_number[number] = NULL;
    lunl_watcher_free(L, w->fn);
    lunl_handle_close(&w->h);
    return true;
}

/* --- loop:remove_signal_handler(signal) -> boolean: whether there was one. What the signal
 * did before the handler was added holds again. Throws ValueError for an unknown signal.
 * Does not suspend. */
static int l_remove_signal_handler(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    lua_pushboolean(L, take_away(L, loop, check_signal(L, 2)));
    return 1;
}

const luaL_Reg lunl_signal_methods[] = {{"add_signal_handler", l_add_signal_handler},
                                        {"remove_signal_handler", l_remove_signal_handler},
                                        {NULL, NULL}};

void lunl_signals_close(lua_State *L, lunl_loop *loop)
{
    signals *s = loop->signals;
    if (!s)
        return;
    for (int number = 1; number < SIGNALS; number++)
        take_away(L, loop, number);
    lun_loop_free(&loop->loop, s, sizeof *s);
    loop->signals = NULL;
}
