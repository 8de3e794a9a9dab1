/* SPDX-License-Identifier: MIT */
/*
 * queue.c - Queue, LifoQueue and PriorityQueue.
 *
 * An item is taken when the getter runs, not when it is woken: being woken reserves an item
 * (or, for a putter, room), no certain one. So a cancelled getter loses none, a priority
 * queue gives the best of the moment, and get_nowait may be quicker; then who was woken
 * waits on at the front.
 *
 * Laws:
 *  1. Who is queued is woken as soon as there is more than is reserved, so a get or a put
 *     that finds such overtakes nobody.
 *  2. A FIFO's entries are a ring, those of the others begin at 0; n, head and room say
 *     all. What was taken is cleared, so that the queue keeps nothing alive.
 */
#include "queue.h"

enum { FIFO, LIFO, PRIORITY, TYPES };
static const lunl_type types[TYPES] = {{"Queue"}, {"LifoQueue"}, {"PriorityQueue"}};

enum {
    LEAST_ROOM = 16,  /* a power of two */
    MOST_SMALL = 128, /* so many entries at most need no table */
    KEPT_ROOM = 1024, /* a larger table is given back when the queue is empty */
    MOST_ROOM = 1 << 29
};

static inline lunl_queue *check_queue(lua_State *L)
{
    lunl_queue *q = lua_touserdata(L, 1);
    if (q && lua_rawlen(L, 1) >= sizeof(void *) &&
        (uintptr_t)q->type - (uintptr_t)types < sizeof types)
        return q;
    lunl_type_error(L, 1, "Queue");
}

/* ---- the two sides ---- */

static inline bool item_for_getter(const lunl_queue *q)
{
    return q->n > q->getters.granted;
}

static inline bool room_for_putter(const lunl_queue *q)
{
    return q->n + q->putters.granted < q->most;
}

void lunl_queue_wake_getters(lunl_queue *q)
{
    while (lun_park_waiting(&q->getters) && (item_for_getter(q) || q->shut))
        lun_park_grant(&q->getters);
}

void lunl_queue_wake_putters(lunl_queue *q)
{
    while (lun_park_waiting(&q->putters) && (room_for_putter(q) || q->shut))
        lun_park_grant(&q->putters);
}

static void getter_revoked(lun_park *park)
{
    lunl_queue_wake_getters(lun_container(park, lunl_queue, getters));
}

static void putter_revoked(lun_park *park)
{
    lunl_queue_wake_putters(lun_container(park, lunl_queue, putters));
}

/* The queue belongs to the loop of `t` while somebody waits in it. */
static void adopt(lua_State *L, lunl_queue *q, const lun_task *t)
{
    lun_park *parks[] = {&q->getters, &q->putters, &q->joiners};
    if (q->joiners.base.loop == t->done.loop)
        return;
    for (int i = 0; i < 3; i++)
        if (lun_park_waiting(parks[i]) || parks[i]->granted > 0)
            lunl_throw(L, LUNL_RUNTIME_ERROR, "this %s is bound to a different event loop",
                       q->type->name);
    for (int i = 0; i < 3; i++)
        parks[i]->base.loop = t->done.loop;
}

/*
 * Waits again, before those that were not woken yet and behind those that were woken in
 * vain earlier.
 */
static void wait_again(lun_park *p, lun_task *t)
{
    lun_link *head = &p->base.waiters, *mine = &t->u.wait.link, *behind = head;
    while (behind->next != head &&
           lun_container(behind->next, lun_task, u.wait.link)->done.guest & LUNL_AGAIN)
        behind = behind->next;
    lun_park_wait(p, t);
    t->done.guest |= LUNL_AGAIN;
    if (lun_list_alone(mine))
        return;
    lun_list_drop(mine);
    lun_list_push_front(behind, mine);
}

static void wait_first(lun_park *p, lun_task *t)
{
    t->done.guest &= (uint16_t)~LUNL_AGAIN;
    lun_park_wait(p, t);
}

/* ---- items ---- */

/* Copies entry `from` into slot `to` of the table at `t`; the table of old is at t + 1. */
static void copy_entry(lua_State *L, const lunl_queue *q, uint32_t from, int t, uint32_t to)
{
    if (q->room > q->small) {
        lua_rawgeti(L, t + 1, (lua_Integer)from + 1);
    } else {
        lua_getiuservalue(L, 1, (int)from + 2);
        lua_pushnil(L);
        lua_setiuservalue(L, 1, (int)from + 2);
    }
    lua_rawseti(L, t, (lua_Integer)to + 1);
}

