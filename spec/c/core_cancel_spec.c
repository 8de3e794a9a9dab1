/* SPDX-License-Identifier: MIT */
/*
 * core_cancel_spec.c - a request to stop, at every place where a task can be: value first,
 * one throw for several requests, taken back in time or too late.
 */
#include "core_script.h"

/* ---- where it can be ---- */

static void test_new(void **state)
{
    script s;
    begin();
    PLAY(&s, END);
    assert_true(cancel(&s));
    assert_int_equal(s.c.t.requests, 1);
    assert_false(lun_future_done(&s.c.t.done)); /* it ends when its turn comes */
    run_dry(&loop);
    assert_int_equal(s.c.pc, 0); /* and never starts */
    assert_state(&s.c, LUN_CANCELLED);
    end();
}

static void test_yielded(void **state)
{
    script s;
    begin();
    PLAY(&s, YIELD, YIELD, END);
    run_turn(&loop);
    assert_true(cancel(&s));
    assert_int_equal(loop.n_ready, 1);
    run_turn(&loop);
    assert_true(s.threw[1]);
    assert_int_equal(s.c.t.flags & LUN_MUST_CANCEL, 0);
    run_dry(&loop);
    assert_false(s.threw[2]); /* edge, not level: caught, it goes on undisturbed */
    assert_state(&s.c, LUN_OK);
    end();
}

static void test_sleeping(void **state)
{
    script s;
    begin();
    PLAY(&s, SLEEP, SLEEP, END);
    run_turn(&loop);
    assert_true(cancel(&s));
    assert_int_equal(loop.timers.n, 0); /* the timer leaves at once */
    assert_int_equal(loop.count.sleepers, 0);
    run_dry(&loop);
    assert_true(s.threw[1]);
    assert_false(s.threw[2]);
    assert_true(loop.now == 10); /* the second sleep alone took time */
    end();
}

/* Its time had come before the request: it has slept, the next suspension throws. */
static void test_slept(void **state)
{
    script s;
    begin();
    PLAY(&s, SLEEP, YIELD, END);
    run_turn(&loop);
    lun_timers_fire(&loop, &loop.timers, 10);
    assert_true(cancel(&s));
    run_dry(&loop);
    assert_false(s.threw[1]);
    assert_true(s.threw[2]);
    end();
}

static void test_waiting(void **state)
{
    script s;
    begin();
    PLAY(&s, WAIT, END);
    run_turn(&loop);
    assert_true(cancel(&s));
    assert_int_equal(f.state, LUN_CANCELLED); /* down the edge; the outcome comes up it */
    run_dry(&loop);
    assert_true(s.threw[1]);
    assert_false(s.c.interrupted);
    assert_ptr_equal(s.got[1], &f);
    end();
}

/* Settled before the request: the outcome is delivered, whatever it is; then it throws. */
static void test_value_first(void **state)
{
    const enum lun_state states[] = {LUN_OK, LUN_ERROR};
    for (int i = 0; i < 2; i++) {
        script s;
        begin();
        PLAY(&s, WAIT, SLEEP, END);
        run_turn(&loop);
        lun_future_settle(&f, states[i]);
        assert_true(cancel(&s));
        run_dry(&loop);
        assert_false(s.threw[1]);
        assert_ptr_equal(s.got[1], &f);
        assert_int_equal(f.state, states[i]);
        assert_true(s.threw[2]);
        assert_true(loop.now == 0);
        end();
    }
}

/* It was cancelled by others already: that throw is the one, no second follows. */
static void test_cancelled_twice_over(void **state)
{
    script s;
    begin();
    PLAY(&s, WAIT, YIELD, END);
    run_turn(&loop);
    lun_future_cancel(&f);
    assert_true(cancel(&s));
    run_dry(&loop);
    assert_true(s.threw[1]);
    assert_false(s.threw[2]);
    end();
}

static void test_value_then_end(void **state)
{
    script s;
    begin();
    PLAY(&s, WAIT, END);
    run_turn(&loop);
    lun_future_settle(&f, LUN_OK);
    assert_true(cancel(&s));
    run_dry(&loop);
    assert_state(&s.c, LUN_OK); /* no further suspension: the result stands */
    assert_int_equal(s.c.t.flags & LUN_MUST_CANCEL, 0);
    assert_int_equal(s.c.t.requests, 1);
    end();
}

static void test_done(void **state)
{
    script s;
    begin();
    PLAY(&s, END);
    run_dry(&loop);
    assert_false(cancel(&s));
    assert_int_equal(s.c.t.requests, 0);
    end();
}

/* ---- from its own step ---- */

static void body_self(ctask *c)
{
    script *s = lun_container(c, script, c);
    if (c->pc == 0)
        assert_true(lun_task_cancel(&c->t));
    body_script(c);
    if (c->pc == 0)
        assert_int_equal(s->c.t.flags & LUN_MUST_CANCEL,
                         s->acts[0] == YIELD ? LUN_MUST_CANCEL : 0);
}

static void test_running(void **state)
{
    const act first[] = {WAIT, OWN, SLEEP, YIELD, END};
    for (int i = 0; i < 5; i++) {
        script s;
        begin();
        PLAY(&s, first[i], YIELD, END);
        s.c.body = body_self;
        run_dry(&loop);
        if (first[i] != END) {
            assert_true(s.threw[1]); /* at the first suspension */
            assert_false(s.threw[2]);
        }
        assert_state(&s.c, LUN_OK);
        assert_int_equal(f.state, i < 2 ? LUN_CANCELLED : LUN_PENDING);
        assert_true(loop.now == 0);
        end();
    }
}

