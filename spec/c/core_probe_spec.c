/* SPDX-License-Identifier: MIT */
/*
 * core_probe_spec.c - the seams of tests in company: clocks switched under deadlines, a wait cut
 * where others wait for the same, an error and a request at once, and a clock that is dry in
 * vain. Each seam by itself is in core_clock_spec.c.
 */
#include "core_help.h"

static lun_loop loop;
static journal ran;

/* ---- clocks ---- */

static void body_mark(ctask *c)
{
    if (c->pc == 0) {
        assert_int_equal(lun_task_sleep(&c->t, c->when), 0);
        return;
    }
    assert_true(lun_loop_time(&loop) >= c->when);
    journal_add(&ran, c->n);
    ctask_return(c);
}

static void mark_at(ctask *c, uint64_t when, int id)
{
    ctask_init(c, &loop, body_mark);
    c->when = when;
    c->n = id;
}

/* Time goes on from where it is, whatever the order of clocks. */
static void test_switches(void **state)
{
    static const enum lun_clock clocks[] = {LUN_CLOCK_REAL, LUN_CLOCK_VIRTUAL,
                                            LUN_CLOCK_HELD};
    uint64_t random = 99;
    for (int first = 0; first < 2; first++) {
        open_loop(&loop, &(lun_policy){.virtual_clock = first});
        uint64_t last = lun_loop_time(&loop);
        for (int i = 0; i < 1000; i++) {
            enum lun_clock clock = clocks[chance(&random) % 3];
            lun_loop_set_clock(&loop, clock);
            uint64_t now = lun_loop_time(&loop);
            assert_true(now >= last);
            assert_true(now - last < 1000ull * MS);
            last = now;
            assert_int_equal(loop.virtual_clock, clock != LUN_CLOCK_REAL);
            assert_int_equal(loop.held_clock, clock == LUN_CLOCK_HELD);
            if (clock == LUN_CLOCK_REAL)
                continue;
            assert_true(lun_loop_time(&loop) == last); /* it stands */
            lun_loop_set_time(&loop, last + 3600ull * 1000 * MS);
            last = lun_loop_time(&loop);
        }
        close_loop(&loop);
    }
}

static void stop_after(ctask *c)
{
    body_mark(c);
    if (c->t.at == LUN_AT_DONE)
        lun_loop_stop(&loop);
}

/* Deadlines from before a switch are those of after it: none early, none lost, none late. */
static void test_deadlines_survive(void **state)
{
    ctask near, far;
    open_real(&loop);
    uint64_t start = lun_loop_time(&loop);
    mark_at(&near, start + 20 * MS, 1);
    mark_at(&far, start + 3600ull * 1000 * MS, 2);
    near.body = far.body = stop_after;
    run_turn(&loop);
    lun_loop_set_clock(&loop, LUN_CLOCK_HELD);
    lun_loop_set_time(&loop, start + 3599ull * 1000 * MS);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 1);
    lun_loop_set_time(&loop, far.when - 20 * MS);
    lun_loop_set_clock(&loop, LUN_CLOCK_REAL);
    uint64_t real = uv_hrtime();
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    real = uv_hrtime() - real;
    EXPECT(&ran, 2);
    assert_true(real >= 19ull * MS && real < 2000ull * MS);
    /* A virtual loop that becomes real waits for real. */
    mark_at(&near, lun_loop_time(&loop) + 10 * MS, 3);
    near.body = stop_after;
    lun_loop_set_clock(&loop, LUN_CLOCK_VIRTUAL);
    run_turn(&loop);
    lun_loop_set_clock(&loop, LUN_CLOCK_REAL);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 3);
    close_loop(&loop);
}

/* The alarm that was set for a deadline before a switch is none for the time after it. */
static void stop_woken(lun_loop *l)
{
    lun_loop_stop(l);
}

static void test_alarm_survives(void **state)
{
    ctask far;
    open_real(&loop);
    loop.woken = stop_woken;
    mark_at(&far, lun_loop_time(&loop) + 3600ull * 1000 * MS, 1);
    far.body = stop_after;
    run_turn(&loop);
    lun_loop_wakeup(&loop);
    assert_int_equal(lun_loop_run(&loop),
                     LUN_RAN_STOPPED); /* it waited, with the alarm on */
    assert_int_equal(ran.n, 0);
    lun_loop_set_clock(&loop, LUN_CLOCK_HELD);
    lun_loop_set_time(&loop, far.when - 10 * MS);
    lun_loop_set_clock(&loop, LUN_CLOCK_REAL);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 1);
    close_loop(&loop);
}

/* ---- suspensions ---- */

static struct {
    int seen, at;
    bool throws, asks_all;
    const lun_future *on[64];
    lun_task *last;
} hook;

static void on_suspends(lun_loop *l, lun_task *t, lun_future *on)
{
    assert_ptr_equal(l, &loop);
    assert_int_equal(t->at, LUN_AT_RUNNING);
    hook.on[hook.seen % 64] = on;
    hook.last = t;
    if (hook.seen++ != hook.at)
        return;
    if (hook.throws)
        lun_task_throw(t);
    else
        lun_task_cancel(t);
}

