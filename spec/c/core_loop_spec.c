/* SPDX-License-Identifier: MIT */
/*
 * core_loop_spec.c - turns: a snapshot of what is ready, in order; stop, break and long
 * jumps; the virtual clock; the idle hook. Threads and I/O are in core_post_spec.c, the
 * shuffle is in core_order_spec.c.
 */
#include "core_help.h"

static lun_loop loop;
static journal ran;

static void just_note(note *n)
{
    journal_add(&ran, n->id);
}

static void queue_all(note *n, int count, void (*call)(note *))
{
    for (int i = 0; i < count; i++)
        note_queue(&n[i], &loop, call, i);
}

/* ---- turns ---- */

static void note_and_queue(note *n)
{
    journal_add(&ran, n->id);
    note *more = n->ud;
    if (more)
        note_queue(more, n->loop, just_note, n->id + 10);
}

/* What a turn adds runs in the next one. */
static void test_snapshot(void **state)
{
    note a[3], b[3];
    open_virtual(&loop);
    queue_all(a, 3, note_and_queue);
    for (int i = 0; i < 3; i++)
        a[i].ud = &b[i];
    assert_int_equal(loop.n_ready, 3);
    run_turn(&loop);
    EXPECT(&ran, 0, 1, 2);
    assert_int_equal(loop.n_ready, 3);
    assert_int_equal(loop.count.turns, 1);
    run_turn(&loop);
    EXPECT(&ran, 10, 11, 12);
    assert_int_equal(loop.n_ready, 0);
    close_loop(&loop);
}

/* A job may queue itself again; its memory is free for it as soon as it runs. */
static void note_again(note *n)
{
    journal_add(&ran, n->id);
    if (n->id++ < 3)
        lun_loop_queue(n->loop, &n->job);
}

static void test_queues_itself(void **state)
{
    note n;
    open_virtual(&loop);
    note_queue(&n, &loop, note_again, 0);
    run_dry(&loop);
    EXPECT(&ran, 0, 1, 2, 3);
    assert_int_equal(loop.count.turns, 4);
    close_loop(&loop);
}

static note due_note, posted_note;

static void on_due(lun_timer *t, lun_loop *l)
{
    note_queue(&due_note, l, just_note, 3);
}

static void on_posted(lun_post *p, lun_loop *l)
{
    note_queue(&posted_note, l, just_note, 2);
}

/* In one look: what was queued, then what I/O brings, then due timers. */
static void test_order_of_a_look(void **state)
{
    note first;
    lun_timer timer;
    lun_post post = {.run = on_posted};
    open_virtual(&loop);
    lun_timer_init(&timer, on_due);
    lun_timer_start(&loop, &timer, 0);
    assert_true(lun_loop_post(&loop, &post));
    note_queue(&first, &loop, just_note, 1);
    run_turn(&loop);
    EXPECT(&ran, 1, 2, 3);
    close_loop(&loop);
}

/* A step may go on to its successor without returning to the drain. */
static void run_on(lun_job *job)
{
    do {
        note *n = lun_container(job, note, job);
        n->call(n);
    } while ((job = lun_loop_next(&loop, run_on)) != NULL);
}

static void queue_run_on(note *n, int id, void (*call)(note *))
{
    note_queue(n, &loop, call, id);
    n->job.run = run_on;
}

static void note_and_break(note *n)
{
    journal_add(&ran, n->id);
    lun_loop_break(n->loop);
}

static void test_next(void **state)
{
    note n[6];
    open_virtual(&loop);
    assert_null(lun_loop_next(&loop, run_on));
    for (int i = 0; i < 6; i++)
        queue_run_on(&n[i], i, i == 4 ? note_and_break : just_note);
    n[2].job.run = note_run; /* another kind in between */
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 0, 1, 2, 3, 4); /* the break is heeded */
    assert_int_equal(loop.n_ready, 1);
    run_dry(&loop);
    EXPECT(&ran, 5);
    close_loop(&loop);
}

/* Taking a job out again: from the front, the middle, the end, and of the turn that runs.
 */
static note *to_unqueue;

