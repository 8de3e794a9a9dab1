/* SPDX-License-Identifier: MIT */
/*
 * value.c - what a future settled with: its user value 1, and for a failure its record.
 *
 * One value is stored bare, several as a table with `n`, none as a bit. A cancelled future keeps
 * the message of the request until somebody looks, then the CancelledError made from it.
 *
 * A failure record is a userdata of its own in user value 2, since a finaliser must not be given
 * to an old object (its cost grows with the heap). User values of the record: 1 the future,
 * 2 what was user value 2 before, 3 the record of the future whose error was passed on. Its
 * finaliser runs when the future has become unreachable too, and only enqueues.
 */
#include "state.h"

#include <string.h>

enum { RECORD_FUTURE = 1, RECORD_BEFORE, RECORD_ORIGIN };

typedef struct lunl_failure {
    const lunl_type *type;
    lun_future *f;   /* user value 1 */
    uint64_t number; /* order of failing */
    size_t size;     /* of the trace */
    uint64_t taker;  /* number of the task that it was last delivered to, 0 for none */
    uint32_t depth;  /* records behind it */
    bool again;      /* of an error that `f`'s task throws again, see lunl_record_throw */
    char trace[];
} lunl_failure;

static const lunl_type failure_type = {"failure"};
static const char trace_key = 0; /* field of an error object: its failure record */

