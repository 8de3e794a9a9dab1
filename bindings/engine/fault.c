/* SPDX-License-Identifier: MIT */
/*
 * fault.c - the exception handler: where errors go that nobody is there to get.
 *
 * A report is a context table inside a userdata that embeds the core's fault. It is queued
 * where the error is found and delivered between two jobs of the loop, so a handler never
 * runs in the collector, in a settle or in another handler; what it reports itself waits
 * for the next delivery. Callbacks of the loop are called from here too, since their errors
 * have nowhere else to go.
 *
 * Laws: a handler that throws is reported by the default one, with both errors;
 * KeyboardInterrupt alone leaves the run call. No error jumps through the core: everything
 * runs in protected calls, and if even printing fails for want of memory, the essential
 * line is written raw.
 */
#include "../state.h"
#include "print.h"

#include <stdio.h>
#include <string.h>

typedef struct report {
    const lunl_type *type;
    lun_fault fault; /* embedded; in loop->faults while queued */
    lunl_state *S;   /* borrowed */
    uint32_t slot;   /* held until delivered */
} report;            /* user values: 1 the context, 2 its message */

static const lunl_type report_type = {"report"};
static const char trace_key = 0; /* registry: trace of the last error of what is called */

/* ---- traces of what is called here ---- */

static int deliver(lua_State *L);

/* Is the running function of that level one that runs at the base of the loop? */
static bool is_base(lua_State *L, const lunl_state *S, lua_Debug *ar)
{
    lua_getinfo(L, "f", ar);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->drive);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->deliver);
    bool is = lua_rawequal(L, -3, -2) || lua_rawequal(L, -3, -1) ||
              lua_tocfunction(L, -3) == deliver;
    lua_pop(L, 3);
    return is;
}

/*
 * The part of the trace in `text` that is about the callback or handler: what stands below
 * it is the loop and whoever runs that. Only near levels are looked at: a longer trace is
 * cut in its middle anyway.
 */
static size_t own_part(lua_State *L, lunl_state *S, const char *text, size_t size,
                       int thrower)
{
    enum { SEEN = 24 };
    lua_Debug ar;
    char rest[4096];
    int base = thrower + 1;
    while (base < thrower + SEEN && lua_getstack(L, base, &ar) && !is_base(L, S, &ar))
        base++;
    if (base == thrower + SEEN || !lua_getstack(L, base, &ar))
        return size;
    size_t n = lunl_trace_text(L, base, rest, sizeof rest);
    bool ends_so = n < size && memcmp(text + size - n, rest, n) == 0;
    return ends_so ? size - n : size;
}

static int make_trace(lua_State *L)
{
    enum { THROWER = 2 }; /* below this function and the message handler */
    static const char head[] = "traceback:";
    lunl_state *S = lunl_get_state(L);
    char text[4096];
    memcpy(text, head, sizeof head - 1);
    size_t size = sizeof head - 1;
    size += lunl_trace_text(L, THROWER, text + size, sizeof text - size);
    lua_pushlstring(L, text, own_part(L, S, text, size, THROWER));
    lua_rawsetp(L, LUA_REGISTRYINDEX, &trace_key);
    return 0;
}

/*
 * Message handler: keeps the trace in the registry and the error as it is, because closers
 * see what a message handler returns. Without memory there is no trace, but still the
 * error.
 */
static int record_trace(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushcfunction(L, make_trace);
    lua_pcall(L, 0, 0, 0);
    lua_settop(L, 1);
    return 1;
}

/* Pushes the recorded trace, or nil, and forgets it. */
static void take_trace(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &trace_key);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &trace_key);
}

/* ---- delivering ---- */

/* A report shows what was thrown; nil, which would look like nothing, as the tasks do. */
static void set_exception(lua_State *L, int ctx, int error)
{
    if (lua_isnil(L, error))
        lunl_error_new(L, LUNL_ERROR, "nil");
    else
        lua_pushvalue(L, error);
    lua_setfield(L, ctx, "exception");
}

/* Prints that the handler threw the error on top when it got the context at `ctx`. */
static void report_handler(lua_State *L, int ctx)
{
    int error = lua_gettop(L);
    lua_createtable(L, 0, 5);
    lua_pushliteral(L, "Unhandled error in exception handler");
    lua_setfield(L, -2, "message");
    lua_pushliteral(L, "handler");
    lua_setfield(L, -2, "kind");
    set_exception(L, error + 1, error);
    take_trace(L);
    lua_setfield(L, -2, "traceback");
    lua_pushvalue(L, ctx);
    lua_setfield(L, -2, "context");
    lunl_print_context(L, -1);
}

