/* SPDX-License-Identifier: MIT */
/*
 * core_alloc_spec.c - every allocation of a program that uses all of the core fails once:
 * number 1, number 2, ... and then all from number N on. Each time the program ends in
 * order: every task is done, nothing is in flight, no byte is left, and a second run on the
 * same loop works.
 */
#include "core_help.h"

/* What failed for want of memory ends as LUN_ERROR, all else as LUN_OK. */
typedef struct program {
    lun_loop loop;
    meter memory;
    int errors, ends;
} program;

enum { SLEEPERS = 150, WORKERS = 20, JOINS = 10 };

static void end(ctask *c, enum lun_state s)
{
    program *p = c->ud;
    p->ends++;
    p->errors += s == LUN_ERROR;
    lun_task_finish(&c->t, s);
}

/* Sleeps: the heap grows twice. */
static void body_sleeper(ctask *c)
{
    if (c->pc == 0 && lun_task_sleep(&c->t, c->when) == 0)
        return;
    end(c, c->pc == 0 ? LUN_ERROR : LUN_OK);
}

/* Asks the pool: an op, and a timer that makes it give up. */
typedef struct request {
    lun_op op;
    uv_work_t work;
} request;

static void on_abort(lun_op *op)
{
    uv_cancel((uv_req_t *)&lun_container(op, request, op)->work);
}

static const lun_op_kind work_kind = {{"work", lun_op_cancel_kind}, on_abort, NULL};

static void on_work(uv_work_t *w)
{
}

static void after_work(uv_work_t *w, int status)
{
    lun_op_done(&lun_container(w, request, work)->op, status);
}

typedef struct worker {
    ctask c;
    lun_timer timer;
    request *r;
} worker;

static void on_time(lun_timer *t, lun_loop *loop)
{
    lun_task_cancel(&lun_container(t, worker, timer)->c.t);
}

static void body_worker(ctask *c)
{
    worker *w = lun_container(c, worker, c);
    lun_loop *loop = c->t.done.loop;
    if (c->pc > 0) {
        lun_timer_stop(loop, &w->timer);
        lun_op_release(&w->r->op);
        end(c, LUN_OK);
        return;
    }
    lun_timer_init(&w->timer, on_time);
    w->r = (request *)lun_op_new(loop, &work_kind, sizeof *w->r);
    if (!w->r) {
        end(c, LUN_ERROR);
        return;
    }
    if (lun_timer_start(loop, &w->timer, loop->now + 5) != 0) {
        lun_op_failed(&w->r->op);
        end(c, LUN_ERROR);
        return;
    }
    LUN_ASSERT(uv_queue_work(loop->uv, &w->r->work, on_work, after_work) == 0);
    lun_task_wait(&c->t, &w->r->op.done, true);
}

/* Joins the sleepers in memory from the loop's allocator. */
typedef struct joiner {
    ctask c;
    lun_join *join;
    ctask *child;
    uint32_t n;
} joiner;

static void body_joiner(ctask *c)
{
    joiner *d = lun_container(c, joiner, c);
    lun_loop *loop = c->t.done.loop;
    if (c->pc == 0) {
        d->join = lun_loop_alloc(loop, lun_join_size(d->n));
        if (!d->join) {
            end(c, LUN_ERROR);
            return;
        }
        lun_join_init(d->join, loop, d->n, UINT32_MAX, LUN_JOIN_OWNS);
        for (uint32_t i = 0; i < d->n; i++)
            lun_join_add(d->join, &d->child[i].t.done);
        if (!lun_join_met(d->join)) {
            if (lun_future_done(&d->join->done))
                lun_join_rearm(d->join, UINT32_MAX, LUN_JOIN_OWNS);
            lun_task_wait(&c->t, &d->join->done, true);
            return;
        }
    }
    lun_join_fini(d->join);
    lun_loop_free(loop, d->join, lun_join_size(d->n));
    end(c, LUN_OK);
}

static void run_once(program *p)
{
    enum { ALL = SLEEPERS + WORKERS + JOINS };
    static ctask s[SLEEPERS];
    static worker w[WORKERS];
    static joiner j[JOINS];
    lun_loop *loop = &p->loop;
    p->ends = p->errors = 0;
    for (int i = 0; i < SLEEPERS; i++) {
        ctask_init(&s[i], loop, body_sleeper);
        s[i].when = loop->now + (uint64_t)(i * 7 % 31);
        s[i].ud = p;
    }
    for (int i = 0; i < JOINS; i++) {
        ctask_init(&j[i].c, loop, body_joiner);
        j[i].c.ud = p;
        j[i].n = SLEEPERS / JOINS;
        j[i].child = &s[i * SLEEPERS / JOINS];
    }
    for (int i = 0; i < WORKERS; i++) {
        ctask_init(&w[i].c, loop, body_worker);
        w[i].c.ud = p;
    }
    assert_int_equal(lun_loop_run(loop), LUN_RAN_DRY);
    assert_int_equal(p->ends, ALL);
    assert_int_equal(loop->count.tasks, 0);
    assert_int_equal(loop->count.sleepers, 0);
    assert_int_equal(loop->count.requests, 0);
    assert_int_equal(loop->timers.n, 0);
    for (int i = 0; i < SLEEPERS; i++)
        assert_true(lun_future_done(&s[i].t.done) && lun_list_alone(&s[i].t.done.waiters));
}

/* True if the program got as far as the allocation that fails. */
static bool run_failing(uint64_t fail_at, bool on)
{
    program p = {.memory = {.fail_at = fail_at, .on = on}};
    open_loop(&p.loop, &(lun_policy){.virtual_clock = true,
                                     .shuffle = true,
                                     .seed = fail_at,
                                     .allocator = meter_allocator(&p.memory)});
    run_once(&p);
    bool failed = p.memory.failed;
    if (!failed)
        assert_int_equal(p.errors, 0);
    p.memory.fail_at = 0;
    run_once(&p); /* there is memory again: all is as it should be */
    assert_int_equal(p.errors, 0);
    close_loop(&p.loop);
    assert_int_equal(p.memory.live, 0);
    return failed;
}

static void test_each_fails_once(void **state)
{
    uint64_t n = 1;
    while (run_failing(n, false))
        n++;
    assert_true(n > WORKERS + JOINS + 3);
}

static void test_all_fail_from_one_on(void **state)
{
    uint64_t n = 1;
    while (run_failing(n, true))
        n++;
    assert_true(n > WORKERS + JOINS + 3);
}

/* The default allocator, and what frees nothing. */
static void test_default(void **state)
{
    lun_loop loop;
    open_virtual(&loop);
    void *block = lun_loop_alloc(&loop, 100);
    assert_non_null(block);
    memset(block, 1, 100);
    lun_loop_free(&loop, block, 100);
    lun_loop_free(&loop, NULL, 0);
    close_loop(&loop);
}

/* A loop that only waits, yields and joins asks for nothing at all. */
static void test_no_allocation(void **state)
{
    lun_loop loop;
    meter m = {0};
    lun_future f;
    ctask a, b, c;
    open_loop(&loop,
              &(lun_policy){.virtual_clock = true, .allocator = meter_allocator(&m)});
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_await(&a, &loop, &f);
    ctask_await(&b, &loop, &a.t.done);
    ctask_init(&c, &loop, body_yield);
    c.n = 5;
    run_dry(&loop);
    lun_task_cancel(&b.t);
    run_dry(&loop);
    close_loop(&loop);
    assert_true(m.calls == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_fails_once),
        cmocka_unit_test(test_all_fail_from_one_on),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_no_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
