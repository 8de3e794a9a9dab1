/* SPDX-License-Identifier: MIT */
/*
 * unix.c - streams and servers over Unix sockets. libuv would cut long paths, knows no abstract
 * names and calls a missing folder EACCES, so the system is asked directly; none of these calls
 * waits for anybody. A server's queue that is full is told at once, too: who connects then asks
 * again in a little while.
 */
#include "server.h"
#include "tls.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum {
    FIRST_PAUSE = 1000000, /* ns until a full queue is tried again; doubled each time ... */
    DOUBLINGS = 5          /* ... so often at most */
};

/* A socket in *fd: 0 or libuv's code. */
static int open_socket(int *fd)
{
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return *fd < 0 ? uv_translate_sys_error(errno) : 0;
}

/* Closes it, for a call that has just failed; libuv's code of that. */
static int give_up(int fd)
{
    int err = uv_translate_sys_error(errno);
    close(fd);
    return err;
}

/* ---- connecting ---- */

static int connect_socket(const lunl_addr *a, int *fd)
{
    struct sockaddr_storage sa;
    socklen_t size = lunl_addr_system(a, &sa);
    int err = open_socket(fd);
    if (err != 0 || connect(*fd, (const struct sockaddr *)&sa, size) == 0)
        return err;
    return give_up(*fd);
}

/* A call of connect_unix has its stream, which is closed as yet, its deadline and its mark here. */
enum { STREAM = 3, DEADLINE, HIGH_WATER };

static int connect_on(lua_State *L, lunl_state *S, lun_task *t, lua_KContext tries);

static int on_awake(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lun_future *on;
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_resumed(L, S, &on);
    return connect_on(L, S, t, ctx);
}

static int connect_on(lua_State *L, lunl_state *S, lun_task *t, lua_KContext tries)
{
    lunl_stream *s = lunl_stream_at(L, STREAM);
    lunl_loop *loop = S->loop;
    uint64_t deadline = (uint64_t)lua_tointeger(L, DEADLINE),
             now = lun_loop_time(&loop->loop);
    char text[LUNL_ADDR_TEXT];
    if (s->core.owners == 0) /* finalised: the state closes */
        lunl_fail_at(L, &s->peer, UV_ECANCELED, "connect_unix");
    if (now >= deadline)
        lunl_throw(L, LUNL_TIMEOUT_ERROR, "connect_unix %s: no connection in time",
                   lunl_addr_text(&s->peer, text));
    lunl_socket *socket;
    int fd, err = connect_socket(&s->peer, &fd);
    if (err == 0)
        err = lunl_adopt(loop, fd, &s->peer, false, &socket);
    if (err == 0) {
        lunl_socket_marks(socket, (size_t)lua_tointeger(L, HIGH_WATER));
        lunl_stream_own(s, &socket->c);
        lua_settop(L, STREAM);
        return 1;
    }
    if (err != UV_EAGAIN)
        lunl_fail_at(L, &s->peer, err, "connect_unix");
    uint64_t again = now + ((uint64_t)FIRST_PAUSE << tries);
    if (lun_task_sleep(t, again < deadline ? again : deadline) != 0)
        lun_task_yield(t);
    return lunl_suspend(L, S, tries < DOUBLINGS ? tries + 1 : tries, on_awake);
}

/* Fills `a` from the path at 1. */
static void check_address(lua_State *L, lunl_addr *a, const char *call)
{
    size_t len;
    const char *path = lunl_check_socket_path(L, 1, &len);
    int err = lunl_addr_unix(a, path, len);
    if (err == 0)
        return;
    lunl_error_addr(L, err, call, *path ? path : "(abstract name)");
    lua_pushvalue(L, 1);
    lunl_error_set(L, -2, "path");
    lua_error(L);
}

/* --- net.connect_unix(path, opts) -> Stream: a connection to the server at a path of at most 107
 * bytes; one that begins with NUL is an abstract name. opts: timeout (seconds), limit (bytes of a
 * line, 65536), high_water (65536) and tls as in connect, with a server_name. Throws OSError
 * "connect_unix path: CODE" (ENAMETOOLONG, ENOENT, ECONNREFUSED), TimeoutError. Suspends while the
 * server's queue is full; cancelled, nothing is left open. */
