/* SPDX-License-Identifier: MIT */
/*
 * core_task_spec.c - the life of a task: steps, yields, sleeps, waits, ends. Requests to
 * stop are in core_cancel_spec.c.
 */
#include "core_help.h"

static journal ran;

static void body_note(ctask *c)
{
    journal_add(&ran, c->n);
    ctask_return(c);
}

static void test_init(void **state)
{
    lun_loop loop;
    ctask c;
    open_virtual(&loop);
    ctask_init(&c, &loop, body_return);
    assert_int_equal(c.t.at, LUN_AT_NEW);
    assert_int_equal(c.t.flags, LUN_QUEUED);
    assert_int_equal(c.t.requests, 0);
    assert_int_equal(loop.count.tasks, 1);
    assert_int_equal(loop.count.spawned, 1);
    assert_int_equal(loop.n_ready, 1);
    assert_true(lun_is_task(&c.t.done));
    assert_int_equal(c.pc, 0); /* nothing has run */
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    assert_int_equal(c.t.at, LUN_AT_DONE);
    assert_int_equal(c.pc, 1);
    assert_int_equal(loop.count.tasks, 0);
    assert_int_equal(loop.count.spawned, 1);
    close_loop(&loop);
}

static void test_start_in_order(void **state)
{
    lun_loop loop;
    ctask c[5];
    open_virtual(&loop);
    for (int i = 0; i < 5; i++) {
        ctask_init(&c[i], &loop, body_note);
        c[i].n = i;
    }
    run_turn(&loop);
    EXPECT(&ran, 0, 1, 2, 3, 4);
    close_loop(&loop);
}

static void test_wake_once(void **state)
{
    lun_loop loop;
    ctask c;
    open_virtual(&loop);
    ctask_init(&c, &loop, body_return);
    lun_task_wake(&c.t);
    lun_task_wake(&c.t);
    assert_int_equal(loop.n_ready, 1);
    run_dry(&loop);
    assert_int_equal(c.pc, 1);
    close_loop(&loop);
}

/* ---- yield ---- */

static void body_note_yield(ctask *c)
{
    journal_add(&ran, c->n);
    if (c->pc < 2)
        lun_task_yield(&c->t);
    else
        lun_task_finish(&c->t, LUN_OK);
}

static void test_yield(void **state)
{
    lun_loop loop;
    ctask a, b;
    open_virtual(&loop);
    ctask_init(&a, &loop, body_note_yield);
    a.n = 1;
    ctask_init(&b, &loop, body_note_yield);
    b.n = 2;
    run_turn(&loop);
    EXPECT(&ran, 1, 2);
    assert_int_equal(a.t.at, LUN_AT_YIELDED);
    assert_true(a.t.flags & LUN_QUEUED);
    assert_int_equal(loop.count.suspensions, 2);
    run_turn(&loop);
    run_turn(&loop);
    EXPECT(&ran, 1, 2, 1, 2); /* each time exactly one turn */
    assert_state(&a, LUN_OK);
    close_loop(&loop);
}

/* ---- sleep ---- */

static void test_sleep(void **state)
{
    lun_loop loop;
    ctask a, b, c;
    open_virtual(&loop);
    ctask_init(&a, &loop, body_sleep);
    a.when = 30;
    ctask_init(&b, &loop, body_sleep);
    b.when = 20;
    ctask_init(&c, &loop, body_sleep);
    c.when = 0; /* due at once, yet it suspends */
    run_turn(&loop);
    assert_int_equal(a.t.at, LUN_AT_SLEEPING);
    assert_int_equal(loop.count.sleepers, 3);
    assert_int_equal(loop.count.suspensions, 3);
    assert_false(a.t.flags & LUN_QUEUED);
    run_dry(&loop);
    assert_int_equal(loop.count.sleepers, 0);
    assert_true(c.t.done.order < b.t.done.order && b.t.done.order < a.t.done.order);
    assert_true(loop.now == 30);
    assert_null(a.on);
    close_loop(&loop);
}

