/* SPDX-License-Identifier: MIT */
/*
 * core_owner_spec.c - a task that waits for a join: its cancel goes to every child of a
 * join that it owns, and waits for all of them; of one that it does not own, to none.
 */
#include "core_block.h"

static void body_join(ctask *c)
{
    lun_join *j = c->ud;
    if (c->pc == 0)
        lun_task_wait(&c->t, &j->done, j->rule & LUN_JOIN_OWNS);
    else
        lun_task_finish(&c->t, c->thrown || j->asked ? LUN_CANCELLED : LUN_OK);
}

static void join_task(ctask *c, lun_join *j)
{
    ctask_init(c, &loop, body_join);
    c->ud = j;
    run_turn(&loop);
    assert_int_equal(c->t.at, LUN_AT_WAITING);
}

static void body_slow_end(ctask *c)
{
    if (c->pc == 0)
        lun_task_wait(&c->t, c->aim, true);
    else if (c->pc <= c->n)
        lun_task_yield(&c->t);
    else
        lun_task_finish(&c->t, c->ud ? LUN_OK : LUN_CANCELLED);
}

/* The owner is cancelled: all children are asked, and it waits until the last has really
 * ended. */
static void test_owner_cancelled(void **state)
{
    block b;
    ctask owner, child[3];
    lun_future f[3];
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, LUN_STOP_CANCELLED | LUN_JOIN_OWNS);
    for (int i = 0; i < 3; i++) {
        lun_future_init(&f[i], &loop, &lun_future_kind);
        ctask_init(&child[i], &loop, body_slow_end);
        child[i].aim = &f[i];
        child[i].n = i;
        child[i].ud = i == 1 ? &f : NULL; /* one swallows it */
        lun_join_add(j, &child[i].t.done);
    }
    join_task(&owner, j);
    assert_true(lun_task_cancel(&owner.t));
    assert_int_equal(b.f[0].state, LUN_CANCELLED);
    assert_true(j->asked);
    assert_false(lun_future_done(&j->done)); /* its rule no longer stops it */
    run_turn(&loop);
    assert_state(&child[0], LUN_CANCELLED);
    assert_false(lun_future_done(&j->done));
    run_turn(&loop);
    assert_state(&child[1], LUN_OK);
    run_turn(&loop);
    assert_state(&child[2], LUN_CANCELLED);
    assert_true(lun_future_done(&j->done));
    run_dry(&loop);
    assert_false(owner.interrupted);
    assert_state(&owner, LUN_CANCELLED);
    for (int i = 0; i < 3; i++)
        assert_int_equal(child[i].t.requests, 1);
    lun_join_fini(j);
    close_loop(&loop);
}

/* Value first: what the join was for had happened before the request. */
static void test_settled_then_cancelled(void **state)
{
    block b;
    ctask owner;
    open_virtual(&loop);
    lun_join *j = make(&b, 2, 1, LUN_JOIN_OWNS);
    join_task(&owner, j);
    lun_future_settle(&b.f[0], LUN_OK);
    assert_true(lun_task_cancel(&owner.t));
    assert_false(j->asked);
    assert_false(lun_future_done(&b.f[1]));
    run_dry(&loop);
    assert_false(owner.thrown);
    assert_state(&owner, LUN_OK);
    finish(&b, 2);
    close_loop(&loop);
}

/* A second request while the children clean up goes to those that are still at it. */
static void test_asked_twice(void **state)
{
    block b;
    ctask owner;
    lun_future f[2];
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, LUN_JOIN_OWNS);
    for (int i = 0; i < 2; i++) {
        lun_future_init(&f[i], &loop, &counting_kind);
        lun_join_add(j, &f[i]);
    }
    join_task(&owner, j);
    times_asked = 0;
    lun_task_cancel(&owner.t);
    assert_int_equal(times_asked, 2);
    lun_future_settle(&f[0], LUN_OK);
    lun_task_cancel(&owner.t);
    assert_int_equal(times_asked, 3);
    lun_future_settle(&f[1], LUN_OK);
    run_dry(&loop);
    assert_true(j->asked);
    assert_int_equal(owner.t.requests, 2);
    lun_join_fini(j);
    close_loop(&loop);
}