/*
 * Calls the handler of the loop object at `self` with the context at `ctx`. True if that
 * threw KeyboardInterrupt, which is then on top.
 */
static bool call_handler(lua_State *L, int self, int ctx)
{
    lunl_loop *loop = lua_touserdata(L, self);
    int top = lua_gettop(L);
    luaL_checkstack(L, 12, NULL);
    lua_pushvalue(L, self);
    if (lua_getiuservalue(L, -1, 1) == LUA_TNIL) {
        lunl_print_context(L, ctx);
        lua_settop(L, top);
        return false;
    }
    /* There may be the trace of a callback that is just unwinding: it is put back. */
    lua_rawgetp(L, LUA_REGISTRYINDEX, &trace_key);
    lua_pushcfunction(L, record_trace);
    lua_pushvalue(L, top + 2);
    lua_pushvalue(L, top + 1);
    lua_pushvalue(L, ctx);
    loop->in_handler = true;
    int status = lua_pcall(L, 2, 0, top + 4);
    loop->in_handler = false;
    bool interrupt = status != LUA_OK && lunl_error_is(L, -1, LUNL_KEYBOARD_INTERRUPT);
    if (status != LUA_OK && !interrupt)
        report_handler(L, ctx);
    lua_pushvalue(L, top + 3);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &trace_key);
    if (!interrupt)
        lua_settop(L, top);
    return interrupt;
}

/* Pushes the context of a fault that C code has raised. */
static void push_context(lua_State *L, const lun_fault *f)
{
    lua_createtable(L, 0, 2);
    lua_pushstring(L, f->message ? f->message : f->kind);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, f->kind);
    lua_setfield(L, -2, "kind");
}

/*
 * Protected: loop object or its address, context table or the address of a fault -> the
 * KeyboardInterrupt that the handler threw, or nil
 */
static int deliver(lua_State *L)
{
    if (lua_islightuserdata(L, 1)) {
        lunl_push_loop(L, lua_touserdata(L, 1));
        lua_replace(L, 1);
    }
    if (!lua_istable(L, 2)) {
        push_context(L, lua_touserdata(L, 2));
        lua_replace(L, 2);
    }
    return call_handler(L, 1, 2) ? 1 : 0;
}

/* Protected: writes one line about the report at 1, a table or the address of a fault, or, if
 * that is nil, a callback's error at 2. */
static int write_line(lua_State *L)
{
    char line[512];
    const char *message = "Exception in callback", *error = NULL, *name = NULL;
    lua_settop(L, 2);
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "message");
        message = lua_tostring(L, -1);
        lua_getfield(L, 1, "exception");
        lua_replace(L, 2);
    } else if (lua_islightuserdata(L, 1)) {
        const lun_fault *f = lua_touserdata(L, 1);
        message = f->message ? f->message : f->kind;
    }
    if (lunl_error_is(L, 2, LUNL_BASE_ERROR)) {
        lua_getfield(L, 2, "name");
        name = lua_tostring(L, -1);
        lua_getfield(L, 2, "message");
        lua_replace(L, 2);
    }
    if (lua_type(L, 2) == LUA_TSTRING)
        error = lua_tostring(L, 2);
    int n = snprintf(line, sizeof line, "%s%s%s%s%s\n",
                     message ? message : "Unhandled exception in event loop",
                     name || error ? ": " : "", name ? name : "", name && error ? ": " : "",
                     error ? error : "");
    lunl_write_error(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    return 0;
}

/*
 * Delivers what is on top, a context table or the address of a fault, popping it; the loop
 * object is at `self`, or 0. Raises nothing. True if the handler threw KeyboardInterrupt,
 * which is then on top.
 */
static bool deliver_protected(lua_State *L, lunl_loop *loop, int self)
{
    int what = lua_gettop(L);
    lua_pushcfunction(L, deliver);
    if (self)
        lua_pushvalue(L, self);
    else
        lua_pushlightuserdata(L, loop);
    lua_pushvalue(L, what);
    if (lua_pcall(L, 2, 1, 0) == LUA_OK) {
        if (lua_isnil(L, -1)) {
            lua_settop(L, what - 1);
            return false;
        }
        lua_replace(L, what);
        return true;
    }
    /* No memory: for a line there is enough, since the names of the fields are in use. */
    loop->in_handler = false;
    lua_pushcfunction(L, write_line);
    lua_pushvalue(L, what);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        static const char text[] = "An exception was lost: not enough memory\n";
        lunl_write_error(text, sizeof text - 1);
    }
    lua_settop(L, what - 1);
    return false;
}

