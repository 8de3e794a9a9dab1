/* SPDX-License-Identifier: MIT */
/*
 * fsop.c - the life of a request about a path: made, admitted to the pool, begun, over, taken
 * or undone. The laws are in fs.h.
 */
#include "fs.h"

#include <string.h>

static const lunl_fskind *kind_of(const lunl_fsop *o)
{
    return (const lunl_fskind *)o->op.done.kind;
}

const char *lunl_check_path(lua_State *L, int arg)
{
    size_t len;
    if (lua_type(L, arg) != LUA_TSTRING &&
        luaL_getmetafield(L, arg, "__fspath") != LUA_TNIL) {
        lua_pushvalue(L, arg);
        lua_call(L, 1, 1);
        lua_replace(L, arg);
    }
    const char *path = lunl_check_string(L, arg, &len);
    if (strlen(path) != len)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "path contains a NUL byte");
    return path;
}

void lunl_fsop_abort(lun_op *op)
{
    lunl_fsop *o = (lunl_fsop *)op;
    if (kind_of(o)->stubborn)
        return;
    if (lunl_lane_withdraw(&o->job)) {
        lun_op_withdrawn(op);
        return;
    }
    atomic_store(&o->stop, true);
    uv_cancel((uv_req_t *)&o->req);
}

void lunl_fsop_fini(lun_op *op)
{
    lunl_fsop *o = (lunl_fsop *)op;
    if (o->came && !o->taken && kind_of(o)->undo)
        kind_of(o)->undo(o);
    free(o->found);
    if (o->req.fs.type == UV_FS)
        uv_fs_req_cleanup(&o->req.fs);
}

void lunl_fsop_over(lunl_fsop *o, int status)
{
    o->came = status >= 0;
    lunl_lane_done(&o->job);
    lun_op_done(&o->op, status);
}

void lunl_fsop_on(uv_fs_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.fs);
    lunl_fsop_over(o, req->result < 0 ? (int)req->result : 0);
}

static int begin(lunl_lane_job *j)
{
    lunl_fsop *o = lun_container(j, lunl_fsop, job);
    return kind_of(o)->begin(j->loop->loop.uv, o);
}

static void failed(lunl_lane_job *j, int err)
{
    lun_op_done(&lun_container(j, lunl_fsop, job)->op, err);
}

lunl_fsop *lunl_fsop_new(lua_State *L, const lunl_fskind *kind, int dest)
{
    lunl_state *S = lunl_S(L);
    const char *path = lua_tostring(L, 1), *other = dest ? lua_tostring(L, dest) : NULL;
    size_t size = lua_rawlen(L, 1) + 1, other_size = dest ? lua_rawlen(L, dest) + 1 : 0;
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_enter(L, S);
    lunl_fsop *o = lunl_op_new(L, loop, &kind->kind, sizeof *o + size + other_size);
    memcpy(o->text, path, size);
    o->path = o->text;
    if (other) {
        memcpy(o->text + size, other, other_size);
        o->dest = o->text + size;
    }
    return o;
}

int lunl_fsop_await(lua_State *L, lunl_fsop *o)
{
    lunl_state *S = lunl_S(L);
    o->job.begin = begin;
    o->job.failed = failed;
    o->job.opens = kind_of(o)->opens;
    lunl_lane_start(S->loop, &o->job);
    return lunl_op_await(L, S, &o->op, 0, 0);
}

int lunl_fsop_about(lua_State *L, const lunl_fskind *kind)
{
    lunl_check_path(L, 1);
    lua_settop(L, 1);
    return lunl_fsop_await(L, lunl_fsop_new(L, kind, 0));
}

lunl_fsop *lunl_fsop_about_two(lua_State *L, const lunl_fskind *kind)
{
    lunl_check_path(L, 1);
    lunl_check_path(L, 2);
    return lunl_fsop_new(L, kind, 2);
}

void lunl_fs_throw(lua_State *L, int err, const char *call, const char *path,
                   const char *dest)
{
    if (err == UV_ENOMEM)
        lunl_throw_uv(L, err, NULL, NULL);
    const char *object = path;
    if (dest)
        object = lua_pushfstring(L, "%s -> %s", path, dest);
    lunl_error_uv(L, err, call, object);
    lua_pushstring(L, path);
    lunl_error_set(L, -2, "path");
    if (dest) {
        lua_pushstring(L, dest);
        lunl_error_set(L, -2, "dest");
    }
    lua_error(L);
    abort();
}

int lunl_fsop_push(lua_State *L, lun_op *op)
{
    lunl_fsop *o = (lunl_fsop *)op;
    const lunl_fskind *kind = kind_of(o);
    luaL_checkstack(L, 12, NULL);
    if (op->status < 0)
        lunl_fs_throw(L, op->status, kind->name, o->path, o->dest);
    return kind->push ? kind->push(L, o) : 0;
}
