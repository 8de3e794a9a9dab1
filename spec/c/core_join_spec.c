/* SPDX-License-Identifier: MIT */
/*
 * core_join_spec.c - the one combinator: it settles when enough have ended, cancels by itself
 * never, and passes a cancel of its owner to every child.
 */
#include "core_help.h"

enum { ROOM = 8 };

/* A join in static memory, and futures to be its children. */
typedef struct block {
    union {
        lun_join j;
        char room[sizeof(lun_join) + ROOM * sizeof(lun_arm)];
    } u;
    lun_future f[ROOM];
} block;

static lun_loop loop;

static lun_join *make(block *b, uint32_t n, uint32_t need, uint8_t rule)
{
    lun_join_init(&b->u.j, &loop, ROOM, need, rule);
    for (uint32_t i = 0; i < n; i++) {
        lun_future_init(&b->f[i], &loop, &lun_future_kind);
        assert_int_equal(lun_join_add(&b->u.j, &b->f[i]), i);
    }
    return &b->u.j;
}

static void finish(block *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!lun_future_done(&b->f[i]))
            lun_future_settle(&b->f[i], LUN_OK);
    lun_join_fini(&b->u.j);
}

/* The arms in order of completion. */
static void expect_finished(lun_join *j, int n, const int *order)
{
    int i = 0;
    lun_list_each(l, &j->finished) {
        assert_true(i < n);
        assert_ptr_equal(lun_container(l, lun_arm, w.link), &j->arm[order[i]]);
        i++;
    }
    assert_int_equal(i, n);
}

#define FINISHED(j, ...)                                                                       \
    expect_finished(j, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[]){__VA_ARGS__})

/* ---- counting ---- */

static void test_all(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, 0);
    assert_true(lun_is_join(&j->done));
    assert_false(lun_is_task(&j->done));
    assert_int_equal(j->left, 3);
    lun_future_settle(&b.f[1], LUN_ERROR); /* without a rule any end will do */
    lun_future_settle(&b.f[2], LUN_CANCELLED);
    assert_false(lun_join_met(j));
    assert_false(lun_future_done(&j->done));
    lun_future_settle(&b.f[0], LUN_OK);
    assert_true(lun_join_met(j));
    assert_int_equal(j->done.state, LUN_OK);
    assert_false(j->stopped);
    assert_null(j->bad);
    assert_int_equal(j->ended, 3);
    FINISHED(j, 1, 2, 0);
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_empty(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, 0);
    assert_true(lun_join_met(j)); /* all of none have ended; nobody says so but this */
    assert_false(lun_future_done(&j->done));
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_need(void **state)
{
    for (uint32_t need = 1; need <= 4; need++) {
        block b;
        open_virtual(&loop);
        lun_join *j = make(&b, 4, need, 0);
        for (uint32_t i = 0; i < need; i++) {
            assert_false(lun_future_done(&j->done));
            lun_future_settle(&b.f[3 - i], i % 2 ? LUN_ERROR : LUN_OK);
        }
        assert_int_equal(j->done.state, LUN_OK);
        assert_int_equal(j->left, 4 - need);
        finish(&b, 4); /* later ones count, but settle nothing twice */
        assert_int_equal(j->left, 0);
        close_loop(&loop);
    }
}

static void test_stop_error(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, LUN_STOP_ERROR);
    lun_future_settle(&b.f[0], LUN_CANCELLED); /* not what it stops at */
    assert_false(lun_join_met(j));
    lun_future_settle(&b.f[2], LUN_ERROR);
    assert_int_equal(j->done.state, LUN_OK); /* the join itself never fails */
    assert_true(j->stopped);
    assert_ptr_equal(j->bad, &b.f[2]);
    assert_int_equal(j->left, 1);
    lun_future_settle(&b.f[1], LUN_ERROR);
    assert_ptr_equal(j->bad, &b.f[2]); /* the first one */
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_stop_cancelled(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, LUN_STOP_CANCELLED);
    lun_future_settle(&b.f[0], LUN_ERROR);
    assert_false(lun_join_met(j));
    lun_future_cancel(&b.f[1]);
    assert_true(lun_future_done(&j->done));
    assert_ptr_equal(j->bad, &b.f[1]);
    finish(&b, 3);
    close_loop(&loop);
    open_virtual(&loop);
    j = make(&b, 2, UINT32_MAX, LUN_STOP_CANCELLED | LUN_STOP_ERROR);
    lun_future_settle(&b.f[1], LUN_ERROR);
    assert_ptr_equal(j->bad, &b.f[1]);
    assert_true(lun_join_met(j));
    finish(&b, 2);
    close_loop(&loop);
}

