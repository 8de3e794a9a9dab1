/* SPDX-License-Identifier: MIT */
/*
 * fs.c - lunation.fs.core: requests about paths, each one call of libuv in its pool. What is
 * better said in Lua stands on top of these in scripts/lunation/fs.lua.
 *
 * All of them throw OSError "call path: CODE" with the fields code, errno, syscall, path and, of
 * calls with two paths, dest; TypeError and ValueError for bad arguments, a NUL in a path among
 * them; RuntimeError outside a task. Cancelled while it waits for the pool, a request never
 * starts; one that runs goes on, see fs.h.
 */
#include "file.h"
#include "net.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODE_FILE = 0666, MODE_FOLDER = 0777 };

static int opt_mode(lua_State *L, int arg, int none)
{
    return lua_isnoneornil(L, arg) ? none
                                   : (int)lunl_check_integer(L, arg, 0, LUNL_MODE_MOST);
}

/* ---- open ---- */

static int open_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_open(uv, &o->req.fs, o->path, o->flags, o->mode, lunl_fsop_on);
}

static int open_push(lua_State *L, lunl_fsop *o)
{
    lunl_file_push(L, (int)o->req.fs.result, o->path, o->flags, o->limit, &o->taken);
    return 1;
}

static void open_undo(lunl_fsop *o)
{
    close((int)o->req.fs.result);
    if (o->flags & O_EXCL)
        unlink(o->path); /* it was not there before */
}

static const lunl_fskind open_kind = {LUNL_FSKIND("open"), .begin = open_begin,
                                      .push = open_push, .undo = open_undo,
                                      .opens = true};

/* The flags of open(2) for a mode of Lua's, or of C11 with "x"; -1: it is none. */
static int flags_of(const char *mode)
{
    int flags = *mode == 'r'   ? 0
                : *mode == 'w' ? O_CREAT | O_TRUNC
                : *mode == 'a' ? O_CREAT | O_APPEND
                : *mode == 'x' ? O_CREAT | O_EXCL
                               : -1;
    bool update = false, bytes = false, excl = *mode == 'x';
    if (flags < 0)
        return -1;
    for (const char *p = mode + 1; *p; p++) {
        bool *seen = *p == '+' ? &update : *p == 'b' ? &bytes : *p == 'x' ? &excl : NULL;
        if (!seen || *seen || (seen == &excl && *mode != 'w'))
            return -1;
        *seen = true;
    }
    if (excl)
        flags = O_CREAT | O_EXCL;
    return flags | (update ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY);
}

/* --- fs.open(path, mode, opts) -> File. mode: as io.open's, "r" if nil; with "x" ("x", "wx",
 * "x+", "w+x") the file must not exist. opts: mode (permissions of a new file, 0666 less the
 * umask), limit (bytes of a line, else LimitOverrunError; no limit). Suspends; cancelled, what
 * has been opened is closed again, and with "x" removed. */
static int l_open(lua_State *L)
{
    size_t limit = SIZE_MAX;
    int permissions = MODE_FILE;
    lunl_check_path(L, 1);
    int flags = lua_isnoneornil(L, 2) ? O_RDONLY : flags_of(lunl_check_string(L, 2, NULL));
    if (flags < 0)
        lunl_arg_error(L, 2, LUNL_VALUE_ERROR, "invalid mode '%s'", lua_tostring(L, 2));
    lua_settop(L, 3);
    if (lunl_opt_table(L, 3)) {
        limit =
            (size_t)lunl_integer_option(L, 3, "limit", 1, LUA_MAXINTEGER, LUA_MAXINTEGER);
        permissions = (int)lunl_integer_option(L, 3, "mode", 0, LUNL_MODE_MOST, MODE_FILE);
    }
    lunl_spare_descriptors(L, lunl_running_loop(L, lunl_S(L)), 1);
    lunl_fsop *o = lunl_fsop_new(L, &open_kind, 0);
    o->flags = flags;
    o->mode = permissions;
    o->limit = limit;
    return lunl_fsop_await(L, o);
}

/* ---- facts ---- */

static double seconds(const uv_timespec_t *t)
{
    return (double)t->tv_sec + (double)t->tv_nsec / 1e9;
}

static const char *type_of(uint64_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "link";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
        return "char";
    case S_IFBLK:
        return "block";
    }
    return "unknown";
}