static void open_hooked(int at, bool throws)
{
    open_virtual(&loop);
    memset(&hook, 0, sizeof hook);
    hook.at = at;
    hook.throws = throws;
    loop.suspends = on_suspends;
}

enum { NEVER_AT = -1 };

/* ---- one of several that wait for the same ---- */

static void body_park(ctask *c)
{
    if (c->pc == 0)
        lun_park_wait(c->ud, &c->t);
    else
        ctask_return(c);
}

static int left_calls;

static void on_left(lun_park *park)
{
    left_calls++;
}

/* A place in a queue is given up, and the others keep theirs. */
static void test_cut_park(void **state)
{
    for (int throws = 0; throws < 2; throws++) {
        ctask c[3];
        lun_park park;
        open_hooked(1, throws);
        lun_park_init(&park, &loop, NULL);
        park.left = on_left;
        left_calls = 0;
        for (int i = 0; i < 3; i++)
            ctask_init(&c[i], &loop, body_park);
        for (int i = 0; i < 3; i++)
            c[i].ud = &park;
        run_dry(&loop);
        assert_true(c[1].interrupted);
        assert_int_equal(left_calls, 1);
        assert_false(lun_future_done(&c[0].t.done));
        assert_int_equal(lun_park_grant_all(&park), 2);
        run_dry(&loop);
        assert_state(&c[0], LUN_OK);
        assert_state(&c[2], LUN_OK);
        close_loop(&loop);
    }
}

/* A future that others wait for stays theirs, in both modes. */
static void test_cut_shared(void **state)
{
    for (int throws = 0; throws < 2; throws++) {
        ctask c[3];
        lun_future f;
        open_hooked(1, throws);
        lun_future_init(&f, &loop, &lun_future_kind);
        for (int i = 0; i < 3; i++)
            ctask_await(&c[i], &loop, &f);
        run_dry(&loop);
        assert_int_equal(f.state, LUN_PENDING);
        assert_true(c[1].interrupted);
        lun_future_settle(&f, LUN_OK);
        run_dry(&loop);
        assert_state(&c[0], LUN_OK);
        assert_state(&c[2], LUN_OK);
        assert_int_equal(c[1].t.requests, !throws);
        close_loop(&loop);
    }
}

/* The error concerns that one wait: the next is as any other, and a request comes as any. */
static void body_twice(ctask *c)
{
    if (c->pc < 2)
        assert_int_equal(lun_task_sleep(&c->t, c->when + (uint64_t)c->pc), 0);
    else
        ctask_return(c);
}

static void test_throw_once(void **state)
{
    ctask c;
    open_hooked(0, true);
    ctask_init(&c, &loop, body_twice);
    c.when = 100;
    run_dry(&loop);
    assert_int_equal(c.throws, 1);
    assert_false(c.thrown);
    assert_true(lun_loop_time(&loop) == 101);
    assert_state(&c, LUN_OK);
    close_loop(&loop);
}

/* A request that comes between the error and the resumption is thrown at the next wait. */
static void body_own(ctask *c)
{
    if (c->pc == 0)
        lun_task_wait(&c->t, c->aim, true);
    else
        ctask_return(c);
}

static void body_wait_twice(ctask *c)
{
    static void (*const bodies[])(ctask *) = {body_sleep, body_own, body_park, body_yield};
    if (c->pc == 0)
        bodies[c->n](c);
    else if (c->pc == 1)
        assert_int_equal(lun_task_sleep(&c->t, LUN_NEVER), 0);
    else
        ctask_return(c);
}

static void test_throw_and_cancel(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        ctask c;
        lun_future f;
        lun_park park;
        open_hooked(0, true);
        lun_future_init(&f, &loop, &lun_future_kind);
        lun_park_init(&park, &loop, NULL);
        ctask_init(&c, &loop, body_wait_twice);
        c.when = 1000;
        c.aim = &f;
        c.ud = &park;
        c.n = kind;
        run_turn(&loop); /* it has begun its first wait, which is cut */
        assert_int_equal(c.pc, 1);
        assert_true(lun_task_cancel(&c.t));
        assert_true(lun_task_cancel(&c.t));
        run_dry(&loop);
        assert_int_equal(c.throws, 2);
        assert_state(&c, LUN_CANCELLED);
        assert_int_equal(c.t.requests, 2);
        assert_true(lun_loop_time(&loop) == 0);
        close_loop(&loop);
    }
}

/* One that was there before arrives where the error would have; the error does not come. */
static void body_cancel_then_sleep(ctask *c)
{
    if (c->pc == 0)
        lun_task_cancel(&c->t);
    if (c->pc < 2)
        assert_int_equal(lun_task_sleep(&c->t, 1000), 0);
    else
        ctask_return(c);
}