uint16_t lunl_pack(lua_State *L, int first, int n)
{
    if (n == 1) {
        lua_pushvalue(L, first);
        return 0;
    }
    if (n == 0) {
        lua_pushnil(L);
        return LUNL_NO_VALUES;
    }
    luaL_checkstack(L, 4, NULL);
    lua_createtable(L, n, 1);
    for (int i = 0; i < n; i++) {
        lua_pushvalue(L, first + i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushinteger(L, n);
    lua_setfield(L, -2, "n");
    return LUNL_PACKED;
}

void lunl_store(lua_State *L, int idx, lun_future *f, int first, int n)
{
    idx = lua_absindex(L, idx);
    uint16_t how = lunl_pack(L, first, n);
    f->guest &= (uint16_t) ~(LUNL_NO_VALUES | LUNL_PACKED | LUNL_ONE_ARG);
    f->guest |= how;
    lua_setiuservalue(L, idx, 1);
}

static int unpack(lua_State *L)
{
    int t = lua_gettop(L);
    lua_getfield(L, t, "n");
    int n = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    if (!lua_checkstack(L, n + 4))
        lunl_throw(L, LUNL_RUNTIME_ERROR, "too many results to return (%d)", n);
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, t, i);
    lua_remove(L, t);
    return n;
}

int lunl_push_values(lua_State *L, int idx, lun_future *f)
{
    if (f->guest & LUNL_NO_VALUES)
        return 0;
    lua_getiuservalue(L, idx, 1);
    return f->guest & LUNL_PACKED ? unpack(L) : 1;
}

void lunl_push_first(lua_State *L, int idx, lun_future *f)
{
    lua_getiuservalue(L, idx, 1);
    if (f->guest & LUNL_PACKED) {
        lua_rawgeti(L, -1, 1);
        lua_replace(L, -2);
    }
}

/* The failure record of the future at `idx` onto the stack, or nothing and NULL. */
static lunl_failure *push_record(lua_State *L, int idx, lun_future *f)
{
    if (!(f->guest & LUNL_TRACED))
        return NULL;
    lua_getiuservalue(L, idx, 2);
    return lua_touserdata(L, -1);
}

void lunl_make_cancelled(lua_State *L)
{
    lunl_error_new(L, LUNL_CANCELLED_ERROR, NULL);
    if (!lua_isnil(L, -2)) {
        lua_pushvalue(L, -2);
        lunl_error_set(L, -2, "message");
    }
    lua_replace(L, -2);
}

void lunl_peek_error(lua_State *L, int idx, lun_future *f)
{
    idx = lua_absindex(L, idx);
    lua_getiuservalue(L, idx, 1);
    if (f->state != LUN_CANCELLED || (f->guest & LUNL_MADE_ERROR))
        return;
    lunl_make_cancelled(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, idx, 1);
    f->guest |= LUNL_MADE_ERROR;
}

void lunl_seen(lunl_state *S, lun_future *f)
{
    f->flags |= LUN_SEEN;
    if (f->guest & LUNL_OWED) {
        f->guest &= (uint16_t)~LUNL_OWED;
        S->owed--;
    }
}

void lunl_push_error(lua_State *L, int idx, lun_future *f)
{
    lunl_push_error_of(L, lunl_S(L), idx, f);
}

void lunl_push_error_of(lua_State *L, lunl_state *S, int idx, lun_future *f)
{
    idx = lua_absindex(L, idx);
    lunl_seen(S, f);
    lunl_failure *traced = push_record(L, idx, f);
    if (traced) {
        traced->taker = S->task ? S->task->number : 0;
        /* Delivered: the finaliser has nothing to do any more, so it need not be called. */
        lua_pushnil(L);
        lua_setmetatable(L, -2);
        lua_rawseti(L, LUA_REGISTRYINDEX, S->origin);
    }
    lunl_peek_error(L, idx, f);
    if (traced) {
        S->origin_error = lua_topointer(L, -1);
        S->origin_task = S->task ? S->task->number : 0;
        if (!S->origin_error) {
            /* A number or a boolean cannot be told again, so the record is not to be kept. */
            lua_pushboolean(L, 0);
            lua_rawseti(L, LUA_REGISTRYINDEX, S->origin);
        }
    }
}

void lunl_forget_origin(lua_State *L, lunl_state *S)
{
    if (!S->origin_error)
        return;
    S->origin_error = NULL;
    lua_pushboolean(L, 0);
    lua_rawseti(L, LUA_REGISTRYINDEX, S->origin);
}

int lunl_outcome(lua_State *L, int idx, lun_future *f)
{
    if (f->state == LUN_OK)
        return lunl_push_values(L, idx, f);
    if (f->state == LUN_PENDING)
        lunl_throw(L, LUNL_INVALID_STATE_ERROR, "Result is not set.");
    lunl_push_error(L, idx, f);
    return lua_error(L);
}

/*
 * Pushes the record that the error at `error` brought along, or nil. An error object knows it;
 * another value is compared with what was last delivered, which the record keeps alive.
 */
static void push_origin(lua_State *L, lunl_state *S, int error, bool object)
{
    /* Only what this task was given: one object, or one text, may be thrown a million times, and
     * would tie all those records into one chain. */
    if (object) {
        lua_rawgetp(L, error, &trace_key);
        const lunl_failure *r = lua_touserdata(L, -1);
        uint64_t taker = S->task ? S->task->number : 0;
        if (r && r->taker != taker && !(S->task && r->f == &S->task->t.done)) {
            lua_pop(L, 1);
            lua_pushnil(L);
        }
    } else if (S->origin_error && S->origin_error == lua_topointer(L, error) && S->task &&
               S->origin_task == S->task->number) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, S->origin);
    } else {
        lua_pushnil(L);
    }
}

/* Pushes a record of `f` with that trace. */
static lunl_failure *new_record(lua_State *L, lun_future *f, const char *trace, size_t size)
{
    lunl_failure *r = lua_newuserdatauv(L, sizeof *r + size, 3);
    *r = (lunl_failure){.type = &failure_type, .f = f, .size = size};
    memcpy(r->trace, trace, size);
    return r;
}

/* A very long chain goes on from its beginning, the place of the throw: on top of the stack. */
static void shorten(lua_State *L)
{
    enum { LONGEST = 200 };
    const lunl_failure *r = lua_touserdata(L, -1);
    if (!r || r->depth < LONGEST)
        return;
    while (lua_getiuservalue(L, -1, RECORD_ORIGIN) == LUA_TUSERDATA)
        lua_replace(L, -2);
    lua_pop(L, 1);
}

