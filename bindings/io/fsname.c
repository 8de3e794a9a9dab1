/* SPDX-License-Identifier: MIT */
/*
 * fsname.c - lunation.fs.core, the other half: names, links, permissions and times. What fs.c
 * says at its top holds here, too.
 */
#include "fs.h"
#include "net.h"

#include <unistd.h>

static int exists_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_stat(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static int exists_push(lua_State *L, lun_op *op)
{
    const lunl_fsop *o = (lunl_fsop *)op;
    if (op->status < 0 && op->status != UV_ENOENT && op->status != UV_ENOTDIR)
        lunl_fs_throw(L, op->status, "stat", o->path, NULL);
    lua_pushboolean(L, op->status >= 0);
    return 1;
}

static const lunl_fskind exists_kind = {
    .kind = {{{"exists", lun_op_cancel_kind}, lunl_fsop_abort, lunl_fsop_fini},
             exists_push,
             NULL},
    .name = "stat",
    .begin = exists_begin};

/* --- fs.exists(path) -> boolean: whether the path leads to anything; false, too, for a symbolic
 * link that leads nowhere. Throws OSError where that cannot be told, EACCES for example. Suspends,
 * safe to cancel. */
static int l_exists(lua_State *L)
{
    return lunl_fsop_about(L, &exists_kind);
}

static int unlink_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_unlink(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static const lunl_fskind unlink_kind = {LUNL_FSKIND("unlink"), .begin = unlink_begin};

/* --- fs.unlink(path): removes a file, or a link itself; not a folder. Suspends. */
static int l_unlink(lua_State *L)
{
    return lunl_fsop_about(L, &unlink_kind);
}

static int rename_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_rename(uv, &o->req.fs, o->path, o->dest, lunl_fsop_on);
}

static const lunl_fskind rename_kind = {LUNL_FSKIND("rename"), .begin = rename_begin};

/* --- fs.rename(from, to): gives a file or folder another name on the same file system, else
 * EXDEV; a file that had that name is replaced in one step. Suspends. */
static int l_rename(lua_State *L)
{
    return lunl_fsop_await(L, lunl_fsop_about_two(L, &rename_kind));
}

static int symlink_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_symlink(uv, &o->req.fs, o->path, o->dest, 0, lunl_fsop_on);
}

static const lunl_fskind symlink_kind = {LUNL_FSKIND("symlink"), .begin = symlink_begin};

/* --- fs.symlink(target, path): makes a symbolic link at `path` with the text `target`, which
 * need not exist. Suspends. */
static int l_symlink(lua_State *L)
{
    return lunl_fsop_await(L, lunl_fsop_about_two(L, &symlink_kind));
}

static int link_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_link(uv, &o->req.fs, o->path, o->dest, lunl_fsop_on);
}

static const lunl_fskind link_kind = {LUNL_FSKIND("link"), .begin = link_begin};

/* --- fs.link(path, new): gives a file another name, on the same file system. Suspends. */
static int l_link(lua_State *L)
{
    return lunl_fsop_await(L, lunl_fsop_about_two(L, &link_kind));
}

static int chmod_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_chmod(uv, &o->req.fs, o->path, o->mode, lunl_fsop_on);
}

static const lunl_fskind chmod_kind = {LUNL_FSKIND("chmod"), .begin = chmod_begin};

/* --- fs.chmod(path, mode): sets the permission bits, 0 to 4095 (octal 7777). Suspends. */
static int l_chmod(lua_State *L)
{
    lunl_check_path(L, 1);
    int mode = (int)lunl_check_integer(L, 2, 0, LUNL_MODE_MOST);
    lunl_fsop *o = lunl_fsop_new(L, &chmod_kind, 0);
    o->mode = mode;
    return lunl_fsop_await(L, o);
}

static int chown_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return (o->flags ? uv_fs_lchown : uv_fs_chown)(
        uv, &o->req.fs, o->path, (uv_uid_t)o->mode, (uv_gid_t)o->size, lunl_fsop_on);
}

static const lunl_fskind chown_kind = {LUNL_FSKIND("chown"), .begin = chown_begin};

bool lunl_fs_follows(lua_State *L, int arg)
{
    return !lunl_opt_table(L, arg) || lunl_flag(L, arg, "follow", true);
}

/* --- fs.chown(path, uid, gid, opts): sets owner and group, numbers; -1 leaves one as it is.
 * opts: follow = false: of a symbolic link itself. Suspends. */
static int l_chown(lua_State *L)
{
    lunl_check_path(L, 1);
    lua_Integer uid = lunl_check_integer(L, 2, -1, UINT32_MAX - 1);
    lua_Integer gid = lunl_check_integer(L, 3, -1, UINT32_MAX - 1);
    bool follow = lunl_fs_follows(L, 4);
    lunl_fsop *o = lunl_fsop_new(L, &chown_kind, 0);
    o->mode = (int)uid;
    o->size = gid;
    o->flags = !follow;
    return lunl_fsop_await(L, o);
}

const luaL_Reg lunl_fs_name_functions[] = {
    {"exists", l_exists},   {"unlink", l_unlink}, {"rename", l_rename}, {"link", l_link},
    {"symlink", l_symlink}, {"chmod", l_chmod},   {"chown", l_chown},   {NULL, NULL}};