/* Doubles the room of a full queue; a finaliser may change it meanwhile. */
static void grow(lua_State *L, lunl_queue *q)
{
    /* If it fails, the task that was woken to put must not take the next one's turn along.
     */
    lunl_queue_wake_putters(q);
    while (q->n == q->room) {
        uint32_t room = q->room ? 2 * q->room : LEAST_ROOM;
        int t = lua_gettop(L) + 1;
        if (room > MOST_ROOM)
            luaL_error(L, "not enough memory");
        lua_createtable(L, (int)(q->ordered ? 2 * room : room), 0);
        if (q->n < room) {
            lua_getiuservalue(L, 1, 1);
            uint32_t slots = q->ordered ? 2 * q->n : q->n;
            for (uint32_t i = 0; i < slots; i++)
                copy_entry(L, q, q->ordered ? i : (q->head + i) & (q->room - 1), t, i);
            q->room = room;
            q->head = 0;
            q->changes++;
            lua_settop(L, t);
            lua_setiuservalue(L, 1, 1);
        }
        lua_settop(L, t - 1);
    }
}

void lunl_queue_reserve(lua_State *L, lunl_queue *q)
{
    if (q->n == q->room)
        grow(L, q);
}

/* Without items a large table is given back. */
static void emptied(lua_State *L, lunl_queue *q)
{
    q->head = 0;
    if (q->room <= KEPT_ROOM || q->room == q->small)
        return;
    q->room = q->small;
    lua_pushnil(L);
    lua_setiuservalue(L, 1, 1);
}

/* Puts the item at index 2, the top, into the queue at index 1. */
static inline void store(lua_State *L, lunl_queue *q)
{
    if (q->ordered) {
        lunl_heap_push(L, q);
    } else {
        lunl_queue_reserve(L, q);
        uint32_t at = (q->head + q->n++) & (q->room - 1);
        if (q->room == q->small) {
            lua_setiuservalue(L, 1, (int)at + 2);
        } else {
            lua_getiuservalue(L, 1, 1);
            lua_pushvalue(L, 2);
            lua_rawseti(L, -2, (lua_Integer)at + 1);
        }
    }
    q->unfinished++;
    if (lun_park_waiting(&q->getters))
        lunl_queue_wake_getters(q);
}

/* The next item of the queue at index 1 onto the stack; false if there is none (left). */
static inline bool take(lua_State *L, lunl_queue *q)
{
    if (q->n == 0 || (q->ordered && !lunl_heap_pop(L, q)))
        return false;
    if (!q->ordered) {
        uint32_t at = q->head;
        q->n--;
        if (q->type == &types[FIFO])
            q->head = (at + 1) & (q->room - 1);
        else
            at = q->n;
        if (q->room == q->small) {
            lua_getiuservalue(L, 1, (int)at + 2);
            lua_pushnil(L);
            lua_setiuservalue(L, 1, (int)at + 2);
        } else {
            lua_getiuservalue(L, 1, 1);
            lua_rawgeti(L, -1, (lua_Integer)at + 1);
            lua_pushnil(L);
            lua_rawseti(L, -3, (lua_Integer)at + 1);
        }
    }
    if (q->n == 0)
        emptied(L, q);
    if (lun_park_waiting(&q->putters))
        lunl_queue_wake_putters(q);
    return true;
}

/* Drops all items. */
static void clear(lua_State *L, lunl_queue *q)
{
    q->unfinished -= q->unfinished < q->n ? q->unfinished : q->n;
    for (uint32_t i = 0; i < q->small; i++) {
        lua_pushnil(L);
        lua_setiuservalue(L, 1, (int)i + 2);
    }
    q->n = q->head = 0;
    q->room = q->small;
    q->changes++;
    lua_pushnil(L);
    lua_setiuservalue(L, 1, 1);
}

/* ---- put ---- */

/* What a continuation knows: bits of its context. */
enum {
    GAVE_WAY = 1, /* it only gave a turn away and has to begin now */
    WOKEN = 2,    /* it had a place in the queue */
    ITERATES = 4, /* a loop asks: the shutdown is its end */
};

static void check_open(lua_State *L, const lunl_queue *q)
{
    if (q->shut)
        lunl_throw(L, LUNL_QUEUE_SHUT_DOWN, "the queue has been shut down");
}

static int put_k(lua_State *L, int status, lua_KContext ctx);

/* A turn that fairness demands comes before the item is in: a cancel then says the truth.
 */
static int put(lua_State *L, lunl_state *S, lun_task *t, lunl_queue *q, lua_KContext ctx)
{
    check_open(L, q);
    if (ctx & WOKEN ? q->n < q->most : room_for_putter(q)) {
        if (ctx || !lunl_gives_way(S)) {
            store(L, q);
            return 0;
        }
        lun_task_yield(t);
        return lunl_suspend(L, S, GAVE_WAY, put_k);
    }
    adopt(L, q, t);
    if (ctx & WOKEN)
        wait_again(&q->putters, t);
    else
        wait_first(&q->putters, t);
    return lunl_suspend(L, S, WOKEN, put_k);
}

