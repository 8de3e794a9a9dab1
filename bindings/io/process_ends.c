/* SPDX-License-Identifier: MIT */
/*
 * process_ends.c - pipes, and what of ours a child can be given.
 *
 * Real pipes, not socket pairs as libuv would make: a child may open its /dev/stdout anew. An end
 * that is for us is a Stream, one that is for a child a Descriptor, which is nothing but a number
 * that is closed in time. All are closed on exec; the copies that a child gets are its own.
 */
#include "process.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct descriptor {
    const lunl_type *type; /* first */
    int fd;                /* owned; -1 once closed */
} descriptor;

static const lunl_type descriptor_type = {"Descriptor"};

static descriptor *descriptor_new(lua_State *L)
{
    descriptor *d = lunl_new(L, &descriptor_type, sizeof *d, 0);
    d->fd = -1;
    return d;
}

/* --- descriptor:close() closes it, also at the end of the block of a `<close>` variable and when
 * it is collected. Harmless if it is closed. Does not suspend. */
static int l_close(lua_State *L)
{
    descriptor *d = lunl_check(L, 1, &descriptor_type);
    int fd = d->fd;
    d->fd = -1;
    if (fd >= 0)
        close(fd);
    return 0;
}

/* --- descriptor:__tostring() -> "<Descriptor 7>" or "<Descriptor closed>". */
static int l_tostring(lua_State *L)
{
    descriptor *d = lunl_check(L, 1, &descriptor_type);
    if (d->fd >= 0)
        lua_pushfstring(L, "<Descriptor %d>", d->fd);
    else
        lua_pushliteral(L, "<Descriptor closed>");
    return 1;
}

void lunl_open_descriptor_type(lua_State *L)
{
    static const luaL_Reg methods[] = {{"close", l_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_need_type(L, &descriptor_type, methods, meta);
}

/* One end, with the value that is to own it. */
typedef struct end {
    lunl_stream *s; /* or */
    descriptor *d;
    bool reads, writes;
} end;

/* Pushes the value for one end, which has nothing yet. */
static end push_end(lua_State *L, lunl_loop *loop, bool ours, bool reads, bool writes,
                    size_t limit)
{
    static const lunl_addr nowhere;
    end e = {.reads = reads, .writes = writes};
    if (ours)
        e.s = lunl_stream_new(L, loop, lunl_pipe_transport(reads, writes), &nowhere, limit);
    else
        e.d = descriptor_new(L);
    return e;
}

/* Gives the end its descriptor: 0, or libuv's code and it is closed. */
static int own(lunl_loop *loop, const end *e, int fd)
{
    int err = 0;
    if (e->d) {
        e->d->fd = fd;
        return 0;
    }
    lunl_socket *k = lunl_pipe_open(loop, fd, e->reads, e->writes, &err);
    if (k)
        lunl_stream_own(e->s, &k->c);
    else
        close(fd);
    return err;
}

/* Both ends get theirs; throws OSError. */
static int own_both(lua_State *L, lunl_loop *loop, const end *a, const end *b,
                    const int fds[2], const char *call)
{
    int err = own(loop, a, fds[0]), err2 = own(loop, b, fds[1]);
    if (err == 0 && err2 == 0)
        return 2;
    if (a->s)
        lunl_stream_close(a->s);
    if (b->s)
        lunl_stream_close(b->s);
    lunl_throw_uv(L, err ? err : err2, call, NULL);
}

static size_t limit_at(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg))
        return LUNL_LINE_LIMIT;
    return (size_t)lunl_check_integer(L, arg, 1, LUA_MAXINTEGER / 4);
}

/* --- core.pipe(ours, limit) -> reading end, writing end of a new pipe. `ours`: "r", "w", "rw" or
 * "" says which of the two is a Stream of the running loop, with lines of at most `limit` bytes
 * (64 KiB if nil); the other is a Descriptor. Throws OSError "pipe: CODE", RuntimeError if no loop
 * runs. Does not suspend. */
static int l_pipe(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    const char *ours = lunl_check_string(L, 1, NULL);
    bool r = strchr(ours, 'r'), w = strchr(ours, 'w');
    size_t limit = limit_at(L, 2);
    int fds[2];
    lunl_spare_descriptors(L, loop, 2);
    end reader = push_end(L, loop, r, true, false, limit);
    end writer = push_end(L, loop, w, false, true, limit);
    if (pipe2(fds, O_CLOEXEC) != 0)
        lunl_throw_uv(L, uv_translate_sys_error(errno), "pipe", NULL);
    return own_both(L, loop, &reader, &writer, fds, "pipe");
}

