/* SPDX-License-Identifier: MIT */
/*
 * race.c - as_completed, map and race: joins that are looked at again and again.
 *
 * as_completed is an iterator over the ring of what has ended; one completion costs the
 * same however many children there are. map starts its children one after the other as
 * earlier ones end. race is decided by the first to end. The join itself: join.c.
 */
#include "join.h"

/* The stack of map. */
enum { MAP_LIST = 1, MAP_FN, MAP_OPTIONS, MAP_CHILDREN, MAP_JOIN };

/* The stack of race. */
enum { RACE_AWAITABLES = 1, RACE_CHILDREN, RACE_JOIN };

enum { MAP_RULE = LUN_JOIN_OWNS | LUN_STOP_ERROR | LUN_STOP_CANCELLED };

static const lunl_type completed_type = {"as_completed iterator"};

/* The arm of the child that ended first, of those not taken from the ring; or NULL. */
static lun_arm *first_ended(const lun_join *j)
{
    return lun_list_alone(&j->finished) ? NULL
                                        : lun_container(j->finished.next, lun_arm, w.link);
}

/*
 * Pushes the child of the first arm, which leaves the ring. It stays in the list: a walk
 * looks at the futures of all arms.
 */
static int give(lua_State *L, lunl_join *g, lun_arm *a)
{
    lun_join *j = g->join;
    lun_future *f = a->w.on;
    lua_getiuservalue(L, 1, 1);
    lua_rawgeti(L, -1, a - j->arm + 1);
    /* A future that was named twice has its arms in a row. */
    while (a && a->w.on == f) {
        lun_list_drop(&a->w.link);
        a = first_ended(j);
    }
    if (!a && j->left == 0)
        lunl_join_close(g);
    return 1;
}

static int next_k(lua_State *L, int status, lua_KContext ctx);

/* The iterator at 1 waits for the next child to end. */
static int wait_next(lua_State *L, lunl_state *S, lun_task *t, lunl_join *g)
{
    lun_join *j = g->join;
    if (lun_future_done(&j->done))
        lun_join_rearm(j, 1, 0);
    if (j->left == 1 && !lun_timer_active(&g->timer))
        lunl_join_refuse_cycle(L, g, t); /* nothing else can wake it */
    g->busy = true;
    return lunl_join_wait(L, S, t, g, 0, next_k);
}

/* The iterator at 1 gives its next child, throws, ends or, unless `fair`, gives way first.
 */
static int next_go(lua_State *L, lunl_state *S, lun_task *t, bool fair)
{
    lunl_join *g = lua_touserdata(L, 1);
    lun_join *j = g->join;
    if (!j)
        return 0;
    lun_arm *a = first_ended(j);
    bool late = a && g->expired && (int32_t)(a->w.on->order - g->in_time) > 0;
    if (late || (!a && g->expired)) {
        lunl_join_close(g);
        lunl_throw(L, LUNL_TIMEOUT_ERROR, "not all were completed in time");
    }
    if (!a)
        return wait_next(L, S, t, g);
    if (fair || !lunl_gives_way(S))
        return give(L, g, a);
    g->busy = true;
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, next_k);
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lunl_join *g = lua_touserdata(L, 1);
    lun_future *on;
    bool interrupted;
    (void)status;
    (void)ctx;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    g->busy = false;
    if (g->ended)
        lunl_join_close(g);
    if (interrupted)
        lunl_throw_cancelled(L, S);
    return next_go(L, S, t, true);
}

/* --- iterator() -> task or nil
 * The next task that has ended, or nil after the last; see as_completed. Throws
 * TimeoutError, once, when the time was up before it ended; RuntimeError outside a task, in
 * another loop, and while another task waits in the same iterator. Suspends until there is
 * one. Safe to cancel: the iterator can be called again. */
static int l_next(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_join *g = lunl_check(L, 1, &completed_type);
    lun_task *t = lunl_enter(L, S);
    if (g->busy)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "another task waits in this as_completed iterator");
    if (g->join && g->loop != t->done.loop)
        lunl_throw(L, LUNL_RUNTIME_ERROR, "an as_completed iterator of another loop");
    lua_settop(L, 1);
    return next_go(L, S, t, false);
}

/* --- iterator:close(): ends the iteration; the tasks that it has not given run on.
 * Harmless if done before. Does not suspend. */
