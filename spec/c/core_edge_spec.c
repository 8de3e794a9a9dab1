/* SPDX-License-Identifier: MIT */
/*
 * core_edge_spec.c - a request travels down the edge to what a task waits for: borrowed
 * things are spared while others need them, owned ones are not, tasks pass it on.
 */
#include "core_script.h"

/* ---- borrowed and owned ---- */

static void test_shared_is_spared(void **state)
{
    script a, b;
    begin();
    PLAY(&a, WAIT, END);
    PLAY(&b, WAIT, END);
    run_turn(&loop);
    assert_true(cancel(&a));
    assert_int_equal(f.state, LUN_PENDING);
    run_turn(&loop);
    assert_true(a.threw[1] && a.c.interrupted);
    assert_state(&a.c, LUN_CANCELLED);
    assert_int_equal(b.c.t.at, LUN_AT_WAITING);
    assert_int_equal(b.c.t.requests, 0);
    assert_true(cancel(&b)); /* the last one takes it along */
    assert_int_equal(f.state, LUN_CANCELLED);
    end();
    assert_state(&b.c, LUN_CANCELLED);
}

static void test_both_in_one_turn(void **state)
{
    script a, b;
    begin();
    PLAY(&a, WAIT, END);
    PLAY(&b, WAIT, END);
    run_turn(&loop);
    assert_true(cancel(&a) && cancel(&b));
    assert_int_equal(f.state, LUN_CANCELLED);
    run_dry(&loop);
    assert_true(a.c.interrupted && !b.c.interrupted && b.c.thrown);
    end();
}

static void test_owned_is_not_spared(void **state)
{
    script a, b;
    begin();
    PLAY(&a, OWN, END);
    PLAY(&b, WAIT, END);
    run_turn(&loop);
    assert_true(cancel(&a));
    assert_int_equal(f.state, LUN_CANCELLED);
    run_dry(&loop);
    assert_true(a.threw[1] && b.threw[1]);
    assert_int_equal(b.c.t.requests, 0); /* not its own request: the count tells */
    end();
}

/* Owning ends with the wait: what the task waits for next is borrowed again. */
static void test_owning_ends(void **state)
{
    lun_future owned;
    script s, other;
    begin();
    lun_future_init(&owned, &loop, &lun_future_kind);
    PLAY(&s, OWN, WAIT, END);
    s.c.aim = &owned;
    PLAY(&other, WAIT, END);
    run_turn(&loop);
    s.c.aim = &f;
    lun_future_settle(&owned, LUN_OK);
    run_turn(&loop);
    cancel(&s);
    assert_int_equal(f.state, LUN_PENDING);
    lun_future_settle(&f, LUN_OK);
    end();
    assert_state(&s.c, LUN_CANCELLED);
    assert_state(&other.c, LUN_OK);
}

static void hear_nothing(lun_waiter *w)
{
}

/* A callback does not need the outcome: it does not spare. */
static void test_callback_does_not_share(void **state)
{
    static const lun_waiter_kind looks = {hear_nothing, false};
    lun_waiter w;
    script s;
    begin();
    PLAY(&s, WAIT, END);
    lun_waiter_init(&w, &looks);
    lun_waiter_watch(&w, &f);
    run_turn(&loop);
    assert_true(cancel(&s));
    assert_int_equal(f.state, LUN_CANCELLED);
    end();
}

static lun_answer answer;
static int asked_by_kind;
static lun_task *asked_for;

static lun_answer kind_cancel(lun_future *on, lun_task *by, lun_walk *walk)
{
    asked_by_kind++;
    asked_for = by;
    return answer;
}

static const lun_kind odd_kind = {"odd", kind_cancel};

