/* SPDX-License-Identifier: MIT */
/*
 * file.c - File: how the object and its descriptor come together and part, where it is, and the
 * calls that read and write nothing. The laws are in file.h.
 */
#include "file.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const lunl_type lunl_file_type = {"File"};

static const lunl_file gone = {.users = LUNL_NO_PARK(gone.users)};

static const char *path_of(lua_State *L, int idx)
{
    lua_getiuservalue(L, idx, 2);
    const char *path = lua_tostring(L, -1);
    return path ? path : "?";
}

void lunl_file_fail(lua_State *L, int err, const char *what)
{
    lunl_fs_throw(L, err, what, path_of(L, 1), NULL);
}

/* ---- from the descriptor to the object and back ---- */

lunl_file *lunl_check_file(lua_State *L)
{
    return lunl_check_box(L, 1, &lunl_file_type);
}

static void closing(lunl_handle *h)
{
    lunl_desc *d = ((lunl_file_handle *)h)->d;
    lunl_file *f = d->file;
    d->h = NULL;
    d->file = NULL;
    f->d = NULL;
    lun_park_grant_all(&f->users);
    lunl_desc_drop(d);
    lunl_core_drop(&f->core);
}

static lun_job *queued(lunl_handle *h)
{
    (void)h;
    return NULL; /* it has no job */
}

static const lunl_handle_kind handle_kind = {
    .name = "file", .closing = closing, .queued = queued};

static void left(lun_park *p)
{
    lunl_file *f = lun_container(p, lunl_file, users);
    if (f->d && f->mine)
        lunl_desc_cancel(f->d);
    f->mine = false;
}

void lunl_file_push(lua_State *L, int fd, const char *path, int flags, size_t limit,
                    bool *owned)
{
    lunl_loop *loop = lunl_S(L)->loop;
    lun_loop *core = &loop->loop;
    lunl_io_of(L, loop);
    lunl_file *f = lunl_box_new(L, loop, &lunl_file_type, sizeof *f, 2, &gone.core);
    lun_park_init(&f->users, core, NULL);
    f->users.left = left;
    lua_pushstring(L, path);
    lua_setiuservalue(L, -2, 2);
    lunl_desc *d = lun_loop_alloc(core, sizeof *d);
    lunl_file_handle *h = lunl_handle_new(loop, &handle_kind, sizeof *h);
    if (!d || !h) {
        lun_loop_free(core, d, sizeof *d);
        if (h)
            lunl_handle_discard(&h->h);
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    }
    f->d = d;
    f->limit = limit;
    lunl_core_own(&f->core);
    *d = (lunl_desc){.loop = loop, .h = h, .file = f, .fd = fd};
    d->append = flags & O_APPEND;
    d->pos = lseek(fd, 0, (flags & (O_APPEND | O_RDWR)) == O_APPEND ? SEEK_END : SEEK_CUR);
    if (d->pos < 0)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); /* law 3 */
    h->d = d;
    *owned = true;
    lunl_polls_forget(loop, fd);
    lunl_handle_opened(&h->h, NULL);
}

static void closed_error(lua_State *L, const char *what)
{
    const char *path = path_of(L, 1);
    lunl_error_uv(L, UV_EBADF, what, path);
    lua_pushfstring(L, "%s %s: the file is closed", what, path);
    lunl_error_set(L, -2, "message");
    lua_pushstring(L, path);
    lunl_error_set(L, -2, "path");
    lua_error(L);
}

/* The file at 1, open and of the running loop. */
static lunl_file *check_open(lua_State *L, lunl_state *S, const char *what)
{
    lunl_file *f = lunl_check_file(L);
    if (!f->d)
        closed_error(L, what);
    if (S->loop != f->d->loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: the file belongs to another event loop",
                   what);
    return f;
}

lunl_file *lunl_file_enter(lua_State *L, lunl_state *S, const char *what, lun_task **t)
{
    lunl_file *f = check_open(L, S, what);
    *t = lunl_enter(L, S);
    if (f->busy)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: another task is using this file", what);
    f->mine = f->ended = false;
    f->taken = f->searched = f->off = 0;
    lunl_desc *d = f->d;
    if (d->shared && !d->in_flight && lunl_buffer_size(&d->in) == 0)
        d->pos = lseek(d->fd, 0, SEEK_CUR);
    return f;
}

int lunl_file_wait(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f, lua_KContext ctx,
                   lua_KFunction k)
{
    f->busy = true;
    lun_park_wait(&f->users, t);
    return lunl_suspend(L, S, ctx, k);
}

void lunl_file_still(lua_State *L, const lunl_file *f, const char *what)
{
    if (!f->d)
        lunl_file_fail(L, UV_ECANCELED, what);
}

lun_task *lunl_file_resumed(lua_State *L, lunl_state *S, lunl_file *f, const char *what)
{
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    if (f->d)
        f->busy = false;
    if (interrupted)
        lunl_throw_cancelled(L, S);
    lunl_file_still(L, f, what);
    return t;
}

/* ---- calls of one request ---- */

static const char *const call_name[] = {"read", "write", "stat",
                                        "sync", "sync",  "truncate"};

static int push_result(lua_State *L, lunl_file *f, enum lunl_file_call call)
{
    if (f->d->result < 0)
        lunl_file_fail(L, (int)f->d->result, call_name[call]);
    if (call == LUNL_FILE_STAT) {
        uv_stat_t st = f->d->req.statbuf;
        lunl_fs_push_stat(L, &st);
    } else {
        lua_settop(L, 1);
    }
    return 1;
}

