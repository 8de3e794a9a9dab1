/* SPDX-License-Identifier: MIT */
/*
 * fault.c - delivering what was queued.
 */
#include "fault.h"

#include "loop.h"

void lun_handler_push(lun_loop *loop, lun_handler *h)
{
    lun_list_push_front(&loop->handlers, &h->link);
}

void lun_handler_drop(lun_handler *h)
{
    lun_list_drop(&h->link);
}

void lun_fault_raise(lun_loop *loop, lun_fault *f)
{
    f->order = loop->fault_seq++;
    lun_list_push(&loop->faults, &f->link);
}

/* Nobody handled it: a raw line, since nothing else can be relied on. */
static void last_resort(const lun_fault *f)
{
    lun_say(f->message ? f->message : f->kind);
}

unsigned lun_faults_deliver(lun_loop *loop, unsigned most)
{
    unsigned n = 0;
    uint64_t end = loop->fault_seq; /* what handlers raise waits for the next time */
    while (n < most && !lun_list_alone(&loop->faults)) {
        lun_fault *f = lun_container(loop->faults.next, lun_fault, link);
        if (f->order >= end)
            break;
        bool handled = false;
        lun_list_drop(&f->link);
        /* A handler may take itself out, but no other: the next one is read first. */
        for (lun_link *l = loop->handlers.next, *next; l != &loop->handlers && !handled;
             l = next) {
            next = l->next;
            handled = lun_container(l, lun_handler, link)
                          ->handle(lun_container(l, lun_handler, link), loop, f);
        }
        if (!handled)
            last_resort(f);
        n++;
        if (f->over)
            f->over(f, loop);
    }
    return n;
}