static void note_and_unqueue(note *n)
{
    journal_add(&ran, n->id);
    lun_loop_unqueue(n->loop, &to_unqueue->job);
}

static void test_unqueue(void **state)
{
    note n[6], late;
    open_virtual(&loop);
    queue_all(n, 6, just_note);
    lun_loop_unqueue(&loop, &n[0].job);
    lun_loop_unqueue(&loop, &n[5].job);
    lun_loop_unqueue(&loop, &n[3].job);
    lun_loop_unqueue(&loop, &n[3].job); /* it is not queued: harmless */
    assert_int_equal(loop.n_ready, 3);
    note_queue(&late, &loop, just_note, 9); /* the end of the queue is whole */
    n[1].call = note_and_unqueue;
    to_unqueue = &n[2];
    run_turn(&loop);
    EXPECT(&ran, 1, 4, 9);
    note_queue(&n[0], &loop, just_note, 0);
    lun_loop_unqueue(&loop, &n[0].job); /* the only one */
    assert_int_equal(loop.n_ready, 0);
    note_queue(&late, &loop, just_note, 8);
    run_dry(&loop);
    EXPECT(&ran, 8);
    close_loop(&loop);
}

/* ... also from behind others in that turn. */
static void test_unqueue_behind(void **state)
{
    note n[5];
    open_virtual(&loop);
    queue_all(n, 5, just_note);
    n[0].call = note_and_unqueue;
    to_unqueue = &n[3];
    run_turn(&loop);
    EXPECT(&ran, 0, 1, 2, 4);
    n[0].call = note_and_unqueue;
    to_unqueue = &n[4]; /* the last of all */
    queue_all(n, 5, just_note);
    n[0].call = note_and_unqueue;
    run_turn(&loop);
    EXPECT(&ran, 0, 1, 2, 3);
    close_loop(&loop);
}

/* ---- stop and break ---- */

static void note_and_stop(note *n)
{
    note_and_queue(n);
    lun_loop_stop(n->loop);
}

static void test_stop(void **state)
{
    note n[3], more;
    open_virtual(&loop);
    queue_all(n, 3, just_note);
    n[0].call = note_and_stop;
    n[0].ud = &more;
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 0, 1, 2); /* after the turn */
    assert_false(loop.running);
    run_dry(&loop); /* the stop is used up */
    EXPECT(&ran, 10);
    close_loop(&loop);
}

static void test_stop_before_the_run(void **state)
{
    note n[2];
    open_virtual(&loop);
    lun_loop_stop(&loop);
    lun_loop_stop(&loop);
    queue_all(n, 2, note_again);
    n[1].id = 2;
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 0, 2); /* exactly one turn */
    run_dry(&loop);
    EXPECT(&ran, 1, 3, 2, 3);
    close_loop(&loop);
    open_real(&loop);
    lun_loop_stop(&loop);
    assert_int_equal(lun_loop_run(&loop),
                     LUN_RAN_STOPPED); /* with nothing to do it does not wait */
    close_loop(&loop);
}

static void test_break(void **state)
{
    note n[4], more;
    open_virtual(&loop);
    queue_all(n, 4, just_note);
    n[0].call = note_and_queue;
    n[0].ud = &more;
    n[1].call = note_and_break;
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 0, 1);
    assert_int_equal(loop.n_ready, 3);
    run_turn(&loop);
    EXPECT(&ran, 2, 3, 10); /* the rest first, then what had been added */
    close_loop(&loop);
}

static void test_break_at_the_end(void **state)
{
    note n[2], late;
    open_virtual(&loop);
    queue_all(n, 2, just_note);
    n[1].call = note_and_break;
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&ran, 0, 1);
    assert_int_equal(loop.n_ready, 0);
    note_queue(&late, &loop, just_note, 5); /* the queue is whole */
    run_dry(&loop);
    EXPECT(&ran, 5);
    close_loop(&loop);
}

static void test_break_again_and_again(void **state)
{
    note n[20], late;
    open_virtual(&loop);
    queue_all(n, 20, note_and_break);
    for (int i = 0; i < 20; i++) {
        if (i == 10)
            note_queue(&late, &loop, just_note, 99);
        assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
        assert_int_equal(ran.n, 1);
        EXPECT(&ran, i);
    }
    run_dry(&loop);
    EXPECT(&ran, 99);
    close_loop(&loop);
}

