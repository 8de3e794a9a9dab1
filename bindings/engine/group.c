/* SPDX-License-Identifier: MIT */
/*
 * group.c - TaskGroup: a block that ends when all its tasks have.
 *
 * A member's waiter lies behind the member's task and tells the group of its end, in C
 * alone: counting, moving links, queueing the group's job. The job does what needs Lua:
 * after the first failure it cancels the other members and the task in the block; when all
 * have ended and nobody waits, it lets go of the group, which is kept while members are
 * unfinished.
 *
 * Laws:
 *  1. The end of the block waits on the group's join, which owns: requests that reach the
 *     task there go on to the members, and nothing makes it return before all have ended.
 *  2. The group asks its task to stop at most once and takes that back at the end of the
 *     block.
 *  3. An error stays with its task, owed, until it is put into the ExceptionGroup; so the
 *     table in user value 2 keeps the members. The place of one that ended without an error
 *     is used again: a group that lives long keeps as many tasks as it had at once.
 */
#include "../lunl.h"

struct group {
    const lunl_type *type; /* first */
    lun_task *parent;      /* whose block it is; user value 1 */
    lun_job job;
    lun_link members; /* unfinished, in order of creation */
    lun_link failed;  /* in order of their ends */
    lun_link spent;   /* ended otherwise, their places still taken */
    lun_link *cursor; /* of a walk */
    uint32_t places;  /* in the table of user value 2 */
    uint32_t free;    /* first free one, which names the next; or 0 */
    uint16_t before;  /* requests to the parent at the beginning */
    bool kept, queued;
    bool aborting; /* the members have been cancelled */
    bool asked_parent;
    bool asked; /* a request came while the end of the block waited */
    bool closing, closed;
    lun_join join; /* last: it ends in an array */
};

/* Lies behind the lunl_task. */
struct member {
    lun_waiter w; /* on that task */
    lun_link link;
    struct group *group;
    uint32_t place;
};

static const lunl_type group_type = {"TaskGroup"};

static struct member *link_member(lun_link *l)
{
    return lun_container(l, struct member, link);
}

static lun_future *member_task(struct member *m)
{
    return &((lunl_task *)(void *)m - 1)->t.done;
}

/* The join's children, for walks that cancel or look for cycles. */
static lun_future *next_member(lun_join *j)
{
    struct group *g = lun_container(j, struct group, join);
    lun_link *l = j->restart ? g->members.next : g->cursor;
    j->restart = false;
    if (l == &g->members)
        return NULL;
    g->cursor = l->next;
    return member_task(link_member(l));
}

static void member_ended(lun_waiter *w)
{
    struct member *m = lun_container(w, struct member, w);
    struct group *g = m->group;
    bool failed = w->on->state == LUN_ERROR, last = g->join.left == 1;
    lun_list_drop(&m->link);
    lun_list_push(failed ? &g->failed : &g->spent, &m->link);
    /* The last one has nobody to cancel, and who waits at the end of the block lets go. */
    if (!g->queued && (failed || last) && !(last && g->closing)) {
        g->queued = true;
        lun_loop_queue(w->on->loop, &g->job);
    }
    lun_join_count(&g->join, w->on);
}

static const lun_waiter_kind member_waiter = {member_ended, true};

/* Frees the place of the first of the spent members; the table is at `table`. */
static void free_place(lua_State *L, struct group *g, int table)
{
    struct member *m = link_member(g->spent.next);
    lun_list_drop(&m->link);
    lua_pushinteger(L, g->free);
    lua_rawseti(L, table, m->place);
    g->free = m->place;
}

static lunl_loop *loop_of(struct group *g)
{
    return lunl_loop_of(g->join.done.loop);
}

/* Nothing in C points at the group any more. */
static void let_go(lua_State *L, struct group *g)
{
    if (!g->kept || g->queued)
        return;
    if (!g->closed) {
        int top = lua_gettop(L);
        lunl_push_kept(L, loop_of(g), g);
        lua_getiuservalue(L, top + 1, 2);
        while (!lun_list_alone(&g->spent))
            free_place(L, g, top + 2);
        lua_settop(L, top);
    }
    g->kept = false;
    lunl_let_go(L, loop_of(g), g);
}

static void abort_members(lua_State *L, lunl_state *S, struct group *g)
{
    g->aborting = true;
    lunl_cancel_join(L, S, &g->join);
}

static void group_run(lun_job *job)
{
    struct group *g = lun_container(job, struct group, job);
    lunl_state *S = loop_of(g)->S;
    lua_State *L = S->L;
    lua_checkstack(L, 8);
    g->queued = false;
    if (!lun_list_alone(&g->failed) && !g->aborting && !g->join.asked && !g->closed) {
        abort_members(L, S, g);
        if (!g->closing) {
            S->cancel_msg = 0;
            g->asked_parent = lun_task_cancel(g->parent);
        }
    }
    if (g->closed || (g->join.left == 0 && !g->closing))
        let_go(L, g);
}

