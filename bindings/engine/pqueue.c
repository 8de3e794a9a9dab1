/* SPDX-License-Identifier: MIT */
/*
 * pqueue.c - the order of a PriorityQueue: a stable binary heap in a Lua table.
 *
 * Entry i (from 1) has two slots: the item and the number under which it was put. Of two
 * items, only the later one has to be asked whether it is less, for equal ones stay in
 * order: so each comparison is one call of the comparator.
 *
 * Law: look first, move then. The way is found without a change, as the entry where it
 * ends; the entries above that are the way. Comparators and collections may change the
 * queue meanwhile: then the search begins anew.
 */
#include "queue.h"

/* Searches that a comparator may spoil before that is the program's fault. */
enum { TRIES = 100 };

static int item_slot(uint32_t entry)
{
    return (int)(2 * entry - 1);
}

static int number_slot(uint32_t entry)
{
    return (int)(2 * entry);
}

static int plain_less(lua_State *L)
{
    lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    return 1;
}

/*
 * Is the value at `a` less than that at `b`? A task that was woken to put or get may fail
 * here; it must not take the others' turn along, so they are woken before the error goes
 * on.
 */
static bool less(lua_State *L, lunl_queue *q, int a, int b)
{
    int type = lua_type(L, a);
    lua_getiuservalue(L, 1, 2);
    if (lua_isnil(L, -1)) {
        if ((type == LUA_TNUMBER || type == LUA_TSTRING) && type == lua_type(L, b)) {
            lua_pop(L, 1);
            return lua_compare(L, a, b, LUA_OPLT);
        }
        lua_pop(L, 1);
        lua_pushcfunction(L, plain_less);
    }
    lua_pushvalue(L, a);
    lua_pushvalue(L, b);
    if (!lun_park_waiting(&q->getters) && !lun_park_waiting(&q->putters)) {
        lua_call(L, 2, 1);
    } else if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
        lunl_queue_wake_getters(q);
        lunl_queue_wake_putters(q);
        lua_error(L);
    }
    bool result = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return result;
}

/* The same for two entries of the table at `t`; equal ones by their numbers. */
static bool before(lua_State *L, lunl_queue *q, int t, uint32_t i, uint32_t j)
{
    lua_rawgeti(L, t, number_slot(i));
    lua_rawgeti(L, t, number_slot(j));
    bool later = lua_tointeger(L, -2) > lua_tointeger(L, -1);
    lua_pop(L, 2);
    lua_rawgeti(L, t, item_slot(i));
    lua_rawgeti(L, t, item_slot(j));
    int a = lua_gettop(L) - 1, b = a + 1;
    bool result = later ? less(L, q, a, b) : !less(L, q, b, a);
    lua_pop(L, 2);
    return result;
}

/* Entry `from` becomes entry `to` of the table at `t`. */
static void move(lua_State *L, int t, uint32_t from, uint32_t to)
{
    lua_rawgeti(L, t, item_slot(from));
    lua_rawseti(L, t, item_slot(to));
    lua_rawgeti(L, t, number_slot(from));
    lua_rawseti(L, t, number_slot(to));
}

static void spoilt(lua_State *L, int tries)
{
    if (tries >= TRIES)
        lunl_throw(L, LUNL_RUNTIME_ERROR,
                   "the order of a PriorityQueue must not change the queue");
}

void lunl_heap_push(lua_State *L, lunl_queue *q)
{
    uint32_t changes, at;
    int t = lua_gettop(L) + 1;
    for (int tries = 0;; tries++) {
        spoilt(L, tries);
        lunl_queue_reserve(L, q);
        lua_getiuservalue(L, 1, 1);
        changes = q->changes;
        for (at = q->n + 1; at > 1 && changes == q->changes; at /= 2) {
            lua_rawgeti(L, t, item_slot(at / 2));
            bool up = less(L, q, 2, t + 1);
            lua_pop(L, 1);
            if (!up)
                break;
        }
        if (changes == q->changes)
            break;
        lua_settop(L, t - 1);
    }
    for (uint32_t i = ++q->n; i > at; i /= 2)
        move(L, t, i / 2, i);
    q->changes++;
    lua_pushvalue(L, 2);
    lua_rawseti(L, t, item_slot(at));
    lua_pushinteger(L, (lua_Integer)++q->number);
    lua_rawseti(L, t, number_slot(at));
    lua_settop(L, t - 1);
}

/* Where the last entry goes when the first has been taken; 0 if the queue was changed. */
static uint32_t place_of_last(lua_State *L, lunl_queue *q, int t)
{
    uint32_t changes = q->changes, last = q->n, at = 1, child;
    while ((child = 2 * at) < last) {
        if (child + 1 < last && before(L, q, t, child + 1, child))
            child++;
        if (changes != q->changes)
            return 0;
        bool down = before(L, q, t, child, last);
        if (changes != q->changes)
            return 0;
        if (!down)
            break;
        at = child;
    }
    return at;
}

bool lunl_heap_pop(lua_State *L, lunl_queue *q)
{
    uint32_t at = 0, depth = 0;
    int t = lua_gettop(L) + 1;
    for (int tries = 0; at == 0; tries++) {
        spoilt(L, tries);
        lua_settop(L, t - 1);
        if (q->n == 0)
            return false;
        lua_getiuservalue(L, 1, 1);
        at = place_of_last(L, q, t);
    }
    lua_rawgeti(L, t, item_slot(1));
    /* at >> k are the entries on the way: each moves up by one. */
    while (at >> depth > 1)
        depth++;
    for (; depth > 0; depth--)
        move(L, t, at >> (depth - 1), at >> depth);
    move(L, t, q->n, at);
    lua_pushnil(L);
    lua_rawseti(L, t, item_slot(q->n));
    q->n--;
    q->changes++;
    lua_replace(L, t);
    return true;
}
