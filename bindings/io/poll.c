/* SPDX-License-Identifier: MIT */
/*
 * poll.c - loop:add_reader and its kin: callbacks for descriptors that are not ours.
 *
 * One watch per descriptor, for both directions. It is level-triggered: a callback that
 * leaves the descriptor readable is called again. A descriptor that was closed under its
 * watch is gone from the kernel's set without a word, and its number may come back as
 * another file: so adding always registers anew, and a socket of ours with that number ends
 * the watch.
 *
 * libuv tells the kernel of a watch only when it polls, and aborts if the descriptor is not
 * one any more, or cannot be watched. So those that it is about to tell of are looked at just
 * before: one whose file is gone is looked for no more, and its callbacks are called once, to
 * meet the error.
 */
#include "handle.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

typedef struct watch {
    lunl_handle h; /* first */
    uv_poll_t poll;
    int fd;                        /* the user's */
    struct stat is;                /* the file that it was when the watch was made */
    lunl_watcher *reader, *writer; /* owned; NULL: not wanted */
    lun_link fresh;                /* in polls->fresh until libuv polls, or alone */
} watch;

struct lunl_polls {
    watch **by_fd; /* owned */
    size_t room;
    lun_link fresh; /* ring of watch.fresh */
};

static watch *find(const lunl_loop *loop, int fd)
{
    const lunl_io *io = loop->io;
    const lunl_polls *polls = io ? io->polls : NULL;
    return polls && (size_t)fd < polls->room ? polls->by_fd[fd] : NULL;
}

static void watch_closing(lunl_handle *h)
{
    watch *w = (watch *)h;
    lun_list_drop(&w->fresh);
    if (find(h->loop, w->fd) != w)
        return;
    /* Not closed from here: `lunation test` closes what a test has left. */
    ((const lunl_io *)h->loop->io)->polls->by_fd[w->fd] = NULL;
    if (w->reader)
        lunl_watcher_drop(w->reader);
    if (w->writer)
        lunl_watcher_drop(w->writer);
}

static const lunl_handle_kind watch_kind = {.closing = watch_closing};

/* Takes the watch, whose functions are gone, away. */
static void end(watch *w)
{
    const lunl_io *io = w->h.loop->io;
    io->polls->by_fd[w->fd] = NULL;
    lunl_handle_close(&w->h);
}

static void due(lunl_watcher *w)
{
    if (w && !lunl_watcher_busy(w))
        lunl_watcher_due(w);
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* True if the descriptor still is the file that it was. */
static bool same_file(const watch *w)
{
    struct stat now;
    return fstat(w->fd, &now) == 0 && now.st_dev == w->is.st_dev &&
           now.st_ino == w->is.st_ino && (now.st_mode & S_IFMT) == (w->is.st_mode & S_IFMT);
}

/* libuv is about to poll. */
static void look_at_fresh(lun_loop *loop)
{
    lunl_polls *polls = ((const lunl_io *)lunl_loop_of(loop)->io)->polls;
    loop->polls = NULL;
    while (!lun_list_alone(&polls->fresh)) {
        watch *w = lun_container(polls->fresh.next, watch, fresh);
        lun_list_drop(&w->fresh);
        if (same_file(w))
            continue;
        uv_poll_stop(&w->poll);
        due(w->reader);
        due(w->writer);
    }
}

static int start(watch *w)
{
    int mask = (w->reader ? UV_READABLE : 0) | (w->writer ? UV_WRITABLE : 0);
    int err = uv_poll_start(&w->poll, mask, on_poll);
    if (err != 0)
        return err;
    lun_list_drop(&w->fresh);
    lun_list_push(&((const lunl_io *)w->h.loop->io)->polls->fresh, &w->fresh);
    w->h.loop->loop.polls = look_at_fresh;
    return 0;
}

/*
 * A descriptor in trouble stops libuv's watch and is both readable and writable, as for
 * select: what the callback does with it meets the error. (Asking for SO_ERROR here would
 * take that away.)
 */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    watch *w = lun_container(poll, watch, poll);
    if (status < 0) {
        events = UV_READABLE | UV_WRITABLE;
        start(w);
    }
    if (events & UV_READABLE)
        due(w->reader);
    if (events & UV_WRITABLE)
        due(w->writer);
}

void lunl_polls_forget(lunl_loop *loop, int fd)
{
    watch *w = find(loop, fd);
    if (!w)
        return;
    lunl_handle_close(&w->h);
}

/* Room for `fd` in the table; raises if there is no memory. */
static void reserve(lua_State *L, lunl_loop *loop, int fd)
{
    lunl_io *io = lunl_io_of(L, loop);
    if (!io->polls) {
        io->polls = lun_loop_alloc(&loop->loop, sizeof *io->polls);
        if (!io->polls)
            lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
        *io->polls = (lunl_polls){0};
        lun_list_init(&io->polls->fresh);
    }
    lunl_polls *polls = io->polls;
    size_t room = polls->room ? polls->room : 16;
    while (room <= (size_t)fd)
        room *= 2;
    if (room == polls->room)
        return;
    watch **by_fd = lun_loop_alloc(&loop->loop, room * sizeof *by_fd);
    if (!by_fd)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(by_fd, 0, room * sizeof *by_fd);
    if (polls->room)
        memcpy(by_fd, polls->by_fd, polls->room * sizeof *by_fd);
    lun_loop_free(&loop->loop, polls->by_fd, polls->room * sizeof *by_fd);
    polls->by_fd = by_fd;
    polls->room = room;
}