static int on_called(lua_State *L, int status, lua_KContext ctx);

static int call_on(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f,
                   enum lunl_file_call call)
{
    if (!f->d->in_flight && !f->mine) {
        f->mine = true;
        lunl_desc_call(f->d, call);
    }
    if (f->d->in_flight)
        return lunl_file_wait(L, S, t, f, call, on_called);
    return push_result(L, f, call);
}

static int on_called(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_file *f = lunl_file_at(L);
    lun_task *t = lunl_file_resumed(L, S, f, call_name[ctx]);
    return call_on(L, S, t, f, (enum lunl_file_call)ctx);
}

/* --- file:stat() -> as fs.stat, about the open file, under whatever name. Throws OSError.
 * Suspends, safe to cancel. */
static int l_stat(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t;
    lunl_file *f = lunl_file_enter(L, S, "stat", &t);
    return call_on(L, S, t, f, LUNL_FILE_STAT);
}

/* --- file:sync(data_only) -> file: what has been written is on the disk afterwards; data_only:
 * without facts, such as the times, that reading the bytes does not need. Throws OSError.
 * Suspends, safe to cancel. */
static int l_sync(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t;
    lunl_file *f = lunl_file_enter(L, S, "sync", &t);
    return call_on(L, S, t, f, lua_toboolean(L, 2) ? LUNL_FILE_DATASYNC : LUNL_FILE_SYNC);
}

static int on_truncate(lua_State *L, int status, lua_KContext ctx);

static int truncate_on(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f)
{
    if (f->d->in_flight)
        return lunl_file_wait(L, S, t, f, 0, on_truncate);
    f->d->size = lua_isnil(L, 2) ? lunl_desc_at(f->d) : lua_tointeger(L, 2);
    lunl_desc_unread(f->d);
    return call_on(L, S, t, f, LUNL_FILE_TRUNCATE);
}

static int on_truncate(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lunl_file *f = lunl_file_at(L);
    lun_task *t = lunl_file_resumed(L, S, f, "truncate");
    return truncate_on(L, S, t, f);
}

/* --- file:truncate(size) -> file: makes it `size` bytes long, with zeros at its end if it grows;
 * nil: it ends at the position, which stays. Throws OSError. Suspends; cancelled, it may still
 * happen. */
static int l_truncate(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t;
    lua_settop(L, 2);
    lunl_check_file(L);
    if (!lua_isnil(L, 2))
        lunl_check_integer(L, 2, 0, LUA_MAXINTEGER);
    lunl_file *f = lunl_file_enter(L, S, "truncate", &t);
    return truncate_on(L, S, t, f);
}

/* --- file:fileno() -> the number of its descriptor, for C libraries and children, which go on from
 * where the file stands, as the file does from where they have got. Throws OSError on a closed
 * file, RuntimeError while a task uses it. Does not suspend. */
static int l_fileno(lua_State *L)
{
    const lunl_file *f = check_open(L, lunl_S(L), "fileno");
    lunl_desc *d = f->d;
    if (d->pos >= 0) {
        if (f->busy || d->in_flight)
            lunl_throw(L, LUNL_RUNTIME_ERROR, "fileno: the file is in use");
        lunl_desc_unread(d);
        if (!d->shared) {
            d->shared = true;
            lunl_desc_move(d, d->pos);
        }
    }
    lua_pushinteger(L, d->fd);
    return 1;
}

/* ---- the end ---- */

/* --- file:close() -> true: closes it. A task that waits in one of its calls gets OSError
 * ECANCELED, and the descriptor is closed when the pool is done with it. Throws OSError "close
 * path: CODE" if the system reports one, with the file closed; `sync` before it hears of such
 * errors in time. Closing twice is harmless. Does not suspend. Also called at the end of the block
 * of a `<close>` variable. */
static int l_close(lua_State *L)
{
    lunl_file *f = lunl_check_file(L);
    lunl_desc *d = f->d;
    int err = 0;
    lua_settop(L, 1);
    lua_pushboolean(L, true);
    if (!d)
        return 1;
    if (!d->in_flight) {
        uv_fs_t req;
        err = uv_fs_close(NULL, &req, d->fd, NULL);
        uv_fs_req_cleanup(&req);
        d->fd = -1;
    }
    lunl_handle_close(&d->h->h);
    if (err < 0)
        lunl_file_fail(L, err, "close");
    return 1;
}

/* --- file:__gc(): a file that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    lunl_file *f = lunl_test_box(L, 1, &lunl_file_type);
    if (!f || f == &gone)
        return 0;
    lunl_loop *loop = f->d ? f->d->loop : NULL;
    lunl_orphan_park(L, &f->users);
    if (f->d)
        lunl_handle_close(&f->d->h->h);
    lunl_box_leave(L, &gone.core, loop);
    return 0;
}

/* --- file:__tostring() -> "<File open /path>" or "<File closed /path>" */
static int l_tostring(lua_State *L)
{
    const lunl_file *f = lunl_check_file(L);
    lua_pushfstring(L, "<File %s %s>", f->d ? "open" : "closed", path_of(L, 1));
    return 1;
}

void lunl_open_file_type(lua_State *L)
{
    static const luaL_Reg methods[] = {{"stat", l_stat},         {"sync", l_sync},
                                       {"truncate", l_truncate}, {"fileno", l_fileno},
                                       {"close", l_close},       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_newtype(L, &lunl_file_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_file_read_methods);
    lunl_register(L, lunl_file_write_methods);
    lua_pop(L, 2);
}
