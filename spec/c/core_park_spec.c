/* SPDX-License-Identifier: MIT */
/*
 * core_park_spec.c - queues of tasks without an outcome: first come, first served; a grant
 * is no outcome until the task runs, so nobody ever waits while the thing is free.
 */
#include "core_help.h"

static lun_loop loop;
static journal took;

/* A semaphore as a guest makes it. */
typedef struct semaphore {
    lun_park park;
    int free;
    int revoked, left;
} semaphore;

static semaphore sem;

static void release(void)
{
    if (!lun_park_grant(&sem.park))
        sem.free++;
}

static void on_revoked(lun_park *p)
{
    assert_ptr_equal(p, &sem.park);
    sem.revoked++;
    release();
}

static void on_left(lun_park *p)
{
    assert_ptr_equal(p, &sem.park);
    sem.left++;
}

/* Takes a permit and keeps it; `ud` non-NULL: waits at the front. */
static void body_acquire(ctask *c)
{
    if (c->pc == 0 && (sem.free == 0 || lun_park_waiting(&sem.park))) {
        if (c->ud)
            lun_park_wait_front(&sem.park, &c->t);
        else
            lun_park_wait(&sem.park, &c->t);
        return;
    }
    if (c->thrown) {
        lun_task_finish(&c->t, LUN_CANCELLED);
        return;
    }
    sem.free -= c->pc == 0;
    journal_add(&took, c->n);
    lun_task_finish(&c->t, LUN_OK);
}

static void acquire(ctask *c, int n)
{
    ctask_init(c, &loop, body_acquire);
    c->n = n;
}

static void begin(ctask *c, int n)
{
    open_virtual(&loop);
    memset(&sem, 0, sizeof sem);
    lun_park_init(&sem.park, &loop, on_revoked);
    sem.park.left = on_left;
    took.n = 0;
    for (int i = 0; i < n; i++)
        acquire(&c[i], i);
    run_turn(&loop);
}

static void end(void)
{
    run_dry(&loop);
    assert_int_equal(sem.park.granted, 0);
    assert_false(lun_park_waiting(&sem.park));
    close_loop(&loop);
}

static void test_fifo(void **state)
{
    ctask c[4];
    begin(c, 4);
    assert_true(lun_park_waiting(&sem.park));
    for (int i = 0; i < 4; i++)
        release();
    assert_int_equal(sem.park.granted, 4);
    assert_false(lun_park_waiting(&sem.park));
    assert_false(lun_park_grant(&sem.park));
    run_dry(&loop);
    EXPECT(&took, 0, 1, 2, 3);
    end();
}

static void test_one_at_a_time(void **state)
{
    ctask c[3];
    begin(c, 3);
    for (int i = 0; i < 3; i++) {
        release();
        assert_int_equal(sem.park.granted, 1);
        run_dry(&loop);
        assert_int_equal(sem.park.granted, 0);
        EXPECT(&took, i);
    }
    end();
}

static void test_grant_all(void **state)
{
    ctask c[3], late;
    begin(c, 3);
    assert_int_equal(lun_park_grant_all(&sem.park), 3);
    assert_int_equal(lun_park_grant_all(&sem.park), 0);
    acquire(&late, 9); /* those that wait now, not those that come */
    run_dry(&loop);
    EXPECT(&took, 0, 1, 2);
    assert_int_equal(late.t.at, LUN_AT_WAITING);
    release();
    end();
    EXPECT(&took, 9);
}

static void test_front(void **state)
{
    ctask c[3], front;
    begin(c, 3);
    acquire(&front, 7);
    front.ud = &front;
    run_turn(&loop);
    release();
    release();
    run_dry(&loop);
    EXPECT(&took, 7, 0);
    release();
    release();
    end();
    EXPECT(&took, 1, 2);
}

/* Into an empty park, or with a request pending: it never gets into the queue. */
static void test_front_corners(void **state)
{
    ctask a, b;
    begin(NULL, 0);
    acquire(&a, 1);
    a.ud = &a;
    run_turn(&loop);
    assert_int_equal(a.t.at, LUN_AT_WAITING);
    acquire(&b, 2);
    b.ud = &b;
    run_turn(&loop);
    lun_task_cancel(&b.t);
    run_turn(&loop);
    assert_state(&b, LUN_CANCELLED);
    release();
    end();
    EXPECT(&took, 1);
}

static void body_cancel_then_acquire(ctask *c)
{
    if (c->pc == 0)
        lun_task_cancel(&c->t);
    body_acquire(c);
}

static void test_request_before_waiting(void **state)
{
    for (int front = 0; front < 2; front++) {
        ctask c[2], late;
        begin(c, 2);
        acquire(&late, 5);
        late.body = body_cancel_then_acquire;
        late.ud = front ? &late : NULL;
        run_turn(&loop);
        assert_true(late.t.flags & LUN_INTERRUPTED);
        assert_int_equal(sem.left, 1);
        release(); /* must not go to the one that is leaving */
        run_dry(&loop);
        assert_state(&late, LUN_CANCELLED);
        release();
        end();
        EXPECT(&took, 0, 1);
    }
}