/* --- async.TaskGroup() -> group: a closable whose block ends when all tasks made by
 * group:create_task have. The first that fails cancels the others and the task in the
 * block, and the block throws an ExceptionGroup of all errors, in the order of their
 * coming, that of the block itself last; KeyboardInterrupt is thrown bare. An error or
 * cancellation of the block cancels the tasks. The end of the block suspends; a cancel
 * there goes to the tasks, and all of them are awaited. RuntimeError outside a task. Does
 * not suspend itself. */
static int l_task_group(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    struct group *g = lunl_new(L, &group_type, sizeof *g, 2);
    g->parent = lunl_scope_enter(L, S, "TaskGroup");
    g->before = g->parent->requests;
    g->job.run = group_run;
    lun_list_init(&g->members);
    lun_list_init(&g->failed);
    lun_list_init(&g->spent);
    lun_join_init(&g->join, g->parent->done.loop, 0, UINT32_MAX, LUN_JOIN_OWNS);
    g->join.child = next_member;
    lua_createtable(L, 4, 0);
    lua_setiuservalue(L, -2, 2);
    S->events.opened++;
    return 1;
}

/* All that a new member needs memory for, but the task: a place in the table, at 1 the
 * group. */
static void make_room(lua_State *L, struct group *g)
{
    if (!g->kept) {
        lunl_keep(L, loop_of(g), 1);
        g->kept = true;
    }
    if (g->free == 0 && lun_list_alone(&g->spent)) {
        lua_getiuservalue(L, 1, 2);
        lua_pushinteger(L, 0);
        lua_rawseti(L, -2, g->places + 1);
        lua_pop(L, 1);
        g->free = ++g->places;
    }
}

/* The new task on top gets a place in the table. */
static uint32_t take_place(lua_State *L, struct group *g)
{
    int task = lua_gettop(L), table = task + 1;
    lua_getiuservalue(L, 1, 2);
    /* Two for one, so that after a rush the places are given up again. */
    for (int i = 0; i < 2 && !lun_list_alone(&g->spent); i++)
        free_place(L, g, table);
    uint32_t place = g->free;
    if (place == 0) {
        place = ++g->places; /* a finaliser has made a member meanwhile */
    } else {
        lua_rawgeti(L, table, place);
        g->free = (uint32_t)lua_tointeger(L, -1);
    }
    lua_pushvalue(L, task);
    lua_rawseti(L, table, place);
    lua_settop(L, task);
    return place;
}

/* --- group:create_task(fn, ...) -> Task: schedules fn(...) like async.create_task, as a
 * task of the group. Any task may call it while the block lasts. TypeError if fn cannot be
 * called; RuntimeError once the group is cancelling its tasks or has ended. Does not
 * suspend. */
static int l_create_task(lua_State *L)
{
    struct group *g = lunl_check(L, 1, &group_type);
    lunl_state *S = lunl_S(L);
    lunl_check_callable(L, 2);
    if (g->closed || (g->closing && g->join.left == 0))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "the TaskGroup is finished");
    if (g->aborting || g->join.asked)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "the TaskGroup is shutting down");
    lunl_loop *loop = lunl_running_loop(L, S);
    if (&loop->loop != g->join.done.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "the TaskGroup belongs to another event loop");
    int nargs = lua_gettop(L) - 2;
    make_room(L, g);
    lunl_task *task = lunl_spawn(L, loop, nargs, sizeof(struct member));
    if (g->closed)
        return 1; /* by a finaliser, meanwhile: it is nobody's member */
    struct member *m = (struct member *)(void *)(task + 1);
    m->place = take_place(L, g);
    m->group = g;
    lun_waiter_init(&m->w, &member_waiter);
    lun_waiter_watch(&m->w, &task->t.done);
    lun_list_push(&g->members, &m->link);
    if (lun_future_done(&g->join.done))
        lun_join_rearm(&g->join, UINT32_MAX, LUN_JOIN_OWNS);
    g->join.left++;
    return 1;
}

/* Pushes the error of the first member that failed with KeyboardInterrupt; false if none
 * did. */
static bool push_interrupt(lua_State *L, struct group *g, int table)
{
    int top = lua_gettop(L);
    lun_list_each(l, &g->failed) {
        struct member *m = link_member(l);
        lua_rawgeti(L, table, m->place);
        lunl_peek_error(L, top + 1, member_task(m));
        if (lunl_error_is(L, -1, LUNL_KEYBOARD_INTERRUPT)) {
            lunl_push_error(L, top + 1, member_task(m));
            return true;
        }
        lua_settop(L, top);
    }
    return false;
}

/* Pushes the list of the members' errors and, if `add`, the block's, which lies at 2. */
static void push_errors(lua_State *L, struct group *g, int table, bool add)
{
    lua_Integer n = 0;
    int list = lua_gettop(L) + 1;
    lua_createtable(L, 1, 0);
    lun_list_each(l, &g->failed) {
        struct member *m = link_member(l);
        lua_rawgeti(L, table, m->place);
        lunl_push_error(L, list + 1, member_task(m));
        /* The block awaited that member, and let its error pass. */
        add = add && !lua_rawequal(L, -1, 2);
        lua_rawseti(L, list, ++n);
        lua_settop(L, list);
    }
    if (add) {
        lua_pushvalue(L, 2);
        lua_rawseti(L, list, ++n);
    }
}

