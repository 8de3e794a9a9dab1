/* SPDX-License-Identifier: MIT */
/*
 * fsname.c - lunation.fs.core, the other half: names, links, permissions and times. What fs.c
 * says at its top holds here, too.
 */
#include "fs.h"
#include "net.h"

#include <unistd.h>

enum { MODE_MOST = 07777 };

static lunl_fsop *about_two(lua_State *L, const lunl_fskind *kind)
{
    lunl_check_path(L, 1);
    lunl_check_path(L, 2);
    return lunl_fsop_new(L, kind, 2);
}

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
    return lunl_fsop_await(L, about_two(L, &rename_kind));
}

static int copyfile_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_copyfile(uv, &o->req.fs, o->path, o->dest, o->flags, lunl_fsop_on);
}

static void copyfile_undo(lunl_fsop *o)
{
    if (o->flags & UV_FS_COPYFILE_EXCL)
        unlink(o->dest);
}

static int copyfile_push(lua_State *L, lunl_fsop *o)
{
    (void)L;
    o->taken = true;
    return 0;
}

static const lunl_fskind copyfile_kind = {LUNL_FSKIND("copyfile"), .begin = copyfile_begin,
                                          .push = copyfile_push, .undo = copyfile_undo};

/* --- core.copyfile(from, to, overwrite): copies bytes and permissions of one file, inside the
 * kernel where that can. Without `overwrite`, `to` must not exist (EEXIST), and a cancelled copy
 * is removed. Suspends. */
static int l_copyfile(lua_State *L)
{
    bool overwrite = lua_toboolean(L, 3);
    lunl_fsop *o = about_two(L, &copyfile_kind);
    o->flags = UV_FS_COPYFILE_FICLONE | (overwrite ? 0 : UV_FS_COPYFILE_EXCL);
    return lunl_fsop_await(L, o);
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
    return lunl_fsop_await(L, about_two(L, &symlink_kind));
}

static int link_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_link(uv, &o->req.fs, o->path, o->dest, lunl_fsop_on);
}

static const lunl_fskind link_kind = {LUNL_FSKIND("link"), .begin = link_begin};

/* --- fs.link(path, new): gives a file another name, on the same file system. Suspends. */
static int l_link(lua_State *L)
{
    return lunl_fsop_await(L, about_two(L, &link_kind));
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
    int mode = (int)lunl_check_integer(L, 2, 0, MODE_MOST);
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

/* The answer to opts.follow at `arg`: false: the call is about a link itself. */
static bool follows(lua_State *L, int arg)
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
    bool follow = follows(L, 4);
    lunl_fsop *o = lunl_fsop_new(L, &chown_kind, 0);
    o->mode = (int)uid;
    o->size = gid;
    o->flags = !follow;
    return lunl_fsop_await(L, o);
}

static int utime_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return (o->flags ? uv_fs_lutime : uv_fs_utime)(uv, &o->req.fs, o->path, o->atime,
                                                   o->mtime, lunl_fsop_on);
}

static const lunl_fskind utime_kind = {LUNL_FSKIND("utime"), .begin = utime_begin};

/* --- fs.utime(path, atime, mtime, opts): sets the times of last access and change, in seconds
 * since 1970, to the microsecond. opts: follow = false: of a symbolic link itself. Suspends. */
static int l_utime(lua_State *L)
{
    enum { MOST = 1LL << 40 }; /* seconds that every system can store; no infinity */
    lunl_check_path(L, 1);
    double times[2];
    for (int i = 0; i < 2; i++) {
        times[i] = lunl_check_number(L, 2 + i);
        if (times[i] < -(double)MOST || times[i] > (double)MOST)
            lunl_arg_error(L, 2 + i, LUNL_VALUE_ERROR, "%f is no time", times[i]);
    }
    bool follow = follows(L, 4);
    lunl_fsop *o = lunl_fsop_new(L, &utime_kind, 0);
    o->atime = times[0];
    o->mtime = times[1];
    o->flags = !follow;
    return lunl_fsop_await(L, o);
}

const luaL_Reg lunl_fs_name_functions[] = {{"exists", l_exists}, {"unlink", l_unlink},
                                           {"rename", l_rename}, {"copyfile", l_copyfile},
                                           {"link", l_link},     {"symlink", l_symlink},
                                           {"chmod", l_chmod},   {"chown", l_chown},
                                           {"utime", l_utime},   {NULL, NULL}};
