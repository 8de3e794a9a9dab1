/* SPDX-License-Identifier: MIT */
/*
 * fswork.c - work on files that libuv has no call for, done in its pool: truncating by path, and
 * removing a tree in one go, which never follows a link and works by descriptors, so that no
 * exchanged folder leads it astray. And what its calls do not do well: those that read links
 * allocate in the pool, and realpath's result is not from the allocator that it goes back to;
 * those that set times cut off nanoseconds; the one that copies a file trusts the size that it
 * had at first, so it gets nothing out of /proc and spins for ever on a file that is cut
 * meanwhile, and when it fails it removes what was there before, a device for example.
 */
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
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

/* ---- utime ---- */

static void do_utime(uv_work_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    int flags = o->flags ? AT_SYMLINK_NOFOLLOW : 0;
    o->result = utimensat(AT_FDCWD, o->path, o->times, flags) == 0 ? 0 : code_of(errno);
}

static int utime_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_queue_work(uv, &o->req.work, do_utime, on_worked);
}

static const lunl_fskind utime_kind = {LUNL_FSKIND("utime"), .begin = utime_begin};

static struct timespec check_time(lua_State *L, int arg)
{
    enum { MOST = 1LL << 40, NANO = 1000000000 }; /* seconds that every system can store */
    double t = lunl_check_number(L, arg), whole = floor(t);
    if (!(t >= -(double)MOST && t <= (double)MOST))
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "%f is no time", t);
    long nano = lround((t - whole) * NANO);
    return (struct timespec){.tv_sec = (time_t)whole + nano / NANO, .tv_nsec = nano % NANO};
}

/* --- fs.utime(path, atime, mtime, opts): sets the times of last access and change, in seconds
 * since 1970; what stat says of another file comes out the same. opts: follow = false: of a
 * symbolic link itself. Suspends. */
static int l_utime(lua_State *L)
{
    lunl_check_path(L, 1);
    struct timespec times[2] = {check_time(L, 2), check_time(L, 3)};
    bool follow = lunl_fs_follows(L, 4);
    lunl_fsop *o = lunl_fsop_new(L, &utime_kind, 0);
    memcpy(o->times, times, sizeof times);
    o->flags = !follow;
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

/* ---- copyfile ---- */

/* Copies what is left of one file into another, which is empty, or until it is told to stop: 0 or
 * errno. */
static int pour(const lunl_fsop *o, int from, int to)
{
    enum { MOST = 1 << 24, PIECE = 65536 };
    char piece[PIECE];
    ssize_t n, put;
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    while (!atomic_load(&o->stop) && copy_file_range(from, NULL, to, NULL, MOST, 0) > 0)
        ;
    /* The kernel cannot, or thinks that it is done: what it thinks of /proc is wrong. */
    while ((n = read(from, piece, sizeof piece)) != 0) {
        for (ssize_t done = 0; done < n; done += put) {
            put = write(to, piece + done, (size_t)(n - done));
            if (put < 0 && errno != EINTR)
                return errno;
            if (put < 0)
                put = 0;
        }
        if (n < 0 && errno != EINTR)
            return errno;
        if (atomic_load(&o->stop))
            return ECANCELED;
    }
    return 0;
}

/* The file that is written, new or, with `overwrite`, not: its descriptor, or -1. */
static int open_dest(lunl_fsop *o)
{
    enum { MODE_OURS = 0600 }; /* until all is in it, nobody else reads it */
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC;
    int fd = open(o->dest, flags | O_EXCL, MODE_OURS);
    o->made = fd >= 0;
    if (fd < 0 && errno == EEXIST && o->flags) {
        /* ENXIO, rather than no end, for a pipe that nobody reads. */
        fd = open(o->dest, flags | O_NONBLOCK, MODE_OURS);
        if (fd >= 0)
            fcntl(fd, F_SETFL, 0);
    }
    return fd;
}

/* Only what is a file can be cut and gets the permissions; a device is written. */
static int copy_into(const lunl_fsop *o, int from, const struct stat *st, int to)
{
    struct stat there;
    if (fstat(to, &there) != 0)
        return errno;
    if (there.st_dev == st->st_dev && there.st_ino == st->st_ino)
        return 0;
    bool is_file = S_ISREG(there.st_mode);
    if (is_file && ftruncate(to, 0) != 0)
        return errno;
    int err = pour(o, from, to);
    if (err != 0 || !is_file || fchmod(to, st->st_mode & LUNL_MODE_MOST) == 0)
        return err;
    /* Who has made a file may do that, unless its file system knows no permissions. */
    return o->made && errno == EPERM ? 0 : errno;
}

static int copy_from(lunl_fsop *o, int from)
{
    struct stat st;
    if (fstat(from, &st) != 0)
        return errno;
    int to = open_dest(o);
    if (to < 0)
        return errno;
    int err = copy_into(o, from, &st, to);
    if (close(to) != 0 && err == 0 && errno != EINTR)
        err = errno;
    if (err != 0 && o->made)
        unlink(o->dest);
    return err;
}

static void do_copyfile(uv_work_t *req)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    int from = open(o->path, O_RDONLY | O_CLOEXEC);
    int err = from < 0 ? errno : copy_from(o, from);
    if (from >= 0)
        close(from);
    o->result = err ? code_of(err) : 0;
}

