/* SPDX-License-Identifier: MIT */
/*
 * handle.c - opening, counting and closing libuv's handles; the end of all of them when
 * their loop closes. The laws are in handle.h.
 */
#include "handle.h"

#include "../state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static const uint64_t LINGER =
    1000000000; /* ns that output has to get out when its loop closes */
static const uint64_t NO_SPARE =
    100000000; /* ns without a collection after one that has given back no descriptor, and ... */
enum { NO_SPARE_SHARE = 20 }; /* ... so many times as long as that took */

lunl_io *lunl_io_of(lua_State *L, lunl_loop *loop)
{
    lunl_io *io = loop->io;
    if (io)
        return io;
    io = lun_loop_alloc(&loop->loop, sizeof *io);
    if (!io)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    memset(io, 0, sizeof *io);
    lun_list_init(&io->handles);
    lun_list_init(&io->leaving);
    lun_list_init(&io->ops);
    lun_list_init(&io->records);
    lun_list_init(&io->watchers);
    io->most_read = io->most_write = SIZE_MAX;
    loop->io = io;
    return io;
}

void lunl_short_io(lua_State *L, lunl_loop *loop, size_t most_read, size_t most_write)
{
    lunl_io *io = lunl_io_of(L, loop);
    io->most_read = most_read;
    io->most_write = most_write;
}

void lunl_need_type(lua_State *L, const lunl_type *type, const luaL_Reg *methods,
                    const luaL_Reg *meta)
{
    bool known = lua_rawgetp(L, LUA_REGISTRYINDEX, type) != LUA_TNIL;
    lua_pop(L, 1);
    if (known)
        return;
    lunl_newtype(L, type, methods, meta);
    lua_pop(L, 1);
}

void lunl_box_made(lua_State *L, const lunl_loop *loop)
{
    luaL_Buffer b;
    if (!loop->debug && !loop->sites)
        return;
    luaL_buffinit(L, &b);
    lunl_trace_frames(L, 0, &b);
    luaL_pushresult(&b);
    lua_pushstring(L,
                   lua_tostring(L, -1) + 1); /* without the line feed that it begins with */
    lua_replace(L, -2);
    lua_setiuservalue(L, -2, 1);
}

void lunl_box_dropped(lua_State *L, lunl_loop *loop, int idx)
{
    /* With sites: if it was made while they were remembered. */
    bool known = loop->sites && lua_getiuservalue(L, idx, 1) == LUA_TSTRING;
    if ((!loop->debug && !known) || loop->closed)
        return;
    lua_createtable(L, 0, 4);
    lua_pushliteral(L, "Handle was never closed");
    lua_setfield(L, -2, "message");
    lua_pushvalue(L, idx);
    lua_setfield(L, -2, "object");
    lua_getiuservalue(L, idx, 1);
    lua_setfield(L, -2, "source_traceback");
    lunl_report(L, loop, "leak");
}

