/* SPDX-License-Identifier: MIT */
/*
 * lane.c - who may go to libuv's pool with work on files; the laws are in lane.h.
 */
#include "lane.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    POOL_DEFAULT = 4, /* libuv's own, where the environment says nothing */
    POOL_MOST = 1024,
    OVERTAKES = 64
};

/* Of the whole process. */
static atomic_uint in_pool; /* jobs that libuv has */
static unsigned limit;      /* how many that may be; written once */
static pthread_once_t limit_once = PTHREAD_ONCE_INIT;

/* As libuv reads it, which does so when the pool starts. */
static void read_limit(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    int size = text ? atoi(text) : POOL_DEFAULT;
    if (size < 1)
        size = 1;
    if (size > POOL_MOST)
        size = POOL_MOST;
    limit = size < 2 ? 1 : (unsigned)size / 2;
}

static bool admit(lunl_loop *loop)
{
    unsigned n = atomic_load(&in_pool);
    pthread_once(&limit_once, read_limit);
    while (n < limit || loop->lane.running == 0) {
        if (atomic_compare_exchange_weak(&in_pool, &n, n + 1)) {
            loop->lane.running++;
            return true;
        }
    }
    return false;
}

static void leave(lunl_loop *loop)
{
    loop->lane.running--;
    atomic_fetch_sub(&in_pool, 1);
}

static void begin(lunl_lane_job *j)
{
    int err = j->begin(j);
    if (err == 0)
        return;
    leave(j->loop);
    j->failed(j, err);
}

/* The ring whose first job is next, or NULL. */
static lun_link *next_ring(lunl_loop *loop)
{
    bool none = lun_list_alone(&loop->lane.waiting);
    if (lun_list_alone(&loop->lane.opens))
        return none ? NULL : &loop->lane.waiting;
    return none || loop->lane.overtaken >= OVERTAKES ? &loop->lane.opens
                                                     : &loop->lane.waiting;
}

void lunl_lane_start(lunl_loop *loop, lunl_lane_job *j)
{
    if (!loop->lane.waiting.next) {
        lun_list_init(&loop->lane.waiting);
        lun_list_init(&loop->lane.opens);
    }
    j->loop = loop;
    lun_list_init(&j->link);
    if (!next_ring(loop) && admit(loop))
        begin(j);
    else
        lun_list_push(j->opens ? &loop->lane.opens : &loop->lane.waiting, &j->link);
}

void lunl_lane_done(lunl_lane_job *j)
{
    lunl_loop *loop = j->loop;
    lun_link *ring;
    leave(loop);
    while ((ring = next_ring(loop)) != NULL && admit(loop)) {
        lunl_lane_job *next = lun_container(ring->next, lunl_lane_job, link);
        bool overtakes = !next->opens && !lun_list_alone(&loop->lane.opens);
        loop->lane.overtaken = overtakes ? loop->lane.overtaken + 1 : 0;
        lun_list_drop(&next->link);
        begin(next);
    }
}

bool lunl_lane_withdraw(lunl_lane_job *j)
{
    if (lun_list_alone(&j->link))
        return false;
    lun_list_drop(&j->link);
    return true;
}
