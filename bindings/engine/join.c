/* SPDX-License-Identifier: MIT */
/*
 * join.c - gather and wait, and what they share with race.c: the join of a combinator.
 *
 * The join counts its children as they end; everything else (which error is thrown, who is
 * cancelled, the order of the results) is decided by the awaiting task when it runs, so no
 * policy lies in a callback.
 *
 * The join and its arms are a block of the loop's allocator, since the collector need not
 * hear of memory that is given back at the end of the call. A small userdata owns it: it
 * lies on the stack of the function that awaits, or is an iterator.
 *
 * Law: as long as an arm is linked, the list of the children is the userdata's user value,
 * so a collector that finds both dead finalises the userdata, which drops the arms, before
 * the memory of a child goes.
 */
#include "join.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The stack of gather and of wait. */
enum { AWAITABLES = 1, OPTIONS, CHILDREN, JOIN };

enum gather_mode {
    RETURN_EXCEPTIONS = 1,
    CANCEL_ON_ERROR = 2,
};

const lunl_type lunl_join_type = {"join"};

/*
 * Makes a list of its arguments: the constructor of the language fills it at a third of the
 * cost of lua_rawseti. Its address is its key in the registry. Beyond MOST_AT_ONCE values
 * the stack that they need outweighs the gain.
 */
static const char constructor[] = "return {...}";
#if defined(LUN_CHAOS)
enum { MOST_AT_ONCE = 2 };
#else
enum { MOST_AT_ONCE = 1 << 14 };
#endif

static lun_arm *link_arm(lun_link *l)
{
    return lun_container(l, lun_arm, w.link);
}

uint32_t lunl_check_list(lua_State *L, int arg)
{
    if (lua_type(L, arg) != LUA_TTABLE)
        lunl_type_error(L, arg, "table");
    lua_Unsigned n = lua_rawlen(L, arg);
    if (n > INT32_MAX)
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "list too long");
    return (uint32_t)n;
}

double lunl_opt_timeout(lua_State *L, int arg)
{
    if (!lunl_opt_table(L, arg))
        return HUGE_VAL;
    bool absent = lunl_option(L, arg, "timeout", LUA_TNUMBER) == LUA_TNIL;
    double seconds = absent ? HUGE_VAL : lua_tonumber(L, -1);
    lua_pop(L, 1);
    return seconds;
}

/* The deadline: what ends from now on ends too late. */
static void expire(lun_timer *timer, lun_loop *loop)
{
    lunl_join *g = lun_container(timer, lunl_join, timer);
    g->expired = true;
    g->in_time = loop->order;
    if (!lun_future_done(&g->join->done))
        lun_future_settle(&g->join->done, LUN_OK);
}

lunl_join *lunl_join_new(lua_State *L, lunl_loop *loop, const lunl_type *type, uint32_t n,
                         uint32_t need, uint8_t rule)
{
    lua_pushnil(L);
    lunl_join *g = lunl_new(L, type, sizeof *g, 1);
    lun_timer_init(&g->timer, expire);
    g->loop = &loop->loop;
    g->join = lun_loop_alloc(g->loop, lun_join_size(n));
    if (!g->join)
        lunl_throw_uv(L, UV_ENOMEM, "join", NULL);
    lun_join_init(g->join, g->loop, n, need, rule);
    return g;
}

void lunl_join_children(lua_State *L, int children)
{
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, children + 1, 1);
    lua_replace(L, children);
}

/* Throws unless a task can be made of the value on top, number `i` of the list at `arg`. */
static void check_other(lua_State *L, lunl_loop *loop, int arg, int i, int type)
{
    if (type == LUA_TFUNCTION)
        return;
    if (lunl_to_future(L, -1))
        lunl_ensure_future(L, loop, lua_gettop(L)); /* of another loop: refuses it */
    if (!lunl_awaitable(L, lua_gettop(L)))
        lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "awaitable expected at index %d, got %s", i,
                       lua_typename(L, type));
}

/* Pushes value number `i` of the list: the future that it is, or NULL if it can become one.
 */
