/* SPDX-License-Identifier: MIT */
/*
 * signal.c - signals as callbacks of the loop (loop:add_signal_handler), and told to the ears of
 * tasks; their names. The laws are in signal.h.
 *
 * libuv shares dispositions between all loops of the process and sets the default when its
 * last watch of a signal stops, whatever was there before. So this file remembers, for the
 * whole process, what was there before the first watch, and puts it back after the last,
 * unless somebody else has changed it meanwhile.
 */
#include "signal.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct name {
    const char *name;
    int number;
} names[] = {
    {"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT},     {"ILL", SIGILL},
    {"TRAP", SIGTRAP},     {"ABRT", SIGABRT}, {"BUS", SIGBUS},       {"FPE", SIGFPE},
    {"KILL", SIGKILL},     {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},     {"USR2", SIGUSR2},
    {"PIPE", SIGPIPE},     {"ALRM", SIGALRM}, {"TERM", SIGTERM},     {"CHLD", SIGCHLD},
    {"CONT", SIGCONT},     {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},     {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU},     {"URG", SIGURG},   {"XCPU", SIGXCPU},     {"XFSZ", SIGXFSZ},
    {"PROF", SIGPROF},     {"SYS", SIGSYS},   {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH},
#ifdef SIGIO
    {"IO", SIGIO},
#endif
#ifdef SIGPWR
    {"PWR", SIGPWR},
#endif
#ifdef SIGSTKFLT
    {"STKFLT", SIGSTKFLT},
#endif
};

/* What was there before libuv, for all loops of the process. */
static struct disposition {
    unsigned watches;
    struct sigaction before; /* while there are watches */
    struct sigaction libuvs;
} dispositions[LUNL_SIGNALS];
static pthread_mutex_t dispositions_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct watch {
    lunl_handle h; /* first */
    uv_signal_t signal;
    int number;
    bool started;
    lunl_watcher *fn; /* owned; NULL: only ears want it */
} watch;

/* loop->signals. */
typedef struct signals {
    watch *by_number[LUNL_SIGNALS];
    lun_link ears; /* ring of lunl_ear.link */
} signals;

/* ---- names ---- */

int lunl_signal_number(const char *name)
{
    int n = 0, end = 0;
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].number;
    if (strcmp(name, "RTMIN") == 0)
        return SIGRTMIN;
    /* One way to write each number, as lunl_signal_name does. */
    if (sscanf(name, "RTMIN+%2d%n", &n, &end) == 1 && name[end] == '\0' && n > 0 &&
        name[6] >= '1' && name[6] <= '9' && SIGRTMIN + n < LUNL_SIGNALS)
        return SIGRTMIN + n;
    return 0;
}

const char *lunl_signal_name(int number, char *buf)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) {
            snprintf(buf, LUNL_SIGNAL_NAME, "SIG%s", names[i].name);
            return buf;
        }
    if (number == SIGRTMIN)
        snprintf(buf, LUNL_SIGNAL_NAME, "SIGRTMIN");
    else if (number > SIGRTMIN)
        snprintf(buf, LUNL_SIGNAL_NAME, "SIGRTMIN+%d", number - SIGRTMIN);
    else
        snprintf(buf, LUNL_SIGNAL_NAME, "signal %d", number);
    return buf;
}

int lunl_check_signal(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER)
        return (int)lunl_check_integer(L, arg, 1, LUNL_SIGNALS - 1);
    if (lua_type(L, arg) != LUA_TSTRING)
        lunl_type_error(L, arg, "name or number of a signal");
    size_t len;
    const char *name = lua_tolstring(L, arg, &len);
    int number = strlen(name) == len ? lunl_signal_number(name) : 0;
    if (number == 0)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "unknown signal '%s'", name);
    return number;
}

void lunl_check_catchable(lua_State *L, int number, const char *what)
{
    if (number == SIGKILL || number == SIGSTOP)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: %s cannot be caught", what,
                   number == SIGKILL ? "SIGKILL" : "SIGSTOP");
    if (number == SIGCHLD)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: SIGCHLD belongs to the runtime", what);
}

/* ---- watches ---- */

static bool same(const struct sigaction *a, const struct sigaction *b)
{
    if ((a->sa_flags & SA_SIGINFO) != (b->sa_flags & SA_SIGINFO))
        return false;
    return a->sa_flags & SA_SIGINFO ? a->sa_sigaction == b->sa_sigaction
                                    : a->sa_handler == b->sa_handler;
}

static lunl_ear *ear_of(lun_link *l)
{
    return lun_container(l, lunl_ear, link);
}