/* Tells the record at `at` which one the error brought along. */
static void set_origin(lua_State *L, lunl_state *S, int at, int error, bool object)
{
    lunl_failure *r = lua_touserdata(L, at);
    push_origin(L, S, error, object);
    shorten(L);
    const lunl_failure *origin = lua_touserdata(L, -1);
    r->depth = origin ? origin->depth + 1 : 0;
    if (origin && origin->again && origin->f == r->f)
        r->size = 0; /* the whole trace is there already */
    lua_setiuservalue(L, at, RECORD_ORIGIN);
}

void lunl_record_failure(lua_State *L, int idx, lun_future *f, int error, bool object,
                         int level)
{
    lunl_state *S = lunl_S(L);
    char text[2048];
    size_t size = 0;
    if (level != LUNL_NO_TRACE)
        size = S->running == L ? lunl_trace_task(L, level, text, sizeof text)
                               : lunl_trace_text(L, level, text, sizeof text);
    luaL_checkstack(L, 8, NULL);
    new_record(L, f, text, size);
    int at = lua_gettop(L);
    if (lun_future_done(f)) {
        /* A finaliser has settled it while memory was asked for. */
        lua_pop(L, 1);
        return;
    }
    lua_pushvalue(L, idx);
    lua_setiuservalue(L, at, RECORD_FUTURE);
    lua_getiuservalue(L, idx, 2);
    if (f->guest & LUNL_TRACED) {
        /* A closer threw on the way out: its error takes the place of the one before, whose
         * record goes first and has nothing to report then. */
        lua_pushnil(L);
        lua_setmetatable(L, -2);
        lua_getiuservalue(L, -1, RECORD_BEFORE);
        lua_replace(L, -2);
    }
    lua_setiuservalue(L, at, RECORD_BEFORE);
    set_origin(L, S, at, error, object);
    if (object) {
        lua_pushvalue(L, at);
        lua_rawsetp(L, error, &trace_key);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &failure_type);
    lua_setmetatable(L, at);
    lua_setiuservalue(L, idx, 2);
    f->guest |= LUNL_TRACED;
}

void lunl_record_throw(lua_State *L, int error, bool same)
{
    lunl_state *S = lunl_get_state(L);
    bool object = lunl_error_is(L, error, LUNL_BASE_ERROR);
    char text[2048];
    if (!S || !S->task || (!object && !lua_topointer(L, error)))
        return;
    luaL_checkstack(L, 16, NULL);
    size_t size = S->running == L ? lunl_trace_task(L, 1, text, sizeof text)
                                  : lunl_trace_text(L, 1, text, sizeof text);
    lunl_failure *r = new_record(L, &S->task->t.done, text, size);
    int at = lua_gettop(L);
    r->again = same;
    lunl_push_held(L, S, S->task->t.done.order);
    lua_setiuservalue(L, at, RECORD_FUTURE);
    set_origin(L, S, at, error, object);
    if (object) {
        lua_rawsetp(L, error, &trace_key);
        return;
    }
    S->origin_error = lua_topointer(L, error);
    S->origin_task = S->task->number;
    lua_rawseti(L, LUA_REGISTRYINDEX, S->origin);
}

enum lun_state lunl_store_failure(lua_State *L, int idx, lun_future *f, bool cancelled)
{
    lunl_state *S = lunl_S(L);
    idx = lua_absindex(L, idx);
    f->guest &= (uint16_t) ~(LUNL_NO_VALUES | LUNL_PACKED | LUNL_ONE_ARG);
    if (cancelled) {
        f->guest |= LUNL_MADE_ERROR;
        lua_setiuservalue(L, idx, 1);
        return LUN_CANCELLED;
    }
    lunl_failure *r = push_record(L, idx, f);
    if (r) {
        r->number = ++S->failures;
        lua_pop(L, 1);
        f->guest |= LUNL_OWED;
        S->owed++;
        S->ran = true;
    }
    lua_setiuservalue(L, idx, 1);
    return LUN_ERROR;
}