static void on_copied(uv_work_t *req, int status)
{
    lunl_fsop *o = lun_container(req, lunl_fsop, req.work);
    if (atomic_load(&o->stop) && !lun_future_done(&o->op.done))
        lun_future_settle(&o->op.done, LUN_CANCELLED);
    on_worked(req, status);
}

static int copyfile_begin(uv_loop_t *uv, lunl_fsop *o)
{
    return uv_queue_work(uv, &o->req.work, do_copyfile, on_copied);
}

/*
 * A cancel waits until the pool writes no more: it would write into, and remove, what whoever
 * tries again puts there.
 */
static lun_answer copyfile_cancel(lun_future *f, lun_task *by, lun_walk *walk)
{
    lunl_fsop *o = (lunl_fsop *)f;
    (void)by;
    (void)walk;
    if (!atomic_load(&o->stop))
        lunl_fsop_abort(&o->op);
    if (!o->op.in_flight)
        lun_future_settle(f, LUN_CANCELLED);
    return LUN_YES;
}

static void copyfile_undo(lunl_fsop *o)
{
    if (o->made)
        unlink(o->dest);
}

static int copyfile_push(lua_State *L, lunl_fsop *o)
{
    (void)L;
    o->taken = true;
    return 0;
}

static const lunl_fskind copyfile_kind = {
    .kind = {{{"copyfile", copyfile_cancel}, lunl_fsop_abort, lunl_fsop_fini},
             lunl_fsop_push,
             NULL},
    .name = "copyfile",
    .begin = copyfile_begin,
    .push = copyfile_push,
    .undo = copyfile_undo};

/* --- core.copyfile(from, to, overwrite): copies bytes and permissions of one file, inside the
 * kernel where that can; onto itself, nothing happens. Without `overwrite`, `to` must not exist
 * (EEXIST). Failed or cancelled, it stops, and a file that it has made is removed; then it throws.
 * Suspends. */
static int l_copyfile(lua_State *L)
{
    bool overwrite = lua_toboolean(L, 3);
    lunl_fsop *o = lunl_fsop_about_two(L, &copyfile_kind);
    o->flags = overwrite;
    return lunl_fsop_await(L, o);
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

const luaL_Reg lunl_fs_work_functions[] = {
    {"truncate", l_truncate},     {"utime", l_utime},       {"copyfile", l_copyfile},
    {"readlink", l_readlink},     {"realpath", l_realpath}, {"rmtree", l_rmtree},
    {"remove_now", l_remove_now}, {"unique", l_unique},     {NULL, NULL}};
