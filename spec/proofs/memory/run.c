/* SPDX-License-Identifier: MIT */
/*
 * run.c - a program runs in a new Lua state while requests for memory are refused; then memory is
 * there again, and all must be well: the same state runs another program, it closes without
 * leaving a block, a handle, a descriptor or a signal handler, and a new state works.
 */
#include "sweep.h"

#include "lunation_lua.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cell *sweep_cell;

enum {
    DESCRIPTORS = 64, /* that are looked at: far more than a program opens */
    READER = 60,      /* a pipe that every program may watch */
    WRITER = 61,
    SIGNALS = 4
};

static const char second_run[] =
    "local async = require 'lunation'\n"
    "local lock = async.Lock()\n"
    "local list = async.run(function()\n"
    "  return async.gather {\n"
    "    function() local _ <close> = lock:guard() async.sleep(0) return 20 end,\n"
    "    function() local _ <close> = lock:guard() async.sleep(0.00001) return 22 end,\n"
    "  }\n"
    "end)\n"
    "return list[1] + list[2]\n";

/* ---- faults ---- */

void sweep_fault(const char *text)
{
    if (sweep_cell->fault[0] != '\0')
        return;
    strncat(sweep_cell->fault, text, sizeof sweep_cell->fault - 1);
    sweep_cell->fault_phase = sweep_cell->phase;
}

static void phase(const char *text)
{
    sweep_cell->phase = text;
}

static _Noreturn void give_up(void)
{
    fflush(stdout);
    _exit(SWEEP_FAULTY);
}

static void on_broken(const char *file, int line, const char *text)
{
    char found[200];
    snprintf(found, sizeof found, "broken invariant at %s:%d: %s", file, line, text);
    sweep_fault(found);
    give_up();
}

static int on_panic(lua_State *L)
{
    char found[200];
    const char *text = lua_tostring(L, -1);
    snprintf(found, sizeof found, "error outside of every protected call: %s",
             text ? text : luaL_typename(L, -1));
    sweep_fault(found);
    give_up();
}

/*
 * Lua has no memory to call a finaliser: it says so in a warning and forgets it for good. What that
 * finaliser would have given back is then lost by no fault of the library.
 */
static bool finaliser_lost;

static void on_warning(void *ud, const char *text, int more)
{
    bool *in_finaliser = ud;
    if (strcmp(text, "__gc") == 0)
        *in_finaliser = true;
    else if (*in_finaliser && strcmp(text, "not enough memory") == 0)
        finaliser_lost |= heap_refused_call();
    if (!more)
        *in_finaliser = false;
}

/* ---- libuv's handles ---- */

int __real_uv_loop_close(uv_loop_t *loop);
int __wrap_uv_loop_close(uv_loop_t *loop);

static void name_handle(uv_handle_t *handle, void *names)
{
    char *text = names;
    strncat(text, " ", 100 - strlen(text));
    strncat(text, uv_handle_type_name(handle->type), 100 - strlen(text));
}

/* The linker puts this in the place of uv_loop_close. */
int __wrap_uv_loop_close(uv_loop_t *loop)
{
    char names[101] = "", found[160];
    int err = __real_uv_loop_close(loop);
    if (err == 0)
        return 0;
    uv_walk(loop, name_handle, names);
    snprintf(found, sizeof found, "handles of libuv left open:%s", names);
    sweep_fault(found);
    return err;
}

/* ---- what the process has ---- */

typedef struct belongings {
    bool open[DESCRIPTORS];
    void (*handler[SIGNALS])(int);
} belongings;

static const int signals[SIGNALS] = {SIGINT, SIGUSR1, SIGUSR2, SIGVTALRM};

static belongings look(void)
{
    belongings b;
    struct sigaction action;
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        b.open[fd] = fcntl(fd, F_GETFD) >= 0;
    for (int i = 0; i < SIGNALS; i++) {
        sigaction(signals[i], NULL, &action);
        b.handler[i] = action.sa_handler;
    }
    return b;
}

static void compare(const belongings *before)
{
    belongings now = look();
    char found[80];
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        if (now.open[fd] == before->open[fd])
            continue;
        snprintf(found, sizeof found, "descriptor %d was %s", fd,
                 now.open[fd] ? "left open" : "closed, and it is somebody else's");
        sweep_fault(found);
    }
    for (int i = 0; i < SIGNALS; i++) {
        if (now.handler[i] == before->handler[i])
            continue;
        snprintf(found, sizeof found, "the disposition of SIG%s was not put back",
                 sigabbrev_np(signals[i]));
        sweep_fault(found);
    }
}

void sweep_prepare(void)
{
    uv_loop_t loop;
    int ends[2];
    heap_on_fault(sweep_fault);
    heap_begin();
    uv_replace_allocator(heap_uv_malloc, heap_uv_realloc, heap_uv_calloc, heap_uv_free);
    lun_set_fatal(on_broken);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_DFL); /* a shell starts what runs in the background without it */
    /* What libuv opens once in a process is no leak. */
    uv_loop_init(&loop);
    __real_uv_loop_close(&loop);
    if (pipe(ends) != 0 || dup2(ends[0], READER) < 0 || dup2(ends[1], WRITER) < 0 ||
        write(WRITER, "x", 1) != 1)
        perror("pipe");
    close(ends[0]);
    close(ends[1]);
}

/* ---- what programs find ---- */

/* sweep.raise(number): sends that signal to this process. */
static int l_raise(lua_State *L)
{
    raise((int)luaL_checkinteger(L, 1));
    return 0;
}

