/* SPDX-License-Identifier: MIT */
/*
 * process.c - children: starting them, signalling them, and their end.
 *
 * Laws:
 *  1. A signal is sent only while libuv has not reported the end: until then the child is there or
 *     a zombie, so its number is nobody else's. One exception: in the very callback that reports it
 *     what is left of the group of a child that was to be killed is killed, too.
 *  2. A child that is not detached does not outlive its object or its loop: it is killed with its
 *     group. The handle stays until the child was reaped; only a loop that closes waits for that,
 *     at most a second.
 *  3. Everything that can fail in Lua is made before the child is.
 */
#include "process.h"

#include "box.h"
#include "signal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct child child;

typedef struct running {
    lunl_handle h; /* first */
    uv_process_t process;
    child *box; /* owned with its object; NULL once that is collected */
    bool alive; /* libuv has not reported its end */
    bool leads; /* a group of its own */
    bool detached;
    bool killed; /* SIGKILL is on its way: it ends soon, and nobody has to ask for it */
    bool last;   /* what is left of its group goes with it */
} running;

/* What the Lua object has. */
struct child {
    lunl_core core; /* first */
    running *k;     /* while it runs; NULL also if its loop has closed */
    lun_park waiters;
    int pid;
    int code, signal;
    bool ended; /* code and signal hold */
};

static const lunl_type child_type = {"Child"};

static const child gone = {.waiters = LUNL_NO_PARK(gone.waiters)};

/* ---- the handle ---- */

/* 0 or libuv's code; law 1 is the caller's. */
static int signal_child(const running *k, int number)
{
    int pid = k->process.pid;
    return kill(k->leads ? -pid : pid, number) == 0 ? 0 : uv_translate_sys_error(errno);
}

static void kill_child(running *k)
{
    if (!k->alive || k->killed || k->detached)
        return;
    k->killed = true;
    signal_child(k, SIGKILL);
}

/* Law 1: the child was reaped just now. */
static void kill_rest(const running *k)
{
    if (k->leads && (k->killed || k->last))
        signal_child(k, SIGKILL);
}

/* Nobody will learn more of it from this handle. */
static void part(running *k)
{
    child *c = k->box;
    if (!c)
        return;
    k->box = NULL;
    c->k = NULL;
    lun_park_grant_all(&c->waiters);
    lunl_core_drop(&c->core);
}

static void on_exit_of(uv_process_t *process, int64_t code, int number)
{
    running *k = process->data;
    k->alive = false;
    kill_rest(k);
    if (k->box) {
        k->box->code = (int)code;
        k->box->signal = number;
        k->box->ended = true;
    }
    lunl_handle_close(&k->h);
}

static void closing(lunl_handle *h)
{
    running *k = (running *)h;
    kill_child(k);
    part(k);
}

/* libuv reaps it no more, so this does; it was killed, and takes no longer than the kernel does. */
static void parted(lunl_handle *h)
{
    enum { NAP = 1000000, NAPS = 1000 };
    running *k = (running *)h;
    const struct timespec nap = {.tv_nsec = NAP};
    if (!k->alive || !k->killed)
        return;
    for (int i = 0; i < NAPS && waitpid(k->process.pid, NULL, WNOHANG) == 0; i++)
        nanosleep(&nap, NULL);
    kill_rest(k);
}

static bool lingers(lunl_handle *h)
{
    running *k = (running *)h;
    const lunl_io *io = h->loop->io;
    if (io->over)
        kill_child(k);
    return k->killed;
}

static const lunl_handle_kind running_kind = {
    .closing = closing, .parted = parted, .lingers = lingers};

/* ---- starting ---- */

enum { SPARE = 4 }; /* descriptors that starting a child takes for a moment */

enum argument {
    FILE_ARG = 1,
    ARGV_ARG,
    ENV_ARG,
    CWD_ARG,
    STDIO_ARG, /* three */
    DETACHED_ARG = STDIO_ARG + 3,
    GROUP_ARG,
    UID_ARG,
    GID_ARG
};

/* The strings that the one at `arg` holds, each ended by a NUL, as C wants them; NULL for nil. */
static char **strings(lua_State *L, int arg)
{
    size_t size, n = 0;
    if (lua_isnil(L, arg))
        return NULL;
    const char *text = lunl_check_string(L, arg, &size), *end = text + size;
    for (const char *p = text; p < end; p += strlen(p) + 1)
        n++;
    char **list = lua_newuserdatauv(L, (n + 1) * sizeof *list, 0);
    n = 0;
    for (const char *p = text; p < end; p += strlen(p) + 1)
        list[n++] = (char *)(uintptr_t)p;
    list[n] = NULL;
    return list;
}