static inline lun_future *push_checked(lua_State *L, lunl_loop *loop, int arg, int i)
{
    int type = lua_rawgeti(L, arg, i);
    lun_future *f = type == LUA_TUSERDATA ? lunl_to_future(L, -1) : NULL;
    if (f && f->loop == &loop->loop)
        return f;
    check_other(L, loop, arg, i, type);
    return NULL;
}

/*
 * Arms wait for the futures noted in them. Nothing is allocated, so that no finaliser gets
 * in between the two arms of a duplicate.
 */
static void add_noted(lun_join *j)
{
    for (uint32_t i = 0; i < j->room; i++)
        lun_join_add(j, j->arm[i].w.on);
}

/* Makes children of the list at `arg`, all on the stack at once; false: they are too many.
 */
static bool open_on_stack(lua_State *L, lunl_loop *loop, int arg, int children, lun_join *j)
{
    int n = (int)j->room, others = 0;
    if (n > MOST_AT_ONCE || !lua_checkstack(L, n + 16))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, constructor);
    int top = lua_gettop(L);
    for (int i = 0; i < n; i++) {
        lun_future *f = push_checked(L, loop, arg, i + 1);
        j->arm[i].w.on = f;
        others += !f;
    }
    for (int i = 0; others > 0; i++) {
        if (j->arm[i].w.on)
            continue;
        j->arm[i].w.on = lunl_ensure_future(L, loop, top + i + 1);
        others--;
    }
    lua_call(L, n, 1);
    lunl_join_children(L, children);
    add_noted(j);
    return true;
}

/* The same for lists of any length. */
static void open_in_table(lua_State *L, lunl_loop *loop, int arg, int children, lun_join *j)
{
    int n = (int)j->room;
    for (int i = 1; i <= n; i++) {
        push_checked(L, loop, arg, i);
        lua_pop(L, 1);
    }
    lua_createtable(L, n, 1);
    lunl_join_children(L, children);
    for (int i = 1; i <= n; i++) {
        if (lua_rawgeti(L, arg, i) == LUA_TFUNCTION) {
            j->arm[i - 1].w.on = &lunl_spawn_above(L, loop, 0, 0)->t.done;
            lua_rawseti(L, children, i);
            lua_pop(L, 1);
            continue;
        }
        j->arm[i - 1].w.on = lunl_ensure_future(L, loop, lua_gettop(L));
        lua_rawseti(L, children, i);
    }
    add_noted(j);
}

lunl_join *lunl_join_open(lua_State *L, lunl_loop *loop, const lunl_type *type, int arg,
                          uint32_t n, uint32_t need, uint8_t rule)
{
    lunl_join *g = lunl_join_new(L, loop, type, n, need, rule);
    lun_join *j = g->join;
    int children = lua_gettop(L) - 1;
    if (!open_on_stack(L, loop, arg, children, j))
        open_in_table(L, loop, arg, children, j);
    /* One that had ended was all there was when it was added. */
    if (lun_future_done(&j->done) && !lun_join_met(j))
        lun_join_rearm(j, need, rule);
    return g;
}

static int by_completion(const void *a, const void *b)
{
    const lun_arm *x = *(lun_arm *const *)a, *y = *(lun_arm *const *)b;
    int32_t later = (int32_t)(x->w.on->order - y->w.on->order);
    return (later > 0) - (later < 0);
}

void lunl_join_sort(lua_State *L, lunl_join *g)
{
    lun_join *j = g->join;
    lun_loop *loop = g->loop;
    uint32_t n = 0;
    bool sorted = true;
    lun_list_each(l, &j->finished) {
        lun_arm *a = link_arm(l), *before = link_arm(l->prev);
        sorted = sorted && (n == 0 || by_completion(&before, &a) <= 0);
        n++;
    }
    if (sorted)
        return;
    lun_arm **arms = lun_loop_alloc(loop, n * sizeof *arms), **end = arms;
    if (!arms) {
        lunl_join_close(g);
        lunl_throw_uv(L, UV_ENOMEM, "sort", NULL);
    }
    lun_list_each(l, &j->finished)
        *end++ = link_arm(l);
    qsort(arms, n, sizeof *arms, by_completion);
    lun_list_init(&j->finished);
    for (uint32_t i = 0; i < n; i++)
        lun_list_push(&j->finished, &arms[i]->w.link);
    lun_loop_free(loop, arms, n * sizeof *arms);
}