void lunl_fs_push_stat(lua_State *L, const uv_stat_t *st)
{
    const struct {
        const char *name;
        uint64_t n;
    } integers[] = {{"size", st->st_size},       {"mode", st->st_mode & LUNL_MODE_MOST},
                    {"dev", st->st_dev},         {"ino", st->st_ino},
                    {"nlink", st->st_nlink},     {"uid", st->st_uid},
                    {"gid", st->st_gid},         {"rdev", st->st_rdev},
                    {"blksize", st->st_blksize}, {"blocks", st->st_blocks}};
    const struct {
        const char *name;
        const uv_timespec_t *t;
    } times[] = {{"atime", &st->st_atim},
                 {"mtime", &st->st_mtim},
                 {"ctime", &st->st_ctim},
                 {"birthtime", &st->st_birthtim}};
    lua_createtable(L, 0, 15);
    lua_pushstring(L, type_of(st->st_mode));
    lua_setfield(L, -2, "type");
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        lua_pushinteger(L, (lua_Integer)integers[i].n);
        lua_setfield(L, -2, integers[i].name);
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        lua_pushnumber(L, seconds(times[i].t));
        lua_setfield(L, -2, times[i].name);
    }
}

static int stat_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_stat(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static int stat_push(lua_State *L, lunl_fsop *o)
{
    lunl_fs_push_stat(L, &o->req.fs.statbuf);
    return 1;
}

static const lunl_fskind stat_kind = {LUNL_FSKIND("stat"), .begin = stat_begin,
                                      .push = stat_push};

/* --- fs.stat(path) -> {type, size, mode, mtime, atime, ctime, birthtime, ino, dev, nlink, uid,
 * gid, rdev, blksize, blocks}: about what the path leads to. type: "file", "directory", "link",
 * "fifo", "socket", "char", "block"; mode: the permission bits; times: seconds as floats.
 * Suspends, safe to cancel. */
static int l_stat(lua_State *L)
{
    return lunl_fsop_about(L, &stat_kind);
}

static int lstat_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_lstat(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static const lunl_fskind lstat_kind = {LUNL_FSKIND("lstat"), .begin = lstat_begin,
                                       .push = stat_push};

/* --- fs.lstat(path) -> as fs.stat, but about a symbolic link itself. Suspends, safe to cancel. */
static int l_lstat(lua_State *L)
{
    return lunl_fsop_about(L, &lstat_kind);
}

static int access_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_access(uv, &o->req.fs, o->path, o->mode, lunl_fsop_on);
}

static int true_push(lua_State *L, lunl_fsop *o)
{
    (void)o;
    lua_pushboolean(L, true);
    return 1;
}

static const lunl_fskind access_kind = {LUNL_FSKIND("access"), .begin = access_begin,
                                        .push = true_push};

/* --- fs.access(path, how) -> true, or throws OSError EACCES and the like: whether this process
 * may read ("r"), write ("w"), execute or enter ("x") it; how: letters of these, "" or nil:
 * whether it is there. Suspends, safe to cancel. */
static int l_access(lua_State *L)
{
    int mode = F_OK;
    lunl_check_path(L, 1);
    const char *how = lua_isnoneornil(L, 2) ? "" : lunl_check_string(L, 2, NULL);
    if (how[strspn(how, "rwx")] != '\0')
        lunl_arg_error(L, 2, LUNL_VALUE_ERROR, "letters of 'rwx' expected, got '%s'", how);
    for (; *how; how++)
        mode |= *how == 'r' ? R_OK : *how == 'w' ? W_OK : X_OK;
    lunl_fsop *o = lunl_fsop_new(L, &access_kind, 0);
    o->mode = mode;
    return lunl_fsop_await(L, o);
}

/* ---- folders ---- */

static int mkdir_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_mkdir(uv, &o->req.fs, o->path, o->mode, lunl_fsop_on);
}

static const lunl_fskind mkdir_kind = {LUNL_FSKIND("mkdir"), .begin = mkdir_begin};

/* --- core.mkdir(path, mode): makes one folder; mode: 0777 if nil, less the umask. Suspends. */
static int l_mkdir(lua_State *L)
{
    lunl_check_path(L, 1);
    int mode = opt_mode(L, 2, MODE_FOLDER);
    lunl_fsop *o = lunl_fsop_new(L, &mkdir_kind, 0);
    o->mode = mode;
    return lunl_fsop_await(L, o);
}