static int l_connect_unix(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_addr a;
    lunl_net_opts opts;
    if (lunl_tls_asked(L, 2))
        return lunl_tls_connect(L, 2, 0);
    check_address(L, &a, "connect_unix");
    lua_settop(L, 2);
    bool given = lunl_opt_table(L, 2);
    lunl_net_options(L, 2, given, &opts);
    double timeout = HUGE_VAL;
    if (lunl_option(L, 2, "timeout", LUA_TNUMBER) != LUA_TNIL)
        timeout = lua_tonumber(L, -1);
    lua_settop(L, 2);
    lunl_loop *loop = lunl_running_loop(L, S);
    lun_task *t = lunl_enter(L, S);
    lunl_spare_descriptors(L, loop, 1);
    lunl_stream_new(L, loop, &lunl_socket_transport, &a, opts.limit);
    lua_pushinteger(L, (lua_Integer)lun_loop_deadline(&loop->loop, timeout));
    lua_pushinteger(L, (lua_Integer)opts.high_water);
    if (!lunl_gives_way(S))
        return connect_on(L, S, t, 0);
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, on_awake);
}

/* ---- listening ---- */

/* True if there is a socket of that name to which nobody listens. */
static bool stale(const char *path, const lunl_addr *a)
{
    struct stat is;
    int fd;
    if (lstat(path, &is) != 0 || !S_ISSOCK(is.st_mode))
        return false;
    int err = connect_socket(a, &fd);
    if (err == 0)
        close(fd);
    return err == UV_ECONNREFUSED;
}

/* What listen_unix was asked for. */
typedef struct request {
    const char *file;  /* NULL: an abstract name */
    int backlog, mode; /* mode -1: as the process makes files */
    bool replace;
} request;

static int listen_socket(const request *r, const lunl_addr *a, int *fd)
{
    struct sockaddr_storage sa;
    const struct sockaddr *name = (const struct sockaddr *)&sa;
    socklen_t size = lunl_addr_system(a, &sa);
    int err = open_socket(fd);
    if (err != 0)
        return err;
    if (bind(*fd, name, size) != 0) {
        if (errno != EADDRINUSE || !r->replace || !r->file)
            return give_up(*fd);
        if (!stale(r->file, a)) {
            errno = EADDRINUSE;
            return give_up(*fd);
        }
        if (unlink(r->file) != 0 || bind(*fd, name, size) != 0)
            return give_up(*fd);
    }
    /* Before it listens, so that nobody gets in by the wrong mode. */
    if ((r->file && r->mode >= 0 && chmod(r->file, (mode_t)r->mode) != 0) ||
        listen(*fd, r->backlog) != 0) {
        err = give_up(*fd);
        if (r->file)
            unlink(r->file);
    }
    return err;
}

/* --- net.listen_unix(path, opts) -> Server: listens on a Unix socket; the path as in
 * connect_unix. opts: backlog (128); mode of the file, an integer such as tonumber("600", 8);
 * unlink (false): a socket file that is there already and that nobody listens on is replaced;
 * limit (65536 bytes of a line) of the accepted streams; tls as in listen. The file is removed when the server
 * closes, unless another one has taken its place. Throws OSError "listen_unix path: CODE"
 * (ENAMETOOLONG, ENOENT, EADDRINUSE, EACCES). Does not suspend. */
static int l_listen_unix(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_addr a;
    lunl_net_opts opts;
    if (lunl_tls_asked(L, 2))
        return lunl_tls_listen(L, 2);
    check_address(L, &a, "listen_unix");
    lua_settop(L, 2);
    bool given = lunl_opt_table(L, 2);
    lunl_net_options(L, 2, given, &opts);
    const char *path = lua_tostring(L, 1);
    request r = {.file = *path ? path : NULL, .backlog = LUNL_BACKLOG, .mode = -1};
    if (given) {
        r.backlog = (int)lunl_integer_option(L, 2, "backlog", 1, 65535, LUNL_BACKLOG);
        r.mode = (int)lunl_integer_option(L, 2, "mode", 0, 0777, -1);
        r.replace = lunl_flag(L, 2, "unlink", false);
    }
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_spare_descriptors(L, loop, 1);
    lunl_server *sv = lunl_server_new(L, loop, &opts);
    int fd, err = listen_socket(&r, &a, &fd);
    if (err == 0) {
        err = lunl_server_listen(sv, loop, fd, r.file);
        if (err != 0 && r.file)
            unlink(r.file);
    }
    if (err != 0)
        lunl_fail_at(L, &a, err, "listen_unix");
    return 1;
}

const luaL_Reg lunl_unix_functions[] = {
    {"connect_unix", l_connect_unix}, {"listen_unix", l_listen_unix}, {NULL, NULL}};