/* Protected: keeps the KeyboardInterrupt at 2 for the run call of the loop at 1. */
static int keep_interrupt(lua_State *L)
{
    lunl_loop *loop = lua_touserdata(L, 1);
    lunl_note_interrupt(L, loop->S, &loop->loop, 2);
    return 0;
}

/* Delivered or not worth it: the report goes. */
static void report_over(lun_fault *f, lun_loop *loop)
{
    report *r = lun_container(f, report, fault);
    (void)loop;
    lunl_release(r->S->L ? r->S->L : r->S->main, r->S, r->slot);
}

/* The core's handler: between two jobs, with a closure of ours on the Lua stack. */
static bool handle(lun_handler *h, lun_loop *core, lun_fault *f)
{
    lunl_loop *loop = lun_container(h, lunl_loop, handler);
    lunl_state *S = loop->S;
    lua_State *L = S->L ? S->L : S->main;
    int top = lua_gettop(L);
    (void)core;
    if (f == &S->lost_fault || !lua_checkstack(L, LUA_MINSTACK))
        return false;
    if (f->over == report_over) {
        lunl_push_held(L, S, lun_container(f, report, fault)->slot);
        lua_getiuservalue(L, -1, 1);
    } else {
        lua_pushlightuserdata(L, f);
    }
    if (deliver_protected(L, loop, 0)) {
        lua_pushcfunction(L, keep_interrupt);
        lua_pushlightuserdata(L, loop);
        lua_pushvalue(L, -3);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK)
            lun_loop_break(&loop->loop);
    }
    lua_settop(L, top);
    return true;
}

void lunl_fault_init(lunl_loop *loop)
{
    loop->handler.handle = handle;
    lun_handler_push(&loop->loop, &loop->handler);
}

void lunl_task_report(lua_State *L, int idx, const char *message)
{
    lua_createtable(L, 0, 6);
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    lua_pushvalue(L, idx);
    lua_setfield(L, -2, "future");
    lua_pushvalue(L, idx);
    lua_setfield(L, -2, "task");
    lunl_push_source(L, idx, lua_touserdata(L, idx));
    lua_setfield(L, -2, "source_traceback");
}

void lunl_report(lua_State *L, lunl_loop *loop, const char *kind)
{
    int ctx = lua_gettop(L);
    luaL_checkstack(L, 8, NULL);
    if (kind) {
        lua_pushliteral(L, "kind");
        lua_pushstring(L, kind);
        lua_rawset(L, ctx);
    }
    if (loop->closed) { /* it will not deliver anything any more */
        lunl_print_context(L, ctx);
        lua_settop(L, ctx - 1);
        return;
    }
    report *r = lunl_new(L, &report_type, sizeof *r, 2);
    r->S = loop->S;
    r->fault.kind = kind ? kind : "report";
    r->fault.over = report_over;
    lun_list_init(&r->fault.link);
    lua_pushvalue(L, ctx);
    lua_setiuservalue(L, -2, 1);
    lua_pushliteral(L, "message");
    if (lua_rawget(L, ctx) == LUA_TSTRING)
        r->fault.message = lua_tostring(L, -1);
    lua_setiuservalue(L, -2, 2);
    r->slot = lunl_hold(L, loop->S, NULL);
    lua_settop(L, ctx - 1);
    lun_fault_raise(&loop->loop, &r->fault);
}

/* ---- callbacks ---- */

enum { CALLBACK_FN = 1, CALLBACK_ERROR, CALLBACK_CONTEXT, CALLBACK_LOOP, CALLBACK_KIND };