static int rmdir_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_rmdir(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static const lunl_fskind rmdir_kind = {LUNL_FSKIND("rmdir"), .begin = rmdir_begin};

/* --- fs.rmdir(path): removes an empty folder. Suspends. */
static int l_rmdir(lua_State *L)
{
    return lunl_fsop_about(L, &rmdir_kind);
}

static int scandir_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_scandir(uv, &o->req.fs, o->path, 0, lunl_fsop_on);
}

static const char *const entry_types[] = {
    [UV_DIRENT_UNKNOWN] = "unknown", [UV_DIRENT_FILE] = "file",
    [UV_DIRENT_DIR] = "directory",   [UV_DIRENT_LINK] = "link",
    [UV_DIRENT_FIFO] = "fifo",       [UV_DIRENT_SOCKET] = "socket",
    [UV_DIRENT_CHAR] = "char",       [UV_DIRENT_BLOCK] = "block"};

static int scandir_push(lua_State *L, lunl_fsop *o)
{
    uv_dirent_t entry;
    lua_Integer n = 0;
    lua_createtable(L, o->req.fs.result < 1000000 ? (int)o->req.fs.result : 0, 0);
    while (uv_fs_scandir_next(&o->req.fs, &entry) == 0) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, entry.name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, entry_types[entry.type]);
        lua_setfield(L, -2, "type");
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const lunl_fskind scandir_kind = {LUNL_FSKIND("scandir"), .begin = scandir_begin,
                                         .push = scandir_push};

/* --- fs.scandir(path) -> list of {name, type} of what is in the folder, sorted by name, without
 * "." and "..". type: as stat's, or "unknown" where the file system does not tell. Suspends, safe
 * to cancel. */
static int l_scandir(lua_State *L)
{
    return lunl_fsop_about(L, &scandir_kind);
}

static int mkdtemp_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_mkdtemp(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static int mkdtemp_push(lua_State *L, lunl_fsop *o)
{
    lua_pushstring(L, o->req.fs.path);
    o->taken = true;
    return 1;
}

static void mkdtemp_undo(lunl_fsop *o)
{
    rmdir(o->req.fs.path);
}

static const lunl_fskind mkdtemp_kind = {LUNL_FSKIND("mkdtemp"), .begin = mkdtemp_begin,
                                         .push = mkdtemp_push, .undo = mkdtemp_undo};

/* --- core.mkdtemp(template) -> path of a new folder: the template ends with XXXXXX. Suspends;
 * cancelled, what has been made is removed again. */
static int l_mkdtemp(lua_State *L)
{
    return lunl_fsop_about(L, &mkdtemp_kind);
}

static int mkstemp_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_fs_mkstemp(uv, &o->req.fs, o->path, lunl_fsop_on);
}

static int mkstemp_push(lua_State *L, lunl_fsop *o)
{
    lua_pushstring(L, o->req.fs.path);
    lunl_file_push(L, (int)o->req.fs.result, o->req.fs.path, O_RDWR, SIZE_MAX, &o->taken);
    lua_insert(L, -2);
    return 2;
}

static void mkstemp_undo(lunl_fsop *o)
{
    close((int)o->req.fs.result);
    unlink(o->req.fs.path);
}

static const lunl_fskind mkstemp_kind = {LUNL_FSKIND("mkstemp"), .begin = mkstemp_begin,
                                         .push = mkstemp_push, .undo = mkstemp_undo,
                                         .opens = true};

/* --- core.mkstemp(template) -> File, path: a new file, open for reading and writing. Suspends;
 * cancelled, what has been made is removed again. */
static int l_mkstemp(lua_State *L)
{
    return lunl_fsop_about(L, &mkstemp_kind);
}

/* --- require "lunation.fs.core" -> the table of all these functions. */
int luaopen_lunation_fs_core(lua_State *L)
{
    static const luaL_Reg functions[] = {{"open", l_open},       {"stat", l_stat},
                                         {"lstat", l_lstat},     {"access", l_access},
                                         {"mkdir", l_mkdir},     {"rmdir", l_rmdir},
                                         {"scandir", l_scandir}, {"mkdtemp", l_mkdtemp},
                                         {"mkstemp", l_mkstemp}, {NULL, NULL}};
    lunl_ignore_sigpipe(); /* a FIFO may have lost its reader */
    lunl_open_file_type(L);
    lua_createtable(L, 0, 32);
    lunl_register(L, functions);
    lunl_register(L, lunl_fs_name_functions);
    lunl_register(L, lunl_fs_work_functions);
    lunl_register(L, lunl_fs_watch_functions);
    return 1;
}
