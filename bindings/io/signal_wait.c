/* SPDX-License-Identifier: MIT */
/*
 * signal_wait.c - the module signal: tasks that wait for signals, and sending them.
 *
 * A listener keeps what has come and was not taken, in the order of arrival. Its room is
 * bounded: while many are kept, one more of a signal that is kept already is the same one. So no
 * flood fills the memory, and none of the signals listened to is ever lost as a whole.
 *
 * Laws:
 *  1. A hearing is one ear and the task in its park. While it is open the runtime holds it, so
 *     that the ear is memory whatever becomes of the object that a script has.
 *  2. A Listener is an object with a hearing and a finaliser; wait() is a hearing without one.
 */
#include "signal.h"

#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    CROWDED = 64, /* from so many on, a signal that is kept is not kept again */
    ROOM = CROWDED + LUNL_SIGNALS, /* and so many there are then at most */
};

typedef struct hearing {
    const lunl_type *type;
    lunl_ear ear;
    lunl_record record; /* law 1 */
    lun_park park;      /* who waits */
    bool busy;          /* a task is suspended in next */
    uint8_t n;
    uint8_t kept[ROOM]; /* numbers that came, oldest first */
} hearing;

/* User values: 1 where it was made, 2 the hearing. */
typedef struct listener {
    const lunl_type *type;
    hearing *h;
} listener;

static const lunl_type hearing_type = {"hearing"}, listener_type = {"Listener"};

static void heard(lunl_ear *e, int number)
{
    hearing *h = lun_container(e, hearing, ear);
    if (h->n < CROWDED || !memchr(h->kept, number, h->n))
        h->kept[h->n++] = (uint8_t)number;
    lun_park_grant(&h->park);
}

static void closed(lunl_ear *e)
{
    hearing *h = lun_container(e, hearing, ear);
    h->n = 0;
    lun_park_grant_all(&h->park);
}

static void finish(lua_State *L, hearing *h)
{
    lunl_loop *loop = h->ear.loop;
    lunl_ear_close(&h->ear);
    if (loop && !lun_list_alone(&h->record.link))
        lunl_record_release(L, loop, &h->record);
}

static void push_name(lua_State *L, int number)
{
    char name[LUNL_SIGNAL_NAME];
    lua_pushstring(L, lunl_signal_name(number, name));
}

static int drop_oldest(hearing *h)
{
    int number = h->kept[0];
    memmove(h->kept, h->kept + 1, --h->n);
    return number;
}

