/* SPDX-License-Identifier: MIT */
/*
 * serve.c - a task for each connection. The task that serves accepts; each connection has a
 * record that hears of its task's end, closes the stream and reports an error. What is left
 * when accepting ends, by close() or by a cancel, is waited for.
 */
#include "server.h"
#include "tls.h"

static const uint64_t REPORT_INTERVAL =
    1000000000;                  /* ns between two reports of failing accepts */
static const double PAUSE = 0.1; /* s until the next try after one */

/* User values: 1 the task, 2 the stream, 3 the server. */
typedef struct connection {
    const lunl_type *type;
    lunl_record record;
    lunl_server *sv; /* owned with others while `link` is in sv->live */
    lun_link link;
    lun_waiter end; /* of the task */
    lun_job job;    /* queued when the task has ended */
} connection;

static const lunl_type connection_type = {"connection"};

static void on_end(lun_waiter *w)
{
    connection *k = lun_container(w, connection, end);
    lun_loop_queue(w->on->loop, &k->job);
}

static const lun_waiter_kind end_waiter = {on_end, false};

static void leave_server(connection *k)
{
    lun_list_drop(&k->link);
    lunl_core_drop(&k->sv->core);
}

static void on_loop_close(lunl_record *record)
{
    connection *k = lun_container(record, connection, record);
    lun_waiter_drop(&k->end);
    leave_server(k);
}

/* The handler, whose task is at `task`, threw. */
static void report(lua_State *L, lunl_loop *loop, int record, int task, lun_future *f)
{
    lunl_peek_error(L, task, f);
    lunl_seen(loop->S, f);
    if (lunl_error_is(L, -1, LUNL_KEYBOARD_INTERRUPT)) {
        lua_pop(L, 1);
        return;
    }
    lunl_task_report(L, task, "Unhandled exception in connection handler");
    lua_insert(L, -2);
    lua_setfield(L, -2, "exception");
    lua_getiuservalue(L, record, 2);
    lua_setfield(L, -2, "stream");
    lunl_push_trace(L, task, f);
    lua_setfield(L, -2, "traceback");
    lunl_report(L, loop, "connection");
}

static void run(lun_job *job)
{
    connection *k = lun_container(job, connection, job);
    lun_future *f = k->end.on;
    lunl_loop *loop = lunl_loop_of(f->loop);
    lua_State *L = loop->S->L;
    int top = lua_gettop(L);
    luaL_checkstack(L, 12, NULL);
    lunl_push_held(L, loop->S, k->record.slot);
    lunl_record_release(L, loop, &k->record);
    lun_list_drop(&k->link);
    if (lun_list_alone(&k->sv->live))
        lun_park_grant_all(&k->sv->leavers);
    leave_server(k);
    lua_getiuservalue(L, top + 1, 2);
    lunl_stream_close(lunl_stream_at(L, -1));
    lua_pop(L, 1);
    if (f->state == LUN_ERROR) {
        lua_getiuservalue(L, top + 1, 1);
        report(L, loop, top + 1, top + 2, f);
    }
    loop->S->ran = true;
    lua_settop(L, top);
}

/* The stream on top (popped) gets its task, which runs the function at 2. */
static void start(lua_State *L, lunl_loop *loop, lunl_server *sv)
{
    int stream = lua_gettop(L);
    connection *k = lunl_new(L, &connection_type, sizeof *k, 3);
    lun_list_init(&k->link);
    lua_pushvalue(L, stream);
    lua_setiuservalue(L, stream + 1, 2);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, stream + 1, 3);
    bool tls = sv->tls && lunl_tls_push_serve(L);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, stream);
    lunl_task *t = lunl_spawn(L, loop, tls ? 2 : 1, 0);
    lua_setiuservalue(L, stream + 1, 1);
    lunl_record_hold(L, loop, &k->record);
    k->record.over = on_loop_close;
    k->sv = sv;
    k->job = (lun_job){NULL, run};
    lun_waiter_init(&k->end, &end_waiter);
    lun_waiter_watch(&k->end, &t->t.done);
    lun_list_push(&sv->live, &k->link);
    lunl_core_own(&sv->core);
    lua_settop(L, stream - 1);
}