static int put_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    (void)status;
    lun_task *t = lunl_resumed(L, S, &on);
    return put(L, S, t, check_queue(L), ctx);
}

/* --- queue:put(item)
 * Puts an item, nil and false included, suspending while the queue is full: first come,
 * first served. Throws QueueShutDown after shutdown(), RuntimeError outside a task or if
 * tasks of another loop wait in the queue, and what a PriorityQueue's order throws, which
 * leaves the queue as it was. Safe to cancel: the item is in the queue or put() throws. */
static int l_put(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    lun_task *t = lunl_enter(L, q->S);
    if (lua_gettop(L) != 2)
        lua_settop(L, 2);
    return put(L, q->S, t, q, 0);
}

/* --- queue:put_nowait(item)
 * The same without ever suspending, also outside a task: throws QueueFull instead. */
static int l_put_nowait(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    check_open(L, q);
    if (q->n >= q->most)
        lunl_throw(L, LUNL_QUEUE_FULL, "the queue is full");
    lua_settop(L, 2);
    store(L, q);
    return 0;
}

/* ---- get ---- */

static int get_k(lua_State *L, int status, lua_KContext ctx);

/* The item is on the stack. */
static int got(lua_State *L, lua_KContext ctx)
{
    if ((ctx & ITERATES) && lua_isnil(L, -1))
        lunl_throw(L, LUNL_VALUE_ERROR,
                   "the queue holds a nil, at which a for loop would end: use get()");
    return 1;
}

static int get(lua_State *L, lunl_state *S, lun_task *t, lunl_queue *q, lua_KContext ctx)
{
    /* A queue that was shut down is emptied by whoever comes: there is nothing to wait for.
     */
    if (ctx & WOKEN || q->shut ? q->n > 0 : item_for_getter(q)) {
        if (!(ctx & (WOKEN | GAVE_WAY)) && lunl_gives_way(S)) {
            lun_task_yield(t);
            return lunl_suspend(L, S, ctx | GAVE_WAY, get_k);
        }
        if (take(L, q))
            return got(L, ctx);
    }
    if (q->shut && (ctx & ITERATES))
        return 0;
    check_open(L, q);
    adopt(L, q, t);
    if (ctx & WOKEN)
        wait_again(&q->getters, t);
    else
        wait_first(&q->getters, t);
    return lunl_suspend(L, S, (ctx & ITERATES) | WOKEN, get_k);
}

static int get_k(lua_State *L, int status, lua_KContext ctx)
{
    lunl_state *S = lunl_S(L);
    lun_future *on;
    (void)status;
    lun_task *t = lunl_resumed(L, S, &on);
    return get(L, S, t, check_queue(L), ctx);
}

/* --- queue:get() -> item
 * Takes the next item: the oldest, the newest (LifoQueue) or the least (PriorityQueue).
 * Suspends while there is none: first come, first served. Throws QueueShutDown when the
 * queue was shut down and is empty, RuntimeError outside a task or if tasks of another loop
 * wait in the queue, and what a PriorityQueue's order throws, which leaves the queue as it
 * was. Safe to cancel: an item is returned or still in the queue. */
static int l_get(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    return get(L, q->S, lunl_enter(L, q->S), q, 0);
}

/* --- queue:get_nowait() -> item
 * The same without ever suspending, also outside a task: throws QueueEmpty instead. It may
 * take what a woken getter was to get; that one then waits on, at the front. */
static int l_get_nowait(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    if (!take(L, q)) {
        check_open(L, q);
        lunl_throw(L, LUNL_QUEUE_EMPTY, "the queue is empty");
    }
    return 1;
}

/* --- next() -> item
 * What iter() returned: the next item, nothing when the queue was shut down and is empty.
 */
static int l_next(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(3));
    lunl_queue *q = check_queue(L);
    return get(L, q->S, lunl_enter(L, q->S), q, ITERATES);
}

/* --- queue:iter() -> function
 * For `for item in queue:iter() do`: gets item after item, suspending as get() does, until
 * the queue is shut down and empty. A nil among the items ends a for loop, so it throws
 * ValueError. */
static int l_iter(lua_State *L)
{
    check_queue(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_next, 3);
    return 1;
}

/* ---- join and the rest ---- */

static int join_k(lua_State *L, int status, lua_KContext ctx)
{
    lun_future *on;
    (void)status;
    (void)ctx;
    lunl_resumed(L, lunl_S(L), &on);
    return 0;
}

/* --- queue:join()
 * Suspends until every item that was put has been reported by task_done(). Throws
 * RuntimeError outside a task or if tasks of another loop wait in the queue. Safe to
 * cancel. */