/* Pushes "SIGTERM SIGHUP": what it listens to. */
static const char *push_names(lua_State *L, const hearing *h)
{
    luaL_Buffer b;
    char name[LUNL_SIGNAL_NAME];
    const char *space = "";
    luaL_buffinit(L, &b);
    for (int number = 1; number < LUNL_SIGNALS; number++) {
        if (!(h->ear.wanted & lunl_signal_bit(number)))
            continue;
        luaL_addstring(&b, space);
        luaL_addstring(&b, lunl_signal_name(number, name));
        space = " ";
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

static _Noreturn void fail(lua_State *L, const hearing *h, int err, const char *what)
{
    lunl_throw_uv(L, err, what, push_names(L, h));
}

/* The signals at 1 and behind it. */
static uint64_t check_signals(lua_State *L)
{
    uint64_t set = lunl_signal_bit(lunl_check_signal(L, 1));
    for (int i = 2; i <= lua_gettop(L); i++)
        set |= lunl_signal_bit(lunl_check_signal(L, i));
    return set;
}

/* Pushes an open hearing. */
static hearing *push_hearing(lua_State *L, lunl_state *S, uint64_t set, const char *what)
{
    lunl_loop *loop = lunl_running_loop(L, S);
    int bad = 0;
    lunl_ear_prepare(L, loop, set, what);
    hearing *h = lunl_new(L, &hearing_type, sizeof *h, 0);
    lun_park_init(&h->park, &loop->loop, NULL);
    h->ear.heard = heard;
    h->ear.closed = closed;
    lua_pushvalue(L, -1);
    lunl_record_hold(L, loop, &h->record);
    int err = lunl_ear_open(loop, &h->ear, set, &bad);
    if (err == 0)
        return h;
    lunl_record_release(L, loop, &h->record);
    lunl_signal_fail(L, err, bad, what);
}

/* ---- wait ---- */

static int on_first(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    hearing *h = lua_touserdata(L, (int)ctx);
    lun_future *on;
    bool interrupted;
    lunl_resumed_quietly(L, S, &on, &interrupted);
    int number = !interrupted && h->ear.loop ? drop_oldest(h) : 0;
    finish(L, h);
    if (interrupted)
        lunl_throw_cancelled(L, S);
    if (number == 0)
        fail(L, h, UV_ECANCELED, "wait");
    push_name(L, number);
    return 1;
}

/* --- signal.wait(signal, ...) -> name: waits for the first of these signals to arrive,
 * "SIGTERM". signal: a name, "SIGTERM" or "TERM", or a number. Every task that waits gets it,
 * and so do listeners and the handler of add_signal_handler; as long as anybody waits for it, a
 * signal does not do what it did before: waiting for SIGINT replaces what a run does on Ctrl-C.
 * Throws ValueError for an unknown signal, RuntimeError for SIGKILL, SIGSTOP, SIGCHLD. Suspends;
 * cancelled, nothing is left of it. */
static int l_wait(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    hearing *h = push_hearing(L, S, check_signals(L), "wait");
    lun_park_wait(&h->park, t);
    return lunl_suspend(L, S, lua_gettop(L), on_first);
}

/* ---- listeners ---- */

static listener *check_listener(lua_State *L)
{
    return lunl_check(L, 1, &listener_type);
}

/* --- signal.listen(signal, ...) -> Listener: from now on it keeps these signals, as they
 * arrive, for next and iter; to be closed. The same as wait in all else. Does not suspend. */
static int l_listen(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    uint64_t set = check_signals(L);
    listener *l = lunl_new(L, &listener_type, sizeof *l, 2);
    lunl_box_made(L, lunl_running_loop(L, S));
    l->h = push_hearing(L, S, set, "listen");
    lua_setiuservalue(L, -2, 2);
    return 1;
}

/* What becomes of a call when the listener is closed. */
enum call { NEXT, ITER };

static int on_heard(lua_State *L, int status, lua_KContext ctx);

static int take(lua_State *L, lunl_state *S, lun_task *t, hearing *h, enum call call)
{
    if (h->n > 0) {
        push_name(L, h->kept[0]);
        if (h->n > 0) /* a finaliser that ran just now may have closed it */
            drop_oldest(h);
        return 1;
    }
    h->busy = true;
    lun_park_wait(&h->park, t);
    return lunl_suspend(L, S, call, on_heard);
}

static int on_heard(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    hearing *h = ((listener *)lua_touserdata(L, 1))->h;
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    h->busy = false;
    if (interrupted)
        lunl_throw_cancelled(L, S);
    if (!h->ear.loop && ctx == ITER)
        return 0;
    if (!h->ear.loop)
        fail(L, h, UV_ECANCELED, "next");
    return take(L, S, t, h, (enum call)ctx);
}

static int begin(lua_State *L, lunl_state *S, enum call call)
{
    hearing *h = check_listener(L)->h;
    lua_settop(L, 1);
    if (!h->ear.loop && call == ITER)
        return 0;
    if (!h->ear.loop)
        fail(L, h, UV_EBADF, "next");
    if (S->loop != h->ear.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "next: the listener belongs to another event loop");
    lun_task *t = lunl_enter(L, S);
    if (h->busy)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "next: another task waits on this listener");
    if (!lunl_gives_way(S))
        return take(L, S, t, h, call);
    h->busy = true;
    lun_task_yield(t);
    return lunl_suspend(L, S, call, on_heard);
}

/* --- listener:next() -> name: the next signal that came, in the order of arrival. Up to 64
 * that nobody has taken are all kept; beyond that one more of a signal that is kept is the same
 * one. Throws OSError ECANCELED if the listener is closed meanwhile, EBADF if it was closed
 * before, RuntimeError if another task waits. Suspends; cancelled, no signal is lost. */
static int l_next(lua_State *L)
{
    return begin(L, lunl_S(L), NEXT);
}

/* --- iterator of listener:iter(): as listener:next(), but nil once the listener is closed. */
static int l_iterate(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(3));
    return begin(L, lunl_S(L), ITER);
}