static void report_accept(lua_State *L, lunl_loop *loop, lunl_server *sv, int err)
{
    char text[LUNL_ADDR_TEXT];
    uint64_t now = uv_hrtime();
    if (sv->reported && now - sv->reported < REPORT_INTERVAL)
        return;
    sv->reported = now;
    lua_createtable(L, 0, 5);
    lua_pushliteral(L, "Accept failed");
    lua_setfield(L, -2, "message");
    lunl_error_addr(L, err, "accept", lunl_addr_text(&sv->addr, text));
    lua_setfield(L, -2, "exception");
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "server");
    lua_pushinteger(L, (lua_Integer)(sv->failed - sv->told));
    lua_setfield(L, -2, "failed");
    sv->told = sv->failed;
    lunl_report(L, loop, "accept");
}

static void cancel_all(lua_State *L, lunl_state *S, lunl_server *sv)
{
    lun_list_each(l, &sv->live) {
        connection *k = lun_container(l, connection, link);
        lunl_push_held(L, S, k->record.slot);
        lua_getiuservalue(L, -1, 1);
        lunl_cancel(L, S, k->end.on, lua_gettop(L), 0);
        lua_pop(L, 2);
    }
}

enum phase {
    ACCEPTING,
    PAUSING,   /* after a failing accept */
    LEAVING,   /* closed: the last connections end */
    CANCELLED, /* they end because they were cancelled */
};

static int serve_on(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv);
static int leave(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv, enum phase at);
static int on_resumed(lua_State *L, int status, lua_KContext ctx);

/* The server is served while the task is suspended in it; one that throws leaves it to others. */
static int wait_at(lua_State *L, lunl_state *S, lunl_server *sv, enum phase at)
{
    sv->serving = true;
    return lunl_suspend(L, S, at, on_resumed);
}

static int on_resumed(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_server *sv = lunl_server_at(L, 1);
    enum phase at = (enum phase)ctx;
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    if (sv->l)
        sv->serving = false;
    if (interrupted && at != CANCELLED) {
        at = CANCELLED;
        cancel_all(L, S, sv);
    }
    return at < LEAVING ? serve_on(L, S, t, sv) : leave(L, S, t, sv, at);
}

/* Waits until the last connection has ended; a second request changes nothing. */
static int leave(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv, enum phase at)
{
    if (!lun_list_alone(&sv->live)) {
        lun_park_wait(&sv->leavers, t);
        return wait_at(L, S, sv, at);
    }
    if (at == CANCELLED)
        lunl_throw_cancelled(L, S);
    return 0;
}

/* Accepts until it has to wait. */
static int serve_on(lua_State *L, lunl_state *S, lun_task *t, lunl_server *sv)
{
    lunl_loop *loop = S->loop;
    enum phase at = ACCEPTING;
    int err = 0;
    while (sv->l && (err = lunl_server_accept(L, sv)) == 0) {
        start(L, loop, sv);
        if (lunl_gives_way(S)) {
            lun_task_yield(t);
            return wait_at(L, S, sv, ACCEPTING);
        }
    }
    if (!sv->l)
        return leave(L, S, t, sv, LEAVING);
    if (err == UV_EAGAIN)
        err = lunl_server_wait(sv, t);
    if (err != 0) {
        report_accept(L, loop, sv, err);
        at = PAUSING;
        if (lun_task_sleep(t, lun_loop_deadline(&loop->loop, PAUSE)) != 0)
            lun_task_yield(t);
    }
    return wait_at(L, S, sv, at);
}

/* --- server:serve(handler): accepts for ever and runs handler(stream) as a task for each
 * connection; its stream is closed when the handler ends, its error goes to the exception
 * handler. Returns when the server has been closed and the last connection has ended.
 * Suspends; cancelled, it cancels the connections, waits for them and throws
 * CancelledError. Throws RuntimeError if the server is served already. */
static int l_serve(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_server *sv = lunl_open_server(L, S, "serve");
    lunl_check_callable(L, 2);
    lun_task *t = lunl_enter(L, S);
    if (sv->serving)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "serve: the server is served already");
    lunl_need_type(L, &connection_type, NULL, NULL);
    lua_settop(L, 2);
    return serve_on(L, S, t, sv);
}

const luaL_Reg lunl_serve_methods[] = {{"serve", l_serve}, {NULL, NULL}};
