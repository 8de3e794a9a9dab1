/* SPDX-License-Identifier: MIT */
/*
 * callback.c - a Lua function that waits for something outside of Lua: the event counts and
 * queues a job, the job calls from the base level of a drain (law 3 of lunl.h).
 *
 * A queued job cannot be taken out of the ready queue, so the memory has two owners:
 * whoever made it and the queue. All of a loop's are in one ring, because a loop that
 * closes drops its queue without running it. Function and arguments lie in a held userdata,
 * which is also the `handle` of a report.
 */
#include "handle.h"

struct lunl_watcher {
    lun_job job;   /* in loop->ready while `queued` */
    lun_link link; /* in io->watchers */
    lunl_loop *loop;
    struct held *held; /* NULL once the function is gone */
    uint32_t due;      /* calls that have not been made */
    bool queued;
    bool dead; /* nobody but the queue owns it */
};

/* User values: 1 {n = , function, arguments...}; 2 nil, since a report looks for a future
 * there. */
typedef struct held {
    const lunl_type *type;
    lunl_record record;
    lunl_watcher *w; /* NULL once one of the two is gone */
} held;

static const lunl_type held_type = {"Handle"};

static void part(lunl_record *record)
{
    held *h = lun_container(record, held, record);
    if (h->w)
        h->w->held = NULL;
    h->w = NULL;
}

static void release(lua_State *L, lunl_watcher *w)
{
    held *h = w->held;
    if (!h)
        return;
    part(&h->record);
    lunl_record_release(L, w->loop, &h->record);
}

static void discard(lunl_watcher *w)
{
    lun_list_drop(&w->link);
    lun_loop_free(&w->loop->loop, w, sizeof *w);
}

static void queue(lunl_watcher *w)
{
    if (w->queued)
        return;
    w->queued = true;
    lun_loop_queue(&w->loop->loop, &w->job);
}

/* Pushes the userdata, the function and its arguments. How many arguments. */
static int push_call(lua_State *L, const lunl_watcher *w)
{
    luaL_checkstack(L, 6, NULL);
    lunl_push_held(L, w->loop->S, w->held->record.slot);
    lua_getiuservalue(L, -1, 1);
    int t = lua_gettop(L);
    lua_getfield(L, t, "n");
    int n = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, n + 4, "too many arguments");
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, t, i);
    lua_remove(L, t);
    return n - 1;
}

static void run(lun_job *job)
{
    lunl_watcher *w = lun_container(job, lunl_watcher, job);
    lunl_loop *loop = w->loop;
    lua_State *L = loop->S->L;
    int top = lua_gettop(L);
    w->queued = false;
    if (w->dead) {
        release(L, w);
        discard(w);
        return;
    }
    int n = push_call(L, w);
    if (--w->due > 0)
        queue(w);
    /* What it calls may free `w`. */
    loop->S->ran = true;
    lunl_callback(L, loop, n, "callback", top + 1);
    lua_settop(L, top);
}

/* --- tostring(handle) -> "<Handle of a watcher>" */
static int l_tostring(lua_State *L)
{
    lua_pushliteral(L, "<Handle of a watcher>");
    return 1;
}

lunl_watcher *lunl_watcher_new(lua_State *L, lunl_loop *loop, int first)
{
    static const luaL_Reg meta[] = {{"__tostring", l_tostring}, {NULL, NULL}};
    lunl_io *io = lunl_io_of(L, loop);
    int n = lua_gettop(L) - first + 1;
    lunl_need_type(L, &held_type, NULL, meta);
    held *h = lunl_new(L, &held_type, sizeof *h, 2);
    lua_createtable(L, n, 1);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, first + i - 1);
        lua_rawseti(L, -2, i);
    }
    lua_pushinteger(L, n);
    lua_setfield(L, -2, "n");
    lua_setiuservalue(L, -2, 1);
    lunl_record_hold(L, loop, &h->record);
    lunl_watcher *w = lun_loop_alloc(&loop->loop, sizeof *w);
    if (!w) {
        lunl_record_release(L, loop, &h->record);
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    }
    *w = (lunl_watcher){.job = {NULL, run}, .loop = loop, .held = h};
    h->w = w;
    h->record.over = part;
    lun_list_init(&w->link);
    lun_list_push(&io->watchers, &w->link);
    return w;
}

void lunl_watcher_due(lunl_watcher *w)
{
    if (!w->held)
        return;
    if (w->due < UINT32_MAX)
        w->due++;
    queue(w);
}

bool lunl_watcher_busy(const lunl_watcher *w)
{
    return w->due > 0;
}

void lunl_watcher_free(lua_State *L, lunl_watcher *w)
{
    release(L, w);
    w->dead = true;
    if (!w->queued)
        discard(w);
}

void lunl_watcher_drop(lunl_watcher *w)
{
    w->dead = true;
    queue(w);
}

void lunl_watchers_close(lunl_io *io)
{
    while (!lun_list_alone(&io->watchers))
        discard(lun_container(io->watchers.next, lunl_watcher, link));
}