/* The late request meets a shared future: it is spared all the same. */
static void test_running_shared(void **state)
{
    script s, other;
    begin();
    PLAY(&other, WAIT, END);
    PLAY(&s, WAIT, END);
    s.c.body = body_self;
    run_turn(&loop);
    assert_int_equal(f.state, LUN_PENDING);
    assert_true(s.c.t.flags & LUN_INTERRUPTED);
    run_turn(&loop);
    assert_true(s.threw[1] && s.c.interrupted);
    lun_future_settle(&f, LUN_OK);
    end();
    assert_state(&other.c, LUN_OK);
}

/* ... and a task: the request goes on to that one. */
static void test_running_awaits_task(void **state)
{
    script s, child;
    begin();
    PLAY(&child, SLEEP, END);
    PLAY(&s, WAIT, END);
    s.c.body = body_self;
    s.c.aim = &child.c.t.done;
    run_dry(&loop);
    assert_state(&child.c, LUN_CANCELLED);
    assert_int_equal(child.c.t.requests, 1);
    assert_state(&s.c, LUN_CANCELLED);
    end();
}

/* ---- several requests ---- */

static void test_several_are_one_throw(void **state)
{
    const act first[] = {YIELD, SLEEP, WAIT};
    for (int i = 0; i < 3; i++) {
        script s;
        begin();
        PLAY(&s, first[i], YIELD, END);
        run_turn(&loop);
        for (int k = 0; k < 3; k++)
            assert_true(cancel(&s));
        assert_int_equal(s.c.t.requests, 3);
        run_dry(&loop);
        assert_true(s.threw[1]);
        assert_false(s.threw[2]);
        end();
    }
}

static void test_second_cuts_the_cleanup(void **state)
{
    script s;
    begin();
    PLAY(&s, SLEEP, SLEEP, SLEEP, END);
    run_turn(&loop);
    cancel(&s);
    run_turn(&loop);
    assert_true(s.threw[1]);
    cancel(&s);
    run_turn(&loop);
    assert_true(s.threw[2]);
    assert_int_equal(s.c.t.requests, 2);
    run_dry(&loop);
    assert_false(s.threw[3]);
    end();
}

static void test_requests_saturate(void **state)
{
    script s;
    begin();
    PLAY(&s, YIELD, END);
    run_turn(&loop);
    for (int i = 0; i < 70000; i++)
        cancel(&s);
    assert_int_equal(s.c.t.requests, UINT16_MAX);
    run_dry(&loop);
    assert_int_equal(s.c.throws, 1);
    end();
}

/* ---- uncancel ---- */

static void body_uncancel(ctask *c)
{
    if (c->pc == 0) {
        assert_int_equal(lun_task_uncancel(&c->t), 0); /* never below nothing */
        lun_task_cancel(&c->t);
        lun_task_cancel(&c->t);
        assert_int_equal(lun_task_uncancel(&c->t), 1);
        assert_true(c->t.flags & LUN_MUST_CANCEL);
        assert_int_equal(lun_task_uncancel(&c->t), 0);
        assert_false(c->t.flags & LUN_MUST_CANCEL);
    }
    body_script(c);
}

static void test_uncancel_drops(void **state)
{
    const act first[] = {SLEEP, YIELD, WAIT};
    for (int i = 0; i < 3; i++) {
        script s;
        begin();
        PLAY(&s, first[i], END);
        s.c.body = body_uncancel;
        run_turn(&loop);
        if (first[i] == WAIT)
            lun_future_settle(&f, LUN_OK);
        run_dry(&loop);
        assert_false(s.threw[1]);
        assert_state(&s.c, LUN_OK);
        end();
    }
}

/* A request that waits behind a yield, a slept sleep or a value is not delivered yet. */
static void test_uncancel_from_outside(void **state)
{
    script y, s, w;
    begin();
    PLAY(&y, YIELD, YIELD, END);
    PLAY(&s, SLEEP, YIELD, END);
    PLAY(&w, WAIT, YIELD, END);
    run_turn(&loop);
    lun_timers_fire(&loop, &loop.timers, 10);
    lun_future_settle(&f, LUN_OK);
    script *all[] = {&y, &s, &w};
    for (int i = 0; i < 3; i++) {
        cancel(all[i]);
        assert_int_equal(lun_task_uncancel(&all[i]->c.t), 0);
    }
    run_dry(&loop);
    for (int i = 0; i < 3; i++)
        assert_int_equal(all[i]->c.throws, 0);
    end();
}

/* One that has done its work (a sleep cut short, a future cancelled) is thrown all the
 * same. */
static void test_uncancel_too_late(void **state)
{
    script s, w;
    begin();
    PLAY(&s, SLEEP, END);
    PLAY(&w, WAIT, END);
    run_turn(&loop);
    cancel(&s);
    cancel(&w);
    lun_task_uncancel(&s.c.t);
    lun_task_uncancel(&w.c.t);
    run_dry(&loop);
    assert_true(s.threw[1] && w.threw[1]);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new),
        cmocka_unit_test(test_yielded),
        cmocka_unit_test(test_sleeping),
        cmocka_unit_test(test_slept),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_value_first),
        cmocka_unit_test(test_cancelled_twice_over),
        cmocka_unit_test(test_value_then_end),
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_running_shared),
        cmocka_unit_test(test_running_awaits_task),
        cmocka_unit_test(test_several_are_one_throw),
        cmocka_unit_test(test_second_cuts_the_cleanup),
        cmocka_unit_test(test_requests_saturate),
        cmocka_unit_test(test_uncancel_drops),
        cmocka_unit_test(test_uncancel_from_outside),
        cmocka_unit_test(test_uncancel_too_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
