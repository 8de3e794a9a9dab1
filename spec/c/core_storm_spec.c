/* SPDX-License-Identifier: MIT */
/*
 * core_storm_spec.c - a hundred thousand tasks in a random tree, cancelled at random
 * moments from random places: everything ends, nothing is left, no permit of a semaphore is
 * lost.
 */
#include "core_help.h"

enum { N = 100000, PERMITS = 50 };

typedef struct semaphore {
    lun_park park;
    int free;
} semaphore;

enum leaf { LEAF_YIELDS, LEAF_SLEEPS, LEAF_WAITS, LEAF_ACQUIRES, LEAF_KINDS };

typedef struct node {
    ctask c;
    struct storm *s;
    lun_join *join;   /* owned while it waits */
    lun_future f;     /* a leaf may wait for it */
    int first, count; /* its children are order[first .. first + count - 1] */
    int cleanup;      /* suspensions on the way out, -1 before the throw */
    uint8_t leaf;     /* enum leaf */
    bool swallows;    /* a cancellation does not end it as cancelled */
    bool holds;       /* a permit */
} node;

typedef struct storm {
    lun_loop loop;
    semaphore sem;
    node *nodes;
    int *order; /* node numbers, children of one parent side by side */
    uint64_t seed;
    int borrowed;
} storm;

static void on_revoked(lun_park *p)
{
    semaphore *sem = lun_container(p, semaphore, park);
    if (!lun_park_grant(p))
        sem->free++;
}

static void release(semaphore *sem)
{
    if (!lun_park_grant(&sem->park))
        sem->free++;
}

/* A leaf's work; true when it has suspended. */
static bool leaf_work(node *d)
{
    ctask *c = &d->c;
    semaphore *sem = &d->s->sem;
    switch (d->leaf) {
    case LEAF_YIELDS:
        if (c->pc == c->n)
            return false;
        lun_task_yield(&c->t);
        return true;
    case LEAF_SLEEPS:
        if (c->pc == 1)
            return false;
        LUN_ASSERT(lun_task_sleep(&c->t, c->t.done.loop->now + (uint64_t)c->n) == 0);
        return true;
    case LEAF_WAITS:
        if (lun_future_done(&d->f))
            return false;
        lun_task_wait(&c->t, &d->f, c->n & 1);
        return true;
    default:
        if (c->pc == 0 && (sem->free == 0 || lun_park_waiting(&sem->park))) {
            lun_park_wait(&sem->park, &c->t);
            return true;
        }
        if (!d->holds) {
            sem->free -= c->pc == 0;
            d->holds = true;
            lun_task_yield(&c->t);
            return true;
        }
        return false;
    }
}

/* An inner node waits for its children: a single one it borrows or joins, several it joins.
 */
static bool inner_work(node *d)
{
    storm *s = d->s;
    ctask *c = &d->c;
    if (c->pc > 0)
        return false;
    if (d->count == 1 && (c->n & 1)) {
        lun_future *child = &s->nodes[s->order[d->first]].c.t.done;
        s->borrowed++;
        if (lun_future_done(child))
            return false;
        lun_task_wait(&c->t, child, false);
        return true;
    }
    d->join = malloc(lun_join_size((uint32_t)d->count));
    lun_join_init(d->join, &s->loop, (uint32_t)d->count, UINT32_MAX, LUN_JOIN_OWNS);
    for (int i = 0; i < d->count; i++)
        lun_join_add(d->join, &s->nodes[s->order[d->first + i]].c.t.done);
    if (lun_join_met(d->join))
        return false;
    if (lun_future_done(&d->join->done))
        lun_join_rearm(d->join, UINT32_MAX, LUN_JOIN_OWNS);
    lun_task_wait(&c->t, &d->join->done, true);
    return true;
}

static void drop_join(node *d)
{
    if (!d->join)
        return;
    if (d->join->asked)
        LUN_ASSERT(d->join->left == 0); /* an owner waits until all have ended */
    lun_join_fini(d->join);
    free(d->join);
    d->join = NULL;
}

static void body_node(ctask *c)
{
    node *d = lun_container(c, node, c);
    bool thrown =
        c->thrown || (d->join && d->join->asked && lun_future_done(&d->join->done));
    if (d->cleanup < 0 && !thrown && (d->count ? inner_work(d) : leaf_work(d)))
        return;
    if (thrown && d->cleanup < 0)
        d->cleanup = (int)(chance(&d->s->seed) % 3);
    drop_join(d);
    if (d->cleanup > 0 && d->cleanup-- > 0) {
        lun_task_yield(
            &c->t); /* cleaning up takes its time, and may be cut short by a request */
        return;
    }
    if (d->holds)
        release(&d->s->sem);
    lun_task_finish(&c->t, d->cleanup >= 0 && !d->swallows ? LUN_CANCELLED : LUN_OK);
}