/* Protected: reports that a callback threw; the arguments are those of the enumeration. */
static int report_callback(lua_State *L)
{
    lunl_loop *loop = lua_touserdata(L, CALLBACK_LOOP);
    if (lunl_error_is(L, CALLBACK_ERROR, LUNL_KEYBOARD_INTERRUPT)) {
        take_trace(L);
        lunl_note_interrupt(L, loop->S, &loop->loop, CALLBACK_ERROR);
        return 0;
    }
    lua_createtable(L, 0, 8);
    int ctx = lua_gettop(L);
    if (lua_isuserdata(L, CALLBACK_CONTEXT))
        lunl_handle_context(L, CALLBACK_CONTEXT, ctx);
    lunl_push_where(L, CALLBACK_FN);
    lua_pushfstring(L, "Exception in callback <%s>", lua_tostring(L, -1));
    lua_setfield(L, ctx, "message");
    set_exception(L, ctx, CALLBACK_ERROR);
    take_trace(L);
    lua_setfield(L, ctx, "traceback");
    lua_settop(L, ctx);
    lunl_report(L, loop, lua_touserdata(L, CALLBACK_KIND));
    return 0;
}

/* The callback at `fn` threw the error on top. */
static void callback_failed(lua_State *L, lunl_loop *loop, int fn, const char *kind,
                            int context)
{
    int error = lua_gettop(L);
    lua_pushcfunction(L, report_callback);
    lua_pushvalue(L, fn);
    lua_pushvalue(L, error);
    if (context)
        lua_pushvalue(L, context);
    else
        lua_pushnil(L);
    lua_pushlightuserdata(L, loop);
    lua_pushlightuserdata(L, (void *)(uintptr_t)kind);
    if (lua_pcall(L, 5, 0, 0) == LUA_OK)
        return;
    lua_pushcfunction(L, write_line);
    lua_pushnil(L);
    lua_pushvalue(L, error);
    lua_pcall(L, 2, 0, 0);
}

void lunl_callback(lua_State *L, lunl_loop *loop, int nargs, const char *kind, int context)
{
    int fn = lua_gettop(L) - nargs;
    luaL_checkstack(L, 16, NULL);
    context = context ? lua_absindex(L, context) : 0;
    lua_pushcfunction(L, record_trace);
    lua_pushvalue(L, fn);
    lua_rotate(L, fn, 2); /* message handler, the function again, then the call */
    if (lua_pcall(L, nargs, 0, fn) != LUA_OK)
        callback_failed(L, loop, fn + 1, kind, context);
    lua_settop(L, fn - 1);
}

/* ---- what scripts see ---- */

/* --- loop:set_exception_handler(handler)
 * handler(loop, context) is called for every error that nobody gets; nil brings the default
 * one back. It runs between two steps of tasks, cannot await, and what it throws is
 * printed. Throws TypeError. */
static int l_set_exception_handler(lua_State *L)
{
    lunl_check(L, 1, &lunl_loop_type);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        lunl_check_callable(L, 2);
    lua_setiuservalue(L, 1, 1);
    return 0;
}

/* --- loop:get_exception_handler() -> function or nil
 * What was set; nil if the default one is in charge. */
static int l_get_exception_handler(lua_State *L)
{
    lunl_check(L, 1, &lunl_loop_type);
    lua_getiuservalue(L, 1, 1);
    return 1;
}

static lunl_loop *check_report(lua_State *L)
{
    lunl_loop *loop = lunl_check(L, 1, &lunl_loop_type);
    if (!lua_istable(L, 2))
        lunl_type_error(L, 2, "table");
    lua_settop(L, 2);
    return loop;
}

/* --- loop:call_exception_handler(context)
 * Hands the table `context` (message, exception, future, ...) to the handler, at once;
 * inside a handler it is queued until that has returned. Does not throw what the handler
 * throws, but for KeyboardInterrupt. Throws TypeError. Does not suspend. */
static int l_call_exception_handler(lua_State *L)
{
    lunl_loop *loop = check_report(L);
    if (loop->in_handler)
        lunl_report(L, loop, NULL);
    else if (deliver_protected(L, loop, 1))
        return lua_error(L);
    return 0;
}

/* --- loop:default_exception_handler(context)
 * Prints the report to stderr, in one piece: the message, `future: ...` and other keys, the
 * error, its traceback. Throws TypeError. Does not suspend. */
static int l_default_exception_handler(lua_State *L)
{
    check_report(L);
    lunl_print_context(L, 2);
    return 0;
}

const luaL_Reg lunl_fault_methods[] = {
    {"set_exception_handler", l_set_exception_handler},
    {"get_exception_handler", l_get_exception_handler},
    {"call_exception_handler", l_call_exception_handler},
    {"default_exception_handler", l_default_exception_handler},
    {NULL, NULL},
};

void lunl_open_fault(lua_State *L)
{
    lunl_newtype(L, &report_type, NULL, NULL);
    lua_pop(L, 1);
}