void lunl_join_deadline(lua_State *L, lunl_join *g, double seconds)
{
    int err = lun_timer_start(g->loop, &g->timer, lun_loop_deadline(g->loop, seconds));
    if (err != 0) {
        lunl_join_close(g);
        lunl_throw_uv(L, err, "timer", NULL);
    }
}

void lunl_join_refuse_cycle(lua_State *L, lunl_join *g, lun_task *t)
{
    if (!lun_task_would_cycle(t, &g->join->done))
        return;
    lunl_join_close(g);
    lunl_throw(L, LUNL_RUNTIME_ERROR,
               "a task cannot await itself, nor what waits for it: that would be a cycle");
}

int lunl_join_wait(lua_State *L, lunl_state *S, lun_task *t, lunl_join *g, lua_KContext ctx,
                   lua_KFunction k)
{
    lun_task_wait(t, &g->join->done, g->join->rule & LUN_JOIN_OWNS);
    return lunl_suspend(L, S, ctx, k);
}

lun_task *lunl_join_resumed(lua_State *L, lunl_state *S, lunl_join *g)
{
    lun_future *on;
    bool interrupted;
    lun_task *t = lunl_resumed_quietly(L, S, &on, &interrupted);
    if (interrupted || g->join->asked) {
        t->flags &= (uint8_t)~LUN_MUST_CANCEL; /* requests since then are one with it */
        lunl_join_close(g);
        lunl_throw_cancelled(L, S);
    }
    return t;
}

void lunl_join_break(lua_State *L, lunl_state *S, lunl_join *g)
{
    lun_join_rearm(g->join, UINT32_MAX, LUN_JOIN_OWNS);
    lunl_cancel_join(L, S, g->join);
}

/* Throws the error of the child that stopped the join. */
static int throw_first(lua_State *L, lunl_join *g, int children)
{
    lun_future *bad = g->join->bad;
    lua_Integer i = 1;
    while (g->join->arm[i - 1].w.on != bad)
        i++;
    lunl_join_close(g);
    lua_rawgeti(L, children, i);
    return lunl_outcome(L, lua_gettop(L), bad);
}

int lunl_join_results(lua_State *L, lunl_join *g, int children, bool errors)
{
    lua_Integer n = g->join->n;
    int table = 0;
    if (g->join->bad && !errors)
        return throw_first(L, g, children);
    lunl_join_close(g);
    if (errors) {
        lua_newtable(L);
        table = lua_gettop(L);
    }
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, children, i);
        lun_future *f = lua_touserdata(L, -1);
        if (f->state == LUN_OK) {
            lunl_push_first(L, -1, f);
        } else {
            lunl_push_error(L, -1, f);
            lua_pushvalue(L, -1);
            lua_rawseti(L, table, i);
        }
        lua_rawseti(L, children, i);
        lua_pop(L, 1);
    }
    lua_pushinteger(L, n);
    lua_setfield(L, children, "n");
    lua_pushvalue(L, children);
    if (errors)
        lua_insert(L, table);
    return errors ? 2 : 1;
}

void lunl_join_close(lunl_join *g)
{
    lun_join *j = g->join;
    if (!j)
        return;
    g->join = NULL;
    lun_timer_stop(g->loop, &g->timer);
    lun_join_fini(j);
    lun_loop_free(g->loop, j, lun_join_size(j->room));
}

static int finalise(lua_State *L)
{
    lunl_join_close(lua_touserdata(L, 1));
    return 0;
}