static int l_close(lua_State *L)
{
    lunl_join *g = lunl_check(L, 1, &completed_type);
    if (!g->busy) {
        lunl_join_close(g);
        return 0;
    }
    g->ended = true;
    if (!lun_future_done(&g->join->done))
        lun_future_settle(&g->join->done, LUN_OK);
    return 0;
}

static int finalise(lua_State *L)
{
    lunl_join_close(lunl_check(L, 1, &completed_type));
    return 0;
}

/* --- async.as_completed(awaitables, options?) -> iterator
 * For a generic for: gives the tasks of a list as they end, each future once; those that
 * had ended before come first, in the order in which they did. Functions and values with
 * __await become tasks. Option timeout: seconds from this call on; what has ended by then
 * is given, then TimeoutError is thrown, once; the rest runs on. Giving a task does not
 * retrieve its error. Leaving the loop leaves the rest running; iterator:close() says that
 * nobody looks any more. Throws TypeError for what is not awaitable, RuntimeError if no
 * loop runs. Does not suspend; the iterator does. */
static int l_as_completed(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    lua_settop(L, 2);
    uint32_t n = lunl_check_list(L, 1);
    double timeout = lunl_opt_timeout(L, 2);
    lunl_join *g = lunl_join_open(L, loop, &completed_type, 1, n, 1, 0);
    lunl_join_sort(L, g);
    if (n == 0)
        lunl_join_close(g);
    else if (g->join->left > 0)
        lunl_join_deadline(L, g, timeout);
    return 1;
}

/* Children go into the list in place of their items, as many at a time as the limit allows.
 */
static void map_start(lua_State *L, lunl_state *S, lun_join *j, uint32_t limit)
{
    while (j->n < j->room && j->left < limit) {
        lua_Integer i = (lua_Integer)j->n + 1;
        lua_pushvalue(L, MAP_FN);
        lua_rawgeti(L, MAP_CHILDREN, i);
        lua_pushinteger(L, i);
        lun_future *child = &lunl_spawn(L, S->loop, 2, 0)->t.done;
        lua_rawseti(L, MAP_CHILDREN, i);
        lun_join_add(j, child);
    }
    uint32_t need = j->n < j->room ? 1 : UINT32_MAX;
    if (lun_future_done(&j->done) || j->need != need)
        lun_join_rearm(j, need, MAP_RULE);
}

static int map_k(lua_State *L, int status, lua_KContext limit);

static int map_go(lua_State *L, lunl_state *S, lun_task *t, lunl_join *g,
                  lua_KContext limit)
{
    lun_join *j = g->join;
    if (j->stopped)
        lunl_join_break(L, S, g);
    else if (!j->bad)
        map_start(L, S, j, (uint32_t)limit);
    if (lun_join_met(j))
        return lunl_join_results(L, g, MAP_CHILDREN, false);
    return lunl_join_wait(L, S, t, g, limit, map_k);
}

static int map_k(lua_State *L, int status, lua_KContext limit)
{
    lunl_state *S = lunl_S(L);
    lunl_join *g = lua_touserdata(L, MAP_JOIN);
    (void)status;
    lun_task *t = lunl_join_resumed(L, S, g);
    return map_go(L, S, t, g, limit);
}

/* The option limit; without it as many as there are numbers. */
static uint32_t check_limit(lua_State *L)
{
    int integer;
    lua_Integer limit = INT32_MAX;
    if (lunl_opt_table(L, MAP_OPTIONS) &&
        lunl_option(L, MAP_OPTIONS, "limit", LUA_TNUMBER) != LUA_TNIL) {
        limit = lua_tointegerx(L, -1, &integer);
        if (!integer)
            lunl_arg_error(L, MAP_OPTIONS, LUNL_TYPE_ERROR,
                           "limit: integer expected, got %f", lua_tonumber(L, -1));
        if (limit < 1)
            lunl_arg_error(L, MAP_OPTIONS, LUNL_VALUE_ERROR, "limit: %I is less than 1",
                           limit);
    }
    lua_settop(L, MAP_OPTIONS);
    return limit < INT32_MAX ? (uint32_t)limit : INT32_MAX;
}

/* --- async.map(list, fn, options?) -> results
 * Calls fn(item, index) in a task of its own for every item of a list and returns the list
 * of their first results, in order, with n. Option limit: an integer, at most so many at a
 * time. The first error, or cancellation of a child by somebody else, cancels those that
 * run, waits for them, and is thrown; the items not begun never are. Throws TypeError and
 * ValueError for bad arguments, RuntimeError outside a task. Suspends unless the list is
 * empty. Cancelling the caller cancels all children and waits for them. */