/* --- listener:iter() -> an iterator over the signals that come: `for name in listener:iter()
 * do`. The loop ends when the listener is closed. Does not suspend itself; the iterator does,
 * and throws as next. */
static int l_iter(lua_State *L)
{
    check_listener(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_iterate, 3);
    return 1;
}

/* --- listener:close() stops listening; what was kept is dropped, and signals do again what
 * they did before, if nobody else waits for them. Closing twice is harmless. Does not suspend.
 * Also called at the end of the block of a `<close>` variable. */
static int l_close(lua_State *L)
{
    finish(L, check_listener(L)->h);
    return 0;
}

/* --- listener:__gc(): a listener that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    listener *l = lunl_test(L, 1, &listener_type);
    if (!l || !l->h || !l->h->ear.loop) /* none: there was no memory for it */
        return 0;
    lunl_loop *loop = l->h->ear.loop;
    lunl_orphan(&l->h->park.base);
    finish(L, l->h);
    lunl_box_dropped(L, loop, 1);
    return 0;
}

/* --- tostring(listener) -> "<Listener open SIGTERM SIGHUP>" or "<Listener closed ...>". */
static int l_tostring(lua_State *L)
{
    hearing *h = check_listener(L)->h;
    const char *state = h->ear.loop ? "open" : "closed";
    lua_pushfstring(L, "<Listener %s %s>", state, push_names(L, h));
    return 1;
}

/* ---- sending ---- */

static int send_signal(lua_State *L, lua_Integer pid, int number, const char *what)
{
    if (kill((pid_t)pid, number) == 0)
        return 0;
    int err = uv_translate_sys_error(errno);
    lunl_throw_uv(L, err, what, lua_pushfstring(L, "%I", (LUAI_UACINT)pid));
}

/* --- signal.kill(pid, signal) sends a signal to a process, or to a whole group if `pid` is
 * negative; the number 0 only tries whether that could be done. Throws OSError "kill pid: CODE"
 * (ESRCH if there is no such process, EPERM), ValueError for an unknown signal. Does not
 * suspend. */
static int l_kill(lua_State *L)
{
    lua_Integer pid = lunl_check_integer(L, 1, INT32_MIN + 1, INT32_MAX);
    bool tries = lua_type(L, 2) == LUA_TNUMBER && lua_tonumber(L, 2) == 0;
    return send_signal(L, pid, tries ? 0 : lunl_check_signal(L, 2), "kill");
}

/* --- signal.raise(signal) sends a signal to this process. Throws ValueError for an unknown
 * one. Does not suspend. */
static int l_raise(lua_State *L)
{
    return send_signal(L, getpid(), lunl_check_signal(L, 1), "raise");
}

int luaopen_lunation_signal(lua_State *L)
{
    static const luaL_Reg functions[] = {{"wait", l_wait},
                                         {"listen", l_listen},
                                         {"kill", l_kill},
                                         {"raise", l_raise},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"next", l_next}, {"iter", l_iter}, {"close", l_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_need_type(L, &hearing_type, NULL, NULL);
    lunl_need_type(L, &listener_type, methods, meta);
    lua_createtable(L, 0, 4);
    lunl_register(L, functions);
    return 1;
}
