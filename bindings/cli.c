/* SPDX-License-Identifier: MIT */
/*
 * cli.c - the command `lunation`: a script is the main task of a run.
 *
 * The command is the first host: it knows the module's Lua interface and lunation_lua.h,
 * nothing else. Options, `arg`, LUA_INIT and the texts of errors are those of Lua's own
 * command. All Lua code that it runs (LUA_INIT, -e, -l, the script) runs in one main task,
 * so all of it may await; `main_k` goes from one chunk to the next.
 */
#include "cli/options.h"

#include <lauxlib.h>
#include <lualib.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Places in the registry: the module, the main task. */
static const char async_key = 0, task_key = 0;

static void say(const char *text, size_t len)
{
    fprintf(stderr, "%s: ", cli_program);
    fwrite(text, 1, len, stderr);
    fputc('\n', stderr);
    fflush(stderr);
}

static void print_version(void)
{
    printf("Lunation %s (%s, libuv %s)\n", LUNATION_VERSION, LUA_RELEASE,
           uv_version_string());
}

/* ---- the chunks of the main task ---- */

/* The function on top is the next chunk, unless it could not be loaded. */
static int chunk(lua_State *L, struct cli_command *c, int status)
{
    if (status == LUA_OK)
        return 0;
    c->load_failed = true;
    return lua_error(L);
}

/* Pushes the chunk of LUA_INIT; false if there is none. */
static bool push_init(lua_State *L, struct cli_command *c)
{
    const char *name = "=LUA_INIT" LUA_VERSUFFIX;
    const char *init = c->no_env ? NULL : getenv(name + 1);
    if (!init && !c->no_env) {
        name = "=LUA_INIT";
        init = getenv(name + 1);
    }
    if (!init)
        return false;
    chunk(L, c,
          init[0] == '@' ? luaL_loadfile(L, init + 1)
                         : luaL_loadbuffer(L, init, strlen(init), name));
    return true;
}

/* Pushes `require` and the name that -l has asked for. */
static void push_library(lua_State *L, struct cli_command *c, char *spec)
{
    char *equals = strchr(spec, '=');
    c->global = spec;
    if (equals) {
        *equals = '\0';
        spec = equals + 1;
    }
    lua_getglobal(L, "require");
    lua_pushstring(L, spec);
}

/* Pushes the chunk of the next -e or -l and its arguments; how many, or -1. */
static int push_option(lua_State *L, struct cli_command *c)
{
    while (c->option < c->script) {
        char *arg = c->argv[c->option++], *value = arg + 2;
        bool valued = arg[1] == 'e' || arg[1] == 'l';
        if (strcmp(arg, "--seed") == 0 || strcmp(arg, "--signals") == 0 ||
            (valued && *value == '\0'))
            value = c->argv[c->option++];
        if (arg[1] == 'W')
            lua_warning(L, "@on", 0);
        if (!valued)
            continue;
        if (arg[1] == 'e')
            return chunk(L, c, luaL_loadbuffer(L, value, strlen(value), "=(command line)"));
        push_library(L, c, value);
        return 1;
    }
    return -1;
}

/* Pushes the function of `lunation test` and what it has to know of the options; how many. */
static int push_test(lua_State *L, const struct cli_command *c)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lunation.test");
    lua_call(L, 1, 1);
    lua_createtable(L, 0, 2);
    lua_pushboolean(L, c->virtual_time);
    lua_setfield(L, -2, "virtual_time");
    if (c->seeded) {
        lua_pushinteger(L, c->seed);
        lua_setfield(L, -2, "seed");
    }
    return 1;
}

/* Pushes the script and its arguments, which it may have changed in `arg`; how many, or -1.
 */
static int push_script(lua_State *L, struct cli_command *c)
{
    const char *name = NULL;
    if (c->script < c->argc && strcmp(c->argv[c->script], "test") == 0)
        return push_test(L, c);
    if (c->script < c->argc) {
        name = c->argv[c->script];
        if (strcmp(name, "-") == 0 && strcmp(c->argv[c->script - 1], "--") != 0)
            name = NULL;
    } else if (c->executes || c->version) {
        return -1;
    }
    chunk(L, c, luaL_loadfile(L, name));
    if (lua_getglobal(L, "arg") != LUA_TTABLE)
        luaL_error(L, "'arg' is not a table");
    int table = lua_gettop(L), n = (int)luaL_len(L, table);
    luaL_checkstack(L, n + 3, "too many arguments to script");
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, table, i);
    lua_remove(L, table);
    return n;
}

/* Pushes the next chunk with its arguments; how many of them, or -1: that was all. */
static int push_next(lua_State *L, struct cli_command *c)
{
    int n = -1;
    while (n < 0 && c->stage != STAGE_OVER) {
        switch (c->stage) {
        case STAGE_INIT:
            c->stage = STAGE_OPTIONS;
            n = push_init(L, c) ? 0 : -1;
            break;
        case STAGE_OPTIONS:
            n = push_option(L, c);
            if (n < 0)
                c->stage = STAGE_SCRIPT;
            break;
        default:
            c->stage = STAGE_OVER;
            n = push_script(L, c);
        }
    }
    return n;
}