static _Noreturn void fail(lua_State *L, int fd, int err, const char *call)
{
    char text[16];
    if (err == UV_EEXIST)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "%s: descriptor %d is used by a stream", call,
                   fd);
    snprintf(text, sizeof text, "%d", fd);
    lunl_throw_uv(L, err, call, text);
}

/* A new watch for `fd`; libuv makes the file non-blocking, which is its owner's business.
 */
static watch *open_watch(lua_State *L, lunl_loop *loop, int fd, const char *call)
{
    struct stat is;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &is) != 0)
        fail(L, fd, uv_translate_sys_error(errno), call);
    reserve(L, loop, fd);
    watch *w = lunl_handle_new(loop, &watch_kind, sizeof *w);
    if (!w)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    int err = uv_poll_init(loop->loop.uv, &w->poll, fd);
    if (!(flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags);
    if (err != 0) {
        lunl_handle_discard(&w->h);
        fail(L, fd, err, call);
    }
    lunl_handle_opened(&w->h, (uv_handle_t *)&w->poll);
    w->fd = fd;
    w->is = is;
    lun_list_init(&w->fresh);
    ((lunl_io *)loop->io)->polls->by_fd[fd] = w;
    return w;
}

static int add(lua_State *L, const char *call, bool writer)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    int fd = (int)lunl_check_integer(L, 2, 0, INT_MAX);
    lunl_check_callable(L, 3);
    watch *w = find(loop, fd);
    if (w && !same_file(w)) {
        lunl_polls_forget(loop, fd);
        w = NULL;
    }
    if (!w)
        w = open_watch(L, loop, fd, call);
    /* From here on a watch without functions, after an error, is a watch that ends. */
    lunl_watcher *fn = lunl_watcher_new(L, loop, 3),
                 **place = writer ? &w->writer : &w->reader;
    if (*place)
        lunl_watcher_free(L, *place);
    *place = fn;
    int err = start(w);
    if (err == 0)
        return 0;
    lunl_watcher_free(L, fn);
    *place = NULL;
    if (!w->reader && !w->writer)
        end(w);
    fail(L, fd, err, call);
}

static int take_away(lua_State *L, bool writer)
{
    lunl_loop *loop = lunl_check_loop(L, 1);
    int fd = (int)lunl_check_integer(L, 2, 0, INT_MAX);
    watch *w = find(loop, fd);
    lunl_watcher **place = !w ? NULL : writer ? &w->writer : &w->reader;
    bool there = place && *place;
    if (there) {
        lunl_watcher_free(L, *place);
        *place = NULL;
        if (!w->reader && !w->writer)
            end(w);
        else
            start(w);
    }
    lua_pushboolean(L, there);
    return 1;
}

/* --- loop:add_reader(fd, callback, ...): callback(...) is called in the loop whenever the
 * descriptor (an integer) is readable or in trouble, until remove_reader; take it away before the
 * descriptor is closed: closed earlier, it is called once more, or never. A reader that it had is replaced. Throws OSError "add_reader fd:
 * CODE" (EPERM for a regular file), RuntimeError for a descriptor of a stream. Does not
 * suspend. */
static int l_add_reader(lua_State *L)
{
    return add(L, "add_reader", false);
}

/* --- loop:add_writer(fd, callback, ...): the same for a descriptor that can be written to.
 */
static int l_add_writer(lua_State *L)
{
    return add(L, "add_writer", true);
}

/* --- loop:remove_reader(fd) -> boolean: whether there was one. Calls that are due are
 * dropped. Does not suspend. */
static int l_remove_reader(lua_State *L)
{
    return take_away(L, false);
}

/* --- loop:remove_writer(fd) -> boolean: whether there was one. */
static int l_remove_writer(lua_State *L)
{
    return take_away(L, true);
}

const luaL_Reg lunl_poll_methods[] = {{"add_reader", l_add_reader},
                                      {"remove_reader", l_remove_reader},
                                      {"add_writer", l_add_writer},
                                      {"remove_writer", l_remove_writer},
                                      {NULL, NULL}};

void lunl_polls_close(lua_State *L, lunl_loop *loop)
{
    lunl_io *io = loop->io;
    if (!io)
        return;
    lunl_polls *polls = io->polls;
    loop->loop.polls = NULL;
    for (size_t fd = 0; polls && fd < polls->room; fd++)
        if (polls->by_fd[fd])
            lunl_polls_forget(loop, (int)fd);
    if (polls)
        lun_loop_free(&loop->loop, polls->by_fd, polls->room * sizeof *polls->by_fd);
    lun_loop_free(&loop->loop, polls, sizeof *polls);
    io->polls = NULL;
    lunl_records_close(L, loop);
}