/* --- core.socketpair(limit) -> two connected Streams, with lines of at most `limit` bytes (64 KiB
 * if nil). Throws OSError "socketpair: CODE", RuntimeError if no loop runs. Does not suspend. */
static int l_socketpair(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    size_t limit = limit_at(L, 1);
    int fds[2];
    lunl_spare_descriptors(L, loop, 2);
    end a = push_end(L, loop, true, true, true, limit);
    end b = push_end(L, loop, true, true, true, limit);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        lunl_throw_uv(L, uv_translate_sys_error(errno), "socketpair", NULL);
    return own_both(L, loop, &a, &b, fds, "socketpair");
}

/* --- core.give(value): a child has got it: if it is a Stream it is closed here, since both share what
 * the child has made blocking. Does not suspend. */
static int l_give(lua_State *L)
{
    lunl_stream *s = lunl_test_box(L, 1, &lunl_stream_type);
    if (s)
        lunl_stream_close(s);
    return 0;
}

const luaL_Reg lunl_ends_functions[] = {
    {"pipe", l_pipe}, {"socketpair", l_socketpair}, {"give", l_give}, {NULL, NULL}};

/* ---- lending ---- */

static _Noreturn void closed(lua_State *L, const char *name, const char *what)
{
    lunl_error_uv(L, UV_EBADF, "spawn", name);
    lua_pushfstring(L, "spawn: %s: the %s is closed", name, what);
    lunl_error_set(L, -2, "message");
    lua_error(L);
    abort();
}

static void lend_stream(lua_State *L, lunl_state *S, lunl_stream *s, const char *name,
                        lunl_lent *lent)
{
    lunl_conn *c = s->c;
    if (!c)
        closed(L, name, "stream");
    if (S->loop != c->h.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "spawn: %s: the stream belongs to another event loop", name);
    if (!c->h.uv || c->layer)
        lunl_throw(L, LUNL_VALUE_ERROR,
                   "spawn: %s: the stream has no descriptor of its own", name);
    if (s->reader || s->writer)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "spawn: %s: another task is using the stream",
                   name);
    if (lunl_buffer_size(&c->in) > 0)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "spawn: %s: the stream has read ahead %d bytes",
                   name, (int)lunl_buffer_size(&c->in));
    if (c->queued > 0)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "spawn: %s: the stream has %d bytes to send",
                   name, (int)c->queued);
    lent->s = s;
    lent->fd = lunl_socket_fd((lunl_socket *)c);
}

/* False if the value at `arg` is no file of Lua's io library. */
static bool lend_file(lua_State *L, int arg, const char *name, lunl_lent *lent)
{
    luaL_Stream *file = luaL_testudata(L, arg, LUA_FILEHANDLE);
    if (!file)
        return false;
    if (!file->closef)
        closed(L, name, "file");
    fflush(file->f);
    lent->fd = fileno(file->f);
    return true;
}

void lunl_lend(lua_State *L, lunl_state *S, int arg, const char *name, lunl_lent *lent)
{
    *lent = (lunl_lent){.fd = -1};
    descriptor *d = lunl_test(L, arg, &descriptor_type);
    lunl_stream *s = lunl_test_box(L, arg, &lunl_stream_type);
    if (lua_isnoneornil(L, arg))
        return;
    if (lua_isinteger(L, arg)) {
        lua_Integer n = lua_tointeger(L, arg);
        if (n < 0 || n > INT32_MAX || fcntl((int)n, F_GETFD) < 0)
            closed(L, name, "descriptor");
        lent->fd = (int)n;
        if (n == STDOUT_FILENO)
            fflush(stdout); /* what was printed before comes first */
    } else if (d) {
        if (d->fd < 0)
            closed(L, name, "descriptor");
        lent->fd = d->fd;
    } else if (s) {
        lend_stream(L, S, s, name, lent);
    } else if (!lend_file(L, arg, name, lent)) {
        lunl_throw(L, LUNL_TYPE_ERROR,
                   "spawn: %s: stream, file or descriptor expected, got %s", name,
                   luaL_typename(L, arg));
    }
}