enum lun_state lunl_store_error(lua_State *L, int idx, lun_future *f)
{
    return lunl_store_failure(L, idx, f, lunl_error_is(L, -1, LUNL_CANCELLED_ERROR));
}

void lunl_fail(lua_State *L, int idx, lun_future *f, int level)
{
    idx = lua_absindex(L, idx);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lunl_error_new(L, LUNL_ERROR, "nil");
    }
    lua_Integer bits = lunl_error_bits(L, -1);
    bool cancelled = bits >> LUNL_CANCELLED_ERROR & 1;
    if (!cancelled)
        lunl_record_failure(L, idx, f, lua_gettop(L), bits != 0, level);
    if (lun_future_done(f))
        lunl_throw(L, LUNL_INVALID_STATE_ERROR,
                   "the future was settled by a finaliser meanwhile");
    lun_future_settle(f, lunl_store_failure(L, idx, f, cancelled));
}

struct lost {
    uint64_t number; /* order of failing */
    uint32_t at;     /* in the list */
};

static int by_failing(const void *a, const void *b)
{
    uint64_t x = ((const struct lost *)a)->number, y = ((const struct lost *)b)->number;
    return x < y ? -1 : x > y;
}

/* The lost records of `list` in the order in which they failed: an array on the stack. */
static struct lost *sort_lost(lua_State *L, int list, uint32_t n)
{
    struct lost *lost = lua_newuserdatauv(L, (n + 1) * sizeof *lost, 0);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, list, i + 1);
        lost[i].number = ((lunl_failure *)lua_touserdata(L, -1))->number;
        lost[i].at = i + 1;
        lua_pop(L, 1);
    }
    qsort(lost, n, sizeof *lost, by_failing);
    return lost;
}

/* Pushes the report of the record at `r`. */
static void push_report(lua_State *L, int r)
{
    lunl_failure *failure = lua_touserdata(L, r);
    bool task = lun_is_task(failure->f);
    lua_createtable(L, 0, 6);
    lua_pushfstring(L, "%s exception was never retrieved", task ? "Task" : "Future");
    lua_setfield(L, -2, "message");
    lua_getiuservalue(L, r, RECORD_FUTURE);
    lunl_peek_error(L, lua_gettop(L), failure->f);
    lua_setfield(L, -3, "exception");
    lunl_push_trace(L, lua_gettop(L), failure->f);
    lua_setfield(L, -3, "traceback");
    if (task)
        lunl_push_source(L, lua_gettop(L), (lunl_task *)failure->f);
    else
        lua_getiuservalue(L, r, RECORD_BEFORE);
    lua_setfield(L, -3, "source_traceback");
    if (task) {
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "task");
    }
    lua_setfield(L, -2, "future");
}

void lunl_flush_lost(lua_State *L, lunl_state *S, lunl_loop *loop)
{
    luaL_checkstack(L, 10, NULL);
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->lost);
    int list = lua_gettop(L);
    /* A new list first: what follows allocates, and finalisers may add to it. So may making it. */
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, S->lost);
    uint32_t n = S->n_lost;
    S->n_lost = 0;
    struct lost *lost = sort_lost(L, list, n);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgeti(L, list, lost[i].at);
        lunl_loop *own = lunl_loop_of(((lunl_failure *)lua_touserdata(L, -1))->f->loop);
        push_report(L, lua_gettop(L));
        lunl_report(L, own->closed ? loop : own, "unretrieved");
        lua_pop(L, 1);
    }
    lua_settop(L, list - 1);
}

/* The loop is closed: there is only the default way of telling. */
static void report_late(lua_State *L, int record)
{
    push_report(L, record);
    lunl_print_context(L, lua_gettop(L));
    lua_pop(L, 1);
}

/* The future went away and nobody had asked: enqueue the record, which keeps the future. */
static int failure_gc(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_failure *r = lua_touserdata(L, 1);
    lun_future *f = r->f;
    if (!(f->guest & LUNL_OWED))
        return 0;
    lunl_seen(S, f);
    if (lunl_loop_of(f->loop)->closed) {
        report_late(L, 1);
        return 0;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, S->lost);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2,
                S->n_lost + 1); /* counted only once it is there: this may want memory */
    S->n_lost++;
    if (lun_list_alone(&S->lost_fault.link))
        lun_fault_raise(S->loop ? &S->loop->loop : f->loop, &S->lost_fault);
    return 0;
}

