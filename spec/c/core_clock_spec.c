/* SPDX-License-Identifier: MIT */
/*
 * core_clock_spec.c - what tests change under a loop that lives: the clock, the order, what
 * happens when nothing is left to happen, and the hook that sees every suspension.
 */
#include "core_script.h"

/* ---- the clock ---- */

/* The time goes on from where it is, in every direction. */
static void test_switch(void **state)
{
    ctask c;
    begin();
    lun_loop_set_time(&loop, 5000ull * MS);
    lun_loop_set_clock(&loop, LUN_CLOCK_REAL);
    uint64_t now = lun_loop_time(&loop);
    assert_true(now >= 5000ull * MS && now < 6000ull * MS);
    ctask_init(&c, &loop, body_sleep);
    c.when = now + 3600ull * 1000 * MS;
    lun_loop_set_clock(&loop, LUN_CLOCK_VIRTUAL);
    assert_true(loop.now >= now && loop.now < now + 1000ull * MS);
    uint64_t start = uv_hrtime();
    run_dry(&loop);
    assert_true(uv_hrtime() - start < 1000ull * MS);
    assert_true(loop.now == c.when);
    lun_loop_set_clock(&loop, LUN_CLOCK_REAL);
    assert_true(lun_loop_time(&loop) >= c.when);
    lun_loop_set_clock(&loop, LUN_CLOCK_VIRTUAL);
    end();
}

static void body_sleep_and_stop(ctask *c)
{
    body_sleep(c);
    if (c->pc > 0)
        lun_loop_stop(c->t.done.loop);
}

/* On a real clock that is ahead of the machine's, a sleep still takes its time. */
static void test_sleep_after_a_switch(void **state)
{
    ctask c;
    begin();
    lun_loop_set_time(&loop, 86400ull * 1000 * MS);
    lun_loop_set_clock(&loop, LUN_CLOCK_REAL);
    uint64_t start = uv_hrtime();
    ctask_init(&c, &loop, body_sleep_and_stop);
    c.when = lun_loop_time(&loop) + 5 * MS;
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_true(uv_hrtime() - start >= 5 * MS);
    assert_true(uv_hrtime() - start < 10000ull * MS);
    lun_loop_set_clock(&loop, LUN_CLOCK_VIRTUAL);
    end();
}

/* A held clock moves by hand alone. */
static void test_held(void **state)
{
    ctask early, late;
    begin();
    lun_loop_set_clock(&loop, LUN_CLOCK_HELD);
    ctask_init(&early, &loop, body_sleep);
    early.when = 10;
    ctask_init(&late, &loop, body_sleep);
    late.when = 20;
    run_dry(&loop);
    assert_true(loop.now == 0);
    assert_int_equal(early.t.at, LUN_AT_SLEEPING);
    lun_loop_set_time(&loop, 10);
    run_dry(&loop);
    assert_state(&early, LUN_OK);
    assert_int_equal(late.t.at, LUN_AT_SLEEPING);
    lun_loop_set_time(&loop, 10); /* to stand still is allowed, to go back is not */
    expect_fatal(lun_loop_set_time(&loop, 9));
    lun_loop_set_clock(&loop, LUN_CLOCK_VIRTUAL);
    end();
    assert_state(&late, LUN_OK);
}

static void test_a_real_clock_cannot_be_moved(void **state)
{
    open_real(&loop);
    expect_fatal(lun_loop_set_time(&loop, loop.now + 1));
    close_loop(&loop);
}

/* Short turns share one reading of the clock; each long one is worth its own. */
enum { CROWD = 20, TURNS = 6 };

static struct {
    uint64_t now[TURNS];
    int turn;
} seen;

static void note_again(note *n)
{
    if (n->id == 0) {
        seen.now[seen.turn] = loop.now;
        uint64_t end = uv_hrtime() + MS / 10;
        while (uv_hrtime() < end)
            continue;
        if (++seen.turn == TURNS)
            lun_loop_stop(&loop);
    }
    if (seen.turn < TURNS)
        lun_loop_queue(&loop, &n->job);
}

static int moves(int crowd)
{
    note n[CROWD];
    int count = 0;
    open_real(&loop);
    seen.turn = 0;
    for (int i = 0; i < crowd; i++)
        note_queue(&n[i], &loop, note_again, i);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    for (int i = 1; i < TURNS; i++)
        count += seen.now[i] != seen.now[i - 1];
    if (loop.ready)
        run_turn(&loop);
    close_loop(&loop);
    return count;
}

static void test_long_turns_read_the_clock(void **state)
{
    assert_int_equal(moves(CROWD), TURNS - 1);
    assert_true(moves(1) < TURNS - 1);
}

/* ---- the order ---- */

enum { N = 12 };
static journal ran;

static void body_note(ctask *c)
{
    journal_add(&ran, c->n);
    lun_task_finish(&c->t, LUN_OK);
}

static void order_of_tasks(int *order)
{
    static ctask c[N];
    for (int i = 0; i < N; i++) {
        ctask_init(&c[i], &loop, body_note);
        c[i].n = i;
    }
    run_dry(&loop);
    memcpy(order, ran.id, N * sizeof *order);
    ran.n = 0;
}

