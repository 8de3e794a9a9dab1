/* SPDX-License-Identifier: MIT */
/*
 * core_chain_spec.c - long chains and cycles of tasks that await each other. No recursion:
 * all of it runs on a stack of 64 KiB.
 */
#include "core_help.h"

/* ---- chains ---- */

/* Awaits the next unless that would close a cycle, as a guest does. */
static void body_link(ctask *c)
{
    if (c->pc > 0) {
        ctask_return(c);
    } else if (lun_task_would_cycle(&c->t, c->aim)) {
        c->n = 1;
        lun_task_finish(&c->t, LUN_ERROR);
    } else {
        lun_task_wait(&c->t, c->aim, false);
    }
}

typedef struct chain {
    int n;
    enum { OUTER_FIRST, INNER_FIRST, ANY_ORDER } order; /* in which the tasks start */
    enum { CANCEL_HEAD, CANCEL_TAIL, SETTLE } end;
} chain;

static void start_chain(const chain *ch, lun_loop *loop, ctask *c, lun_future *last)
{
    int *order = malloc((size_t)ch->n * sizeof *order);
    uint64_t seed = 5;
    for (int i = 0; i < ch->n; i++)
        order[i] = ch->order == INNER_FIRST ? ch->n - 1 - i : i;
    for (int i = ch->n - 1; i > 0 && ch->order == ANY_ORDER; i--) {
        int r = (int)(chance(&seed) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[r];
        order[r] = swap;
    }
    /* A future can be named before its task is made: the memory is the guest's. */
    for (int i = 0; i < ch->n; i++) {
        int k = order[i];
        ctask_init(&c[k], loop, body_link);
        c[k].aim = k + 1 < ch->n ? &c[k + 1].t.done : last;
    }
    free(order);
}

static void *run_chain(void *ud)
{
    const chain *ch = ud;
    lun_loop loop;
    lun_future last;
    LUN_ASSERT(lun_loop_init(&loop, NULL, &(lun_policy){.virtual_clock = true}) == 0);
    ctask *c = malloc((size_t)ch->n * sizeof *c);
    lun_future_init(&last, &loop, &lun_future_kind);
    start_chain(ch, &loop, c, &last);
    LUN_ASSERT(lun_loop_run(&loop) == LUN_RAN_DRY);
    LUN_ASSERT(loop.count.tasks == (uint32_t)ch->n);
    if (ch->end == CANCEL_HEAD)
        LUN_ASSERT(lun_task_cancel(&c[0].t));
    else if (ch->end == CANCEL_TAIL)
        LUN_ASSERT(lun_task_cancel(&c[ch->n - 1].t));
    else
        lun_future_settle(&last, LUN_OK);
    enum lun_state want = ch->end == SETTLE ? LUN_OK : LUN_CANCELLED;
    LUN_ASSERT(last.state == want);
    uint64_t turns = loop.count.turns;
    LUN_ASSERT(lun_loop_run(&loop) == LUN_RAN_DRY);
    LUN_ASSERT(loop.count.turns - turns <= (uint64_t)ch->n + 2); /* a turn for each link */
    for (int i = 0; i < ch->n; i++) {
        bool asked = ch->end == CANCEL_HEAD || (ch->end == CANCEL_TAIL && i == ch->n - 1);
        LUN_ASSERT(c[i].t.done.state == want && c[i].t.requests == asked);
        LUN_ASSERT(i == 0 || c[i].t.done.order < c[i - 1].t.done.order);
    }
    LUN_ASSERT(loop.count.tasks == 0 && loop.n_ready == 0);
    LUN_ASSERT(lun_loop_close(&loop) == 0);
    free(c);
    return NULL;
}

static void test_chain_cancelled(void **state)
{
    on_small_stack(run_chain, &(chain){100000, OUTER_FIRST, CANCEL_HEAD});
    on_small_stack(run_chain, &(chain){100000, INNER_FIRST, CANCEL_TAIL});
}

static void test_chain_settled(void **state)
{
    on_small_stack(run_chain, &(chain){100000, INNER_FIRST, SETTLE});
}

/* The search for cycles may not make building a chain quadratic, whichever end comes first.
 */
static void test_chain_built_in_any_order(void **state)
{
    on_small_stack(run_chain, &(chain){100000, ANY_ORDER, CANCEL_HEAD});
}

static void test_chain_of_a_million(void **state)
{
    on_small_stack(run_chain, &(chain){1000000, INNER_FIRST, CANCEL_HEAD});
}

/* ---- a chain of joins ---- */

typedef struct node {
    ctask c;
    lun_future *child[2];
    int children;
    union {
        lun_join j;
        char room[sizeof(lun_join) + 2 * sizeof(lun_arm)];
    } u; /* last: what ends without a size has no place elsewhere */
} node;

/* Joins its children, unless that would close a cycle; ends as the first child did. */
static void body_join(ctask *c)
{
    node *d = lun_container(c, node, c);
    lun_join *j = &d->u.j;
    if (c->pc > 0) {
        lun_join_fini(j);
        lun_task_finish(&c->t,
                        j->asked ? LUN_CANCELLED : (enum lun_state)d->child[0]->state);
        return;
    }
    lun_join_init(j, c->t.done.loop, 2, UINT32_MAX, LUN_JOIN_OWNS);
    for (int i = 0; i < d->children; i++)
        lun_join_add(j, d->child[i]);
    if (lun_task_would_cycle(&c->t, &j->done)) {
        c->n = 1;
        lun_join_fini(j);
        lun_task_finish(&c->t, LUN_ERROR);
    } else {
        lun_task_wait(&c->t, &j->done, true);
    }
}

static void node_init(node *d, lun_loop *loop, lun_future *a, lun_future *b)
{
    ctask_init(&d->c, loop, body_join);
    d->child[0] = a;
    d->child[1] = b;
    d->children = b ? 2 : 1;
}

static void *run_join_chain(void *ud)
{
    enum { N = 100000 };
    lun_loop loop;
    lun_future last, side;
    LUN_ASSERT(lun_loop_init(&loop, NULL, &(lun_policy){.virtual_clock = true}) == 0);
    node *d = malloc(N * sizeof *d);
    lun_future_init(&last, &loop, &lun_future_kind);
    lun_future_init(&side, &loop, &lun_future_kind);
    for (int i = 0; i < N; i++)
        node_init(&d[i], &loop, i + 1 < N ? &d[i + 1].c.t.done : &last,
                  i == N / 2 ? &side : NULL);
    LUN_ASSERT(lun_loop_run(&loop) == LUN_RAN_DRY);
    LUN_ASSERT(lun_task_cancel(&d[0].c.t));
    LUN_ASSERT(last.state == LUN_CANCELLED && side.state == LUN_CANCELLED);
    LUN_ASSERT(lun_loop_run(&loop) == LUN_RAN_DRY);
    for (int i = 0; i < N; i++)
        LUN_ASSERT(d[i].c.t.done.state == LUN_CANCELLED && d[i].c.t.requests == 1);
    LUN_ASSERT(loop.count.tasks == 0);
    LUN_ASSERT(lun_loop_close(&loop) == 0);
    free(d);
    return NULL;
}

static void test_chain_of_joins(void **state)
{
    on_small_stack(run_join_chain, NULL);
}

/* ---- cycles ---- */

static void test_self(void **state)
{
    lun_loop loop;
    ctask c;
    open_virtual(&loop);
    ctask_init(&c, &loop, body_link);
    c.aim = &c.t.done;
    run_dry(&loop);
    assert_int_equal(c.n, 1);
    close_loop(&loop);
}

/* Of a ring of n the last to wait closes it, and it alone is refused. */
static void ring(int n)
{
    lun_loop loop;
    ctask c[8];
    open_virtual(&loop);
    for (int i = 0; i < n; i++)
        ctask_init(&c[i], &loop, body_link);
    for (int i = 0; i < n; i++)
        c[i].aim = &c[(i + 1) % n].t.done;
    run_dry(&loop);
    for (int i = 0; i < n; i++) {
        assert_int_equal(c[i].n, i == n - 1);
        assert_state(&c[i], LUN_ERROR); /* its error goes up the chain */
    }
    close_loop(&loop);
}

static void test_rings(void **state)
{
    for (int n = 2; n <= 8; n++)
        ring(n);
}

static void test_through_a_join(void **state)
{
    lun_loop loop;
    lun_future other;
    node a, b;
    ctask c;
    open_virtual(&loop);
    lun_future_init(&other, &loop, &lun_future_kind);
    node_init(&a, &loop, &other, &b.c.t.done);
    node_init(&b, &loop, &c.t.done, NULL);
    ctask_init(&c, &loop, body_link);
    c.aim = &a.c.t.done;
    run_dry(&loop);
    assert_int_equal(c.n, 1);
    assert_int_equal(a.c.n + b.c.n, 0);
    assert_state(&c, LUN_ERROR);
    /* The search has left no mark: the join can be walked again. */
    assert_true(lun_task_cancel(&a.c.t));
    assert_int_equal(other.state, LUN_CANCELLED);
    run_dry(&loop);
    close_loop(&loop);
}

/* The refused one is the task that joins. */
static void test_closed_by_a_join(void **state)
{
    lun_loop loop;
    lun_future other;
    node a;
    ctask b;
    open_virtual(&loop);
    lun_future_init(&other, &loop, &lun_future_kind);
    ctask_init(&b, &loop, body_link);
    node_init(&a, &loop, &other, &b.t.done);
    b.aim = &a.c.t.done;
    run_dry(&loop);
    assert_int_equal(a.c.n, 1);
    assert_int_equal(b.n, 0);
    assert_state(&b, LUN_ERROR);
    assert_true(lun_list_alone(&other.waiters)); /* the arms are out */
    close_loop(&loop);
}

/* Joined twice, but no cycle: both ways lead to one task that waits for nobody. */
static void test_diamond(void **state)
{
    lun_loop loop;
    lun_future other;
    node top;
    ctask l, r, bottom, w;
    open_virtual(&loop);
    lun_future_init(&other, &loop, &lun_future_kind);
    ctask_init(&bottom, &loop, body_link);
    bottom.aim = &other;
    ctask_init(&l, &loop, body_link);
    ctask_init(&r, &loop, body_link);
    l.aim = r.aim = &bottom.t.done;
    ctask_init(&w, &loop, body_link);
    w.aim = &top.c.t.done;
    node_init(&top, &loop, &l.t.done, &r.t.done);
    run_dry(&loop);
    assert_int_equal(top.c.n + l.n + r.n + bottom.n + w.n, 0);
    lun_future_settle(&other, LUN_OK);
    run_dry(&loop);
    assert_state(&w, LUN_OK);
    close_loop(&loop);
}

/* A ladder whose ways are 2^n many: the search visits every task once. */
static void test_ladder(void **state)
{
    enum { N = 2000 };
    lun_loop loop;
    lun_future other;
    ctask probe, w;
    static node d[N][2];
    open_virtual(&loop);
    lun_future_init(&other, &loop, &lun_future_kind);
    for (int i = N - 1; i >= 0; i--)
        for (int k = 0; k < 2; k++)
            node_init(&d[i][k], &loop, i + 1 < N ? &d[i + 1][0].c.t.done : &other,
                      i + 1 < N ? &d[i + 1][1].c.t.done : NULL);
    ctask_init(&probe, &loop, body_link);
    probe.aim = &d[0][0].c.t.done;
    ctask_init(&w, &loop, body_await); /* so that the probe has a waiter and must search */
    w.aim = &probe.t.done;
    run_dry(&loop);
    assert_false(lun_task_would_cycle(&probe.t, &d[0][0].c.t.done));
    assert_int_equal(probe.n, 0);
    lun_future_settle(&other, LUN_OK);
    run_dry(&loop);
    close_loop(&loop);
}

/* A cancel, too: one request for each task, however many ways lead to it. */
static int n_asked;

static void count_asked(lun_loop *l, lun_task *t)
{
    n_asked++;
}

static void test_ladder_cancelled(void **state)
{
    enum { N = 1000 };
    lun_loop loop;
    lun_future last[2];
    static node d[N][2];
    open_virtual(&loop);
    loop.asked = count_asked;
    n_asked = 0;
    for (int k = 0; k < 2; k++)
        lun_future_init(&last[k], &loop, &lun_future_kind);
    for (int i = N - 1; i >= 0; i--)
        for (int k = 0; k < 2; k++)
            node_init(&d[i][k], &loop, i + 1 < N ? &d[i + 1][0].c.t.done : &last[0],
                      i + 1 < N ? &d[i + 1][1].c.t.done : &last[1]);
    run_dry(&loop);
    assert_true(lun_task_cancel(&d[0][0].c.t));
    assert_int_equal(n_asked, 2 * N - 1); /* all but the other top */
    assert_int_equal(d[N - 1][1].c.t.requests, 1);
    assert_true(lun_task_cancel(&d[0][1].c.t)); /* another walk is another request */
    run_dry(&loop);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++)
            assert_state(&d[i][k].c, LUN_CANCELLED);
    close_loop(&loop);
}

