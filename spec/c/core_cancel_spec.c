/* SPDX-License-Identifier: MIT */
/*
 * core_cancel_spec.c - a request to stop, at every place where a task can be: value first, one
 * throw for several requests, borrowed things spared while shared, owned ones not.
 */
#include "core_help.h"

/* One loop and one pending future for all, so that a spec is its story and nothing else. */
static lun_loop loop;
static lun_future f;

static void begin(void)
{
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
}

static void end(void)
{
    run_dry(&loop);
    if (!lun_future_done(&f))
        assert_true(lun_list_alone(&f.waiters));
    close_loop(&loop);
}

/* A step each: what is done at step k, and whether a cancellation was thrown when it began. */
typedef enum act { END, WAIT, OWN, SLEEP, YIELD } act;

typedef struct script {
    ctask c;
    const act *acts;
    bool threw[8];
    lun_future *got[8];
} script;

static void body_script(ctask *c)
{
    script *s = lun_container(c, script, c);
    LUN_ASSERT(c->pc < 8);
    s->threw[c->pc] = c->thrown;
    s->got[c->pc] = c->on;
    switch (s->acts[c->pc]) {
    case WAIT:
    case OWN:
        lun_task_wait(&c->t, c->aim, s->acts[c->pc] == OWN);
        break;
    case SLEEP:
        assert_int_equal(lun_task_sleep(&c->t, loop.now + 10), 0);
        break;
    case YIELD:
        lun_task_yield(&c->t);
        break;
    case END:
        lun_task_finish(&c->t, c->thrown ? LUN_CANCELLED : LUN_OK);
    }
}

static void play(script *s, const act *acts)
{
    memset(s, 0, sizeof *s);
    ctask_init(&s->c, &loop, body_script);
    s->c.aim = &f;
    s->acts = acts;
}

#define PLAY(s, ...) play(s, (const act[]){__VA_ARGS__})

static bool cancel(script *s)
{
    return lun_task_cancel(&s->c.t);
}

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
        assert_int_equal(s->c.t.flags & LUN_MUST_CANCEL, s->acts[0] == YIELD ? LUN_MUST_CANCEL : 0);
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

/* One that has done its work (a sleep cut short, a future cancelled) is thrown all the same. */
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
    assert_true(s[2].c.t.done.order < s[1].c.t.done.order); /* the innermost sees it first */
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

/* `asking` is called when a request that came earlier is handed on, `asked` when it came. */
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
        cmocka_unit_test(test_shared_is_spared),
        cmocka_unit_test(test_both_in_one_turn),
        cmocka_unit_test(test_owned_is_not_spared),
        cmocka_unit_test(test_callback_does_not_share),
        cmocka_unit_test(test_kind_says_no),
        cmocka_unit_test(test_kind_says_yes_later),
        cmocka_unit_test(test_several_are_one_throw),
        cmocka_unit_test(test_second_cuts_the_cleanup),
        cmocka_unit_test(test_requests_saturate),
        cmocka_unit_test(test_uncancel_drops),
        cmocka_unit_test(test_uncancel_from_outside),
        cmocka_unit_test(test_uncancel_too_late),
        cmocka_unit_test(test_goes_down_and_comes_up),
        cmocka_unit_test(test_child_swallows),
        cmocka_unit_test(test_third_party),
        cmocka_unit_test(test_shared_task),
        cmocka_unit_test(test_child_cancels_parent),
        cmocka_unit_test(test_hooks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