static void test_sleep_for_ever(void **state)
{
    lun_loop loop;
    ctask c;
    open_virtual(&loop);
    ctask_init(&c, &loop, body_sleep);
    c.when = LUN_NEVER;
    run_dry(&loop);
    assert_int_equal(c.t.at, LUN_AT_SLEEPING);
    assert_int_equal(loop.count.sleepers, 1);
    assert_true(lun_task_cancel(&c.t));
    run_dry(&loop);
    assert_state(&c, LUN_CANCELLED);
    close_loop(&loop);
}

static void body_sleep_or_yield(ctask *c)
{
    if (c->pc == 0) {
        c->n = lun_task_sleep(&c->t, c->when);
        if (c->n == 0)
            return;
        assert_int_equal(c->t.at, LUN_AT_RUNNING); /* nothing changed */
        assert_int_equal(c->t.done.loop->count.sleepers, 0);
        lun_task_yield(&c->t); /* it can suspend otherwise */
    } else {
        ctask_return(c);
    }
}

static void test_sleep_without_memory(void **state)
{
    lun_loop loop;
    meter m = {.fail_at = 1};
    ctask c;
    open_loop(&loop,
              &(lun_policy){.virtual_clock = true, .allocator = meter_allocator(&m)});
    ctask_init(&c, &loop, body_sleep_or_yield);
    c.when = 5;
    run_dry(&loop);
    assert_int_equal(c.n, UV_ENOMEM);
    assert_state(&c, LUN_OK);
    assert_int_equal(loop.count.suspensions, 1);
    close_loop(&loop);
    assert_int_equal(m.live, 0);
}

/* ---- wait ---- */

static void test_wait(void **state)
{
    const enum lun_state states[] = {LUN_OK, LUN_ERROR, LUN_CANCELLED};
    lun_loop loop;
    open_virtual(&loop);
    for (int i = 0; i < 3; i++) {
        lun_future f;
        ctask a, b;
        lun_future_init(&f, &loop, &lun_future_kind);
        ctask_await(&a, &loop, &f);
        ctask_await(&b, &loop, &f);
        run_turn(&loop);
        assert_int_equal(a.t.at, LUN_AT_WAITING);
        assert_ptr_equal(a.t.u.wait.on, &f);
        lun_future_settle(&f, states[i]);
        assert_false(lun_future_done(&a.t.done)); /* settling queues, it runs nothing */
        assert_ptr_equal(a.t.u.wait.on, &f);
        run_dry(&loop);
        assert_ptr_equal(a.on, &f);
        assert_false(a.interrupted);
        assert_state(&a, states[i]);
        assert_state(&b, states[i]);
        assert_true(a.t.done.order < b.t.done.order); /* in the order of waiting */
    }
    close_loop(&loop);
}

static void test_await_task(void **state)
{
    lun_loop loop;
    ctask child, parent, grandparent;
    open_virtual(&loop);
    ctask_init(&child, &loop, body_sleep);
    child.when = 5;
    ctask_await(&parent, &loop, &child.t.done);
    ctask_await(&grandparent, &loop, &parent.t.done);
    run_dry(&loop);
    assert_state(&grandparent, LUN_OK);
    assert_ptr_equal(grandparent.on, &parent.t.done);
    close_loop(&loop);
}

/* An old wake-up must not end a later sleep: wait, wait, then sleep to the full length. */
static void body_wait_then_sleep(ctask *c)
{
    lun_future *both = c->ud;
    switch (c->pc) {
    case 0:
    case 1:
        lun_task_wait(&c->t, &both[c->pc], false);
        break;
    case 2:
        assert_int_equal(lun_task_sleep(&c->t, c->when), 0);
        break;
    default:
        ctask_return(c);
    }
}

static void test_no_stale_wakeup(void **state)
{
    lun_loop loop;
    lun_future both[2];
    ctask c;
    open_virtual(&loop);
    lun_future_init(&both[0], &loop, &lun_future_kind);
    lun_future_init(&both[1], &loop, &lun_future_kind);
    ctask_init(&c, &loop, body_wait_then_sleep);
    c.ud = both;
    c.when = 100;
    run_turn(&loop);
    lun_future_settle(&both[0], LUN_OK);
    run_turn(&loop);
    lun_future_settle(&both[1], LUN_OK);
    lun_task_wake(&c.t);
    run_turn(&loop);
    assert_int_equal(c.t.at, LUN_AT_SLEEPING);
    run_dry(&loop);
    assert_true(loop.now == 100);
    assert_int_equal(c.pc, 4);
    close_loop(&loop);
}