static int gather_mode(lua_State *L)
{
    int mode = 0;
    if (!lunl_opt_table(L, OPTIONS))
        return mode;
    lunl_option(L, OPTIONS, "return_exceptions", LUA_TBOOLEAN);
    mode |= lua_toboolean(L, -1) ? RETURN_EXCEPTIONS : 0;
    lunl_option(L, OPTIONS, "cancel_on_error", LUA_TBOOLEAN);
    mode |= lua_toboolean(L, -1) ? CANCEL_ON_ERROR : 0;
    lua_pop(L, 2);
    return mode;
}

static int gather_k(lua_State *L, int status, lua_KContext mode);

/* What is due now: to cancel the rest, to wait on, or to return. */
static int gather_go(lua_State *L, lunl_state *S, lun_task *t, lunl_join *g,
                     lua_KContext mode)
{
    if (g->join->stopped && (mode & CANCEL_ON_ERROR))
        lunl_join_break(L, S, g);
    if (lun_join_met(g->join))
        return lunl_join_results(L, g, CHILDREN, mode & RETURN_EXCEPTIONS);
    lunl_join_refuse_cycle(L, g, t);
    return lunl_join_wait(L, S, t, g, mode, gather_k);
}

static int gather_k(lua_State *L, int status, lua_KContext mode)
{
    lunl_state *S = lunl_S(L);
    lunl_join *g = lua_touserdata(L, JOIN);
    (void)status;
    lun_task *t = lunl_join_resumed(L, S, g);
    return gather_go(L, S, t, g, mode);
}

/* --- async.gather(awaitables, options?) -> results [, errors]
 * Runs the awaitables of a list at once and returns the list of their first results, in the
 * same order, with n. Functions and values with __await become tasks, after all have been
 * checked. The first error, or cancellation of a child by somebody else, is thrown at once;
 * the others go on. Options: return_exceptions = true: no error of a child is thrown; it
 * stands among the results, and a second table, errors, has errors[i] for those that
 * failed. cancel_on_error = true: at the first error the others are cancelled and awaited,
 * then it is thrown (or, with return_exceptions as well, all is returned). Throws TypeError
 * for what is not awaitable, RuntimeError outside a task and if a child waits for the
 * caller. Suspends unless all are done. Cancelling the caller cancels all children and
 * waits for them; without options, as asyncio's gather does, only for the first of them
 * that ends by it. */
static int l_gather(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, OPTIONS);
    uint32_t n = lunl_check_list(L, AWAITABLES);
    int mode = gather_mode(L);
    uint8_t rule = LUN_JOIN_OWNS;
    if (mode != RETURN_EXCEPTIONS)
        rule |= LUN_STOP_ERROR | LUN_STOP_CANCELLED;
    if (mode == 0)
        rule |=
            LUN_STOP_ASKED; /* as asyncio's: thrown when the first child has ended by it */
    lunl_join *g =
        lunl_join_open(L, S->loop, &lunl_join_type, AWAITABLES, n, UINT32_MAX, rule);
    if (g->join->left == 0 && lunl_gives_way(S)) {
        lun_task_yield(t);
        return lunl_suspend(L, S, mode, gather_k);
    }
    return gather_go(L, S, t, g, mode);
}

/* The option return_when as need and rule of the join. */
static void check_return_when(lua_State *L, uint32_t *need, uint8_t *rule)
{
    *need = UINT32_MAX;
    *rule = 0;
    if (!lunl_opt_table(L, OPTIONS))
        return;
    size_t len;
    int type = lunl_option(L, OPTIONS, "return_when", LUA_TNONE);
    const char *when = type == LUA_TSTRING ? lua_tostring(L, -1) : "";
    if (strcmp(when, "FIRST_COMPLETED") == 0)
        *need = 1;
    else if (strcmp(when, "FIRST_EXCEPTION") == 0)
        *rule = LUN_STOP_ERROR;
    else if (type != LUA_TNIL && strcmp(when, "ALL_COMPLETED") != 0)
        lunl_arg_error(L, OPTIONS, LUNL_VALUE_ERROR,
                       "return_when: FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED "
                       "expected, got %s",
                       lunl_text(L, -1, &len));
    lua_pop(L, 1);
}

