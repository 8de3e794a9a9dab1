/* SPDX-License-Identifier: MIT */
/*
 * shield.c - a future that follows another one, but lets no cancel through to it.
 *
 * Laws: the outcome is copied by a job at the base level, so neither a chain of shields nor
 * a walk recurses. An error is owed by one of the two: by the shield as soon as it has
 * followed, before that, or if the shield was cancelled, by the task behind it.
 *
 * The shield is kept until what it follows has ended, it was cancelled itself, or the loop
 * closes.
 */
#include "../lunl.h"

struct shield {
    lun_future done;  /* first; user value 3 is what it follows */
    lun_waiter inner; /* on what it follows */
    lun_waiter self;  /* on `done`: hears of a cancel */
    lun_job job;
    bool queued;
};

static void queue(struct shield *s)
{
    if (s->queued)
        return;
    s->queued = true;
    lun_loop_queue(s->done.loop, &s->job);
}

static void inner_ended(lun_waiter *w)
{
    queue(lun_container(w, struct shield, inner));
}

static void self_ended(lun_waiter *w)
{
    struct shield *s = lun_container(w, struct shield, self);
    lun_waiter_drop(&s->inner);
    queue(s);
}

static const lun_waiter_kind inner_waiter = {inner_ended, true};
static const lun_waiter_kind self_waiter = {self_ended, false};

/* Registry key of the closure of `follow`. */
static const char follow_key = 0;

/* In a protected call with the shield: it takes over the outcome. */
static int follow(lua_State *L)
{
    struct shield *s = lua_touserdata(L, 1);
    lua_getiuservalue(L, 1, 3);
    lun_future *f = lua_touserdata(L, 2);
    if (f->state == LUN_OK) {
        int n = lunl_push_values(L, 2, f);
        lunl_store(L, 1, &s->done, 3, n);
        lun_future_settle(&s->done, LUN_OK);
    } else {
        lunl_push_error(L, 2, f);
        lunl_fail(L, 1, &s->done, LUNL_NO_TRACE); /* the stack here is the loop's */
    }
    return 0;
}

static void shield_run(lun_job *job)
{
    struct shield *s = lun_container(job, struct shield, job);
    lunl_loop *loop = lunl_loop_of(s->done.loop);
    lua_State *L = loop->S->L;
    lua_checkstack(L, 8);
    lun_waiter_drop(&s->self);
    if (!lun_future_done(&s->done)) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &follow_key);
        lunl_push_kept(L, loop, s);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
            /* No memory for the copy: whoever waits must not wait for ever. */
            lua_pop(L, 1);
            if (!lun_future_done(&s->done))
                lun_future_settle(&s->done, LUN_CANCELLED);
        }
    }
    lunl_let_go(L, loop, s);
}

/* --- async.shield(aw) -> Future: a future that ends as `aw` does, and whose cancellation
 * leaves `aw` running. A function or __await value becomes a new task; what is done already
 * is returned itself. If `aw` is cancelled, so is the shield. TypeError for what is no
 * awaitable, RuntimeError outside a running loop. Does not suspend. */
static int l_shield(lua_State *L)
{
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    if (!lunl_awaitable(L, 1))
        lunl_type_error(L, 1, "awaitable");
    lua_settop(L, 1);
    lun_future *f = lunl_ensure_future(L, loop, 1);
    if (lun_future_done(f))
        return 1;
    struct shield *s =
        (struct shield *)lunl_new_future(L, loop, LUNL_KIND_SHIELD, sizeof *s, 3);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, 3);
    s->job.run = shield_run;
    lun_waiter_init(&s->inner, &inner_waiter);
    lun_waiter_init(&s->self, &self_waiter);
    lunl_keep(L, loop, 2);
    lun_waiter_watch(&s->self, &s->done);
    /* A finaliser that ran meanwhile may have settled it. */
    if (lun_future_done(f)) {
        s->inner.on = f;
        queue(s);
    } else {
        lun_waiter_watch(&s->inner, f);
    }
    return 1;
}

void lunl_open_shield(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"shield", l_shield},
        {NULL, NULL},
    };
    static const luaL_Reg inner[] = {{"follow", follow}, {NULL, NULL}};
    lua_newtable(L);
    lunl_register(L, inner);
    lua_getfield(L, -1, "follow");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &follow_key);
    lua_pop(L, 1);
    lunl_register(L, functions);
    lunl_open_wrap(L);
}