static void test_queued_is_cancelled(void **state)
{
    ctask c[3];
    begin(c, 3);
    assert_true(lun_task_cancel(&c[1].t));
    assert_int_equal(sem.left, 1);
    assert_int_equal(sem.revoked, 0);
    release();
    release();
    release();
    assert_int_equal(sem.free, 1);
    run_dry(&loop);
    assert_state(&c[1], LUN_CANCELLED);
    assert_true(c[1].interrupted);
    EXPECT(&took, 0, 2);
    end();
}

/* Several wait in one park, but each has its own place: a cancel is no cancel of the park.
 */
static void test_others_are_not_touched(void **state)
{
    ctask c[3];
    begin(c, 3);
    lun_task_cancel(&c[0].t);
    assert_int_equal(sem.park.base.state, LUN_PENDING);
    assert_int_equal(c[1].t.requests + c[2].t.requests, 0);
    sem.park.left = NULL; /* both hooks may be missing */
    lun_task_cancel(&c[1].t);
    lun_task_cancel(&c[2].t);
    end();
    assert_int_equal(took.n, 0);
}

static void test_grant_passes_on(void **state)
{
    ctask c[3], newcomer;
    begin(c, 3);
    release();
    acquire(&newcomer, 9);
    assert_true(lun_task_cancel(&c[0].t));
    assert_int_equal(sem.revoked, 1);
    assert_int_equal(sem.left, 0);
    assert_int_equal(sem.park.granted, 1);
    assert_true(c[1].t.flags & LUN_GRANTED);
    assert_false(c[0].t.flags & LUN_GRANTED);
    run_dry(&loop);
    assert_state(&c[0], LUN_CANCELLED);
    assert_true(c[0].interrupted);
    EXPECT(&took, 1); /* the next in the queue, no newcomer in between */
    release();
    release();
    end();
    EXPECT(&took, 2, 9);
}

/* Down the whole queue in one turn; the last one's goes back to the semaphore. */
static void test_grant_passes_through_all(void **state)
{
    ctask c[4];
    begin(c, 4);
    release();
    for (int i = 0; i < 4; i++)
        lun_task_cancel(&c[i].t);
    assert_int_equal(sem.revoked, 4);
    assert_int_equal(sem.free, 1);
    end();
    assert_int_equal(took.n, 0);
}

static void test_cancelled_twice_after_grant(void **state)
{
    ctask c[2];
    begin(c, 2);
    release();
    lun_task_cancel(&c[0].t);
    lun_task_cancel(&c[0].t);
    assert_int_equal(sem.revoked, 1); /* it has one grant to give back */
    assert_int_equal(c[0].t.requests, 2);
    run_dry(&loop);
    EXPECT(&took, 1);
    end();
}

/* A grant is over when the task has run: it leaves no mark on what it waits for next. */
static void body_acquire_then_wait(ctask *c)
{
    if (c->pc == 0)
        lun_park_wait(&sem.park, &c->t);
    else if (c->pc == 1)
        lun_task_wait(&c->t, c->aim, false);
    else
        ctask_return(c);
}

static void test_grant_is_over(void **state)
{
    lun_future f;
    ctask c, other;
    begin(NULL, 0);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_init(&c, &loop, body_acquire_then_wait);
    c.aim = &f;
    ctask_await(&other, &loop, &f);
    run_turn(&loop);
    release();
    run_turn(&loop);
    assert_int_equal(c.t.flags & LUN_GRANTED, 0);
    lun_task_cancel(&c.t);
    assert_int_equal(f.state, LUN_PENDING); /* spared: the other needs it */
    assert_int_equal(sem.revoked, 0);
    lun_future_settle(&f, LUN_OK);
    end();
    assert_state(&c, LUN_CANCELLED);
}

/* ---- a park without revoked: the grant is the outcome, value first ---- */

static void body_event(ctask *c)
{
    if (c->pc == 0)
        lun_park_wait(c->ud, &c->t);
    else if (c->pc == 1 && !c->thrown)
        lun_task_yield(&c->t);
    else
        lun_task_finish(&c->t, c->thrown ? LUN_CANCELLED : LUN_OK);
}

static void test_event(void **state)
{
    lun_park event;
    ctask c[3];
    open_virtual(&loop);
    lun_park_init(&event, &loop, NULL);
    for (int i = 0; i < 3; i++) {
        ctask_init(&c[i], &loop, body_event);
        c[i].ud = &event;
    }
    run_turn(&loop);
    lun_task_cancel(&c[2].t); /* before the grant: thrown */
    assert_int_equal(lun_park_grant_all(&event), 2);
    assert_true(lun_task_cancel(&c[0].t)); /* after it: at the next suspension */
    assert_int_equal(event.granted, 2);
    run_turn(&loop);
    assert_int_equal(event.granted, 0);
    assert_int_equal(c[0].throws, 0);
    assert_true(c[0].t.flags & LUN_MUST_CANCEL);
    assert_state(&c[2], LUN_CANCELLED);
    run_dry(&loop);
    assert_int_equal(c[0].throws, 1);
    assert_int_equal(c[1].throws, 0);
    assert_state(&c[1], LUN_OK);
    close_loop(&loop);
}