static int l_join(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lun_task *t = lunl_enter(L, S);
    lunl_queue *q = check_queue(L);
    if (q->unfinished > 0) {
        adopt(L, q, t);
        lun_park_wait(&q->joiners, t);
    } else if (lunl_gives_way(S)) {
        lun_task_yield(t);
    } else {
        return 0;
    }
    return lunl_suspend(L, S, 0, join_k);
}

/* --- queue:task_done()
 * Reports an item that was got as worked on. Throws ValueError if there was none. */
static int l_task_done(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    if (q->unfinished == 0)
        lunl_throw(L, LUNL_VALUE_ERROR,
                   "task_done() called more often than items were put");
    if (--q->unfinished == 0)
        lun_park_grant_all(&q->joiners);
    return 0;
}

/* --- queue:shutdown(immediate)
 * Ends the queue: put() throws QueueShutDown, now for those that wait, too; get() does when
 * the queue is empty. immediate = true drops the items there are and counts them as done.
 * Throws TypeError if immediate is neither a boolean nor nil. Never suspends. */
static int l_shutdown(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    if (!lua_isnoneornil(L, 2) && !lua_isboolean(L, 2))
        lunl_type_error(L, 2, "boolean");
    q->shut = true;
    if (lua_toboolean(L, 2)) {
        clear(L, q);
        if (q->unfinished == 0)
            lun_park_grant_all(&q->joiners);
    }
    lunl_queue_wake_getters(q);
    lunl_queue_wake_putters(q);
    return 0;
}

/* --- queue:qsize() -> integer */
static int l_qsize(lua_State *L)
{
    lua_pushinteger(L, check_queue(L)->n);
    return 1;
}

/* --- queue:empty() -> boolean */
static int l_empty(lua_State *L)
{
    lua_pushboolean(L, check_queue(L)->n == 0);
    return 1;
}

/* --- queue:full() -> boolean
 * Never true for a queue without a maximum. */
static int l_full(lua_State *L)
{
    lunl_queue *q = check_queue(L);
    lua_pushboolean(L, q->n >= q->most);
    return 1;
}

/* A queue of the type `which`; its maximum is argument 1. */
static int new_queue(lua_State *L, int which)
{
    lua_Integer most = 0;
    if (!lua_isnoneornil(L, 1))
        most = lunl_check_integer(L, 1, LUA_MININTEGER, LUA_MAXINTEGER);
    uint32_t small = LEAST_ROOM;
    while (small < most && small < MOST_SMALL)
        small *= 2;
    small = which == PRIORITY ? 0 : small;
    lunl_queue *q =
        lunl_new(L, &types[which], sizeof *q, which == PRIORITY ? 2 : 1 + (int)small);
    q->S = lunl_S(L);
    q->most = most > 0 && most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
    q->ordered = which == PRIORITY;
    q->small = q->room = small;
    lun_park_init(&q->getters, NULL, getter_revoked);
    lun_park_init(&q->putters, NULL, putter_revoked);
    lun_park_init(&q->joiners, NULL, NULL);
    return 1;
}

/* --- async.Queue(maxsize) -> Queue
 * First in, first out; at most maxsize items, any number if that is nil or not above 0.
 * Throws TypeError for what is no integer. Needs no loop. */
static int l_Queue(lua_State *L)
{
    return new_queue(L, FIFO);
}

/* --- async.LifoQueue(maxsize) -> LifoQueue
 * The same, but last in, first out. */
static int l_LifoQueue(lua_State *L)
{
    return new_queue(L, LIFO);
}

/* --- async.PriorityQueue(maxsize, less) -> PriorityQueue
 * The same, but the least item first, equal ones in the order in which they were put.
 * less(a, b) tells whether a goes before b, `<` by default; it cannot await. Throws
 * TypeError if it cannot be called. */
static int l_PriorityQueue(lua_State *L)
{
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        lunl_check_callable(L, 2);
    new_queue(L, PRIORITY);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 3, 2);
    return 1;
}

void lunl_open_queue(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"Queue", l_Queue},
        {"LifoQueue", l_LifoQueue},
        {"PriorityQueue", l_PriorityQueue},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"put", l_put},
        {"get", l_get},
        {"put_nowait", l_put_nowait},
        {"get_nowait", l_get_nowait},
        {"iter", l_iter},
        {"join", l_join},
        {"task_done", l_task_done},
        {"shutdown", l_shutdown},
        {"qsize", l_qsize},
        {"empty", l_empty},
        {"full", l_full},
        {NULL, NULL},
    };
    for (int i = 0; i < TYPES; i++)
        lunl_newtype(L, &types[i], methods, NULL);
    lua_pop(L, TYPES);
    lunl_register(L, functions);
}