/* An owned child is ended whoever else waits for it. */
static void test_owns_shared_children(void **state)
{
    block b;
    ctask owner, other;
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, LUN_JOIN_OWNS);
    ctask_await(&other, &loop, &b.f[0]);
    join_task(&owner, j);
    lun_task_cancel(&owner.t);
    run_dry(&loop);
    assert_state(&other, LUN_CANCELLED);
    assert_int_equal(other.t.requests, 0);
    lun_join_fini(j);
    close_loop(&loop);
}

/* A join that does not own: the task withdraws alone, the children go on. */
static void test_borrower_cancelled(void **state)
{
    block b;
    ctask c;
    open_virtual(&loop);
    lun_join *j = make(&b, 2, UINT32_MAX, 0);
    join_task(&c, j);
    assert_true(lun_task_cancel(&c.t));
    assert_false(j->asked);
    run_dry(&loop);
    assert_true(c.interrupted);
    assert_false(lun_future_done(&b.f[0]) || lun_future_done(&b.f[1]));
    assert_true(lun_list_alone(&j->done.waiters));
    finish(&b, 2);
    close_loop(&loop);
}

/* Children whose end settles the join in the midst of the walk. */
static void test_settles_while_walked(void **state)
{
    block b;
    ctask owner;
    open_virtual(&loop);
    lun_join *j = make(&b, 5, UINT32_MAX, LUN_JOIN_OWNS | LUN_STOP_CANCELLED);
    join_task(&owner, j);
    lun_future_settle(&b.f[2], LUN_OK);
    lun_task_cancel(&owner.t);
    for (int i = 0; i < 5; i++)
        assert_int_equal(b.f[i].state, i == 2 ? LUN_OK : LUN_CANCELLED);
    assert_true(lun_future_done(&j->done));
    assert_false(j->walking);
    FINISHED(j, 2, 0, 1, 3, 4);
    run_dry(&loop);
    assert_state(&owner, LUN_CANCELLED);
    lun_join_fini(j);
    close_loop(&loop);
}

/* A guest's own list of children may still hold one that has ended: it is passed over. */
static block listed;

static lun_future *own_child(lun_join *j)
{
    if (j->restart)
        j->cursor = 0;
    j->restart = false;
    return j->cursor < 3 ? &listed.f[j->cursor++] : NULL;
}

static void test_own_list_of_children(void **state)
{
    ctask owner;
    open_virtual(&loop);
    lun_join *j = make(&listed, 0, 3, LUN_JOIN_OWNS);
    j->child = own_child;
    j->left = 3;
    for (int i = 0; i < 3; i++)
        lun_future_init(&listed.f[i], &loop, &counting_kind);
    join_task(&owner, j);
    lun_future_settle(&listed.f[1], LUN_OK);
    lun_join_count(j, &listed.f[1]);
    times_asked = 0;
    assert_true(lun_task_cancel(&owner.t));
    assert_int_equal(times_asked, 2);
    for (int i = 0; i < 3; i += 2) {
        lun_future_settle(&listed.f[i], LUN_CANCELLED);
        lun_join_count(j, &listed.f[i]);
    }
    run_dry(&loop);
    assert_state(&owner, LUN_CANCELLED);
    close_loop(&loop);
}

/* Joins as children of joins, and joins behind tasks: one walk reaches all of them. */
static void test_nested(void **state)
{
    block top, left, right, deep;
    ctask owner, inner;
    open_virtual(&loop);
    lun_join *d = make(&deep, 2, UINT32_MAX, LUN_JOIN_OWNS);
    lun_join *l = make(&left, 2, UINT32_MAX, LUN_JOIN_OWNS);
    lun_join *r = make(&right, 2, UINT32_MAX, LUN_JOIN_OWNS);
    lun_join *t = make(&top, 1, UINT32_MAX, LUN_JOIN_OWNS);
    lun_join_add(l, &d->done);
    join_task(&inner, r);
    lun_join_add(t, &l->done);
    lun_join_add(t, &inner.t.done);
    join_task(&owner, t);
    lun_task_cancel(&owner.t);
    assert_true(t->asked && l->asked && r->asked && d->asked);
    assert_true(lun_future_done(&d->done) && lun_future_done(&l->done));
    block *all[] = {&top, &left, &right, &deep};
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < (i == 0 ? 1 : 2); k++)
            assert_int_equal(all[i]->f[k].state, LUN_CANCELLED);
        assert_false(all[i]->u.j.walking);
    }
    assert_int_equal(inner.t.requests, 1);
    run_dry(&loop);
    assert_state(&inner, LUN_CANCELLED);
    assert_state(&owner, LUN_CANCELLED);
    for (int i = 0; i < 4; i++)
        lun_join_fini(&all[i]->u.j);
    close_loop(&loop);
}