static void test_kind_says_no(void **state)
{
    script s;
    begin();
    lun_future_init(&f, &loop, &odd_kind);
    answer = LUN_NO;
    asked_by_kind = 0;
    PLAY(&s, WAIT, YIELD, END);
    run_turn(&loop);
    assert_true(cancel(&s));
    assert_ptr_equal(asked_for, &s.c.t);
    assert_true(
        cancel(&s)); /* it has withdrawn: what it waited for is no longer its business */
    run_dry(&loop);
    assert_int_equal(asked_by_kind, 1);
    assert_true(s.threw[1] && s.c.pc == 3);
    assert_int_equal(f.state, LUN_PENDING);
    end();
}

static void test_kind_says_yes_later(void **state)
{
    const enum lun_state states[] = {LUN_OK, LUN_ERROR, LUN_CANCELLED};
    for (int i = 0; i < 3; i++) {
        script s;
        begin();
        lun_future_init(&f, &loop, &odd_kind);
        answer = LUN_YES;
        PLAY(&s, WAIT, YIELD, END);
        run_turn(&loop);
        assert_true(cancel(&s));
        run_turn(&loop);
        assert_int_equal(s.c.t.at, LUN_AT_WAITING); /* it stays and hears of it */
        lun_future_settle(&f, states[i]);
        run_dry(&loop);
        assert_int_equal(s.threw[1], states[i] == LUN_CANCELLED); /* swallowed: the value */
        assert_false(s.threw[2]);
        end();
    }
}

/* A kind that hands the request on to a task: nobody is asked if that has ended. */
static lun_task *behind;

static lun_answer pass_on(lun_future *on, lun_task *by, lun_walk *walk)
{
    walk->next = behind;
    return LUN_NEXT;
}

static const lun_kind window_kind = {"window", pass_on};

static void test_handed_on(void **state)
{
    for (int ended = 0; ended < 2; ended++) {
        script s, inner;
        lun_future window;
        begin();
        lun_future_init(&window, &loop, &window_kind);
        PLAY(&inner, WAIT, END);
        PLAY(&s, WAIT, END);
        s.c.aim = &window;
        behind = &inner.c.t;
        run_turn(&loop);
        if (ended) {
            lun_future_settle(&f, LUN_OK);
            run_turn(&loop);
        }
        assert_true(cancel(&s));
        assert_int_equal(inner.c.t.requests, !ended);
        run_dry(&loop);
        assert_int_equal(inner.c.t.done.state, ended ? LUN_OK : LUN_CANCELLED);
        assert_int_equal(s.c.t.at, LUN_AT_WAITING); /* for the window, as its kind said */
        lun_future_settle(&window, LUN_OK);
        end();
        assert_state(&s.c, LUN_OK);
    }
}

/* ---- chains ---- */

static int order_of_asking[8], n_asked;

static void note_asked(lun_loop *l, lun_task *t)
{
    order_of_asking[n_asked++] = ctask_of(t)->n;
}

static void test_goes_down_and_comes_up(void **state)
{
    script s[3];
    begin();
    loop.asked = note_asked;
    n_asked = 0;
    for (int i = 0; i < 3; i++) {
        PLAY(&s[i], WAIT, END);
        s[i].c.n = i;
    }
    s[0].c.aim = &s[1].c.t.done;
    s[1].c.aim = &s[2].c.t.done;
    run_turn(&loop);
    assert_true(cancel(&s[0]));
    assert_int_equal(n_asked, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(order_of_asking[i], i);
        assert_int_equal(s[i].c.t.requests, 1); /* inner counts go up, too */
    }
    assert_int_equal(f.state, LUN_CANCELLED);
    run_dry(&loop);
    assert_true(s[2].c.t.done.order <
                s[1].c.t.done.order); /* the innermost sees it first */
    assert_true(s[1].c.t.done.order < s[0].c.t.done.order);
    for (int i = 0; i < 3; i++)
        assert_state(&s[i].c, LUN_CANCELLED);
    end();
}