static void test_order(void **state)
{
    int plain[N], one[N], again[N], other[N];
    begin();
    order_of_tasks(plain);
    for (int i = 0; i < N; i++)
        assert_int_equal(plain[i], i);
    lun_loop_set_order(&loop, true, 7);
    order_of_tasks(one);
    lun_loop_set_order(&loop, true, 8);
    order_of_tasks(other);
    lun_loop_set_order(&loop, true, 7);
    order_of_tasks(again);
    assert_memory_equal(one, again, sizeof one);
    assert_memory_not_equal(one, other, sizeof one);
    assert_memory_not_equal(one, plain, sizeof one);
    lun_loop_set_order(&loop, false, 0);
    order_of_tasks(again);
    assert_memory_equal(again, plain, sizeof plain);
    end();
}

/* ---- nothing is left ---- */

static int dry_calls;

static bool settle_when_dry(lun_loop *l)
{
    dry_calls++;
    if (lun_future_done(&f))
        return false;
    lun_future_settle(&f, LUN_OK);
    return true;
}

static void test_dry_hook(void **state)
{
    ctask c;
    begin();
    loop.dry = settle_when_dry;
    dry_calls = 0;
    ctask_await(&c, &loop, &f);
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    assert_int_equal(dry_calls, 2); /* it found something, then it did not */
    end();
}

/* ---- every suspension ---- */

static int suspensions, at;
static bool throws;
static lun_future *seen_on[8];

static void on_suspension(lun_loop *l, lun_task *t, lun_future *on)
{
    assert_int_equal(t->at, LUN_AT_RUNNING);
    seen_on[suspensions] = on;
    if (++suspensions != at)
        return;
    if (throws)
        lun_task_throw(t);
    else
        lun_task_cancel(t);
}

static void begin_counting(int number, bool by_throw)
{
    begin();
    loop.suspends = on_suspension;
    suspensions = 0;
    at = number;
    throws = by_throw;
}

static void test_sees_every_suspension(void **state)
{
    script s;
    begin_counting(0, false);
    PLAY(&s, YIELD, SLEEP, WAIT, OWN, END);
    run_turn(&loop);
    run_turn(&loop);
    assert_int_equal(suspensions, 2);
    run_dry(&loop);
    lun_future_settle(&f, LUN_OK);
    lun_future after;
    lun_future_init(&after, &loop, &lun_future_kind);
    s.c.aim = &after;
    run_dry(&loop);
    assert_int_equal(suspensions, 4);
    assert_true(!seen_on[0] && !seen_on[1] && seen_on[2] == &f && seen_on[3] == &after);
    lun_future_settle(&after, LUN_OK);
    end();
}

/* A request or an error arrives at exactly the wait during whose beginning it was made. */
static void arrives(int number, bool by_throw)
{
    script s;
    begin_counting(number, by_throw);
    PLAY(&s, YIELD, SLEEP, WAIT, YIELD, END);
    run_dry(&loop);
    if (s.c.pc == 3)
        lun_future_settle(&f, LUN_OK);
    run_dry(&loop);
    assert_int_equal(s.c.pc, 5);
    assert_int_equal(s.c.throws, 1);
    assert_true(s.threw[number]);
    /* A thrown error is no request: nothing of it is left. */
    assert_int_equal(s.c.t.requests, by_throw ? 0 : 1);
    assert_int_equal(s.c.t.flags, 0);
    end();
}

static void test_cancel_at_each(void **state)
{
    for (int i = 1; i <= 4; i++)
        arrives(i, false);
}

static void test_throw_at_each(void **state)
{
    for (int i = 1; i <= 4; i++)
        arrives(i, true);
}

/* What it would have waited for is spared, borrowed by it alone as it may be. */
static void test_throw_spares(void **state)
{
    script s;
    begin_counting(1, true);
    PLAY(&s, WAIT, END);
    run_dry(&loop);
    assert_true(s.threw[1] && s.c.interrupted);
    assert_int_equal(f.state, LUN_PENDING);
    end();
}

/* Somebody takes a request back that there never was: the throw stays one. */
static void test_throw_and_uncancel(void **state)
{
    script s;
    begin_counting(1, true);
    PLAY(&s, SLEEP, END);
    run_turn(&loop);
    assert_int_equal(s.c.t.requests, 0);
    assert_int_equal(lun_task_uncancel(&s.c.t), 0);
    run_dry(&loop);
    assert_true(s.threw[1] && s.c.t.requests == 0);
    end();
}

/* What it owns is ended by the throw, as by a request. */
static void test_throw_at_an_owned(void **state)
{
    script s;
    begin_counting(1, true);
    PLAY(&s, OWN, END);
    run_dry(&loop);
    assert_int_equal(f.state, LUN_CANCELLED);
    assert_true(s.threw[1]);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switch),
        cmocka_unit_test(test_sleep_after_a_switch),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_a_real_clock_cannot_be_moved),
        cmocka_unit_test(test_long_turns_read_the_clock),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_dry_hook),
        cmocka_unit_test(test_sees_every_suspension),
        cmocka_unit_test(test_cancel_at_each),
        cmocka_unit_test(test_throw_at_each),
        cmocka_unit_test(test_throw_spares),
        cmocka_unit_test(test_throw_and_uncancel),
        cmocka_unit_test(test_throw_at_an_owned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
