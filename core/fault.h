/* SPDX-License-Identifier: MIT */
/*
 * fault.h - what happens to errors nobody asked for: a queue of faults and a chain of handlers.
 *
 * A fault is queued where it is found (also in a collector or inside a settle) and delivered by
 * the loop between two jobs: never inside the collector, never inside a handler. Handlers are
 * asked newest first; the first that says true has handled it; the last resort prints a line.
 * A fault that a handler causes waits for the next delivery, so reporting cannot recurse.
 */
#ifndef LUN_FAULT_H
#define LUN_FAULT_H

#include "list.h"

#include <stdint.h>

typedef struct lun_loop lun_loop;

/* One thing that went wrong. Embedded in the memory of whoever found it. */
typedef struct lun_fault {
    lun_link link;       /* in loop->faults while queued */
    const char *kind;    /* static: callback, unretrieved, destroyed, shutdown, ... */
    const char *message; /* for the last resort; borrowed until `over` */
    uint64_t order;      /* faults of one delivery come in this order */
    void (*over)(struct lun_fault *f, lun_loop *loop); /* delivered: release it */
} lun_fault;

typedef struct lun_handler {
    lun_link link; /* in loop->handlers, newest first */
    /* True: handled. May run user code: it is called from the base level of the loop only. */
    bool (*handle)(struct lun_handler *h, lun_loop *loop, lun_fault *f);
} lun_handler;

/* Puts `h`, which stays the caller's, before all handlers that are there. */
void lun_handler_push(lun_loop *loop, lun_handler *h);

/* Takes `h`, which was pushed once, out; harmless if it is out. */
void lun_handler_drop(lun_handler *h);

/* Queues `f` for delivery. Takes no memory, may be called anywhere on the loop's thread. */
void lun_fault_raise(lun_loop *loop, lun_fault *f);

/* For the loop: delivers what is queued now, at most `most`. How many were delivered. */
unsigned lun_faults_deliver(lun_loop *loop, unsigned most);

#endif