/* Between two chunks of the main task. */
static int main_k(lua_State *L, int status, lua_KContext ctx)
{
    struct cli_command *c = lua_touserdata(L, 1);
    (void)status;
    (void)ctx;
    for (;;) {
        if (c->global)
            lua_setglobal(L, c->global);
        c->global = NULL;
        lua_settop(L, 1);
        int n = push_next(L, c);
        if (n < 0)
            return 0;
        lunl_show_as(L, -1 - n);
        lua_callk(L, n, c->global ? 1 : 0, 0, main_k);
    }
}

/* The function of the main task; it notes the task, whose traceback may be asked for. */
static int main_task(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &async_key);
    lua_getfield(L, -1, "current_task");
    lua_call(L, 0, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &task_key);
    return main_k(L, LUA_OK, 0);
}

/* ---- reports ---- */

/* Pushes the text of the error at `idx`, as Lua's own command shows it. */
static void push_text(lua_State *L, int idx)
{
    if (lua_isstring(L, idx)) {
        lua_pushvalue(L, idx);
        lua_tostring(L, -1);
    } else if (!luaL_callmeta(L, idx, "__tostring") || lua_type(L, -1) != LUA_TSTRING) {
        lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, idx));
    }
}

/* Pushes the traceback of the error at `idx`; false if there is none. */
static bool push_trace(lua_State *L, int idx)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &task_key);
    if (!lua_isnil(L, -1)) {
        lua_getfield(L, -1, "traceback");
        lua_insert(L, -2);
        lua_call(L, 1, 1);
        if (lua_type(L, -1) == LUA_TSTRING)
            return true;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &async_key);
    lua_getfield(L, -1, "traceback");
    lua_pushvalue(L, idx);
    lua_call(L, 1, 1);
    return lua_type(L, -1) == LUA_TSTRING;
}

/* Is the error at `idx` an object of that class of the module? */
static bool is_a(lua_State *L, int idx, const char *class)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &async_key) == LUA_TNIL)
        return false;
    lua_getfield(L, -1, "isinstance");
    lua_pushvalue(L, idx);
    lua_getfield(L, -3, class);
    lua_call(L, 2, 1);
    return lua_toboolean(L, -1);
}

/* Says it of the error object at `idx`, with what it was raised from and what it is made of. */
static void print_object(lua_State *L, int idx)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &async_key);
    lua_getfield(L, -1, "print_exception");
    lua_pushvalue(L, idx);
    fprintf(stderr, "%s: ", cli_program);
    fflush(stderr);
    lua_call(L, 1, 0);
}

/* Pushes what is said of the KeyboardInterrupt at `idx`; `*signal`: whose it is, if it says so. */
static void push_interrupted(lua_State *L, int idx, int *signal)
{
    lua_pushliteral(L, "signal");
    const char *name = lua_rawget(L, idx) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    int number = lunl_interrupt_number(name);
    if (number != 0)
        *signal = number;
    if (*signal == SIGINT)
        lua_pushliteral(L, "interrupted");
    else
        lua_pushfstring(L, "interrupted by %s", name);
    lua_remove(L, -2);
}

/* (error, command): says on stderr what has ended the run. */
static int report(lua_State *L)
{
    enum { ERROR = 1, COMMAND, TEXT };
    struct cli_command *c = lua_touserdata(L, COMMAND);
    bool interrupted = is_a(L, ERROR, "KeyboardInterrupt");
    c->outcome = interrupted ? INTERRUPTED : FAILED;
    c->signal = SIGINT;
    if (!interrupted && is_a(L, ERROR, "BaseError")) {
        print_object(L, ERROR);
        return 0;
    }
    lua_settop(L, COMMAND);
    if (interrupted)
        push_interrupted(L, ERROR, &c->signal);
    else
        push_text(L, ERROR);
    lua_insert(L, TEXT);
    lua_settop(L, TEXT);
    if (!c->load_failed && (!interrupted || c->debug) && push_trace(L, ERROR)) {
        lua_pushvalue(L, TEXT);
        lua_pushliteral(L, "\n");
        lua_rotate(L, -3, -1);
        lua_concat(L, 3);
    }
    size_t len;
    const char *text = lua_tolstring(L, lua_isstring(L, -1) ? -1 : TEXT, &len);
    say(text, len);
    return 0;
}

/* Reports the error on top (popped), whatever is wrong with it. */
static void report_protected(lua_State *L, struct cli_command *c)
{
    c->outcome = FAILED;
    lua_pushcfunction(L, report);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 2, 0, 0) == LUA_OK)
        return;
    const char *text = lua_tostring(L, -1);
    text = text ? text : "error in __tostring of an error object";
    say(text, strlen(text));
    lua_pop(L, 1);
}

/* ---- the run ---- */