/* ---- in the hands of a join ---- */

static void body_join(ctask *c)
{
    lun_join *j = c->ud;
    if (c->pc == 0)
        lun_task_wait(&c->t, &j->done, true);
    else
        lun_task_finish(&c->t, LUN_OK);
}

/* One cancel reaches all that wait: the grant goes from hand to hand and is not lost. */
static void test_join_cancelled(void **state)
{
    union {
        lun_join j;
        char room[sizeof(lun_join) + 4 * sizeof(lun_arm)];
    } u;
    ctask c[4], owner;
    begin(c, 4);
    lun_join_init(&u.j, &loop, 4, UINT32_MAX, LUN_JOIN_OWNS);
    for (int i = 0; i < 4; i++)
        lun_join_add(&u.j, &c[i].t.done);
    ctask_init(&owner, &loop, body_join);
    owner.ud = &u.j;
    run_turn(&loop);
    release();
    release();
    assert_true(lun_task_cancel(&owner.t));
    assert_int_equal(sem.free, 2);
    end();
    assert_int_equal(took.n, 0);
    assert_int_equal(owner.t.done.state, LUN_OK);
    lun_join_fini(&u.j);
}

/* ---- every order of releases and cancels, with and without turns in between ---- */

enum { RELEASE = -1, RELEASE_ALL = -2 };

static void check(ctask *c, int n, int released)
{
    int cancelled = 0, waiting = 0;
    run_dry(&loop);
    assert_int_equal(sem.park.granted, 0);
    for (int i = 0; i < n; i++) {
        cancelled += c[i].t.done.state == LUN_CANCELLED;
        waiting += !lun_future_done(&c[i].t.done);
    }
    assert_int_equal(cancelled + waiting + took.n, n);
    assert_int_equal(took.n + sem.free, released); /* no permit is lost or made */
    for (int i = 1; i < took.n; i++)
        assert_true(took.id[i - 1] < took.id[i]); /* first come, first served */
    assert_int_equal(lun_park_waiting(&sem.park), waiting > 0);
    for (int i = 0; i < n; i++)
        lun_task_cancel(&c[i].t);
    end();
}

/* Plays `what` in order; bit k of `turns`: a turn passes after action k. */
static void play(int n, const int *what, int count, unsigned turns)
{
    ctask c[4];
    int released = 0;
    begin(c, n);
    for (int k = 0; k < count; k++) {
        if (what[k] == RELEASE) {
            released++;
            release();
        } else if (what[k] == RELEASE_ALL) {
            released += (int)lun_park_grant_all(&sem.park);
        } else {
            ctask *victim = &c[what[k]];
            bool over = lun_future_done(&victim->t.done);
            assert_int_equal(lun_task_cancel(&victim->t), !over);
        }
        assert_true(sem.free == 0 ||
                    !lun_park_waiting(&sem.park)); /* nobody waits while it is free */
        if (turns >> k & 1)
            run_turn(&loop);
    }
    check(c, n, released);
}

static void permute(int n, int *what, int count, int at)
{
    if (at == count) {
        for (unsigned turns = 0; turns < 1u << count; turns++)
            play(n, what, count, turns);
        return;
    }
    for (int i = at; i < count; i++) {
        int swap = what[at];
        what[at] = what[i];
        what[i] = swap;
        permute(n, what, count, at + 1);
        what[i] = what[at];
        what[at] = swap;
    }
}

static void test_all_orders(void **state)
{
    int one[] = {RELEASE, 0};
    int two[] = {RELEASE, RELEASE_ALL, 0, 1};
    int twice[] = {RELEASE, RELEASE, 0, 0, 1};
    int three[] = {RELEASE, RELEASE, 0, 1, 2};
    int all[] = {RELEASE, RELEASE_ALL, 0, 1, 3};
    int four[] = {RELEASE, 3, 0, 1, 2};
    permute(1, one, 2, 0);
    permute(2, two, 4, 0);
    permute(3, twice, 5, 0);
    permute(3, three, 5, 0);
    permute(4, all, 5, 0);
    permute(4, four, 5, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fifo),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_grant_all),
        cmocka_unit_test(test_front),
        cmocka_unit_test(test_front_corners),
        cmocka_unit_test(test_request_before_waiting),
        cmocka_unit_test(test_queued_is_cancelled),
        cmocka_unit_test(test_others_are_not_touched),
        cmocka_unit_test(test_grant_passes_on),
        cmocka_unit_test(test_grant_passes_through_all),
        cmocka_unit_test(test_cancelled_twice_after_grant),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_join_cancelled),
        cmocka_unit_test(test_all_orders),
        cmocka_unit_test(test_grant_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
