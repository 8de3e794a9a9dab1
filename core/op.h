/* SPDX-License-Identifier: MIT */
/*
 * op.h - a future that libuv settles: one request inside the kernel or the pool.
 *
 * Contract: `begin` (the guest's uv_ call) may fail with a negative code: the op is released and
 * nothing else happens. Otherwise the callback calls lun_op_done exactly once. `abort` is called
 * at most once, before that; `fini` exactly once, when neither libuv nor the task needs the
 * memory. A cancelled op settles at once; its memory stays until the callback came.
 *
 * The memory is the core's (lun_op_new), because libuv may need it longer than any task lives.
 */
#ifndef LUN_OP_H
#define LUN_OP_H

#include "task.h"

typedef struct lun_op lun_op;

typedef struct lun_op_kind {
    lun_kind kind;             /* its cancel is lun_op_cancel_kind */
    void (*abort)(lun_op *op); /* asks libuv to give up, and to say so later; or NULL */
    void (*fini)(lun_op *op);  /* releases what the request holds; may be NULL */
} lun_op_kind;

struct lun_op {
    lun_future done; /* first: an op is a future */
    int status;      /* 0 or libuv's code, once done */
    uint32_t size;   /* of the whole block, for the allocator */
    bool in_flight;  /* libuv has it */
    bool held;       /* a task has it */
    lun_link link;   /* in the handle that it works on, or alone; for the guest */
};

lun_answer lun_op_cancel_kind(lun_future *f, lun_task *by, lun_walk *walk);

/* A zeroed op of `size` bytes, in flight, held and counted; NULL says no memory. */
lun_op *lun_op_new(lun_loop *loop, const lun_op_kind *kind, size_t size);

/* libuv's callback: the request is over. May free `op` if no task holds it. */
void lun_op_done(lun_op *op, int status);

/* The begin failed: libuv never had it. */
void lun_op_failed(lun_op *op);

/* For `abort`: libuv has not had it yet and never will, so no callback is to be waited for. */
void lun_op_withdrawn(lun_op *op);

/* The task no longer needs `op`, done or not; may free it. An op still in flight is aborted. */
void lun_op_release(lun_op *op);

#endif