/* OSError "spawn file: CODE", which names the folder instead if that is what is wrong. */
static _Noreturn void fail(lua_State *L, int err, const char *cwd)
{
    struct stat st;
    bool folder = (err == UV_ENOENT || err == UV_EACCES || err == UV_ENOTDIR) && cwd &&
                  (access(cwd, X_OK) != 0 || stat(cwd, &st) != 0 || !S_ISDIR(st.st_mode));
    const char *call = folder ? "chdir" : "spawn",
               *object = folder ? cwd : lua_tostring(L, FILE_ARG);
    if (err == UV_ENOMEM)
        lunl_throw_uv(L, err, NULL, NULL);
    lunl_error_uv(L, err, call, object);
    lua_pushstring(L, object);
    lunl_error_set(L, -2, "path");
    lua_error(L);
    abort();
}

/* Standard input decides: a reader of the terminal would be stopped in a group of its own. */
static bool leads_group(lua_State *L, const lunl_lent *input)
{
    if (lua_isnoneornil(L, GROUP_ARG))
        return input->fd < 0 || !isatty(input->fd);
    return lua_toboolean(L, GROUP_ARG);
}

static int number_at(lua_State *L, int arg, unsigned *flags, unsigned flag)
{
    if (lua_isnoneornil(L, arg))
        return 0;
    *flags |= flag;
    return (int)lunl_check_integer(L, arg, 0, INT32_MAX);
}

/* What was lent and did not go away is to be as it was: a child makes its descriptors block. */
static void take_back(const lunl_lent *lent)
{
    for (int i = 0; i < 3; i++)
        if (lent[i].s)
            uv_stream_set_blocking(&((lunl_socket *)lent[i].s->c)->uv.stream, 0);
}

static int begin(lunl_loop *loop, running *k, uv_process_options_t *options)
{
    int err = uv_spawn(loop->loop.uv, &k->process, options);
    k->alive = err == 0;
    lunl_handle_opened(&k->h, (uv_handle_t *)&k->process);
    if (err != 0)
        lunl_handle_close(&k->h);
    return err;
}

/* --- core.spawn(file, argv, env, cwd, stdin, stdout, stderr, detached, group, uid, gid) -> Child.
 * argv and env (nil: ours) are lists of strings in one string, each ended by a NUL. `file` without
 * a slash is looked for in the PATH of env. stdin, stdout and stderr as lunl_lend takes them; what
 * is lent stays open; of a Stream the child makes the descriptor block, so core.give is due. group: a new
 * session and group; nil: unless stdin is a terminal. Throws OSError "spawn file: CODE" or "chdir
 * cwd: CODE" with the field path, RuntimeError if no loop runs. Does not suspend. */
static int l_spawn(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_loop *loop = lunl_running_loop(L, S);
    lua_settop(L, GID_ARG);
    uv_process_options_t options = {.file = lunl_check_string(L, FILE_ARG, NULL),
                                    .exit_cb = on_exit_of,
                                    .stdio_count = 3};
    lunl_check_string(L, ARGV_ARG, NULL);
    options.args = strings(L, ARGV_ARG);
    options.env = strings(L, ENV_ARG);
    options.cwd = lua_isnil(L, CWD_ARG) ? NULL : lunl_check_string(L, CWD_ARG, NULL);
    options.uid = (uv_uid_t)number_at(L, UID_ARG, &options.flags, UV_PROCESS_SETUID);
    options.gid = (uv_gid_t)number_at(L, GID_ARG, &options.flags, UV_PROCESS_SETGID);
    lunl_spare_descriptors(L, loop, SPARE);
    child *c = lunl_box_new(L, loop, &child_type, sizeof *c, 1, &gone.core);
    lun_park_init(&c->waiters, &loop->loop, NULL);
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    lunl_lent lent[3];
    uv_stdio_container_t stdio[3];
    for (int i = 0; i < 3; i++) {
        lunl_lend(L, S, STDIO_ARG + i, names[i], &lent[i]);
        stdio[i].flags = lent[i].fd < 0 ? UV_IGNORE : UV_INHERIT_FD;
        stdio[i].data.fd = lent[i].fd;
    }
    options.stdio = stdio;
    bool detached = lua_toboolean(L, DETACHED_ARG),
         leads = detached || leads_group(L, lent);
    if (leads)
        options.flags |= UV_PROCESS_DETACHED;
    running *k = lunl_handle_new(loop, &running_kind, sizeof *k);
    if (!k)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    k->detached = detached;
    k->leads = leads;
    int err = begin(loop, k, &options);
    if (err != 0) {
        take_back(lent);
        fail(L, err, options.cwd);
    }
    k->box = c;
    c->k = k;
    lunl_core_own(&c->core);
    c->pid = k->process.pid;
    return 1;
}

/* ---- the object ---- */

static child *check_child(lua_State *L)
{
    return lunl_check_box(L, 1, &child_type);
}

/* --- child:pid() -> number */
static int l_pid(lua_State *L)
{
    lua_pushinteger(L, check_child(L)->pid);
    return 1;
}

/* Exit code, nil; or nil, name of the signal. */
static int push_end(lua_State *L, const child *c)
{
    char name[LUNL_SIGNAL_NAME];
    if (c->signal == 0) {
        lua_pushinteger(L, c->code);
        lua_pushnil(L);
    } else {
        lua_pushnil(L);
        lua_pushstring(L, lunl_signal_name(c->signal, name));
    }
    return 2;
}

