/* SPDX-License-Identifier: MIT */
/*
 * fswork.c - work on files that libuv has no call for, done in its pool: truncating by path, and
 * removing a tree in one go, which never follows a link and works by descriptors, so that no
 * exchanged folder leads it astray. And reading links: libuv's calls allocate in the pool, and
 * realpath's result is not from the allocator that it goes back to.
 */
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int code_of(int e)
{
    return uv_translate_sys_error(e);
}

static void on_worked(uv_work_t *req, int status)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    lunl_fsop_over(o, status < 0 ? status : o->result);
}

/* ---- truncate ---- */

static void do_truncate(uv_work_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    int err;
    do
        err = truncate(o->path, o->size) == 0 ? 0 : errno;
    while (err == EINTR);
    o->result = err ? code_of(err) : 0;
}

static int truncate_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_queue_work(uv, &o->req.work, do_truncate, on_worked);
}

static const lunl_fskind truncate_kind = {LUNL_FSKIND("truncate"), .begin = truncate_begin};

/* --- fs.truncate(path, size): makes a file `size` (0) bytes long, with zeros at its end if it
 * grows. Throws OSError. Suspends. */
static int l_truncate(lua_State *L)
{
    lunl_check_path(L, 1);
    lua_Integer size =
        lua_isnoneornil(L, 2) ? 0 : lunl_check_integer(L, 2, 0, LUA_MAXINTEGER);
    lunl_fsop *o = lunl_fsop_new(L, &truncate_kind, 0);
    o->size = size;
    return lunl_fsop_await(L, o);
}

/* ---- readlink, realpath ---- */

static void do_readlink(uv_work_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    char text[PATH_MAX];
    ssize_t n = readlink(o->path, text, sizeof text);
    if (n >= 0)
        o->found = strndup(text, (size_t)n);
    o->result = n < 0 ? code_of(errno) : o->found ? 0 : UV_ENOMEM;
}

static int readlink_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_queue_work(uv, &o->req.work, do_readlink, on_worked);
}

static int found_push(lua_State *L, lunl_fsop *o)
{
    lua_pushstring(L, o->found);
    return 1;
}

static const lunl_fskind readlink_kind = {LUNL_FSKIND("readlink"), .begin = readlink_begin,
                                          .push = found_push};

/* --- fs.readlink(path) -> the text of a symbolic link. Suspends, safe to cancel. */
static int l_readlink(lua_State *L)
{
    return lunl_fsop_about(L, &readlink_kind);
}

static void do_realpath(uv_work_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    o->found = realpath(o->path, NULL);
    o->result = o->found ? 0 : code_of(errno);
}

static int realpath_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_queue_work(uv, &o->req.work, do_realpath, on_worked);
}

static const lunl_fskind realpath_kind = {LUNL_FSKIND("realpath"), .begin = realpath_begin,
                                          .push = found_push};

/* --- fs.realpath(path) -> the absolute path of what is there, without links, "." and "..".
 * Suspends, safe to cancel. */
static int l_realpath(lua_State *L)
{
    return lunl_fsop_about(L, &realpath_kind);
}

/* ---- rmtree ---- */

static int empty_folder(int fd);

/* Removes one entry of the folder `at`, whatever it is: 0 or errno. */
static int remove_entry(int at, const char *name)
{
    enum { TRIES = 20 };
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    int first = errno, err = 0;
    for (int i = 0; i < TRIES; i++) {
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return errno == ENOTDIR || errno == ELOOP ? first : errno == ENOENT ? 0 : errno;
        err = empty_folder(fd);
        if (err != 0)
            return err;
        err = unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : errno;
        /* Somebody, a cancelled request that still runs for example, has put something in. */
        if (err != ENOTEMPTY && err != EEXIST)
            return err;
    }
    return err;
}

/* Empties the folder and closes `fd`. The depth is bounded by the descriptors that there are. */
static int empty_folder(int fd)
{
    DIR *dir = fdopendir(fd);
    int err = 0;
    if (!dir) {
        err = errno;
        close(fd);
        return err;
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            err = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        err = remove_entry(fd, entry->d_name);
        if (err != 0)
            break;
    }
    closedir(dir);
    return err;
}

static void do_rmtree(uv_work_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    struct stat st;
    int err = 0;
    if (lstat(o->path, &st) != 0)
        err = errno;
    else
        err = remove_entry(AT_FDCWD, o->path);
    o->result = err == ENOENT && o->flags ? 0 : err ? code_of(err) : 0;
}

static int rmtree_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_queue_work(uv, &o->req.work, do_rmtree, on_worked);
}

static const lunl_fskind rmtree_kind = {LUNL_FSKIND("rmtree"), .begin = rmtree_begin,
                                        .stubborn = true};

/* --- core.rmtree(path, missing_ok): removes a folder with all that is in it, or a file; a link
 * itself, never what it leads to. The first thing that cannot be removed ends it. Suspends;
 * cancelled, it goes on in the pool. */
static int l_rmtree(lua_State *L)
{
    bool missing_ok = lua_toboolean(L, 2);
    lunl_check_path(L, 1);
    lunl_fsop *o = lunl_fsop_new(L, &rmtree_kind, 0);
    o->flags = missing_ok;
    return lunl_fsop_await(L, o);
}

/* --- core.remove_now(path) -> boolean: removes a file or a tree at once, whether or not a loop
 * runs: for cleaning up where nothing may suspend. False if that failed. Does not suspend. */
static int l_remove_now(lua_State *L)
{
    lua_pushboolean(L, remove_entry(AT_FDCWD, lunl_check_path(L, 1)) == 0);
    return 1;
}

/* --- core.unique() -> 12 letters and digits that nobody else has. Does not suspend. */
static int l_unique(lua_State *L)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char raw[12];
    char text[sizeof raw];
    int err = uv_random(NULL, NULL, raw, sizeof raw, 0, NULL);
    if (err != 0)
        lunl_throw_uv(L, err, "random", NULL);
    for (size_t i = 0; i < sizeof raw; i++)
        text[i] = letters[raw[i] % 32];
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

const luaL_Reg lunl_fs_work_functions[] = {{"truncate", l_truncate},
                                           {"readlink", l_readlink},
                                           {"realpath", l_realpath},
                                           {"rmtree", l_rmtree},
                                           {"remove_now", l_remove_now},
                                           {"unique", l_unique},
                                           {NULL, NULL}};