/* Children that had ended before count at once, in their order. */
static void test_ended_before(void **state)
{
    block b, c;
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, LUN_STOP_ERROR);
    make(&c, 0, 1, 0);
    for (int i = 0; i < 3; i++)
        lun_future_init(&b.f[i], &loop, &lun_future_kind);
    lun_join_add(j, &b.f[0]); /* pending */
    lun_future_settle(&b.f[1], LUN_OK);
    lun_join_add(j, &b.f[1]);
    assert_int_equal(j->left, 1);
    assert_int_equal(j->ended, 1);
    assert_false(lun_join_met(j));
    lun_future_settle(&b.f[2], LUN_ERROR);
    lun_join_add(j, &b.f[2]);
    assert_true(lun_join_met(j));
    FINISHED(j, 1, 2);
    lun_join_add(&c.u.j, &b.f[1]);
    assert_true(lun_join_met(&c.u.j));
    finish(&b, 3);
    lun_join_fini(&c.u.j);
    close_loop(&loop);
}

static void test_room(void **state)
{
    block b;
    lun_future f;
    open_virtual(&loop);
    lun_join *j = make(&b, ROOM, UINT32_MAX, 0);
    assert_int_equal(j->n, j->room);
    lun_future_init(&f, &loop, &lun_future_kind);
    expect_fatal(lun_join_add(j, &f));
    finish(&b, ROOM);
    close_loop(&loop);
}

/* A child that is no arm, as groups have them. */
static void test_count(void **state)
{
    block b;
    lun_future out[2];
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, LUN_STOP_ERROR);
    lun_future_init(&out[0], &loop, &lun_future_kind);
    lun_future_init(&out[1], &loop, &lun_future_kind);
    j->left += 2;
    lun_future_settle(&out[0], LUN_OK);
    lun_join_count(j, &out[0]);
    assert_false(lun_join_met(j));
    lun_future_settle(&out[1], LUN_ERROR);
    lun_join_count(j, &out[1]);
    assert_true(lun_future_done(&j->done));
    assert_ptr_equal(j->bad, &out[1]);
    assert_int_equal(j->left, 1);
    finish(&b, 1);
    close_loop(&loop);
}

/* ---- duplicates ---- */

static void test_duplicate(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, 0);
    lun_join_add(j, &b.f[0]);
    lun_join_add(j, &b.f[0]);
    assert_false(lun_arm_duplicate(j, 0));
    assert_true(lun_arm_duplicate(j, 1));
    assert_true(lun_arm_duplicate(j, 2));
    lun_future_settle(&b.f[0], LUN_OK);
    assert_int_equal(j->ended, 3); /* each place is served */
    assert_true(lun_future_done(&j->done));
    FINISHED(j, 0, 1, 2);
    lun_join_fini(j);
    close_loop(&loop);
}

static int times_asked;

static lun_answer count_asking(lun_future *f, lun_task *by, lun_walk *walk)
{
    assert_null(by); /* a child of a join */
    times_asked++;
    return LUN_YES;
}

static const lun_kind counting_kind = {"counting", count_asking};

static void test_duplicate_is_asked_once(void **state)
{
    block b;
    lun_future f;
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, 0);
    lun_future_init(&f, &loop, &counting_kind);
    for (int i = 0; i < 4; i++)
        lun_join_add(j, &f);
    times_asked = 0;
    lun_join_cancel(j);
    assert_int_equal(times_asked, 1);
    lun_future_settle(&f, LUN_CANCELLED);
    assert_true(lun_join_met(j));
    lun_join_cancel(j); /* nobody is left to be asked */
    assert_int_equal(times_asked, 1);
    lun_join_fini(j);
    close_loop(&loop);
}