static void test_throw_after_cancel(void **state)
{
    ctask c;
    open_hooked(0, true);
    ctask_init(&c, &loop, body_cancel_then_sleep);
    run_turn(&loop);
    assert_int_equal(hook.seen, 1);
    assert_int_equal(c.t.flags & (LUN_THROWN | LUN_INTERRUPTED), LUN_INTERRUPTED);
    run_dry(&loop);
    assert_int_equal(c.throws, 1);
    assert_state(&c, LUN_OK);
    assert_int_equal(c.t.requests, 1);
    close_loop(&loop);
}

/* A turn given away that was cut is cut, whatever is taken back meanwhile. */
static void test_throw_at_a_yield(void **state)
{
    ctask c;
    open_hooked(0, true);
    ctask_init(&c, &loop, body_yield);
    c.n = 10;
    run_turn(&loop);
    assert_int_equal(lun_task_uncancel(&c.t), 0);
    assert_false(lun_task_go_on(&c.t));
    run_dry(&loop);
    assert_true(c.interrupted);
    assert_int_equal(c.pc, 2);
    close_loop(&loop);
}

static void test_throw_elsewhere(void **state)
{
    ctask c;
    open_hooked(NEVER_AT, true);
    ctask_init(&c, &loop, body_sleep);
    c.when = 10;
    run_turn(&loop);
    expect_fatal(lun_task_throw(&c.t));
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    close_loop(&loop);
}

/* Ended by force while it is queued to throw. */
static void test_abandoned(void **state)
{
    ctask c;
    lun_future f;
    open_hooked(0, true);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_await(&c, &loop, &f);
    run_turn(&loop);
    assert_true(c.t.flags & LUN_INTERRUPTED);
    lun_task_abandon(&c.t, LUN_CANCELLED);
    assert_int_equal(c.t.flags & (LUN_INTERRUPTED | LUN_THROWN), 0);
    run_dry(&loop);
    assert_int_equal(c.pc, 1);
    close_loop(&loop);
}

/* A tower of tasks, each waiting for the one below; one of the waits is cut by a request. */
static void test_cut_chain(void **state)
{
    enum { DEPTH = 50 };
    static ctask c[DEPTH];
    for (int at = 0; at < DEPTH; at += 7) {
        lun_future f;
        open_hooked(at, false);
        lun_future_init(&f, &loop, &lun_future_kind);
        for (int i = 0; i < DEPTH; i++)
            ctask_await(&c[i], &loop, i == 0 ? &f : &c[i - 1].t.done);
        run_dry(&loop);
        /* It went down to the future, and the outcome came up to all. */
        for (int i = 0; i < DEPTH; i++)
            assert_state(&c[i], LUN_CANCELLED);
        assert_int_equal(c[at].t.requests, 1);
        close_loop(&loop);
    }
}

/* ---- dry ---- */

static struct {
    int calls, helps;
    lun_future *f;
} well;

static bool on_dry(lun_loop *l)
{
    assert_int_equal(l->n_ready, 0);
    assert_true(l->virtual_clock);
    if (well.calls++ >= well.helps)
        return false;
    if (well.f && !lun_future_done(well.f))
        lun_future_settle(well.f, LUN_OK);
    return true;
}

static void test_dry_in_vain(void **state)
{
    ctask c;
    lun_future f;
    open_virtual(&loop);
    loop.dry = on_dry;
    memset(&well, 0, sizeof well);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_await(&c, &loop, &f);
    run_dry(&loop);
    assert_int_equal(well.calls, 1);
    well.helps = 5; /* it says that it helps, and does not */
    well.f = NULL;
    run_dry(&loop);
    assert_int_equal(well.calls, 6);
    lun_future_settle(&f, LUN_OK);
    run_dry(&loop);
    close_loop(&loop);
}

static void stop_turn(note *n)
{
    lun_loop_stop(n->loop);
}

/* Not while time can still bring something, nor on a real clock; on a held one time cannot. */
static void test_dry_when(void **state)
{
    ctask c;
    note end;
    open_virtual(&loop);
    loop.dry = on_dry;
    memset(&well, 0, sizeof well);
    mark_at(&c, 100, 1);
    note_queue(&end, &loop, stop_turn, 0);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_int_equal(well.calls, 0);
    lun_loop_set_clock(&loop, LUN_CLOCK_HELD);
    run_dry(&loop);
    assert_int_equal(well.calls, 1);
    lun_loop_set_clock(&loop, LUN_CLOCK_VIRTUAL);
    run_dry(&loop);
    EXPECT(&ran, 1);
    assert_int_equal(well.calls, 2);
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switches),         cmocka_unit_test(test_deadlines_survive),
        cmocka_unit_test(test_alarm_survives),   cmocka_unit_test(test_cut_park),
        cmocka_unit_test(test_cut_shared),       cmocka_unit_test(test_throw_once),
        cmocka_unit_test(test_throw_and_cancel), cmocka_unit_test(test_throw_after_cancel),
        cmocka_unit_test(test_throw_at_a_yield), cmocka_unit_test(test_throw_elsewhere),
        cmocka_unit_test(test_abandoned),        cmocka_unit_test(test_cut_chain),
        cmocka_unit_test(test_dry_in_vain),      cmocka_unit_test(test_dry_when),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