/* A random tree: the parent of a node is one before it, near ones for a deep tree. */
static void plant(storm *s, bool deep)
{
    int *parent = malloc(N * sizeof *parent), *fill = calloc(N + 1, sizeof *fill);
    s->nodes = calloc(N, sizeof *s->nodes);
    s->order = malloc(N * sizeof *s->order);
    for (int i = 1; i < N; i++) {
        int back = deep ? 20 : i;
        parent[i] = i - 1 - (int)(chance(&s->seed) % (uint64_t)(back < i ? back : i));
        s->nodes[parent[i]].count++;
    }
    for (int i = 0, at = 0; i < N; i++) {
        s->nodes[i].first = at;
        at += s->nodes[i].count;
    }
    for (int i = 1; i < N; i++)
        s->order[s->nodes[parent[i]].first + fill[parent[i]]++] = i;
    for (int i = 0; i < N; i++) {
        node *d = &s->nodes[i];
        ctask_init(&d->c, &s->loop, body_node);
        lun_future_init(&d->f, &s->loop, &lun_future_kind);
        d->s = s;
        d->cleanup = -1;
        d->leaf = (uint8_t)(chance(&s->seed) % LEAF_KINDS);
        d->swallows = chance(&s->seed) % 10 == 0;
        d->c.n = (int)(chance(&s->seed) % 50);
    }
    free(parent);
    free(fill);
}

static void open_storm(storm *s, uint64_t seed, bool deep, bool shuffle)
{
    memset(s, 0, sizeof *s);
    s->seed = seed;
    lun_policy policy = {.virtual_clock = true, .shuffle = shuffle, .seed = seed};
    LUN_ASSERT(lun_loop_init(&s->loop, NULL, &policy) == 0);
    lun_park_init(&s->sem.park, &s->loop, on_revoked);
    s->sem.free = PERMITS;
    plant(s, deep);
}

/* All have ended, and everything that they took is back. */
static void close_storm(storm *s)
{
    for (int i = 0; i < N; i++) {
        node *d = &s->nodes[i];
        LUN_ASSERT(d->c.t.at == LUN_AT_DONE && d->join == NULL);
        LUN_ASSERT(lun_list_alone(&d->f.waiters) && lun_list_alone(&d->c.t.done.waiters));
    }
    LUN_ASSERT(s->loop.count.tasks == 0 && s->loop.count.sleepers == 0);
    LUN_ASSERT(s->loop.timers.n == 0 && s->loop.n_ready == 0);
    LUN_ASSERT(s->sem.free == PERMITS && s->sem.park.granted == 0);
    LUN_ASSERT(!lun_park_waiting(&s->sem.park));
    LUN_ASSERT(lun_loop_close(&s->loop) == 0);
    free(s->nodes);
    free(s->order);
}

static void turn(storm *s)
{
    lun_loop_stop(&s->loop);
    lun_loop_run(&s->loop);
}

/* Random nodes are cancelled and random futures settled, some between any two turns. */
static void rage(storm *s, int turns, int most)
{
    for (int k = 0; k < turns; k++) {
        for (int i = (int)(chance(&s->seed) % (uint64_t)most); i > 0; i--) {
            node *d = &s->nodes[chance(&s->seed) % N];
            if (chance(&s->seed) & 1)
                lun_task_cancel(&d->c.t);
            else if (!lun_future_done(&d->f))
                lun_future_settle(&d->f, chance(&s->seed) % 2 ? LUN_OK : LUN_ERROR);
        }
        if (s->sem.free > 0)
            LUN_ASSERT(
                !lun_park_waiting(&s->sem.park)); /* nobody waits while one is free */
        turn(s);
        if (k % 4 == 0)
            lun_timers_fire(&s->loop, &s->loop.timers, s->loop.now += 7);
    }
}

static void *run_storm(void *ud)
{
    uint64_t seed = *(uint64_t *)ud;
    storm s;
    open_storm(&s, seed, seed & 1, seed & 2);
    rage(&s, 40, 2000);
    for (int i = 0; i < N; i++)
        if (!lun_future_done(&s.nodes[i].f))
            lun_future_settle(&s.nodes[i].f, LUN_OK);
    LUN_ASSERT(lun_loop_run(&s.loop) == LUN_RAN_DRY);
    LUN_ASSERT(s.borrowed > 0);
    close_storm(&s);
    return NULL;
}

static void test_storms(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        on_small_stack(run_storm, &seed);
}

/* Cancelled from the root at once: one pass, all end, the root last. */
static void *run_root(void *ud)
{
    storm s;
    int before = *(int *)ud; /* turns before the request */
    open_storm(&s, 11, false, false);
    for (int i = 0; i < before; i++)
        turn(&s);
    LUN_ASSERT(lun_task_cancel(&s.nodes[0].c.t));
    if (before > 0)
        for (int i = 0; i < N; i++)
            LUN_ASSERT(s.nodes[i].c.t.requests == 1 ||
                       lun_future_done(&s.nodes[i].c.t.done));
    for (int i = 0; i < N && before == 0; i++)
        lun_task_cancel(&s.nodes[i].c.t); /* the root never began, so it joined nobody */
    LUN_ASSERT(lun_loop_run(&s.loop) == LUN_RAN_DRY);
    LUN_ASSERT(before == 0 || s.nodes[0].c.t.done.order == s.loop.order);
    close_storm(&s);
    return NULL;
}

static void test_from_the_root(void **state)
{
    for (int before = 0; before < 4; before++)
        on_small_stack(run_root, &before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storms),
        cmocka_unit_test(test_from_the_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