/* A guest's long jump out of the run: the rest of the turn is not lost. */
static jmp_buf out;

static void jump_out(note *n)
{
    note_and_queue(n);
    longjmp(out, 1);
}

static void test_long_jump(void **state)
{
    note n[4], more;
    open_virtual(&loop);
    queue_all(n, 4, just_note);
    n[1].call = jump_out;
    n[1].ud = &more;
    if (setjmp(out) == 0) {
        lun_loop_run(&loop);
        fail();
    }
    lun_loop_left(&loop);
    assert_false(loop.running);
    assert_int_equal(loop.n_ready, 3);
    EXPECT(&ran, 0, 1);
    run_dry(&loop);
    EXPECT(&ran, 2, 3, 11);
    close_loop(&loop);
}

/* ---- the virtual clock ---- */

static void test_jumps(void **state)
{
    lun_loop real;
    ctask day, hour;
    open_real(&real);
    uint64_t start = lun_loop_time(&real);
    open_virtual(&loop);
    assert_true(lun_loop_time(&loop) == 0);
    ctask_init(&day, &loop, body_sleep);
    day.when = lun_loop_deadline(&loop, 86400);
    ctask_init(&hour, &loop, body_sleep);
    hour.when = lun_loop_deadline(&loop, 3600);
    run_dry(&loop);
    assert_true(lun_loop_time(&loop) == 86400ull * 1000 * MS);
    assert_true(hour.t.done.order < day.t.done.order);
    assert_true(lun_loop_time(&real) - start < 1000ull * MS);
    close_loop(&loop);
    close_loop(&real);
}

/* Only when nothing is ready: tasks that give way go on at one moment. */
static void test_stands_while_busy(void **state)
{
    ctask busy, sleeper;
    open_virtual(&loop);
    ctask_init(&sleeper, &loop, body_sleep);
    sleeper.when = 5;
    ctask_init(&busy, &loop, body_yield);
    busy.n = 1000;
    run_dry(&loop);
    assert_true(busy.t.done.order < sleeper.t.done.order);
    close_loop(&loop);
}

/* Late timers fire at their own time: each jump goes to the next deadline, no further. */
static uint64_t moments[4];

static void body_moment(ctask *c)
{
    if (c->pc == 0) {
        assert_int_equal(lun_task_sleep(&c->t, c->when), 0);
    } else {
        moments[c->n] = lun_loop_time(&loop);
        lun_task_finish(&c->t, LUN_OK);
    }
}

static void test_each_at_its_time(void **state)
{
    ctask c[4];
    open_virtual(&loop);
    for (int i = 0; i < 4; i++) {
        ctask_init(&c[i], &loop, body_moment);
        c[i].n = i;
        c[i].when = (uint64_t)(100 - 20 * i);
    }
    run_dry(&loop);
    for (int i = 0; i < 4; i++)
        assert_true(moments[i] == c[i].when);
    close_loop(&loop);
}

static void on_work(uv_work_t *w)
{
    uv_sleep(10);
}

static void after_work(uv_work_t *w, int status)
{
    lun_op_done(w->data, status);
}

/* While a request is in flight the clock stands: its answer comes first. */
static void test_waits_for_requests(void **state)
{
    static const lun_op_kind kind = {{"work", lun_op_cancel_kind}, NULL, NULL};
    ctask sleeper, waiter;
    uv_work_t work;
    open_virtual(&loop);
    lun_op *op = lun_op_new(&loop, &kind, sizeof *op);
    work.data = op;
    ctask_init(&sleeper, &loop, body_sleep);
    sleeper.when = 1;
    ctask_await(&waiter, &loop, &op->done);
    run_turn(&loop);
    uv_queue_work(loop.uv, &work, on_work, after_work);
    run_dry(&loop);
    assert_true(waiter.t.done.order < sleeper.t.done.order);
    assert_state(&waiter, LUN_OK);
    lun_op_release(op);
    close_loop(&loop);
}