static int l_map(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, MAP_OPTIONS);
    uint32_t n = lunl_check_list(L, MAP_LIST);
    lunl_check_callable(L, MAP_FN);
    uint32_t limit = check_limit(L);
    lunl_join *g = lunl_join_new(L, S->loop, &lunl_join_type, n, UINT32_MAX, MAP_RULE);
    lua_createtable(L, (int)n, 1);
    lunl_join_children(L, MAP_CHILDREN);
    for (lua_Integer i = 1; i <= (lua_Integer)n; i++) {
        lua_rawgeti(L, MAP_LIST, i);
        lua_rawseti(L, MAP_CHILDREN, i);
    }
    if (n == 0 && lunl_gives_way(S)) {
        lun_task_yield(t);
        return lunl_suspend(L, S, limit, map_k);
    }
    return map_go(L, S, t, g, limit);
}

/* The results of the child number `winner`. A request that came after the decision is kept.
 */
static int race_results(lua_State *L, lun_task *t, lunl_join *g, lua_KContext winner)
{
    if (g->join->asked && t->requests > 0)
        t->flags |= LUN_MUST_CANCEL;
    lunl_join_close(g);
    lua_rawgeti(L, RACE_CHILDREN, (lua_Integer)winner);
    return lunl_outcome(L, lua_gettop(L), lua_touserdata(L, -1));
}

static int race_k(lua_State *L, int status, lua_KContext winner);

/* `winner`: the number of the child that has decided the race, 0 if none has. */
static int race_go(lua_State *L, lunl_state *S, lun_task *t, lunl_join *g,
                   lua_KContext winner)
{
    lun_join *j = g->join;
    const lun_arm *a = first_ended(j);
    if (!winner && a) {
        winner = a - j->arm + 1;
        lunl_join_break(L, S, g);
    }
    if (winner && lun_join_met(j))
        return race_results(L, t, g, winner);
    lunl_join_refuse_cycle(L, g, t);
    return lunl_join_wait(L, S, t, g, winner, race_k);
}

static int race_k(lua_State *L, int status, lua_KContext winner)
{
    lunl_state *S = lunl_S(L);
    lunl_join *g = lua_touserdata(L, RACE_JOIN);
    lun_future *on;
    bool interrupted;
    (void)status;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    /* Asked before a child had ended, it has no outcome; what has decided it is not lost.
     */
    if (interrupted || (g->join->asked && !winner)) {
        t->flags &= (uint8_t)~LUN_MUST_CANCEL; /* requests since then are one with it */
        lunl_join_close(g);
        lunl_throw_cancelled(L, S);
    }
    return race_go(L, S, t, g, winner);
}

/* --- async.race(awaitables) -> results
 * The first of a list to end decides: its results are returned, or its error (or
 * CancelledError) thrown, after the others have been cancelled and have ended; the errors
 * of those are reported. Functions and values with __await become tasks. Throws TypeError
 * for what is not awaitable, ValueError for an empty list, RuntimeError outside a task and
 * if a child waits for the caller. Suspends unless all are done. Cancelling the caller
 * cancels all and waits for them; if the race was decided before, its outcome comes first.
 */
static int l_race(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, RACE_AWAITABLES);
    uint32_t n = lunl_check_list(L, RACE_AWAITABLES);
    if (n == 0)
        lunl_arg_error(L, RACE_AWAITABLES, LUNL_VALUE_ERROR, "the list is empty");
    lunl_join *g =
        lunl_join_open(L, S->loop, &lunl_join_type, RACE_AWAITABLES, n, 1, LUN_JOIN_OWNS);
    lunl_join_sort(L, g);
    if (g->join->left == 0 && lunl_gives_way(S)) {
        lun_task_yield(t);
        return lunl_suspend(L, S, 0, race_k);
    }
    return race_go(L, S, t, g, 0);
}

void lunl_open_race(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"as_completed", l_as_completed}, {"map", l_map}, {"race", l_race}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", l_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__call", l_next}, {"__close", l_close}, {"__gc", finalise}, {NULL, NULL}};
    lunl_register(L, functions);
    lunl_newtype(L, &completed_type, methods, meta);
    lua_pop(L, 1);
}