static void test_child_swallows(void **state)
{
    script parent, child;
    begin();
    PLAY(&child, SLEEP, YIELD, END); /* catches it and returns normally */
    PLAY(&parent, WAIT, YIELD, END);
    parent.c.aim = &child.c.t.done;
    run_turn(&loop);
    cancel(&parent);
    run_dry(&loop);
    assert_true(child.threw[1]);
    assert_state(&child.c, LUN_OK);
    assert_false(parent.threw[1]); /* the awaiter gets that value */
    assert_false(parent.threw[2]);
    assert_int_equal(parent.c.t.requests, 1);
    end();
}

/* A child that is cancelled by a third party: the awaiter's own count stays at nothing. */
static void test_third_party(void **state)
{
    script parent, child;
    begin();
    PLAY(&child, SLEEP, END);
    PLAY(&parent, WAIT, END);
    parent.c.aim = &child.c.t.done;
    run_turn(&loop);
    cancel(&child);
    run_dry(&loop);
    assert_true(parent.threw[1]);
    assert_int_equal(parent.c.t.requests, 0);
    end();
}

/* A shared task is spared as any future is. */
static void test_shared_task(void **state)
{
    script a, b, child;
    begin();
    PLAY(&child, SLEEP, END);
    PLAY(&a, WAIT, END);
    PLAY(&b, WAIT, END);
    a.c.aim = b.c.aim = &child.c.t.done;
    run_turn(&loop);
    cancel(&a);
    run_dry(&loop);
    assert_state(&a.c, LUN_CANCELLED);
    assert_state(&b.c, LUN_OK);
    assert_state(&child.c, LUN_OK);
    assert_int_equal(child.c.t.requests, 0);
    end();
}

/* The child asks its own parent: the request comes back to the running child. */
static void body_cancel_aim(ctask *c)
{
    if (c->pc == 0)
        lun_task_yield(&c->t);
    else if (c->pc == 1) {
        assert_true(lun_task_cancel(c->ud));
        assert_int_equal(c->t.requests, 1);
        assert_true(c->t.flags & LUN_MUST_CANCEL);
        assert_int_equal(lun_task_sleep(&c->t, 1000), 0);
    } else {
        ctask_return(c);
    }
}

static void test_child_cancels_parent(void **state)
{
    script parent;
    ctask child;
    begin();
    ctask_init(&child, &loop, body_cancel_aim);
    PLAY(&parent, WAIT, END);
    parent.c.aim = &child.t.done;
    child.ud = &parent.c.t;
    run_dry(&loop);
    assert_state(&child, LUN_CANCELLED);
    assert_state(&parent.c, LUN_CANCELLED);
    assert_true(loop.now == 0);
    end();
}

static int n_asking;

static void note_asking(lun_loop *l, lun_task *t)
{
    n_asking++;
}

/* `asking` is called when a request that came earlier is handed on, `asked` when it came.
 */
static void test_hooks(void **state)
{
    script s;
    begin();
    loop.asked = note_asked;
    loop.asking = note_asking;
    n_asked = n_asking = 0;
    PLAY(&s, WAIT, SLEEP, END);
    run_turn(&loop);
    lun_future_settle(&f, LUN_OK);
    cancel(&s);
    assert_int_equal(n_asked, 1);
    assert_int_equal(n_asking, 0);
    run_dry(&loop);
    assert_int_equal(n_asked, 1);
    assert_int_equal(n_asking, 1);
    assert_int_equal(s.c.t.requests, 1);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_is_spared),
        cmocka_unit_test(test_both_in_one_turn),
        cmocka_unit_test(test_owned_is_not_spared),
        cmocka_unit_test(test_callback_does_not_share),
        cmocka_unit_test(test_kind_says_no),
        cmocka_unit_test(test_handed_on),
        cmocka_unit_test(test_kind_says_yes_later),
        cmocka_unit_test(test_goes_down_and_comes_up),
        cmocka_unit_test(test_child_swallows),
        cmocka_unit_test(test_third_party),
        cmocka_unit_test(test_shared_task),
        cmocka_unit_test(test_child_cancels_parent),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_owning_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