static void test_dry(void **state)
{
    lun_future f;
    ctask c;
    open_virtual(&loop);
    run_dry(&loop); /* nothing at all */
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_await(&c, &loop, &f);
    run_dry(&loop); /* a task that nobody can wake */
    assert_int_equal(loop.count.tasks, 1);
    lun_future_settle(&f, LUN_OK);
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    close_loop(&loop);
}

/* ---- idle ---- */

static int idle_calls, idle_work;
static note idle_note;

static bool on_idle(lun_loop *l, uint64_t *until)
{
    assert_int_equal(l->n_ready, 0);
    idle_calls++;
    if (idle_work-- <= 0)
        return false;
    note_queue(&idle_note, l, just_note, idle_calls);
    return true;
}

static void test_idle(void **state)
{
    ctask c;
    open_virtual(&loop);
    loop.idle = on_idle;
    idle_calls = 0;
    idle_work = 2;
    ctask_init(&c, &loop, body_yield);
    c.n = 10;
    run_dry(&loop);
    EXPECT(&ran, 1, 2); /* it had something to run twice, then the loop was dry */
    assert_int_equal(idle_calls, 3);
    close_loop(&loop);
}

/* Work that the hook has found does not wait for I/O. */
static void stop_it(note *n)
{
    lun_loop_stop(n->loop);
}

static bool on_idle_stop(lun_loop *l, uint64_t *until)
{
    note_queue(&idle_note, l, stop_it, 0);
    return true;
}

static void on_guard(lun_timer *t, lun_loop *l)
{
    lun_loop_stop(l);
}

static void test_idle_does_not_wait(void **state)
{
    lun_timer guard;
    open_real(&loop);
    loop.idle = on_idle_stop;
    lun_timer_init(&guard, on_guard);
    lun_timer_start(&loop, &guard, lun_loop_time(&loop) + 1000ull * MS);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_true(lun_timer_active(&guard));
    lun_timer_stop(&loop, &guard);
    close_loop(&loop);
}

/* On the real clock it may ask to be asked again at an earlier moment. */
static bool on_idle_soon(lun_loop *l, uint64_t *until)
{
    assert_true(*until == LUN_NEVER);
    if (++idle_calls == 3)
        lun_loop_stop(l);
    *until = lun_loop_time(l) + MS;
    return idle_calls == 3;
}

static void test_idle_until(void **state)
{
    open_real(&loop);
    loop.idle = on_idle_soon;
    idle_calls = 0;
    uint64_t start = lun_loop_time(&loop);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_int_equal(idle_calls, 3);
    uint64_t took = lun_loop_time(&loop) - start;
    assert_true(took >= 2 * MS && took < 500ull * MS);
    close_loop(&loop);
}

/* ---- the end ---- */

static void test_closed_loop_does_not_run(void **state)
{
    open_virtual(&loop);
    close_loop(&loop);
    expect_fatal(lun_loop_run(&loop));
}

/* What is still queued when a loop closes is dropped, and never looked at again. */
static void test_close_with_jobs(void **state)
{
    note *n = malloc(sizeof *n);
    open_virtual(&loop);
    note_queue(n, &loop, just_note, 1);
    assert_int_equal(lun_loop_close(&loop), 0);
    free(n);
    assert_int_equal(ran.n, 0);
    assert_null(loop.ready);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_queues_itself),
        cmocka_unit_test(test_order_of_a_look),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_before_the_run),
        cmocka_unit_test(test_break),
        cmocka_unit_test(test_break_at_the_end),
        cmocka_unit_test(test_break_again_and_again),
        cmocka_unit_test(test_long_jump),
        cmocka_unit_test(test_jumps),
        cmocka_unit_test(test_stands_while_busy),
        cmocka_unit_test(test_each_at_its_time),
        cmocka_unit_test(test_waits_for_requests),
        cmocka_unit_test(test_dry),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_idle_until),
        cmocka_unit_test(test_closed_loop_does_not_run),
        cmocka_unit_test(test_close_with_jobs),
        cmocka_unit_test(test_idle_does_not_wait),
        cmocka_unit_test(test_unqueue),
        cmocka_unit_test(test_unqueue_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