/* Somebody came between the two arms: it still counts, and every arm still ends. */
static void test_duplicate_with_one_between(void **state)
{
    block b, other;
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, 0);
    lun_join *k = make(&other, 0, UINT32_MAX, 0);
    lun_join_add(k, &b.f[0]);
    lun_join_add(j, &b.f[0]);
    assert_false(lun_arm_duplicate(k, 0)); /* another join's arm is no duplicate */
    lun_future_settle(&b.f[0], LUN_OK);
    assert_true(lun_join_met(j) && lun_join_met(k));
    assert_int_equal(j->ended, 2);
    lun_join_fini(j);
    lun_join_fini(k);
    close_loop(&loop);
}

/* ---- phases ---- */

/* One at a time, as as_completed does it. */
static void test_rearm(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 4, 1, 0);
    for (int i = 0; i < 4; i++) {
        assert_false(lun_future_done(&j->done));
        lun_future_settle(&b.f[i], LUN_OK);
        assert_true(lun_future_done(&j->done));
        lun_join_rearm(j, 1, 0);
        assert_int_equal(j->ended, 0);
        assert_int_equal(lun_join_met(j), i == 3); /* none left: nothing to wait for */
    }
    FINISHED(j, 0, 1, 2, 3); /* the list lasts over the phases */
    lun_join_fini(j);
    close_loop(&loop);
}

/* First error, then the rest: what a combinator does that cancels on error. */
static void test_rearm_for_the_rest(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, LUN_STOP_ERROR | LUN_JOIN_OWNS);
    lun_future_settle(&b.f[1], LUN_ERROR);
    assert_true(lun_future_done(&j->done));
    lun_join_rearm(j, UINT32_MAX, LUN_JOIN_OWNS);
    assert_false(lun_future_done(&j->done));
    assert_false(lun_join_met(j));
    lun_join_cancel(j);
    assert_true(lun_future_done(&j->done)); /* futures end at once */
    assert_int_equal(b.f[0].state, LUN_CANCELLED);
    assert_int_equal(b.f[2].state, LUN_CANCELLED);
    assert_ptr_equal(j->bad, &b.f[1]);
    assert_false(j->asked); /* nobody asked the owner */
    lun_join_fini(j);
    close_loop(&loop);
}

/* ---- a task that waits for a join ---- */

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

/* The owner is cancelled: all children are asked, and it waits until the last has really ended. */
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

/* ---- the end ---- */

static void test_fini(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, 0);
    lun_future_settle(&b.f[1], LUN_OK);
    lun_join_fini(j);
    assert_true(lun_list_alone(&b.f[0].waiters) && lun_list_alone(&b.f[2].waiters));
    assert_true(lun_list_alone(&j->finished));
    memset(&b.u, 0xA5, sizeof b.u); /* the memory is gone */
    lun_future_settle(&b.f[0], LUN_OK);
    lun_future_settle(&b.f[2], LUN_ERROR);
    make(&b, 0, UINT32_MAX, 0);
    lun_join_fini(&b.u.j);
    lun_join_fini(&b.u.j); /* twice: harmless */
    close_loop(&loop);
}

/* A thousand joins that watch one future and are taken away: its ring stays right. */
static void test_many_on_one(void **state)
{
    enum { N = 1000 };
    static block b[N];
    lun_future f;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    for (int i = 0; i < N; i++)
        lun_join_add(make(&b[i], 0, 1, 0), &f);
    for (int i = 0; i < N; i += 3)
        lun_join_fini(&b[i].u.j);
    lun_future_settle(&f, LUN_OK);
    for (int i = 0; i < N; i++) {
        assert_int_equal(lun_future_done(&b[i].u.j.done), i % 3 != 0);
        lun_join_fini(&b[i].u.j);
    }
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_need),
        cmocka_unit_test(test_stop_error),
        cmocka_unit_test(test_stop_cancelled),
        cmocka_unit_test(test_ended_before),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_duplicate),
        cmocka_unit_test(test_duplicate_is_asked_once),
        cmocka_unit_test(test_duplicate_with_one_between),
        cmocka_unit_test(test_rearm),
        cmocka_unit_test(test_rearm_for_the_rest),
        cmocka_unit_test(test_owner_cancelled),
        cmocka_unit_test(test_settled_then_cancelled),
        cmocka_unit_test(test_asked_twice),
        cmocka_unit_test(test_owns_shared_children),
        cmocka_unit_test(test_borrower_cancelled),
        cmocka_unit_test(test_settles_while_walked),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_cancel_as_future),
        cmocka_unit_test(test_fini),
        cmocka_unit_test(test_many_on_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