static void on_signal(uv_signal_t *signal, int number)
{
    watch *w = lun_container(signal, watch, signal);
    signals *s = w->h.loop->signals;
    if (w->fn)
        lunl_watcher_due(w->fn);
    for (lun_link *l = s->ears.next; l != &s->ears; l = l->next)
        if (ear_of(l)->wanted & lunl_signal_bit(number))
            ear_of(l)->heard(ear_of(l), number);
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

static bool wanted(const signals *s, int number)
{
    const watch *w = s->by_number[number];
    if (w && w->fn)
        return true;
    for (lun_link *l = s->ears.next; l != &s->ears; l = l->next)
        if (ear_of(l)->wanted & lunl_signal_bit(number))
            return true;
    return false;
}

/* Law 1: the watch goes with the last who wanted it. */
static void close_unwanted(signals *s, int number)
{
    watch *w = s->by_number[number];
    if (!w || wanted(s, number))
        return;
    s->by_number[number] = NULL;
    lunl_handle_close(&w->h);
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
    if (w->fn)
        lunl_watcher_drop(w->fn);
    for (lun_link *l = s->ears.next, *next; l != &s->ears; l = next) {
        next = l->next;
        if (ear_of(l)->wanted & lunl_signal_bit(w->number))
            lunl_ear_close(ear_of(l));
    }
}

static const lunl_handle_kind watch_kind = {.closing = watch_closing};

static signals *signals_of(lua_State *L, lunl_loop *loop)
{
    if (loop->signals)
        return loop->signals;
    signals *s = lun_loop_alloc(&loop->loop, sizeof *s);
    if (!s)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(s, 0, sizeof *s);
    lun_list_init(&s->ears);
    loop->signals = s;
    return s;
}

/* The watch of a signal, which somebody already wants or is about to: 0, or libuv's code. */
static int need_watch(lunl_loop *loop, int number, watch **found)
{
    signals *s = loop->signals;
    *found = s->by_number[number];
    if (*found)
        return 0;
    watch *w = lunl_handle_new(loop, &watch_kind, sizeof *w);
    int err = w ? uv_signal_init(loop->loop.uv, &w->signal) : UV_ENOMEM;
    if (err != 0) {
        if (w)
            lunl_handle_discard(&w->h);
        return err;
    }
    w->number = number;
    lunl_handle_opened(&w->h, (uv_handle_t *)&w->signal);
    err = start(w);
    w->started = err == 0;
    if (err != 0) {
        lunl_handle_close(&w->h);
        return err;
    }
    *found = s->by_number[number] = w;
    return 0;
}

void lunl_signal_fail(lua_State *L, int err, int number, const char *what)
{
    if (err == UV_ENOMEM)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: signal %d cannot be caught", what, number);
}

/* ---- ears ---- */

void lunl_ear_prepare(lua_State *L, lunl_loop *loop, uint64_t set, const char *what)
{
    for (int number = 1; number < LUNL_SIGNALS; number++)
        if (set & lunl_signal_bit(number))
            lunl_check_catchable(L, number, what);
    lunl_io_of(L, loop);
    signals_of(L, loop);
}

int lunl_ear_open(lunl_loop *loop, lunl_ear *e, uint64_t set, int *bad)
{
    signals *s = loop->signals;
    watch *w;
    int err = 0;
    e->loop = loop;
    e->wanted = set;
    lun_list_init(&e->link);
    lun_list_push(&s->ears, &e->link);
    for (int number = 1; number < LUNL_SIGNALS && err == 0; number++) {
        if (!(set & lunl_signal_bit(number)))
            continue;
        *bad = number;
        err = need_watch(loop, number, &w);
    }
    if (err != 0)
        lunl_ear_close(e);
    return err;
}

void lunl_ear_close(lunl_ear *e)
{
    lunl_loop *loop = e->loop;
    if (!loop)
        return;
    e->loop = NULL;
    lun_list_drop(&e->link);
    for (int number = 1; number < LUNL_SIGNALS; number++)
        if (e->wanted & lunl_signal_bit(number))
            close_unwanted(loop->signals, number);
    e->closed(e);
}

/* ---- handlers ---- */

/* --- loop:add_signal_handler(signal, callback, ...): callback(...) is called in the loop
 * for every such signal that arrives. signal: a name, "SIGTERM" or "TERM", or a number. It
 * replaces the callback that was there; one for SIGINT also replaces what a run does on
 * Ctrl-C. Throws ValueError for an unknown signal, RuntimeError for one that cannot be
 * caught (SIGKILL, SIGSTOP) or is the runtime's own (SIGCHLD). Does not suspend. */
static int l_add_signal_handler(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    int number = lunl_check_signal(L, 2);
    watch *w;
    lunl_check_callable(L, 3);
    lunl_check_catchable(L, number, "add_signal_handler");
    lunl_io_of(L, loop);
    signals_of(L, loop);
    lunl_watcher *fn = lunl_watcher_new(L, loop, 3);
    int err = need_watch(loop, number, &w);
    if (err != 0) {
        lunl_watcher_free(L, fn);
        lunl_signal_fail(L, err, number, "add_signal_handler");
    }
    if (w->fn)
        lunl_watcher_free(L, w->fn);
    w->fn = fn;
    return 0;
}

static bool take_away(lua_State *L, lunl_loop *loop, int number)
{
    signals *s = loop->signals;
    watch *w = s ? s->by_number[number] : NULL;
    if (!w || !w->fn)
        return false;
    lunl_watcher *fn = w->fn;
    w->fn = NULL;
    close_unwanted(s, number);
    lunl_watcher_free(L, fn);
    return true;
}

/* --- loop:remove_signal_handler(signal) -> boolean: whether there was one. What the signal
 * did before the handler was added holds again. Throws ValueError for an unknown signal.
 * Does not suspend. */
static int l_remove_signal_handler(lua_State *L)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    lua_pushboolean(L, take_away(L, loop, lunl_check_signal(L, 2)));
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
    while (!lun_list_alone(&s->ears))
        lunl_ear_close(ear_of(s->ears.next));
    for (int number = 1; number < LUNL_SIGNALS; number++)
        take_away(L, loop, number);
    lun_loop_free(&loop->loop, s, sizeof *s);
    loop->signals = NULL;
}