/* ---- suspending is for the running task ---- */

static void test_only_the_running_suspends(void **state)
{
    lun_loop loop;
    lun_future f;
    ctask c;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_init(&c, &loop, body_return);
    expect_fatal(lun_task_wait(&c.t, &f, false));
    expect_fatal(lun_task_yield(&c.t));
    run_dry(&loop);
    expect_fatal(lun_task_yield(&c.t));
    close_loop(&loop);
}

/* ---- finish ---- */

static void test_finish(void **state)
{
    const enum lun_state states[] = {LUN_OK, LUN_ERROR, LUN_CANCELLED};
    lun_loop loop;
    open_virtual(&loop);
    for (int i = 0; i < 3; i++) {
        ctask c, w;
        ctask_init(&c, &loop, body_return);
        ctask_await(&w, &loop, &c.t.done);
        lun_task_finish(&c.t, states[i]); /* a new task can be ended, too */
        assert_int_equal(loop.count.tasks, 1);
        assert_int_equal(c.t.at, LUN_AT_DONE);
        w.aim = &c.t.done;
        w.body = body_note;
        run_dry(&loop);
        ran.n = 0;
        assert_int_equal(c.pc, 0); /* it never ran */
        assert_state(&c, states[i]);
        expect_fatal(lun_task_finish(&c.t, LUN_OK));
        loop.count.tasks = 0; /* the refused end had counted */
    }
    close_loop(&loop);
}

/* ---- abandon: the last resort of a shutdown, at every place where a task can be ---- */

static void body_wait_park(ctask *c)
{
    if (c->pc == 0)
        lun_park_wait(c->ud, &c->t);
    else
        ctask_return(c);
}

static int revocations;

static void on_revoked(lun_park *p)
{
    revocations++;
    lun_park_grant(p);
}

static void test_abandon(void **state)
{
    lun_loop loop;
    lun_future f, settled;
    ctask fresh, yielded, sleeping, slept, waiting, woken, shared;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    lun_future_init(&settled, &loop, &lun_future_kind);
    ctask_init(&yielded, &loop, body_yield);
    yielded.n = 5;
    ctask_init(&sleeping, &loop, body_sleep);
    sleeping.when = 100;
    ctask_init(&slept, &loop, body_sleep);
    ctask_await(&waiting, &loop, &f);
    ctask_await(&shared, &loop, &f);
    ctask_await(&woken, &loop, &settled);
    run_turn(&loop);
    lun_timers_fire(&loop, &loop.timers, 1);
    assert_int_equal(slept.t.at, LUN_AT_SLEPT);
    lun_future_settle(&settled, LUN_OK);
    ctask_init(&fresh, &loop, body_return);
    ctask *all[] = {&fresh, &yielded, &sleeping, &slept, &waiting, &woken};
    for (int i = 0; i < 6; i++) {
        int steps = all[i]->pc;
        lun_task_abandon(&all[i]->t, i & 1 ? LUN_CANCELLED : LUN_ERROR);
        assert_int_equal(all[i]->t.at, LUN_AT_DONE);
        assert_state(all[i], i & 1 ? LUN_CANCELLED : LUN_ERROR);
        assert_int_equal(all[i]->pc, steps);
    }
    assert_int_equal(loop.count.tasks, 1);
    assert_int_equal(loop.count.sleepers, 0);
    assert_int_equal(loop.timers.n, 0);
    lun_future_settle(
        &f, LUN_OK); /* the other waiter is untouched, the left one not in the ring */
    run_dry(&loop);
    assert_state(&shared, LUN_OK);
    for (int i = 1; i < 6; i++)
        assert_int_equal(all[i]->pc, 1); /* those that were queued did not run again */
    assert_int_equal(fresh.pc, 0);
    close_loop(&loop);
}

