/* SPDX-License-Identifier: MIT */
/*
 * fswatch.c - Watcher: what happens to a file, or to the entries of a folder, as the system tells
 * it (inotify). What nobody has taken yet waits in a bounded queue of the handle; when that is
 * full, one event says so and the rest is dropped.
 */
#include "box.h"
#include "fs.h"
#include "handle.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Events that wait at most. */
#if defined(LUN_CHAOS)
enum { QUEUE_MOST = 8 };
#else
enum { QUEUE_MOST = 1024 };
#endif

enum what { CHANGE, RENAME, OVERFLOW };

static const char *const kinds[] = {"change", "rename", "overflow"};

typedef struct event {
    lun_link link; /* in watch->events */
    enum what what;
    uint32_t size; /* of the whole block */
    bool named;
    char name[];
} event;

typedef struct watch {
    lunl_handle h; /* first */
    uv_fs_event_t uv;
    struct watcher *of; /* NULL once it closes */
    lun_link events;    /* ring of event.link, owned; oldest first */
    uint32_t n;
} watch;

/* Of its box user value 2 is the path. */
typedef struct watcher {
    lunl_core core; /* first; owned by box and watch */
    watch *w;       /* NULL once closed */
    lun_park next;  /* the task that waits for an event */
    bool folder;    /* the path is one: events name its entries */
    bool busy;
} watcher;

static const lunl_type watcher_type = {"Watcher"};

static const watcher gone = {.next = LUNL_NO_PARK(gone.next)};

static void discard(watch *w, event *e)
{
    lun_list_drop(&e->link);
    w->n--;
    lun_loop_free(&w->h.loop->loop, e, e->size);
}

static bool repeats(const watch *w, enum what what, const char *name)
{
    if (w->n == 0)
        return false;
    const event *last = lun_container(w->events.prev, event, link);
    return last->what == what && last->named == (name != NULL) &&
           (!name || strcmp(last->name, name) == 0);
}

/* The same as the last one is no news; where there is no room, that is. */
static void add(watch *w, enum what what, const char *name)
{
    if (w->n >= QUEUE_MOST) {
        what = OVERFLOW;
        name = NULL;
    }
    if (repeats(w, what, name))
        return;
    size_t size = sizeof(event) + (name ? strlen(name) + 1 : 0);
    event *e = lun_loop_alloc(&w->h.loop->loop, size);
    if (!e)
        return;
    *e = (event){.what = what, .size = (uint32_t)size, .named = name};
    if (name)
        strcpy(e->name, name);
    lun_list_push(&w->events, &e->link);
    w->n++;
}

static void on_event(uv_fs_event_t *uv, const char *name, int events, int status)
{
    watch *w = lun_container(uv, watch, uv);
    if (!w->of)
        return;
    add(w, status < 0 ? OVERFLOW : events & UV_RENAME ? RENAME : CHANGE, name);
    lun_park_grant(&w->of->next);
}

static void closing(lunl_handle *h)
{
    watch *w = (watch *)h;
    watcher *of = w->of;
    while (w->n > 0)
        discard(w, lun_container(w->events.next, event, link));
    if (!of)
        return;
    w->of = NULL;
    of->w = NULL;
    lun_park_grant_all(&of->next);
    lunl_core_drop(&of->core);
}

static const lunl_handle_kind watch_kind = {.closing = closing};

static const char *path_of(lua_State *L)
{
    lua_getiuservalue(L, 1, 2);
    return lua_tostring(L, -1);
}

static watcher *check_watcher(lua_State *L)
{
    return lunl_check_box(L, 1, &watcher_type);
}

/* The oldest event as a table. */
static int push_event(lua_State *L, watcher *of)
{
    const event *e = lun_container(of->w->events.next, event, link);
    char name[PATH_MAX]; /* a copy: finalisers may close the watcher, and the event goes */
    bool named = e->named;
    enum what what = e->what;
    snprintf(name, sizeof name, "%s", named ? e->name : "");
    const char *path = path_of(L);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kinds[what]);
    lua_setfield(L, -2, "kind");
    if (named && of->folder)
        lua_pushfstring(L, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", name);
    else
        lua_pushstring(L, path);
    lua_setfield(L, -2, "path");
    if (named) {
        lua_pushstring(L, name);
        lua_setfield(L, -2, "name");
    }
    if (of->w) /* nothing has come or gone meanwhile */
        discard(of->w, lun_container(of->w->events.next, event, link));
    return 1;
}

static int on_next(lua_State *L, int status, lua_KContext ctx);