/* What has ended, sleeps or has not begun is no way on. */
static void test_no_cycle(void **state)
{
    lun_loop loop;
    ctask done, sleeping, fresh, me, w;
    open_virtual(&loop);
    ctask_init(&done, &loop, body_return);
    ctask_init(&sleeping, &loop, body_sleep);
    sleeping.when = 10;
    ctask_init(&me, &loop, body_sleep);
    me.when = 5;
    ctask_await(&w, &loop, &me.t.done);
    run_turn(&loop);
    ctask_await(&fresh, &loop, &me.t.done);
    assert_false(lun_task_would_cycle(&me.t, &done.t.done));
    assert_false(lun_task_would_cycle(&me.t, &sleeping.t.done));
    assert_false(
        lun_task_would_cycle(&me.t, &fresh.t.done)); /* not yet: it does not wait */
    assert_true(lun_task_would_cycle(&me.t, &w.t.done));
    assert_true(lun_task_would_cycle(&me.t, &me.t.done));
    assert_false(lun_task_would_cycle(&w.t, &me.t.done));
    run_dry(&loop);
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_cancelled),
        cmocka_unit_test(test_chain_settled),
        cmocka_unit_test(test_chain_built_in_any_order),
        cmocka_unit_test(test_chain_of_a_million),
        cmocka_unit_test(test_chain_of_joins),
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_through_a_join),
        cmocka_unit_test(test_closed_by_a_join),
        cmocka_unit_test(test_diamond),
        cmocka_unit_test(test_ladder),
        cmocka_unit_test(test_no_cycle),
        cmocka_unit_test(test_ladder_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