static const char *const between = "\n\t[awaited by]";

/*
 * Adds the traces of the record at the top of the stack and of those it passed on, the place of
 * the throw first. A long chain shows its two ends.
 */
static void add_traces(lua_State *L, luaL_Buffer *b, int record)
{
    enum { SHOWN = 20 };
    uint32_t n = 0, i;
    int list = lua_gettop(L) + 1;
    lua_newtable(L);
    lua_pushvalue(L, record);
    while (lua_isuserdata(L, -1)) {
        lua_pushvalue(L, -1);
        lua_rawseti(L, list, ++n);
        lua_getiuservalue(L, -1, RECORD_ORIGIN);
        lua_replace(L, -2);
    }
    lua_pop(L, 1);
    luaL_buffinit(L, b);
    luaL_addstring(b, "traceback:");
    for (i = n; i >= 1; i--) {
        if (n > 2 * SHOWN && i == n - SHOWN) {
            lua_pushfstring(L, "\n\t... (%d more awaits)", (int)(n - 2 * SHOWN));
            luaL_addvalue(b);
            i = SHOWN;
        }
        lua_rawgeti(L, list, i);
        lunl_failure *r = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (i < n && r->size > 0)
            luaL_addstring(b, between);
        luaL_addlstring(b, r->trace, r->size);
    }
    luaL_pushresult(b);
    lua_remove(L, list);
}

void lunl_push_trace(lua_State *L, int idx, lun_future *f)
{
    luaL_Buffer b;
    luaL_checkstack(L, 12, NULL);
    if (f->state != LUN_ERROR || !push_record(L, idx, f)) {
        lua_pushnil(L);
        return;
    }
    add_traces(L, &b, lua_gettop(L));
    lua_replace(L, -2);
}

void lunl_push_error_trace(lua_State *L, int idx)
{
    luaL_Buffer b;
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 12, NULL);
    lua_pushnil(L);
    if (!lua_istable(L, idx))
        return;
    lua_rawgetp(L, idx, &trace_key);
    if (lua_isuserdata(L, -1)) {
        add_traces(L, &b, lua_gettop(L));
        lua_replace(L, -3);
    }
    lua_pop(L, 1);
}

/* Pushes what user value 2 of a future was before it failed. */
void lunl_push_second(lua_State *L, int idx, lun_future *f)
{
    lua_getiuservalue(L, idx, 2);
    if (f->guest & LUNL_TRACED) {
        lua_getiuservalue(L, -1, RECORD_BEFORE);
        lua_replace(L, -2);
    }
}

/* Sets it to the value on top (popped). */
void lunl_set_second(lua_State *L, int idx, lun_future *f)
{
    idx = lua_absindex(L, idx);
    if (push_record(L, idx, f)) {
        lua_insert(L, -2);
        lua_setiuservalue(L, -2, RECORD_BEFORE);
        lua_pop(L, 1);
    } else {
        lua_setiuservalue(L, idx, 2);
    }
}

/* Law: a handler of the loop's chain that knows only the marker of lost failures. */
static bool handle_lost(lun_handler *h, lun_loop *loop, lun_fault *f)
{
    lunl_state *S = lun_container(h, lunl_state, lost_handler);
    if (f != &S->lost_fault)
        return false;
    lunl_flush_lost(S->L, S, lunl_loop_of(loop));
    return true;
}

void lunl_open_value(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", failure_gc}, {NULL, NULL}};
    lunl_newtype(L, &failure_type, NULL, meta);
    lua_pop(L, 1);
    lunl_state *S = lunl_get_state(L);
    S->lost_fault.kind = "unretrieved";
    S->lost_fault.message = "Task exception was never retrieved";
    S->lost_handler.handle = handle_lost;
}