static int next_on(lua_State *L, lunl_state *S, lun_task *t, watcher *of)
{
    if (!of->w)
        return 0;
    if (of->w->n > 0)
        return push_event(L, of);
    of->busy = true;
    lun_park_wait(&of->next, t);
    return lunl_suspend(L, S, 0, on_next);
}

static int on_next(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    watcher *of = lunl_unbox(L, 1);
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    if (of->w)
        of->busy = false;
    if (interrupted)
        lunl_throw_cancelled(L, S);
    return next_on(L, S, t, of);
}

/* --- watcher:next() -> {kind, path, name?}: the oldest event that nobody has had; nil once the
 * watcher is closed. kind: "change" (of bytes or facts), "rename" (something came, went or has
 * another name), "overflow" (too many at once: some are lost). name: the entry of the folder;
 * path: with the watched path before it. The same event several times in a row is one. Throws
 * RuntimeError if another task waits in it. Suspends; cancelled, no event is lost. */
static int l_next(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    watcher *of = check_watcher(L);
    lua_settop(L, 1);
    if (!of->w)
        return 0;
    if (S->loop != of->w->h.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "next: the watcher belongs to another event loop");
    lun_task *t = lunl_enter(L, S);
    if (of->busy)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "next: another task waits for this watcher");
    if (!lunl_gives_way(S))
        return next_on(L, S, t, of);
    of->busy = true;
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, on_next);
}

/* --- watcher:iter() -> an iterator for `for event in watcher:iter()`: each gives what next does;
 * the loop ends when the watcher is closed. */
static int l_iter(lua_State *L)
{
    check_watcher(L);
    lua_settop(L, 1);
    lua_getfield(L, 1, "next");
    lua_pushvalue(L, 1);
    return 2;
}

/* --- watcher:close() ends the watch: a task in `next` gets nil, and what nobody has had is
 * dropped. Closing twice is harmless. Does not suspend. Also called at the end of the block of a
 * `<close>` variable. */
static int l_close(lua_State *L)
{
    watcher *of = check_watcher(L);
    if (of->w)
        lunl_handle_close(&of->w->h);
    return 0;
}

/* --- watcher:__gc(): a watcher that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    watcher *of = lunl_test_box(L, 1, &watcher_type);
    if (!of || of == &gone)
        return 0;
    lunl_loop *loop = of->w ? of->w->h.loop : NULL;
    lunl_orphan_park(L, &of->next);
    if (of->w)
        lunl_handle_close(&of->w->h);
    lunl_box_leave(L, &gone.core, loop);
    return 0;
}

/* --- watcher:__tostring() -> "<Watcher open /path>" or "<Watcher closed /path>" */
static int l_tostring(lua_State *L)
{
    const watcher *of = check_watcher(L);
    const char *path = path_of(L);
    lua_pushfstring(L, "<Watcher %s %s>", of->w ? "open" : "closed", path ? path : "?");
    return 1;
}

/* A watch that has not begun, for the object on top; raises if there is no memory. */
static watch *new_watch(lua_State *L, lunl_loop *loop, watcher *of)
{
    lunl_io_of(L, loop);
    watch *w = lunl_handle_new(loop, &watch_kind, sizeof *w);
    if (!w)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    of->w = w;
    w->of = of;
    lunl_core_own(&of->core);
    lun_list_init(&w->events);
    uv_fs_event_init(loop->loop.uv, &w->uv);
    lunl_handle_opened(&w->h, (uv_handle_t *)&w->uv);
    return w;
}

/* --- core.watch(path, folder) -> Watcher; folder: whether the path is one. Throws OSError "watch
 * path: CODE". Does not suspend. */
static int l_watch(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"next", l_next}, {"iter", l_iter}, {"close", l_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    const char *path = lunl_check_path(L, 1);
    bool folder = lua_toboolean(L, 2);
    lunl_need_type(L, &watcher_type, methods, meta);
    watcher *of = lunl_box_new(L, loop, &watcher_type, sizeof *of, 2, &gone.core);
    lun_park_init(&of->next, &loop->loop, NULL);
    of->folder = folder;
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 2);
    watch *w = new_watch(L, loop, of);
    int err = uv_fs_event_start(&w->uv, on_event, path, 0);
    if (err != 0) {
        lunl_handle_close(&w->h);
        lunl_fs_throw(L, err, "watch", path, NULL);
    }
    return 1;
}

const luaL_Reg lunl_fs_watch_functions[] = {{"watch", l_watch}, {NULL, NULL}};