/* True if `n` more descriptors can be had. */
static bool has_spare(const lunl_loop *loop, int n)
{
    int fd = fcntl(uv_backend_fd(loop->loop.uv), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return errno != EMFILE;
    bool more = n == 1 || has_spare(loop, n - 1);
    close(fd);
    return more;
}

void lunl_spare_descriptors(lua_State *L, lunl_loop *loop, int n)
{
    lunl_io *io = lunl_io_of(L, loop);
    uint64_t now = uv_hrtime();
    if (now < io->no_spare || has_spare(loop, n))
        return;
    lunl_collect(L);
    uint64_t took = uv_hrtime() - now;
    if (!has_spare(loop, n))
        io->no_spare = now + took + NO_SPARE + took * NO_SPARE_SHARE;
}

/* All threads have this one: nobody writes to a future that is done. */
static const lun_future gone = {.kind = &lun_future_kind, .state = LUN_CANCELLED};

void lunl_orphan(lun_future *f)
{
    while (!lun_list_alone(&f->waiters)) {
        lun_waiter *w = lun_container(f->waiters.next, lun_waiter, link);
        lun_list_drop(&w->link);
        w->on = (lun_future *)(uintptr_t)&gone;
        lun_task_wake(lun_container(w, lun_task, u.wait));
    }
}

void lunl_orphan_park(lua_State *L, lun_park *p)
{
    lunl_orphan(&p->base);
    if (p->granted == 0)
        return;
    const lunl_state *S = lunl_get_state(L);
    for (uint32_t i = 1; i < S->n_slots + 1 && p->granted > 0; i++) {
        lunl_task *t = lunl_slot_task(S, i);
        if (!t || t->t.at != LUN_AT_WAITING || t->t.u.wait.on != &p->base)
            continue;
        t->t.u.wait.on = (lun_future *)(uintptr_t)&gone;
        t->t.flags &= (uint8_t)~LUN_GRANTED;
        p->granted--;
    }
}

void lunl_record_hold(lua_State *L, lunl_loop *loop, lunl_record *r)
{
    lunl_io *io = lunl_io_of(L, loop);
    r->slot = lunl_hold(L, loop->S, NULL);
    lun_list_init(&r->link);
    lun_list_push(&io->records, &r->link);
}

void lunl_record_release(lua_State *L, lunl_loop *loop, lunl_record *r)
{
    lun_list_drop(&r->link);
    lunl_release(L, loop->S, r->slot);
}

void lunl_records_close(lua_State *L, lunl_loop *loop)
{
    lunl_io *io = loop->io;
    while (io && !lun_list_alone(&io->records)) {
        lunl_record *r = lun_container(io->records.next, lunl_record, link);
        if (r->over)
            r->over(r);
        lunl_record_release(L, loop, r);
    }
}

void *lunl_handle_new(lunl_loop *loop, const lunl_handle_kind *kind, size_t size)
{
    lunl_handle *h = lun_loop_alloc(&loop->loop, size);
    if (!h)
        return NULL;
    memset(h, 0, size);
    h->kind = kind;
    h->loop = loop;
    h->size = (uint32_t)size;
    lun_list_init(&h->link);
    return h;
}

void lunl_handle_made(lua_State *L, lunl_handle *h)
{
    char site[LUNL_SITE];
    if (!h->loop->sites || h->site || !lunl_site(L, site, sizeof site))
        return;
    h->site = lun_loop_alloc(&h->loop->loop, LUNL_SITE);
    if (h->site)
        memcpy(h->site, site, sizeof site);
}

lua_Integer lunl_list_handles(lua_State *L, lunl_loop *loop, lua_Integer n)
{
    lunl_io *io = loop->io;
    if (!io)
        return n;
    for (lun_link *l = io->handles.next; l != &io->handles; l = l->next) {
        lunl_handle *h = lun_container(l, lunl_handle, link);
        if (h->kind->lasts)
            continue;
        const char *type = h->uv           ? uv_handle_type_name(uv_handle_get_type(h->uv))
                           : h->kind->name ? h->kind->name
                                           : "memory";
        n = lunl_probe_row(L, n, "handle", type ? type : "handle", h->site, 0);
        lua_rawgeti(L, -1, n);
        lua_pushlightuserdata(L, h);
        lua_setfield(L, -2, "id");
        lua_pushboolean(L, h->kind->lingers && h->kind->lingers(h));
        lua_setfield(L, -2, "lingers");
        lua_pop(L, 1);
    }
    return n;
}

bool lunl_close_listed(lunl_loop *loop, const void *id)
{
    lunl_io *io = loop->io;
    for (lun_link *l = io ? io->handles.next : NULL; l && l != &io->handles; l = l->next) {
        lunl_handle *h = lun_container(l, lunl_handle, link);
        if (h == id) {
            lunl_handle_close(h);
            return true;
        }
    }
    return false;
}

void lunl_handle_opened(lunl_handle *h, uv_handle_t *uv)
{
    lunl_io *io = h->loop->io;
    h->uv = uv;
    if (uv) {
        uv->data = h;
        h->loop->loop.count.handles++;
    } else {
        h->loop->loop.count.inner++;
    }
    lun_list_push(&io->handles, &h->link);
    if (h->loop->sites && h->loop->S->running)
        lunl_handle_made(h->loop->S->running, h);
}

void lunl_handle_discard(lunl_handle *h)
{
    lun_loop_free(&h->loop->loop, h->site, LUNL_SITE);
    lun_loop_free(&h->loop->loop, h, h->size);
}

static void on_closed(uv_handle_t *uv)
{
    lunl_handle *h = uv->data;
    h->loop->loop.count.handles--;
    if (h->kind->closed)
        h->kind->closed(h);
    lun_loop_free(&h->loop->loop, h->site, LUNL_SITE);
    lun_loop_free(&h->loop->loop, h, h->size);
}

void lunl_handle_close(lunl_handle *h)
{
    if (h->closing)
        return;
    h->closing = true;
    lun_list_drop(&h->link);
    if (h->kind->closing)
        h->kind->closing(h);
    if (h->uv) {
        uv_close(h->uv, on_closed);
        if (h->kind->parted)
            h->kind->parted(h);
    } else if (h->kind->queued(h)) {
        lun_list_push(&((lunl_io *)h->loop->io)->leaving, &h->link);
    } else {
        lunl_handle_gone(h);
    }
}

void lunl_handle_gone(lunl_handle *h)
{
    lun_list_drop(&h->link);
    h->loop->loop.count.inner--;
    lun_loop_free(&h->loop->loop, h->site, LUNL_SITE);
    lun_loop_free(&h->loop->loop, h, h->size);
}

/* Handles without libuv whose jobs will not run any more. */
static void let_go(lunl_io *io)
{
    while (!lun_list_alone(&io->leaving)) {
        lunl_handle *h = lun_container(io->leaving.next, lunl_handle, link);
        lun_loop_unqueue(&h->loop->loop, h->kind->queued(h));
        lunl_handle_gone(h);
    }
}

/* Waits a little while for the handles that still send; everything in the ring does. */
static void linger(lunl_loop *loop, lunl_io *io)
{
    uint64_t end = uv_hrtime() + LINGER;
    struct pollfd backend = {.fd = uv_backend_fd(loop->loop.uv), .events = POLLIN};
    while (!lun_list_alone(&io->handles) && loop->S->interrupts < 2) {
        uv_run(loop->loop.uv, UV_RUN_NOWAIT);
        uint64_t now = uv_hrtime();
        if (lun_list_alone(&io->handles) || now >= end)
            return;
        int left = (int)((end - now) / 1000000) + 1,
            timeout = uv_backend_timeout(loop->loop.uv);
        poll(&backend, 1, timeout >= 0 && timeout < left ? timeout : left);
    }
}

void lunl_handles_close(lunl_loop *loop)
{
    lunl_io *io = loop->io;
    if (!io)
        return;
    io->over = true;
    /* First the requests: one that nobody took has a handle of its own, which it closes. */
    lunl_ops_close(io);
    for (lun_link *l = io->handles.next, *next; l != &io->handles; l = next) {
        lunl_handle *h = lun_container(l, lunl_handle, link);
        next = l->next;
        if (!h->kind->lingers || !h->kind->lingers(h))
            lunl_handle_close(h);
        if (lun_list_alone(next))
            next = io->handles.next; /* a server took its next connection along */
    }
    linger(loop, io);
    while (!lun_list_alone(&io->handles))
        lunl_handle_close(lun_container(io->handles.next, lunl_handle, link));
    let_go(io);
    lunl_watchers_close(io);
    lun_loop_free(&loop->loop, io->chunk, LUNL_CHUNK);
    while (io->n_spare > 0)
        lun_loop_free(&loop->loop, io->spare[--io->n_spare], LUNL_CHUNK);
    lun_loop_free(&loop->loop, io, sizeof *io);
    loop->io = NULL;
}