/* The first half of it: the task waits for nothing any more, and is ended later. */
static void test_detach(void **state)
{
    lun_loop loop;
    lun_future f;
    ctask sleeping, waiting;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_init(&sleeping, &loop, body_sleep);
    sleeping.when = 100;
    ctask_await(&waiting, &loop, &f);
    run_turn(&loop);
    lun_task_detach(&sleeping.t);
    lun_task_detach(&waiting.t);
    assert_int_equal(loop.timers.n, 0);
    assert_int_equal(loop.count.sleepers, 0);
    assert_true(lun_list_alone(&f.waiters));
    assert_int_equal(loop.count.tasks, 2);
    assert_false(lun_future_done(&waiting.t.done));
    lun_task_finish(&sleeping.t, LUN_ERROR);
    lun_task_finish(&waiting.t, LUN_CANCELLED);
    run_dry(&loop);
    assert_state(&sleeping, LUN_ERROR);
    close_loop(&loop);
}

/* Cancelled, but not run yet: it is counted once. */
static void test_abandon_cancelled(void **state)
{
    lun_loop loop;
    lun_future f;
    ctask sleeping, waiting;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_init(&sleeping, &loop, body_sleep);
    sleeping.when = 100;
    ctask_await(&waiting, &loop, &f);
    run_turn(&loop);
    lun_task_cancel(&sleeping.t);
    lun_task_cancel(&waiting.t);
    assert_int_equal(loop.count.sleepers, 0);
    lun_task_abandon(&sleeping.t, LUN_CANCELLED);
    lun_task_abandon(&waiting.t, LUN_CANCELLED);
    run_dry(&loop);
    assert_int_equal(sleeping.pc, 1);
    close_loop(&loop);
}

/* Its waiters hear of it; a grant that it had goes to the next. */
static void test_abandon_passes_on(void **state)
{
    lun_loop loop;
    lun_park park;
    ctask c[3], w;
    open_virtual(&loop);
    revocations = 0;
    lun_park_init(&park, &loop, on_revoked);
    for (int i = 0; i < 3; i++) {
        ctask_init(&c[i], &loop, body_wait_park);
        c[i].ud = &park;
    }
    ctask_await(&w, &loop, &c[0].t.done);
    run_turn(&loop);
    assert_true(lun_park_grant(&park));
    lun_task_abandon(&c[0].t, LUN_CANCELLED);
    assert_int_equal(revocations, 1);
    assert_int_equal(park.granted, 1);
    lun_task_abandon(&c[2].t, LUN_CANCELLED); /* queued, not granted: nothing to pass on */
    assert_int_equal(revocations, 1);
    run_dry(&loop);
    assert_state(&w, LUN_CANCELLED);
    assert_state(&c[1], LUN_OK);
    assert_int_equal(park.granted, 0);
    assert_false(lun_park_waiting(&park));
    close_loop(&loop);
}

/* A grant that nobody can take over, as an event's, is only forgotten. */
static void test_abandon_granted_for_good(void **state)
{
    lun_loop loop;
    lun_park park;
    ctask c[2];
    open_virtual(&loop);
    lun_park_init(&park, &loop, NULL);
    for (int i = 0; i < 2; i++) {
        ctask_init(&c[i], &loop, body_wait_park);
        c[i].ud = &park;
    }
    run_turn(&loop);
    assert_true(lun_park_grant(&park));
    assert_int_equal(park.granted, 1);
    lun_task_abandon(&c[0].t, LUN_CANCELLED);
    assert_int_equal(park.granted, 0);
    assert_true(lun_park_waiting(&park));
    lun_park_grant(&park);
    run_dry(&loop);
    assert_state(&c[1], LUN_OK);
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_start_in_order),
        cmocka_unit_test(test_wake_once),
        cmocka_unit_test(test_yield),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_sleep_for_ever),
        cmocka_unit_test(test_sleep_without_memory),
        cmocka_unit_test(test_wait),
        cmocka_unit_test(test_await_task),
        cmocka_unit_test(test_no_stale_wakeup),
        cmocka_unit_test(test_only_the_running_suspends),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_abandon_passes_on),
        cmocka_unit_test(test_abandon_granted_for_good),
        cmocka_unit_test(test_abandon_cancelled),
        cmocka_unit_test(test_detach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
