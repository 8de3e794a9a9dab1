/* SPDX-License-Identifier: MIT */
/*
 * op.c - the two owners of a request: libuv while it is in flight, the task while it holds it.
 */
#include "op.h"

#include "loop.h"

#include <string.h>

static void free_if_over(lun_op *op)
{
    if (op->in_flight || op->held)
        return;
    const lun_op_kind *kind = (const lun_op_kind *)op->done.kind;
    if (kind->fini)
        kind->fini(op);
    lun_list_drop(&op->link);
    lun_loop_free(op->done.loop, op, op->size);
}

static void abort_op(lun_op *op)
{
    const lun_op_kind *kind = (const lun_op_kind *)op->done.kind;
    LUN_ASSERT(op->in_flight);
    if (kind->abort)
        kind->abort(op);
}

lun_answer lun_op_cancel_kind(lun_future *f, lun_task *by, lun_walk *walk)
{
    (void)by;
    (void)walk;
    abort_op((lun_op *)f);
    lun_future_settle(f, LUN_CANCELLED);
    return LUN_YES;
}

lun_op *lun_op_new(lun_loop *loop, const lun_op_kind *kind, size_t size)
{
    lun_op *op = lun_loop_alloc(loop, size);
    if (!op)
        return NULL;
    memset(op, 0, size);
    lun_future_init(&op->done, loop, &kind->kind);
    lun_list_init(&op->link);
    op->size = (uint32_t)size;
    op->in_flight = op->held = true;
    loop->count.requests++;
    return op;
}

void lun_op_done(lun_op *op, int status)
{
    LUN_ASSERT(op->in_flight);
    op->in_flight = false;
    op->done.loop->count.requests--;
    if (!lun_future_done(&op->done)) {
        op->status = status;
        lun_future_settle(&op->done, status < 0 ? LUN_ERROR : LUN_OK);
    }
    free_if_over(op);
}

void lun_op_failed(lun_op *op)
{
    op->in_flight = op->held = false;
    op->done.loop->count.requests--;
    free_if_over(op);
}

void lun_op_withdrawn(lun_op *op)
{
    LUN_ASSERT(op->in_flight);
    op->in_flight = false;
    op->done.loop->count.requests--;
}

void lun_op_release(lun_op *op)
{
    if (!op->held)
        return;
    op->held = false;
    if (!lun_future_done(&op->done))
        abort_op(op);
    free_if_over(op);
}