/* Drops from the list of children all but those that are still pending, each once. */
static void keep_pending(lua_State *L, const lun_join *j)
{
    lua_Integer kept = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        if (lun_future_done(j->arm[i].w.on) || lun_arm_duplicate(j, i) || ++kept == i + 1)
            continue;
        lua_rawgeti(L, CHILDREN, (lua_Integer)i + 1);
        lua_rawseti(L, CHILDREN, kept);
    }
    while (kept < j->n) {
        lua_pushnil(L);
        lua_rawseti(L, CHILDREN, ++kept);
    }
}

static int wait_results(lua_State *L, lunl_join *g)
{
    lun_join *j = g->join;
    const lun_future *last = NULL;
    lua_Integer n = 0;
    lua_createtable(L, (int)(j->n - j->left), 0);
    lun_list_each(l, &j->finished) {
        lun_arm *a = link_arm(l);
        if (a->w.on == last) /* a duplicate follows its twin */
            continue;
        last = a->w.on;
        lua_rawgeti(L, CHILDREN, a - j->arm + 1);
        lua_rawseti(L, -2, ++n);
    }
    keep_pending(L, j);
    lunl_join_close(g);
    lua_pushvalue(L, CHILDREN);
    return 2;
}

static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_join *g = lua_touserdata(L, JOIN);
    (void)status;
    (void)ctx;
    lunl_join_resumed(L, lunl_S(L), g);
    return wait_results(L, g);
}

/* --- async.wait(awaitables, options?) -> done, pending
 * Waits until the tasks of a list have ended and returns two lists: those that are done, in
 * the order in which they ended, and those that are pending, in the order given; each
 * future once. Functions and values with __await become tasks. Options: timeout: seconds
 * after which it returns in any case, 0 after one turn; return_when: async.ALL_COMPLETED
 * (default), FIRST_COMPLETED, or FIRST_EXCEPTION (a cancelled one is none). Never throws an
 * error of a child, retrieves none, cancels nothing. Throws TypeError for what is not
 * awaitable, ValueError for an empty list and an unknown return_when, RuntimeError outside
 * a task and where the caller would wait for itself for ever. Suspends unless enough are
 * done. Safe to cancel: the children go on. */
static int l_wait(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    uint32_t need;
    uint8_t rule;
    lua_settop(L, OPTIONS);
    uint32_t n = lunl_check_list(L, AWAITABLES);
    if (n == 0)
        lunl_arg_error(L, AWAITABLES, LUNL_VALUE_ERROR, "the list is empty");
    check_return_when(L, &need, &rule);
    double timeout = lunl_opt_timeout(L, OPTIONS);
    lunl_join *g = lunl_join_open(L, S->loop, &lunl_join_type, AWAITABLES, n, need, rule);
    lunl_join_sort(L, g);
    bool met = lun_join_met(g->join);
    if (met && !lunl_gives_way(S))
        return wait_results(L, g);
    if (met || timeout <= 0) {
        lun_task_yield(t);
        return lunl_suspend(L, S, 0, wait_k);
    }
    /* The others may end first, or the time: only who waits for all, for ever, is lost. */
    if (isinf(timeout) && need == UINT32_MAX && rule == 0)
        lunl_join_refuse_cycle(L, g, t);
    lunl_join_deadline(L, g, timeout);
    return lunl_join_wait(L, S, t, g, 0, wait_k);
}

void lunl_open_join(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"gather", l_gather}, {"wait", l_wait}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", finalise}, {NULL, NULL}};
    static const char *const when[] = {"FIRST_COMPLETED", "FIRST_EXCEPTION",
                                       "ALL_COMPLETED"};
    lunl_register(L, functions);
    for (size_t i = 0; i < sizeof when / sizeof *when; i++) {
        lua_pushstring(L, when[i]);
        lua_setfield(L, -2, when[i]);
    }
    if (luaL_loadstring(L, constructor) != LUA_OK)
        lua_error(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, constructor);
    lunl_newtype(L, &lunl_join_type, NULL, meta);
    lua_pop(L, 1);
}
