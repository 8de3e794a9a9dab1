/* SPDX-License-Identifier: MIT */
/*
 * op.c - requests to libuv as Lua sees them: one await around lun_op.
 *
 * The task's share in an op is a userdata on the stack of the suspended C function, its
 * owner. So whatever becomes of the coroutine (an error in push, a coroutine closed by
 * force), the op is released: at once on every regular way, by the collector on the others,
 * and by the closing loop if the owner outlives that, or was forgotten: nothing in C points at
 * it, since Lua drops an object without a word when it has no memory to call its finaliser.
 */
#include "lunl.h"

#include "io/handle.h"

typedef struct owner {
    const lunl_type *type;
    lun_op *op;      /* held, in io->ops; NULL once released */
    lunl_loop *loop; /* user value 1; when it has closed, it has released the op */
} owner;

static const lunl_type owner_type = {"request"};

/* The op, if it is still held. */
static lun_op *held(const owner *o)
{
    return o->op && o->loop->io && !((const lunl_io *)o->loop->io)->over ? o->op : NULL;
}

static void release(owner *o)
{
    lun_op *op = held(o);
    o->op = NULL;
    if (!op)
        return;
    lun_list_drop(&op->link);
    lun_op_release(op);
}

/* --- request:__gc(): releases the request; never called by name. */
static int l_gc(lua_State *L)
{
    owner *o = lunl_test(L, 1, &owner_type);
    if (!o)
        return 0;
    if (held(o))
        lunl_orphan(&o->op->done);
    release(o);
    return 0;
}

void lunl_ops_close(lunl_io *io)
{
    while (!lun_list_alone(&io->ops)) {
        lun_op *op = lun_container(io->ops.next, lun_op, link);
        lun_list_drop(&op->link);
        lun_op_release(op);
    }
}

void *lunl_op_new(lua_State *L, lunl_loop *loop, const lunl_op_kind *kind, size_t size)
{
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};
    lunl_io *io = lunl_io_of(L, loop);
    lunl_need_type(L, &owner_type, NULL, meta);
    owner *o = lunl_new(L, &owner_type, sizeof *o, 1);
    o->loop = loop;
    lunl_push_loop(L, loop);
    lua_setiuservalue(L, -2, 1);
    o->op = lun_op_new(&loop->loop, &kind->op, size);
    if (!o->op)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    lun_list_push(&io->ops, &o->op->link);
    return o->op;
}

static _Noreturn void fail(lua_State *L, int err, const char *syscall, int object)
{
    const char *text =
        object && lua_type(L, object) == LUA_TSTRING ? lua_tostring(L, object) : NULL;
    lunl_throw_uv(L, err, syscall, text);
}

/* The results of an op that is done, or its error. */
static int finish(lua_State *L, lunl_state *S, owner *o, int object)
{
    lun_op *op = o->op;
    const lunl_op_kind *kind = (const lunl_op_kind *)op->done.kind;
    int status = op->status;
    if (op->done.state == LUN_CANCELLED) {
        release(o);
        lunl_throw_cancelled(L, S);
    }
    if (status < 0 && kind->syscall) {
        release(o);
        fail(L, status, kind->syscall, object);
    }
    int n = kind->push(L, op);
    release(o);
    return n;
}

static int on_done(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    owner *o = lua_touserdata(L, (int)(ctx >> 16));
    lun_future *on;
    bool interrupted;
    lunl_resumed_quietly(L, S, &on, &interrupted);
    if (interrupted) {
        release(o);
        lunl_throw_cancelled(L, S);
    }
    return finish(L, S, o, (int)(ctx & 0xffff));
}

int lunl_op_await(lua_State *L, lunl_state *S, lun_op *op, int begun, int object)
{
    int top = lua_gettop(L);
    owner *o = lua_touserdata(L, top);
    LUN_ASSERT(o->op == op && object < 0x10000);
    if (begun < 0) {
        const lunl_op_kind *kind = (const lunl_op_kind *)op->done.kind;
        o->op = NULL;
        lun_list_drop(&op->link);
        lun_op_failed(op);
        fail(L, begun, kind->syscall, object);
    }
    if (lun_future_done(&op->done))
        return finish(L, S, o, object);
    lun_task_wait(&S->task->t, &op->done, true);
    return lunl_suspend(L, S, (lua_KContext)top << 16 | object, on_done);
}
