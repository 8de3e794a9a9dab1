/* SPDX-License-Identifier: MIT */
/*
 * file_read.c - reading a File with Lua's formats, and where it reads. Bytes are consumed when
 * the whole read has succeeded, so a cancelled or failed read loses none. The end of a file is
 * looked for by every read anew: it may have grown.
 */
#include "file.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * A read in progress has its arguments at 1 .. base and its results behind them; the context of
 * its continuation is base * 2 + how the arguments are to be understood.
 */
enum call { FORMATS, CALL_SOME };

static const char *const call_name[] = {"read", "read_some"};

static void wish(lua_State *L, enum call call, int i, lunl_want *w)
{
    *w = (lunl_want){0};
    if (call == FORMATS) {
        lunl_check_format(L, 2 + i, w);
    } else {
        w->kind = LUNL_SOME;
        w->n = lua_isnil(L, 2) ? LUNL_SOME_MAX : (size_t)lua_tointeger(L, 2);
    }
}

static enum lunl_found look(lunl_file *f, const lunl_want *w, lunl_look *k)
{
    const lunl_desc *d = f->d;
    size_t n = lunl_buffer_size(&d->in) - f->taken;
    *k = (lunl_look){.p = n ? d->in.p + d->in.start + f->taken : "",
                     .n = n,
                     .limit = f->limit,
                     .searched = f->searched,
                     .ended = f->ended};
    enum lunl_found found = lunl_look_for(w, k);
    f->searched = k->searched;
    return found;
}

/* Asks for more bytes, so many that there might be `need` for the wish. */
static void fill(lua_State *L, lunl_file *f, const lunl_look *k, enum call call)
{
    lunl_desc *d = f->d;
    size_t size = lunl_buffer_size(&d->in);
    size_t more = k->need == SIZE_MAX ? size : k->need - k->n;
    if (more > LUNL_FILE_CHUNK)
        more = LUNL_FILE_CHUNK;
    d->room = more > LUNL_CHUNK ? more : LUNL_CHUNK;
    if (!lunl_buffer_reserve(&d->loop->loop, &d->in, d->room))
        lunl_throw_uv(L, UV_ENOMEM, call_name[call], NULL);
    f->mine = true;
    lunl_desc_call(d, LUNL_FILE_READ);
}

/* What came of the last request, if it was this read's. */
static void heed(lua_State *L, lunl_file *f, enum call call)
{
    if (!f->mine)
        return;
    f->mine = false;
    if (f->d->result < 0)
        lunl_file_fail(L, (int)f->d->result, call_name[call]);
    f->ended = f->d->result == 0;
}

static int on_filled(lua_State *L, int status, lua_KContext ctx);

/* The wish that was granted, as a value; false: no further one is looked at. */
static bool take(lua_State *L, lunl_file *f, enum call call, const lunl_want *w,
                 const lunl_look *k)
{
    bool goes_on = lunl_push_found(L, w, k);
    lunl_file_still(L, f, call_name[call]);
    f->taken += k->use;
    f->searched = 0;
    return goes_on;
}

/* Goes on with the first wish that has no result yet. */
static int read_on(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f, lua_KContext ctx)
{
    enum call call = ctx & 1;
    int base = (int)(ctx >> 1), n = call == FORMATS ? base - 1 : 1;
    bool goes_on = true;
    if (f->d->in_flight) /* somebody's who was cancelled */
        return lunl_file_wait(L, S, t, f, ctx, on_filled);
    heed(L, f, call);
    for (int i = lua_gettop(L) - base; goes_on && i < n; i++) {
        lunl_want w;
        lunl_look k;
        wish(L, call, i, &w);
        enum lunl_found found;
        while ((found = look(f, &w, &k)) == LUNL_MORE) {
            fill(L, f, &k, call);
            if (f->d->in_flight)
                return lunl_file_wait(L, S, t, f, ctx, on_filled);
            heed(L, f, call);
        }
        if (found == LUNL_END) {
            lua_pushnil(L);
            goes_on = false;
        } else if (found == LUNL_GOT) {
            goes_on = take(L, f, call, &w, &k);
        } else {
            lua_getiuservalue(L, 1, 2);
            lunl_throw_found(L, found, &w, &k, lua_tostring(L, -1));
        }
    }
    lunl_file_still(L, f, call_name[call]);
    lunl_buffer_take(&f->d->loop->loop, &f->d->in, f->taken);
    return lua_gettop(L) - base;
}

static int on_filled(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_file *f = lunl_file_at(L);
    lun_task *t = lunl_file_resumed(L, S, f, call_name[ctx & 1]);
    return read_on(L, S, t, f, ctx);
}

/* Begins a read whose checked arguments are the whole stack. */
static int begin(lua_State *L, lunl_state *S, enum call call)
{
    lun_task *t;
    lua_KContext ctx = (lua_KContext)lua_gettop(L) << 1 | call;
    lunl_file *f = lunl_file_enter(L, S, call_name[call], &t);
    luaL_checkstack(L, lua_gettop(L) + 8, "too many formats");
    if (!lunl_gives_way(S))
        return read_on(L, S, t, f, ctx);
    f->busy = true;
    lun_task_yield(t);
    return lunl_suspend(L, S, ctx, on_filled);
}

