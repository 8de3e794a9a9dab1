/* SPDX-License-Identifier: MIT */
/*
 * file_write.c - writing a File: what is written is copied, at most LUNL_FILE_CHUNK bytes at a
 * time, because the pool may work on it longer than the task lives, and is with the system when
 * `write` returns.
 */
#include "file.h"

#include <string.h>

/* Takes the next bytes of the strings from 2 on into `out`; *i: the next string. */
static void gather(lua_State *L, lunl_file *f, int *i)
{
    lunl_desc *d = f->d;
    int last = lua_gettop(L);
    size_t total = 0, size = lunl_buffer_size(&d->out);
    for (int k = *i; k <= last && total < LUNL_FILE_CHUNK; k++)
        total += lua_rawlen(L, k) - (k == *i ? f->off : 0);
    if (total > LUNL_FILE_CHUNK)
        total = LUNL_FILE_CHUNK;
    if (!lunl_buffer_reserve(&d->loop->loop, &d->out, total))
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    while (*i <= last && size < total) {
        size_t len;
        const char *p = lua_tolstring(L, *i, &len);
        size_t n = len - f->off < total - size ? len - f->off : total - size;
        memcpy(d->out.p + d->out.end, p + f->off, n);
        d->out.end += n;
        size += n;
        f->off += n;
        if (f->off == len) {
            ++*i;
            f->off = 0;
        }
    }
}

static int on_written(lua_State *L, int status, lua_KContext ctx);

/* Goes on from the string at `i`. */
static int write_on(lua_State *L, lunl_state *S, lun_task *t, lunl_file *f, int i)
{
    lunl_desc *d = f->d;
    for (;;) {
        if (d->in_flight)
            return lunl_file_wait(L, S, t, f, i, on_written);
        if (!f->mine) { /* the first look: what others have left goes */
            lunl_desc_unread(d);
            lunl_buffer_take(&d->loop->loop, &d->out, lunl_buffer_size(&d->out));
            f->mine = true;
        } else if (d->result < 0) {
            lunl_buffer_take(&d->loop->loop, &d->out, lunl_buffer_size(&d->out));
            lunl_file_fail(L, (int)d->result, "write");
        }
        if (lunl_buffer_size(&d->out) == 0)
            gather(L, f, &i);
        if (lunl_buffer_size(&d->out) == 0)
            break;
        lunl_desc_call(d, LUNL_FILE_WRITE);
    }
    lua_settop(L, 1);
    return 1;
}

static int on_written(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_file *f = lunl_file_at(L);
    lun_task *t = lunl_file_resumed(L, S, f, "write");
    return write_on(L, S, t, f, (int)ctx);
}

/* --- file:write(...) -> file: writes strings and numbers at the position, or at the end of a file
 * opened with "a"; they are with the system when it returns. Throws OSError "write path: CODE",
 * ENOSPC for example, after which a part may have been written, the position is behind that part,
 * and the file can be used. Suspends; cancelled, it stops after at most 1 MiB more, and `seek`
 * tells how far it came. */
static int l_write(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t;
    int n = lua_gettop(L);
    lunl_check_file(L);
    for (int i = 2; i <= n; i++) {
        if (lua_type(L, i) != LUA_TSTRING && lua_type(L, i) != LUA_TNUMBER)
            lunl_type_error(L, i, "string or number");
        lua_tolstring(L, i, NULL);
    }
    lunl_file *f = lunl_file_enter(L, S, "write", &t);
    return write_on(L, S, t, f, 2);
}

/* --- file:flush() -> file: for programs that expect it; a write keeps nothing back. Throws OSError
 * on a closed file. Does not suspend. */
static int l_flush(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t;
    lunl_file_enter(L, S, "flush", &t);
    lua_settop(L, 1);
    return 1;
}

const luaL_Reg lunl_file_write_methods[] = {
    {"write", l_write}, {"flush", l_flush}, {NULL, NULL}};