static void make_arg(lua_State *L, const struct cli_command *c)
{
    int script = c->script < c->argc ? c->script : 0;
    lua_createtable(L, c->argc - script, script + 1);
    for (int i = 0; i < c->argc; i++) {
        lua_pushstring(L, c->argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

/* The module at `async` gives the globals that await. */
static void install(lua_State *L, int async)
{
    lua_getfield(L, async, "coroutine");
    lua_pushvalue(L, -1);
    lua_setglobal(L, LUA_COLIBNAME);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_insert(L, -2);
    lua_setfield(L, -2, LUA_COLIBNAME);
    lua_getfield(L, async, "require");
    lua_setglobal(L, "require");
    lunl_interrupt_kills(L);
    lua_getglobal(L, LUA_OSLIBNAME);
    lunl_push_exit(L);
    lua_setfield(L, -2, "exit");
    lua_settop(L, async);
}

static void open_all(lua_State *L, struct cli_command *c)
{
    luaL_checkversion(L);
    if (c->no_env) {
        lua_pushboolean(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    }
    luaL_openlibs(L);
    make_arg(L, c);
    luaL_requiref(L, cli_program, luaopen_lunation, 0);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &async_key);
    /* For programs that forget it, as test suites do, and require it again. */
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_lunation);
    lua_setfield(L, -2, cli_program);
    lua_pop(L, 1);
    install(L, lua_gettop(L));
}

static void push_runner(lua_State *L, const struct cli_command *c, int async)
{
    lua_getfield(L, async, "Runner");
    lua_createtable(L, 0, 3);
    lua_pushboolean(L, c->debug);
    lua_setfield(L, -2, "debug");
    lua_pushstring(L, c->virtual_time ? "virtual" : "real");
    lua_setfield(L, -2, "clock");
    if (c->seeded) {
        lua_pushinteger(L, c->seed);
        lua_setfield(L, -2, "seed");
    }
    char name[CLI_NAME];
    const char *list = c->signals;
    lua_newtable(L);
    for (int i = 1; cli_next_name(&list, name); i++) {
        lua_pushstring(L, name);
        lua_rawseti(L, -2, i);
    }
    lua_setfield(L, -2, "signals");
    lua_call(L, 1, 1);
}

/* (command): opens everything, runs the main task, closes the loop; reports what went
 * wrong. */
static int run(lua_State *L)
{
    struct cli_command *c = lua_touserdata(L, 1);
    enum { ASYNC = 2, RUNNER };
    open_all(L, c);
    push_runner(L, c, ASYNC);
    lua_getfield(L, RUNNER, "run");
    lua_pushvalue(L, RUNNER);
    lua_pushcfunction(L, main_task);
    lua_pushlightuserdata(L, c);
    int ran = lua_pcall(L, 3, 0, 0);
    lua_getfield(L, RUNNER, "close");
    lua_pushvalue(L, RUNNER);
    int closed = lua_pcall(L, 1, 0, 0);
    c->outcome = DONE;
    if (lunl_exiting(L, &c->exit_code, &c->exit_close)) {
        c->outcome = EXITING;
    } else if (ran != LUA_OK) {
        lua_settop(L, RUNNER + 1);
        report_protected(L, c);
    } else if (closed != LUA_OK) {
        report_protected(L, c);
    }
    return 0;
}

/* Dies of the signal, so that a shell sees that it was not its script that decided to end. */
static int die_of(int number)
{
    sigset_t set;
    fflush(NULL);
    signal(number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    return 128 + number;
}

static int execute(struct cli_command *c)
{
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "%s: cannot create state: not enough memory\n", cli_program);
        return EXIT_FAILURE;
    }
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        report_protected(L, c);
    c->state = L;
    if (c->outcome != EXITING || c->exit_close)
        lua_close(L);
    if (c->outcome == INTERRUPTED)
        return die_of(c->signal);
    if (c->outcome == EXITING)
        return c->exit_code;
    return c->outcome == DONE ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void pass_over(int number)
{
    (void)number;
}

/*
 * glibc gives the end of the heap back to the system when 128 KiB of it are free, and a collection
 * frees more than that where much data flows through strings: the same pages would come and go
 * all the time. The first big block that is freed raises the limit to twice its size (mallopt(3)).
 */
static void keep_heap(void)
{
    void *volatile p = malloc(1 << 20);
    free(p);
}

int main(int argc, char **argv)
{
    static struct cli_command c = {.option = 1};
    c.argc = argc;
    c.argv = argv;
    const char *bad = cli_scan(&c);
    if (bad)
        return cli_complain(&c, bad);
    if (c.help) {
        fputs(cli_help, stdout);
        return EXIT_SUCCESS;
    }
    if (c.version)
        print_version();
    if (c.interactive) {
        fprintf(stderr, "%s: '-i': there is no interactive mode yet\n", cli_program);
        return EXIT_FAILURE;
    }
    bool nothing = c.script >= argc && !c.executes && !c.version;
    if (nothing && isatty(STDIN_FILENO)) {
        print_version();
        puts("There is no interactive mode yet. lunation [options] [script [args]]; --help "
             "says more.");
        return EXIT_SUCCESS;
    }
    /*
     * A write to a closed pipe or socket is an error for the script, not the end of it. Not
     * SIG_IGN, which the children of os.execute and io.popen would inherit.
     */
    signal(SIGPIPE, pass_over);
    setenv("UV_THREADPOOL_SIZE", "16", 0);
    keep_heap();
    return execute(&c);
}