static int read_formats(lua_State *L, lunl_state *S)
{
    lunl_want w;
    lunl_check_file(L);
    if (lua_gettop(L) == 1)
        lua_pushliteral(L, "l");
    for (int i = 2; i <= lua_gettop(L); i++)
        lunl_check_format(L, i, &w);
    return begin(L, S, FORMATS);
}

/* --- file:read(...) -> one value per format, as Lua's: "l" a line without its end (the default),
 * "L" with it, "a" all that is left, "n" a number, an integer that many bytes or, at the end,
 * fewer. nil at the end of the file, after which no further format is read; "a" gives "". Throws
 * OSError "read path: CODE"; LimitOverrunError for a line over opts.limit; RuntimeError if
 * another task uses the file. Suspends; cancelled or failed, it has consumed nothing. */
static int l_read(lua_State *L)
{
    return read_formats(L, lunl_S(L));
}

/* --- file:read_some(max) -> the bytes that one look at the file gives, at least one, at most
 * `max` (64 KiB if nil), or nil at its end. Throws as read does. Suspends; cancelled, it has
 * consumed nothing. */
static int l_read_some(lua_State *L)
{
    lua_settop(L, 2);
    lunl_check_file(L);
    if (!lua_isnil(L, 2))
        lunl_check_integer(L, 2, 1, LUA_MAXINTEGER);
    return begin(L, lunl_S(L), CALL_SOME);
}

/* --- iterator of file:lines(...): one read with its formats. */
static int l_next(lua_State *L)
{
    lunl_lines_args(L);
    return read_formats(L, lunl_S(L));
}

/* --- file:lines(...) -> an iterator that reads with these formats ("l" if none), at most 200,
 * each time it is called; a `for` loop over it ends at the end of the file, which stays open.
 * Does not suspend itself; the iterator does and throws as read does. */
static int l_lines(lua_State *L)
{
    lunl_check_file(L);
    return lunl_push_lines(L, l_next);
}

/* ---- the position ---- */

static const char *const whences[] = {"set", "cur", "end"};

static int on_sought(lua_State *L, int status, lua_KContext ctx);

/* The file has positions and nothing is in flight: goes to `base` + the offset at 3. */
static int go(lua_State *L, lunl_file *f, int64_t base)
{
    lunl_desc *d = f->d;
    int64_t to, at = lunl_desc_at(d);
    if (__builtin_add_overflow(base, (int64_t)lua_tointeger(L, 3), &to) || to < 0)
        lunl_file_fail(L, UV_EINVAL, "seek");
    if (to >= at && to <= d->pos) {
        lunl_buffer_take(&d->loop->loop, &d->in, (size_t)(to - at));
    } else {
        lunl_desc_unread(d);
        lunl_desc_move(d, to);
    }
    lua_pushinteger(L, to);
    return 1;
}

/* The size of a file of positions; what is no regular file says so itself. */
static int64_t end_of(const lunl_desc *d)
{
    const uv_stat_t *st = &d->req.statbuf;
    return S_ISREG(st->st_mode) ? (int64_t)st->st_size : lseek(d->fd, 0, SEEK_END);
}

static int seek_on(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f, int whence)
{
    lunl_desc *d = f->d;
    if (d->pos < 0)
        lunl_file_fail(L, UV_ESPIPE, "seek");
    if (!d->in_flight && whence == 2 && !f->mine) {
        f->mine = true;
        lunl_desc_call(d, LUNL_FILE_STAT);
    }
    if (d->in_flight)
        return lunl_file_wait(L, S, t, f, whence, on_sought);
    if (whence != 2)
        return go(L, f, whence == 0 ? 0 : lunl_desc_at(d));
    if (d->result < 0)
        lunl_file_fail(L, (int)d->result, "seek");
    return go(L, f, end_of(d));
}

static int on_sought(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_file *f = lunl_file_at(L);
    lun_task *t = lunl_file_resumed(L, S, f, "seek");
    return seek_on(L, S, t, f, (int)ctx);
}

/* --- file:seek(whence, offset) -> position: goes to `offset` (0) bytes from the beginning ("set"),
 * the position ("cur", the default) or the end ("end"), and returns where that is, counted from
 * the beginning; behind the end is fine. Throws OSError: ESPIPE for what has no positions, EINVAL
 * before the beginning. Suspends for "end"; safe to cancel. */
static int l_seek(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t;
    int whence;
    lua_settop(L, 3);
    lunl_check_file(L);
    const char *name = lua_isnil(L, 2) ? "cur" : lunl_check_string(L, 2, NULL);
    for (whence = 0; whence < 3 && strcmp(name, whences[whence]) != 0;)
        whence++;
    if (whence == 3)
        lunl_arg_error(L, 2, LUNL_VALUE_ERROR, "'set', 'cur' or 'end' expected, got '%s'",
                       name);
    if (!lua_isnil(L, 3))
        lunl_check_integer(L, 3, LUA_MININTEGER, LUA_MAXINTEGER);
    lunl_file *f = lunl_file_enter(L, S, "seek", &t);
    return seek_on(L, S, t, f, whence);
}

const luaL_Reg lunl_file_read_methods[] = {{"read", l_read},
                                           {"read_some", l_read_some},
                                           {"lines", l_lines},
                                           {"seek", l_seek},
                                           {NULL, NULL}};