/* A host's mistake, two joins in a ring: the walk ends all the same. */
static void test_ring_of_joins(void **state)
{
    block a, b;
    open_virtual(&loop);
    make(&a, 1, UINT32_MAX, LUN_JOIN_OWNS);
    make(&b, 1, UINT32_MAX, LUN_JOIN_OWNS);
    lun_join_add(&a.u.j, &b.u.j.done);
    lun_join_add(&b.u.j, &a.u.j.done);
    assert_true(lun_future_cancel(&a.u.j.done));
    assert_int_equal(a.f[0].state, LUN_CANCELLED);
    assert_int_equal(b.f[0].state, LUN_CANCELLED);
    assert_false(a.u.j.walking || b.u.j.walking);
    lun_join_fini(&a.u.j);
    lun_join_fini(&b.u.j);
    close_loop(&loop);
}

/* One that only watches needs no outcome: its arms spare nothing; a cancel still reaches
 * all. */
static void test_watches(void **state)
{
    block b;
    ctask c;
    open_virtual(&loop);
    lun_join *j = make(&b, 2, UINT32_MAX, LUN_JOIN_WATCHES);
    assert_false(lun_future_shared(&b.f[0], NULL));
    ctask_await(&c, &loop, &b.f[0]);
    run_turn(&loop);
    assert_true(lun_task_cancel(&c.t));
    assert_int_equal(b.f[0].state, LUN_CANCELLED);
    assert_int_equal(j->ended, 1);
    lun_join_cancel(j);
    assert_true(lun_join_met(j));
    run_dry(&loop);
    lun_join_fini(j);
    close_loop(&loop);
}

/* A cancel of the join itself, as of any future. */
static void test_cancel_as_future(void **state)
{
    block own, borrow;
    open_virtual(&loop);
    make(&own, 2, UINT32_MAX, LUN_JOIN_OWNS);
    make(&borrow, 2, UINT32_MAX, 0);
    assert_true(lun_future_cancel(&own.u.j.done));
    assert_true(lun_future_done(&own.u.j.done));
    assert_int_equal(own.f[1].state, LUN_CANCELLED);
    assert_false(lun_future_cancel(&own.u.j.done));
    lun_future_cancel(&borrow.u.j.done);
    assert_false(lun_future_done(&borrow.f[0]));
    lun_join_fini(&own.u.j);
    finish(&borrow, 2);
    close_loop(&loop);
}

/* Of a rule that still stops when asked, the first child that is stopped by the cancel is
 * enough. */
static void test_stop_asked(void **state)
{
    block b;
    ctask owner, slow;
    lun_future f;
    open_virtual(&loop);
    lun_join *j =
        make(&b, 1, UINT32_MAX, LUN_STOP_CANCELLED | LUN_JOIN_OWNS | LUN_STOP_ASKED);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_init(&slow, &loop, body_slow_end);
    slow.aim = &f;
    slow.n = 3;
    lun_join_add(j, &slow.t.done);
    join_task(&owner, j);
    lun_task_cancel(&owner.t);
    assert_true(j->asked && lun_join_met(j));
    assert_true(lun_future_done(&j->done));
    assert_int_equal(slow.t.requests, 1); /* all are asked all the same */
    run_turn(&loop);
    assert_state(&owner, LUN_CANCELLED);
    assert_false(lun_future_done(&slow.t.done));
    run_dry(&loop);
    assert_state(&slow, LUN_CANCELLED);
    lun_join_fini(j);
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owner_cancelled),
        cmocka_unit_test(test_settled_then_cancelled),
        cmocka_unit_test(test_asked_twice),
        cmocka_unit_test(test_owns_shared_children),
        cmocka_unit_test(test_borrower_cancelled),
        cmocka_unit_test(test_settles_while_walked),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_own_list_of_children),
        cmocka_unit_test(test_cancel_as_future),
        cmocka_unit_test(test_stop_asked),
        cmocka_unit_test(test_ring_of_joins),
        cmocka_unit_test(test_watches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