/* The group at 1 has nothing to do with any task any more. */
static void end(lua_State *L, struct group *g)
{
    g->closed = true;
    lunl_S(L)->events.closed++;
    for (int i = 1; i <= 2; i++) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, i);
    }
    let_go(L, g);
}

/*
 * The block ends, but cannot wait: the members are asked to stop and go on by themselves,
 * their errors owed like those of any task.
 */
static void dissolve(lua_State *L, lunl_state *S, struct group *g)
{
    if (!g->aborting)
        abort_members(L, S, g);
    while (!lun_list_alone(&g->members)) {
        struct member *m = link_member(g->members.next);
        lun_list_drop(&m->link);
        lun_waiter_drop(&m->w);
    }
    end(L, g);
}

/* All members have ended: the group at 1, the error of the block, or nil, at 2. */
static int conclude(lua_State *L, lunl_state *S, struct group *g)
{
    lun_task *t = g->parent;
    bool cancelled = lunl_error_is(L, 2, LUNL_CANCELLED_ERROR);
    bool own = !lua_isnil(L, 2) && !cancelled;
    lua_getiuservalue(L, 1, 2);
    end(L, g);
    if (lunl_error_is(L, 2, LUNL_KEYBOARD_INTERRUPT))
        return 0;
    if (push_interrupt(L, g, 3))
        return lua_error(L);
    if (own || !lun_list_alone(&g->failed)) {
        /* A cancel from outside that these errors overtake comes at the next await. */
        if (t->requests > g->before)
            t->flags |= LUN_MUST_CANCEL;
        push_errors(L, g, 3, own);
        lunl_error_group(L, "unhandled errors in a TaskGroup");
        return lua_error(L);
    }
    if (g->asked && !cancelled)
        lunl_throw_cancelled(L, S);
    return 0;
}

static int close_k(lua_State *L, int status, lua_KContext ctx);

static int wait_for_members(lua_State *L, lunl_state *S, struct group *g)
{
    if (g->join.left == 0)
        return conclude(L, S, g);
    lun_task_wait(g->parent, &g->join.done, true);
    return lunl_suspend(L, S, 0, close_k);
}

static int close_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    struct group *g = lua_touserdata(L, 1);
    lun_future *on;
    bool interrupted;
    (void)status;
    (void)ctx;
    lunl_resumed_quietly(L, S, &on, &interrupted);
    g->asked = g->asked || interrupted || g->join.asked;
    return wait_for_members(L, S, g);
}

/*
 * A member waits for the task whose block this is. The block cannot wait for it; that, and
 * the request that the member hands on to the very task that made it, must not show.
 */
static _Noreturn void refuse_cycle(lua_State *L, lunl_state *S, struct group *g)
{
    lun_task *t = g->parent;
    unsigned requests = t->requests;
    bool pending = t->flags & LUN_MUST_CANCEL;
    dissolve(L, S, g);
    while (t->requests > requests)
        lun_task_uncancel(t);
    if (!pending)
        t->flags &= (uint8_t)~LUN_MUST_CANCEL;
    lunl_throw(L, LUNL_RUNTIME_ERROR,
               "a task of the TaskGroup waits for the task whose block it is");
}

/* --- group:__close(err): the end of the block: waits for all tasks of the group and throws
 * what failed, see async.TaskGroup. RuntimeError in another task. Suspends; a cancel is
 * passed to the tasks and thrown when they have ended. */
static int l_group_close(lua_State *L)
{
    struct group *g = lunl_check(L, 1, &group_type);
    lunl_state *S = lunl_S(L);
    if (g->closed || g->closing)
        return 0;
    lunl_scope_leave(L, S, g->parent, "TaskGroup");
    lua_settop(L, 2);
    if (g->asked_parent) {
        g->asked_parent = false;
        lunl_take_back(g->parent, g->before);
    }
    if (g->join.left > 0) {
        if (L != S->running || !S->outer_yieldable || !lua_isyieldable(L))
            dissolve(L, S, g); /* lunl_enter says why */
        if (lun_task_would_cycle(lunl_enter(L, S), &g->join.done))
            refuse_cycle(L, S, g);
        if (!g->aborting && (!lua_isnil(L, 2) || !lun_list_alone(&g->failed)))
            abort_members(L, S, g);
    }
    g->closing = true;
    return wait_for_members(L, S, g);
}

void lunl_open_group(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"TaskGroup", l_task_group},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"create_task", l_create_task},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {
        {"__close", l_group_close},
        {NULL, NULL},
    };
    lunl_newtype(L, &group_type, methods, meta);
    lua_pop(L, 1);
    lunl_register(L, functions);
}