/* Puts `in` and `out` in the place of the descriptors 0 and 1. */
static void set_stdio(int in, int out)
{
    if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        perror("dup2");
    close(in);
    close(out);
}

/* sweep.stdio(looped): true: what is written to descriptor 1 can be read from 0; else both are
 * /dev/null. */
static int l_stdio(lua_State *L)
{
    int ends[2];
    if (lua_toboolean(L, 1) && pipe(ends) == 0)
        set_stdio(ends[0], ends[1]);
    else
        set_stdio(open("/dev/null", O_RDONLY), open("/dev/null", O_WRONLY));
    return 0;
}

/* The global `sweep`; its patience is for real waits, which may be in vain when memory was refused. */
static void set_globals(lua_State *L, bool opened, bool debug, bool patient)
{
    lua_createtable(L, 0, 6);
    lua_pushnumber(L, patient ? 20 : 0.03);
    lua_setfield(L, -2, "patience");
    lua_pushboolean(L, debug);
    lua_setfield(L, -2, "debug");
    lua_pushcfunction(L, l_raise);
    lua_setfield(L, -2, "raise");
    lua_pushcfunction(L, l_stdio);
    lua_setfield(L, -2, "stdio");
    lua_pushinteger(L, READER);
    lua_setfield(L, -2, "reader");
    lua_pushinteger(L, WRITER);
    lua_setfield(L, -2, "writer");
    if (opened) {
        lunl_push_exit(L);
        lua_setfield(L, -2, "exit");
    }
    lua_setglobal(L, "sweep");
    sweep_planted_open(L);
}

static void preload(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_lunation);
    lua_setfield(L, -2, "lunation");
    lua_pop(L, 1);
}

static lua_State *new_state(bool opened, bool debug, bool patient)
{
    lua_State *L = lua_newstate(heap_lua, NULL);
    if (!L) {
        sweep_fault("no Lua state can be made");
        give_up();
    }
    lua_atpanic(L, on_panic);
    static bool in_finaliser;
    lua_setwarnf(L, on_warning, &in_finaliser);
    luaL_openlibs(L);
    preload(L);
    if (opened) {
        luaL_requiref(L, "lunation", luaopen_lunation, 0);
        lua_pop(L, 1);
    }
    set_globals(L, opened, debug, patient);
    return L;
}

/* ---- the run ---- */

/* Keeps how the program ended, by lua_pcall's status and the error on top. */
static void note_outcome(lua_State *L, int status)
{
    sweep_cell->outcome[0] = '\0';
    strncat(sweep_cell->outcome, status == LUA_OK ? "success" : luaL_tolstring(L, -1, NULL),
            sizeof sweep_cell->outcome - 1);
}

/* Runs the small program; `what` begins the text of a fault. */
static void run_second(lua_State *L, const char *what)
{
    char found[220];
    int status = luaL_loadstring(L, second_run);
    if (status == LUA_OK)
        status = lua_pcall(L, 0, 1, 0);
    if (status != LUA_OK || lua_tointeger(L, -1) != 42) {
        snprintf(found, sizeof found, "%s: %s", what, luaL_tolstring(L, -1, NULL));
        sweep_fault(found);
    }
    lua_settop(L, 0);
}

static void run_first(lua_State *L, const program *p, enum heap_mode mode, long point)
{
    char found[220], chunk[64];
    snprintf(chunk, sizeof chunk, "=%s", p->name);
    if (luaL_loadbufferx(L, p->text, p->size, chunk, "t") != LUA_OK) {
        snprintf(found, sizeof found, "does not compile: %s", lua_tostring(L, -1));
        sweep_fault(found);
        give_up();
    }
    lua_gc(L, LUA_GCCOLLECT);
    phase("in the program");
    heap_arm(mode, point);
    int status = lua_pcall(L, 0, 0, 0);
    heap_disarm();
    phase("after the program");
    sweep_cell->requests = heap_requests();
    sweep_cell->refused = heap_refused();
    note_outcome(L, status);
    if (strstr(sweep_cell->outcome, "attempt to ")) {
        snprintf(found, sizeof found, "a value is not what it should be: %s",
                 sweep_cell->outcome);
        sweep_fault(found);
    }
    if (status != LUA_OK && mode == HEAP_CALM) {
        snprintf(found, sizeof found, "fails with all the memory it wants: %s",
                 luaL_tolstring(L, -1, NULL));
        sweep_fault(found);
    }
    lua_settop(L, 0);
}

void sweep_run(const program *p, enum heap_mode mode, long point, bool cover)
{
    belongings before = look();
    sweep_cell->point = point;
    heap_begin();
    finaliser_lost = false;
    phase("while the state was made");
    lua_State *L = new_state(!p->opens, p->debug, mode == HEAP_CALM);
    if (cover)
        sweep_cover_begin(L);
    run_first(L, p, mode, point);
    if (cover)
        sweep_cover_end(L);
    lua_gc(L, LUA_GCCOLLECT);
    lua_gc(L, LUA_GCCOLLECT);
    phase("in a second run in the same state");
    run_second(L, "a second run in the same state fails");
    phase("while the state was closed");
    lua_close(L);
    bool whole = heap_end(finaliser_lost);
    if (!finaliser_lost)
        compare(&before);
    else if (!whole)
        sweep_cell->lost++;
    phase("in a new state");
    heap_begin();
    L = new_state(true, false, false);
    run_second(L, "a run in a new state fails");
    lua_close(L);
    heap_end(false);
    if (sweep_cell->fault[0] == '\0' && sweep_cell->refused > 0)
        sweep_cell->points++;
}