/* --- child:status() -> what wait gives, or nothing while the child runs. Does not suspend. */
static int l_status(lua_State *L)
{
    const child *c = check_child(L);
    return c->ended ? push_end(L, c) : 0;
}

static _Noreturn void lost(lua_State *L, const child *c)
{
    char text[24];
    snprintf(text, sizeof text, "%d", c->pid);
    lunl_throw_uv(L, UV_ECANCELED, "wait", text);
}

static int on_ended(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lun_future *on;
    child *c = lunl_unbox(L, 1);
    lun_task *t = lunl_resumed(L, S, &on);
    if (c->ended)
        return push_end(L, c);
    if (!c->k)
        lost(L, c);
    lun_park_wait(&c->waiters, t);
    return lunl_suspend(L, S, 0, on_ended);
}

/* --- child:wait() -> code, or nil and the name of the signal that ended it. Suspends until the
 * child has ended; any number of tasks may wait, and a cancelled one disturbs nobody. Throws OSError
 * "wait PID: ECANCELED" if its loop closed before, RuntimeError in another loop. */
static int l_wait(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    child *c = check_child(L);
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, 1);
    if (!c->ended && !c->k)
        lost(L, c);
    if (c->k && c->k->h.loop != S->loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "wait: the process belongs to another event loop");
    if (c->ended && !lunl_gives_way(S))
        return push_end(L, c);
    if (c->ended)
        lun_task_yield(t);
    else
        lun_park_wait(&c->waiters, t);
    return lunl_suspend(L, S, 0, on_ended);
}

/* --- child:kill(signal, last) -> boolean: sends the signal, a name or a number (0: none), to the
 * child or its group; false if it has ended. last: what is left of the group when the child ends is
 * killed then. Throws TypeError, ValueError, OSError "kill PID: CODE". Does not
 * suspend. */
static int l_kill(lua_State *L)
{
    child *c = check_child(L);
    int number =
        lua_isinteger(L, 2) && lua_tointeger(L, 2) == 0 ? 0 : lunl_check_signal(L, 2);
    if (c->k && lua_toboolean(L, 3))
        c->k->last = true;
    int err = c->k && c->k->alive ? signal_child(c->k, number) : UV_ESRCH;
    if (err != 0 && err != UV_ESRCH) {
        char text[24];
        snprintf(text, sizeof text, "%d", c->pid);
        lunl_throw_uv(L, err, "kill", text);
    }
    lua_pushboolean(L, err == 0);
    return 1;
}

/* --- child:close() kills the child and its group unless it has ended or is detached; it is reaped
 * when it has, without anybody waiting. Harmless the second time. Does not suspend. Also called at
 * the end of the block of a `<close>` variable. */
static int l_close(lua_State *L)
{
    child *c = check_child(L);
    if (c->k)
        kill_child(c->k);
    return 0;
}

/* --- child:__gc(): a child that nobody has is killed as by close; never called by name. */
static int l_gc(lua_State *L)
{
    child *c = lunl_test_box(L, 1, &child_type);
    if (!c || c == &gone)
        return 0;
    lunl_orphan_park(L, &c->waiters);
    running *k = c->k;
    bool dropped = k && !k->killed && !k->detached;
    if (k) {
        kill_child(k);
        part(k);
    }
    lunl_box_leave(L, &gone.core, dropped ? k->h.loop : NULL);
    return 0;
}

/* --- child:__tostring() -> "<Child 4711>": reports of dropped ones name it. */
static int l_tostring(lua_State *L)
{
    const child *c = check_child(L);
    if (!lunl_box_text(L))
        lua_pushfstring(L, "<Child %d>", c->pid);
    return 1;
}

/* --- core.environ() -> table of all variables of our environment. Does not suspend. */
static int l_environ(lua_State *L)
{
    lua_newtable(L);
    for (char **p = environ; p && *p; p++) {
        const char *eq = strchr(*p, '=');
        if (!eq)
            continue;
        lua_pushlstring(L, *p, (size_t)(eq - *p));
        lua_pushstring(L, eq + 1);
        lua_rawset(L, -3);
    }
    return 1;
}

/* Whoever has started us may have blocked the signal that tells libuv of ends. */
static void hear_of_children(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int luaopen_lunation_process_core(lua_State *L)
{
    static const luaL_Reg methods[] = {{"pid", l_pid},     {"status", l_status},
                                       {"wait", l_wait},   {"kill", l_kill},
                                       {"close", l_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"spawn", l_spawn}, {"environ", l_environ}, {NULL, NULL}};
    lunl_ignore_sigpipe();
    hear_of_children();
    lunl_open_stream_type(L);
    lunl_open_descriptor_type(L);
    lunl_need_type(L, &child_type, methods, meta);
    lua_createtable(L, 0, 4);
    lunl_register(L, functions);
    lunl_register(L, lunl_ends_functions);
    return 1;
}
